//! Nobody has the loop to himself: whatever is ready again and again (a task, a channel, a
//! listener, a set) lets the others in.

use std::cell::{Cell, RefCell};
use std::future::{Future, Ready, pending, poll_fn, ready};
use std::io::Write;
use std::net::TcpStream as StdTcpStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures::stream::{self, FuturesUnordered};
use futures::{Stream, StreamExt};
use postlude::io::Async;
use postlude::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream, lookup_host};
use postlude::sync::{Notify, OnceCell, Semaphore, mpsc, oneshot, watch};
use postlude::task::{CancelToken, JoinSet, has_budget, join, poll_proceed, race, scope, try_join, yield_now};
use postlude::time::{self, interval, interval_at, now, sleep, timeout, timeout_at};
use postlude::{Runtime, defer, iter, spawn};

const NOW: Option<Duration> = Some(Duration::ZERO);

/// How long anything may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(20);

/// More than any budget.
const MANY: u64 = 1000;

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

/// Counts the polls another task gets while the caller runs `future`.
async fn others_during(future: impl Future) -> u64 {
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    let other = spawn(async move {
        loop {
            counted.set(counted.get() + 1);
            yield_now().await;
        }
    });
    future.await;
    other.abort();
    count.get()
}

/// The same with an operation that is always ready, a thousand times.
async fn others_during_many(mut operation: impl AsyncFnMut()) -> u64 {
    others_during(async {
        for _ in 0..MANY {
            operation().await;
        }
    })
    .await
}

/// Adds its number to a list.
fn note(list: Rc<RefCell<Vec<u32>>>, number: u32) -> impl Future<Output = ()> + use<> {
    poll_fn(move |_| {
        list.borrow_mut().push(number);
        Poll::Ready(())
    })
}

