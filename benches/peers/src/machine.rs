//! The machine's line, without which a number says nothing, and what a process takes of it.

use std::process::Command;
use std::thread;
use std::time::SystemTime;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

pub fn line() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let date = httpdate::fmt_http_date(SystemTime::now());
    format!("{}, {cores} cores, Linux {}, {}, {date}", processor(), kernel.trim(), compiler())
}

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let model = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.to_owned())
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "rustc unknown".to_owned())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Keeps this process to so many of its cores, the last ones: the first serves most interrupts.
pub fn pin_to_last(count: usize) {
    let cores = cores();
    pin_to(&cores[cores.len().saturating_sub(count)..]);
}

/// Keeps this process, and those that it starts from now on, to the first of its cores.
pub fn pin_to_first() {
    pin_to(cores().get(..1).unwrap_or_default());
}

/// The cores that this process may use.
fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
}

fn pin_to(cores: &[usize]) {
    let mut chosen = CpuSet::new();
    cores.iter().for_each(|&core| chosen.set(core));
    // Without the right to do so it runs wherever it is.
    let _ = sched_setaffinity(None, &chosen);
}

/// Makes room for so many descriptors; an error says why there is none.
pub fn allow_descriptors(needed: u64) -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if maximum.is_some_and(|maximum| maximum < needed) {
        return Err(format!("{needed} descriptors by this system (ulimit -Hn)"));
    }
    if current.is_some_and(|current| current < needed) {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(|error| error.to_string())?;
    }
    Ok(())
}
