//! Futures of a stream as tasks: they go on by themselves, so many at a time, and none outlives the
//! adapter.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, stream};
use postlude::sync::mpsc;
use postlude::task::yield_now;
use postlude::{Runtime, iter, time};

fn paused(test: impl AsyncFnOnce()) {
    Runtime::builder().paused_clock().build().unwrap().block_on(test()).unwrap();
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What happened to which item, and when, in seconds from the start.
type Entry = (&'static str, u64, u64);

#[derive(Clone)]
struct Log {
    start: std::time::Instant,
    entries: Rc<RefCell<Vec<Entry>>>,
}

impl Log {
    fn new() -> Self {
        Self { start: time::now(), entries: Rc::default() }
    }

    fn add(&self, what: &'static str, item: u64) {
        self.entries.borrow_mut().push((what, item, (time::now() - self.start).as_secs()));
    }

    fn of(&self, what: &str) -> Vec<(u64, u64)> {
        self.entries.borrow().iter().filter(|entry| entry.0 == what).map(|entry| (entry.1, entry.2)).collect()
    }

    /// Items that take so many seconds.
    fn items(&self, durations: &'static [u64]) -> impl Stream<Item: Future<Output = u64> + 'static> + 'static {
        let log = self.clone();
        stream::iter(durations).map(move |&duration| {
            let log = log.clone();
            async move {
                log.add("begin", duration);
                time::sleep(seconds(duration)).await;
                log.add("end", duration);
                duration
            }
        })
    }
}

async fn consume_slowly(log: &Log, outputs: impl Stream<Item = u64>) {
    let mut outputs = std::pin::pin!(outputs);
    while let Some(item) = outputs.next().await {
        log.add("taken", item);
        time::sleep(seconds(10)).await;
    }
}

#[test]
fn items_go_on_while_the_consumer_is_busy() {
    paused(async || {
        let log = Log::new();
        consume_slowly(&log, iter::buffered(log.items(&[1, 4, 3, 2]), 3)).await;
        // The fourth has the place of the first when that is taken, at 1 s.
        assert_eq!(log.of("begin"), [(1, 0), (4, 0), (3, 0), (2, 1)]);
        assert_eq!(log.of("end"), [(1, 1), (3, 3), (2, 3), (4, 4)]);
        assert_eq!(log.of("taken"), [(1, 1), (4, 11), (3, 21), (2, 31)]);
    });
}

#[test]
fn unordered_items_go_on_while_the_consumer_is_busy() {
    paused(async || {
        let log = Log::new();
        consume_slowly(&log, iter::buffer_unordered(log.items(&[4, 2, 3, 1]), 3)).await;
        assert_eq!(log.of("begin"), [(4, 0), (2, 0), (3, 0), (1, 2)]);
        assert_eq!(log.of("end"), [(2, 2), (3, 3), (1, 3), (4, 4)]);
        assert_eq!(log.of("taken"), [(2, 2), (3, 12), (1, 22), (4, 32)]);
    });
}

#[test]
fn what_has_finished_counts_until_it_is_taken() {
    paused(async || {
        let log = Log::new();
        let outputs = iter::buffered(log.items(&[5, 1, 1, 1]), 2);
        assert_eq!(outputs.collect::<Vec<_>>().await, [5, 1, 1, 1]);
        assert_eq!(log.of("begin"), [(5, 0), (1, 0), (1, 5), (1, 5)], "the place of the second is free only at 5 s");
    });
}

/// Counts how many of its kind there are.
struct Running(Rc<Cell<usize>>);

impl Running {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Futures that take a while, each longer or shorter than its neighbours; the most that there were
/// at a time.
fn counted(most: &Rc<Cell<usize>>) -> impl Stream<Item: Future<Output = u64> + 'static> + use<> {
    let (most, count) = (Rc::clone(most), Rc::default());
    stream::iter(0..100).map(move |n| {
        let (most, count) = (Rc::clone(&most), Rc::clone(&count));
        async move {
            let running = Running::new(&count);
            most.set(most.get().max(count.get()));
            time::sleep(seconds(1 + n * 37 % 11)).await;
            drop(running);
            n
        }
    })
}

#[test]
fn no_more_than_n_run_and_every_output_arrives() {
    paused(async || {
        for n in [1, 2, 7, 100, usize::MAX] {
            let most = Rc::default();
            let outputs: Vec<_> = iter::buffered(counted(&most), n).collect().await;
            assert_eq!(outputs, (0..100).collect::<Vec<_>>());
            assert_eq!(most.get(), n.min(100));
            let most = Rc::default();
            let mut outputs: Vec<_> = iter::buffer_unordered(counted(&most), n).collect().await;
            outputs.sort_unstable();
            assert_eq!(outputs, (0..100).collect::<Vec<_>>());
            assert_eq!(most.get(), n.min(100));
        }
    });
}

#[test]
fn dropping_the_adapter_aborts_what_runs() {
    paused(async || {
        let count = Rc::default();
        let forever = || {
            let count = Rc::clone(&count);
            stream::repeat(()).map(move |()| {
                let running = Running::new(&count);
                async move {
                    let _running = running;
                    pending::<()>().await;
                }
            })
        };
        let mut ordered = iter::buffered(forever(), 3);
        let mut unordered = iter::buffer_unordered(forever(), 4);
        assert!(ordered.next().now_or_never().is_none());
        assert!(unordered.next().now_or_never().is_none());
        yield_now().await;
        assert_eq!(count.get(), 7);
        drop(ordered);
        yield_now().await;
        assert_eq!(count.get(), 4);
        drop(unordered);
        yield_now().await;
        assert_eq!(count.get(), 0);
    });
}

/// Three futures, the second of which panics.
fn one_panics() -> impl Stream<Item: Future<Output = u32> + 'static> {
    stream::iter(1..=3).map(async |n| if n == 2 { panic!("the second") } else { n })
}

/// The outputs of a stream, or the texts of panics in their places.
async fn with_panics(stream: impl Stream<Item = u32>) -> Vec<Result<u32, &'static str>> {
    let mut stream = std::pin::pin!(stream);
    let mut outputs = Vec::new();
    loop {
        match AssertUnwindSafe(stream.next()).catch_unwind().await {
            Ok(None) => return outputs,
            Ok(Some(item)) => outputs.push(Ok(item)),
            Err(panic) => outputs.push(Err(panic.downcast_ref::<&str>().copied().unwrap_or("?"))),
        }
    }
}

