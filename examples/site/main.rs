//! A small site for real clients: a page, files, events, uploads and downloads. `tests/clients/run`
//! drives it with curl, Python, wrk, nginx and a browser.
//!
//! Try it:
//!
//! ```text
//! cargo run --example site -- --port 8000 --root .
//! curl -N http://127.0.0.1:8000/events
//! curl -T Cargo.toml http://127.0.0.1:8000/upload
//! curl -r 0-99 http://127.0.0.1:8000/files/README.md
//! ```
//!
//! The page at `/` opens an `EventSource`, uploads a `Blob`, and sets the document's title to the
//! outcome.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use postlude::http::files::Dir;
use postlude::http::{
    Body, BodyError, Event, Json, Limits, Path, PeerAddr, Query, Request, Response, Router, Server, State, sse,
};
use postlude::sync::watch;
use postlude::{iter, time};
use serde::{Deserialize, Serialize};

/// The page, and what asks the server to say what came out of it.
const PAGE: &str = include_str!("page.html");
/// What an upload may have: it is counted and not kept.
const UPLOAD: u64 = 1 << 30;

// Events.

/// How many endless streams have a client.
#[derive(Clone)]
struct Live(Rc<watch::Sender<usize>>);

impl Live {
    fn enter(self) -> Listens {
        self.0.send_modify(|count| *count += 1);
        Listens(self)
    }

    /// How many there are once there is none, or once a client that has gone should have been
    /// noticed.
    async fn settled(&self) -> usize {
        let _ = time::timeout(Duration::from_secs(5), self.0.subscribe().wait_for(|count| *count == 0)).await;
        *self.0.borrow()
    }
}

/// One client that listens; it is dropped with its stream.
struct Listens(Live);

impl Drop for Listens {
    fn drop(&mut self) {
        let Self(Live(count)) = self;
        count.send_modify(|count| *count -= 1);
    }
}

/// Three events per connection. A client that connects again, as an `EventSource` does, says what
/// it had and gets the ones that follow.
async fn events(request: Request) -> Response {
    let last = request.field("last-event-id").and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
    let first = last.map_or(1, |last: u64| last.saturating_add(1));
    sse(iter::generate(async move |out| {
        for id in first..first.saturating_add(3) {
            time::sleep(Duration::from_millis(50)).await;
            let event = Event::data(format!("event {id}\nof this page")).id(&id.to_string());
            out.emit(event.event("news").retry(Duration::from_millis(100))).await;
        }
    }))
}

/// Events for as long as the client stays.
async fn ticks(State(live): State<Live>) -> Response {
    let listens = live.enter();
    sse(iter::generate(async move |out| {
        let _listens = listens;
        let mut every = time::interval(Duration::from_millis(50));
        for tick in 0_u64.. {
            every.tick().await;
            out.emit(Event::data(tick.to_string())).await;
        }
    }))
}

// Uploads and downloads.

#[derive(Serialize)]
struct Counted {
    bytes: u64,
    /// The sum of all bytes: enough to see that they are the ones that were sent.
    sum: u64,
}

async fn upload(mut body: Body) -> Result<Json<Counted>, BodyError> {
    let mut counted = Counted { bytes: 0, sum: 0 };
    while let Some(piece) = body.next().await {
        let piece = piece?;
        counted.bytes += piece.len() as u64;
        counted.sum += piece.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    Ok(Json(counted))
}

/// So many bytes, with their length if `sized` is said.
async fn download(Path(bytes): Path<u64>, Query(how): Query<Download>) -> Response {
    let pieces = iter::try_generate(async move |out| {
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(64 * 1024);
            left -= piece;
            out.emit(vec![b'x'; usize::try_from(piece).unwrap_or_default()]).await;
        }
        Ok::<_, io::Error>(())
    });
    if how.sized { Response::stream_sized(bytes, pieces) } else { Response::stream(pieces) }
}

#[derive(Deserialize)]
struct Download {
    #[serde(default)]
    sized: bool,
}

fn router(root: PathBuf) -> Router {
    let files = Dir::new(root);
    Router::new()
        .state(Live(Rc::new(watch::channel(0).0)))
        .max_body(UPLOAD)
        .get("/", async || Response::new(200).with_field("content-type", "text/html; charset=utf-8").with_body(PAGE))
        .get("/hello", async || "Hello, World!")
        .get("/peer", async |PeerAddr(peer): PeerAddr| peer.to_string())
        .get("/events", events)
        .get("/ticks", ticks)
        .get("/live", async |State(live): State<Live>| live.settled().await.to_string())
        .put("/upload", upload)
        .post("/upload", upload)
        .post("/echo", async |body: Body| Response::stream(body))
        .get("/download/{bytes}", download)
        .get("/files/", files.clone())
        .get("/files/{*path}", files)
}

// The command line.

const USAGE: &str = "usage: site [--port N] [--root DIRECTORY]";

/// `None` if help is asked for.
fn arguments() -> Result<Option<(u16, PathBuf)>, String> {
    let (mut port, mut root) = (8000, PathBuf::from("."));
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let name = word.to_string_lossy();
        let mut value = || words.next().ok_or(format!("{name} needs a value; {USAGE}"));
        match &*name {
            "--help" => return Ok(None),
            "--port" => {
                let text = value()?;
                let text = text.to_string_lossy();
                port = text.parse().map_err(|_| format!("--port does not take {text:?}; {USAGE}"))?;
            }
            "--root" => root = value()?.into(),
            _ => return Err(format!("unknown argument {name:?}; {USAGE}")),
        }
    }
    Ok(Some((port, root)))
}

async fn serve(port: u16, root: PathBuf) -> io::Result<()> {
    let server = Server::bind(("127.0.0.1", port), router(root))
        .map_err(|error| io::Error::other(format!("cannot listen on 127.0.0.1:{port}: {error}")))?
        .shutdown_on_signals()
        .limits(Limits { drain_limit: Duration::from_secs(1), ..Limits::default() });
    let mut out = io::stdout();
    writeln!(out, "listening on http://{}", server.local_addr()?)?;
    out.flush()?;
    let report = server.run().await?;
    writeln!(io::stderr(), "{report}")
}

fn main() -> ExitCode {
    let (text, code) = match arguments() {
        Ok(Some((port, root))) => match postlude::run(serve(port, root)).and_then(|served| served) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (error.to_string(), ExitCode::FAILURE),
        },
        Ok(None) => {
            let _ = writeln!(io::stdout(), "{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(text) => (text, ExitCode::from(2)),
    };
    let _ = writeln!(io::stderr(), "site: {text}");
    code
}
