//! What can be set on a runtime, and the defaults.

use std::fmt;
use std::io;
use std::panic::Location;
use std::time::Duration;

use super::Runtime;
use super::insight::Hooks;
use crate::task::TaskId;
use crate::task::table::Described;

/// Foreground polls in a turn. At some 20 ns for a short poll and 100 ns to ask the system for events, the asking costs a tenth.
const POLLS_PER_TURN: usize = 64;
/// Blocking threads. They mostly wait, so there may be far more of them than processors.
const MAX_BLOCKING_THREADS: usize = 256;

pub(crate) type PanicHook = Box<dyn Fn(&TaskPanic)>;

/// The settings of a runtime.
pub(crate) struct Config {
    pub(crate) polls_per_turn: usize,
    pub(crate) max_blocking_threads: usize,
    pub(crate) slow_poll: Option<Duration>,
    pub(crate) paused_clock: bool,
    pub(crate) seed: Option<u64>,
    pub(crate) on_panic: Option<PanicHook>,
    /// Set by [`test`](crate::test): `block_on` ends with an error where it would otherwise report and wait for ever.
    pub(crate) deadlock_is_error: bool,
    pub(crate) panic_policy: PanicPolicy,
    pub(crate) hooks: Option<Box<dyn Hooks>>,
}

impl Config {
    /// Whether phases may be measured with the clock. Where a seed must replay, counts alone decide.
    pub(crate) fn times_phases(&self) -> bool {
        !self.paused_clock && self.seed.is_none()
    }
}

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
        Self {
            config: Config {
                polls_per_turn: POLLS_PER_TURN,
                max_blocking_threads: MAX_BLOCKING_THREADS,
                slow_poll: None,
                paused_clock: false,
                seed: None,
                on_panic: None,
                deadlock_is_error: false,
                panic_policy: PanicPolicy::default(),
                hooks: None,
            },
        }
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

/// The panic of a task nobody waits for, as [`Builder::on_panic`] sees it.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # std::panic::set_hook(Box::new(|_| {}));
/// let runtime = postlude::Runtime::builder()
///     .on_panic(|panic| assert!(panic.to_string().contains("`oh`")))
///     .build()?;
/// runtime.block_on(async {
///     drop(postlude::spawn(async { panic!("oh") }));
///     postlude::task::yield_now().await;
/// })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TaskPanic {
    task: Option<Described>,
    text: String,
}

impl TaskPanic {
    pub(crate) fn new(task: Option<Described>, text: String) -> Self {
        Self { task, text }
    }

    /// The task's number; `None` if a waker, a hook or a queued closure panicked, which belongs to no task.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = postlude::Runtime::builder().on_panic(|panic| assert!(panic.id().is_some())).build()?;
    /// # drop(runtime); Ok(()) }
    /// ```
    #[must_use]
    pub fn id(&self) -> Option<TaskId> {
        self.task.as_ref().map(|task| task.id)
    }

    /// The task's name, if it has one.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = postlude::Runtime::builder().on_panic(|panic| assert_eq!(panic.name(), Some("mail"))).build()?;
    /// # drop(runtime); Ok(()) }
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.task.as_ref()?.name.as_deref()
    }

    /// Where the task was spawned.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = postlude::Runtime::builder().on_panic(|panic| eprintln!("{:?}", panic.location())).build()?;
    /// # drop(runtime); Ok(()) }
    /// ```
    #[must_use]
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.task.as_ref()?.location
    }

    /// The panic's text, or a stand-in if it has none.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = postlude::Runtime::builder().on_panic(|panic| eprintln!("{}", panic.text())).build()?;
    /// # drop(runtime); Ok(()) }
    /// ```
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for TaskPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Some(task) => write!(f, "{task} panicked: `{}`", self.text),
            None => write!(f, "a waker, a hook or a value being dropped panicked: `{}`", self.text),
        }
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " `{name}`")?;
        }
        match self.location {
            Some(location) => write!(f, " (spawned at {location})"),
            None => f.write_str(" (the future given to `block_on`)"),
        }
    }
}

/// What follows when a task panics.
///
/// A panic is *unobserved* if no handle will hear of it: of a detached task, of a waker, of a value being dropped. It is reported, to the
/// hook ([`Builder::on_panic`]) or as a line on stderr. One that a `JoinHandle`, a `RemoteHandle` or a scope hands out is its owner's.
///
/// Where a policy ends the loop, the `block_on` or `turn` in progress ends with an error that names the task and its panic, at the end
/// of the turn; if its own future is ready in that turn, the next one does. Tasks stay where they are until the runtime is
/// dropped, and a further `block_on` goes on with them.
///
/// ```
/// assert_eq!(postlude::PanicPolicy::default(), postlude::PanicPolicy::Report);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// An unobserved panic is not reported either, only counted ([`Stats::panics`](crate::Stats::panics)): the loop goes on.
    Ignore,
    /// An unobserved panic is reported, and the loop goes on.
    #[default]
    Report,
    /// An unobserved panic is reported, and ends the loop.
    ShutdownIfUnobserved,
    /// Any panic of a task, of a blocking job or of a scope's child ends the loop, whoever waits for it; an unobserved one is reported.
    /// One that is caught before it gets that far (the HTTP server answers for a handler's) is not meant.
    ShutdownAlways,
}
