//! The table of guarantees in docs/background.md, row by row: each way a response can end, and the
//! tasks that then run.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use postlude::deferred::{Info, Outcome, Queue, Running, Status};
use postlude::http::files::Dir;
use postlude::http::{
    BackgroundTasks, Error, FromRequest, Limits, Next, Path, Request, Response, Result, Router, Server, StatusCode,
    middleware,
};
use postlude::net::{TcpStream, UnixStream};
use postlude::{Runtime, spawn, time};

use crate::http::{connect, get, paused, read_to_end, read_until, server, slow};

const PAGE: &str = include_str!("../../docs/background.md");
const HEAD: &str = "| how the response ends |";
const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 4] = ["default", "only_delivered", "on_failure", "always"];

/// What became of the tasks, and the outcome that those that ran were told.
#[derive(Clone, Default)]
struct Seen {
    ends: Rc<RefCell<HashMap<String, Status>>>,
    outcome: Rc<Cell<Option<Outcome>>>,
}

impl Seen {
    fn queue(&self) -> Queue {
        let ends = Rc::clone(&self.ends);
        let note = move |task: &Info| {
            if task.status.is_final() {
                assert!(ends.borrow_mut().insert(task.name.to_string(), task.status).is_none(), "{task}: once");
            }
        };
        Queue::builder().on_event(move |task, _| note(task)).on_fault(|_, _| {}).build()
    }

    fn server(&self, router: Router) -> Server {
        let limits = Limits { write_timeout: 5 * SECOND, drain_limit: 10 * SECOND, ..Limits::default() };
        server(router.state(self.clone())).queue(self.queue()).limits(limits)
    }

    /// The row of the table.
    fn row(&self, way: &str) -> String {
        let outcome = match self.outcome.get() {
            None => String::from("none"),
            Some(Outcome::Failed(_)) => String::from("`Failed`"),
            Some(outcome) => format!("`{outcome:?}`"),
        };
        let cells = NAMES.map(|name| match self.ends.borrow().get(name) {
            Some(Status::Done) => "runs",
            Some(Status::Skipped) => "no",
            Some(Status::Unfinished) => "unfinished",
            other => panic!("{way}: {name} is {other:?}"),
        });
        format!("| {way} | {outcome} | {} |", cells.join(" | "))
    }
}

/// Adds a task of each condition, which lasts until the client has gone.
fn add_four(tasks: &BackgroundTasks, seen: &Seen) -> Result<()> {
    for name in NAMES {
        let outcome = Rc::clone(&seen.outcome);
        let work = async move |job: Running| {
            outcome.set(job.outcome());
            time::sleep(SECOND).await;
        };
        let task = tasks.task(name);
        match name {
            "only_delivered" => task.only_delivered().run(work),
            "on_failure" => task.on_failure().run(work),
            "always" => task.always().run(work),
            _ => task.run(work),
        }?;
    }
    Ok(())
}

/// An extractor that does so.
struct Four;

impl FromRequest for Four {
    type Rejection = Error;

    async fn from_request(request: &mut Request) -> Result<Self> {
        let postlude::http::State(seen) = postlude::http::State::<Seen>::from_request(request).await?;
        add_four(&BackgroundTasks::from_request(request).await?, &seen).map(|()| Self)
    }
}

async fn answers(_: Four) -> &'static str {
    "answer"
}

async fn fails(_: Four) -> Result<()> {
    Err(Error::new(404, "no"))
}

async fn big(_: Four) -> Vec<u8> {
    vec![b'x'; 4_000_000]
}

