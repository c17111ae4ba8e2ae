//! The deferred queue: order, gates, lanes, tries, cancelling, and books that agree.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use postlude::deferred::{AddError, Fault, Info, Lane, Limit, Outcome, Queue, Retry, Running, Stats, Status};
use postlude::task::{Local, yield_now};
use postlude::time;

const SECOND: Duration = Duration::from_secs(1);

/// Runs on a paused clock.
fn run<T>(body: impl AsyncFnOnce() -> T) -> T {
    postlude::Runtime::builder().paused_clock().build().unwrap().block_on(body()).unwrap()
}

/// A log that jobs write.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn say(&self, text: impl Into<String>) {
        self.0.borrow_mut().push(text.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.borrow_mut())
    }
}

fn balanced(stats: &Stats) {
    for lane in &stats.lanes {
        let ended = lane.done + lane.failed + lane.skipped + lane.cancelled + lane.unfinished;
        assert_eq!(lane.accepted, lane.waiting + lane.running + ended, "{lane:?}");
    }
}

fn status(queue: &Queue, id: postlude::deferred::JobId) -> Status {
    queue.get(id).expect("the job is still kept").status
}

#[test]
fn jobs_of_a_group_run_in_order_once_it_is_released() {
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        let group = queue.group("GET /", 1);
        for n in 0..3 {
            let log = log.clone();
            group
                .add(async move {
                    log.say(format!("begin {n}"));
                    yield_now().await;
                    log.say(format!("end {n}"));
                })
                .unwrap();
        }
        time::sleep(SECOND).await;
        assert!(log.take().is_empty(), "the gate is shut");
        assert_eq!(queue.stats().total().waiting, 3);
        group.release(Outcome::Delivered);
        queue.idle().await;
        assert_eq!(log.take(), ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"]);
        assert_eq!(queue.stats().total().done, 3);
        assert_eq!(group.add(async {}), Err(AddError::Closed));
    });
}

#[test]
fn jobs_of_a_concurrent_group_overlap() {
    run(async || {
        let queue = Queue::new();
        let group = queue.group("", 0);
        group.concurrent();
        for _ in 0..2 {
            group.add(time::sleep(SECOND)).unwrap();
        }
        let began = time::now();
        group.release(Outcome::Delivered);
        queue.idle().await;
        assert_eq!(time::now() - began, SECOND);
    });
}

#[test]
fn each_condition_runs_on_its_outcomes_and_what_does_not_run_is_told() {
    for (outcome, runs) in [
        (Outcome::Delivered, ["answer", "delivered", "always"].as_slice()),
        (Outcome::Aborted, &["answer", "always"]),
        (Outcome::Failed(404), &["failure", "always"]),
    ] {
        run(async || {
            let told = Rc::new(RefCell::new(Vec::new()));
            let events = Rc::clone(&told);
            let hook = move |info: &Info, fault: Option<&Fault>| {
                if info.status == Status::Skipped {
                    assert!(matches!(fault, Some(Fault::Condition(_))));
                    events.borrow_mut().push(info.name.to_string());
                }
            };
            let (queue, log) = (Queue::builder().on_event(hook).build(), Log::default());
            let group = queue.group("GET /x", 3);
            let names = ["answer", "delivered", "failure", "always"];
            for name in names {
                let log = log.clone();
                let task = group.task(name);
                let work = async move |job: Running| log.say(format!("{name} {:?}", job.outcome().unwrap()));
                match name {
                    "delivered" => task.only_delivered().run(work),
                    "failure" => task.on_failure().run(work),
                    "always" => task.always().run(work),
                    _ => task.run(work),
                }
                .unwrap();
            }
            group.release(outcome);
            queue.idle().await;
            let expected: Vec<_> = runs.iter().map(|name| format!("{name} {outcome:?}")).collect();
            assert_eq!(log.take(), expected);
            let skipped: Vec<_> = names.into_iter().filter(|name| !runs.contains(name)).collect();
            assert_eq!(*told.borrow(), skipped);
            balanced(&queue.stats());
        });
    }
}

#[test]
fn a_group_that_is_dropped_unreleased_counts_as_aborted() {
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        let group = queue.group("", 0);
        let (one, two) = (log.clone(), log.clone());
        group.add(async move { one.say("ran") }).unwrap();
        group.task("mail").only_delivered().run(async move || two.say("not this")).unwrap();
        drop(group.clone());
        assert_eq!(group.outcome(), None, "a clone is left");
        drop(group);
        queue.idle().await;
        assert_eq!(log.take(), ["ran"]);
        assert_eq!(queue.stats().total().skipped, 1);
    });
}

#[test]
fn a_job_may_add_to_its_group_while_it_runs() {
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        let group = queue.group("", 0);
        let (inner, outer) = (log.clone(), log.clone());
        let more = group.clone();
        group
            .add(async move {
                outer.say("first");
                more.add(async move { inner.say("added") }).unwrap();
            })
            .unwrap();
        group.release(Outcome::Delivered);
        queue.idle().await;
        assert_eq!(log.take(), ["first", "added"]);
    });
}

#[test]
fn a_failure_leaves_the_others_alone_unless_the_group_stops_on_errors() {
    for stops in [false, true] {
        run(async || {
            let (queue, log) = (Queue::new(), Log::default());
            let group = queue.group("POST /order", 9);
            if stops {
                group.stop_on_error();
            }
            let charge = group.task("charge").run(async || Err::<(), _>("no money")).unwrap();
            let panics = group.task("panics").run(async || -> () { panic!("on purpose") }).unwrap();
            let last = log.clone();
            let ship = group.task("ship").run(async move || last.say("ship")).unwrap();
            group.release(Outcome::Delivered);
            queue.idle().await;
            assert_eq!(status(&queue, charge), Status::Failed);
            assert_eq!(queue.get(charge).unwrap().fault.as_deref(), Some("no money"));
            if stops {
                assert_eq!((status(&queue, panics), status(&queue, ship)), (Status::Skipped, Status::Skipped));
                assert_eq!(queue.get(ship).unwrap().fault.as_deref(), Some("'charge' failed before it"));
            } else {
                assert_eq!(queue.get(panics).unwrap().fault.as_deref(), Some("panicked: on purpose"));
                assert_eq!(log.take(), ["ship"]);
            }
            balanced(&queue.stats());
        });
    }
}

#[test]
fn a_job_is_tried_again_after_errors_worth_it_and_waits_longer_each_time() {
    run(async || {
        let (queue, tries) = (Queue::new(), Rc::new(RefCell::new(Vec::new())));
        let began = time::now();
        let noted = Rc::clone(&tries);
        let retry = Retry::times(4).first(SECOND).most(3 * SECOND).jitter(0.0);
        let id = queue
            .task("mail")
            .retry(retry)
            .run(async move |job: Running| {
                noted.borrow_mut().push((job.attempt(), (time::now() - began).as_secs()));
                if job.attempt() < 4 { Err("greylisted") } else { Ok(()) }
            })
            .unwrap();
        queue.idle().await;
        assert_eq!(*tries.borrow(), [(1, 0), (2, 1), (3, 3), (4, 6)]);
        let info = queue.get(id).unwrap();
        assert_eq!((info.status, info.attempt), (Status::Done, 4));
        balanced(&queue.stats());
    });
}

