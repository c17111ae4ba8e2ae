//! One source, many readers: each gets each item, none waits in vain, and a model to compare with.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::channel::mpsc as threads;
use futures::stream::{FusedStream, LocalBoxStream};
use futures::{Stream, StreamExt, stream};
use postlude::iter::{self, Tee};
use postlude::sync::mpsc;
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

fn poll<S: Stream<Item: Clone>>(reader: &mut Tee<S>, counter: &Arc<Counter>) -> Poll<Option<S::Item>> {
    Pin::new(reader).poll_next(&mut Context::from_waker(&Waker::from(Arc::clone(counter))))
}

fn panic_text(code: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(code)).unwrap_err();
    panic.downcast_ref::<&str>().map(ToString::to_string).unwrap_or_default()
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
fn each_reader_gets_each_item_one_after_the_other_or_side_by_side() {
    paused(async || {
        let (first, second) = iter::tee(stream::iter(0..1000));
        assert!(first.collect::<Vec<_>>().await.into_iter().eq(0..1000));
        assert!(second.collect::<Vec<_>>().await.into_iter().eq(0..1000));
        for capacity in [1, 3, usize::MAX] {
            let source = iter::throttle(stream::iter(0..50), Duration::from_millis(1));
            let reader = iter::broadcast(source, capacity);
            let pauses = [0, 1, 2, 5].map(|pause| {
                spawn(
                    reader
                        .clone()
                        .then(move |n| async move {
                            time::sleep(Duration::from_millis(pause)).await;
                            n
                        })
                        .collect::<Vec<_>>(),
                )
            });
            drop(reader);
            for items in pauses {
                assert!(items.await.unwrap().into_iter().eq(0..50));
            }
        }
    });
}

#[test]
fn a_reader_of_a_broadcast_is_ahead_of_the_slowest_by_its_capacity_and_no_more() {
    let counter = Arc::default();
    let polls = Rc::default();
    let mut fast = iter::broadcast(counting(stream::iter(0..), &polls), 3);
    let mut slow = fast.clone();
    for n in 0..3 {
        assert_eq!(poll(&mut fast, &counter), Poll::Ready(Some(n)));
    }
    assert!(poll(&mut fast, &counter).is_pending());
    assert_eq!((polls.get(), counter.wakes()), (3, 0));
    assert_eq!(poll(&mut slow, &Arc::default()), Poll::Ready(Some(0)));
    assert_eq!(counter.wakes(), 1, "there is room");
    assert_eq!(poll(&mut fast, &counter), Poll::Ready(Some(3)));
    assert!(poll(&mut fast, &counter).is_pending());
    drop(slow);
    assert_eq!(counter.wakes(), 2, "the slowest is gone");
    assert_eq!(poll(&mut fast, &counter), Poll::Ready(Some(4)));
}

#[test]
fn dropping_one_of_two_slow_readers_makes_no_room() {
    let counter = Arc::default();
    let mut fast = iter::broadcast(stream::iter(0..), 2);
    let (slow, mut other) = (fast.clone(), fast.clone());
    assert_eq!(poll(&mut fast, &counter), Poll::Ready(Some(0)));
    assert_eq!(poll(&mut fast, &counter), Poll::Ready(Some(1)));
    assert!(poll(&mut fast, &counter).is_pending());
    drop(slow);
    assert!(poll(&mut fast, &counter).is_pending());
    assert_eq!(poll(&mut other, &counter), Poll::Ready(Some(0)));
    assert_eq!(poll(&mut fast, &counter), Poll::Ready(Some(2)));
}

#[test]
fn a_reader_that_polled_last_and_is_dropped_takes_no_wake_with_it() {
    let (sender, receiver) = mpsc::unbounded();
    let (mut first, mut second) = iter::tee(receiver);
    let (one, two) = (Arc::default(), Arc::default());
    // Both wait, the second polled the source last.
    assert!(poll(&mut first, &one).is_pending());
    assert!(poll(&mut second, &two).is_pending());
    drop(second);
    sender.send(1).unwrap();
    assert_eq!((one.wakes(), two.wakes()), (1, 0));
    assert_eq!(poll(&mut first, &one), Poll::Ready(Some(1)));
}

#[test]
fn a_reader_that_is_woken_and_then_dropped_takes_no_item_with_it() {
    let (sender, receiver) = mpsc::unbounded();
    let (mut first, mut second) = iter::tee(receiver);
    let (one, two) = (Arc::default(), Arc::default());
    assert!(poll(&mut first, &one).is_pending());
    assert!(poll(&mut second, &two).is_pending());
    sender.send(1).unwrap();
    drop(second);
    assert_eq!((one.wakes(), two.wakes()), (1, 1));
    assert_eq!(poll(&mut first, &one), Poll::Ready(Some(1)));
}

