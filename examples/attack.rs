//! Attacks a server on loopback, while a well-behaved client measures its latency.
//!
//! ```text
//! cargo build --release --examples
//! ulimit -n "$(ulimit -Hn)"; target/release/examples/attack target/release/examples/server [attack ...]
//! ```
//!
//! It starts the server once for each kind of attack and attacks it three times, or as often as
//! `ROUNDS` says. It prints a table: the well-behaved client's latency, and the server's resident
//! memory before, during and after each round, which shows whether the memory comes back. If the
//! limit of open files is low, it makes fewer connections than asked for; the table says how many.
//! The attackers run in their own process with the lowest priority, so that the client feels the
//! server and not a shared processor. The first row, without an attack, shows the machine's own
//! latency.
//!
//! After bodies of megabytes, glibc's allocator keeps some memory resident for the next ones: once
//! the first big block is freed, it takes such blocks from its heap. Set
//! `MALLOC_MMAP_THRESHOLD_=131072` in the environment, which the server inherits, and it gives them
//! back.

use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

struct Target {
    process: Child,
    address: String,
}

impl Target {
    /// Starts a server that may open so many files; 0: as many as this program.
    fn start(program: &str, files: usize) -> std::io::Result<Self> {
        let limit = if files > 0 { format!("ulimit -n {files}; ") } else { String::new() };
        let line = format!("{limit}exec \"$0\" --port 0 --log /dev/null");
        let mut process = Command::new("sh").args(["-c", &line, program]).stdout(Stdio::piped()).spawn()?;
        let mut text = String::new();
        if let Some(stdout) = &mut process.stdout {
            BufReader::new(stdout).read_line(&mut text)?;
        }
        let address = text.trim().rsplit('/').next().unwrap_or_default().to_owned();
        // Dropped, and so reaped, if it said nothing.
        let target = Self { process, address };
        match target.address.parse::<SocketAddr>() {
            Ok(_) => Ok(target),
            Err(_) => {
                Err(Error::other(format!("`{program}` did not start; `cargo build --release --examples` builds it")))
            }
        }
    }

