//! Panics of user code, caught: their payloads and texts.
//!
//! Whatever runs a user's code (a poll, a destructor, a waker, a hook) catches its panic with these, so that it never reaches
//! another task or the loop. A payload is a value of the user's as well, and its destructor may panic in turn.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// The text of a panic, where it has one.
pub(crate) fn panic_text(payload: &Payload) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

/// Drops a value of the user's, whose drop may panic, and hands back the panic.
pub(crate) fn drop_caught<T>(value: T) -> Option<Payload> {
    catch_unwind(AssertUnwindSafe(|| drop(value))).err()
}

/// Drops the payload of a panic. One that panics in turn is leaked: there is no end to that game otherwise.
pub(crate) fn drop_payload(payload: Payload) {
    if let Some(again) = drop_caught(payload) {
        std::mem::forget(again);
    }
}

/// Drops a value whose drop may panic when there is nobody to report it to.
pub(crate) fn drop_silently<T>(value: T) {
    if let Some(payload) = drop_caught(value) {
        drop_payload(payload);
    }
}
