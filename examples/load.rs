//! Measures the server under load: its refusals, the cost of a request, and the latency of another
//! client.
//!
//! ```text
//! cargo run --release --example load                  everything, some ten minutes
//! cargo run --release --example load short            refusals alone, half a minute; fails on a single one
//! cargo run --release --example load background       refusals, CPU and waits, beside `spawn` in place of `add`
//! cargo run --release --example load latency          another client's latency beside background work
//! cargo run --release --example load bytes            large bodies, and another client's latency beside them
//! valgrind --tool=callgrind target/release/examples/load count add/10 10000 16
//!                                                     instructions of so many requests, in batches of 16
//! ```
//!
//! It starts itself as the server and drives that with wrk (Debian package `wrk`). wrk runs at the
//! lowest priority and on one thread, so that on two cores the numbers are the server's. CPU time
//! is that of the server's process, from `/proc/PID/schedstat`. Two variants that are compared take
//! turns. `count` uses no wrk: client and server are tasks of one loop. The difference between the
//! instructions of two counts is the cost of the requests between them, and does not vary.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postlude::http::{BackgroundTasks, Path, Result, Router, Server, State};
use postlude::task::yield_now;

type Outcome<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

// The server.

/// What the tasks found: how many ran, and the longest time from being added to having ended.
#[derive(Clone, Default)]
struct Seen(Rc<(Cell<u64>, Cell<Duration>)>);

impl Seen {
    /// A task of so many polls.
    fn task(&self, polls: u32) -> impl Future<Output = ()> + use<> {
        let (seen, added) = (self.clone(), Instant::now());
        async move {
            for _ in 1..polls {
                yield_now().await;
            }
            let (ran, longest) = &*seen.0;
            ran.set(ran.get() + 1);
            longest.set(longest.get().max(added.elapsed()));
        }
    }
}

async fn add(Path(polls): Path<u32>, State(seen): State<Seen>, tasks: BackgroundTasks) -> Result<&'static str> {
    tasks.add(seen.task(polls))?;
    Ok("accepted")
}

/// The same work, left to a task that the server knows nothing of.
async fn spawn(Path(polls): Path<u32>, State(seen): State<Seen>) -> &'static str {
    drop(postlude::spawn(seen.task(polls)));
    "accepted"
}

/// Deferred tasks that keep the thread busy for so many microseconds at every poll, and are ready
/// again at once.
async fn busy(Path((count, micros)): Path<(u32, u64)>) -> &'static str {
    for _ in 0..count {
        drop(postlude::defer(async move {
            loop {
                let began = Instant::now();
                while began.elapsed() < Duration::from_micros(micros) {}
                yield_now().await;
            }
        }));
    }
    "accepted"
}

async fn report(State(seen): State<Seen>) -> String {
    let (ran, longest) = &*seen.0;
    format!("{} {}", ran.get(), longest.replace(Duration::ZERO).as_micros())
}

fn router() -> Router {
    let large: &'static [u8] = Vec::leak(vec![b'x'; 1 << 20]);
    Router::new()
        .state(Seen::default())
        .get("/plaintext", async || "Hello, World!")
        .get("/add/{polls}", add)
        .get("/spawn/{polls}", spawn)
        .get("/busy/{count}/{micros}", busy)
        .get("/large", async move || large)
        .post("/echo", async |body: Vec<u8>| body)
        .get("/report", report)
}

async fn serve() -> std::io::Result<()> {
    let server = Server::bind("127.0.0.1:0", router())?;
    let address = server.local_addr()?;
    say(&address.to_string());
    server.run().await.map(drop)
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

// The target: that server as a process.

struct Target {
    process: Child,
    address: String,
}

impl Target {
    fn start() -> Outcome<Self> {
        let mut process = Command::new(std::env::current_exe()?).arg("serve").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        Ok(Self { process, address: line.trim().to_owned() })
    }

    /// CPU time used so far.
    fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.process.id())).unwrap_or_default();
        let nanos = text.split_whitespace().next().and_then(|number| number.parse().ok());
        Duration::from_nanos(nanos.unwrap_or(0))
    }

    /// The most memory that was resident, in MiB.
    fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    fn get(&self, path: &str) -> Outcome<String> {
        Client::connect(&self.address)?.get(path)
    }

    /// How many tasks ran since the start, and the longest wait since this was asked last.
    fn report(&self) -> Outcome<(u64, Duration)> {
        let text = self.get("/report")?;
        let (ran, longest) = text.split_once(' ').ok_or("no report")?;
        Ok((ran.parse()?, Duration::from_micros(longest.parse()?)))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One kept connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn get(&mut self, path: &str) -> Outcome<String> {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8(body)?)
    }
}

