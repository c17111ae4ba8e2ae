//! Async iterators: generators written as ordinary async code, coroutines that are sent values as
//! they run, readers as iterators, and adapters that need a clock or a task.
//!
//! The trait is [`futures_core::Stream`], the ecosystem's own: the adapters of futures-lite and
//! futures-util work with everything here.
//!
//! | | |
//! |---|---|
//! | [`generate`] | a body that emits items |
//! | [`try_generate`] | the same for bodies that use `?` |
//! | [`coroutine`] | two ways: each `resume` sends a value in and gets the next one out |
//! | [`lines`], [`chunks`] | of a reader |
//! | [`interval`] | ticks |
//! | [`throttle`], [`timeout`] | not too fast, not too slow |
//! | [`debounce`], [`chunks_timeout`] | the last item of a burst; a burst in one piece |
//! | [`merge`] | many sources as one, in turn |
//! | [`buffered`], [`buffer_unordered`] | up to `n` futures of a stream at a time, as tasks |
//! | [`tee`](tee()), [`broadcast`] | one source, each item to each reader |

mod body;
mod buffered;
mod chunks_timeout;
mod coroutine;
mod debounce;
mod generate;
mod lines;
mod merge;
mod tee;
mod throttle;
mod timeout;

use std::pin::Pin;

use futures_core::Stream;

pub use body::{Emit, Out};
pub use buffered::{BufferUnordered, Buffered, buffer_unordered, buffered};
pub use chunks_timeout::{ChunksTimeout, chunks_timeout};
pub use coroutine::{Coroutine, Resume, Resumed, coroutine};
pub use debounce::{Debounce, debounce};
pub use generate::{Generate, TryGenerate, generate, try_generate};
pub use lines::{Chunks, Lines, chunks, lines};
pub use merge::{Merge, merge};
pub use tee::{Tee, broadcast, tee};
pub use throttle::{Throttle, throttle};
pub use timeout::{Timeout, timeout};

pub use crate::time::{Interval, MissedTick, interval};

/// An async iterator in a box, to store, to return, or to recurse. It is `Unpin`, so its `next`
/// needs no pinning.
///
/// ```
/// use postlude::iter::{self, Boxed};
/// use futures::StreamExt;
///
/// fn digits(n: u32) -> Boxed<'static, u32> {
///     iter::generate(async move |out| {
///         if n >= 10 {
///             let mut higher = digits(n / 10);
///             while let Some(digit) = higher.next().await {
///                 out.emit(digit).await;
///             }
///         }
///         out.emit(n % 10).await;
///     })
///     .boxed()
/// }
/// # postlude::run(async {
/// assert_eq!(digits(407).collect::<Vec<_>>().await, [4, 0, 7]);
/// # }).unwrap();
/// ```
pub type Boxed<'a, T> = Pin<Box<dyn Stream<Item = T> + 'a>>;
