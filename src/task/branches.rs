//! Several futures in one task: [`join`] waits for all, [`try_join`] for all or the first error,
//! [`race`] for the first.
//!
//! Each poll begins one branch later than the poll before. If the budget runs out, the next poll
//! goes on with the first branch not polled. So a branch that is always ready never keeps another
//! from being polled. The first poll begins with a pseudo-random branch. So if two branches are
//! always ready and race in a loop, each wins about half of the races, whatever other races run in
//! between.
//!
//! # How it works
//!
//! The branches of a tuple are local variables of the future, so nothing is allocated. Those of a
//! vector or an array are boxed one by one, since an element of a slice cannot be pinned otherwise.
//! Either way [`poll_in_turn`] decides the order, and polls branches by number. A ready branch is
//! dropped at once and its output takes its place. So anything it held (a lock, a permit) is free
//! for the others, and it is never polled again.
//!
//! All branches share their task's waker, so a wake of one polls them all. For hundreds of futures,
//! spawn tasks or use a [`scope`](super::scope()): their wakes are told apart.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::event_loop::context;
use crate::executor::budget;
use crate::executor::random::{GOLDEN_RATIO, scramble};

/// Waits for several futures, and returns their outputs in the order of the futures.
///
/// `futures` is a tuple of 2 to 8 futures of any types, or a `Vec` or an array of one type. Each
/// future is dropped as soon as it is ready. All of them are polled whenever one is woken,
/// beginning with another one each time. A future that uses up the task's
/// [budget](super::has_budget) does not hold up the others. A tuple needs no allocation, a vector
/// or an array one for each future.
///
/// A panic of one future drops the others and goes on to the caller.
///
/// # Cancel safety
///
/// Dropping it drops every branch, whose own cancel safety applies, and the outputs already there.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::task::join;
/// postlude::run(async {
///     let name = String::from("borrowed");
///     let (length, five) = join((async { name.len() }, postlude::spawn(async { 5 }))).await;
///     assert_eq!((length, five.unwrap()), (8, 5));
///     let squares: Vec<_> = (1..=3).map(|n| async move { n * n }).collect();
///     assert_eq!(join(squares).await, [1, 4, 9]);
/// })
/// # }
/// ```
pub async fn join<J: Join>(futures: J) -> J::Output {
    futures.join().await
}

/// Waits for several futures that return a `Result`; the first error drops the others and is
/// returned.
///
/// `futures` is a tuple of 2 to 8 futures with one error type, or a `Vec` or an array. Otherwise it
/// is like [`join`].
///
/// # Errors
///
/// The first error in time. Among branches that fail in the same poll it is the error of the branch
/// polled first, and each poll begins with another branch.
///
/// # Cancel safety
///
/// As [`join`]. An error drops the other branches and outputs as well.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::task::try_join;
/// postlude::run(async {
///     let both = try_join((async { Ok::<_, &str>(1) }, async { Ok("two") })).await;
///     assert_eq!(both, Ok((1, "two")));
///     let endless = std::future::pending::<Result<(), _>>();
///     assert_eq!(try_join((endless, async { Err::<(), _>("no") })).await, Err("no"));
/// })
/// # }
/// ```
pub async fn try_join<J: TryJoin>(futures: J) -> Result<J::Output, J::Error> {
    futures.try_join().await
}

