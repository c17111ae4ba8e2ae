//! What is written to stderr: this binary runs itself with the name of a scenario and reads what
//! that writes.
#![allow(clippy::print_stdout, reason = "a scenario tells the test what it has seen")]

use std::future::{Future, pending};
use std::io::{BufRead, BufReader, Read, Write};
use std::pin::pin;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use postlude::{Runtime, spawn, stderr, sync, task, time};

const SCENARIO: &str = "POSTLUDE_SCENARIO";

fn scenario(name: &str) -> Option<()> {
    (std::env::var(SCENARIO).ok()? == name).then_some(())
}

/// Runs one test of this binary as a scenario.
fn stderr_of(name: &str) -> String {
    let Output { stderr, .. } = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(SCENARIO, name)
        .env_remove("POSTLUDE_SEED")
        .output()
        .unwrap();
    String::from_utf8(stderr).unwrap()
}

#[test]
fn a_slow_poll_is_reported_with_name_and_place() {
    let name = "a_slow_poll_is_reported_with_name_and_place";
    if scenario(name).is_some() {
        let runtime = Runtime::builder().slow_poll(Duration::from_millis(50)).build().unwrap();
        let busy = async {
            let busy = task::Builder::new().name("busy").spawn(async {
                task::yield_now().await;
                // Real time is the point.
                thread::sleep(Duration::from_millis(120));
                pending::<()>().await;
            });
            for _ in 0..4 {
                task::yield_now().await;
            }
            drop(busy);
        };
        return runtime.block_on(busy).unwrap();
    }
    let stderr = stderr_of(name);
    let reports: Vec<&str> = stderr.lines().filter(|line| line.starts_with("postlude: ")).collect();
    assert_eq!(reports.len(), 1, "{stderr}");
    assert!(reports[0].contains("`busy`") && reports[0].contains("tests/reports.rs:"), "{stderr}");
}

#[test]
fn a_slow_poll_of_a_scopes_child_is_its_own_and_not_its_owners() {
    let name = "a_slow_poll_of_a_scopes_child_is_its_own_and_not_its_owners";
    if scenario(name).is_some() {
        let runtime = Runtime::builder().slow_poll(Duration::from_millis(50)).build().unwrap();
        let busy = task::scope::<(), (), _>(async |s| {
            s.spawn(task::yield_now());
            // Real time is the point.
            s.named("busy").spawn(async { thread::sleep(Duration::from_millis(120)) });
            s.spawn(task::yield_now());
            Ok(())
        });
        return runtime.block_on(busy).unwrap().unwrap();
    }
    let stderr = stderr_of(name);
    let reports: Vec<&str> = stderr.lines().filter(|line| line.starts_with("postlude: ")).collect();
    assert_eq!(reports.len(), 1, "{stderr}");
    assert!(reports[0].contains("`busy`") && reports[0].contains("tests/reports.rs:"), "{stderr}");
}

#[test]
fn tasks_that_nothing_can_wake_are_reported_once_at_once_on_the_paused_clock() {
    let name = "tasks_that_nothing_can_wake_are_reported_once_at_once_on_the_paused_clock";
    if scenario(name).is_some() {
        let runtime = Runtime::builder().paused_clock().build().unwrap();
        return runtime
            .block_on(async {
                let stuck = task::Builder::new().name("stuck").spawn(pending::<()>());
                let waker = std::future::poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone())).await;
                let waking = thread::spawn(move || {
                    thread::sleep(Duration::from_millis(200));
                    waker.wake();
                });
                // Woken from elsewhere after the report, it goes on.
                let mut polls = 0;
                std::future::poll_fn(|_| {
                    polls += 1;
                    if polls == 2 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
                })
                .await;
                waking.join().unwrap();
                drop(stuck);
            })
            .unwrap();
    }
    let stderr = stderr_of(name);
    assert_eq!(stderr.matches("nothing inside this runtime can wake its tasks").count(), 1, "{stderr}");
    assert!(stderr.contains("keep a `Handle::current()` until then"), "the report names the remedy: {stderr}");
    assert!(stderr.contains("task 2 `stuck` (spawned at tests/reports.rs:"), "{stderr}");
    assert!(stderr.contains("the future given to `block_on` at tests/reports.rs:"), "{stderr}");
}

