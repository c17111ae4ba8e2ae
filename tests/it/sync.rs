//! Channels and locks: order, what a dropped future gives back, ends, re-entrancy, and models to
//! compare with.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::executor::block_on;
use futures::{FutureExt, Stream, StreamExt};
use postlude::sync::mpsc::{self, TryRecvError, TrySendError};
use postlude::sync::{Mutex, Notify, OnceCell, Semaphore, broadcast, oneshot, watch};
use postlude::task::yield_now;
use postlude::{Runtime, spawn};
use proptest::prelude::*;

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

fn counted<F: Future>(counter: &Arc<Counter>, future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(counter))))
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

/// Runs code when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Whether a type is `Send`: the inherent constant wins where its bound holds.
macro_rules! is_send {
    ($type:ty) => {{
        #[allow(dead_code, reason = "unused where the type is Send")]
        trait Otherwise {
            const SEND: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "unused where the type is not Send")]
        impl<T: ?Sized + Send> Probe<T> {
            const SEND: bool = true;
        }
        <Probe<$type>>::SEND
    }};
}

#[test]
fn what_is_shared_between_tasks_is_not_send() {
    const { assert!(is_send!(u8), "the probe works") };
    const { assert!(!is_send!(oneshot::Sender<u8>)) };
    const { assert!(!is_send!(oneshot::Receiver<u8>)) };
    const { assert!(!is_send!(mpsc::Sender<u8>)) };
    const { assert!(!is_send!(mpsc::UnboundedSender<u8>)) };
    const { assert!(!is_send!(mpsc::Receiver<u8>)) };
    const { assert!(!is_send!(broadcast::Sender<u8>)) };
    const { assert!(!is_send!(broadcast::Receiver<u8>)) };
    const { assert!(!is_send!(watch::Sender<u8>)) };
    const { assert!(!is_send!(watch::Receiver<u8>)) };
    const { assert!(!is_send!(&Notify)) };
    const { assert!(!is_send!(&Semaphore)) };
    const { assert!(!is_send!(&Mutex<u8>)) };
    const { assert!(!is_send!(&OnceCell<u8>)) };
}

// oneshot

#[test]
fn a_oneshot_receiver_whose_future_was_dropped_still_has_the_value() {
    let (sender, mut receiver) = oneshot::channel();
    assert!(poll(pin!(&mut receiver)).is_pending());
    sender.send(7).unwrap();
    assert_eq!(block_on(receiver), Ok(7));
}

#[test]
fn a_oneshot_ends_with_either_side() {
    let (sender, receiver) = oneshot::channel::<u8>();
    drop(sender);
    assert!(block_on(receiver).is_err());

    let (mut sender, receiver) = oneshot::channel::<u8>();
    let counter = Arc::default();
    {
        let mut closed = pin!(sender.closed());
        assert!(counted(&counter, closed.as_mut()).is_pending());
        drop(receiver);
        assert_eq!(counter.wakes(), 1);
        assert!(counted(&counter, closed).is_ready());
    }
    assert_eq!(sender.send(1), Err(1));
}

#[test]
fn a_oneshot_wakes_its_receiver_once_and_keeps_no_waker() {
    let (sender, mut receiver) = oneshot::channel();
    let counter = Arc::default();
    assert!(counted(&counter, Pin::new(&mut receiver)).is_pending());
    sender.send(1).unwrap();
    assert_eq!((counter.wakes(), Arc::strong_count(&counter)), (1, 1));
}

// mpsc

#[test]
#[should_panic(expected = "a channel needs room for at least one item")]
fn a_channel_without_room_panics() {
    drop(mpsc::channel::<u8>(0));
}

