//! Request bodies: where they end, and which bytes of the wire belong to them.
//!
//! The decoder is a small automaton that takes one byte of framing at a time and keeps none of
//! them:
//!
//! ```text
//! Size ─CR→ SizeLf ─LF→ Data ─n bytes→ DataCr ─CR→ DataLf ─LF→ Size …
//!  │ ;                    └ size 0 → TrailerStart ─CR→ EndLf ─LF→ Done
//!  └→ extension states         name ─:→ value ─CR→ TrailerLf ─LF→ TrailerStart
//! ```
//!
//! Body bytes are never stepped over: as soon as a chunk begins, the longest run of it in the input
//! is handed back as a range. Every framing byte moves the automaton exactly once, so the work is
//! O(n) and the result (data, error, offset of the error) cannot depend on how the network cut the
//! input.
//!
//! # Invariants
//!
//! * Every line ends in CRLF. A bare LF or CR is an error wherever it stands (RFC 9112 section
//!   7.1).
//! * Only *no-data* bytes are limited here (extensions, superfluous zeros, trailers). How much data
//!   a route takes is the route's business.
//! * Trailers are checked and dropped, never merged into the head (RFC 9110 section 6.5.1).

use std::ops::Range;

use super::parse::{Error, ErrorKind, Framing, is_tchar, is_value};

/// Extensions mean nothing to anyone; 16 KiB of them in a body is room enough for every known
/// sender.
const EXTENSION_BYTES: usize = 16 * 1024;
/// Trailers get what a whole head gets by default.
const TRAILER_BYTES: usize = 16 * 1024;
/// As many trailer fields as a head may have fields by default.
const TRAILER_FIELDS: usize = 100;
/// 16 digits of a 64-bit size and two line ends.
const CHUNK_OVERHEAD: usize = 20;

/// What a chunked body may hold beside its data (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of chunk extensions and of superfluous zeros in chunk sizes, summed over the body.
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

/// What one call of [`Decoder::decode`] found (RFC 9112 section 6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are done with; the next call begins behind them.
    pub consumed: usize,
    /// The part of those bytes that is body data; may be empty.
    pub data: Range<usize>,
    /// Whether the body ends with the consumed bytes. What follows is the next message.
    pub complete: bool,
}

/// Where the automaton stands. What each state waits for is in its name; see the drawing above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    /// A body of known length, `left` bytes of which are to come.
    Length,
    /// First digit of a chunk size.
    SizeStart,
    /// Further digits, or the end of the size.
    Size,
    /// White space after a size or an extension value: only a `;` may follow.
    BeforeSemicolon,
    /// After `;`: the name of an extension.
    NameStart,
    Name,
    /// White space after an extension name: `=` or `;` follows.
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

/// Takes a body out of the bytes of a connection (RFC 9112 sections 6.3 and 7.1).
///
/// Feed it what was read, take `data`, drop `consumed` bytes, go on until `complete`. It keeps no
/// byte of the input, so nothing has to be fed twice.
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
    /// Data bytes still to come: of the body (`Length`), or of the chunk whose size is being or was
    /// read.
    left: u64,
    /// Bytes consumed since the body began; gives errors their offset.
    offset: usize,
    /// Counted against `limits`, over the whole body.
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
    limits: BodyLimits,
    /// The first error, given again by every later call: a broken body has no way back.
    failed: Option<Error>,
}

impl Decoder {
    /// A decoder for one body, framed as its head says (RFC 9112 section 6.3).
    #[must_use]
    pub fn new(framing: Framing, limits: BodyLimits) -> Self {
        let (state, left) = match framing {
            Framing::None | Framing::Length(0) => (DecoderState::Done, 0),
            Framing::Length(n) => (DecoderState::Length, n),
            Framing::Chunked => (DecoderState::SizeStart, 0),
        };
        Self { state, left, offset: 0, extension_bytes: 0, trailer_bytes: 0, trailer_fields: 0, limits, failed: None }
    }

