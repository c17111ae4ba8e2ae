//! A server's stop: for each state that a connection can be in, what its client gets and how soon.
//! Real sockets, the paused clock.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use postlude::http::{
    BackgroundTasks, Body, Error, Event, Limits, Rejection, Response, Router, Server, ShutdownReport, Stopping,
    Upgraded, sse,
};
use postlude::net::TcpStream;
use postlude::{spawn, time};

use crate::http::{get, paused};

const DRAIN: Duration = Duration::from_secs(10);
const BIG: usize = 20_000_000;

/// What a client sees of a stop: what it got after it, and after how many seconds its connection
/// ended. Then the report, and how many seconds the stop took.
struct Seen {
    got: String,
    ended: u64,
    report: ShutdownReport,
    took: u64,
}

fn app() -> Router {
    fn never<T>() -> futures::stream::Pending<T> {
        futures::stream::pending()
    }
    let every_second = || {
        futures::stream::unfold((), |()| async {
            time::sleep(Duration::from_secs(1)).await;
            Some((Ok(b"tick".to_vec()), ()))
        })
    };
    Router::new()
        .get("/", async || "hello")
        .get("/slow", async || {
            time::sleep(Duration::from_secs(3)).await;
            "slow"
        })
        .get("/never", async || pending::<&str>().await)
        .get("/told", async |stopping: Stopping| {
            stopping.await;
            "told"
        })
        .post("/echo", async |body: Vec<u8>| body)
        .post("/unread", async |_: Body| "unread")
        .get("/big", async || vec![b'x'; BIG])
        .get("/silent", async move || Response::stream(never()))
        .get("/busy", async move || Response::stream(every_second()))
        .get("/polite", async move |stopping: Stopping| Response::stream(every_second().take_until(stopping)))
        .get("/events", async move || sse(futures::stream::iter([Event::data("one")]).chain(never())))
        .get("/flood", async || sse(futures::stream::repeat_with(|| Event::data("flood"))))
        .get("/upgrade", async || {
            Response::upgrade("test", async |mut client: Upgraded| {
                let mut buffer = [0; 16];
                while client.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
                let _ = client.write_all(b"bye").await;
            })
        })
        .get("/handshake", async |stopping: Stopping| {
            Response::upgrade("test", async move |mut client: Upgraded| {
                client.outlive_stop();
                stopping.await;
                client.write_all(b"bye?").await.unwrap();
                let mut word = [0; 4];
                client.read_exact(&mut word).await.unwrap();
                client.write_all(&word).await.unwrap();
            })
        })
        .get("/deaf", async || Response::upgrade("test", async |_client: Upgraded| pending().await))
}

/// Sends `request`, waits a second, reads what has come, tells the server to stop, sends `later`
/// two seconds after, and reads to the end.
fn stop(request: &str, later: &str) -> Seen {
    paused(async {
        let server =
            Server::bind("127.0.0.1:0", app()).unwrap().limits(Limits { drain_limit: DRAIN, ..Limits::default() });
        let address = server.local_addr().unwrap();
        let handle = server.shutdown_handle();
        let running = spawn(async move {
            let report = server.run().await.unwrap();
            (report, time::now())
        });
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        time::sleep(Duration::from_secs(1)).await;
        let mut buffer = vec![0; 65536];
        if !request.contains("/big") {
            let _ = time::timeout(Duration::ZERO, client.read(&mut buffer)).await;
        }
        let begin = time::now();
        handle.shutdown();
        let mut got = Vec::new();
        let mut sent = later.is_empty();
        loop {
            let read = client.read(&mut buffer);
            let count = if sent {
                read.await
            } else {
                match time::timeout(Duration::from_secs(2), read).await {
                    Ok(count) => count,
                    Err(_) => {
                        sent = true;
                        client.write_all(later.as_bytes()).await.unwrap();
                        continue;
                    }
                }
            };
            match count {
                Ok(count) if count > 0 => got.extend_from_slice(&buffer[..count]),
                _ => break,
            }
        }
        let ended = (time::now() - begin).as_secs();
        drop(client);
        let (report, end) = running.await.unwrap();
        Seen { got: String::from_utf8(got).unwrap(), ended, report, took: (end - begin).as_secs() }
    })
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n{body}")
}

fn upgrade(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n")
}

/// Nothing is cut, and the connection ends within these seconds.
fn ends_within(request: &str, later: &str, seconds: u64) -> String {
    let Seen { got, ended, report, took } = stop(request, later);
    assert!(report.is_clean(), "{request}: {report}");
    assert_eq!((ended, took), (seconds, seconds), "{request}: {got}");
    got
}

fn is_cut_at_the_limit(request: &str) {
    let Seen { got, ended, report, took } = stop(request, "");
    assert_eq!((report.connections_cut, report.is_clean()), (1, false), "{request}: {report}");
    assert_eq!((ended, took), (DRAIN.as_secs(), DRAIN.as_secs()), "{request}: {got}");
}

#[test]
fn connections_without_a_whole_request_close_at_once() {
    for request in ["", &get("/"), "GET", "GET / HTTP/1.1\r\nHost: te", &(get("/") + "POST /echo HTTP/1.1\r\n")] {
        assert_eq!(ends_within(request, "", 0), "", "{request}");
    }
}

#[test]
fn a_request_that_has_begun_is_answered_and_told_that_it_was_the_last() {
    let answer = ends_within(&get("/slow"), "", 2);
    assert!(answer.ends_with("slow") && answer.contains("connection: close"), "{answer}");
    let answer = ends_within(&post("/echo", "01234"), "56789", 2);
    assert!(answer.ends_with("0123456789") && answer.contains("connection: close"), "{answer}");
    let answer = ends_within(&get("/big"), "", 0);
    assert!(answer.len() > BIG && answer.contains("\r\n\r\nxxx"), "{}", answer.len());
}

