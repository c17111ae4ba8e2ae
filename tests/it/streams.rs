//! Answers whose bytes come from a stream: of a known length, and of clients who do not take them.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{StreamExt, stream};
use futures_io::{AsyncRead, AsyncWrite};
use postlude::http::{BackgroundTasks, Limits, Response, Router};
use postlude::net::UnixStream;
use postlude::time;

use crate::http::{exchange_with, get, paused, read_until, server};

fn sized(length: u64, pieces: &'static [&'static str]) -> Router {
    let pieces = move || stream::iter(pieces.iter().map(|piece| Ok(piece.as_bytes().to_vec())));
    Router::new().get("/", async move || Response::stream_sized(length, pieces())).get("/next", async || "next")
}

fn exchange(app: Router, requests: &str) -> String {
    paused(exchange_with(server(app), requests))
}

fn both() -> String {
    get("/") + &get("/next")
}

#[test]
fn a_stream_of_known_length_is_not_chunked_and_the_connection_goes_on() {
    let answer = exchange(sized(11, &["hello", "", " ", "world"]), &both());
    assert!(answer.contains("content-length: 11\r\n") && !answer.contains("chunked"), "{answer}");
    assert!(answer.contains("\r\n\r\nhello worldHTTP/1.1 200") && answer.ends_with("next"), "{answer}");
}

#[test]
fn it_keeps_a_connection_of_http_1_0() {
    let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answer = exchange(sized(5, &["hello"]), &(request.to_owned() + request));
    assert_eq!(answer.matches("connection: keep-alive\r\n").count(), 2, "{answer}");
}

#[test]
fn head_has_its_length_and_does_not_ask_for_bytes() {
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let app = Router::new().get("/", async move || {
        let count = Rc::clone(&count);
        Response::stream_sized(
            5,
            stream::repeat_with(move || {
                count.set(count.get() + 1);
                Ok(b"hello".to_vec())
            }),
        )
    });
    let answer = exchange(app, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(asked.get(), 0);
}

#[test]
fn too_few_bytes_break_the_connection_off() {
    for pieces in [&["hel"][..], &[]] {
        let answer = exchange(sized(5, pieces), &both());
        assert!(answer.contains("content-length: 5\r\n") && answer.ends_with(&format!("\r\n\r\n{}", pieces.concat())));
        assert!(!answer.contains("next"), "{answer}");
    }
}

#[test]
fn a_failure_breaks_the_connection_off_after_what_came() {
    let pieces = || stream::iter([Ok(b"hel".to_vec()), Err(io::Error::other("no"))]);
    let app = Router::new().get("/", async move || Response::stream_sized(5, pieces())).get("/next", async || "next");
    let answer = exchange(app, &both());
    assert!(answer.ends_with("\r\n\r\nhel"), "{answer}");
}

#[test]
fn too_many_bytes_are_cut_off_and_the_connection_closes() {
    let answer = exchange(sized(5, &["hel", "lo world"]), &both());
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[test]
fn when_all_bytes_are_there_the_stream_is_dropped_and_not_asked_again() {
    struct Dropped(Rc<Cell<bool>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let dropped = Rc::new(Cell::new(false));
    let flag = Rc::clone(&dropped);
    let app = Router::new().get("/", async move || {
        let held = Dropped(Rc::clone(&flag));
        let endless = stream::iter([Ok(b"hello".to_vec())]).chain(stream::pending().inspect(move |_| {
            let _ = &held;
        }));
        Response::stream_sized(5, endless)
    });
    let app = app
        .get("/dropped", async move || dropped.get().to_string())
        .get("/none", async || Response::stream_sized(0, stream::pending()));
    let answer = exchange(app, &(get("/") + &get("/dropped") + &get("/none")));
    assert!(answer.contains("helloHTTP/1.1") && answer.contains("\r\n\r\ntrueHTTP/1.1"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n") && answer.contains("content-length: 0\r\n"), "{answer}");
}

/// A socket that takes so many bytes and no more.
struct Stalling(UnixStream, usize);

impl AsyncRead for Stalling {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.1 == 0 {
            return Poll::Pending;
        }
        let some = bytes.len().min(self.1);
        self.1 -= some;
        Pin::new(&mut self.0).poll_write(cx, &bytes[..some])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// Answers with a piece, another one a second later, and then nothing for ever; says when the
/// stream is dropped, and when the task has run.
fn quiet(dropped: &Rc<Cell<bool>>, ran: &Rc<Cell<bool>>) -> Router {
    struct Held(Rc<Cell<bool>>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let (dropped, ran) = (Rc::clone(dropped), Rc::clone(ran));
    Router::new().get("/", async move |tasks: BackgroundTasks| {
        let (held, ran) = (Held(Rc::clone(&dropped)), Rc::clone(&ran));
        tasks.add(async move { ran.set(true) }).unwrap();
        Response::stream(postlude::iter::generate(async move |out| {
            let _held = held;
            out.emit(Ok(b"first".to_vec())).await;
            time::sleep(Duration::from_secs(1)).await;
            out.emit(Ok(b"second".to_vec())).await;
            std::future::pending::<()>().await;
        }))
    })
}

#[test]
fn a_quiet_stream_ends_with_the_client_it_cannot_be_written_to() {
    for stalls in [false, true] {
        let (dropped, ran) = (Rc::default(), Rc::default());
        paused(async {
            let (client, wire) = UnixStream::pair().unwrap();
            client.write_all(get("/").as_bytes()).await.unwrap();
            let server = server(quiet(&dropped, &ran))
                .limits(Limits { write_timeout: Duration::from_secs(5), ..Limits::default() });
            let serving = server.serve_connection(Stalling(wire, if stalls { 90 } else { usize::MAX }));
            let hanging_up = async {
                if !stalls {
                    read_until(&client, "first\r\n").await;
                    drop(client);
                    return std::future::pending().await;
                }
                std::future::pending::<()>().await;
            };
            let begin = time::now();
            postlude::task::race((serving, hanging_up)).await;
            assert_eq!((time::now() - begin).as_secs(), if stalls { 5 } else { 1 });
            time::sleep(Duration::from_secs(1)).await;
        });
        assert!(dropped.get() && ran.get(), "stalls: {stalls}");
    }
}
