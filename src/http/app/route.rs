//! A path's handlers by method, and the answer to other methods.

use std::collections::HashSet;
use std::rc::Rc;

use http::header;
use http::{HeaderValue, StatusCode};

use super::call::{Answer, Call};
use super::endpoint::Endpoint;
use super::middleware::{Layer, Next};
use super::response::Response;
use super::settings::RouteSettings;

/// A path's handlers, or a group's fallback. With neither it only lets the group's layers see a
/// 404.
#[derive(Default)]
pub(crate) struct Route {
    pub(super) settings: Rc<RouteSettings>,
    pub(super) methods: Vec<(String, Rc<Endpoint>)>,
    /// A fallback's handler, for every method.
    pub(super) any: Option<Rc<Endpoint>>,
    /// Outermost first. Complete once the server has the router.
    pub(super) layers: Rc<[Layer]>,
}

pub(crate) enum RouteMatch {
    Handler(Next),
    /// The answer, which needs no call.
    Answer(Response),
}

impl RouteMatch {
    /// Answers instead of a handler, inside the layers.
    fn refused(layers: &Rc<[Layer]>, answer: impl Fn() -> Response + 'static) -> Self {
        if layers.is_empty() {
            return Self::Answer(answer());
        }
        let call: Call = Rc::new(move |_| {
            let response = answer();
            Box::pin(async { Answer { response, failed: false } })
        });
        Self::Handler(Next::new(layers, &call))
    }

    /// Replaces the handler by an answer, inside the same layers.
    pub(crate) fn instead(self, answer: fn() -> Response) -> Self {
        match self {
            Self::Handler(next) => Self::refused(next.layers(), answer),
            Self::Answer(_) => Self::Answer(answer()),
        }
    }
}

pub(super) fn not_found() -> Response {
    Response::text(StatusCode::NOT_FOUND, "there is nothing at this path")
}

impl Route {
    pub(super) fn endpoint(&self, method: &str) -> Option<&Rc<Endpoint>> {
        let of = |method| self.methods.iter().find(|(known, _)| known == method).map(|(_, endpoint)| endpoint);
        of(method).or_else(|| if method == "HEAD" { of("GET") } else { None }).or(self.any.as_ref())
    }

    /// Answers a method that has no handler.
    pub(super) fn answer(&self, method: &str) -> RouteMatch {
        if self.methods.is_empty() {
            return self.refuse(not_found);
        }
        let allow = allow_of(self.methods.iter().map(|(method, _)| method.as_str()));
        if method == "OPTIONS" {
            return self.refuse(move || allowing(Response::of(StatusCode::NO_CONTENT), allow.as_ref()));
        }
        let text = "this path does not take this method";
        self.refuse(move || allowing(Response::text(StatusCode::METHOD_NOT_ALLOWED, text), allow.as_ref()))
    }

    pub(super) fn refuse(&self, answer: impl Fn() -> Response + 'static) -> RouteMatch {
        RouteMatch::refused(&self.layers, answer)
    }

    pub(super) fn settings_mut(&mut self) -> &mut RouteSettings {
        Rc::get_mut(&mut self.settings).expect("a router being built is not shared")
    }
}

/// Returns the value of `Allow`: each method once, `HEAD` with `GET`, and `OPTIONS`.
pub(super) fn allow_of<'a>(methods: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let mut allow: Vec<&str> = methods.collect();
    if allow.contains(&"GET") {
        allow.push("HEAD");
    }
    allow.push("OPTIONS");
    let mut seen = HashSet::new();
    allow.retain(|method| seen.insert(*method));
    HeaderValue::from_str(&allow.join(", ")).ok()
}

pub(super) fn allowing(mut response: Response, allow: Option<&HeaderValue>) -> Response {
    response.fields.extend(allow.map(|allow| (header::ALLOW, allow.clone())));
    response
}
