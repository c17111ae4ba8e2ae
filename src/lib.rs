//! Postlude, a single-threaded async runtime: to read, to measure, to embed.
//!
//! # Use
//!
//! ```toml
//! [dependencies]
//! postlude = "0.1"
//! ```
//!
//! [`run`] makes a runtime and runs a future on it; [`spawn`] starts a task beside that future.
//!
//! ```
//! fn main() -> std::io::Result<()> {
//!     postlude::run(async {
//!         let word = postlude::spawn(async { "hello" });
//!         println!("{}, world", word.await.expect("the task does not panic"));
//!     })
//! }
//! ```
//!
//! A server in ten lines, which answers first and works afterwards:
//!
#![cfg_attr(all(feature = "http", feature = "signal"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "http", feature = "signal")), doc = "```ignore")]
//! use postlude::http::{self, BackgroundTasks, Path, Router};
//!
//! async fn order(Path(item): Path<String>, tasks: BackgroundTasks) -> http::Result<&'static str> {
//!     tasks.add(async move { println!("packing {item}") })?;
//!     Ok("thank you\n")
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     postlude::run(http::serve("127.0.0.1:8000", Router::new().post("/order/{item}", order)))?
//! }
//! ```
//!
//! | feature | |
//! |---|---|
//! | `http`, on by default | the module `http`: an HTTP/1.1 server with background tasks |
//! | `signal`, on by default | the module `signal`, and `http::serve`, which stops on SIGINT or SIGTERM |
//! | `tracing` | steps of deferred jobs as events of the `tracing` crate |
//!
//! Read on in the [`guide`]: [coroutines and tasks](guide::coroutines), [async
//! iterators](guide::iterators), [background tasks](guide::background), [what to use in place of
//! asyncio's constructs](guide::from_python), [what you can rely on](guide::contract) and [why it
//! is built this way](guide::design).
//!
//! # An executor in five steps
//!
//! **1. A future** is a state machine with one method. `poll` either returns the result, or returns
//! `Pending` and keeps the *waker* it was given. It calls the waker when polling again is
//! worthwhile.
//!
//! ```
//! use std::{future::Future, pin::Pin, task::{Context, Poll}};
//!
//! struct YieldOnce(bool);
//!
//! impl Future for YieldOnce {
//!     type Output = ();
//!     fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
//!         if std::mem::replace(&mut self.0, true) {
//!             return Poll::Ready(());
//!         }
//!         cx.waker().wake_by_ref();
//!         Poll::Pending
//!     }
//! }
//! ```
//!
//! **2. A task** is a future that the executor owns and polls. It is pinned in a box, so the box
//! can move while the state inside stays in place.
//!
//! ```
//! use std::{future::Future, pin::Pin};
//!
//! type Task = Pin<Box<dyn Future<Output = ()>>>;
//!
//! fn task() -> Task {
//!     Box::pin(async { println!("polled") })
//! }
//! ```
//!
//! **3. A queue** holds the ready tasks in order. The tasks stand in slots, and the queue holds
//! slot numbers.
//!
//! ```
//! use std::{collections::VecDeque, future::Future, pin::Pin};
//!
//! struct Table {
//!     slots: Vec<Option<Pin<Box<dyn Future<Output = ()>>>>>,
//!     ready: VecDeque<usize>,
//! }
//!
//! impl Table {
//!     fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
//!         self.ready.push_back(self.slots.len());
//!         self.slots.push(Some(Box::pin(future)));
//!     }
//! }
//! ```
//!
//! **4. A waker** puts a number back into the queue. It needs no more than the number. (The
//! standard library's safe way to make a waker is an `Arc`; ours has the number in place of the
//! pointer.)
//!
//! ```
//! use std::{sync::{Arc, Mutex}, task::{Wake, Waker}};
//!
//! struct WakeSlot {
//!     slot: usize,
//!     woken: Arc<Mutex<Vec<usize>>>,
//! }
//!
//! impl Wake for WakeSlot {
//!     fn wake(self: Arc<Self>) {
//!         self.woken.lock().unwrap().push(self.slot);
//!     }
//! }
//!
//! fn main() {
//!     let woken = Arc::default();
//!     let waker = Waker::from(Arc::new(WakeSlot { slot: 3, woken: Arc::clone(&woken) }));
//!     waker.wake();
//!     assert_eq!(*woken.lock().unwrap(), [3]);
//! }
//! ```
//!
//! **5. A loop** takes the next number, takes the task out of its slot, polls it, and puts it back
//! if it is not done. With the four steps above it is a whole executor:
//!
//! ```
//! use std::collections::VecDeque;
//! use std::future::Future;
//! use std::pin::Pin;
//! use std::sync::{Arc, Mutex};
//! use std::task::{Context, Poll, Wake, Waker};
//!
//! struct YieldOnce(bool);
//!
//! impl Future for YieldOnce {
//!     type Output = ();
//!     fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
//!         if std::mem::replace(&mut self.0, true) {
//!             return Poll::Ready(());
//!         }
//!         cx.waker().wake_by_ref();
//!         Poll::Pending
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Table {
//!     slots: Vec<Option<Pin<Box<dyn Future<Output = ()>>>>>,
//!     ready: VecDeque<usize>,
//! }
//!
//! struct WakeSlot {
//!     slot: usize,
//!     woken: Arc<Mutex<Vec<usize>>>,
//! }
//!
//! impl Wake for WakeSlot {
//!     fn wake(self: Arc<Self>) {
//!         self.woken.lock().unwrap().push(self.slot);
//!     }
//! }
//!
//! impl Table {
//!     fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
//!         self.ready.push_back(self.slots.len());
//!         self.slots.push(Some(Box::pin(future)));
//!     }
//!
//!     fn run(&mut self) {
//!         let woken = Arc::new(Mutex::new(Vec::new()));
//!         while let Some(slot) = self.ready.pop_front() {
//!             let Some(mut task) = self.slots[slot].take() else { continue };
//!             let waker = Waker::from(Arc::new(WakeSlot { slot, woken: Arc::clone(&woken) }));
//!             if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
//!                 self.slots[slot] = Some(task);
//!             }
//!             self.ready.extend(woken.lock().unwrap().drain(..));
//!         }
//!     }
//! }
//!
//! fn main() {
//!     let log = Arc::new(Mutex::new(Vec::new()));
//!     let mut table = Table::default();
//!     for name in ["a", "b"] {
//!         let log = Arc::clone(&log);
//!         table.spawn(async move {
//!             log.lock().unwrap().push(format!("{name} begins"));
//!             YieldOnce(false).await;
//!             log.lock().unwrap().push(format!("{name} ends"));
//!         });
//!     }
//!     table.run();
//!     assert_eq!(*log.lock().unwrap(), ["a begins", "b begins", "a ends", "b ends"]);
//! }
//! ```
//!
//! # Three steps further
//!
//! That loop ends when its queue is empty. A loop that also waits needs three more things.
//!
//! **6. Sleep until woken.** If nothing is ready, the loop parks its thread. A waker that is called
//! on another thread pushes its number and unparks the loop; on the loop's own thread it only
//! pushes. Ours does the same with an inbox and an `eventfd`, written at most once per sleep
//! (`event_loop/inbox.rs`).
//!
//! **7. A timer** is a deadline and a waker. The loop sleeps no longer than until the first
//! deadline, and then calls the wakers that are due. The toy searches a list. Ours keeps timers in
//! a wheel, which sets and cancels one in constant time (`timer/wheel.rs`).
//!
//! **8. A socket** is tried first. If the call would block, the task leaves its waker and waits.
//! The standard library cannot ask the system *which* socket is ready, so the toy wakes all of
//! these tasks once a millisecond. A reactor asks, with `epoll` or `kqueue` (`reactor/mod.rs`).
//!
//! The whole, with the numbers of the steps; it is `examples/toy.rs`:
//!
#![doc = concat!("```\n", include_str!("../examples/toy.rs"), "```")]
//!
//! The rest of this crate does these eight steps well, and keeps the failures of one task from the
//! others.
//!
//! # The one idea
//!
//! A waker is an integer: runtime, slot, and generation of the slot. A copy is free, a wake is a
//! lookup that may miss, and a waker keeps nothing alive. In the same way handles of tasks, timers
//! and sockets hold numbers, not pointers. So they are `Send`, although [`spawn`] takes futures
//! that are not.
//!
//! # The map
//!
//! | module | |
//! |---|---|
//! | [`stderr`] | lines on stderr that never make the loop wait |
//! | `slabs` | slabs that shrink after a burst |
//! | `executor` | tasks and the task table: slots, states, ready queues |
//! | `reactor` | readiness of descriptors, and their waiters |
//! | `timer` | the timer wheel and the clock |
//! | `event_loop` | the loop (`turn.rs`), the waker, the inbox, the current runtime |
//! | [`task`] | spawning, joining, names, scopes |
//! | [`time`] | [`time::sleep`], [`time::timeout`], [`time::interval`] |
//! | [`sync`] | channels, locks and notifications between tasks of one thread |
//! | [`io`], [`net`] | any descriptor, and sockets |
//! | `runtime` | [`Runtime`], [`Builder`], [`Handle`] |
//! | [`blocking`] | threads for blocking work |
//! | [`deferred`] | [`defer()`]: work that is not urgent; [`deferred::Queue`]: a queue of it that keeps books |
//! | [`iter`] | async iterators: generators, coroutines, adapters that need a clock or a task |
//! | `signal` | Unix signals (feature `signal`) |
//! | `replay` | [`test()`]: a test under many schedules, each of which can be replayed |
//! | `http` | an HTTP/1.1 server with tasks after the response (feature `http`) |
//! | [`guide`] | the pages of `docs/` |
//!
//! A module uses only modules above it in this list; `cargo test --test floors` checks that.
//!
//! [`guide::design`] explains the design, and [`guide::contract`] the guarantees.

#[cfg(not(all(unix, target_pointer_width = "64")))]
compile_error!("postlude needs a 64-bit Unix: a waker is a 64-bit integer, and sockets are file descriptors");

pub mod blocking;
pub mod deferred;
mod event_loop;
mod executor;
pub mod guide;
#[cfg(feature = "http")]
pub mod http;
pub mod io;
pub mod iter;
pub mod net;
mod pool;
mod promise;
pub(crate) mod reactor;
mod replay;
mod runtime;
#[cfg(feature = "signal")]
pub mod signal;
mod slabs;
pub mod stderr;
pub mod sync;
pub mod task;
pub mod time;
mod timer;

#[doc(inline)]
pub use blocking::spawn_blocking;
#[doc(inline)]
pub use deferred::defer;
pub use replay::test;
pub use runtime::{Builder, Handle, Hooks, PanicPolicy, RemoteHandle, Runtime, Stats, TaskEnd, TaskPanic, Turn, run};
#[doc(inline)]
pub use task::{JoinError, JoinHandle, TaskId, spawn};

/// Compiles the code in the README.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
mod readme {}