    /// Whether the body has ended. If the connection ends before, the message was cut (RFC 9112
    /// section 8).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == DecoderState::Done
    }

    /// Looks at `input`, which begins where the last call stopped (RFC 9112 section 7.1).
    ///
    /// Stops at the end of the input, behind a run of data, or at the end of the body.
    ///
    /// # Errors
    ///
    /// The framing is broken or a limit is passed. There is no way back: answer and close.
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

    /// Hands out what `at..len` has of the current run of data.
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
            DecoderState::SizeLf => self.end_size_line(byte)?,
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
            self.count_extension()?; // one leading zero more: legal in any number, and worth nothing
        }
        let shifted = self.left.checked_mul(16).ok_or(ErrorKind::ChunkSizeOverflow)?;
        self.left = shifted | u64::from(digit);
        Ok(DecoderState::Size)
    }

    fn end_size_line(&mut self, byte: u8) -> Result<DecoderState, ErrorKind> {
        let next = if self.left == 0 { DecoderState::TrailerStart } else { DecoderState::Data };
        expect(byte, b'\n', next)
    }

    /// The extensions of RFC 9112 section 7.1.1, to be ignored once they are known to be well
    /// formed.
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

    /// The trailer section of RFC 9112 section 7.1.2: field lines by the rules of the head, then an
    /// empty line.
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

