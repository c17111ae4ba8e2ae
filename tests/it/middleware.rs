//! The ready layers, and forms.

use std::collections::BTreeMap;
use std::time::Duration;

use postlude::http::{Form, Router, middleware};
use postlude::time;

use crate::http::{exchange_with, get, paused, post, server};

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