#[test]
fn waiting_senders_are_served_in_their_order() {
    let received = paused()
        .block_on(async {
            let (sender, mut receiver) = mpsc::channel(1);
            for n in 0..10 {
                let sender = sender.clone();
                drop(spawn(async move { sender.send(n).await.unwrap() }));
            }
            drop(sender);
            let mut received = Vec::new();
            while let Some(n) = receiver.recv().await {
                received.push(n);
            }
            received
        })
        .unwrap();
    assert_eq!(received, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_cancelled_receive_loses_no_item_and_keeps_no_waker() {
    let (sender, mut receiver) = mpsc::unbounded();
    let counter = Arc::default();
    {
        let mut recv = Box::pin(receiver.recv());
        assert!(counted(&counter, recv.as_mut()).is_pending());
        sender.send(7).unwrap();
        assert_eq!(counter.wakes(), 1);
    }
    assert_eq!(Arc::strong_count(&counter), 1);
    {
        let mut recv = Box::pin(async {
            receiver.recv().await;
            receiver.recv().await
        });
        assert!(counted(&counter, recv.as_mut()).is_pending());
        drop(recv);
    }
    assert_eq!(Arc::strong_count(&counter), 1);
    sender.send(8).unwrap();
    assert_eq!(receiver.try_recv(), Ok(8));
}

#[test]
fn a_cancelled_send_passes_its_room_to_the_next() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(0).unwrap();
    let mut first = Box::pin(sender.send(1));
    let second_counter = Arc::default();
    let mut second = Box::pin(sender.send(2));
    let mut third = Box::pin(sender.reserve());
    assert!(poll(first.as_mut()).is_pending());
    assert!(counted(&second_counter, second.as_mut()).is_pending());
    assert!(poll(third.as_mut()).is_pending());
    assert_eq!(receiver.try_recv(), Ok(0));
    assert!(matches!(sender.try_send(9), Err(TrySendError::Full(9))), "the room is promised");
    drop(first);
    assert_eq!(second_counter.wakes(), 1);
    assert!(counted(&second_counter, second.as_mut()).is_ready());
    assert_eq!(receiver.try_recv(), Ok(2));
    let Poll::Ready(Ok(permit)) = poll(third.as_mut()) else { panic!("there is room") };
    drop(permit);
    assert_eq!(sender.capacity(), 1);
}

#[test]
fn a_closed_channel_is_drained_permits_included() {
    let (sender, mut receiver) = mpsc::channel(2);
    let permit = block_on(sender.reserve()).unwrap();
    sender.try_send(1).unwrap();
    let mut waiting = Box::pin(sender.send(9));
    assert!(poll(waiting.as_mut()).is_pending());
    receiver.close();
    assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Err(mpsc::SendError(9)))));
    assert!(matches!(sender.try_send(2), Err(TrySendError::Closed(2))));
    assert!(sender.closed().now_or_never().is_some());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "a permit is out");
    let counter = Arc::default();
    {
        let mut recv = Box::pin(receiver.recv());
        assert!(counted(&counter, recv.as_mut()).is_pending());
        permit.send(3).unwrap();
        assert_eq!(counted(&counter, recv.as_mut()), Poll::Ready(Some(3)));
    }
    assert_eq!(block_on(receiver.recv()), None);
}

#[test]
fn a_permit_given_back_after_closing_ends_the_receiver() {
    let (sender, mut receiver) = mpsc::channel::<u8>(1);
    let permit = block_on(sender.reserve()).unwrap();
    receiver.close();
    let counter = Arc::default();
    let mut recv = Box::pin(receiver.recv());
    assert!(counted(&counter, recv.as_mut()).is_pending());
    drop(permit);
    assert_eq!(counter.wakes(), 1);
    assert_eq!(counted(&counter, recv.as_mut()), Poll::Ready(None));
}

#[test]
fn a_cancelled_send_that_had_been_given_room_ends_the_receiver_of_a_closed_channel() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(1).unwrap();
    let mut waiting = Box::pin(sender.send(2));
    assert!(poll(waiting.as_mut()).is_pending());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!((sender.capacity(), sender.len()), (0, 0), "the room is given away");
    receiver.close();
    let counter = Arc::default();
    let mut recv = Box::pin(receiver.recv());
    assert!(counted(&counter, recv.as_mut()).is_pending(), "what was given room may still come");
    drop(waiting);
    assert_eq!(counter.wakes(), 1);
    assert_eq!(counted(&counter, recv.as_mut()), Poll::Ready(None));
    assert_eq!((sender.capacity(), sender.max_capacity()), (1, 1));
}

#[test]
fn a_receiver_that_goes_refuses_who_waits_and_gives_items_back() {
    let (sender, receiver) = mpsc::channel(1);
    let permit = block_on(sender.reserve()).unwrap();
    let counter = Arc::default();
    let mut waiting = Box::pin(sender.send(1));
    assert!(counted(&counter, waiting.as_mut()).is_pending());
    drop(receiver);
    assert_eq!(counter.wakes(), 1);
    assert!(matches!(counted(&counter, waiting.as_mut()), Poll::Ready(Err(mpsc::SendError(1)))));
    assert_eq!(permit.send(2), Err(mpsc::SendError(2)));
}

#[test]
fn a_receiver_is_woken_by_the_last_sender_that_goes() {
    let (sender, mut receiver) = mpsc::unbounded::<u8>();
    let second = sender.clone();
    let counter = Arc::default();
    let mut next = receiver.next();
    assert!(counted(&counter, Pin::new(&mut next)).is_pending());
    drop(sender);
    assert_eq!(counter.wakes(), 0);
    drop(second);
    assert_eq!(counter.wakes(), 1);
    assert_eq!(counted(&counter, Pin::new(&mut next)), Poll::Ready(None));
}

thread_local! {
    static LAST_WORDS: RefCell<Option<mpsc::UnboundedSender<u8>>> = const { RefCell::new(None) };
}

/// A waker that sends when it is dropped.
struct SendsInDrop;

impl Wake for SendsInDrop {
    fn wake(self: Arc<Self>) {}
}

impl Drop for SendsInDrop {
    fn drop(&mut self) {
        LAST_WORDS.with_borrow(|sender| sender.as_ref().unwrap().send(7).unwrap());
    }
}

