//! Bytes in, bytes out: the syntax of HTTP/1.1, without I/O, without time, without the rest of the
//! crate.
//!
//! | file | contents |
//! | --- | --- |
//! | `parse` | the head of a request, incrementally and in place |
//! | `chunked` | the framing of a request body, and of a response's chunks |
//! | `write` | the lines of a response's head |

pub mod chunked;
pub mod parse;
pub(super) mod write;
