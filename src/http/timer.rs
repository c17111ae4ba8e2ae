//! One deadline for a connection: a field that moves, and a sleep that is re-armed only when it fires.
//!
//! Moving the deadline away, which happens with every request, touches no timer. The sleep then fires at the old time, finds the deadline in the
//! future and goes to sleep again.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::time::{Sleep, now, sleep_until};

#[derive(Debug, Default)]
pub(super) struct Timer {
    /// None: nothing is waited for.
    deadline: Option<Instant>,
    /// Made when the first deadline is waited for.
    sleep: Option<Sleep>,
}

impl Timer {
    /// The deadline is so far away; a time beyond what an `Instant` can say is none.
    pub(super) fn set(&mut self, limit: Duration) {
        self.deadline = now().checked_add(limit);
    }

    pub(super) fn clear(&mut self) {
        self.deadline = None;
    }

    pub(super) fn is_set(&self) -> bool {
        self.deadline.is_some()
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(super) fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(deadline));
        if sleep.deadline() > deadline {
            sleep.reset(deadline);
        }
        while Pin::new(&mut *sleep).poll(cx).is_ready() {
            if now() >= deadline {
                return true;
            }
            sleep.reset(deadline);
        }
        false
    }
}