#[test]
fn every_way_to_spawn_leads_to_one_queue_and_counts_alike() {
    let mut runtime = Runtime::builder().paused_clock().polls_per_turn(4).build().unwrap();
    let list: Rc<RefCell<Vec<u32>>> = Rc::default();
    let all = Rc::clone(&list);
    drop(runtime.spawn(async move {
        let mut set = JoinSet::new();
        drop(spawn(note(Rc::clone(&all), 1)));
        set.spawn(note(Rc::clone(&all), 2));
        drop(postlude::task::Builder::new().name("three").spawn(note(Rc::clone(&all), 3)));
        drop(spawn(note(Rc::clone(&all), 4)));
        set.spawn_named("five", note(Rc::clone(&all), 5));
        set.detach_all();
    }));
    drop(runtime.spawn(note(Rc::clone(&list), 0)));
    let polls: Vec<_> = (0..3).map(|_| runtime.turn(NOW).unwrap().polls).collect();
    assert_eq!(polls, [4, 3, 0]);
    assert_eq!(*list.borrow(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn tasks_from_other_threads_join_the_end_of_the_same_queue() {
    let mut runtime = Runtime::builder().paused_clock().polls_per_turn(4).build().unwrap();
    let handle = runtime.handle();
    let (sender, order) = std::sync::mpsc::channel();
    for number in 0..6 {
        let sender = sender.clone();
        drop(handle.spawn(move || async move { sender.send(number).unwrap() }));
    }
    let polls: Vec<_> = (0..4).map(|_| runtime.turn(NOW).unwrap().polls).collect();
    assert_eq!(polls, [0, 4, 2, 0], "they arrive with the inbox of the first turn");
    assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn whatever_is_ready_at_once_lets_others_run() {
    let runtime = paused();
    let handle = runtime.handle();
    let check = async {
        let mut set = JoinSet::new();
        for _ in 0..MANY {
            set.spawn(async {});
        }
        assert!(others_during(async { while set.join_next().await.is_some() {} }).await >= 7, "join_next");
        for _ in 0..MANY {
            set.spawn(async {});
        }
        assert!(others_during(set.by_ref().count()).await >= 7, "a set as a stream");

        assert!(others_during_many(async || assert!(set.join_next().await.is_none())).await >= 7, "an empty set");
        assert!(
            others_during_many(async || assert!(set.next().await.is_none())).await >= 7,
            "an empty set as a stream"
        );
        assert!(others_during_many(async || set.shutdown().await).await >= 7, "shutting down an empty set");

        let token = CancelToken::new();
        token.cancel();
        assert!(others_during_many(async || token.cancelled().await).await >= 7, "a cancelled token");
        let until = |token: CancelToken| {
            others_during_many(async move || token.run_until_cancelled(async {}).await.unwrap_or(()))
        };
        assert!(until(token).await >= 7, "what is cancelled before it begins");
        assert!(until(CancelToken::new()).await >= 7, "what is ready before it is cancelled");

        let handles: Vec<_> = (0..MANY).map(|_| handle.spawn(|| async {})).collect();
        while handles.iter().any(|handle| !handle.is_finished()) {
            yield_now().await;
        }
        let join_all = async {
            for handle in handles {
                handle.await.unwrap();
            }
        };
        assert!(others_during(join_all).await >= 7, "handles of remote tasks");

        assert!(others_during_many(async || sleep(Duration::ZERO).await).await >= 7, "empty sleeps");
        let ready = || Box::pin(sleep(Duration::ZERO));
        assert!(others_during_many(async || race([ready(), ready()]).await.1).await >= 7, "a race");
        assert!(
            others_during_many(async || timeout(LIMIT, sleep(Duration::ZERO)).await.unwrap()).await >= 7,
            "a timeout of what is ready"
        );

        // Futures of others spend nothing themselves.
        assert!(others_during_many(async || race((async {}, async {})).await.1).await >= 7, "a race of what is ready");
        assert!(others_during_many(async || join((async {}, async {})).await.0).await >= 7, "a join of what is ready");
        assert!(
            others_during_many(async || assert!(join([] as [Ready<()>; 0]).await.is_empty())).await >= 7,
            "a join of nothing"
        );
        let failing = async || try_join([async { Err::<(), _>(()) }]).await.unwrap_err();
        assert!(others_during_many(failing).await >= 7, "a failing try_join");
        assert!(
            others_during_many(async || timeout(LIMIT, async {}).await.unwrap()).await >= 7,
            "a timeout of others'"
        );
        let over = async || assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err());
        assert!(others_during_many(over).await >= 7, "a timeout that is over");

        let children = scope::<_, (), _>(async |s| {
            let children: Vec<_> = (0..MANY).map(|_| s.spawn(async {})).collect();
            while children.iter().any(|child| !child.is_finished()) {
                yield_now().await;
            }
            Ok(others_during(async {
                for child in children {
                    child.await.unwrap();
                }
            })
            .await)
        });
        assert!(children.await.unwrap() >= 7, "children of a scope");

        let mut burst = interval_at(now() - Duration::from_secs(MANY), Duration::from_secs(1));
        assert!(
            others_during_many(async || assert!(burst.tick().await <= now())).await >= 7,
            "an interval that makes up"
        );
    };
    runtime.block_on(check).unwrap();
}

#[test]
fn scopes_that_end_in_their_first_poll_let_others_run() {
    let check = async {
        let empty = async || scope(async |_| Ok::<_, ()>(())).await.unwrap();
        let children = async || {
            let ended = scope::<_, (), _>(async |s| {
                s.spawn(async {});
                s.spawn(async {});
                Ok(())
            });
            ended.await.unwrap();
        };
        let fails = async || drop(scope::<(), _, _>(async |_| Err(())).await.unwrap_err());
        let child_fails = async || {
            let failed = scope::<(), _, _>(async |s| {
                s.try_spawn(async { Err::<(), _>(()) });
                pending().await
            });
            failed.await.unwrap_err();
        };
        let cancelled = async || {
            let ended = scope::<(), (), _>(async |s| {
                s.cancel();
                pending().await
            });
            ended.await.unwrap_err();
        };
        let others = [
            others_during_many(empty).await,
            others_during_many(children).await,
            others_during_many(fails).await,
            others_during_many(child_fails).await,
            others_during_many(cancelled).await,
        ];
        assert!(others.iter().all(|&others| others >= 7), "{others:?}");
    };
    paused().block_on(check).unwrap();
}

#[test]
fn waiting_for_what_is_already_so_lets_others_run() {
    let check = async {
        let (sender, mut receiver) = watch::channel(1);
        assert!(others_during_many(async || assert_eq!(*receiver.wait_for(|n| *n == 1).await.unwrap(), 1)).await >= 7);
        drop(sender);
        assert!(others_during_many(async || drop(receiver.wait_for(|n| *n == 1).await.unwrap())).await >= 7);
        assert!(others_during_many(async || assert!(receiver.changed().await.is_err())).await >= 7);

        let cell = OnceCell::new();
        cell.set(5).unwrap();
        assert!(others_during_many(async || assert_eq!(cell.get_or_init(async || 6).await, &5)).await >= 7);

        let (sender, receiver) = mpsc::channel::<()>(1);
        drop(receiver);
        assert!(others_during_many(async || sender.closed().await).await >= 7);
        assert!(others_during_many(async || assert!(sender.reserve().await.is_err())).await >= 7);
        assert!(others_during_many(async || assert!(sender.send(()).await.is_err())).await >= 7);
        let (sender, mut receiver) = mpsc::unbounded::<()>();
        drop(sender);
        assert!(others_during_many(async || assert!(receiver.recv().await.is_none())).await >= 7);
    };
    paused().block_on(check).unwrap();
}

#[test]
fn what_fails_or_is_done_before_it_begins_lets_others_run() {
    let check = async {
        let nowhere = std::env::temp_dir().join("postlude-test-nobody-listens");
        assert!(others_during_many(async || drop(UnixStream::connect(&nowhere).await.unwrap_err())).await >= 7);
        assert!(others_during_many(async || drop(TcpStream::connect("no port").await.unwrap_err())).await >= 7);
        assert!(others_during_many(async || drop(lookup_host("no port").await.unwrap_err())).await >= 7);
        assert!(others_during_many(async || drop(lookup_host("127.0.0.1:1").await.unwrap())).await >= 7);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(others_during_many(async || socket.connect("127.0.0.1:1").await.unwrap()).await >= 7);

        let (stream, _peer) = UnixStream::pair().unwrap();
        assert!(others_during_many(async || stream.write_all(&[]).await.unwrap()).await >= 7);
        assert!(others_during_many(async || stream.read_exact(&mut []).await.unwrap()).await >= 7);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(others_during_many(async || stream.write_all(&[]).await.unwrap()).await >= 7);
        assert!(others_during_many(async || stream.read_exact(&mut []).await.unwrap()).await >= 7);

        let file = Async::new(std::fs::File::open("Cargo.toml").unwrap());
        let refused = async || drop(file.readable().await.expect_err("a file cannot be waited for"));
        assert!(others_during_many(refused).await >= 7);
    };
    Runtime::new().unwrap().block_on(check).unwrap();
}

#[test]
fn a_stream_that_has_ended_lets_others_run() {
    /// Polls of others while a stream is asked a thousand times after its end.
    async fn others_after_the_end(stream: impl Stream) -> u64 {
        let mut stream = pin!(stream);
        while stream.next().await.is_some() {}
        others_during_many(async || assert!(stream.next().await.is_none())).await
    }
    let items = || stream::iter([1, 2]);
    let futures = || stream::iter([ready(1), ready(2)]);
    let check = async {
        assert!(others_after_the_end(iter::timeout(items(), LIMIT)).await >= 7, "timeout");
        assert!(others_after_the_end(iter::debounce(items(), LIMIT)).await >= 7, "debounce");
        assert!(others_after_the_end(iter::throttle(items(), LIMIT)).await >= 7, "throttle");
        assert!(others_after_the_end(iter::chunks_timeout(items(), 2, LIMIT)).await >= 7, "chunks_timeout");
        assert!(others_after_the_end(iter::merge([items(), items()])).await >= 7, "merge");
        assert!(others_after_the_end(iter::tee(items()).0).await >= 7, "tee");
        assert!(others_after_the_end(iter::broadcast(items(), 2)).await >= 7, "broadcast");
        assert!(others_after_the_end(iter::buffered(futures(), 2)).await >= 7, "buffered");
        assert!(others_after_the_end(iter::buffer_unordered(futures(), 2)).await >= 7, "buffer_unordered");
        assert!(others_after_the_end(iter::lines(&b"one\ntwo"[..])).await >= 7, "lines");
        assert!(others_after_the_end(iter::chunks(&b"bytes"[..], 2)).await >= 7, "chunks");
    };
    paused().block_on(check).unwrap();
}

#[test]
fn what_is_ready_has_no_time_limit_however_much_of_it_there_is() {
    let check = async {
        let (sender, mut receiver) = mpsc::unbounded();
        for due in [now(), now() - LIMIT] {
            (0..MANY).for_each(|n| sender.send(n).unwrap());
            let mut received = 0;
            while let Ok(Some(n)) = timeout_at(due, receiver.recv()).await {
                assert_eq!(n, received);
                received += 1;
            }
            assert_eq!(received, MANY);
        }
        let permits = Semaphore::new(MANY as usize);
        let mut held = Vec::new();
        while let Ok(permit) = timeout(Duration::ZERO, permits.acquire()).await {
            held.push(permit.unwrap());
        }
        assert_eq!(held.len() as u64, MANY);

        // More than one operation each, so that the budget ends in the middle of one of them.
        (0..3 * MANY).for_each(|n| sender.send(n).unwrap());
        let mut received = 0;
        let three = async |receiver: &mut mpsc::Receiver<u64>| {
            for _ in 0..3 {
                receiver.recv().await.unwrap();
            }
        };
        while timeout(Duration::ZERO, three(&mut receiver)).await.is_ok() {
            received += 1;
        }
        assert_eq!(received, MANY);
    };
    paused().block_on(check).unwrap();
}

#[test]
fn asking_again_and_again_whether_something_is_there_lets_it_come() {
    let check = async {
        let (sender, mut receiver) = mpsc::unbounded();
        let later = sender.clone();
        drop(spawn(async move { later.send(1).unwrap() }));
        // Numbers of tries, lest the test hangs.
        let mut tries = 0..1_000_000;
        let first = loop {
            assert!(tries.next().is_some(), "the sender never ran");
            if let Ok(first) = timeout(Duration::ZERO, receiver.recv()).await {
                break first;
            }
        };
        assert_eq!(first, Some(1));

        drop(spawn(async move { sender.send(2).unwrap() }));
        let due = now();
        let second = loop {
            assert!(tries.next().is_some(), "the sender never ran");
            if let Ok(second) = timeout_at(due, receiver.recv()).await {
                break second;
            }
        };
        assert_eq!(second, Some(2));

        let (stopped, told) = (CancelToken::new(), Rc::new(Cell::new(false)));
        stopped.cancel();
        let tells = Rc::clone(&told);
        drop(spawn(async move { tells.set(true) }));
        while !told.get() {
            assert!(tries.next().is_some(), "the other task never ran");
            assert_eq!(stopped.run_until_cancelled(yield_now()).await, None);
        }
    };
    paused().block_on(check).unwrap();
}

#[test]
fn what_uses_up_every_budget_still_has_a_time_limit() {
    let polls = Cell::new(0);
    let greedy = || {
        poll_fn(|cx| {
            polls.set(polls.get() + 1);
            while poll_proceed(cx).is_ready() {}
            Poll::<()>::Pending
        })
    };
    let check = async {
        assert!(timeout(Duration::ZERO, greedy()).await.is_err());
        assert_eq!(polls.take(), 2, "the turn that is left to it, and no more");
        let within = async {
            loop {
                poll_fn(poll_proceed).await;
                time::advance(Duration::from_secs(1)).await;
            }
        };
        let due = now() + LIMIT;
        assert!(timeout_at(due, join((within, greedy()))).await.is_err());
        assert!(now() - due <= Duration::from_secs(2));
    };
    paused().block_on(check).unwrap();
}

#[test]
fn a_listener_with_a_long_queue_lets_others_run() {
    const CLIENTS: usize = 300;
    let runtime = Runtime::new().unwrap();
    let accept_all = async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // They come while it accepts: not every system keeps that many in its queue.
        let clients = std::thread::spawn(move || -> Vec<_> {
            (0..CLIENTS).map(|_| StdTcpStream::connect(address).unwrap()).collect()
        });
        let mut longest = 0;
        let accepted = Rc::new(Cell::new(0));
        let seen = Rc::clone(&accepted);
        let acceptor = spawn(async move {
            for _ in 0..CLIENTS {
                listener.accept().await.unwrap();
                seen.set(seen.get() + 1);
            }
        });
        while !acceptor.is_finished() {
            let before = accepted.get();
            yield_now().await;
            longest = longest.max(accepted.get() - before);
        }
        clients.join().unwrap();
        longest
    };
    let longest = runtime.block_on(timeout(LIMIT, accept_all)).unwrap().unwrap();
    // The other task's poll may lie before or after the acceptor's in a turn.
    assert!(longest <= 256, "{longest} connections were accepted in a row");

    let path = std::env::temp_dir().join(format!("postlude-test-queue-{}", std::process::id()));
    let unix = async {
        let listener = UnixListener::bind(&path).unwrap();
        others_during_many(async || {
            let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
            drop((client, listener.accept().await.unwrap()));
        })
        .await
    };
    let others = runtime.block_on(timeout(LIMIT, unix)).unwrap().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(others >= 7, "{others}");
}

#[test]
fn two_tasks_that_keep_each_other_busy_starve_nobody() {
    let runtime = Runtime::new().unwrap();
    let busy = async {
        let (there, mut at_b) = mpsc::unbounded();
        let (back, mut at_a) = mpsc::channel(1);
        there.send(0_u64).unwrap();
        let a = spawn(async move {
            while let Some(n) = at_a.recv().await {
                if there.send(n + 1).is_err() {
                    return;
                }
            }
        });
        let b = spawn(async move {
            while let Some(n) = at_b.recv().await {
                if back.send(n + 1).await.is_err() {
                    return;
                }
            }
        });
        // Each of these waits for another phase of the turn.
        let (ours, peer) = UnixStream::pair().unwrap();
        let reader = spawn(async move { ours.read(&mut [0; 1]).await.unwrap() });
        yield_now().await;
        peer.into_std().unwrap().write_all(b"x").unwrap();
        assert_eq!(reader.await.unwrap(), 1);
        sleep(Duration::from_millis(5)).await;
        defer(async {}).await.unwrap();
        let (told, tells) = futures::channel::oneshot::channel();
        let thread = std::thread::spawn(move || told.send(()));
        tells.await.unwrap();
        thread.join().unwrap().unwrap();
        a.abort();
        b.abort();
    };
    runtime.block_on(timeout(LIMIT, busy)).unwrap().expect("it starves");
}

#[test]
fn a_chain_of_wakes_inside_one_turn_is_cut_off() {
    let mut runtime = paused();
    let (first, mut received) = mpsc::unbounded();
    // A ring of tasks passes a token on; the whole of it would fit into no turn.
    let first_sender = first.clone();
    let mut link = first_sender;
    for _ in 0..100 {
        let (sender, mut receiver) = mpsc::unbounded();
        drop(runtime.spawn(async move {
            while let Some(token) = receiver.recv().await {
                link.send(token).unwrap();
            }
        }));
        link = sender;
    }
    drop(runtime.spawn(async move {
        while let Some(token) = received.recv().await {
            link.send(token).unwrap();
        }
    }));
    while runtime.turn(NOW).unwrap().has_more {}
    first.send(()).unwrap();
    for _ in 0..5 {
        let turn = runtime.turn(NOW).unwrap();
        assert!(turn.polls <= 64 && turn.has_more, "{turn:?}");
    }
}

#[test]
fn an_executor_inside_a_task_polls_each_of_ours_a_few_times_at_most() {
    const FUTURES: usize = 10_000;
    /// Polls of ten thousand futures by a `FuturesUnordered`.
    async fn polls<F: Future>(make: impl Fn() -> F) -> usize {
        let polls = Cell::new(0);
        let all: FuturesUnordered<_> = (0..FUTURES)
            .map(|_| {
                let (mut future, polls) = (Box::pin(make()), &polls);
                poll_fn(move |cx| {
                    polls.set(polls.get() + 1);
                    future.as_mut().poll(cx)
                })
            })
            .collect();
        assert_eq!(all.count().await, FUTURES);
        polls.get()
    }
    paused()
        .block_on(async {
            let few = FUTURES..3 * FUTURES;
            let semaphore = Semaphore::new(FUTURES);
            assert!(few.contains(&polls(|| semaphore.acquire()).await), "permits");
            let (sender, _receiver) = mpsc::channel(FUTURES);
            assert!(few.contains(&polls(|| sender.send(1)).await), "sends");
            let token = CancelToken::new();
            token.cancel();
            assert!(few.contains(&polls(|| token.cancelled()).await), "cancelled tokens");
            let value = || {
                let (sender, receiver) = oneshot::channel();
                sender.send(()).unwrap();
                receiver
            };
            assert!(few.contains(&polls(value).await), "values");
            let notify = Notify::new();
            let notified = || {
                notify.notify_waiters();
                notify.notified()
            };
            // Each is told by the next one's making, and the last by this.
            let last = async {
                yield_now().await;
                notify.notify_waiters();
            };
            assert!(few.contains(&futures::future::join(polls(notified), last).await.0), "notifications");
        })
        .unwrap();
}

#[test]
fn an_interval_beside_a_branch_that_is_always_ready_still_ticks() {
    paused()
        .block_on(async {
            let mut every = interval(Duration::from_secs(1));
            every.tick().await;
            let mut ticks = 0;
            // Time passes only when everything waits, so every thousandth branch does.
            for round in 0..10_000 {
                let other: Pin<Box<dyn Future<Output = bool>>> = match round % 1000 {
                    999 => Box::pin(pending()),
                    _ => Box::pin(async {
                        sleep(Duration::ZERO).await;
                        false
                    }),
                };
                let tick: Pin<Box<dyn Future<Output = bool> + '_>> = Box::pin(async {
                    every.tick().await;
                    true
                });
                ticks += u32::from(race([other, tick]).await.1);
            }
            assert_eq!(ticks, 10);
        })
        .unwrap();
}