#[test]
fn a_reader_that_polled_last_and_is_busy_elsewhere_holds_up_nobody() {
    paused(async || {
        let start = time::now();
        let ticks = iter::interval(Duration::from_secs(1)).map(move |due| (due - start).as_secs()).take(4);
        let mut busy = iter::broadcast(ticks, 100);
        let other = spawn(busy.clone().map(move |tick| (tick, (time::now() - start).as_secs())).collect::<Vec<_>>());
        assert_eq!(busy.next().await, Some(0));
        // It waits for the tick at 1 s, the last one to poll the source, and turns to something
        // else.
        assert!(time::timeout(Duration::from_millis(500), busy.next()).await.is_err());
        time::sleep(Duration::from_secs(100)).await;
        assert_eq!(other.await.unwrap(), [(0, 0), (1, 1), (2, 2), (3, 3)]);
        assert_eq!(busy.collect::<Vec<_>>().await, [1, 2, 3]);
    });
}

#[test]
fn a_wake_of_the_source_is_one_poll_of_it_however_many_wait() {
    let (sender, receiver) = mpsc::unbounded();
    let polls = Rc::default();
    let reader = iter::broadcast(counting(receiver, &polls), 8);
    let mut readers: Vec<_> = (0..50).map(|_| (reader.clone(), Arc::default())).collect();
    drop(reader);
    assert!(readers.iter_mut().all(|(reader, counter)| poll(reader, counter).is_pending()));
    assert_eq!(polls.get(), 1);
    sender.send('a').unwrap();
    for (reader, counter) in &mut readers {
        assert_eq!(counter.wakes(), 1);
        assert_eq!(poll(reader, counter), Poll::Ready(Some('a')));
    }
    assert_eq!(polls.get(), 2);
    assert!(readers.iter_mut().all(|(reader, counter)| poll(reader, counter).is_pending()));
    assert_eq!(polls.get(), 3);
    drop(sender);
    for (reader, counter) in &mut readers {
        assert_eq!(counter.wakes(), 2);
        assert_eq!(poll(reader, counter), Poll::Ready(None));
    }
    assert_eq!(polls.get(), 4);
}

#[test]
fn an_item_found_without_a_wake_is_told_to_those_that_wait() {
    // The source has something at its second poll, and tells nobody.
    let mut polls = 0;
    let source = stream::poll_fn(move |cx| {
        polls += 1;
        if polls == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if polls == 3 { Poll::Ready(None) } else { Poll::Ready(Some(polls)) }
    });
    let (mut first, mut second) = iter::tee(source);
    let full = Arc::default();
    // One poll of a reader polls the source twice, since that woke itself.
    assert_eq!(poll(&mut first, &full), Poll::Ready(Some(2)));
    assert_eq!(poll(&mut second, &full), Poll::Ready(Some(2)));
    assert_eq!(poll(&mut second, &full), Poll::Ready(None));
    assert_eq!(poll(&mut first, &full), Poll::Ready(None));
    assert!(first.is_terminated() && second.is_terminated());
}

#[test]
fn the_last_waker_of_a_reader_is_the_one_that_is_woken() {
    let (sender, receiver) = mpsc::unbounded();
    let (mut first, _second) = iter::tee(receiver);
    let (one, two) = (Arc::default(), Arc::default());
    assert!(poll(&mut first, &one).is_pending());
    assert!(poll(&mut first, &two).is_pending());
    sender.send(()).unwrap();
    assert_eq!((one.wakes(), two.wakes()), (0, 1));
}

