//! Blocking jobs: bounded, cancelled or left alone in the documented way, and seen by the paused
//! clock.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use postlude::blocking::Pool;
use postlude::net::lookup_host;
use postlude::task::yield_now;
use postlude::time::{self, sleep, timeout};
use postlude::{Runtime, spawn, spawn_blocking};

const PATIENCE: Duration = Duration::from_secs(20);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn with_threads(threads: usize) -> Runtime {
    Runtime::builder().max_blocking_threads(threads).build().unwrap()
}

/// Runs a future, and fails if that takes too long.
fn run_on<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(timeout(PATIENCE, future)).unwrap().expect("it hangs")
}

/// A job that says when it runs and goes on when it is told to.
struct Gate {
    entered: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
}

fn gate() -> (Gate, impl FnOnce() + Send + 'static) {
    let (enter, entered) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let job = move || {
        let _nobody_waits = enter.send(());
        let _told_or_abandoned = released.recv();
    };
    (Gate { entered, release }, job)
}

impl Gate {
    fn wait_until_entered(&self) {
        self.entered.recv_timeout(PATIENCE).unwrap();
    }

    fn open(self) {
        self.release.send(()).unwrap();
    }
}

/// Tells that it was dropped.
struct Dropped(mpsc::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _test_is_over = self.0.send(());
    }
}

/// A job that must not run, and what receives a message when its closure is dropped.
fn forbidden() -> (Arc<AtomicBool>, mpsc::Receiver<()>, impl FnOnce() + Send + 'static) {
    let ran = Arc::new(AtomicBool::new(false));
    let (sender, dropped) = mpsc::channel();
    let (flag, held) = (Arc::clone(&ran), Dropped(sender));
    let job = move || {
        flag.store(true, Ordering::SeqCst);
        drop(held);
    };
    (ran, dropped, job)
}

#[test]
fn a_job_runs_on_another_thread_and_its_handle_gives_the_result() {
    let name = run_on(&Runtime::new().unwrap(), async {
        let job = spawn_blocking(|| thread::current().name().map(str::to_owned));
        job.await.unwrap()
    });
    assert_eq!(name.as_deref(), Some("postlude-blocking"));
}

#[test]
fn the_panic_of_a_job_is_its_handles_error_and_the_thread_lives_on() {
    run_on(&with_threads(1), async {
        let first = spawn_blocking(|| thread::current().id()).await.unwrap();
        let error = spawn_blocking(|| -> () { resume_unwind(Box::new("quietly")) }).await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.into_panic().unwrap().downcast_ref(), Some(&"quietly"));
        assert_eq!(spawn_blocking(|| thread::current().id()).await.unwrap(), first);
    });
}

#[test]
fn the_panic_of_a_job_nobody_waits_for_is_reported_once() {
    let (seen, text) = mpsc::channel();
    let runtime = Runtime::builder().on_panic(move |panic| seen.send(panic.text.clone()).unwrap()).build().unwrap();
    run_on(&runtime, async {
        drop(spawn_blocking(|| -> () { resume_unwind(Box::new("unseen")) }));
        while runtime.stats().panics == 0 {
            sleep(ms(1)).await;
        }
    });
    assert_eq!(text.try_iter().collect::<Vec<_>>(), ["unseen"]);
}

