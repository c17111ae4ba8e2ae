//! Joins and races: branches share the first place, none is held up by another, and each is gone
//! once it has ended.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use postlude::net::TcpListener;
use postlude::sync::{Mutex, Semaphore};
use postlude::task::{has_budget, join, poll_proceed, race, try_join, yield_now};
use postlude::time::{sleep, timeout};
use postlude::{Runtime, spawn};

type Branch = Pin<Box<dyn Future<Output = ()>>>;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

/// Sets its flag when it is dropped.
struct Flag(Rc<Cell<bool>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn flag() -> (Rc<Cell<bool>>, Flag) {
    let dropped = Rc::new(Cell::new(false));
    (dropped.clone(), Flag(dropped))
}

/// Ready after `polls` polls, and an error to poll again.
fn ready_after<T>(polls: usize, value: T) -> impl Future<Output = T> {
    let (mut left, mut value) = (polls, Some(value));
    poll_fn(move |cx| {
        left = left.checked_sub(1).expect("polled after it was ready");
        if left > 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(value.take().unwrap())
    })
}

#[test]
fn each_poll_begins_with_the_next_branch() {
    let trace = Rc::new(RefCell::new(Vec::new()));
    let branch = |n: usize| {
        let trace = trace.clone();
        poll_fn(move |cx| {
            trace.borrow_mut().push(n);
            cx.waker().wake_by_ref();
            if trace.borrow().len() < 9 { Poll::Pending } else { Poll::Ready(()) }
        })
    };
    let held = Rc::downgrade(&trace);
    postlude::run(async { assert_eq!(race([0, 1, 2].map(branch)).await.0, 1) }).unwrap();
    assert_eq!(*trace.borrow(), [0, 1, 2, 1, 2, 0, 2, 0, 1]);
    assert_eq!(held.strong_count(), 1);
}

#[test]
fn a_branch_that_burns_the_budget_does_not_starve_another() {
    let greedy: Branch = Box::pin(async {
        loop {
            poll_fn(poll_proceed).await;
        }
    });
    let modest: Branch = Box::pin(async {
        for _ in 0..3 {
            poll_fn(poll_proceed).await;
        }
    });
    assert_eq!(postlude::run(race([greedy, modest])).unwrap().0, 1);
}

/// Who won races of `N` branches that were all ready.
#[derive(Debug)]
struct Wins<const N: usize> {
    of: [u32; N],
    /// How often each has lost since it last won.
    lost: [u32; N],
    most_losses_in_a_row: u32,
}

impl<const N: usize> Wins<N> {
    fn new() -> Self {
        Self { of: [0; N], lost: [0; N], most_losses_in_a_row: 0 }
    }

    fn note(&mut self, winner: usize) {
        self.of[winner] += 1;
        for lost in &mut self.lost {
            *lost += 1;
        }
        self.lost[winner] = 0;
        self.most_losses_in_a_row = self.most_losses_in_a_row.max(*self.lost.iter().max().unwrap());
    }

    /// Each has its share of the wins but for a part in `margin`, and none waits long for its next.
    fn assert_shared(&self, margin: u32) {
        let share = self.of.iter().sum::<u32>() / N as u32;
        assert!(self.of.iter().all(|wins| wins.abs_diff(share) <= share / margin), "{self:?}");
        assert!(self.most_losses_in_a_row <= 10 * N as u32, "{self:?}");
    }
}

#[test]
fn branches_that_are_ready_at_once_share_the_wins() {
    postlude::run(async {
        let (mut of_array, mut of_vec, mut of_tuple) = (Wins::<2>::new(), Wins::<8>::new(), Wins::<3>::new());
        for _ in 0..999 {
            of_array.note(race([ready(()), ready(())]).await.0);
        }
        for _ in 0..999 {
            of_vec.note(race(vec![ready(()); 8]).await.0);
        }
        for _ in 0..999 {
            of_tuple.note(race((ready(()), async {}, ready_after(1, ()))).await.0);
        }
        of_array.assert_shared(10);
        of_vec.assert_shared(4);
        of_tuple.assert_shared(10);
    })
    .unwrap();
}

/// The wins of each of so many tasks that race in turns.
async fn wins_in_tasks<const N: usize>(tasks: usize, races: u32) -> Vec<Wins<N>> {
    let tasks = (0..tasks).map(|_| {
        spawn(async move {
            let mut wins = Wins::new();
            for _ in 0..races {
                wins.note(race([(); N].map(|()| ready(()))).await.0);
                yield_now().await;
            }
            wins
        })
    });
    let mut all = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        all.push(task.await.unwrap());
    }
    all
}