#[test]
fn what_is_sent_while_a_waker_is_replaced_is_received() {
    let (sender, mut receiver) = mpsc::unbounded();
    LAST_WORDS.set(Some(sender));
    let mut recv = Box::pin(receiver.recv());
    let waker = Waker::from(Arc::new(SendsInDrop));
    assert!(recv.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    let received = paused().block_on(poll_fn(|cx| Poll::Ready(recv.as_mut().poll(cx)))).unwrap();
    assert_eq!(received, Poll::Ready(Some(7)));
}

#[test]
fn a_receiver_of_a_channel_that_is_never_empty_lets_others_run() {
    let others = paused()
        .block_on(async {
            let (sender, mut receiver) = mpsc::unbounded();
            for n in 0..1000 {
                sender.send(n).unwrap();
            }
            let turns = Rc::new(Cell::new(0));
            let counted = Rc::clone(&turns);
            let other = spawn(async move {
                loop {
                    counted.set(counted.get() + 1);
                    yield_now().await;
                }
            });
            for _ in 0..1000 {
                receiver.recv().await.unwrap();
            }
            other.abort();
            turns.get()
        })
        .unwrap();
    assert!(others >= 7, "128 operations per poll: {others}");
}

#[test]
fn every_awaited_operation_spends_budget() {
    async fn yields<F: AsyncFn()>(operation: F) -> bool {
        let ran = Rc::new(Cell::new(false));
        let seen = Rc::clone(&ran);
        drop(spawn(async move { seen.set(true) }));
        for _ in 0..200 {
            operation().await;
        }
        ran.get()
    }
    paused()
        .block_on(async {
            let semaphore = Semaphore::new(1);
            assert!(yields(async || drop(semaphore.acquire().await)).await);
            let mutex = Mutex::new(());
            assert!(yields(async || drop(mutex.lock().await)).await);
            let notify = Notify::new();
            assert!(
                yields(async || {
                    notify.notify_one();
                    notify.notified().await;
                })
                .await
            );
            let (sender, _receiver) = mpsc::channel(1000);
            assert!(yields(async || sender.send(1).await.unwrap()).await);
            let (sender, receiver) = watch::channel(0);
            let receiver = RefCell::new(receiver);
            assert!(
                yields(async || {
                    sender.send(1).unwrap();
                    let mut receiver = receiver.borrow().clone();
                    receiver.changed().await.unwrap();
                })
                .await
            );
            let (sender, receiver) = broadcast::channel(1);
            assert!(
                yields(async || {
                    let mut receiver = sender.subscribe();
                    sender.send(1).unwrap();
                    receiver.recv().await.unwrap();
                })
                .await
            );
            drop(receiver);
            assert!(
                yields(async || {
                    let (sender, receiver) = oneshot::channel();
                    sender.send(1).unwrap();
                    receiver.await.unwrap();
                })
                .await
            );
            let cell = OnceCell::new();
            cell.set(1).unwrap();
            assert!(yields(async || assert_eq!(cell.get_or_init(async || 2).await, &1)).await);
        })
        .unwrap();
}

#[test]
fn an_item_may_use_its_channel_when_it_is_dropped() {
    type Item = OnDrop<Box<dyn FnMut()>>;
    let drops = Rc::new(Cell::new(0));
    let item = |sender: &mpsc::UnboundedSender<Item>| {
        let (sender, drops) = (sender.clone(), Rc::clone(&drops));
        OnDrop(Box::new(move || {
            drops.set(drops.get() + 1);
            drop(sender.send(OnDrop(Box::new(|| {}))));
            assert!(sender.is_closed());
        }) as Box<dyn FnMut()>)
    };
    let (sender, receiver) = mpsc::unbounded();
    sender.send(item(&sender)).unwrap();
    sender.send(item(&sender)).unwrap();
    drop(receiver);
    assert_eq!(drops.get(), 2);
    drop(sender.send(item(&sender)));
    assert_eq!(drops.get(), 3);
}

// broadcast

#[test]
fn each_receiver_gets_each_value_and_a_slow_one_is_told() {
    let (sender, mut fast) = broadcast::channel(2);
    let slow = sender.subscribe();
    for n in 0..5 {
        assert_eq!(sender.send(n).unwrap(), 2);
        assert_eq!(fast.try_recv(), Ok(n));
    }
    assert_eq!((slow.len(), sender.len()), (5, 2));
    drop(sender);
    let items: Vec<_> = block_on(slow.collect());
    assert_eq!(items, [Err(broadcast::Lagged(3)), Ok(3), Ok(4)]);
    assert_eq!(fast.try_recv(), Err(broadcast::TryRecvError::Closed));
}

#[test]
fn a_broadcast_value_is_dropped_when_all_have_read_it() {
    let (sender, mut first) = broadcast::channel(8);
    let mut second = sender.subscribe();
    let third = sender.subscribe();
    let value = Rc::new(());
    sender.send(Rc::clone(&value)).unwrap();
    drop(first.try_recv().unwrap());
    drop(third);
    assert_eq!(Rc::strong_count(&value), 2);
    drop(second.try_recv().unwrap());
    assert_eq!((Rc::strong_count(&value), sender.len()), (1, 0));
    drop(first);
    sender.send(Rc::clone(&value)).unwrap();
    drop(second);
    assert_eq!(Rc::strong_count(&value), 1);
}

#[test]
fn a_cancelled_broadcast_receive_loses_no_value_and_keeps_no_waker() {
    let (sender, mut receiver) = broadcast::channel(2);
    let counter = Arc::default();
    let mut recv = Box::pin(receiver.recv());
    assert!(counted(&counter, recv.as_mut()).is_pending());
    sender.send(1).unwrap();
    assert_eq!(counter.wakes(), 1);
    drop(recv);
    assert_eq!(Arc::strong_count(&counter), 1);
    assert_eq!(receiver.try_recv(), Ok(1));
}

#[test]
fn cloning_a_broadcast_value_may_use_the_channel() {
    struct Sends(broadcast::Sender<Self>);
    impl Clone for Sends {
        fn clone(&self) -> Self {
            drop(self.0.subscribe());
            assert!(self.0.receiver_count() > 0);
            Self(self.0.clone())
        }
    }
    let (sender, mut first) = broadcast::channel(2);
    let mut second = sender.subscribe();
    drop(sender.send(Sends(sender.clone())));
    drop(first.try_recv().ok().unwrap());
    drop(second.try_recv().ok().unwrap());
}

// watch

#[test]
fn a_watch_shows_the_latest_value_once() {
    let (sender, mut receiver) = watch::channel(0);
    assert!(receiver.changed().now_or_never().is_none());
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    assert_eq!(receiver.changed().now_or_never(), Some(Ok(())));
    assert_eq!(*receiver.borrow(), 2);
    assert!(receiver.changed().now_or_never().is_none());
    sender.send_modify(|value| *value += 1);
    drop(sender);
    let rest: Vec<_> = block_on(receiver.collect());
    assert_eq!(rest, [3]);
}

#[test]
fn a_cancelled_wait_for_a_change_misses_nothing() {
    let (sender, mut receiver) = watch::channel(0);
    let counter = Arc::default();
    let mut changed = Box::pin(receiver.changed());
    assert!(counted(&counter, changed.as_mut()).is_pending());
    sender.send(1).unwrap();
    assert_eq!(counter.wakes(), 1);
    drop(changed);
    assert_eq!(Arc::strong_count(&counter), 1);
    assert!(receiver.has_changed());
}

#[test]
fn a_cancelled_wait_for_a_condition_misses_nothing_and_keeps_no_waker() {
    let (sender, mut receiver) = watch::channel(0);
    let counter = Arc::default();
    let mut unserved = Box::pin(receiver.wait_for(|n| *n == 2));
    assert!(counted(&counter, unserved.as_mut()).is_pending());
    drop(unserved);
    assert_eq!(Arc::strong_count(&counter), 1);
    let mut waits = Box::pin(receiver.wait_for(|n| *n == 2));
    assert!(counted(&counter, waits.as_mut()).is_pending());
    sender.send(1).unwrap();
    assert!(counted(&counter, waits.as_mut()).is_pending(), "not this one");
    sender.send(2).unwrap();
    assert_eq!(counter.wakes(), 2);
    drop(waits);
    assert_eq!(Arc::strong_count(&counter), 1);
    assert!(receiver.has_changed(), "the value that was not seen is still new");
    assert_eq!(receiver.wait_for(|n| *n == 2).now_or_never().map(|found| *found.unwrap()), Some(2));
}

#[test]
fn a_watch_whose_sender_goes_ends_who_waits_for_a_condition() {
    let (sender, mut receiver) = watch::channel(0);
    let counter = Arc::default();
    let mut waits = Box::pin(receiver.wait_for(|n| *n == 1));
    assert!(counted(&counter, waits.as_mut()).is_pending());
    drop(sender);
    assert_eq!(counter.wakes(), 1);
    assert!(matches!(counted(&counter, waits.as_mut()), Poll::Ready(Err(_))));
    drop(waits);
    assert_eq!(Arc::strong_count(&counter), 1);
    let (sender, mut receiver) = watch::channel(0);
    let mut waits = Box::pin(receiver.wait_for(|n| *n == 1));
    assert!(poll(waits.as_mut()).is_pending());
    sender.send(1).unwrap();
    drop(sender);
    assert!(matches!(poll(waits.as_mut()), Poll::Ready(Ok(_))), "the last value counts");
}

#[test]
fn a_watch_may_be_used_while_it_is_modified_and_survives_a_panic_there() {
    let (sender, mut receiver) = watch::channel(vec![1]);
    let snapshot = receiver.borrow();
    sender.send_modify(|list| {
        assert_eq!(*sender.borrow(), [1]);
        list.push(receiver.borrow_and_update()[0] + 1);
    });
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| sender.send_modify(|list| list.truncate(list[9]))));
    assert!(panicked.is_err());
    assert_eq!((&*snapshot, &*receiver.borrow()), (&vec![1], &vec![1, 2]));
}

