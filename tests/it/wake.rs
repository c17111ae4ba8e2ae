//! Wakes: none is lost, none counts twice, and what is over keeps no waker.

#![allow(clippy::async_yields_async, reason = "a handle is made on the loop and looked at outside")]

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::Write;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use postlude::net::{TcpListener, TcpStream};
use postlude::task::yield_now;
use postlude::time::{sleep, timeout};
use postlude::{JoinHandle, Runtime, defer, spawn};

const GENEROUS: Duration = Duration::from_secs(10);

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

/// Counts its wakes; the `Arc`'s count says whether somebody keeps it.
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

fn poll_with<F: Future>(counter: &Arc<Counter>, future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(counter))))
}

/// Leaves the waker of the task that polls it, and counts the polls. It is never ready.
#[derive(Clone, Default)]
struct Parked {
    waker: Rc<RefCell<Option<Waker>>>,
    polls: Rc<Cell<usize>>,
}

impl Parked {
    fn waker(&self) -> Waker {
        self.waker.borrow().clone().expect("it was polled")
    }
}

impl Future for Parked {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.set(self.polls.get() + 1);
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[test]
fn a_main_future_that_wakes_itself_is_polled_again_without_asking_the_system() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(yield_now()).unwrap();
    assert_eq!((runtime.stats().polls, runtime.stats().parks), (2, 0));
}

#[test]
fn a_task_that_wakes_itself_ten_thousand_times_is_polled_once_more_than_that() {
    let runtime = paused();
    let polls = runtime.block_on(async {
        let mut polls = 0;
        let task = spawn(poll_fn(move |cx| {
            polls += 1;
            if polls > 10_000 {
                return Poll::Ready(polls);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        task.await.unwrap()
    });
    assert_eq!(polls.unwrap(), 10_001);
}

#[test]
fn waking_oneself_many_times_in_a_poll_gives_one_poll() {
    let mut runtime = paused();
    drop(runtime.spawn(poll_fn(|cx| {
        for _ in 0..10 {
            cx.waker().wake_by_ref();
            let clone = cx.waker().clone();
            clone.wake();
        }
        Poll::<()>::Pending
    })));
    for _ in 0..3 {
        assert_eq!(runtime.turn(Some(Duration::ZERO)).unwrap().polls, 1);
    }
}

#[test]
fn a_task_woken_many_times_before_its_poll_is_polled_once() {
    paused()
        .block_on(async {
            let parked = Parked::default();
            drop(spawn(parked.clone()));
            yield_now().await;
            let waker = parked.waker();
            for _ in 0..100 {
                waker.wake_by_ref();
            }
            waker.wake();
            yield_now().await;
            yield_now().await;
            assert_eq!(parked.polls.get(), 2);
        })
        .unwrap();
}

#[test]
fn yield_now_finishes_under_a_foreign_executor() {
    futures::executor::block_on(async {
        for _ in 0..100 {
            yield_now().await;
        }
    });
}

#[test]
fn join_and_yield_work_under_an_executor_inside_a_task() {
    let sum = paused().block_on(async {
        let tasks: futures::stream::FuturesUnordered<JoinHandle<u64>> = (1..=100)
            .map(|n| {
                spawn(async move {
                    yield_now().await;
                    n
                })
            })
            .collect();
        futures::StreamExt::fold(tasks, 0, |sum, n| async move { sum + n.unwrap() }).await
    });
    assert_eq!(sum.unwrap(), 5050);
}

// The queue is never empty, and the driver is asked all the same.
#[test]
fn a_sleep_ends_though_the_queue_is_never_empty() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let greedy = spawn(async {
                loop {
                    yield_now().await;
                }
            });
            let before = Instant::now();
            sleep(Duration::from_millis(10)).await;
            assert!((Duration::from_millis(10)..Duration::from_secs(5)).contains(&before.elapsed()));
            greedy.abort();
        })
        .unwrap();
}

#[test]
fn a_wake_from_the_loops_own_thread_makes_no_system_call() {
    let runtime = paused();
    runtime
        .block_on(async {
            let parked = Parked::default();
            let joined = spawn(parked.clone());
            for _ in 0..1000 {
                yield_now().await;
                parked.waker().wake();
            }
            joined.abort();
            assert!(joined.await.unwrap_err().is_cancelled());
            sleep(Duration::from_secs(1)).await;
        })
        .unwrap();
    let stats = runtime.stats();
    assert_eq!((stats.wake_calls, stats.messages), (0, 0));
}

#[test]
fn a_thousand_wakes_from_another_thread_make_no_system_call_while_the_loop_is_busy() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let parked = Parked::default();
            drop(spawn(parked.clone()));
            yield_now().await;
            let waker = parked.waker();
            std::thread::spawn(move || (0..1000).for_each(|_| waker.wake_by_ref())).join().unwrap();
            while parked.polls.get() < 2 {
                yield_now().await;
            }
        })
        .unwrap();
    assert_eq!(runtime.stats().wake_calls, 0);
}

