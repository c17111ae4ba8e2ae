//! Lines on stderr, so many a second and no more.

use std::cell::Cell;
use std::fmt::Arguments;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::time;

/// Lines in a second: enough to see what fails, too few to hold up the loop.
const LINES: u32 = 20;

#[derive(Default)]
pub(super) struct Voice {
    began: Cell<Option<Instant>>,
    lines: Cell<u32>,
    /// Lines left out since the last one that was written.
    left_out: Cell<u64>,
}

impl Voice {
    pub(super) fn say(&self, text: &str) {
        let now = time::now();
        let is_new =
            self.began.get().is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1));
        if is_new {
            self.began.set(Some(now));
            self.lines.set(0);
        }
        if self.lines.get() == LINES {
            self.left_out.set(self.left_out.get() + 1);
            return;
        }
        self.lines.set(self.lines.get() + 1);
        self.tell_of_gap();
        write(format_args!("{text}"));
    }

    /// Says how many lines were left out, if any.
    pub(super) fn tell_of_gap(&self) {
        let left_out = self.left_out.take();
        if left_out > 0 {
            let plural = if left_out == 1 { "" } else { "s" };
            write(format_args!("{left_out} more line{plural} about background tasks left out"));
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.tell_of_gap();
    }
}

/// Stderr may be closed.
fn write(text: Arguments<'_>) {
    let _closed = writeln!(std::io::stderr(), "postlude: {text}");
}
