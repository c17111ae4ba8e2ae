//! The ready layers, the form of error answers, and forms.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use postlude::http::{
    BackgroundTasks, Error, Form, Json, Limits, Peer, Rejection, Request, Response, Router, Server, StatusCode,
    middleware,
};
use postlude::net::UnixStream;
use postlude::{spawn, time};

use crate::http::{connect, exchange_with, get, paused, post, read_to_end, read_until, server, slow};

fn exchange(router: Router, request: &str) -> String {
    paused(exchange_with(server(router), request))
}

#[test]
fn a_handler_that_takes_too_long_is_answered_for() {
    let app = || {
        let wait = async |text: String| time::sleep(Duration::from_secs(text.parse().unwrap())).await;
        Router::new().post("/", wait).with(middleware::timeout(Duration::from_secs(5)))
    };
    assert!(exchange(app(), &post("/", "", "4")).starts_with("HTTP/1.1 200"));
    assert!(exchange(app(), &post("/", "", "6")).starts_with("HTTP/1.1 503"));
}

#[test]
fn a_request_keeps_its_id_or_gets_one() {
    let app = || Router::new().get("/", async || "").with(middleware::request_id());
    let with = |id: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n");
    assert!(exchange(app(), &with("a-1.b_2")).contains("x-request-id: a-1.b_2\r\n"));
    assert!(exchange(app(), &with("a b")).contains("x-request-id: 1\r\n"));
    assert!(exchange(app(), &get("/")).contains("x-request-id: 1\r\n"));
}