#[test]
fn a_watch_tells_of_a_change_if_the_closure_says_there_was_one_and_only_then() {
    let (sender, mut receiver) = watch::channel(1);
    let counter = Arc::default();
    let mut changed = Box::pin(receiver.changed());
    assert!(counted(&counter, changed.as_mut()).is_pending());
    let denies = |n: &mut i32| {
        *n = 9;
        false
    };
    assert!(!sender.send_if_modified(denies));
    assert_eq!((*sender.borrow(), counter.wakes()), (1, 0), "what it did to its clone is gone");
    let adds = |n: &mut i32| {
        *n += 1;
        true
    };
    assert!(sender.send_if_modified(adds));
    assert_eq!((*sender.borrow(), counter.wakes()), (2, 1));
    assert!(matches!(counted(&counter, changed.as_mut()), Poll::Ready(Ok(()))));
    drop(changed);
    assert_eq!(*receiver.borrow(), 2);

    // What the closure itself sends stays if it denies, and is overwritten if not.
    assert!(!sender.send_if_modified(|_| *sender.send_replace(4) == 0));
    assert_eq!((*sender.borrow(), receiver.has_changed()), (4, true));
    assert!(sender.send_if_modified(|n| *sender.send_replace(50) == 4 && adds(n)));
    assert_eq!(*sender.borrow(), 5);

    let panics = |_: &mut i32| -> bool { std::panic::resume_unwind(Box::new("on purpose")) };
    assert!(std::panic::catch_unwind(AssertUnwindSafe(|| sender.send_if_modified(panics))).is_err());
    drop(receiver);
    assert!(sender.send_if_modified(adds), "also without receivers");
    assert_eq!(*sender.borrow(), 6);
}