#[test]
fn a_hundred_thousand_wakes_of_a_sleeping_loop_make_one_system_call_and_are_not_lost() {
    let mut runtime = Runtime::new().unwrap();
    let parked = Parked::default();
    drop(runtime.spawn(parked.clone()));
    while runtime.turn(Some(Duration::ZERO)).unwrap().more {}
    let (calls, polls) = (runtime.stats().wake_calls, parked.polls.get());
    let waker = parked.waker();
    std::thread::spawn(move || (0..100_000).for_each(|_| waker.wake_by_ref())).join().unwrap();
    assert_eq!(runtime.stats().wake_calls - calls, 1);
    let before = Instant::now();
    runtime.turn(Some(GENEROUS)).unwrap();
    runtime.turn(Some(Duration::ZERO)).unwrap();
    assert!(before.elapsed() < GENEROUS, "the loop was woken");
    assert!(parked.polls.get() > polls);
    // The second time works as the first: the call was taken note of.
    while runtime.turn(Some(Duration::ZERO)).unwrap().more {}
    let (calls, polls) = (runtime.stats().wake_calls, parked.polls.get());
    let waker = parked.waker();
    std::thread::spawn(move || waker.wake()).join().unwrap();
    assert_eq!(runtime.stats().wake_calls - calls, 1);
    let before = Instant::now();
    runtime.turn(Some(GENEROUS)).unwrap();
    runtime.turn(Some(Duration::ZERO)).unwrap();
    assert!(before.elapsed() < GENEROUS);
    assert_eq!(parked.polls.get(), polls + 1);
}

#[test]
fn a_waker_of_a_finished_task_does_not_wake_the_one_that_has_its_place_now() {
    let runtime = paused();
    runtime
        .block_on(async {
            let old = Parked::default();
            let first = spawn(old.clone());
            yield_now().await;
            first.abort();
            assert!(first.await.unwrap_err().is_cancelled());
            let new = Parked::default();
            drop(spawn(new.clone()));
            yield_now().await;
            let wakes = runtime.stats().wakes;
            old.waker().wake();
            assert_eq!(runtime.stats().wakes, wakes);
            yield_now().await;
            yield_now().await;
            assert_eq!(new.polls.get(), 1);
        })
        .unwrap();
}

#[test]
fn a_waker_left_by_one_main_future_does_not_wake_the_next() {
    let runtime = paused();
    let left = Parked::default();
    runtime
        .block_on(async {
            let mut parked = pin!(left.clone());
            poll_fn(|cx| Poll::Ready(parked.as_mut().poll(cx).is_pending())).await;
        })
        .unwrap();
    let mut polls = 0;
    runtime
        .block_on(poll_fn(|cx| {
            polls += 1;
            if polls == 1 {
                left.waker().wake();
                let waker = cx.waker().clone();
                drop(spawn(async move {
                    yield_now().await;
                    yield_now().await;
                    waker.wake();
                }));
                return Poll::Pending;
            }
            Poll::Ready(())
        }))
        .unwrap();
    assert_eq!(polls, 2);
    assert_eq!(runtime.stats().polls, 1 + 2 + 3);
}

#[test]
fn a_waker_is_inert_once_its_runtime_has_ended() {
    let runtime = paused();
    let parked = Parked::default();
    drop(runtime.spawn(parked.clone()));
    runtime.block_on(yield_now()).unwrap();
    let waker = parked.waker();
    drop(runtime);
    waker.wake_by_ref();
    // Beside another runtime, too, and inside it.
    let other = paused();
    waker.wake_by_ref();
    other.block_on(async { waker.wake_by_ref() }).unwrap();
    assert_eq!((other.stats().wakes, other.stats().messages), (0, 0));
    drop(waker);
    assert_eq!(parked.polls.get(), 1);
}