#[test]
fn only_errors_that_are_named_and_timeouts_are_tried_again() {
    run(async || {
        let queue = Queue::new();
        let io_only = || {
            Retry::times(3)
                .first(Duration::from_millis(1))
                .only(|error| error.downcast_ref::<std::io::Error>().is_some())
        };
        let text = queue.task("text").retry(io_only()).run(async || Err::<(), _>("no")).unwrap();
        let io = queue.task("io").retry(io_only()).run(async || Err::<(), _>(std::io::Error::other("no"))).unwrap();
        let panics = queue.task("panics").retry(io_only()).run(async || -> () { panic!("no") }).unwrap();
        let slow = queue
            .task("slow")
            .timeout(SECOND)
            .retry(io_only())
            .run(async || std::future::pending::<()>().await)
            .unwrap();
        queue.idle().await;
        for (id, attempts) in [(text, 1), (io, 3), (panics, 1), (slow, 3)] {
            let info = queue.get(id).unwrap();
            assert_eq!((info.status, info.attempt), (Status::Failed, attempts), "{info}");
        }
        assert_eq!(queue.get(slow).unwrap().fault.as_deref(), Some("took longer than its 1s: stopped after 1.0s"));
    });
}

#[test]
fn a_delay_or_a_backoff_holds_up_neither_its_group_nor_the_server_but_a_lane_does() {
    run(async || {
        let (queue, log) = (Queue::builder().lane(Lane::on_loop("narrow").at_once(1)).build(), Log::default());
        let group = queue.group("", 0);
        let say = |text: &'static str| {
            let log = log.clone();
            async move || log.say(text)
        };
        group.task("later").after(5 * SECOND).run(say("later")).unwrap();
        let failing = log.clone();
        group
            .task("again")
            .retry(Retry::times(2).first(SECOND).jitter(0.0))
            .run(async move |job: Running| {
                failing.say(format!("try {}", job.attempt()));
                if job.attempt() == 1 { Err("once") } else { Ok(()) }
            })
            .unwrap();
        group.task("narrow").lane("narrow").run(say("narrow")).unwrap();
        let last = say("last");
        group.add(async move { last().await }).unwrap();
        // The lane is taken for two seconds.
        queue.task("other").lane("narrow").run(async || time::sleep(2 * SECOND).await).unwrap();
        yield_now().await;
        group.release(Outcome::Delivered);
        time::sleep(SECOND / 2).await;
        assert_eq!(queue.ready(), 0, "nothing that waits is ready");
        queue.idle().await;
        assert_eq!(log.take(), ["try 1", "try 2", "narrow", "last", "later"]);
    });
}

#[test]
fn a_lane_runs_as_many_at_once_as_it_may_and_refuses_who_may_not_wait() {
    run(async || {
        let lane = Lane::on_loop("email").at_once(2).waiting(3);
        let queue = Queue::builder().lane(lane).build();
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let mut refused = 0;
        for _ in 0..10 {
            let (now, most) = (Rc::clone(&now), Rc::clone(&most));
            let added = queue.task("mail").lane("email").run(async move || {
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                time::sleep(SECOND).await;
                now.set(now.get() - 1);
            });
            match added {
                Ok(_) => yield_now().await,
                Err(error) => {
                    assert_eq!(error, AddError::Full(Limit::Lane));
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 5, "two run and three wait");
        queue.idle().await;
        assert_eq!(most.get(), 2);
        balanced(&queue.stats());
    });
}

#[test]
fn a_lane_takes_one_kind_of_work_and_says_so() {
    run(async || {
        let queue = Queue::builder().lane(Lane::on_threads("thumbnails")).build();
        let wrong = queue.task("x").lane("thumbnails").run(async || {}).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "the lane `thumbnails` takes another kind of work; add to it with `run_blocking`"
        );
        let none = queue.task("x").lane("nowhere").run(async || {}).unwrap_err();
        assert_eq!(none.to_string(), "the queue has no lane `nowhere`; add it with `QueueBuilder::lane`");
        assert_eq!(queue.stats().total().accepted, 0);
    });
}

#[test]
fn the_limit_of_the_queue_counts_what_is_reserved() {
    run(async || {
        let queue = Queue::builder().pending(3).build();
        let mut permit = queue.reserve(2).unwrap();
        queue.add(std::future::pending::<()>()).unwrap();
        assert_eq!(queue.add(async {}), Err(AddError::Full(Limit::Queue)));
        let id = permit.add(async {}).unwrap();
        let mut seen = 0;
        while status(&queue, id) != Status::Done && seen < 10 {
            yield_now().await;
            seen += 1;
        }
        permit.add(async {}).unwrap();
        assert_eq!(permit.add(async {}), Err(AddError::Full(Limit::Queue)), "it is used up");
        assert!(queue.reserve(9).is_err());
        let small = Queue::builder().pending(2).build();
        drop(small.reserve(2).unwrap());
        assert!(small.reserve(2).is_ok(), "a permit gives back what is left");
    });
}

#[test]
fn cancelling_ends_a_job_wherever_it_is_and_drops_what_it_owns() {
    struct Owned(Log, &'static str);
    impl Drop for Owned {
        fn drop(&mut self) {
            self.0.say(self.1);
        }
    }
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        let own = |text| Owned(log.clone(), text);
        let group = queue.group("", 0);
        let (a, b, c, d) = (own("in line"), own("delayed"), own("running"), own("single"));
        let in_line = group.add(async move { drop(a) }).unwrap();
        let delayed = group.task("delayed").after(SECOND).run(async move || drop(b)).unwrap();
        let running = group
            .add(async move {
                let _owned = c;
                std::future::pending::<()>().await;
            })
            .unwrap();
        let last = group.add(async {}).unwrap();
        let single = queue
            .add(async move {
                let _owned = d;
                std::future::pending::<()>().await;
            })
            .unwrap();
        assert!(queue.cancel(in_line));
        assert_eq!(log.take(), ["in line"], "what waits is dropped at once");
        group.release(Outcome::Delivered);
        time::sleep(SECOND / 2).await;
        assert_eq!(status(&queue, running), Status::Running);
        for (id, text) in [(delayed, "delayed"), (running, "running"), (single, "single")] {
            assert!(queue.cancel(id));
            time::sleep(Duration::from_millis(1)).await;
            assert_eq!(log.take(), [text]);
            assert_eq!(status(&queue, id), Status::Cancelled);
            assert!(!queue.cancel(id), "it is over");
        }
        queue.idle().await;
        assert_eq!(status(&queue, last), Status::Done, "those behind it run");
        assert_eq!(queue.stats().total().cancelled, 4);
        balanced(&queue.stats());
    });
}

