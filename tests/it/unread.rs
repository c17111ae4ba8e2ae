//! Bodies that nobody reads: what the server reads of them itself, and the clients who go on
//! sending behind an answer that ends the connection.
//!
//! A socket that is closed with bytes in it that nobody has read is reset: what of the answer is
//! still on its way is thrown away, and the client's next write fails (RFC 9112 section 9.6). That
//! shows with real TCP only, so these clients have such sockets; the clock is paused all the same.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use postlude::http::{
    BackgroundTasks, Error, Limits, Response, Router, Server, StatusCode, Upgraded, endpoint, middleware,
};
use postlude::net::TcpStream;
use postlude::{spawn, time};

use crate::http::{connect, exchange_with, get, paused, post, read_to_end, read_until, server};

const PAUSE: Duration = Duration::from_millis(10);

/// Sends the first part, and then piece after piece before it reads anything. Err: one of the
/// pieces could not be sent, or the answer did not end well.
async fn stubborn(server: Server, first: &str, piece: &str) -> io::Result<String> {
    let address = server.local_addr().unwrap();
    let _running = spawn(server.run()).abort_on_drop();
    let client = TcpStream::connect(address).await?;
    client.write_all(first.as_bytes()).await?;
    for _ in 0..20 {
        time::sleep(PAUSE).await;
        client.write_all(piece.as_bytes()).await?;
    }
    client.shutdown(Shutdown::Write)?;
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        match client.read(&mut buffer).await? {
            0 => return Ok(String::from_utf8(answer).unwrap()),
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Longer than what the sockets of both ends hold.
const LONG: usize = 16 * 1024 * 1024;

fn refusing() -> Server {
    let upgrade = async || Response::upgrade("shout", async |_: Upgraded| {});
    let fails = async || Err::<(), _>(Error::new(403, "no"));
    let missing = async || (StatusCode::NOT_FOUND, "x".repeat(LONG));
    let echo = endpoint(async |body: Vec<u8>| body).max_body(10_000);
    let router = Router::new().post("/echo", echo).post("/no", fails).post("/shout", upgrade);
    server(router.nest("/long", Router::new().fallback(missing)))
}

fn chunk_of(bytes: usize) -> String {
    format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes))
}

#[test]
fn a_client_that_goes_on_sending_gets_the_whole_answer_that_refuses_it() {
    let sized = |path: &str, fields: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n{fields}\r\n{}", "x".repeat(4096))
    };
    let chunked =
        |path: &str, body: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let upgrade = "Connection: upgrade\r\nUpgrade: shout\r\n";
    let cases = [
        ("413 that its head earns", 413, sized("/echo", ""), 0),
        ("413 in the middle of chunks", 413, chunked("/echo", &chunk_of(4096)), 0),
        ("400 in the middle of chunks", 400, chunked("/echo", "5\r\nhello\r\nzz\r\n"), 0),
        ("413 for an endless extension", 413, chunked("/echo", &format!("5;{}", "x".repeat(20_000))), 0),
        ("400 for what is no request", 400, "GET / HTTP/1.1\r\nHost: a\r\n bad: line\r\n\r\n".to_owned(), 0),
        ("431 for an endless head", 431, format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000)), 0),
        ("505 for another version", 505, "GET / HTTP/3.0\r\n\r\n".to_owned(), 0),
        ("426 with a body", 426, sized("/shout", upgrade), 0),
        ("404 with a body", 404, sized("/none", ""), 0),
        ("405 with a body", 405, sized("/echo", "").replacen("POST", "PUT", 1), 0),
        ("404 that is long", 404, sized("/long/", ""), LONG),
        ("501 for a tunnel", 501, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\ntunnel".to_owned(), 0),
        ("403 of a handler", 403, sized("/no", ""), 0),
    ];
    let piece = chunk_of(4096);
    for (what, status, first, length) in cases {
        let answer = paused(stubborn(refusing(), &first, &piece));
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {head}");
        assert!(
            head.contains(&format!("content-length: {}", body.len())) && body.len() >= length.max(1),
            "{what}: {head}"
        );
        assert!(head.contains("connection: close"), "{what}: {head}");
    }
}

#[test]
fn a_client_that_never_stops_sending_is_cut_off_a_second_after_its_answer() {
    paused(async {
        let client = Rc::new(connect(&Rc::new(refusing())));
        client.write_all(post("/none", "", "").replace(": 0", ": 10000000").as_bytes()).await.unwrap();
        let begin = time::now();
        while client.write_all(&[b'x'; 100]).await.is_ok() {
            time::sleep(PAUSE).await;
        }
        let seconds = (time::now() - begin).as_secs_f64();
        assert!((0.9..1.2).contains(&seconds), "{seconds}");
        assert!(read_to_end(&client).await.starts_with("HTTP/1.1 404 "));
    });
}

