//! Signals, where they change or end a process. Each test runs this binary again, as a child that
//! plays one role on its main thread and tells on stderr how far it has come, while the parent
//! sends it signals with `kill`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use postlude::signal::{Hold, ctrl_c, signal, terminate};
use postlude::time::{sleep, timeout};
use postlude::{Runtime, defer, spawn, spawn_blocking};

const PATIENCE: Duration = Duration::from_secs(20);
const ROLE: &str = "POSTLUDE_TEST_ROLE";

type Case = (&'static str, fn());

const TESTS: &[Case] = &[
    ("sigint_ends_the_process_again_after_the_last_listener_is_dropped", sigint_ends_the_process_again),
    ("sigterm_ends_the_process_again_after_the_last_listener_is_dropped", sigterm_ends_the_process_again),
    ("a_listener_keeps_the_process_alive_after_another_was_dropped", a_listener_keeps_the_process_alive),
    ("a_hold_takes_the_place_of_the_last_listener_until_there_is_a_new_one", a_hold_takes_a_listeners_place),
    #[cfg(feature = "http")]
    ("a_signal_sent_twice_at_once_stops_a_server_once", a_signal_sent_twice_is_one),
    #[cfg(feature = "http")]
    ("a_second_signal_skips_the_drain_of_a_server_that_stops_on_a_future", a_second_signal_skips_the_drain),
    ("nothing_is_installed_unless_asked_for", nothing_is_installed_unless_asked_for),
    ("a_storm_of_signals_while_parked_leaves_timers_right", a_storm_leaves_timers_right),
    ("a_storm_of_signals_does_no_harm_while_runtimes_and_listeners_end", a_storm_during_teardown_does_no_harm),
    ("a_child_process_inherits_no_descriptor_of_the_runtime", a_child_process_inherits_no_descriptor),
    ("the_end_of_every_child_process_is_noticed", the_end_of_every_child_is_noticed),
    ("a_child_process_may_have_a_runtime_of_its_own", a_child_may_have_a_runtime),
];

const ROLES: &[Case] = &[
    ("interrupted", role_interrupted),
    ("terminated", role_terminated),
    ("two_listeners", role_two_listeners),
    ("hold", role_hold),
    #[cfg(feature = "http")]
    ("serve", role_serve),
    #[cfg(feature = "http")]
    ("drain", role_drain),
    ("deaf", role_deaf),
    ("storm", role_storm),
    ("teardown", role_teardown),
    ("runtime", role_runtime),
];

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        let (_, play) = ROLES.iter().find(|(name, _)| *name == role).expect("a role of this binary");
        return play();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (flags, filters): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|argument| argument.starts_with('-'));
    let chosen =
        TESTS.iter().filter(|(name, _)| filters.is_empty() || filters.iter().any(|part| name.contains(part.as_str())));
    let mut out = std::io::stdout();
    for (name, test) in chosen {
        if flags.iter().any(|flag| flag == "--list") {
            writeln!(out, "{name}: test").unwrap();
            continue;
        }
        // A failure unwinds out of `main`: the name of the test stands above it.
        write!(out, "test {name} ... ").and_then(|()| out.flush()).unwrap();
        test();
        writeln!(out, "ok").unwrap();
    }
}

/// A child that plays a role. Killed when dropped.
struct Actor {
    process: std::process::Child,
    said: Receiver<String>,
}

impl Actor {
    fn new(role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut process = command.env(ROLE, role).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (sender, said) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, said }
    }

    fn expect(&self, line: &str) {
        let said = self.said.recv_timeout(PATIENCE);
        if said.as_deref() != Ok(line) {
            // The report of a panic is still on its way.
            thread::sleep(Duration::from_millis(200));
            panic!("instead of `{line}` the child says {said:?} {:?}", self.said.try_iter().collect::<Vec<_>>());
        }
    }

    /// Whether it was there to get the signal.
    fn send(&self, name: &str) -> bool {
        let mut command = Command::new("kill");
        command.args([name, &self.process.id().to_string()]).stderr(Stdio::null()).status().unwrap().success()
    }

    fn kill(&self, name: &str) {
        assert!(self.send(name));
    }

    /// Sends many signals, one by one: of those that come faster than the child is scheduled, it
    /// sees one.
    fn storm(&self, name: &str, times: usize) {
        let sent = (0..times).take_while(|_| self.send(name)).count();
        assert!(sent > 0);
    }

    fn end(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the child lives on; it said {:?}", self.said.try_iter().collect::<Vec<_>>());
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped_already = self.process.wait();
    }
}