#[test]
fn a_watch_sender_hears_that_the_last_receiver_went() {
    let (sender, receiver) = watch::channel(0);
    let second = receiver.clone();
    let counter = Arc::default();
    let mut closed = Box::pin(sender.closed());
    assert!(counted(&counter, closed.as_mut()).is_pending());
    drop(receiver);
    assert_eq!(counter.wakes(), 0);
    drop(second);
    assert_eq!(counter.wakes(), 1);
    assert!(counted(&counter, closed.as_mut()).is_ready());
}

// notify

#[test]
fn notifications_of_one_and_of_all_keep_the_order() {
    let notify = Notify::new();
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(notify.notified())).collect();
    for notified in &mut waiting {
        assert!(poll(notified.as_mut()).is_pending());
    }
    notify.notify_one();
    notify.notify_waiters();
    let mut late: Vec<_> = (0..3).map(|_| Box::pin(notify.notified())).collect();
    for notified in &mut late {
        assert!(poll(notified.as_mut()).is_pending());
    }
    for notified in &mut waiting {
        assert!(poll(notified.as_mut()).is_ready());
    }
    for first in 0..3 {
        notify.notify_one();
        let ready: Vec<_> = late.iter_mut().skip(first).map(|notified| poll(notified.as_mut()).is_ready()).collect();
        assert_eq!(ready, [true, false, false][..3 - first]);
    }
}

#[test]
fn a_dropped_notification_goes_to_the_next_and_then_is_kept() {
    let notify = Notify::new();
    let counter = Arc::default();
    let mut first = Box::pin(notify.notified());
    let mut second = Box::pin(notify.notified());
    assert!(poll(first.as_mut()).is_pending());
    assert!(counted(&counter, second.as_mut()).is_pending());
    notify.notify_one();
    drop(first);
    assert_eq!(counter.wakes(), 1);
    drop(second);
    assert!(notify.notified().now_or_never().is_some());
    assert!(notify.notified().now_or_never().is_none(), "it is kept once");
    let mut third = Box::pin(notify.notified());
    assert!(poll(third.as_mut()).is_pending());
    notify.notify_waiters();
    drop(third);
    assert!(notify.notified().now_or_never().is_none(), "notify_waiters is not kept");
}

/// How a notification gets to an enabled future.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Notice {
    Kept,
    HandedOver,
    ToAll,
}

#[test]
fn what_is_enabled_and_never_awaited_goes_to_the_next_or_is_kept() {
    for notice in [Notice::Kept, Notice::HandedOver, Notice::ToAll] {
        for (others, awaited) in [(0, false), (0, true), (2, false), (2, true)] {
            let case = format!("{notice:?}, {others} others, awaited: {awaited}");
            let notify = Notify::new();
            if notice == Notice::Kept {
                notify.notify_one();
            }
            let mut enabled = notify.notified();
            assert_eq!(enabled.enable(), notice == Notice::Kept, "{case}");
            match notice {
                Notice::Kept => {}
                Notice::HandedOver => notify.notify_one(),
                Notice::ToAll => notify.notify_waiters(),
            }
            let mut waiting: Vec<_> = (0..others).map(|_| Box::pin(notify.notified())).collect();
            let counters: Vec<Arc<Counter>> = waiting.iter().map(|_| Arc::default()).collect();
            for (waiting, counter) in waiting.iter_mut().zip(&counters) {
                assert!(counted(counter, waiting.as_mut()).is_pending(), "{case}");
            }
            assert!(enabled.enable() && enabled.enable(), "{case}");
            if awaited {
                assert!(poll(pin!(enabled)).is_ready(), "{case}");
            } else {
                drop(enabled);
            }
            let passed_on = !awaited && notice != Notice::ToAll;
            let wakes: Vec<_> = counters.iter().map(|counter| counter.wakes()).collect();
            assert_eq!(wakes, [usize::from(passed_on), 0][..others], "{case}");
            assert_eq!(notify.notified().now_or_never().is_some(), passed_on && others == 0, "{case}");
        }
    }
}