#[test]
fn a_job_that_waits_is_over_as_soon_as_it_is_cancelled_whatever_it_waits_for() {
    run(async || {
        let queue = Queue::builder().lane(Lane::on_loop("narrow").at_once(1)).on_fault(|_, _| {}).build();
        let owned = Rc::new(());
        let job = |name: &'static str, owned: Rc<()>| {
            queue.task(name).retry(Retry::times(2)).run(async move |_: Running| {
                let _owned = Rc::clone(&owned);
                Err::<(), _>("no")
            })
        };
        let first =
            queue.task("first").lane("narrow").key("key").run(async || std::future::pending::<()>().await).unwrap();
        time::sleep(SECOND / 10).await;
        let hold = || Rc::clone(&owned);
        let (a, b, c) = (hold(), hold(), hold());
        let waits = [
            ("its next try", job("again", hold()).unwrap()),
            ("its delay", queue.task("later").after(SECOND).run(async move || drop(a)).unwrap()),
            ("its lane", queue.task("narrow").lane("narrow").run(async move || drop(b)).unwrap()),
            ("its key", queue.task("key").key("key").run(async move || drop(c)).unwrap()),
        ];
        time::sleep(SECOND / 10).await;
        for (what, id) in waits {
            assert_eq!(status(&queue, id), Status::Waiting);
            let before = Rc::strong_count(&owned);
            assert!(queue.cancel(id));
            assert_eq!((status(&queue, id), Rc::strong_count(&owned)), (Status::Cancelled, before - 1), "for {what}");
            assert!(!queue.cancel(id), "it is over");
            balanced(&queue.stats());
        }
        // Neither the lane nor the key was taken along.
        let behind = queue.task("behind").lane("narrow").key("key").run(async || ()).unwrap();
        assert!(queue.cancel(first));
        time::timeout(SECOND, queue.idle()).await.expect("all end");
        assert_eq!((status(&queue, behind), queue.stats().total().cancelled), (Status::Done, 5));
    });
}

#[test]
fn a_job_that_is_cancelled_between_its_tries_gives_back_its_key() {
    run(async || {
        let cell: Rc<RefCell<Option<Queue>>> = Rc::default();
        let hook = Rc::clone(&cell);
        let queue = Queue::builder()
            .on_event(move |job, fault| {
                if job.status == Status::Waiting && fault.is_some() {
                    assert!(hook.borrow().as_ref().unwrap().cancel(job.id));
                }
            })
            .build();
        *cell.borrow_mut() = Some(queue.clone());
        let again = Retry::times(9).first(Duration::ZERO);
        let fails = queue.task("fails").key("key").retry(again).run(async || {
            yield_now().await;
            Err::<(), _>("no")
        });
        let (fails, mut other) = (fails.unwrap(), None);
        while status(&queue, fails) != Status::Cancelled {
            // It runs, so this one waits for its end.
            other = other.or_else(|| {
                let is_running = status(&queue, fails) == Status::Running;
                is_running.then(|| queue.task("other").key("key").run(async || ()).unwrap())
            });
            yield_now().await;
        }
        time::timeout(SECOND, queue.idle()).await.expect("the key is free");
        assert_eq!(status(&queue, other.unwrap()), Status::Done);
        balanced(&queue.stats());
        *cell.borrow_mut() = None;
    });
}

#[test]
fn a_blocking_job_runs_until_its_thread_lets_go() {
    let runtime = postlude::Runtime::new().unwrap();
    runtime
        .block_on(async {
            let queue = Queue::builder().lane(Lane::on_threads("one").at_once(1)).build();
            let (begun, has_begun) = mpsc::channel();
            let (go, may_go) = mpsc::channel::<()>();
            let seen = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&seen);
            let id = queue
                .task("convert")
                .lane("one")
                .timeout(Duration::from_millis(20))
                .run_blocking(move |job: Running| {
                    begun.send(()).unwrap();
                    job.progress(1, 2);
                    may_go.recv().unwrap();
                    told.store(job.is_cancelled(), Ordering::SeqCst);
                })
                .unwrap();
            let behind = queue.task("behind").lane("one").run_blocking(|| {}).unwrap();
            while has_begun.try_recv().is_err() {
                time::sleep(Duration::from_millis(1)).await;
            }
            time::sleep(Duration::from_millis(60)).await;
            let info = queue.get(id).unwrap();
            assert_eq!((info.status, info.progress), (Status::Running, Some((1, 2))));
            assert_eq!(status(&queue, behind), Status::Waiting);
            go.send(()).unwrap();
            queue.idle().await;
            assert!(seen.load(Ordering::SeqCst), "it was told that its time is over");
            assert_eq!(status(&queue, id), Status::Failed);
            assert_eq!(status(&queue, behind), Status::Done);
            balanced(&queue.stats());
        })
        .unwrap();
}

#[test]
fn errors_and_panics_of_threads_come_back_with_their_text() {
    run(async || {
        let queue = Queue::new();
        let error = queue.task("error").run_blocking(|| Err::<(), _>(std::io::Error::other("disk full"))).unwrap();
        let panics = queue.task("panics").run_blocking(|| -> () { panic!("on a thread") }).unwrap();
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let again = queue
            .task("again")
            .retry(Retry::times(3).first(Duration::from_millis(1)))
            .run_blocking(move || if counted.fetch_add(1, Ordering::SeqCst) < 2 { Err("not yet") } else { Ok(()) })
            .unwrap();
        queue.idle().await;
        assert_eq!(queue.get(error).unwrap().fault.as_deref(), Some("disk full"));
        assert_eq!(queue.get(panics).unwrap().fault.as_deref(), Some("panicked: on a thread"));
        assert_eq!((status(&queue, again), tries.load(Ordering::SeqCst)), (Status::Done, 3));
    });
}

#[test]
fn a_key_makes_one_job_of_those_that_wait_and_one_more_of_those_behind_it() {
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        let add = |n: u32| {
            let log = log.clone();
            let work = async move || {
                log.say(format!("begin {n}"));
                time::sleep(SECOND).await;
                log.say(format!("end {n}"));
            };
            queue.task("rebuild").key("shop").run(work).unwrap()
        };
        let (first, same) = (add(1), add(2));
        assert_eq!(first, same, "it waits: the second is the first");
        time::sleep(SECOND / 2).await;
        let (behind, same) = (add(3), add(4));
        assert_ne!(first, behind);
        assert_eq!(behind, same);
        queue.idle().await;
        assert_eq!(log.take(), ["begin 1", "end 1", "begin 3", "end 3"]);
        assert_ne!(add(5), behind, "nothing is left of the key");
        queue.idle().await;
        assert_eq!(queue.stats().total().done, 3);
    });
}

