//! One connection, from its first byte to its last: buffers, time limits, closing, and the way out
//! of HTTP.
//!
//! | file | contents |
//! | --- | --- |
//! | `timer` | one deadline, and the two rules for where it lies |
//! | `buffer` | bytes read and bytes to be written, with the places where answers end |
//! | `incoming` | the body of the request that is being answered |
//! | `active` | the parts of a connection that only a request needs |
//! | `limits`, `places`, `closing`, `shared` | the state that the connections of a server share |
//! | `upgrade` | the socket for another protocol |
//! | `connection` | read, call, answer, in order |

mod active;
mod buffer;
pub(super) mod closing;
pub(super) mod connection;
mod incoming;
pub(super) mod limits;
pub(super) mod places;
pub(super) mod shared;
mod timer;
mod upgrade;
