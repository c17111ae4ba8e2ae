//! The event loop: five phases that make the parts of a runtime work together.
//!
//! Start with `turn.rs`: [`Parts::turn`](parts::Parts::turn) is one turn of the loop.
//!
//! ```text
//!     turn.rs     the loop: run, defer, inbox, timers, park
//!     park.rs     the fifth phase: events, sleep, deadlock
//!     share.rs    the deferred class's share of a turn
//!     parts.rs    the state the phases work on
//!     context.rs  the current runtime of a thread
//!     inbox.rs    messages from other threads
//!     waker.rs    a waker is an integer; the one unsafe block
//!     wake.rs     calling stored wakers
//!     hooks.rs    statistics and hooks
//!     panics.rs   unobserved panics
//!     misuse.rs   error texts for use outside the right runtime
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
