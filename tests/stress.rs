//! Foreign threads hammer on the loop: wakes, spawns, aborts, drops, and the end of runtimes under
//! them.
//!
//! Without libtest's harness, so that it can run under the thread sanitizer. `POSTLUDE_STRESS`
//! scales it (default 1).

#![allow(clippy::print_stdout, reason = "a test without a harness tells by itself what it did")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use postlude::net::TcpListener;
use postlude::{Runtime, spawn, spawn_blocking, task, time};

const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let scale: u64 = std::env::var("POSTLUDE_STRESS").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1);
    type Part = (&'static str, fn(u64));
    let parts: [Part; 6] = [
        ("four threads wake one task, and the last wake is never lost", last_wake),
        ("threads spawn on the loop and wait", remote_spawns),
        ("handles are aborted and dropped elsewhere", foreign_handles),
        ("sockets and timers are dropped elsewhere", foreign_drops),
        ("runtimes end while threads wake and send", endings),
        ("blocking jobs come and go", blocking_churn),
    ];
    for (name, part) in parts {
        let start = Instant::now();
        part(scale);
        println!("{name}: ok in {:?}", start.elapsed());
    }
}

/// Each thread counts up and wakes; the task must see the total, however the wakes fall together.
fn last_wake(scale: u64) {
    const THREADS: u64 = 4;
    let wakes = 25_000 * scale;
    let runtime = Runtime::new().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (count, waker) = (Arc::clone(&count), Arc::clone(&waker));
            thread::spawn(move || {
                for _ in 0..wakes {
                    count.fetch_add(1, Ordering::Release);
                    let waker = waker.lock().unwrap().clone();
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
            })
        })
        .collect();
    let all = poll_fn(|cx| {
        *waker.lock().unwrap() = Some(cx.waker().clone());
        if count.load(Ordering::Acquire) == THREADS * wakes { Poll::Ready(()) } else { Poll::Pending }
    });
    runtime.block_on(time::timeout(PATIENCE, all)).unwrap().expect("no wake is lost");
    for thread in threads {
        thread.join().unwrap();
    }
}

fn remote_spawns(scale: u64) {
    let runtime = Runtime::new().unwrap();
    let (done, finished) = mpsc::channel();
    for thread in 0..4 {
        let (handle, done) = (runtime.handle(), done.clone());
        thread::spawn(move || {
            for n in 0..2_000 * scale {
                let mut task = handle.spawn(move || async move {
                    let not_send = Rc::new(n);
                    task::yield_now().await;
                    *not_send + thread
                });
                let answer = task.wait(PATIENCE).expect("an answer in time").expect("it is not cancelled");
                assert_eq!(answer, n + thread);
            }
            done.send(()).unwrap();
        });
    }
    drop(done);
    let all = async {
        let mut left = 4;
        while left > 0 {
            match finished.try_recv() {
                Ok(()) => left -= 1,
                Err(_) => time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    runtime.block_on(time::timeout(PATIENCE, all)).unwrap().expect("every thread is done");
}

fn foreign_handles(scale: u64) {
    let runtime = Runtime::new().unwrap();
    let (to_abort, handles) = mpsc::channel::<postlude::JoinHandle<()>>();
    let helper = thread::spawn(move || {
        for (n, handle) in handles.into_iter().enumerate() {
            match n % 3 {
                0 => handle.abort(),
                1 => drop(handle),
                _ => drop(handle.abort_on_drop()),
            }
        }
    });
    let gone = Arc::new(AtomicU64::new(0));
    struct Counted(Arc<AtomicU64>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let tasks = 3_000 * scale;
    runtime
        .block_on(async {
            for n in 0..tasks {
                let counted = Counted(Arc::clone(&gone));
                to_abort
                    .send(spawn(async move {
                        let _counted = counted;
                        time::sleep(Duration::from_micros(n % 500)).await;
                    }))
                    .unwrap();
                if n % 16 == 0 {
                    task::yield_now().await;
                }
            }
            drop(to_abort);
            let deadline = time::now() + PATIENCE;
            while gone.load(Ordering::Relaxed) < tasks {
                assert!(time::now() < deadline, "{} of {tasks} tasks ended", gone.load(Ordering::Relaxed));
                time::sleep(Duration::from_millis(1)).await;
            }
        })
        .unwrap();
    helper.join().unwrap();
    empty_inbox(&runtime, tasks);
    assert_eq!(runtime.stats().tasks, 0);
}

/// Takes what other threads have sent: a turn takes a bounded number of messages, but at least one.
fn empty_inbox(runtime: &Runtime, messages: u64) {
    for _ in 0..messages {
        runtime.block_on(task::yield_now()).unwrap();
    }
}

fn foreign_drops(scale: u64) {
    let runtime = Runtime::new().unwrap();
    let (away, dropped) = mpsc::channel::<Box<dyn Send>>();
    let helper = thread::spawn(move || dropped.into_iter().for_each(drop));
    runtime
        .block_on(async {
            for _ in 0..200 * scale {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let mut sleep = time::sleep(Duration::from_secs(600));
                poll_fn(|cx| {
                    assert!(listener.poll_accept(cx).is_pending());
                    assert!(Pin::new(&mut sleep).poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                away.send(Box::new(listener)).unwrap();
                away.send(Box::new(sleep)).unwrap();
            }
            drop(away);
        })
        .unwrap();
    helper.join().unwrap();
    empty_inbox(&runtime, 400 * scale);
    let stats = runtime.stats();
    assert_eq!((stats.sources, stats.timers_set), (0, 0), "what was dropped elsewhere has come home");
}

fn endings(scale: u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (stop, wakers) = (Arc::clone(&stop), Arc::clone(&wakers));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let some: Vec<Waker> = wakers.lock().unwrap().clone();
                    some.iter().for_each(Waker::wake_by_ref);
                    thread::yield_now();
                }
            })
        })
        .collect();
    for _ in 0..300 * scale {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        let mine = Arc::clone(&wakers);
        drop(runtime.spawn(poll_fn(move |cx| {
            let mut wakers = mine.lock().unwrap();
            wakers.push(cx.waker().clone());
            if wakers.len() > 32 {
                wakers.remove(0);
            }
            Poll::<()>::Pending
        })));
        let sender = thread::spawn(move || handle.spawn(|| async {}));
        runtime.block_on(task::yield_now()).unwrap();
        drop(runtime);
        let mut answer = sender.join().unwrap();
        assert!(answer.wait(PATIENCE).is_some(), "a task of a runtime that ended is cancelled, not lost");
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
}

fn blocking_churn(scale: u64) {
    let runtime = Runtime::builder().max_blocking_threads(4).build().unwrap();
    runtime
        .block_on(async {
            for n in 0..2_000 * scale {
                let job = spawn_blocking(move || n);
                match n % 4 {
                    0 => drop(job),
                    1 => job.abort(),
                    _ => assert_eq!(job.await.unwrap(), n),
                }
            }
        })
        .unwrap();
    runtime.shutdown(PATIENCE).unwrap();
}
