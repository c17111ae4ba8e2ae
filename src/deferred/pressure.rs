//! Pressure: how many jobs are ready to run on the loop, and a wait for fewer.
//!
//! Jobs that sleep, wait for a lane or run on a thread cost the loop nothing, so they do not count.
//! What brings jobs, such as a server, waits while more than half of the queue's limit is ready.

use std::cell::Cell;

use crate::sync::Notify;

pub(super) struct Pressure {
    ready: Cell<usize>,
    /// More than this is too much.
    half: usize,
    room: Notify,
}

impl Pressure {
    /// For a queue of so many jobs.
    pub(super) fn new(pending: usize) -> Self {
        Self { ready: Cell::new(0), half: pending / 2, room: Notify::new() }
    }

    /// So many jobs are ready in place of so many.
    pub(super) fn count(&self, before: usize, now: usize) {
        self.ready.set(self.ready.get() + now - before);
        if now >= before {
            return;
        }
        if self.ready.get() == 0 {
            self.room.notify_waiters();
        } else if !self.is_busy() {
            self.room.notify_one();
        }
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.get()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.ready.get() > self.half
    }

    /// Waits until it is not busy.
    pub(super) async fn room(&self) {
        let mut has_waited = false;
        while self.is_busy() {
            has_waited = true;
            self.room.notified().await;
        }
        if has_waited {
            // There may be room for the next as well: it looks for itself.
            self.room.notify_one();
        }
    }
}
