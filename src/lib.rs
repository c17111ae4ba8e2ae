//! Postlude, a single-threaded async runtime: to read, to measure, to embed.
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
//! # use std::{future::Future, pin::Pin};
//! type Task = Pin<Box<dyn Future<Output = ()>>>;
//!
//! let task: Task = Box::pin(async { println!("polled") });
//! # drop(task);
//! ```
//!
//! **3. A queue** holds the ready tasks in order. The tasks stand in slots, and the queue holds
//! slot numbers.
//!
//! ```
//! # use std::{collections::VecDeque, future::Future, pin::Pin};
//! # type Task = Pin<Box<dyn Future<Output = ()>>>;
//! struct Table {
//!     slots: Vec<Option<Task>>,
//!     ready: VecDeque<usize>,
//! }
//!
//! impl Table {
//!     fn spawn(&mut self, task: Task) {
//!         self.ready.push_back(self.slots.len());
//!         self.slots.push(Some(task));
//!     }
//! }
//! # let mut table = Table { slots: Vec::new(), ready: VecDeque::new() };
//! # table.spawn(Box::pin(async {}));
//! # assert_eq!(table.ready.len(), table.slots.len());
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
//! let woken = Arc::default();
//! let waker = Waker::from(Arc::new(WakeSlot { slot: 3, woken: Arc::clone(&woken) }));
//! waker.wake();
//! assert_eq!(*woken.lock().unwrap(), [3]);
//! ```
//!
//! **5. A loop** takes the next number, takes the task out of its slot, polls it, and puts it back
//! if it is not done.
//!
//! ```
//! # use std::{collections::VecDeque, future::Future, pin::Pin};
//! # use std::{sync::{Arc, Mutex}, task::{Context, Poll, Wake, Waker}};
//! # type Task = Pin<Box<dyn Future<Output = ()>>>;
//! # struct YieldOnce(bool);
//! # impl Future for YieldOnce {
//! #     type Output = ();
//! #     fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
//! #         if std::mem::replace(&mut self.0, true) { return Poll::Ready(()); }
//! #         cx.waker().wake_by_ref();
//! #         Poll::Pending
//! #     }
//! # }
//! # struct WakeSlot { slot: usize, woken: Arc<Mutex<Vec<usize>>> }
//! # impl Wake for WakeSlot {
//! #     fn wake(self: Arc<Self>) { self.woken.lock().unwrap().push(self.slot); }
//! # }
//! # struct Table { slots: Vec<Option<Task>>, ready: VecDeque<usize> }
//! # impl Table {
//! #     fn spawn(&mut self, task: Task) {
//! #         self.ready.push_back(self.slots.len());
//! #         self.slots.push(Some(task));
//! #     }
//! # }
//! fn run(table: &mut Table) {
//!     let woken = Arc::new(Mutex::new(Vec::new()));
//!     while let Some(slot) = table.ready.pop_front() {
//!         let Some(mut task) = table.slots[slot].take() else { continue };
//!         let waker = Waker::from(Arc::new(WakeSlot { slot, woken: Arc::clone(&woken) }));
//!         if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
//!             table.slots[slot] = Some(task);
//!         }
//!         table.ready.extend(woken.lock().unwrap().drain(..));
//!     }
//! }
//!
//! let log = Arc::new(Mutex::new(Vec::new()));
//! let mut table = Table { slots: Vec::new(), ready: VecDeque::new() };
//! for name in ["a", "b"] {
//!     let log = Arc::clone(&log);
//!     table.spawn(Box::pin(async move {
//!         log.lock().unwrap().push(format!("{name} begins"));
//!         YieldOnce(false).await;
//!         log.lock().unwrap().push(format!("{name} ends"));
//!     }));
//! }
//! run(&mut table);
//! assert_eq!(*log.lock().unwrap(), ["a begins", "b begins", "a ends", "b ends"]);
//! ```
//!
//! That is a whole executor. The rest of this crate does it well: it waits for the operating system
//! when the queue is empty (`reactor`), tells the time (`timer`), takes messages from other threads
//! (the inbox), and keeps the failures of one task from the others.
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
//! | `deferred` | [`defer`]: work that is not urgent |
//! | [`iter`] | async iterators: generators, coroutines, adapters that need a clock or a task |
//! | `signal` | Unix signals (feature `signal`) |
//! | `replay` | [`test()`]: a test under many schedules, each of which can be replayed |
//! | `http` | an HTTP/1.1 server with tasks after the response (feature `http`) |
//!
//! A module uses only modules above it in this list; `cargo test --test floors` checks that.
//!
//! `docs/design.md` explains the design, and `docs/contract.md` the guarantees.
//! `docs/coroutines.md`, `docs/iterators.md` and `docs/from-python.md` show how to use the crate.

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
pub mod sync;
pub mod task;
pub mod time;
mod timer;

pub use blocking::spawn_blocking;
pub use deferred::defer;
pub use replay::test;
pub use runtime::{Builder, Handle, Hooks, PanicPolicy, RemoteHandle, Runtime, Stats, TaskEnd, TaskPanic, Turn, run};
pub use task::{JoinError, JoinHandle, TaskId, spawn};

/// Compiles the code in the README.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
mod readme {}
