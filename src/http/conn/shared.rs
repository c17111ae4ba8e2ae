//! The state that the connections of a server share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::closing::Closing;
use super::limits::Limits;
use super::places::Places;
use crate::deferred::Queue;
use crate::http::app::accounts::Accounts;
use crate::http::app::budget::Budget;
use crate::http::app::proxies::TrustedProxies;
use crate::http::app::refusal::Refused;
use crate::http::app::router::Router;
use crate::http::app::settings::ServerParts;
use crate::http::app::stopping::Stop;
use crate::http::wire::write::Date;
use crate::stderr::Limited;

pub(crate) struct ServerState {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) queue: Queue,
    /// The queue again, and what else handlers reach.
    pub(crate) parts: Rc<ServerParts>,
    pub(crate) places: Rc<Places>,
    pub(crate) closing: Rc<Closing>,
    pub(super) date: RefCell<Date>,
    /// Whether `Server::run` runs, which goes through the steps of a stop.
    pub(crate) running: Cell<bool>,
    /// `max_connections`, or fewer if the process may not have as many descriptors.
    pub(crate) most_connections: Cell<usize>,
    /// The number of the last request.
    requests: Cell<u64>,
}

impl ServerState {
    pub(crate) fn new(router: Router, limits: Limits, queue: Queue, proxies: TrustedProxies, refused: Refused) -> Self {
        let (budget, max_pairs) = (Budget::new(limits.memory), limits.max_pairs);
        Self {
            router,
            most_connections: Cell::new(limits.max_connections),
            limits,
            parts: Rc::new(ServerParts {
                queue: queue.clone(),
                accounts: Accounts::default(),
                budget,
                stop: Stop::default(),
                proxies,
                refused,
                failures: Limited::new("failed requests"),
                max_pairs,
            }),
            queue,
            places: Rc::default(),
            closing: Rc::default(),
            date: RefCell::default(),
            running: Cell::new(false),
            requests: Cell::new(0),
        }
    }

    /// Begins the stop: idle connections close, and every `Stopping` is ready.
    pub(crate) fn stop(&self) {
        self.places.stop();
        self.parts.stop.announced.cancel();
        self.parts.stop.begun.cancel();
    }

    pub(super) fn next_request(&self) -> u64 {
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }
}
