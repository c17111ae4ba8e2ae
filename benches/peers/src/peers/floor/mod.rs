//! The floor: every load written by hand, with what it cannot do without and no runtime. A task is
//! a boxed future that is polled with a waker that does nothing; whoever has to run next is known.

mod sockets;

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::Stream;

use crate::loads::{DEFERRED_WORK, FOREGROUND, Job, Meter, Ones, Outcome, RATE, late, p99, resident, text, work};
use crate::peer::{YieldNow, not_offered};

/// How a load is done by hand.
pub fn run(load: &str) -> fn(Job) -> Outcome {
    match load {
        "spawn_join" => spawn_join,
        "spawn_detached" => spawn_detached,
        "yield" => yields,
        "task_memory" => task_memory,
        "race2" => |job| race::<2>(job),
        "race8" => |job| race::<8>(job),
        "join_vec" => |job| polled_twice(job, 300),
        "scope" => |job| polled_twice(job, 100),
        "defer" => defer,
        "ping_pong" | "ping_pong_room_1" => ping_pong,
        "fan_in_unbounded" | "fan_in_bounded" => fan_in,
        "timeout" => timeout,
        "timer_fire" => timer_fire,
        "sleep_memory" => sleep_memory,
        "wake_remote" => wake_remote,
        "blocking_one_core" | "blocking_two_cores" => blocking,
        "echo" => sockets::echo,
        "echo_beside_idle" => sockets::echo_beside_idle,
        "connection_memory" => sockets::memory,
        "lines_socket" => sockets::lines,
        "generator" => generator,
        "lines" => lines,
        "merge_ready" => |job| merge(job, 16, false),
        "merge_yielding" => |job| merge(job, 2, true),
        _ => |_| not_offered("nothing by hand"),
    }
}

type Task<T> = Pin<Box<dyn Future<Output = T>>>;

fn poll<T>(task: &mut Task<T>) -> Poll<T> {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

async fn forever() {
    loop {
        YieldNow::default().await;
    }
}

fn spawn_join(job: Job) -> Outcome {
    let operations = job.operations.max(job.size);
    Job { operations, ..job }.time_plain(|operations| {
        let mut joined = 0;
        let mut tasks: Vec<Task<u64>> = Vec::with_capacity(job.size as usize);
        while joined < operations {
            let batch = job.size.min(operations - joined);
            tasks.extend((0..batch).map(|n| Box::pin(async move { black_box(n) }) as Task<u64>));
            let mut sum = 0;
            for mut task in tasks.drain(..) {
                if let Poll::Ready(n) = poll(&mut task) {
                    sum += n;
                    joined += 1;
                }
            }
            assert_eq!(sum, batch * (batch - 1) / 2);
        }
        joined
    })
}

fn spawn_detached(job: Job) -> Outcome {
    job.time_plain(|operations| {
        let mut tasks: Vec<Task<()>> = Vec::new();
        tasks.extend((0..operations).map(|n| Box::pin(async move { _ = black_box(n) }) as Task<()>));
        tasks.into_iter().map(|mut task| u64::from(poll(&mut task).is_ready())).sum()
    })
}

fn yields(job: Job) -> Outcome {
    let mut tasks: VecDeque<Task<()>> = (0..job.size).map(|_| Box::pin(forever()) as Task<()>).collect();
    job.time_plain(|operations| {
        let mut yielded = 0;
        while yielded < operations {
            let Some(mut task) = tasks.pop_front() else { break };
            yielded += u64::from(poll(&mut task).is_pending());
            tasks.push_back(task);
        }
        yielded
    })
}

fn task_memory(job: Job) -> Outcome {
    let before = resident();
    let mut tasks: Vec<Task<()>> = Vec::new();
    for n in 0..job.operations {
        let content = [n; 11];
        tasks.push(Box::pin(poll_fn(move |_| if black_box(content[0]) > n { Poll::Ready(()) } else { Poll::Pending })));
    }
    let count = tasks.iter_mut().map(|task| u64::from(poll(task).is_pending())).sum();
    Outcome { count, values: vec![(resident() - before) / job.operations as f64] }
}

/// The first of them is ready.
fn race<const N: usize>(job: Job) -> Outcome {
    job.time_plain(|operations| {
        let mut won = 0;
        for _ in 0..operations {
            for future in black_box([1; N]).map(ready) {
                if let Poll::Ready(n) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
                    won += n;
                    break;
                }
            }
        }
        won
    })
}

