//! What a client cannot do to the server, and the way out of HTTP. Socket pairs, the paused clock.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use postlude::http::{BackgroundTasks, Error, Response, Router, Server, Upgraded};
use postlude::net::UnixStream;
use postlude::{spawn, time};

use super::http::{connect, exchange_with, get, paused, post, read_to_end, read_until, server};

fn plain() -> Router {
    Router::new().get("/", async || "hello").post("/echo", async |body: Vec<u8>| body)
}

/// Sends a byte a second until the server has enough of it; gives the answer and the seconds it took.
async fn trickle(server: Server, bytes: String) -> (String, u64) {
    let client = Rc::new(connect(&Rc::new(server)));
    let begin = time::now();
    let writer = Rc::clone(&client);
    let writing = spawn(async move {
        for byte in bytes.into_bytes() {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            time::sleep(Duration::from_secs(1)).await;
        }
    });
    let answer = read_to_end(&client).await;
    writing.abort();
    (answer, (time::now() - begin).as_secs())
}

#[test]
fn a_head_that_trickles_in_is_408_however_short_the_gaps() {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1000));
    let (answer, seconds) = paused(trickle(server(plain()), head));
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert!((10..=12).contains(&seconds), "{seconds}");
}

#[test]
fn a_body_that_trickles_in_is_408_however_short_the_gaps() {
    let (answer, seconds) = paused(async {
        let client = Rc::new(connect(&Rc::new(server(plain()))));
        let request = post("/echo", "", &"x".repeat(1000));
        let (head, body) = request.split_at(request.len() - 1000);
        client.write_all(head.as_bytes()).await.unwrap();
        let (begin, writer, body) = (time::now(), Rc::clone(&client), body.to_owned());
        let writing = spawn(async move {
            for byte in body.into_bytes() {
                if writer.write_all(&[byte]).await.is_err() {
                    break;
                }
                time::sleep(Duration::from_secs(1)).await;
            }
        });
        let answer = read_to_end(&client).await;
        writing.abort();
        (answer, (time::now() - begin).as_secs())
    });
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!((30..=33).contains(&seconds), "{seconds}");
}

#[test]
fn the_last_request_a_connection_may_send_is_answered_with_close() {
    let answers = paused(exchange_with(server(plain()).max_requests_per_connection(3), &get("/").repeat(5)));
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert_eq!(answers.matches("connection: close\r\n").count(), 1, "{answers}");
    assert!(answers[answers.rfind("HTTP/1.1").unwrap()..].contains("connection: close\r\n"), "{answers}");
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
        server(router).write_timeout(Duration::from_secs(7)).serve_connection(wire).await;
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
        let client = connect(&Rc::new(server(router).write_timeout(Duration::from_secs(30))));
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
        let client = Rc::new(connect(&Rc::new(server(router).max_buffer(8 * 1024).write_timeout(Duration::MAX))));
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

#[test]
fn an_idle_connection_is_closed_after_its_time_and_not_before() {
    paused(async {
        let client = connect(&Rc::new(server(plain()).idle_timeout(Duration::from_secs(4))));
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
        let client = connect(&Rc::new(server(shouting()).idle_timeout(Duration::from_secs(1))));
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
    let request = "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n";
    let answer = paused(exchange_with(server(plain()), request));
    let status: u16 = answer[9..12].parse().unwrap();
    assert!((400..=501).contains(&status), "{answer}");
}
