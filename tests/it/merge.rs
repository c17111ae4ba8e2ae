//! Many sources as one: turns, quotas, wakes from anywhere, and a model to compare with.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::channel::mpsc as threads;
use futures::stream::FusedStream;
use futures::{FutureExt, Stream, StreamExt, stream};
use postlude::iter::{self, Merge};
use postlude::sync::mpsc;
use postlude::task::{race, yield_now};
use postlude::{Runtime, spawn, time};
use proptest::prelude::*;

fn paused<T>(test: impl AsyncFnOnce() -> T) -> T {
    Runtime::builder().paused_clock().build().unwrap().block_on(test()).unwrap()
}

/// Counts its wakes.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Counter {
    fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<S: Stream>(merge: &mut Merge<S>, counter: &Arc<Counter>) -> Poll<Option<S::Item>> {
    Pin::new(merge).poll_next(&mut Context::from_waker(&Waker::from(Arc::clone(counter))))
}

#[test]
fn sources_that_always_have_items_take_turns() {
    paused(async || {
        let merged = iter::merge([stream::repeat('a'), stream::repeat('b'), stream::repeat('c')]);
        assert_eq!(merged.take(7).collect::<String>().await, "abcabca");
        let merged = iter::merge([stream::repeat('a'), stream::repeat('b')]).quota(3);
        assert_eq!(merged.take(8).collect::<String>().await, "aaabbbaa");
    });
}

#[test]
fn a_merge_ends_with_its_last_source() {
    paused(async || {
        let mut none = iter::merge(Vec::<stream::Empty<()>>::new());
        assert!(none.is_terminated());
        assert_eq!(none.next().await, None);
        let merged = iter::merge([stream::iter(vec![1, 2, 3]), stream::iter(vec![]), stream::iter(vec![10])]);
        assert_eq!(merged.collect::<Vec<_>>().await, [1, 10, 2, 3]);
    });
}

/// Field note F18: whoever floods one source must not keep the others, or other tasks, from
/// running.
#[test]
fn an_endless_source_starves_neither_the_others_nor_other_tasks() {
    for quota in [1, 5] {
        let between = paused(async || {
            let (sender, receiver) = mpsc::unbounded();
            let merged = iter::merge([stream::repeat(0).boxed_local(), receiver.boxed_local()]).quota(quota);
            let consumer = spawn(async move {
                let mut since = 0;
                let mut between = Vec::new();
                let mut merged = merged;
                while between.len() < 200 {
                    since += 1;
                    if merged.next().await == Some(1) {
                        between.push(since);
                        since = 0;
                    }
                }
                between
            });
            // This task runs in between, else the consumer would wait for ever.
            for _ in 0..100 {
                sender.send(1).unwrap();
                sender.send(1).unwrap();
                yield_now().await;
            }
            consumer.await.unwrap()
        });
        // The second of each pair stands in the channel: it comes after one quota of the flood at
        // most.
        let pairs = between.chunks(2).filter(|pair| pair[1] <= quota + 1).count();
        assert_eq!(pairs, 100, "with a quota of {quota}: {between:?}");
    }
}

/// A source that counts how often it is polled.
fn counting<S: Stream>(source: S, polls: &Rc<Cell<usize>>) -> impl Stream<Item = S::Item> + use<S> {
    let polls = Rc::clone(polls);
    let mut source = Box::pin(source);
    stream::poll_fn(move |cx| {
        polls.set(polls.get() + 1);
        source.as_mut().poll_next(cx)
    })
}

#[test]
fn a_source_is_polled_only_when_it_was_woken() {
    paused(async || {
        let polls: Vec<Rc<Cell<usize>>> = (0..100).map(|_| Rc::default()).collect();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..100).map(|_| mpsc::unbounded()).unzip();
        let mut merged = iter::merge(receivers.into_iter().zip(&polls).map(|(r, polls)| counting(r, polls)));
        assert!(merged.next().now_or_never().is_none());
        assert!(polls.iter().all(|polls| polls.get() == 1));
        assert!(merged.next().now_or_never().is_none());
        assert!(polls.iter().all(|polls| polls.get() == 1), "no wake, no poll");
        senders[42].send(7).unwrap();
        assert_eq!(merged.next().await, Some(7));
        assert!(merged.next().now_or_never().is_none());
        let all: usize = polls.iter().map(|polls| polls.get()).sum();
        assert_eq!((all, polls[42].get()), (102, 3));
    });
}

#[test]
fn an_ended_source_is_dropped_at_once() {
    paused(async || {
        let held = Rc::new(());
        let short = {
            let held = Rc::clone(&held);
            stream::iter([1]).inspect(move |_| _ = &held)
        };
        let mut merged = iter::merge([short.boxed_local(), stream::repeat(2).boxed_local()]);
        assert_eq!((merged.next().await, merged.next().await), (Some(1), Some(2)));
        assert_eq!((merged.len(), Rc::strong_count(&held)), (2, 2), "its end was not seen yet");
        assert_eq!(merged.next().await, Some(2));
        assert_eq!((merged.len(), Rc::strong_count(&held)), (1, 1));
    });
}

