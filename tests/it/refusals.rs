//! Whatever a server refuses or cuts off leaves a trace: a count, and a record or a line.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use postlude::http::{
    BackgroundTasks, Body, Error, Form, Limits, Peer, ProxyProtocol, Query, Refusal, RefusalInfo, Refused, Router,
    Server, TrustedProxies,
};
use postlude::net::{TcpListener, TcpStream, UnixStream};
use postlude::{spawn, time};

use crate::http::{connect, exchange_with, get, paused, post, read_to_end, server};

const SECOND: Duration = Duration::from_secs(1);

type Told = Rc<RefCell<Vec<RefusalInfo>>>;

fn told(server: Server) -> (Server, Told) {
    let told = Told::default();
    let record = Rc::clone(&told);
    (server.on_refusal(move |refusal| record.borrow_mut().push(refusal.clone())), told)
}

fn app() -> Router {
    Router::new()
        .get("/", async || "hello")
        .get("/query", async |Query(pairs): Query<Vec<(String, String)>>| pairs.len().to_string())
        .post("/form", async |Form(pairs): Form<Vec<(String, String)>>| pairs.len().to_string())
        .post("/body", async |body: Vec<u8>| body.len().to_string())
        .get("/tasks", async |tasks: BackgroundTasks| {
            tasks.add(async {})?;
            tasks.add(async {})?;
            Ok::<_, Error>("both")
        })
        .get("/big", async || vec![b'x'; 16 * 1024 * 1024])
}

fn limits() -> Limits {
    Limits { max_body: 10, max_pairs: 2, background_tasks_per_request: 1, ..Limits::default() }
}

/// What is told of a request, and the status of the answer.
fn refusal_of(request: &str) -> RefusalInfo {
    paused(async {
        let (server, told) = told(server(app()).limits(limits()));
        let refused = server.refused();
        let answer = exchange_with(server, request).await;
        let all = told.take();
        assert_eq!((all.len(), refused.total()), (1, 1), "{all:?} {answer}");
        assert_eq!(refused.count(all[0].what), 1);
        let status = answer.split(' ').nth(1).unwrap();
        assert_eq!(all[0].status.map_or_else(String::new, |status| status.as_str().to_owned()), status);
        all[0].clone()
    })
}

#[test]
fn a_refused_request_is_told_with_its_line_and_its_status() {
    const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
    let chunked = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (request, what, line) in [
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refusal::Head, "GET /a b HTTP/1.1"),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), Refusal::Head, ""),
        (post("/body", "", "eleven byte"), Refusal::BodyTooLarge, "POST /body"),
        (format!("{chunked}b\r\neleven byte\r\n0\r\n\r\n"), Refusal::BodyTooLarge, "POST /body"),
        (format!("{chunked}x\r\n"), Refusal::BodyFraming, "POST /body"),
        (post("/form", FORM, "a&b&c"), Refusal::Pairs, "POST /form"),
        (get("/query?a&b&c"), Refusal::Pairs, "GET /query?a&b&c"),
        (get("/tasks"), Refusal::Tasks, "GET /tasks"),
    ] {
        let told = refusal_of(&request);
        assert_eq!(told.what, what, "{told}");
        assert!(line.is_empty() || told.request == line, "{told:?}");
        assert!(told.request.chars().count() <= 129, "{told:?}");
    }
}

#[test]
fn served_requests_leave_no_trace() {
    paused(async {
        let (server, told) = told(server(app()).limits(limits()));
        let refused = server.refused();
        let requests = [get("/"), get("/none"), post("/body", "", "ten bytes!"), get("/query?a&b")].concat();
        exchange_with(server, &requests).await;
        assert_eq!((told.borrow().len(), refused.total()), (0, 0), "{told:?}");
    });
}

