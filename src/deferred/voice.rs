//! Lines on stderr, so many a second and no more.

use crate::stderr::Limited;
use crate::time;

pub(super) struct Voice(Limited);

impl Default for Voice {
    fn default() -> Self {
        Self(Limited::new("background tasks"))
    }
}

impl Voice {
    pub(super) fn say(&self, text: &str) {
        self.0.line(time::now(), format_args!("postlude: {text}"));
    }

    /// Says how many lines were left out, if any.
    pub(super) fn tell_of_gap(&self) {
        self.0.tell_left_out();
    }
}