#[test]
fn a_waker_wakes_its_own_runtime_from_inside_another() {
    let mut home = paused();
    let parked = Parked::default();
    drop(home.spawn(parked.clone()));
    while home.turn(Some(Duration::ZERO)).unwrap().more {}
    let bystander = Parked::default();
    let other = paused();
    other
        .block_on(async {
            // In the same slot of the other runtime's table as the one that is woken, or beside it.
            drop(spawn(bystander.clone()));
            drop(spawn(bystander.clone()));
            yield_now().await;
            parked.waker().wake();
            yield_now().await;
            yield_now().await;
        })
        .unwrap();
    assert_eq!(bystander.polls.get(), 2);
    home.turn(Some(Duration::ZERO)).unwrap();
    home.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(parked.polls.get(), 2);
}

#[test]
fn will_wake_tells_tasks_apart_exactly() {
    paused()
        .block_on(async {
            let (one, two) = (Parked::default(), Parked::default());
            let first = spawn(one.clone());
            drop(spawn(two.clone()));
            yield_now().await;
            let before = one.waker();
            assert!(before.will_wake(&before.clone()));
            assert!(!before.will_wake(&two.waker()));
            before.wake_by_ref();
            yield_now().await;
            assert!(before.will_wake(&one.waker()), "every poll has the same waker");
            first.abort();
            assert!(first.await.is_err());
            let three = Parked::default();
            drop(spawn(three.clone()));
            yield_now().await;
            assert!(!before.will_wake(&three.waker()), "not even the next task in the same place");
        })
        .unwrap();
}

#[test]
fn a_sleep_that_moves_to_another_task_wakes_that_one() {
    paused()
        .block_on(async {
            let mut moving = Box::pin(sleep(Duration::from_secs(1)));
            let first = spawn(async move {
                let pending = poll_fn(|cx| Poll::Ready(moving.as_mut().poll(cx).is_pending())).await;
                assert!(pending);
                moving
            });
            let moving = first.await.unwrap();
            spawn(moving).await.unwrap();
        })
        .unwrap();
}

#[test]
fn a_join_handle_that_moves_to_another_task_wakes_that_one() {
    paused()
        .block_on(async {
            let mut joined = spawn(async {
                sleep(Duration::from_secs(1)).await;
                7
            });
            let first = spawn(async move {
                let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut joined).poll(cx).is_pending())).await;
                assert!(pending);
                joined
            });
            let joined = first.await.unwrap();
            assert_eq!(spawn(joined).await.unwrap().unwrap(), 7);
        })
        .unwrap();
}

#[test]
fn only_the_last_waker_of_a_sleep_is_woken() {
    paused()
        .block_on(async {
            let (first, last) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
            let mut waiting = pin!(sleep(Duration::from_secs(1)));
            assert!(poll_with(&first, waiting.as_mut()).is_pending());
            assert!(poll_with(&last, waiting.as_mut()).is_pending());
            assert_eq!(Arc::strong_count(&first), 1, "the first one is not kept");
            sleep(Duration::from_secs(2)).await;
            assert_eq!((first.wakes(), last.wakes()), (0, 1));
        })
        .unwrap();
}

#[test]
fn what_is_ready_keeps_no_waker_and_wakes_no_more() {
    paused()
        .block_on(async {
            let counter = Arc::new(Counter::default());

            let mut waiting = pin!(sleep(Duration::from_secs(1)));
            assert!(poll_with(&counter, waiting.as_mut()).is_pending());
            sleep(Duration::from_secs(2)).await;
            assert!(poll_with(&counter, waiting.as_mut()).is_ready());
            assert_eq!((counter.wakes(), Arc::strong_count(&counter)), (1, 1), "sleep");

            let mut joined = pin!(spawn(sleep(Duration::from_secs(1))));
            assert!(poll_with(&counter, joined.as_mut()).is_pending());
            sleep(Duration::from_secs(2)).await;
            assert!(poll_with(&counter, joined.as_mut()).is_ready());
            sleep(Duration::from_secs(2)).await;
            assert_eq!((counter.wakes(), Arc::strong_count(&counter)), (2, 1), "join");

            let mut limited = pin!(timeout(Duration::from_secs(9), sleep(Duration::from_secs(1))));
            assert!(poll_with(&counter, limited.as_mut()).is_pending());
            sleep(Duration::from_secs(2)).await;
            assert!(poll_with(&counter, limited.as_mut()).is_ready());
            limited.set(timeout(Duration::ZERO, sleep(Duration::ZERO)));
            sleep(Duration::from_secs(20)).await;
            assert_eq!((counter.wakes(), Arc::strong_count(&counter)), (3, 1), "timeout");
        })
        .unwrap();
}

