//! Parses request heads, incrementally and in place.
//!
//! A head is a sequence of lines. Each line is examined once, when its end has arrived:
//!
//! ```text
//! loop:
//!   1. find the next LF, beginning where the last search stopped      (memchr; not found: wait for more, or too long)
//!   2. the byte before it must be CR
//!   3. no line yet:     an empty line is skipped, anything else is the request line
//!      otherwise:       an empty line ends the head, anything else is a header
//! ```
//!
//! The result is a [`Head`], a record of `u32` byte ranges that the caller owns and reuses. Parsing
//! copies no byte, and allocates nothing once the record has grown to the size of usual requests.
//! The headers that decide about framing and the connection (Host, Content-Length,
//! Transfer-Encoding, Connection, Expect, Upgrade) are evaluated as they are parsed, so nothing is
//! searched for afterwards.
//!
//! # How it works
//!
//! [`HeadParser`] has two states, request line and headers. It remembers where the current line
//! begins and how far it was searched. At the empty line the head is complete: [`Head::framing`]
//! says how its body ends, and a [`Decoder`](super::chunked::Decoder) takes the body from the bytes
//! that follow.
//!
//! # Errors
//!
//! An [`Error`] has a [kind](ErrorKind), an [offset](Error::offset) from the beginning of the head
//! or body, and a status:
//!
//! | kinds | status |
//! | --- | --- |
//! | [`TargetTooLong`](ErrorKind::TargetTooLong) | 414 |
//! | [`HeadTooLarge`](ErrorKind::HeadTooLarge), [`TooManyFields`](ErrorKind::TooManyFields), [`TrailersTooLarge`](ErrorKind::TrailersTooLarge) | 431 |
//! | [`ChunkSizeOverflow`](ErrorKind::ChunkSizeOverflow), [`ChunkExtensionsTooLarge`](ErrorKind::ChunkExtensionsTooLarge) | 413 |
//! | [`UnsupportedExpectation`](ErrorKind::UnsupportedExpectation) | 417 |
//! | [`MethodTooLong`](ErrorKind::MethodTooLong), [`UnsupportedTransferEncoding`](ErrorKind::UnsupportedTransferEncoding) | 501 |
//! | [`UnsupportedVersion`](ErrorKind::UnsupportedVersion) | 505 |
//! | all others | 400 |
//!
//! # Invariants
//!
//! * The result (value, error kind, error offset) does not depend on how the input is cut into
//!   calls. An error is decided from whole lines, or from the first bytes of a line up to its
//!   limit.
//! * Each byte is searched for LF once and classified once, so the work is O(n).
//! * Ambiguous input is refused (RFC 9112 section 11.2): bare LF, bare CR, folded headers, space
//!   before a colon, repeated framing headers, Content-Length beside Transfer-Encoding.
//!
//! # Liberties
//!
//! * ``[ ] { } | ^ ` \ `` and a `%` without two hexadecimal digits are accepted in paths and
//!   queries: browsers send them (`?q=50%`), and no parser ends the target elsewhere because of
//!   them. They are opaque here; the code that decodes a path or a query judges them. Hosts stay
//!   strict.
//! * `HTTP/1.2` to `HTTP/1.9` are processed as 1.1 (RFC 9110 section 2.5).
//! * An IP literal is an IPv6 address. The `v1.` forms of RFC 3986 are refused: no client uses
//!   them.

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Range;

use memchr::memchr;

/// Cookies and a long referrer fit; larger heads are an attack or a bug (RFC 9110 section 5.4).
const HEAD_BYTES: usize = 16 * 1024;
/// RFC 9112 section 3 asks for at least 8000.
const TARGET_BYTES: usize = 8 * 1024;
/// Browsers send 10 to 20 headers, chains of proxies add as many.
const FIELDS: usize = 100;
/// The longest registered method, `UPDATEREDIRECTREF`, has 17.
const METHOD_BYTES: usize = 64;
/// Two spaces, `HTTP/1.1` and the line end.
const REQUEST_LINE_REST: usize = 12;
/// Old clients send an empty line after a body, and RFC 9112 section 2.2 asks to ignore one. A
/// flood of them is an error.
const EMPTY_LINES: u8 = 4;

/// Limits of a request head's size (RFC 9112 section 3, RFC 9110 section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, its last line end included; above it, 431. Capped at `u32::MAX`.
    pub head_bytes: usize,
    /// Bytes of the request target; above it, 414.
    pub target_bytes: usize,
    /// Number of headers; above it, 431.
    #[doc(alias = "headers")]
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes: HEAD_BYTES, target_bytes: TARGET_BYTES, fields: FIELDS }
    }
}

/// The version a request is processed as (RFC 9112 section 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `HTTP/1.0`: closes by default, and has neither chunked bodies nor `100 Continue`.
    Http10,
    /// `HTTP/1.1`, and every later minor version.
    #[default]
    Http11,
}