#[test]
fn notify_waiters_reaches_who_was_not_polled_yet_and_notify_one_who_is_enabled() {
    let notify = Notify::new();
    let early = notify.notified();
    notify.notify_waiters();
    assert!(early.now_or_never().is_some());
    assert!(notify.notified().now_or_never().is_none());
    let mut enabled = notify.notified();
    assert!(!enabled.enable());
    let mut later = pin!(notify.notified());
    assert!(poll(later.as_mut()).is_pending());
    notify.notify_one();
    assert!(enabled.enable());
    assert!(enabled.now_or_never().is_some());
    assert!(poll(later).is_pending());
}

// semaphore

#[test]
fn who_wants_many_permits_is_not_overtaken() {
    let semaphore = Semaphore::new(3);
    let one = semaphore.try_acquire().unwrap();
    let mut many = Box::pin(semaphore.acquire_many(3));
    let mut few = Box::pin(semaphore.acquire());
    assert!(poll(many.as_mut()).is_pending());
    assert!(poll(few.as_mut()).is_pending());
    assert!(semaphore.try_acquire().is_err());
    drop(one);
    let Poll::Ready(Ok(permits)) = poll(many.as_mut()) else { panic!("it is its turn") };
    assert!(poll(few.as_mut()).is_pending());
    drop(permits);
    assert!(poll(few.as_mut()).is_ready());
}

#[test]
fn cancelling_who_wants_many_serves_all_behind_it() {
    let semaphore = Semaphore::new(2);
    let counter = Arc::default();
    let mut many = Box::pin(semaphore.acquire_many(5));
    let mut behind: Vec<_> = (0..3).map(|_| Box::pin(semaphore.acquire())).collect();
    assert!(poll(many.as_mut()).is_pending());
    for acquire in &mut behind {
        assert!(counted(&counter, acquire.as_mut()).is_pending());
    }
    drop(many);
    assert_eq!((counter.wakes(), semaphore.available()), (2, 0));
    drop(behind);
    assert_eq!(semaphore.available(), 2, "what was handed over came back");
}

#[test]
fn a_closed_semaphore_refuses_who_waits_but_takes_permits_back() {
    let semaphore = Rc::new(Semaphore::new(1));
    let permit = block_on(semaphore.acquire_owned()).unwrap();
    let mut waiting = Box::pin(semaphore.acquire());
    assert!(poll(waiting.as_mut()).is_pending());
    semaphore.close();
    assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Err(_))));
    drop(permit);
    assert_eq!(semaphore.available(), 1);
    assert!(semaphore.try_acquire().is_err());
}

#[test]
fn a_waker_may_use_the_semaphore_that_wakes_it() {
    thread_local!(static SEMAPHORE: Semaphore = const { Semaphore::new(1) });
    struct Acquires;
    impl Wake for Acquires {
        fn wake(self: Arc<Self>) {
            SEMAPHORE.with(|semaphore| drop(semaphore.try_acquire()));
            SEMAPHORE.with(|semaphore| semaphore.add_permits(1));
        }
    }
    SEMAPHORE.with(|semaphore| {
        let permit = semaphore.try_acquire().unwrap();
        let mut waiting = Box::pin(semaphore.acquire());
        let waker = Waker::from(Arc::new(Acquires));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(permit);
        drop(waiting);
        assert_eq!(semaphore.available(), 2);
    });
}

// mutex