#[test]
fn a_periodic_job_runs_each_period_and_never_beside_itself() {
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        let (noted, began) = (log.clone(), time::now());
        let clean = queue.every(SECOND, "clean", async move || {
            noted.say(format!("{}", (time::now() - began).as_secs()));
            time::sleep(3 * SECOND / 2).await;
        });
        time::sleep(6 * SECOND).await;
        clean.stop();
        time::sleep(6 * SECOND).await;
        let runs = log.take();
        assert_eq!(runs[0], "1");
        assert!((3..=5).contains(&runs.len()), "{runs:?}");
        assert_eq!(queue.stats().total().done as usize, runs.len());
    });
}

#[test]
fn the_queue_drains_what_it_can_and_names_what_it_cuts_off() {
    run(async || {
        let queue = Queue::new();
        let quick = queue.task("quick").run(async || time::sleep(SECOND).await).unwrap();
        let endless = queue.task("endless").run(async || std::future::pending::<()>().await).unwrap();
        let delayed = queue.task("delayed").after(SECOND / 2).run(async || {}).unwrap();
        let group = queue.group("GET /never", 4);
        let unanswered = group.add(async {}).unwrap();
        let stopped = queue.task("polite").run(async |job: Running| job.stopping().await).unwrap();
        time::sleep(Duration::from_millis(10)).await;
        let began = time::now();
        let report = queue.drain(2 * SECOND).await;
        assert_eq!(time::now() - began, 2 * SECOND);
        let names: Vec<_> = report.unfinished.iter().map(|info| (info.id, info.status)).collect();
        assert_eq!(names, [(endless, Status::Running), (delayed, Status::Waiting), (unanswered, Status::Waiting)]);
        assert_eq!(report.ended, 2);
        assert!(report.to_string().starts_with("3 background tasks unfinished\n  'endless', running, 2.0 s old"));
        assert_eq!((status(&queue, quick), status(&queue, stopped)), (Status::Done, Status::Done));
        assert_eq!(queue.add(async {}), Err(AddError::ShuttingDown));
        assert_eq!(queue.stats().total().unfinished, 3);
        balanced(&queue.stats());
    });
}

#[test]
fn what_the_end_of_the_runtime_cuts_off_is_on_the_books() {
    let told = Rc::new(RefCell::new(Vec::new()));
    let events = Rc::clone(&told);
    let queue = {
        let runtime = postlude::Runtime::new().unwrap();
        runtime
            .block_on(async {
                let hook = move |info: &Info, _: Option<&Fault>| {
                    if info.status.is_final() {
                        events.borrow_mut().push((info.name.to_string(), info.status));
                    }
                };
                let queue = Queue::builder().on_event(hook).build();
                queue.task("single").run(async || std::future::pending::<()>().await).unwrap();
                let group = queue.group("", 0);
                group.task("first").run(async || std::future::pending::<()>().await).unwrap();
                group.task("second").run(async || {}).unwrap();
                group.release(Outcome::Delivered);
                yield_now().await;
                queue
            })
            .unwrap()
    };
    let mut told = told.borrow().clone();
    told.sort_by_key(|(name, _)| name.clone());
    let unfinished = |name: &str| (name.to_owned(), Status::Unfinished);
    assert_eq!(told, [unfinished("first"), unfinished("second"), unfinished("single")]);
    assert_eq!((queue.pending(), queue.stats().total().unfinished), (0, 3));
    balanced(&queue.stats());
}

#[test]
fn held_jobs_begin_when_they_are_released() {
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        queue.hold();
        let (one, two) = (log.clone(), log.clone());
        queue.add(async move { one.say("single") }).unwrap();
        let group = queue.group("", 0);
        group.add(async move { two.say("group") }).unwrap();
        group.release(Outcome::Delivered);
        time::sleep(SECOND).await;
        assert!(log.take().is_empty());
        assert_eq!(queue.stats().total().waiting, 2);
        queue.release();
        queue.idle().await;
        assert_eq!(log.take(), ["single", "group"]);
        queue.hold();
        queue.add(async {}).unwrap();
        assert_eq!(queue.drain(SECOND).await.unfinished.len(), 1, "a drain does not wait for a hold for ever");
    });
}

#[test]
fn task_locals_travel_with_a_job() {
    static NAME: Local<u32> = Local::new();
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        let group = queue.group("", 0);
        let (one, two, three) = (log.clone(), log.clone(), log.clone());
        let inside = group.clone();
        NAME.scope(7, async move {
            inside.add(async move { one.say(format!("plain {:?}", NAME.get())) }).unwrap();
            inside.task("named").run(async move || two.say(format!("named {:?}", NAME.get()))).unwrap();
            let told = async move |_: Running| three.say(format!("told {:?}", NAME.get()));
            inside.task("told").timeout(SECOND).run(told).unwrap();
        })
        .await;
        group.release(Outcome::Delivered);
        queue.idle().await;
        assert_eq!(log.take(), ["plain Some(7)", "named Some(7)", "told Some(7)"]);
    });
}

#[test]
fn other_threads_add_ask_and_cancel() {
    let runtime = postlude::Runtime::new().unwrap();
    runtime
        .block_on(async {
            let queue = Queue::new();
            let handle = queue.handle();
            let ids = postlude::spawn_blocking(move || {
                let limit = Duration::from_secs(60);
                let mut add = handle.add(|| async {});
                let id = add.wait(limit).unwrap().unwrap().unwrap();
                let mut endless = handle.add(std::future::pending::<()>);
                let endless = endless.wait(limit).unwrap().unwrap().unwrap();
                assert!(handle.get(endless).wait(limit).unwrap().unwrap().is_some());
                assert!(handle.cancel(endless).wait(limit).unwrap().unwrap());
                (id, endless)
            })
            .await
            .unwrap();
            queue.idle().await;
            assert_eq!((status(&queue, ids.0), status(&queue, ids.1)), (Status::Done, Status::Cancelled));
            let handle = queue.handle();
            drop(queue);
            let refused = handle.add(|| async {}).await.unwrap();
            assert_eq!(refused, Err(AddError::ShuttingDown));
        })
        .unwrap();
}

#[test]
fn finished_jobs_are_kept_for_a_number_and_a_time() {
    run(async || {
        let queue = Queue::builder().keep_finished(3, 10 * SECOND).build();
        let ids: Vec<_> = (0..5).map(|_| queue.add(async {}).unwrap()).collect();
        queue.idle().await;
        let kept: Vec<_> = queue.list().into_iter().map(|info| info.id).collect();
        assert_eq!(kept, ids[2..]);
        assert!(queue.get(ids[0]).is_none());
        time::sleep(11 * SECOND).await;
        assert!(queue.list().is_empty());
        assert_eq!(queue.stats().total().done, 5, "the figures stay");
    });
}

