//! What Postlude promises, as tests, one module per law. Where time matters they run on the paused clock.

#[cfg(feature = "http")]
mod background;
mod blocking;
mod cancel;
mod counts;
mod drop;
mod generate;
#[cfg(feature = "http")]
mod http;
mod io;
mod join;
mod join_set;
mod local;
mod order;
mod panic;
mod property;
mod race;
mod replay;
mod shutdown;
#[cfg(feature = "signal")]
mod signal;
mod threads;
mod timer;
mod wake;
