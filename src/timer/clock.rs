//! The clock: the system's monotonic one, or a virtual one that moves only on request.
//!
//! The wheel counts ticks since the runtime was made. Deadlines are rounded up to ticks and the
//! time is rounded down, so no timer fires early.
//!
//! The monotonic clock (`CLOCK_MONOTONIC` on Linux, clock_gettime(2)) stands still while the
//! machine is suspended.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Deadlines this far off never fire. The wheel could hold them, but arithmetic on them could
/// overflow.
const NEVER_AFTER: Duration = Duration::from_secs(30 * YEAR);
/// Virtual time ends this long after its origin, half way to an overflow of its nanoseconds.
const END_OF_TIME: Duration = Duration::from_secs(290 * YEAR);
const YEAR: u64 = 365 * 24 * 60 * 60;

/// A tick of the real clock is 2¹⁶ ns, 65.5 µs, and the conversion a shift. Since the selector
/// waits in whole milliseconds, timers are up to 1.1 ms late; with ticks of 1 ms it would be 2 ms.
const REAL_TICK_SHIFT: u32 = 16;
/// A tick of the virtual clock is 1 ns, so that a jump to a deadline is exact.
const VIRTUAL_TICK_SHIFT: u32 = 0;

/// The tick of a deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

pub(crate) struct Clock {
    origin: Instant,
    /// Virtual nanoseconds since the origin; `None` on the real clock.
    passed: Option<Cell<u64>>,
    shift: u32,
}

impl Clock {
    pub(crate) fn new(paused: bool) -> Self {
        Self {
            origin: Instant::now(),
            passed: paused.then(|| Cell::new(0)),
            shift: if paused { VIRTUAL_TICK_SHIFT } else { REAL_TICK_SHIFT },
        }
    }

    pub(crate) fn now(&self) -> Instant {
        match &self.passed {
            None => Instant::now(),
            Some(passed) => self.origin + Duration::from_nanos(passed.get()),
        }
    }

    /// The first tick at which a deadline has certainly passed.
    pub(crate) fn tick_of(&self, deadline: Instant) -> u64 {
        let after = deadline.saturating_duration_since(self.origin);
        // The runtime's age matters on the virtual clock only. On the real one it is negligible
        // beside 30 years, and reading it costs a call.
        let passed = self.passed.as_ref().map_or(Duration::ZERO, |passed| Duration::from_nanos(passed.get()));
        if after >= (passed + NEVER_AFTER).min(END_OF_TIME) {
            return NEVER;
        }
        let round_up = (1 << self.shift) - 1;
        (nanos(after) + round_up) >> self.shift
    }

    /// The number of whole ticks passed.
    pub(crate) fn ticks_passed(&self) -> u64 {
        match &self.passed {
            None => nanos(self.origin.elapsed()) >> self.shift,
            Some(passed) => passed.get(),
        }
    }

    /// The time until a tick; virtual time on the virtual clock.
    pub(crate) fn until(&self, tick: u64) -> Duration {
        let at = Duration::from_nanos(tick.saturating_mul(1 << self.shift));
        match &self.passed {
            None => at.saturating_sub(self.origin.elapsed()),
            Some(passed) => at.saturating_sub(Duration::from_nanos(passed.get())),
        }
    }

    /// Moves virtual time forward to a tick.
    pub(crate) fn jump_to(&self, tick: u64) {
        if let Some(passed) = &self.passed {
            passed.set(passed.get().max(tick));
        }
    }

    /// Moves virtual time forward; false on the real clock.
    pub(crate) fn advance(&self, by: Duration) -> bool {
        let Some(passed) = &self.passed else { return false };
        passed.set(passed.get().saturating_add(nanos(by)).min(nanos(END_OF_TIME)));
        true
    }
}

/// Nanoseconds, saturating after five centuries.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `now + duration`, or a time that never comes if that is too far off to represent.
pub(crate) fn deadline_after(now: Instant, duration: Duration) -> Instant {
    now + duration.min(2 * NEVER_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_rounded_up_and_the_time_down() {
        let clock = Clock::new(false);
        assert_eq!(clock.tick_of(clock.origin + Duration::from_nanos(1)), 1);
        assert_eq!(clock.tick_of(clock.origin + Duration::from_nanos(1 << 16)), 1);
        assert_eq!(clock.tick_of(clock.origin + Duration::from_nanos((1 << 16) + 1)), 2);
    }

    #[test]
    fn far_deadlines_never_come_however_much_time_has_passed() {
        let clock = Clock::new(true);
        for years in [0, 1, 29, 31, 190] {
            assert!(clock.advance(Duration::from_secs(years * YEAR)));
            assert_eq!(clock.tick_of(deadline_after(clock.now(), Duration::MAX)), NEVER);
            assert_eq!(clock.tick_of(clock.now() + NEVER_AFTER), NEVER);
            assert!(clock.tick_of(clock.now() + NEVER_AFTER - Duration::from_nanos(1)) < NEVER);
        }
        assert!(clock.advance(Duration::MAX), "and time itself ends");
        assert_eq!(clock.tick_of(deadline_after(clock.now(), Duration::ZERO)), NEVER);
    }

    #[test]
    fn virtual_time_is_exact_to_the_nanosecond() {
        let clock = Clock::new(true);
        let deadline = clock.now() + Duration::from_nanos(1_234_567_891);
        clock.jump_to(clock.tick_of(deadline));
        assert_eq!(clock.now(), deadline);
    }
}
