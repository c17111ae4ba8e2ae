//! A connection's two buffers.
//!
//! [`Input`] holds bytes that were read and not yet consumed. [`OutputBuffer`] holds answers that
//! were not yet written. Small ones share one buffer, so that a batch of pipelined answers is one
//! write. A big body follows the buffer, and is not copied. An answer with background tasks or
//! delivery callbacks leaves a mark; they run when the count of written bytes passes it.
//!
//! A loopback or fast network moves megabytes per call, and the kernel copies them on this thread.
//! So bytes cost budget, as operations do: a connection moves at most 2 MiB before the others have
//! their turn.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_io::{AsyncRead, AsyncWrite};

use super::timer::RateLimit;
use crate::deferred::Outcome;
use crate::http::app::delivery::Watch;
use crate::http::app::response::ResponseBody;
use crate::http::background::Trigger;
use crate::task::{has_budget, spend};

/// The size of a read at first, and of spare buffers.
const SMALL: usize = 8 * 1024;
/// The size of a read while a client sends as fast as it is read.
const LARGE: usize = 128 * 1024;
/// The most bytes of one write: half a budget. So large because the bytes that a socket does not
/// take now stay in memory for another turn.
const LARGEST_WRITE: usize = 1024 * 1024;
/// Bytes that cost as much budget as an operation, because moving them takes about as long as a
/// system call. Over loopback a budget of single-byte writes and a budget of bytes both take 0.1 to
/// 0.6 ms: `cargo run --release --example load bytes` measures them, and another client's latency.
const BYTES_PER_OPERATION: usize = 16 * 1024;

#[inline]
fn spend_bytes(bytes: usize) {
    for _ in 0..bytes / BYTES_PER_OPERATION {
        spend();
    }
}

