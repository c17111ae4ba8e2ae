//! The state that the connections of a server share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::closing::Closing;
use super::limits::Limits;
use super::places::Places;
use crate::deferred::Queue;
use crate::http::app::router::Router;
use crate::http::wire::write::Date;

pub(crate) struct ServerState {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) queue: Queue,
    pub(crate) places: Rc<Places>,
    pub(crate) closing: Rc<Closing>,
    pub(super) date: RefCell<Date>,
    /// The number of the last request.
    requests: Cell<u64>,
}

impl ServerState {
    pub(crate) fn new(router: Router, limits: Limits, queue: Queue) -> Self {
        Self {
            router,
            limits,
            queue,
            places: Rc::default(),
            closing: Rc::default(),
            date: RefCell::default(),
            requests: Cell::new(0),
        }
    }

    pub(super) fn next_request(&self) -> u64 {
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }
}
