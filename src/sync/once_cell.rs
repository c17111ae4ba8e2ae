//! A value made once, by async code: [`OnceCell`].
//!
//! A semaphore with one permit decides which task makes the value. If that task fails, panics or is
//! dropped, its permit goes to the next, which runs its own `init`. Setting the value closes the
//! semaphore, so every waiter wakes and finds the value.

use std::cell;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;

use super::semaphore::Semaphore;
use crate::executor::budget;

/// A cell whose value the first task that needs it makes, with async code, while others wait.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::sync::OnceCell;
/// let config = OnceCell::new();
/// assert_eq!(config.get_or_try_init(async || Err("unreadable")).await, Err("unreadable"));
/// assert_eq!(config.get_or_init(async || "loaded").await, &"loaded");
/// assert_eq!(config.get_or_init(async || "again").await, &"loaded");
/// # }) }
/// ```
pub struct OnceCell<T> {
    value: cell::OnceCell<T>,
    turn: Semaphore,
}

impl<T> OnceCell<T> {
    /// Makes an empty cell.
    #[must_use]
    pub const fn new() -> Self {
        Self { value: cell::OnceCell::new(), turn: Semaphore::new(1) }
    }

    /// Returns the value if there is one.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Sets the value, even while a task is making another: the first one to arrive stays.
    ///
    /// Gives `value` back if the cell has one.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.turn.close();
        Ok(())
    }

    /// Returns the value. If there is none, makes it with `init`, one task at a time.
    ///
    /// An `init` that needs the same cell waits for itself, without end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in line. If it was making the value, or if its `init`
    /// panics, the next in line makes the value with its own `init`.
    pub async fn get_or_init(&self, init: impl AsyncFnOnce() -> T) -> &T {
        match self.get_or_try_init(async || Ok::<T, Infallible>(init().await)).await {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Like [`get_or_init`](Self::get_or_init), cancel safety included, with an `init` that may
    /// fail: its error is returned, and the next in line runs its own `init`.
    pub async fn get_or_try_init<E>(&self, init: impl AsyncFnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.get() {
            poll_fn(budget::poll_proceed).await;
            return Ok(value);
        }
        let turn = self.turn.acquire().await;
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let made = init().await?;
        drop(self.set(made));
        drop(turn);
        Ok(self.get().expect("it was set, here or by another task"))
    }

    /// Returns the value if there is one.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceCell").field("value", &self.get()).finish()
    }
}
