//! HTTP/1.1: the hand-built parser of request heads, and the coding of bodies.
//!
//! The two modules here are pure: bytes in, ranges and facts out. They read no socket, know no runtime and
//! allocate nothing in steady state, so they can be tested, measured and embedded by themselves.

pub mod chunked;
pub mod parse;