#[test]
fn ids_are_text_that_comes_back_and_differ_from_those_of_an_earlier_run() {
    run(async || {
        let queue = Queue::new();
        let (one, two) = (queue.add(async {}).unwrap(), queue.add(async {}).unwrap());
        assert_eq!(two.get(), one.get() + 1);
        assert_eq!(one.to_string().parse(), Ok(one));
        assert!("x".parse::<postlude::deferred::JobId>().is_err());
        let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(seconds.abs_diff(one.get() >> 32) < 60, "they begin with the time of the start");
        queue.idle().await;
    });
}

#[test]
fn an_id_finds_no_job_of_another_queue() {
    run(async || {
        let queues: Vec<_> = (0..3).map(|_| Queue::new()).collect();
        let ids: Vec<_> = queues.iter().map(|queue| queue.add(std::future::pending::<()>()).unwrap()).collect();
        for (n, queue) in queues.iter().enumerate() {
            for (m, &id) in ids.iter().enumerate() {
                assert_eq!(queue.get(id).is_some(), n == m);
                assert!(n == m || !queue.cancel(id), "it is another's");
            }
            assert!(queue.cancel(ids[n]));
        }
    });
}

#[test]
fn a_lane_that_does_not_move_is_reported_once_it_is_full() {
    run(async || {
        let lane = Lane::on_loop("stuck").at_once(1).stalled_after(SECOND);
        let queue = Queue::builder().lane(lane).build();
        let stuck = queue.task("stuck").lane("stuck").run(async || std::future::pending::<()>().await).unwrap();
        queue.task("behind").lane("stuck").run(async || {}).unwrap();
        time::sleep(3 * SECOND).await;
        let oldest = queue.stats().lanes.iter().find(|lane| lane.lane == "stuck").unwrap().oldest;
        assert_eq!(oldest, Some(3 * SECOND));
        queue.cancel(stuck);
        queue.idle().await;
    });
}

#[test]
fn hooks_see_each_step_of_a_job_with_the_error_itself() {
    run(async || {
        let steps = Log::default();
        let told = steps.clone();
        let hook = move |info: &Info, fault: Option<&Fault>| {
            let kind = match fault {
                Some(Fault::Error(error)) => {
                    format!(" {:?}", error.downcast_ref::<std::io::Error>().map(std::io::Error::kind))
                }
                Some(_) => " other".to_owned(),
                None => String::new(),
            };
            told.say(format!("{} {}{kind}", info.attempt, info.status));
        };
        let queue = Queue::builder().on_event(hook).build();
        queue
            .task("x")
            .retry(Retry::times(2).first(Duration::from_millis(1)))
            .run(async || Err::<(), _>(std::io::Error::from(std::io::ErrorKind::StorageFull)))
            .unwrap();
        queue.idle().await;
        let full = "Some(StorageFull)";
        assert_eq!(
            steps.take(),
            [
                "0 waiting".to_owned(),
                "1 running".to_owned(),
                format!("1 waiting {full}"),
                "2 running".to_owned(),
                format!("2 failed {full}"),
            ]
        );
    });
}

#[test]
fn a_panicking_hook_or_destructor_harms_no_other_job() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    run(async || {
        let queue = Queue::builder().on_event(|_, _| panic!("in the hook")).build();
        let bomb = Bomb;
        let dropped = queue.add(async move {
            let _bomb = bomb;
        });
        let bomb = Bomb;
        let cancelled = queue
            .add(async move {
                let _bomb = bomb;
                std::future::pending::<()>().await;
            })
            .unwrap();
        yield_now().await;
        yield_now().await;
        queue.cancel(cancelled);
        let fine = queue.add(async {}).unwrap();
        queue.idle().await;
        assert_eq!(status(&queue, dropped.unwrap()), Status::Failed);
        assert_eq!(status(&queue, cancelled), Status::Cancelled);
        assert_eq!(status(&queue, fine), Status::Done);
    });
}

#[test]
fn a_runtime_s_shutdown_waits_for_the_thread_of_a_job_that_the_drain_cut_off() {
    let runtime = postlude::Runtime::new().unwrap();
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    let (begun, has_begun) = mpsc::channel();
    runtime
        .block_on(async {
            let queue = Queue::new();
            queue
                .add_blocking(move || {
                    begun.send(()).unwrap();
                    std::thread::sleep(Duration::from_millis(300));
                    ended.store(true, Ordering::SeqCst);
                })
                .unwrap();
            while has_begun.try_recv().is_err() {
                time::sleep(Duration::from_millis(1)).await;
            }
            let report = queue.drain(Duration::from_millis(1)).await;
            assert_eq!(report.unfinished[0].status, Status::Running);
            assert!(!has_ended.load(Ordering::SeqCst));
        })
        .unwrap();
    runtime.shutdown(Duration::from_secs(60)).unwrap();
    assert!(has_ended.load(Ordering::SeqCst));
}

#[test]
fn a_burst_leaves_no_memory_behind_in_one_group_or_in_many() {
    run(async || {
        let queue = Queue::builder().pending(200_000).per_group(200_000).keep_finished(100, SECOND).build();
        let group = queue.group("one", 1);
        for _ in 0..50_000 {
            group.add(async {}).unwrap();
        }
        group.release(Outcome::Delivered);
        for n in 0..50_000 {
            let group = queue.group("GET /many", n);
            group.add(async {}).unwrap();
            group.release(Outcome::Delivered);
        }
        queue.idle().await;
        assert_eq!((queue.stats().total().done, queue.list().len()), (100_000, 100));
        balanced(&queue.stats());
    });
}

#[test]
fn a_seed_replays_the_order_of_a_thousand_jobs() {
    let order = |seed| {
        let runtime = postlude::Runtime::builder().paused_clock().seed(seed).build().unwrap();
        let log = Log::default();
        let noted = log.clone();
        runtime
            .block_on(async move {
                let queue = Queue::new();
                for n in 0..1000_u64 {
                    let log = noted.clone();
                    let retry = Retry::times(2).first(Duration::from_millis(n % 7));
                    let work = async move |job: Running| {
                        yield_now().await;
                        log.say(format!("{n}.{}", job.attempt()));
                        if n % 3 == 0 && job.attempt() == 1 { Err("once more") } else { Ok(()) }
                    };
                    queue.task("x").retry(retry).run(work).unwrap();
                }
                queue.idle().await;
            })
            .unwrap();
        log.take()
    };
    let (one, again, other) = (order(7), order(7), order(8));
    assert_eq!(one.len(), 1000 + 334);
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[test]
fn a_place_that_was_reserved_in_a_group_is_good_after_the_group_has_closed() {
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        let group = queue.group("", 0);
        let mut place = group.reserve(1).unwrap();
        group.release(Outcome::Delivered);
        assert_eq!(group.add(async {}), Err(AddError::Closed));
        let noted = log.clone();
        place.add(async move { noted.say("ran") }).unwrap();
        time::timeout(SECOND, queue.idle()).await.expect("an accepted job runs");
        assert_eq!(log.take(), ["ran"]);
        assert_eq!(group.add(async {}), Err(AddError::Closed));
    });
}