/// How a body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: there is no body.
    #[default]
    None,
    /// `Content-Length`: this many bytes, possibly zero.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The reason a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// More than four empty lines before the request (RFC 9112 section 2.2).
    EmptyLines,
    /// A line ends in LF without CR (RFC 9112 section 2.2).
    BareLf,
    /// A CR that no LF follows (RFC 9112 section 2.2).
    BareCr,
    /// The request line is not method, space, target, space, version (RFC 9112 section 3).
    InvalidRequestLine,
    /// The method is not a token (RFC 9110 section 9.1).
    InvalidMethod,
    /// The method is longer than 64 bytes, more than any registered one (RFC 9112 section 3).
    MethodTooLong,
    /// The target has a form its method does not allow, or an invalid byte (RFC 9112 section 3.2).
    InvalidTarget,
    /// The target is longer than [`HeadLimits::target_bytes`] (RFC 9112 section 3).
    TargetTooLong,
    /// The version is not `HTTP/` digit `.` digit (RFC 9112 section 2.3).
    InvalidVersion,
    /// A version other than 1.x (RFC 9110 section 15.6.6).
    UnsupportedVersion,
    /// The head is larger than [`HeadLimits::head_bytes`] (RFC 6585 section 5).
    HeadTooLarge,
    /// More headers than [`HeadLimits::fields`], or trailers than `BodyLimits::trailer_fields` (RFC
    /// 6585 section 5).
    TooManyFields,
    /// A line begins with white space: a folded header (RFC 9112 section 5.2).
    ObsFold,
    /// A header without a colon (RFC 9112 section 5).
    MissingColon,
    /// White space between a header's name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A header name that is not a token (RFC 9110 section 5.1).
    InvalidFieldName,
    /// A control byte in a header value (RFC 9110 section 5.5).
    InvalidFieldValue,
    /// HTTP/1.1 without a Host header (RFC 9112 section 3.2).
    MissingHost,
    /// More than one Host header (RFC 9112 section 3.2).
    DuplicateHost,
    /// A Host header that is not a host and an optional port (RFC 9112 section 3.2).
    InvalidHost,
    /// A Content-Length that is not a 64-bit number (RFC 9112 section 6.3).
    InvalidContentLength,
    /// More than one Content-Length (RFC 9112 section 6.3).
    DuplicateContentLength,
    /// `chunked` is not the final coding, or is applied twice (RFC 9112 section 6.3).
    InvalidTransferEncoding,
    /// An unsupported coding before `chunked` (RFC 9112 section 6.1).
    UnsupportedTransferEncoding,
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1).
    TransferEncodingInHttp10,
    /// Content-Length and Transfer-Encoding together (RFC 9112 section 6.3).
    ConflictingFraming,
    /// An Expect other than `100-continue` (RFC 9110 section 10.1.1).
    UnsupportedExpectation,
    /// A chunk size that is not hexadecimal digits (RFC 9112 section 7.1).
    InvalidChunkSize,
    /// A chunk size above 64 bits (RFC 9112 section 7.1).
    ChunkSizeOverflow,
    /// A malformed chunk extension (RFC 9112 section 7.1.1).
    InvalidChunkExtension,
    /// More bytes of extensions than `BodyLimits::extension_bytes` (RFC 9112 section 7.1.1).
    ChunkExtensionsTooLarge,
    /// No CRLF after a chunk size or chunk data (RFC 9112 section 7.1).
    InvalidChunkEnd,
    /// More bytes of trailers than `BodyLimits::trailer_bytes` (RFC 9112 section 7.1.2).
    TrailersTooLarge,
}

