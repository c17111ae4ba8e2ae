//! The request: a view into the connection's head record.
//!
//! A head is parsed in place and copied once, as it stands, into a record that the connection keeps
//! and uses again for the next request if the handler let go of it. A [`Request`] is a handle on
//! that record, so it costs no allocation and can be kept as long as it is needed.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use http::Method;

use super::body::Body;
use super::delivery::{Callback, Delivery};
use super::extensions::Extensions;
use super::settings::{EndpointSettings, RouteSettings};
use crate::http::background::{BackgroundTasks, Ledger};
use crate::http::wire::parse::Head;

/// A request's head, and everything that belongs to the request.
pub(crate) struct Record {
    /// The head as it was sent. Written by the connection before the handler starts.
    pub(crate) bytes: Vec<u8>,
    pub(crate) head: Head,
    /// Where the request went; None until it was routed.
    pub(crate) route: Option<Rc<RouteSettings>>,
    /// Those of the handler that was found; None where there is none.
    pub(crate) endpoint: Option<Rc<EndpointSettings>>,
    /// The path's parameters, as places in the path, in the route's order.
    pub(crate) parameters: Vec<Range<usize>>,
    pub(crate) peer: Option<SocketAddr>,
    /// Counts the server's requests.
    pub(crate) number: u64,
    /// The request's one list; empty until it is first asked for.
    pub(crate) tasks: OnceCell<BackgroundTasks>,
    /// The callbacks for the answer's end. The connection takes them when the answer begins.
    watchers: RefCell<Vec<Callback>>,
    /// Set then: further callbacks are dropped.
    answered: Cell<bool>,
    /// The books that the list of background tasks belongs to.
    ledger: Rc<Ledger>,
}

impl Record {
    pub(crate) fn new(ledger: Rc<Ledger>, peer: Option<SocketAddr>) -> Self {
        Self {
            bytes: Vec::new(),
            head: Head::default(),
            route: None,
            endpoint: None,
            parameters: Vec::new(),
            peer,
            number: 0,
            tasks: OnceCell::new(),
            watchers: RefCell::default(),
            answered: Cell::new(false),
            ledger,
        }
    }

    /// Forgets the last request and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.head.clear();
        (self.route, self.endpoint) = (None, None);
        self.parameters.clear();
        self.tasks = OnceCell::new();
        self.answered.set(false);
    }

    /// Closes the list of callbacks, and takes it.
    pub(crate) fn take_watchers(&self) -> Vec<Callback> {
        self.answered.set(true);
        self.watchers.take()
    }

    pub(crate) fn path(&self) -> &str {
        self.head.path(&self.bytes)
    }

    /// The body limit of the handler or its groups, if one of them has any.
    pub(crate) fn max_body(&self) -> Option<u64> {
        let own = self.endpoint.as_ref().and_then(|endpoint| endpoint.max_body);
        own.or_else(|| self.route.as_ref().and_then(|route| route.max_body))
    }

    /// The value of this type that the handler or the innermost of its groups was given.
    pub(crate) fn state_of<T: 'static>(&self) -> Option<&T> {
        let own = self.endpoint.as_ref().and_then(|endpoint| endpoint.state.get());
        own.or_else(|| self.route.as_ref().and_then(|route| route.state_of()))
    }

    /// The request's list of background tasks.
    pub(crate) fn tasks(&self) -> &BackgroundTasks {
        self.tasks.get_or_init(|| {
            let line = self.head.method_and_target(&self.bytes);
            BackgroundTasks::new(Rc::clone(&self.ledger), line, self.number)
        })
    }
}

/// A request, as extractors see it. A handler may take it as its last parameter.
///
/// ```
/// use postlude::http::{Request, Router};
/// let router = Router::new().get("/agent", async |request: Request| {
///     String::from_utf8_lossy(request.field("user-agent").unwrap_or(b"none")).into_owned()
/// });
/// ```
pub struct Request {
    pub(crate) record: Rc<Record>,
    body: Body,
    extensions: Extensions,
}

impl Request {
    pub(crate) fn new(record: Rc<Record>, body: Body) -> Self {
        Self { record, body, extensions: Extensions::default() }
    }

    /// The method's name, as it was sent.
    #[must_use]
    pub fn method_name(&self) -> &str {
        self.record.head.method(&self.record.bytes)
    }

    /// The method. Names longer than 15 bytes are copied.
    #[must_use]
    pub fn method(&self) -> Method {
        method_of(self.method_name())
    }

    /// The request target, as it was sent.
    #[must_use]
    pub fn target(&self) -> &str {
        self.record.head.target(&self.record.bytes)
    }

    /// The path, still percent-encoded.
    #[must_use]
    pub fn path(&self) -> &str {
        self.record.path()
    }

    /// The part behind the question mark, still percent-encoded.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.record.head.query(&self.record.bytes)
    }

    /// The host and port that the request is for, as they were sent: the target's own in absolute
    /// form, `GET http://a.example/`, and else those of `Host`, which then must be ignored (RFC
    /// 9112 section 3.2.2). Empty if `Host` is, and None if an HTTP/1.0 request has neither.
    ///
    /// The client chooses it: before making links of it, compare it with the server's known names.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.record.head.authority(&self.record.bytes)
    }

    /// The first field of this name, whatever its case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.record.head.field(&self.record.bytes, name)
    }

    /// All fields, in the order they were sent.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.record.head.fields(&self.record.bytes)
    }

    /// Where the client's end of the connection is; unknown if the connection is no TCP socket of
    /// the server's.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.record.peer
    }

    /// The request's number: requests of one server are counted from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.record.number
    }

    /// The request's list of background tasks: the same one at every call.
    #[must_use]
    pub fn tasks(&self) -> BackgroundTasks {
        self.record.tasks().clone()
    }

    /// Calls a function once, when the socket has accepted the last byte of the answer, or never
    /// will: see [`Delivery`]. It runs on the loop between two writes, so it should not take long.
    /// One given after the answer has begun is dropped without a call.
    ///
    /// A panic of it ends there and is reported on stderr.
    pub fn on_delivery(&self, callback: impl FnOnce(Delivery) + 'static) {
        if !self.record.answered.get() {
            self.record.watchers.borrow_mut().push(Box::new(callback));
        }
    }

    /// Takes the body; a second call gives an empty one.
    #[must_use]
    pub fn take_body(&mut self) -> Body {
        std::mem::take(&mut self.body)
    }

    /// The values that layers and extractors put into the request.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The values that layers and extractors leave for those after them, to be changed: see
    /// [`Extension`](crate::http::Extension). The first one costs two allocations, each further one
    /// its own.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Takes all of the request out of the hands of the extractors that follow, which find its head
    /// but no body and no extensions.
    pub(crate) fn take(&mut self) -> Self {
        let extensions = std::mem::take(&mut self.extensions);
        Self { record: Rc::clone(&self.record), body: self.take_body(), extensions }
    }

    /// The path's parameters by name, still percent-encoded.
    pub(crate) fn parameters(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let names: &[String] = self.record.route.as_ref().map_or(&[], |route| &route.names);
        let path = self.record.path();
        names.iter().zip(&self.record.parameters).map(move |(name, place)| (name.as_str(), &path[place.clone()]))
    }
}

pub(crate) fn method_of(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap_or_default()
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method_name())
            .field("target", &self.target())
            .field("number", &self.number())
            .finish_non_exhaustive()
    }
}
