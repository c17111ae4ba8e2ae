//! Routing: from a path and a method to a handler, its layers and its state.
//!
//! `matchit` finds paths, with parameters (`/files/{id}`) and rests (`/static/{*path}`). The
//! parameters of a request are ranges of its path; only an extractor copies them.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use http::StatusCode;

use super::extensions::Extensions;
use super::handler::{Handler, Parameters};
use super::middleware::{Layer, Next, layer_of};
use super::pattern::Pattern;
use super::request::{Request, RequestRecord};
use super::response::{IntoResponse, Response};
use super::route::{Route, RouteMatch, allow_of, allowing, not_found};
use super::settings::RouteSettings;

/// Answers paths without a route below a prefix. The most specific prefix wins.
struct Fallback {
    /// Empty for the router's own fallback.
    prefix: String,
    pattern: Pattern,
    route: Rc<Route>,
}

/// Maps paths and methods to handlers.
///
/// - Paths are matched percent-encoded and exactly: `/a` and `/a/` are two paths, and nothing is
///   redirected. `/a/{name}` and `/a/{*rest}` need at least a byte after the slash.
/// - `HEAD` without a handler goes to that of `GET`, and its body is left out. `OPTIONS` without a
///   handler is a 204 with `Allow`; `OPTIONS *` lists the methods of the whole router. Other
///   methods are a 405 with `Allow`.
/// - Unknown paths go to the fallback, by default a 404.
/// - `CONNECT` is always a 501, and the connection ends after it, because the bytes that follow are
///   meant for another server. The router's own layers see it, those of nested groups do not.
///
/// A router is also a group: its state, body limit, fallback and middleware apply to its own routes
/// wherever it is [nested](Self::nest) or [merged](Self::merge), in any order of calls. For
/// settings of a single handler use [`endpoint`](crate::http::endpoint()).
///
/// ```
/// use postlude::http::{Path, Router, State, StatusCode};
/// let router = Router::new()
///     .state(String::from("Hello"))
///     .get("/hello/{name}", async |State(greeting): State<String>, Path(name): Path<String>| {
///         format!("{greeting}, {name}!")
///     })
///     .route("REPORT", "/calendar", async || "nothing on")
///     .fallback(async || (StatusCode::NOT_FOUND, "try the front page"));
/// ```
#[derive(Default)]
pub struct Router {
    tree: matchit::Router<usize>,
    /// The index of a path's route, for its second method.
    known: HashMap<String, usize>,
    routes: Vec<Rc<Route>>,
    fallbacks: Vec<Fallback>,
    states: Extensions,
    layers: Vec<Layer>,
    max_body: Option<u64>,
}

impl Router {
    /// Creates a router without routes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for a method and a path.
    ///
    /// # Panics
    ///
    /// - "the path … cannot be routed: …" if it is malformed or conflicts with another one;
    /// - "METHOD /path has a handler already";
    /// - "CONNECT /path cannot be routed: a router opens no tunnels".
    #[must_use]
    pub fn route<P: Parameters>(
        mut self,
        method: &str,
        path: &str,
        handler: impl Handler<P, Output: IntoResponse>,
    ) -> Self {
        assert!(method != CONNECT, "{CONNECT} {path} cannot be routed: a router opens no tunnels");
        let index = self.index_of(path);
        let endpoint = Rc::new(handler.into_endpoint().finished());
        let route = mut_of(&mut self.routes[index]);
        assert!(route.methods.iter().all(|(known, _)| known != method), "{method} {path} has a handler already");
        route.methods.push((method.to_owned(), endpoint));
        self
    }

    fn index_of(&mut self, path: &str) -> usize {
        if let Some(index) = self.known.get(path) {
            return *index;
        }
        let index = self.routes.len();
        if let Err(error) = self.tree.insert(path, index) {
            panic!("the path {path:?} cannot be routed: {error}");
        }
        let settings = RouteSettings { names: names_of(path), ..RouteSettings::default() };
        self.routes.push(Rc::new(Route { settings: Rc::new(settings), ..Route::default() }));
        self.known.insert(path.to_owned(), index);
        index
    }

    /// Adds a handler for `GET`, and so for `HEAD`. Panics as [`route`](Self::route) does.
    #[must_use]
    pub fn get<P: Parameters>(self, path: &str, handler: impl Handler<P, Output: IntoResponse>) -> Self {
        self.route("GET", path, handler)
    }

    /// Adds a handler for `POST`. Panics as [`route`](Self::route) does.
    #[must_use]
    pub fn post<P: Parameters>(self, path: &str, handler: impl Handler<P, Output: IntoResponse>) -> Self {
        self.route("POST", path, handler)
    }

