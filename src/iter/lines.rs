//! Items out of a reader: [`lines`] of text, [`chunks`] of bytes.
//!
//! Bytes that have been read but not handed out stay in the iterator, never in a future. So
//! dropping the wait for the next item loses nothing.
//!
//! # How it works
//!
//! The buffer of [`Lines`] holds `start..end`; up to `scanned` it is known to contain no line feed.
//! It is moved to the front or doubled only when a read has no room. A line longer than the limit
//! becomes an error at once, and its rest is discarded as it comes in. So the buffer never holds
//! more than the limit and the two bytes of a line ending (or one read, if that is more).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_io::AsyncRead;
use memchr::memchr;
use pin_project_lite::pin_project;

use crate::executor::budget;

/// Default of [`Lines::max_len`]. Longer than lines that people write or protocols allow (SMTP 1000
/// bytes, HTTP 8 to 64 KiB), and small enough for thousands of connections.
const MAX_LEN: usize = 64 * 1024;

/// Bytes offered to the first read: two pages.
const FIRST_BUFFER: usize = 8 * 1024;

/// Splits a reader into lines, without their endings: `\n` or `\r\n`. The last line may lack one.
///
/// The iterator buffers, so read from the reader through it alone. A line that is invalid UTF-8, or
/// longer than [`Lines::max_len`], is an error of kind `InvalidData` in its place, and the next
/// line follows. An error of the reader is returned and ends the iterator; an unfinished line is
/// lost.
///
/// Dropping a wait for the next line loses nothing; dropping the iterator loses its buffer.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use futures_lite::StreamExt;
/// use postlude::iter;
/// let text: &[u8] = b"one\r\ntwo\nthree";
/// let lines: Vec<String> = iter::lines(text).try_collect().await?;
/// assert_eq!(lines, ["one", "two", "three"]);
/// # Ok(()) })? }
/// ```
pub fn lines<R: AsyncRead>(reader: R) -> Lines<R> {
    Lines {
        reader,
        buffer: Vec::new(),
        start: 0,
        scanned: 0,
        end: 0,
        max_len: MAX_LEN,
        skips: false,
        source: ReaderState::Open,
    }
}

/// Whether the reader may have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReaderState {
    Open,
    /// The reader has ended; the last line may still be in the buffer.
    AtEnd,
    Closed,
}

pin_project! {
    /// The async iterator of [`lines`].
    #[must_use = "streams do nothing unless polled"]
    pub struct Lines<R> {
        #[pin]
        reader: R,
        buffer: Vec<u8>,
        start: usize,
        scanned: usize,
        end: usize,
        max_len: usize,
        // Whether the rest of an overlong line is being discarded.
        skips: bool,
        source: ReaderState,
    }
}

impl<R: AsyncRead> Lines<R> {
    /// Sets the length of the longest line, in bytes without its ending. Default 64 KiB.
    pub fn max_len(mut self, bytes: usize) -> Self {
        self.max_len = bytes;
        self
    }
}

impl<R: AsyncRead> Stream for Lines<R> {
    type Item = io::Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        ready!(budget::poll_available(cx));
        let line = loop {
            if let Some(line) = self.as_mut().take_line() {
                break Some(line);
            }
            match self.source {
                ReaderState::Closed => break None,
                ReaderState::AtEnd => break self.as_mut().take_last(),
                ReaderState::Open => {
                    if let Err(error) = ready!(self.as_mut().poll_fill(cx)) {
                        *self.as_mut().project().source = ReaderState::Closed;
                        break Some(Err(error));
                    }
                }
            }
        };
        budget::spend();
        Poll::Ready(line)
    }
}

impl<R: AsyncRead> FusedStream for Lines<R> {
    fn is_terminated(&self) -> bool {
        self.source == ReaderState::Closed
    }
}

