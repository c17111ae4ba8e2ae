//! A connection's buffers and records while a request is on its way, and the store of those that no
//! connection needs.
//!
//! A connection that waits for a request puts its [`Active`] into the server's [`Spare`] and takes
//! one when it is polled, so that ten thousand idle connections share a few and a busy one
//! allocates nothing.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Instant;

use http::StatusCode;

use super::buffer::{GrownBuffers, Input, Output};
use super::incoming::Incoming;
use super::limits::Limits;
use super::timer::Patience;
use crate::http::app::delivery::Watch;
use crate::http::app::request::Record;
use crate::http::app::upgraded::OnUpgrade;
use crate::http::background::{Ledger, Trigger};
use crate::http::wire::parse::HeadParser;

/// How many connections' buffers are kept for the next that needs some.
const SPARE: usize = 64;

/// The parts of a connection that only a request needs. An idle connection gives them to the
/// server, which lends them to the next one that wakes up.
pub(super) struct Active {
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) parser: HeadParser,
    /// When the first byte of a head was seen that is not complete.
    pub(super) head_since: Option<Instant>,
    pub(super) record: Rc<Record>,
    pub(super) body: Option<Incoming>,
    /// Set while a handler runs and its tasks have no trigger yet.
    pub(super) calling: bool,
    /// Gets the socket after the answer that is being written.
    pub(super) on_upgrade: Option<OnUpgrade>,
}

impl Active {
    pub(super) fn new(limits: &Limits, ledger: &Rc<Ledger>) -> Self {
        Self {
            input: Input::default(),
            output: Output::new(limits.max_buffer, Patience::new(limits.write_timeout, limits.write_rate)),
            parser: HeadParser::new(limits.head),
            head_since: None,
            record: Rc::new(Record::new(Rc::clone(ledger), None)),
            body: None,
            calling: false,
            on_upgrade: None,
        }
    }

    /// The trigger of the tasks of the request being answered, if it has any.
    pub(super) fn trigger(&self, failed: Option<StatusCode>) -> Option<Trigger> {
        self.record.tasks.get().map(|tasks| Trigger::new(tasks.clone(), failed))
    }

    /// Whether another connection could go on with it as well.
    pub(super) fn is_unused(&self) -> bool {
        self.input.is_empty() && self.output.is_fresh() && self.body.is_none()
    }
}

/// A connection's `Active`: empty only while the connection is idle.
#[derive(Default)]
pub(super) struct Held(pub(super) Option<Box<Active>>);

impl Deref for Held {
    type Target = Active;

    fn deref(&self) -> &Active {
        self.0.as_deref().expect("a connection that is not idle has its buffers")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Active {
        self.0.as_deref_mut().expect("a connection that is not idle has its buffers")
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.calling {
            drop(self.trigger(None));
            drop(Watch::new(self.record.take_watchers(), None, 0));
        }
    }
}

/// Buffers that no connection needs now.
#[derive(Default)]
pub(super) struct Spare {
    #[allow(clippy::vec_box, reason = "the boxes themselves go from one connection to the next")]
    buffers: RefCell<Vec<Box<Active>>>,
    pub(super) grown: GrownBuffers,
}

impl Spare {
    /// Buffers that another connection has used.
    pub(super) fn lend(&self) -> Option<Box<Active>> {
        self.buffers.borrow_mut().pop()
    }

    /// Keeps buffers for the next connection, but not too many.
    pub(super) fn give_back(&self, active: Box<Active>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < SPARE {
            buffers.push(active);
            return;
        }
        drop(buffers);
        drop(active);
    }

    pub(super) fn clear(&self) {
        drop(self.buffers.take());
        self.grown.clear();
    }
}
