//! Which runtime is current on this thread.
//!
//! A runtime is current while its loop runs and while it is being dropped. Everything that needs it (`spawn`, a timer, a socket)
//! finds it here instead of holding a pointer to it, which is what lets those things be plain data.
//!
//! The thread-local has no destructor, so it can be reached while a thread ends; the guard of [`enter`] empties it, on unwind too.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::task::Waker;

pub(crate) use super::inbox::Home;
use super::parts::Parts;
use super::wake;
use crate::executor::id::WakeId;
use crate::executor::local;

thread_local! {
    // Set and reset by `enter` alone; empty on a thread that runs no loop at the moment.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Parts>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Makes a runtime current until the guard is dropped.
pub(crate) fn enter(parts: &Rc<Parts>) -> Entered {
    let outer = CURRENT.with(|current| current.borrow_mut().replace(Rc::clone(parts)));
    // What is set around a `block_on` would be seen by every task the loop polls.
    Entered { outer, _locals: local::enter(None) }
}

/// See [`enter`].
pub(crate) struct Entered {
    outer: Option<Rc<Parts>>,
    _locals: local::LocalsGuard,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let outer = self.outer.take();
        drop(CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), outer)));
    }
}

/// The current runtime. To be kept no longer than a call.
pub(crate) fn current() -> Option<Rc<Parts>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// The current runtime, if it is the one asked for.
pub(crate) fn current_of(home: Home) -> Option<Rc<Parts>> {
    current().filter(|parts| parts.home == home)
}

/// Calls `code` with the current runtime, if it is the one asked for. The thread-local is borrowed meanwhile, so `code` may
/// neither run the user's code nor enter a runtime.
#[inline]
pub(crate) fn with<R>(home: Home, code: impl FnOnce(&Parts) -> R) -> Option<R> {
    CURRENT.with(|current| match &*current.borrow() {
        Some(parts) if parts.home == home => Some(code(parts)),
        _ => None,
    })
}

/// Wakes a task of the current runtime. False if it belongs to another, or none is current.
pub(crate) fn wake_here(id: WakeId) -> bool {
    let result = CURRENT.with(|current| match &*current.borrow() {
        Some(parts) if parts.home.number() != id.runtime() => WakeResult::Elsewhere,
        Some(parts) if parts.has_hooks() => WakeResult::Watched(Rc::clone(parts)),
        Some(parts) => WakeResult::Here(parts.tasks.borrow_mut().wake(id.key())),
        None => WakeResult::Elsewhere,
    });
    match result {
        WakeResult::Elsewhere => return false,
        WakeResult::Here(None) => {}
        WakeResult::Here(Some(owner)) => wake::wake(owner),
        WakeResult::Watched(parts) => parts.wake(id.key()),
    }
    true
}

/// The number of the current turn, from 1; 0 outside a runtime.
pub(crate) fn turn_number() -> u64 {
    CURRENT.with(|current| current.borrow().as_ref().map_or(0, |parts| parts.insight.turns.get()))
}

/// Whether the task that is being polled on this thread was woken since its poll began.
pub(crate) fn running_is_woken() -> bool {
    CURRENT.with(|current| {
        let Some(parts) = &*current.borrow() else { return false };
        parts.tasks.borrow_mut().is_queued(parts.running.get())
    })
}

/// What a wake on this thread did.
enum WakeResult {
    Elsewhere,
    /// The task is marked; this owner of its scope is to be woken as well.
    Here(Option<Waker>),
    /// A hook is to be called, and it may do anything, so nothing was done while the thread-local is borrowed.
    Watched(Rc<Parts>),
}
