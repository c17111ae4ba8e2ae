//! The ready layers, and forms.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use postlude::http::{Form, Request, Response, Router, middleware};
use postlude::{spawn, time};

use crate::http::{connect, exchange_with, get, paused, post, read_until, server, slow};

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
        router.with(middleware::access_log(move |access| lines.borrow_mut().push(access.to_string())))
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
    let app = Router::new().get("/stream", async || slow(&["a", "b", "c"], SECOND)).get("/wait", async || {
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
        kept.take().unwrap().on_delivery(move |_| drop(count));
        assert_eq!(Rc::strong_count(&told), 1);
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "hello").await;
    });
}
