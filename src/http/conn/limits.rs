//! The limits of a server.

use std::time::Duration;

use crate::http::wire::chunked::BodyLimits;
use crate::http::wire::parse::HeadLimits;

/// The limits of a [`Server`](crate::http::Server), all on by default.
///
/// The connection closes after each of the 4xx responses in the table except that of `max_pairs`,
/// and they say so.
///
/// | limit | default | beyond it |
/// | --- | --- | --- |
/// | [`head.head_bytes`](HeadLimits::head_bytes) | 16 KiB | 431 |
/// | [`head.target_bytes`](HeadLimits::target_bytes) | 8 KiB | 414 |
/// | [`head.fields`](HeadLimits::fields) | 100 | 431 |
/// | [`header_timeout`](Self::header_timeout) | 10 s | 408 |
/// | [`header_rate`](Self::header_rate) | 256 | 408 |
/// | [`header_grace`](Self::header_grace) | 5 s | the rate applies |
/// | [`max_body`](Self::max_body) | 2 MiB | 413 |
/// | [`max_pairs`](Self::max_pairs) | 1 000 | 413 for a form, 400 for a query |
/// | [`chunks.extension_bytes`](BodyLimits::extension_bytes) | 16 KiB | 413 |
/// | [`chunks.trailer_bytes`](BodyLimits::trailer_bytes) | 16 KiB | 431 |
/// | [`chunks.trailer_fields`](BodyLimits::trailer_fields) | 100 | 431 |
/// | [`memory`](Self::memory) | 128 MiB | 503 with `Retry-After`, or closed |
/// | [`body_timeout`](Self::body_timeout) | 30 s | 408 |
/// | [`body_rate`](Self::body_rate) | 1 KiB | 408 |
/// | [`write_timeout`](Self::write_timeout) | 30 s | closed |
/// | [`write_rate`](Self::write_rate) | 1 KiB | closed |
/// | [`half_close`](Self::half_close) | 1 s | a silent stream ends |
/// | [`max_buffer`](Self::max_buffer) | 64 KiB | nothing more is read |
/// | [`idle_timeout`](Self::idle_timeout) | 75 s | closed |
/// | [`max_requests`](Self::max_requests) | 100 000 | closed after the response |
/// | [`max_connections`](Self::max_connections) | 16 384 | the longest idle one is closed; if none is idle, further ones wait |
/// | [`background_tasks`](Self::background_tasks) | 10 000 | 503 with `Retry-After` |
/// | [`background_tasks_per_request`](Self::background_tasks_per_request) | 1 000 | 503 with `Retry-After` |
/// | [`background_tasks_per_peer`](Self::background_tasks_per_peer) | 7 500 | 503 with `Retry-After` |
/// | [`background_threads`](Self::background_threads) | 4 | jobs wait for a thread |
/// | [`drain_limit`](Self::drain_limit) | 30 s | reported |
///
/// Two limits are fixed. If a handler leaves more than 64 KiB of a body unread, the connection
/// closes after the response. If the process has no file descriptor left, the longest idle
/// connection is closed, and the server tries again after 100 ms; with
/// [`run`](crate::http::Server::run) that is rare, as it takes no more connections than fit.
///
/// Invalid messages are refused by [`parse`](crate::http::parse#errors), `CONNECT` is a 501.
///
/// A connection that waits for a request holds at most 1 KiB (`tests/http_memory.rs`). During a
/// request it holds, too:
///
/// - the bytes read: 8 KiB (none while it waits for a handler or a stream, and the client sends
///   nothing), up to twice `head.head_bytes` while a head is incomplete, and up to 128
///   KiB while a body comes fast;
/// - the responses that wait to be written;
/// - the part of the body that the handler collects, at most `max_body`.
///
/// The allocator may keep freed memory. That of glibc does so with large bodies, unless
/// `MALLOC_MMAP_THRESHOLD_` is set in the environment (mallopt(3)).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// use postlude::http::{Limits, Router, Server};
/// let limits = Limits { idle_timeout: Duration::from_secs(5), max_body: 64 * 1024, ..Limits::default() };
/// let server = Server::bind("127.0.0.1:0", Router::new())?.limits(limits);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size of a request's head, and the number of its headers.
    pub head: HeadLimits,
    /// The time from the first byte of a head to its last. [`header_rate`](Self::header_rate)
    /// refuses a slow head earlier. A handshake of an [`Acceptor`](crate::http::Acceptor) has as
    /// long.
    pub header_timeout: Duration,
    /// Bytes per second that a head must average once [`header_grace`](Self::header_grace) is over;
    /// 0 turns the limit off. So a client gains nothing by sending a byte from time to time.
    pub header_rate: u32,
    /// The time before [`header_rate`](Self::header_rate) applies. The default leaves room for two
    /// lost packets and their retransmissions.
    pub header_grace: Duration,
    /// Bytes of a request body. [`Router::max_body`](crate::http::Router::max_body) and
    /// [`Endpoint::max_body`](crate::http::Endpoint::max_body) override it for a group and a route.
    pub max_body: u64,
    /// Bytes that clients may make the server hold, in all. It counts the bodies that handlers
    /// collect ([`Body::collect`](crate::http::Body::collect), and extractors such as `Json`,
    /// `Vec<u8>` and `String`), until their handler has ended and their request's background tasks
    /// are over, and the output that clients are slow to read. It does not count what a handler
    /// makes of the pieces of a body, nor the buffers of requests under way: see below.
    ///
    /// - Bodies have half of it. Beyond that, those being collected that received least in the last
    ///   second are answered 503 with `Retry-After`.
    /// - While whole bodies take more than half of that half, a request with a body waits, for at
    ///   most [`body_timeout`](Self::body_timeout), and is then a 503, too. Requests without a body
    ///   go on.
    /// - Output has the other half. Beyond that, the clients that have read least in the last
    ///   second
    ///   are cut off, but for the largest output: any one response can be sent.
    ///
    /// At least twice `max_body` is allowed, so that one body always fits. With a larger limit for
    /// a group or a route set this one, too.
    pub memory: usize,
    /// Pairs of a [`Form`](crate::http::Form) or a [`Query`](crate::http::Query), empty ones
    /// included. They are counted before any is decoded: a million pairs fit into 2 MiB, and would
    /// hold up the loop for a tenth of a second. JSON is limited by its bytes alone.
    pub max_pairs: usize,
    /// The extensions and trailers of a chunked body.
    pub chunks: BodyLimits,
    /// The time that a handler may wait for bytes of a request body. Time counts only while the
    /// handler asks for bytes and there are none. Received bytes earn it back at
    /// [`body_rate`](Self::body_rate), so a body of any size may come.
    pub body_timeout: Duration,
    /// Bytes of a request body that earn back a second of [`body_timeout`](Self::body_timeout): the
    /// average per second that a client must keep. With 0 any byte earns all of it back, and a
    /// client may send one just in time forever.
    pub body_rate: u32,
    /// The time that responses may wait for a client that does not read them. Bytes that the kernel
    /// accepts earn it back at [`write_rate`](Self::write_rate), so a response of any size may be
    /// sent. Beyond it [`Request::on_delivery`](crate::http::Request::on_delivery) reports an
    /// incomplete response.
    ///
    /// The kernel buffers some hundred kilobytes for a slow client before anything waits here.
    pub write_timeout: Duration,
    /// Bytes of responses that earn back a second of [`write_timeout`](Self::write_timeout): the
    /// average per second that a client must keep. With 0 any byte earns all of it back.
    pub write_rate: u32,
    /// The time for which a [`Response::stream`](crate::http::Response::stream) may be silent after
    /// its client has ended its sending (FIN). Then the connection closes in the middle of the
    /// response. [`sse`](crate::http::sse()) sends comments during this time instead.
    ///
    /// A client that only half-closes still reads, and gets the pieces that the stream has. One
    /// that has closed its socket looks the same until a piece is written. A response of known
    /// length is not limited: it ends by itself.
    pub half_close: Duration,
    /// Bytes of responses that may wait for a client before the server stops reading its requests
    /// and polling its response's stream. One more response or piece may wait, since it is already
    /// made.
    pub max_buffer: usize,
    /// The time that a connection may stay open without a request. Behind a load balancer it must
    /// be longer than the balancer's own, often 60 s: otherwise a request may meet the closing
    /// socket.
    pub idle_timeout: Duration,
    /// Requests of one connection; 0 counts as 1. The last response says `Connection: close`. The
    /// client has to repeat the requests that it pipelined after it (RFC 9112 section 9.6).
    pub max_requests: u32,
    /// Open connections; 0 counts as 1. For a further one the longest idle one is closed: one
    /// without a request, with half a head, or in its handshake. If all are busy, further ones wait
    /// in the kernel's queue; the server refuses none.
    ///
    /// [`Server::run`](crate::http::Server::run) takes fewer if the process may not have as many
    /// descriptors.
    ///
    /// A connection whose client has gone, and whose handler still runs, counts only when there are
    /// as many of these as this limit.
    pub max_connections: usize,
    /// Background tasks of the server that wait or run. Beyond it adding one is
    /// [`Full`](crate::http::AddError::Full).
    ///
    /// While more than half of it are ready to run on the loop, the server pauses before each
    /// request, at most a second, so that clients wait a moment instead of being refused. Tasks
    /// that wait for a timer, a thread or a socket pause nothing.
    pub background_tasks: usize,
    /// Background tasks of one request that wait. Beyond it adding one is
    /// [`Full`](crate::http::AddError::Full).
    pub background_tasks_per_request: usize,
    /// Background tasks that the requests of one client address have left and that wait or run, so
    /// that no client takes every place. Beyond it adding one is
    /// [`Full`](crate::http::AddError::Full).
    ///
    /// All connections from an IPv4 address count together, and all from a /64 of IPv6. Connections
    /// without an address have no such limit. **Behind a proxy** every client has the proxy's
    /// address, unless the server believes it
    /// ([`trusted_proxies`](crate::http::Server::trusted_proxies)). Without that set it
    /// to [`background_tasks`](Self::background_tasks), which turns it off, and let the proxy limit
    /// its clients.
    pub background_tasks_per_peer: usize,
    /// Threads for blocking background tasks; 0 counts as 1.
    pub background_threads: usize,
    /// The time that a stopping server waits for responses and background tasks before it cancels
    /// and reports them.
    pub drain_limit: Duration,
}

