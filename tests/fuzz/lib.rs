//! Fuzz targets for what strangers send: heads, chunked bodies, whole connections.
//!
//! Each target feeds one input in several cuts and asks an oracle that shares no code with what it
//! judges:
//!
//! | target | oracle |
//! | --- | --- |
//! | `head` | every cut gives the same answer; `httparse` agrees, but for the classes where ours is stricter |
//! | `chunked` | every cut gives the same answer; a decoder that works on whole lines finds the same body and end |
//! | `connection` | what comes out is a row of well-formed responses, no more than there were requests, whatever the cut |
//!
//! The first byte of an input says where it is cut, the rest is the wire.
//!
//! # How to run
//!
//! ```text
//! cargo install cargo-fuzz
//! mkdir -p /tmp/found
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz head /tmp/found tests/fuzz/corpus/head -- -runs=10000000 -max_len=512
//! ```
//!
//! `-close_fd_mask=2` keeps the server's lines on stderr, one for each stream that fails, out of
//! the log.
//!
//! What is found goes to the first directory, so that the corpus in the repository stays small. A
//! crash is written to `artifacts/`; give its path to `cargo fuzz run` in place of the directories
//! to see it again. It becomes a unit test next to what it broke.

/// The wire, and where it is cut.
#[must_use]
pub fn split(input: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, wire) = input.split_first()?;
    Some((usize::from(first) * 2 % (wire.len() + 1), wire))
}
