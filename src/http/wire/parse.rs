//! Request heads: from the bytes of a connection to ranges and decided facts.
//!
//! The idea: a head is a sequence of lines, and each line is looked at once, when its end has
//! arrived.
//!
//! ```text
//! loop:
//!   1. find the next LF, beginning where the last search stopped      (memchr; none: wait for more, or too long)
//!   2. the byte before it must be CR
//!   3. no line yet:     an empty line is skipped, anything else is the request line
//!      otherwise:       an empty line ends the head, anything else is a field
//! ```
//!
//! What is learned goes into a [`Head`], a record of `u32` byte ranges that the caller owns and
//! reuses: no byte is copied and, once the record has grown to the size of usual requests, nothing
//! is allocated. The fields that decide about framing and the connection (Host, Content-Length,
//! Transfer-Encoding, Connection, Expect, Upgrade) are judged as they pass, so nothing is searched
//! for afterwards.
//!
//! # How it works
//!
//! [`HeadParser`] has two states, request line and fields, and remembers where the line at hand
//! begins and how far it was searched. A request line is method, target, version; the target is
//! sorted into one of four forms. A field is name, colon, value. At the empty line the head is
//! complete, [`Head::framing`] says how its body ends, and a [`Decoder`](super::chunked::Decoder)
//! takes that from the bytes behind it.
//!
//! # Errors
//!
//! An [`Error`] has a [kind](ErrorKind), the [offset](Error::offset) of the byte (from the
//! beginning of the head, or of the body), and a status:
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
//! * The result (value, error kind, error offset) is the same for every way of cutting the input
//!   into calls. An error is decided from whole lines, or from the first bytes of a line up to its
//!   limit, never from where a call happened to end.
//! * Each byte is searched for LF once and classified once: O(n), whatever the cuts.
//! * What two readers could understand in two ways is refused (RFC 9112 section 11.2): bare LF,
//!   bare CR, folded fields, space before a colon, repeated framing fields, Content-Length beside
//!   Transfer-Encoding.
//!
//! # Liberties
//!
//! * Browsers send ``[ ] { } | ^ ` `` unescaped in targets. They cannot be misunderstood and are
//!   let through.
//! * `HTTP/1.2` to `HTTP/1.9` are processed as 1.1 (RFC 9110 section 2.5).
//! * IP literals are IPv6 addresses; the `v1.` forms of RFC 3986, which are not in use, are
//!   refused.

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Range;

use memchr::memchr;

/// Cookies and a long referrer fit; larger heads are an attack or a bug (RFC 9110 section 5.4).
const HEAD_BYTES: usize = 16 * 1024;
/// RFC 9112 section 3 asks for 8000 at least.
const TARGET_BYTES: usize = 8 * 1024;
/// Browsers send 10 to 20, chains of proxies add as many.
const FIELDS: usize = 100;
/// The longest registered method (`UPDATEREDIRECTREF`) has 17.
const METHOD_BYTES: usize = 64;
/// Two spaces, `HTTP/1.1` and the line end.
const REQUEST_LINE_REST: usize = 12;
/// Old clients send an empty line after a body (RFC 9112 section 2.2 asks to ignore one); a flood
/// of them is not a request.
const EMPTY_LINES: u8 = 4;

/// How large a head may be (RFC 9112 section 3, RFC 9110 section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, its last line end included; above it, 431. Values above `u32::MAX`
    /// count as that.
    pub head_bytes: usize,
    /// Bytes of the request target; above it, 414.
    pub target_bytes: usize,
    /// Number of field lines; above it, 431.
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
    /// `HTTP/1.0`: closes by default, knows neither chunked nor `100 Continue`.
    Http10,
    /// `HTTP/1.1`, and every later minor version.
    #[default]
    Http11,
}