#[test]
fn the_source_is_dropped_at_its_end_or_with_the_last_reader() {
    let held = Rc::new(());
    let source = |count: usize| {
        let held = Rc::clone(&held);
        stream::repeat(1).take(count).inspect(move |_| _ = &held)
    };
    let counter = Arc::default();
    let (mut first, second) = iter::tee(source(1));
    assert!(poll(&mut first, &counter).is_ready());
    assert_eq!(Rc::strong_count(&held), 2);
    assert_eq!(poll(&mut first, &counter), Poll::Ready(None));
    assert_eq!(Rc::strong_count(&held), 1);
    drop((first, second));
    let (first, second) = iter::tee(source(1));
    drop(first);
    assert_eq!(Rc::strong_count(&held), 2);
    drop(second);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn what_a_dropped_reader_had_not_read_is_dropped_unless_others_want_it() {
    let counter = Arc::default();
    let item = Rc::new(());
    let (mut first, second) = iter::tee(stream::repeat(Rc::clone(&item)).take(5));
    for _ in 0..5 {
        drop(poll(&mut first, &counter));
    }
    assert_eq!(poll(&mut first, &counter), Poll::Ready(None));
    assert_eq!(Rc::strong_count(&item), 6);
    let third = second.clone();
    drop(second);
    assert_eq!(Rc::strong_count(&item), 6);
    drop(third);
    assert_eq!(Rc::strong_count(&item), 1);
}

/// Counts its clones.
struct Cloned(Rc<Cell<usize>>);

impl Clone for Cloned {
    fn clone(&self) -> Self {
        self.0.set(self.0.get() + 1);
        Self(Rc::clone(&self.0))
    }
}

#[test]
fn an_item_is_cloned_for_all_but_the_last_to_read_it() {
    let counter = Arc::default();
    let clones = Rc::new(Cell::new(0));
    let source = {
        let clones = Rc::clone(&clones);
        stream::poll_fn(move |_| Poll::Ready(Some(Cloned(Rc::clone(&clones)))))
    };
    let mut first = iter::broadcast(source, 4);
    for _ in 0..10 {
        assert!(poll(&mut first, &counter).is_ready());
    }
    assert_eq!(clones.get(), 0, "nobody else reads");
    let (mut second, mut third) = (first.clone(), first.clone());
    assert!(poll(&mut first, &counter).is_ready());
    assert!(poll(&mut second, &counter).is_ready());
    assert!(poll(&mut third, &counter).is_ready());
    assert_eq!(clones.get(), 2);
}

#[test]
fn a_clone_reads_on_from_where_its_original_stood() {
    paused(async || {
        let (mut first, mut second) = iter::tee(stream::iter(0..6));
        assert_eq!(first.by_ref().take(4).collect::<Vec<_>>().await, [0, 1, 2, 3]);
        assert_eq!(second.next().await, Some(0));
        let (ahead, behind) = (first.clone(), second.clone());
        drop((first, second));
        assert_eq!(ahead.collect::<Vec<_>>().await, [4, 5]);
        assert_eq!(behind.collect::<Vec<_>>().await, [1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_panic_goes_to_who_polled_and_is_told_to_the_others_after_the_items_before_it() {
    let source = stream::iter(1..).map(|n| if n == 2 { panic!("bad source") } else { n });
    let (mut first, mut second) = iter::tee(source);
    let counter = Arc::default();
    let mut third = second.clone();
    assert_eq!(poll(&mut third, &counter), Poll::Ready(Some(1)));
    assert_eq!(poll(&mut first, &counter), Poll::Ready(Some(1)));
    assert_eq!(panic_text(|| _ = poll(&mut first, &counter)), "bad source");
    assert_eq!(poll(&mut second, &counter), Poll::Ready(Some(1)));
    let text = "the source of this reader panicked while another reader polled it";
    assert_eq!(panic_text(|| _ = poll(&mut second, &counter)), text);
    assert_eq!(panic_text(|| _ = poll(&mut third, &counter)), text);
}

/// How a source's poll ends that polled one of its readers.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Item,
    End,
    Panic,
}

#[test]
fn a_reader_that_is_polled_by_its_own_source_waits_and_is_told_what_came_of_it() {
    for outcome in [Outcome::Item, Outcome::End, Outcome::Panic] {
        let inner = Rc::new(RefCell::new(None::<Tee<LocalBoxStream<'static, u32>>>));
        let counter = Arc::<Counter>::default();
        let source = {
            let (inner, counter) = (Rc::clone(&inner), Arc::clone(&counter));
            stream::poll_fn(move |_| {
                assert!(poll(inner.borrow_mut().as_mut().unwrap(), &counter).is_pending());
                match outcome {
                    Outcome::Item => Poll::Ready(Some(7)),
                    Outcome::End => Poll::Ready(None),
                    Outcome::Panic => panic!("bad source"),
                }
            })
        };
        let (mut outer, reader) = iter::tee(source.boxed_local());
        *inner.borrow_mut() = Some(reader);
        let result = catch_unwind(AssertUnwindSafe(|| poll(&mut outer, &Arc::default())));
        assert_eq!(result.is_err(), outcome == Outcome::Panic);
        assert_eq!(counter.wakes(), 1);
        let mut reader = inner.borrow_mut().take().unwrap();
        match outcome {
            Outcome::Item => assert_eq!(poll(&mut reader, &counter), Poll::Ready(Some(7))),
            Outcome::End => assert_eq!(poll(&mut reader, &counter), Poll::Ready(None)),
            Outcome::Panic => drop(panic_text(|| _ = poll(&mut reader, &counter))),
        }
    }
}

/// A place for readers that others use in their destructors, clones and polls.
type Place = Rc<RefCell<Vec<Tee<LocalBoxStream<'static, Meddler>>>>>;

/// Clones and drops readers of its own stream whenever it is cloned or dropped.
struct Meddler(Place);

impl Meddler {
    fn meddle(&self) {
        let Some(mut reader) = self.0.borrow_mut().pop() else { return };
        let clone = reader.clone();
        drop(poll(&mut reader, &Arc::default()));
        drop(reader);
        drop(clone);
    }
}

impl Clone for Meddler {
    fn clone(&self) -> Self {
        self.meddle();
        Self(Rc::clone(&self.0))
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.meddle();
    }
}

#[test]
fn items_and_sources_may_use_the_readers_they_are_read_by() {
    let place = Place::default();
    let source = {
        let place = Rc::clone(&place);
        stream::poll_fn(move |_| {
            let item = Meddler(Rc::clone(&place));
            item.meddle();
            Poll::Ready(Some(item))
        })
    };
    let mut reader = iter::broadcast(source.boxed_local(), 2);
    let mut other = reader.clone();
    for round in 0..20 {
        for _ in 0..round {
            let clone = if round % 2 == 0 { reader.clone() } else { other.clone() };
            place.borrow_mut().push(clone);
        }
        while poll(&mut reader, &Arc::default()).is_ready() {}
        while poll(&mut other, &Arc::default()).is_ready() {
            // The first one may be ahead again.
            if round % 3 == 0 {
                break;
            }
        }
        let left = std::mem::take(&mut *place.borrow_mut());
        drop(left);
    }
    assert!(place.borrow().is_empty());
}

#[test]
fn wakes_from_other_threads_arrive_under_any_executor() {
    let (sender, receiver) = threads::unbounded();
    let writer = thread::spawn(move || {
        for n in 0..2000 {
            sender.unbounded_send(n).unwrap();
            if n % 16 == 0 {
                thread::yield_now();
            }
        }
    });
    let reader = iter::broadcast(receiver, 2);
    let readers = [reader.clone(), reader.clone(), reader];
    let items = futures::executor::block_on(futures::future::join_all(readers.map(StreamExt::collect::<Vec<_>>)));
    writer.join().unwrap();
    assert!(items.into_iter().all(|items| items.into_iter().eq(0..2000)));
}

#[test]
fn room_for_nothing_is_refused() {
    let text = panic_text(|| drop(iter::broadcast(stream::empty::<()>(), 0)));
    assert_eq!(text, "a broadcast needs room for at least one item");
}

/// What is done to a set of readers.
#[derive(Clone, Copy, Debug)]
enum Act {
    Poll(usize),
    Clone(usize),
    Drop(usize),
    Send,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => any::<usize>().prop_map(Act::Poll),
        1 => any::<usize>().prop_map(Act::Clone),
        1 => any::<usize>().prop_map(Act::Drop),
        2 => Just(Act::Send),
    ];
    prop::collection::vec(act, 0..100)
}

struct Modelled<S: Stream> {
    reader: Tee<S>,
    next: u32,
    counter: Arc<Counter>,
    /// Wakes it had had when it was last pending; unset when it was not.
    waits_since: Option<usize>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Each reader reads every number from where it began, waits exactly when there is none for it
    /// or no room, and is woken when that changes.
    #[test]
    fn readers_do_as_the_model_does(acts in acts(), capacity in 1usize..5) {
        let (sender, receiver) = mpsc::unbounded();
        let first = iter::broadcast(receiver, capacity);
        let mut readers = vec![Modelled { reader: first, next: 0, counter: Arc::default(), waits_since: None }];
        let (mut sent, mut pulled) = (0, 0);
        for act in acts {
            let count = readers.len();
            match act {
                Act::Send => {
                    sender.send(sent).unwrap();
                    sent += 1;
                }
                Act::Clone(which) => {
                    let original = &readers[which % count];
                    let (reader, next) = (original.reader.clone(), original.next);
                    readers.push(Modelled { reader, next, counter: Arc::default(), waits_since: None });
                }
                Act::Drop(which) if count > 1 => drop(readers.swap_remove(which % count)),
                Act::Drop(_) => {}
                Act::Poll(which) => {
                    let slowest = readers.iter().map(|reader| reader.next).min().unwrap();
                    let this = &mut readers[which % count];
                    let room = this.next < pulled || this.next - slowest < capacity as u32;
                    let result = poll(&mut this.reader, &this.counter);
                    if this.next < sent && room {
                        prop_assert_eq!(result, Poll::Ready(Some(this.next)));
                        this.next += 1;
                        pulled = pulled.max(this.next);
                        this.waits_since = None;
                    } else {
                        prop_assert_eq!(result, Poll::Pending);
                        this.waits_since = Some(this.counter.wakes());
                    }
                }
            }
            let slowest = readers.iter().map(|reader| reader.next).min().unwrap();
            for this in &readers {
                let may_go_on = this.next < sent && (this.next < pulled || this.next - slowest < capacity as u32);
                if let (true, Some(wakes)) = (may_go_on, this.waits_since) {
                    prop_assert!(this.counter.wakes() > wakes, "a reader waits in vain");
                }
            }
        }
    }
}
