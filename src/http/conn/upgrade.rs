//! Upgrades: a connection that goes on with another protocol, WebSocket for one.
//!
//! A handler answers [`Response::upgrade`]. If the client asked for that protocol the connection
//! writes the 101 and hands its socket over, with the bytes read behind the request, to the
//! function that came with the response; it runs in the connection's task and ends with it. If the
//! client did not ask, the answer is 426, which names the protocol.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use http::StatusCode;
use http::header::{self, HeaderValue};

use crate::http::app::request::Record;
use crate::http::app::response::{Payload, Response};
use crate::http::app::upgraded::{OnUpgrade, Upgraded};
use crate::http::background::{discard, say, text_of};
use crate::http::wire::parse::{Framing, Version};

/// Whether the client asked for the protocol that the response offers.
pub(super) fn was_asked(record: &Record, response: &Response) -> bool {
    let Some(offered) = response.field("upgrade").map(HeaderValue::as_bytes) else { return false };
    let head = &record.head;
    let names = head.fields(&record.bytes).filter(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    let mut protocols = names.flat_map(|(_, value)| value.split(|byte| *byte == b','));
    response.status == StatusCode::SWITCHING_PROTOCOLS
        && matches!(response.payload, Payload::Upgrade(_))
        && head.method(&record.bytes) != "HEAD"
        && head.has_upgrade()
        && head.version() == Version::Http11
        && matches!(head.framing(), Framing::None | Framing::Length(0))
        && protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(offered))
}

/// The answer to a client that did not ask: it names the protocol to ask for.
pub(super) fn required(mut response: Response) -> Response {
    let text = "this resource is served to clients that ask for an upgrade";
    let mut answer = Response::text(StatusCode::UPGRADE_REQUIRED, text);
    answer.fields.extend(response.fields.drain(..).filter(|(name, _)| *name == header::UPGRADE));
    discard(response.payload);
    answer
}

/// Runs the upgrade's function on the socket; a panic of it ends here.
pub(super) async fn run(on_upgrade: OnUpgrade, upgraded: Upgraded) {
    let mut running = match catch_unwind(AssertUnwindSafe(|| on_upgrade(upgraded))) {
        Ok(running) => Some(running),
        Err(payload) => return tell(&text_of(payload)),
    };
    std::future::poll_fn(|cx| {
        let Some(future) = &mut running else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(payload) => tell(&text_of(payload)),
        }
        discard(running.take());
        Poll::Ready(())
    })
    .await;
}

fn tell(text: &str) {
    say(format_args!("an upgraded connection panicked: {text}"));
}
