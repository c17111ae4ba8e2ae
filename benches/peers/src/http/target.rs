//! A server as a process: its address, its CPU time, its memory, its end.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::client;
use super::servers::{ALL, Entry, Program};
use crate::machine;

/// What a server is ready to have: 10 000 connections and some.
const DESCRIPTORS: u64 = 10_500;

/// The standard library's 128 lets a client that opens thousands wait for a second again and again.
const BACKLOG: i32 = 4096;

pub struct Target {
    process: Child,
    pub address: SocketAddr,
}

impl Target {
    pub fn start(entry: &Entry) -> Result<Self, String> {
        let mut command = match entry.program {
            Program::Own(_) => {
                let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
                command.args(["serve", entry.column.name]);
                command
            }
            Program::Python(script) => {
                let mut command = Command::new("python3");
                command.args(["-c", script]);
                command
            }
        };
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut process = process.map_err(|error| format!("cannot start the server: {error}"))?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            // The rest of it, if there is any, has no reader.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let address = line.trim().parse();
        // From here on its drop ends the process.
        let mut target = Self { process, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        target.address = address.map_err(|_| "the server has not said where it listens".to_owned())?;
        Ok(target)
    }

    /// CPU time of all its threads.
    pub fn cpu(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.id())).into_iter().flatten().flatten();
        let nanoseconds = threads.filter_map(|thread| {
            fs::read_to_string(thread.path().join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    pub fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kibibytes.unwrap_or(0.0) * 1024.0
    }

    /// Waits until as many background tasks have run as requests were answered.
    pub fn wait_for_tasks(&self, requests: u64) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = client::get(self, "/ran")?;
            let ran = String::from_utf8_lossy(&text).parse::<u64>().map_err(|error| error.to_string())?;
            if ran >= requests {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{ran} background tasks have run of {requests}"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process that was started as a server.
pub fn serve_here(name: &str) -> Result<(), String> {
    let entry = ALL.iter().find(|entry| entry.column.name == name).ok_or(format!("no server is called `{name}`"))?;
    let Program::Own(serve) = entry.program else { return Err(format!("`{name}` is not part of this program")) };
    machine::pin_to_last(1);
    machine::allow_descriptors(DESCRIPTORS)?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    rustix::net::listen(&listener, BACKLOG).map_err(|error| error.to_string())?;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    println!("{address}");
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    serve(listener);
    Ok(())
}

/// Whether Python can import these modules.
pub fn python_has(modules: &str) -> bool {
    let mut command = Command::new("python3");
    command.args(["-c", &format!("import {modules}")]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
