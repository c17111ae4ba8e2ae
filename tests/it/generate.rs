//! Generators and coroutines: items in order, nothing lost, destructors run, panics arrive.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use postlude::iter::{self, Boxed, Out, Resumed};
use postlude::net::{TcpListener, TcpStream};
use postlude::sync::mpsc;
use postlude::task::scope;
use postlude::{Runtime, spawn, time};

fn on_paused_clock<T>(body: impl AsyncFnOnce() -> T) -> T {
    Runtime::builder().paused_clock().build().unwrap().block_on(body()).unwrap()
}

/// Counts that it was dropped.
struct Guard(Rc<Cell<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn items_come_in_order_and_the_end_stays_the_end() {
    on_paused_clock(async || {
        let mut numbers = pin!(iter::generate(async |out| {
            for n in 0..3 {
                out.emit(n).await;
            }
        }));
        for n in 0..3 {
            assert!(!numbers.is_terminated());
            assert_eq!(numbers.next().await, Some(n));
        }
        assert_eq!(numbers.next().await, None);
        assert!(numbers.is_terminated());
        assert_eq!(numbers.next().await, None);
    });
}

#[test]
fn a_generator_runs_no_further_than_it_is_asked() {
    on_paused_clock(async || {
        let steps = Cell::new(0);
        let mut numbers = pin!(iter::generate(async |out| {
            for n in 1.. {
                steps.set(n);
                out.emit(n).await;
            }
        }));
        assert_eq!(steps.get(), 0);
        assert_eq!(numbers.next().await, Some(1));
        assert_eq!(steps.get(), 1);
        assert_eq!(numbers.next().await, Some(2));
        assert_eq!(steps.get(), 2);
    });
}

#[test]
fn an_item_costs_one_poll_of_the_consumer() {
    on_paused_clock(async || {
        let mut numbers = pin!(iter::generate(async |out| {
            for n in 0..100 {
                out.emit(n).await;
            }
        }));
        let mut polls = 0;
        let mut sum = 0;
        poll_fn(|cx| {
            polls += 1;
            while let Poll::Ready(Some(n)) = numbers.poll_next_unpin(cx) {
                sum += n;
            }
            Poll::Ready(())
        })
        .await;
        assert_eq!((polls, sum), (1, 4950));
    });
}

#[test]
fn a_generator_may_await_timers_and_its_next_may_be_dropped_meanwhile() {
    on_paused_clock(async || {
        let second = Duration::from_secs(1);
        let mut ticks = pin!(iter::generate(async |out| {
            for n in 0..3 {
                time::sleep(10 * second).await;
                out.emit(n).await;
            }
        }));
        let mut got = Vec::new();
        let start = time::now();
        // Each `next` is given up four times before it gets its item.
        while got.len() < 3 {
            if let Ok(Some(n)) = time::timeout(2 * second, ticks.next()).await {
                got.push((n, (time::now() - start).as_secs()));
            }
        }
        assert_eq!(got, [(0, 10), (1, 20), (2, 30)]);
    });
}

#[test]
fn a_generator_may_await_sockets() {
    postlude::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            for byte in b"hello" {
                stream.write_all(&[*byte]).await.unwrap();
            }
        });
        let bytes = iter::try_generate(async move |out| {
            let (stream, _) = listener.accept().await?;
            let mut byte = [0];
            while stream.read(&mut byte).await? == 1 {
                out.emit(byte[0]).await;
            }
            Ok::<_, std::io::Error>(())
        });
        let bytes: Vec<u8> = bytes.map(Result::unwrap).collect().await;
        assert_eq!(bytes, b"hello");
        client.await.unwrap();
    })
    .unwrap();
}

#[test]
fn generators_nest_and_recurse() {
    enum Tree {
        Leaf(u32),
        Node(Vec<Self>),
    }
    fn leaves(tree: &Tree) -> Boxed<'_, u32> {
        iter::generate(async move |out| match tree {
            Tree::Leaf(n) => out.emit(*n).await,
            Tree::Node(children) => {
                for child in children {
                    let mut below = leaves(child);
                    while let Some(n) = below.next().await {
                        out.emit(n).await;
                    }
                }
            }
        })
        .boxed()
    }
    let tree = Tree::Node(vec![
        Tree::Leaf(1),
        Tree::Node(vec![Tree::Leaf(2), Tree::Node(vec![]), Tree::Leaf(3)]),
        Tree::Leaf(4),
    ]);
    on_paused_clock(async || assert_eq!(leaves(&tree).collect::<Vec<_>>().await, [1, 2, 3, 4]));
}

