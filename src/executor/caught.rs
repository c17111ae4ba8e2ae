//! Panics of user code, caught: their payloads and texts.
//!
//! Each place that runs user code (a poll, a destructor, a waker, a hook) catches its panics, so
//! that they never reach another task or the loop. A payload is a user's value as well, so its
//! destructor may panic in turn.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The value that a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// The text of a panic, or a stand-in.
pub(crate) fn panic_text(payload: &Payload) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

/// Drops a user's value, and returns the panic of its drop.
pub(crate) fn drop_caught<T>(value: T) -> Option<Payload> {
    catch_unwind(AssertUnwindSafe(|| drop(value))).err()
}

/// Drops the payload of a panic. If that panics in turn, the second payload is leaked: its own drop
/// could panic again, without end.
pub(crate) fn drop_payload(payload: Payload) {
    if let Some(again) = drop_caught(payload) {
        std::mem::forget(again);
    }
}

/// Drops a user's value and ignores the panic of its drop, where there is nothing to report it to.
pub(crate) fn drop_silently<T>(value: T) {
    if let Some(payload) = drop_caught(value) {
        drop_payload(payload);
    }
}