#[test]
fn a_form_is_read_by_its_content_type() {
    let app = || Router::new().post("/", async |Form(form): Form<BTreeMap<String, String>>| format!("{form:?}"));
    let kind = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    assert!(exchange(app(), &post("/", kind, "a=1%202&b=x+y")).ends_with(r#"{"a": "1 2", "b": "x y"}"#));
    assert!(exchange(app(), &post("/", "", "a=1")).starts_with("HTTP/1.1 415"));
}

/// Lines of an access log.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    /// Puts a log around a router.
    fn around(&self, router: Router) -> Router {
        let lines = Rc::clone(&self.0);
        router.with(middleware::access_log(move |access| {
            let line = access.to_string();
            let facts = (&access.method, &access.target, access.delivery.bytes);
            assert!(line.contains(&format!(" {} {} ", facts.0, facts.1)) && line.contains(&facts.2.to_string()));
            lines.borrow_mut().push(line);
        }))
    }

    fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_logged_time_ends_at_the_last_byte_of_a_stream() {
    let log = Log::default();
    let app = Router::new().get("/slow", async || slow(&["a", "b", "c"], SECOND)).get("/", async || "hello");
    let app = log.around(app);
    paused(async {
        let client = connect(&Rc::new(server(app)));
        let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all((get("/slow?x=1") + head + &get("/none") + &get("/")).as_bytes()).await.unwrap();
        read_until(&client, "b\r\n").await;
        assert!(log.lines().is_empty(), "the answer is on its way");
        read_until(&client, "\r\n\r\nhello").await;
    });
    let expected = [
        "- GET /slow?x=1 200 23 3.000000 complete",
        "- HEAD / 200 0 0.000000 complete",
        "- GET /none 404 29 0.000000 complete",
        "- GET / 200 5 0.000000 complete",
    ];
    assert_eq!(log.lines(), expected);
}

#[test]
fn a_logged_time_goes_on_while_the_client_does_not_read() {
    let log = Log::default();
    let app = log.around(Router::new().get("/", async || vec![b'x'; 4 << 20]));
    paused(async {
        let client = connect(&Rc::new(server(app)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        time::sleep(5 * SECOND).await;
        assert!(log.lines().is_empty(), "the answer waits for the client");
        read_until(&client, &"x".repeat(1 << 20)).await;
        let rest = spawn(async move { crate::http::read_to_end(&client).await });
        time::sleep(SECOND).await;
        rest.abort();
    });
    assert_eq!(log.lines(), ["- GET / 200 4194304 5.000000 complete"]);
}

#[test]
fn a_client_that_hangs_up_gets_a_line_with_what_it_had() {
    let log = Log::default();
    let app = Router::new().get("/stream", async || slow(&["a", "b", "c", "d"], SECOND)).get("/wait", async || {
        time::sleep(SECOND).await;
        "late"
    });
    let app = log.around(app);
    paused(async {
        let server = Rc::new(server(app));
        for (path, end) in [("/stream", "b\r\n"), ("/wait", "")] {
            let client = connect(&server);
            client.write_all(get(path).as_bytes()).await.unwrap();
            read_until(&client, end).await;
            drop(client);
            time::sleep(5 * SECOND).await;
        }
    });
    assert_eq!(log.lines(), ["- GET /stream 200 12 3.000000 aborted", "- GET /wait 200 0 1.000000 aborted"]);
}

#[test]
fn a_stream_that_fails_and_a_handler_that_panics_get_a_line() {
    let log = Log::default();
    let app = Router::new()
        .get("/stream", async || {
            let failed = Err(std::io::Error::other("no disk"));
            Response::stream(futures::stream::iter([Ok(b"part".to_vec()), failed]))
        })
        .get("/panic", async || {
            if true {
                panic!("on purpose")
            }
        });
    let app = log.around(app);
    paused(exchange_with(server(app), &(get("/panic") + &get("/stream"))));
    let lines = log.lines();
    assert_eq!(lines, ["- GET /panic 500 27 0.000000 complete", "- GET /stream 200 9 0.000000 aborted"]);
}

#[test]
fn an_upgrade_is_logged_when_the_switch_is_out() {
    let log = Log::default();
    let app = log.around(Router::new().get("/", async || {
        Response::upgrade("echo", async |socket: postlude::http::Upgraded| {
            time::sleep(5 * SECOND).await;
            drop(socket);
        })
    }));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    paused(async {
        let client = connect(&Rc::new(server(app)));
        client.write_all(request.as_bytes()).await.unwrap();
        read_until(&client, "\r\n\r\n").await;
        assert_eq!(log.lines(), ["- GET / 101 0 0.000000 complete"]);
    });
}

#[test]
fn a_connection_that_is_dropped_while_the_handler_runs_gets_a_line_without_a_status() {
    let log = Log::default();
    let app = log.around(Router::new().get("/", async || time::sleep(5 * SECOND).await));
    paused(async {
        let (client, wire) = postlude::net::UnixStream::pair().unwrap();
        let server = server(app);
        let serving = spawn(async move { server.serve_connection(wire).await });
        client.write_all(get("/").as_bytes()).await.unwrap();
        time::sleep(SECOND).await;
        serving.abort();
        time::sleep(SECOND).await;
    });
    assert_eq!(log.lines(), ["- GET / - 0 1.000000 aborted"]);
}

#[test]
fn whoever_asks_after_the_answer_has_begun_is_not_told_and_a_callback_that_panics_hurts_nobody() {
    let kept = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&kept);
    let app = Router::new().get("/", async move |request: Request| {
        request.on_delivery(|_| panic!("on purpose"));
        keep.replace(Some(request));
        "hello"
    });
    paused(async {
        let client = connect(&Rc::new(server(app)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "hello").await;
        let told = Rc::new(());
        let count = Rc::clone(&told);
        let request = kept.take().unwrap();
        request.on_delivery(move |_| drop(count));
        assert_eq!(Rc::strong_count(&told), 1);
        drop(request);
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "hello").await;
        // What the handler owns must not own the server.
        drop(kept.take());
    });
}

/// A handler that drops something that panics, one that panics at once, one that does later, and
/// one that does not.
fn bugs() -> Router {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    Router::new()
        .get("/now", async || {
            if true {
                panic!("at once")
            }
        })
        .get("/later", async || {
            time::sleep(SECOND).await;
            if true {
                panic!("later");
            }
        })
        .get("/drop", async || {
            let _bomb = Bomb;
            "never"
        })
        .get("/fine", async || "fine")
}

#[test]
fn the_layers_around_catch_panic_see_the_answer_to_a_panic() {
    let log = Log::default();
    let app = log.around(bugs().with(middleware::request_id()).with(middleware::catch_panic()));
    let paths = ["/now", "/later", "/drop", "/fine"];
    let answers = paused(exchange_with(server(app), &paths.map(get).concat()));
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["500", "500", "500", "200"], "{answers}");
    assert_eq!(answers.matches("x-request-id: ").count(), 4, "{answers}");
    assert_eq!(log.lines().len(), 4);
}

#[test]
fn without_catch_panic_the_connection_answers_and_no_layer_sees_it() {
    let answer = exchange(bugs().with(middleware::request_id()), &get("/now"));
    assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("x-request-id"), "{answer}");
}

#[test]
fn the_answer_to_a_panic_can_be_shaped_and_background_tasks_do_not_run() {
    let ran = Rc::new(RefCell::new(0));
    let count = Rc::clone(&ran);
    let handler = async move |tasks: BackgroundTasks| {
        let count = Rc::clone(&count);
        tasks.add(async move { *count.borrow_mut() += 1 }).unwrap();
        if true {
            panic!("number {}", 7);
        }
    };
    let shape = middleware::catch_panic_with(|text| (StatusCode::BAD_GATEWAY, format!("sorry: {text}")));
    paused(async {
        let server = server(Router::new().get("/", handler).with(shape)).on_task_error(|_, _| {});
        let answer = exchange_with(server, &get("/")).await;
        assert!(answer.starts_with("HTTP/1.1 502") && answer.ends_with("sorry: number 7"), "{answer}");
        time::sleep(SECOND).await;
    });
    assert_eq!(*ran.borrow(), 0);
}

/// Every kind of error: path and what its answer is.
const ERRORS: [(&str, &str, u16, &str); 8] = [
    ("GET", "/none", 404, "there is nothing at this path"),
    ("DELETE", "/json", 405, "this path does not take this method"),
    ("POST", "/json", 415, "the content-type must be application/json"),
    ("GET", "/own", 422, "\"quoted\""),
    ("GET", "/io", 500, "the server could not answer"),
    ("GET", "/panic", 500, "the server could not answer"),
    ("GET", "/rejection", 400, "no"),
    ("GET", "/busy", 503, "too many background tasks are waiting; try again later"),
];

fn failing() -> Server {
    let app = Router::new()
        .post("/json", async |Json(number): Json<u8>| number.to_string())
        .get("/own", async || Err::<(), _>(Error::new(422, "\"quoted\"")))
        .get("/io", async || Err::<(), _>(Error::from(std::io::Error::other("secret"))))
        .get("/panic", async || {
            if true {
                panic!("secret")
            }
        })
        .get("/rejection", async || Err::<(), _>(Rejection::new(400, "no")))
        .get("/busy", async || Response::new(200).background(async {}))
        .post("/text", async |text: String| text)
        .get("/chosen", async || (StatusCode::NOT_FOUND, "chosen"));
    server(app).limits(Limits { background_tasks: 0, max_body: 4, ..Limits::default() })
}

#[test]
fn every_error_is_a_problem_for_clients_that_prefer_json_and_a_text_for_others() {
    for (method, path, status, detail) in ERRORS {
        let request =
            |accept: &str| format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{accept}Connection: close\r\n\r\n");
        for accept in ["", "Accept: */*\r\n", "Accept: text/plain, application/json\r\n"] {
            let answer = paused(exchange_with(failing(), &request(accept)));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"), "{answer}");
            assert!(answer.contains("vary: accept\r\n") && answer.ends_with(&format!("\r\n\r\n{detail}")), "{answer}");
        }
        let answer = paused(exchange_with(failing(), &request("Accept: application/json\r\n")));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(answer.matches("content-type: ").count(), 1, "{answer}");
        assert!(answer.contains("content-type: application/problem+json\r\nvary: accept\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        let title = StatusCode::from_u16(status).unwrap().canonical_reason();
        let expected = serde_json::json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
        assert_eq!(problem, expected);
    }
}

#[test]
fn an_answer_that_the_handler_chose_stays_as_it_is() {
    let request = "GET /chosen HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n";
    let answer = paused(exchange_with(failing(), request));
    assert!(answer.starts_with("HTTP/1.1 404") && answer.ends_with("\r\n\r\nchosen"), "{answer}");
    assert!(answer.contains("text/plain") && !answer.contains("vary"), "{answer}");
}

#[test]
fn an_error_with_an_interim_status_is_a_500() {
    let app = Router::new()
        .get("/error", async || Err::<(), _>(Error::new(100, "early")))
        .get("/rejection", async || Err::<(), _>(Rejection::new(103, "early")));
    let answers = exchange(app, &(get("/error") + &get("/rejection")));
    assert_eq!(answers.matches("HTTP/1.1 500").count(), 2, "{answers}");
}

#[test]
fn a_layer_may_replace_the_text_of_an_error() {
    let app = Router::new().with(async |request: Request, next: postlude::http::Next| {
        next.run(request).await.with_body("<h1>nothing here</h1>")
    });
    let request = "GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n";
    assert!(exchange(app, request).ends_with("\r\n\r\n<h1>nothing here</h1>"));
}

#[test]
fn a_head_has_the_length_of_the_problem_and_no_body() {
    let request = "HEAD /none HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n";
    let answer = paused(exchange_with(failing(), request));
    let problem = r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing at this path"}"#;
    assert!(answer.contains(&format!("content-length: {}\r\n", problem.len())), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn what_is_no_request_is_answered_with_a_text() {
    let answer = paused(exchange_with(failing(), "GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("content-type: text/plain"), "{answer}");
}

#[test]
fn a_body_that_is_too_large_is_seen_by_layers_refused_and_ends_the_connection() {
    let log = Log::default();
    let called = Rc::new(RefCell::new(0));
    let count = Rc::clone(&called);
    let app = Router::new().post("/", async move || *count.borrow_mut() += 1);
    let server = server(log.around(app)).limits(Limits { max_body: 4, ..Limits::default() });
    let accept = "Accept: application/json\r\n";
    let answer = paused(exchange_with(server, &(post("/", accept, "12345") + &get("/"))));
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains("connection: close\r\n") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    assert_eq!((log.lines().len(), *called.borrow()), (1, 0));
}

#[test]
fn what_has_no_handler_is_told_so_and_not_that_its_body_is_too_large() {
    let layer = async |request: Request, next: postlude::http::Next| next.run(request).await;
    for layered in [false, true] {
        let app = || if layered { Router::new().with(layer) } else { Router::new() };
        for (path, status) in [("/none", "404"), ("/", "405")] {
            let server = server(app().get("/", async || "")).limits(Limits { max_body: 4, ..Limits::default() });
            let answer = paused(exchange_with(server, &(post(path, "", "12345") + &get("/"))));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.contains("connection: close\r\n") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
        }
    }
}

/// Whether a client that sends these `Accept` headers gets a problem as JSON.
fn gets_json(accept: &[&[u8]]) -> bool {
    let lines: Vec<u8> = accept.iter().flat_map(|value| [b"Accept: ", *value, b"\r\n"].concat()).collect();
    let answer = paused(async {
        let client = connect(&Rc::new(server(Router::new())));
        let request = [b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", &lines[..], b"\r\n"].concat();
        client.write_all(&request).await.unwrap();
        read_to_end(&client).await
    });
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    answer.contains("content-type: application/problem+json")
}

#[test]
fn a_client_that_prefers_json_gets_a_problem_as_json() {
    for accept in [
        "application/json",
        "application/problem+json",
        "Application/JSON; charset=utf-8",
        "application/*",
        "application/json, text/plain, */*",
        "application/json, */*",
        "text/plain;q=0.5, application/json;q=0.501",
        "text/html, application/json;q=0.9, */*;q=0.8",
        "text/*;q=0.9, */*",
        "text/plain;q=0, */*",
        "text/plain;a=\"x, y;q=1\\\"\";q=0.1, application/json;q=0.2",
    ] {
        assert!(gets_json(&[accept.as_bytes()]), "{accept}");
    }
    assert!(gets_json(&[b"text/html", b"application/json"]), "two headers are one list");
}

#[test]
fn any_other_client_gets_a_problem_as_text() {
    for accept in [
        "",
        "*/*",
        "text/plain",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/plain, application/json",
        "text/plain, */*",
        "application/json;q=0",
        "application/json;q=0.5, text/plain",
        "application/json;q=0.5, */*",
        "application/problem+json;q=0, application/json",
        "application/json;q=2",
        "application/json;q=0.1234",
        "application/json;q=1.001",
        "application/json;q=-1",
        "json",
        "\"application/json, application/json",
    ] {
        assert!(!gets_json(&[accept.as_bytes()]), "{accept}");
    }
    assert!(!gets_json(&[]));
    assert!(!gets_json(&[b"application/json\xff"]));
}

#[test]
fn an_access_is_a_line_of_the_common_log_format_or_a_json_object() {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let record = Rc::clone(&lines);
    let log = middleware::access_log(move |access| {
        let mut access = access.clone();
        assert!(access.at.elapsed().unwrap() < Duration::from_secs(3600), "{:?}", access.at);
        access.at = UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        access.time = Duration::from_millis(1500);
        record.borrow_mut().extend([access.clf().to_string(), access.json().to_string()]);
    });
    let app = Router::new().get("/{*rest}", async || "hello").with(log);
    let old = "GET /old HTTP/1.0\r\n\r\n";
    let client = Rc::new(server(app));
    for (request, peer) in [(get(r"/a\x41?q=50%"), Some(([192, 0, 2, 7], 4711))), (old.to_owned(), None)] {
        paused(async {
            let (ours, wire) = UnixStream::pair().unwrap();
            ours.write_all(request.as_bytes()).await.unwrap();
            ours.shutdown(std::net::Shutdown::Write).unwrap();
            let peer = peer.map_or(Peer::Unknown, |(ip, port)| Peer::Ip(SocketAddr::from((ip, port))));
            client.serve_connection_from(wire, peer).await;
        });
    }
    let object = r#"{"bytes":5,"complete":true,"method":"GET","number":1,"peer":"192.0.2.7:4711","seconds":1.5,"status":200,"target":"/a\\x41?q=50%","time":784111777.25,"version":"1.1"}"#;
    let lines = lines.take();
    assert_eq!(lines[0], r#"192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] "GET /a\\x41?q=50% HTTP/1.1" 200 5"#);
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&lines[1]), value(object));
    assert_eq!(lines[2], r#"- - - [06/Nov/1994:08:49:37 +0000] "GET /old HTTP/1.0" 200 5"#);
    assert!(value(&lines[3])["peer"].is_null());
}
