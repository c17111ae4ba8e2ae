//! A number of permits, handed out in the order of asking: [`Semaphore`].
//!
//! `Permits` is the arithmetic and the queue. The semaphore keeps it in a cell, and wakes the tasks
//! that it names once the cell is free again. The first in the queue gets its permits once as many
//! are available as it wants. Until then no other task gets any, so a task that wants many does not
//! starve.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::waiters::{Step, Waiters, poll_spending};
use crate::event_loop::wake::{discard, wake, wake_all};

/// The semaphore is closed and gives no more permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed(());

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore was closed")
    }
}

impl std::error::Error for Closed {}

/// Why [`Semaphore::try_acquire`] has no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// The semaphore is closed.
    Closed,
    /// Too few permits are left, or other tasks wait: `acquire` waits in line.
    NoPermits,
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the semaphore was closed",
            Self::NoPermits => "not enough permits at the moment",
        })
    }
}

impl std::error::Error for TryAcquireError {}

/// The available permits, and the queue of tasks that wait for some.
///
/// Between two calls the first in the queue wants more permits than are available.
struct Permits {
    available: usize,
    closed: bool,
    waiters: Waiters<Wanted>,
}

struct Wanted {
    count: usize,
    refused: bool,
}

impl Permits {
    fn try_take(&mut self, count: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            Err(TryAcquireError::Closed)
        } else if self.available < count || !self.waiters.is_empty() {
            Err(TryAcquireError::NoPermits)
        } else {
            self.available -= count;
            Ok(())
        }
    }

    /// Hands the first in the queue its permits, if enough are available. Call it until it returns
    /// `None`.
    fn hand(&mut self) -> Option<Waker> {
        let wanted = self.waiters.first()?.count;
        self.available = self.available.checked_sub(wanted)?;
        self.waiters.hand_first(|_| {})
    }

    fn step(
        &mut self,
        key: &mut Option<usize>,
        count: usize,
        waker: &Waker,
        spare: &mut Option<Waker>,
    ) -> Step<Result<(), Closed>> {
        if key.is_none() {
            match self.try_take(count) {
                Ok(()) => return Step::Done(Ok(())),
                Err(TryAcquireError::Closed) => return Step::Done(Err(Closed(()))),
                Err(TryAcquireError::NoPermits) => {}
            }
        }
        let step = self.waiters.step(key, || Wanted { count, refused: false }, waker, spare);
        step.map(|wanted| if wanted.refused { Err(Closed(())) } else { Ok(()) })
    }
}

/// A number of permits that tasks take and give back; a task that finds too few waits in line.
///
/// First come, first served: a task that wants many is not overtaken by tasks that want few.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use std::rc::Rc;
/// use postlude::sync::Semaphore;
/// let downloads = Rc::new(Semaphore::new(2));
/// let _first = downloads.acquire().await.unwrap();
/// let second = downloads.acquire_owned().await.unwrap();
/// assert!(downloads.try_acquire().is_err());
/// postlude::spawn(async move { drop(second) }).await.unwrap();
/// assert_eq!(downloads.available(), 1);
/// # }) }
/// ```
pub struct Semaphore {
    permits: RefCell<Permits>,
}

impl Semaphore {
    /// Makes a semaphore with this many permits.
    #[must_use]
    pub const fn new(permits: usize) -> Self {
        Self { permits: RefCell::new(Permits { available: permits, closed: false, waiters: Waiters::new() }) }
    }

    /// Returns how many permits are free. [`try_acquire`](Self::try_acquire) may fail all the same:
    /// they may be reserved for a task that waits for several.
    #[must_use]
    pub fn available(&self) -> usize {
        self.permits.borrow().available
    }