impl ErrorKind {
    /// The fault and its remedy for the client, and the RFC section that says so.
    fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::EmptyLines => ("too many `empty lines`: send the request line", "9112 section 2.2"),
            Self::BareLf => ("bare `LF`: end lines with `CRLF`", "9112 section 2.2"),
            Self::BareCr => ("bare `CR`: end lines with `CRLF`", "9112 section 2.2"),
            Self::InvalidRequestLine => {
                ("invalid `request line`: send method, target and version, one space between", "9112 section 3")
            }
            Self::InvalidMethod => ("invalid `method`: send a token", "9110 section 9.1"),
            Self::MethodTooLong => ("unknown `method`: too long for any known one", "9112 section 3"),
            Self::InvalidTarget => ("invalid `target`: send an absolute path, percent-encoded", "9112 section 3.2"),
            Self::TargetTooLong => ("too long `target`: send less, or raise the limit", "9112 section 3"),
            Self::InvalidVersion => ("invalid `version`: send `HTTP/1.1`", "9112 section 2.3"),
            Self::UnsupportedVersion => ("unsupported `version`: send `HTTP/1.1`", "9110 section 15.6.6"),
            Self::HeadTooLarge => ("too large `head`: send less, or raise the limit", "6585 section 5"),
            Self::TooManyFields => ("too many `fields`: send fewer, or raise the limit", "6585 section 5"),
            Self::ObsFold => ("folded `field`: send it on one line", "9112 section 5.2"),
            Self::MissingColon => ("invalid `field line`: no colon", "9112 section 5"),
            Self::SpaceBeforeColon => ("white space before `:`: leave it out", "9112 section 5.1"),
            Self::InvalidFieldName => ("invalid `field name`: send a token", "9110 section 5.1"),
            Self::InvalidFieldValue => ("control byte in a `field value`: leave it out", "9110 section 5.5"),
            Self::MissingHost => ("missing `Host`: send exactly one", "9112 section 3.2"),
            Self::DuplicateHost => ("repeated `Host`: send exactly one", "9112 section 3.2"),
            Self::InvalidHost => ("invalid `Host`: send a host and an optional port", "9112 section 3.2"),
            Self::InvalidContentLength => ("invalid `Content-Length`: send decimal digits", "9112 section 6.3"),
            Self::DuplicateContentLength => ("repeated `Content-Length`: send one", "9112 section 6.3"),
            Self::InvalidTransferEncoding => ("invalid `Transfer-Encoding`: send `chunked`, once", "9112 section 6.3"),
            Self::UnsupportedTransferEncoding => {
                ("unsupported `Transfer-Encoding`: send `chunked` alone", "9112 section 6.1")
            }
            Self::TransferEncodingInHttp10 => {
                ("`Transfer-Encoding` in HTTP/1.0: send `Content-Length`", "9112 section 6.1")
            }
            Self::ConflictingFraming => {
                ("`Content-Length` beside `Transfer-Encoding`: send one of them", "9112 section 6.3")
            }
            Self::UnsupportedExpectation => {
                ("unsupported `Expect`: send `100-continue` or nothing", "9110 section 10.1.1")
            }
            Self::InvalidChunkSize => ("invalid `chunk size`: send hexadecimal digits", "9112 section 7.1"),
            Self::ChunkSizeOverflow => ("too large `chunk size`: send smaller chunks", "9112 section 7.1"),
            Self::InvalidChunkExtension => ("invalid `chunk extension`: leave it out", "9112 section 7.1.1"),
            Self::ChunkExtensionsTooLarge => ("too large `chunk extensions`: leave them out", "9112 section 7.1.1"),
            Self::InvalidChunkEnd => {
                ("missing `CRLF` in the chunked body: end sizes and data with it", "9112 section 7.1")
            }
            Self::TrailersTooLarge => ("too large `trailers`: send less, or raise the limit", "9112 section 7.1.2"),
        }
    }
}

/// The error of a refused message: why, where, and the status to answer with. The connection cannot
/// go on (RFC 9112 section 2.2).
///
/// ```
/// use postlude::http::parse::{ErrorKind, Head, HeadLimits, HeadParser};
/// let mut parser = HeadParser::new(HeadLimits::default());
/// let error = parser.parse(b"GET / HTTP/1.1\r\nHost : a\r\n", &mut Head::default()).unwrap_err();
/// assert_eq!((error.kind, error.status(), error.offset), (ErrorKind::SpaceBeforeColon, 400, 20));
/// assert_eq!(error.to_string(), "white space before `:`: leave it out (RFC 9112 section 5.1, at byte 20)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    /// The reason.
    pub kind: ErrorKind,
    /// The position in bytes from the beginning of the head, or of the body: of the invalid byte if
    /// there is one, else of the line or value, or the exceeded limit.
    pub offset: usize,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }

    /// Returns the status to answer with: 400, 413, 414, 417, 431, 501 or 505 (RFC 9110 section
    /// 15.5).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            ErrorKind::TargetTooLong => 414,
            ErrorKind::HeadTooLarge | ErrorKind::TooManyFields | ErrorKind::TrailersTooLarge => 431,
            ErrorKind::ChunkSizeOverflow | ErrorKind::ChunkExtensionsTooLarge => 413,
            ErrorKind::UnsupportedExpectation => 417,
            ErrorKind::MethodTooLong | ErrorKind::UnsupportedTransferEncoding => 501,
            ErrorKind::UnsupportedVersion => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, section) = self.kind.text();
        write!(f, "{text} (RFC {section}, at byte {})", self.offset)
    }
}

impl std::error::Error for Error {}

// ---- classes of bytes ---------------------------------------------------------------------------

/// Bytes of a token: methods and header names (RFC 9110 section 5.6.2).
const TCHAR: u8 = 1;
/// Bytes of a header value: VCHAR, obs-text, SP and HTAB (RFC 9110 section 5.5).
const VALUE: u8 = 2;
/// Bytes of a target: VCHAR except `"`, `#`, `<` and `>`, which browsers encode (RFC 3986 section
/// 3, see Liberties).
const TARGET: u8 = 4;
/// Bytes of a registered name: unreserved, sub-delims, `%` (RFC 3986 section 3.2.2).
const REG_NAME: u8 = 8;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = class(byte as u8);
        byte += 1;
    }
    table
}

