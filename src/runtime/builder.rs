//! The settings of a runtime, and their defaults.

use std::fmt;
use std::io;
use std::time::Duration;

use super::Runtime;
use crate::event_loop::config::Config;
use crate::event_loop::hooks::Hooks;
use crate::event_loop::panics::{PanicPolicy, TaskPanic};

/// Builds a [`Runtime`] with settings other than the defaults.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// let runtime = postlude::Runtime::builder()
///     .paused_clock()
///     .seed(42)
///     .max_blocking_threads(4)
///     .on_panic(|panic| eprintln!("a bug: {panic}"))
///     .build()?;
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

    /// Limits the polls of foreground tasks in one turn. Default 64; 0 counts as 1.
    ///
    /// A lower limit serves events and timers sooner; a higher one asks the system less often.
    pub fn polls_per_turn(mut self, polls: usize) -> Self {
        self.config.polls_per_turn = polls.max(1);
        self
    }

    /// Limits the threads of `spawn_blocking` and name look-ups. Default 256; `build` refuses 0.
    pub fn max_blocking_threads(mut self, threads: usize) -> Self {
        self.config.max_blocking_threads = threads;
        self
    }

    /// Reports on stderr each poll that takes longer than `limit`, with the name and place of the
    /// task or scope's child.
    ///
    /// Off by default, since it reads the clock twice per poll.
    pub fn slow_poll(mut self, limit: Duration) -> Self {
        self.config.slow_poll = Some(limit);
        self
    }

    /// Makes time virtual: when every task waits, the clock jumps exactly to the earliest deadline.
    ///
    /// It never jumps while a blocking job of this runtime runs (a job of `Pool::submit` belongs to
    /// no runtime). It does not wait for other threads and processes.
    pub fn paused_clock(mut self) -> Self {
        self.config.paused_clock = true;
        self
    }

    /// Randomizes scheduling, in the same way for the same seed, to find code that relies on an
    /// order.
    ///
    /// The loop picks among ready tasks, a scope among its ready children, a join or a race its
    /// first branch. [`test`](crate::test()) tries many seeds.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// Calls `hook` for each unobserved panic, in place of a line on stderr: see [`PanicPolicy`].
    ///
    /// A panic of the hook itself goes to stderr.
    pub fn on_panic(mut self, hook: impl Fn(&TaskPanic) + 'static) -> Self {
        self.config.on_panic = Some(Box::new(hook));
        self
    }

    pub(crate) fn deadlock_is_error(mut self) -> Self {
        self.config.deadlock_is_error = true;
        self
    }

    /// Sets the reaction to a panic that no handle observes. Default [`PanicPolicy::Report`].
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Self {
        self.config.panic_policy = policy;
        self
    }

    /// Calls `hooks` when a task is spawned or woken, before and after each poll, and before the
    /// loop sleeps.
    ///
    /// Without hooks an event costs one branch.
    pub fn hooks(mut self, hooks: impl Hooks + 'static) -> Self {
        self.config.hooks = Some(Box::new(hooks));
        self
    }

    /// Makes the runtime.
    ///
    /// # Errors
    ///
    /// If the system refuses a descriptor, 4096 runtimes are alive in this process, or
    /// `max_blocking_threads` is 0.
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
