//! Shares of a queue: what one source of jobs may hold, and that each place comes back.

use std::time::Duration;

use postlude::deferred::{AddError, Limit, NewJob, Outcome, Queue, Retry, Running, Share};
use postlude::time;

const SECOND: Duration = Duration::from_secs(1);
const FULL: AddError = AddError::Full(Limit::Share);

fn run<T>(body: impl AsyncFnOnce() -> T) -> T {
    postlude::Runtime::builder().paused_clock().build().unwrap().block_on(body()).unwrap()
}

#[test]
fn a_share_that_is_used_up_refuses_its_own_groups_and_no_others() {
    run(async || {
        let queue = Queue::builder().pending(100).per_share(3).build();
        let (ours, theirs) = (Share::new(), Share::new());
        let groups: Vec<_> = (0..4).map(|n| queue.group_within(&ours, "ours", n)).collect();
        for group in &groups[..3] {
            group.add(async {}).unwrap();
        }
        assert_eq!(groups[3].add(async {}), Err(FULL));
        assert_eq!(groups[3].add_blocking(|| {}), Err(FULL));
        assert_eq!(groups[3].task("named").run(async || {}), Err(FULL));
        assert_eq!(groups[3].reserve(1).err(), Some(FULL));
        assert_eq!(groups[3].extend(vec![NewJob::future(async {})]), Err(FULL));
        assert!(queue.group_within(&theirs, "theirs", 9).add(async {}).is_ok());
        assert!(queue.group("nobody's", 10).add(async {}).is_ok());
        assert!(queue.add(async {}).is_ok());
        assert_eq!((ours.held(), theirs.held()), (3, 1));
        groups[0].release(Outcome::Delivered);
        time::sleep(SECOND).await;
        assert_eq!(ours.held(), 2);
        assert!(groups[3].add(async {}).is_ok(), "one is over");
    });
}

#[test]
fn places_that_are_reserved_count_until_they_are_used_or_given_back() {
    run(async || {
        let (queue, share) = (Queue::builder().per_share(3).build(), Share::new());
        let (one, other) = (queue.group_within(&share, "", 1), queue.group_within(&share, "", 2));
        assert_eq!(one.reserve(4).err(), Some(FULL));
        assert_eq!(one.reserve(usize::MAX).err(), Some(AddError::Full(Limit::Group)));
        let mut permit = one.reserve(3).unwrap();
        assert_eq!((other.add(async {}), share.held()), (Err(FULL), 3));
        permit.add(async {}).unwrap();
        assert_eq!((other.add(async {}), share.held()), (Err(FULL), 3));
        drop(permit);
        assert_eq!(share.held(), 1);
        assert!(other.add(async {}).is_ok());
    });
}

#[test]
fn unless_it_is_set_the_limit_of_a_share_is_three_quarters_of_the_queue_s() {
    let cases = [(10_000, 7_500, Limit::Share), (8, 6, Limit::Share), (1, 1, Limit::Queue), (0, 0, Limit::Queue)];
    for (pending, most, beyond) in cases {
        run(async || {
            let queue = Queue::builder().pending(pending).per_group(usize::MAX).build();
            let group = queue.group_within(&Share::new(), "", 0);
            assert!(group.reserve(most).is_ok());
            assert_eq!(group.reserve(most + 1).err(), Some(AddError::Full(beyond)));
        });
    }
}

#[test]
fn a_share_as_large_as_the_queue_is_never_the_limit_that_is_named() {
    run(async || {
        let queue = Queue::builder().pending(2).per_share(2).build();
        let group = queue.group_within(&Share::new(), "", 0);
        let _permit = group.reserve(2).unwrap();
        assert_eq!(group.add(async {}), Err(AddError::Full(Limit::Queue)));
    });
}

/// Adds a job of each end.
fn add_all(queue: &Queue, share: &Share) {
    let group = queue.group_within(share, "answered", 1);
    group.concurrent();
    group.add(async {}).unwrap();
    group.task("fails").run(async || Err::<(), _>("no")).unwrap();
    group
        .task("panics")
        .run(async || {
            if true {
                panic!("on purpose")
            }
        })
        .unwrap();
    group.task("late").timeout(SECOND).run(async || std::future::pending::<()>().await).unwrap();
    group.task("again").retry(Retry::times(2)).run(async |_: Running| Err::<(), _>("no")).unwrap();
    group.task("after").after(SECOND).run(async || ()).unwrap();
    group.task("on a thread").run_blocking(|| {}).unwrap();
    group.task("not needed").on_failure().run(async || ()).unwrap();
    let fresh = group.add(async {}).unwrap();
    assert!(queue.cancel(fresh));
    let running = group.add(std::future::pending::<()>()).unwrap();
    let never = queue.clone();
    group
        .add(async move {
            time::sleep(SECOND).await;
            assert!(never.cancel(running));
        })
        .unwrap();
    group.release(Outcome::Delivered);
    let failed = queue.group_within(share, "failed", 2);
    failed.add(async {}).unwrap();
    failed.task("needed").on_failure().run(async || ()).unwrap();
    failed.release(Outcome::Failed(500));
    failed.add(async {}).unwrap();
    let stops = queue.group_within(share, "stops", 3);
    stops.stop_on_error();
    stops.add(async { Err::<(), _>("no") }).unwrap();
    stops.add(async {}).unwrap();
    stops.release(Outcome::Delivered);
    queue.group_within(share, "dropped", 4).add(async {}).unwrap();
}

#[test]
fn each_place_comes_back_however_its_job_ends() {
    let share = Share::new();
    let quiet = || Queue::builder().on_fault(|_, _| {}).build();
    run(async || {
        let queue = quiet();
        add_all(&queue, &share);
        assert_eq!(share.held() as u64, queue.pending() as u64);
        time::timeout(100 * SECOND, queue.idle()).await.expect("each ends");
        assert_eq!(share.held(), 0);
        let total = queue.stats().total();
        assert!(total.done > 0 && total.failed > 0 && total.skipped > 0 && total.cancelled > 0, "{total:?}");
    });
    // Cut off by a drain, then by the end of the runtime.
    run(async || {
        let queue = quiet();
        add_all(&queue, &share);
        assert!(!queue.drain(Duration::ZERO).await.unfinished.is_empty());
        assert_eq!(share.held(), 0);
    });
    run(async || add_all(&quiet(), &share));
    assert_eq!(share.held(), 0);
    assert!(!share.is_shared(), "neither a group nor a job has it any more");
}

#[test]
fn a_kept_value_that_panics_in_its_drop_harms_no_job_and_no_books() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let runtime = postlude::Runtime::new().unwrap();
    let test = async {
        let queue = Queue::new();
        let group = queue.group_within(&Share::keeping(None, PanicsInDrop), "kept", 1);
        group.add(async {}).unwrap();
        group.add(async {}).unwrap();
        group.release(Outcome::Delivered);
        drop(group);
        queue.idle().await;
        assert_eq!(queue.stats().total().done, 2);
    };
    runtime.block_on(test).unwrap();
    assert_eq!(runtime.stats().panics, 0, "the task that ran the group has not panicked");
}
