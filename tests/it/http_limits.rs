//! What a client cannot do to the server, and the way out of HTTP. Socket pairs, the paused clock.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use futures_io::{AsyncRead, AsyncWrite};
use postlude::http::chunked::{BodyLimits, Decoder};
use postlude::http::parse::Framing;
use postlude::http::{
    BackgroundTasks, Body, BodyError, Error, Limits, Response, Router, Server, ShutdownReport, Upgraded,
};
use postlude::net::{TcpStream, UnixStream};
use postlude::task::AbortOnDrop;
use postlude::{spawn, task, time};

use super::http::{connect, exchange_with, get, paused, post, read_to_end, read_until, server};

fn plain() -> Router {
    Router::new().get("/", async || "hello").post("/echo", async |body: Vec<u8>| body)
}

/// A head of so many bytes that never ends.
fn head_of(bytes: usize) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(bytes))
}

/// Sends `bytes` in equal pieces with a second between them; gives the answer and the seconds it
/// took.
async fn pour(server: Server, head: &str, bytes: String, a_second: usize) -> (String, u64) {
    let client = Rc::new(connect(&Rc::new(server)));
    client.write_all(head.as_bytes()).await.unwrap();
    let begin = time::now();
    let writer = Rc::clone(&client);
    let writing = spawn(async move {
        for piece in bytes.as_bytes().chunks(a_second) {
            if writer.write_all(piece).await.is_err() {
                break;
            }
            time::sleep(Duration::from_secs(1)).await;
        }
        let _ = writer.shutdown(std::net::Shutdown::Write);
    });
    let answer = read_to_end(&client).await;
    writing.abort();
    (answer, (time::now() - begin).as_secs())
}

#[test]
fn a_head_that_trickles_in_is_408_after_its_grace_however_short_the_gaps() {
    let (answer, seconds) = paused(pour(server(plain()), "", head_of(1000), 1));
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(seconds, 5);
    let grace =
        server(plain()).limits(Limits { header_rate: 256, header_grace: Duration::from_secs(2), ..Limits::default() });
    assert_eq!(paused(pour(grace, "", head_of(1000), 100)).1, 2);
}

#[test]
fn a_head_pays_for_its_time_with_bytes_but_not_for_more_than_the_whole() {
    // 16 KiB would take a minute at the least rate; the time for the whole head is over before.
    let (answer, seconds) = paused(pour(server(plain()), "", head_of(16_000), 300));
    assert!(answer.starts_with("HTTP/1.1 408 ") && (10..=11).contains(&seconds), "{seconds}: {answer}");
    let no_rate = server(plain()).limits(Limits { header_rate: 0, header_grace: Duration::ZERO, ..Limits::default() });
    let (answer, seconds) = paused(pour(no_rate, "", head_of(1000), 1));
    assert!(answer.starts_with("HTTP/1.1 408 ") && (10..=11).contains(&seconds), "{seconds}: {answer}");
    let (answer, seconds) = paused(pour(server(plain()), "", head_of(1500) + "\r\n\r\n", 300));
    assert!(answer.starts_with("HTTP/1.1 200 ") && seconds >= 5, "{seconds}: {answer}");
}

#[test]
fn a_slow_head_behind_an_answered_request_has_its_own_time() {
    paused(async {
        let client = connect(&Rc::new(server(plain())));
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            time::sleep(Duration::from_secs(4)).await;
            client.write_all(b"Host: a\r\n\r\n").await.unwrap();
            read_until(&client, "hello").await;
        }
    });
}

/// The head of a request with a body of so many bytes.
fn body_of(bytes: usize) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n")
}

#[test]
fn a_body_that_trickles_in_is_408_however_short_the_gaps() {
    let (answer, seconds) = paused(pour(server(plain()), &body_of(1000), "x".repeat(1000), 1));
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert!((30..=33).contains(&seconds), "{seconds}");
}