#[test]
fn a_loop_that_a_timer_or_a_handle_can_wake_is_no_deadlock() {
    let name = "a_loop_that_a_timer_or_a_handle_can_wake_is_no_deadlock";
    if scenario(name).is_some() {
        let runtime = Runtime::builder().paused_clock().build().unwrap();
        runtime.block_on(time::sleep(Duration::from_secs(3600))).unwrap();
        let handle = runtime.handle();
        let remote = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            handle.spawn(|| async {}).wait(Duration::from_secs(10))
        });
        runtime
            .block_on(async {
                while !remote.is_finished() {
                    drop(postlude::spawn_blocking(|| thread::sleep(Duration::from_millis(10))).await);
                }
            })
            .unwrap();
        remote.join().unwrap().unwrap().unwrap();
        return;
    }
    let stderr = stderr_of(name);
    assert!(!stderr.contains("postlude: "), "{stderr}");
}

#[test]
fn the_panic_of_a_detached_task_is_a_line_with_name_place_and_text() {
    let name = "the_panic_of_a_detached_task_is_a_line_with_name_place_and_text";
    if scenario(name).is_some() {
        return postlude::run(async {
            drop(task::Builder::new().name("mail").spawn(async { panic!("no stamp") }));
            drop(spawn(async {}).await);
        })
        .unwrap();
    }
    let stderr = stderr_of(name);
    let line = stderr.lines().find(|line| line.starts_with("postlude: ")).expect("a report");
    assert!(line.contains("task 2 `mail` (spawned at tests/reports.rs:"), "{line}");
    assert!(line.ends_with("panicked: `no stamp`"), "{line}");
}

#[test]
fn a_failed_seed_is_printed_and_the_variable_runs_it_alone() {
    let name = "a_failed_seed_is_printed_and_the_variable_runs_it_alone";
    if scenario(name).is_some() {
        // Prints each seed it runs, and fails at the first one above 6.
        let next = std::cell::Cell::new(0);
        return postlude::test(0..100, async || {
            eprintln!("run {}", next.replace(next.get() + 1));
            assert!(next.get() <= 7 && std::env::var("POSTLUDE_SEED").is_err(), "too far");
        });
    }
    let all = stderr_of(name);
    assert_eq!(all.lines().filter(|line| line.starts_with("run ")).count(), 8, "{all}");
    assert!(all.contains("this was seed 7; to run it alone: POSTLUDE_SEED=7"), "{all}");
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .envs([(SCENARIO, name), ("POSTLUDE_SEED", "93")])
        .output()
        .unwrap();
    let alone = String::from_utf8(alone.stderr).unwrap();
    assert_eq!(alone.lines().filter(|line| line.starts_with("run ")).count(), 1, "{alone}");
    assert!(alone.contains("this was seed 93"), "{alone}");
}

#[test]
fn a_seed_that_is_no_number_is_refused() {
    let name = "a_seed_that_is_no_number_is_refused";
    if scenario(name).is_some() {
        return postlude::test(0..100, async || ());
    }
    let refused = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .envs([(SCENARIO, name), ("POSTLUDE_SEED", "7x")])
        .output()
        .unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains("`POSTLUDE_SEED` is `7x`, which is not a seed"), "{text}");
}

