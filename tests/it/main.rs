//! What Postlude promises, as tests, one module per law. Where time matters they run on the paused clock.

mod background;
mod blocking;
mod counts;
mod drop;
mod http;
mod io;
mod join;
mod order;
mod panic;
mod property;
mod shutdown;
mod signal;
mod threads;
mod timer;
mod wake;
