//! Task-locals: values that a future and the tasks it spawns read without a parameter.
//!
//! A thread-local holds the current map, an immutable list of values. A scope sets its own map
//! around each poll of its future and around the future's drop. A task spawned while a map is set
//! is wrapped in a scope with that map. Any other task carries no map, and its polls check none.
//!
//! # Invariant
//!
//! Between polls no map is set: every guard restores the map it found, on unwind too.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// The current values, one entry per key: an inner scope replaces the value of its key.
pub(crate) type Map = Rc<[(usize, Rc<dyn Any>)]>;

thread_local! {
    // Set by `enter` alone. It has no destructor, so it stays reachable while the thread ends.
    static MAP: ManuallyDrop<RefCell<Option<Map>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// The next key to assign. 0 in a `Local` means that it has no key yet.
static NEXT_KEY: AtomicUsize = AtomicUsize::new(1);

/// The map that a task spawned now inherits.
pub(crate) fn current() -> Option<Map> {
    MAP.with(|map| map.borrow().clone())
}

/// Sets the map until the guard is dropped.
pub(crate) fn enter(map: Option<Map>) -> LocalsGuard {
    LocalsGuard { outer: MAP.with(|current| current.replace(map)) }
}

/// See [`enter`].
pub(crate) struct LocalsGuard {
    outer: Option<Map>,
}

impl Drop for LocalsGuard {
    fn drop(&mut self) {
        let outer = self.outer.take();
        // This may be the last reference to a value, so drop it after the borrow.
        drop(MAP.with(|current| current.replace(outer)));
    }
}

/// A task-local: the key of a value that belongs to a future and the tasks it spawns.
///
/// Tasks spawned within the scope (`spawn`, `defer`, `JoinSet`) inherit the value, and so do the
/// children of a [`scope`](crate::task::scope()). A child spawned where no value is set sees the
/// values of the scope's owner, which polls it. Blocking jobs and tasks spawned on another thread
/// through a [`Handle`](crate::Handle) inherit no value. The future given to `block_on` does not
/// see the values set around that call.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::task::Local;
/// static USER: Local<u32> = Local::new();
/// postlude::run(async {
///     let child = USER.scope(7, async { postlude::spawn(async { USER.get() }).await });
///     assert_eq!(child.await.unwrap(), Some(7));
///     assert_eq!(USER.sync_scope(8, || USER.with(|user| user + 1)), Some(9));
///     assert_eq!(USER.get(), None);
/// })
/// # }
/// ```
pub struct Local<T> {
    /// Assigned at first use. The static's address would not do instead: without this field the
    /// type has no size, and statics of such a type may share an address.
    key: AtomicUsize,
    _value: PhantomData<fn() -> T>,
}

impl<T: 'static> Local<T> {
    /// A key without a value, for a `static`.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a key is made in a static, where `default` cannot be called")]
    pub const fn new() -> Self {
        Self { key: AtomicUsize::new(0), _value: PhantomData }
    }

    fn key(&self) -> usize {
        match self.key.load(Ordering::Relaxed) {
            0 => {
                let fresh = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
                let set = self.key.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
                set.err().unwrap_or(fresh)
            }
            key => key,
        }
    }

    /// The current map with `value` in it.
    fn map_with(&self, value: T) -> Map {
        let key = self.key();
        let outer = current();
        let others = outer.iter().flat_map(|map| map.iter()).filter(|(other, _)| *other != key).cloned();
        others.chain([(key, Rc::new(value) as Rc<dyn Any>)]).collect()
    }

    /// Runs `future` with the value set, during its polls and its drop. Other keys keep their
    /// values at the time of this call.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `future`, whose own cancel safety applies.
    pub fn scope<F: Future>(&self, value: T, future: F) -> Scoped<F> {
        Scoped::new(self.map_with(value), future)
    }

    /// Calls `code` with the value set.
    pub fn sync_scope<R>(&self, value: T, code: impl FnOnce() -> R) -> R {
        let _entered = enter(Some(self.map_with(value)));
        code()
    }

    /// Calls `code` with the value; `None` if no value is set here.
    pub fn with<R>(&self, code: impl FnOnce(&T) -> R) -> Option<R> {
        let key = self.key();
        let map = current()?;
        let (_, value) = map.iter().find(|(other, _)| *other == key)?;
        value.downcast_ref().map(code)
    }

    /// A clone of the value; `None` if no value is set here.
    #[must_use]
    pub fn get(&self) -> Option<T>
    where
        T: Clone,
    {
        self.with(T::clone)
    }
}

impl<T> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

pin_project! {
    /// A future with task-locals set: see [`Local::scope`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Scoped<F> {
        map: Map,
        // `None` only while this is being dropped.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Scoped<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = enter(Some(Rc::clone(this.map)));
            this.future.set(None);
        }
    }
}

impl<F> Scoped<F> {
    pub(crate) fn new(map: Map, future: F) -> Self {
        Self { map, future: Some(future) }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = enter(Some(Rc::clone(this.map)));
        match this.future.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> fmt::Debug for Scoped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").finish_non_exhaustive()
    }
}