#[test]
fn no_more_jobs_run_at_a_time_than_the_limit_and_that_many_do() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let three_run = Arc::new(Barrier::new(3));
    run_on(&with_threads(3), async {
        let jobs = (0..60).map(|_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let three_run = Arc::clone(&three_run);
            spawn_blocking(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                three_run.wait();
                running.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for job in join_all(jobs).await {
            job.unwrap();
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[test]
fn a_limit_of_no_threads_is_refused_with_advice() {
    let error = Runtime::builder().max_blocking_threads(0).build().unwrap_err();
    assert!(error.to_string().contains("at least 1"), "{error}");
}

#[test]
fn jobs_start_in_the_order_they_were_spawned() {
    let (sender, order) = mpsc::channel();
    run_on(&with_threads(1), async {
        let jobs = (0..100).map(|n| {
            let sender = sender.clone();
            spawn_blocking(move || sender.send(n).unwrap())
        });
        join_all(jobs).await;
    });
    assert!(order.try_iter().eq(0..100));
}

#[test]
fn thousands_of_jobs_all_come_back_and_the_paused_clock_can_move_again() {
    let runtime = Runtime::builder().paused_clock().max_blocking_threads(8).build().unwrap();
    let sum = runtime
        .block_on(async {
            let mut sum = 0;
            for _ in 0..20 {
                let jobs = join_all((0..200_u64).map(|n| spawn_blocking(move || n))).await;
                sum += jobs.into_iter().map(Result::unwrap).sum::<u64>();
            }
            // Hangs if any job was counted as running for ever.
            sleep(Duration::from_secs(3600)).await;
            sum
        })
        .unwrap();
    assert_eq!(sum, 20 * 199 * 100);
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn aborting_a_job_that_waits_cancels_it_at_once_and_its_closure_is_dropped_unrun() {
    run_on(&with_threads(1), async {
        let (gate, busy) = gate();
        let first = spawn_blocking(busy);
        gate.wait_until_entered();
        let (ran, dropped, job) = forbidden();
        let second = spawn_blocking(job);
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled(), "though the thread is still busy");
        gate.open();
        first.await.unwrap();
        spawn_blocking(|| ()).await.unwrap();
        dropped.recv_timeout(PATIENCE).unwrap();
        assert!(!ran.load(Ordering::SeqCst));
    });
}

#[test]
fn aborting_a_job_that_has_started_does_nothing() {
    run_on(&with_threads(1), async {
        let (gate, busy) = gate();
        let job = spawn_blocking(move || {
            busy();
            7
        });
        gate.wait_until_entered();
        job.abort();
        yield_now().await;
        assert!(!job.is_finished());
        gate.open();
        assert_eq!(job.await.unwrap(), 7);
    });
}

#[test]
fn a_job_whose_handle_is_dropped_runs_all_the_same() {
    let (sender, done) = mpsc::channel();
    let runtime = with_threads(1);
    run_on(&runtime, async {
        drop(spawn_blocking(move || sender.send(7).unwrap()));
        spawn_blocking(|| ()).await.unwrap();
    });
    assert_eq!(done.recv_timeout(PATIENCE), Ok(7));
}

#[test]
fn a_job_whose_abort_on_drop_handle_is_dropped_while_it_waits_never_runs() {
    run_on(&with_threads(1), async {
        let (gate, busy) = gate();
        let first = spawn_blocking(busy);
        gate.wait_until_entered();
        let (ran, dropped, job) = forbidden();
        drop(spawn_blocking(job).abort_on_drop());
        gate.open();
        first.await.unwrap();
        dropped.recv_timeout(PATIENCE).unwrap();
        assert!(!ran.load(Ordering::SeqCst));
    });
}

#[test]
fn jobs_that_wait_when_their_runtime_ends_are_cancelled_and_their_closures_dropped() {
    let runtime = with_threads(1);
    let (gate, busy) = gate();
    let (ran, dropped, job) = forbidden();
    let mut handle = None;
    run_on(&runtime, async {
        drop(spawn_blocking(busy));
        gate.wait_until_entered();
        handle = Some(spawn_blocking(job));
    });
    drop(runtime);
    dropped.try_recv().expect("the closure is dropped when the runtime is");
    let result = run_on(&Runtime::new().unwrap(), handle.unwrap());
    assert!(result.unwrap_err().is_cancelled());
    gate.open();
    assert!(!ran.load(Ordering::SeqCst));
}

#[test]
fn a_job_that_waits_is_dropped_at_home_though_a_thread_becomes_free_while_its_runtime_ends() {
    struct OnDrop<F: FnMut()>(F);
    impl<F: FnMut()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            self.0();
        }
    }
    let runtime = with_threads(1);
    let (gate, busy) = gate();
    let (sender, dropped_on) = mpsc::channel();
    run_on(&runtime, async {
        let running = spawn_blocking(busy);
        gate.wait_until_entered();
        let held = OnDrop(move || sender.send(thread::current().id()).unwrap());
        drop((running, spawn_blocking(move || drop(held))));
        let frees_the_thread = OnDrop(move || {
            gate.release.send(()).unwrap();
            // Time for the thread to look for another job.
            thread::sleep(ms(50));
        });
        drop(spawn(async move {
            let _held = frees_the_thread;
            std::future::pending::<()>().await;
        }));
        yield_now().await;
    });
    drop(runtime);
    assert_eq!(dropped_on.recv_timeout(PATIENCE).unwrap(), thread::current().id());
}

#[test]
fn a_job_spawned_while_its_runtime_ends_is_cancelled_and_its_closure_dropped() {
    struct SpawnOnDrop<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for SpawnOnDrop<F> {
        fn drop(&mut self) {
            self.0.take().unwrap()();
        }
    }
    let runtime = Runtime::new().unwrap();
    let (ran, dropped, job) = forbidden();
    let (sender, handles) = mpsc::channel();
    let last = SpawnOnDrop(Some(move || sender.send(spawn_blocking(job)).unwrap()));
    run_on(&runtime, async {
        drop(spawn(async move {
            let _last = last;
            std::future::pending::<()>().await;
        }));
        yield_now().await;
    });
    drop(runtime);
    dropped.try_recv().unwrap();
    let handle = handles.try_recv().expect("the destructor ran");
    assert!(run_on(&Runtime::new().unwrap(), handle).unwrap_err().is_cancelled());
    assert!(!ran.load(Ordering::SeqCst));
}

#[test]
fn a_job_given_to_a_pool_that_is_shut_down_is_cancelled_and_its_closure_dropped() {
    run_on(&Runtime::new().unwrap(), async {
        let pool = Pool::new(1);
        let (gate, busy) = gate();
        let running = pool.spawn(busy);
        gate.wait_until_entered();
        let (ran, dropped, job) = forbidden();
        let waiting = pool.spawn(job);
        assert_eq!(pool.queued(), 1);
        assert_eq!(pool.shutdown(Duration::ZERO), 1, "one still runs");
        assert!(waiting.await.unwrap_err().is_cancelled());
        dropped.recv_timeout(PATIENCE).unwrap();
        let (ran_later, dropped, job) = forbidden();
        assert!(pool.spawn(job).await.unwrap_err().is_cancelled());
        dropped.try_recv().unwrap();
        gate.open();
        running.await.unwrap();
        assert_eq!(pool.shutdown(PATIENCE), 0);
        assert_eq!((pool.threads(), pool.queued()), (0, 0));
        assert!(!ran.load(Ordering::SeqCst) && !ran_later.load(Ordering::SeqCst));
    });
}

#[test]
fn shutdown_waits_for_running_jobs_but_no_longer_than_its_limit() {
    let runtime = with_threads(1);
    let (gate, busy) = gate();
    run_on(&runtime, async {
        drop(spawn_blocking(busy));
        gate.wait_until_entered();
    });
    let before = Instant::now();
    let error = runtime.shutdown(ms(50)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(error.to_string().starts_with('1'), "{error}");
    assert!(before.elapsed() >= ms(50) && before.elapsed() < ms(2000), "{:?}", before.elapsed());
    gate.open();
}

#[test]
fn shutdown_ends_with_the_last_job() {
    let runtime = with_threads(4);
    let done = Arc::new(AtomicUsize::new(0));
    run_on(&runtime, async {
        let (sender, entered) = mpsc::channel();
        for _ in 0..4 {
            let (sender, done) = (sender.clone(), Arc::clone(&done));
            drop(spawn_blocking(move || {
                sender.send(()).unwrap();
                thread::sleep(ms(30));
                done.fetch_add(1, Ordering::SeqCst);
            }));
        }
        assert_eq!(entered.iter().take(4).count(), 4);
    });
    let before = Instant::now();
    runtime.shutdown(Duration::MAX).unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 4);
    assert!(before.elapsed() < PATIENCE);
}

#[test]
fn a_runtime_is_dropped_at_once_and_a_running_job_outlives_it_silently() {
    let runtime = Runtime::builder().on_panic(|panic| panic!("reported: {panic}")).build().unwrap();
    let (gate, busy) = gate();
    let (sender, output_dropped) = mpsc::channel();
    let mut handle = None;
    run_on(&runtime, async {
        handle = Some(spawn_blocking(move || {
            busy();
            Dropped(sender)
        }));
        gate.wait_until_entered();
    });
    let before = Instant::now();
    drop(runtime);
    assert!(before.elapsed() < ms(2000), "{:?}", before.elapsed());
    gate.open();
    output_dropped.recv_timeout(PATIENCE).expect("its result, which nobody can get, is dropped");
    assert!(run_on(&Runtime::new().unwrap(), handle.unwrap()).map(drop).unwrap_err().is_cancelled());
}

#[test]
fn a_job_that_outlives_its_runtime_touches_no_later_one() {
    let (gate, busy) = gate();
    let (sender, done) = mpsc::channel();
    let runtime = Runtime::new().unwrap();
    run_on(&runtime, async {
        drop(spawn_blocking(move || {
            busy();
            Dropped(sender)
        }));
        gate.wait_until_entered();
    });
    drop(runtime);
    let later = Runtime::new().unwrap();
    run_on(&later, async {
        gate.open();
        done.recv_timeout(PATIENCE).unwrap();
        sleep(ms(20)).await;
    });
    assert_eq!((later.stats().messages, later.stats().wake_calls), (0, 0));
}

#[test]
fn the_paused_clock_never_jumps_while_a_job_runs() {
    let runtime = Runtime::builder().paused_clock().build().unwrap();
    runtime
        .block_on(async {
            let start = time::now();
            let ended_early = spawn(async {
                sleep(ms(1)).await;
            });
            for _ in 0..5 {
                spawn_blocking(|| thread::sleep(ms(10))).await.unwrap();
                assert_eq!(time::now(), start);
                assert!(!ended_early.is_finished());
            }
            ended_early.await.unwrap();
            assert_eq!(time::now() - start, ms(1), "and goes on afterwards");
        })
        .unwrap();
}

#[test]
fn the_paused_clock_waits_for_a_job_whose_handle_was_dropped_or_aborted() {
    let runtime = Runtime::builder().paused_clock().max_blocking_threads(1).build().unwrap();
    runtime
        .block_on(async {
            for abort in [false, true] {
                let (gate, busy) = gate();
                let done = Arc::new(AtomicBool::new(false));
                let flag = Arc::clone(&done);
                let job = spawn_blocking(move || {
                    busy();
                    thread::sleep(ms(30));
                    flag.store(true, Ordering::SeqCst);
                });
                gate.wait_until_entered();
                if abort {
                    job.abort();
                }
                drop(job);
                gate.open();
                sleep(ms(1)).await;
                assert!(done.load(Ordering::SeqCst), "the clock did not wait; abort: {abort}");
            }
        })
        .unwrap();
}

#[test]
fn a_job_does_not_hold_up_the_loop() {
    run_on(&with_threads(1), async {
        let (gate, busy) = gate();
        let job = spawn_blocking(busy);
        for _ in 0..10 {
            sleep(ms(1)).await;
        }
        assert!(!job.is_finished());
        gate.open();
        job.await.unwrap();
    });
}

#[test]
fn a_pool_of_its_own_is_not_held_up_by_the_runtimes() {
    run_on(&with_threads(1), async {
        let (gate, busy) = gate();
        let hanging = spawn_blocking(busy);
        let queued: Vec<_> = (0..10).map(|_| spawn_blocking(|| ())).collect();
        gate.wait_until_entered();
        let files = Pool::new(1);
        assert_eq!(files.clone().spawn(|| 7).await.unwrap(), 7);
        assert_eq!(files.threads(), 1, "a clone is the same pool");
        assert!(queued.iter().all(|job| !job.is_finished()));
        gate.open();
        hanging.await.unwrap();
        join_all(queued).await;
    });
}

#[test]
fn an_idle_pool_has_no_threads_before_its_first_job_and_serves_many_with_one() {
    run_on(&Runtime::new().unwrap(), async {
        let pool = Pool::new(8);
        assert_eq!(pool.threads(), 0);
        for _ in 0..500 {
            pool.spawn(|| ()).await.unwrap();
        }
        assert_eq!(pool.threads(), 1, "for one job at a time");
        assert_eq!(Pool::new(0).spawn(|| 1).await.unwrap(), 1, "no threads counts as one");
    });
}

#[test]
fn results_that_come_while_the_loop_is_awake_wake_it_with_no_system_call() {
    let runtime = Runtime::new().unwrap();
    run_on(&runtime, async {
        let pool = Pool::new(4);
        let jobs: Vec<_> = (0..64).map(|n| pool.spawn(move || n)).collect();
        // The loop stays in this poll until every result was sent.
        while pool.queued() > 0 {
            thread::yield_now();
        }
        assert_eq!(pool.shutdown(PATIENCE), 0);
        let sum: usize = join_all(jobs).await.into_iter().map(Result::unwrap).sum();
        assert_eq!(sum, 64 * 63 / 2);
        // The turn that follows has taken the messages.
        yield_now().await;
    });
    let stats = runtime.stats();
    assert_eq!((stats.wake_calls, stats.messages), (0, 64));
}

#[test]
fn a_job_costs_one_message_and_a_sleep_of_the_loop_at_most_one_wake_up_call() {
    const JOBS: u64 = 5000;
    let runtime = Runtime::new().unwrap();
    run_on(&runtime, async {
        let in_flight = (0..64).map(|task| {
            spawn(async move {
                for job in (task..JOBS).step_by(64) {
                    assert_eq!(spawn_blocking(move || job).await.unwrap(), job);
                }
            })
        });
        for task in join_all(in_flight).await {
            task.unwrap();
        }
    });
    let stats = runtime.stats();
    // A result that its task has found already leaves a message that may not have been taken.
    assert!(stats.messages <= JOBS && stats.messages + 64 >= JOBS, "{stats:?}");
    assert!(stats.wake_calls <= stats.parks, "{stats:?}");
}

#[test]
fn a_job_spawned_outside_a_runtime_panics_with_advice() {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(spawn_blocking(|| ())))).unwrap_err();
    let text = payload.downcast_ref::<String>().unwrap();
    assert!(text.contains("spawn_blocking") && text.contains("postlude::run"), "{text}");
}

#[test]
fn a_name_is_looked_up_on_a_thread_and_a_literal_address_in_place() {
    let runtime = with_threads(1);
    run_on(&runtime, async {
        assert_eq!(lookup_host("127.0.0.1:80").await.unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(lookup_host(("::1", 81)).await.unwrap(), ["[::1]:81".parse().unwrap()]);
        assert_eq!(lookup_host("[::1]:82").await.unwrap(), ["[::1]:82".parse().unwrap()]);
        assert_eq!((runtime.stats().spawned, runtime.stats().parks), (0, 0), "without a job");
        let found = lookup_host("localhost:83").await.unwrap();
        assert!(!found.is_empty() && found.iter().all(|at| at.ip().is_loopback() && at.port() == 83), "{found:?}");
        assert_eq!(runtime.stats().spawned, 1, "with one");
    });
}

#[test]
fn a_host_without_a_port_is_an_error_that_says_so() {
    run_on(&Runtime::new().unwrap(), async {
        for host in ["localhost", "localhost:http", "localhost:65536", ""] {
            let error = lookup_host(host).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{host}");
            assert!(error.to_string().contains(host), "{error}");
        }
    });
}

#[test]
fn a_name_is_looked_up_though_all_blocking_threads_are_busy() {
    let runtime = with_threads(1);
    run_on(&runtime, async {
        let (gate, busy) = gate();
        let hanging = spawn_blocking(busy);
        gate.wait_until_entered();
        lookup_host("localhost:80").await.unwrap();
        gate.open();
        hanging.await.unwrap();
    });
}

#[test]
fn dropping_a_look_up_leaves_no_task_behind() {
    let runtime = with_threads(1);
    run_on(&runtime, async {
        for n in 0..100 {
            let _one_poll = timeout(ms(0), lookup_host((format!("{n}.localhost"), 80))).await;
        }
        while runtime.stats().tasks > 1 {
            sleep(ms(1)).await;
        }
    });
}

#[test]
fn an_output_that_panics_when_nobody_fetches_it_leaves_its_thread_alive() {
    struct PanicOnDrop;
    impl Drop for PanicOnDrop {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("in drop"));
        }
    }
    let pool = postlude::blocking::Pool::new(1);
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let (entered, running) = std::sync::mpsc::channel();
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            drop(pool.spawn(move || {
                entered.send(()).unwrap();
                let _released = gate.recv();
                PanicOnDrop
            }));
        })
        .unwrap();
    running.recv().unwrap();
    drop(runtime);
    drop(release);
    let other = Runtime::new().unwrap();
    assert_eq!(other.block_on(async { pool.spawn(|| 5).await }).unwrap().unwrap(), 5);
    assert_eq!(pool.shutdown(std::time::Duration::from_secs(20)), 0);
}

