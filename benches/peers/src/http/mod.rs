//! Real servers under load: each a process on the last core, driven from the first one, by wrk or,
//! for server-sent events, by this program.
//!
//! Where wrk cannot keep a server busy, requests per second are wrk's; so the CPU time of the
//! server per request is the verdict. A row counts only if every answer was a 2xx, and of
//! background tasks only if all have run.

mod client;
mod servers;
mod target;
mod wrk;

use std::time::Duration;

use crate::loads::{CPU, Metric, Unit};
use crate::machine;
use crate::options::Options;
use crate::report::{self, Column};
use crate::rounds::{self, Answer, Cell, Row};
use servers::{EVENT, HELLO, LARGE, MEDIUM, Program, TICK};
use target::Target;
use wrk::Script;

pub use servers::{ALL, Entry};
pub use target::serve_here;

/// A way to drive a server.
pub struct Drive {
    pub name: &'static str,
    pub about: &'static str,
    path: &'static str,
    kind: Kind,
}

enum Kind {
    Wrk {
        script: Script,
        connections: u32,
        idle: usize,
    },
    /// So many subscribers.
    Events(usize),
}

const BUSY: u32 = 64;
const FEW: u32 = 16;

const fn wrk(name: &'static str, about: &'static str, path: &'static str, script: Script, connections: u32) -> Drive {
    Drive { name, about, path, kind: Kind::Wrk { script, connections, idle: 0 } }
}

pub const DRIVES: [Drive; 12] = [
    wrk("keep_alive", "a short text, 64 connections", "/plaintext", Script::Plain, BUSY),
    wrk("pipelined", "the same, 16 requests at a time", "/plaintext", Script::Pipelined, BUSY),
    wrk("new_connections", "the same, a connection for each request", "/plaintext", Script::Close, BUSY),
    wrk("background", "a 202 and a task after it, 64 connections", "/background", Script::Plain, BUSY),
    wrk("json", "a serialized object, 64 connections", "/json", Script::Plain, BUSY),
    wrk("down_64k", "64 KiB to the client, 16 connections", "/medium", Script::Plain, FEW),
    wrk("down_1m", "1 MiB to the client, 16 connections", "/large", Script::Plain, FEW),
    wrk("up_64k", "64 KiB from the client, 16 connections", "/upload", Script::Upload(MEDIUM), FEW),
    wrk("up_1m", "1 MiB from the client, 16 connections", "/upload", Script::Upload(LARGE), FEW),
    Drive {
        name: "idle_beside",
        about: "a short text, 64 connections beside 10 000 that are idle",
        path: "/plaintext",
        kind: Kind::Wrk { script: Script::Plain, connections: BUSY, idle: 10_000 },
    },
    Drive {
        name: "events",
        about: "an event to one of 256 subscribers, one each 5 ms",
        path: "/events",
        kind: Kind::Events(256),
    },
    Drive {
        name: "events_2000",
        about: "an event to one of 2 000 subscribers, one each 5 ms",
        path: "/events",
        kind: Kind::Events(2000),
    },
];

const RATE: Metric = Metric { name: "rate", unit: Unit::PerSecond };
const RESIDENT: Metric = Metric { name: "resident memory", unit: Unit::Bytes };
const LATENCIES: [Metric; 2] =
    [Metric { name: "p50", unit: Unit::Nanoseconds }, Metric { name: "p99", unit: Unit::Nanoseconds }];

