//! The main job: a server that answers at once and does the work afterwards.
//!
//! Try it:
//!
//! ```text
//! cargo run --example server
//! curl -i -X POST 'http://127.0.0.1:8000/send-notification/ada@example.org?q=hello&delay_ms=2000'; cat log.txt
//! curl -i --data-binary @Cargo.toml http://127.0.0.1:8000/files
//! curl -i http://127.0.0.1:8000/files/1
//! systemd-socket-activate -l 8000 target/debug/examples/server
//! ```
//!
//! It takes the sockets that a service manager has opened (sd_listen_fds(3)), TCP or Unix. Only
//! without them it binds its port.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path as FilePath, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use listenfd::ListenFd;
use postlude::http::{
    BackgroundTasks, FromRequest, IntoResponse, Json, Limits, Path, Query, Rejection, Request, Response, Result,
    Router, Server, State, Stopping,
};
use postlude::net::{TcpListener, UnixListener};
use serde::{Deserialize, Serialize};

// The notifications, after FastAPI's tutorial on background tasks.

/// The log file, opened when the first line is written.
#[derive(Clone)]
struct Log(Rc<LogFile>);

struct LogFile {
    path: PathBuf,
    file: RefCell<Option<File>>,
}

impl Log {
    fn write(&self, line: &str) -> std::io::Result<()> {
        let mut file = self.0.file.borrow_mut();
        if file.is_none() {
            *file = Some(OpenOptions::new().create(true).append(true).open(&self.0.path)?);
        }
        match file.as_mut() {
            Some(file) => file.write_all(format!("{}\n", printable(line)).as_bytes()),
            None => Ok(()),
        }
    }
}

/// What a client has sent must not begin a line of its own, nor move a cursor.
fn printable(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { String::from(c) };
    text.chars().map(escaped).collect()
}

#[derive(Deserialize)]
struct Notification {
    q: Option<String>,
    #[serde(default)]
    delay_ms: u64,
}

/// A dependency: an extractor that logs the query, after the response like everything else.
struct LoggedQuery {
    delay: Duration,
}

impl FromRequest for LoggedQuery {
    type Rejection = postlude::http::Error;

    async fn from_request(request: &mut Request) -> Result<Self> {
        let Query(Notification { q, delay_ms }) = Query::from_request(request).await?;
        let State(log) = State::<Log>::from_request(request).await?;
        let tasks = BackgroundTasks::from_request(request).await?;
        if let Some(q) = q {
            tasks.task("log query").run(async move || log.write(&format!("found query: {q}")))?;
        }
        Ok(Self { delay: Duration::from_millis(delay_ms) })
    }
}

async fn send_notification(
    Path(email): Path<String>,
    LoggedQuery { delay }: LoggedQuery,
    State(log): State<Log>,
    tasks: BackgroundTasks,
) -> Result<&'static str> {
    tasks.task("notify").run(async move || {
        postlude::time::sleep(delay).await;
        log.write(&format!("notification for {email}: some notification"))
    })?;
    Ok("Notification sent in the background")
}

// Files: 202 at once, the work on a thread, its state to be asked for.

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "nothing fails here, but a client must be ready for it")]
enum Progress {
    Queued,
    Running,
    Done,
    Failed,
}

struct Upload {
    bytes: usize,
    /// Written by the thread that processes it.
    state: Arc<Mutex<Progress>>,
}

#[derive(Clone, Default)]
struct Uploads {
    last: Rc<Cell<u64>>,
    /// The last `KNOWN` ones: a server that runs for months must forget some.
    known: Rc<RefCell<BTreeMap<u64, Upload>>>,
}

const KNOWN: usize = 10_000;

impl Uploads {
    fn add(&self, id: u64, upload: Upload) {
        self.last.set(id);
        let mut known = self.known.borrow_mut();
        known.insert(id, upload);
        if known.len() > KNOWN {
            known.pop_first();
        }
    }
}

#[derive(Serialize)]
struct Accepted {
    id: u64,
    state: Progress,
}

#[derive(Serialize)]
struct Status {
    id: u64,
    state: Progress,
    bytes: usize,
}

fn set(state: &Mutex<Progress>, progress: Progress) {
    *state.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = progress;
}

/// What takes long: a real one would index, transcode or scan.
fn process(bytes: &[u8], state: &Mutex<Progress>) {
    set(state, Progress::Running);
    std::hint::black_box(bytes);
    std::thread::sleep(Duration::from_millis(500));
    set(state, Progress::Done);
}

async fn upload(State(uploads): State<Uploads>, tasks: BackgroundTasks, body: Vec<u8>) -> Result<Response> {
    let id = uploads.last.get() + 1;
    let bytes = body.len();
    let state = Arc::new(Mutex::new(Progress::Queued));
    let task = {
        let state = Arc::clone(&state);
        move || process(&body, &state)
    };
    tasks.task(format!("process file {id}")).run_blocking(task)?;
    uploads.add(id, Upload { bytes, state });
    let accepted = Json(Accepted { id, state: Progress::Queued }).into_response();
    Ok(accepted.with_status(202).with_field("location", format!("/files/{id}")))
}