#[test]
fn a_plain_thread_reads_the_result_of_a_job_it_submitted_or_its_panic() {
    let pool = Pool::new(1);
    assert_eq!(pool.submit(|| 6 * 7).wait(PATIENCE).unwrap().unwrap(), 42);
    let error = pool.submit(|| -> () { resume_unwind(Box::new("quietly")) }).wait(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.into_panic().unwrap().downcast_ref(), Some(&"quietly"));
    assert_eq!(pool.submit(|| "alive").wait(PATIENCE).unwrap().unwrap(), "alive", "the thread lives on");
    assert_eq!(pool.threads(), 1);
}

#[test]
fn a_wait_that_has_reached_its_limit_can_be_repeated_and_gives_the_result_once() {
    let pool = Pool::new(1);
    let (gate, block) = gate();
    let mut job = pool.submit(move || {
        block();
        String::from("late")
    });
    gate.wait_until_entered();
    assert!(job.wait(Duration::ZERO).is_none());
    assert!(job.wait(ms(5)).is_none());
    assert!(!job.is_finished());
    job.abort();
    assert!(job.wait(Duration::ZERO).is_none(), "it has started, so it is not cancelled");
    gate.open();
    assert_eq!(job.wait(PATIENCE).unwrap().unwrap(), "late");
    assert!(job.is_finished());
    assert!(job.wait(Duration::MAX).is_none(), "the result was taken");
}

