//! The names of a task: [`TaskKey`] for the runtime and its wakers, [`TaskId`] for users.
//!
//! A `TaskKey` names a task anywhere in the process. It packs the runtime's number, a slot of that
//! runtime's task table, and the slot's generation when the task moved in into the one integer that
//! a waker carries:
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

/// The most tasks one runtime can hold at a time: a page fewer than there are numbers for slots, so
/// that [`TaskKey::NONE`] and [`TaskKey::TAKEN`] name no slot.
pub(crate) const MAX_TASKS: u32 = (1 << SLOT_BITS) - PAGE as u32;
/// The most runtimes one process can hold at a time.
pub(crate) const MAX_RUNTIMES: u16 = 1 << RUNTIME_BITS;
pub(crate) const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
/// The place of the generation in a slot's state.
pub(super) const GENERATION_SHIFT: u32 = u32::BITS - GENERATION_BITS;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;

/// Slots in a page: 10 KiB, so that an empty runtime stays small and growth is rare.
pub(super) const PAGE: usize = 256;

/// A task: its runtime, its slot, and the slot's generation, which tells tenants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskKey(pub(crate) u64);

impl TaskKey {
    /// No task.
    pub(crate) const NONE: Self = Self(u64::MAX);
    /// The key of a handle that has handed out its output.
    pub(crate) const TAKEN: Self = Self(u64::MAX - 1);

    #[inline]
    pub(crate) const fn new(runtime: u16, generation: u32, slot: u32) -> Self {
        Self((runtime as u64) << (GENERATION_BITS + SLOT_BITS) | (generation as u64) << SLOT_BITS | slot as u64)
    }

    #[inline]
    pub(crate) const fn runtime(self) -> u16 {
        (self.0 >> (GENERATION_BITS + SLOT_BITS)) as u16
    }

    /// Whether its generation is the one in the upper 26 bits of `state`.
    #[inline]
    pub(super) const fn is_of_generation(self, state: u32) -> bool {
        // One shift brings the key's generation to its place in the state.
        (state ^ (self.0 >> (SLOT_BITS - GENERATION_SHIFT)) as u32) >> GENERATION_SHIFT == 0
    }

    #[inline]
    pub(crate) const fn slot(self) -> u32 {
        self.0 as u32 & SLOT_MASK
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
    fn a_key_gives_back_what_was_packed() {
        for runtime in [0, 1, MAX_RUNTIMES - 1] {
            for generation in [0, 1, GENERATION_MASK] {
                for slot in [0, 1, MAX_TASKS - 1] {
                    let key = TaskKey::new(runtime, generation, slot);
                    assert_eq!((key.runtime(), key.slot()), (runtime, slot));
                    let state = |generation: u32| generation << GENERATION_SHIFT | 0b10_1010;
                    assert!(key.is_of_generation(state(generation)));
                    assert!(!key.is_of_generation(state(generation ^ 1)));
                    assert!(!key.is_of_generation(state(generation ^ 1 << (GENERATION_BITS - 1))));
                    assert!(key != TaskKey::NONE && key != TaskKey::TAKEN);
                }
            }
        }
    }
}