const fn class(byte: u8) -> u8 {
    let alnum = byte.is_ascii_alphanumeric();
    let tchar = alnum || contains(b"!#$%&'*+-.^_`|~", byte);
    let value = matches!(byte, b'\t' | b' '..=b'~' | 0x80..=0xff);
    let target = byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>');
    let reg_name = alnum || contains(b"-._~!$&'()*+,;=%", byte);
    tchar as u8 * TCHAR + value as u8 * VALUE + target as u8 * TARGET + reg_name as u8 * REG_NAME
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

pub(super) fn is_tchar(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TCHAR != 0
}

pub(super) fn is_value(byte: u8) -> bool {
    CLASS[usize::from(byte)] & VALUE != 0
}

/// Returns the length of the longest prefix of `bytes` in `class`. It reads the table eight times
/// before it tests, because those reads do not depend on each other.
fn span(bytes: &[u8], class: u8) -> usize {
    let all = |chunk: &&[u8]| chunk.iter().fold(class, |all, &b| all & CLASS[usize::from(b)]) != 0;
    let whole = 8 * bytes.chunks_exact(8).take_while(all).count();
    let rest = bytes[whole..].iter().position(|&b| CLASS[usize::from(b)] & class == 0);
    rest.map_or(bytes.len(), |n| whole + n)
}

/// Finds the first byte that is invalid in a header value. Blocks are tested by arithmetic, which
/// the compiler turns into vector instructions; the table then finds the byte.
fn first_bad_value(value: &[u8]) -> Option<usize> {
    const BLOCK: usize = 16;
    let good = |block: &&[u8]| !block.iter().fold(false, |bad, &b| bad | ((b < b' ') & (b != b'\t')) | (b == 0x7f));
    let whole = BLOCK * value.chunks_exact(BLOCK).take_while(good).count();
    let rest = value[whole..].iter().position(|&b| !is_value(b));
    rest.map(|n| whole + n)
}

// ---- the record ---------------------------------------------------------------------------------

/// A byte range of the head, in 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Never truncates: the parser clamps `head_bytes` to `u32::MAX`.
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// Empty if the range is not in `bytes`, which then is another head.
    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    fn str(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.of(bytes)).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    name: Span,
    value: Span,
}

/// The four forms of RFC 9112 section 3.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TargetForm {
    #[default]
    Origin,
    Absolute,
    Authority,
    Asterisk,
}

/// A parsed request head: ranges into the bytes it was parsed from, and their meaning (RFC 9112
/// section 2.1).
///
/// The accessors take those bytes; with other bytes they return nonsense or nothing, but do not
/// panic. Make one head per connection and reuse it.
///
/// ```
/// use postlude::http::parse::{Framing, Head, HeadParser, HeadLimits, Version};
///
/// let bytes = b"POST /a?b=c HTTP/1.1\r\nHost: t.example\r\nContent-Length: 5\r\n\r\nhello";
/// let mut head = Head::default();
/// let n = HeadParser::new(HeadLimits::default()).parse(bytes, &mut head)?.expect("whole");
///
/// assert_eq!(&bytes[n..], b"hello");
/// assert_eq!((head.method(bytes), head.path(bytes), head.query(bytes)), ("POST", "/a", Some("b=c")));
/// assert_eq!((head.version(), head.framing()), (Version::Http11, Framing::Length(5)));
/// assert_eq!(head.field(bytes, "host"), Some(&b"t.example"[..]));
/// # Ok::<(), postlude::http::parse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    method: Span,
    target: Span,
    path: Span,
    /// Unset if the target has no `?`.
    query: Option<Span>,
    /// Authority of an absolute-form or authority-form target.
    authority: Option<Span>,
    form: TargetForm,
    version: Version,
    fields: Vec<Field>,
    host: Option<Span>,
    content_length: Option<u64>,
    chunked: bool,
    /// Options of any Connection header.
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    /// The request has an Upgrade header.
    upgrade_field: bool,
    /// `Expect: 100-continue`, from an HTTP/1.1 client.
    expect: bool,
}