#[test]
fn a_submitted_job_aborted_before_it_starts_is_cancelled_at_once_and_never_runs() {
    let pool = Pool::new(1);
    let (gate, block) = gate();
    let first = pool.submit(block);
    gate.wait_until_entered();
    let (ran, dropped, job) = forbidden();
    let mut second = pool.submit(job);
    assert!(second.wait(Duration::ZERO).is_none());
    second.abort();
    assert!(second.is_finished());
    assert!(second.wait(Duration::ZERO).unwrap().unwrap_err().is_cancelled());
    second.abort();
    drop(first);
    gate.open();
    dropped.recv_timeout(PATIENCE).unwrap();
    assert!(!ran.load(Ordering::SeqCst));
}

#[test]
fn a_submitted_job_outlives_its_pools_handles_but_not_its_shutdown() {
    let pool = Pool::new(1);
    let (gate, block) = gate();
    let mut first = pool.submit(block);
    let mut second = pool.submit(|| 2);
    gate.wait_until_entered();
    drop(pool);
    gate.open();
    assert!(first.wait(PATIENCE).unwrap().is_ok());
    assert_eq!(second.wait(PATIENCE).unwrap().unwrap(), 2);

    let pool = Pool::new(1);
    assert_eq!(pool.shutdown(PATIENCE), 0);
    let (ran, dropped, job) = forbidden();
    assert!(pool.submit(job).wait(PATIENCE).unwrap().unwrap_err().is_cancelled());
    dropped.recv_timeout(PATIENCE).unwrap();
    assert!(!ran.load(Ordering::SeqCst));
}