#[test]
fn what_is_dropped_keeps_no_waker_and_wakes_no_more() {
    let runtime = paused();
    runtime
        .block_on(async {
            let counter = Arc::new(Counter::default());
            let mut waiting = Box::pin(sleep(Duration::from_secs(1)));
            assert!(poll_with(&counter, waiting.as_mut()).is_pending());
            drop(waiting);
            let mut joined = Box::pin(spawn(sleep(Duration::from_secs(1))));
            assert!(poll_with(&counter, joined.as_mut()).is_pending());
            drop(joined);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut accepting = Box::pin(listener.accept());
            assert!(poll_with(&counter, accepting.as_mut()).is_pending());
            assert_eq!(Arc::strong_count(&counter), 2);
            drop(accepting);
            assert_eq!(Arc::strong_count(&counter), 1);
            let mut accepting = Box::pin(poll_fn(|cx| listener.poll_accept(cx)));
            assert!(poll_with(&counter, accepting.as_mut()).is_pending());
            drop(accepting);
            drop(listener);
            sleep(Duration::from_secs(2)).await;
            assert_eq!((counter.wakes(), Arc::strong_count(&counter)), (0, 1));
            assert_eq!((runtime.stats().timers_set, runtime.stats().sources), (0, 0));
        })
        .unwrap();
}

#[test]
fn two_tasks_that_held_each_others_handles_are_both_freed() {
    let runtime = paused();
    let token = Rc::new(());
    runtime
        .block_on(async {
            let place = Rc::new(RefCell::new(None::<JoinHandle<()>>));
            let (there, held) = (place.clone(), token.clone());
            let first = spawn(async move {
                let _held = held;
                yield_now().await;
                let second = there.borrow_mut().take().expect("was put there");
                let mut second = pin!(second);
                let pending = poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
                assert!(pending);
            });
            let held = token.clone();
            let second = spawn(async move {
                let _held = held;
                first.await.unwrap();
            });
            *place.borrow_mut() = Some(second);
            while Rc::strong_count(&token) > 1 {
                sleep(Duration::from_secs(1)).await;
            }
        })
        .unwrap();
    assert_eq!((Rc::strong_count(&token), runtime.stats().tasks), (1, 0));
}

#[test]
fn two_tasks_that_wait_for_each_other_for_ever_end_with_their_runtime() {
    let token = Rc::new(());
    let runtime = paused();
    runtime
        .block_on(async {
            let place = Rc::new(RefCell::new(None::<JoinHandle<()>>));
            let (there, held) = (place.clone(), token.clone());
            let first = spawn(async move {
                let _held = held;
                let second = there.borrow_mut().take().expect("was put there");
                second.await.unwrap();
            });
            let held = token.clone();
            let second = spawn(async move {
                let _held = held;
                first.await.unwrap();
            });
            *place.borrow_mut() = Some(second);
            sleep(Duration::from_secs(1)).await;
        })
        .unwrap();
    assert_eq!(Rc::strong_count(&token), 3);
    drop(runtime);
    assert_eq!(Rc::strong_count(&token), 1);
}

#[test]
fn eight_tasks_that_wait_for_one_socket_are_all_woken_by_one_event() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let stream = Rc::new(listener.accept().await.unwrap().0);
            let waiting: Vec<_> = (0..8)
                .map(|_| {
                    let stream: Rc<TcpStream> = stream.clone();
                    spawn(async move { stream.readable().await })
                })
                .collect();
            yield_now().await;
            yield_now().await;
            peer.write_all(b"x").unwrap();
            for task in waiting {
                timeout(GENEROUS, task).await.expect("woken").unwrap().unwrap();
            }
        })
        .unwrap();
}

#[test]
fn a_main_future_that_is_ready_is_polled_once_and_asks_the_system_nothing() {
    let runtime = Runtime::new().unwrap();
    assert_eq!(runtime.block_on(std::future::ready(5)).unwrap(), 5);
    assert_eq!((runtime.stats().polls, runtime.stats().parks, runtime.stats().turns), (1, 0, 1));
}

#[test]
fn a_task_nobody_wakes_is_polled_once() {
    let runtime = paused();
    let parked = Parked::default();
    runtime
        .block_on(async {
            drop(spawn(parked.clone()));
            drop(defer(parked.clone()));
            drop(spawn(pending::<()>()));
            sleep(Duration::from_secs(60)).await;
        })
        .unwrap();
    assert_eq!(parked.polls.get(), 2);
    assert_eq!(runtime.stats().polls, 2 + 3);
}
