//! The order of measurements: every one is a process of its own, since peers that share a heap
//! fragment it for each other, and in each round every peer has its turn.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::loads::{Job, Load, Metric, Unit};
use crate::machine;
use crate::options::Options;
use crate::peers::{self, Entry};
use crate::report;

/// No measurement takes longer than this; a process that does has failed.
const LIMIT: Duration = Duration::from_secs(180);

/// One measurement.
#[derive(Clone, Debug)]
pub struct Run {
    pub peer: String,
    pub load: String,
    pub size: u64,
    pub operations: u64,
    pub warm_up: u64,
}

/// What its process says.
pub enum Answer {
    Done { count: u64, values: Vec<f64> },
    NotOffered(String),
}

/// What one peer got in one row.
#[derive(Clone, Debug)]
pub enum Cell {
    Values(Vec<f64>),
    /// The peer has no such thing.
    NotOffered(String),
    Failed(String),
}

/// One metric of one load at one size, for every peer.
pub struct Row {
    pub load: String,
    pub about: String,
    pub size: u64,
    /// The unit of the size; empty if there is none.
    pub size_of: &'static str,
    /// Whether it is a point of a plot of cost against size.
    pub plotted: bool,
    pub metric: Metric,
    pub cells: Vec<Cell>,
}

impl Run {
    pub fn new(entry: &Entry, load: &Load, size: u64) -> Self {
        Self {
            peer: entry.column.name.to_owned(),
            load: load.name.to_owned(),
            size,
            operations: load.operations,
            warm_up: load.warm_up,
        }
    }

    /// The arguments that start this measurement.
    pub fn arguments(&self) -> [String; 6] {
        let numbers = [self.size, self.operations, self.warm_up].map(|number| number.to_string());
        let [size, operations, warm_up] = numbers;
        ["run".to_owned(), self.peer.clone(), self.load.clone(), size, operations, warm_up]
    }

    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let usage = "run takes PEER LOAD SIZE OPERATIONS WARM_UP";
        let [peer, load, numbers @ ..] = arguments else { return Err(usage.to_owned()) };
        let numbers: Vec<u64> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
        let [size, operations, warm_up] = numbers[..] else { return Err(usage.to_owned()) };
        let entry =
            peers::ALL.iter().find(|entry| entry.column.name == peer).ok_or(format!("no peer is called `{peer}`"))?;
        if !(entry.loads)().iter().any(|known| known.name == load) {
            return Err(format!("no load is called `{load}`"));
        }
        Ok(Self { peer: peer.clone(), load: load.clone(), size, operations, warm_up })
    }

    /// Does the measurement in a process of its own.
    pub fn start(&self) -> Result<Answer, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        answer(&output(Command::new(program).args(self.arguments()))?)
    }
}

/// Runs a program to its end, and returns what it prints; its own words if it fails.
pub fn output(command: &mut Command) -> Result<String, String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    let id = rustix::process::Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(LIMIT) else {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        return Err(format!("no answer within {} s", LIMIT.as_secs()));
    };
    let output = output.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout) + &text(&output.stderr));
    }
    let words = text(&output.stderr);
    // The message of a panic is the line below its place.
    let mut lines = words.lines().skip_while(|line| !line.contains("panicked at")).skip(1);
    let said = lines.next().or_else(|| words.lines().last()).unwrap_or("no words");
    Err(format!("{}: {said}", output.status))
}

/// Reads the line that [`run_here`] or `not_offered` prints.
pub fn answer(text: &str) -> Result<Answer, String> {
    let line = text.lines().find(|line| line.starts_with('{')).ok_or("no answer")?;
    let json: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if let Some(what) = json["not_offered"].as_str() {
        return Ok(Answer::NotOffered(what.to_owned()));
    }
    let values: Option<Vec<f64>> =
        json["values"].as_array().map(|values| values.iter().filter_map(serde_json::Value::as_f64).collect());
    let (Some(count), Some(values)) = (json["count"].as_u64(), values) else {
        return Err(format!("not an answer: {line}"));
    };
    Ok(Answer::Done { count, values })
}

/// The process that was started for a measurement.
pub fn run_here(run: &Run) {
    let entry = peers::ALL.iter().find(|entry| entry.column.name == run.peer).expect("the arguments are checked");
    let loads = (entry.loads)();
    let load = loads.iter().find(|load| load.name == run.load).expect("the arguments are checked");
    machine::pin_to_last(load.cores);
    let outcome = (load.run)(Job { operations: run.operations, warm_up: run.warm_up, size: run.size });
    assert!(outcome.count >= run.operations, "{} operations of {}", outcome.count, run.operations);
    println!("{}", serde_json::json!({ "count": outcome.count, "values": outcome.values }));
    // Tasks that wait for ever are not taken down one by one.
    std::process::exit(0);
}

pub fn measure(options: &Options) -> Result<Vec<Row>, String> {
    let contestants = options.contestants();
    let columns = options.columns();
    report::print_header(&columns, &format!("CPU per operation unless said, best of {} rounds", options.rounds));
    let mut rows = Vec::new();
    for load in options.loads() {
        for &size in load.sizes.values.iter().filter(|&&size| options.wants_size(size)) {
            let mut cells = vec![vec![Cell::Values(Vec::new()); load.metrics.len()]; contestants.len()];
            for round in 0..options.rounds {
                // Not always the same one first.
                for turn in 0..contestants.len() {
                    let number = (turn + round) % contestants.len();
                    let run = Run::new(contestants[number], &load, size);
                    add_turn(&mut cells[number], || run.start());
                }
            }
            for (number, &metric) in load.metrics.iter().enumerate() {
                let cells = cells.iter().map(|metrics| metrics[number].clone()).collect();
                let row = Row::new(&load, size, metric, cells);
                report::print_row(&columns, &row);
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

/// Adds one measurement to the cells of its metrics, unless an earlier one has failed.
pub fn add_turn(cells: &mut [Cell], measure: impl FnOnce() -> Result<Answer, String>) {
    if !matches!(cells[0], Cell::Values(_)) {
        return;
    }
    let other = match measure() {
        Ok(Answer::Done { values, .. }) => {
            for (cell, value) in cells.iter_mut().zip(values) {
                if let Cell::Values(values) = cell {
                    values.push(value);
                }
            }
            return;
        }
        Ok(Answer::NotOffered(what)) => Cell::NotOffered(what),
        Err(text) => Cell::Failed(text),
    };
    cells.fill(other);
}

impl Row {
    pub fn new(load: &Load, size: u64, metric: Metric, cells: Vec<Cell>) -> Self {
        Self {
            load: load.name.to_owned(),
            about: load.about.to_owned(),
            size,
            size_of: load.sizes.of,
            plotted: load.sizes.plotted && metric.unit == Unit::Nanoseconds,
            metric,
            cells,
        }
    }
}
