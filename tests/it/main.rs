//! What Postlude promises, as tests, one module per law. Where time matters they run on the paused clock.

#[cfg(feature = "http")]
mod background;
mod blocking;
mod counts;
mod drop;
#[cfg(feature = "http")]
mod files;
#[cfg(feature = "http")]
mod http;
mod io;
mod join;
#[cfg(feature = "http")]
mod middleware;
mod order;
mod panic;
mod property;
#[cfg(feature = "http")]
mod router;
mod shutdown;
#[cfg(feature = "signal")]
mod signal;
#[cfg(feature = "http")]
mod sse;
mod threads;
mod timer;
mod wake;
