//! Postlude, a single-threaded async runtime.

#[cfg(feature = "http")]
pub mod http;
