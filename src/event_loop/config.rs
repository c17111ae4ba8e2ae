//! The settings a loop works by, and the defaults.

use std::time::Duration;

use super::hooks::Hooks;
use super::panics::{PanicHook, PanicPolicy};

/// Foreground polls in a turn. At some 20 ns for a short poll and 100 ns to ask the system for events, the asking costs a tenth.
const POLLS_PER_TURN: usize = 64;
/// Blocking threads. They mostly wait, so there may be far more of them than processors.
const MAX_BLOCKING_THREADS: usize = 256;

/// The settings of a runtime.
pub(crate) struct Config {
    pub(crate) polls_per_turn: usize,
    pub(crate) max_blocking_threads: usize,
    pub(crate) slow_poll: Option<Duration>,
    pub(crate) paused_clock: bool,
    pub(crate) seed: Option<u64>,
    pub(crate) on_panic: Option<PanicHook>,
    /// Set by [`test`](crate::test): `block_on` ends with an error where it would otherwise report and wait for ever.
    pub(crate) deadlock_is_error: bool,
    pub(crate) panic_policy: PanicPolicy,
    pub(crate) hooks: Option<Box<dyn Hooks>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            polls_per_turn: POLLS_PER_TURN,
            max_blocking_threads: MAX_BLOCKING_THREADS,
            slow_poll: None,
            paused_clock: false,
            seed: None,
            on_panic: None,
            deadlock_is_error: false,
            panic_policy: PanicPolicy::default(),
            hooks: None,
        }
    }
}

impl Config {
    /// Whether phases may be measured with the clock. Where a seed must replay, counts alone decide.
    pub(crate) fn times_phases(&self) -> bool {
        !self.paused_clock && self.seed.is_none()
    }
}
