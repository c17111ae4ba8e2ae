//! The list of a server's open connections.
//!
//! Each connection holds its [`ConnectionPlace`] until its socket is closed. `Server::run` waits
//! here for connections to end. The spare buffers are freed with the last connection.
//!
//! Connections without a request stand in a line, the longest idle one first. When all places are
//! taken, or descriptors run out, that one gives way to a new connection; when the server stops,
//! all of them end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::active::Spare;
use crate::JoinHandle;
use crate::task::yield_now;

pub(crate) struct Places {
    connections: RefCell<Slab<OpenConnection>>,
    /// The number of those that have lost their client, and wait only for their handler.
    released: Cell<usize>,
    /// The longest and the shortest idle connection, or `NONE`.
    line: Cell<(u32, u32)>,
    /// The number of those that have been asked to give way.
    leaving: Cell<usize>,
    /// Set once, when the server stops.
    stopping: Cell<bool>,
    /// Set once, when the drain is over.
    is_cut: Cell<bool>,
    /// `Server::run`, which waits for connections to end.
    waiter: RefCell<Option<Waker>>,
    pub(super) spare: Spare,
}

/// Connections that may be on their way out at a time, beside those that count: their sockets are
/// closed a few at a time.
const MOST_LEAVING: usize = 16;

/// The end of the line.
const NONE: u32 = u32::MAX;

struct OpenConnection {
    /// Set when it became idle, to wake it when it must end.
    idle: Option<Waker>,
    /// Whether it stands in the line, and beside which other connections.
    in_line: bool,
    before: u32,
    behind: u32,
    /// It gives way to another connection as soon as it is idle.
    gives_way: bool,
    /// Its task, if the server accepted it.
    task: Option<JoinHandle<()>>,
    /// What polls it, if it came from elsewhere.
    owner: Option<Waker>,
}

pub(crate) struct ConnectionPlace {
    places: Rc<Places>,
    key: usize,
}

impl ConnectionPlace {
    pub(crate) fn key(&self) -> usize {
        self.key
    }

    /// Lets another connection have the place, and keeps the entry for a handler that still runs.
    pub(super) fn release(self) -> ReleasedPlace {
        self.places.released.set(self.places.released.get() + 1);
        self.places.wake_waiter();
        ReleasedPlace(self)
    }

    /// Notes that the connection has no request. Returns whether it must end: the server stops,
    /// or another connection needs the place. If not, it will be woken when it must.
    pub(crate) fn must_end(&self, cx: &Context<'_>) -> bool {
        let places = &self.places;
        if places.stopping.get() {
            return true;
        }
        let waker = cx.waker().clone();
        let mut connections = places.connections.borrow_mut();
        let Some(entry) = connections.get_mut(self.key) else { return true };
        if entry.gives_way {
            return true;
        }
        let replaced = entry.idle.replace(waker);
        let is_new = !entry.in_line;
        if is_new {
            places.enter_line(&mut connections, self.key as u32);
        }
        drop(connections);
        drop(replaced);
        if is_new {
            // A listener may wait for one that can give way.
            places.wake_waiter();
        }
        false
    }

    /// Notes that the connection has a request.
    #[inline]
    pub(crate) fn is_busy(&self) {
        self.places.leave_line(&mut self.places.connections.borrow_mut(), self.key as u32);
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let places = &self.places;
        let (entry, last) = {
            let mut connections = places.connections.borrow_mut();
            places.leave_line(&mut connections, self.key as u32);
            let entry = connections.try_remove(self.key);
            if entry.as_ref().is_some_and(|entry| entry.gives_way) {
                places.leaving.set(places.leaving.get() - 1);
            }
            // Shrinking walks the list. At powers of two it costs O(1) per connection that left.
            if connections.len().is_power_of_two() && connections.len() < connections.capacity() / 4 {
                connections.shrink_to_fit();
            }
            (entry, connections.is_empty())
        };
        drop(entry);
        if last {
            *places.connections.borrow_mut() = Slab::new();
            places.spare.clear();
        }
        places.wake_waiter();
    }
}

pub(super) struct ReleasedPlace(ConnectionPlace);

impl Drop for ReleasedPlace {
    fn drop(&mut self) {
        let released = &self.0.places.released;
        released.set(released.get() - 1);
    }
}

impl Default for Places {
    fn default() -> Self {
        Self {
            connections: RefCell::default(),
            released: Cell::new(0),
            line: Cell::new((NONE, NONE)),
            leaving: Cell::new(0),
            stopping: Cell::new(false),
            is_cut: Cell::new(false),
            waiter: RefCell::default(),
            spare: Spare::default(),
        }
    }
}

impl Places {
    pub(crate) fn enter(self: &Rc<Self>) -> ConnectionPlace {
        let entry = OpenConnection {
            idle: None,
            in_line: false,
            before: NONE,
            behind: NONE,
            gives_way: false,
            task: None,
            owner: None,
        };
        let key = self.connections.borrow_mut().insert(entry);
        ConnectionPlace { places: Rc::clone(self), key }
    }

