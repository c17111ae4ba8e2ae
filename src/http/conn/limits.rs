//! The limits of a server: one struct of public fields, whose documentation is the table of all of
//! them.

use std::time::Duration;

use crate::http::wire::chunked::BodyLimits;
use crate::http::wire::parse::HeadLimits;

/// The limits of a [`Server`](crate::http::Server), all on by default.
///
/// A response with one of these statuses says `Connection: close`, and the connection ends after
/// it.
///
/// | limit | default | beyond it |
/// | --- | --- | --- |
/// | [`head.head_bytes`](HeadLimits::head_bytes) | 16 KiB | 431 |
/// | [`head.target_bytes`](HeadLimits::target_bytes) | 8 KiB | 414 |
/// | [`head.fields`](HeadLimits::fields) | 100 | 431 |
/// | [`header_timeout`](Self::header_timeout) | 10 s | 408 |
/// | [`header_rate`](Self::header_rate) | 256 | 408 |
/// | [`header_grace`](Self::header_grace) | 5 s | the rate holds |
/// | [`max_body`](Self::max_body) | 2 MiB | 413 |
/// | [`chunks.extension_bytes`](BodyLimits::extension_bytes) | 16 KiB | 413 |
/// | [`chunks.trailer_bytes`](BodyLimits::trailer_bytes) | 16 KiB | 431 |
/// | [`chunks.trailer_fields`](BodyLimits::trailer_fields) | 100 | 431 |
/// | [`body_timeout`](Self::body_timeout) | 30 s | 408 |
/// | [`body_rate`](Self::body_rate) | 1 KiB | 408 |
/// | [`write_timeout`](Self::write_timeout) | 30 s | closed |
/// | [`write_rate`](Self::write_rate) | 1 KiB | closed |
/// | [`max_buffer`](Self::max_buffer) | 64 KiB | nothing more is read |
/// | [`idle_timeout`](Self::idle_timeout) | 60 s | closed |
/// | [`max_requests`](Self::max_requests) | 100 000 | closed after the response |
/// | [`max_connections`](Self::max_connections) | 16 384 | they wait in the kernel's queue |
/// | [`background_tasks`](Self::background_tasks) | 10 000 | 503 with `Retry-After` |
/// | [`background_tasks_per_request`](Self::background_tasks_per_request) | 1 000 | 503 with `Retry-After` |
/// | [`background_threads`](Self::background_threads) | 4 | jobs wait for a thread |
/// | [`drain_limit`](Self::drain_limit) | 30 s | reported |
///
/// Three limits cannot be set: a handler may leave 64 KiB of a body unread before the connection
/// closes after the response; requests wait, for a second at most, while more than half of
/// `background_tasks` are ready to run; and connections wait, and are tried again every 100 ms,
/// while the system has no open files left (`ulimit -n`).
///
/// A head or a body that breaks the rules of HTTP/1.1 is 400, an unknown transfer coding, an
/// endless method or `CONNECT` 501, another major version 505, an unknown expectation 417.
///
/// Memory: a connection that waits for a request holds about a kilobyte. While it is served it
/// holds the bytes read of a head or body (8 KiB; while a head is incomplete at most twice the
/// limit of a head; while a body comes fast 128 KiB), the responses that wait, and whatever the
/// handler collects, at most the limit of a body. The process's allocator may keep freed memory:
/// glibc's does so with large bodies, unless `MALLOC_MMAP_THRESHOLD_` is set in its environment
/// (mallopt(3)).
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
    /// Bytes and fields of a request's head: 16 KiB in all, 8 KiB for the target, 100 fields.
    /// Beyond it the response is 431, for the target 414.
    pub head: HeadLimits,

    /// The time from the first byte of a head to its last, however short the gaps: 10 s. Beyond it
    /// the response is
    /// 408. A slow head is refused earlier: see [`header_rate`](Self::header_rate).
    pub header_timeout: Duration,

    /// Bytes per second that a head must average once it has taken
    /// [`header_grace`](Self::header_grace): 256, or 0 for any number. Below it the response is
    /// 408.
    ///
    /// So a client that sends a byte just in time holds its connection no longer than one that
    /// sends none.
    pub header_rate: u32,

    /// The time for which [`header_rate`](Self::header_rate) does not hold yet: 5 s. Two lost
    /// packets and their repetitions fit into it.
    pub header_grace: Duration,

    /// Bytes of a request body: 2 MiB. Beyond it the response is 413.
    /// [`Router::max_body`](crate::http::Router::max_body) and
    /// [`Endpoint::max_body`](crate::http::Endpoint::max_body) set it for a group of routes or one
    /// route.
    pub max_body: u64,

    /// Chunk extensions and trailers of a chunked body: 16 KiB of extensions per body, beyond it
    /// 413; 16 KiB and 100 fields of trailers, beyond it 431.
    pub chunks: BodyLimits,

    /// The time a handler may wait for a request body: 30 s. Beyond it the response is 408.
    ///
    /// The body's bytes earn the time back, as [`body_rate`](Self::body_rate) says, so a body of
    /// any size may come. Only the time counts in which the handler asks for bytes and there are
    /// none.
    pub body_timeout: Duration,

    /// Bytes of a request body that earn back one second of [`body_timeout`](Self::body_timeout),
    /// and so the average per second that a client must keep: 1024. With 0 any byte earns all of it
    /// back, and a client may send one just in time for ever.
    pub body_rate: u32,

    /// The time responses may wait for a client that does not read them: 30 s. Beyond it the
    /// connection is closed, and [`Request::on_delivery`](crate::http::Request::on_delivery)
    /// reports an incomplete response.
    ///
    /// The bytes that the kernel accepts earn the time back, as [`write_rate`](Self::write_rate)
    /// says, so a response of any size may be sent. The kernel's buffer lets the client fall behind
    /// by some hundred kilobytes before anything waits here.
    pub write_timeout: Duration,

    /// Bytes of responses that earn back one second of [`write_timeout`](Self::write_timeout), and
    /// so the average per second that a client must keep: 1024. With 0 any byte earns all of it
    /// back.
    pub write_rate: u32,

    /// Bytes of responses that may wait for one client before the server reads no further request
    /// of it and asks a stream for no further piece: 64 KiB. One response or one piece more may be
    /// held, since the handler has made it.
    pub max_buffer: usize,

    /// The time a connection may stay open without a request: 60 s. Then it is closed.
    pub idle_timeout: Duration,

    /// Requests of one connection: 100 000; 0 counts as 1. The last response says
    /// `Connection: close`, and the connection ends after it; the client has to send again whatever
    /// it sent behind that request (RFC 9112 section 9.6).
    pub max_requests: u32,

    /// Connections open at once: 16 384; 0 counts as 1. Further ones wait in the kernel's queue
    /// until one ends: none is refused. The same happens when the system gives no more open files
    /// (`ulimit -n`).
    pub max_connections: usize,

    /// Background tasks of the server that wait or run: 10 000. Beyond it adding one gives
    /// [`Full`](crate::http::AddError::Full), a 503 with `Retry-After`.
    ///
    /// While more than half as many are ready to run on the loop, the server pauses before it
    /// begins another request, for a second at most, so that clients wait a moment instead of being
    /// refused. Tasks that wait for a timer, a thread or a socket pause nothing.
    pub background_tasks: usize,

    /// Background tasks of one request that wait: 1 000. Beyond it adding one gives
    /// [`Full`](crate::http::AddError::Full), a 503 with `Retry-After`.
    pub background_tasks_per_request: usize,

    /// Blocking background tasks that run at once, on threads of their own: 4; 0 counts as 1.
    /// Further ones wait for a thread.
    pub background_threads: usize,

    /// The time a stop waits for responses and background tasks: 30 s. Beyond it they are cancelled
    /// and reported.
    pub drain_limit: Duration,
}