#[test]
fn of_a_body_that_the_handler_leaves_64_kib_are_read_and_no_more() {
    const MOST: usize = 64 * 1024;
    let ignoring = || server(Router::new().post("/", async || "ignored").get("/", async || "hello"));
    let sized = |bytes: usize| format!("Content-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
    let chunked = |bytes: usize, most: usize| {
        let whole = chunk_of(most).repeat(bytes / most);
        let rest = if bytes % most > 0 { chunk_of(bytes % most) } else { String::new() };
        format!("Transfer-Encoding: chunked\r\n\r\n{whole}{rest}0\r\n\r\n")
    };
    for (bytes, answers) in [(1, 2), (MOST, 2), (MOST + 1, 1), (1_000_000, 1)] {
        let bodies = [("sized", sized(bytes)), ("small", chunked(bytes, 1000)), ("big", chunked(bytes, bytes))];
        for (kind, body) in bodies {
            let requests = format!("POST / HTTP/1.1\r\nHost: a\r\n{body}{}", get("/"));
            // The server may be done before it has read all.
            let answer = paused(async {
                let client = Rc::new(connect(&Rc::new(ignoring())));
                let writer = Rc::clone(&client);
                let writing = spawn(async move {
                    let _ = writer.write_all(requests.as_bytes()).await;
                    let _ = writer.shutdown(Shutdown::Write);
                });
                let answer = read_to_end(&client).await;
                writing.abort();
                answer
            });
            assert_eq!(answer.matches("HTTP/1.1 200 ").count(), answers, "{kind}, {bytes} bytes: {answer}");
            assert_eq!(answer.ends_with("hello"), answers == 2, "{kind}, {bytes} bytes: {answer}");
        }
    }
}

#[test]
fn a_time_limit_ends_an_upload_and_what_is_left_of_it_is_read_if_it_is_little() {
    for (framing, rest, answers) in [
        ("Content-Length: 1000\r\n\r\n", "x".repeat(500), 2),
        ("Content-Length: 100500\r\n\r\n", "x".repeat(100_000), 1),
        ("Transfer-Encoding: chunked\r\n\r\n3e8\r\n", format!("{}\r\n0\r\n\r\n", "x".repeat(500)), 2),
    ] {
        let (ran, finished) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (count, end) = (Rc::clone(&ran), Rc::clone(&finished));
        let upload = async move |tasks: BackgroundTasks, request: postlude::http::Request| {
            let (count, end) = (Rc::clone(&count), Rc::clone(&end));
            tasks.add(async move { count.set(count.get() + 1) })?;
            let mut request = request;
            let body = request.take_body().collect().await?;
            end.set(end.get() + 1);
            Ok::<_, Error>(body)
        };
        let limit = middleware::timeout(Duration::from_secs(5));
        let router = Router::new().get("/hello", async || "hello").merge(Router::new().post("/", upload).with(limit));
        paused(async {
            let server = server(router).limits(Limits { max_body: 1_000_000, ..Limits::default() });
            let client = Rc::new(connect(&Rc::new(server)));
            let begin = time::now();
            let first = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}{}", "x".repeat(500));
            client.write_all(first.as_bytes()).await.unwrap();
            let answer = read_until(&client, "the answer took too long").await;
            assert_eq!((time::now() - begin).as_secs(), 5, "{framing}");
            assert!(answer.starts_with("HTTP/1.1 503 "), "{framing}: {answer}");
            assert_eq!(answer.contains("connection: close\r\n"), answers == 1, "{framing}: {answer}");
            // The client, who has been busy, sends what it wanted to send.
            client.write_all(rest.as_bytes()).await.unwrap();
            let _ = client.write_all(get("/hello").as_bytes()).await;
            let _ = client.shutdown(Shutdown::Write);
            let more = read_to_end(&client).await;
            assert_eq!(1 + more.matches("HTTP/1.1 200 ").count(), answers, "{framing}: {more}");
        });
        assert_eq!((ran.get(), finished.get()), (0, 0), "{framing}");
    }
}

#[test]
fn a_time_limit_that_an_upload_keeps_does_nothing() {
    let limit = middleware::timeout(Duration::from_secs(5));
    let router = Router::new().post("/", async |body: Vec<u8>| body).with(limit);
    let answer = paused(exchange_with(server(router), &post("/", "", "upload")));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("upload"), "{answer}");
}

#[test]
fn a_client_that_sends_into_its_tunnel_after_the_answer_that_refuses_it_is_not_reset() {
    paused(async {
        for fields in ["", "Connection: close\r\n"] {
            let server = refusing();
            let address = server.local_addr().unwrap();
            let _running = spawn(server.run()).abort_on_drop();
            let client = TcpStream::connect(address).await.unwrap();
            client
                .write_all(format!("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n{fields}\r\n").as_bytes())
                .await
                .unwrap();
            assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
            for _ in 0..20 {
                client.write_all(b"for the tunnel").await.unwrap();
                time::sleep(PAUSE).await;
            }
        }
    });
}