#[test]
fn a_panic_of_a_future_goes_to_the_consumer_and_the_others_go_on() {
    paused(async || {
        let expected = [Ok(1), Err("the second"), Ok(3)];
        assert_eq!(with_panics(iter::buffered(one_panics(), 2)).await, expected);
        assert_eq!(with_panics(iter::buffer_unordered(one_panics(), 1)).await, expected);
    });
}

#[test]
fn a_panic_of_the_source_loses_no_output() {
    fn source() -> impl Stream<Item: Future<Output = u32> + 'static> {
        stream::iter(1..=4).map(|n| {
            assert!(n != 3, "the third is not to be had");
            async move { n }
        })
    }
    paused(async || {
        let outputs = with_panics(iter::buffered(source(), 2)).await;
        assert_eq!(outputs, [Err("the third is not to be had"), Ok(1), Ok(2), Ok(4)]);
        let outputs = with_panics(iter::buffer_unordered(source(), 2)).await;
        assert_eq!(outputs, [Err("the third is not to be had"), Ok(1), Ok(2), Ok(4)]);
    });
}

/// Futures that all wait until there are so many.
fn meeting(all: usize) -> impl Stream<Item: Future<Output = ()> + 'static> {
    let arrived = Rc::new(Cell::new(0));
    stream::repeat(arrived).take(all).map(move |arrived| async move {
        arrived.set(arrived.get() + 1);
        while arrived.get() < all {
            time::sleep(seconds(1)).await;
        }
    })
}

#[test]
fn more_futures_than_a_budget_are_started_before_any_has_finished() {
    paused(async || {
        let ordered = iter::buffered(meeting(1000), usize::MAX).count();
        assert_eq!(time::timeout(seconds(100), ordered).await, Ok(1000));
        let unordered = iter::buffer_unordered(meeting(1000), usize::MAX).count();
        assert_eq!(time::timeout(seconds(100), unordered).await, Ok(1000));
    });
}

