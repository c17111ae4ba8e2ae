//! The settings of routes and handlers: parameter names, state, limits; and the parts of the server
//! that every request reaches.
//!
//! A request holds these and not its route, so that this folder's files do not depend on each other
//! in a circle.

use std::rc::Rc;

use super::accounts::Accounts;
use super::budget::Budget;
use super::extensions::Extensions;
use super::proxies::TrustedProxies;
use super::refusal::Refused;
use super::stopping::Stop;
use crate::deferred::Queue;
use crate::stderr::Limited;

/// The parts of a server that handlers reach through their request.
pub(crate) struct ServerParts {
    /// The queue of the background tasks.
    pub(crate) queue: Queue,
    pub(crate) accounts: Accounts,
    pub(crate) budget: Rc<Budget>,
    pub(crate) stop: Stop,
    pub(crate) proxies: TrustedProxies,
    pub(crate) refused: Refused,
    /// Lines about failed requests.
    pub(crate) failures: Limited,
    /// The limit on the pairs of a form or a query.
    pub(crate) max_pairs: usize,
}

/// Settings of one handler, which override the route's.
#[derive(Default)]
pub(crate) struct EndpointSettings {
    pub(crate) state: Extensions,
    /// Unset: the group's limit applies.
    pub(crate) max_body: Option<u64>,
}

/// Settings of a route, from its groups.
#[derive(Default)]
pub(crate) struct RouteSettings {
    /// The parameters' names, in the path's order.
    pub(crate) names: Vec<String>,
    /// The states of its groups, innermost first.
    pub(crate) states: Vec<Rc<Extensions>>,
    /// Unset: the server's limit applies.
    pub(crate) max_body: Option<u64>,
}
