//! Futures of a stream run side by side, as tasks: [`buffered`] and [`buffer_unordered`].
//!
//! The loop polls the futures, not the consumer, so they continue while the consumer does something
//! else; docs/iterators.md says what goes wrong otherwise. A finished future counts among the `n`
//! until its output is taken, so a slow consumer has at most `n` outputs waiting for it.

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

/// Runs up to `n` futures of `stream` at a time as tasks, and yields their outputs in the order of
/// the stream.
///
/// As tasks the futures must be `'static`, and they continue while the consumer is busy. A finished
/// one counts among the `n` until its output is taken. The next one then starts at once, before the
/// consumer asks for another item. The adapter polls the source only while it is polled itself.
///
/// Dropping a wait for the next item loses nothing, and the tasks continue. Dropping the adapter
/// drops the source and aborts the tasks.
///
/// # Panics
///
/// "`buffered` needs room for at least one future" if `n` is 0. A panic of a future goes to the
/// consumer in place of its output; the others continue, and the next poll yields the next output.
/// When polled: as [`spawn`](crate::spawn), and where the runtime of the tasks is not current or is
/// gone.
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
    Buffered { core: Core::new(stream, n, Location::caller()) }
}

/// Like [`buffered`], but yields the outputs in the order in which the futures finish.
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
    BufferUnordered { core: Core::new(stream, n, Location::caller()) }
}

/// The tasks of an adapter. The two kinds differ in the order of their outputs.
trait Running<T>: Default {
    fn len(&self) -> usize;
    fn start(&mut self, future: impl Future<Output = T> + 'static, caller: &'static Location<'static>);
    /// Takes the result that is next in order; pending also without tasks.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>>;
}

/// In the order of the source.
impl<T: 'static> Running<T> for VecDeque<AbortOnDrop<T>> {
    fn len(&self) -> usize {
        self.len()
    }

    fn start(&mut self, future: impl Future<Output = T> + 'static, caller: &'static Location<'static>) {
        let task =
            JoinHandle::new(spawn_task(Stage::boxed(future), QueueId::FOREGROUND, None, caller, "iter::buffered"));
        self.push_back(task.abort_on_drop());
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let Some(first) = self.front_mut() else { return Poll::Pending };
        let result = ready!(Pin::new(first).poll(cx));
        drop(self.pop_front());
        Poll::Ready(result)
    }
}

/// In the order of finishing.
impl<T: 'static> Running<T> for JoinSet<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn start(&mut self, future: impl Future<Output = T> + 'static, caller: &'static Location<'static>) {
        self.spawn_at(future, caller, "iter::buffer_unordered");
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        // An empty set would spend budget to say so.
        if self.is_empty() {
            return Poll::Pending;
        }
        self.poll_join_next(cx).map(|result| result.expect("the set is not empty"))
    }
}

pin_project! {
    /// An adapter: its source, its tasks `R`, and an output `T`.
    struct Core<S, R, T> {
        // `None` once it has ended.
        #[pin]
        source: Option<S>,
        n: usize,
        running: R,
        // Set within a poll only, and by one in which the source panicked.
        output: Option<T>,
        caller: &'static Location<'static>,
    }
}

impl<S, R, T> Core<S, R, T>
where
    S: Stream<Item: Future<Output = T> + 'static>,
    R: Running<T>,
{
    fn new(stream: S, n: usize, caller: &'static Location<'static>) -> Self {
        Self { source: Some(stream), n, running: R::default(), output: None, caller }
    }

    fn is_over(&self) -> bool {
        self.source.is_none() && self.running.len() == 0 && self.output.is_none()
    }

    fn poll_item(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.is_over() {
            return budget::poll_proceed(cx).map(|()| None);
        }
        ready!(budget::poll_available(cx));
        self.as_mut().take_output(cx);
        // After an output is taken, so that its task's place is filled while the consumer is busy.
        self.as_mut().start_futures(cx);
        self.as_mut().take_output(cx);
        match self.as_mut().project().output.take() {
            None if !self.is_over() => Poll::Pending,
            output => Poll::Ready(output),
        }
    }

    fn take_output(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.project();
        if this.output.is_some() {
            return;
        }
        if let Poll::Ready(result) = this.running.poll_next(cx) {
            *this.output = Some(result.unwrap_or_else(|error| match error.into_panic() {
                Some(panic) => resume_unwind(panic),
                // Only the adapter could abort it otherwise.
                None => panic!("the runtime on which the futures of `buffered` ran is gone"),
            }));
        }
    }

    /// Starts futures while there is room, budget and a source that has one.
    fn start_futures(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.project();
        while this.running.len() < *this.n {
            let Some(source) = this.source.as_mut().as_pin_mut() else { return };
            if budget::poll_available(cx).is_pending() {
                return;
            }
            let Poll::Ready(future) = source.poll_next(cx) else { return };
            budget::spend();
            match future {
                Some(future) => this.running.start(future, this.caller),
                None => this.source.set(None),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = self.running.len() + usize::from(self.output.is_some());
        let (lower, upper) = self.source.as_ref().map_or((0, Some(0)), Stream::size_hint);
        (lower.saturating_add(held), upper.and_then(|upper| upper.checked_add(held)))
    }
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
        core: Core<S, VecDeque<AbortOnDrop<<S::Item as Future>::Output>>, <S::Item as Future>::Output>,
    }
}

impl<S> Stream for Buffered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    type Item = <S::Item as Future>::Output;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().core.poll_item(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.core.size_hint()
    }
}

impl<S> FusedStream for Buffered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    fn is_terminated(&self) -> bool {
        self.core.is_over()
    }
}

impl<S: Stream<Item: Future>> fmt::Debug for Buffered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered")
            .field("n", &self.core.n)
            .field("running", &self.core.running.len())
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
        core: Core<S, JoinSet<<S::Item as Future>::Output>, <S::Item as Future>::Output>,
    }
}

impl<S> Stream for BufferUnordered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    type Item = <S::Item as Future>::Output;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().core.poll_item(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.core.size_hint()
    }
}

impl<S> FusedStream for BufferUnordered<S>
where
    S: Stream<Item: Future<Output: 'static> + 'static>,
{
    fn is_terminated(&self) -> bool {
        self.core.is_over()
    }
}

impl<S: Stream<Item: Future>> fmt::Debug for BufferUnordered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferUnordered")
            .field("n", &self.core.n)
            .field("running", &self.core.running.len())
            .finish_non_exhaustive()
    }
}
