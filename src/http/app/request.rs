//! The request: a handle on the connection's record of a head.
//!
//! A head is parsed in place, and its bytes are copied once into a record. A [`Request`] is a
//! handle on that record, so it allocates nothing and may be kept. The connection reuses the record
//! for the next request, unless a request still holds it.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use http::{Method, StatusCode};

use super::accounts::Account;
use super::body::Body;
use super::budget::Load;
use super::client::ClientWatch;
use super::delivery::{Callback, Delivery};
use super::extensions::Extensions;
use super::peer::Peer;
use super::refusal::{Refusal, shown};
use super::settings::{EndpointSettings, RouteSettings, ServerParts};
use crate::deferred::Share;
use crate::http::background::BackgroundTasks;
use crate::http::wire::parse::Head;
use crate::time::now;

/// How far the handler of a request is. What layers do after its end changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerState {
    /// Layers may still answer alone.
    NotCalled,
    /// If it is dropped now, it has failed.
    Running,
    /// With this status: by an `Err`, a rejected extractor, or a panic.
    Failed(StatusCode),
    Answered,
}

/// A request's head, its route, and its background tasks.
pub(crate) struct RequestRecord {
    /// The head as sent. The connection writes it before the handler starts.
    pub(crate) bytes: Vec<u8>,
    pub(crate) head: Head,
    /// The settings of the route or fallback; unset without one.
    pub(crate) route: Option<Rc<RouteSettings>>,
    /// The handler's settings; unset without a handler.
    pub(crate) endpoint: Option<Rc<EndpointSettings>>,
    /// The ranges of the path's parameters, in the route's order.
    pub(crate) parameters: Vec<Range<usize>>,
    /// The other end of the connection, which may be a proxy.
    pub(crate) peer: Peer,
    /// The account of that end; unset without an address.
    pub(crate) account: Option<Rc<Account>>,
    /// The number of the request, counted per server.
    pub(crate) number: u64,
    /// The memory of the request's body, if it has one, until the handler has ended.
    pub(crate) load: RefCell<Option<Rc<Load>>>,
    /// The request's list; created at its first use.
    pub(crate) tasks: OnceCell<BackgroundTasks>,
    /// The delivery callbacks. The connection takes them when the answer begins.
    watchers: RefCell<Vec<Callback>>,
    pub(crate) handler: Cell<HandlerState>,
    /// Set when the answer begins: further callbacks are dropped.
    answered: Cell<bool>,
    /// Whether the client still waits for the answer.
    pub(crate) client: ClientWatch,
    pub(crate) server: Rc<ServerParts>,
}

impl RequestRecord {
    pub(crate) fn new(server: Rc<ServerParts>, peer: Peer) -> Self {
        Self {
            bytes: Vec::new(),
            head: Head::default(),
            route: None,
            endpoint: None,
            parameters: Vec::new(),
            peer,
            account: None,
            number: 0,
            load: RefCell::default(),
            tasks: OnceCell::new(),
            watchers: RefCell::default(),
            handler: Cell::new(HandlerState::NotCalled),
            answered: Cell::new(false),
            client: ClientWatch::default(),
            server,
        }
    }

    /// Forgets the request and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.head.clear();
        (self.route, self.endpoint) = (None, None);
        self.parameters.clear();
        drop(self.load.take());
        self.tasks = OnceCell::new();
        self.handler.set(HandlerState::NotCalled);
        self.answered.set(false);
        self.client.clear();
    }

    /// Takes the delivery callbacks and accepts no more.
    pub(crate) fn take_watchers(&self) -> Vec<Callback> {
        self.answered.set(true);
        self.watchers.take()
    }

    /// Notes a panic. It is that of the handler, unless the handler has ended.
    pub(crate) fn panicked(&self) {
        if matches!(self.handler.get(), HandlerState::NotCalled | HandlerState::Running) {
            self.handler.set(HandlerState::Failed(StatusCode::INTERNAL_SERVER_ERROR));
        }
    }

    pub(crate) fn path(&self) -> &str {
        self.head.path(&self.bytes)
    }

    /// Counts and tells that the server refuses something of this request.
    pub(crate) fn refuse(&self, what: Refusal, status: Option<StatusCode>, detail: &str) {
        let line = self.head.method_and_target(&self.bytes);
        self.server.refused.tell(what, self.peer, status, line, detail);
    }

    /// Writes a line on stderr about a fault of the server, with this request.
    #[cold]
    pub(crate) fn say(&self, text: fmt::Arguments<'_>) {
        let line = shown(self.head.method_and_target(&self.bytes));
        let peer = if self.peer == Peer::Unknown { String::new() } else { format!("from {}, ", self.peer) };
        let number = self.number;
        self.server.failures.line(now(), format_args!("postlude: {text} ({line}, {peer}request {number})"));
    }

    /// Returns the body limit of the handler or its innermost group that has one.
    pub(crate) fn max_body(&self) -> Option<u64> {
        let own = self.endpoint.as_ref().and_then(|endpoint| endpoint.max_body);
        own.or_else(|| self.route.as_ref().and_then(|route| route.max_body))
    }

    /// Returns the state of this type of the handler or its innermost group that has one.
    pub(crate) fn state_of<T: 'static>(&self) -> Option<&T> {
        let own = self.endpoint.as_ref().and_then(|endpoint| endpoint.state.get());
        own.or_else(|| self.route.as_ref()?.states.iter().find_map(|states| states.get()))
    }

    pub(crate) fn tasks(&self) -> &BackgroundTasks {
        self.tasks.get_or_init(|| {
            let line = self.head.method_and_target(&self.bytes);
            let account = self.account();
            let share = account.as_deref().map(|account| &account.share);
            // Its tasks may own the body, so its memory counts until they are over.
            let keeping = self.load.borrow().clone().map(|load| Share::keeping(share, load));
            BackgroundTasks::new(&self.server.queue, keeping.as_ref().or(share), line, self.number)
        })
    }

    /// Returns the client's account. It is not that of the connection's other end if a trusted
    /// proxy is there.
    fn account(&self) -> Option<Rc<Account>> {
        match self.server.proxies.client(self.peer, self.head.fields(&self.bytes)) {
            client if client == self.peer => self.account.clone(),
            // A client that the proxy does not name counts as the proxy.
            client => self.server.accounts.of(client).or_else(|| self.account.clone()),
        }
    }
}

