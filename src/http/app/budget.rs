//! The memory that clients make a server hold, in all: a budget of bytes.
//!
//! | what | counts from | until |
//! | --- | --- | --- |
//! | a body that a handler collects | each byte's arrival | it is whole, or its request ends |
//! | a body that was collected | then | its handler has ended and its tasks are over |
//! | output that a client does not take | a write that would block | it is written |
//!
//! Bodies have half of the budget, output the other half. Neither pays for the other:
//!
//! - Over the bodies' half, those in the making that received least in the last second are refused.
//! - While whole bodies have more than half of that half, a request with a body waits before its
//!   handler begins: so those in the making always have some.
//! - Over the output's half, the clients that took least in the last second are cut off. The
//!   largest output does not count: any one response can be sent.
//!
//! Requests without a body are served whatever the budget says.
//!
//! # How it works
//!
//! Each body and each output that waits has a [`Load`], a row in the budget's list. A row says how
//! many bytes there are and how many moved lately. To relieve the budget is to mark rows, forget
//! their bytes at once, and wake their connections, which find the mark and end. That takes an
//! eighth more than it must, so that a busy budget is not searched for every byte.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::sync::Notify;
use crate::time::now;

/// The use of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// A body in the making.
    Collecting,
    /// A body that is whole.
    Held,
    /// Output.
    Unsent,
}

pub(crate) struct Budget {
    /// Bytes for bodies, and as many for output.
    half: usize,
    /// Bytes by their use.
    used: [Cell<usize>; 3],
    /// Bodies in the making, and outputs that wait.
    rows: RefCell<Slab<Row>>,
    /// Tells that there is room for another body.
    room: Notify,
}

struct Row {
    of: Use,
    bytes: usize,
    moved: Lately,
    connection: Waker,
    /// The budget needs its bytes: nothing of it counts any more.
    is_cut: bool,
}

/// Bytes that moved in this second and in the one before.
struct Lately {
    began: Instant,
    before: usize,
    now: usize,
}

const SECOND: Duration = Duration::from_secs(1);

impl Lately {
    fn new(now: Instant) -> Self {
        Self { began: now, before: 0, now: 0 }
    }

    fn add(&mut self, bytes: usize, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed >= SECOND {
            self.before = if passed < 2 * SECOND { self.now } else { 0 };
            (self.began, self.now) = (now, 0);
        }
        self.now = self.now.saturating_add(bytes);
    }

    fn bytes(&self, now: Instant) -> usize {
        match now.saturating_duration_since(self.began) {
            passed if passed < SECOND => self.before.saturating_add(self.now),
            passed if passed < 2 * SECOND => self.now,
            _ => 0,
        }
    }
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Rc<Self> {
        Rc::new(Self { half: bytes / 2, used: Default::default(), rows: RefCell::default(), room: Notify::new() })
    }

    fn used(&self, of: Use) -> usize {
        self.used[of as usize].get()
    }

    /// Whether another body may be begun.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.used(Use::Held) <= self.half / 2
    }

    /// Whether a stream must not go ahead of its client.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.used(Use::Unsent) > self.half / 2
    }

    /// Waits for room. Dropping the future loses nothing.
    pub(crate) async fn room(&self) {
        while !self.has_room() {
            self.room.notified().await;
        }
        // There may be room for the next as well: it looks for itself.
        self.room.notify_one();
    }

    fn take(&self, of: Use, bytes: usize) {
        self.used[of as usize].set(self.used(of) + bytes);
    }

    /// Call it with nothing borrowed: it may wake a task.
    fn give_back(&self, of: Use, bytes: usize) {
        let had_room = self.has_room();
        self.used[of as usize].set(self.used(of) - bytes);
        if !had_room && self.has_room() {
            self.room.notify_one();
        }
    }

    /// The bytes of all that shares a half with this use.
    fn used_with(&self, of: Use) -> usize {
        match of {
            Use::Unsent => self.used(Use::Unsent),
            Use::Collecting | Use::Held => self.used(Use::Collecting) + self.used(Use::Held),
        }
    }

    /// Cuts rows of this use, the slowest first, if their half is exceeded.
    fn relieve(&self, of: Use, now: Instant) {
        if self.used_with(of) <= self.half {
            return;
        }
        let mut rows = self.rows.borrow_mut();
        let of_use = rows.iter().filter(|(_, row)| row.of == of && !row.is_cut && row.bytes > 0);
        let mut slowest: Vec<_> =
            of_use.map(|(key, row)| (row.moved.bytes(now), usize::MAX - row.bytes, key)).collect();
        // Of those that stand still, the largest helps most.
        slowest.sort_unstable();
        let mut used = self.used_with(of);
        if of == Use::Unsent {
            let largest = slowest.iter().map(|&(_, bytes, key)| (bytes, key)).min();
            slowest.retain(|&(_, bytes, key)| Some((bytes, key)) != largest);
            used -= largest.map_or(0, |(bytes, _)| usize::MAX - bytes);
            if used <= self.half {
                return;
            }
        }
        let mut excess = used.saturating_sub(self.half - self.half / 8);
        let (mut bytes, mut connections) = (0, Vec::new());
        for (_, _, key) in slowest {
            if excess == 0 {
                break;
            }
            let row = &mut rows[key];
            row.is_cut = true;
            excess = excess.saturating_sub(row.bytes);
            bytes += std::mem::take(&mut row.bytes);
            connections.push(std::mem::replace(&mut row.connection, Waker::noop().clone()));
        }
        drop(rows);
        self.give_back(of, bytes);
        connections.into_iter().for_each(Waker::wake);
    }
}

