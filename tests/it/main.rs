//! What Postlude promises, as tests, one module per law. Where time matters they run on the paused clock.

#[cfg(feature = "http")]
mod background;
mod blocking;
mod counts;
mod drop;
#[cfg(feature = "http")]
mod http;
mod io;
mod join;
mod order;
mod panic;
mod property;
mod shutdown;
#[cfg(feature = "signal")]
mod signal;
mod sync;
mod threads;
mod timer;
mod wake;