    /// Resident memory in KiB.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const GET: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";

fn connect(address: &str) -> Option<TcpStream> {
    // A server that accepts no more lets its queue run full, and then the kernel answers nobody:
    // that must not stop the attacker, too.
    let stream = TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    Some(stream)
}

fn request(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(GET)?;
    let mut buffer = [0; 1024];
    let count = stream.read(&mut buffer)?;
    if buffer[..count].ends_with(b"Hello, World!") { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// The well-behaved client: a kept connection, and a new one for every tenth request if `anew`.
/// Gives the times, sorted, and the failures.
fn behave(address: &str, anew: bool, stop: &AtomicBool) -> (Vec<Duration>, usize) {
    let (mut times, mut failures) = (Vec::new(), 0);
    let mut kept = connect(address);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let mut fresh = if anew && times.len() % 10 == 9 { connect(address) } else { None };
        let answered = fresh.as_mut().or(kept.as_mut()).is_some_and(|stream| request(stream).is_ok());
        times.push(begin.elapsed());
        if !answered {
            failures += 1;
            kept = connect(address);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    times.sort();
    (times, failures)
}

/// Connections that sent something and stay.
fn many(address: &str, count: usize, sent: impl Fn(&mut TcpStream) -> bool) -> Vec<TcpStream> {
    (0..count).map_while(|_| connect(address)).filter_map(|mut stream| sent(&mut stream).then_some(stream)).collect()
}

fn idle(address: &str) -> usize {
    let held = many(address, 10_000, |stream| request(stream).is_ok());
    hold(&held, 2)
}

fn slow_heads(address: &str) -> usize {
    let mut held = many(address, 2_000, |stream| stream.write_all(b"GET / HT").is_ok());
    for byte in b"TP/1.1\r\nHost: aaaa" {
        held.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
        std::thread::sleep(Duration::from_millis(200));
    }
    hold(&held, 0)
}

/// Each sends two MiB and wants them back, and reads a KiB of that now and then.
fn slow_readers(address: &str) -> usize {
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 2 << 20);
    let body = vec![b'x'; 2 << 20];
    let mut held =
        many(address, 50, |stream| stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_ok());
    for _ in 0..20 {
        held.retain_mut(|stream| stream.read(&mut [0; 1024]).is_ok());
        std::thread::sleep(Duration::from_millis(100));
    }
    hold(&held, 0)
}

/// Connections closed with the answer unread, which the kernel makes a reset.
fn resets(address: &str) -> usize {
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < Duration::from_secs(4) {
        let Some(mut stream) = connect(address) else { continue };
        let _ = stream.write_all(&GET.repeat(20));
        let _ = stream.read(&mut [0; 1]);
        count += 1;
    }
    count
}

/// More connections than the server may open files.
fn no_files(address: &str) -> usize {
    let held = many(address, 300, |_| true);
    hold(&held, 3)
}

fn hold(held: &[TcpStream], seconds: u64) -> usize {
    std::thread::sleep(Duration::from_secs(seconds));
    held.len()
}

/// None of it: what the machine does by itself.
fn nothing(_: &str) -> usize {
    hold(&[], 3)
}

/// Runs an attack in a process of its own; gives the number of clients, and the server's peak
/// memory meanwhile.
fn round(name: &str, target: &Target) -> std::io::Result<(usize, usize)> {
    let mut attacker = Command::new("nice");
    attacker.args(["-n", "19"]).arg(std::env::current_exe()?).args(["--attacker", name, &target.address]);
    let mut attacker = attacker.stdout(Stdio::piped()).spawn()?;
    let mut during = 0;
    while attacker.try_wait()?.is_none() {
        during = during.max(target.memory());
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut text = String::new();
    if let Some(stdout) = &mut attacker.stdout {
        stdout.read_to_string(&mut text)?;
    }
    Ok((text.trim().parse().unwrap_or(0), during))
}

fn attack(program: &str, name: &str, files: usize) -> std::io::Result<String> {
    let target = Target::start(program, files)?;
    let stop = Arc::new(AtomicBool::new(false));
    let client = {
        let (address, stop) = (target.address.clone(), Arc::clone(&stop));
        // Without a file to spare nobody gets a new connection: that is the attack.
        std::thread::spawn(move || behave(&address, files == 0, &stop))
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = target.memory();
    let (mut count, mut during, mut after) = (0, 0, Vec::new());
    for _ in 0..rounds() {
        let (clients, peak) = round(name, &target)?;
        (count, during) = (count.max(clients), during.max(peak));
        std::thread::sleep(Duration::from_secs(1));
        after.push(target.memory().to_string());
    }
    stop.store(true, Ordering::Relaxed);
    let (times, failures) = client.join().unwrap_or_default();
    let at = |percent: usize| times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let ends = connect(&target.address).is_some_and(|mut stream| {
        let served = request(&mut stream).is_ok();
        let _ = stream.shutdown(Shutdown::Both);
        served
    });
    let each = during.saturating_sub(before) * 1024 / count.max(1);
    Ok(format!(
        "{name:<14}{count:>8}{:>10}{failures:>8}{:>9.2}{:>9.2}{:>9.2}{before:>9}{during:>9} {:>20}{each:>10}   {ends}",
        times.len(),
        milliseconds(at(50)),
        milliseconds(at(99)),
        milliseconds(at(100)),
        after.join(", "),
    ))
}

type Attack = (&'static str, usize, fn(&str) -> usize);

fn rounds() -> usize {
    std::env::var("ROUNDS").ok().and_then(|number| number.parse().ok()).unwrap_or(3)
}

const ATTACKS: [Attack; 6] = [
    ("none", 0, nothing),
    ("idle", 0, idle),
    ("slow-heads", 0, slow_heads),
    ("slow-readers", 0, slow_readers),
    ("resets", 0, resets),
    ("no-files", 64, no_files),
];

const USAGE: &str = "usage: attack [SERVER [ATTACK ...]]";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help") {
        let names = ATTACKS.map(|(name, ..)| name).join(", ");
        let _ = writeln!(std::io::stdout(), "{USAGE}; the attacks are {names}");
        return ExitCode::SUCCESS;
    }
    if let [word, name, address] = words.as_slice() {
        if word == "--attacker" {
            let run = ATTACKS.iter().find(|attack| attack.0 == name).map(|attack| attack.2);
            let _ = writeln!(std::io::stdout(), "{}", run.map_or(0, |run| run(address)));
            return ExitCode::SUCCESS;
        }
    }
    let program = words.first().map_or("target/release/examples/server", String::as_str);
    let wanted = words.get(1..).unwrap_or_default();
    let unknown = wanted.iter().find(|word| !ATTACKS.iter().any(|(name, ..)| name == word));
    if let Some(word) = unknown.or(words.first().filter(|word| word.starts_with('-'))) {
        eprintln!("attack: unknown argument {word:?}; {USAGE}");
        return ExitCode::from(2);
    }
    match table(program, wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn table(program: &str, wanted: &[String]) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    // Stops here, without a table, if there is no server.
    drop(Target::start(program, 0)?);
    writeln!(
        out,
        "{:<14}{:>8}{:>10}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9} {:>20}{:>10}   served after it",
        "attack", "clients", "requests", "failed", "p50 ms", "p99 ms", "max ms", "KiB", "during", "after", "B/client"
    )?;
    for (name, files, _) in ATTACKS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            writeln!(out, "{}", attack(program, name, files)?)?;
        }
    }
    Ok(())
}