/// A part of the budget that a body or an output has, given back when it is dropped.
pub(crate) struct Load {
    budget: Rc<Budget>,
    row: Cell<Option<usize>>,
    /// Bytes of a whole body.
    held: Cell<usize>,
    /// Bytes of output written so far.
    written: Cell<u64>,
}

impl Load {
    pub(crate) fn new(budget: &Rc<Budget>) -> Self {
        Self { budget: Rc::clone(budget), row: Cell::new(None), held: Cell::new(0), written: Cell::new(0) }
    }

    /// So many bytes of the body have arrived.
    pub(crate) fn collect(&self, bytes: usize, cx: &Context<'_>) {
        let now = now();
        self.note(Use::Collecting, now, cx, |row| {
            row.bytes += bytes;
            row.moved.add(bytes, now);
        });
    }

    /// The body is whole, after so many more bytes. False if the whole ones take all of the bodies'
    /// half already: then there is no room for it. A single one always fits.
    pub(crate) fn hold(&self, more: usize) -> bool {
        let budget = &self.budget;
        let bytes = self.leave() + more;
        if budget.used(Use::Held) > 0 && budget.used(Use::Held) + bytes > budget.half {
            return false;
        }
        budget.take(Use::Held, bytes);
        self.held.set(self.held.get() + bytes);
        if budget.used_with(Use::Held) > budget.half {
            budget.relieve(Use::Collecting, now());
        }
        true
    }

    /// So many bytes of output wait; `written` counts those before them.
    pub(crate) fn wait(&self, bytes: usize, written: u64, cx: &Context<'_>) {
        let now = now();
        let more = usize::try_from(written - self.written.replace(written)).unwrap_or(usize::MAX);
        self.note(Use::Unsent, now, cx, |row| {
            row.bytes = bytes;
            row.moved.add(more, now);
        });
    }

    /// Nothing of the output waits, after so many bytes were written.
    #[inline]
    pub(crate) fn all_written(&self, written: u64) {
        self.written.set(written);
        self.clear();
    }

    /// The body has ended before it was whole, or the output is not needed any more.
    #[inline]
    pub(crate) fn clear(&self) {
        if self.row.get().is_some() {
            self.leave();
        }
    }

    /// Whether the budget needs its bytes: the body is to be refused, the output to be cut off.
    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        self.row.get().is_some_and(|row| self.budget.rows.borrow()[row].is_cut)
    }

    fn note(&self, of: Use, now: Instant, cx: &Context<'_>, change: impl FnOnce(&mut Row)) {
        let connection = cx.waker().clone();
        let mut rows = self.budget.rows.borrow_mut();
        let key = self.row.get().unwrap_or_else(|| {
            let moved = Lately::new(now);
            rows.insert(Row { of, bytes: 0, moved, connection: Waker::noop().clone(), is_cut: false })
        });
        self.row.set(Some(key));
        let row = &mut rows[key];
        let replaced = std::mem::replace(&mut row.connection, connection);
        let before = row.bytes;
        if !row.is_cut {
            change(row);
        }
        let after = row.bytes;
        drop(rows);
        drop(replaced);
        if after > before {
            self.budget.take(of, after - before);
            self.budget.relieve(of, now);
        } else {
            self.budget.give_back(of, before - after);
        }
    }

    /// Leaves the list. Returns the bytes of its row.
    fn leave(&self) -> usize {
        let Some(key) = self.row.take() else { return 0 };
        let mut rows = self.budget.rows.borrow_mut();
        let row = rows.remove(key);
        if rows.is_empty() && rows.capacity() > 64 {
            *rows = Slab::new();
        }
        drop(rows);
        self.budget.give_back(row.of, row.bytes);
        row.bytes
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clear();
        self.budget.give_back(Use::Held, self.held.get());
    }
}
