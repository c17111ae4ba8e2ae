//! Server-sent events.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use postlude::http::{Event, Router, sse, sse_with};
use postlude::time;

use crate::http::{connect, exchange_with, get, paused, read_until, server};

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
    let answer = paused(async {
        let client = connect(&Rc::new(server(app)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "0\r\n\r\n").await
    });
    assert_eq!(answer.matches("\r\n:\n\n\r\n").count(), 3, "{answer}");
    assert!(answer.contains("data: late\n\n"));
}

#[test]
fn an_event_goes_out_at_once_and_the_stream_ends_when_its_client_is_gone() {
    struct Gone(Rc<Cell<bool>>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let gone = Rc::new(Cell::new(false));
    let flag = Rc::clone(&gone);
    let app = Router::new().get("/", async move || {
        let held = Gone(Rc::clone(&flag));
        sse(futures::stream::iter([Event::data("first")]).chain(futures::stream::pending().inspect(move |_| {
            let _ = &held;
        })))
    });
    paused(async {
        let client = connect(&Rc::new(server(app)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "data: first\n\n\r\n").await;
        drop(client);
        time::sleep(Duration::from_millis(1)).await;
        assert!(gone.get(), "a comment could not be written");
    });
}

#[test]
#[should_panic(expected = "an event's id is one line without nulls")]
fn an_id_cannot_bring_lines_of_its_own() {
    let _ = Event::data("a").id("1\ndata: b");
}
