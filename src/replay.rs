//! [`test()`]: runs a test under many schedules and replays each from its number.
//!
//! The order of ready tasks is not promised, but a first-in-first-out loop hardly ever changes it,
//! and code comes to rely on it. A seed makes the loop pick another order, the same for the same
//! seed; the paused clock removes real time. The whole run then follows from one number. A hundred
//! numbers find an order that breaks the program, and its number brings that order back.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::process::{ExitCode, Termination};
use std::rc::Rc;

use crate::runtime::{Runtime, TaskPanic};

/// Environment variable with the one seed to run, in place of the test's own seeds.
const SEED_VARIABLE: &str = "POSTLUDE_SEED";

/// Runs `body` once for every seed, each time in a new runtime with that seed and a paused clock.
///
/// A run fails if `body` panics or returns an error, if a detached task panics, or if every task
/// waits and nothing inside the runtime could ever end that. A failed run prints its seed; with
/// `POSTLUDE_SEED=<seed>` in the environment the test runs that seed alone, in the same order. Time
/// is virtual: `sleep(hour)` takes none. Tasks still alive when `body` returns are dropped.
///
/// A seed may mean another order in another version of this crate. Work on other threads (blocking
/// jobs, sockets to another process) is not replayed.
///
/// # Panics
///
/// If a run fails, with the reason; without seeds; if `POSTLUDE_SEED` is not a number; if the
/// system refuses a runtime.
///
/// The loop cannot see wakers that others hold. So a test that waits for a plain thread, or for the
/// timer of another reactor, looks like one that waits for ever. A
/// [`Handle::current`](crate::Handle::current) kept meanwhile tells the loop that a wake may come.
///
/// ```
/// use std::cell::Cell;
/// use postlude::task::{join, yield_now};
///
/// postlude::test(0..100, async || {
///     let sum = Cell::new(0);
///     let add = async |n| {
///         yield_now().await;
///         sum.set(sum.get() + n);
///     };
///     join((add(1), add(2), add(3))).await;
///     assert_eq!(sum.get(), 6, "in whatever order they ran");
/// });
/// ```
#[track_caller]
pub fn test<F, R>(seeds: impl IntoIterator<Item = u64>, body: F)
where
    F: AsyncFn() -> R,
    R: Termination,
{
    if let Some(seed) = seed_to_replay() {
        return run_with(seed, &body);
    }
    let mut seeds = seeds.into_iter().peekable();
    assert!(seeds.peek().is_some(), "`postlude::test` was given no seeds, so it would test nothing; give it `0..100`");
    for seed in seeds {
        run_with(seed, &body);
    }
}

#[track_caller]
fn seed_to_replay() -> Option<u64> {
    let text = std::env::var(SEED_VARIABLE).ok()?;
    match text.trim().parse() {
        Ok(seed) => Some(seed),
        Err(_) => {
            panic!("`{SEED_VARIABLE}` is `{text}`, which is not a seed; give it the number a failed test printed")
        }
    }
}

#[track_caller]
fn run_with<F, R>(seed: u64, body: &F)
where
    F: AsyncFn() -> R,
    R: Termination,
{
    let unjoined = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&unjoined);
    let runtime = Runtime::builder()
        .seed(seed)
        .paused_clock()
        .deadlock_is_error()
        .on_panic(move |panic: &TaskPanic| seen.borrow_mut().push(panic.to_string()))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("`postlude::test` could not make a runtime: {error}"),
    };
    let caller = Location::caller();
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on_for(caller, body())));
    // Before the verdict: the destructors of its tasks belong to the run.
    drop(runtime);
    let failure = match result {
        Err(panic) => Some(RunFailure::Panic(panic)),
        Ok(Err(error)) => Some(RunFailure::Text(error.to_string())),
        Ok(Ok(output)) => (output.report() != ExitCode::SUCCESS)
            .then(|| RunFailure::Text("the test returned an error, printed above".to_owned())),
    };
    let unjoined = unjoined.take();
    let failure = failure.or_else(|| (!unjoined.is_empty()).then(|| RunFailure::Text(unjoined.join("\n"))));
    if let Some(failure) = failure {
        failure.end(seed);
    }
}

/// Why a run failed.
enum RunFailure {
    /// `body` panicked; the message is on stderr already.
    Panic(Box<dyn Any + Send>),
    Text(String),
}

impl RunFailure {
    #[track_caller]
    fn end(self, seed: u64) -> ! {
        let replay = format!("this was seed {seed}; to run it alone: {SEED_VARIABLE}={seed}");
        match self {
            Self::Panic(panic) => {
                eprintln!("postlude::test: {replay}");
                resume_unwind(panic)
            }
            Self::Text(why) => panic!("postlude::test: {why}\n{replay}"),
        }
    }
}