#[test]
fn of_two_sockets_that_are_always_ready_each_gets_its_share() {
    let runtime = Runtime::new().unwrap();
    let shares = async {
        let counts = [Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0_u64))];
        let floods: Vec<_> = counts
            .iter()
            .map(|count| {
                let count = Rc::clone(count);
                spawn(async move {
                    let (ours, peer) =
                        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
                    let address = peer.local_addr().unwrap();
                    loop {
                        // A full receiver drops them, so this never waits.
                        ours.send_to(b"x", address).await.unwrap();
                        count.set(count.get() + 1);
                    }
                })
            })
            .collect();
        while counts[0].get() < 10_000 {
            yield_now().await;
        }
        floods.iter().for_each(postlude::JoinHandle::abort);
        [counts[0].get(), counts[1].get()]
    };
    let [first, second] = runtime.block_on(timeout(LIMIT, shares)).unwrap().unwrap();
    assert!(first.abs_diff(second) <= 256, "{first} and {second}");
}

#[test]
fn a_woken_task_waits_for_no_more_than_those_before_it() {
    let runtime = paused();
    runtime
        .block_on(async {
            let order: Rc<RefCell<Vec<u32>>> = Rc::default();
            let ready = Rc::new(Notify::new());
            let (told, list) = (Rc::clone(&ready), Rc::clone(&order));
            drop(spawn(async move {
                told.notified().await;
                list.borrow_mut().push(1);
            }));
            yield_now().await;
            drop(spawn(note(Rc::clone(&order), 0)));
            ready.notify_one();
            drop(spawn(note(Rc::clone(&order), 2)));
            yield_now().await;
            assert_eq!(*order.borrow(), [0, 1, 2]);
        })
        .unwrap();
}