impl Head {
    /// Returns the method as sent; methods are case-sensitive (RFC 9110 section 9.1).
    #[must_use]
    pub fn method<'a>(&self, bytes: &'a [u8]) -> &'a str {
        self.method.str(bytes)
    }

    /// Returns the whole target as sent (RFC 9112 section 3.2).
    #[must_use]
    pub fn target<'a>(&self, bytes: &'a [u8]) -> &'a str {
        self.target.str(bytes)
    }

    /// Returns the method, a space and the target, for reports.
    pub(crate) fn method_and_target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        Span { start: self.method.start, end: self.target.end }.of(bytes)
    }

    /// Returns the path, still percent-encoded: `/` if an absolute target has none, `*` for
    /// `OPTIONS *`, empty for CONNECT (RFC 9110 section 4.2.3).
    #[must_use]
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a str {
        match self.path.str(bytes) {
            "" if self.form == TargetForm::Absolute => "/",
            path => path,
        }
    }

    /// Returns the part after the first `?`, still percent-encoded (RFC 9112 section 3.2.1).
    #[must_use]
    pub fn query<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        self.query.map(|query| query.str(bytes))
    }

    /// Returns the host and port that the request is for: the target's if it names one, else those
    /// of Host (RFC 9112 section 3.3).
    #[must_use]
    pub fn authority<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        self.authority.or(self.host).map(|authority| authority.str(bytes))
    }

    /// Returns the version to process the request as (RFC 9112 section 2.3).
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Iterates over the headers in order: the name as sent, the value without surrounding white
    /// space (RFC 9112 section 5).
    #[doc(alias = "headers")]
    pub fn fields<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.fields.iter().map(|field| (field.name.str(bytes), field.value.of(bytes)))
    }

    /// Returns the value of the first header with that name, in any case (RFC 9110 section 5.1).
    #[doc(alias = "header")]
    #[must_use]
    pub fn field<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let same = |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().find(same).map(|field| field.value.of(bytes))
    }

    /// Returns how the body ends (RFC 9112 section 6.3).
    #[must_use]
    pub fn framing(&self) -> Framing {
        match (self.chunked, self.content_length) {
            (true, _) => Framing::Chunked,
            (false, Some(n)) => Framing::Length(n),
            (false, None) => Framing::None,
        }
    }

    /// Returns whether another request may follow on the connection: the client wants to go on (RFC
    /// 9112 section 9.3), and the method is not CONNECT, whose following bytes are meant for
    /// another server (RFC 9110 section 9.3.6).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        !self.close && self.form != TargetForm::Authority && (self.version == Version::Http11 || self.keep_alive)
    }

    /// Returns whether the client waits for `100 Continue` before it sends the body. Without a body
    /// and in HTTP/1.0 it never does (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expect && !matches!(self.framing(), Framing::None | Framing::Length(0))
    }

    /// Returns whether the client offers another protocol: an Upgrade header that Connection names,
    /// in HTTP/1.1 (RFC 9110 section 7.8).
    #[must_use]
    pub fn has_upgrade(&self) -> bool {
        self.upgrade_field && self.upgrade_option && self.version == Version::Http11
    }

    /// Forgets the request and keeps the memory for the next one. [`HeadParser::parse`] calls it.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }
}

// ---- the parser ---------------------------------------------------------------------------------

/// A kind, and its offset in the current line or value.
type LineFault = (ErrorKind, usize);

/// The kind of line that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParserStage {
    /// The request line, or an empty line before it.
    RequestLine { empty_lines: u8 },
    /// A header, or the empty line that ends the head.
    Fields,
}

/// Parses request heads from input that may arrive in pieces (RFC 9112 section 2.2).
///
/// ```
/// use postlude::http::parse::{Head, HeadParser, HeadLimits};
///
/// let (mut parser, mut head) = (HeadParser::new(HeadLimits::default()), Head::default());
/// let bytes = b"GET / HTTP/1.1\r\nHost: t.example\r\n\r\nrest";
/// assert_eq!(parser.parse(&bytes[..20], &mut head)?, None); // cut: call again with more
/// assert_eq!(parser.parse(bytes, &mut head)?, Some(35));
/// # Ok::<(), postlude::http::parse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeadParser {
    limits: HeadLimits,
    stage: ParserStage,
    /// Where the current line begins. At 0 a new head begins, and the record is cleared.
    line: usize,
    /// There is no LF between `line` and here.
    scanned: usize,
}

