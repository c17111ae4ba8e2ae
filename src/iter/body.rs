//! The core of generators and coroutines: a future that hands out items while it is pending.
//!
//! The body is an ordinary future. It shares a cell with its poller. To emit, it puts the item in
//! the cell and is pending; the poller finds the item there and returns it. The next poll resumes
//! the body after its `emit`. That needs no waker where the body itself polls the `emit`: the task
//! that took the item is the one that polls again. The cell's `Rc` is the only allocation, made
//! once.
//!
//! A body may contain something that polls its parts only after they were woken: a scope, a
//! `FuturesUnordered`. An `emit` in there sees a waker other than the poller's. It stores a clone,
//! and the next poll wakes that first.
//!
//! # Invariants
//!
//! - The cell holds at most one item: an `emit` that finds it full waits for the next poll.
//! - The poller empties the cell before its poll returns. So an item is delivered once its `emit`
//!   has put it there, even if the `emit` is then dropped.
//! - A body that is ready or has panicked is dropped at once, and never polled again.
//! - The end comes last: the body's output is kept until a poll has no item. After a panic nothing
//!   comes.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use crate::event_loop::wake::{discard, wake_all};

/// The cell that a body and its poller share.
pub(super) struct EmitSlot<T, S> {
    /// Set by the body, taken by the poller before its poll returns.
    item: Cell<Option<T>>,
    /// Set by `resume`, taken by the body. Always unset in a generator.
    pub(super) sent: Cell<Option<S>>,
    /// Address of the last poll's waker, only ever compared. Null before the first poll, and while
    /// an `emit` waits with a waker of its own, so that the next poll's differs.
    poller: Cell<*const Waker>,
    /// The waker that such an `emit` stored.
    waiting: LeftWaker,
}

impl<T, S> EmitSlot<T, S> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            item: Cell::new(None),
            sent: Cell::new(None),
            poller: Cell::new(ptr::null()),
            waiting: LeftWaker::default(),
        })
    }

    /// Called before each poll of the body: an `emit` polled with this waker need not store it.
    #[inline]
    fn begin_poll(&self, waker: &Waker) {
        if !ptr::eq(self.poller.get(), waker) {
            self.change_poller(waker);
        }
    }

    #[cold]
    fn change_poller(&self, waker: &Waker) {
        self.poller.set(waker);
        wake_all(self.waiting.0.take());
    }

    /// Makes sure that the next poll of the body wakes this waker, unless it is the poller's own.
    #[inline]
    fn wait(&self, waker: &Waker) {
        if !ptr::eq(self.poller.get(), waker) {
            self.keep(waker);
        }
    }

    #[cold]
    fn keep(&self, waker: &Waker) {
        let before = self.waiting.0.replace(Some(waker.clone()));
        discard(before);
        self.poller.set(ptr::null());
    }

    fn is_full(&self) -> bool {
        let item = self.item.take();
        let full = item.is_some();
        self.item.set(item);
        full
    }
}

/// A type of its own, so that its drop catches a panic of the waker.
#[derive(Default)]
struct LeftWaker(Cell<Option<Waker>>);

impl Drop for LeftWaker {
    fn drop(&mut self) {
        discard(self.0.take());
    }
}

/// The place to emit items: see [`generate`](super::generate) and [`coroutine`](super::coroutine).
///
/// ```
/// use postlude::iter::{self, Out};
/// use futures::StreamExt;
///
/// async fn twice(n: u32, out: &mut Out<u32>) {
///     out.emit(n).await;
///     out.emit(n).await;
/// }
/// # postlude::run(async {
/// let numbers = iter::generate(async |out| twice(7, out).await);
/// assert_eq!(numbers.collect::<Vec<_>>().await, [7, 7]);
/// # }).unwrap();
/// ```
pub struct Out<T, S = ()> {
    slot: Rc<EmitSlot<T, S>>,
}

impl<T, S> Out<T, S> {
    pub(super) fn new(slot: &Rc<EmitSlot<T, S>>) -> Self {
        Self { slot: Rc::clone(slot) }
    }

    pub(super) fn hand_out(&mut self, item: T) -> Emit<'_, T, S> {
        Emit { slot: &self.slot, item: Some(item) }
    }
}