fn router(root: &std::path::Path) -> Router {
    let replace = async |request: Request, next: Next| {
        drop(next.run(request).await);
        Response::new(200).with_body("a page of its own")
    };
    let throws = async |request: Request, next: Next| {
        drop(next.run(request).await);
        Err::<Response, _>(Error::new(500, "the layer's own"))
    };
    let panics = async |request: Request, next: Next| {
        let response = next.run(request).await;
        if response.status() == 200 { panic!("in a layer") } else { response }
    };
    let lingers = async |request: Request, next: Next| {
        let response = next.run(request).await;
        time::sleep(10 * SECOND).await;
        response
    };
    let alone = async |mut request: Request, _: Next| {
        Four::from_request(&mut request).await.map(|_| Response::new(403).with_body("no"))
    };
    let refuses = async |mut request: Request, _: Next| {
        Four::from_request(&mut request).await?;
        Err::<Response, _>(Error::new(403, "no"))
    };
    let adds = async |mut request: Request, next: Next| {
        let _four = Four::from_request(&mut request).await?;
        Ok::<_, Error>(next.run(request).await)
    };
    Router::new()
        .get("/200", answers)
        .get("/404", async |_: Four| (StatusCode::NOT_FOUND, "no such thing, says the handler"))
        .get("/err", fails)
        .get("/number/{n}", async |_: Four, Path(n): Path<u32>| n.to_string())
        .get("/panic", async |_: Four| if true { panic!("on purpose") } else { "never" })
        .get("/slow", async |_: Four| {
            time::sleep(2 * SECOND).await;
            "answer"
        })
        .get("/never", async |_: Four| std::future::pending::<&str>().await)
        .get("/big", big)
        .get("/204", async |_: Four| StatusCode::NO_CONTENT)
        .get("/304", async |_: Four| StatusCode::NOT_MODIFIED)
        .get("/stream", async |_: Four| slow(&["one", "two"], SECOND / 2))
        .get("/silent", async |_: Four| slow(&["one", "two"], 5 * SECOND))
        .get("/broken", async |_: Four| {
            let pieces = [Ok(b"one".to_vec()), Err(std::io::Error::other("no more"))];
            Response::stream(futures::stream::iter(pieces))
        })
        .get("/upgrade", async |_: Four| Response::upgrade("chat", async |_| time::sleep(3600 * SECOND).await))
        .nest("/files", Router::new().get("/{*rest}", Dir::new(root)).with(adds))
        .nest("/replaced", Router::new().get("/ok", answers).get("/err", fails).with(replace))
        .nest("/throws", Router::new().get("/ok", answers).with(throws))
        .nest("/panics", Router::new().get("/ok", answers).with(panics))
        .nest("/lingers", Router::new().get("/ok", answers).with(middleware::timeout(5 * SECOND)).with(lingers))
        .nest("/alone", Router::new().get("/ok", answers).with(alone))
        .nest("/refuses", Router::new().get("/ok", answers).with(refuses))
        .nest(
            "/limited",
            Router::new()
                .get("/", async |_: Four| std::future::pending::<&str>().await)
                .with(middleware::timeout(5 * SECOND)),
        )
}