#[test]
fn dropping_a_generator_runs_the_destructors_of_its_body_and_nothing_else() {
    let dropped = Rc::new(Cell::new(0));
    let after = Rc::new(Cell::new(false));
    on_paused_clock(async || {
        let (guard, after) = (Guard(Rc::clone(&dropped)), Rc::clone(&after));
        let mut numbers = Box::pin(iter::generate(async move |out| {
            let _inner = Guard(Rc::clone(&guard.0));
            out.emit(1).await;
            after.set(true);
        }));
        assert_eq!(numbers.next().await, Some(1));
        assert_eq!(dropped.get(), 0);
        drop(numbers);
        assert_eq!(dropped.get(), 2);
    });
    assert!(!after.get());
}

#[test]
fn the_body_is_gone_when_the_end_is_seen() {
    let dropped = Rc::new(Cell::new(0));
    on_paused_clock(async || {
        let guard = Guard(Rc::clone(&dropped));
        let mut empty = pin!(iter::generate(async move |_: &mut Out<u8>| drop(guard)));
        assert_eq!(empty.next().await, None);
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn a_panic_arrives_at_the_consumer_once_and_ends_the_generator() {
    let dropped = Rc::new(Cell::new(0));
    on_paused_clock(async || {
        let guard = Guard(Rc::clone(&dropped));
        let mut broken = Box::pin(iter::generate(async move |out| {
            let _guard = guard;
            out.emit(1).await;
            panic!("in the body");
        }));
        assert_eq!(broken.next().await, Some(1));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(catch_unwind(AssertUnwindSafe(|| broken.poll_next_unpin(&mut cx))).is_err());
        assert_eq!(dropped.get(), 1);
        assert_eq!(broken.next().await, None);
    });
}

#[test]
fn an_item_whose_emit_was_polled_is_delivered_though_the_emit_is_dropped() {
    on_paused_clock(async || {
        let numbers = iter::generate(async |out| {
            // The second branch is ready at once, so the emit is dropped after its first poll.
            futures::future::select(out.emit(1), std::future::ready(())).await;
            // Here the emit is never polled.
            futures::future::select(std::future::ready(()), out.emit(2)).await;
            out.emit(3).await;
            futures::future::select(out.emit(4), std::future::ready(())).await;
        });
        assert_eq!(numbers.collect::<Vec<_>>().await, [1, 3, 4]);
    });
}

#[test]
fn of_two_emits_dropped_in_one_poll_the_first_is_delivered() {
    on_paused_clock(async || {
        let numbers = iter::generate(async |out| {
            futures::future::select(out.emit(1), std::future::ready(())).await;
            futures::future::select(out.emit(2), std::future::ready(())).await;
            out.emit(3).await;
        });
        assert_eq!(numbers.collect::<Vec<_>>().await, [1, 3]);
    });
}

#[test]
fn an_item_on_its_way_when_the_body_panics_is_not_delivered() {
    let dropped = Rc::new(Cell::new(0));
    on_paused_clock(async || {
        let guard = Guard(Rc::clone(&dropped));
        let mut broken = Box::pin(iter::generate(async move |out| {
            futures::future::select(out.emit(guard), std::future::ready(())).await;
            panic!("in the body");
        }));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(catch_unwind(AssertUnwindSafe(|| broken.poll_next_unpin(&mut cx))).is_err());
        assert!(broken.is_terminated());
        assert!(broken.next().await.is_none());
    });
    assert_eq!(dropped.get(), 1);
}

#[test]
fn an_error_comes_last_and_after_the_items_before_it() {
    on_paused_clock(async || {
        let mut numbers = pin!(iter::try_generate(async |out| {
            out.emit(1).await;
            futures::future::select(out.emit(2), std::future::ready(())).await;
            Err("no more")
        }));
        for item in [Ok(1), Ok(2), Err("no more")] {
            assert!(!numbers.is_terminated());
            assert_eq!(numbers.next().await, Some(item));
        }
        assert!(numbers.is_terminated());
        assert_eq!(numbers.next().await, None);
    });
}

#[test]
fn a_generators_body_may_be_a_scope_and_emit_what_its_children_find() {
    on_paused_clock(async || {
        let found = iter::generate(async |out| {
            let emitted = scope(async |s| {
                let (sender, mut receiver) = mpsc::channel(1);
                for n in 0..3 {
                    let sender = sender.clone();
                    drop(s.spawn(async move {
                        time::sleep(Duration::from_secs(n)).await;
                        sender.send(n).await.map_err(drop)
                    }));
                }
                drop(sender);
                while let Some(n) = receiver.recv().await {
                    out.emit(n).await;
                    out.emit(10 + n).await;
                }
                Ok::<_, ()>(())
            });
            emitted.await.unwrap();
            out.emit(20).await;
        });
        assert_eq!(found.collect::<Vec<_>>().await, [0, 10, 1, 11, 2, 12, 20]);
    });
}

#[test]
fn who_is_polled_only_when_woken_may_emit() {
    on_paused_clock(async || {
        let from_a_child = iter::generate(async |out| {
            let emitted = scope(async |s| {
                drop(s.spawn(async {
                    for n in 0..3 {
                        out.emit(n).await;
                    }
                    Ok::<_, ()>(())
                }));
                Ok::<_, ()>(())
            });
            emitted.await.unwrap();
        });
        assert_eq!(from_a_child.collect::<Vec<_>>().await, [0, 1, 2]);

        let from_a_set = iter::generate(async |out| {
            let each = async {
                for n in 0..3 {
                    out.emit(n).await;
                }
            };
            futures::stream::FuturesUnordered::from_iter([each]).collect::<()>().await;
        });
        assert_eq!(from_a_set.collect::<Vec<_>>().await, [0, 1, 2]);

        let mut sums = pin!(iter::coroutine(async |mut n: u32, out: &mut Out<u32, u32>| {
            let summed = scope(async |_| {
                let mut sum = 0;
                while n > 0 {
                    sum += n;
                    n = out.ask(sum).await;
                }
                Ok::<_, ()>(sum)
            });
            summed.await.unwrap()
        }));
        for (n, sum) in [(1, 1), (2, 3), (3, 6)] {
            assert_eq!(sums.as_mut().resume(n).await, Resumed::Yielded(sum));
        }
        assert_eq!(sums.as_mut().resume(0).await, Resumed::Complete(6));
    });
}

#[test]
fn what_is_sent_for_an_item_whose_ask_is_gone_answers_no_other() {
    on_paused_clock(async || {
        let mut asks = pin!(iter::coroutine(async |_, out: &mut Out<u32, &'static str>| {
            {
                let gone = pin!(out.ask(1));
                futures::future::select(gone, std::future::ready(())).await;
            }
            out.ask(2).await
        }));
        assert_eq!(asks.as_mut().resume("start").await, Resumed::Yielded(1));
        assert_eq!(asks.as_mut().resume("for 1").await, Resumed::Yielded(2));
        assert_eq!(asks.as_mut().resume("for 2").await, Resumed::Complete("for 2"));
    });
}

#[test]
fn the_adapters_of_the_ecosystem_apply() {
    on_paused_clock(async || {
        let numbers = |upto: u32| {
            iter::generate(async move |out| {
                for n in 0..upto {
                    time::sleep(Duration::from_millis(u64::from(n))).await;
                    out.emit(n).await;
                }
            })
        };
        let picked: Vec<_> = numbers(10).filter(|n| std::future::ready(n % 2 == 0)).map(|n| n * n).collect().await;
        assert_eq!(picked, [0, 4, 16, 36, 64]);
        let zipped: Vec<_> = numbers(3).zip(numbers(5)).collect().await;
        assert_eq!(zipped, [(0, 0), (1, 1), (2, 2)]);
        let both = futures::stream::select(numbers(3), numbers(3)).collect::<Vec<_>>().await;
        assert_eq!(both.iter().sum::<u32>(), 6);
    });
}

#[test]
fn a_generator_moves_between_tasks_between_its_items() {
    on_paused_clock(async || {
        let mut numbers = iter::generate(async |out| {
            for n in 0..4 {
                time::sleep(Duration::from_secs(1)).await;
                out.emit(n).await;
            }
        })
        .boxed();
        let mut got = Vec::new();
        for _ in 0..4 {
            let (item, rest) = spawn(numbers.into_future()).await.unwrap();
            got.extend(item);
            numbers = rest;
        }
        assert_eq!(got, [0, 1, 2, 3]);
    });
}

#[test]
fn a_coroutine_and_its_caller_take_turns() {
    let log = RefCell::new(Vec::new());
    on_paused_clock(async || {
        let mut adder = pin!(iter::coroutine(async |mut n: u32, out: &mut Out<u32, u32>| {
            let mut sum = 0;
            while n != 0 {
                log.borrow_mut().push(format!("got {n}"));
                sum += n;
                time::sleep(Duration::from_secs(1)).await;
                n = out.ask(sum).await;
            }
            "done"
        }));
        for n in [1, 2, 3] {
            let Resumed::Yielded(sum) = adder.as_mut().resume(n).await else { panic!("too early") };
            log.borrow_mut().push(format!("sum {sum}"));
        }
        assert_eq!(adder.as_mut().resume(0).await, Resumed::Complete("done"));
        assert!(adder.is_complete());
    });
    assert_eq!(log.into_inner(), ["got 1", "sum 1", "got 2", "sum 3", "got 3", "sum 6"]);
}

#[test]
fn a_coroutine_completes_after_the_item_before() {
    on_paused_clock(async || {
        let mut hasty = pin!(iter::coroutine(async |n: u32, out: &mut Out<u32, u32>| {
            let ask = pin!(out.ask(n));
            futures::future::select(ask, std::future::ready(())).await;
            "done"
        }));
        assert_eq!(hasty.as_mut().resume(1).await, Resumed::Yielded(1));
        assert!(!hasty.is_complete());
        assert_eq!(hasty.as_mut().resume(2).await, Resumed::Complete("done"));
        assert!(hasty.is_complete());
    });
}

#[test]
fn resuming_a_completed_coroutine_says_so() {
    let panic = catch_unwind(|| {
        on_paused_clock(async || {
            let mut once = pin!(iter::coroutine(async |n: u8, _: &mut Out<(), u8>| n));
            assert_eq!(once.as_mut().resume(1).await, Resumed::Complete(1));
            once.as_mut().resume(2).await
        })
    });
    let text = *panic.unwrap_err().downcast::<&str>().unwrap();
    assert!(text.contains("has completed"), "{text}");
}

#[test]
fn after_a_dropped_resume_the_next_one_gets_its_answer_and_turns_stay_in_step() {
    on_paused_clock(async || {
        let second = Duration::from_secs(1);
        let mut slow = pin!(iter::coroutine(async |mut n: u32, out: &mut Out<u32, u32>| {
            loop {
                time::sleep(10 * second).await;
                n = out.ask(n).await;
            }
        }));
        assert!(time::timeout(second, slow.as_mut().resume(1)).await.is_err());
        assert_eq!(slow.as_mut().resume(2).await, Resumed::<u32, ()>::Yielded(1));
        assert_eq!(slow.as_mut().resume(3).await, Resumed::Yielded(3));
    });
}

#[test]
fn dropping_a_coroutine_drops_its_body_and_what_was_sent() {
    let dropped = Rc::new(Cell::new(0));
    on_paused_clock(async || {
        let mut stuck = Box::pin(iter::coroutine(async |first: Guard, _: &mut Out<(), Guard>| {
            let _held = first;
            pending::<()>().await;
        }));
        let second = Duration::from_secs(1);
        assert!(time::timeout(second, stuck.as_mut().resume(Guard(Rc::clone(&dropped)))).await.is_err());
        assert!(time::timeout(second, stuck.as_mut().resume(Guard(Rc::clone(&dropped)))).await.is_err());
        assert_eq!(dropped.get(), 0);
        drop(stuck);
        assert_eq!(dropped.get(), 2);
    });
}

#[test]
fn a_panic_of_a_coroutine_arrives_at_who_resumed_it_and_ends_it() {
    let dropped = Rc::new(Cell::new(0));
    let text = |panic: Box<dyn std::any::Any + Send>| *panic.downcast::<&str>().unwrap();
    on_paused_clock(async || {
        // In the first poll, after an answer, and after a wait.
        for (answers, waits) in [(0, false), (1, false), (1, true)] {
            dropped.set(0);
            let guard = Guard(Rc::clone(&dropped));
            let mut broken = Box::pin(iter::coroutine(async move |first: Guard, out: &mut Out<u32, Guard>| {
                let (_guard, mut sent) = (guard, first);
                for n in 0..answers {
                    sent = out.ask(n).await;
                }
                if waits {
                    time::sleep(Duration::from_secs(1)).await;
                }
                drop(sent);
                panic!("in the body");
            }));
            for n in 0..answers {
                let answer: Resumed<u32, ()> = broken.as_mut().resume(Guard(Rc::clone(&dropped))).await;
                assert_eq!(answer, Resumed::Yielded(n));
            }
            let resumed = AssertUnwindSafe(broken.as_mut().resume(Guard(Rc::clone(&dropped)))).catch_unwind().await;
            assert_eq!(text(resumed.unwrap_err()), "in the body");
            assert_eq!(dropped.get(), 2 + answers, "the body is gone, and what was sent");
            assert!(broken.is_complete());
            let again = AssertUnwindSafe(broken.as_mut().resume(Guard(Rc::clone(&dropped)))).catch_unwind().await;
            assert!(text(again.unwrap_err()).contains("has completed"));
        }
    });
}