#[test]
fn a_misuse_names_the_line_it_is_in() {
    let name = "a_misuse_names_the_line_it_is_in";
    let misuses: [fn(); 7] = [
        || drop(sync::mpsc::channel::<()>(0)),
        || drop(sync::broadcast::channel::<()>(0)),
        || sync::Semaphore::new(1).add_permits(usize::MAX),
        || drop(postlude::Handle::current()),
        || drop(postlude::iter::broadcast(futures::stream::empty::<()>(), 0)),
        || postlude::test([], async || ()),
        || postlude::test([1], pending::<()>),
    ];
    if scenario(name).is_some() {
        return misuses.into_iter().for_each(|misuse| drop(std::panic::catch_unwind(misuse)));
    }
    let stderr = stderr_of(name);
    let panics: Vec<&str> = stderr.lines().filter(|line| line.contains("panicked at ")).collect();
    assert_eq!(panics.len(), misuses.len(), "{stderr}");
    assert!(panics.iter().all(|line| line.contains("panicked at tests/reports.rs:")), "{panics:?}");
}

#[test]
fn a_waker_that_panics_outside_a_runtime_is_a_line_of_the_usual_form() {
    struct Bad;

    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("bad waker");
        }
    }

    let name = "a_waker_that_panics_outside_a_runtime_is_a_line_of_the_usual_form";
    if scenario(name).is_some() {
        let notify = sync::Notify::new();
        let mut notified = pin!(notify.notified());
        let bad = Waker::from(Arc::new(Bad));
        assert!(notified.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        return notify.notify_waiters();
    }
    let stderr = stderr_of(name);
    let reports: Vec<&str> = stderr.lines().filter(|line| line.starts_with("postlude: ")).collect();
    assert_eq!(reports, ["postlude: a waker, a hook or a value being dropped panicked: `bad waker`"], "{stderr}");
}

#[test]
fn what_goes_wrong_with_deferred_jobs_is_told_in_few_lines() {
    use postlude::deferred::{Lane, Outcome, Queue};
    let name = "what_goes_wrong_with_deferred_jobs_is_told_in_few_lines";
    if scenario(name).is_some() {
        let runtime = Runtime::builder().paused_clock().build().unwrap();
        let work = async {
            let lane = Lane::on_loop("narrow").at_once(1).stalled_after(Duration::from_secs(5));
            let queue = Queue::builder().lane(lane).build();
            let group = queue.group("GET /skipped", 1);
            for _ in 0..1000 {
                group.task("skipped").run(async || ()).unwrap();
            }
            group.release(Outcome::Failed(404));
            for _ in 0..1000 {
                queue.task("failing").run(async || Err::<(), _>("no")).unwrap();
            }
            for _ in 0..2 {
                queue.task("stuck").lane("narrow").run(async || pending::<()>().await).unwrap();
            }
            time::sleep(Duration::from_secs(6)).await;
        };
        runtime.block_on(work).unwrap();
        return;
    }
    let stderr = stderr_of(name);
    let count = |text: &str| stderr.lines().filter(|line| line.contains(text)).count();
    let skipped = "1000 background tasks not run, 'skipped' the first of them: the handler failed with 404 (GET /skipped, request 1)";
    assert_eq!((count(skipped), count("'skipped'")), (1, 1), "{stderr}");
    assert_eq!(count("background task 'failing' failed: no"), 19, "twenty lines a second: {stderr}");
    assert_eq!(count("981 more lines about background tasks left out"), 1, "{stderr}");
    assert_eq!(count("the lane `narrow` of a deferred queue has not moved for 5s"), 1, "{stderr}");
    let unfinished = "2 background tasks unfinished\n  'stuck', running, 6.0 s old\n  'stuck', waiting, 6.0 s old\n";
    assert!(stderr.contains(unfinished), "{stderr}");
}

#[test]
fn a_runtime_that_cuts_off_the_jobs_of_many_groups_names_twenty() {
    use postlude::deferred::{Outcome, Queue};
    let name = "a_runtime_that_cuts_off_the_jobs_of_many_groups_names_twenty";
    if scenario(name).is_some() {
        let work = async {
            let queue = Queue::new();
            for n in 0..1000 {
                let group = queue.group("GET /", n);
                group.task("stuck").run(async || pending::<()>().await).unwrap();
                group.release(Outcome::Delivered);
            }
        };
        return postlude::run(work).unwrap();
    }
    let stderr = stderr_of(name);
    let told: Vec<_> = stderr.lines().skip_while(|line| !line.starts_with("postlude: ")).take(22).collect();
    assert_eq!(told[0], "postlude: 1000 background tasks unfinished", "{stderr}");
    assert!(told[1..21].iter().all(|line| line.starts_with("  'stuck', ")), "{stderr}");
    assert_eq!(told[21], "  and 980 more", "{stderr}");
}

