//! Error texts for use outside a runtime, or inside another one, with the remedy.

use std::fmt;
use std::thread;

use super::context::current;

/// An error text: the call, the thread and its runtime, and the remedy.
pub(crate) struct Misuse {
    what: String,
    place: &'static str,
    right_place: &'static str,
}

impl Misuse {
    /// `what` needs a runtime, and this thread runs none.
    pub(crate) fn no_runtime(what: &str) -> Self {
        let right_place = "inside `postlude::run` or `Runtime::block_on`";
        Self { what: what.to_owned(), place: "which runs no runtime", right_place }
    }

    /// `what` belongs to a live runtime that is not the current one.
    pub(crate) fn elsewhere(what: &str) -> Self {
        let place = if current().is_some() { "which runs another runtime" } else { "which runs no runtime" };
        Self { what: what.to_owned(), place, right_place: "inside the `Runtime::block_on` it belongs to" }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        write!(
            f,
            "{} on thread `{name}`, {}; do it {}, or send the work there with `Handle::spawn`",
            self.what, self.place, self.right_place
        )
    }
}