fn say(line: &str) {
    eprintln!("{line}");
}

/// Listens and stops listening, several times; the last time nobody listens any more.
fn listen_and_stop(number: i32) {
    postlude::run(async {
        for _ in 0..3 {
            let (mut first, mut second) = (signal(number).unwrap(), signal(number).unwrap());
            say("listening");
            first.recv().await.unwrap();
            second.recv().await.unwrap();
            say("received");
        }
        say("deaf");
        sleep(Duration::MAX).await;
    })
    .unwrap();
}

fn role_interrupted() {
    let number = ctrl_c().unwrap().number();
    listen_and_stop(number);
}

fn role_terminated() {
    let number = terminate().unwrap().number();
    listen_and_stop(number);
}

fn expect_the_end_after_listening(role: &str, name: &str, number: i32) {
    let child = Actor::new(role);
    for _ in 0..3 {
        child.expect("listening");
        child.kill(name);
        child.expect("received");
    }
    child.expect("deaf");
    child.kill(name);
    assert_eq!(child.end().signal(), Some(number), "the signal's default action ends the process");
}

fn sigint_ends_the_process_again() {
    expect_the_end_after_listening("interrupted", "-INT", libc::SIGINT);
}

fn sigterm_ends_the_process_again() {
    expect_the_end_after_listening("terminated", "-TERM", libc::SIGTERM);
}

fn role_two_listeners() {
    postlude::run(async {
        let (first, mut second) = (ctrl_c().unwrap(), ctrl_c().unwrap());
        drop(first);
        for _ in 0..3 {
            say("listening");
            second.recv().await.unwrap();
            say("received");
        }
    })
    .unwrap();
}

fn a_listener_keeps_the_process_alive() {
    let child = Actor::new("two_listeners");
    for _ in 0..3 {
        child.expect("listening");
        child.kill("-INT");
        child.expect("received");
    }
    assert_eq!(child.end().code(), Some(0));
}

fn role_hold() {
    postlude::run(async {
        let (mut hold, first, second) = (Hold::new().unwrap(), terminate().unwrap(), terminate().unwrap());
        let before = dispositions();
        drop(first);
        drop(second);
        assert_eq!(dispositions(), before, "a hold installs nothing");
        say("held");
        hold.recv().await.unwrap();
        let mut listener = terminate().unwrap();
        say("listening");
        listener.recv().await.unwrap();
        timeout(Duration::from_millis(50), hold.recv()).await.expect_err("the listener has replaced it");
        drop(listener);
        say("held again");
        hold.recv().await.unwrap();
        drop(hold);
        say("deaf");
        sleep(Duration::MAX).await;
    })
    .unwrap();
}

fn a_hold_takes_a_listeners_place() {
    let child = Actor::new("hold");
    for line in ["held", "listening", "held again", "deaf"] {
        child.expect(line);
        child.kill("-TERM");
    }
    assert_eq!(child.end().signal(), Some(libc::SIGTERM));
}

/// Serves a client whose request takes `work`, until `stop`, and says what was left.
#[cfg(feature = "http")]
fn serve(work: Duration, stop: impl FnOnce(postlude::http::Server) -> postlude::http::Server) {
    use postlude::http::{Response, Router, Server, Stopping};
    let app = Router::new().get("/", async move |stopping: Stopping| {
        say("serving");
        stopping.await;
        say("stopping");
        sleep(work).await;
        Response::new(204)
    });
    postlude::run(async {
        let server = stop(Server::bind("127.0.0.1:0", app).unwrap());
        let client = postlude::net::TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let report = server.run().await.unwrap();
        say(&format!("{} cut", report.connections_cut));
        drop(client);
        sleep(Duration::MAX).await;
    })
    .unwrap();
}