#[test]
fn tasks_that_race_in_turns_do_not_share_the_branches_among_themselves() {
    postlude::run(async {
        // Among them powers of two, and Fibonacci numbers.
        for tasks in [2, 3, 4, 8, 13, 64, 144, 377] {
            wins_in_tasks::<2>(tasks, 300).await.iter().for_each(|wins| wins.assert_shared(3));
        }
        for tasks in [2, 3, 8, 21] {
            wins_in_tasks::<3>(tasks, 300).await.iter().for_each(|wins| wins.assert_shared(3));
        }
    })
    .unwrap();
}

#[test]
fn a_race_inside_a_race_shares_its_wins() {
    postlude::run(async {
        let (mut inner, mut outer) = (Wins::<2>::new(), Wins::<2>::new());
        for _ in 0..1000 {
            let nested = async { race((ready(()), ready(()))).await.0 };
            inner.note(race((nested, pending())).await.1);
            outer.note(race((async { race((ready(()), ready(()))).await.1 }, ready(()))).await.0);
        }
        inner.assert_shared(8);
        outer.assert_shared(8);
    })
    .unwrap();
}

#[test]
fn a_race_and_a_join_in_turn_share_the_wins() {
    postlude::run(async {
        let (mut wins, mut failures) = (Wins::<2>::new(), Wins::<2>::new());
        for _ in 0..1000 {
            wins.note(race((ready(()), ready(()))).await.0);
            join((ready(()), ready(()))).await;
        }
        for _ in 0..1000 {
            failures.note(try_join((ready(Err::<(), _>(0)), ready(Err::<(), _>(1)))).await.unwrap_err());
            join((ready(()), ready(()))).await;
        }
        wins.assert_shared(8);
        failures.assert_shared(8);
    })
    .unwrap();
}

#[test]
fn a_join_gives_the_outputs_in_the_order_of_its_branches_whichever_ends_first() {
    postlude::run(async {
        assert_eq!(join((ready_after(3, 1), ready_after(1, "two"), ready_after(2, 3.0))).await, (1, "two", 3.0));
        let all = (
            ready_after(8, 0),
            ready_after(7, 1),
            ready_after(6, 2),
            ready_after(5, 3),
            ready_after(4, 4),
            ready_after(3, 5),
            ready_after(2, 6),
            ready_after(1, 7),
        );
        assert_eq!(join(all).await, (0, 1, 2, 3, 4, 5, 6, 7));
        assert_eq!(join([3, 1, 2].map(|n| ready_after(n, n))).await, [3, 1, 2]);
        assert_eq!(join([3, 1, 2].map(|n| ready_after(n, n)).into_iter().collect::<Vec<_>>()).await, [3, 1, 2]);
    })
    .unwrap();
}

#[test]
fn a_branch_that_has_ended_is_dropped_while_the_others_go_on_and_never_polled_again() {
    postlude::run(async {
        let (dropped, held) = flag();
        let seen = dropped.clone();
        let short = async move {
            let _held = held;
            yield_now().await;
        };
        let long = async move {
            while !seen.get() {
                yield_now().await;
            }
        };
        join((ready_after(1, ()), short, long)).await;
        assert!(dropped.get());
    })
    .unwrap();
}

#[test]
fn a_join_of_nothing_is_ready_and_a_race_of_nothing_never_is() {
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(pin!(join(Vec::<std::future::Ready<()>>::new())).poll(&mut cx), Poll::Ready(vec![]));
    assert_eq!(pin!(join([] as [std::future::Ready<()>; 0])).poll(&mut cx), Poll::Ready([]));
    let results: Vec<std::future::Ready<Result<(), ()>>> = Vec::new();
    assert_eq!(pin!(try_join(results)).poll(&mut cx), Poll::Ready(Ok(vec![])));
    assert!(pin!(race(Vec::<std::future::Ready<()>>::new())).poll(&mut cx).is_pending());
}

#[test]
fn each_poll_of_a_join_begins_with_the_next_branch() {
    let trace = RefCell::new(Vec::new());
    let branch = |n: usize| {
        let (trace, mut left) = (&trace, 3);
        poll_fn(move |cx| {
            trace.borrow_mut().push(n);
            cx.waker().wake_by_ref();
            left -= 1;
            if left > 0 { Poll::Pending } else { Poll::Ready(()) }
        })
    };
    postlude::run(async { join((branch(0), branch(1), branch(2))).await }).unwrap();
    assert_eq!(*trace.borrow(), [0, 1, 2, 1, 2, 0, 2, 0, 1]);
}

