//! Sleeping, deadlines, intervals, and the clock behind them.
//!
//! All deadlines are entries of one timer wheel, which the loop's fourth phase turns. On a runtime
//! with a paused clock ([`Builder::paused_clock`](crate::Builder::paused_clock)) time is virtual
//! and exact.

mod interval;
mod sleep;
mod timeout;

use std::time::{Duration, Instant};

pub use interval::{Interval, MissedTick, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};

use crate::event_loop::context;
use crate::event_loop::misuse::Misuse;
use crate::task::yield_now;

/// The current time: virtual inside a runtime with a paused clock, otherwise the system's monotonic
/// clock.
#[must_use]
pub fn now() -> Instant {
    context::current().map_or_else(Instant::now, |parts| parts.clock.now())
}

/// Moves a paused clock forward, and runs the tasks whose deadlines have passed and the tasks they
/// wake.
///
/// It is ready once no other task is ready. A task may be busy without end, so it is also ready
/// after as many turns of the loop as there are tasks.
///
/// # Cancel safety
///
/// The clock moves in the first poll. Dropping the future later loses nothing.
///
/// # Panics
///
/// In a runtime without a paused clock: "`time::advance` was called on a real clock; build the
/// runtime with `paused_clock`". Outside a runtime: "`time::advance` was called on thread …, which
/// runs no runtime; …".
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// use postlude::time;
/// let runtime = postlude::Runtime::builder().paused_clock().build()?;
/// runtime.block_on(async {
///     let before = time::now();
///     time::advance(Duration::from_secs(1)).await;
///     assert_eq!(time::now() - before, Duration::from_secs(1));
/// })
/// # }
/// ```
pub async fn advance(by: Duration) {
    let moved = match context::current() {
        Some(parts) => parts.clock.advance(by),
        None => panic!("{}", Misuse::no_runtime("`time::advance` was called")),
    };
    assert!(moved, "`time::advance` was called on a real clock; build the runtime with `paused_clock`");
    // Timers fire in a later phase of this turn.
    yield_now().await;
    let mut turns = context::current().map_or(0, |parts| parts.tasks.borrow().live());
    while turns > 0 && context::current().is_some_and(|parts| parts.has_work()) {
        turns -= 1;
        yield_now().await;
    }
}