    /// Adds a handler for `PUT`. Panics as [`route`](Self::route) does.
    #[must_use]
    pub fn put<P: Parameters>(self, path: &str, handler: impl Handler<P, Output: IntoResponse>) -> Self {
        self.route("PUT", path, handler)
    }

    /// Adds a handler for `PATCH`. Panics as [`route`](Self::route) does.
    #[must_use]
    pub fn patch<P: Parameters>(self, path: &str, handler: impl Handler<P, Output: IntoResponse>) -> Self {
        self.route("PATCH", path, handler)
    }

    /// Adds a handler for `DELETE`. Panics as [`route`](Self::route) does.
    #[must_use]
    pub fn delete<P: Parameters>(self, path: &str, handler: impl Handler<P, Output: IntoResponse>) -> Self {
        self.route("DELETE", path, handler)
    }

    /// Adds a value for [`State`](crate::http::State) in the group's handlers and layers; it
    /// replaces one of the same type.
    #[must_use]
    pub fn state<T: 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Sets the handler for paths without a route in this group, with any method but `CONNECT`. The
    /// fallback of a nested router applies below its prefix, whose parameters it does not get.
    ///
    /// # Panics
    ///
    /// "/ has a fallback already".
    #[must_use]
    pub fn fallback<P: Parameters>(mut self, handler: impl Handler<P, Output: IntoResponse>) -> Self {
        let any = Some(Rc::new(handler.into_endpoint().finished()));
        self.add_fallback(String::new(), Rc::new(Route { any, ..Route::default() }));
        self
    }

    fn add_fallback(&mut self, prefix: String, route: Rc<Route>) {
        let pattern = Pattern::new(&prefix);
        assert!(
            self.fallbacks.iter().all(|known| !known.pattern.is_like(&pattern)),
            "{prefix}/ has a fallback already"
        );
        self.fallbacks.push(Fallback { prefix, pattern, route });
    }

