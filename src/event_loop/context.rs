//! The current runtime of a thread.
//!
//! A runtime is current while its loop runs and while it is being dropped. Each function or handle
//! that needs it (`spawn`, a timer, a socket) finds it here and holds no pointer to it. So handles
//! are plain data.
//!
//! The thread-local has no destructor, so it stays reachable while a thread ends. The guard of
//! [`enter`] empties it, on unwind too.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::task::Waker;

pub(crate) use super::inbox::Home;
use super::parts::Parts;
use super::wake;
use crate::executor::id::TaskKey;
use crate::executor::local;

thread_local! {
    // Set and reset by `enter` alone; empty on a thread that is running no loop.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Parts>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Makes a runtime current until the guard is dropped.
pub(crate) fn enter(parts: &Rc<Parts>) -> Entered {
    let outer = CURRENT.with(|current| current.borrow_mut().replace(Rc::clone(parts)));
    // Task-locals set around a `block_on` must not be seen by every task the loop polls.
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

/// The current runtime. Keep the `Rc` no longer than a call.
pub(crate) fn current() -> Option<Rc<Parts>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// The current runtime, if it is `home`.
pub(crate) fn current_of(home: Home) -> Option<Rc<Parts>> {
    current().filter(|parts| parts.home == home)
}

/// Calls `code` with the current runtime, if it is `home`. The thread-local is borrowed meanwhile,
/// so `code` may neither run user code nor enter a runtime.
#[inline]
pub(crate) fn with<R>(home: Home, code: impl FnOnce(&Parts) -> R) -> Option<R> {
    CURRENT.with(|current| match &*current.borrow() {
        Some(parts) if parts.home == home => Some(code(parts)),
        _ => None,
    })
}

/// Wakes a task of the current runtime. False if no runtime is current, or the task is another's.
pub(crate) fn wake_here(key: TaskKey) -> bool {
    let result = CURRENT.with(|current| match &*current.borrow() {
        Some(parts) if !parts.home.holds(key) => WakeResult::Elsewhere,
        Some(parts) if parts.has_hooks() => WakeResult::Watched(Rc::clone(parts)),
        Some(parts) => WakeResult::Here(parts.tasks.borrow_mut().wake(key)),
        None => WakeResult::Elsewhere,
    });
    match result {
        WakeResult::Elsewhere => return false,
        WakeResult::Here(None) => {}
        WakeResult::Here(Some(owner)) => wake::wake(owner),
        WakeResult::Watched(parts) => parts.wake(key),
    }
    true
}

/// The number of the current turn, from 1; 0 outside a runtime.
pub(crate) fn turn_number() -> u64 {
    CURRENT.with(|current| current.borrow().as_ref().map_or(0, |parts| parts.insight.turns.get()))
}

/// The effect of a wake on this thread.
enum WakeResult {
    Elsewhere,
    /// The task is marked; its scope's owner is still to be woken.
    Here(Option<Waker>),
    /// Nothing is done yet: the wake calls a hook, so it must wait for the end of the borrow.
    Watched(Rc<Parts>),
}