impl HeadParser {
    /// Creates a parser at the beginning of a head.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        let head_bytes = limits.head_bytes.min(u32::MAX as usize);
        let limits = HeadLimits { head_bytes, ..limits };
        Self { limits, stage: ParserStage::RequestLine { empty_lines: 0 }, line: 0, scanned: 0 }
    }

    /// Starts a new head. Call it after an error, or to abandon a head; after a complete head the
    /// parser starts anew by itself.
    pub fn reset(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Continues with the head at the beginning of `input`. Returns `Some(n)` if the first `n`
    /// bytes are the complete head. `None` asks for more: call again with the same bytes and more
    /// after them, and the same `head`.
    ///
    /// # Errors
    ///
    /// If the head is malformed, ambiguous or too large. Answer with [`Error::status`] and close.
    pub fn parse(&mut self, input: &[u8], head: &mut Head) -> Result<Option<usize>, Error> {
        if self.line == 0 {
            head.clear();
        }
        while let Some(lf) = self.find_lf(input)? {
            if lf == self.line || input[lf - 1] != b'\r' {
                return Err(Error::new(ErrorKind::BareLf, lf));
            }
            let (line, next) = (self.line..lf - 1, lf + 1);
            if self.stage == ParserStage::Fields && line.is_empty() {
                if head.version == Version::Http11 && head.host.is_none() {
                    return Err(Error::new(ErrorKind::MissingHost, line.start));
                }
                self.reset();
                return Ok(Some(next));
            }
            self.take_line(input, line, head)?;
            (self.line, self.scanned) = (next, next);
        }
        Ok(None)
    }

    /// Finds the LF that ends the current line. It is an error if the line is too long.
    fn find_lf(&mut self, input: &[u8]) -> Result<Option<usize>, Error> {
        let cap = self.line_cap();
        let window = input.get(self.scanned..cap.min(input.len())).unwrap_or_default();
        if let Some(i) = memchr(b'\n', window) {
            return Ok(Some(self.scanned + i));
        }
        if input.len() >= cap {
            return Err(Error::new(self.too_long(&input[self.line.min(cap)..cap]), cap));
        }
        self.scanned = self.scanned.max(input.len());
        Ok(None)
    }

    /// Returns the index before which the current line must end.
    fn line_cap(&self) -> usize {
        let request_line = self.limits.target_bytes.saturating_add(METHOD_BYTES + REQUEST_LINE_REST);
        match self.stage {
            ParserStage::RequestLine { .. } => self.line.saturating_add(request_line).min(self.limits.head_bytes),
            ParserStage::Fields => self.limits.head_bytes,
        }
    }

    /// Returns the limit that a line exceeds; `line` is its part before the limit.
    fn too_long(&self, line: &[u8]) -> ErrorKind {
        match self.stage {
            ParserStage::Fields => ErrorKind::HeadTooLarge,
            ParserStage::RequestLine { .. } if line.iter().take(METHOD_BYTES + 1).any(|&b| b == b' ') => {
                ErrorKind::TargetTooLong
            }
            ParserStage::RequestLine { .. } => ErrorKind::MethodTooLong,
        }
    }

    fn take_line(&mut self, input: &[u8], line: Range<usize>, head: &mut Head) -> Result<(), Error> {
        let start = line.start;
        let result = match self.stage {
            ParserStage::RequestLine { empty_lines: EMPTY_LINES } if line.is_empty() => Err((ErrorKind::EmptyLines, 0)),
            ParserStage::RequestLine { empty_lines } if line.is_empty() => {
                self.stage = ParserStage::RequestLine { empty_lines: empty_lines + 1 };
                Ok(())
            }
            ParserStage::RequestLine { .. } => {
                self.stage = ParserStage::Fields;
                take_request_line(&input[line], start, &self.limits, head)
            }
            ParserStage::Fields if head.fields.len() >= self.limits.fields => Err((ErrorKind::TooManyFields, 0)),
            ParserStage::Fields => take_field(&input[line], start, head),
        };
        result.map_err(|(kind, at)| Error::new(kind, start + at))
    }
}

// ---- the request line ---------------------------------------------------------------------------

/// Returns whether a refused or incomplete head is that of a HEAD request, whose answer has no
/// content (RFC 9110 section 9.3.2).
///
/// It skips as many empty lines as the parser does and no more: otherwise the answer would depend
/// on the bytes that had arrived after the error.
pub(crate) fn begins_with_head_method(input: &[u8]) -> bool {
    let mut line = input;
    for _ in 0..EMPTY_LINES {
        line = line.strip_prefix(b"\r\n").unwrap_or(line);
    }
    line.starts_with(b"HEAD ")
}

/// Parses the request line; `line` begins at `base` in the head.
fn take_request_line(line: &[u8], base: usize, limits: &HeadLimits, head: &mut Head) -> Result<(), LineFault> {
    let method = take_method(line)?;
    let start = method + 1;
    let Some(len) = memchr(b' ', &line[start..]) else {
        return Err((ErrorKind::InvalidRequestLine, line.len()));
    };
    let end = start + len;
    head.version = version(&line[end + 1..]).map_err(|kind| (kind, end + 1))?;
    if len > limits.target_bytes {
        return Err((ErrorKind::TargetTooLong, start + limits.target_bytes));
    }
    head.method = Span::new(base, base + method);
    head.target = Span::new(base + start, base + end);
    take_target(&line[..method], &line[start..end], base + start, head)
        .map_err(|at| (ErrorKind::InvalidTarget, start + at))
}

/// Returns the length of the method, which a space follows.
fn take_method(line: &[u8]) -> Result<usize, LineFault> {
    let n = span(line, TCHAR);
    match line.get(n) {
        _ if n > METHOD_BYTES => Err((ErrorKind::MethodTooLong, METHOD_BYTES)),
        Some(b' ') if n > 0 => Ok(n),
        Some(_) => Err((ErrorKind::InvalidMethod, n)),
        None => Err((ErrorKind::InvalidRequestLine, n)),
    }
}