/// Branches or children, so many at a time: one poll to begin with, one in which it ends.
fn polled_twice(job: Job, group: u64) -> Outcome {
    job.time_plain(|operations| {
        let mut ended = 0;
        while ended < operations {
            let mut tasks: Vec<Task<()>> = (0..group).map(|_| Box::pin(YieldNow::default()) as Task<()>).collect();
            assert!(tasks.iter_mut().all(|task| poll(task).is_pending()));
            ended += tasks.iter_mut().map(|task| u64::from(poll(task).is_ready())).sum::<u64>();
        }
        ended
    })
}

/// One deferred task after each round of the others.
fn defer(job: Job) -> Outcome {
    let mut foreground: Vec<Task<()>> = (0..FOREGROUND).map(|_| Box::pin(forever()) as Task<()>).collect();
    let meter = Meter::start();
    let mut last = Instant::now();
    let deferred = || Box::pin(async { _ = black_box(work(DEFERRED_WORK)) }) as Task<()>;
    let mut tasks: VecDeque<Task<()>> = (0..job.operations).map(|_| deferred()).collect();
    let (mut waits, mut count) = (Vec::new(), 0);
    while let Some(mut task) = tasks.pop_front() {
        foreground.iter_mut().for_each(|task| assert!(poll(task).is_pending()));
        let now = Instant::now();
        waits.push((now - last).as_nanos() as f64);
        last = now;
        count += u64::from(poll(&mut task).is_ready());
    }
    let mut outcome = meter.stop(count);
    outcome.values = vec![outcome.values[0], p99(waits)];
    outcome
}

/// A queue in each direction.
fn ping_pong(job: Job) -> Outcome {
    let (mut ping, mut pong) = (VecDeque::new(), VecDeque::new());
    job.time_plain(|operations| {
        let mut messages = 0;
        while messages < operations {
            black_box(&mut ping).push_back(messages);
            if let Some(n) = black_box(&mut ping).pop_front() {
                black_box(&mut pong).push_back(n + 1);
            }
            assert_eq!(black_box(&mut pong).pop_front(), Some(messages + 1));
            messages += 2;
        }
        messages
    })
}

fn fan_in(job: Job) -> Outcome {
    const PRODUCERS: u64 = 100;
    let mut queue = VecDeque::new();
    job.time_plain(|operations| {
        let mut messages = 0;
        while messages < operations {
            (0..PRODUCERS).for_each(|_| black_box(&mut queue).push_back(1));
            while let Some(n) = black_box(&mut queue).pop_front() {
                messages += n;
            }
        }
        messages
    })
}

/// A reading of the clock and a deadline.
fn timeout(job: Job) -> Outcome {
    job.time_plain(|operations| {
        let began = Instant::now();
        let deadline = || black_box(Instant::now() + Duration::from_secs(10));
        (0..operations).map(|_| u64::from(deadline() > began)).sum()
    })
}

/// The thread sleeps until each deadline.
fn timer_fire(job: Job) -> Outcome {
    let meter = Meter::start();
    let began = Instant::now();
    let lateness: Vec<f64> = (0..job.operations as u32)
        .map(|number| {
            let deadline = began + Duration::from_secs(1) * number / RATE;
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            late(deadline)
        })
        .collect();
    let mut outcome = meter.stop(lateness.len() as u64);
    outcome.values = vec![outcome.values[0], p99(lateness)];
    outcome
}

