//! "Look again": [`Notify`], a wake-up without a value.
//!
//! `notify_one` wakes the longest waiter, or is kept, once, for the next to come. `notify_waiters`
//! increments a counter; every [`Notified`] remembers the count at which it was made, so it needs
//! no place in the queue to notice the call.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use super::waiters::{Step, Waiters, poll_steps};
use crate::event_loop::wake::{discard, wake_all};
use crate::executor::budget;

/// Tells waiting tasks to look again.
///
/// - [`notify_one`](Self::notify_one) wakes the longest waiter; if no task waits, one such call is
///   kept for the next to come.
/// - [`notify_waiters`](Self::notify_waiters) wakes every task whose [`notified()`](Self::notified)
///   was *called* before, polled or not. It is not kept.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use std::rc::Rc;
/// use postlude::sync::Notify;
/// let ready = Rc::new(Notify::new());
/// let told = Rc::clone(&ready);
/// postlude::spawn(async move { told.notify_one() });
/// ready.notified().await;
/// # }) }
/// ```
pub struct Notify {
    state: RefCell<NotifyState>,
}

struct NotifyState {
    kept: bool,
    // How often `notify_waiters` was called.
    rounds: u64,
    waiters: Waiters<HandOver>,
}

/// Which call handed an entry over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandOver {
    One,
    Round,
}

impl Notify {
    /// Makes a `Notify` without waiters and with nothing kept.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: RefCell::new(NotifyState { kept: false, rounds: 0, waiters: Waiters::new() }) }
    }

    /// Wakes the longest waiter; without waiters it is kept for the next, once.
    pub fn notify_one(&self) {
        let mut state = self.state.borrow_mut();
        let waker = state.waiters.hand_first(|by| *by = HandOver::One);
        state.kept |= waker.is_none();
        drop(state);
        wake_all(waker);
    }

    /// Wakes every task whose [`notified()`](Self::notified) was called before this.
    pub fn notify_waiters(&self) {
        let mut state = self.state.borrow_mut();
        state.rounds = state.rounds.wrapping_add(1);
        let wakers = state.waiters.hand_all(|by| *by = HandOver::Round);
        drop(state);
        wake_all(wakers);
    }

    /// Waits for a notification.
    ///
    /// The future observes [`notify_waiters`](Self::notify_waiters) from this call on. Its first
    /// poll, or [`Notified::enable`], takes its place in line for [`notify_one`](Self::notify_one).
    /// Dropping the future gives up its place in line; a `notify_one` that it was handed goes to
    /// the next.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, round: self.state.borrow().rounds, key: None, told: NoticeStage::Not }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Notify").field("kept", &state.kept).field("waiters", &state.waiters.len()).finish()
    }
}

/// The future of [`Notify::notified`].
#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    round: u64,
    key: Option<usize>,
    told: NoticeStage,
}

/// How far a notification has come. It never goes back: a future polled after its end is ready
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoticeStage {
    Not,
    /// `enable` has it; no poll has returned it yet.
    Enabled(HandOver),
    Returned,
}

impl Notified<'_> {
    /// Takes the place in line now. Returns true if awaiting the future would be ready at once.
    ///
    /// To check a condition without missing a notification, enable first, then check, then wait.
    ///
    /// Only the `await` uses the notification up. If the future is dropped instead, a `notify_one`
    /// goes to the next waiter, or is kept.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> { postlude::run(async {
    /// let notify = postlude::sync::Notify::new();
    /// let mut notified = notify.notified();
    /// assert!(!notified.enable());
    /// notify.notify_one();
    /// notified.await;
    /// # }) }
    /// ```
    pub fn enable(&mut self) -> bool {
        // The first poll replaces this waker with its own.
        self.step(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { notify, round, key, told } = self;
        if *told == NoticeStage::Not {
            let by = ready!(poll_steps(cx, |waker, spare| notify.state.borrow_mut().step(*round, key, waker, spare)));
            *told = NoticeStage::Enabled(by);
        }
        Poll::Ready(())
    }
}

impl NotifyState {
    fn step(
        &mut self,
        round: u64,
        key: &mut Option<usize>,
        waker: &Waker,
        spare: &mut Option<Waker>,
    ) -> Step<HandOver> {
        if key.is_none() && self.rounds != round {
            return Step::Done(HandOver::Round);
        }
        if key.is_none() && std::mem::take(&mut self.kept) {
            return Step::Done(HandOver::One);
        }
        self.waiters.step(key, || HandOver::Round, waker, spare)
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(budget::poll_available(cx));
        ready!(self.step(cx));
        self.told = NoticeStage::Returned;
        budget::spend();
        Poll::Ready(())
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let unused = match (self.key, self.told) {
            (Some(key), _) => {
                let (by, waker) = self.notify.state.borrow_mut().waiters.remove(key);
                let unused = waker.is_none() && by == HandOver::One;
                discard(waker);
                unused
            }
            (None, told) => told == NoticeStage::Enabled(HandOver::One),
        };
        if unused {
            self.notify.notify_one();
        }
    }
}

impl fmt::Debug for Notified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notified").field("told", &(self.told != NoticeStage::Not)).finish_non_exhaustive()
    }
}