/// Runs one test of this binary as a scenario.
fn scenario_of(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(SCENARIO, name).env_remove("RUST_BACKTRACE");
    command
}

/// Runs a scenario with a pipe as stderr that nobody reads before its end. Gives stdout, and what
/// was left in the pipe.
fn run_unread(mut scenario: Command) -> (String, String) {
    let mut child = scenario.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it waits for somebody to read stderr");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{stdout}{stderr}");
    (stdout, stderr)
}

#[test]
fn lines_that_stderr_does_not_take_are_lost_and_counted_and_the_loop_goes_on() {
    let name = "lines_that_stderr_does_not_take_are_lost_and_counted_and_the_loop_goes_on";
    if scenario(name).is_some() {
        stderr::guard_panics();
        let runtime = Runtime::new().unwrap();
        let text = "x".repeat(10_000);
        runtime
            .block_on(async {
                for _ in 0..500 {
                    let text = text.clone();
                    drop(spawn(async move { panic!("{text}") }));
                    task::yield_now().await;
                }
            })
            .unwrap();
        println!("lost {}", stderr::lost());
        return;
    }
    let (stdout, stderr) = run_unread(scenario_of(name));
    let lost = stdout.lines().find_map(|line| line.strip_prefix("lost ")).unwrap();
    assert_eq!(lost.parse::<usize>().unwrap() + stderr.lines().count(), 1000, "a line by the hook, one by the loop");
    assert!(stderr.lines().count() >= 8, "{} lines", stderr.lines().count());
    assert!(stderr.ends_with('\n') && stderr.lines().all(|line| line.len() == 4095 && line.ends_with("x…")));
}