#[test]
fn the_second_try_on_a_thread_is_not_told_to_stop_because_the_first_was() {
    // On the real clock: a paused one stands still while a thread works.
    let body = async {
        let queue = Queue::new();
        let retry = Retry::times(2).first(Duration::ZERO);
        let id = queue
            .task("convert")
            .timeout(Duration::from_millis(10))
            .retry(retry)
            .run_blocking(|job: Running| {
                if job.attempt() == 1 {
                    while !job.is_cancelled() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                if job.is_cancelled() { Err("told to stop") } else { Ok(()) }
            })
            .unwrap();
        queue.idle().await;
        let info = queue.get(id).unwrap();
        assert_eq!((info.status, info.attempt), (Status::Done, 2), "{info}");
    };
    postlude::run(body).unwrap();
}

/// An error whose text cannot be had.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("in display")
    }
}

impl std::error::Error for Unspeakable {}

#[test]
fn an_error_whose_text_panics_is_on_the_books_and_harms_no_other_job() {
    run(async || {
        let queue = Queue::new();
        let group = queue.group("", 0);
        let plain = group.add(async { Err::<(), _>(Unspeakable) }).unwrap();
        let retry = Retry::times(2).first(Duration::from_millis(1));
        let again = group.task("again").retry(retry).run(async || Err::<(), _>(Unspeakable)).unwrap();
        let behind = group.add(async {}).unwrap();
        group.release(Outcome::Delivered);
        time::timeout(SECOND, queue.idle()).await.expect("each ends");
        assert_eq!((status(&queue, plain), status(&queue, again)), (Status::Failed, Status::Failed));
        assert_eq!(queue.get(again).unwrap().attempt, 2);
        assert_eq!(status(&queue, behind), Status::Done);
        balanced(&queue.stats());
    });
}

/// An error that looks at the queue for its text.
#[derive(Debug)]
struct Curious(Queue);

impl std::fmt::Display for Curious {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "one of {}", self.0.list().len())
    }
}

impl std::error::Error for Curious {}

#[test]
fn an_error_may_look_at_the_queue_for_its_text() {
    run(async || {
        let queue = Queue::new();
        let (one, two) = (queue.clone(), queue.clone());
        let plain = queue.add(async move { Err::<(), _>(Curious(one)) }).unwrap();
        let retry = Retry::times(2).first(Duration::from_millis(1));
        let again = queue.task("again").retry(retry).run(async move || Err::<(), _>(Curious(two.clone()))).unwrap();
        time::timeout(SECOND, queue.idle()).await.expect("each ends");
        for id in [plain, again] {
            assert_eq!(queue.get(id).unwrap().fault.as_deref(), Some("one of 2"));
        }
    });
}

#[test]
fn a_retry_whose_choice_panics_fails_the_job() {
    run(async || {
        let queue = Queue::new();
        let retry = Retry::times(3).only(|_| panic!("cannot choose"));
        let id = queue.task("x").retry(retry).run(async || Err::<(), _>("no")).unwrap();
        queue.idle().await;
        let info = queue.get(id).unwrap();
        assert_eq!((info.status, info.fault.as_deref()), (Status::Failed, Some("panicked: cannot choose")));
    });
}

#[test]
fn a_drain_reports_what_was_cut_off_when_it_began() {
    run(async || {
        let queue = Queue::new();
        let delayed = queue.task("delayed").after(SECOND).run(async || {}).unwrap();
        time::sleep(SECOND / 2).await;
        queue.begin_drain();
        time::sleep(SECOND / 4).await;
        assert_eq!(status(&queue, delayed), Status::Unfinished);
        queue.add(async {}).unwrap();
        let report = queue.drain(SECOND).await;
        assert_eq!((report.unfinished[0].id, report.unfinished.len(), report.ended), (delayed, 1, 1));
    });
}

#[test]
fn nothing_is_left_of_a_queue_once_it_is_dropped() {
    let probe = Rc::new(());
    let held = Rc::clone(&probe);
    let queue = run(async || {
        let queue = Queue::builder()
            .on_event(move |_, _| {
                let _held = &held;
            })
            .build();
        for outcome in [Outcome::Delivered, Outcome::Failed(500)] {
            let group = queue.group("GET /", 1);
            group.add(async {}).unwrap();
            group.add(async { Err::<(), _>("no") }).unwrap();
            group.task("endless").run(async || std::future::pending::<()>().await).unwrap();
            group.add(async {}).unwrap();
            group.release(outcome);
        }
        queue.group("POST /", 2).add(async {}).unwrap();
        let unreleased = queue.group("GET /never", 3);
        unreleased.add(async {}).unwrap();
        yield_now().await;
        assert!(queue.list().iter().all(|info| !info.label.is_empty()), "each says what it follows");
        queue
    });
    assert_eq!(Rc::strong_count(&probe), 2);
    drop(queue);
    assert_eq!(Rc::strong_count(&probe), 1, "the hook was dropped with its queue");
}

#[test]
fn a_group_that_stops_on_errors_skips_what_waits_for_a_delay_or_a_lane() {
    run(async || {
        let (queue, log) = (Queue::builder().lane(Lane::on_loop("narrow").at_once(1)).build(), Log::default());
        let group = queue.group("", 0);
        group.stop_on_error();
        let say = |text: &'static str| {
            let log = log.clone();
            async move || log.say(text)
        };
        let delayed = group.task("delayed").after(SECOND).run(say("delayed")).unwrap();
        let runs = group.task("runs").retry(Retry::times(2).first(SECOND).jitter(0.0));
        let noted = log.clone();
        let runs = runs
            .run(async move |job: Running| {
                noted.say(format!("try {}", job.attempt()));
                if job.attempt() == 1 { Err("once") } else { Ok(()) }
            })
            .unwrap();
        group.release(Outcome::Delivered);
        time::sleep(Duration::from_millis(1)).await;
        group.concurrent();
        let charge = group.task("charge").lane("narrow").run(async || Err::<(), _>("no money")).unwrap();
        let narrow = group.task("narrow").lane("narrow").run(say("narrow")).unwrap();
        let last = say("plain");
        let plain = group.add(async move { last().await }).unwrap();
        queue.idle().await;
        assert_eq!(status(&queue, charge), Status::Failed);
        for id in [delayed, narrow, plain] {
            assert_eq!(queue.get(id).unwrap().fault.as_deref(), Some("'charge' failed before it"));
            assert_eq!(status(&queue, id), Status::Skipped);
        }
        assert_eq!(status(&queue, runs), Status::Done, "it had begun");
        assert_eq!(log.take(), ["try 1", "try 2"]);
        balanced(&queue.stats());
    });
}