#[test]
fn a_body_earns_its_time_with_bytes_at_the_rate_that_is_set() {
    let body = || "x".repeat(200_000);
    let (answer, seconds) = paused(pour(server(plain()), &body_of(200_000), body(), 2000));
    assert!(answer.starts_with("HTTP/1.1 200 ") && seconds >= 99, "{seconds}: {}", &answer[..40]);
    // Each second costs one and earns half of one.
    let fast = server(plain()).limits(Limits { body_rate: 4000, ..Limits::default() });
    let (answer, seconds) = paused(pour(fast, &body_of(200_000), body(), 2000));
    assert!(answer.starts_with("HTTP/1.1 408 ") && (58..=63).contains(&seconds), "{seconds}: {answer}");
    let any =
        server(plain()).limits(Limits { body_rate: 0, body_timeout: Duration::from_secs(2), ..Limits::default() });
    let (answer, seconds) = paused(pour(any, &body_of(100), "x".repeat(100), 1));
    assert!(answer.starts_with("HTTP/1.1 200 ") && seconds >= 99, "{seconds}: {answer}");
}

#[test]
fn the_time_in_which_the_handler_asks_for_nothing_is_not_the_clients() {
    let router = Router::new().post("/echo", async |mut body: Body| {
        let mut bytes = 0;
        // Asks, gives up, works, and asks again.
        let early = time::timeout(Duration::from_secs(1), body.next()).await;
        assert!(early.is_err());
        time::sleep(Duration::from_secs(100)).await;
        while let Some(piece) = body.next().await {
            bytes += piece?.len();
        }
        Ok::<_, Error>(bytes.to_string())
    });
    paused(async {
        let client = connect(&Rc::new(server(router)));
        client.write_all(body_of(4).as_bytes()).await.unwrap();
        time::sleep(Duration::from_secs(105)).await;
        client.write_all(b"body").await.unwrap();
        assert!(read_until(&client, "4").await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_whole_body_of_known_length_is_held_in_a_buffer_of_that_length() {
    for bytes in [300_000, 1_100_000] {
        let sizes = async |body: Vec<u8>| format!("{} in {}", body.len(), body.capacity());
        let router = Router::new().post("/echo", sizes);
        let request = body_of(bytes) + &"x".repeat(bytes);
        let answer = paused(exchange_with(server(router), &request));
        assert!(answer.ends_with(&format!("\r\n\r\n{bytes} in {bytes}")), "{bytes}: {answer}");
    }
}

/// Sends one request, and takes so many bytes of the answer at a time, with a pause before each.
struct Sipping {
    request: &'static [u8],
    sip: usize,
    pause: Duration,
    resting: Option<time::Sleep>,
    taken: Rc<Cell<usize>>,
}

impl futures::AsyncRead for Sipping {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let request = std::mem::take(&mut self.request);
        if request.is_empty() {
            return Poll::Pending;
        }
        buffer[..request.len()].copy_from_slice(request);
        Poll::Ready(Ok(request.len()))
    }
}

impl futures::AsyncWrite for Sipping {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let pause = self.pause;
        let resting = self.resting.get_or_insert_with(|| time::sleep(pause));
        ready!(Pin::new(resting).poll(cx));
        self.resting = None;
        let count = self.sip.min(bytes.len());
        self.taken.set(self.taken.get() + count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How many bytes such a client was sent, and the seconds until the connection ended.
fn sip(server: impl FnOnce(Router) -> Server, sip: usize, pause: u64) -> (usize, u64) {
    let router = Router::new()
        .get("/", async || vec![b'x'; 100_000])
        .get("/stream", async || Response::stream(futures::stream::repeat_with(|| Ok(vec![b'x'; 1000])).take(100)));
    let server = server(router);
    let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ];
    let mut results = requests.map(|request| {
        let request = request.as_bytes();
        let taken = Rc::new(Cell::new(0));
        let client =
            Sipping { request, sip, pause: Duration::from_secs(pause), resting: None, taken: Rc::clone(&taken) };
        let seconds = paused(async {
            let begin = time::now();
            server.serve_connection(client).await;
            (time::now() - begin).as_secs()
        });
        (taken.get(), seconds)
    });
    results.sort_unstable();
    let [least, most] = results;
    assert!(most.1 - least.1 <= 25 && most.0 - least.0 < 2000, "a body and a stream alike: {results:?}");
    least
}

#[test]
fn a_client_that_takes_a_byte_just_in_time_is_cut_off_like_one_that_takes_none() {
    let (bytes, seconds) = sip(server, 1, 5);
    assert!(bytes < 10 && (30..=31).contains(&seconds), "{bytes} in {seconds} s");
    let (bytes, seconds) = sip(server, 0x1000, 2);
    assert!(bytes > 100_000 && (48..=60).contains(&seconds), "2 KiB/s is served to the end: {bytes} in {seconds} s");
    let (bytes, seconds) =
        sip(|router| server(router).limits(Limits { write_rate: 8192, ..Limits::default() }), 0x1000, 2);
    assert!(bytes < 100_000 && (38..=42).contains(&seconds), "2 KiB/s of 8: {bytes} in {seconds} s");
    let (bytes, seconds) = sip(|router| server(router).limits(Limits { write_rate: 0, ..Limits::default() }), 1000, 25);
    assert!(bytes > 100_000 && seconds >= 2500, "any byte will do: {bytes} in {seconds} s");
}

#[test]
fn a_body_whose_framing_is_refused_has_the_status_its_error_has() {
    let long = "x".repeat(20_000);
    let bodies = [
        ("5\r\nhello\r\n0\r\nX: y\r\n\r\n".to_owned(), 200),
        ("0x5\r\nhello\r\n0\r\n\r\n".to_owned(), 400),
        ("5\nhello\n0\n\n".to_owned(), 400),
        ("5\r\nhelloXX".to_owned(), 400),
        ("0\r\nbad line\r\n\r\n".to_owned(), 400),
        ("10000000000000005\r\nhello".to_owned(), 413),
        (format!("5;a={long}\r\nhello\r\n0\r\n\r\n"), 413),
        (format!("0\r\nX: {long}\r\n\r\n"), 431),
        (format!("0\r\n{}\r\n", "X: y\r\n".repeat(101)), 431),
    ];
    for (body, status) in bodies {
        let mut decoder = Decoder::new(Framing::Chunked, BodyLimits::default());
        let mut rest = body.as_bytes();
        let error = loop {
            match decoder.decode(rest) {
                Ok(_) if decoder.is_complete() => break None,
                Ok(found) => rest = &rest[found.consumed..],
                Err(error) => break Some(error),
            }
        };
        let answer = paused(exchange_with(
            server(plain()),
            &format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        ));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        if let Some(error) = error {
            assert_eq!(error.status(), status);
            assert_eq!(BodyError::Malformed(error).status(), status);
            assert!(answer.contains("connection: close\r\n") && answer.contains(&error.to_string()), "{answer}");
        }
    }
}

#[test]
fn what_a_chunked_body_may_hold_is_the_servers_to_say() {
    let limits = BodyLimits { trailer_fields: 0, extension_bytes: 4, ..BodyLimits::default() };
    for (body, status) in
        [("5\r\nhello\r\n0\r\n\r\n", 200), ("5;a=b\r\nhello\r\n0\r\n\r\n", 413), ("0\r\nX: y\r\n\r\n", 431)]
    {
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let answer =
            paused(exchange_with(server(plain()).limits(Limits { chunks: limits, ..Limits::default() }), &request));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
}

#[test]
fn the_defaults_are_what_the_documentation_says() {
    let source = include_str!("../../src/http/conn/limits.rs");
    let limits = format!("{:?}", Limits::default());
    assert!(format!("{:?}", server(plain())).contains(&limits));
    let mut told = Vec::new();
    for row in source.lines().filter_map(|line| line.strip_prefix("/// | [`")) {
        let (name, rest) = row.split_once('`').unwrap();
        let text = rest.split('|').nth(1).unwrap().trim();
        let name = name.rsplit('.').next().unwrap();
        let value = match text.rsplit_once(' ') {
            Some((number, "s")) => format!("{number}s"),
            Some((number, "KiB")) => (number.parse::<u64>().unwrap() << 10).to_string(),
            Some((number, "MiB")) => (number.parse::<u64>().unwrap() << 20).to_string(),
            _ => text.replace(' ', ""),
        };
        let field = format!("{name}: {value}");
        assert!(limits.split(['{', '}', ',']).any(|part| part.trim() == field), "{field}: {limits}");
        told.push(name);
    }
    // Each field but the two structs within, whose fields are told in their place.
    assert_eq!(told.len(), limits.matches(": ").count() - 2, "{told:?}");
}

#[test]
fn the_last_request_a_connection_may_send_is_answered_with_close() {
    for (max_requests, answered) in [(3, 3), (0, 1)] {
        let server = server(plain()).limits(Limits { max_requests, ..Limits::default() });
        let answers = paused(exchange_with(server, &get("/").repeat(5)));
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), answered, "{answers}");
        assert_eq!(answers.matches("connection: close\r\n").count(), 1, "{answers}");
        assert!(answers[answers.rfind("HTTP/1.1").unwrap()..].contains("connection: close\r\n"), "{answers}");
    }
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_and_its_tasks_run_once() {
    paused(async {
        let runs = Rc::new(Cell::new(0));
        let count = Rc::clone(&runs);
        let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
            let count = Rc::clone(&count);
            tasks.add(async move { count.set(count.get() + 1) })?;
            Ok::<_, Error>(vec![b'x'; 16 * 1024 * 1024])
        });
        let (client, wire) = UnixStream::pair().unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        let begin = time::now();
        server(router)
            .limits(Limits { write_timeout: Duration::from_secs(7), ..Limits::default() })
            .serve_connection(wire)
            .await;
        assert_eq!((time::now() - begin).as_secs(), 7);
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!(runs.get(), 1);
        assert!(read_to_end(&client).await.len() < 16 * 1024 * 1024);
    });
}

#[test]
fn a_client_that_reads_slowly_but_does_is_served_to_the_end() {
    paused(async {
        let router = Router::new().get("/", async || vec![b'x'; 1024 * 1024]);
        let client = connect(&Rc::new(
            server(router).limits(Limits { write_timeout: Duration::from_secs(30), ..Limits::default() }),
        ));
        client.write_all(get("/").as_bytes()).await.unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let (mut all, mut buffer) = (0, vec![0; 64 * 1024]);
        loop {
            time::sleep(Duration::from_secs(5)).await;
            match client.read(&mut buffer).await.unwrap() {
                0 => break,
                count => all += count,
            }
        }
        assert!(all > 1024 * 1024, "{all}");
    });
}

#[test]
fn answers_that_wait_hold_back_the_requests_behind_them() {
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let router = Router::new().get("/", async move || {
        count.set(count.get() + 1);
        vec![b'x'; 4096]
    });
    paused(async {
        let client = Rc::new(connect(&Rc::new(server(router).limits(Limits {
            max_buffer: 8 * 1024,
            write_timeout: Duration::MAX,
            ..Limits::default()
        }))));
        let writer = Rc::clone(&client);
        let flood = spawn(async move { writer.write_all(get("/").repeat(10_000).as_bytes()).await });
        time::sleep(Duration::from_secs(5)).await;
        let stalled = calls.get();
        // What the kernel takes of a socket pair, and twice eight KiB.
        assert!(stalled < 300, "{stalled} answers wait for a client that reads none");
        time::sleep(Duration::from_secs(500)).await;
        assert_eq!(calls.get(), stalled);
        let mut buffer = vec![0; 64 * 1024];
        while calls.get() < stalled + 100 {
            assert!(client.read(&mut buffer).await.unwrap() > 0);
        }
        flood.abort();
    });
}

/// A client that sends and takes as fast as it is asked to, and a socket that knows of no budget.
struct Torrent {
    head: Vec<u8>,
    body: usize,
    moved: Rc<Cell<usize>>,
}

impl Torrent {
    fn count(&self, bytes: usize) -> Poll<io::Result<usize>> {
        self.moved.set(self.moved.get() + bytes);
        Poll::Ready(Ok(bytes))
    }
}

impl futures::AsyncRead for Torrent {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let head = std::mem::take(&mut self.head);
        if !head.is_empty() {
            buffer[..head.len()].copy_from_slice(&head);
            return self.count(head.len());
        }
        let count = self.body.min(buffer.len());
        self.body -= count;
        self.count(count)
    }
}

impl futures::AsyncWrite for Torrent {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.count(bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.count(parts.iter().map(|part| part.len()).sum())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_connection_that_is_always_ready_lets_the_others_run_every_three_mib() {
    const BODY: usize = 32 * 1024 * 1024;
    // A budget of bytes, and the write that ends it.
    const MOST: usize = (2 + 1) * 1024 * 1024;
    paused(async {
        let moved = Rc::new(Cell::new(0));
        let client = Torrent { head: body_of(BODY).into_bytes(), body: BODY, moved: Rc::clone(&moved) };
        let server = server(plain().max_body(BODY as u64));
        let serving = spawn(async move { server.serve_connection(client).await });
        let (mut before, mut most) = (0, 0);
        while moved.get() < 2 * BODY {
            postlude::task::yield_now().await;
            most = most.max(moved.get() - before);
            before = moved.get();
        }
        assert!(most <= MOST, "{most} bytes in one poll");
        serving.await.unwrap();
    });
}

#[test]
fn a_stream_that_is_always_ready_lets_the_others_run_after_so_many_pieces() {
    const PIECES: usize = 10_000;
    paused(async {
        let turns = Rc::new(Cell::new(0));
        let (counted, seen) = (Rc::clone(&turns), Rc::new(Cell::new(0)));
        drop(spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                postlude::task::yield_now().await;
            }
        }));
        let (turns_before_the_end, all_turns) = (Rc::clone(&seen), Rc::clone(&turns));
        let router = Router::new().get("/", async move || {
            let (turns_before_the_end, all_turns) = (Rc::clone(&turns_before_the_end), Rc::clone(&all_turns));
            let begun = all_turns.get();
            let mut left = PIECES;
            Response::stream(futures::stream::poll_fn(move |_| {
                left -= 1;
                turns_before_the_end.set(all_turns.get() - begun);
                std::task::Poll::Ready((left > 0).then(|| Ok(b"x".to_vec())))
            }))
        });
        // Nobody reads: the pieces fit into the output.
        let client = connect(&Rc::new(server(router)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        time::sleep(Duration::ZERO).await;
        while turns.get() < 1000 {
            postlude::task::yield_now().await;
        }
        assert!(seen.get() >= PIECES / 256, "{} turns", seen.get());
    });
}

#[test]
fn a_refused_client_that_goes_on_sending_is_read_for_so_many_bytes_and_no_more() {
    paused(async {
        let client = connect(&Rc::new(server(plain())));
        client.write_all(b"GET / HTTP/0.9\r\n\r\n").await.unwrap();
        let answer = read_until(&client, "(RFC 9110 section 15.6.6, at byte 6)").await;
        assert!(answer.starts_with("HTTP/1.1 505"), "{answer}");
        let begun = time::now();
        let (piece, mut sent) = (vec![b'x'; 64 * 1024], 0);
        while let Ok(count) = client.write(&piece).await {
            sent += count;
        }
        // The kernel's buffers hold some hundred KiB more.
        assert!((1024 * 1024..3 * 1024 * 1024).contains(&sent), "{sent} bytes");
        assert_eq!((time::now() - begun).as_millis(), 1000, "it has its second to read the answer");
    });
}

#[test]
fn an_idle_connection_is_closed_after_its_time_and_not_before() {
    paused(async {
        let client = connect(&Rc::new(
            server(plain()).limits(Limits { idle_timeout: Duration::from_secs(4), ..Limits::default() }),
        ));
        for _ in 0..3 {
            time::sleep(Duration::from_secs(3)).await;
            client.write_all(get("/").as_bytes()).await.unwrap();
            read_until(&client, "hello").await;
        }
        let begin = time::now();
        assert_eq!(read_to_end(&client).await, "");
        assert_eq!((time::now() - begin).as_secs(), 4);
    });
}

#[test]
fn buffers_that_went_from_one_connection_to_another_keep_nothing() {
    paused(async {
        let server = Rc::new(server(plain()));
        let clients: Vec<_> = (0..5).map(|_| connect(&server)).collect();
        for round in 0..3 {
            for (number, client) in clients.iter().enumerate() {
                let body = format!("{round}-{number}").repeat(1 + number * 3000);
                let writing = async { client.write_all(post("/echo", "", &body).as_bytes()).await.unwrap() };
                let ((), answer) = futures::join!(writing, read_until(client, &body));
                assert!(answer.ends_with(&format!("\r\n\r\n{body}")));
            }
        }
    });
}

const UPGRADE: &str =
    "GET /shout HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: other, Shout\r\n\r\n";

fn shouting() -> Router {
    plain().get("/shout", async || {
        Response::upgrade("shout", async |mut client: Upgraded| {
            let mut word = [0; 5];
            while client.read_exact(&mut word).await.is_ok() {
                client.write_all(&word.to_ascii_uppercase()).await.unwrap();
            }
        })
    })
}

#[test]
fn an_upgrade_hands_over_the_socket_and_what_came_behind_the_request() {
    paused(async {
        let client = connect(&Rc::new(
            server(shouting()).limits(Limits { idle_timeout: Duration::from_secs(1), ..Limits::default() }),
        ));
        client.write_all((get("/") + UPGRADE + "hel").as_bytes()).await.unwrap();
        let answers = read_until(&client, "\r\n\r\n").await;
        assert!(answers.contains("hello") && answers.contains("HTTP/1.1 101 Switching Protocols\r\n"), "{answers}");
        assert!(answers.contains("upgrade: shout\r\nconnection: upgrade\r\n"), "{answers}");
        assert!(!answers.contains("close") && answers.matches("content-length").count() == 1, "{answers}");
        // The server's times are over with HTTP.
        time::sleep(Duration::from_secs(1000)).await;
        client.write_all(b"loworld").await.unwrap();
        assert_eq!(read_until(&client, "WORLD").await, "HELLOWORLD");
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client).await, "");
    });
}