#[test]
fn a_mutex_is_held_across_awaits_and_passed_on_in_order() {
    let order = paused()
        .block_on(async {
            let mutex = Rc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..5)
                .map(|n| {
                    let mutex = Rc::clone(&mutex);
                    spawn(async move {
                        if n % 2 == 0 {
                            let mut list = mutex.lock().await;
                            yield_now().await;
                            list.push(n);
                        } else {
                            let mut list = mutex.lock_owned().await;
                            yield_now().await;
                            list.push(n);
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            Rc::try_unwrap(mutex).unwrap().into_inner()
        })
        .unwrap();
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

#[test]
fn a_cancelled_lock_passes_its_turn_on_and_a_panic_does_not_poison() {
    let mutex = Mutex::new(0);
    let guard = mutex.try_lock().unwrap();
    let counter = Arc::default();
    let mut first = Box::pin(mutex.lock());
    let mut second = Box::pin(mutex.lock());
    assert!(poll(first.as_mut()).is_pending());
    assert!(counted(&counter, second.as_mut()).is_pending());
    drop(guard);
    drop(first);
    assert_eq!(counter.wakes(), 1);
    assert!(mutex.try_lock().is_none(), "it is promised");
    drop(second);
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut guard = mutex.try_lock().unwrap();
        *guard = 5;
        panic!("while it is held");
    }));
    assert!(panicked.is_err());
    assert_eq!(*mutex.try_lock().unwrap(), 5);
}

#[test]
fn a_cancelled_lock_of_an_owned_mutex_passes_its_turn_on_and_keeps_nothing() {
    let mutex = Rc::new(Mutex::new(0));
    let guard = mutex.try_lock().unwrap();
    let (counter, last): (Arc<Counter>, Arc<Counter>) = (Arc::default(), Arc::default());
    let mut unserved = Box::pin(Rc::clone(&mutex).lock_owned());
    let mut first = Box::pin(Rc::clone(&mutex).lock_owned());
    let mut second = Box::pin(Rc::clone(&mutex).lock_owned());
    assert!(counted(&counter, unserved.as_mut()).is_pending());
    assert!(counted(&counter, first.as_mut()).is_pending());
    assert!(counted(&last, second.as_mut()).is_pending());
    drop(unserved);
    drop(guard);
    assert_eq!((counter.wakes(), last.wakes()), (1, 0), "whoever was cancelled while it waited has no turn");
    drop(first);
    assert_eq!((Arc::strong_count(&counter), last.wakes()), (1, 1));
    assert!(mutex.try_lock().is_none(), "it is promised");
    let Poll::Ready(mut guard) = poll(second.as_mut()) else { panic!("it is the second's turn") };
    *guard = 1;
    drop(second);
    assert!(mutex.try_lock().is_none(), "the guard stands without its future");
    drop(guard);
    assert_eq!((*mutex.try_lock().unwrap(), Rc::strong_count(&mutex)), (1, 1));
}

// once cell

#[test]
fn a_once_cell_goes_to_the_next_when_its_maker_is_dropped_fails_or_panics() {
    let cell = OnceCell::new();
    let mut dropped = Box::pin(cell.get_or_init(pending));
    let mut fails = Box::pin(cell.get_or_try_init(async || Err("no luck")));
    let mut panics = Box::pin(cell.get_or_init(async || panic!("no luck either")));
    let mut makes = Box::pin(cell.get_or_init(async || 7));
    let mut finds = Box::pin(cell.get_or_init(async || 8));
    assert!(poll(dropped.as_mut()).is_pending());
    assert!(poll(fails.as_mut()).is_pending());
    assert!(poll(panics.as_mut()).is_pending());
    let counter = Arc::default();
    assert!(counted(&counter, makes.as_mut()).is_pending());
    assert!(poll(finds.as_mut()).is_pending());
    drop(dropped);
    assert_eq!(poll(fails.as_mut()), Poll::Ready(Err("no luck")));
    assert!(std::panic::catch_unwind(AssertUnwindSafe(|| poll(panics.as_mut()))).is_err());
    assert_eq!(counter.wakes(), 1);
    assert_eq!(counted(&counter, makes.as_mut()), Poll::Ready(&7));
    assert_eq!(poll(finds.as_mut()), Poll::Ready(&7));
}

#[test]
fn a_once_cell_set_while_its_value_is_made_sends_who_waits_to_it() {
    let cell = OnceCell::new();
    let mut making = Box::pin(cell.get_or_init(async || {
        yield_now().await;
        1
    }));
    let mut waiting = Box::pin(cell.get_or_init(async || 2));
    assert!(poll(making.as_mut()).is_pending());
    assert!(poll(waiting.as_mut()).is_pending());
    cell.set(3).unwrap();
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(&3));
    assert_eq!(poll(making.as_mut()), Poll::Ready(&3), "the first one there stays");
}

// all of them elsewhere

#[test]
fn everything_works_under_a_foreign_executor() {
    block_on(async {
        let (sender, mut receiver) = mpsc::channel(2);
        let producer = async move {
            for n in 0..1000 {
                sender.send(n).await.unwrap();
            }
        };
        let consumer = async {
            let mut sum = 0;
            while let Some(n) = receiver.recv().await {
                sum += n;
            }
            sum
        };
        assert_eq!(futures::join!(producer, consumer).1, 499_500);

        let (sender, mut receiver) = watch::channel(0);
        let (answer, question) = oneshot::channel();
        let tells = async move {
            sender.send(4).unwrap();
            question.await.unwrap();
        };
        let hears = async move {
            assert_eq!(*receiver.wait_for(|n| *n == 4).await.unwrap(), 4);
            answer.send(()).unwrap();
        };
        futures::join!(hears, tells);

        let notify = Notify::new();
        let mutex = Mutex::new(0);
        let first = async {
            let mut guard = mutex.lock().await;
            notify.notified().await;
            *guard += 1;
        };
        let second = async {
            notify.notify_one();
            *mutex.lock().await += 1;
        };
        futures::join!(first, second);
        assert_eq!(mutex.into_inner(), 2);
    });
}

#[test]
fn receivers_are_async_iterators() {
    fn is_stream<S: Stream + Unpin>(_: &S) {}
    is_stream(&mpsc::channel::<u8>(1).1);
    is_stream(&broadcast::channel::<u8>(1).1);
    is_stream(&watch::channel(1).1);
}

#[derive(Clone, Debug)]
enum Step {
    TrySend,
    BeginSend,
    PollSend(usize),
    CancelSend(usize),
    Receive,
    CancelReceive,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::TrySend),
        6 => Just(Step::BeginSend),
        6 => (0..8usize).prop_map(Step::PollSend),
        3 => (0..8usize).prop_map(Step::CancelSend),
        6 => Just(Step::Receive),
        2 => Just(Step::CancelReceive),
        1 => Just(Step::Close),
    ];
    proptest::collection::vec(step, 0..80)
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), mpsc::SendError<u32>>> + 'a>>;