#[test]
fn a_key_joins_no_job_that_another_group_may_skip() {
    run(async || {
        let (queue, log) = (Queue::new(), Log::default());
        let add = |group: &postlude::deferred::Group, n: u32| {
            let log = log.clone();
            let work = async move || {
                log.say(format!("begin {n}"));
                time::sleep(SECOND).await;
                log.say(format!("end {n}"));
            };
            group.task("rebuild").key("shop").run(work).unwrap()
        };
        let (one, two, three) = (queue.group("", 1), queue.group("", 2), queue.group("", 3));
        let skipped = add(&one, 1);
        assert_eq!(add(&one, 1), skipped, "they have the same fate");
        let (runs, waits) = (add(&two, 2), add(&three, 3));
        one.release(Outcome::Failed(500));
        two.release(Outcome::Delivered);
        three.release(Outcome::Delivered);
        time::sleep(SECOND / 2).await;
        let four = queue.group("", 4);
        assert_eq!(add(&four, 4), waits, "its gate is open, so it runs");
        let (five, six) = (queue.group("", 5), queue.group("", 6));
        five.stop_on_error();
        drop((four, five, six));
        queue.idle().await;
        assert_eq!(log.take(), ["begin 2", "end 2", "begin 3", "end 3"]);
        assert_eq!((status(&queue, skipped), status(&queue, runs)), (Status::Skipped, Status::Done));
        balanced(&queue.stats());
    });
}

#[test]
fn jobs_of_one_key_never_overlap_however_many_wait() {
    run(async || {
        let (queue, now) = (Queue::new(), Rc::new(Cell::new(0)));
        let groups: Vec<_> = (0..5).map(|n| queue.group("", n)).collect();
        for group in &groups {
            let now = Rc::clone(&now);
            let work = async move || {
                now.set(now.get() + 1);
                assert_eq!(now.get(), 1);
                time::sleep(SECOND).await;
                now.set(now.get() - 1);
            };
            group.task("rebuild").key("shop").run(work).unwrap();
        }
        groups.iter().for_each(|group| group.release(Outcome::Delivered));
        queue.idle().await;
        assert_eq!(queue.stats().total().done, 5);
    });
}

#[test]
fn a_key_joins_a_job_that_waits_for_its_lane_but_no_cancelled_one() {
    run(async || {
        let queue = Queue::builder().lane(Lane::on_loop("narrow").at_once(1)).build();
        queue.task("other").lane("narrow").run(async || time::sleep(SECOND).await).unwrap();
        yield_now().await;
        let add = || queue.task("rebuild").lane("narrow").key("shop").run(async || {}).unwrap();
        let first = add();
        yield_now().await;
        assert_eq!(add(), first);
        assert!(queue.cancel(first));
        let second = add();
        assert_ne!(second, first, "that one does not run any more");
        queue.idle().await;
        assert_eq!((status(&queue, first), status(&queue, second)), (Status::Cancelled, Status::Done));
    });
}

#[test]
fn a_hook_that_cancels_a_job_as_it_begins_keeps_it_from_running() {
    let log = Log::default();
    let queue = Rc::new(RefCell::new(None::<Queue>));
    let (hooked, cancelled) = (Rc::clone(&queue), log.clone());
    run(async || {
        let hook = move |info: &Info, _: Option<&Fault>| {
            if info.status == Status::Running {
                let queue = hooked.borrow().clone();
                assert!(queue.unwrap().cancel(info.id));
                cancelled.say(&*info.name);
            }
        };
        *queue.borrow_mut() = Some(Queue::builder().on_event(hook).build());
        let queue = queue.take().inspect(|made| *queue.borrow_mut() = Some(made.clone())).unwrap();
        let ran = Arc::new(AtomicBool::new(false));
        let (one, two) = (Arc::clone(&ran), Arc::clone(&ran));
        let on_loop = queue.task("loop").run(async move |_: Running| one.store(true, Ordering::SeqCst)).unwrap();
        let thread = queue.task("thread").run_blocking(move || two.store(true, Ordering::SeqCst)).unwrap();
        queue.idle().await;
        assert_eq!((status(&queue, on_loop), status(&queue, thread)), (Status::Cancelled, Status::Cancelled));
        assert!(!ran.load(Ordering::SeqCst));
        assert_eq!(log.take(), ["loop", "thread"]);
        balanced(&queue.stats());
    });
    queue.take();
}

#[test]
fn a_hook_may_cancel_and_add_whenever_it_is_called() {
    let queue = Rc::new(RefCell::new(None::<Queue>));
    let hooked = Rc::clone(&queue);
    run(async || {
        let calls = Cell::new(0_u32);
        let hook = move |info: &Info, _: Option<&Fault>| {
            let queue = hooked.borrow().clone().unwrap();
            balanced(&queue.stats());
            calls.set(calls.get() + 1);
            if calls.get() < 200 {
                let _full = queue.add(async { Err::<(), _>("no") });
                let _full = queue.task("x").key("x").timeout(SECOND).run(async || yield_now().await);
            }
            if calls.get() % 3 == 0 {
                queue.cancel(info.id);
            }
        };
        let made = Queue::builder().on_event(hook).pending(20).keep_finished(2, SECOND).build();
        *queue.borrow_mut() = Some(made.clone());
        let group = made.group("", 0);
        for _ in 0..5 {
            let _full = group.task("y").run(async |_: Running| yield_now().await);
        }
        group.release(Outcome::Delivered);
        time::timeout(SECOND, made.idle()).await.expect("each ends");
        let total = made.stats().total();
        assert_eq!(total.accepted, total.done + total.failed + total.cancelled);
    });
    queue.take();
}

#[test]
fn a_reservation_of_more_than_there_can_be_is_refused() {
    run(async || {
        let queue = Queue::new();
        queue.add(async {}).unwrap();
        assert_eq!(queue.reserve(usize::MAX).err(), Some(AddError::Full(Limit::Queue)));
        let group = queue.group("", 0);
        group.add(async {}).unwrap();
        assert_eq!(group.reserve(usize::MAX).err(), Some(AddError::Full(Limit::Group)));
    });
}

#[test]
fn jobs_that_are_added_together_count_for_their_own_lane_alone() {
    use postlude::deferred::NewJob;
    run(async || {
        let queue = Queue::builder().lane(Lane::on_loop("loop").waiting(1)).pending(4).build();
        let group = queue.group("", 0);
        group.extend(vec![NewJob::future(async {}), NewJob::blocking(|| {}), NewJob::blocking(|| {})]).unwrap();
        assert_eq!(group.extend(vec![NewJob::future(async {})]), Err(AddError::Full(Limit::Lane)));
        let too_many = vec![NewJob::blocking(|| {}), NewJob::blocking(|| {})];
        assert_eq!(group.extend(too_many), Err(AddError::Full(Limit::Queue)));
        group.release(Outcome::Delivered);
        queue.idle().await;
        assert_eq!(queue.stats().total().done, 3);
    });
}