    /// Waits for a permit, which goes back when the returned guard is dropped.
    ///
    /// Dropping the future gives up its place in line; a permit that it was handed goes to the
    /// next. Fails with [`Closed`] once [`close`](Self::close) has been called.
    pub async fn acquire(&self) -> Result<Permit<'_>, Closed> {
        self.acquire_many(1).await
    }

    /// Waits for several permits at once: for ever, if there never are that many. Otherwise as
    /// [`acquire`](Self::acquire), cancel safety and errors included.
    pub async fn acquire_many(&self, count: usize) -> Result<Permit<'_>, Closed> {
        Acquire { semaphore: self, count, key: None }.await?;
        Ok(Permit { semaphore: self, count })
    }

    /// Like [`acquire`](Self::acquire), cancel safety and errors included, with a permit that may
    /// move into another task.
    pub fn acquire_owned(self: &Rc<Self>) -> impl Future<Output = Result<OwnedPermit, Closed>> + use<> {
        self.acquire_many_owned(1)
    }

    /// Like [`acquire_many`](Self::acquire_many), cancel safety and errors included, with permits
    /// that may move into another task.
    pub fn acquire_many_owned(
        self: &Rc<Self>,
        count: usize,
    ) -> impl Future<Output = Result<OwnedPermit, Closed>> + use<> {
        let semaphore = Rc::clone(self);
        async move {
            semaphore.acquire_many(count).await?.forget();
            Ok(OwnedPermit { semaphore, count })
        }
    }

    /// Takes a permit if one is free and no task waits. Otherwise [`TryAcquireError`] says why not.
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes several permits if they are free and no task waits. Otherwise as
    /// [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_many(&self, count: usize) -> Result<Permit<'_>, TryAcquireError> {
        self.permits.borrow_mut().try_take(count)?;
        Ok(Permit { semaphore: self, count })
    }

    /// Adds permits to the number that the semaphore was made with.
    ///
    /// # Panics
    ///
    /// "a semaphore holds at most usize::MAX permits".
    #[track_caller]
    pub fn add_permits(&self, count: usize) {
        let fits = self.available().checked_add(count).is_some();
        assert!(fits, "a semaphore holds at most usize::MAX permits");
        self.release(count);
    }

    /// Refuses all tasks, waiting ones and later ones. Permits that are out stay valid and can be
    /// given back.
    pub fn close(&self) {
        let mut permits = self.permits.borrow_mut();
        permits.closed = true;
        let wakers = permits.waiters.hand_all(|wanted| wanted.refused = true);
        drop(permits);
        wake_all(wakers);
    }

    /// Returns whether [`close`](Self::close) has been called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.permits.borrow().closed
    }

    fn release(&self, count: usize) {
        let mut permits = self.permits.borrow_mut();
        permits.available = permits.available.saturating_add(count);
        drop(permits);
        self.hand();
    }

    fn hand(&self) {
        loop {
            let waker = self.permits.borrow_mut().hand();
            match waker {
                Some(waker) => wake(waker),
                None => return,
            }
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).field("closed", &self.is_closed()).finish()
    }
}

struct Acquire<'a> {
    semaphore: &'a Semaphore,
    count: usize,
    key: Option<usize>,
}

impl Future for Acquire<'_> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { semaphore, count, key } = &mut *self;
        poll_spending(cx, |waker, spare| semaphore.permits.borrow_mut().step(key, *count, waker, spare))
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut permits = self.semaphore.permits.borrow_mut();
        let (wanted, waker) = permits.waiters.remove(key);
        if waker.is_none() && !wanted.refused {
            permits.available = permits.available.saturating_add(wanted.count);
        }
        drop(permits);
        discard(waker);
        self.semaphore.hand();
    }
}

/// Permits of a [`Semaphore`]; they go back when this is dropped.
#[derive(Debug)]
#[must_use = "a permit goes back when it is dropped"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl Permit<'_> {
    /// Returns how many permits it holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Keeps the permits from going back: the semaphore has fewer permits from now on.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
    }
}

/// Permits that may move into another task; they go back when this is dropped.
#[derive(Debug)]
#[must_use = "a permit goes back when it is dropped"]
pub struct OwnedPermit {
    semaphore: Rc<Semaphore>,
    count: usize,
}

impl OwnedPermit {
    /// Returns how many permits it holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Keeps the permits from going back: the semaphore has fewer permits from now on.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
    }
}
