//! A value made once, by async code: [`OnceCell`].
//!
//! A semaphore with one permit says which task makes the value. If that task fails, panics or is
//! dropped, its permit goes to the next, which makes the value in its own way. Once the value is
//! there, the semaphore is closed, which sends all tasks to look.

use std::cell;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;

use super::semaphore::Semaphore;
use crate::executor::budget;

/// A cell that the first task to need its value fills, with async code, while others wait.
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

    /// Returns the value if it was made.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Puts a value in, even while another is being made: the first one to arrive stays.
    ///
    /// # Errors
    ///
    /// Gives the value back if there was one.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.turn.close();
        Ok(())
    }

    /// Returns the value; if there is none, makes it with `init`, one task at a time.
    ///
    /// An `init` that needs the same cell waits for itself, without end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in line. If it was making the value, the next in line
    /// makes it with its own `init`; likewise after an `init` that panics.
    pub async fn get_or_init(&self, init: impl AsyncFnOnce() -> T) -> &T {
        match self.get_or_try_init(async || Ok::<T, Infallible>(init().await)).await {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Like [`get_or_init`](Self::get_or_init), with an `init` that may fail: then the next in line
    /// tries its own.
    ///
    /// # Cancel safety
    ///
    /// As [`get_or_init`](Self::get_or_init).
    ///
    /// # Errors
    ///
    /// That of `init`.
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
        Ok(self.get().expect("it was set, here or by somebody else"))
    }

    /// Returns the value if it was made.
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
