//! The memory that clients make a server hold, in all: a budget of bytes.
//!
//! | what | counts from | until |
//! | --- | --- | --- |
//! | a body that a handler collects | each byte's arrival | it is whole, or its request ends |
//! | a body that was collected | then | its handler has ended and its tasks are over |
//! | output that a client does not take | a write that would block | it is written |
//!
//! Bodies being collected may take half of the budget, what is held the rest. So a body in the
//! making is never in the way of one that is whole, and the server always gets on:
//!
//! - Over the first half, the body that received least in the last second is refused.
//! - Over the second half, a request with a body waits before the handler begins.
//! - Over the whole, the client that took least in the last second is cut off.
//!
//! Requests without a body are served whatever the budget says.
//!
//! # How it works
//!
//! Each body and each output that waits has a [`Load`], a row in the budget's list. A row says how
//! many bytes there are and how many moved lately. To relieve the budget is to mark a row, forget
//! its bytes at once, and wake its connection, which finds the mark and ends.

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
    limit: usize,
    /// Bytes by their use.
    used: [Cell<usize>; 3],
    /// Bodies in the making, and outputs that wait.
    rows: RefCell<Slab<Row>>,
    /// Tells that there is room for another body.
    room: Notify,
    /// Bodies refused and clients cut off.
    relieved: Cell<u64>,
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
        self.now += bytes;
    }

    fn bytes(&self, now: Instant) -> usize {
        match now.saturating_duration_since(self.began) {
            passed if passed < SECOND => self.before + self.now,
            passed if passed < 2 * SECOND => self.now,
            _ => 0,
        }
    }
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self {
            limit,
            used: Default::default(),
            rows: RefCell::default(),
            room: Notify::new(),
            relieved: Cell::new(0),
        })
    }

    fn used(&self, of: Use) -> &Cell<usize> {
        &self.used[of as usize]
    }

    /// Bytes that no client can be asked to give back: whole bodies, and output.
    fn taken(&self) -> usize {
        self.used(Use::Held).get() + self.used(Use::Unsent).get()
    }

    /// Whether another body may be begun, and a stream may go ahead of its client.
    pub(crate) fn has_room(&self) -> bool {
        self.taken() <= self.limit / 2
    }

    /// Waits for room. Dropping the future loses nothing.
    pub(crate) async fn room(&self) {
        while !self.has_room() {
            self.room.notified().await;
        }
        // There may be room for the next as well: it looks for itself.
        self.room.notify_one();
    }

    fn give_back(&self, of: Use, bytes: usize) {
        let had_room = self.has_room();
        self.used(of).set(self.used(of).get() - bytes);
        if !had_room && self.has_room() {
            self.room.notify_one();
        }
    }

    fn take(&self, of: Use, bytes: usize) {
        self.used(of).set(self.used(of).get() + bytes);
    }

    /// Cuts rows of this use until the budget is kept, or none is left.
    fn relieve(&self, of: Use, now: Instant) {
        let is_over = || match of {
            Use::Collecting => self.used(Use::Collecting).get() > self.limit / 2,
            _ => self.used(Use::Collecting).get() + self.taken() > self.limit,
        };
        while is_over() {
            let Some(connection) = self.cut_slowest(of, now) else { return };
            connection.wake();
        }
    }

    fn cut_slowest(&self, of: Use, now: Instant) -> Option<Waker> {
        let mut rows = self.rows.borrow_mut();
        let rows = rows.iter_mut().map(|(_, row)| row).filter(|row| row.of == of && !row.is_cut);
        // Of those that stand still, the largest helps most.
        let row = rows.min_by_key(|row| (row.moved.bytes(now), usize::MAX - row.bytes))?;
        row.is_cut = true;
        let bytes = std::mem::take(&mut row.bytes);
        let connection = std::mem::replace(&mut row.connection, Waker::noop().clone());
        self.relieved.set(self.relieved.get() + 1);
        self.give_back(of, bytes);
        Some(connection)
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

    /// The body is whole, after so many more bytes.
    pub(crate) fn hold(&self, more: usize) {
        let bytes = self.leave() + more;
        self.budget.take(Use::Held, bytes);
        self.held.set(self.held.get() + bytes);
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

    /// The body has ended before it was whole, or the output is written.
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
