//! The list of a server's open connections.
//!
//! Each connection holds its [`ConnectionPlace`] until its socket is closed. Idle connections wait
//! here for the server to stop, and `Server::run` waits here for connections to end. The spare
//! buffers are freed with the last connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::active::Spare;
use crate::JoinHandle;
use crate::task::yield_now;

#[derive(Default)]
pub(crate) struct Places {
    connections: RefCell<Slab<OpenConnection>>,
    /// The number of those that have lost their client, and wait only for their handler.
    released: Cell<usize>,
    /// Set once, when the server stops.
    stopping: Cell<bool>,
    /// Set once, when the drain is over.
    is_cut: Cell<bool>,
    /// `Server::run`, which waits for connections to end.
    waiter: RefCell<Option<Waker>>,
    pub(super) spare: Spare,
}

#[derive(Default)]
struct OpenConnection {
    /// Set while it is idle, to wake it when the server stops.
    idle: Option<Waker>,
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

    /// Returns whether the server is stopping; if not, its stop will wake the connection.
    pub(crate) fn is_stopping(&self, cx: &Context<'_>) -> bool {
        if self.places.stopping.get() {
            return true;
        }
        let waker = cx.waker().clone();
        let before = self.places.connections.borrow_mut().get_mut(self.key).and_then(|entry| entry.idle.replace(waker));
        drop(before);
        false
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let places = &self.places;
        let (entry, last) = {
            let mut connections = places.connections.borrow_mut();
            let entry = connections.try_remove(self.key);
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

impl Places {
    pub(crate) fn enter(self: &Rc<Self>) -> ConnectionPlace {
        let key = self.connections.borrow_mut().insert(OpenConnection::default());
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

    /// Is ready while fewer than `most` connections are open. Only as many again may have lost
    /// their clients: one that sends requests and resets cannot start any number of handlers.
    pub(crate) fn poll_room(&self, most: usize, cx: &Context<'_>) -> Poll<()> {
        if self.connections.borrow().len() - self.released.get().min(most) < most {
            return Poll::Ready(());
        }
        self.wait(cx);
        Poll::Pending
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