fn version(bytes: &[u8]) -> Result<Version, ErrorKind> {
    match bytes {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            match major {
                b'1' => Ok(Version::Http11),
                _ => Err(ErrorKind::UnsupportedVersion),
            }
        }
        _ => Err(ErrorKind::InvalidVersion),
    }
}

/// Parses the target by its form. The error is the offset in the target.
fn take_target(method: &[u8], target: &[u8], base: usize, head: &mut Head) -> Result<(), usize> {
    let good = span(target, TARGET);
    if good < target.len() {
        return Err(good);
    }
    match target {
        _ if method == b"CONNECT" => take_connect(target, base, head),
        [b'/', ..] => {
            take_path(target, 0, base, head);
            Ok(())
        }
        b"*" if method == b"OPTIONS" => {
            head.form = TargetForm::Asterisk;
            head.path = Span::new(base, base + 1);
            Ok(())
        }
        _ => take_absolute(target, base, head),
    }
}

/// Splits a target, from `from` on, into path and query.
fn take_path(target: &[u8], from: usize, base: usize, head: &mut Head) {
    let question = memchr(b'?', &target[from..]).map(|i| from + i);
    head.path = Span::new(base + from, base + question.unwrap_or(target.len()));
    head.query = question.map(|q| Span::new(base + q + 1, base + target.len()));
}

/// Parses `host:port`, the target of CONNECT (RFC 9112 section 3.2.3).
fn take_connect(target: &[u8], base: usize, head: &mut Head) -> Result<(), usize> {
    match authority(target) {
        Some((host, Some(port))) if !host.is_empty() && !port.is_empty() => {
            head.form = TargetForm::Authority;
            head.authority = Some(Span::new(base, base + target.len()));
            Ok(())
        }
        _ => Err(0),
    }
}

/// Parses `http://authority/path?query` (RFC 9112 section 3.2.2). A user name in it is an error
/// (RFC 9110 section 4.2.4).
fn take_absolute(target: &[u8], base: usize, head: &mut Head) -> Result<(), usize> {
    let start = scheme(target).ok_or(0_usize)?;
    let len = target[start..].iter().position(|b| matches!(b, b'/' | b'?'));
    let end = len.map_or(target.len(), |n| start + n);
    match authority(&target[start..end]) {
        Some((host, _)) if !host.is_empty() => {}
        _ => return Err(start),
    }
    head.form = TargetForm::Absolute;
    head.authority = Some(Span::new(base + start, base + end));
    take_path(target, end, base, head);
    Ok(())
}

/// Returns the length of `http://` or `https://`, in any case. Other schemes are invalid here.
fn scheme(target: &[u8]) -> Option<usize> {
    let begins = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    [&b"http://"[..], b"https://"].iter().find(|scheme| begins(scheme)).map(|scheme| scheme.len())
}

/// Splits `uri-host [ ":" port ]` into host and port, both of which may be empty (RFC 9110 section
/// 7.2).
fn authority(bytes: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let len = match bytes {
        [b'[', ..] => ip_literal(bytes)?,
        _ => memchr(b':', bytes).unwrap_or(bytes.len()),
    };
    let (host, rest) = bytes.split_at(len);
    let named = bytes.first() == Some(&b'[') || (span(host, REG_NAME) == len && is_percent_encoded(host));
    match rest {
        _ if !named => None,
        [] => Some((host, None)),
        [b':', port @ ..] if port.is_empty() || decimal(port)? <= u64::from(u16::MAX) => Some((host, Some(port))),
        _ => None,
    }
}

/// Returns whether two hexadecimal digits follow each `%` (RFC 3986 section 2.1).
fn is_percent_encoded(host: &[u8]) -> bool {
    let is_escape = |rest: &[u8]| matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    host.split(|&b| b == b'%').skip(1).all(is_escape)
}

/// Returns the length of `[IPv6]`.
fn ip_literal(bytes: &[u8]) -> Option<usize> {
    let end = memchr(b']', bytes)?;
    std::str::from_utf8(&bytes[1..end]).ok()?.parse::<Ipv6Addr>().ok()?;
    Some(end + 1)
}

/// Parses `1*DIGIT` and nothing else: no sign, no space, no overflow.
fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |n, &b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

// ---- headers ------------------------------------------------------------------------------------

/// Parses a header; `line` begins at `base` in the head.
fn take_field(line: &[u8], base: usize, head: &mut Head) -> Result<(), LineFault> {
    let name = take_name(line)?;
    let value = trim(line, name + 1);
    if let Some(i) = first_bad_value(&line[value.clone()]) {
        let at = value.start + i;
        return Err((if line[at] == b'\r' { ErrorKind::BareCr } else { ErrorKind::InvalidFieldValue }, at));
    }
    let field = Field { name: Span::new(base, base + name), value: Span::new(base + value.start, base + value.end) };
    head.fields.push(field);
    take_known(&line[..name], &line[value.clone()], field.value, head).map_err(|kind| (kind, value.start))
}