#[test]
fn no_byte_of_a_request_line_forges_a_line_of_the_log() {
    let told = refusal_of("GET /\x1b[2J\x07é\0\" HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(told.request, r#"GET /\x1b[2J\x07\xc3\xa9\x00" HTTP/1.1"#);
    assert!(told.to_string().chars().all(|shown| !shown.is_control()), "{told}");
    assert!(told.to_string().starts_with("refused an invalid head with 400: "), "{told}");
}

#[test]
fn a_client_that_is_too_slow_is_told() {
    let all = paused(async {
        let (server, told) = told(server(app()).limits(Limits {
            header_timeout: 2 * SECOND,
            body_timeout: 2 * SECOND,
            write_timeout: 2 * SECOND,
            idle_timeout: 2 * SECOND,
            ..Limits::default()
        }));
        let server = Rc::new(server);
        let begun =
            ["GET / HTTP/1.1\r\nHo", "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1", &get("/big"), ""];
        let mut clients = Vec::new();
        for begun in begun {
            let client = connect(&server);
            client.write_all(begun.as_bytes()).await.unwrap();
            time::sleep(10 * SECOND).await;
            clients.push(client);
        }
        assert_eq!(server.refused().total(), 3);
        assert_eq!(format!("{:?}", server.refused()), "Refused {HeadTimeout: 1, BodyTimeout: 1, WriteTimeout: 1}");
        told.take()
    });
    let seen: Vec<_> = all.iter().map(|told| (told.what, told.status.map(|status| status.as_u16()))).collect();
    let expected =
        [(Refusal::HeadTimeout, Some(408)), (Refusal::BodyTimeout, Some(408)), (Refusal::WriteTimeout, None)];
    assert_eq!(seen, expected);
    assert_eq!(all[2].request, "GET /big");
}

#[test]
fn taken_places_are_told_once() {
    let runtime = postlude::Runtime::new().unwrap();
    let test = async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { max_connections: 1, ..Limits::default() };
        let (server, told) = told(Server::from_listener(listener, app()).limits(limits));
        let handle = server.shutdown_handle();
        let running = spawn(server.run());
        let kinds = || told.borrow().iter().map(|told| told.what).collect::<Vec<_>>();
        // With half a body it is busy.
        let first = TcpStream::connect(address).await.unwrap();
        first.write_all(post("/body", "", "body").trim_end_matches("dy").as_bytes()).await.unwrap();
        let second = TcpStream::connect(address).await.unwrap();
        second.write_all(get("/").as_bytes()).await.unwrap();
        time::sleep(Duration::from_millis(50)).await;
        assert_eq!(kinds(), [Refusal::Connections]);
        drop(first);
        second.read(&mut [0; 1024]).await.unwrap();
        let third = TcpStream::connect(address).await.unwrap();
        third.write_all(get("/").as_bytes()).await.unwrap();
        third.read(&mut [0; 1024]).await.unwrap();
        assert_eq!(kinds().iter().filter(|&&kind| kind == Refusal::GaveWay).count(), 1);
        handle.shutdown();
        running.await.unwrap().unwrap();
    };
    runtime.block_on(time::timeout(60 * SECOND, test)).unwrap().unwrap();
}

#[test]
fn a_request_that_waits_for_background_tasks_is_told() {
    paused(async {
        let app = Router::new().get("/", async |tasks: BackgroundTasks| {
            for _ in 0..4 {
                tasks.add(async {
                    for _ in 0..1000 {
                        postlude::task::yield_now().await;
                    }
                })?;
            }
            tasks.concurrent();
            Ok::<_, Error>("busy")
        });
        let (server, told) = told(server(app).limits(Limits { background_tasks: 6, ..Limits::default() }));
        let client = connect(&Rc::new(server));
        client.write_all(get("/").repeat(2).as_bytes()).await.unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client).await.matches("HTTP/1.1 ").count(), 2);
        let whats: Vec<_> = told.borrow().iter().map(|told| told.what).collect();
        assert_eq!(whats.first(), Some(&Refusal::Pause), "{whats:?}");
    });
}

#[test]
fn a_connection_that_fails_in_its_handshake_is_told_with_its_peer() {
    let runtime = postlude::Runtime::new().unwrap();
    let test = async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let behind = ProxyProtocol::new(listener, TrustedProxies::new(["10.0.0.0/8"]).unwrap());
        let (server, told) = told(Server::new(app()).listen(behind));
        let handle = server.shutdown_handle();
        let running = spawn(server.run());
        let client = TcpStream::connect(address).await.unwrap();
        let mut end = [0; 1];
        assert!(matches!(client.read(&mut end).await, Ok(0) | Err(_)));
        handle.shutdown();
        running.await.unwrap().unwrap();
        let all = told.take();
        assert_eq!(
            (all.len(), all[0].what, all[0].peer),
            (1, Refusal::Handshake, Peer::Ip(client.local_addr().unwrap()))
        );
        assert!(all[0].detail.contains("is no trusted proxy"), "{}", all[0]);
    };
    runtime.block_on(time::timeout(60 * SECOND, test)).unwrap().unwrap();
}

#[test]
fn handlers_can_show_the_counts_and_a_hook_that_panics_harms_nobody() {
    paused(async {
        let app = Router::new()
            .get("/refused", async |refused: Refused| refused.count(Refusal::BodyTooLarge).to_string())
            .post("/", async |_: Body| "never");
        let server = server(app).limits(limits()).on_refusal(|_| panic!("on purpose"));
        let server = Rc::new(server);
        let client = connect(&server);
        client.write_all(post("/", "", "eleven byte").as_bytes()).await.unwrap();
        assert!(read_to_end(&client).await.starts_with("HTTP/1.1 413"));
        let (client, wire) = UnixStream::pair().unwrap();
        client.write_all(get("/refused").as_bytes()).await.unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        server.serve_connection(wire).await;
        assert!(read_to_end(&client).await.ends_with("\r\n\r\n1"));
    });
}
