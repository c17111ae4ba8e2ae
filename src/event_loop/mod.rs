//! The event loop: five phases that make the parts of a runtime work together.
//!
//! Begin with `turn.rs`: [`Parts::turn`](parts::Parts::turn) is one turn of the loop.
//!
//! ```text
//!     turn.rs     the loop: run, defer, inbox, timers, park
//!     park.rs     its fifth phase: events, sleep, deadlock
//!     share.rs    how much of a turn deferred tasks get
//!     parts.rs    what the phases work on
//!     context.rs  which runtime is current on this thread
//!     inbox.rs    how other threads reach the loop
//!     waker.rs    a waker is an integer; the one unsafe block
//!     wake.rs     calling wakers that are kept for others
//!     hooks.rs    what can be seen of the loop at work
//!     panics.rs   panics that no handle will hear of
//!     misuse.rs   texts for use in the wrong place
//!     config.rs   the settings
//! ```

pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod hooks;
pub(crate) mod inbox;
pub(crate) mod misuse;
pub(crate) mod panics;
pub(crate) mod park;
pub(crate) mod parts;
pub(crate) mod share;
pub(crate) mod turn;
pub(crate) mod wake;
pub(crate) mod waker;
