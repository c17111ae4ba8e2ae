//! Decodes request bodies: where they end, and which bytes of the wire are their data.
//!
//! The decoder is a small automaton that takes one byte of framing at a time and keeps none:
//!
//! ```text
//! Size ─CR→ SizeLf ─LF→ Data ─n bytes→ DataCr ─CR→ DataLf ─LF→ Size …
//!  │ ;                    └ size 0 → TrailerStart ─CR→ EndLf ─LF→ Done
//!  └→ extension states         name ─:→ value ─CR→ TrailerLf ─LF→ TrailerStart
//! ```
//!
//! Data does not pass through the automaton: as soon as a chunk begins, the longest run of it in
//! the input is returned as a range. Every framing byte moves the automaton exactly once. So the
//! work is O(n), and the result (data, error, offset of the error) cannot depend on how the network
//! cut the input.
//!
//! # Invariants
//!
//! * Every line ends in CRLF. A bare LF or CR is an error anywhere (RFC 9112 section 7.1).
//! * Only bytes that are not data are limited here: extensions, superfluous zeros, trailers. The
//!   route limits the data.
//! * Trailers are checked and dropped, never merged into the head (RFC 9110 section 6.5.1).

use std::ops::Range;

use super::parse::{Error, ErrorKind, Framing, is_tchar, is_value};

/// Enough for every known sender of extensions, which mean nothing.
const EXTENSION_BYTES: usize = 16 * 1024;
/// As much as a whole head may have by default.
const TRAILER_BYTES: usize = 16 * 1024;
/// As many as a head may have headers by default.
const TRAILER_FIELDS: usize = 100;
/// The 16 digits of a 64-bit size, and two line ends.
const CHUNK_OVERHEAD: usize = 20;

/// Limits of a chunked body's bytes that are not data (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of chunk extensions and superfluous zeros of chunk sizes, in the whole body.
    pub extension_bytes: usize,
    /// Bytes of the trailer section, line ends included.
    pub trailer_bytes: usize,
    /// Lines of the trailer section.
    pub trailer_fields: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { extension_bytes: EXTENSION_BYTES, trailer_bytes: TRAILER_BYTES, trailer_fields: TRAILER_FIELDS }
    }
}

/// The result of one call of [`Decoder::decode`] (RFC 9112 section 6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Consumed bytes of the input; the next call begins after them.
    pub consumed: usize,
    /// The part of the consumed bytes that is data; may be empty.
    pub data: Range<usize>,
    /// Whether the body ends with the consumed bytes. The next message follows.
    pub complete: bool,
}

/// A state of the automaton, named after what it waits for; see the drawing above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    /// A body of known length, of which `left` bytes are still to come.
    Length,
    /// First digit of a chunk size.
    SizeStart,
    /// Further digits, or the end of the size.
    Size,
    /// After white space behind a size or an extension value: only `;` may follow.
    BeforeSemicolon,
    /// After `;`: the name of an extension.
    NameStart,
    Name,
    /// After white space behind an extension name: `=` or `;` must follow.
    AfterName,
    /// After `=`: a token or a quoted string.
    ValueStart,
    Token,
    Quoted,
    /// After a backslash in a quoted string.
    Escape,
    /// After the closing quote.
    QuoteEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Decodes a body from the bytes of a connection (RFC 9112 sections 6.3 and 7.1).
///
/// Pass it the bytes read, use `data`, drop `consumed` bytes, and repeat until `complete`. It never
/// needs a byte twice.
///
/// ```
/// use postlude::http::{chunked::{BodyLimits, Decoder}, parse::Framing};
///
/// let mut wire: &[u8] = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET";
/// let mut decoder = Decoder::new(Framing::Chunked, BodyLimits::default());
/// let mut body = Vec::new();
/// while !decoder.is_complete() {
///     let found = decoder.decode(wire)?;
///     body.extend_from_slice(&wire[found.data]);
///     wire = &wire[found.consumed..];
/// }
/// assert_eq!((body.as_slice(), wire), (&b"hello world"[..], &b"GET"[..]));
/// # Ok::<(), postlude::http::parse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    state: DecoderState,
    /// Data bytes still to come: of the body (`Length`), or of the current chunk.
    left: u64,
    /// Bytes consumed since the body began, for the offset of errors.
    offset: usize,
    /// Counted against `limits`, over the whole body.
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
    limits: BodyLimits,
    /// The first error. Every later call returns it again.
    failed: Option<Error>,
}