#[test]
fn wakes_from_other_threads_arrive_under_any_executor() {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| threads::unbounded()).unzip();
    let writers: Vec<_> = senders
        .into_iter()
        .enumerate()
        .map(|(writer, sender)| {
            thread::spawn(move || {
                for n in 0..1000 {
                    sender.unbounded_send((writer, n)).unwrap();
                    if n % 16 == 0 {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let items: Vec<_> = futures::executor::block_on(iter::merge(receivers).collect());
    for writer in 0..4 {
        let own = items.iter().filter(|item| item.0 == writer).map(|item| item.1);
        assert!(own.eq(0..1000));
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn a_source_that_wakes_itself_for_ever_is_visited_once_per_poll() {
    let polls = Rc::default();
    let restless = stream::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<Option<()>>::Pending
    });
    let mut merged = iter::merge([counting(restless, &polls)]);
    let counter = Arc::default();
    assert!(poll(&mut merged, &counter).is_pending());
    assert_eq!((polls.get(), counter.wakes()), (1, 1));
    assert!(poll(&mut merged, &counter).is_pending());
    assert_eq!((polls.get(), counter.wakes()), (2, 2));
}

#[test]
fn a_source_that_is_woken_while_it_has_its_place_gets_no_second_one() {
    let busy = stream::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Ready(Some('b'))
    });
    let mut merged = iter::merge([busy.boxed_local(), stream::repeat('a').boxed_local()]);
    let items: String = paused(async || merged.by_ref().take(8).collect().await);
    assert_eq!(items, "babababa");
}

#[test]
fn the_last_waker_is_the_one_that_is_woken_and_once() {
    let (sender, receiver) = mpsc::unbounded();
    let mut merged = iter::merge([receiver]);
    let (first, second) = (Arc::default(), Arc::default());
    assert!(poll(&mut merged, &first).is_pending());
    assert!(poll(&mut merged, &second).is_pending());
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    assert_eq!(poll(&mut merged, &second), Poll::Ready(Some(1)));
    assert_eq!(poll(&mut merged, &second), Poll::Ready(Some(2)));
    assert!(poll(&mut merged, &second).is_pending());
}

#[test]
fn the_drop_of_a_replaced_waker_may_wake_a_source() {
    struct WakesOnDrop(threads::UnboundedSender<i32>);
    impl Wake for WakesOnDrop {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for WakesOnDrop {
        fn drop(&mut self) {
            self.0.unbounded_send(1).unwrap();
        }
    }
    let (sender, receiver) = threads::unbounded();
    let mut merged = iter::merge([receiver]);
    let first = Waker::from(Arc::new(WakesOnDrop(sender)));
    let polled = Pin::new(&mut merged).poll_next(&mut Context::from_waker(&first));
    assert_eq!(polled, Poll::Pending);
    drop(first);
    let second = Arc::<Counter>::default();
    assert!(poll(&mut merged, &second).is_pending(), "no source was woken before the first waker was replaced");
    assert_eq!(second.wakes(), 1);
    assert_eq!(poll(&mut merged, &second), Poll::Ready(Some(1)));
}

#[test]
fn a_source_can_be_added_while_one_waits_and_after_the_end() {
    let counter = Arc::default();
    let mut merged = iter::merge([stream::pending().boxed_local()]);
    assert!(poll(&mut merged, &counter).is_pending());
    merged.push(stream::iter([1]).boxed_local());
    assert_eq!(counter.wakes(), 1);
    assert_eq!(poll(&mut merged, &counter), Poll::Ready(Some(1)));
    let mut ended = iter::merge([stream::iter([1])]);
    assert_eq!(poll(&mut ended, &counter), Poll::Ready(Some(1)));
    assert_eq!(poll(&mut ended, &counter), Poll::Ready(None));
    ended.push(stream::iter([2]));
    assert!(!ended.is_terminated());
    assert_eq!(poll(&mut ended, &counter), Poll::Ready(Some(2)));
    assert_eq!(poll(&mut ended, &counter), Poll::Ready(None));
}

#[test]
fn a_late_wake_for_a_source_that_is_gone_harms_nobody() {
    let kept = Rc::new(RefCell::new(None::<Waker>));
    let first = {
        let kept = Rc::clone(&kept);
        stream::poll_fn(move |cx| {
            *kept.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(None::<u32>)
        })
    };
    let counter = Arc::default();
    let mut merged = iter::merge([first.boxed_local()]);
    assert_eq!(poll(&mut merged, &counter), Poll::Ready(None));
    let waker = kept.take().unwrap();
    waker.wake_by_ref();
    assert_eq!(poll(&mut merged, &counter), Poll::Ready(None));
    merged.push(stream::iter([1, 2]).boxed_local());
    waker.wake();
    assert_eq!(poll(&mut merged, &counter), Poll::Ready(Some(1)));
    assert_eq!(poll(&mut merged, &counter), Poll::Ready(Some(2)));
    assert_eq!(poll(&mut merged, &counter), Poll::Ready(None));
}

#[test]
fn a_panic_of_a_source_goes_to_the_consumer_and_the_others_go_on() {
    let counter = Arc::default();
    let held = Rc::new(());
    let bad = {
        let held = Rc::clone(&held);
        stream::poll_fn(move |_| {
            let _held = &held;
            panic!("bad source")
        })
    };
    let mut merged = iter::merge([stream::iter([1, 2]).boxed_local(), bad.boxed_local()]);
    assert_eq!(poll(&mut merged, &counter), Poll::Ready(Some(1)));
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut merged, &counter))).is_err());
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(poll(&mut merged, &counter), Poll::Ready(Some(2)));
    assert_eq!(poll(&mut merged, &counter), Poll::Ready(None));
}

