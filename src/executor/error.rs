//! Why a task has no output: [`JoinError`].

use std::any::Any;
use std::fmt;
use std::sync::Mutex;

use super::caught::{self, Payload};

/// Why a task has no output.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # std::panic::set_hook(Box::new(|_| {}));
/// postlude::run(async {
///     let error = postlude::spawn(async { panic!("oh") }).await.unwrap_err();
///     assert!(error.is_panic());
///     assert_eq!(error.to_string(), "the task panicked: `oh`");
/// })
/// # }
/// ```
pub struct JoinError {
    reason: Reason,
}

enum Reason {
    Cancelled,
    /// In a mutex only to be `Sync`, as errors are expected to be: a payload is just `Send`.
    Panicked(Mutex<Payload>),
    NotStarted(std::io::Error),
}

impl JoinError {
    pub(crate) fn cancelled() -> Self {
        Self { reason: Reason::Cancelled }
    }

    pub(crate) fn panicked(payload: Payload) -> Self {
        Self { reason: Reason::Panicked(Mutex::new(payload)) }
    }

    pub(crate) fn not_started(error: std::io::Error) -> Self {
        Self { reason: Reason::NotStarted(error) }
    }

    /// The task was aborted, or its runtime ended before it did.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let task = postlude::spawn(std::future::pending::<()>());
    ///     task.abort();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.reason, Reason::Cancelled)
    }

    /// The task panicked.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// postlude::run(async {
    ///     assert!(postlude::spawn(async { panic!() }).await.unwrap_err().is_panic());
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.reason, Reason::Panicked(_))
    }

    /// The panic's payload, for [`std::panic::resume_unwind`]; `None` if the task did not panic.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// postlude::run(async {
    ///     let error = postlude::spawn(async { panic!("oh") }).await.unwrap_err();
    ///     assert_eq!(*error.into_panic().unwrap().downcast::<&str>().unwrap(), "oh");
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn into_panic(mut self) -> Option<Box<dyn Any + Send + 'static>> {
        match std::mem::replace(&mut self.reason, Reason::Cancelled) {
            Reason::Panicked(payload) => Some(payload.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
            Reason::Cancelled | Reason::NotStarted(_) => None,
        }
    }
}

impl Drop for JoinError {
    /// A payload whose drop panics must not harm whoever drops the error.
    fn drop(&mut self) {
        if let Reason::Panicked(payload) = std::mem::replace(&mut self.reason, Reason::Cancelled) {
            caught::drop_payload(payload.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Cancelled => f.write_str("the task was cancelled"),
            Reason::Panicked(payload) => {
                let payload = payload.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                write!(f, "the task panicked: `{}`", caught::panic_text(&payload))
            }
            Reason::NotStarted(error) => write!(f, "the blocking job was not started: {error}"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::NotStarted(error) => Some(error),
            Reason::Cancelled | Reason::Panicked(_) => None,
        }
    }
}

impl From<JoinError> for std::io::Error {
    fn from(error: JoinError) -> Self {
        Self::other(error)
    }
}
