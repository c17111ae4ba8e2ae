//! [`test()`]: runs a test under many schedules, each of which can be replayed from its number.
//!
//! The order in which ready tasks run is nobody's promise, but on a loop that is first in, first out it hardly ever changes, and code comes
//! to rely on it. A seed makes the loop pick otherwise, always the same way for the same seed; the paused clock takes real time out of it.
//! What is left is a program whose whole run follows from one number. Trying a hundred numbers finds the order that breaks it, and the
//! number brings that order back.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::process::{ExitCode, Termination};
use std::rc::Rc;

use crate::runtime::{Runtime, TaskPanic};

/// Names the one seed to run, in place of those the test gives.
const SEED_VARIABLE: &str = "POSTLUDE_SEED";

/// Runs `body` once for every seed, each time in a new runtime with that seed and a paused clock.
///
/// A run fails if `body` panics or returns an error, if a task that nobody joins panics, or if everything waits and nothing
/// inside the runtime could ever end that. The seed of the run that failed is printed; with `POSTLUDE_SEED=<seed>` in the environment the test
/// runs that one alone, in the same order. Time is virtual: `sleep(hour)` takes none. Tasks still alive when `body` returns are dropped.
///
/// Not guaranteed: that a seed means the same order in another version of this crate, or that work on other threads (blocking
/// jobs, sockets to another process) is part of what is replayed.
///
/// # Panics
///
/// If a run fails, with the reason; if there are no seeds at all; if `POSTLUDE_SEED` is not a number; if the system refuses a runtime.
/// A test that waits for a plain thread holding only a waker looks like one that waits for ever: keep a
/// [`Handle::current`](crate::Handle::current) meanwhile.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
///
/// postlude::test(0..100, async || {
///     let sum = Rc::new(Cell::new(0));
///     let tasks: Vec<_> = (1..=4)
///         .map(|n| {
///             let sum = Rc::clone(&sum);
///             postlude::spawn(async move { sum.set(sum.get() + n) })
///         })
///         .collect();
///     for task in tasks {
///         task.await.unwrap();
///     }
///     assert_eq!(sum.get(), 10, "in whatever order they ran");
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
    // Before the verdict: what tasks do as they are dropped belongs to the run.
    drop(runtime);
    let failure = match result {
        Err(panic) => Some(Failure::Panic(panic)),
        Ok(Err(error)) => Some(Failure::Text(error.to_string())),
        Ok(Ok(output)) => (output.report() != ExitCode::SUCCESS)
            .then(|| Failure::Text("the test returned an error, printed above".to_owned())),
    };
    let unjoined = unjoined.take();
    let failure = failure.or_else(|| (!unjoined.is_empty()).then(|| Failure::Text(unjoined.join("\n"))));
    if let Some(failure) = failure {
        failure.end(seed);
    }
}

/// Why a run failed.
enum Failure {
    /// `body` panicked; the message is on stderr already.
    Panic(Box<dyn Any + Send>),
    Text(String),
}

impl Failure {
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