#[test]
fn a_job_that_has_been_over_for_too_long_cannot_be_asked_for() {
    run(async || {
        let queue = Queue::builder().keep_finished(100, SECOND).build();
        let id = queue.add(async {}).unwrap();
        queue.idle().await;
        assert!(queue.get(id).is_some());
        time::sleep(2 * SECOND).await;
        assert!(queue.get(id).is_none());
    });
}

#[test]
fn a_hold_stops_what_waits_already() {
    run(async || {
        let (queue, log) = (Queue::builder().lane(Lane::on_loop("narrow").at_once(1)).build(), Log::default());
        let say = |text: &'static str| {
            let log = log.clone();
            async move || log.say(text)
        };
        queue.task("other").lane("narrow").run(async || time::sleep(SECOND).await).unwrap();
        queue.task("narrow").lane("narrow").run(say("narrow")).unwrap();
        queue.task("delayed").after(SECOND).run(say("delayed")).unwrap();
        time::sleep(SECOND / 2).await;
        queue.hold();
        time::sleep(5 * SECOND).await;
        assert!(log.take().is_empty());
        queue.release();
        queue.idle().await;
        let mut said = log.take();
        said.sort_unstable();
        assert_eq!(said, ["delayed", "narrow"]);
    });
}

#[test]
fn a_queue_is_cancelled_released_and_drained_between_turns_too() {
    let mut runtime = postlude::Runtime::new().unwrap();
    let (queue, running, asleep) = runtime
        .block_on(async {
            let queue = Queue::new();
            let running = queue.task("running").run(async || std::future::pending::<()>().await).unwrap();
            let asleep = queue.task("asleep").after(60 * SECOND).run(async || {}).unwrap();
            yield_now().await;
            yield_now().await;
            queue.hold();
            queue.add(async {}).unwrap();
            yield_now().await;
            yield_now().await;
            (queue, running, asleep)
        })
        .unwrap();
    let mut turns = || (0..20).for_each(|_| assert!(runtime.turn(Some(Duration::ZERO)).is_ok()));
    assert!(queue.cancel(running));
    turns();
    assert_eq!(status(&queue, running), Status::Cancelled);
    queue.release();
    turns();
    assert_eq!(queue.stats().total().done, 1);
    queue.begin_drain();
    turns();
    assert_eq!((status(&queue, asleep), queue.pending()), (Status::Unfinished, 0));
}

#[test]
fn destructors_may_add_to_their_group_and_queue_wherever_a_job_ends() {
    struct Adds(postlude::deferred::Group, Queue, Rc<Cell<u32>>);
    impl Drop for Adds {
        fn drop(&mut self) {
            let (one, two) = (Rc::clone(&self.2), Rc::clone(&self.2));
            let added = [
                self.0.task("late").always().run(async move || one.set(one.get() + 1)).is_ok(),
                self.0.task("later").run(async move |_: Running| two.set(two.get() + 1)).is_ok(),
            ];
            self.2.set(self.2.get() + 1000 * added.into_iter().filter(|&is_in| is_in).count() as u32);
            self.1.add(async {}).unwrap();
        }
    }
    for outcome in [Outcome::Delivered, Outcome::Failed(500)] {
        for (stops, concurrent) in [(false, false), (true, false), (false, true), (true, true)] {
            run(async || {
                let (queue, count) = (Queue::new(), Rc::new(Cell::new(0)));
                let group = queue.group("", 0);
                if stops {
                    group.stop_on_error();
                }
                if concurrent {
                    group.concurrent();
                }
                let adds = || Adds(group.clone(), queue.clone(), Rc::clone(&count));
                let (a, b, c, d) = (adds(), adds(), adds(), adds());
                let cancelled = group.add(async move { drop(a) }).unwrap();
                group
                    .task("fails")
                    .always()
                    .run(async move || {
                        let _b = b;
                        Err::<(), _>("no")
                    })
                    .unwrap();
                group.task("delayed").after(SECOND).run(async move || drop(c)).unwrap();
                group.add(async move { drop(d) }).unwrap();
                assert!(queue.cancel(cancelled));
                group.release(outcome);
                time::timeout(10 * SECOND, queue.idle()).await.expect("each ends");
                balanced(&queue.stats());
                let total = queue.stats().total();
                assert_eq!(total.accepted, u64::from(count.get() / 1000) + 4 + 4);
                assert_eq!(total.unfinished, 0);
            });
        }
    }
}

#[test]
fn only_jobs_that_are_lost_are_told_as_faults() {
    run(async || {
        let told = Log::default();
        let faults = told.clone();
        let queue = Queue::builder().on_fault(move |info, _| faults.say(info.name.to_string())).build();
        for outcome in [Outcome::Delivered, Outcome::Failed(500)] {
            let group = queue.group("", 0);
            group.task("default").run(async || ()).unwrap();
            group.task("delivered").only_delivered().run(async || ()).unwrap();
            group.task("failure").on_failure().run(async || ()).unwrap();
            group.release(outcome);
        }
        queue.idle().await;
        assert_eq!(told.take(), ["default"]);
        assert_eq!(queue.stats().total().skipped, 3);
    });
}

#[test]
fn the_record_of_a_plain_job_says_whether_it_was_tried() {
    let told = Log::default();
    let events = told.clone();
    run(async || {
        let hook = move |info: &Info, _: Option<&Fault>| {
            if info.status.is_final() {
                events.say(format!("{} {} {}", info.label, info.attempt, info.status));
            }
        };
        let queue = Queue::builder().on_event(hook).build();
        let group = queue.group("GET /", 1);
        let done = group.add(async {}).unwrap();
        let failed = group.add(async { Err::<(), _>("no") }).unwrap();
        let cancelled = group.add(async {}).unwrap();
        assert!(queue.cancel(cancelled));
        group.release(Outcome::Delivered);
        queue.idle().await;
        assert_eq!(told.take(), ["GET / 0 cancelled", "GET / 1 done", "GET / 1 failed"]);
        for (id, tries) in [(done, 1), (failed, 1), (cancelled, 0)] {
            let info = queue.get(id).unwrap();
            assert_eq!((info.attempt, &*info.label), (tries, "GET /"));
        }
    });
}

#[test]
fn a_drain_reports_a_cancelled_job_whose_thread_has_not_let_go() {
    let runtime = postlude::Runtime::new().unwrap();
    runtime
        .block_on(async {
            let queue = Queue::new();
            let (begun, has_begun) = mpsc::channel();
            let (go, may_go) = mpsc::channel::<()>();
            let id = queue
                .task("stuck")
                .run_blocking(move || {
                    begun.send(()).unwrap();
                    let _told = may_go.recv();
                })
                .unwrap();
            while has_begun.try_recv().is_err() {
                time::sleep(Duration::from_millis(1)).await;
            }
            assert!(queue.cancel(id));
            let report = queue.drain(Duration::from_millis(1)).await;
            assert_eq!((report.unfinished[0].id, status(&queue, id)), (id, Status::Unfinished));
            drop(go);
        })
        .unwrap();
    runtime.shutdown(60 * SECOND).unwrap();
}