/// Polls `limited` beside a branch that uses up the budget in each poll before it; the number of
/// polls until it was ready.
fn polls_beside_a_busy_branch(limited: impl Future<Output = ()>) -> usize {
    const MANY: usize = 100_000;
    let (ready, polls) = (Cell::new(false), Cell::new(0));
    Runtime::new()
        .unwrap()
        .block_on(async {
            let permits = Semaphore::new(1);
            let busy = async {
                while !ready.get() && polls.get() < MANY {
                    while has_budget() {
                        drop(permits.acquire().await.unwrap());
                    }
                    polls.set(polls.get() + 1);
                    drop(permits.acquire().await.unwrap());
                }
            };
            let limited = async {
                limited.await;
                ready.set(true);
            };
            futures::future::join(busy, limited).await;
        })
        .unwrap();
    polls.get()
}

#[test]
fn a_branch_that_uses_up_every_budget_puts_no_end_off_for_ever() {
    let cancelled = CancelToken::new();
    cancelled.cancel();
    let ends: [(&str, usize); 3] = [
        (
            "a time limit",
            polls_beside_a_busy_branch(async {
                assert!(time::timeout(Duration::ZERO, pending::<()>()).await.is_err());
            }),
        ),
        (
            "a cancelled token",
            polls_beside_a_busy_branch(async {
                assert!(cancelled.run_until_cancelled(pending::<()>()).await.is_none());
            }),
        ),
        (
            "a time limit between items",
            polls_beside_a_busy_branch(async {
                let mut items = pin!(iter::timeout(futures::stream::pending::<()>(), Duration::ZERO));
                assert!(items.next().await.unwrap().is_err());
            }),
        ),
    ];
    for (what, polls) in ends {
        assert!(polls < 10, "{what}: {polls} polls");
    }
}