#[test]
fn an_upgrade_that_was_not_asked_for_is_426_and_the_connection_goes_on() {
    let ways = [
        get("/shout"),
        UPGRADE.replace("Shout", "whisper"),
        UPGRADE.replace(", Upgrade\r\n", "\r\n"),
        UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx"),
    ];
    for way in ways {
        let answers = paused(exchange_with(server(shouting()), &(way.clone() + &get("/"))));
        assert!(answers.starts_with("HTTP/1.1 426 "), "{way}: {answers}");
        assert!(answers.contains("upgrade: shout\r\n") && answers.ends_with("hello"), "{way}: {answers}");
    }
    let old = paused(exchange_with(server(shouting()), &UPGRADE.replace("HTTP/1.1", "HTTP/1.0")));
    assert!(old.starts_with("HTTP/1.1 426 "), "{old}");
}

#[test]
fn an_upgrade_that_the_handler_ignores_is_a_request_like_any_other() {
    let request = UPGRADE.replace("/shout", "/");
    let answers = paused(exchange_with(server(shouting()), &(request + &get("/"))));
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[test]
fn an_upgraded_connection_that_panics_ends_alone() {
    paused(async {
        let router = plain().get("/shout", async || {
            Response::upgrade("shout", async |_: Upgraded| {
                if true {
                    panic!("on purpose")
                }
            })
        });
        let server = Rc::new(server(router));
        let client = connect(&server);
        client.write_all(UPGRADE.as_bytes()).await.unwrap();
        assert!(read_to_end(&client).await.starts_with("HTTP/1.1 101 "));
        let client = connect(&server);
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "hello").await;
    });
}

