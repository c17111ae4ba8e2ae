//! Server-sent events.

use std::time::Duration;

use futures::StreamExt;
use postlude::http::{Event, Router, sse, sse_with};
use postlude::time;

use crate::http::{exchange_with, get, paused, server};

#[test]
fn events_go_out_and_the_response_ends_with_the_stream() {
    let app =
        Router::new().get("/", async || sse(futures::stream::iter([Event::data("a\rb\nc"), Event::comment("x")])));
    let answer = paused(exchange_with(server(app), &get("/")));
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
    assert!(answer.contains("data: a\ndata: b\ndata: c\n\n") && answer.contains(": x\n\n"), "{answer}");
    assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[test]
fn a_quiet_stream_is_kept_alive_by_comments() {
    let app = Router::new().get("/", async || {
        let late = futures::stream::once(time::sleep(Duration::from_secs(35))).map(|()| Event::data("late"));
        sse_with(late, Duration::from_secs(10))
    });
    let answer = paused(exchange_with(server(app), &get("/")));
    assert_eq!(answer.matches("\r\n:\n\n\r\n").count(), 3, "{answer}");
    assert!(answer.contains("data: late\n\n"));
}

#[test]
#[should_panic(expected = "an event's id is one line without nulls")]
fn an_id_cannot_bring_lines_of_its_own() {
    let _ = Event::data("a").id("1\ndata: b");
}
