//! A periodic clean-up, and the queue's books as Prometheus text.
//!
//! ```text
//! cargo run --example metrics
//! curl -i -X POST http://127.0.0.1:8000/sessions    # a session of five seconds, and a task of 50 ms
//! curl http://127.0.0.1:8000/metrics
//! ```
//!
//! The clean-up runs every two seconds and prints the number of sessions it has removed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use postlude::deferred::{Histogram, LaneStats, Queue};
use postlude::http::{BackgroundTasks, Response, Result, Router, Server, State};
use postlude::time;

const USAGE: &str = "usage: metrics [--port N]";
const PREFIX: &str = "postlude_jobs";

#[derive(Clone, Default)]
struct Sessions {
    last: Rc<Cell<u64>>,
    /// When each ends.
    ends: Rc<RefCell<HashMap<u64, Instant>>>,
}

impl Sessions {
    fn forget_old(&self) {
        let (mut ends, now) = (self.ends.borrow_mut(), time::now());
        let before = ends.len();
        ends.retain(|_, end| *end > now);
        say(&format!("clean-up: {} forgotten, {} left", before - ends.len(), ends.len()));
    }
}

async fn create(State(sessions): State<Sessions>, tasks: BackgroundTasks) -> Result<String> {
    let id = sessions.last.get() + 1;
    sessions.last.set(id);
    sessions.ends.borrow_mut().insert(id, time::now() + Duration::from_secs(5));
    tasks.task("greet").run(async || time::sleep(Duration::from_millis(50)).await)?;
    Ok(format!("session {id}\n"))
}

async fn metrics(queue: Queue) -> Response {
    Response::new(200).with_field("content-type", "text/plain; version=0.0.4").with_body(render(&queue))
}

/// The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
pub(crate) fn render(queue: &Queue) -> String {
    let lanes = queue.stats().lanes;
    let mut out = String::new();
    figures(&mut out, "counter", "accepted_total", &lanes, |lane| lane.accepted);
    figures(&mut out, "counter", "done_total", &lanes, |lane| lane.done);
    figures(&mut out, "counter", "failed_total", &lanes, |lane| lane.failed);
    figures(&mut out, "counter", "skipped_total", &lanes, |lane| lane.skipped);
    figures(&mut out, "counter", "cancelled_total", &lanes, |lane| lane.cancelled);
    figures(&mut out, "counter", "unfinished_total", &lanes, |lane| lane.unfinished);
    figures(&mut out, "gauge", "waiting", &lanes, |lane| lane.waiting);
    figures(&mut out, "gauge", "running", &lanes, |lane| lane.running);
    figures(&mut out, "gauge", "oldest_seconds", &lanes, |lane| lane.oldest.unwrap_or_default().as_secs_f64());
    histogram(&mut out, "wait_seconds", &lanes, |lane| &lane.wait);
    histogram(&mut out, "run_seconds", &lanes, |lane| &lane.run);
    out
}

fn figures<T: Display>(out: &mut String, kind: &str, name: &str, lanes: &[LaneStats], of: impl Fn(&LaneStats) -> T) {
    let _ = writeln!(out, "# TYPE {PREFIX}_{name} {kind}");
    for lane in lanes {
        let _ = writeln!(out, "{PREFIX}_{name}{{lane=\"{}\"}} {}", lane.lane, of(lane));
    }
}

fn histogram(out: &mut String, name: &str, lanes: &[LaneStats], of: impl Fn(&LaneStats) -> &Histogram) {
    let _ = writeln!(out, "# TYPE {PREFIX}_{name} histogram");
    for lane in lanes {
        let (histogram, lane) = (of(lane), lane.lane);
        // `buckets[n]` counts what took less than 2ⁿ µs; Prometheus wants all that is below. From
        // 64 µs to 18 minutes.
        for n in (6..=30).step_by(2) {
            let below: u64 = histogram.buckets[..=n].iter().sum();
            let limit = (1_u64 << n) as f64 / 1e6;
            let _ = writeln!(out, "{PREFIX}_{name}_bucket{{lane=\"{lane}\",le=\"{limit}\"}} {below}");
        }
        let all = histogram.count();
        let _ = writeln!(out, "{PREFIX}_{name}_bucket{{lane=\"{lane}\",le=\"+Inf\"}} {all}");
        let sum = histogram.sum().as_secs_f64();
        let _ = writeln!(out, "{PREFIX}_{name}_sum{{lane=\"{lane}\"}} {sum}");
        let _ = writeln!(out, "{PREFIX}_{name}_count{{lane=\"{lane}\"}} {all}");
    }
}

async fn serve(port: u16) -> io::Result<()> {
    let sessions = Sessions::default();
    let app = Router::new().state(sessions.clone()).post("/sessions", create).get("/metrics", metrics);
    let server = Server::bind(("127.0.0.1", port), app)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on 127.0.0.1:{port}: {error}")))?
        .shutdown_on_signals();
    // Ends when the server stops.
    server.tasks().every(Duration::from_secs(2), "clean-up", async move || sessions.forget_old());
    say(&format!("listening on http://{}", server.local_addr()?));
    let report = server.run().await?;
    say(&report.to_string());
    Ok(())
}

/// Writes a line. A closed stdout is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let port = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(8000),
        ["--port", port] => port.parse().map_err(|_| format!("--port does not take {port:?}")),
        ["--help"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => Err(format!("unknown arguments {words:?}")),
    };
    let (text, code) = match port.map(|port| postlude::run(serve(port)).and_then(|served| served)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (error.to_string(), 1),
        Err(text) => (format!("{text}; {USAGE}"), 2),
    };
    let _ = writeln!(io::stderr(), "metrics: {text}");
    ExitCode::from(code)
}