/// Asks for `/plaintext` every millisecond until told to stop; gives the times, sorted.
fn probe(address: &str, stop: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    let Ok(mut client) = Client::connect(address) else { return times };
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        if client.get("/plaintext").is_err() {
            break;
        }
        times.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    times.sort();
    times
}

/// What another client feels while `work` goes on: its median, its 99th percentile and its maximum.
fn felt<T>(target: &Target, work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, [Duration; 3])> {
    let stop = Arc::new(AtomicBool::new(false));
    let client = {
        let (address, stop) = (target.address.clone(), Arc::clone(&stop));
        std::thread::spawn(move || probe(&address, &stop))
    };
    let done = work();
    stop.store(true, Ordering::Relaxed);
    let times = client.join().unwrap_or_default();
    let at = |part: usize| times.get(times.len() * part / 100).or(times.last()).copied().unwrap_or_default();
    Ok((done?, [50, 99, 100].map(at)))
}

// The load.

#[derive(Clone, Copy)]
struct Load {
    connections: u32,
    /// Requests sent in one piece.
    pipelined: u32,
}

const LOADS: [Load; 4] = [
    Load { connections: 64, pipelined: 1 },
    Load { connections: 256, pipelined: 1 },
    Load { connections: 512, pipelined: 1 },
    Load { connections: 64, pipelined: 16 },
];

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pipelined {
            1 => self.connections.fmt(f),
            many => write!(f, "{many} x {}", self.connections),
        }
    }
}

#[derive(Clone, Copy)]
struct Run {
    requests: u64,
    /// Answers that were no 200, and connections that broke.
    refused: u64,
    cpu: Duration,
}

impl Run {
    fn micros_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests.max(1) as f64
    }
}

