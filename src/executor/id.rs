//! The names of a task: [`TaskKey`] inside one runtime, [`WakeId`] anywhere in the process,
//! [`TaskId`] for users.
//!
//! A `TaskKey` is a slot of the task table and the slot's generation when the task moved in. A
//! `WakeId` adds the runtime's number. It packs all three into the one integer that a waker
//! carries:
//!
//! ```text
//! [ runtime: 12 bits | generation: 26 bits | slot: 26 bits ]
//! ```
//!
//! Slots and generations are reused, so users see neither. A [`TaskId`] counts up for the life of a
//! runtime.

use std::fmt;

pub(crate) const SLOT_BITS: u32 = 26;
pub(crate) const GENERATION_BITS: u32 = 26;
pub(crate) const RUNTIME_BITS: u32 = 12;

/// The most tasks one runtime can hold at a time.
pub(crate) const MAX_TASKS: u32 = 1 << SLOT_BITS;
/// The most runtimes one process can hold at a time.
pub(crate) const MAX_RUNTIMES: u16 = 1 << RUNTIME_BITS;
pub(crate) const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// A task of one runtime: its slot, and the slot's generation, which tells tenants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl TaskKey {
    /// No task: a slot's number never gets this high.
    pub(crate) const NONE: Self = Self { slot: u32::MAX, generation: u32::MAX };
    /// The key of a handle that has handed out its output.
    pub(crate) const TAKEN: Self = Self { slot: u32::MAX, generation: 0 };
}

/// A task of any runtime of the process, in one integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WakeId(pub(crate) u64);

impl WakeId {
    pub(crate) const fn new(runtime: u16, key: TaskKey) -> Self {
        Self((runtime as u64) << (GENERATION_BITS + SLOT_BITS) | (key.generation as u64) << SLOT_BITS | key.slot as u64)
    }

    pub(crate) const fn runtime(self) -> u16 {
        (self.0 >> (GENERATION_BITS + SLOT_BITS)) as u16
    }

    pub(crate) const fn key(self) -> TaskKey {
        TaskKey { slot: self.0 as u32 & (MAX_TASKS - 1), generation: (self.0 >> SLOT_BITS) as u32 & GENERATION_MASK }
    }
}

/// The number of a task: unique in its runtime, counting up from 1, never reused.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let (a, b) = (postlude::spawn(async {}), postlude::spawn(async {}));
///     assert!(a.id() < b.id());
/// })
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(crate) u64);

impl TaskId {
    /// The number as an integer, for a log line or a map.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_id_gives_back_what_was_packed() {
        for runtime in [0, 1, MAX_RUNTIMES - 1] {
            for generation in [0, 1, GENERATION_MASK] {
                for slot in [0, 1, MAX_TASKS - 1] {
                    let key = TaskKey { slot, generation };
                    let id = WakeId::new(runtime, key);
                    assert_eq!((id.runtime(), id.key()), (runtime, key));
                }
            }
        }
    }
}
