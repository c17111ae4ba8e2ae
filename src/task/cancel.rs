//! Cooperative cancellation: [`CancelToken`], and the tree of its children.
//!
//! A token is a flag and a list of wakers. A child points to its parent. The parent has a weak
//! entry for the child, which the child's drop removes.
//!
//! # Invariants
//!
//! - A cancelled token has no waiters and no entries for children. A child made from it is
//!   cancelled from the start.
//! - Neither cancelling nor dropping recurses, so a chain of tokens may be as deep as memory
//!   allows.
//! - The flags of the whole tree are set, and its wakers collected, before the first waker runs.

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
    /// The waiters, in the order they came.
    waiters: RefCell<BTreeMap<u64, Waker>>,
    next_waiter: Cell<u64>,
    children: RefCell<Slab<Weak<Self>>>,
    /// The parent, and the number of this node among the parent's children. `None` for a root, or
    /// for a child that was cancelled from the start.
    parent: RefCell<Option<(Rc<Self>, usize)>>,
}

impl CancelToken {
    /// A new token, not cancelled and without a parent.
    #[must_use]
    pub fn new() -> Self {
        Self { node: Rc::default() }
    }

    /// A child token: cancelling this one also cancels it, but it can be cancelled alone.
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

    /// Cancels the token and its descendants. A second call does nothing.
    ///
    /// Each token's waiters are woken in the order they came, a parent's before its children's.
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
    /// Dropping the future loses only its position among the waiters.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { node: Rc::clone(&self.node), waiter: None }
    }

    /// Runs `future` until the token is cancelled; then drops it and returns `None`.
    ///
    /// The token is checked first: a future that would be ready in the poll that finds the token
    /// cancelled is not polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call drops `future`, whose own cancel safety applies. So does cancelling the
    /// token.
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
        // Check the token even without budget. Its result is put off by a turn then, but only once.
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
        // Loop, since dropping a parent would recurse. The drop of a node without a link ends here.
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
    /// Enters the list of waiters with this waker, or replaces the waker there.
    fn wait(&mut self, cx: &Context<'_>) {
        let waiter = *self.waiter.get_or_insert_with(|| self.node.next_waiter.replace(self.node.next_waiter.get() + 1));
        let is_known = self.node.waiters.borrow().get(&waiter).is_some_and(|known| known.will_wake(cx.waker()));
        if !is_known {
            let waker = cx.waker().clone();
            let before = self.node.waiters.borrow_mut().insert(waiter, waker);
            discard(before);
        }
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