#[test]
fn the_first_error_ends_a_try_join_and_drops_branches_and_outputs() {
    postlude::run(async {
        for failing in 0..3 {
            let (branch_dropped, held) = flag();
            let (output_dropped, output) = flag();
            let waits = || Box::pin(pending::<Result<Flag, usize>>()) as Pin<Box<dyn Future<Output = _>>>;
            let mut branches = [waits(), waits(), waits()];
            branches[failing] = Box::pin(ready_after(2, Err(failing)));
            branches[(failing + 1) % 3] = Box::pin(async move {
                let _held = held;
                pending().await
            });
            branches[(failing + 2) % 3] = Box::pin(ready_after(1, Ok(output)));
            let [a, b, c] = branches;
            assert_eq!(try_join((a, b, c)).await.err(), Some(failing));
            assert!(branch_dropped.get() && output_dropped.get());
        }
        let errors = [3, 1, 2].map(|n| ready_after(n, Err::<(), _>(n)));
        assert_eq!(try_join(errors).await, Err(1));
        let errors: Vec<_> = [3, 1, 2].map(|n| ready_after(n, Err::<(), _>(n))).into_iter().collect();
        assert_eq!(try_join(errors).await, Err(1));
    })
    .unwrap();
}

#[test]
fn a_try_join_without_an_error_gives_the_values() {
    postlude::run(async {
        let mixed = (ready_after(2, Ok::<_, ()>(1)), ready_after(1, Ok("two")));
        assert_eq!(try_join(mixed).await, Ok((1, "two")));
        assert_eq!(try_join([2, 1].map(|n| ready_after(n, Ok::<_, ()>(n)))).await, Ok([2, 1]));
        let values: Vec<_> = [2, 1].map(|n| ready_after(n, Ok::<_, ()>(n))).into_iter().collect();
        assert_eq!(try_join(values).await, Ok(vec![2, 1]));
    })
    .unwrap();
}

#[test]
fn a_race_of_different_futures_drops_the_losers_before_it_returns() {
    postlude::run(async {
        let (dropped, held) = flag();
        let loser = async move {
            let _held = held;
            pending().await
        };
        let (place, output) = race((loser, ready_after(2, 7), pending(), ready_after(3, 8))).await;
        assert_eq!((place, output), (1, 7));
        assert!(dropped.get());
    })
    .unwrap();
}

#[test]
fn a_branch_that_burns_the_budget_does_not_starve_another_of_a_join() {
    postlude::run(async {
        let polls_of_the_other = Cell::new(0);
        let greedy = async {
            for _ in 0..10_000 {
                poll_fn(poll_proceed).await;
            }
            polls_of_the_other.get()
        };
        let modest = async {
            for _ in 0..30 {
                poll_fn(poll_proceed).await;
                polls_of_the_other.set(polls_of_the_other.get() + 1);
                yield_now().await;
            }
        };
        assert_eq!(join((greedy, modest)).await.0, 30);
    })
    .unwrap();
}

#[test]
fn no_branch_is_polled_without_budget() {
    let polled_without = Cell::new(false);
    let branch = || {
        let (polled_without, mut polls) = (&polled_without, 0);
        poll_fn(move |cx| {
            polled_without.set(polled_without.get() || !has_budget());
            while poll_proceed(cx).is_ready() {}
            polls += 1;
            if polls < 5 { Poll::Pending } else { Poll::Ready(()) }
        })
    };
    postlude::run(async { join((branch(), branch(), branch())).await }).unwrap();
    assert!(!polled_without.get());
}

#[test]
fn a_timer_fires_beside_a_socket_that_is_always_ready() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let done = done.clone();
        thread::spawn(move || {
            let mut flood = std::net::TcpStream::connect(address).unwrap();
            while !done.load(Ordering::SeqCst) && flood.write_all(&[0; 16384]).is_ok() {}
        })
    };
    postlude::run(async {
        let (stream, _) = TcpListener::from_std(listener).unwrap().accept().await.unwrap();
        let total = Cell::new(0);
        for _ in 0..4 {
            let began = Instant::now();
            let greedy = async {
                let mut byte = [0; 1];
                loop {
                    total.set(total.get() + stream.read(&mut byte).await.unwrap());
                }
            };
            let limit = async {
                sleep(ms(20)).await;
                began.elapsed()
            };
            let (place, took) = race((greedy, limit)).await;
            assert_eq!(place, 1);
            assert!(took < ms(2000), "{took:?}");
        }
        assert!(total.get() > 0);
    })
    .unwrap();
    done.store(true, Ordering::SeqCst);
    writer.join().unwrap();
}

#[test]
fn a_lock_held_by_one_branch_across_a_wait_does_not_hold_up_the_join() {
    paused()
        .block_on(async {
            let (lock, permits) = (Mutex::new(0), Semaphore::new(1));
            let holder = async {
                for _ in 0..50 {
                    let mut held = lock.lock().await;
                    let _permit = permits.acquire().await.unwrap();
                    sleep(ms(1)).await;
                    *held += 1;
                }
            };
            let other = async {
                for _ in 0..50 {
                    *lock.lock().await += 1;
                    drop(permits.acquire().await.unwrap());
                }
            };
            let greedy = async {
                for _ in 0..1000 {
                    poll_fn(poll_proceed).await;
                }
            };
            timeout(Duration::from_secs(60), join((holder, other, greedy))).await.expect("nobody lets go of the lock");
            assert_eq!(lock.into_inner(), 100);
        })
        .unwrap();
}

