//! Routing: a path's handler by method, and the state handlers share.
//!
//! Paths go to `matchit`'s tree, which knows parameters (`/files/{id}`) and rests (`/static/{*path}`). The parameters of a request are kept as places
//! in its path and copied only if a handler extracts them.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use http::header;
use http::{HeaderValue, StatusCode};

use super::handler::{Answering, Handler};
use super::request::{Record, Request};
use super::response::Response;

type Call = Rc<dyn Fn(Request) -> Answering>;

/// One path's handlers.
pub(crate) struct Route {
    /// The parameters' names, in the order they stand in the path.
    pub(crate) names: Vec<String>,
    methods: Vec<(String, Call)>,
}

/// What becomes of a request.
pub(crate) enum Found {
    Handler(Call),
    /// No handler: the answer is known at once.
    Answer(Response),
}

/// Which handler answers which path and method.
///
/// `HEAD` goes to the handler of `GET` where it has none of its own; the body is left out. Unknown paths are a 404, other methods a 405 with `Allow`.
///
/// ```
/// use postlude::http::{Path, Router, State};
/// let router = Router::new()
///     .state(String::from("Hello"))
///     .get("/hello/{name}", async |State(greeting): State<String>, Path(name): Path<String>| format!("{greeting}, {name}!"))
///     .route("REPORT", "/calendar", async || "nothing on");
/// ```
#[derive(Default)]
pub struct Router {
    tree: matchit::Router<usize>,
    /// Which route a path belongs to, for its second method.
    known: HashMap<String, usize>,
    routes: Vec<Rc<Route>>,
    states: HashMap<TypeId, Box<dyn Any>>,
}

impl Router {
    /// A router that knows no path.
    ///
    /// ```
    /// let router = postlude::http::Router::new();
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for a method of any name.
    ///
    /// # Panics
    ///
    /// If the path is malformed or conflicts with another one, or the pair of method and path has a handler already; the text names it.
    ///
    /// ```
    /// let router = postlude::http::Router::new().route("PURGE", "/cache/{*key}", async || "gone");
    /// ```
    #[must_use]
    pub fn route<P>(mut self, method: &str, path: &str, handler: impl Handler<P>) -> Self {
        let index = self.index_of(path);
        let handler = Rc::new(handler);
        let call: Call = Rc::new(move |request| Rc::clone(&handler).call(request));
        let route = Rc::get_mut(&mut self.routes[index]).expect("a router being built is not shared");
        assert!(route.methods.iter().all(|(known, _)| known != method), "{method} {path} has a handler already");
        route.methods.push((method.to_owned(), call));
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
        self.routes.push(Rc::new(Route { names: names_in(path), methods: Vec::new() }));
        self.known.insert(path.to_owned(), index);
        index
    }

    /// Adds a handler for `GET`, and so for `HEAD`.
    ///
    /// # Panics
    ///
    /// As [`route`](Self::route).
    ///
    /// ```
    /// let router = postlude::http::Router::new().get("/thing", async || "done");
    /// ```
    #[must_use]
    pub fn get<P>(self, path: &str, handler: impl Handler<P>) -> Self {
        self.route("GET", path, handler)
    }

    /// Adds a handler for `POST`.
    ///
    /// # Panics
    ///
    /// As [`route`](Self::route).
    ///
    /// ```
    /// let router = postlude::http::Router::new().post("/thing", async || "done");
    /// ```
    #[must_use]
    pub fn post<P>(self, path: &str, handler: impl Handler<P>) -> Self {
        self.route("POST", path, handler)
    }

    /// Adds a handler for `PUT`.
    ///
    /// # Panics
    ///
    /// As [`route`](Self::route).
    ///
    /// ```
    /// let router = postlude::http::Router::new().put("/thing", async || "done");
    /// ```
    #[must_use]
    pub fn put<P>(self, path: &str, handler: impl Handler<P>) -> Self {
        self.route("PUT", path, handler)
    }

    /// Adds a handler for `PATCH`.
    ///
    /// # Panics
    ///
    /// As [`route`](Self::route).
    ///
    /// ```
    /// let router = postlude::http::Router::new().patch("/thing", async || "done");
    /// ```
    #[must_use]
    pub fn patch<P>(self, path: &str, handler: impl Handler<P>) -> Self {
        self.route("PATCH", path, handler)
    }

    /// Adds a handler for `DELETE`.
    ///
    /// # Panics
    ///
    /// As [`route`](Self::route).
    ///
    /// ```
    /// let router = postlude::http::Router::new().delete("/thing", async || "done");
    /// ```
    #[must_use]
    pub fn delete<P>(self, path: &str, handler: impl Handler<P>) -> Self {
        self.route("DELETE", path, handler)
    }

    /// Gives handlers a value: see [`State`](super::State). One per type; a second one takes the place of the first.
    ///
    /// ```
    /// let router = postlude::http::Router::new().state(7_u32);
    /// ```
    #[must_use]
    pub fn state<T: 'static>(mut self, value: T) -> Self {
        self.states.insert(TypeId::of::<T>(), Box::new(value));
        self
    }

    pub(crate) fn state_of<T: 'static>(&self) -> Option<&T> {
        self.states.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// Finds the handler, and notes route and parameters in the record.
    pub(crate) fn find(&self, record: &mut Record) -> Found {
        let Record { bytes, head, route: taken, parameters, .. } = record;
        let path = head.path(bytes);
        let Ok(found) = self.tree.at(path) else {
            return Found::Answer(Response::text(StatusCode::NOT_FOUND, "there is nothing at this path"));
        };
        let route = &self.routes[*found.value];
        parameters.extend(found.params.iter().map(|(_, value)| {
            let start = value.as_ptr().addr() - path.as_ptr().addr();
            start..start + value.len()
        }));
        let answer = match route.call(head.method(bytes)) {
            Some(call) => Found::Handler(call),
            None => Found::Answer(route.method_not_allowed()),
        };
        *taken = Some(Rc::clone(route));
        answer
    }
}

impl Route {
    fn call(&self, method: &str) -> Option<Call> {
        let of = |method| self.methods.iter().find(|(known, _)| known == method).map(|(_, call)| Rc::clone(call));
        of(method).or_else(|| if method == "HEAD" { of("GET") } else { None })
    }

    fn method_not_allowed(&self) -> Response {
        let mut allow: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        if allow.contains(&"GET") && !allow.contains(&"HEAD") {
            allow.push("HEAD");
        }
        let mut response = Response::text(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method");
        if let Ok(allow) = HeaderValue::from_str(&allow.join(", ")) {
            response.fields.push((header::ALLOW, allow));
        }
        response
    }
}

/// The names between braces; doubled braces are text.
fn names_in(path: &str) -> Vec<String> {
    let text = path.replace("{{", "").replace("}}", "");
    let behind_braces = text.split('{').skip(1);
    behind_braces.filter_map(|rest| Some(rest.split_once('}')?.0.trim_start_matches('*').to_owned())).collect()
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("paths", &self.known.keys()).finish_non_exhaustive()
    }
}
