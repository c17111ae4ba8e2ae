//! Cancel tokens: who is told, in what order, and that nothing is left behind.

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::rc::Rc;

use futures::future;
use postlude::task::{CancelToken, scope, yield_now};
use postlude::{Runtime, spawn};

fn run(future: impl Future<Output = ()>) {
    Runtime::builder().paused_clock().build().unwrap().block_on(future).unwrap();
}

#[test]
fn cancelling_goes_down_and_not_up() {
    let root = CancelToken::new();
    let (left, right) = (root.child(), root.child());
    let leaf = left.child();
    left.cancel();
    assert!(left.is_cancelled() && leaf.is_cancelled());
    assert!(!root.is_cancelled() && !right.is_cancelled());
    root.cancel();
    assert!(right.is_cancelled() && root.child().is_cancelled());
}

#[test]
fn a_grandchild_is_reached_though_the_child_between_was_dropped() {
    let root = CancelToken::new();
    let leaf = root.child().child();
    root.cancel();
    assert!(leaf.is_cancelled());
}

#[test]
fn those_who_wait_are_woken_in_the_order_they_came_and_a_dropped_one_is_forgotten() {
    run(async {
        let (token, order) = (CancelToken::new(), Rc::new(RefCell::new(Vec::new())));
        let tasks: Vec<_> = (0..5)
            .map(|n| {
                let (token, order) = (token.clone(), order.clone());
                spawn(async move {
                    token.cancelled().await;
                    order.borrow_mut().push(n);
                })
            })
            .collect();
        yield_now().await;
        tasks[1].abort();
        yield_now().await;
        token.cancel();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.is_ok(), n != 1);
        }
        assert_eq!(*order.borrow(), [0, 2, 3, 4]);
    });
}

#[test]
fn a_future_runs_until_the_token_is_cancelled_and_is_dropped_then() {
    run(async {
        let (token, held) = (CancelToken::new(), Rc::new(()));
        let (other, inside) = (token.clone(), held.clone());
        let task = spawn(async move {
            let future = async move {
                let _held = inside;
                pending::<()>().await;
            };
            other.run_until_cancelled(future).await
        });
        yield_now().await;
        assert_eq!(Rc::strong_count(&held), 2);
        token.cancel();
        assert_eq!(task.await.unwrap(), None);
        assert_eq!(Rc::strong_count(&held), 1);
        assert_eq!(CancelToken::new().run_until_cancelled(ready(7)).await, Some(7));
    });
}

#[test]
fn a_guard_cancels_unless_disarmed() {
    let token = CancelToken::new();
    token.drop_guard().disarm();
    assert!(!token.is_cancelled());
    drop(token.drop_guard());
    assert!(token.is_cancelled());
}

#[test]
fn a_deep_chain_is_cancelled_and_dropped_without_recursion() {
    for cancel in [false, true] {
        let root = CancelToken::new();
        let mut leaf = root.child();
        for _ in 0..100_000 {
            leaf = leaf.child();
        }
        if cancel {
            root.cancel();
            assert!(leaf.is_cancelled());
        }
        drop(root);
        drop(leaf);
    }
}

/// Cancels a token when it is dropped, and remembers how often that was.
struct CancelsInDrop(CancelToken, Rc<Cell<u32>>);

impl Drop for CancelsInDrop {
    fn drop(&mut self) {
        self.0.cancel();
        self.1.set(self.1.get() + 1);
    }
}

#[test]
fn a_destructor_may_cancel_the_token_by_which_it_was_reached() {
    run(async {
        let (token, drops) = (CancelToken::new(), Rc::new(Cell::new(0)));
        let cancels = |token: &CancelToken| CancelsInDrop(token.clone(), Rc::clone(&drops));
        let waits = |held: CancelsInDrop| async move {
            let _held = held;
            pending::<()>().await;
        };
        // An aborted task's destructor cancels the token for which another one waits.
        let (waiting, told) = (token.clone(), token.child());
        let waiter = spawn(async move { waiting.run_until_cancelled(told.cancelled()).await });
        let aborted = spawn(waits(cancels(&token)));
        yield_now().await;
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!((waiter.await.unwrap(), drops.get()), (None, 1));

        // A future that a token ends cancels it once more, and others of its family.
        let token = CancelToken::new();
        let (child, other) = (token.child(), CancelToken::new());
        let (ending, held, further) = (child.clone(), cancels(&token), cancels(&other));
        let ended = spawn(async move { ending.run_until_cancelled(future::join(waits(held), waits(further))).await });
        let heard = [token.clone(), other.clone()].map(|token| spawn(async move { token.cancelled().await }));
        yield_now().await;
        child.cancel();
        assert!(ended.await.unwrap().is_none());
        for heard in heard {
            heard.await.unwrap();
        }
        assert_eq!(drops.get(), 3);

        // A child of a scope that is dropped cancels the token of those dropped after it, which do
        // not run again.
        let token = CancelToken::new();
        let failed = scope::<(), _, _>(async |s| {
            s.spawn(waits(cancels(&token)));
            s.spawn(async {
                token.cancelled().await;
                panic!("it is dropped, not polled");
            });
            yield_now().await;
            Err("over")
        });
        assert!(failed.await.unwrap_err().others.is_empty());
        assert!(token.is_cancelled());
    });
}

#[test]
fn a_destructor_that_cancels_as_the_runtime_ends_wakes_nobody_and_harms_nobody() {
    let (token, drops) = (CancelToken::new(), Rc::new(Cell::new(0)));
    let runtime = Runtime::builder().paused_clock().build().unwrap();
    for _ in 0..3 {
        let (token, held) = (token.clone(), CancelsInDrop(token.clone(), Rc::clone(&drops)));
        drop(runtime.spawn(async move {
            let _held = held;
            token.cancelled().await;
            panic!("the runtime has ended");
        }));
    }
    runtime.block_on(yield_now()).unwrap();
    drop(runtime);
    assert_eq!((token.is_cancelled(), drops.get()), (true, 3));
}