impl<R: AsyncRead> Lines<R> {
    /// Takes the next whole line of the buffer, or the error of one that is already too long.
    fn take_line(self: Pin<&mut Self>) -> Option<io::Result<String>> {
        let this = self.project();
        while let Some(at) = memchr(b'\n', &this.buffer[*this.scanned..*this.end]) {
            let line = *this.start..*this.scanned + at;
            *this.start = line.end + 1;
            *this.scanned = *this.start;
            if !std::mem::take(this.skips) {
                let line = &this.buffer[line];
                return Some(decode(line.strip_suffix(b"\r").unwrap_or(line), *this.max_len));
            }
        }
        *this.scanned = *this.end;
        let unfinished = &this.buffer[*this.start..*this.end];
        if !*this.skips && unfinished.strip_suffix(b"\r").unwrap_or(unfinished).len() <= *this.max_len {
            return None;
        }
        *this.start = *this.end;
        let already_told = std::mem::replace(this.skips, true);
        (!already_told).then(|| Err(too_long(*this.max_len)))
    }

    /// Takes the rest of the buffer, after the reader has ended.
    fn take_last(self: Pin<&mut Self>) -> Option<io::Result<String>> {
        let this = self.project();
        *this.source = ReaderState::Closed;
        let line = &this.buffer[*this.start..*this.end];
        (!line.is_empty()).then(|| decode(line, *this.max_len))
    }

    /// Reads once, after making room.
    fn poll_fill(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if *this.start > 0 && (this.start == this.end || *this.end == this.buffer.len()) {
            this.buffer.copy_within(*this.start..*this.end, 0);
            *this.end -= *this.start;
            *this.scanned -= *this.start;
            *this.start = 0;
        }
        if *this.end == this.buffer.len() {
            let len = (2 * this.buffer.len()).clamp(FIRST_BUFFER, this.max_len.saturating_add(2).max(FIRST_BUFFER));
            this.buffer.resize(len, 0);
        }
        let n = loop {
            match ready!(this.reader.as_mut().poll_read(cx, &mut this.buffer[*this.end..])) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        *this.end += n;
        if n == 0 {
            *this.source = ReaderState::AtEnd;
        }
        Poll::Ready(Ok(()))
    }
}

fn decode(line: &[u8], max_len: usize) -> io::Result<String> {
    if line.len() > max_len {
        return Err(too_long(max_len));
    }
    match std::str::from_utf8(line) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

fn too_long(max_len: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a line is longer than {max_len} bytes; see `Lines::max_len`"))
}

impl<R> fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("buffered", &(self.end - self.start))
            .field("max_len", &self.max_len)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Yields the bytes of a reader as they come, in pieces of at most `size`.
///
/// A piece is the result of one read and need not be full. An error of the reader is returned and
/// ends the iterator.
///
/// Dropping a wait for the next piece, or the iterator, loses nothing: it buffers nothing.
///
/// # Panics
///
/// "chunks of no bytes would never end" if `size` is 0.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use futures_lite::StreamExt;
/// use postlude::iter;
/// let pieces: Vec<Vec<u8>> = iter::chunks(&b"abcdefgh"[..], 3).try_collect().await?;
/// assert_eq!(pieces, [&b"abc"[..], b"def", b"gh"]);
/// # Ok(()) })? }
/// ```
#[track_caller]
pub fn chunks<R: AsyncRead>(reader: R, size: usize) -> Chunks<R> {
    assert!(size > 0, "chunks of no bytes would never end");
    Chunks { reader: Some(reader), buffer: vec![0; size] }
}

pin_project! {
    /// The async iterator of [`chunks`].
    #[must_use = "streams do nothing unless polled"]
    pub struct Chunks<R> {
        // `None` once it has ended.
        #[pin]
        reader: Option<R>,
        buffer: Vec<u8>,
    }
}

impl<R: AsyncRead> Stream for Chunks<R> {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        ready!(budget::poll_available(cx));
        let mut this = self.project();
        loop {
            let read = match this.reader.as_mut().as_pin_mut() {
                Some(reader) => ready!(reader.poll_read(cx, this.buffer)),
                None => Ok(0),
            };
            let item = match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => None,
                Ok(n) => Some(Ok(this.buffer[..n].to_vec())),
                Err(error) => Some(Err(error)),
            };
            budget::spend();
            if !matches!(item, Some(Ok(_))) {
                this.reader.set(None);
            }
            return Poll::Ready(item);
        }
    }
}

impl<R: AsyncRead> FusedStream for Chunks<R> {
    fn is_terminated(&self) -> bool {
        self.reader.is_none()
    }
}

impl<R> fmt::Debug for Chunks<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks")
            .field("size", &self.buffer.len())
            .field("ended", &self.reader.is_none())
            .finish_non_exhaustive()
    }
}