#[test]
fn a_lock_that_a_loser_held_is_free_after_the_race() {
    paused()
        .block_on(async {
            let lock = Mutex::new(());
            let holder = async {
                let _held = lock.lock().await;
                pending::<()>().await;
            };
            assert_eq!(race((holder, sleep(ms(1)))).await.0, 1);
            assert!(lock.try_lock().is_some());
            // A branch that is lent lives on and keeps the lock, as the documentation warns.
            let mut holder = Box::pin(async {
                let _held = lock.lock().await;
                sleep(ms(10)).await;
            });
            assert_eq!(race((&mut holder, sleep(ms(1)))).await.0, 1);
            assert!(lock.try_lock().is_none());
            assert!(timeout(ms(100), lock.lock()).await.is_err(), "nobody polls its holder");
            // Polled beside what waits, it is no trouble.
            join((holder, async { drop(lock.lock().await) })).await;
        })
        .unwrap();
}

#[test]
fn a_panic_of_a_branch_drops_the_others_and_goes_to_the_caller() {
    postlude::run(async {
        let (dropped, held) = flag();
        let panics = async {
            yield_now().await;
            resume_unwind(Box::new("quietly"))
        };
        let other = async move {
            let _held = held;
            pending::<()>().await;
        };
        let mut both = Box::pin(join((other, panics)));
        let panic = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| both.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(_)) => Poll::Ready(None),
            Err(panic) => Poll::Ready(Some(panic)),
        });
        assert_eq!(panic.await.unwrap().downcast_ref(), Some(&"quietly"));
        assert!(dropped.get());
    })
    .unwrap();
}

#[test]
fn a_dropped_join_drops_its_branches_and_the_outputs_it_has() {
    postlude::run(async {
        let (branch_dropped, held) = flag();
        let (output_dropped, output) = flag();
        let waits = async move {
            let _held = held;
            pending::<()>().await;
        };
        let mut both = Box::pin(join((waits, ready(output))));
        assert!(poll_fn(|cx| Poll::Ready(both.as_mut().poll(cx))).await.is_pending());
        assert!(!branch_dropped.get() && !output_dropped.get());
        drop(both);
        assert!(branch_dropped.get() && output_dropped.get());
    })
    .unwrap();
}

#[test]
fn joins_and_races_work_under_any_executor_and_are_send_if_their_branches_are() {
    fn send<T: Send>(future: T) -> T {
        future
    }
    let both = send(join((ready(1), async { 2 })));
    assert_eq!(futures_lite::future::block_on(both), (1, 2));
    assert_eq!(futures_lite::future::block_on(send(race((pending(), ready(3))))), (1, 3));
    assert_eq!(futures_lite::future::block_on(send(try_join([ready(Ok::<_, ()>(1))]))), Ok([1]));
    assert_eq!(futures_lite::future::block_on(send(join(vec![ready(4)]))), [4]);
}

#[test]
fn a_branch_woken_by_a_task_is_polled_in_whatever_place_it_stands() {
    paused()
        .block_on(async {
            let tasks = [5, 1, 3].map(|n| {
                spawn(async move {
                    sleep(ms(n)).await;
                    n
                })
            });
            let [a, b, c] = tasks;
            let (a, b, c) = join((a, b, c)).await;
            assert_eq!((a.unwrap(), b.unwrap(), c.unwrap()), (5, 1, 3));
        })
        .unwrap();
}

#[test]
fn a_seed_picks_which_branch_begins_the_same_way_each_time() {
    let winners = |seed| {
        let runtime = Runtime::builder().paused_clock().seed(seed).build().unwrap();
        let races = async {
            let mut winners = Vec::new();
            for _ in 0..20 {
                winners.push(race((ready(()), ready(()), ready(()))).await.0);
            }
            winners
        };
        runtime.block_on(races).unwrap()
    };
    let all: Vec<_> = (0..20).map(winners).collect();
    assert_eq!(all, (0..20).map(winners).collect::<Vec<_>>());
    let different: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
    assert!(all.iter().flatten().all(|&winner| winner < 3));
}

#[test]
fn under_a_seed_any_of_very_many_branches_may_begin() {
    let runtime = Runtime::builder().paused_clock().seed(1).build().unwrap();
    let races = async {
        let mut wins = Wins::<200>::new();
        for _ in 0..10_000 {
            wins.note(race(vec![ready(()); 200]).await.0);
        }
        assert!(wins.of.iter().all(|&wins| wins > 0), "{wins:?}");
    };
    runtime.block_on(races).unwrap();
}