#[test]
fn connect_is_refused() {
    for target in ["example.org:443", "127.0.0.1:80"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        // What is meant for the tunnel is no request.
        let answer = paused(exchange_with(server(plain()), &(request + &get("/"))));
        assert!(answer.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.ends_with("this server opens no tunnels; send the request to the origin itself"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

/// A socket that never has said goodbye.
struct Clinging(UnixStream);

impl AsyncRead for Clinging {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Clinging {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[test]
fn a_connection_ends_though_its_socket_never_has_said_goodbye() {
    let closing = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (request, ends, seconds) in
        [("", true, 1), ("", false, 76), (closing, false, 1), ("nonsense\r\n\r\n", false, 1)]
    {
        paused(async {
            let (client, wire) = UnixStream::pair().unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            if ends {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let begin = time::now();
            server(plain()).serve_connection(Clinging(wire)).await;
            assert_eq!((time::now() - begin).as_secs(), seconds, "{request:?}");
        });
    }
}

#[test]
fn a_client_that_is_not_told_before_the_last_answer_that_it_was_may_go_on_sending_for_a_while() {
    paused(async {
        let server = Rc::new(server(plain()).limits(Limits { max_requests: 1, ..Limits::default() }));
        let client = connect(&server);
        client.write_all(get("/").as_bytes()).await.unwrap();
        assert!(read_to_end(&client).await.contains("connection: close\r\n"));
        client.write_all(get("/").as_bytes()).await.expect("a close would have been a reset for the answer, too");
        time::sleep(Duration::from_secs(2)).await;
        assert!(client.write_all(get("/").as_bytes()).await.is_err());
        // Who asked for it has nothing more to send.
        let client = connect(&server);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        read_to_end(&client).await;
        assert!(client.write_all(get("/").as_bytes()).await.is_err());
    });
}

/// Clients with an answer each, whose connections are idle now.
async fn idle_clients(address: std::net::SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
        while !answer.ends_with(b"hello") {
            let count = client.read(&mut buffer).await.unwrap();
            answer.extend_from_slice(&buffer[..count]);
        }
        clients.push(client);
    }
    clients
}

/// A server, a hundred of its idle clients who have hung up just now, and one who has not.
async fn hung_up() -> (AbortOnDrop<io::Result<ShutdownReport>>, Vec<TcpStream>, TcpStream) {
    let server = server(plain()).limits(Limits { idle_timeout: Duration::MAX, ..Limits::default() });
    let address = server.local_addr().unwrap();
    let running = spawn(server.run()).abort_on_drop();
    let mut clients = idle_clients(address, 101).await;
    let stays = clients.pop().unwrap();
    for client in &clients {
        client.shutdown(std::net::Shutdown::Write).unwrap();
    }
    (running, clients, stays)
}

/// How many of them know by now that the server has closed their connection.
fn closed(clients: &[TcpStream]) -> usize {
    clients.iter().filter(|client| matches!(client.read(&mut [0]).now_or_never(), Some(Ok(0)))).count()
}

#[test]
fn a_request_does_not_wait_for_the_sockets_of_those_who_hung_up_before_it() {
    paused(async {
        let (running, clients, asks) = hung_up().await;
        asks.write_all(get("/").as_bytes()).await.unwrap();
        assert!(asks.read(&mut [0; 1024]).await.unwrap() > 0);
        task::yield_now().await;
        let before = closed(&clients);
        assert!(before < 50, "{before} of 100 sockets were closed before the request was answered");
        for client in &clients {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        drop(running);
    });
}

#[test]
fn sockets_are_closed_for_as_long_as_that_had_to_wait_for_the_others() {
    let turns = paused(async {
        let (running, clients, _stays) = hung_up().await;
        let mut turns = 0;
        while closed(&clients) < clients.len() {
            // Each turn takes a millisecond, and on this clock closing takes no time at all.
            time::advance(Duration::from_millis(1)).await;
            turns += 1;
        }
        drop(running);
        turns
    });
    assert!(turns < 50, "{turns} turns");
}

#[test]
fn a_server_that_is_dropped_closes_the_sockets_that_wait_for_it() {
    paused(async {
        let (running, clients, _stays) = hung_up().await;
        while closed(&clients) == 0 {
            task::yield_now().await;
        }
        drop(running);
        for client in &clients {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
    });
}