#[test]
fn the_next_line_tells_how_many_were_lost() {
    let name = "the_next_line_tells_how_many_were_lost";
    if scenario(name).is_some() {
        while stderr::lost() == 0 {
            stderr::line(format_args!("{}", "x".repeat(4000)));
        }
        stderr::line(format_args!("two\nlines"));
        println!("full");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).unwrap();
        stderr::line(format_args!("after"));
        return;
    }
    let mut command = scenario_of(name);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    assert!(stdout.by_ref().lines().any(|line| line.unwrap().ends_with("full")));
    // The process that started it shares the description, and its flags.
    let flags = std::fs::read_to_string(format!("/proc/{}/fdinfo/2", child.id())).unwrap_or_default();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
    assert_eq!(i32::from_str_radix(flags, 8).unwrap() & libc::O_NONBLOCK, 0);
    let mut stderr = child.stderr.take().unwrap();
    let mut buffer = vec![0; 1 << 20];
    let _what_was_in_the_pipe = stderr.read(&mut buffer).unwrap();
    child.stdin.take().unwrap().write_all(b"on\n").unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let rest = rest.trim_start_matches(['x', '\n']);
    assert_eq!(rest, "postlude: 3 lines lost, because stderr was full\nafter\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_file_takes_every_line_and_the_last_words_wait_for_a_reader() {
    let name = "a_file_takes_every_line_and_the_last_words_wait_for_a_reader";
    if scenario(name).is_some() {
        for n in 0..10_000 {
            stderr::line_within(Duration::from_secs(60), format_args!("line {n} {}", "é".repeat(3000)));
        }
        assert_eq!(stderr::lost(), 0);
        return;
    }
    let path = std::env::temp_dir().join(format!("postlude-stderr-{}", std::process::id()));
    let run = |stderr: Stdio| {
        let child = scenario_of(name).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        child.wait_with_output().unwrap()
    };
    let whole = |text: &str| {
        assert_eq!(text.lines().count(), 10_000);
        for (n, line) in text.lines().enumerate() {
            assert!(line.starts_with(&format!("line {n} é")) && line.ends_with("é…") && line.len() < 4096);
        }
    };
    assert!(run(std::fs::File::create(&path).unwrap().into()).status.success());
    whole(&std::fs::read_to_string(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    whole(&String::from_utf8(run(Stdio::piped()).stderr).unwrap());
    assert!(run(Stdio::null()).status.success());
}

#[test]
fn panics_are_told_as_before_while_stderr_takes_it_and_a_hook_of_your_own_stays() {
    let name = "panics_are_told_as_before_while_stderr_takes_it_and_a_hook_of_your_own_stays";
    if scenario(name).is_some() {
        if std::env::var_os("OWN").is_some() {
            std::panic::set_hook(Box::new(|_| eprintln!("my own hook")));
        }
        stderr::guard_panics();
        let long = "y".repeat(5000);
        for text in ["short", &long] {
            drop(std::panic::catch_unwind(|| panic!("{text}")));
        }
        return;
    }
    let stderr_of = |command: &mut Command| String::from_utf8(command.output().unwrap().stderr).unwrap();
    let plain = stderr_of(&mut scenario_of(name));
    assert!(plain.contains("panicked at tests/reports.rs:") && plain.contains(":\nshort\nnote: run with"), "{plain}");
    assert!(plain.contains(": yyyy") && plain.ends_with("y…\n") && !plain.contains("my own"), "{plain}");
    assert_eq!(stderr_of(scenario_of(name).env("OWN", "")), "my own hook\n".repeat(2));
    let traced = stderr_of(scenario_of(name).env("RUST_BACKTRACE", "1"));
    assert!(traced.contains(": short\n") && traced.contains("0: "), "{traced}");
}

#[cfg(feature = "http")]
#[test]
fn handlers_that_panic_do_not_stop_a_server_whose_stderr_nobody_reads() {
    use postlude::http::{Router, Server};
    let name = "handlers_that_panic_do_not_stop_a_server_whose_stderr_nobody_reads";
    if scenario(name).is_some() {
        let answered = postlude::run(async {
            let app = Router::new().get("/{*rest}", async || -> &'static str { panic!("a bug") });
            let server = Server::bind("127.0.0.1:0", app).unwrap();
            let (client, wire) = postlude::net::UnixStream::pair().unwrap();
            let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(8000));
            let serving = spawn(async move { server.serve_connection(wire).await });
            let mut buffer = [0; 4096];
            let mut answered = 0;
            for _ in 0..2000 {
                client.write_all(request.as_bytes()).await.unwrap();
                let count = client.read(&mut buffer).await.unwrap();
                assert!(buffer[..count].starts_with(b"HTTP/1.1 500"));
                answered += 1;
            }
            drop(client);
            serving.await.unwrap();
            answered
        });
        println!("answered {}", answered.unwrap());
        return;
    }
    for backtrace in ["0", "1"] {
        let mut scenario = scenario_of(name);
        scenario.env("RUST_BACKTRACE", backtrace);
        let (stdout, _) = run_unread(scenario);
        assert!(stdout.lines().any(|line| line == "answered 2000"), "{stdout}");
    }
}

#[cfg(all(feature = "http", feature = "signal"))]
#[test]
fn serve_says_where_it_listens() {
    use postlude::http::{self, Router};
    let name = "serve_says_where_it_listens";
    if scenario(name).is_some() {
        let serving = time::timeout(Duration::from_millis(50), http::serve("127.0.0.1:0", Router::new()));
        postlude::run(serving).unwrap().unwrap_err();
        return;
    }
    let stderr = stderr_of(name);
    let port = stderr.lines().find_map(|line| line.strip_prefix("postlude: listening on http://127.0.0.1:"));
    assert!(port.unwrap().parse::<u16>().unwrap() > 0, "{stderr}");
}
