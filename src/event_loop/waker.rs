//! The waker: an integer, and the crate's one `unsafe` block.
//!
//! A [`Waker`] is a data pointer and a table of four functions. Here the pointer *is* the [`WakeId`]: nothing is allocated,
//! counted or locked, cloning copies it, dropping does nothing, and `will_wake` compares two integers. What makes that sound is that
//! waking can miss: the id names a runtime, a slot and a generation, and an id whose task is gone finds another generation there.
//!
//! On the task's own thread a wake is a look-up and a push. Anywhere else it is a message to the runtime's inbox, or
//! nothing if that runtime has ended.

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::context;
use super::inbox::{self, Home, Message};
use crate::executor::id::{TaskKey, WakeId};
use crate::executor::queue::WakeTarget;

/// A `static`, not a `const`: `will_wake` compares its address.
static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, |_| {});

fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &VTABLE)
}

fn wake(data: *const ()) {
    let id = WakeId::from_bits(data.addr() as u64);
    if !context::wake_here(id) {
        inbox::send_to(id.runtime(), Message::Wake(id.key()));
    }
}

/// A clone, made without a call, if the waker is a task's of this crate: to clone that one or to drop it runs no foreign code.
#[inline]
pub(crate) fn copy(waker: &Waker) -> Option<Waker> {
    let is_ours = ptr::eq(waker.vtable(), &VTABLE);
    is_ours.then(|| self::waker(WakeId::from_bits(waker.data().addr() as u64)))
}

/// The task that a waker wakes, if it is one of this runtime.
#[inline]
pub(crate) fn task_of(waker: &Waker, home: Home) -> Option<TaskKey> {
    let id = WakeId::from_bits(waker.data().addr() as u64);
    (ptr::eq(waker.vtable(), &VTABLE) && id.runtime() == home.number()).then(|| id.key())
}

/// Who is woken by a waker: a task of this runtime, or a copy of the waker. Run with nothing borrowed.
pub(crate) fn target(waker: &Waker, home: Home) -> WakeTarget {
    task_of(waker, home).map_or_else(|| WakeTarget::Foreign(waker.clone()), WakeTarget::Task)
}

/// The waker of a task.
#[allow(unsafe_code, reason = "the one place where std asks for it")]
pub(crate) fn waker(id: WakeId) -> Waker {
    let data = ptr::without_provenance(id.bits() as usize);
    // SAFETY: `RawWaker`'s contract asks that the functions are thread-safe and that `clone`d data stays valid until its last use.
    // The data is an integer that is never dereferenced, so it is valid for ever and may be copied, woken and forgotten on any
    // thread in any order; the four functions are safe code that reads that integer and nothing else by way of it.
    unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
}
