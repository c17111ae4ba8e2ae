//! Futures of a stream run side by side, as tasks: [`buffered`] and [`buffer_unordered`].
//!
//! The futures are spawned, so the loop polls them and not the consumer: they go on while the consumer does something else. Adapters that
//! poll their futures themselves stop them all whenever the consumer awaits anything but the next item, and time limits, locks and
//! connections inside of them suffer.
//!
//! What has finished counts until the consumer has taken it, so a slow consumer has no more than `n` outputs waiting for it.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use pin_project_lite::pin_project;

use crate::executor::budget;
use crate::executor::queue::QueueId;
use crate::executor::stage::Stage;
use crate::task::{AbortOnDrop, JoinError, JoinHandle, JoinSet, spawn_task};

/// Runs up to `n` futures of `stream` at a time as tasks, and yields their outputs in the order of the stream.
///
/// Since they are tasks, they must be `'static`, and they go on while the consumer is busy. One that has finished counts among the `n` until
/// its output is taken; then the next one is started at once, before the consumer asks for another item. The source is asked for futures
/// while the adapter is polled, not else.
///
/// # Cancel safety
///
/// Dropping a wait for the next item loses nothing, and what runs goes on. Dropping the adapter drops the source and aborts what runs.
///
/// # Panics
///
/// "`buffered` needs room for at least one future" if `n` is 0. A panic of a future goes to the consumer in place of its output; the others
/// go on, and polling again gives the next one. When polled: as [`spawn`](crate::spawn), and where the runtime of what runs is not current
/// or is gone.
///
/// ```
/// use std::time::Duration;
/// use futures::{StreamExt, stream};
/// use postlude::{iter, time};
///
/// # postlude::Runtime::builder().paused_clock().build().unwrap().block_on(async {
/// let start = time::now();
/// let answers = stream::iter([3, 1, 2]).map(async |n| {
///     time::sleep(Duration::from_secs(n)).await;
///     n
/// });
/// assert_eq!(iter::buffered(answers, 3).collect::<Vec<_>>().await, [3, 1, 2]);
/// assert_eq!(time::now() - start, Duration::from_secs(3));
/// # }).unwrap();
/// ```
#[track_caller]
pub fn buffered<S>(stream: S, n: usize) -> Buffered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    assert!(n > 0, "`buffered` needs room for at least one future");
    Buffered {
        source: Source { stream: Some(stream), n },
        running: VecDeque::new(),
        output: None,
        caller: Location::caller(),
    }
}

/// Runs up to `n` futures of `stream` at a time as tasks, and yields their outputs in the order in
/// which they finish. Otherwise as [`buffered`].
///
/// # Cancel safety
///
/// As [`buffered`].
///
/// # Panics
///
/// As [`buffered`]; "`buffer_unordered` needs room for at least one future" if `n` is 0.
#[track_caller]
pub fn buffer_unordered<S>(stream: S, n: usize) -> BufferUnordered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    assert!(n > 0, "`buffer_unordered` needs room for at least one future");
    BufferUnordered {
        source: Source { stream: Some(stream), n },
        running: JoinSet::new(),
        output: None,
        caller: Location::caller(),
    }
}

pin_project! {
    /// Where futures come from.
    struct Source<S> {
        // `None` once it has ended.
        #[pin]
        stream: Option<S>,
        n: usize,
    }
}

impl<S: Stream> Source<S> {
    /// The next future to run beside `running` others, if there is one now; otherwise the task is woken when it may be otherwise.
    fn poll_future(self: Pin<&mut Self>, cx: &mut Context<'_>, running: usize) -> Option<S::Item> {
        let mut this = self.project();
        if running >= *this.n {
            return None;
        }
        let stream = this.stream.as_mut().as_pin_mut()?;
        if budget::poll_available(cx).is_pending() {
            return None;
        }
        let Poll::Ready(future) = stream.poll_next(cx) else { return None };
        budget::spend();
        if future.is_none() {
            this.stream.set(None);
        }
        future
    }

    fn size_hint(&self, running: usize) -> (usize, Option<usize>) {
        let (lower, upper) = self.stream.as_ref().map_or((0, Some(0)), Stream::size_hint);
        (lower.saturating_add(running), upper.and_then(|upper| upper.checked_add(running)))
    }
}

