//! A 202 and its other half: a thread indexes uploads, and clients follow and cancel the jobs by
//! id.
//!
//! Ids are easy to guess, so each route asks a guard: only the key that uploaded a file may see it.
//!
//! ```text
//! cargo run --example jobs
//! curl -i -H 'X-Key: ada' --data-binary @README.md http://127.0.0.1:8000/files
//! curl -i -H 'X-Key: ada' http://127.0.0.1:8000/jobs/ID              # waiting, running 3 of 10, done
//! curl -i -H 'X-Key: ada' http://127.0.0.1:8000/jobs/ID/lines        # 404 until it is done
//! curl -i -H 'X-Key: eve' http://127.0.0.1:8000/jobs/ID              # 404
//! curl -i -H 'X-Key: ada' http://127.0.0.1:8000/jobs
//! curl -i -H 'X-Key: ada' -X DELETE http://127.0.0.1:8000/jobs/ID    # 202, or 409 once it is over
//! ```

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postlude::deferred::{Info, JobId, Lane, Queue, Running};
use postlude::http::{BackgroundTasks, Error, Path, Request, Response, Result, Router, Server, State, jobs};

const USAGE: &str = "usage: jobs [--port N]";

/// Who uploaded what, and what came of it. A real program would keep both as long as the files.
#[derive(Clone, Default)]
struct Files {
    owners: Rc<RefCell<HashMap<JobId, Vec<u8>>>>,
    /// Written by the threads.
    lines: Arc<Mutex<HashMap<JobId, usize>>>,
}

impl Files {
    fn may_see(&self, request: &Request, id: JobId) -> bool {
        self.owners.borrow().get(&id).is_some_and(|owner| request.field("x-key") == Some(owner))
    }

    /// The guard of the ready handlers.
    fn guard(&self) -> impl AsyncFn(&Request, &Info) -> bool + 'static {
        let files = self.clone();
        async move |request: &Request, job: &Info| files.may_see(request, job.id)
    }
}

/// Counts lines in ten steps, each as slow as if it did more. Called on a thread.
fn index(job: &Running, text: &[u8]) -> Result<usize, &'static str> {
    let mut lines = 0;
    for step in 0..10 {
        if job.is_cancelled() || job.is_stopping() {
            return Err("stopped half-way");
        }
        job.progress(step, 10);
        std::thread::sleep(Duration::from_millis(300));
        let part = &text[text.len() * step as usize / 10..text.len() * (step as usize + 1) / 10];
        lines += part.iter().filter(|byte| **byte == b'\n').count();
    }
    job.progress(10, 10);
    Ok(lines)
}

async fn upload(
    State(files): State<Files>,
    tasks: BackgroundTasks,
    body: Vec<u8>,
    request: Request,
) -> Result<Response> {
    let owner = request.field("x-key").ok_or(Error::new(401, "say who you are: X-Key"))?.to_vec();
    let lines = Arc::clone(&files.lines);
    let id = tasks.task("index").lane("index").run_blocking(move |job: Running| {
        let count = index(&job, &body)?;
        lines.lock().unwrap_or_else(PoisonError::into_inner).insert(job.id(), count);
        Ok::<_, &str>(())
    })?;
    files.owners.borrow_mut().insert(id, owner);
    Ok(Response::accepted(id, "/jobs/{id}"))
}

async fn lines(Path(id): Path<JobId>, State(files): State<Files>, request: Request) -> Result<String> {
    let count = files.lines.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
    match count.filter(|_| files.may_see(&request, id)) {
        Some(count) => Ok(format!("{count} lines\n")),
        None => Err(Error::new(404, "there is no such job, or it is not done")),
    }
}

async fn serve(port: u16) -> io::Result<()> {
    let files = Files::default();
    let app = Router::new()
        .state(files.clone())
        .post("/files", upload)
        .get("/jobs", jobs::list(files.guard()))
        .get("/jobs/{id}", jobs::status(files.guard()))
        .delete("/jobs/{id}", jobs::cancel(files.guard()))
        .get("/jobs/{id}/lines", lines);
    // One file at a time, so that the second upload is seen waiting.
    let queue = Queue::builder()
        .lane(Lane::on_threads("index").at_once(1).waiting(100))
        .keep_finished(1_000, Duration::from_secs(3600))
        .build();
    let server = Server::bind(("127.0.0.1", port), app)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on 127.0.0.1:{port}: {error}")))?
        .queue(queue)
        .shutdown_on_signals();
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
    let _ = writeln!(io::stderr(), "jobs: {text}");
    ExitCode::from(code)
}
