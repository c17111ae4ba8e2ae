//! What can be set on a runtime, and the defaults.

use std::fmt;
use std::io;
use std::time::Duration;

use super::Runtime;
use crate::event_loop::config::Config;
use crate::event_loop::hooks::Hooks;
use crate::event_loop::panics::{PanicPolicy, TaskPanic};

/// Builds a [`Runtime`] with other settings than the default ones.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// let runtime = postlude::Runtime::builder().paused_clock().build()?;
/// // An hour of virtual time takes no time.
/// runtime.block_on(postlude::time::sleep(Duration::from_secs(3600)))
/// # }
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    config: Config,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { config: Config::default() }
    }

    /// Polls of foreground tasks in one turn, at most. Default 64; 0 counts as 1.
    ///
    /// Fewer let events and timers be seen sooner, more ask the system less often.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = postlude::Runtime::builder().polls_per_turn(8).build()?;
    /// # drop(runtime); Ok(()) }
    /// ```
    pub fn polls_per_turn(mut self, polls: usize) -> Self {
        self.config.polls_per_turn = polls.max(1);
        self
    }

    /// Threads `spawn_blocking` and name look-ups may use at a time. Default 256; `build` refuses 0.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = postlude::Runtime::builder().max_blocking_threads(4).build()?;
    /// # drop(runtime); Ok(()) }
    /// ```
    pub fn max_blocking_threads(mut self, threads: usize) -> Self {
        self.config.max_blocking_threads = threads;
        self
    }

    /// Reports on stderr each poll that takes longer than `limit`, with the name and the place of the task, or of the scope's child,
    /// whose poll it was. Off by default: it reads the clock twice per poll.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// let runtime = postlude::Runtime::builder().slow_poll(Duration::from_millis(100)).build()?;
    /// # drop(runtime); Ok(()) }
    /// ```
    pub fn slow_poll(mut self, limit: Duration) -> Self {
        self.config.slow_poll = Some(limit);
        self
    }

    /// Makes time virtual: when everything waits, the clock jumps to the earliest deadline, exactly.
    ///
    /// It never jumps while a blocking job of this runtime runs (not one of `Pool::submit`). Other threads and processes are not waited for.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// let runtime = postlude::Runtime::builder().paused_clock().build()?;
    /// runtime.block_on(async {
    ///     let before = postlude::time::now();
    ///     postlude::time::sleep(Duration::from_secs(60)).await;
    ///     assert_eq!(postlude::time::now() - before, Duration::from_secs(60));
    /// })
    /// # }
    /// ```
    pub fn paused_clock(mut self) -> Self {
        self.config.paused_clock = true;
        self
    }

    /// Makes the loop pick among ready tasks pseudo-randomly, the same way for the same seed, a scope among its ready children, and a
    /// join or a race with which branch to begin: for finding code that relies on their order.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = postlude::Runtime::builder().seed(42).build()?;
    /// # drop(runtime); Ok(()) }
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// Calls `hook` for the panic of a task nobody waits for, instead of writing a line to stderr.
    ///
    /// A panic of the hook itself is written to stderr.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// use std::{cell::Cell, rc::Rc};
    /// let seen = Rc::new(Cell::new(0));
    /// let count = seen.clone();
    /// let runtime = postlude::Runtime::builder().on_panic(move |_| count.set(count.get() + 1)).build()?;
    /// runtime.block_on(async {
    ///     drop(postlude::spawn(async { panic!("nobody waits for me") }));
    ///     postlude::task::yield_now().await;
    /// })?;
    /// assert_eq!(seen.get(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_panic(mut self, hook: impl Fn(&TaskPanic) + 'static) -> Self {
        self.config.on_panic = Some(Box::new(hook));
        self
    }

    pub(crate) fn deadlock_is_error(mut self) -> Self {
        self.config.deadlock_is_error = true;
        self
    }

    /// What follows when a task panics. Default: [`PanicPolicy::Report`].
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let policy = postlude::PanicPolicy::ShutdownIfUnobserved;
    /// let runtime = postlude::Runtime::builder().on_panic(|_| ()).panic_policy(policy).build()?;
    /// let error = runtime.block_on(async {
    ///     drop(postlude::spawn(async { panic!("unheard") }));
    ///     std::future::pending::<()>().await
    /// });
    /// assert!(error.unwrap_err().to_string().contains("unheard"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Self {
        self.config.panic_policy = policy;
        self
    }

    /// Calls `hooks` when a task is spawned or woken, before and after each poll, and before the loop sleeps. Unset, an event costs one
    /// branch.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// struct Polls(std::cell::Cell<u32>);
    /// impl postlude::Hooks for Polls {
    ///     fn poll_begins(&self, _: postlude::TaskId) {
    ///         self.0.set(self.0.get() + 1);
    ///         assert!(self.0.get() < 1000, "this program should be done by now");
    ///     }
    /// }
    /// let runtime = postlude::Runtime::builder().hooks(Polls(0.into())).build()?;
    /// runtime.block_on(postlude::task::yield_now())
    /// # }
    /// ```
    pub fn hooks(mut self, hooks: impl Hooks + 'static) -> Self {
        self.config.hooks = Some(Box::new(hooks));
        self
    }

    /// Makes the runtime.
    ///
    /// # Errors
    ///
    /// If the system refuses a descriptor, if 4096 runtimes are alive in this process, or if `max_blocking_threads` is 0.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = postlude::Runtime::builder().build()?;
    /// # drop(runtime); Ok(()) }
    /// ```
    pub fn build(self) -> io::Result<Runtime> {
        if self.config.max_blocking_threads == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "`max_blocking_threads` is 0, so no blocking job could ever run; give it at least 1",
            ));
        }
        Runtime::with_config(self.config)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("polls_per_turn", &self.config.polls_per_turn)
            .field("max_blocking_threads", &self.config.max_blocking_threads)
            .field("slow_poll", &self.config.slow_poll)
            .field("paused_clock", &self.config.paused_clock)
            .field("seed", &self.config.seed)
            .finish_non_exhaustive()
    }
}
