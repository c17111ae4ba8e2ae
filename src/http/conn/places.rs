//! The list of open connections: which are open, which are idle, and whether the server stops.
//!
//! Each connection holds its [`Place`] until its socket is closed. The task in `Server::run` waits
//! here for connections to end, and idle connections wait here for the server to stop. The buffers
//! that connections lend each other go with the last connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use slab::Slab;

use super::active::Spare;
use crate::JoinHandle;

#[derive(Default)]
pub(crate) struct Places {
    connections: RefCell<Slab<OpenConnection>>,
    /// Set once, when the server stops.
    stopping: Cell<bool>,
    /// The task in `run`, which waits for connections to end.
    waiter: RefCell<Option<Waker>>,
    pub(super) spare: Spare,
}

/// One connection.
#[derive(Default)]
struct OpenConnection {
    /// Set while it is idle, to tell it that the server stops.
    idle: Option<Waker>,
    /// Its task, if it is one of the server's own.
    task: Option<JoinHandle<()>>,
}

/// A connection's entry in the list.
pub(super) struct Place {
    places: Rc<Places>,
    key: usize,
}

impl Place {
    pub(super) fn key(&self) -> usize {
        self.key
    }

    /// Whether the server stops; if not, the connection is woken when it does.
    pub(super) fn is_stopping(&self, cx: &Context<'_>) -> bool {
        if self.places.stopping.get() {
            return true;
        }
        let waker = cx.waker().clone();
        let before = self.places.connections.borrow_mut().get_mut(self.key).and_then(|entry| entry.idle.replace(waker));
        drop(before);
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.leave(self.key);
    }
}

impl Places {
    pub(super) fn enter(self: &Rc<Self>) -> Place {
        let key = self.connections.borrow_mut().insert(OpenConnection::default());
        Place { places: Rc::clone(self), key }
    }

    fn leave(&self, key: usize) {
        let (entry, last) = {
            let mut connections = self.connections.borrow_mut();
            let entry = connections.try_remove(key);
            // At powers of two, so that the walk through the list is paid for by those who left
            // since the last.
            if connections.len().is_power_of_two() && connections.len() < connections.capacity() / 4 {
                connections.shrink_to_fit();
            }
            (entry, connections.is_empty())
        };
        drop(entry);
        if last {
            *self.connections.borrow_mut() = Slab::new();
            self.spare.clear();
        }
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Notes the task of one of the server's own connections, unless it has ended already.
    pub(crate) fn own(&self, key: usize, task: JoinHandle<()>) {
        if let Some(entry) = self.connections.borrow_mut().get_mut(key) {
            entry.task = Some(task);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    /// Whether the server stops.
    pub(super) fn are_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Tells idle connections that the server stops.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        let idle: Vec<Waker> =
            self.connections.borrow_mut().iter_mut().filter_map(|(_, entry)| entry.idle.take()).collect();
        idle.into_iter().for_each(Waker::wake);
    }

    /// Whether fewer connections are open than may be; if not, the task is woken when one ends.
    pub(crate) fn has_room(&self, most: usize, cx: &Context<'_>) -> bool {
        if self.connections.borrow().len() < most {
            return true;
        }
        self.wait(cx);
        false
    }

    /// Has the task woken when a connection ends.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let before = self.waiter.borrow_mut().replace(waker);
        drop(before);
    }

    /// Ends the server's own connections; gives their number.
    pub(crate) async fn cut(&self) -> usize {
        let mut tasks: Vec<_> =
            self.connections.borrow_mut().iter_mut().filter_map(|(_, entry)| entry.task.take()).collect();
        // Only their sockets wait to be closed.
        tasks.retain(|task| !task.is_finished());
        for task in &tasks {
            task.abort();
        }
        let count = tasks.len();
        for task in tasks {
            let _ = task.await;
        }
        count
    }
}