/// Waits for the first of several futures, and returns its index and output. The others are dropped
/// before it returns.
///
/// `futures` is a tuple of 2 to 8 futures with the same output, or a `Vec` or an array. They are
/// polled, and allocated, as by [`join`]. A race of no futures is never ready.
///
/// In a loop, a branch that is ready without an event wins round after round, and the loop never
/// sleeps. Leave the loop at the `None` of a channel or a stream that has ended. For sets that may
/// be empty for a while take [`JoinSet::next_finished`](super::JoinSet::next_finished) and
/// [`Merge::next_item`](crate::iter::Merge::next_item), which wait. Any other branch can wait
/// likewise: `async { if done { pending().await } else { next.await } }`.
///
/// The losers are dropped, so a lock or a permit that one of them held is free after the race. A
/// branch given as `&mut future` lives on unpolled and keeps its locks: code after the race that
/// waits for the same lock waits for ever. Give such a future a task of its own, or go on polling
/// it.
///
/// # Cancel safety
///
/// Dropping it drops every branch, whose own cancel safety applies. The end of the race drops the
/// losers in the same way.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// use postlude::{task::race, time::sleep};
/// postlude::run(async {
///     let fetch = async { "answer" };
///     let limit = async { sleep(Duration::from_secs(9)).await; "too late" };
///     assert_eq!(race((fetch, limit)).await, (0, "answer"));
///     assert_eq!(race([std::future::ready(1)]).await, (0, 1));
/// })
/// # }
/// ```
pub async fn race<R: Race>(futures: R) -> (usize, R::Output) {
    futures.race().await
}

mod sealed {
    pub trait Sealed {}
}

/// Futures to [`join`]: a tuple of 2 to 8, a `Vec` or an array. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a group of futures that can be joined",
    note = "give a tuple of 2 to 8 futures, or collect futures of one type into a `Vec`"
)]
pub trait Join: sealed::Sealed {
    /// The outputs, in the order of the futures.
    type Output;

    /// See [`join`].
    fn join(self) -> impl Future<Output = Self::Output>;
}

/// Futures to [`try_join`]: a tuple of 2 to 8, a `Vec` or an array, with one error type. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a group of futures whose results can be joined",
    note = "give a tuple of 2 to 8 futures, or a `Vec`, that all return a `Result` with the same error type"
)]
pub trait TryJoin: sealed::Sealed {
    /// The values, in the order of the futures.
    type Output;
    /// The error type of all of them.
    type Error;

    /// See [`try_join`].
    fn try_join(self) -> impl Future<Output = Result<Self::Output, Self::Error>>;
}

/// Futures to [`race`]: a tuple of 2 to 8, a `Vec` or an array, with one output type. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a group of futures that can race",
    note = "give a tuple of 2 to 8 futures with the same output, or collect futures of one type into a `Vec`"
)]
pub trait Race: sealed::Sealed {
    /// The winner's output.
    type Output;

    /// See [`race`].
    fn race(self) -> impl Future<Output = (usize, Self::Output)>;
}

pin_project! {
    /// A future, and later, in the same place, its output.
    #[project = BranchProjection]
    enum Branch<F: Future> {
        Running { #[pin] future: F },
        Ended { output: Option<F::Output> },
    }
}

impl<F: Future> Branch<F> {
    fn new(future: F) -> Self {
        Self::Running { future }
    }

    /// Polls the future, unless it has ended. Ready once it has ended; true if its output, new in
    /// this poll, decides for all branches.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>, decides: fn(&F::Output) -> bool) -> Poll<bool> {
        let BranchProjection::Running { future } = self.as_mut().project() else { return Poll::Ready(false) };
        let output = ready!(future.poll(cx));
        let decided = decides(&output);
        self.set(Self::Ended { output: Some(output) });
        Poll::Ready(decided)
    }

    fn take(self: Pin<&mut Self>) -> Option<F::Output> {
        match self.project() {
            BranchProjection::Running { .. } => None,
            BranchProjection::Ended { output } => output.take(),
        }
    }
}