/// How the end of the body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Neither field: there is no body.
    #[default]
    None,
    /// `Content-Length`: this many bytes, perhaps zero.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// More empty lines before the request than are forgiven (RFC 9112 section 2.2).
    EmptyLines,
    /// A line ends in LF without CR (RFC 9112 section 2.2).
    BareLf,
    /// A CR that no LF follows (RFC 9112 section 2.2).
    BareCr,
    /// The request line is not method, space, target, space, version (RFC 9112 section 3).
    InvalidRequestLine,
    /// The method is not a token (RFC 9110 section 9.1).
    InvalidMethod,
    /// The method is longer than any known one (RFC 9112 section 3).
    MethodTooLong,
    /// The target has no form its method allows, or a byte no target has (RFC 9112 section 3.2).
    InvalidTarget,
    /// The target is longer than [`HeadLimits::target_bytes`] (RFC 9112 section 3).
    TargetTooLong,
    /// The version is not `HTTP/` digit `.` digit (RFC 9112 section 2.3).
    InvalidVersion,
    /// A version other than 1.x (RFC 9110 section 15.6.6).
    UnsupportedVersion,
    /// The head is larger than [`HeadLimits::head_bytes`] (RFC 6585 section 5).
    HeadTooLarge,
    /// More fields than [`HeadLimits::fields`] (RFC 6585 section 5).
    TooManyFields,
    /// A line begins with white space: a folded field (RFC 9112 section 5.2).
    ObsFold,
    /// A field line without a colon (RFC 9112 section 5).
    MissingColon,
    /// White space between a field name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A field name that is not a token (RFC 9110 section 5.1).
    InvalidFieldName,
    /// A control byte in a field value (RFC 9110 section 5.5).
    InvalidFieldValue,
    /// HTTP/1.1 without a Host field (RFC 9112 section 3.2).
    MissingHost,
    /// More than one Host field (RFC 9112 section 3.2).
    DuplicateHost,
    /// A Host field that is not a host and an optional port (RFC 9112 section 3.2).
    InvalidHost,
    /// A Content-Length that is not a number of 64 bits (RFC 9112 section 6.3).
    InvalidContentLength,
    /// More than one Content-Length (RFC 9112 section 6.3).
    DuplicateContentLength,
    /// Chunked is not the final coding, or not applied exactly once (RFC 9112 section 6.3).
    InvalidTransferEncoding,
    /// A coding beneath chunked that is not known here (RFC 9112 section 6.1).
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
    /// More bytes of extensions than are forgiven (RFC 9112 section 7.1.1).
    ChunkExtensionsTooLarge,
    /// No CRLF behind a chunk size or chunk data (RFC 9112 section 7.1).
    InvalidChunkEnd,
    /// A trailer section over its limit (RFC 9112 section 7.1.2).
    TrailersTooLarge,
}

impl ErrorKind {
    /// What is wrong and how a client mends it, and the section that says so.
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

    fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            Self::ChunkSizeOverflow | Self::ChunkExtensionsTooLarge => 413,
            Self::UnsupportedExpectation => 417,
            Self::MethodTooLong | Self::UnsupportedTransferEncoding => 501,
            Self::UnsupportedVersion => 505,
            _ => 400,
        }
    }
}

/// A message refused: why, where, and the status to answer with. The connection cannot go on (RFC
/// 9112 section 2.2).
///
/// ```
/// use postlude::http::parse::{ErrorKind, Head, HeadLimits, HeadParser};
/// let mut parser = HeadParser::new(HeadLimits::default());
/// let error = parser.parse(b"GET / HTTP/1.1\r\nHost : a\r\n", &mut Head::default()).unwrap_err();
/// assert_eq!((error.kind(), error.status(), error.offset()), (ErrorKind::SpaceBeforeColon, 400, 20));
/// assert_eq!(error.to_string(), "white space before `:`: leave it out (RFC 9112 section 5.1, at byte 20)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    offset: usize,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }

    /// Why (RFC 9112 sections 2 to 7).
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where: bytes from the beginning of the head, or of the body. The byte itself when one is to
    /// blame, else the beginning of the line or value, or the limit that was passed (RFC 9112
    /// section 2.1).
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The status to answer with: 400, 413, 414, 417, 431, 501 or 505 (RFC 9110 section 15.5).
    #[must_use]
    pub fn status(&self) -> u16 {
        self.kind.status()
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

/// Bytes of a token: methods and field names (RFC 9110 section 5.6.2).
const TCHAR: u8 = 1;
/// Bytes of a field value: VCHAR, obs-text, SP and HTAB (RFC 9110 section 5.5).
const VALUE: u8 = 2;
/// Bytes of a target: VCHAR but `"`, `#`, `<`, `>` and `\` (RFC 3986 section 3, see Liberties).
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
    let tchar = alnum
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
    let value = matches!(byte, b'\t' | b' '..=b'~' | 0x80..=0xff);
    let target = byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\');
    let reg_name = alnum
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b'%'
        );
    bit(tchar, TCHAR) | bit(value, VALUE) | bit(target, TARGET) | bit(reg_name, REG_NAME)
}

const fn bit(member: bool, class: u8) -> u8 {
    if member { class } else { 0 }
}

pub(super) fn is_tchar(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TCHAR != 0
}

pub(super) fn is_value(byte: u8) -> bool {
    CLASS[usize::from(byte)] & VALUE != 0
}

/// Length of the longest prefix of `bytes` in `class`. Eight table reads at a time do not wait for
/// each other.
fn span(bytes: &[u8], class: u8) -> usize {
    let all = |chunk: &&[u8]| chunk.iter().fold(class, |all, &b| all & CLASS[usize::from(b)]) != 0;
    let whole = 8 * bytes.chunks_exact(8).take_while(all).count();
    let rest = bytes[whole..].iter().position(|&b| CLASS[usize::from(b)] & class == 0);
    rest.map_or(bytes.len(), |n| whole + n)
}

