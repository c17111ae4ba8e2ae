//! Queues of ready tasks: chains of slot numbers through the slots themselves.
//!
//! Pushing and popping allocate nothing. There is one kind of queue, and each slot carries the
//! number of its own. Queue 0 is the foreground and queue 1 the deferred class. Every other queue
//! belongs to a scope, which polls its members itself. The first task that enters a scope's queue
//! also wakes the queue's owner, the task that polls the scope.

use std::task::Waker;

use slab::Slab;

use super::id::TaskKey;

/// Ends a chain of slots.
pub(super) const NONE: u32 = u32::MAX;

/// The number of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueId(pub(super) u32);

impl QueueId {
    pub(crate) const FOREGROUND: Self = Self(0);
    pub(crate) const DEFERRED: Self = Self(1);

    /// Whether a scope polls its tasks.
    #[inline]
    pub(super) fn is_scope(self) -> bool {
        self.0 > Self::DEFERRED.0
    }
}

/// A chain through the slots' `next`.
pub(super) struct Chain {
    pub(super) head: u32,
    /// Undefined while there is no head.
    pub(super) tail: u32,
}

impl Chain {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE };

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

/// Two chains: tasks to run in this phase, and tasks that wait for the next.
pub(super) struct Queue {
    pub(super) ready: Chain,
    pub(super) later: Chain,
    /// Set while the scope waits and has no ready member; taken by the first wake.
    pub(super) owner: Option<WakeTarget>,
}

impl Queue {
    pub(super) const EMPTY: Self = Self { ready: Chain::EMPTY, later: Chain::EMPTY, owner: None };

    /// Appends the later chain to the ready one. Returns the slot to link, and its next slot.
    #[inline]
    pub(super) fn take_up_later(&mut self) -> Option<(u32, u32)> {
        if self.later.is_empty() {
            return None;
        }
        let later = std::mem::replace(&mut self.later, Chain::EMPTY);
        let tail = std::mem::replace(&mut self.ready.tail, later.tail);
        if self.ready.is_empty() {
            self.ready.head = later.head;
            return None;
        }
        Some((tail, later.head))
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.later.is_empty()
    }
}

/// All queues. The first two have a fixed place, so that a turn finds them without a lookup.
pub(super) struct Queues {
    classes: [Queue; 2],
    scopes: Slab<Queue>,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self { classes: [Queue::EMPTY, Queue::EMPTY], scopes: Slab::new() }
    }

    #[inline]
    pub(super) fn get(&self, queue: QueueId) -> &Queue {
        let number = queue.0 as usize;
        if queue.is_scope() { &self.scopes[number - 2] } else { &self.classes[number] }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, queue: QueueId) -> &mut Queue {
        let number = queue.0 as usize;
        if queue.is_scope() { &mut self.scopes[number - 2] } else { &mut self.classes[number] }
    }

    /// Adds the queue of a scope.
    pub(super) fn add(&mut self) -> QueueId {
        QueueId(self.scopes.insert(Queue::EMPTY) as u32 + 2)
    }

    /// Removes the queue of a scope.
    pub(super) fn remove(&mut self, queue: QueueId) -> Queue {
        self.scopes.remove(queue.0 as usize - 2)
    }
}

/// The target of a wake.
///
/// A task of the same runtime is a key, woken by a call on the table. That needs no waker, runs no
/// foreign code and cannot panic.
#[derive(Debug)]
pub(crate) enum WakeTarget {
    Task(TaskKey),
    Foreign(Waker),
}
