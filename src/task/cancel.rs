//! Cooperative cancellation: [`CancelToken`], and the tree its children form.
//!
//! A token is a flag and a list of wakers. A child points to its parent; the parent has a weak
//! entry for it, which the child's drop removes.
//!
//! # Invariants
//!
//! - A cancelled token has no waiters and no entries for children; a child made of it is born
//!   cancelled.
//! - Neither cancelling nor dropping recurses, so a chain of tokens may be as deep as memory
//!   allows.
//! - Flags are set, and wakers collected, for the whole tree before the first waker runs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use slab::Slab;

use crate::event_loop::wake::{discard, wake_all};
use crate::executor::budget;

/// Cooperative cancellation: tells any number of futures of one thread to end.
///
/// Clones are the same token. Cancelling a token cancels the children made of it with
/// [`child`](Self::child), not its parent.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::task::CancelToken;
/// postlude::run(async {
///     let token = CancelToken::new();
///     let child = token.child();
///     let task = postlude::spawn(async move { child.cancelled().await });
///     token.cancel();
///     task.await.unwrap();
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct CancelToken {
    node: Rc<Node>,
}

#[derive(Default)]
struct Node {
    cancelled: Cell<bool>,
    /// Who waits, by the order in which they came.
    waiters: RefCell<BTreeMap<u64, Waker>>,
    next_waiter: Cell<u64>,
    children: RefCell<Slab<Weak<Self>>>,
    /// The parent, and the number of this node among its children. `None` for a root.
    parent: RefCell<Option<(Rc<Self>, usize)>>,
}

impl CancelToken {
    /// A token that is not cancelled and has no parent.
    #[must_use]
    pub fn new() -> Self {
        Self { node: Rc::default() }
    }

    /// A token that is cancelled with this one, and can be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        let node = Rc::new(Node::default());
        if self.is_cancelled() {
            node.cancelled.set(true);
        } else {
            let number = self.node.children.borrow_mut().insert(Rc::downgrade(&node));
            *node.parent.borrow_mut() = Some((Rc::clone(&self.node), number));
        }
        Self { node }
    }

    /// Cancels the token and its children. Waiters are woken in the order they came, the parent's
    /// first.
    ///
    /// A second call does nothing.
    pub fn cancel(&self) {
        let mut wakers = Vec::new();
        let mut nodes = vec![Rc::clone(&self.node)];
        while let Some(node) = nodes.pop() {
            if node.cancelled.replace(true) {
                continue;
            }
            wakers.extend(node.waiters.take().into_values());
            let children: Vec<_> = node.children.take().into_iter().collect();
            nodes.extend(children.into_iter().rev().filter_map(|(_, child)| child.upgrade()));
        }
        wake_all(wakers);
    }

    /// Whether the token or one of its ancestors was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.cancelled.get()
    }

    /// Waits until the token is cancelled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses only its place among the waiters.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { node: Rc::clone(&self.node), waiter: None }
    }

    /// Runs `future` until the token is cancelled; then drops it and returns `None`.
    ///
    /// The token goes first: a future that is ready in the poll that finds the token cancelled
    /// gives `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call drops `future`, and loses what that loses.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let token = postlude::task::CancelToken::new();
    ///     assert_eq!(token.run_until_cancelled(async { 1 }).await, Some(1));
    ///     token.cancel();
    ///     assert_eq!(token.run_until_cancelled(async { 1 }).await, None);
    /// })
    /// # }
    /// ```
    pub async fn run_until_cancelled<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut cancelled = self.cancelled();
        // Out of budget the token is still looked at, though its answer is put off by a turn: once only.
        let mut put_off = false;
        poll_fn(|cx| {
            let has_budget = budget::poll_available(cx).is_ready();
            if self.is_cancelled() && (has_budget || std::mem::replace(&mut put_off, true)) {
                budget::spend();
                return Poll::Ready(None);
            }
            if !has_budget {
                return Poll::Pending;
            }
            cancelled.wait(cx);
            let before = budget::left();
            let output = ready!(future.as_mut().poll(cx));
            budget::spend_unless_spent(before);
            Poll::Ready(Some(output))
        })
        .await
    }

    /// A guard that cancels the token when it is dropped.
    #[must_use = "dropping it cancels the token at once"]
    pub fn drop_guard(&self) -> CancelGuard {
        CancelGuard { token: Some(self.clone()) }
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        // A loop where the drop of a parent would recurse: a node whose link was taken ends its drop here.
        while let Some((node, number)) = parent {
            node.children.borrow_mut().try_remove(number);
            parent = Rc::into_inner(node).and_then(|node| node.parent.take());
        }
    }
}

/// Waits for a token: see [`CancelToken::cancelled`].
#[must_use = "futures do nothing unless awaited"]
pub struct Cancelled {
    node: Rc<Node>,
    waiter: Option<u64>,
}

impl Cancelled {
    /// Stands in the list with this waker.
    fn wait(&mut self, cx: &Context<'_>) {
        if self.is_known(cx.waker()) {
            return;
        }
        let waker = cx.waker().clone();
        let waiter = *self.waiter.get_or_insert_with(|| self.node.next_waiter.replace(self.node.next_waiter.get() + 1));
        let before = self.node.waiters.borrow_mut().insert(waiter, waker);
        discard(before);
    }

    fn is_known(&self, waker: &Waker) -> bool {
        let waiters = self.node.waiters.borrow();
        self.waiter.and_then(|waiter| waiters.get(&waiter)).is_some_and(|known| known.will_wake(waker))
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.node.cancelled.get() {
            ready!(budget::poll_proceed(cx));
            return Poll::Ready(());
        }
        self.wait(cx);
        Poll::Pending
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        let waker = self.waiter.and_then(|waiter| self.node.waiters.borrow_mut().remove(&waiter));
        discard(waker);
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").field("is_cancelled", &self.node.cancelled.get()).finish_non_exhaustive()
    }
}

/// Cancels a token when dropped: see [`CancelToken::drop_guard`].
///
/// ```
/// let token = postlude::task::CancelToken::new();
/// token.drop_guard().disarm();
/// assert!(!token.is_cancelled());
/// drop(token.drop_guard());
/// assert!(token.is_cancelled());
/// ```
#[derive(Debug)]
#[must_use = "dropping it cancels the token at once"]
pub struct CancelGuard {
    /// `None` once disarmed.
    token: Option<CancelToken>,
}

impl CancelGuard {
    /// Drops the guard without cancelling the token.
    pub fn disarm(mut self) {
        self.token = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            token.cancel();
        }
    }
}