/// No client on a line still in use is slower; an attacker sends a byte per second or less.
const HEADER_RATE: u32 = 256;
/// Slower than any modem. Bodies and responses average it over `body_timeout` and `write_timeout`.
const RATE: u32 = 1024;
/// As in PHP and Django: more than any form that people fill in.
const PAIRS: usize = 1000;
/// An idle connection costs at most 1 KiB here and some more in the kernel, a busy one up to 200
/// KiB beside its handler. Ten thousand are no burden; a hundred thousand should be a decision.
const CONNECTIONS: usize = 16 * 1024;

/// Three quarters of all. Less than half would refuse the tasks of a proxy's clients before the
/// server slows them down; a quarter is left for the others.
const TASKS_PER_PEER: usize = 7_500;

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            header_timeout: Duration::from_secs(10),
            header_rate: HEADER_RATE,
            header_grace: Duration::from_secs(5),
            max_body: 2 * 1024 * 1024,
            memory: 128 * 1024 * 1024,
            max_pairs: PAIRS,
            chunks: BodyLimits::default(),
            body_timeout: Duration::from_secs(30),
            body_rate: RATE,
            write_timeout: Duration::from_secs(30),
            write_rate: RATE,
            half_close: Duration::from_secs(1),
            max_buffer: 64 * 1024,
            idle_timeout: Duration::from_secs(75),
            max_requests: 100_000,
            max_connections: CONNECTIONS,
            background_tasks: 10_000,
            background_tasks_per_request: 1_000,
            background_tasks_per_peer: TASKS_PER_PEER,
            background_threads: 4,
            drain_limit: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Raises to 1 the numbers that must be positive.
    pub(crate) fn normalised(self) -> Self {
        Self {
            memory: self.memory.max(usize::try_from(self.max_body.saturating_mul(2)).unwrap_or(usize::MAX)),
            max_requests: self.max_requests.max(1),
            max_connections: self.max_connections.max(1),
            background_threads: self.background_threads.max(1),
            ..self
        }
    }
}
