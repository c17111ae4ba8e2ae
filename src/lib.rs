//! Postlude, a single-threaded async runtime.
