//! The error that channels have in common.

use std::fmt;

/// The value was not sent, for nobody receives any more: the receiver is closed or gone. It comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody receives from the channel any more")
    }
}

impl<T> std::error::Error for SendError<T> {}
