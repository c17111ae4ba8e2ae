//! Adapters of streams, on a paused clock.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use futures::stream::FusedStream;
use futures::{Stream, StreamExt, stream};
use postlude::iter::Boxed;
use postlude::task::yield_now;
use postlude::{Runtime, iter, spawn, time};

fn paused(test: impl AsyncFnOnce()) {
    Runtime::builder().paused_clock().build().unwrap().block_on(test()).unwrap();
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn throttle_spaces_items_and_loses_none() {
    paused(async || {
        let start = time::now();
        let times = iter::throttle(stream::iter(0..3), 10 * MS).map(|i| (i, time::now() - start));
        assert_eq!(times.collect::<Vec<_>>().await, [(0, Duration::ZERO), (1, 10 * MS), (2, 20 * MS)]);
    });
}

#[test]
fn throttle_by_zero_waits_for_nothing_and_by_max_for_ever() {
    paused(async || {
        let start = time::now();
        assert_eq!(iter::throttle(stream::iter(0..1000), Duration::ZERO).count().await, 1000);
        assert_eq!(time::now(), start);
        let mut never = iter::throttle(stream::iter(0..2), Duration::MAX);
        assert_eq!(never.next().await, Some(0));
        assert!(time::timeout(1000 * MS, never.next()).await.is_err());
    });
}

#[test]
fn timeout_reports_each_limit_that_passes_and_then_the_item() {
    paused(async || {
        let late = stream::once(async { time::sleep(25 * MS).await });
        let items: Vec<_> = iter::timeout(Box::pin(late), 10 * MS).map(|item| item.is_ok()).collect().await;
        assert_eq!(items, [false, false, true]);
    });
}

#[test]
fn timeout_by_zero_still_yields_what_is_there() {
    paused(async || {
        let items: Vec<_> = iter::timeout(stream::iter(0..3), Duration::ZERO).map(Result::unwrap).collect().await;
        assert_eq!(items, [0, 1, 2]);
        let mut silent = iter::timeout(stream::pending::<()>(), Duration::MAX);
        assert!(time::timeout(1000 * MS, silent.next()).await.is_err());
    });
}

/// Numbers from 0, each so many milliseconds after the one before.
fn numbers_after<'a>(pauses: &'a [u32]) -> Boxed<'a, usize> {
    iter::generate(async move |out| {
        for (number, &pause) in pauses.iter().enumerate() {
            time::sleep(pause * MS).await;
            out.emit(number).await;
        }
    })
    .boxed()
}

/// What a stream yields, and when, in milliseconds.
async fn with_times<S: Stream>(stream: S) -> Vec<(S::Item, u128)> {
    let start = time::now();
    stream.map(|item| (item, (time::now() - start).as_millis())).collect().await
}

fn panic_text(code: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(code)).unwrap_err();
    panic.downcast_ref::<&str>().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn debounce_gives_the_last_of_each_burst_when_it_has_been_quiet() {
    paused(async || {
        let items = with_times(iter::debounce(numbers_after(&[5, 9, 9, 30, 2]), 10 * MS)).await;
        assert_eq!(items, [(2, 33), (4, 55)], "the last at the end of the source");
    });
}

#[test]
fn debounce_takes_an_item_that_comes_in_the_very_moment_for_a_later_one() {
    paused(async || {
        let items = with_times(iter::debounce(numbers_after(&[0, 10, 20]), 10 * MS)).await;
        assert_eq!(items, [(1, 20), (2, 30)]);
    });
}

#[test]
fn debounce_by_zero_gives_the_last_of_what_is_there_and_by_max_the_last_of_all() {
    paused(async || {
        let burst = stream::iter([1, 2, 3]).chain(stream::pending());
        let mut burst = iter::debounce(burst, Duration::ZERO);
        assert_eq!(burst.next().await, Some(3));
        let items = with_times(iter::debounce(numbers_after(&[1, 100, 10_000]), Duration::MAX)).await;
        assert_eq!(items, [(2, 10_101)]);
        assert_eq!(iter::debounce(stream::empty::<()>(), MS).next().await, None);
    });
}

#[test]
fn debounce_keeps_its_item_and_its_time_when_a_wait_is_dropped() {
    paused(async || {
        let start = time::now();
        let mut items = iter::debounce(numbers_after(&[1, 1, 100]), 10 * MS);
        for _ in 0..5 {
            assert!(time::timeout(2 * MS, items.next()).await.is_err());
        }
        assert_eq!(items.next().await, Some(1));
        assert_eq!(time::now() - start, 12 * MS);
    });
}

