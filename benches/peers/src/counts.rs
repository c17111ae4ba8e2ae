//! What does not vary: instructions and system calls per operation, as the difference between a run
//! with twice as many operations and one with as many. Start, warm-up and end cancel out.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::loads::{Load, Metric, Unit};
use crate::options::Options;
use crate::report;
use crate::rounds::{self, Answer, Cell, Row, Run};

pub const METHOD: &str =
    "Counts per operation, from the difference between two runs of which one does twice the operations.";

/// A run below a counter does this part of the operations.
const PART: u64 = 20;
/// With more tasks or timers a run below valgrind takes minutes.
const LARGEST: u64 = 10_000;

/// Runs a measurement below a counter. Returns what it has printed and what was counted.
type Counter = fn(&Run) -> Result<(String, f64), String>;

pub fn instructions(options: &Options) -> Result<Vec<Row>, String> {
    if !is_there("valgrind") {
        return Err("instructions are counted by valgrind, which is not installed here".to_owned());
    }
    Ok(count(options, Metric { name: "instructions", unit: Unit::Instructions }, below_valgrind))
}

pub fn system_calls(options: &Options) -> Result<Vec<Row>, String> {
    let counter: Counter = if is_there("strace") {
        below_strace
    } else if is_there("perf") {
        below_perf
    } else {
        return Err("system calls are counted by strace or perf, and neither is installed here".to_owned());
    };
    Ok(count(options, Metric { name: "system calls", unit: Unit::SystemCalls }, counter))
}

fn is_there(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

fn count(options: &Options, metric: Metric, counter: Counter) -> Vec<Row> {
    let contestants = options.contestants();
    let columns = options.columns();
    report::print_header(&columns, metric.name);
    let mut rows = Vec::new();
    for load in options.loads().iter().filter(|load| load.countable) {
        for &size in load.sizes.values.iter().filter(|&&size| size <= LARGEST && options.wants_size(size)) {
            let cells = contestants
                .iter()
                .map(|entry| per_operation(&Run::new(entry, load, size), load, counter).unwrap_or_else(Cell::Failed));
            let row = Row::new(load, size, metric, cells.collect());
            report::print_row(&columns, &row);
            rows.push(row);
        }
    }
    rows
}

fn per_operation(run: &Run, load: &Load, counter: Counter) -> Result<Cell, String> {
    let operations = (load.operations / PART).max(run.size);
    let warm_up = operations / 10;
    let mut results = Vec::new();
    for operations in [operations, 2 * operations] {
        let (text, counted) = counter(&Run { operations, warm_up, ..run.clone() })?;
        match rounds::answer(&text)? {
            Answer::NotOffered(what) => return Ok(Cell::NotOffered(what)),
            Answer::Done { count, .. } => results.push((count as f64, counted)),
        }
    }
    let [(few, of_few), (many, of_many)] = results[..] else { unreachable!("two runs") };
    Ok(Cell::Values(vec![(of_many - of_few) / (many - few)]))
}

fn program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| error.to_string())
}

fn below_valgrind(run: &Run) -> Result<(String, f64), String> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program()?).args(run.arguments());
    let text = rounds::output(&mut command)?;
    let line = text.lines().find_map(|line| line.split_once("Collected :"));
    let counted = line.and_then(|(_, number)| number.trim().parse().ok());
    Ok((text.clone(), counted.ok_or("valgrind has not said what it collected")?))
}

fn below_strace(run: &Run) -> Result<(String, f64), String> {
    let mut command = Command::new("strace");
    command.args(["-f", "-c"]).arg(program()?).args(run.arguments());
    let text = rounds::output(&mut command)?;
    // `100.00  0.000123  1  456  7 total`: share, seconds, microseconds per call, calls, errors.
    let line = text.lines().rfind(|line| line.ends_with(" total"));
    let counted = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    Ok((text.clone(), counted.ok_or("strace has not printed a total")?))
}

fn below_perf(run: &Run) -> Result<(String, f64), String> {
    let mut command = Command::new("perf");
    command.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter"]).arg(program()?).args(run.arguments());
    let text = rounds::output(&mut command)?;
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter"));
    let counted = line.and_then(|line| line.split(',').next()?.parse().ok());
    Ok((text.clone(), counted.ok_or("perf may not count system calls here")?))
}