#[test]
fn a_dropped_wait_loses_nothing() {
    paused(async || {
        let late = |n: u64| stream::once(async move { time::sleep(Duration::from_secs(n)).await }).map(move |()| n);
        let mut merged = iter::merge([3, 1, 2].map(late));
        let mut items = Vec::new();
        while items.len() < 3 {
            if let Ok(item) = time::timeout(Duration::from_millis(100), merged.next()).await {
                items.extend(item);
            }
        }
        assert_eq!(items, [1, 2, 3]);
    });
}

#[test]
fn a_quota_of_nothing_is_refused() {
    let panic = catch_unwind(|| drop(iter::merge([stream::empty::<()>()]).quota(0))).unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "a source needs a quota of at least one item");
}

/// What a source does in one poll.
#[derive(Clone, Copy, Debug)]
enum Step {
    Item,
    /// Has an item, and wakes itself without need.
    ItemAndWake,
    /// Has nothing, and wakes itself.
    Yield,
    /// Has nothing until it is woken from outside.
    Wait,
}

/// Where sources leave their wakers.
type Wakers = Rc<RefCell<VecDeque<Waker>>>;

fn scripted(script: Vec<Step>, number: usize, wakers: &Wakers) -> impl Stream<Item = (usize, usize)> + use<> {
    let wakers = Rc::clone(wakers);
    let mut script = script.into_iter();
    let mut count = 0;
    stream::poll_fn(move |cx| {
        let Some(step) = script.next() else { return Poll::Ready(None) };
        match step {
            Step::Item | Step::ItemAndWake => count += 1,
            Step::Wait => wakers.borrow_mut().push_back(cx.waker().clone()),
            Step::Yield => {}
        }
        if matches!(step, Step::Yield | Step::ItemAndWake) {
            cx.waker().wake_by_ref();
        }
        match step {
            Step::Item | Step::ItemAndWake => Poll::Ready(Some((number, count - 1))),
            Step::Yield | Step::Wait => Poll::Pending,
        }
    })
}

fn scripts() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![Just(Step::Item), Just(Step::ItemAndWake), Just(Step::Yield), Just(Step::Wait)];
    prop::collection::vec(prop::collection::vec(step, 0..12), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever the sources do, each item arrives, in its source's order, and whoever waits is
    /// woken when there is something.
    #[test]
    fn every_item_arrives_and_no_wake_is_lost(scripts in scripts(), quota in 1usize..4) {
        let is_item = |step: &&Step| matches!(step, Step::Item | Step::ItemAndWake);
        let expected: Vec<usize> = scripts.iter().map(|script| script.iter().filter(is_item).count()).collect();
        let wakers = Wakers::default();
        let mut merged = iter::merge(
            scripts.into_iter().enumerate().map(|(number, script)| scripted(script, number, &wakers)),
        )
        .quota(quota);
        let mut seen = vec![0; expected.len()];
        let counter = Arc::<Counter>::default();
        loop {
            let before = counter.wakes();
            match poll(&mut merged, &counter) {
                Poll::Ready(None) => break,
                Poll::Ready(Some((number, count))) => {
                    prop_assert_eq!(seen[number], count);
                    seen[number] += 1;
                }
                Poll::Pending if counter.wakes() > before => {}
                // Some of the wakers may be of sources that went on without them, or ended.
                Poll::Pending => {
                    while counter.wakes() == before {
                        let waker = wakers.borrow_mut().pop_front();
                        prop_assert!(waker.is_some(), "pending, and nobody wakes");
                        waker.unwrap().wake();
                    }
                }
            }
        }
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn next_item_waits_while_there_is_no_source() {
    paused(async || {
        let mut merged = iter::merge([]);
        let mut rounds = Vec::new();
        for round in 0..4 {
            let item = async { Some(merged.next_item().await) };
            let slept = async {
                time::sleep(Duration::from_secs(1)).await;
                None
            };
            rounds.push(race((item, slept)).await.1);
            if round == 0 {
                merged.push(stream::iter(['a', 'b']));
            }
        }
        assert_eq!(rounds, [None, Some('a'), Some('b'), None]);
    });
}
