//! Parses and writes the syntax of HTTP/1.1. It does no I/O, reads no clock and uses nothing else
//! of the crate.
//!
//! | file | contents |
//! | --- | --- |
//! | `parse` | parses a request head, incrementally and in place |
//! | `chunked` | decodes a request body, and writes a response's chunks |
//! | `proxy` | parses the header of the PROXY protocol |
//! | `write` | writes the lines of a response's head |

pub mod chunked;
pub mod parse;
pub(super) mod proxy;
pub(super) mod write;