#[test]
fn debounce_gives_an_item_that_is_due_to_a_task_without_budget() {
    paused(async || {
        let source = stream::iter([7]).chain(stream::pending());
        let mut items = iter::debounce(source, 10 * MS);
        assert!(time::timeout(MS, items.next()).await.is_err());
        time::advance(20 * MS).await;
        // Each poll of the item comes after operations that leave nothing of the budget.
        let greedy = futures::future::poll_fn(|cx| {
            while postlude::task::poll_proceed(cx).is_ready() {}
            items.poll_next_unpin(cx)
        });
        assert_eq!(time::timeout(100 * MS, greedy).await, Ok(Some(7)));
    });
}

#[test]
fn a_chunk_is_given_when_it_is_full_or_its_first_item_has_waited_long_enough() {
    paused(async || {
        let chunks = iter::chunks_timeout(numbers_after(&[0, 1, 1, 6, 4, 4, 50, 1]), 3, 10 * MS);
        let items = with_times(chunks).await;
        assert_eq!(items, [(vec![0, 1, 2], 2), (vec![3, 4, 5], 16), (vec![6, 7], 67)]);
        let late = with_times(iter::chunks_timeout(numbers_after(&[5, 9, 9]), 9, 10 * MS)).await;
        assert_eq!(late, [(vec![0, 1], 15), (vec![2], 23)], "the limit begins with the first item, not with the wait");
    });
}

#[test]
fn chunks_of_one_wait_for_nothing_and_none_is_empty() {
    paused(async || {
        let start = time::now();
        let chunks: Vec<_> = iter::chunks_timeout(stream::iter(0..3), 1, Duration::MAX).collect().await;
        assert_eq!(chunks, [[0], [1], [2]]);
        assert_eq!(iter::chunks_timeout(stream::empty::<()>(), 3, MS).next().await, None);
        let exact: Vec<_> = iter::chunks_timeout(stream::iter(0..4), 2, MS).collect().await;
        assert_eq!(exact, [[0, 1], [2, 3]], "no empty chunk after a full one");
        assert_eq!(time::now(), start);
    });
}

#[test]
fn chunks_without_time_are_what_is_there_and_without_limit_as_full_as_can_be() {
    paused(async || {
        let burst = stream::iter([1, 2, 3]).chain(stream::pending());
        assert_eq!(iter::chunks_timeout(burst, 100, Duration::ZERO).next().await, Some(vec![1, 2, 3]));
        let items = with_times(iter::chunks_timeout(numbers_after(&[1, 100, 10_000]), 100, Duration::MAX)).await;
        assert_eq!(items, [(vec![0, 1, 2], 10_101)]);
    });
}

#[test]
fn a_chunk_loses_neither_items_nor_time_when_a_wait_is_dropped() {
    paused(async || {
        let start = time::now();
        let mut chunks = iter::chunks_timeout(numbers_after(&[1, 1, 1, 1, 100]), 100, 10 * MS);
        for _ in 0..5 {
            assert!(time::timeout(2 * MS, chunks.next()).await.is_err());
        }
        assert_eq!(chunks.next().await, Some(vec![0, 1, 2, 3]));
        assert_eq!(time::now() - start, 11 * MS);
    });
}

#[test]
fn a_chunk_is_given_in_time_though_its_source_never_pauses() {
    paused(async || {
        let chunks = spawn(async {
            let mut chunks = iter::chunks_timeout(stream::repeat(()), usize::MAX, 10 * MS);
            chunks.next().await.unwrap().len()
        });
        yield_now().await;
        // The clock stands while anything runs.
        time::advance(9 * MS).await;
        assert!(!chunks.is_finished());
        time::advance(MS).await;
        yield_now().await;
        assert!(chunks.is_finished());
        assert!(chunks.await.unwrap() > 128);
    });
}

#[test]
fn a_chunk_of_no_items_is_refused() {
    let text = panic_text(|| drop(iter::chunks_timeout(stream::empty::<()>(), 0, MS)));
    assert_eq!(text, "a chunk needs room for at least one item");
}

// An adapter goes where its source may go; futures that run as tasks have handles that are plain
// data.
const _: () = {
    const fn send<T: Send>() {}
    send::<iter::Debounce<stream::Empty<i32>>>();
    send::<iter::ChunksTimeout<stream::Empty<i32>>>();
    send::<iter::Merge<stream::Empty<i32>>>();
    send::<iter::Buffered<stream::Empty<std::future::Ready<i32>>>>();
};

/// Consumes a stream in a task, and finds that this task still runs.
async fn leaves_others_running<S: Stream + 'static>(stream: S) {
    let task = spawn(stream.for_each(async |_| {})).abort_on_drop();
    for _ in 0..10 {
        yield_now().await;
    }
    assert!(!task.is_finished());
}