#[cfg(feature = "http")]
fn role_serve() {
    serve(Duration::from_secs(1), postlude::http::Server::shutdown_on_signals);
}

/// As `docker stop` and a shell's script do it together, or a terminal.
#[cfg(feature = "http")]
fn a_signal_sent_twice_is_one() {
    for second in ["-TERM", "-INT"] {
        let child = Actor::new("serve");
        child.expect("serving");
        child.kill("-TERM");
        child.kill(second);
        child.expect("stopping");
        child.expect("0 cut");
        child.kill("-TERM");
        assert_eq!(child.end().signal(), Some(libc::SIGTERM), "after the run the default action is back");
    }
}

#[cfg(feature = "http")]
fn role_drain() {
    serve(Duration::MAX, |server| {
        server.shutdown_on(async {
            ctrl_c().unwrap().recv().await.unwrap();
        })
    });
}

#[cfg(feature = "http")]
fn a_second_signal_skips_the_drain() {
    let child = Actor::new("drain");
    child.expect("serving");
    child.kill("-INT");
    child.expect("stopping");
    child.kill("-INT");
    thread::sleep(Duration::from_millis(700));
    child.kill("-INT");
    child.expect("1 cut");
    child.kill("-INT");
    assert_eq!(child.end().signal(), Some(libc::SIGINT), "after the run the default action is back");
}

/// The sets of signals this process ignores and catches, as the system shows them; empty where it
/// does not.
fn dispositions() -> [u64; 2] {
    // Above these, the C library has signals of its own.
    const ORDINARY: u64 = (1 << 31) - 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["SigIgn:", "SigCgt:"].map(|key| {
        let set = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
        u64::from_str_radix(set.trim(), 16).unwrap() & ORDINARY
    })
}

/// A shell that puts a job into the background makes it ignore some signals.
fn is_ignored(number: i32) -> bool {
    dispositions()[0] & (1 << (number - 1)) != 0
}

fn role_deaf() {
    let before = dispositions();
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            spawn(async {}).await.unwrap();
            defer(async {}).await.unwrap();
            spawn_blocking(|| ()).await.unwrap();
            timeout(Duration::from_millis(1), sleep(Duration::MAX)).await.unwrap_err();
            signal(libc::SIGKILL).unwrap_err();
            assert_eq!(dispositions(), before);
            say("unchanged");
            sleep(Duration::MAX).await;
        })
        .unwrap();
}

fn nothing_is_installed_unless_asked_for() {
    for (name, number) in
        [("-INT", libc::SIGINT), ("-TERM", libc::SIGTERM), ("-HUP", libc::SIGHUP), ("-USR1", libc::SIGUSR1)]
    {
        if is_ignored(number) {
            continue;
        }
        let child = Actor::new("deaf");
        child.expect("unchanged");
        child.kill(name);
        assert_eq!(child.end().signal(), Some(number));
    }
}

fn role_storm() {
    // Never polled, so it brings the loop no event: what ends the loop's waits early is the
    // interrupted system call alone.
    let _hangups = signal(libc::SIGHUP).unwrap();
    let runtime = Runtime::new().unwrap();
    say("listening");
    runtime
        .block_on(async {
            for milliseconds in [2000, 7, 40, 100] {
                let (length, before) = (Duration::from_millis(milliseconds), Instant::now());
                sleep(length).await;
                let took = before.elapsed();
                assert!(took >= length, "a sleep of {length:?} took {took:?}");
                assert!(took < length + Duration::from_secs(5), "a sleep of {length:?} took {took:?}");
            }
        })
        .unwrap();
    let stats = runtime.stats();
    assert_eq!((stats.polls, stats.timers), (5, 4), "each sleep ended once, and nothing else woke the task");
    // The sleeps alone take 14 turns.
    assert!(stats.turns > 20, "no system call was interrupted: {stats:?}");
    say("right");
    // Still listening, for the storm may not be over.
    std::process::exit(0);
}

fn a_storm_leaves_timers_right() {
    let child = Actor::new("storm");
    child.expect("listening");
    child.storm("-HUP", 500);
    child.expect("right");
    assert_eq!(child.end().code(), Some(0));
}

