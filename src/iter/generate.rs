//! Generators: async iterators written as ordinary async code.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use pin_project_lite::pin_project;

use super::Boxed;
use super::body::{BodyFuture, EmitSlot, Out};

/// Makes an async iterator of the items that `body` emits.
///
/// The body runs only while the consumer polls. It may await sockets, timers and other generators,
/// and borrow from its caller. Dropping the iterator drops the body where it stands: its
/// destructors run, the rest of it does not (Python's `aclose`). A panic of the body goes to the
/// consumer and ends the iterator. A generator allocates once, and nothing per item.
///
/// Emitting an item spends no budget, so a body that never waits keeps its task's poll busy like
/// any loop. Operations that the body awaits do spend it.
///
/// Dropping a `next` of this iterator loses nothing: the body stays where it is.
///
/// ```
/// use futures::StreamExt;
/// use postlude::{iter, time};
/// use std::time::Duration;
///
/// # postlude::Runtime::builder().paused_clock().build().unwrap().block_on(async {
/// let squares = iter::generate(async |out| {
///     for n in 1..=3 {
///         time::sleep(Duration::from_secs(1)).await;
///         out.emit(n * n).await;
///     }
/// });
/// assert_eq!(squares.collect::<Vec<_>>().await, [1, 4, 9]);
/// # }).unwrap();
/// ```
pub fn generate<T>(body: impl AsyncFnOnce(&mut Out<T>)) -> Generate<T, impl Future<Output = ()>> {
    let slot = EmitSlot::new();
    let mut out = Out::new(&slot);
    Generate { body: BodyFuture::new(slot, async move { body(&mut out).await }) }
}

/// Like [`generate`], for a body that returns a `Result`: items arrive as `Ok`, and an error
/// arrives last.
///
/// ```
/// use futures::StreamExt;
///
/// # postlude::run(async {
/// let parsed = postlude::iter::try_generate(async |out| {
///     for word in ["1", "2", "x", "4"] {
///         out.emit(word.parse::<u32>()?).await;
///     }
///     Ok::<_, std::num::ParseIntError>(())
/// });
/// let parsed: Vec<_> = parsed.collect().await;
/// assert_eq!(parsed[..2], [Ok(1), Ok(2)]);
/// assert!(parsed[2].is_err() && parsed.len() == 3);
/// # }).unwrap();
/// ```
pub fn try_generate<T, E>(
    body: impl AsyncFnOnce(&mut Out<T>) -> Result<(), E>,
) -> TryGenerate<T, E, impl Future<Output = Result<(), E>>> {
    let slot = EmitSlot::new();
    let mut out = Out::new(&slot);
    TryGenerate { body: BodyFuture::new(slot, async move { body(&mut out).await }) }
}

pin_project! {
    /// The iterator of [`generate`]. Not `Unpin`: pin it with `pin!`, or [box](Self::boxed) it.
    #[must_use = "async iterators do nothing unless polled"]
    pub struct Generate<T, F> {
        #[pin]
        body: BodyFuture<T, (), F, ()>,
    }
}

impl<T, F: Future<Output = ()>> Generate<T, F> {
    /// Boxes the iterator, to store it or to recurse: [`Boxed`].
    pub fn boxed<'a>(self) -> Boxed<'a, T>
    where
        Self: 'a,
    {
        Box::pin(self)
    }
}

impl<T, F: Future<Output = ()>> Stream for Generate<T, F> {
    type Item = T;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.project().body.poll_item(cx)
    }
}

impl<T, F: Future<Output = ()>> FusedStream for Generate<T, F> {
    fn is_terminated(&self) -> bool {
        self.body.is_over()
    }
}

impl<T, F> fmt::Debug for Generate<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generate").finish_non_exhaustive()
    }
}

pin_project! {
    /// The iterator of [`try_generate`]. Not `Unpin`: pin it with `pin!`, or [box](Self::boxed) it.
    #[must_use = "async iterators do nothing unless polled"]
    pub struct TryGenerate<T, E, F> {
        #[pin]
        body: BodyFuture<T, (), F, Result<(), E>>,
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> TryGenerate<T, E, F> {
    /// Boxes the iterator, to store it or to recurse: [`Boxed`].
    pub fn boxed<'a>(self) -> Boxed<'a, Result<T, E>>
    where
        Self: 'a,
    {
        Box::pin(self)
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> Stream for TryGenerate<T, E, F> {
    type Item = Result<T, E>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        let mut body = self.project().body;
        body.as_mut().poll_item(cx).map(|item| match item {
            Some(item) => Some(Ok(item)),
            None => body.take_output().and_then(Result::err).map(Err),
        })
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> FusedStream for TryGenerate<T, E, F> {
    fn is_terminated(&self) -> bool {
        self.body.is_over() && self.body.output.is_none()
    }
}

impl<T, E, F> fmt::Debug for TryGenerate<T, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryGenerate").finish_non_exhaustive()
    }
}