async fn file_status(Path(id): Path<String>, State(uploads): State<Uploads>) -> Response {
    let known = uploads.known.borrow();
    let Some((id, upload)) = id.parse().ok().and_then(|id| Some((id, known.get(&id)?))) else {
        return Response::new(404).with_body("there is no such file");
    };
    let state = *upload.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Json(Status { id, state, bytes: upload.bytes }).into_response()
}

fn router(log: &FilePath) -> Router {
    Router::new()
        .state(Log(Rc::new(LogFile { path: log.to_owned(), file: RefCell::default() })))
        .state(Uploads::default())
        .get("/", async || "Postlude: the answer first, the work afterwards.\n")
        .get("/plaintext", async || "Hello, World!")
        .post("/echo", async |body: Vec<u8>| body)
        .post("/send-notification/{email}", send_notification)
        .post("/files", upload)
        .get("/files/{id}", file_status)
        .get("/ready", async |stopping: Stopping| match stopping.is_announced() {
            true => Err(Rejection::new(503, "stopping")),
            false => Ok("ready"),
        })
}

// The command line.

struct Arguments {
    port: u16,
    log: PathBuf,
    limits: Limits,
    ready_delay: Duration,
}

const USAGE: &str = "usage: server [--port N] [--log FILE] [--header-timeout S] [--body-timeout S] [--idle-timeout S] \
    [--drain-limit S] [--ready-delay S]";

impl Arguments {
    /// `None` if help is asked for.
    fn read(mut words: impl Iterator<Item = std::ffi::OsString>) -> Result<Option<Self>, String> {
        let (log, limits) = (PathBuf::from("log.txt"), Limits::default());
        let mut arguments = Self { port: 8000, log, limits, ready_delay: Duration::ZERO };
        while let Some(word) = words.next() {
            let name = word.to_string_lossy().into_owned();
            if name == "--help" {
                return Ok(None);
            }
            let mut value = || words.next().ok_or(format!("{name} needs a value; {USAGE}"));
            match name.as_str() {
                "--port" => arguments.port = parse(&name, &value()?)?,
                "--log" => arguments.log = value()?.into(),
                "--header-timeout" => arguments.limits.header_timeout = seconds(&name, &value()?)?,
                "--body-timeout" => arguments.limits.body_timeout = seconds(&name, &value()?)?,
                "--idle-timeout" => arguments.limits.idle_timeout = seconds(&name, &value()?)?,
                "--drain-limit" => arguments.limits.drain_limit = seconds(&name, &value()?)?,
                "--ready-delay" => arguments.ready_delay = seconds(&name, &value()?)?,
                _ => return Err(format!("unknown argument {name:?}; {USAGE}")),
            }
        }
        Ok(Some(arguments))
    }
}

fn parse<T: std::str::FromStr>(name: &str, value: &std::ffi::OsStr) -> Result<T, String> {
    let text = value.to_string_lossy();
    text.parse().map_err(|_| format!("{name} does not take {text:?}; {USAGE}"))
}

fn seconds(name: &str, value: &std::ffi::OsStr) -> Result<Duration, String> {
    let seconds = parse(name, value)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{name} does not take {seconds}; {USAGE}"))
}

/// A server on the sockets of the service manager.
fn inherited(mut sockets: ListenFd, router: Router) -> std::io::Result<Server> {
    let mut server = Server::new(router);
    for place in 0..sockets.len() {
        // An error says that the socket is of another kind.
        if let Ok(Some(listener)) = sockets.take_tcp_listener(place) {
            server = server.listen(TcpListener::from_std(listener)?);
        } else if let Some(listener) = sockets.take_unix_listener(place)? {
            server = server.listen(UnixListener::from_std(listener)?);
        }
    }
    Ok(server)
}

async fn serve(arguments: Arguments) -> Result<ExitCode, String> {
    let (sockets, router) = (ListenFd::from_env(), router(&arguments.log));
    let server = if sockets.len() > 0 {
        inherited(sockets, router).map_err(|error| format!("cannot take the inherited sockets: {error}"))?
    } else {
        let address = format!("127.0.0.1:{}", arguments.port);
        let bound = Server::bind(address.as_str(), router);
        bound.map_err(|error| format!("cannot listen on {address}: {error}"))?
    };
    let server = server.shutdown_on_signals().limits(arguments.limits).ready_delay(arguments.ready_delay);
    // A log that cannot be written is told now, and not after the first answer.
    let log = OpenOptions::new().create(true).append(true).open(&arguments.log);
    log.map_err(|error| format!("--log cannot write {}: {error}", arguments.log.display()))?;
    for address in server.addresses().map_err(|error| error.to_string())? {
        announce(&format!("listening on http://{address}"));
    }
    let report = server.run().await.map_err(|error| format!("cannot serve: {error}"))?;
    let _ = writeln!(std::io::stderr(), "{report}");
    Ok(report.exit_code())
}

/// Prints a line. A closed stdout is no reason to stop.
fn announce(line: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn main() -> ExitCode {
    let (text, code) = match Arguments::read(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => match postlude::run(serve(arguments)).unwrap_or_else(|error| Err(error.to_string())) {
            Ok(code) => return code,
            Err(text) => (text, ExitCode::FAILURE),
        },
        Ok(None) => {
            announce(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(text) => (text, ExitCode::from(2)),
    };
    let _ = writeln!(std::io::stderr(), "server: {text}");
    code
}
