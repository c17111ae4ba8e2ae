//! What a server refuses or cuts off: counted by kind, and told to a hook or on stderr.
//!
//! Nothing here runs for a request that is served. A refusal costs a count and a short text.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use http::StatusCode;

use super::peer::Peer;
use crate::http::background::{say, text_of};
use crate::stderr::Limited;
use crate::time::now;

/// What a server refuses or cuts off, and why. The limits are those of
/// [`Limits`](crate::http::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// A request's head is invalid or too large: 400, 414, 417, 431, 501 or 505.
    Head,
    /// A head did not arrive in time: 408.
    HeadTimeout,
    /// A body is larger than `max_body`: 413.
    BodyTooLarge,
    /// A body is not framed as HTTP asks, or exceeds a limit of its framing: 400, 413 or 431.
    BodyFraming,
    /// A body did not arrive in time: 408.
    BodyTimeout,
    /// A form or query has more than `max_pairs`: 413 or 400.
    Pairs,
    /// A client did not take its answer in time. The connection was cut.
    WriteTimeout,
    /// `memory` is used up: 503, or the connection was cut.
    Memory,
    /// A background task did not fit, or came while the server stops: 503.
    Tasks,
    /// A request waits because too many background tasks are ready to run.
    Pause,
    /// A connection failed before its first request: the TLS or PROXY handshake.
    Handshake,
    /// `max_connections` are open, and all are busy. Further ones wait in the kernel's queue.
    Connections,
    /// The longest idle connection was closed for a new one.
    GaveWay,
    /// The process has no descriptor or memory for another connection. They wait for 100 ms.
    Descriptors,
}

const KINDS: usize = 14;

impl Refusal {
    /// All kinds, for a program that shows each.
    pub const ALL: [Self; KINDS] = [
        Self::Head,
        Self::HeadTimeout,
        Self::BodyTooLarge,
        Self::BodyFraming,
        Self::BodyTimeout,
        Self::Pairs,
        Self::WriteTimeout,
        Self::Memory,
        Self::Tasks,
        Self::Pause,
        Self::Handshake,
        Self::Connections,
        Self::GaveWay,
        Self::Descriptors,
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "refused an invalid head",
            Self::HeadTimeout => "refused a slow head",
            Self::BodyTooLarge => "refused a large body",
            Self::BodyFraming => "refused an invalid body",
            Self::BodyTimeout => "refused a slow body",
            Self::Pairs => "refused a form or query with too many pairs",
            Self::WriteTimeout => "cut off a client that takes no answer",
            Self::Memory => "gave up a client for lack of memory",
            Self::Tasks => "refused a background task",
            Self::Pause => "paused a request, because background tasks have piled up",
            Self::Handshake => "closed a connection that failed in its handshake",
            Self::Connections => "stopped accepting for a while: all places are taken",
            Self::GaveWay => "closed the longest idle connection for a new one",
            Self::Descriptors => "stopped accepting for 100 ms: no descriptor or memory is left",
        })
    }
}

/// One refusal, as [`Server::on_refusal`](crate::http::Server::on_refusal) gets it. It displays as
/// a line without line end and without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusalInfo {
    /// The kind.
    pub what: Refusal,
    /// The other end of the connection; unknown if there is none yet.
    pub peer: Peer,
    /// The status of the answer; `None` if there was none, or not yet.
    pub status: Option<StatusCode>,
    /// The request line, cut at 128 bytes, with all but graphic ASCII escaped; empty if unknown.
    pub request: String,
    /// More about the reason; may be empty.
    pub detail: String,
}

impl fmt::Display for RefusalInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, peer, status, request, detail } = self;
        write!(f, "{what}")?;
        if let Some(status) = status {
            write!(f, " with {}", status.as_str())?;
        }
        if *peer != Peer::Unknown {
            write!(f, " (from {peer})")?;
        }
        if !detail.is_empty() {
            write!(f, ": {}", detail.escape_debug())?;
        }
        if !request.is_empty() {
            write!(f, " ({request})")?;
        }
        Ok(())
    }
}

/// Returns the first line of a request for reports: cut, and escaped so that no byte of it can
/// forge a line or move a cursor.
pub(crate) fn shown(request: &[u8]) -> String {
    const SHOWN: usize = 128;
    let line = request.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let cut = line.len() > SHOWN;
    let escaped = line[..line.len().min(SHOWN)].iter().flat_map(|&byte| match byte {
        b' '..=b'~' => vec![char::from(byte)],
        _ => format!("\\x{byte:02x}").chars().collect(),
    });
    escaped.chain(cut.then_some('…')).collect()
}

pub(crate) type RefusalHook = Box<dyn Fn(&RefusalInfo)>;

/// Counts what a server refuses, by kind: see [`Server::refused`](crate::http::Server::refused). It
/// is an extractor, too, for a route that shows the counts. A clone shows the same counts.
///
/// ```
/// use postlude::http::{Refusal, Refused, Router};
/// let app = Router::new().get("/refused", async |refused: Refused| {
///     format!("{} in all, {} of them bodies", refused.total(), refused.count(Refusal::BodyTooLarge))
/// });
/// ```
#[derive(Clone)]
pub struct Refused(Rc<Refusals>);

struct Refusals {
    counts: [Cell<u64>; KINDS],
    hook: Option<RefusalHook>,
    /// For a server without a hook.
    lines: Limited,
}

impl Refused {
    pub(crate) fn new(hook: Option<RefusalHook>) -> Self {
        Self(Rc::new(Refusals { counts: Default::default(), hook, lines: Limited::new("refused requests") }))
    }

    /// Returns how many of this kind there were.
    #[must_use]
    pub fn count(&self, what: Refusal) -> u64 {
        self.0.counts[what as usize].get()
    }

    /// Returns how many there were of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.counts.iter().map(Cell::get).sum()
    }

    /// Counts a refusal and tells of it. `request` begins with the request line, if that is known.
    #[cold]
    pub(crate) fn tell(&self, what: Refusal, peer: Peer, status: Option<StatusCode>, request: &[u8], detail: &str) {
        let Refusals { counts, hook, lines } = &*self.0;
        let count = &counts[what as usize];
        count.set(count.get() + 1);
        let info = RefusalInfo { what, peer, status, request: shown(request), detail: detail.to_owned() };
        let Some(hook) = hook else { return lines.line(now(), format_args!("postlude: {info}")) };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(&info))) {
            say(format_args!("{info}; the hook for it panicked: {}", text_of(payload)));
        }
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Refusal::ALL.iter().map(|what| (what, self.count(*what)));
        f.write_str("Refused ")?;
        f.debug_map().entries(counts.filter(|(_, count)| *count > 0)).finish()
    }
}
