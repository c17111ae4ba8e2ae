//! A handler with settings of its own.
//!
//! Every handler becomes an endpoint when the router gets it; [`endpoint`](crate::http::endpoint())
//! makes one by hand, to say more about it than its method and path. So what is said of one route
//! stands beside its handler, and needs no group. A request keeps its endpoint, which is asked
//! before the groups around it.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::call::Call;
use super::middleware::{self, Layer, Next, layer_of};
use super::request::Request;
use super::response::IntoResponse;
use super::settings::EndpointSettings;

/// A handler with settings of its own: see [`endpoint`](crate::http::endpoint()).
///
/// ```
/// use std::time::Duration;
/// use postlude::http::{Next, Request, Router, State, endpoint};
/// async fn upload(State(folder): State<&'static str>, file: Vec<u8>) -> String {
///     format!("{} bytes for {folder}", file.len())
/// }
/// let no_store = async |request: Request, next: Next| {
///     next.run(request).await.with_field("cache-control", "no-store")
/// };
/// let large = endpoint(upload).max_body(64 << 20).timeout(Duration::from_secs(60));
/// let router = Router::new().post("/upload", large.state("/srv/uploads").with(no_store));
/// ```
#[must_use = "an endpoint does nothing until it is given to a router"]
pub struct Endpoint {
    pub(crate) call: Call,
    pub(crate) settings: Rc<EndpointSettings>,
    /// Outermost first; empty once they are around `call`.
    layers: Vec<Layer>,
}

impl Endpoint {
    pub(crate) fn new(call: Call) -> Self {
        Self { call, settings: Rc::default(), layers: Vec::new() }
    }

    /// Limits the bytes of a request body; beyond that the answer is 413.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.settings_mut().max_body = Some(bytes);
        self
    }

    /// Answers 503 if the handler takes longer: [`middleware::timeout`] as a layer.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(middleware::timeout(limit))
    }

    /// Gives the handler and its layers a value: see [`State`](crate::http::State). One per type; a
    /// second one takes the place of the first.
    pub fn state<T: 'static>(mut self, value: T) -> Self {
        self.settings_mut().state.insert(value);
        self
    }

    /// Puts a layer around the handler, inside of those of its groups. The first one added is the
    /// outermost.
    pub fn with<F, R>(mut self, layer: F) -> Self
    where
        F: AsyncFn(Request, Next) -> R + 'static,
        R: IntoResponse + 'static,
    {
        self.layers.push(layer_of(layer));
        self
    }

    fn settings_mut(&mut self) -> &mut EndpointSettings {
        Rc::get_mut(&mut self.settings).expect("an endpoint being built is not shared")
    }

    /// With its layers around its call.
    pub(crate) fn finished(mut self) -> Self {
        if !self.layers.is_empty() {
            let (layers, call) = (Rc::from(std::mem::take(&mut self.layers)), self.call);
            self.call = Rc::new(move |request| Next::new(&layers, &call).start(request));
        }
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("max_body", &self.settings.max_body)
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}
