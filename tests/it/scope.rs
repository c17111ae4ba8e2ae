//! Scopes: children that borrow, fail, cancel, and never outlive the scope.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, Ready, pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use postlude::task::{self, Cause, scope, yield_now};
use postlude::time::{sleep, timeout};
use postlude::{Runtime, spawn};

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

/// Runs a future twice: as the root, and as a task.
fn as_root_and_as_task<F: Future<Output = ()> + 'static>(make: impl Fn() -> F) {
    let runtime = paused();
    runtime.block_on(make()).unwrap();
    let task = runtime.spawn(make());
    runtime.block_on(task).unwrap().unwrap();
    assert_eq!(runtime.stats().tasks, 0, "no slot is left");
}

/// Adds its name to a list when it is dropped.
struct Dropped<'a>(&'a RefCell<Vec<&'static str>>, &'static str);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1);
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

/// Pending until its waker, kept in `wakers`, is called; counts its polls.
async fn woken(polls: &Cell<u32>, wakers: &RefCell<Vec<Waker>>) {
    let mut first = true;
    poll_fn(|cx| {
        polls.set(polls.get() + 1);
        if std::mem::replace(&mut first, false) {
            wakers.borrow_mut().push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

#[test]
fn children_borrow_from_the_caller() {
    struct Pair {
        left: u32,
        right: Vec<u32>,
    }
    as_root_and_as_task(|| async {
        let words: Vec<_> = ["a", "bcd"].map(String::from).into();
        let mut pair = Pair { left: 0, right: Vec::new() };
        let hits = Cell::new(0);
        let lengths = scope::<_, Infallible, _>(async |s| {
            let (left, right) = (&mut pair.left, &mut pair.right);
            s.spawn(async {
                sleep(Duration::from_secs(1)).await;
                *left += 1;
            });
            s.spawn(async {
                yield_now().await;
                right.push(7);
            });
            for _ in 0..10 {
                s.spawn(async { hits.set(hits.get() + 1) });
            }
            let lengths = words.iter().map(|word| s.spawn(async { word.len() })).collect::<Vec<_>>();
            let mut sum = 0;
            for length in lengths {
                sum += length.await.unwrap();
            }
            Ok(sum)
        })
        .await
        .unwrap();
        assert_eq!((lengths, pair.left, pair.right, hits.get(), words.len()), (4, 1, vec![7], 10, 2));
    });
}

#[test]
fn a_scope_waits_for_children_whose_handles_are_dropped() {
    as_root_and_as_task(|| async {
        let done = Cell::new(0);
        let begin = postlude::time::now();
        scope::<_, Infallible, _>(async |s| {
            for n in 1..=3 {
                let done = &done;
                s.spawn(async move {
                    sleep(Duration::from_secs(n)).await;
                    done.set(done.get() + 1);
                });
            }
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(done.get(), 3);
        assert!(postlude::time::now() - begin >= Duration::from_secs(3));
    });
}

#[test]
fn a_child_that_fails_before_its_first_await_ends_the_scope() {
    as_root_and_as_task(|| async {
        let drops = RefCell::new(Vec::new());
        let error = scope::<(), _, _>(async |s| {
            let _body = Dropped(&drops, "body");
            for name in ["first", "second"] {
                let held = Dropped(&drops, name);
                s.spawn(async move {
                    let _held = held;
                    pending::<()>().await;
                });
            }
            s.named("bad").try_spawn(async { Err::<(), _>("no") });
            pending().await
        })
        .await
        .unwrap_err();
        assert_eq!(error.first.error(), Some(&"no"));
        assert_eq!(error.first.child.as_ref().unwrap().name.as_deref(), Some("bad"));
        assert!(error.others.is_empty());
        assert_eq!(*drops.borrow(), ["first", "second", "body"]);
    });
}

#[test]
fn a_body_that_fails_ends_the_scope() {
    as_root_and_as_task(|| async {
        let drops = RefCell::new(Vec::new());
        let error = scope::<(), _, _>(async |s| {
            let held = Dropped(&drops, "child");
            s.spawn(async move {
                let _held = held;
                pending::<()>().await;
            });
            yield_now().await;
            Err("no")
        })
        .await
        .unwrap_err();
        assert!(error.first.child.is_none());
        assert_eq!(error.to_string(), "the scope's body failed: no");
        assert_eq!(*drops.borrow(), ["child"]);
    });
}

#[test]
fn a_child_that_panics_ends_the_scope() {
    as_root_and_as_task(|| async {
        let error = scope::<(), Infallible, _>(async |s| {
            s.spawn(async {
                yield_now().await;
                panic!("oh");
            });
            pending().await
        })
        .await
        .unwrap_err();
        assert!(error.first.child.as_ref().unwrap().location.unwrap().file().ends_with("scope.rs"));
        assert_eq!(error.first.into_panic().unwrap().to_string(), "the task panicked: `oh`");
    });
}

#[test]
fn a_panic_of_the_body_drops_the_children_and_goes_on_to_the_caller() {
    let runtime = paused();
    let drops = Rc::new(RefCell::new(Vec::new()));
    let list = drops.clone();
    let task = runtime.spawn(async move {
        scope::<(), Infallible, _>(async |s| {
            let held = Dropped(&list, "child");
            s.spawn(async move {
                let _held = held;
                pending::<()>().await;
            });
            yield_now().await;
            panic!("body")
        })
        .await
        .unwrap();
    });
    assert!(runtime.block_on(task).unwrap().unwrap_err().is_panic());
    assert_eq!((drops.borrow().len(), runtime.stats().tasks), (1, 0));
}

/// The closure of a scope: spawns children that hold these, perhaps with clones of the scope, and
/// panics before there is a body.
fn no_body<'env, D: 'env>(
    held: Vec<D>,
    clones: bool,
) -> impl AsyncFnOnce(task::Scope<'env, Infallible>) -> Result<(), Infallible> {
    move |s: task::Scope<'env, Infallible>| -> Ready<Result<(), Infallible>> {
        for held in held {
            let inner = clones.then(|| s.clone());
            s.spawn(async move {
                let _held = (held, inner);
                panic!("never polled");
            });
        }
        panic!("no body")
    }
}

#[test]
fn a_closure_that_panics_before_there_is_a_body_leaves_no_children() {
    let runtime = paused();
    for clones in [false, true] {
        let drops = RefCell::new(Vec::new());
        let held = ["first", "second"].map(|name| Dropped(&drops, name));
        let panics = AssertUnwindSafe(scope(no_body(held.into(), clones))).catch_unwind();
        let caught = runtime.block_on(panics).unwrap();
        assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "no body");
        assert_eq!(*drops.borrow(), ["first", "second"]);
        assert_eq!(runtime.stats().tasks, 0);
        assert_eq!(runtime.stats().panics, 0, "the caller has heard of it");
    }
}

#[test]
fn a_child_whose_destructor_panics_beside_a_closure_that_panics_is_reported() {
    let runtime = paused();
    for clones in [false, true] {
        let panics = AssertUnwindSafe(scope(no_body(vec![PanicsInDrop, PanicsInDrop], clones))).catch_unwind();
        assert!(runtime.block_on(panics).unwrap().is_err());
        assert_eq!(runtime.stats().tasks, 0);
    }
    assert_eq!(runtime.stats().panics, 4);
}

#[test]
fn a_child_cancels_the_scope_in_its_first_poll_and_nothing_else() {
    as_root_and_as_task(|| async {
        let drops = RefCell::new(Vec::new());
        let other = spawn(async {
            yield_now().await;
            5
        });
        let error = scope::<(), Infallible, _>(async |s| {
            let (handle, held) = (s.clone(), Dropped(&drops, "child"));
            s.spawn(async move {
                let _held = held;
                handle.cancel();
                pending::<()>().await;
            });
            s.spawn(async { panic!("never polled: the scope is over") });
            pending().await
        })
        .await
        .unwrap_err();
        assert!(error.first.is_cancelled() && matches!(error.first.cause, Cause::Cancelled));
        assert_eq!(*drops.borrow(), ["child"]);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(other.await.unwrap(), 5);
    });
}

#[test]
fn a_scope_that_waits_is_cancelled_from_another_task() {
    let runtime = paused();
    runtime
        .block_on(async {
            let kept = Rc::new(RefCell::new(None));
            let out = kept.clone();
            let task = spawn(async move {
                scope::<(), Infallible, _>(async |s| {
                    *out.borrow_mut() = Some(s.clone());
                    s.spawn(pending::<()>());
                    pending().await
                })
                .await
                .unwrap_err()
                .first
                .is_cancelled()
            });
            sleep(Duration::from_secs(1)).await;
            let handle: task::Scope<'static, Infallible> = kept.borrow_mut().take().unwrap();
            handle.cancel();
            assert!(timeout(Duration::from_secs(1), task).await.unwrap().unwrap());
            handle.cancel();
            let late = handle.spawn(async { 1 });
            assert!(late.is_finished() && late.await.unwrap_err().is_cancelled(), "an ended scope takes no child");
        })
        .unwrap();
}

#[test]
fn an_inner_scope_that_fails_leaves_the_outer_one_running() {
    as_root_and_as_task(|| async {
        let log = RefCell::new(Vec::new());
        let outcome = scope::<_, &str, _>(async |outer| {
            let inner_failed = outer.spawn(async {
                let error = scope::<(), _, _>(async |inner| {
                    let held = Dropped(&log, "inner sibling");
                    inner.spawn(async move {
                        let _held = held;
                        pending::<()>().await;
                    });
                    inner.try_spawn(async {
                        sleep(Duration::from_secs(1)).await;
                        Err::<(), _>("inner")
                    });
                    pending().await
                })
                .await;
                *error.unwrap_err().first.error().unwrap()
            });
            outer.spawn(async {
                sleep(Duration::from_secs(2)).await;
                log.borrow_mut().push("outer sibling");
            });
            Ok(inner_failed.await.unwrap())
        })
        .await;
        assert_eq!(outcome.unwrap(), "inner");
        assert_eq!(*log.borrow(), ["inner sibling", "outer sibling"]);
    });
}

#[test]
fn an_owner_aborted_while_its_scope_waits_drops_the_children() {
    let runtime = paused();
    let drops = Rc::new(RefCell::new(Vec::new()));
    let list = drops.clone();
    runtime
        .block_on(async {
            let task = spawn(async move {
                scope::<(), Infallible, _>(async |s| {
                    let _body = Dropped(&list, "body");
                    for name in ["first", "second"] {
                        let held = Dropped(&list, name);
                        s.spawn(async move {
                            let _held = held;
                            sleep(Duration::from_secs(60)).await;
                        });
                    }
                    pending().await
                })
                .await
            });
            sleep(Duration::from_secs(1)).await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        })
        .unwrap();
    assert_eq!(*drops.borrow(), ["first", "second", "body"]);
    assert_eq!((runtime.stats().tasks, runtime.stats().timers_set), (0, 0));
}

#[test]
fn a_panic_in_a_childs_drop_is_a_failure_or_attached_to_one() {
    as_root_and_as_task(|| async {
        let error = scope::<(), Infallible, _>(async |s| {
            let held = PanicsInDrop;
            s.spawn(poll_fn(move |_| {
                let _held = &held;
                Poll::Ready(())
            }));
            pending().await
        })
        .await
        .unwrap_err();
        assert!(matches!(error.first.cause, Cause::Panicked(_)));
        let error = scope::<(), _, _>(async |s| {
            let held = PanicsInDrop;
            s.named("drops").spawn(async move {
                let _held = held;
                pending::<()>().await;
            });
            yield_now().await;
            Err("first")
        })
        .await
        .unwrap_err();
        assert_eq!(error.first.error(), Some(&"first"));
        assert_eq!(error.others.len(), 1);
        assert_eq!(error.others[0].child.as_ref().unwrap().name.as_deref(), Some("drops"));
        assert_eq!(error.to_string(), "the scope's body failed: first (and 1 more)");
    });
}

/// Fails when it is polled and panics when it is dropped.
struct FailsTwice {
    panics: bool,
    _held: PanicsInDrop,
}

impl Future for FailsTwice {
    type Output = Result<(), &'static str>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.panics, "in poll");
        Poll::Ready(Err("no"))
    }
}

#[test]
fn a_second_failure_of_the_same_child_is_attached_to_its_first() {
    let panics = Rc::new(Cell::new(0));
    let seen = Rc::clone(&panics);
    let runtime = Runtime::builder().paused_clock().on_panic(move |_| seen.set(seen.get() + 1)).build().unwrap();
    runtime
        .block_on(async {
            for panics in [false, true] {
                let error = scope::<(), _, _>(async |s| {
                    s.named("bad").try_spawn(FailsTwice { panics, _held: PanicsInDrop });
                    let held = PanicsInDrop;
                    s.named("other").spawn(async move {
                        let _held = held;
                        pending::<()>().await;
                    });
                    pending().await
                })
                .await
                .unwrap_err();
                assert_eq!(error.first.error().copied(), (!panics).then_some("no"));
                assert_eq!(error.first.child.as_ref().unwrap().name.as_deref(), Some("bad"));
                let others: Vec<_> =
                    error.others.iter().map(|other| other.child.as_ref().unwrap().name.as_deref()).collect();
                assert_eq!(others, [Some("bad"), Some("other")]);
                assert!(error.others.iter().all(|other| matches!(other.cause, Cause::Panicked(_))));
                assert!(error.to_string().ends_with(" (and 2 more)"), "{error}");
            }
        })
        .unwrap();
    assert_eq!((runtime.stats().panics, panics.get()), (0, 0), "who awaits the scope has heard of them");
}

#[test]
fn failures_of_a_scope_that_is_dropped_before_it_could_return_them_are_reported() {
    let runtime = paused();
    runtime
        .block_on(async {
            let mut fails = Box::pin(scope::<(), _, _>(async |s| {
                let mut spends = Box::pin(spend_all());
                let mut bad = FailsTwice { panics: true, _held: PanicsInDrop };
                s.try_spawn(poll_fn(move |cx| {
                    assert!(spends.as_mut().poll(cx).is_ready());
                    Pin::new(&mut bad).poll(cx)
                }));
                pending().await
            }));
            assert!(poll_fn(|cx| Poll::Ready(fails.as_mut().poll(cx).is_pending())).await);
            assert_eq!(runtime.stats().tasks, 1, "the children are gone already");
        })
        .unwrap();
    assert_eq!((runtime.stats().panics, runtime.stats().tasks), (2, 0));
}

#[test]
fn a_panic_in_a_childs_drop_is_reported_if_the_scope_is_dropped() {
    let runtime = paused();
    runtime
        .block_on(async {
            let waits = scope::<(), Infallible, _>(async |s| {
                let held = PanicsInDrop;
                s.spawn(async move {
                    let _held = held;
                    pending::<()>().await;
                });
                pending().await
            });
            timeout(Duration::from_secs(1), waits).await.unwrap_err();
        })
        .unwrap();
    assert_eq!((runtime.stats().panics, runtime.stats().tasks), (1, 0));
}

#[test]
fn a_child_spawns_others_through_a_clone_of_the_scope() {
    fn tree<'env>(s: &task::Scope<'env, Infallible>, depth: u32, leaves: &'env Cell<u32>) {
        let inner = s.clone();
        s.spawn(async move {
            if depth == 0 {
                return leaves.set(leaves.get() + 1);
            }
            yield_now().await;
            tree(&inner, depth - 1, leaves);
            tree(&inner, depth - 1, leaves);
        });
    }
    as_root_and_as_task(|| async {
        let leaves = Cell::new(0);
        scope(async |s| {
            tree(&s, 6, &leaves);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(leaves.get(), 64);
    });
}

#[test]
fn a_thousand_children_all_finish() {
    as_root_and_as_task(|| async {
        let sum = Cell::new(0);
        scope::<_, Infallible, _>(async |s| {
            for n in 0..1000 {
                let sum = &sum;
                s.spawn(async move {
                    yield_now().await;
                    sleep(Duration::from_millis(n % 7)).await;
                    sum.set(sum.get() + n);
                });
            }
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(sum.get(), 499_500);
    });
}

#[test]
fn a_child_knows_its_name_its_number_and_where_it_was_spawned() {
    as_root_and_as_task(|| async {
        let owner = task::current().unwrap().id;
        scope::<_, Infallible, _>(async |s| {
            assert_eq!(task::current().unwrap().id, owner, "the body is the owner");
            let line = line!() + 1;
            let child = s.named("mail").spawn(async { task::current().unwrap() });
            let id = child.id();
            let seen = child.await.unwrap();
            assert_eq!((seen.id, seen.name.as_deref()), (id, Some("mail")));
            assert_eq!(seen.location.unwrap().line(), line);
            assert!(id > owner);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(task::current().unwrap().id, owner);
    });
}

#[test]
fn one_wake_polls_one_child() {
    as_root_and_as_task(|| async {
        let (polls, body_polls, wakers) = (Cell::new(0), Cell::new(0), RefCell::new(Vec::new()));
        let waits = scope::<_, Infallible, _>(async |s| {
            for _ in 0..100 {
                s.spawn(woken(&polls, &wakers));
            }
            let mut rest = pin!(woken(&body_polls, &wakers));
            poll_fn(|cx| rest.as_mut().poll(cx)).await;
            Ok(())
        });
        let mut waits = pin!(waits);
        let mut rounds = 0;
        while wakers.borrow().len() < 101 {
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            rounds += 1;
        }
        assert_eq!((polls.get(), body_polls.get(), rounds), (100, 1, 2), "64 polls, then the rest");
        let waker = wakers.borrow()[51].clone();
        waker.wake_by_ref();
        waker.wake();
        for _ in 0..3 {
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!((polls.get(), body_polls.get()), (101, 1));
        let all = wakers.take();
        all.iter().for_each(Waker::wake_by_ref);
        waits.await.unwrap();
        assert_eq!((polls.get(), body_polls.get()), (200, 2));
    });
}

#[test]
fn a_child_is_woken_from_another_thread() {
    let runtime = Runtime::new().unwrap();
    for _ in 0..20 {
        runtime
            .block_on(async {
                let polls = Cell::new(0);
                scope::<_, Infallible, _>(async |s| {
                    for _ in 0..10 {
                        s.spawn(async {
                            let mut thread = None;
                            poll_fn(|cx| {
                                polls.set(polls.get() + 1);
                                if thread.is_some() {
                                    return Poll::Ready(());
                                }
                                let waker = cx.waker().clone();
                                thread = Some(thread::spawn(move || waker.wake()));
                                Poll::Pending
                            })
                            .await;
                            thread.unwrap().join().unwrap();
                        });
                    }
                    Ok(())
                })
                .await
                .unwrap();
                assert_eq!(polls.get(), 20);
            })
            .unwrap();
    }
}

#[test]
fn children_that_wake_themselves_leave_the_loop_to_others() {
    let runtime = paused();
    runtime
        .block_on(async {
            let polls = Rc::new(Cell::new(0_u32));
            let counted = polls.clone();
            let busy = spawn(async move {
                scope::<(), Infallible, _>(async |s| {
                    for _ in 0..1000 {
                        s.spawn(poll_fn(|cx| {
                            counted.set(counted.get() + 1);
                            cx.waker().wake_by_ref();
                            Poll::<()>::Pending
                        }));
                    }
                    pending().await
                })
                .await
            });
            for _ in 0..10 {
                let before = polls.get();
                yield_now().await;
                assert!(polls.get() - before <= 64, "{}", polls.get() - before);
            }
            assert!(polls.get() > 500);
            busy.abort();
        })
        .unwrap();
}

#[test]
fn children_share_the_budget_of_their_owner() {
    let runtime = paused();
    runtime
        .block_on(async {
            let spent = Rc::new(Cell::new(0_u32));
            let counted = spent.clone();
            let busy = spawn(async move {
                scope::<(), Infallible, _>(async |s| {
                    for _ in 0..10 {
                        s.spawn(async {
                            loop {
                                poll_fn(task::poll_proceed).await;
                                counted.set(counted.get() + 1);
                            }
                        });
                    }
                    pending().await
                })
                .await
            });
            for _ in 0..10 {
                let before = spent.get();
                yield_now().await;
                assert!(spent.get() - before <= 128, "{}", spent.get() - before);
            }
            assert!(spent.get() > 1000);
            busy.abort();
        })
        .unwrap();
}

/// Uses up the budget of the poll, and not more.
async fn spend_all() {
    while task::has_budget() {
        poll_fn(task::poll_proceed).await;
    }
}

/// Polls a future once, within the task's poll.
async fn polled<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[test]
fn a_scope_without_budget_says_pending_before_its_end_and_keeps_what_it_came_to() {
    type Boxed<'a> = Pin<Box<dyn Future<Output = Result<u32, task::ScopeError<&'static str>>> + 'a>>;
    as_root_and_as_task(|| async move {
        let made: [fn() -> Boxed<'static>; 5] = [
            || {
                Box::pin(scope(async |_| {
                    spend_all().await;
                    Ok(7)
                }))
            },
            || {
                Box::pin(scope(async |s| {
                    s.spawn(spend_all());
                    Ok(7)
                }))
            },
            || {
                Box::pin(scope(async |_| {
                    spend_all().await;
                    Err("no")
                }))
            },
            || {
                Box::pin(scope(async |s| {
                    s.try_spawn(async {
                        spend_all().await;
                        Err::<(), _>("no")
                    });
                    pending().await
                }))
            },
            || {
                Box::pin(scope(async |s| {
                    let inner = s.clone();
                    s.spawn(async move {
                        spend_all().await;
                        inner.cancel();
                    });
                    pending().await
                }))
            },
        ];
        for (number, make) in made.iter().enumerate() {
            yield_now().await;
            let mut ends = make();
            assert!(polled(ends.as_mut()).await.is_pending(), "scope {number}");
            // Nobody but the scope itself wakes this task.
            match ends.as_mut().await {
                Ok(value) => assert!(number < 2 && value == 7, "scope {number}"),
                Err(error) if number < 4 => assert_eq!(error.first.error(), Some(&"no"), "scope {number}"),
                Err(error) => assert!(error.first.is_cancelled(), "scope {number}"),
            }
        }
    });
}

#[test]
fn a_scope_that_keeps_its_failure_leaves_the_group_it_gave_back_alone() {
    as_root_and_as_task(|| async {
        let mut failed = Box::pin(scope::<(), _, _>(async |_| {
            spend_all().await;
            Err("no")
        }));
        assert!(polled(failed.as_mut()).await.is_pending());
        yield_now().await;
        // It takes the group that has become free.
        let mut other =
            Box::pin(scope::<_, Infallible, _>(async |s| Ok(s.spawn(sleep(Duration::from_secs(1))).await.is_ok())));
        let told = Arc::new(Told::default());
        let waker = Waker::from(Arc::clone(&told));
        assert!(other.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(failed.await.unwrap_err().first.into_error(), Some("no"));
        sleep(Duration::from_secs(2)).await;
        assert!(told.0.load(Ordering::SeqCst), "its owner waits on");
        assert!(other.await.unwrap());
    });
}

/// A waker that says whether it was called.
#[derive(Default)]
struct Told(AtomicBool);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_scope_inside_a_select_progresses_while_it_is_polled_and_no_longer() {
    as_root_and_as_task(|| async {
        let ticks = Cell::new(0);
        let mut waits = Box::pin(scope::<(), Infallible, _>(async |s| {
            s.spawn(async {
                loop {
                    sleep(Duration::from_secs(1)).await;
                    ticks.set(ticks.get() + 1);
                }
            });
            pending().await
        }));
        timeout(Duration::from_millis(3500), waits.as_mut()).await.unwrap_err();
        assert_eq!(ticks.get(), 3);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(ticks.get(), 3, "nobody polled it");
        timeout(Duration::from_millis(10), waits.as_mut()).await.unwrap_err();
        assert_eq!(ticks.get(), 4);
    });
}

#[test]
fn a_scope_dropped_between_turns_gives_its_slots_back() {
    let runtime = paused();
    let drops = RefCell::new(Vec::new());
    let mut waits = Box::pin(scope::<(), Infallible, _>(async |s| {
        let held = Dropped(&drops, "child");
        s.spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        pending().await
    }));
    runtime.block_on(timeout(Duration::from_secs(1), waits.as_mut())).unwrap().unwrap_err();
    assert_eq!(runtime.stats().tasks, 2);
    drop(waits);
    assert_eq!(*drops.borrow(), ["child"]);
    runtime.block_on(sleep(Duration::from_secs(1))).unwrap();
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn a_panic_of_a_child_that_is_dropped_between_turns_is_reported() {
    let runtime = paused();
    let mut waits = Box::pin(scope::<(), Infallible, _>(async |s| {
        s.spawn(async {
            let _held = PanicsInDrop;
            pending::<()>().await;
        });
        pending().await
    }));
    runtime.block_on(timeout(Duration::from_secs(1), waits.as_mut())).unwrap().unwrap_err();
    drop(waits);
    assert_eq!(runtime.stats().panics, 0, "it waits in the inbox");
    runtime.block_on(sleep(Duration::from_secs(1))).unwrap();
    assert_eq!(runtime.stats().panics, 1);
}

#[test]
fn a_scope_may_outlive_its_runtime_and_a_runtime_that_ends_drops_its_scopes() {
    let drops = RefCell::new(Vec::new());
    let runtime = paused();
    let mut waits = Box::pin(scope::<(), Infallible, _>(async |s| {
        let held = Dropped(&drops, "child");
        s.spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        pending().await
    }));
    runtime.block_on(timeout(Duration::from_secs(1), waits.as_mut())).unwrap().unwrap_err();
    drop(runtime);
    drop(waits);
    assert_eq!(*drops.borrow(), ["child"]);

    let drops = Rc::new(RefCell::new(Vec::new()));
    let list = drops.clone();
    let runtime = paused();
    drop(runtime.spawn(async move {
        scope::<(), Infallible, _>(async |s| {
            let inner = s.clone();
            let held = Dropped(&list, "child");
            s.spawn(async move {
                let _inner = inner;
                let _held = held;
                pending::<()>().await;
            });
            pending().await
        })
        .await
    }));
    runtime.block_on(sleep(Duration::from_secs(1))).unwrap();
    drop(runtime);
    assert_eq!(*drops.borrow(), ["child"]);
}

#[test]
#[should_panic(expected = "`task::scope` was called on thread")]
fn a_scope_outside_a_runtime_panics() {
    let mut waits = pin!(scope::<(), Infallible, _>(async |_| Ok(())));
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn a_child_that_wakes_itself_is_polled_once_and_one_woken_by_another_follows_in_the_same_poll() {
    as_root_and_as_task(|| async {
        let (busy, woken_polls, wakers) = (Cell::new(0), Cell::new(0), RefCell::new(Vec::<Waker>::new()));
        let mut waits = pin!(scope::<(), Infallible, _>(async |s| {
            s.spawn(woken(&woken_polls, &wakers));
            s.spawn(poll_fn(|cx| {
                busy.set(busy.get() + 1);
                wakers.borrow().iter().for_each(Waker::wake_by_ref);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }));
            pending().await
        }));
        for round in 1..=5 {
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!((busy.get(), woken_polls.get()), (round, 2));
        }
    });
}

/// The polls of a scope's body and of eight children, in their order.
fn order_of_polls(seed: Option<u64>) -> String {
    let builder = Runtime::builder().paused_clock();
    let runtime = match seed {
        Some(seed) => builder.seed(seed).build(),
        None => builder.build(),
    };
    let trace = RefCell::new(String::new());
    let ended = runtime.unwrap().block_on(async {
        scope::<_, (), _>(async |s| {
            for name in "abcdefgh".chars() {
                let trace = &trace;
                s.spawn(async move {
                    for _ in 0..3 {
                        trace.borrow_mut().push(name);
                        yield_now().await;
                    }
                });
            }
            for _ in 0..3 {
                trace.borrow_mut().push('-');
                yield_now().await;
            }
            Ok(())
        })
        .await
    });
    ended.unwrap().unwrap();
    trace.into_inner()
}

#[test]
fn children_run_in_the_order_they_were_spawned_unless_a_seed_says_otherwise() {
    assert_eq!(order_of_polls(None), "-abcdefgh-abcdefgh-abcdefgh");
    let traces: Vec<_> = (0..50).map(|seed| order_of_polls(Some(seed))).collect();
    for (seed, trace) in traces.iter().enumerate() {
        assert_eq!(*trace, order_of_polls(Some(seed as u64)), "the same seed, the same order");
        let mut polls: Vec<_> = trace.chars().collect();
        polls.sort_unstable();
        assert_eq!(polls, "---aaabbbcccdddeeefffggghhh".chars().collect::<Vec<_>>(), "the same polls");
    }
    let different: std::collections::HashSet<_> = traces.iter().collect();
    assert_eq!(different.len(), traces.len(), "of 8! ways to begin, two of fifty seeds hit upon the same twice over");
    let first: std::collections::HashSet<_> = traces.iter().filter_map(|trace| trace.chars().nth(1)).collect();
    assert_eq!(first.len(), 8, "any child may come first");
}

#[test]
fn a_seed_keeps_none_of_many_children_from_its_turn() {
    for seed in 0..20 {
        let runtime = Runtime::builder().paused_clock().seed(seed).build().unwrap();
        let ended = Cell::new(0);
        let all = runtime.block_on(async {
            scope::<_, (), _>(async |s| {
                for _ in 0..500 {
                    s.spawn(async {
                        yield_now().await;
                        ended.set(ended.get() + 1);
                    });
                }
                Ok(())
            })
            .await
        });
        all.unwrap().unwrap();
        assert_eq!(ended.get(), 500, "seed {seed}");
    }
}

#[test]
fn an_aborted_child_is_dropped_in_the_scopes_next_poll_and_the_scope_goes_on() {
    as_root_and_as_task(async || {
        let dropped = RefCell::new(Vec::new());
        let sum = scope::<_, (), _>(async |s| {
            let held = Dropped(&dropped, "aborted");
            let waits = s.spawn(async {
                let _held = held;
                pending::<()>().await;
            });
            let other = s.spawn(sleep(Duration::from_millis(1)));
            yield_now().await;
            waits.abort();
            waits.abort();
            assert!(!waits.is_finished() && dropped.borrow().is_empty(), "nothing is dropped inside the call");
            assert!(waits.await.unwrap_err().is_cancelled());
            assert_eq!(*dropped.borrow(), ["aborted"]);
            other.await.unwrap();
            Ok(5)
        });
        assert_eq!(sum.await.unwrap(), 5);
    });
}

#[test]
fn a_child_aborted_before_its_first_poll_is_never_polled() {
    paused()
        .block_on(async {
            let polled = Cell::new(false);
            let ended = scope::<_, (), _>(async |s| {
                s.spawn(async { polled.set(true) }).abort();
                Ok(())
            });
            ended.await.unwrap();
            assert!(!polled.get());
        })
        .unwrap();
}

#[test]
fn a_child_that_aborts_itself_has_finished_if_it_is_ready_in_the_same_poll() {
    paused()
        .block_on(async {
            let handles = RefCell::new(Vec::new());
            let ended = scope::<_, (), _>(async |s| {
                let abort_both = |ready: bool| {
                    let handles = &handles;
                    async move {
                        for child in &*handles.borrow() {
                            task::Child::<u32>::abort(child);
                        }
                        if !ready {
                            yield_now().await;
                        }
                        7
                    }
                };
                handles.borrow_mut().push(s.spawn(abort_both(true)));
                yield_now().await;
                let ready = handles.borrow_mut().pop().unwrap();
                handles.borrow_mut().push(s.spawn(abort_both(false)));
                yield_now().await;
                let not = handles.borrow_mut().pop().unwrap();
                assert_eq!(ready.await.unwrap(), 7);
                assert!(not.await.unwrap_err().is_cancelled());
                Ok(())
            });
            ended.await.unwrap();
        })
        .unwrap();
}

#[test]
fn aborting_a_child_that_is_finished_or_whose_scope_or_runtime_is_gone_does_nothing() {
    let runtime = paused();
    let (finished, late) = runtime
        .block_on(async {
            let both = scope::<_, (), _>(async |s| {
                let finished = s.spawn(async { 1 });
                let late = s.spawn(sleep(Duration::from_millis(1)));
                yield_now().await;
                yield_now().await;
                finished.abort();
                Ok((finished, late))
            });
            let (finished, late) = both.await.unwrap();
            late.abort();
            // Whoever has the slot now is not meant.
            let other = spawn(async { 3 });
            late.abort();
            assert_eq!(other.await.unwrap(), 3);
            (finished, late)
        })
        .unwrap();
    late.abort();
    drop(runtime);
    late.abort();
    assert!(finished.is_finished());
    let output = futures_lite::future::block_on(finished);
    assert_eq!(output.unwrap(), 1);
}

#[test]
fn a_child_can_be_aborted_while_its_scope_waits_and_between_turns() {
    let mut runtime = paused();
    let handle = Rc::new(RefCell::new(None));
    let stored = handle.clone();
    let task = runtime.spawn(async move {
        scope::<_, (), _>(async |s| {
            *stored.borrow_mut() = Some(s.spawn(pending::<()>()));
            s.spawn(pending::<()>()).abort();
            Ok(())
        })
        .await
    });
    for _ in 0..5 {
        runtime.turn(Some(Duration::ZERO)).unwrap();
    }
    let child = handle.take().unwrap();
    child.abort();
    assert!(!child.is_finished());
    runtime.block_on(timeout(Duration::from_secs(1), task)).unwrap().expect("nobody woke the scope").unwrap().unwrap();
    assert!(child.is_finished());
    assert_eq!(runtime.stats().tasks, 0);

    // By another task, while the scope's owner waits.
    let stored = handle.clone();
    runtime
        .block_on(async {
            let owner = spawn(async move {
                scope::<_, (), _>(async |s| {
                    *stored.borrow_mut() = Some(s.spawn(pending::<()>()));
                    Ok(())
                })
                .await
            });
            yield_now().await;
            yield_now().await;
            handle.take().unwrap().abort();
            timeout(Duration::from_secs(1), owner).await.expect("nobody woke the scope").unwrap().unwrap();
        })
        .unwrap();
}

#[test]
fn a_panic_in_the_drop_of_an_aborted_child_is_a_failure_of_the_scope() {
    paused()
        .block_on(async {
            let failed = scope::<(), (), _>(async |s| {
                let child = s.named("loud").spawn(async {
                    let _held = PanicsInDrop;
                    pending::<()>().await;
                });
                yield_now().await;
                child.abort();
                pending().await
            });
            let failed = failed.await.unwrap_err();
            assert_eq!(failed.first.child.as_ref().unwrap().name.as_deref(), Some("loud"));
            assert!(failed.first.into_panic().is_some());
        })
        .unwrap();
}

#[test]
fn a_scope_is_cancelled_from_outside_whatever_of_it_still_runs() {
    for (body_ends, child_runs) in [(true, true), (false, true), (false, false)] {
        as_root_and_as_task(move || async move {
            let handle = Rc::new(RefCell::new(None));
            let put = handle.clone();
            let owner = spawn(scope::<(), (), _>(async move |s| {
                put.replace(Some(s.clone()));
                if child_runs {
                    s.spawn(pending::<Result<(), ()>>());
                }
                if body_ends { Ok(()) } else { pending().await }
            }));
            sleep(Duration::from_secs(1)).await;
            handle.take().unwrap().cancel();
            let ended = timeout(Duration::from_secs(3600), owner).await;
            let ended = ended.unwrap_or_else(|_| panic!("body ends: {body_ends}, child runs: {child_runs}"));
            assert!(ended.unwrap().unwrap_err().first.is_cancelled());
        });
    }
}