    /// Records the task of an accepted connection, unless the connection has already ended.
    pub(crate) fn own(&self, key: usize, task: JoinHandle<()>) {
        if let Some(entry) = self.connections.borrow_mut().get_mut(key) {
            entry.task = Some(task);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    pub(super) fn are_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        let idle: Vec<Waker> =
            self.connections.borrow_mut().iter_mut().filter_map(|(_, entry)| entry.idle.take()).collect();
        idle.into_iter().for_each(Waker::wake);
    }

    /// Is ready while a connection may be accepted: fewer than `most` are open, or one of them is
    /// idle and can give way. Only as many again may have lost their clients: one that sends
    /// requests and resets cannot start any number of handlers.
    pub(crate) fn poll_room(&self, most: usize, cx: &Context<'_>) -> Poll<()> {
        let can_give_way = self.line.get().0 != NONE && self.leaving.get() < MOST_LEAVING;
        if self.open(most) < most || can_give_way {
            return Poll::Ready(());
        }
        self.wait(cx);
        Poll::Pending
    }

    fn open(&self, most: usize) -> usize {
        self.connections.borrow().len() - self.released.get().min(most) - self.leaving.get()
    }

    /// If `most` are open, asks the longest idle one to give way, and returns whether one does.
    pub(crate) fn make_room(&self, most: usize) -> bool {
        self.open(most) >= most && self.ask_to_give_way()
    }

    /// Asks the longest idle connection to end, and returns whether there is one.
    pub(crate) fn ask_to_give_way(&self) -> bool {
        let mut connections = self.connections.borrow_mut();
        let (first, _) = self.line.get();
        let Some(entry) = connections.get_mut(first as usize) else { return false };
        entry.gives_way = true;
        let idle = entry.idle.take();
        self.leave_line(&mut connections, first);
        drop(connections);
        self.leaving.set(self.leaving.get() + 1);
        idle.into_iter().for_each(Waker::wake);
        true
    }

    fn enter_line(&self, connections: &mut Slab<OpenConnection>, key: u32) {
        let (first, last) = self.line.get();
        if let Some(entry) = connections.get_mut(key as usize) {
            (entry.in_line, entry.before, entry.behind) = (true, last, NONE);
        }
        match connections.get_mut(last as usize) {
            Some(entry) => entry.behind = key,
            None => return self.line.set((key, key)),
        }
        self.line.set((first, key));
    }

    fn leave_line(&self, connections: &mut Slab<OpenConnection>, key: u32) {
        let Some(entry) = connections.get_mut(key as usize) else { return };
        if !std::mem::take(&mut entry.in_line) {
            return;
        }
        let (before, behind) = (entry.before, entry.behind);
        let (mut first, mut last) = self.line.get();
        match connections.get_mut(before as usize) {
            Some(entry) => entry.behind = behind,
            None => first = behind,
        }
        match connections.get_mut(behind as usize) {
            Some(entry) => entry.before = before,
            None => last = before,
        }
        self.line.set((first, last));
    }

    fn wake_waiter(&self) {
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Arranges that the end of a connection wakes the task.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let before = self.waiter.borrow_mut().replace(waker);
        drop(before);
    }

    /// Is ready when a connection from elsewhere must end.
    pub(crate) fn poll_cut(&self, key: usize, cx: &Context<'_>) -> Poll<()> {
        if self.is_cut.get() {
            return Poll::Ready(());
        }
        let is_known = |entry: &OpenConnection| entry.owner.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if !self.connections.borrow().get(key).is_some_and(is_known) {
            let waker = cx.waker().clone();
            let before = self.connections.borrow_mut().get_mut(key).and_then(|entry| entry.owner.replace(waker));
            drop(before);
        }
        Poll::Pending
    }

    /// Aborts the tasks of accepted connections and waits for them, wakes the owners of others to
    /// drop them, and returns how many there were.
    pub(crate) async fn cut(&self) -> usize {
        self.is_cut.set(true);
        let owners: Vec<Waker> =
            self.connections.borrow_mut().iter_mut().filter_map(|(_, entry)| entry.owner.take()).collect();
        let others = owners.len();
        owners.into_iter().for_each(Waker::wake);
        if others > 0 {
            // They are polled meanwhile.
            yield_now().await;
        }
        let mut tasks: Vec<_> =
            self.connections.borrow_mut().iter_mut().filter_map(|(_, entry)| entry.task.take()).collect();
        // The ended ones wait only for their sockets to be closed.
        tasks.retain(|task| !task.is_finished());
        for task in &tasks {
            task.abort();
        }
        let count = tasks.len();
        for task in tasks {
            let _ = task.await;
        }
        count + others
    }
}