/// Returns the length of the name, which a colon follows.
fn take_name(line: &[u8]) -> Result<usize, LineFault> {
    let n = span(line, TCHAR);
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let kind = match line.get(n) {
        Some(b':') if n > 0 => return Ok(n),
        None => ErrorKind::MissingColon,
        Some(b) if n == 0 && blank(b) => ErrorKind::ObsFold,
        Some(b) if blank(b) && line[n..].iter().find(|b| !blank(b)) == Some(&b':') => ErrorKind::SpaceBeforeColon,
        Some(_) => ErrorKind::InvalidFieldName,
    };
    Err((kind, n))
}

/// Returns the range of `line` from `start` on, without white space at its ends.
fn trim(line: &[u8], start: usize) -> Range<usize> {
    let dark = |b: &u8| !matches!(b, b' ' | b'\t');
    match line[start..].iter().position(dark) {
        Some(i) => start + i..line.iter().rposition(dark).map_or(start + i, |end| end + 1),
        None => line.len()..line.len(),
    }
}

/// Evaluates the headers that decide about framing and the connection. The length of the name rules
/// out nearly all others.
fn take_known(name: &[u8], value: &[u8], span: Span, head: &mut Head) -> Result<(), ErrorKind> {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        4 if is(b"host") => take_host(value, span, head),
        6 if is(b"expect") => take_expect(value, head),
        7 if is(b"upgrade") => {
            head.upgrade_field = true;
            Ok(())
        }
        10 if is(b"connection") => {
            take_connection(value, head);
            Ok(())
        }
        14 if is(b"content-length") => take_content_length(value, head),
        17 if is(b"transfer-encoding") => take_transfer_encoding(value, head),
        _ => Ok(()),
    }
}

/// Accepts an empty Host, too: clients send it if their target has no authority (RFC 9112 section
/// 3.2).
fn take_host(value: &[u8], span: Span, head: &mut Head) -> Result<(), ErrorKind> {
    if head.host.is_some() {
        return Err(ErrorKind::DuplicateHost);
    }
    match authority(value) {
        Some((host, _)) if value.is_empty() || !host.is_empty() => head.host = Some(span),
        _ => return Err(ErrorKind::InvalidHost),
    }
    Ok(())
}

/// Ignores the header of a 1.0 client (RFC 9110 section 10.1.1).
fn take_expect(value: &[u8], head: &mut Head) -> Result<(), ErrorKind> {
    match head.version {
        Version::Http10 => Ok(()),
        Version::Http11 if value.eq_ignore_ascii_case(b"100-continue") => {
            head.expect = true;
            Ok(())
        }
        Version::Http11 => Err(ErrorKind::UnsupportedExpectation),
    }
}

/// Compares whole options, and ignores unknown ones (RFC 9110 section 7.6.1).
fn take_connection(value: &[u8], head: &mut Head) {
    for option in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
        head.close |= option.eq_ignore_ascii_case(b"close");
        head.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        head.upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
    }
}

fn take_content_length(value: &[u8], head: &mut Head) -> Result<(), ErrorKind> {
    if head.content_length.is_some() {
        return Err(ErrorKind::DuplicateContentLength);
    }
    if head.chunked {
        return Err(ErrorKind::ConflictingFraming);
    }
    head.content_length = Some(decimal(value).ok_or(ErrorKind::InvalidContentLength)?);
    Ok(())
}

fn take_transfer_encoding(value: &[u8], head: &mut Head) -> Result<(), ErrorKind> {
    if head.version == Version::Http10 {
        return Err(ErrorKind::TransferEncodingInHttp10);
    }
    if head.chunked {
        return Err(ErrorKind::InvalidTransferEncoding);
    }
    if !value.eq_ignore_ascii_case(b"chunked") {
        return Err(other_coding(value));
    }
    if head.content_length.is_some() {
        return Err(ErrorKind::ConflictingFraming);
    }
    head.chunked = true;
    Ok(())
}

/// Returns why a coding is refused: a list of tokens that ends in its only `chunked` is valid, but
/// unsupported.
fn other_coding(value: &[u8]) -> ErrorKind {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.split(|&b| b == b',').map(<[u8]>::trim_ascii).rev();
    let last = codings.next().is_some_and(is_chunked);
    let token = |coding: &[u8]| !coding.is_empty() && span(coding, TCHAR) == coding.len() && !is_chunked(coding);
    if last && codings.all(token) { ErrorKind::UnsupportedTransferEncoding } else { ErrorKind::InvalidTransferEncoding }
}
