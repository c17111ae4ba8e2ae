//! The body of the request that is being answered: decoded from the input, given to the handler
//! within its limits.

use std::rc::Rc;
use std::task::Context;

use super::buffer::{GrownBuffers, Input};
use super::timer::Patience;
use crate::http::app::body::{BodyCell, BodyError, Demand};
use crate::http::wire::chunked::Decoder;

/// Bytes of a body that a handler may leave unread: the server reads them. Beyond it the connection
/// closes.
pub(super) const DRAINED: usize = 64 * 1024;

/// The body of the request that is being answered.
pub(super) struct Incoming {
    pub(super) decoder: Decoder,
    pub(super) cell: Rc<BodyCell>,
    /// How much more data is acceptable.
    pub(super) allowance: u64,
    /// Bytes still to come by the head's length; None for chunks.
    pub(super) left: Option<u64>,
    /// Whether the client waits for `100 Continue`.
    pub(super) expects_continue: bool,
    pub(super) ended: bool,
    pub(super) failed: bool,
    /// How long the client may still let the handler wait.
    pub(super) patience: Patience,
}

impl Drop for Incoming {
    /// Nothing more will come. A reader that still waits, in another task perhaps, gets an error.
    fn drop(&mut self) {
        self.cell.abandon();
    }
}

impl Incoming {
    /// Takes body bytes out of the input and gives them to the handler. True: it has something to
    /// look at.
    pub(super) fn decode(&mut self, input: &mut Input, grown: &GrownBuffers, cx: &Context<'_>) -> bool {
        let grow = input.is_full();
        let mut handed = false;
        while !self.ended {
            match self.step(input) {
                Ok(0) => break,
                Ok(_) => handed |= self.cell.wanted(cx) == Demand::Nothing,
                Err(error) => self.fail(error, cx),
            }
        }
        if grow {
            input.grow_for_body(grown);
        }
        if self.ended || handed {
            self.cell.wake_reader(cx);
        }
        self.ended || handed
    }

    /// Decodes once; gives the number of bytes taken.
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
        if found.complete {
            self.ended = true;
            self.cell.complete();
        }
        Ok(found.consumed)
    }

    pub(super) fn fail(&mut self, error: BodyError, cx: &Context<'_>) {
        (self.ended, self.failed) = (true, true);
        self.cell.fail(error);
        self.cell.wake_reader(cx);
    }

    /// Whether the rest of the body is little enough to be read. Looks at the bytes read already.
    pub(super) fn is_little(&mut self, input: &mut Input) -> bool {
        if self.ended {
            return !self.failed;
        }
        // Without `100 Continue` a client may send the body or not, so the next request may begin
        // anywhere.
        if self.expects_continue && input.is_empty() {
            return false;
        }
        self.left.is_none_or(|left| left <= DRAINED as u64)
    }

    /// Throws away the bytes that are there. True: the body has ended, or it is too large.
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