    /// Limits the bytes of a request body in this group, instead of
    /// [`Limits::max_body`](crate::http::Limits::max_body); beyond it the answer is 413. A nested
    /// router's own limit wins.
    #[must_use]
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = Some(bytes);
        self
    }

    /// Adds a layer around every route of this group and its fallback: see [`Next`]. The first one
    /// added is the outermost; a nested group's layers are inside those of the outer router.
    #[doc(alias = "layer", alias = "middleware")]
    #[must_use]
    pub fn with<F, R>(mut self, layer: F) -> Self
    where
        F: AsyncFn(Request, Next) -> R + 'static,
        R: IntoResponse + 'static,
    {
        self.layers.push(layer_of(layer));
        self
    }

    /// Adds another router's routes below a prefix, with their own state, limit, fallback and
    /// layers. The inner router's `/` becomes the prefix with a slash at its end.
    ///
    /// Parameters of the prefix, whole segments or parts as in `/v{major}`, come first among those
    /// of a path. An unmatched path uses the fallback and the layers of the group with the most
    /// specific prefix: the longer one wins, then a literal over a parameter.
    ///
    /// # Panics
    ///
    /// - "the prefix … must begin with / and not end with it";
    /// - "the prefix … cannot be routed: …" if it is malformed or contains a rest;
    /// - "the path … cannot be routed: …" if it conflicts with another one;
    /// - "/prefix/ has a fallback already" if two routers with a fallback or layers have this
    ///   prefix.
    ///
    /// ```
    /// use postlude::http::{Path, Router};
    /// let user = Router::new().get("/posts/{post}", async |Path((user, post)): Path<(String, u32)>| {
    ///     format!("{user}: {post}")
    /// });
    /// let router = Router::new().nest("/users/{user}", user);
    /// ```
    #[must_use]
    pub fn nest(self, prefix: &str, router: Self) -> Self {
        assert!(
            prefix.starts_with('/') && !prefix.ends_with('/'),
            "the prefix {prefix:?} must begin with / and not end with it"
        );
        // The tree checks the prefix, and would not see one without routes.
        if let Err(error) = matchit::Router::new().insert(format!("{prefix}/"), ()) {
            panic!("the prefix {prefix:?} cannot be routed: {error}");
        }
        self.take_in(prefix, router.finished())
    }

    /// Adds another router's routes at the same paths, with their own state, limit, fallback and
    /// layers.
    ///
    /// # Panics
    ///
    /// "/ has a fallback already" if both have one, and "the path … cannot be routed: …" if two
    /// paths conflict.
    #[must_use]
    pub fn merge(self, router: Self) -> Self {
        self.take_in("", router.spread())
    }

    fn take_in(mut self, prefix: &str, mut router: Self) -> Self {
        for (path, index) in router.known.drain() {
            let path = format!("{prefix}{path}");
            let new = self.routes.len();
            if let Err(error) = self.tree.insert(path.clone(), new) {
                panic!("the path {path:?} cannot be routed: {error}");
            }
            let mut route = Rc::clone(&router.routes[index]);
            router.routes[index] = Rc::default();
            mut_of(&mut route).settings_mut().names = names_of(&path);
            self.routes.push(route);
            self.known.insert(path, new);
        }
        for inner in router.fallbacks.drain(..) {
            self.add_fallback(format!("{prefix}{}", inner.prefix), inner.route);
        }
        self
    }

    /// Completes a router with paths of its own, so that its layers see the 404 there, too.
    pub(crate) fn finished(mut self) -> Self {
        if self.own_fallback().is_none() && !self.layers.is_empty() {
            self.add_fallback(String::new(), Rc::default());
        }
        self.spread()
    }

    /// Gives each route the settings of the group, to which nothing may be added afterwards.
    fn spread(mut self) -> Self {
        let states = Rc::new(std::mem::take(&mut self.states));
        let fallbacks = self.fallbacks.iter_mut().map(|fallback| &mut fallback.route);
        for route in self.routes.iter_mut().chain(fallbacks) {
            let route = mut_of(route);
            route.layers = self.layers.iter().chain(&*route.layers).cloned().collect();
            let settings = route.settings_mut();
            settings.states.push(Rc::clone(&states));
            settings.max_body = settings.max_body.or(self.max_body);
        }
        self
    }

    /// Finds the handler, and stores the settings and parameters in the record.
    pub(crate) fn find(&self, record: &mut RequestRecord) -> RouteMatch {
        let RequestRecord { bytes, head, route: taken, endpoint, parameters, .. } = record;
        if head.method(bytes) == CONNECT {
            return self.answer_for_all(no_tunnel, taken);
        }
        let path = head.path(bytes);
        let route = if let Ok(found) = self.tree.at(path) {
            parameters.extend(found.params.iter().map(|(_, value)| {
                let start = value.as_ptr().addr() - path.as_ptr().addr();
                start..start + value.len()
            }));
            &self.routes[*found.value]
        } else if path == "*" {
            // `OPTIONS *`: the methods of all routes.
            let methods = self.routes.iter().flat_map(|route| &route.methods);
            let allow = allow_of(methods.map(|(method, _)| method.as_str()));
            return self.answer_for_all(move || allowing(Response::of(StatusCode::NO_CONTENT), allow.as_ref()), taken);
        } else {
            let Some(route) = self.fallback_of(path) else { return RouteMatch::Answer(not_found()) };
            route
        };
        *taken = Some(Rc::clone(&route.settings));
        let found = route.endpoint(head.method(bytes));
        *endpoint = found.map(|endpoint| Rc::clone(&endpoint.settings));
        match found {
            Some(endpoint) => RouteMatch::Handler(Next::new(&route.layers, &endpoint.call)),
            None => route.answer(head.method(bytes)),
        }
    }

    /// Answers a request that names no path, inside the router's own layers.
    fn answer_for_all(
        &self,
        answer: impl Fn() -> Response + 'static,
        taken: &mut Option<Rc<RouteSettings>>,
    ) -> RouteMatch {
        let Some(Fallback { route, .. }) = self.own_fallback() else { return RouteMatch::Answer(answer()) };
        *taken = Some(Rc::clone(&route.settings));
        route.refuse(answer)
    }

    fn own_fallback(&self) -> Option<&Fallback> {
        self.fallbacks.iter().find(|fallback| fallback.prefix.is_empty())
    }

    fn fallback_of(&self, path: &str) -> Option<&Rc<Route>> {
        let holds = self.fallbacks.iter().filter(|fallback| fallback.pattern.holds(path));
        holds.max_by(|one, other| one.pattern.compare(&other.pattern)).map(|fallback| &fallback.route)
    }
}

fn mut_of(route: &mut Rc<Route>) -> &mut Route {
    Rc::get_mut(route).expect("a router being built is not shared")
}

fn names_of(path: &str) -> Vec<String> {
    Pattern::new(path).names().collect()
}

/// The method that no handler is called for.
const CONNECT: &str = "CONNECT";

/// After it the connection ends, even if a layer changes the answer: see `Head::keep_alive`.
fn no_tunnel() -> Response {
    let text = "this server opens no tunnels; send the request to the origin itself";
    Response::text(StatusCode::NOT_IMPLEMENTED, text)
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("paths", &self.known.keys()).finish_non_exhaustive()
    }
}