/// A deadline beside the task.
fn sleep_memory(job: Job) -> Outcome {
    let before = resident();
    let mut tasks: Vec<(Instant, Task<()>)> = Vec::new();
    for _ in 0..job.operations {
        let deadline = Instant::now() + Duration::from_secs(3600);
        let over = move |_: &mut Context<'_>| if Instant::now() < deadline { Poll::Pending } else { Poll::Ready(()) };
        tasks.push((deadline, Box::pin(poll_fn(over))));
    }
    let count = tasks.iter_mut().map(|(_, task)| u64::from(poll(task).is_pending())).sum();
    Outcome { count, values: vec![(resident() - before) / job.operations as f64] }
}

/// Two threads that park and unpark each other.
fn wake_remote(job: Job) -> Outcome {
    let (asked, answered, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let main = thread::current();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            while !stop.load(SeqCst) {
                let number = asked.load(SeqCst);
                if answered.swap(number, SeqCst) == number {
                    thread::park();
                } else {
                    main.unpark();
                }
            }
        });
        let outcome = job.time_plain(|operations| {
            let before = answered.load(SeqCst);
            for number in before + 1..=before + operations {
                asked.store(number, SeqCst);
                other.thread().unpark();
                while answered.load(SeqCst) != number {
                    thread::park();
                }
            }
            answered.load(SeqCst) - before
        });
        stop.store(true, SeqCst);
        other.thread().unpark();
        outcome
    })
}

/// A thread for each core behind a channel.
fn blocking(job: Job) -> Outcome {
    type Work = Box<dyn FnOnce() -> u64 + Send>;
    let (jobs, queue) = mpsc::channel::<Work>();
    let (results, done) = mpsc::channel();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
        let (queue, results) = (Arc::clone(&queue), results.clone());
        thread::spawn(move || {
            loop {
                let Ok(Ok(work)) = queue.lock().map(|queue| queue.recv()) else { return };
                if results.send(work()).is_err() {
                    return;
                }
            }
        });
    }
    let add = || jobs.send(Box::new(|| black_box(1))).expect("the threads live");
    job.time_plain(|operations| {
        (0..operations.min(64)).for_each(|_| add());
        let mut count = 0;
        while count < operations {
            count += done.recv().expect("the threads live");
            if count + 64 <= operations {
                add();
            }
        }
        count
    })
}

struct Counter(u64);

impl Stream for Counter {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.0 == 10_000 {
            return Poll::Ready(None);
        }
        self.0 += 1;
        Poll::Ready(Some(self.0 - 1))
    }
}

fn generator(job: Job) -> Outcome {
    let mut cx = Context::from_waker(Waker::noop());
    job.time_plain(|operations| {
        let mut items = 0;
        while items < operations {
            let (mut counter, mut sum) = (Counter(0), 0);
            while let Poll::Ready(Some(n)) = Pin::new(&mut counter).poll_next(&mut cx) {
                sum += black_box(n);
                items += 1;
            }
            assert_eq!(sum, 10_000 * 9_999 / 2);
        }
        items
    })
}

fn lines(job: Job) -> Outcome {
    let text = text(job.size as usize);
    job.time_plain(|operations| {
        let mut seen = 0;
        while seen < operations {
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', text) {
                let line = String::from_utf8(text[start..end].to_vec()).expect("it is UTF-8");
                assert_eq!(black_box(line).len() as u64 + 1, job.size);
                start = end + 1;
                seen += 1;
            }
        }
        seen
    })
}

/// One source after the other, in a circle.
fn merge(job: Job, sources: u64, yields: bool) -> Outcome {
    let mut cx = Context::from_waker(Waker::noop());
    job.time_plain(|operations| {
        let mut sources: Vec<Ones> = (0..sources).map(|_| Ones::new(operations.div_ceil(sources), yields)).collect();
        let mut sum = 0;
        while !sources.is_empty() {
            sources.retain_mut(|source| match Pin::new(source).poll_next(&mut cx) {
                Poll::Ready(Some(n)) => {
                    sum += black_box(n);
                    true
                }
                Poll::Ready(None) => false,
                Poll::Pending => true,
            });
        }
        sum
    })
}