#[test]
fn a_dropped_wait_loses_nothing() {
    paused(async || {
        let log = Log::new();
        let mut outputs = iter::buffered(log.items(&[3, 1, 2]), 3);
        let mut unordered = iter::buffer_unordered(log.items(&[3, 1, 2]), 3);
        for _ in 0..8 {
            assert!(time::timeout(Duration::from_millis(100), outputs.next()).await.is_err());
        }
        assert_eq!(outputs.collect::<Vec<_>>().await, [3, 1, 2]);
        assert!(time::timeout(Duration::from_millis(100), unordered.next()).await.is_err());
        assert_eq!(unordered.collect::<Vec<_>>().await, [1, 2, 3]);
    });
}

#[test]
fn a_source_that_comes_late_is_waited_for_and_dropped_when_it_ends() {
    paused(async || {
        let held = Rc::new(());
        let source = {
            let held = Rc::clone(&held);
            stream::once(time::sleep(seconds(1))).map(move |()| {
                let _held = &held;
                time::sleep(seconds(1))
            })
        };
        let mut outputs = Box::pin(iter::buffered(source, 2));
        assert!(time::timeout(Duration::from_millis(1500), outputs.next()).await.is_err());
        assert_eq!(Rc::strong_count(&held), 1);
        assert_eq!(outputs.next().await, Some(()));
        assert_eq!(outputs.next().await, None);
    });
}

#[test]
fn no_futures_at_a_time_is_refused() {
    let text = |code: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(code)).unwrap_err();
        *panic.downcast::<&str>().unwrap()
    };
    let source = || stream::empty::<std::future::Ready<()>>();
    assert_eq!(text(&|| drop(iter::buffered(source(), 0))), "`buffered` needs room for at least one future");
    let unordered = text(&|| drop(iter::buffer_unordered(source(), 0)));
    assert_eq!(unordered, "`buffer_unordered` needs room for at least one future");
}

#[test]
fn tasks_bear_the_place_where_the_adapter_was_made() {
    paused(async || {
        let place = |_| async { postlude::task::current().unwrap().location.unwrap().file() };
        let mut ordered = iter::buffered(stream::iter(0..1).map(place), 1);
        let mut unordered = iter::buffer_unordered(stream::iter(0..1).map(place), 1);
        assert_eq!(ordered.next().await, Some(file!()));
        assert_eq!(unordered.next().await, Some(file!()));
    });
}

/// A future, when the source has it.
type Item = Pin<Box<dyn Future<Output = u64>>>;

/// The outputs of an adapter that is polled where no runtime is current, now and again.
fn outputs_with_polls_elsewhere<S: Stream<Item = u64> + Unpin>(
    adapter: impl FnOnce(mpsc::Receiver<Item>) -> S,
) -> Vec<u64> {
    let runtime = Runtime::builder().paused_clock().build().unwrap();
    let (sender, source) = mpsc::unbounded::<Item>();
    let mut outputs = adapter(source);
    let send = |n, time| {
        let item: Item = Box::pin(async move {
            time::sleep(seconds(time)).await;
            n
        });
        sender.send(item).unwrap();
    };
    let poll_elsewhere =
        |outputs: &mut S| assert!(catch_unwind(AssertUnwindSafe(|| outputs.next().now_or_never())).is_err());
    send(0, 0);
    poll_elsewhere(&mut outputs);
    send(1, 10);
    assert!(runtime.block_on(time::timeout(seconds(1), outputs.next())).unwrap().is_err());
    send(2, 0);
    poll_elsewhere(&mut outputs);
    send(3, 0);
    send(4, 0);
    let first = runtime.block_on(outputs.next()).unwrap();
    drop(sender);
    first.into_iter().chain(runtime.block_on(outputs.collect::<Vec<_>>()).unwrap()).collect()
}

#[test]
fn a_future_that_could_not_be_spawned_is_lost_alone() {
    let outputs = outputs_with_polls_elsewhere(|source| iter::buffered(source, 9));
    // The second time it is the task that runs whose handle refuses; the source is not asked.
    assert_eq!(outputs, [1, 2, 3, 4]);
    let outputs = outputs_with_polls_elsewhere(|source| iter::buffer_unordered(source, 9));
    assert_eq!(outputs, [3, 4, 1]);
}
