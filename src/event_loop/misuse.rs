//! Error texts for use outside a runtime, or inside another one, with the remedy.

use std::fmt;
use std::thread;

use super::context::current;

/// An error text: the call, the thread and its runtime, and the remedy.
pub(crate) struct Misuse(String);

impl Misuse {
    /// `what` needs a runtime, and this thread runs none.
    pub(crate) fn no_runtime(what: &str) -> Self {
        Self::new(what, "inside `postlude::run` or `Runtime::block_on`")
    }

    /// `what` belongs to a live runtime that is not the current one.
    pub(crate) fn elsewhere(what: &str) -> Self {
        Self::new(what, "inside the `Runtime::block_on` it belongs to")
    }

    fn new(what: &str, remedy: &str) -> Self {
        let (thread, runs) = (thread::current(), if current().is_some() { "another" } else { "no" });
        let name = thread.name().unwrap_or("without a name");
        Self(format!(
            "{what} on thread `{name}`, which runs {runs} runtime; \
             do it {remedy}, or send the work there with `Handle::spawn`"
        ))
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