/// The first byte that no value may have. The blocks test `VALUE` in arithmetic, which the compiler
/// turns into vector instructions; the table has the last word.
fn first_bad_value(value: &[u8]) -> Option<usize> {
    const BLOCK: usize = 16;
    let good = |block: &&[u8]| !block.iter().fold(false, |bad, &b| bad | ((b < b' ') & (b != b'\t')) | (b == 0x7f));
    let whole = BLOCK * value.chunks_exact(BLOCK).take_while(good).count();
    let rest = value[whole..].iter().position(|&b| !is_value(b));
    rest.map(|n| whole + n)
}

// ---- the record ---------------------------------------------------------------------------------

/// A range of the head, as small as it can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// No truncation: the parser clamps `head_bytes` to `u32::MAX`.
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// Empty where `bytes` is not the head this was taken from.
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
enum Form {
    #[default]
    Origin,
    Absolute,
    Authority,
    Asterisk,
}

/// A parsed request head: ranges into the bytes it was parsed from, and what they mean (RFC 9112
/// section 2.1).
///
/// The views take those bytes. Given other bytes they answer nonsense or nothing, but do not panic.
/// Make one per connection and reuse it.
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
    /// Unset: no `?` in the target.
    query: Option<Span>,
    /// Authority of an absolute-form or authority-form target.
    authority: Option<Span>,
    form: Form,
    version: Version,
    fields: Vec<Field>,
    host: Option<Span>,
    content_length: Option<u64>,
    chunked: bool,
    /// Options of Connection, in any of its lines.
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    /// An Upgrade field was there.
    upgrade_field: bool,
    /// `Expect: 100-continue`, from an HTTP/1.1 client.
    expect: bool,
}

impl Head {
    /// The method, as sent: methods are case-sensitive (RFC 9110 section 9.1).
    #[must_use]
    pub fn method<'a>(&self, bytes: &'a [u8]) -> &'a str {
        self.method.str(bytes)
    }

    /// The whole target, as sent (RFC 9112 section 3.2).
    #[must_use]
    pub fn target<'a>(&self, bytes: &'a [u8]) -> &'a str {
        self.target.str(bytes)
    }

    /// Method and target with the space between them, for reports.
    pub(crate) fn method_and_target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        Span { start: self.method.start, end: self.target.end }.of(bytes)
    }

    /// The path, not decoded: `/` if an absolute target has none, `*` for `OPTIONS *`, empty for
    /// CONNECT (RFC 9110 section 4.2.3).
    #[must_use]
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a str {
        match self.path.str(bytes) {
            "" if self.form == Form::Absolute => "/",
            path => path,
        }
    }

    /// What follows the first `?`, not decoded (RFC 9112 section 3.2.1).
    #[must_use]
    pub fn query<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        self.query.map(|query| query.str(bytes))
    }

    /// Host and port the request is for: the target's if it names one, else the Host field's (RFC
    /// 9112 section 3.3).
    #[must_use]
    pub fn authority<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        self.authority.or(self.host).map(|authority| authority.str(bytes))
    }

    /// The version to process the request as (RFC 9112 section 2.3).
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Every field line in order: the name as sent, the value without white space around it (RFC
    /// 9112 section 5).
    pub fn fields<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.fields.iter().map(|field| (field.name.str(bytes), field.value.of(bytes)))
    }

    /// The value of the first field of that name, whatever its case (RFC 9110 section 5.1).
    #[must_use]
    pub fn field<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let same = |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().find(same).map(|field| field.value.of(bytes))
    }

    /// How the body that follows ends (RFC 9112 section 6.3).
    #[must_use]
    pub fn framing(&self) -> Framing {
        match (self.chunked, self.content_length) {
            (true, _) => Framing::Chunked,
            (false, Some(n)) => Framing::Length(n),
            (false, None) => Framing::None,
        }
    }

    /// Whether another request may follow this one: the client wants to go on (RFC 9112 section
    /// 9.3), and it is no CONNECT, behind which come bytes for somebody else (RFC 9110 section
    /// 9.3.6).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        !self.close && self.form != Form::Authority && (self.version == Version::Http11 || self.keep_alive)
    }

    /// Whether the client waits for `100 Continue` before it sends the body. Never so without a
    /// body, nor in HTTP/1.0 (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expect && !matches!(self.framing(), Framing::None | Framing::Length(0))
    }

    /// Whether the client offers another protocol: an Upgrade field that Connection names, in
    /// HTTP/1.1 (RFC 9110 section 7.8).
    #[must_use]
    pub fn has_upgrade(&self) -> bool {
        self.upgrade_field && self.upgrade_option && self.version == Version::Http11
    }

    /// Forgets the request and keeps the room for the next one (RFC 9112 section 2.1).
    /// [`HeadParser::parse`] does so by itself.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }
}

// ---- the parser ---------------------------------------------------------------------------------

/// A kind, and where in the line or value at hand.
type Fault = (ErrorKind, usize);

/// What the next line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParserStage {
    /// The request line, or one of a few empty lines before it.
    RequestLine { empty_lines: u8 },
    /// A field, or the empty line that ends the head.
    Fields,
}