/// What a task came to, for the consumer.
fn output_of<T>(result: Result<T, JoinError>) -> T {
    result.unwrap_or_else(|error| match error.into_panic() {
        Some(panic) => resume_unwind(panic),
        // Nobody else can abort it.
        None => panic!("the runtime on which the futures of `buffered` ran is gone"),
    })
}

pin_project! {
    /// The stream of [`buffered`].
    #[must_use = "streams do nothing unless polled"]
    pub struct Buffered<S>
    where
        S: Stream,
        S::Item: Future,
    {
        #[pin]
        source: Source<S>,
        // In the order of the source.
        running: VecDeque<AbortOnDrop<<S::Item as Future>::Output>>,
        // Set within a poll only, and by one in which the source panicked.
        output: Option<<S::Item as Future>::Output>,
        caller: &'static Location<'static>,
    }
}

impl<S> Buffered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    fn start_futures(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.project();
        while let Some(future) = this.source.as_mut().poll_future(cx, this.running.len()) {
            let task = spawn_task(Stage::boxed(future), QueueId::FOREGROUND, None, this.caller, "iter::buffered");
            this.running.push_back(JoinHandle::new(task).abort_on_drop());
        }
    }

    fn take_output(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.project();
        let Some(first) = this.running.front_mut() else { return };
        if let Poll::Ready(result) = Pin::new(first).poll(cx) {
            drop(this.running.pop_front());
            *this.output = Some(output_of(result));
        }
    }
}

impl<S> Stream for Buffered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    type Item = <S::Item as Future>::Output;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_terminated() {
            return budget::poll_proceed(cx).map(|()| None);
        }
        ready!(budget::poll_available(cx));
        if self.output.is_none() {
            self.as_mut().take_output(cx);
        }
        // After the taking, so that the place of what was taken is filled while the consumer is busy with it.
        self.as_mut().start_futures(cx);
        if self.output.is_none() {
            self.as_mut().take_output(cx);
        }
        match self.as_mut().project().output.take() {
            None if !self.is_terminated() => Poll::Pending,
            output => Poll::Ready(output),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.source.size_hint(self.running.len() + usize::from(self.output.is_some()))
    }
}

impl<S> FusedStream for Buffered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    fn is_terminated(&self) -> bool {
        self.source.stream.is_none() && self.running.is_empty() && self.output.is_none()
    }
}

impl<S: Stream<Item: Future>> fmt::Debug for Buffered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered")
            .field("n", &self.source.n)
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The stream of [`buffer_unordered`].
    #[must_use = "streams do nothing unless polled"]
    pub struct BufferUnordered<S>
    where
        S: Stream,
        S::Item: Future,
    {
        #[pin]
        source: Source<S>,
        running: JoinSet<<S::Item as Future>::Output>,
        // Set within a poll only, and by one in which the source panicked.
        output: Option<<S::Item as Future>::Output>,
        caller: &'static Location<'static>,
    }
}

impl<S> BufferUnordered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    fn start_futures(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.project();
        while let Some(future) = this.source.as_mut().poll_future(cx, this.running.len()) {
            this.running.spawn_at(future, this.caller, "iter::buffer_unordered");
        }
    }

    fn take_output(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.project();
        // An empty set would spend budget to say so.
        if this.running.is_empty() {
            return;
        }
        if let Poll::Ready(Some(result)) = this.running.poll_join_next(cx) {
            *this.output = Some(output_of(result));
        }
    }
}

impl<S> Stream for BufferUnordered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    type Item = <S::Item as Future>::Output;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_terminated() {
            return budget::poll_proceed(cx).map(|()| None);
        }
        ready!(budget::poll_available(cx));
        if self.output.is_none() {
            self.as_mut().take_output(cx);
        }
        // After the taking, as in `Buffered`.
        self.as_mut().start_futures(cx);
        if self.output.is_none() {
            self.as_mut().take_output(cx);
        }
        match self.as_mut().project().output.take() {
            None if !self.is_terminated() => Poll::Pending,
            output => Poll::Ready(output),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.source.size_hint(self.running.len() + usize::from(self.output.is_some()))
    }
}

impl<S> FusedStream for BufferUnordered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    fn is_terminated(&self) -> bool {
        self.source.stream.is_none() && self.running.is_empty() && self.output.is_none()
    }
}

impl<S: Stream<Item: Future>> fmt::Debug for BufferUnordered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferUnordered")
            .field("n", &self.source.n)
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}
