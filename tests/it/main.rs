//! What Postlude promises, as tests, one module per law. Where time matters they run on the paused
//! clock.
//!
//! None of them starts a process: until it executes its program, it would hold copies of the other
//! tests' sockets, which are then not closed when those tests close them.

mod adapters;
#[cfg(feature = "http")]
mod background;
mod blocking;
mod branches;
mod buffered;
mod cancel;
#[cfg(feature = "http")]
mod clients;
#[cfg(feature = "http")]
mod conformance;
mod counts;
mod deferred;
mod drop;
mod ecosystem;
mod fairness;
#[cfg(feature = "http")]
mod files;
#[cfg(feature = "http")]
mod generate;
#[cfg(feature = "http")]
mod hangups;
mod histograms;
mod hooks;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_chunked;
#[cfg(feature = "http")]
mod http_limits;
#[cfg(feature = "http")]
mod http_parse;
mod intervals;
mod io;
mod join;
mod join_set;
#[cfg(feature = "http")]
mod listeners;
mod local;
#[cfg(feature = "http")]
mod memory;
mod merge;
#[cfg(feature = "http")]
mod middleware;
mod order;
#[cfg(feature = "http")]
mod outcomes;
mod panic;
mod panicking_wakers;
#[cfg(feature = "http")]
mod peers;
#[cfg(feature = "http")]
mod places;
mod property;
mod reactor;
mod readers;
#[cfg(feature = "http")]
mod refusals;
mod replay;
#[cfg(feature = "http")]
mod router;
mod scope;
mod scope_trees;
mod shares;
mod shutdown;
#[cfg(feature = "signal")]
mod signal;
#[cfg(feature = "http")]
mod sse;
mod stack;
#[cfg(feature = "http")]
mod stops;
#[cfg(feature = "http")]
mod streams;
mod sync;
mod tee;
mod threads;
mod timer;
#[cfg(feature = "http")]
mod unread;
mod wake;