/// What the client does.
#[derive(Clone, Copy)]
enum Client {
    Reads(&'static str),
    /// Hangs up after a second, having read nothing.
    Leaves(&'static str),
    /// Neither reads nor hangs up.
    Stalls(&'static str),
    LeavesAfter(&'static str, &'static str),
    Sends(&'static str),
}

#[test]
fn the_table_of_guarantees_says_what_happens() {
    let root = std::env::temp_dir().join(format!("postlude-outcomes-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("five"), "12345").unwrap();
    let upgrade = "GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n";
    let ways = [
        ("200: the handler gives any `Ok` or `Response`", Client::Reads("/200")),
        ("the handler gives a `Response` of 404, 500 …", Client::Reads("/404")),
        ("the handler returns `Err`", Client::Reads("/err")),
        ("an extractor behind the tasks rejects", Client::Reads("/number/x")),
        ("the handler panics", Client::Reads("/panic")),
        ("a layer replaces the response", Client::Reads("/replaced/ok")),
        ("a layer replaces the response of an `Err`", Client::Reads("/replaced/err")),
        ("a layer returns `Err` after the handler's `Ok`", Client::Reads("/throws/ok")),
        ("a layer panics after the handler's `Ok`", Client::Reads("/panics/ok")),
        ("a layer answers alone", Client::Reads("/alone/ok")),
        ("a layer refuses alone with `Err`", Client::Reads("/refuses/ok")),
        ("a layer's time limit ends the handler", Client::Reads("/limited/")),
        ("a layer's time limit after the handler's `Ok`", Client::Reads("/lingers/ok")),
        ("the client leaves while the handler runs", Client::Leaves("/slow")),
        ("the client leaves while the answer is written", Client::Leaves("/big")),
        ("the client leaves after the answer", Client::LeavesAfter("/200", "answer")),
        ("the client reads too slowly (`write_timeout`)", Client::Stalls("/big")),
        ("HEAD", Client::Sends("HEAD /200 HTTP/1.1\r\nHost: test\r\n\r\n")),
        ("204", Client::Reads("/204")),
        ("304", Client::Reads("/304")),
        ("416 of `files::Dir`", Client::Sends("GET /files/five HTTP/1.1\r\nHost: t\r\nRange: bytes=100-200\r\n\r\n")),
        ("an upgrade: 101 is out", Client::Sends(upgrade)),
        ("426: an upgrade that the client did not ask for", Client::Reads("/upgrade")),
        ("a stream to its last chunk", Client::Reads("/stream")),
        ("a stream that gives an error", Client::Reads("/broken")),
        ("the client ends its sending, and a stream stays silent", Client::Reads("/silent")),
        ("the client leaves a stream", Client::LeavesAfter("/stream", "one\r\n")),
    ];
    let mut rows = Vec::new();
    for (way, client) in ways {
        let seen = Seen::default();
        paused(async {
            let server = Rc::new(seen.server(router(&root)));
            let connection = connect(&server);
            let (request, end) = match client {
                Client::Reads(path) | Client::Leaves(path) | Client::Stalls(path) => (get(path), ""),
                Client::LeavesAfter(path, end) => (get(path), end),
                Client::Sends(request) => (request.to_owned(), ""),
            };
            connection.write_all(request.as_bytes()).await.unwrap();
            match client {
                Client::Reads(_) | Client::Sends(_) => {
                    if way.contains("101") {
                        read_until(&connection, "\r\n\r\n").await;
                    } else {
                        connection.shutdown(std::net::Shutdown::Write).unwrap();
                        let answer = read_to_end(&connection).await;
                        assert!(answer.starts_with("HTTP/1.1 "), "{way}: {answer}");
                    }
                }
                Client::LeavesAfter(..) => drop(read_until(&connection, end).await),
                Client::Leaves(_) => time::sleep(SECOND).await,
                Client::Stalls(_) => time::sleep(100 * SECOND).await,
            }
            drop(connection);
            time::sleep(100 * SECOND).await;
        });
        rows.push(seen.row(way));
    }
    rows.extend(ends_of_servers(&root));
    std::fs::remove_dir_all(&root).unwrap();
    let page: Vec<_> = PAGE.lines().skip_while(|line| !line.starts_with(HEAD)).skip(2).take(rows.len() + 1).collect();
    rows.push(String::new());
    assert_eq!(page, rows, "left: docs/background.md, right: what happened");
}

/// The ends of a server, of a connection and of a runtime.
fn ends_of_servers(root: &std::path::Path) -> Vec<String> {
    let stopping = |path: &'static str, way: &str| {
        let seen = Seen::default();
        paused(async {
            let server = seen.server(router(root)).shutdown_on(time::sleep(SECOND));
            let address = server.local_addr().unwrap();
            let running = spawn(server.run());
            let client = TcpStream::connect(address).await.unwrap();
            client.write_all(get(path).as_bytes()).await.unwrap();
            running.await.unwrap().unwrap();
        });
        seen.row(way)
    };
    let connection = || {
        let seen = Seen::default();
        paused(async {
            let server = Rc::new(seen.server(router(root)));
            let (client, wire) = UnixStream::pair().unwrap();
            client.write_all(get("/never").as_bytes()).await.unwrap();
            assert!(time::timeout(SECOND, server.serve_connection(wire)).await.is_err());
            time::sleep(100 * SECOND).await;
        });
        seen.row("the future of `serve_connection` is dropped while the handler runs")
    };
    let runtime = |path: &str, way: &str| {
        let seen = Seen::default();
        let runtime = Runtime::builder().paused_clock().build().unwrap();
        runtime
            .block_on(async {
                let client = connect(&Rc::new(seen.server(router(root))));
                client.write_all(get(path).as_bytes()).await.unwrap();
                time::sleep(SECOND / 2).await;
            })
            .unwrap();
        drop(runtime);
        seen.row(way)
    };
    vec![
        stopping("/slow", "the server stops, and the handler ends within `drain_limit`"),
        stopping("/never", "the server stops, and the handler outlasts `drain_limit`"),
        connection(),
        runtime("/never", "the runtime is dropped while the handler runs"),
        runtime("/200", "the runtime is dropped while the tasks run"),
    ]
}
