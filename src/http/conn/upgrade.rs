//! Upgrades to another protocol, such as WebSocket: see [`Response::upgrade`]. The response's
//! function runs in the connection's task.

use std::future::poll_fn;

use http::StatusCode;
use http::header::{self, HeaderValue};

use crate::http::app::call::poll_caught;
use crate::http::app::request::RequestRecord;
use crate::http::app::response::{Response, ResponseBody};
use crate::http::app::upgraded::{OnUpgrade, Upgraded};
use crate::http::background::{discard, say};
use crate::http::wire::parse::{Framing, Version};

/// Returns whether the client asked for the protocol that the response offers.
pub(super) fn was_asked(record: &RequestRecord, response: &Response) -> bool {
    let Some(offered) = response.field("upgrade").map(HeaderValue::as_bytes) else { return false };
    let head = &record.head;
    let names = head.fields(&record.bytes).filter(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    let mut protocols = names.flat_map(|(_, value)| value.split(|byte| *byte == b','));
    response.status == StatusCode::SWITCHING_PROTOCOLS
        && matches!(response.payload, ResponseBody::Upgrade(_))
        && head.method(&record.bytes) != "HEAD"
        && head.has_upgrade()
        && head.version() == Version::Http11
        && matches!(head.framing(), Framing::None | Framing::Length(0))
        && protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(offered))
}

/// Creates the 426 for a client that did not ask.
pub(super) fn required(mut response: Response) -> Response {
    let text = "this resource is served to clients that ask for an upgrade";
    let mut answer = Response::text(StatusCode::UPGRADE_REQUIRED, text);
    answer.fields.extend(response.fields.drain(..).filter(|(name, _)| *name == header::UPGRADE));
    discard(response.payload);
    answer
}

/// Runs the upgrade's function on the socket, and reports its panic.
pub(super) async fn run(on_upgrade: OnUpgrade, upgraded: Upgraded) {
    // The call only makes a future, so it cannot panic: see `Response::upgrade`.
    let mut running = Some(on_upgrade(upgraded));
    if let Err(text) = poll_fn(|cx| poll_caught(&mut running, cx)).await {
        say(format_args!("an upgraded connection panicked: {text}"));
    }
}
