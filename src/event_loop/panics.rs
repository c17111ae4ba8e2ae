//! Unobserved panics, which no handle returns: counted, reported, and perhaps the end of the loop.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::parts::Parts;
use crate::executor::about::Current;
use crate::executor::caught::{Payload, drop_payload, panic_text};
use crate::executor::error::JoinError;
use crate::stderr;

pub(crate) type PanicHook = Box<dyn Fn(&TaskPanic)>;

/// An unobserved panic, as [`Builder::on_panic`](crate::Builder::on_panic) sees it.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # std::panic::set_hook(Box::new(|_| {}));
/// let runtime = postlude::Runtime::builder()
///     .on_panic(|panic| assert_eq!((panic.task.is_some(), panic.text.as_str()), (true, "oh")))
///     .build()?;
/// runtime.block_on(async {
///     drop(postlude::spawn(async { panic!("oh") }));
///     postlude::task::yield_now().await;
/// })
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskPanic {
    /// The task; `None` if a waker, a hook or a queued closure panicked, which belongs to no task.
    pub task: Option<Current>,
    /// The panic's text, or a stand-in if it has none.
    pub text: String,
}

impl TaskPanic {
    pub(crate) fn new(task: Option<Current>, text: String) -> Self {
        Self { task, text }
    }
}

impl fmt::Display for TaskPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Some(task) => write!(f, "{task} panicked: `{}`", self.text),
            None => write!(f, "a waker, a hook or a value being dropped panicked: `{}`", self.text),
        }
    }
}

/// The reaction to a panic of a task.
///
/// A panic is *unobserved* if no handle returns it: the panic of a detached task, a waker, or a
/// value being dropped. It is reported to the hook
/// ([`Builder::on_panic`](crate::Builder::on_panic)), or as a line on stderr. A panic that a
/// `JoinHandle`, a `RemoteHandle` or a scope returns is left to the handle's owner.
///
/// A policy that ends the loop makes the `block_on` or `turn` in progress return an error that
/// names the task and its panic, at the end of the turn. If the future of that `block_on` is ready
/// in the same turn, the next `block_on` or `turn` returns the error instead. Tasks stay until the
/// runtime is dropped, and a further `block_on` goes on with them.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let policy = postlude::PanicPolicy::ShutdownIfUnobserved;
/// let runtime = postlude::Runtime::builder().on_panic(|_| ()).panic_policy(policy).build()?;
/// let error = runtime.block_on(async {
///     drop(postlude::spawn(async { panic!("unheard") }));
///     std::future::pending::<()>().await
/// });
/// assert!(error.unwrap_err().to_string().contains("unheard"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// Only count an unobserved panic ([`Stats::panics`](crate::Stats::panics)).
    Ignore,
    /// Report an unobserved panic, and go on.
    #[default]
    Report,
    /// Report an unobserved panic, and end the loop.
    ShutdownIfUnobserved,
}

impl Parts {
    /// Counts an unobserved panic, and reports it as the policy says. The first one may end the
    /// loop.
    #[cold]
    pub(crate) fn report(&self, task: Option<&Current>, payload: &Payload) {
        self.insight.panics.add(1);
        let panic = TaskPanic::new(task.cloned(), panic_text(payload).to_owned());
        match self.config.panic_policy {
            PanicPolicy::Ignore => return,
            PanicPolicy::Report => {}
            PanicPolicy::ShutdownIfUnobserved if self.tasks.borrow().is_closed() => {}
            PanicPolicy::ShutdownIfUnobserved => {
                self.fatal.borrow_mut().get_or_insert_with(|| panic.clone());
            }
        }
        let Some(hook) = &self.config.on_panic else {
            stderr::line(format_args!("postlude: {panic}"));
            return;
        };
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| hook(&panic))) {
            let text = panic_text(&again);
            stderr::line(format_args!("postlude: {panic}; the hook for it panicked too: `{text}`"));
            drop_payload(again);
        }
    }

    /// Reports an error if it is a panic.
    pub(crate) fn report_error(&self, task: Option<&Current>, error: JoinError) {
        if let Some(payload) = error.into_panic() {
            self.report(task, &payload);
            drop_payload(payload);
        }
    }

    /// Runs user code that belongs to no task (a waker's wake or drop, a hook, the drop of a
    /// closure) and reports its panic.
    pub(crate) fn guarded(&self, code: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
            self.report(None, &payload);
            drop_payload(payload);
        }
    }
}
