//! What generators and coroutines have in common: a future that hands out items while it is pending.
//!
//! The body is an ordinary future, and a cell is shared between it and whoever polls it. To emit, it lays the item in the cell and is
//! pending; the poller finds the item there and returns it. The next poll resumes the body behind its `emit`. That needs no
//! waker where the body itself polls the `emit`: whoever took the item is the one who polls again. One `Rc` for the cell is all that is allocated, once.
//!
//! A body may hold something that polls its parts only when they were woken: a scope, a `FuturesUnordered`. An `emit` in there is polled with
//! a waker other than the poller's. It leaves a copy of it, and the next poll begins by waking it.
//!
//! # Invariants
//!
//! - The cell holds one item at most: an `emit` that finds it full waits for the next poll.
//! - After a poll the poller has emptied the cell. So an item is handed over once its `emit` has laid it down, even if that is then dropped.
//! - A body that is ready or panicked is dropped there and then, and never polled again.
//! - The end comes last: what the body returned is kept until a poll has no item. After a panic nothing comes.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use crate::event_loop::wake::{discard, wake_all};

/// What a body and its poller share.
pub(super) struct Slot<T, S> {
    /// Laid down by the body, taken by the poller before its poll returns.
    item: Cell<Option<T>>,
    /// Laid down by `resume`, taken by the body. Generators are sent nothing.
    pub(super) sent: Cell<Option<S>>,
    /// Where the waker of the last poll lies: to be compared, nothing else. Null before the first, and while an `emit` waits with a
    /// waker of its own, so that the next poll differs.
    poller: Cell<*const Waker>,
    /// The waker such an `emit` has left.
    waiting: Waiting,
}

impl<T, S> Slot<T, S> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            item: Cell::new(None),
            sent: Cell::new(None),
            poller: Cell::new(ptr::null()),
            waiting: Waiting::default(),
        })
    }

    /// Whoever polls the body with this waker will see what is in the slot.
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

    /// Sees to it that whoever has this waker is polled in the next poll of the body.
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

/// An own type, so that its drop catches a panic of the waker's.
#[derive(Default)]
struct Waiting(Cell<Option<Waker>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        discard(self.0.take());
    }
}

/// Where a body emits its items to: see [`generate`](super::generate) and [`coroutine`](super::coroutine).
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
    slot: Rc<Slot<T, S>>,
}

impl<T, S> Out<T, S> {
    pub(super) fn new(slot: &Rc<Slot<T, S>>) -> Self {
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
    /// An `emit` dropped before its first poll drops the item. Once polled, the item is delivered
    /// even if the `emit` is dropped. The exception is an `emit` that has to wait because an
    /// earlier one was dropped like that since the consumer last asked: dropped while it waits, it
    /// drops its item.
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
    slot: &'a Slot<T, S>,
    /// Unset once it is in the slot.
    item: Option<T>,
}

/// The item is moved, never pinned.
impl<T, S> Unpin for Emit<'_, T, S> {}

impl<T, S> Emit<'_, T, S> {
    /// True if the item has been taken.
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

/// A generator is sent nothing, and so has nothing to wait for but the next poll.
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
    /// Ready with what was sent for the item.
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
    /// A future and its slot.
    pub(super) struct Body<T, S, F, R> {
        pub(super) slot: Rc<Slot<T, S>>,
        // `None` once it is ready or has panicked.
        #[pin]
        future: Option<F>,
        // What it returned, laid down here when it did, for whoever reports the end to take.
        pub(super) output: Option<R>,
    }
}

impl<T, S, F, R> Body<T, S, F, R> {
    pub(super) fn new(slot: Rc<Slot<T, S>>, future: F) -> Self {
        Self { slot, future: Some(future), output: None }
    }

    /// Whether it has returned or panicked: no item comes any more.
    pub(super) fn is_over(&self) -> bool {
        self.future.is_none()
    }

    pub(super) fn take_output(self: Pin<&mut Self>) -> Option<R> {
        self.project().output.take()
    }
}

impl<T, S, F: Future> Body<T, S, F, F::Output> {
    /// Ready with the next item, or with none when it is over.
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

/// Drops the future where it stands once it is ready, and when its poll unwinds.
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
