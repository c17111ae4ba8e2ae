//! One connection: its buffers, time limits, end, and the hand-over to another protocol.
//!
//! | file | contents |
//! | --- | --- |
//! | `timer` | one deadline, and the two rules that set it |
//! | `buffer` | bytes read and bytes to be written, and where each answer ends |
//! | `incoming` | the body of the current request |
//! | `hangup` | the client's end while the connection waits for a handler or a stream |
//! | `active` | the buffers and records that only a request needs |
//! | `limits`, `places`, `closing`, `shared` | the state that the connections of a server share |
//! | `upgrade` | the socket for another protocol |
//! | `connection` | read, call, answer, in order |

mod active;
mod buffer;
pub(super) mod closing;
pub(super) mod connection;
mod hangup;
mod incoming;
pub(super) mod limits;
pub(super) mod places;
pub(super) mod shared;
mod timer;
mod upgrade;
