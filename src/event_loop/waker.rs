//! The waker: an integer, and the crate's one `unsafe` block.
//!
//! A [`Waker`] is a data pointer and a table of four functions. Here the pointer *is* the
//! [`TaskKey`]: a clone is a copy, a drop does nothing, and `will_wake` compares two integers. This
//! is sound because a wake can miss: the key of a task that is gone finds another generation in its
//! slot. On the task's own thread a wake is a lookup and a push. Elsewhere it is a message to the
//! runtime's inbox, or nothing if that runtime has ended.

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::context;
use super::inbox::{self, Home, Message};
use crate::executor::id::TaskKey;
use crate::executor::queue::WakeTarget;

/// A `static`, not a `const`: `will_wake` compares its address.
static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, |_| {});

fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &VTABLE)
}

fn wake(data: *const ()) {
    let key = TaskKey(data.addr() as u64);
    if !context::wake_here(key) {
        inbox::send_to(key.runtime(), Message::Wake(key));
    }
}

/// A clone of a waker of this crate, made without a call; `None` for a foreign waker, whose clone
/// and drop may run any code.
#[inline]
pub(crate) fn copy(waker: &Waker) -> Option<Waker> {
    let is_ours = ptr::eq(waker.vtable(), &VTABLE);
    is_ours.then(|| self::waker(TaskKey(waker.data().addr() as u64)))
}

/// The task that a waker wakes, if it is a task of this runtime.
#[inline]
pub(crate) fn task_of(waker: &Waker, home: Home) -> Option<TaskKey> {
    let key = TaskKey(waker.data().addr() as u64);
    (ptr::eq(waker.vtable(), &VTABLE) && home.holds(key)).then_some(key)
}

/// The target of a waker: a task of this runtime, or a clone of the waker. Call it with nothing
/// borrowed.
pub(crate) fn target(waker: &Waker, home: Home) -> WakeTarget {
    task_of(waker, home).map_or_else(|| WakeTarget::Foreign(waker.clone()), WakeTarget::Task)
}

/// The waker of a task.
#[allow(unsafe_code, reason = "std offers no safe way to make a waker without an allocation")]
pub(crate) fn waker(key: TaskKey) -> Waker {
    let data = ptr::without_provenance(key.0 as usize);
    // SAFETY: `RawWaker`'s contract asks that the four functions are thread-safe and that the data
    // stays valid until its last use. The data is an integer that is never dereferenced. So it is
    // valid for ever, and may be copied, woken and forgotten on any thread in any order. The four
    // functions are safe code, and use the data only as that integer.
    unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
}
