//! Scopes within scopes within scopes, grown at random and compared with what they should do:
//! whatever fails, panics, cancels or is aborted ends what is below it, at that moment, and nothing
//! else; nothing hangs and nothing is left.

use std::cell::Cell;
use std::future::{Future, pending};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use postlude::task::{scope, yield_now};
use postlude::time::{now, sleep, timeout};
use postlude::{Runtime, spawn};
use proptest::prelude::*;

/// What a child does, after so many seconds. Zero: in its first poll.
#[derive(Clone, Debug)]
enum Plan {
    Finish(u64),
    /// Goes to the end of the queue a few times instead of waiting.
    Yield(u64),
    Fail(u64),
    Panic(u64),
    /// Cancels the scope it is in, and then waits for ever.
    Cancel(u64),
    /// Is itself a scope, whose failure it keeps to itself.
    Scope(Vec<Self>),
}

impl Plan {
    /// When it is over, if nobody ends it before, and whether it ends its scope.
    fn ends(&self) -> (u64, bool) {
        match self {
            Self::Yield(_) => (0, false),
            Self::Finish(after) => (*after, false),
            Self::Fail(after) | Self::Panic(after) | Self::Cancel(after) => (*after, true),
            Self::Scope(children) => (scope_ends(children).0, false),
        }
    }
}

/// When a scope is over, and whether it has failed: with the first child that fails, else with the
/// last one.
fn scope_ends(children: &[Plan]) -> (u64, bool) {
    let ends: Vec<_> = children.iter().map(Plan::ends).collect();
    let first_failure = ends.iter().filter(|(_, fails)| *fails).map(|(at, _)| *at).min();
    let last = ends.iter().map(|(at, _)| *at).max();
    first_failure.map_or((last.unwrap_or(0), false), |at| (at, true))
}

fn plan() -> impl Strategy<Value = Plan> {
    let leaf = prop_oneof![
        6 => (0..20_u64).prop_map(Plan::Finish),
        2 => (0..5_u64).prop_map(Plan::Yield),
        1 => (0..20_u64).prop_map(Plan::Fail),
        1 => (0..20_u64).prop_map(Plan::Panic),
        1 => (0..20_u64).prop_map(Plan::Cancel),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Plan::Scope))
}

type Count = Rc<Cell<usize>>;

/// Counts the children there are, of a scope and of all.
struct Alive([Count; 2]);

impl Alive {
    fn one_more(counts: [&Count; 2]) -> Self {
        Self(counts.map(|count| {
            count.set(count.get() + 1);
            Rc::clone(count)
        }))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        for count in &self.0 {
            count.set(count.get() - 1);
        }
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Waits, but not for nothing: zero seconds take no further poll.
async fn wait(after: u64) {
    if after > 0 {
        sleep(seconds(after)).await;
    }
}

/// A child, except one that cancels: that needs its scope.
async fn child(plan: &Plan, all: &Count) -> Result<(), &'static str> {
    match plan {
        Plan::Finish(after) => wait(*after).await,
        Plan::Yield(times) => {
            for _ in 0..*times {
                yield_now().await;
            }
        }
        Plan::Fail(after) => {
            wait(*after).await;
            return Err("no");
        }
        Plan::Panic(after) => {
            wait(*after).await;
            // Without a message on stderr.
            resume_unwind(Box::new("oh"));
        }
        Plan::Cancel(_) => unreachable!("see `tree`"),
        Plan::Scope(children) => {
            let begin = now();
            let failed = tree(children, all).await;
            let (length, fails) = scope_ends(children);
            assert_eq!((now() - begin, failed), (seconds(length), fails));
        }
    }
    Ok(())
}

/// A scope of children. Whether it failed.
fn tree<'a>(children: &'a [Plan], all: &'a Count) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
    Box::pin(async move {
        let own = Count::default();
        let result = scope::<_, &'static str, _>(async |s| {
            for plan in children {
                let alive = Alive::one_more([&own, all]);
                if let Plan::Cancel(after) = plan {
                    let handle = s.clone();
                    s.spawn(async move {
                        let _alive = alive;
                        wait(*after).await;
                        handle.cancel();
                        pending::<()>().await;
                    });
                } else {
                    s.try_spawn(async move {
                        let _alive = alive;
                        child(plan, all).await
                    });
                }
            }
            Ok(())
        });
        let failed = result.await.is_err();
        assert_eq!(own.get(), 0, "children outlive their scope");
        failed
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn whatever_fails_in_a_tree_of_scopes_ends_what_is_below_it_and_nothing_else(
        children in prop::collection::vec(plan(), 0..6),
        seed in any::<u64>(),
        abort_after in 0..25_u64,
    ) {
        let runtime = Runtime::builder().paused_clock().seed(seed).build().unwrap();
        let (length, fails) = scope_ends(&children);
        let children = Rc::new(children);
        runtime
            .block_on(async {
                // Left alone, it ends when it should.
                let alive = Count::default();
                let begin = now();
                let failed = timeout(seconds(1000), tree(&children, &alive)).await.expect("it hangs");
                assert_eq!((now() - begin, failed, alive.get()), (seconds(length), fails, 0));

                // With an owner that is aborted, it ends with it; a neighbour does not.
                let (plans, inside) = (Rc::clone(&children), Rc::clone(&alive));
                let neighbour = spawn(async { sleep(seconds(50)).await });
                let owner = spawn(async move { tree(&plans, &inside).await });
                wait(abort_after).await;
                owner.abort();
                let result = owner.await;
                assert_eq!(alive.get(), 0, "children outlive the owner of their scope");
                if abort_after < length {
                    assert!(result.unwrap_err().is_cancelled());
                } else if abort_after > length {
                    assert_eq!(result.unwrap(), fails);
                }
                neighbour.await.unwrap();
            })
            .unwrap();
        let stats = runtime.stats();
        prop_assert_eq!((stats.tasks, stats.timers_set), (0, 0));
    }
}