#[test]
fn adapters_of_endless_sources_let_other_tasks_run() {
    paused(async || {
        leaves_others_running(iter::throttle(stream::repeat(()), Duration::ZERO)).await;
        leaves_others_running(iter::timeout(stream::repeat(()), MS)).await;
        leaves_others_running(iter::debounce(stream::repeat(()), MS)).await;
        leaves_others_running(iter::chunks_timeout(stream::repeat(()), 2, MS)).await;
        leaves_others_running(iter::chunks_timeout(stream::repeat(()), usize::MAX, MS)).await;
        leaves_others_running(iter::merge([stream::repeat(()), stream::repeat(())])).await;
        leaves_others_running(iter::buffered(stream::repeat(()).map(async |()| {}), 2)).await;
        leaves_others_running(iter::buffered(stream::repeat(()).map(async |()| {}), usize::MAX)).await;
        leaves_others_running(iter::buffer_unordered(stream::repeat(()).map(async |()| {}), 2)).await;
        leaves_others_running(iter::buffer_unordered(stream::repeat(()).map(async |()| {}), usize::MAX)).await;
        leaves_others_running(iter::broadcast(stream::repeat(()), 1)).await;
        let (first, second) = iter::tee(stream::repeat(()));
        leaves_others_running(first.zip(second)).await;
    });
}

/// Ends once, and says what happened if it is polled again.
fn ends_once(polled_after: &Rc<Cell<bool>>) -> impl Stream<Item = usize> + use<> {
    let polled_after = Rc::clone(polled_after);
    let mut left = 3;
    stream::poll_fn(move |_| {
        if left == 0 {
            polled_after.set(true);
        }
        left -= 1;
        std::task::Poll::Ready((left > 0).then_some(left))
    })
}

/// Takes a stream to its end, and asks it again.
async fn stays_ended(stream: impl FusedStream) {
    let mut stream = std::pin::pin!(stream);
    assert!(!stream.is_terminated());
    while stream.next().await.is_some() {}
    assert!(stream.is_terminated());
    assert_eq!(stream.size_hint(), (0, Some(0)));
    assert!(stream.next().await.is_none());
}

#[test]
fn adapters_stay_ended_and_leave_an_ended_source_alone() {
    paused(async || {
        let again = Rc::new(Cell::new(false));
        stays_ended(iter::throttle(ends_once(&again), MS)).await;
        stays_ended(iter::timeout(ends_once(&again), MS)).await;
        stays_ended(iter::debounce(ends_once(&again), MS)).await;
        stays_ended(iter::chunks_timeout(ends_once(&again), 3, MS)).await;
        stays_ended(iter::merge([ends_once(&again), ends_once(&again)])).await;
        stays_ended(iter::buffered(ends_once(&again).map(async |n| n), 2)).await;
        stays_ended(iter::buffer_unordered(ends_once(&again).map(async |n| n), 2)).await;
        let (first, second) = iter::tee(ends_once(&again));
        stays_ended(first).await;
        stays_ended(second).await;
        assert!(!again.get());
    });
}

#[test]
fn size_hints_hold() {
    paused(async || {
        let five = || stream::iter(0..5);
        assert_eq!(iter::debounce(five(), MS).size_hint(), (1, Some(5)));
        assert_eq!(iter::debounce(stream::empty::<()>(), MS).size_hint(), (0, Some(0)));
        assert_eq!(iter::chunks_timeout(five(), 2, MS).size_hint(), (3, Some(5)));
        assert_eq!(iter::merge([five(), five()]).size_hint(), (10, Some(10)));
        assert_eq!(iter::merge([stream::repeat(()), stream::repeat(())]).size_hint(), (usize::MAX, None));
        let mut buffered = iter::buffered(five().map(async |n| n), 2);
        assert_eq!(buffered.size_hint(), (5, Some(5)));
        buffered.next().await;
        assert_eq!(buffered.size_hint(), (4, Some(4)));
        let mut unordered = iter::buffer_unordered(five().map(async |n| n), 2);
        unordered.next().await;
        assert_eq!(unordered.size_hint(), (4, Some(4)));
        let (mut first, second) = iter::tee(five());
        first.next().await;
        assert_eq!((first.size_hint(), second.size_hint()), ((4, Some(4)), (5, Some(5))));
        let held = iter::chunks_timeout(five().chain(stream::pending()), 10, MS);
        futures::pin_mut!(held);
        assert!(futures::poll!(held.next()).is_pending());
        assert_eq!(held.size_hint(), (1, Some(1)));
    });
}

#[test]
fn an_interval_is_an_async_iterator() {
    paused(async || {
        let start = time::now();
        let ticks: Vec<_> = iter::interval(10 * MS).map(|due| due - start).take(3).collect().await;
        assert_eq!(ticks, [Duration::ZERO, 10 * MS, 20 * MS]);
        assert_eq!(iter::interval(MS).size_hint(), (usize::MAX, None));
    });
}