/// Reads request heads, line by line, from input that may arrive in pieces (RFC 9112 section 2.2).
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
    /// Where the line at hand begins. Zero: a new head, and the record is to be cleared.
    line: usize,
    /// No LF between `line` and here.
    scanned: usize,
}

impl HeadParser {
    /// A parser at the beginning of a head (RFC 9112 section 2.2).
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        let head_bytes = limits.head_bytes.min(u32::MAX as usize);
        let limits = HeadLimits { head_bytes, ..limits };
        Self { limits, stage: ParserStage::RequestLine { empty_lines: 0 }, line: 0, scanned: 0 }
    }

    /// Back to the beginning of a head. A completed head does it by itself; needed after an error,
    /// or when a head is abandoned (RFC 9112 section 2.2).
    pub fn reset(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Goes on with the head at the beginning of `input`: `Some(n)` if it is complete in the first
    /// `n` bytes, `None` if more is needed. Then call again with the same bytes and more behind
    /// them, and the same `head` (RFC 9112 section 2.2).
    ///
    /// # Errors
    ///
    /// The head is malformed, ambiguous or too large. Answer with [`Error::status`] and close.
    pub fn parse(&mut self, input: &[u8], head: &mut Head) -> Result<Option<usize>, Error> {
        if self.line == 0 {
            head.clear();
        }
        while let Some(lf) = self.find_lf(input)? {
            let line = self.line..without_cr(input, self.line, lf)?;
            let next = lf + 1;
            if self.stage == ParserStage::Fields && line.is_empty() {
                check_host(head).map_err(|kind| Error::new(kind, line.start))?;
                self.reset();
                return Ok(Some(next));
            }
            self.take_line(input, line, head)?;
            (self.line, self.scanned) = (next, next);
        }
        Ok(None)
    }

    /// The LF that ends the line at hand, or an error if it is farther than the line may reach.
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

    /// The index before which the line at hand must have ended.
    fn line_cap(&self) -> usize {
        let request_line = self.limits.target_bytes.saturating_add(METHOD_BYTES + REQUEST_LINE_REST);
        match self.stage {
            ParserStage::RequestLine { .. } => self.line.saturating_add(request_line).min(self.limits.head_bytes),
            ParserStage::Fields => self.limits.head_bytes,
        }
    }

    /// Which limit a line passed, of which `line` is the part before the limit.
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

/// Where the line ends before its CRLF.
fn without_cr(input: &[u8], start: usize, lf: usize) -> Result<usize, Error> {
    if lf > start && input[lf - 1] == b'\r' { Ok(lf - 1) } else { Err(Error::new(ErrorKind::BareLf, lf)) }
}

fn check_host(head: &Head) -> Result<(), ErrorKind> {
    match (head.version, head.host) {
        (Version::Http11, None) => Err(ErrorKind::MissingHost),
        _ => Ok(()),
    }
}

// ---- the request line ---------------------------------------------------------------------------

/// Whether a head that was refused, or has not come to its end, is a HEAD's: its answer has no
/// content (RFC 9110 section 9.3.2).
///
/// The empty lines before it are those the parser skips and no more, or the answer hung on what had
/// arrived behind the error.
pub(crate) fn begins_with_head_method(input: &[u8]) -> bool {
    let mut line = input;
    for _ in 0..EMPTY_LINES {
        line = line.strip_prefix(b"\r\n").unwrap_or(line);
    }
    line.starts_with(b"HEAD ")
}

/// `line` begins at `base` in the head.
fn take_request_line(line: &[u8], base: usize, limits: &HeadLimits, head: &mut Head) -> Result<(), Fault> {
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

/// Length of the method, which a space follows.
fn take_method(line: &[u8]) -> Result<usize, Fault> {
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

/// Sorts the target into its form; on error, the offset in it.
fn take_target(method: &[u8], target: &[u8], base: usize, head: &mut Head) -> Result<(), usize> {
    let good = span(target, TARGET);
    if good < target.len() {
        return Err(good);
    }
    check_percent(target)?;
    match target {
        _ if method == b"CONNECT" => take_connect(target, base, head),
        [b'/', ..] => {
            take_path(target, 0, base, head);
            Ok(())
        }
        b"*" if method == b"OPTIONS" => {
            head.form = Form::Asterisk;
            head.path = Span::new(base, base + 1);
            Ok(())
        }
        _ => take_absolute(target, base, head),
    }
}

/// Every `%` begins an octet of two hexadecimal digits; on error, where one does not (RFC 3986
/// section 2.1).
fn check_percent(bytes: &[u8]) -> Result<(), usize> {
    let mut at = 0;
    while let Some(i) = memchr(b'%', &bytes[at..]) {
        match bytes.get(at + i + 1..at + i + 3) {
            Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => at += i + 3,
            _ => return Err(at + i),
        }
    }
    Ok(())
}

/// Path and query of a target, beginning at `from`.
fn take_path(target: &[u8], from: usize, base: usize, head: &mut Head) {
    let question = memchr(b'?', &target[from..]).map(|i| from + i);
    head.path = Span::new(base + from, base + question.unwrap_or(target.len()));
    head.query = question.map(|q| Span::new(base + q + 1, base + target.len()));
}

/// `host:port`, of CONNECT only (RFC 9112 section 3.2.3).
fn take_connect(target: &[u8], base: usize, head: &mut Head) -> Result<(), usize> {
    match authority(target) {
        Some((host, Some(port))) if !host.is_empty() && !port.is_empty() => {
            head.form = Form::Authority;
            head.authority = Some(Span::new(base, base + target.len()));
            Ok(())
        }
        _ => Err(0),
    }
}

/// `http://authority/path?query` (RFC 9112 section 3.2.2). A user in it is an error (RFC 9110
/// section 4.2.4).
fn take_absolute(target: &[u8], base: usize, head: &mut Head) -> Result<(), usize> {
    let start = scheme(target).ok_or(0_usize)?;
    let len = target[start..].iter().position(|b| matches!(b, b'/' | b'?'));
    let end = len.map_or(target.len(), |n| start + n);
    match authority(&target[start..end]) {
        Some((host, _)) if !host.is_empty() => {}
        _ => return Err(start),
    }
    head.form = Form::Absolute;
    head.authority = Some(Span::new(base + start, base + end));
    take_path(target, end, base, head);
    Ok(())
}

/// Length of `http://` or `https://`, in any case. Other schemes are not ours to answer.
fn scheme(target: &[u8]) -> Option<usize> {
    let begins = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    [&b"http://"[..], b"https://"].iter().find(|scheme| begins(scheme)).map(|scheme| scheme.len())
}

/// Host and port, if this is `uri-host [ ":" port ]` (RFC 9110 section 7.2). The host may be empty.
fn authority(bytes: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let len = match bytes {
        [b'[', ..] => ip_literal(bytes)?,
        _ => memchr(b':', bytes).unwrap_or(bytes.len()),
    };
    let (host, rest) = bytes.split_at(len);
    let named = bytes.first() == Some(&b'[') || (span(host, REG_NAME) == len && check_percent(host).is_ok());
    match rest {
        _ if !named => None,
        [] => Some((host, None)),
        [b':', port @ ..] if is_port(port) => Some((host, Some(port))),
        _ => None,
    }
}

/// Length of `[IPv6]`.
fn ip_literal(bytes: &[u8]) -> Option<usize> {
    let end = memchr(b']', bytes)?;
    std::str::from_utf8(&bytes[1..end]).ok()?.parse::<Ipv6Addr>().ok()?;
    Some(end + 1)
}

/// Digits, perhaps none, of a number that is a port.
fn is_port(port: &[u8]) -> bool {
    port.is_empty() || decimal(port).is_some_and(|n| n <= u64::from(u16::MAX))
}

/// `1*DIGIT` and nothing else: no sign, no space, no overflow.
fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |n, &b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

// ---- fields -------------------------------------------------------------------------------------

/// `line` begins at `base` in the head.
fn take_field(line: &[u8], base: usize, head: &mut Head) -> Result<(), Fault> {
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

/// Length of the name, which a colon follows.
fn take_name(line: &[u8]) -> Result<usize, Fault> {
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

/// The range of `line` from `start` on without white space at its ends.
fn trim(line: &[u8], start: usize) -> Range<usize> {
    let dark = |b: &u8| !matches!(b, b' ' | b'\t');
    match line[start..].iter().position(dark) {
        Some(i) => start + i..line.iter().rposition(dark).map_or(start + i, |end| end + 1),
        None => line.len()..line.len(),
    }
}

/// Judges the fields that decide about framing and the connection. Their lengths tell nearly all
/// others apart.
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

/// An empty Host is what a client sends whose target has no authority (RFC 9112 section 3.2).
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

/// From a 1.0 client the field is ignored (RFC 9110 section 10.1.1).
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

/// Options are compared whole; the ones not known here are for somebody else (RFC 9110 section
/// 7.6.1).
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

/// Why a coding is refused: a list of tokens that ends in its only `chunked` is well framed and
/// just not known here.
fn other_coding(value: &[u8]) -> ErrorKind {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.split(|&b| b == b',').map(<[u8]>::trim_ascii).rev();
    let last = codings.next().is_some_and(is_chunked);
    let token = |coding: &[u8]| !coding.is_empty() && span(coding, TCHAR) == coding.len() && !is_chunked(coding);
    if last && codings.all(token) { ErrorKind::UnsupportedTransferEncoding } else { ErrorKind::InvalidTransferEncoding }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Outcome = Result<Option<(usize, Head)>, Error>;

    /// Parses `input`, which arrives in pieces that end at `cuts`.
    fn run(limits: HeadLimits, input: &[u8], cuts: &[usize]) -> Outcome {
        let (mut parser, mut head) = (HeadParser::new(limits), Head::default());
        for end in cuts.iter().copied().chain([input.len()]) {
            if let Some(n) = parser.parse(&input[..end], &mut head)? {
                return Ok(Some((n, head)));
            }
        }
        Ok(None)
    }

    fn whole(input: &[u8]) -> Head {
        let outcome = run(HeadLimits::default(), input, &[]);
        outcome.unwrap_or_else(|e| panic!("{}: {e}", input.escape_ascii())).expect("whole").1
    }

    fn refused(input: &[u8]) -> ErrorKind {
        run(HeadLimits::default(), input, &[]).expect_err(&input.escape_ascii().to_string()).kind()
    }

    fn line(line: &str) -> Vec<u8> {
        format!("{line}\r\nHost: t.example\r\n\r\n").into_bytes()
    }

    fn with(fields: &str) -> Vec<u8> {
        line(&format!("POST / HTTP/1.1\r\n{fields}"))
    }

    #[test]
    fn a_target_is_split_by_its_form() {
        for (target, path, query, authority) in [
            ("/?a=b&c=%20", "/", Some("a=b&c=%20"), "t.example"),
            ("//x/y", "//x/y", None, "t.example"),
            ("http://o:80", "/", None, "o:80"),
            ("HTTPS://[::1]:8/a?b", "/a", Some("b"), "[::1]:8"),
            ("/a[]={}|^`", "/a[]={}|^`", None, "t.example"),
        ] {
            let bytes = line(&format!("GET {target} HTTP/1.1"));
            let head = whole(&bytes);
            assert_eq!((head.target(&bytes), head.path(&bytes), head.query(&bytes)), (target, path, query));
            assert_eq!(head.authority(&bytes), Some(authority));
        }
        assert_eq!(whole(&line("OPTIONS * HTTP/1.1")).form, Form::Asterisk);
        assert_eq!(whole(&line("CONNECT t.example:80 HTTP/1.1")).form, Form::Authority);
    }

    #[test]
    fn a_malformed_target_is_refused() {
        for request in [
            "GET no-slash",
            "GET /#f",
            "GET /\u{1}",
            "GET /\u{7f}",
            "GET /é",
            "GET /\"",
            "GET /<x>",
            "GET /\\x",
            "GET /%zz",
            "GET /%4",
            "GET *",
            "GET http:///x",
            "GET http://u@t/",
            "GET http://t:8x/",
            "GET ftp://t/",
            "CONNECT t:",
            "CONNECT t:http",
            "CONNECT /",
            "CONNECT t",
            "GET ",
        ] {
            assert_eq!(refused(&line(&format!("{request} HTTP/1.1"))), ErrorKind::InvalidTarget, "{request}");
        }
    }

    #[test]
    fn a_malformed_request_line_is_refused() {
        for request in [
            "GET HTTP/1.1",
            "GET",
            "GET /",
            "GET / HTTP/1.1 x",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET\t/\tHTTP/1.1",
            "GET /\rHTTP/1.1",
            " GET / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "G@T / HTTP/1.1",
            " / HTTP/1.1",
            "GET / HTTP/1",
            "GET / HTTP/1.10",
            "GET / http/1.1",
            "GET / HTTP/1,1",
            "GET / HTTP/+1.1",
            "GET / HTTP/1.1\r",
            "GET / HTTPS/1.1",
        ] {
            let error = run(HeadLimits::default(), &line(request), &[]).expect_err(request);
            assert_eq!(error.status(), 400, "{request}");
        }
        assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\n"), ErrorKind::UnsupportedVersion);
        assert_eq!(refused(b"GET / HTTP/1.1\nHost: a\n\n"), ErrorKind::BareLf);
    }

    #[test]
    fn a_later_minor_version_is_processed_as_1_1() {
        assert_eq!(whole(&line("GET / HTTP/1.9")).version(), Version::Http11);
    }

    #[test]
    fn a_malformed_field_is_refused() {
        for (field, kind) in [
            ("X : b", ErrorKind::SpaceBeforeColon),
            ("X\t: b", ErrorKind::SpaceBeforeColon),
            (" X: b", ErrorKind::ObsFold),
            ("X: a\r\n\tb", ErrorKind::ObsFold),
            ("X: a\r\n ", ErrorKind::ObsFold),
            ("X", ErrorKind::MissingColon),
            (": v", ErrorKind::InvalidFieldName),
            ("X Y: v", ErrorKind::InvalidFieldName),
            ("X\rY: v", ErrorKind::InvalidFieldName),
            ("X: a\rb", ErrorKind::BareCr),
            ("X: a\r", ErrorKind::BareCr),
            ("X: a\nY: b", ErrorKind::BareLf),
            ("X: a\0b", ErrorKind::InvalidFieldValue),
            ("X: 0123456789abcdef0123456789abcde\u{7f}", ErrorKind::InvalidFieldValue),
        ] {
            assert_eq!(refused(&with(field)), kind, "{field:?}");
        }
    }

    #[test]
    fn a_host_is_there_once_and_valid() {
        assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), ErrorKind::MissingHost);
        assert_eq!(refused(b"GET / HTTP/1.0\r\nHost: a\r\nhOsT: a\r\n\r\n"), ErrorKind::DuplicateHost);
        for host in [
            "a b", "a/b", "u@t", "[::1", "t:http", "<t>", "t%zz", "a, b", "é", "http://t", "t:1:2", "t?x", "t:99999",
            ":80", "[::1]x",
        ] {
            let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(refused(bytes.as_bytes()), ErrorKind::InvalidHost, "{host}");
        }
        for host in ["t:8080", "127.0.0.1:80", "[::1]", "[2001:db8::1]:80", "t:", "t.", "a_b.c", "T", ""] {
            whole(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        }
    }

    #[test]
    fn a_content_length_is_digits_once() {
        for v in ["+5", "-5", "0x5", "5.0", "", "5a", "5 5", "5_0", "\"5\"", "5, 5", "5,", "18446744073709551616"] {
            assert_eq!(refused(&with(&format!("Content-Length: {v}"))), ErrorKind::InvalidContentLength, "{v}");
        }
        let twice = with("Content-Length: 5\r\ncontent-length: 5");
        assert_eq!(refused(&twice), ErrorKind::DuplicateContentLength);
        assert_eq!(whole(&with("cOnTeNt-LENGTH:\t0010 ")).framing(), Framing::Length(10));
    }

    #[test]
    fn a_transfer_encoding_is_chunked_once_and_alone() {
        for v in [
            "gzip",
            "xchunked",
            "chunked, gzip",
            "\"chunked\"",
            "chunked, chunked",
            ", chunked",
            "chunked,",
            "chunked;q=1",
            "",
        ] {
            assert_eq!(refused(&with(&format!("Transfer-Encoding: {v}"))), ErrorKind::InvalidTransferEncoding, "{v}");
        }
        assert_eq!(refused(&with("Transfer-Encoding: gzip, chunked")), ErrorKind::UnsupportedTransferEncoding);
        let twice = with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked");
        assert_eq!(refused(&twice), ErrorKind::InvalidTransferEncoding);
        for both in
            ["Transfer-Encoding: chunked\r\nContent-Length: 5", "Content-Length: 5\r\nTransfer-Encoding: chunked"]
        {
            assert_eq!(refused(&with(both)), ErrorKind::ConflictingFraming);
        }
        let old = line("POST / HTTP/1.0\r\nTransfer-Encoding: chunked");
        assert_eq!(refused(&old), ErrorKind::TransferEncodingInHttp10);
        assert_eq!(whole(&with("Transfer-Encoding: \tChunked ")).framing(), Framing::Chunked);
    }

    #[test]
    fn the_connection_goes_on_as_its_options_say() {
        for (version, options, on) in [
            ("1.1", "", true),
            ("1.1", "Connection: x, CLOSE\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: ,close,\r\n", false),
            ("1.1", "Connection: closed, xclose\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let bytes = format!("GET / HTTP/{version}\r\n{options}Host: a\r\n\r\n");
            assert_eq!(whole(bytes.as_bytes()).keep_alive(), on, "{bytes}");
        }
        assert!(!whole(b"CONNECT a:1 HTTP/1.1\r\nConnection: keep-alive\r\nHost: a:1\r\n\r\n").keep_alive());
    }

    #[test]
    fn an_expectation_needs_a_body_and_1_1() {
        assert!(whole(&with("eXPECT: 100-Continue\r\nContent-Length: 5")).expects_continue());
        assert!(!whole(&with("Expect: 100-continue\r\nContent-Length: 0")).expects_continue());
        let old = line("POST / HTTP/1.0\r\nExpect: dinner\r\nContent-Length: 5");
        assert!(!whole(&old).expects_continue());
        assert_eq!(refused(&with("Expect: dinner")), ErrorKind::UnsupportedExpectation);
    }

    #[test]
    fn a_few_empty_lines_are_skipped() {
        let request = line("GET / HTTP/1.1");
        whole(&[&b"\r\n\r\n\r\n"[..], &request].concat());
        assert_eq!(refused(&[&b"\r\n".repeat(5)[..], &request].concat()), ErrorKind::EmptyLines);
    }

    #[test]
    fn limits_are_exact() {
        let of = |n: usize| line(&format!("GET /{} HTTP/1.1", "a".repeat(n - 1)));
        assert_eq!(whole(&of(8192)).target.end - 4, 8192);
        for n in [8193, 9000, 65536] {
            assert_eq!(refused(&of(n)), ErrorKind::TargetTooLong);
        }
        assert_eq!(refused(&line(&format!("{} / HTTP/1.1", "M".repeat(9000)))), ErrorKind::MethodTooLong);
        assert_eq!(refused(&with("X: v\r\n".repeat(100).trim_end())), ErrorKind::TooManyFields);
        assert_eq!(refused(&with(&format!("X: {}", "v".repeat(1 << 15)))), ErrorKind::HeadTooLarge);
        let bytes = line("GET / HTTP/1.1");
        let limits = |head_bytes| HeadLimits { head_bytes, ..HeadLimits::default() };
        assert!(run(limits(bytes.len()), &bytes, &[]).is_ok());
        assert_eq!(run(limits(bytes.len() - 1), &bytes, &[]).unwrap_err().kind(), ErrorKind::HeadTooLarge);
    }

    #[test]
    fn the_blocks_agree_with_the_table() {
        for byte in 0..=255_u8 {
            let at = first_bad_value(&[[b'a'; 9], [byte; 9]].concat());
            assert_eq!(at.is_none(), is_value(byte), "{byte}");
        }
    }

    /// What is refused here and let through there: line ends, what target and fields mean, limits.
    const STRICTER_THAN_HTTPARSE: [ErrorKind; 17] = [
        ErrorKind::EmptyLines,
        ErrorKind::BareLf,
        ErrorKind::InvalidTarget,
        ErrorKind::MissingHost,
        ErrorKind::DuplicateHost,
        ErrorKind::InvalidHost,
        ErrorKind::UnsupportedExpectation,
        ErrorKind::InvalidContentLength,
        ErrorKind::DuplicateContentLength,
        ErrorKind::InvalidTransferEncoding,
        ErrorKind::UnsupportedTransferEncoding,
        ErrorKind::TransferEncodingInHttp10,
        ErrorKind::ConflictingFraming,
        ErrorKind::HeadTooLarge,
        ErrorKind::TooManyFields,
        ErrorKind::TargetTooLong,
        ErrorKind::MethodTooLong,
    ];

    fn input() -> impl Strategy<Value = Vec<u8>> {
        let start = prop_oneof![
            6 => Just(&b"GET /a?b HTTP/1.1\r\nHost: a\r\n"[..]),
            2 => Just(&b"\r\nPOST http://a/ HTTP/1.0\r\n"[..]),
            1 => Just(&b""[..]),
        ];
        let piece = prop_oneof![
            6 => "[A-Za-z-]{1,12}: ?[ -~\t]{0,24} ?\r\n".prop_map(String::into_bytes),
            1 => Just(b"Content-Length: 12\r\n".to_vec()),
            1 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
            1 => Just(b"Connection: close\r\n".to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..6),
        ];
        let end = prop_oneof![4 => Just(&b"\r\n"[..]), 1 => Just(&b""[..])];
        (start, prop::collection::vec(piece, 0..8), end)
            .prop_map(|(start, pieces, end)| [start, &pieces.concat(), end].concat())
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_head(
            input in input(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            small in any::<bool>(),
        ) {
            let tiny = HeadLimits { head_bytes: 60, target_bytes: 4, fields: 3 };
            let limits = if small { tiny } else { HeadLimits::default() };
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.sort_unstable();
            let bytes: Vec<_> = (0..input.len()).collect();
            let once = run(limits, &input, &[]);
            prop_assert_eq!(&once, &run(limits, &input, &cuts));
            prop_assert_eq!(&once, &run(limits, &input, &bytes));
        }

        #[test]
        fn what_httparse_accepts_too_is_read_alike(
            mut input in input(),
            mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            for (index, byte) in mutations {
                if !input.is_empty() {
                    let at = index.index(input.len());
                    input[at] = byte;
                }
            }
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut peer = httparse::Request::new(&mut fields);
            let theirs = peer.parse(&input);
            match (run(HeadLimits::default(), &input, &[]), theirs) {
                (Ok(Some((n, head))), Ok(httparse::Status::Complete(m))) => {
                    prop_assert_eq!(n, m);
                    prop_assert_eq!(Some(head.method(&input)), peer.method);
                    prop_assert_eq!(Some(head.target(&input)), peer.path);
                    prop_assert_eq!(Some(head.version() as u8), peer.version);
                    prop_assert!(head.fields(&input).eq(peer.headers.iter().map(|h| (h.name, h.value))));
                }
                (Err(error), Ok(httparse::Status::Complete(_))) => {
                    prop_assert!(STRICTER_THAN_HTTPARSE.contains(&error.kind()), "{}", error);
                }
                // A later minor version is 1.1 here and an error there.
                (Ok(Some(_)), theirs) => prop_assert_eq!(theirs, Err(httparse::Error::Version)),
                (Ok(None), theirs) => prop_assert!(!theirs.is_ok_and(|status| status.is_complete())),
                (Err(_), _) => {}
            }
        }

        #[test]
        fn any_bytes_end_in_an_answer(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = run(HeadLimits::default(), &input, &[input.len() / 2]);
        }
    }
}
