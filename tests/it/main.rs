//! What Postlude promises, as tests, one module per law. Where time matters they run on the paused clock.

mod adapters;
#[cfg(feature = "http")]
mod background;
mod blocking;
mod branches;
mod cancel;
#[cfg(feature = "http")]
mod conformance;
mod counts;
mod drop;
mod ecosystem;
#[cfg(feature = "http")]
mod files;
mod generate;
mod hooks;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_limits;
mod io;
mod join;
mod join_set;
mod local;
#[cfg(feature = "http")]
mod middleware;
mod order;
mod panic;
mod property;
mod readers;
mod replay;
#[cfg(feature = "http")]
mod router;
mod scope;
mod shutdown;
#[cfg(feature = "signal")]
mod signal;
#[cfg(feature = "http")]
mod sse;
mod sync;
mod threads;
mod timer;
mod wake;