/// Runs wrk for so many seconds. A body makes the requests POSTs.
fn wrk(target: &Target, load: Load, seconds: u32, path: &str, body: usize) -> Outcome<Run> {
    let script = std::env::temp_dir().join(format!("load-{}.lua", std::process::id()));
    let method = if body > 0 { "POST" } else { "GET" };
    let lua = format!(
        "init = function()\n\
         local body = {body} > 0 and string.rep('x', {body}) or nil\n\
         whole = string.rep(wrk.format('{method}', '{path}', nil, body), {})\n\
         end\n\
         request = function() return whole end\n",
        load.pipelined
    );
    std::fs::write(&script, lua)?;
    let before = target.cpu();
    let output = Command::new("nice")
        .args(["-n", "19", "wrk", "-t1", "-c", &load.connections.to_string(), "-d", &format!("{seconds}s"), "-s"])
        .arg(&script)
        .arg(format!("http://{}{path}", target.address))
        .output()
        .map_err(|error| format!("cannot run wrk (Debian package: wrk): {error}"))?;
    let cpu = target.cpu().saturating_sub(before);
    let _ = std::fs::remove_file(&script);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let number = |before: &str, after: &str| -> u64 {
        let found = text.lines().filter_map(|line| line.trim().strip_prefix(before)?.split_once(after)).next();
        let digits = found.map(|(number, _)| number.trim().to_owned()).unwrap_or_default();
        digits.parse().unwrap_or(0)
    };
    let requests = number("", " requests in");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors:")).unwrap_or_default();
    // "connect 0, read 0, write 0, timeout 0"
    let broken: u64 = line.split(',').filter_map(|part| part.split_whitespace().last()?.parse::<u64>().ok()).sum();
    let other = text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses:"));
    let other: u64 = other.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
    if requests == 0 {
        return Err(format!("wrk counted no request: {text}").into());
    }
    Ok(Run { requests, refused: other + broken, cpu })
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

// The tables.

/// Whether any request was refused.
fn background(rounds: usize, seconds: u32) -> Outcome<bool> {
    say(&format!(
        "{:<12}{:>6}{:>12}{:>10}{:>13}{:>13}{:>13}{:>8}",
        "connections", "polls", "requests/s", "refused", "longest ms", "add µs CPU", "spawn µs CPU", "ratio"
    ));
    let mut any_refused = false;
    for load in LOADS {
        for polls in [1, 2, 10] {
            let (target, beside) = (Target::start()?, Target::start()?);
            let (mut runs, mut others, mut longest) = (Vec::new(), Vec::new(), Duration::ZERO);
            for _ in 0..rounds {
                runs.push(wrk(&target, load, seconds, &format!("/add/{polls}"), 0)?);
                longest = longest.max(target.report()?.1);
                others.push(wrk(&beside, load, seconds, &format!("/spawn/{polls}"), 0)?);
            }
            let refused: u64 = runs.iter().map(|run| run.refused).sum();
            let rate = median(runs.iter().map(|run| run.requests as f64 / f64::from(seconds)).collect());
            let [add, spawn] = [&runs, &others].map(|runs| median(runs.iter().map(Run::micros_per_request).collect()));
            let ratio = median(
                runs.iter().zip(&others).map(|(a, b)| a.micros_per_request() / b.micros_per_request()).collect(),
            );
            say(&format!(
                "{:<12}{polls:>6}{rate:>12.0}{refused:>10}{:>13.1}{add:>13.2}{spawn:>13.2}{ratio:>8.2}",
                load.to_string(),
                milliseconds(longest),
            ));
            any_refused |= refused > 0;
        }
    }
    Ok(any_refused)
}

/// Whether any request was refused, and nothing else: for a test.
fn short() -> Outcome<bool> {
    say(&format!("{:<12}{:>6}{:>12}{:>10}{:>13}", "connections", "polls", "requests", "refused", "longest ms"));
    let mut any_refused = false;
    for load in LOADS {
        for polls in [1, 2, 10] {
            let target = Target::start()?;
            let run = wrk(&target, load, 2, &format!("/add/{polls}"), 0)?;
            let longest = milliseconds(target.report()?.1);
            let Run { requests, refused, .. } = run;
            say(&format!("{:<12}{polls:>6}{requests:>12}{refused:>10}{longest:>13.1}", load.to_string()));
            any_refused |= refused > 0;
        }
    }
    Ok(any_refused)
}

fn latency() -> Outcome {
    say(&format!("{:<44}{:>9}{:>9}{:>9}", "beside", "p50 ms", "p99 ms", "max ms"));
    let row = |name: &str, felt: [Duration; 3]| {
        let [median, high, most] = felt.map(milliseconds);
        say(&format!("{name:<44}{median:>9.2}{high:>9.2}{most:>9.2}"));
    };
    let sleep = |seconds| {
        std::thread::sleep(Duration::from_secs(seconds));
        Ok(())
    };
    let target = Target::start()?;
    row("nothing", felt(&target, || sleep(4))?.1);
    for path in ["/plaintext", "/add/1", "/add/2", "/add/10"] {
        let target = Target::start()?;
        let (_, times) = felt(&target, || wrk(&target, LOADS[0], 4, path, 0))?;
        row(&format!("64 connections that ask for {path}"), times);
    }
    for (count, micros) in [(10_000, 100), (100, 2_000)] {
        let target = Target::start()?;
        target.get(&format!("/busy/{count}/{micros}"))?;
        row(&format!("{count} deferred tasks, {micros} µs a poll"), felt(&target, || sleep(4))?.1);
    }
    Ok(())
}

/// What a task's budget takes in time, spent on writes of one byte and on bytes: the middle of so
/// many.
fn price() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut ours = TcpStream::connect(listener.local_addr()?)?;
    let mut peer = listener.accept()?.0;
    ours.set_nodelay(true)?;
    let mut timed = |writes: usize, bytes: usize| -> Outcome<f64> {
        let (data, mut buffer) = (vec![b'x'; bytes], vec![0; bytes]);
        let mut times = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            for _ in 0..writes {
                ours.write_all(&data)?;
            }
            times.push(began.elapsed().as_secs_f64() * 1e6);
            for _ in 0..writes {
                peer.read_exact(&mut buffer)?;
            }
        }
        Ok(median(times))
    };
    // More than this does not fit into the socket without a reader.
    const PIECE: usize = 256 << 10;
    let (operations, bytes) = (timed(128, 1)?, timed(1, PIECE)? * (128 << 14) as f64 / PIECE as f64);
    say(&format!("128 writes of a byte: {operations:.0} µs; 128 times 16 KiB: {bytes:.0} µs"));
    Ok(())
}

