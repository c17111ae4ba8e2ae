//! Async iterators: generators written as ordinary async code, coroutines that are sent values as they run, readers as iterators, and
//! adapters that need a clock.
//!
//! The trait is [`futures_core::Stream`], the ecosystem's own, so the adapters of futures-lite and futures-util apply to everything here.
//!
//! | | |
//! |---|---|
//! | [`generate`] | a body that emits items |
//! | [`try_generate`] | the same for bodies that use `?` |
//! | [`coroutine`] | two ways: each `resume` sends a value in and gets the next one out |
//! | [`lines`], [`chunks`] | of a reader |
//! | [`throttle`], [`timeout`] | not too fast, not too slow |

mod body;
mod coroutine;
mod generate;
mod lines;
mod throttle;
mod timeout;

use std::pin::Pin;

use futures_core::Stream;

pub use body::{Emit, Out};
pub use coroutine::{Coroutine, Resume, Resumed, coroutine};
pub use generate::{Generate, TryGenerate, generate, try_generate};
pub use lines::{Chunks, Lines, chunks, lines};
pub use throttle::{Throttle, throttle};
pub use timeout::{Timeout, timeout};

/// An async iterator in a box: to store it, to return it, or to recurse. `Unpin`, so its `next` needs no pinning.
///
/// ```
/// use postlude::iter::{self, Boxed};
/// use futures::StreamExt;
///
/// fn countdown(from: u32) -> Boxed<'static, u32> {
///     iter::generate(async move |out| {
///         for n in (1..=from).rev() {
///             out.emit(n).await;
///         }
///     })
///     .boxed()
/// }
/// # postlude::run(async {
/// assert_eq!(countdown(3).collect::<Vec<_>>().await, [3, 2, 1]);
/// # }).unwrap();
/// ```
pub type Boxed<'a, T> = Pin<Box<dyn Stream<Item = T> + 'a>>;
