//! Async iterators: adapters of streams that need a clock.

mod throttle;
mod timeout;

pub use throttle::{Throttle, throttle};
pub use timeout::{Timeout, timeout};