/// A request. A handler may take it as its last parameter.
///
/// ```
/// use postlude::http::{Request, Router};
/// let router = Router::new().get("/agent", async |request: Request| {
///     String::from_utf8_lossy(request.field("user-agent").unwrap_or(b"none")).into_owned()
/// });
/// ```
pub struct Request {
    pub(crate) record: Rc<RequestRecord>,
    body: Body,
    extensions: Extensions,
}

impl Request {
    pub(crate) fn new(record: Rc<RequestRecord>, body: Body) -> Self {
        Self { record, body, extensions: Extensions::default() }
    }

    /// Returns the method's name as sent.
    #[must_use]
    pub fn method_name(&self) -> &str {
        self.record.head.method(&self.record.bytes)
    }

    /// Returns the method. Names longer than 15 bytes allocate.
    #[must_use]
    pub fn method(&self) -> Method {
        Method::from_bytes(self.method_name().as_bytes()).unwrap_or_default()
    }

    /// Returns the request target as sent.
    #[must_use]
    pub fn target(&self) -> &str {
        self.record.head.target(&self.record.bytes)
    }

    /// Returns the path, still percent-encoded.
    #[must_use]
    pub fn path(&self) -> &str {
        self.record.path()
    }

    /// Returns the part after the first `?`, still percent-encoded.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.record.head.query(&self.record.bytes)
    }

    /// Returns the host and port that the request is for, as sent: those of a target in absolute
    /// form, as in `GET http://a.example/`, or else those of `Host`. With such a target `Host` must
    /// be ignored (RFC 9112 section 3.2.2). An empty `Host` is empty here. `None` if an HTTP/1.0
    /// request has neither.
    ///
    /// The client chooses it: compare it with the server's known names before making links of it.
    #[doc(alias = "host")]
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.record.head.authority(&self.record.bytes)
    }

    /// Returns the value of the first header with this name, in any case.
    #[doc(alias = "header")]
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.record.head.field(&self.record.bytes, name)
    }

    /// Iterates over all headers, in the order sent.
    #[doc(alias = "headers")]
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.record.head.fields(&self.record.bytes)
    }

    /// Returns the client: the other end of the connection, or what a trusted proxy there says
    /// ([`Server::trusted_proxies`](crate::http::Server::trusted_proxies)).
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.record.server.proxies.client(self.record.peer, self.fields())
    }

    /// Returns the client's address. `None` if it has none, or if it is unknown: see
    /// [`peer`](Self::peer).
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer().addr()
    }

    /// Returns the other end of the connection, whether or not it is a proxy.
    #[must_use]
    pub fn connection_peer(&self) -> Peer {
        self.record.peer
    }

    /// Returns the request's number. A server counts its requests from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.record.number
    }

    /// Returns the request's list of background tasks: the same one at every call.
    #[must_use]
    pub fn tasks(&self) -> BackgroundTasks {
        self.record.tasks().clone()
    }

    /// Calls `callback` once, when the socket has accepted the last byte of the answer or never
    /// will: see [`Delivery`].
    ///
    /// It runs on the loop between two writes, so it should be short. After the answer has begun a
    /// callback is dropped without a call. A panic of it is caught and reported on stderr.
    pub fn on_delivery(&self, callback: impl FnOnce(Delivery) + 'static) {
        if !self.record.answered.get() {
            self.record.watchers.borrow_mut().push(Box::new(callback));
        }
    }

    /// Takes the body. A second call returns an empty one.
    #[must_use]
    pub fn take_body(&mut self) -> Body {
        std::mem::take(&mut self.body)
    }

    /// Returns the values that layers and extractors have put into the request.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Gives mutable access to the values that layers and extractors leave for later ones and for
    /// handlers: see [`Extension`](crate::http::Extension).
    ///
    /// The first value costs two allocations, later ones one each (`tests/http_allocations.rs`).
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Takes the body and extensions; the extractors that follow still find the head.
    pub(crate) fn take(&mut self) -> Self {
        let extensions = std::mem::take(&mut self.extensions);
        Self { record: Rc::clone(&self.record), body: self.take_body(), extensions }
    }

    /// Iterates over the path's parameters: name, and percent-encoded value.
    pub(crate) fn parameters(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let names: &[String] = self.record.route.as_ref().map_or(&[], |route| &route.names);
        let path = self.record.path();
        names.iter().zip(&self.record.parameters).map(move |(name, place)| (name.as_str(), &path[place.clone()]))
    }
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
