//! The body of the current request: decodes it from the input, and hands it to the handler within
//! its limits.

use std::rc::Rc;
use std::task::Context;

use super::buffer::{Input, SpareBuffers};
use super::timer::RateLimit;
use crate::http::app::body::{BodyCell, BodyError, Demand};
use crate::http::wire::chunked::Decoder;

/// The most bytes of a body that the server reads after a handler left them unread. Beyond it the
/// connection closes.
pub(super) const DRAINED: usize = 64 * 1024;

pub(super) struct IncomingBody {
    pub(super) decoder: Decoder,
    pub(super) cell: Rc<BodyCell>,
    /// Data bytes still allowed.
    pub(super) allowance: u64,
    /// Bytes still to come by `Content-Length`; unset for a chunked body.
    pub(super) left: Option<u64>,
    /// Whether the client waits for `100 Continue`.
    pub(super) expects_continue: bool,
    pub(super) ended: bool,
    pub(super) failed: bool,
    /// The fault of the client that the server has not yet told of.
    pub(super) fault: Option<BodyError>,
    /// The time that the client may still let the handler wait.
    pub(super) patience: RateLimit,
}

impl Drop for IncomingBody {
    /// Ends the body with an error for a reader that still waits, perhaps in another task.
    fn drop(&mut self) {
        self.cell.abandon();
    }
}

impl IncomingBody {
    /// Moves body bytes from the input to the handler. Returns whether the handler got what it
    /// asked for, or the end.
    pub(super) fn decode(&mut self, input: &mut Input, spare: &SpareBuffers, cx: &Context<'_>) -> bool {
        let grow = input.is_full();
        let is_collected = self.cell.wanted(cx) == Demand::Whole;
        let before = self.allowance;
        let mut handed = false;
        while !self.ended {
            match self.step(input) {
                Ok(0) => break,
                Ok(_) => handed |= self.cell.wanted(cx) == Demand::Nothing,
                Err(error) => self.fail(error, cx),
            }
        }
        if is_collected && !self.failed {
            let bytes = usize::try_from(before - self.allowance).unwrap_or(usize::MAX);
            if let Err(error) = self.cell.weigh(bytes, self.ended, cx) {
                self.fail(error, cx);
            }
        }
        if self.ended && !self.failed {
            // Only now: a body that found no memory is no body.
            self.cell.end(Ok(()));
        }
        if grow {
            input.grow_for_body(spare);
        }
        if self.ended || handed {
            self.cell.wake_reader(cx);
        }
        self.ended || handed
    }

    /// Decodes once, and returns the number of bytes consumed. The caller tells the cell of the
    /// end.
    fn step(&mut self, input: &mut Input) -> Result<usize, BodyError> {
        let found = self.decoder.decode(input.bytes()).map_err(BodyError::Malformed)?;
        let data = &input.bytes()[found.data];
        let count = data.len() as u64;
        self.allowance = self.allowance.checked_sub(count).ok_or(BodyError::TooLarge)?;
        self.left = self.left.map(|left| left.saturating_sub(count));
        if !data.is_empty() {
            self.cell.push(data, self.left);
        }
        input.consume(found.consumed);
        self.ended = found.complete;
        Ok(found.consumed)
    }

    pub(super) fn fail(&mut self, error: BodyError, cx: &Context<'_>) {
        (self.ended, self.failed, self.fault) = (true, true, Some(error));
        self.cell.end(Err(error));
        self.cell.wake_reader(cx);
    }

    /// Hands over the bytes that have arrived, when no more can come.
    pub(super) fn cut(mut self, input: &mut Input) {
        while !self.ended {
            match self.step(input) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    return self.cell.end(Err(error));
                }
            }
        }
        if self.ended {
            self.cell.end(Ok(()));
        }
    }

    /// Returns whether the rest of the body is small enough to be read and thrown away.
    pub(super) fn is_little(&mut self, input: &mut Input) -> bool {
        if self.ended {
            return !self.failed;
        }
        // Without `100 Continue` the client may send the body or not, so it is unknown where the
        // next request begins.
        if self.expects_continue && input.is_empty() {
            return false;
        }
        self.left.is_none_or(|left| left <= DRAINED as u64)
    }

    /// Throws away the body's bytes in the input. Returns whether the body has ended or is too
    /// large.
    pub(super) fn skip(&mut self, input: &mut Input) -> bool {
        while !self.ended {
            match self.step(input) {
                Ok(0) => return false,
                Ok(_) => self.cell.forget(),
                Err(_) => (self.ended, self.failed) = (true, true),
            }
        }
        true
    }
}