impl Decoder {
    /// Creates a decoder for one body, framed as its head says (RFC 9112 section 6.3).
    #[must_use]
    pub fn new(framing: Framing, limits: BodyLimits) -> Self {
        let (state, left) = match framing {
            Framing::None | Framing::Length(0) => (DecoderState::Done, 0),
            Framing::Length(n) => (DecoderState::Length, n),
            Framing::Chunked => (DecoderState::SizeStart, 0),
        };
        Self { state, left, offset: 0, extension_bytes: 0, trailer_bytes: 0, trailer_fields: 0, limits, failed: None }
    }

    /// Returns whether the body has ended. If the connection ends before, the message is incomplete
    /// (RFC 9112 section 8).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == DecoderState::Done
    }

    /// Decodes `input`, which begins where the last call stopped (RFC 9112 section 7.1).
    ///
    /// It stops at the end of the input, after a run of data, or at the end of the body.
    ///
    /// # Errors
    ///
    /// If the framing is invalid or a limit is exceeded. Later calls return the same error: answer
    /// with [`Error::status`] and close.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut at = 0;
        while at < input.len() && !self.is_complete() {
            if matches!(self.state, DecoderState::Length | DecoderState::Data) {
                return Ok(self.take_data(at, input.len()));
            }
            self.step(input[at]).map_err(|kind| self.fail(kind, at))?;
            at += 1;
        }
        Ok(self.found(at, at..at))
    }

    /// Consumes the data in `at..len`, at most to the end of the chunk or body.
    fn take_data(&mut self, at: usize, len: usize) -> Decoded {
        let here = usize::try_from(self.left).map_or(len - at, |left| left.min(len - at));
        self.left -= here as u64;
        if self.left == 0 {
            let known = self.state == DecoderState::Length;
            self.state = if known { DecoderState::Done } else { DecoderState::DataCr };
        }
        self.found(at + here, at..at + here)
    }

    fn found(&mut self, consumed: usize, data: Range<usize>) -> Decoded {
        self.offset = self.offset.saturating_add(consumed);
        Decoded { consumed, data, complete: self.is_complete() }
    }

    fn fail(&mut self, kind: ErrorKind, at: usize) -> Error {
        let error = Error::new(kind, self.offset.saturating_add(at));
        self.failed = Some(error);
        error
    }

    /// Moves the automaton by one framing byte.
    fn step(&mut self, byte: u8) -> Result<(), ErrorKind> {
        self.state = match self.state {
            DecoderState::SizeStart | DecoderState::Size => self.step_size(byte)?,
            DecoderState::SizeLf => {
                let next = if self.left == 0 { DecoderState::TrailerStart } else { DecoderState::Data };
                expect(byte, b'\n', next)?
            }
            DecoderState::DataCr => expect(byte, b'\r', DecoderState::DataLf)?,
            DecoderState::DataLf => expect(byte, b'\n', DecoderState::SizeStart)?,
            DecoderState::TrailerStart
            | DecoderState::TrailerName
            | DecoderState::TrailerValue
            | DecoderState::TrailerLf
            | DecoderState::EndLf => self.step_trailer(byte)?,
            DecoderState::Length | DecoderState::Data | DecoderState::Done => self.state,
            _ => self.step_extension(byte)?,
        };
        Ok(())
    }

    fn step_size(&mut self, byte: u8) -> Result<DecoderState, ErrorKind> {
        let Some(digit) = hex(byte) else {
            return match byte {
                _ if self.state == DecoderState::SizeStart => Err(ErrorKind::InvalidChunkSize),
                b'\r' => Ok(DecoderState::SizeLf),
                b';' | b' ' | b'\t' => self.step_extension(byte),
                _ => Err(ErrorKind::InvalidChunkSize),
            };
        };
        if self.state == DecoderState::Size && self.left == 0 {
            self.count_extension()?; // a leading zero: legal in any number, so they are limited
        }
        let shifted = self.left.checked_mul(16).ok_or(ErrorKind::ChunkSizeOverflow)?;
        self.left = shifted | u64::from(digit);
        Ok(DecoderState::Size)
    }

    /// Checks extensions and ignores them (RFC 9112 section 7.1.1).
    fn step_extension(&mut self, byte: u8) -> Result<DecoderState, ErrorKind> {
        self.count_extension()?;
        let state = self.state;
        let ends_part = matches!(state, DecoderState::Size | DecoderState::Token | DecoderState::QuoteEnd);
        Ok(match (state, byte) {
            (DecoderState::Quoted, b'"') => DecoderState::QuoteEnd,
            (DecoderState::Quoted, b'\\') => DecoderState::Escape,
            (DecoderState::Quoted | DecoderState::Escape, _) if is_value(byte) => DecoderState::Quoted,
            (DecoderState::NameStart | DecoderState::Name, _) if is_tchar(byte) => DecoderState::Name,
            (DecoderState::ValueStart | DecoderState::Token, _) if is_tchar(byte) => DecoderState::Token,
            (DecoderState::ValueStart, b'"') => DecoderState::Quoted,
            (DecoderState::NameStart | DecoderState::ValueStart | DecoderState::BeforeSemicolon, b' ' | b'\t') => state,
            (DecoderState::Name | DecoderState::AfterName, b'=') => DecoderState::ValueStart,
            (DecoderState::Name | DecoderState::AfterName, b' ' | b'\t') => DecoderState::AfterName,
            (_, b' ' | b'\t') if ends_part => DecoderState::BeforeSemicolon,
            (DecoderState::Name | DecoderState::AfterName | DecoderState::BeforeSemicolon, b';') => {
                DecoderState::NameStart
            }
            (_, b';') if ends_part => DecoderState::NameStart,
            (DecoderState::Name | DecoderState::Token | DecoderState::QuoteEnd, b'\r') => DecoderState::SizeLf,
            _ => return Err(ErrorKind::InvalidChunkExtension),
        })
    }

    fn count_extension(&mut self) -> Result<(), ErrorKind> {
        self.extension_bytes += 1;
        if self.extension_bytes > self.limits.extension_bytes {
            return Err(ErrorKind::ChunkExtensionsTooLarge);
        }
        Ok(())
    }

    /// Checks the trailer section: headers by the rules of the head, then an empty line (RFC 9112
    /// section 7.1.2).
    fn step_trailer(&mut self, byte: u8) -> Result<DecoderState, ErrorKind> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.limits.trailer_bytes {
            return Err(ErrorKind::TrailersTooLarge);
        }
        match (self.state, byte) {
            (DecoderState::TrailerStart, b'\r') => Ok(DecoderState::EndLf),
            (DecoderState::TrailerStart, _) => self.start_trailer(byte),
            (DecoderState::TrailerName, b':') => Ok(DecoderState::TrailerValue),
            (DecoderState::TrailerName, b'\r') => Err(ErrorKind::MissingColon),
            (DecoderState::TrailerName, b' ' | b'\t') => Err(ErrorKind::SpaceBeforeColon),
            (DecoderState::TrailerName, _) if is_tchar(byte) => Ok(DecoderState::TrailerName),
            (DecoderState::TrailerName, _) => Err(ErrorKind::InvalidFieldName),
            (DecoderState::TrailerValue, b'\r') => Ok(DecoderState::TrailerLf),
            (DecoderState::TrailerValue, b'\n') => Err(ErrorKind::BareLf),
            (DecoderState::TrailerValue, _) if is_value(byte) => Ok(DecoderState::TrailerValue),
            (DecoderState::TrailerValue, _) => Err(ErrorKind::InvalidFieldValue),
            (DecoderState::TrailerLf, b'\n') => Ok(DecoderState::TrailerStart),
            (DecoderState::EndLf, b'\n') => Ok(DecoderState::Done),
            _ => Err(ErrorKind::BareCr),
        }
    }

    fn start_trailer(&mut self, byte: u8) -> Result<DecoderState, ErrorKind> {
        self.trailer_fields += 1;
        match byte {
            _ if self.trailer_fields > self.limits.trailer_fields => Err(ErrorKind::TooManyFields),
            b' ' | b'\t' => Err(ErrorKind::ObsFold),
            b'\n' => Err(ErrorKind::BareLf),
            _ if is_tchar(byte) => Ok(DecoderState::TrailerName),
            _ => Err(ErrorKind::InvalidFieldName),
        }
    }
}

/// Requires one byte of the line end after a size or data.
fn expect(byte: u8, wanted: u8, next: DecoderState) -> Result<DecoderState, ErrorKind> {
    if byte == wanted { Ok(next) } else { Err(ErrorKind::InvalidChunkEnd) }
}

pub(crate) fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Appends `data` to `out` as one chunk. Empty data appends nothing, because an empty chunk would
/// end the body (RFC 9112 section 7.1).
///
/// ```
/// use postlude::http::chunked::{write_chunk, write_last_chunk};
/// let mut out = Vec::new();
/// write_chunk(&mut out, b"hello");
/// write_chunk(&mut out, b"");
/// write_last_chunk(&mut out);
/// assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
/// ```
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.reserve(data.len() + CHUNK_OVERHEAD);
    let digits = (usize::BITS - data.len().leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(data.len() >> (4 * digit)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and an empty trailer section, which end a body (RFC 9112 section 7.1).
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}