impl Drive {
    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![CPU, RATE, RESIDENT];
        // Of pipelined requests wrk's latencies are wrong: a p99 of zero, for one.
        if matches!(self.kind, Kind::Wrk { script: Script::Plain | Script::Close | Script::Upload(_), .. }) {
            metrics.extend(LATENCIES);
        }
        metrics
    }

    /// Starts a server, drives it, and returns a value for each metric.
    fn measure(&self, entry: &Entry, time: Duration) -> Result<Vec<f64>, String> {
        let target = Target::start(entry)?;
        self.check(&target)?;
        match self.kind {
            Kind::Wrk { ref script, connections, idle } => {
                let _idle = client::connect(&target, idle)?;
                let before = target.cpu();
                let seen = wrk::drive(&target, self.path, script, connections, time)?;
                let cpu = target.cpu() - before;
                if self.path == "/background" {
                    target.wait_for_tasks(seen.requests)?;
                }
                let per_request = cpu.as_nanos() as f64 / seen.requests as f64;
                Ok(vec![per_request, seen.rate, target.resident(), seen.p50, seen.p99])
            }
            Kind::Events(subscribers) => {
                let mut subscribed = client::subscribe(&target, subscribers)?;
                let before = target.cpu();
                let events = subscribed.count(time)?;
                let cpu = target.cpu() - before;
                let rate = events as f64 / time.as_secs_f64();
                Ok(vec![cpu.as_nanos() as f64 / events as f64, rate, target.resident()])
            }
        }
    }

    /// Whether the server does what the row says, once.
    fn check(&self, target: &Target) -> Result<(), String> {
        let (wanted, body) = match self.kind {
            Kind::Events(_) => return Ok(()),
            Kind::Wrk { script: Script::Upload(length), .. } => {
                (length.to_string().into_bytes(), client::post(target, self.path, length)?)
            }
            Kind::Wrk { .. } => (self.expected(), client::get(target, self.path)?),
        };
        if body == wanted {
            Ok(())
        } else {
            Err(format!("{} answers {} bytes that it should not", self.path, body.len()))
        }
    }

    fn expected(&self) -> Vec<u8> {
        match self.path {
            "/json" => format!("{{\"message\":\"{HELLO}\"}}").into_bytes(),
            "/background" => b"accepted".to_vec(),
            "/medium" => vec![b'x'; MEDIUM],
            "/large" => vec![b'x'; LARGE],
            _ => HELLO.as_bytes().to_vec(),
        }
    }
}

/// What the servers' tick lets a subscriber have per second.
fn events_per_second() -> f64 {
    1.0 / TICK.as_secs_f64()
}

/// Returns the rows and the columns of the servers that are there.
pub fn measure(options: &Options) -> Result<(Vec<Column>, Vec<Row>), String> {
    wrk::find()?;
    machine::pin_to_first();
    let entries = present(options.servers());
    let columns: Vec<Column> = entries.iter().map(|entry| entry.column).collect();
    report::print_header(&columns, &format!("CPU per request unless said, best of {} rounds", options.rounds));
    let time = Duration::from_secs(if options.quick { 1 } else { 2 });
    let mut rows = Vec::new();
    for drive in options.drives() {
        let metrics = drive.metrics();
        let mut cells = vec![vec![Cell::Values(Vec::new()); metrics.len()]; entries.len()];
        for round in 0..options.rounds {
            for turn in 0..entries.len() {
                let number = (turn + round) % entries.len();
                rounds::add_turn(&mut cells[number], || {
                    drive.measure(entries[number], time).map(|values| Answer::Done { count: 0, values })
                });
            }
        }
        for (number, &metric) in metrics.iter().enumerate() {
            let row = Row {
                load: drive.name.to_owned(),
                about: drive.about.to_owned(),
                size: 0,
                size_of: "",
                plotted: false,
                metric,
                cells: cells.iter().map(|metrics| metrics[number].clone()).collect(),
            };
            report::print_row(&columns, &row);
            rows.push(row);
        }
    }
    Ok((columns, rows))
}

/// The servers that can be started here; a sentence about each of the others.
fn present(entries: Vec<&'static Entry>) -> Vec<&'static Entry> {
    let (present, absent): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| match entry.program {
        Program::Own(_) => true,
        Program::Python(_) => target::python_has("fastapi, uvicorn"),
    });
    absent.iter().for_each(|entry| println!("{}: skipped, python3 does not find its modules", entry.column.name));
    present
}