/// A byte that admits no other, at the end of a size line or of data.
fn expect(byte: u8, wanted: u8, next: DecoderState) -> Result<DecoderState, ErrorKind> {
    if byte == wanted { Ok(next) } else { Err(ErrorKind::InvalidChunkEnd) }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Appends `data` to `out` as one chunk; empty data appends nothing, for an empty chunk would end
/// the body (RFC 9112 section 7.1).
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

/// Appends the chunk that ends a body, and an empty trailer section (RFC 9112 section 7.1).
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Outcome = Result<(Vec<u8>, usize, bool), (Vec<u8>, Error)>;

    /// Decodes `wire`, which arrives in pieces that end at `cuts`: data, bytes consumed, whether
    /// complete.
    fn run(framing: Framing, limits: BodyLimits, wire: &[u8], cuts: &[usize]) -> Outcome {
        let mut decoder = Decoder::new(framing, limits);
        let (mut body, mut at) = (Vec::new(), 0);
        for end in cuts.iter().copied().chain([wire.len()]) {
            while at < end && !decoder.is_complete() {
                let found = decoder.decode(&wire[at..end]).map_err(|e| (body.clone(), e))?;
                body.extend_from_slice(&wire[at..end][found.data]);
                at += found.consumed;
            }
        }
        Ok((body, at, decoder.is_complete()))
    }

    fn whole(wire: &[u8]) -> Outcome {
        run(Framing::Chunked, BodyLimits::default(), wire, &[])
    }

    fn refused(wire: &[u8]) -> ErrorKind {
        whole(wire).expect_err(&format!("{:?}", wire.escape_ascii().to_string())).1.kind()
    }

    #[test]
    fn chunks_are_joined_and_what_follows_is_left() {
        for (wire, body) in [
            (&b"5\r\nhello\r\n0\r\n\r\n"[..], &b"hello"[..]),
            (b"0\r\n\r\n", b""),
            (b"0005\r\nhello\r\n0000\r\n\r\n", b"hello"),
            (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
            (b"9\r\n0\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n\r\n\r\n"),
            (b"5 ; a = b\r\nhello\r\n0;x\r\n\r\n", b"hello"),
            (b"5;a=\"b \\\" c;d\";e\r\nhello\r\n0\r\nX: v\r\nY:\r\n\r\n", b"hello"),
        ] {
            let rest = [wire, b"GET"].concat();
            assert_eq!(whole(&rest), Ok((body.to_vec(), wire.len(), true)));
        }
    }

    #[test]
    fn a_size_that_is_not_hexadecimal_is_refused() {
        for size in ["0x5", "+5", "-5", "-0", "g", "0_5", "", "5,5", "5\0", "5\x0b", "\"5\"", "5.0", "5h", " 5"] {
            let wire = format!("{size}\r\nhello\r\n0\r\n\r\n");
            assert_eq!(refused(wire.as_bytes()), ErrorKind::InvalidChunkSize, "{size:?}");
        }
    }

    #[test]
    fn a_size_never_wraps() {
        assert_eq!(refused(b"10000000000000005\r\nhello"), ErrorKind::ChunkSizeOverflow);
        let huge = b"FFFFFFFFFFFFFFFF\r\nhello";
        assert_eq!(whole(huge), Ok((b"hello".to_vec(), huge.len(), false)));
    }

    #[test]
    fn a_malformed_extension_is_refused() {
        for line in ["5 5", "5  ", "5;", "5;a\x01", "5;a=\"", "5;a\nb", "5;a ", "5;=b", "5;a=", "5\t"] {
            let wire = format!("{line}\r\nhello\r\n0\r\n\r\n");
            assert_eq!(refused(wire.as_bytes()), ErrorKind::InvalidChunkExtension, "{line:?}");
        }
    }

    #[test]
    fn a_line_end_other_than_crlf_is_refused() {
        for wire in [
            &b"5\r\nhello\n0\r\n\r\n"[..],
            b"5\r\nhello\r0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"4\r\nhello\r\n0\r\n\r\n",
            b"6\r\nhello\r\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n",
            b"5\r;a\r\nhello\r\n",
            b"5\r\r\nhello\r\n",
        ] {
            assert_eq!(refused(wire), ErrorKind::InvalidChunkEnd);
        }
        for wire in [&b"5\nhello\n0\n\n"[..], b"5\r\nhello\r\n\r\n0\r\n\r\n", b"\r\n5\r\nhello"] {
            assert_eq!(refused(wire), ErrorKind::InvalidChunkSize);
        }
    }

    #[test]
    fn a_malformed_trailer_is_refused() {
        for (line, kind) in [
            ("bad line", ErrorKind::SpaceBeforeColon),
            ("bad", ErrorKind::MissingColon),
            ("X : v", ErrorKind::SpaceBeforeColon),
            ("X: a\r\n b", ErrorKind::ObsFold),
            ("X: a\rb", ErrorKind::BareCr),
            ("X: a\nY: b", ErrorKind::BareLf),
            ("X: a\0b", ErrorKind::InvalidFieldValue),
            ("X@Y: v", ErrorKind::InvalidFieldName),
            ("\n", ErrorKind::BareLf),
        ] {
            let wire = format!("0\r\n{line}\r\n\r\n");
            assert_eq!(refused(wire.as_bytes()), kind, "{line:?}");
        }
    }

    #[test]
    fn what_is_not_data_is_limited_over_the_body() {
        let long = [&b"5;a="[..], &[b'x'; 17_000], b"\r\nhello"].concat();
        assert_eq!(refused(&long), ErrorKind::ChunkExtensionsTooLarge);
        let many = b"1;a=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\nz\r\n".repeat(3000);
        assert_eq!(refused(&many), ErrorKind::ChunkExtensionsTooLarge);
        assert_eq!(refused(&[b'0'; 20_000]), ErrorKind::ChunkExtensionsTooLarge);
        let lines = [&b"0\r\n"[..], &b"X: v\r\n".repeat(101)].concat();
        assert_eq!(refused(&lines), ErrorKind::TooManyFields);
        let value = [&b"0\r\nX: "[..], &[b'v'; 17_000]].concat();
        assert_eq!(refused(&value), ErrorKind::TrailersTooLarge);
    }

    #[test]
    fn a_body_of_known_length_ends_by_count() {
        let limits = BodyLimits::default();
        assert_eq!(run(Framing::Length(3), limits, b"abcdef", &[1]), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(run(Framing::Length(9), limits, b"abc", &[]), Ok((b"abc".to_vec(), 3, false)));
        assert_eq!(run(Framing::Length(0), limits, b"abc", &[]), Ok((Vec::new(), 0, true)));
    }

    #[test]
    fn an_error_is_given_again() {
        let mut decoder = Decoder::new(Framing::Chunked, BodyLimits::default());
        let error = decoder.decode(b"x").unwrap_err();
        assert_eq!(decoder.decode(b"5\r\nhello"), Err(error));
    }

    fn wire() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"5\r\nhello\r\n".to_vec()),
            2 => Just(b"3;a=\"b\"\r\nxyz\r\n".to_vec()),
            2 => Just(b"0\r\nX: y\r\n\r\n".to_vec()),
            1 => Just(b"00".to_vec()),
            1 => Just(b"\r\n".to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_body(
            wire in wire(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            small in any::<bool>(),
        ) {
            let tiny = BodyLimits { extension_bytes: 8, trailer_bytes: 9, trailer_fields: 1 };
            let limits = if small { tiny } else { BodyLimits::default() };
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            cuts.sort_unstable();
            let bytes: Vec<_> = (0..wire.len()).collect();
            for framing in [Framing::Chunked, Framing::Length(7)] {
                let once = run(framing, limits, &wire, &[]);
                prop_assert_eq!(&once, &run(framing, limits, &wire, &cuts));
                prop_assert_eq!(&once, &run(framing, limits, &wire, &bytes));
            }
        }

        #[test]
        fn what_is_written_is_read_again(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6)) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                write_chunk(&mut wire, chunk);
            }
            write_last_chunk(&mut wire);
            prop_assert_eq!(whole(&wire), Ok((chunks.concat(), wire.len(), true)));
        }
    }
}