#[test]
fn a_body_that_no_handler_reads_any_more_is_not_waited_for() {
    ends_within(&post("/unread", "01234"), "", 0);
}

#[test]
fn handlers_bodies_streams_and_upgrades_that_do_not_end_are_cut_at_the_limit() {
    for path in ["/never", "/silent", "/busy"] {
        is_cut_at_the_limit(&get(path));
    }
    is_cut_at_the_limit(&post("/echo", "01234"));
    is_cut_at_the_limit(&upgrade("/deaf"));
}

#[test]
fn handlers_and_streams_that_await_the_stop_end_at_once() {
    assert!(ends_within(&get("/told"), "", 0).ends_with("told"));
    assert!(ends_within(&get("/polite"), "", 0).ends_with("0\r\n\r\n"));
}

#[test]
fn event_streams_end_at_once_and_whole_however_busy() {
    assert_eq!(ends_within(&get("/events"), "", 0), "0\r\n\r\n");
    let flood = ends_within(&get("/flood"), "", 0);
    assert!(flood.ends_with("data: flood\n\n\r\n0\r\n\r\n"), "{}", &flood[flood.len().saturating_sub(99)..]);
}

#[test]
fn an_upgraded_connection_that_waits_for_its_client_is_at_its_end_and_may_still_write() {
    assert_eq!(ends_within(&upgrade("/upgrade"), "", 0), "bye");
}

#[test]
fn an_upgraded_connection_may_say_goodbye_and_wait_for_the_reply() {
    assert_eq!(ends_within(&upgrade("/handshake"), "bye!", 2), "bye?bye!");
}

#[test]
fn a_background_task_that_awaits_the_stop_ends_in_the_drain() {
    let app = Router::new().get("/", async |tasks: BackgroundTasks, stopping: Stopping| {
        tasks.add(stopping)?;
        Ok::<_, Error>("hello")
    });
    paused(async {
        let server = Server::bind("127.0.0.1:0", app).unwrap().shutdown_on(time::sleep(Duration::from_secs(1)));
        let client = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        let begin = time::now();
        let report = server.run().await.unwrap();
        assert_eq!((report.completed, report.unfinished.len()), (1, 0), "{report}");
        assert_eq!((time::now() - begin).as_secs(), 1);
    });
}

#[test]
fn while_the_ready_delay_passes_only_the_readiness_route_and_the_hook_know() {
    let app = Router::new().get("/", async || "hello").get("/ready", async |stopping: Stopping| {
        assert!(!stopping.has_begun());
        if stopping.is_announced() { Err(Rejection::new(503, "stopping")) } else { Ok("ready") }
    });
    paused(async {
        let told = Rc::new(Cell::new(false));
        let hook = Rc::clone(&told);
        let server = Server::bind("127.0.0.1:0", app)
            .unwrap()
            .ready_delay(Duration::from_secs(5))
            .on_stop(move || hook.set(true));
        let (address, handle, stopping) = (server.local_addr().unwrap(), server.shutdown_handle(), server.stopping());
        let running = spawn(server.run());
        let ask = async |path| {
            let client = TcpStream::connect(address).await.unwrap();
            client.write_all(get(path).as_bytes()).await.unwrap();
            let mut buffer = [0; 4096];
            let count = client.read(&mut buffer).await.unwrap();
            (client, String::from_utf8_lossy(&buffer[9..count]).into_owned())
        };
        let (idle, ready) = ask("/ready").await;
        assert!(ready.starts_with("200") && !told.get());
        let begin = time::now();
        handle.shutdown();
        time::sleep(Duration::from_secs(4)).await;
        assert!(told.get() && !stopping.has_begun());
        assert!(ask("/ready").await.1.starts_with("503"));
        let (_, answer) = ask("/").await;
        assert!(answer.starts_with("200") && !answer.contains("connection: close"), "{answer}");
        let closed = idle.read(&mut [0; 1]).await;
        assert_eq!((closed.unwrap(), (time::now() - begin).as_secs()), (0, 5));
        assert!(running.await.unwrap().unwrap().is_clean() && stopping.has_begun());
        TcpStream::connect(address).await.unwrap_err();
    });
}

#[test]
fn a_server_stops_from_code_before_it_runs_and_once() {
    paused(async {
        let server = Server::bind("127.0.0.1:0", app()).unwrap().ready_delay(Duration::from_secs(5));
        let (handle, begin) = (server.shutdown_handle(), time::now());
        server.shutdown();
        handle.shutdown();
        handle.stopping().await;
        assert!(server.run().await.unwrap().is_clean());
        handle.shutdown();
        assert!((time::now() - begin).as_secs() <= 5);
    });
}

#[test]
fn a_run_that_is_dropped_begins_the_stop() {
    paused(async {
        let server = Server::bind("127.0.0.1:0", app()).unwrap();
        let (address, stopping) = (server.local_addr().unwrap(), server.stopping());
        let running = Rc::new(RefCell::new(Some(spawn(server.run()))));
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(get("/told").as_bytes()).await.unwrap();
        time::sleep(Duration::from_secs(1)).await;
        drop(running.take().unwrap().abort_on_drop());
        stopping.await;
        let (mut buffer, mut got) = ([0; 4096], String::new());
        while let Ok(count @ 1..) = client.read(&mut buffer).await {
            got += &String::from_utf8_lossy(&buffer[..count]);
        }
        assert!(got.ends_with("told"), "{got}");
    });
}
