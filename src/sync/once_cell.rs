//! A value made once, by async code: [`OnceCell`].
//!
//! A semaphore with one permit says who makes the value. If that one fails, panics or is dropped its permit goes to the next, who
//! makes it in its own way; once the value is there the semaphore is closed, which sends everyone to look.

use std::cell;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;

use super::semaphore::Semaphore;
use crate::executor::budget;

/// A value that is made by the first task that needs it, while the others wait.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::sync::OnceCell;
/// postlude::run(async {
///     let config = OnceCell::new();
///     assert_eq!(config.get_or_init(async || "loaded").await, &"loaded");
///     assert_eq!(config.get_or_init(async || "again").await, &"loaded");
/// })
/// # }
/// ```
pub struct OnceCell<T> {
    value: cell::OnceCell<T>,
    turn: Semaphore,
}

impl<T> OnceCell<T> {
    /// An empty cell.
    ///
    /// ```
    /// assert_eq!(postlude::sync::OnceCell::<u8>::new().get(), None);
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self { value: cell::OnceCell::new(), turn: Semaphore::new(1) }
    }

    /// The value, if it was made.
    ///
    /// ```
    /// assert_eq!(postlude::sync::OnceCell::<u8>::new().get(), None);
    /// ```
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Puts a value in, also while one is being made: the first one there stays.
    ///
    /// # Errors
    ///
    /// The value, if there was one.
    ///
    /// ```
    /// let cell = postlude::sync::OnceCell::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// ```
    pub fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.turn.close();
        Ok(())
    }

    /// The value; if there is none, it is made with `init`, by one task at a time.
    ///
    /// An `init` that needs the same cell waits for itself, without end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in line. If it was making the value, that is dropped, and the next in line makes it with
    /// its own `init`; so it is with one that panics.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # postlude::run(async {
    /// let cell = postlude::sync::OnceCell::new();
    /// assert_eq!(cell.get_or_init(async || 7).await, &7);
    /// # })
    /// # }
    /// ```
    pub async fn get_or_init(&self, init: impl AsyncFnOnce() -> T) -> &T {
        match self.get_or_try_init(async || Ok::<T, Infallible>(init().await)).await {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Like [`get_or_init`](Self::get_or_init), with an `init` that may fail. Then the next in line tries with its own.
    ///
    /// # Cancel safety
    ///
    /// As [`get_or_init`](Self::get_or_init).
    ///
    /// # Errors
    ///
    /// That of `init`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # postlude::run(async {
    /// let cell = postlude::sync::OnceCell::new();
    /// assert_eq!(cell.get_or_try_init(async || Err("no luck")).await, Err("no luck"));
    /// assert_eq!(cell.get_or_try_init(async || Ok::<_, &str>(7)).await, Ok(&7));
    /// # })
    /// # }
    /// ```
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

    /// The value, if it was made.
    ///
    /// ```
    /// assert_eq!(postlude::sync::OnceCell::<u8>::new().into_inner(), None);
    /// ```
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