proptest! {
    #[test]
    fn a_bounded_channel_does_what_a_queue_does(capacity in 1..4usize, steps in steps()) {
        let (sender, mut receiver) = mpsc::channel(capacity);
        let mut model = VecDeque::new();
        let mut sending: Vec<(u32, Sending<'_>)> = Vec::new();
        let (mut number, mut closed) = (0, false);
        for step in steps {
            number += 1;
            match step {
                Step::TrySend => match sender.try_send(number) {
                    Ok(()) => model.push_back(number),
                    Err(TrySendError::Closed(_)) => prop_assert!(closed),
                    Err(TrySendError::Full(_)) => prop_assert!(model.len() + sending.len() >= capacity),
                },
                Step::BeginSend => {
                    let mut send: Sending<'_> = Box::pin(sender.send(number));
                    match poll(send.as_mut()) {
                        Poll::Ready(Ok(())) => model.push_back(number),
                        Poll::Ready(Err(_)) => prop_assert!(closed),
                        Poll::Pending => sending.push((number, send)),
                    }
                }
                Step::PollSend(at) if at < sending.len() => match poll(sending[at].1.as_mut()) {
                    Poll::Ready(Ok(())) => model.push_back(sending.remove(at).0),
                    Poll::Ready(Err(_)) => {
                        prop_assert!(closed);
                        drop(sending.remove(at));
                    }
                    Poll::Pending => {}
                },
                Step::CancelSend(at) if at < sending.len() => drop(sending.remove(at)),
                Step::Receive => match receiver.try_recv() {
                    Ok(item) => prop_assert_eq!(Some(item), model.pop_front()),
                    Err(_) => prop_assert!(model.is_empty()),
                },
                Step::CancelReceive => {
                    let mut recv = Box::pin(receiver.recv());
                    match poll(recv.as_mut()) {
                        Poll::Ready(item) => prop_assert_eq!(item, model.pop_front()),
                        Poll::Pending => prop_assert!(model.is_empty()),
                    }
                }
                Step::Close => {
                    receiver.close();
                    closed = true;
                }
                Step::PollSend(_) | Step::CancelSend(_) => {}
            }
            prop_assert_eq!(sender.len(), model.len());
            prop_assert!(sender.len() + sender.capacity() <= capacity);
        }
        drop(sending);
        prop_assert_eq!(sender.len() + sender.capacity(), capacity, "no room is lost");
        drop(sender);
        let rest: Vec<_> = block_on(receiver.collect());
        prop_assert_eq!(rest, Vec::from(model));
    }

    #[test]
    fn a_semaphore_conserves_its_permits(
        total in 0..6usize,
        steps in proptest::collection::vec((0..4u8, 0..8usize, 0..4usize), 0..80),
    ) {
        let semaphore = Semaphore::new(total);
        let mut held = Vec::new();
        let mut waiting = Vec::new();
        for (step, at, count) in steps {
            match step {
                0 => {
                    let mut acquire = Box::pin(semaphore.acquire_many(count));
                    match poll(acquire.as_mut()) {
                        Poll::Ready(permit) => held.push(permit.unwrap()),
                        Poll::Pending => waiting.push(acquire),
                    }
                }
                1 if at < held.len() => drop(held.remove(at)),
                2 if at < waiting.len() => drop(waiting.remove(at)),
                3 if at < waiting.len() => {
                    if let Poll::Ready(permit) = poll(waiting[at].as_mut()) {
                        held.push(permit.unwrap());
                        drop(waiting.remove(at));
                    }
                }
                _ => {}
            }
            let out: usize = held.iter().map(postlude::sync::Permit::count).sum();
            prop_assert!(out + semaphore.available() <= total);
        }
        // Whoever comes first and can be served has been.
        while !waiting.is_empty() {
            match poll(waiting[0].as_mut()) {
                Poll::Ready(permit) => {
                    drop(permit);
                    drop(waiting.remove(0));
                }
                Poll::Pending if held.is_empty() => drop(waiting.remove(0)),
                Poll::Pending => drop(held.pop()),
            }
        }
        drop(held);
        prop_assert_eq!(semaphore.available(), total);
    }
}