fn role_teardown() {
    let _always = signal(libc::SIGHUP).unwrap();
    say("listening");
    let until = Instant::now() + Duration::from_millis(1500);
    let (mut rounds, mut received) = (0, 0);
    while Instant::now() < until {
        let runtime = Runtime::new().unwrap();
        let caught = runtime
            .block_on(async {
                let (mut first, mut second) = (signal(libc::SIGHUP).unwrap(), signal(libc::SIGHUP).unwrap());
                let task = spawn(async move { second.recv().await });
                let caught = timeout(Duration::from_millis(2), first.recv()).await;
                drop(task);
                caught.is_ok_and(|received| received.is_ok())
            })
            .unwrap();
        rounds += 1;
        received += u32::from(caught);
    }
    assert!(rounds > 10 && received > 0, "{received} of {rounds}");
    say("unharmed");
    std::process::exit(0);
}

fn a_storm_during_teardown_does_no_harm() {
    let child = Actor::new("teardown");
    child.expect("listening");
    child.storm("-HUP", 500);
    child.expect("unharmed");
    assert_eq!(child.end().code(), Some(0));
}

/// The descriptors a child of this process has.
fn inherited() -> usize {
    let listed = Command::new("ls").arg("/proc/self/fd").output().unwrap();
    String::from_utf8(listed.stdout).unwrap().lines().count()
}

fn a_child_process_inherits_no_descriptor() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let before = inherited();
    assert!(before >= 3);
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let listener = postlude::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = postlude::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let accepted = listener.accept().await.unwrap();
            let pair = postlude::net::UnixStream::pair().unwrap();
            let hangups = signal(libc::SIGHUP).unwrap();
            assert_eq!(inherited(), before);
            drop((stream, accepted, pair, hangups));
        })
        .unwrap();
}

/// Waits for children as a program would that has no more than a listener for their signal.
fn the_end_of_every_child_is_noticed() {
    const ROUNDS: usize = 100;
    postlude::run(async {
        // Before the first child, so that no end comes too early.
        let mut ended = signal(libc::SIGCHLD).unwrap();
        for _ in 0..ROUNDS {
            let mut children = Vec::new();
            for _ in 0..3 {
                // Starting a program blocks until it runs, which is not for the loop.
                let start = spawn_blocking(|| Command::new("false").spawn().unwrap());
                children.push(start.await.unwrap());
            }
            loop {
                children.retain_mut(|child| child.try_wait().unwrap().is_none());
                if children.is_empty() {
                    break;
                }
                timeout(PATIENCE, ended.recv()).await.expect("the end of a child is not noticed").unwrap();
            }
        }
    })
    .unwrap();
}

fn role_runtime() {
    postlude::run(async {
        let (ours, peer) = postlude::net::UnixStream::pair().unwrap();
        let read = spawn(async move { ours.read(&mut [0; 16]).await.unwrap() });
        sleep(Duration::from_millis(1)).await;
        peer.write_all(b"child").await.unwrap();
        assert_eq!(read.await.unwrap(), 5);
        assert_eq!(spawn_blocking(|| 5).await.unwrap(), 5);
    })
    .unwrap();
    say("ran");
}

/// The parent's runtime is in the middle of everything meanwhile.
fn a_child_may_have_a_runtime() {
    postlude::run(async {
        let (ours, peer) = postlude::net::UnixStream::pair().unwrap();
        let echo = spawn(async move {
            let mut byte = [0; 1];
            loop {
                ours.read_exact(&mut byte).await.unwrap();
                ours.write_all(&byte).await.unwrap();
            }
        });
        let children: Vec<_> = (0..5).map(|_| Actor::new("runtime")).collect();
        for n in 0..100 {
            peer.write_all(&[n]).await.unwrap();
            let mut byte = [0; 1];
            timeout(PATIENCE, peer.read_exact(&mut byte)).await.unwrap().unwrap();
            assert_eq!(byte, [n]);
        }
        let end = spawn_blocking(|| {
            for child in children {
                child.expect("ran");
                assert_eq!(child.end().code(), Some(0));
            }
        });
        end.await.unwrap();
        echo.abort();
    })
    .unwrap();
}
