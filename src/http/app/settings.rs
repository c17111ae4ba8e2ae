//! The settings of a route and of a handler: parameter names, state, limits.
//!
//! A request keeps these and not the route, so that extractors can ask for them and the route's
//! handlers may take requests: the files then depend on each other in one direction only.

use std::rc::Rc;

use super::extensions::Extensions;

/// Settings of one handler, given with `endpoint`. They go before the route's.
#[derive(Default)]
pub(crate) struct EndpointSettings {
    pub(crate) state: Extensions,
    /// None: as the group says.
    pub(crate) max_body: Option<u64>,
}

/// Settings of a route, from the groups around it.
#[derive(Default)]
pub(crate) struct RouteSettings {
    /// The parameters' names, in the order they stand in the path.
    pub(crate) names: Vec<String>,
    /// Of the groups around it, innermost first.
    pub(crate) states: Vec<Rc<Extensions>>,
    /// None: as the server says.
    pub(crate) max_body: Option<u64>,
}

impl RouteSettings {
    pub(crate) fn state_of<T: 'static>(&self) -> Option<&T> {
        self.states.iter().find_map(|states| states.get())
    }
}