/// A head slower than this comes from no client on any line that still exists; an attacker sends a
/// byte a second or less.
const HEADER_RATE: u32 = 256;
/// Two lost packets and their repetitions fit into it.
const HEADER_GRACE: Duration = Duration::from_secs(5);
/// Bytes per second of bodies and responses, averaged over `body_timeout` and `write_timeout`:
/// slower than any modem.
const RATE: u32 = 1024;
/// A waiting connection costs about a kilobyte here and some more in the kernel, a busy one 200 KiB
/// at worst before its handler's own needs: ten thousand are no burden, a hundred thousand should
/// be a decision.
const CONNECTIONS: usize = 16 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            header_timeout: Duration::from_secs(10),
            header_rate: HEADER_RATE,
            header_grace: HEADER_GRACE,
            max_body: 2 * 1024 * 1024,
            chunks: BodyLimits::default(),
            body_timeout: Duration::from_secs(30),
            body_rate: RATE,
            write_timeout: Duration::from_secs(30),
            write_rate: RATE,
            max_buffer: 64 * 1024,
            idle_timeout: Duration::from_secs(60),
            max_requests: 100_000,
            max_connections: CONNECTIONS,
            background_tasks: 10_000,
            background_tasks_per_request: 1_000,
            background_threads: 4,
            drain_limit: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The values the server works with: none of the numbers that must be positive is zero.
    pub(crate) fn normalised(self) -> Self {
        let max_requests = self.max_requests.max(1);
        let max_connections = self.max_connections.max(1);
        let background_threads = self.background_threads.max(1);
        Self { max_requests, max_connections, background_threads, ..self }
    }
}
