//! Handlers with settings of their own.
//!
//! The router turns every handler into an endpoint. [`endpoint`](crate::http::endpoint()) makes one
//! by hand, so that the settings of a single route need no group.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::call::Call;
use super::middleware::{self, Layer, Next, layer_of};
use super::request::Request;
use super::response::IntoResponse;
use super::settings::EndpointSettings;

/// A handler with settings of its own, which override those of its groups. Made by
/// [`endpoint`](crate::http::endpoint()).
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
    /// Outermost first; empty once they wrap `call`.
    layers: Vec<Layer>,
}

impl Endpoint {
    pub(crate) fn new(call: Call) -> Self {
        Self { call, settings: Rc::default(), layers: Vec::new() }
    }

    /// Limits the bytes of a request body; beyond it the answer is 413.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.settings_mut().max_body = Some(bytes);
        self
    }

    /// Answers 503 if the handler takes longer: adds [`middleware::timeout`] as a layer.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(middleware::timeout(limit))
    }

    /// Adds a value for [`State`](crate::http::State) in the handler and its layers; it replaces
    /// one of the same type.
    pub fn state<T: 'static>(mut self, value: T) -> Self {
        self.settings_mut().state.insert(value);
        self
    }

    /// Adds a layer around the handler, inside those of its groups. The first one added is the
    /// outermost.
    #[doc(alias = "layer", alias = "middleware")]
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

    /// Wraps the call in its layers.
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