impl<T> Out<T> {
    /// Hands out an item; ready when the consumer asks for the next one. A coroutine uses
    /// [`ask`](Self::ask).
    ///
    /// Does nothing until it is polled. It borrows `Out`, so no two are in flight. It may be
    /// awaited anywhere in the body: in a `join` or a `select`, in a [`scope`](crate::task::scope)
    /// or one of its children, in a `FuturesUnordered`.
    ///
    /// # Cancel safety
    ///
    /// An `emit` dropped before its first poll drops the item. Once it has been polled, the item is
    /// delivered even if the `emit` is dropped. There is one exception: an earlier `emit` was
    /// dropped after its poll, and the consumer has not asked again. Then an `emit` has to wait,
    /// and dropped while it waits, it drops its item.
    pub fn emit(&mut self, item: T) -> Emit<'_, T> {
        self.hand_out(item)
    }
}

impl<T, S> fmt::Debug for Out<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").finish_non_exhaustive()
    }
}

/// The future of [`Out::emit`].
#[must_use = "futures do nothing unless awaited"]
pub struct Emit<'a, T, S = ()> {
    slot: &'a EmitSlot<T, S>,
    /// Unset once it is in the slot.
    item: Option<T>,
}

/// The item is moved, never pinned.
impl<T, S> Unpin for Emit<'_, T, S> {}

impl<T, S> Emit<'_, T, S> {
    /// Whether the poller has taken the item.
    #[inline]
    fn is_delivered(&mut self) -> bool {
        if self.item.is_none() {
            return !self.slot.is_full();
        }
        if !self.slot.is_full() {
            self.slot.item.set(self.item.take());
        }
        false
    }
}

/// Only a generator: without a value sent to it, an `emit` waits for the next poll alone.
impl<T> Future for Emit<'_, T> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_delivered() {
            return Poll::Ready(());
        }
        self.slot.wait(cx.waker());
        Poll::Pending
    }
}

impl<'a, T, S> Emit<'a, T, S> {
    /// Waits for the value that is sent in answer to the item.
    pub(super) async fn answer(mut self) -> S {
        std::future::poll_fn(|cx| {
            let answer = if self.is_delivered() { self.slot.sent.take() } else { None };
            if answer.is_none() {
                self.slot.wait(cx.waker());
            }
            answer.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl<T, S> fmt::Debug for Emit<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit").field("handed_over", &self.item.is_none()).finish_non_exhaustive()
    }
}

pin_project! {
    /// A body, and the slot that it shares with its poller.
    pub(super) struct BodyFuture<T, S, F, R> {
        pub(super) slot: Rc<EmitSlot<T, S>>,
        // `None` once it is ready or has panicked.
        #[pin]
        future: Option<F>,
        // Set when the future returns, taken by the poll that reports the end.
        pub(super) output: Option<R>,
    }
}

impl<T, S, F, R> BodyFuture<T, S, F, R> {
    pub(super) fn new(slot: Rc<EmitSlot<T, S>>, future: F) -> Self {
        Self { slot, future: Some(future), output: None }
    }

    /// Whether the body has returned or panicked, so that no item comes any more.
    pub(super) fn is_over(&self) -> bool {
        self.future.is_none()
    }

    pub(super) fn take_output(self: Pin<&mut Self>) -> Option<R> {
        self.project().output.take()
    }
}

impl<T, S, F: Future> BodyFuture<T, S, F, F::Output> {
    /// Polls for the next item: ready with `None` once the body is over.
    #[inline]
    pub(super) fn poll_item(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.project();
        let mut guard = DropUnlessPending { future: this.future, pending: false };
        let Some(future) = guard.future.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        this.slot.begin_poll(cx.waker());
        match future.poll(cx) {
            Poll::Pending => {
                guard.pending = true;
                let item = this.slot.item.take();
                if item.is_some() { Poll::Ready(item) } else { Poll::Pending }
            }
            Poll::Ready(output) => {
                *this.output = Some(output);
                Poll::Ready(this.slot.item.take())
            }
        }
    }
}

/// Drops the future in place once it is ready, and when its poll unwinds.
struct DropUnlessPending<'a, F> {
    future: Pin<&'a mut Option<F>>,
    pending: bool,
}

impl<F> Drop for DropUnlessPending<'_, F> {
    #[inline]
    fn drop(&mut self) {
        if !self.pending {
            self.future.set(None);
        }
    }
}