fn bytes() -> Outcome {
    price()?;
    say(&format!(
        "{:<36}{:>12}{:>9}{:>12}{:>9}{:>9}{:>9}",
        "large bodies", "requests/s", "µs CPU", "peak MiB", "p50 ms", "p99 ms", "max ms"
    ));
    for (name, connections, path, body) in [
        ("1 MiB answers, 16 connections", 16, "/large", 0),
        ("64 KiB echoed, 32 connections", 32, "/echo", 64 << 10),
        ("1 MiB echoed, 8 connections", 8, "/echo", 1 << 20),
    ] {
        let mut rows = Vec::new();
        for _ in 0..5 {
            let target = Target::start()?;
            let load = Load { connections, pipelined: 1 };
            let (run, times) = felt(&target, || wrk(&target, load, 3, path, body))?;
            if run.refused > 0 {
                return Err(format!("{name}: {} requests failed", run.refused).into());
            }
            rows.push((run, times, target.peak_memory()));
        }
        let rate = median(rows.iter().map(|(run, ..)| run.requests as f64 / 3.0).collect());
        let cpu = median(rows.iter().map(|(run, ..)| run.micros_per_request()).collect());
        let peak = median(rows.iter().map(|(.., peak)| *peak as f64).collect());
        let [p50, p99, most] = [0, 1, 2].map(|n| median(rows.iter().map(|row| milliseconds(row.1[n])).collect()));
        say(&format!("{name:<36}{rate:>12.0}{cpu:>9.1}{peak:>12.0}{p50:>9.2}{p99:>9.2}{most:>9.2}"));
    }
    Ok(())
}

/// So many requests of 64 clients in this process, for a program that counts instructions.
fn count(path: &str, requests: u32, pipelined: u32) -> Outcome {
    use postlude::net::TcpStream;
    const CLIENTS: u32 = 64;
    let request = Rc::new(format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(pipelined as usize));
    postlude::run(async move {
        let server = Server::bind("127.0.0.1:0", router())?;
        let address = server.local_addr()?;
        let _server = postlude::spawn(server.run()).abort_on_drop();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let request = Rc::clone(&request);
                postlude::spawn(async move {
                    let stream = TcpStream::connect(address).await?;
                    let mut buffer = [0; 4096];
                    for _ in 0..requests / CLIENTS / pipelined {
                        // Answers to requests that came in one piece go out in one.
                        stream.write(request.as_bytes()).await?;
                        let count = stream.read(&mut buffer).await?;
                        if !buffer[..count].starts_with(b"HTTP/1.1 200") {
                            return Err(std::io::Error::other(String::from_utf8_lossy(&buffer[..count])));
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for client in clients {
            client.await.map_err(std::io::Error::other)??;
        }
        Ok(())
    })?
    .map_err(|error: std::io::Error| error.into())
}

const USAGE: &str = "usage: load [short | background | latency | bytes | count PATH REQUESTS [PIPELINED]]";

fn run(words: &[&str]) -> Outcome<bool> {
    match *words {
        ["serve"] => postlude::run(serve())??,
        ["--help"] => say(USAGE),
        ["count", path, requests] => count(path, number(requests)?, 1)?,
        ["count", path, requests, pipelined] => count(path, number(requests)?, number(pipelined)?)?,
        ["short"] => return short(),
        ["background"] => return background(7, 2),
        ["latency"] => latency()?,
        ["bytes"] => bytes()?,
        [] => {
            let refused = background(7, 2)?;
            latency()?;
            bytes()?;
            return Ok(refused);
        }
        _ => return Err(wrong(&words.join(" "))),
    }
    Ok(false)
}

/// A wrong argument, which is the caller's and not the server's failure.
#[derive(Debug)]
struct Wrong(String);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is not understood; {USAGE}", self.0)
    }
}

impl std::error::Error for Wrong {}

fn wrong(text: &str) -> Box<dyn std::error::Error> {
    Box::new(Wrong(text.to_owned()))
}

fn number(text: &str) -> Outcome<u32> {
    text.parse().map_err(|_| wrong(text))
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => {
            let _ = writeln!(std::io::stderr(), "load: requests were refused");
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "load: {error}");
            if error.is::<Wrong>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
