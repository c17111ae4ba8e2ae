//! Cancel tokens: who is told, in what order, and that nothing is left behind.

use std::cell::RefCell;
use std::future::{pending, ready};
use std::rc::Rc;

use postlude::task::{CancelToken, yield_now};
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