#[test]
fn a_submitted_job_may_be_awaited_on_a_loop_that_was_not_there_when_it_began() {
    let pool = Pool::new(1);
    let (gate, block) = gate();
    let job = pool.submit(block);
    gate.wait_until_entered();
    let runtime = Runtime::new().unwrap();
    let task = runtime.spawn(job);
    let opener = runtime.spawn(async move {
        sleep(ms(2)).await;
        gate.open();
    });
    run_on(&runtime, async {
        opener.await.unwrap();
        task.await.unwrap().unwrap();
    });
    // And its runtime may go before it.
    let (gate, block) = self::gate();
    let mut job = pool.submit(block);
    gate.wait_until_entered();
    run_on(&runtime, async { assert!(timeout(ms(1), &mut job).await.is_err()) });
    drop(runtime);
    gate.open();
    assert!(job.wait(PATIENCE).unwrap().is_ok());
}

#[test]
fn a_waker_that_panics_leaves_the_jobs_thread_alive() {
    struct Loud;
    impl std::task::Wake for Loud {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new("woken"));
        }
    }
    let pool = Pool::new(1);
    let (gate, block) = gate();
    let mut job = pool.submit(block);
    gate.wait_until_entered();
    let waker = Arc::new(Loud).into();
    let polled = std::pin::Pin::new(&mut job).poll(&mut std::task::Context::from_waker(&waker));
    assert!(polled.is_pending());
    gate.open();
    assert!(job.wait(PATIENCE).unwrap().is_ok());
    let id = pool.submit(|| thread::current().id()).wait(PATIENCE).unwrap().unwrap();
    assert_eq!(pool.submit(|| thread::current().id()).wait(PATIENCE).unwrap().unwrap(), id);
    assert_eq!(pool.threads(), 1, "a thread that had died would still be on the books, and no other would come");
}

#[test]
fn a_semaphore_in_front_of_a_pool_bounds_its_queue() {
    const JOBS: usize = 4;
    let pool = Pool::new(2);
    let done = postlude::run(async {
        let admission = Rc::new(postlude::sync::Semaphore::new(JOBS));
        let mut set = postlude::task::JoinSet::new();
        for n in 0..200 {
            let permit = admission.acquire_owned().await.unwrap();
            let job = pool.spawn(move || n);
            assert!(pool.queued() <= JOBS, "{} wait", pool.queued());
            set.spawn(async move {
                let result = job.await.unwrap();
                drop(permit);
                result
            });
        }
        let mut sum = 0;
        while let Some(result) = set.join_next().await {
            sum += result.unwrap();
        }
        sum
    });
    assert_eq!(done.unwrap(), (0..200).sum::<i32>());
}