/// Polls `count` branches by their numbers, beginning with `first`, which moves on. Ready with the
/// number of a branch that decides for all, or with `None` when all have ended.
fn poll_in_turn(
    first: &mut usize,
    count: usize,
    cx: &mut Context<'_>,
    mut poll: impl FnMut(usize, &mut Context<'_>) -> Poll<bool>,
) -> Poll<Option<usize>> {
    ready!(budget::poll_available(cx));
    let before = budget::left();
    let begin = *first;
    *first = (begin + 1) % count.max(1);
    let mut settled = Poll::Ready(None);
    for step in 0..count {
        let number = (begin + step) % count;
        if !budget::has_budget() {
            // The remaining branches would only return `Pending`: the next poll begins with them.
            *first = number;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match poll(number, cx) {
            Poll::Ready(true) => {
                settled = Poll::Ready(Some(number));
                break;
            }
            Poll::Ready(false) => {}
            Poll::Pending => settled = Poll::Pending,
        }
    }
    if settled.is_ready() {
        budget::spend_unless_spent(before);
    }
    settled
}

/// The branch to poll first, picked by the seed if there is one, otherwise by a counter. The
/// counter is the runtime's, so that the pick does not depend on other runtimes of the process.
fn first_branch(count: usize) -> usize {
    let Some(parts) = context::current().filter(|_| count > 0) else { return 0 };
    let picked = parts.tasks.borrow_mut().pick(count as u32);
    let counted = || spread(parts.races.replace(parts.races.get().wrapping_add(1)), count);
    picked.map_or_else(counted, |number| number as usize)
}

/// A pseudo-random branch, of `count`, for the race with this number.
///
/// The number modulo `count` would be in step with the program: if two tasks race alternately, one
/// has all the even numbers, and the same branch wins all of its races. Steps of the golden ratio
/// have no such period, but fail where the outcome of one race decides whether another race comes
/// in between. A hash is in step with nothing.
fn spread(race: u64, count: usize) -> usize {
    let place = scramble(race.wrapping_mul(GOLDEN_RATIO));
    ((u128::from(place) * count as u128) >> u64::BITS) as usize
}

#[cold]
fn lost() -> ! {
    unreachable!("a branch that has ended has left its output")
}

/// Moves a tuple's futures into pinned branches, in variables named after their types, and polls
/// them until one decides for all or all have ended. Binds the number of the decider.
macro_rules! settle_tuple {
    (let $decider:pat = $futures:ident, $count:literal, $decides:expr, $($number:literal $F:ident),+) => {
        let ($($F,)+) = $futures;
        $(let mut $F = pin!(Branch::new($F));)+
        let mut first = first_branch($count);
        let $decider = poll_fn(|cx| {
            poll_in_turn(&mut first, $count, cx, |number, cx| match number {
                $($number => $F.as_mut().poll(cx, $decides),)+
                _ => Poll::Pending,
            })
        })
        .await;
    };
}

/// Implements the three traits for tuples. The letters name the types of the futures, the
/// variables, and the value types of the futures' results.
macro_rules! tuple {
    ($count:literal: $($number:literal $F:ident $T:ident),+) => {
        impl<$($F: Future),+> sealed::Sealed for ($($F,)+) {}

        #[allow(non_snake_case, reason = "the futures' types name the variables too")]
        impl<$($F: Future),+> Join for ($($F,)+) {
            type Output = ($($F::Output,)+);

            async fn join(self) -> Self::Output {
                settle_tuple!(let _ = self, $count, |_| false, $($number $F),+);
                ($($F.as_mut().take().unwrap_or_else(|| lost()),)+)
            }
        }

        #[allow(non_snake_case, reason = "the futures' types name the variables too")]
        impl<$($F, $T,)+ Error> TryJoin for ($($F,)+)
        where
            $($F: Future<Output = Result<$T, Error>>,)+
        {
            type Output = ($($T,)+);
            type Error = Error;

            async fn try_join(self) -> Result<Self::Output, Error> {
                settle_tuple!(let _ = self, $count, Result::is_err, $($number $F),+);
                $(let $T = $F.as_mut().take().transpose()?;)+
                Ok(($($T.unwrap_or_else(|| lost()),)+))
            }
        }

        #[allow(non_snake_case, reason = "the futures' types name the variables too")]
        impl<Output, $($F: Future<Output = Output>),+> Race for ($($F,)+) {
            type Output = Output;

            async fn race(self) -> (usize, Output) {
                settle_tuple!(let winner = self, $count, |_| true, $($number $F),+);
                // By its number: a search of the outputs is vectorized, and ten times as long.
                let output = match winner {
                    $(Some($number) => $F.as_mut().take(),)+
                    _ => None,
                };
                winner.zip(output).unwrap_or_else(|| lost())
            }
        }
    };
}

tuple!(2: 0 A TA, 1 B TB);
tuple!(3: 0 A TA, 1 B TB, 2 C TC);
tuple!(4: 0 A TA, 1 B TB, 2 C TC, 3 D TD);
tuple!(5: 0 A TA, 1 B TB, 2 C TC, 3 D TD, 4 E TE);
tuple!(6: 0 A TA, 1 B TB, 2 C TC, 3 D TD, 4 E TE, 5 F TF);
tuple!(7: 0 A TA, 1 B TB, 2 C TC, 3 D TD, 4 E TE, 5 F TF, 6 G TG);
tuple!(8: 0 A TA, 1 B TB, 2 C TC, 3 D TD, 4 E TE, 5 F TF, 6 G TG, 7 H TH);

type BoxedBranch<F> = Pin<Box<Branch<F>>>;

fn boxed<F: Future>(future: F) -> BoxedBranch<F> {
    Box::pin(Branch::new(future))
}

/// Polls boxed branches until one decides for all, and returns its number, or until all have ended.
async fn settle<F: Future>(branches: &mut [BoxedBranch<F>], decides: fn(&F::Output) -> bool) -> Option<usize> {
    let count = branches.len();
    let mut first = first_branch(count);
    poll_fn(|cx| poll_in_turn(&mut first, count, cx, |number, cx| branches[number].as_mut().poll(cx, decides))).await
}

async fn settle_race<F: Future>(branches: &mut [BoxedBranch<F>]) -> (usize, F::Output) {
    let Some(winner) = settle(branches, |_| true).await else { return std::future::pending().await };
    (winner, branches[winner].as_mut().take().unwrap_or_else(|| lost()))
}

/// Polls boxed branches until one fails, and returns its error, or until all have ended.
async fn settle_results<T, E, F>(branches: &mut [BoxedBranch<F>]) -> Result<(), E>
where
    F: Future<Output = Result<T, E>>,
{
    let Some(failed) = settle(branches, Result::is_err).await else { return Ok(()) };
    branches[failed].as_mut().take().unwrap_or_else(|| lost()).map(drop)
}

fn output<F: Future>(mut branch: BoxedBranch<F>) -> F::Output {
    branch.as_mut().take().unwrap_or_else(|| lost())
}

fn value<T, E, F: Future<Output = Result<T, E>>>(branch: BoxedBranch<F>) -> T {
    output(branch).unwrap_or_else(|_| lost())
}

impl<F: Future> sealed::Sealed for Vec<F> {}

impl<F: Future> Join for Vec<F> {
    type Output = Vec<F::Output>;

    async fn join(self) -> Self::Output {
        let mut branches: Vec<_> = self.into_iter().map(boxed).collect();
        settle(&mut branches, |_| false).await;
        branches.into_iter().map(output).collect()
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> TryJoin for Vec<F> {
    type Output = Vec<T>;
    type Error = E;

    async fn try_join(self) -> Result<Self::Output, E> {
        let mut branches: Vec<_> = self.into_iter().map(boxed).collect();
        settle_results(&mut branches).await?;
        Ok(branches.into_iter().map(value).collect())
    }
}

impl<F: Future> Race for Vec<F> {
    type Output = F::Output;

    async fn race(self) -> (usize, F::Output) {
        settle_race(&mut self.into_iter().map(boxed).collect::<Vec<_>>()).await
    }
}

impl<F: Future, const N: usize> sealed::Sealed for [F; N] {}

impl<F: Future, const N: usize> Join for [F; N] {
    type Output = [F::Output; N];

    async fn join(self) -> Self::Output {
        let mut branches = self.map(boxed);
        settle(&mut branches, |_| false).await;
        branches.map(output)
    }
}

impl<T, E, F: Future<Output = Result<T, E>>, const N: usize> TryJoin for [F; N] {
    type Output = [T; N];
    type Error = E;

    async fn try_join(self) -> Result<Self::Output, E> {
        let mut branches = self.map(boxed);
        settle_results(&mut branches).await?;
        Ok(branches.map(value))
    }
}

impl<F: Future, const N: usize> Race for [F; N] {
    type Output = F::Output;

    async fn race(self) -> (usize, F::Output) {
        settle_race(&mut self.map(boxed)).await
    }
}