/// Is ready while there is budget; without it the task is woken for its next poll.
#[inline]
pub(super) fn poll_budget(cx: &Context<'_>) -> Poll<()> {
    if has_budget() {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Empty input buffers, for connections that read. One that grew for a body is kept for the next
/// body: so it is zeroed once, not per body.
#[derive(Default)]
pub(super) struct SpareBuffers {
    small: RefCell<Vec<Vec<u8>>>,
    /// Sorted by length.
    grown: RefCell<Vec<Vec<u8>>>,
}

impl SpareBuffers {
    /// The number of small buffers kept: half a MiB in all.
    const SMALL_COUNT: usize = 64;
    /// The number of grown buffers kept, at most 1 MiB in all.
    const GROWN_COUNT: usize = 8;

    fn take_small(&self) -> Vec<u8> {
        let kept = self.small.borrow_mut().pop();
        kept.unwrap_or_else(|| vec![0; SMALL])
    }

    /// Takes the largest grown one, if it has at least `least` bytes.
    fn take_grown(&self, least: usize) -> Option<Vec<u8>> {
        let mut kept = self.grown.borrow_mut();
        let is_of_use = kept.last().is_some_and(|largest| largest.len() >= least);
        if is_of_use { kept.pop() } else { None }
    }

    fn keep(&self, buffer: Vec<u8>) {
        if buffer.len() > SMALL {
            self.keep_grown(buffer);
        } else if !buffer.is_empty() && self.small.borrow().len() < Self::SMALL_COUNT {
            self.small.borrow_mut().push(buffer);
        }
    }

    fn keep_grown(&self, buffer: Vec<u8>) {
        let mut kept = self.grown.borrow_mut();
        let place = kept.partition_point(|smaller| smaller.len() < buffer.len());
        kept.insert(place, buffer);
        if kept.len() > Self::GROWN_COUNT {
            kept.remove(0);
        }
    }

    pub(super) fn clear(&self) {
        self.small.take();
        self.grown.take();
    }
}

#[derive(Debug, Default)]
pub(super) struct Input {
    /// All initialised: its length is the capacity for input.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Releases a buffer that grew.
    pub(super) fn shrink(&mut self, spare: &SpareBuffers) {
        if self.buffer.len() > SMALL {
            self.release(spare);
        }
    }

    /// Releases the buffer, whatever its size, if it is empty.
    pub(super) fn release(&mut self, spare: &SpareBuffers) {
        if self.is_empty() {
            spare.keep(std::mem::take(&mut self.buffer));
        }
    }

    /// Reads once and appends the bytes. Returns 0 at the end of the connection.
    pub(super) fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        spare: &SpareBuffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready!(poll_budget(cx));
        self.make_room(spare);
        let count = ready!(Pin::new(io).poll_read(cx, &mut self.buffer[self.end..]))?;
        spend_bytes(count);
        self.end += count;
        Poll::Ready(Ok(count))
    }

    fn make_room(&mut self, spare: &SpareBuffers) {
        if self.buffer.is_empty() {
            self.buffer = spare.take_small();
        }
        if self.end < self.buffer.len() {
            return;
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    /// Returns whether more bytes fit without a larger buffer.
    pub(super) fn has_room(&self) -> bool {
        self.is_empty() || self.bytes().len() < self.buffer.len()
    }

    /// Doubles the empty buffer up to `LARGE`, so that the next read is larger.
    pub(super) fn grow_for_body(&mut self, spare: &SpareBuffers) {
        if self.is_empty() && self.buffer.len() < LARGE {
            let double = self.buffer.len().max(SMALL) * 2;
            self.buffer = spare.take_grown(double).unwrap_or_else(|| vec![0; double]);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.end > 0 && self.end == self.buffer.len()
    }
}

/// Bodies up to this size are copied into the buffer.
const COPIED: usize = 16 * 1024;
/// The capacity that the empty buffer keeps.
const KEPT: usize = 16 * 1024;

/// The end of an answer with background tasks or delivery callbacks.
struct Mark {
    /// The value of `OutputBuffer::queued` at the end.
    end: u64,
    trigger: Option<Trigger>,
    watch: Option<Watch>,
}

impl Mark {
    fn fire(self, outcome: Outcome, accepted: u64) {
        if let Some(watch) = self.watch {
            watch.end(outcome == Outcome::Delivered, accepted.min(self.end));
        }
        if let Some(trigger) = self.trigger {
            trigger.fire(outcome);
        }
    }
}

/// Returns the part that one write takes.
fn first(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(LARGEST_WRITE)]
}

pub(super) struct OutputBuffer {
    /// The number of waiting bytes above which the output is full.
    limit: u64,
    /// Heads and small bodies. The first `sent` bytes are written.
    buffer: Vec<u8>,
    sent: usize,
    /// A big body, which follows the buffer. Its first `big_sent` bytes are written.
    big: Option<ResponseBody>,
    big_sent: usize,
    /// Counts of bytes since the beginning: appended, written, and written before the last flush.
    queued: u64,
    written: u64,
    flushed: u64,
    /// The ends of complete answers that are not yet written.
    marks: VecDeque<Mark>,
    /// The callbacks of the answer that is being appended.
    watch: Option<Watch>,
    /// The time that the client may still let the output wait.
    patience: RateLimit,
    /// Set when the socket takes no more bytes. All later bytes are thrown away.
    broken: bool,
}

impl OutputBuffer {
    pub(super) fn new(limit: usize, patience: RateLimit) -> Self {
        Self {
            limit: limit as u64,
            buffer: Vec::new(),
            sent: 0,
            big: None,
            big_sent: 0,
            queued: 0,
            written: 0,
            flushed: 0,
            marks: VecDeque::new(),
            watch: None,
            patience,
            broken: false,
        }
    }

    /// Returns whether it holds nothing of its connection.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_empty() && !self.broken && self.marks.is_empty()
    }

    /// Returns whether waiting bytes must be written before more are appended.
    pub(super) fn is_full(&self) -> bool {
        self.waiting() > self.limit
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flushed == self.queued
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn holds_tasks(&self) -> bool {
        self.marks.iter().any(|mark| mark.trigger.is_some())
    }

    /// Returns the number of bytes not yet written.
    pub(super) fn waiting(&self) -> u64 {
        self.queued - self.written
    }

    /// Returns the bytes in memory that wait, whatever part of them is written.
    pub(super) fn memory(&self) -> usize {
        let big = match &self.big {
            None | Some(ResponseBody::Static(_)) => 0,
            Some(big) => big.bytes().map_or(0, <[u8]>::len),
        };
        self.buffer.len() + big
    }

    /// Returns the number of bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Appends the bytes that `write` writes. There must be no big body: they would overtake it.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(self.big.is_none(), "what follows a big body waits until it is written");
        let before = self.buffer.len();
        write(&mut self.buffer);
        self.count(self.buffer.len() - before);
    }

    /// Appends a body. Returns whether it is big: then flush it before anything is appended.
    pub(super) fn append_payload(&mut self, payload: ResponseBody) -> bool {
        let Some(bytes) = payload.bytes() else { return false };
        if bytes.len() <= COPIED {
            self.append(|buffer| buffer.extend_from_slice(bytes));
            return false;
        }
        self.count(bytes.len());
        self.big_sent = 0;
        self.big = Some(payload);
        true
    }

    fn count(&mut self, bytes: usize) {
        self.queued += bytes as u64;
        if self.broken {
            self.discard();
        }
    }

    /// Returns the number of bytes appended so far.
    pub(super) fn position(&self) -> u64 {
        self.queued
    }

    /// Stores the delivery callbacks of the answer that is being appended.
    pub(super) fn watch(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// Marks the end of an answer: its tasks start once it is written.
    pub(super) fn mark(&mut self, trigger: Option<Trigger>) {
        let mark = Mark { end: self.queued, trigger, watch: self.watch.take() };
        if mark.trigger.is_none() && mark.watch.is_none() {
            return;
        }
        if self.broken {
            mark.fire(Outcome::Aborted, 0);
        } else {
            self.marks.push_back(mark);
            self.fire();
        }
    }

    fn fire(&mut self) {
        while self.marks.front().is_some_and(|mark| mark.end <= self.flushed) {
            if let Some(mark) = self.marks.pop_front() {
                mark.fire(Outcome::Delivered, self.flushed);
            }
        }
    }

    /// Writes all waiting bytes. A failed write breaks the output, which then counts as flushed.
    pub(super) fn poll_flush<IO: AsyncWrite + Unpin>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_empty() {
            let before = self.written;
            let polled = self.poll_write(io, cx);
            if self.written > before {
                self.patience.earn(self.written - before);
            }
            match ready!(polled) {
                Ok(()) => self.fire(),
                Err(_) => self.break_off(),
            }
        }
        self.patience.pause();
        Poll::Ready(())
    }

    /// Returns the deadline for a client that takes no more bytes.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.patience.deadline()
    }

    /// Prepares the empty output for another connection.
    pub(super) fn reset(&mut self) {
        self.patience.reset();
    }

    fn poll_write<IO: AsyncWrite + Unpin>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = Pin::new(io);
        if self.waiting() > 0 {
            ready!(poll_budget(cx));
            let small = first(&self.buffer[self.sent..]);
            // The big body follows the whole buffer, not the part that is written now.
            let is_last = small.len() == self.buffer.len() - self.sent;
            let count = match self.big.as_ref().filter(|_| is_last).and_then(ResponseBody::bytes) {
                None => ready!(io.as_mut().poll_write(cx, small))?,
                Some(big) => {
                    let parts = [IoSlice::new(small), IoSlice::new(first(&big[self.big_sent..]))];
                    let parts = if small.is_empty() { &parts[1..] } else { &parts[..] };
                    ready!(io.as_mut().poll_write_vectored(cx, parts))?
                }
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            spend_bytes(count);
            self.advance(count);
        }
        ready!(io.poll_flush(cx))?;
        self.flushed = self.written;
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.written += count as u64;
        let small = count.min(self.buffer.len() - self.sent);
        self.sent += small;
        self.big_sent += count - small;
        if self.waiting() == 0 {
            self.discard();
        }
    }

    /// Drops all bytes, written or not.
    fn discard(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        self.big = None;
        (self.sent, self.big_sent) = (0, 0);
        self.written = self.queued;
        if self.broken {
            self.flushed = self.written;
        }
    }

    /// Stops writing, and aborts the answers that wait.
    pub(super) fn break_off(&mut self) {
        let accepted = self.written;
        self.broken = true;
        self.discard();
        let (marks, watch) = (std::mem::take(&mut self.marks), self.watch.take());
        for mark in marks {
            mark.fire(Outcome::Aborted, accepted);
        }
        if let Some(watch) = watch {
            watch.end(false, accepted);
        }
    }
}

impl Drop for OutputBuffer {
    fn drop(&mut self) {
        self.break_off();
    }
}
