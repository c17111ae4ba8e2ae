//! The error of a task without an output: [`JoinError`].

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::caught::{self, Payload};

/// The error of a task that was cancelled, panicked, or could not be started.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # std::panic::set_hook(Box::new(|_| {}));
/// postlude::run(async {
///     let error = postlude::spawn(async { panic!("oh") }).await.unwrap_err();
///     assert!(error.is_panic());
///     assert_eq!(error.to_string(), "the task panicked: `oh`");
///     assert_eq!(*error.into_panic().unwrap().downcast::<&str>().unwrap(), "oh");
/// })
/// # }
/// ```
pub struct JoinError {
    reason: Reason,
}

enum Reason {
    Cancelled,
    /// The mutex only makes the error `Sync`, as callers expect: a payload is just `Send`.
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

    /// Whether the task was aborted, or its runtime ended first.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.reason, Reason::Cancelled)
    }

    /// Whether the task panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.reason, Reason::Panicked(_))
    }

    /// The panic's payload, for [`std::panic::resume_unwind`]; `None` if the task did not panic.
    #[must_use]
    pub fn into_panic(mut self) -> Option<Box<dyn Any + Send + 'static>> {
        self.take_panic()
    }

    fn take_panic(&mut self) -> Option<Payload> {
        match std::mem::replace(&mut self.reason, Reason::Cancelled) {
            Reason::Panicked(payload) => Some(payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            Reason::Cancelled | Reason::NotStarted(_) => None,
        }
    }
}

impl Drop for JoinError {
    /// Catches the panic of a payload's drop, which must not reach the code that drops the error.
    fn drop(&mut self) {
        if let Some(payload) = self.take_panic() {
            caught::drop_payload(payload);
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Cancelled => f.write_str("the task was cancelled"),
            Reason::Panicked(payload) => {
                let payload = payload.lock().unwrap_or_else(PoisonError::into_inner);
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
