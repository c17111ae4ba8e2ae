//! The main job, as a user sees it: `examples/server` driven by `curl`, and by plain sockets where
//! curl has no words.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const GENEROUS: Duration = Duration::from_secs(20);

/// The example's binary, which cargo builds beside the tests.
fn binary() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples").join("server")
}

fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: no curl");
    }
    found
}

struct Server {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Server {
    fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    fn start_with(name: &str, arguments: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("postlude-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut child = Command::new(binary())
            .args(["--port", "0", "--log"])
            .arg(folder.join("log.txt"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo builds the examples before it runs the tests");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(['/', ' ']).next().unwrap().parse().expect("a line with the address");
        Self { child, address, folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log.txt")).unwrap_or_default()
    }

    fn log_becomes(&self, expected: &str) {
        let start = Instant::now();
        while self.log() != expected {
            assert!(start.elapsed() < GENEROUS, "the log is\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn ends(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < GENEROUS, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
        let _left = fs::remove_dir_all(&self.folder);
    }
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const BOTH_LINES: &str = "found query: books\nnotification for ann@example.com: some notification\n";

#[test]
fn the_answer_comes_first_and_both_log_lines_after_it_in_order() {
    if !has_curl() {
        return;
    }
    let server = Server::start("order");
    let url = server.url("/send-notification/ann@example.com?q=books&delay_ms=300");
    let answer = curl(&["-i", "-X", "POST", &url]);
    let log = server.log();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nNotification sent in the background"), "{answer}");
    assert!(!log.contains("notification for"), "the slow mail is not sent before the answer: {log}");
    server.log_becomes(BOTH_LINES);
}

#[test]
fn no_request_writes_a_line_of_its_own_into_the_log() {
    if !has_curl() {
        return;
    }
    let server = Server::start("forged");
    curl(&["-X", "POST", &server.url("/send-notification/a%0Anotification%20for%20b?q=%1b%5b2J%0d%0a%c3%a9")]);
    server.log_becomes("found query: \\u{1b}[2J\\r\\né\nnotification for a\\nnotification for b: some notification\n");
}

#[test]
fn a_second_request_on_the_connection_does_not_wait_for_the_task_of_the_first() {
    if !has_curl() {
        return;
    }
    let server = Server::start("second");
    let url = server.url("/send-notification/ann@example.com?q=books&delay_ms=2000");
    let start = Instant::now();
    let answers = curl(&[
        "-w",
        "%{num_connects} ",
        "-X",
        "POST",
        &url,
        "--next",
        "-sS",
        "-w",
        "%{num_connects} ",
        &server.url("/plaintext"),
    ]);
    let took = start.elapsed();
    assert_eq!(answers, "Notification sent in the background1 Hello, World!0 ", "one connection, two answers");
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert!(!server.log().contains("notification for"), "the task of the first request is still at it");
    server.log_becomes(BOTH_LINES);
}

#[test]
fn hanging_up_cancels_nothing() {
    let server = Server::start("hang-up");
    let mut stream = TcpStream::connect(server.address).unwrap();
    let request = "POST /send-notification/ann@example.com?q=books&delay_ms=300 HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).unwrap();
    // Unread bytes make the close a reset.
    drop(stream);
    server.log_becomes(BOTH_LINES);
}

#[test]
fn a_file_is_accepted_at_once_and_processed_afterwards() {
    if !has_curl() {
        return;
    }
    let server = Server::start("files");
    let answer = curl(&["-i", "--data-binary", "twelve bytes", &server.url("/files")]);
    assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    let location =
        answer.lines().find_map(|line| line.strip_prefix("location: ")).expect("a Location").trim().to_owned();
    let start = Instant::now();
    loop {
        let state = curl(&[&server.url(&location)]);
        assert!(state.contains("\"bytes\":12"), "{state}");
        if state.contains("\"state\":\"done\"") {
            break;
        }
        assert!(state.contains("\"queued\"") || state.contains("\"running\""), "{state}");
        assert!(start.elapsed() < GENEROUS, "{state}");
        thread::sleep(Duration::from_millis(20));
    }
    let status = |arguments: &[&str]| {
        let all: Vec<&str> = ["-o", "/dev/null", "-w", "%{http_code}"].iter().chain(arguments).copied().collect();
        curl(&all)
    };
    assert_eq!(status(&[&server.url("/files/999")]), "404");
    assert_eq!(status(&[&server.url("/nothing/here")]), "404");
    let wrong = curl(&["-i", "-X", "DELETE", &server.url("/files")]);
    assert!(wrong.starts_with("HTTP/1.1 405 ") && wrong.to_lowercase().contains("\r\nallow: post"), "{wrong}");
}

#[test]
fn a_megabyte_comes_back_as_it_was_sent() {
    if !has_curl() {
        return;
    }
    let server = Server::start("megabyte");
    let (sent, received) = (server.folder.join("sent"), server.folder.join("received"));
    let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&sent, &bytes).unwrap();
    for chunked in [false, true] {
        let data = format!("@{}", sent.display());
        let mut arguments = vec!["--data-binary", &data, "-o", received.to_str().unwrap()];
        if chunked {
            arguments.extend(["-H", "Transfer-Encoding: chunked"]);
        }
        let url = server.url("/echo");
        arguments.push(&url);
        curl(&arguments);
        assert!(fs::read(&received).unwrap() == bytes, "chunked: {chunked}");
    }
}

#[test]
fn a_signal_finishes_what_was_accepted_and_ends_with_0() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start(&format!("stop{signal}"));
        let mut idle = TcpStream::connect(server.address).unwrap();
        let mut busy = TcpStream::connect(server.address).unwrap();
        let request = "POST /send-notification/ann@example.com?q=books&delay_ms=500 HTTP/1.1\r\nHost: x\r\n\r\n";
        busy.write_all(request.as_bytes()).unwrap();
        busy.read_exact(&mut [0; 1]).unwrap();
        server.signal(signal);
        let start = Instant::now();
        assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "an idle connection is closed at once");
        assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
        assert_eq!(server.ends().code(), Some(0));
        assert_eq!(server.log(), BOTH_LINES);
    }
}

#[test]
fn a_second_signal_skips_the_drain_and_the_exit_code_says_that_something_was_left() {
    let mut server = Server::start("skip");
    let mut client = TcpStream::connect(server.address).unwrap();
    client.write_all(b"POST /send-notification/ann@example.com?delay_ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    server.signal("-TERM");
    server.signal("-TERM");
    thread::sleep(Duration::from_millis(700));
    assert!(server.child.try_wait().unwrap().is_none(), "two signals at once are one");
    server.signal("-TERM");
    assert_eq!(server.ends().code(), Some(75));
    let mut told = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("not finished: 'notify'"), "{told}");
}

#[test]
fn a_load_balancer_sees_the_stop_before_the_listener_closes() {
    let mut server = Server::start_with("ready", &["--ready-delay", "1"]);
    let ask = |path: &str| {
        let mut client = TcpStream::connect(server.address).unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    assert_eq!(ask("/ready"), "200");
    let start = Instant::now();
    server.signal("-TERM");
    while ask("/ready") == "200" {
        assert!(start.elapsed() < GENEROUS);
    }
    assert_eq!((ask("/ready"), ask("/plaintext")), ("503".to_owned(), "200".to_owned()));
    assert_eq!(server.ends().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

/// A service manager passes sockets from descriptor 3 on, and says so in the environment.
#[test]
fn sockets_of_a_service_manager_are_served_tcp_and_unix() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let path = std::env::temp_dir().join(format!("postlude-{}-manager.sock", std::process::id()));
    let unix = UnixListener::bind(&path).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" --log /dev/null 3<&0 4<&2 0</dev/null 2>/dev/null"])
        .arg(binary())
        .stdin(OwnedFd::from(tcp))
        .stderr(OwnedFd::from(unix))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let expected = [format!("listening on http://{address}"), format!("listening on http://unix:{}", path.display())];
    assert_eq!([lines.next().unwrap(), lines.next().unwrap()], expected);
    let request = b"GET /plaintext HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (mut over_tcp, mut over_unix) = (TcpStream::connect(address).unwrap(), UnixStream::connect(&path).unwrap());
    over_tcp.write_all(request).unwrap();
    over_unix.write_all(request).unwrap();
    for client in [&mut over_tcp as &mut dyn Read, &mut over_unix] {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("Hello, World!"), "{answer}");
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    fs::remove_file(&path).unwrap();
}

/// Runs the example with these arguments to its end: status, stderr.
fn run(arguments: &[&str]) -> (ExitStatus, String) {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_wrong_argument_and_a_taken_port_are_one_line_each() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let log = std::env::temp_dir().join(format!("postlude-{}-no-log", std::process::id()));
    let cases: [(&[&str], &str); 5] = [
        (&["--prot", "8000"], "--prot"),
        (&["--port", "eighty"], "eighty"),
        (&["--port", "65536"], "65536"),
        (&["--log"], "--log"),
        (&["--port", &port, "--log", log.to_str().unwrap()], &port),
    ];
    for (arguments, named) in cases {
        let (status, stderr) = run(arguments);
        let is_taken = arguments.contains(&port.as_str());
        assert_eq!(status.code(), Some(if is_taken { 1 } else { 2 }), "{arguments:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(named) && !stderr.contains("panicked"), "{stderr}");
    }
    assert!(!Path::new(&log).exists(), "no file is made before the port is bound");
}
