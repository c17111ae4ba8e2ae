//! A lock that is held across awaits: [`Mutex`].
//!
//! A semaphore with one permit decides which task has its turn, so the value's cell is never
//! contended. The guard borrows the cell. The owned guard cannot, so it takes the value out and
//! puts it back.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::semaphore::{OwnedPermit, Permit, Semaphore};

/// A lock around a value that one task at a time works on, across awaits too.
///
/// First come, first served. A panic while the lock is held does not poison it. A critical section
/// without an `.await` needs only a `RefCell`: on one thread no other task can come in between.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use std::rc::Rc;
/// use postlude::sync::Mutex;
/// let balance = Rc::new(Mutex::new(10));
/// let mut owned = balance.lock_owned().await;
/// postlude::spawn(async move {
///     postlude::task::yield_now().await;
///     *owned -= 3;
/// });
/// assert_eq!(*balance.lock().await, 7);
/// # }) }
/// ```
pub struct Mutex<T> {
    turn: Rc<Semaphore>,
    // `None` while an owned guard has it.
    value: RefCell<Option<T>>,
}

const PRESENT: &str = "the value is in its cell unless an owned guard has it";

impl<T> Mutex<T> {
    /// Makes a mutex around a value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { turn: Rc::new(Semaphore::new(1)), value: RefCell::new(Some(value)) }
    }

    /// Waits for this task's turn; dropping the guard ends the turn.
    ///
    /// Dropping the future gives up its place in line; a turn that it was handed goes to the next.
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        match self.turn.acquire().await {
            Ok(permit) => self.guard(permit),
            Err(_) => unreachable!("nobody closes a mutex"),
        }
    }

    /// Takes the turn if it is free and no task waits.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.turn.try_acquire().ok().map(|permit| self.guard(permit))
    }

    /// Like [`lock`](Self::lock), cancel safety included, with a guard that may move into another
    /// task.
    ///
    /// The guard holds the value itself: locking and unlocking move it.
    pub fn lock_owned(self: &Rc<Self>) -> impl Future<Output = OwnedMutexGuard<T>> + use<T> {
        let mutex = Rc::clone(self);
        async move {
            let Ok(permit) = mutex.turn.acquire_owned().await else { unreachable!("nobody closes a mutex") };
            let value = mutex.value.borrow_mut().take();
            OwnedMutexGuard { value, mutex, _permit: permit }
        }
    }

    /// Returns the value without locking: `&mut self` proves that the mutex is free.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut().as_mut().expect(PRESENT)
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner().expect(PRESENT)
    }

    fn guard<'a>(&'a self, permit: Permit<'a>) -> MutexGuard<'a, T> {
        let value = RefMut::map(self.value.borrow_mut(), |value| value.as_mut().expect(PRESENT));
        MutexGuard { value, _permit: permit }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Mutex");
        match self.value.try_borrow().as_deref() {
            Ok(Some(value)) => text.field("value", value),
            _ => text.field("value", &format_args!("<locked>")),
        };
        text.finish()
    }
}

/// The turn to work on a [`Mutex`]'s value.
#[must_use = "the turn ends when the guard is dropped"]
pub struct MutexGuard<'a, T> {
    // Fields drop in this order: the borrow ends before the permit goes back.
    value: RefMut<'a, T>,
    _permit: Permit<'a>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The turn to work on a [`Mutex`]'s value, which may move into another task.
#[must_use = "the turn ends when the guard is dropped"]
pub struct OwnedMutexGuard<T> {
    // `None` only during its drop.
    value: Option<T>,
    mutex: Rc<Mutex<T>>,
    _permit: OwnedPermit,
}

impl<T> Deref for OwnedMutexGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("the guard has it until it is dropped")
    }
}

impl<T> DerefMut for OwnedMutexGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("the guard has it until it is dropped")
    }
}

impl<T> Drop for OwnedMutexGuard<T> {
    fn drop(&mut self) {
        self.mutex.value.replace(self.value.take());
    }
}

impl<T: fmt::Debug> fmt::Debug for OwnedMutexGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
