//! The settings of a loop, with their defaults.

use std::time::Duration;

use super::hooks::Hooks;
use super::panics::{PanicHook, PanicPolicy};

/// Foreground polls in a turn. A short poll takes some 20 ns and a poll of the system 100 ns, so
/// polling the system costs a tenth.
const POLLS_PER_TURN: usize = 64;
/// The limit of blocking threads. They mostly wait, so there may be far more than processors.
const MAX_BLOCKING_THREADS: usize = 256;

/// The settings of a runtime: see [`Builder`](crate::Builder).
pub(crate) struct Config {
    pub(crate) polls_per_turn: usize,
    pub(crate) max_blocking_threads: usize,
    pub(crate) slow_poll: Option<Duration>,
    pub(crate) paused_clock: bool,
    pub(crate) seed: Option<u64>,
    pub(crate) on_panic: Option<PanicHook>,
    /// Set by [`test`](crate::test()): at a deadlock `block_on` returns an error instead of waiting
    /// for ever.
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
    /// Whether phases are measured with the clock. Otherwise counts alone decide, so that a seed
    /// replays.
    pub(crate) fn times_phases(&self) -> bool {
        !self.paused_clock && self.seed.is_none()
    }
}
