//! Races: branches take turns in being first, and losers are gone when the race is over.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use postlude::task::{poll_proceed, race};

type Branch = Pin<Box<dyn Future<Output = ()>>>;

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

#[test]
fn branches_that_are_ready_at_once_win_in_turn() {
    postlude::run(async {
        let mut wins = [0; 3];
        for _ in 0..30 {
            let (winner, ()) = race([std::future::ready(()), std::future::ready(()), std::future::ready(())]).await;
            wins[winner] += 1;
        }
        assert_eq!(wins, [10; 3]);
    })
    .unwrap();
}
