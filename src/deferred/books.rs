//! The books: every job that was accepted and what became of it.
//!
//! From its [admission](super::admission) on a job is a [`Row`]. Its [life](super::life) ends in
//! one of five ways, and the row stays for a while, so that a status route can still tell of it.
//!
//! # Invariants
//!
//! - Per lane and at any moment: accepted = waiting + running + done + failed + skipped + cancelled
//!   + unfinished. [`Books::begin`], [`Books::wait_again`] and [`Books::end`] alone move a job.
//! - User code (futures, their destructors, hooks) runs while nothing here is borrowed, and its
//!   panics end here.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;

use super::group::Members;
use super::id::{Ids, JobId};
use super::index::Index;
use super::info::{Fault, Info, Report, Status};
use super::kept::Kept;
use super::keys::Keys;
use super::lane::LaneBooks;
use super::pressure::Pressure;
use super::row::{Condition, Extra, JobRef, Row};
use super::voice::Voice;
use crate::event_loop::context::{self, Home};
use crate::event_loop::inbox::Message;
use crate::executor::id::TaskKey;
use crate::sync::Notify;
use crate::task::CancelToken;
use crate::time;

thread_local! {
    /// The queues of this thread by number, for handles and jobs that cross threads.
    static QUEUES: RefCell<HashMap<u64, Weak<Books>>> = RefCell::new(HashMap::new());
}

static NEXT_QUEUE: AtomicU64 = AtomicU64::new(1);

/// The books of a queue of this thread.
pub(super) fn find(number: u64) -> Option<Rc<Books>> {
    QUEUES.try_with(|queues| queues.borrow().get(&number).and_then(Weak::upgrade)).ok().flatten()
}

/// Where the queue is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Nothing waits for time any more.
    Draining,
    /// Nothing is accepted, and nothing begins.
    Closed,
}

pub(super) type EventHook = Box<dyn Fn(&Info, Option<&Fault>)>;

pub(super) struct Settings {
    pub(super) pending: usize,
    pub(super) per_group: usize,
    pub(super) per_share: usize,
    pub(super) keep: (usize, Duration),
    pub(super) on_event: Option<EventHook>,
    pub(super) on_fault: Option<EventHook>,
}

pub(super) struct Books {
    pub(super) number: u64,
    pub(super) settings: Settings,
    pub(super) lanes: Box<[LaneBooks]>,
    pub(super) rows: RefCell<Slab<Row>>,
    pub(super) index: RefCell<Index>,
    pub(super) kept: Kept,
    pub(super) ids: Ids,
    /// Jobs that are not over.
    pub(super) pending: Cell<usize>,
    /// Places kept for permits.
    pub(super) reserved: Cell<usize>,
    pub(super) pressure: Pressure,
    /// Tasks that run groups and single jobs.
    pub(super) runners: Cell<usize>,
    /// The runtime of those tasks.
    pub(super) home: Cell<Option<Home>>,
    /// Jobs that are over and were not cut off.
    pub(super) ended: Cell<u64>,
    pub(super) phase: Cell<Phase>,
    /// Cancelled when the queue begins to drain.
    pub(super) stop: CancelToken,
    pub(super) stopping: Arc<AtomicBool>,
    /// No job begins while this is set.
    pub(super) held: Cell<bool>,
    /// The tasks that wait for the end of that.
    pub(super) held_up: RefCell<Vec<TaskKey>>,
    /// Tells that no job is pending, or that no task of the queue runs.
    pub(super) quiet: Notify,
    pub(super) keys: Keys,
    /// Infos of jobs cut off, kept for the report.
    pub(super) unfinished: RefCell<Vec<Info>>,
    pub(super) voice: Voice,
    spare_labels: RefCell<Vec<Vec<u8>>>,
    origin: Instant,
    /// The turn of the last reading of the clock, and the reading.
    reading: Cell<(u64, u64)>,
}

/// Jobs that stderr names of those that a runtime's end cut off: enough to see which kind it was.
const NAMED: usize = 20;
const SPARE_LABELS: usize = 64;
const LONGEST_LABEL: usize = 128;

impl Books {
    pub(super) fn new(settings: Settings, lanes: Box<[LaneBooks]>) -> Rc<Self> {
        let number = NEXT_QUEUE.fetch_add(1, Ordering::Relaxed);
        let books = Rc::new(Self {
            number,
            pressure: Pressure::new(settings.pending),
            kept: Kept::new(settings.keep.0, settings.keep.1),
            settings,
            lanes,
            rows: RefCell::default(),
            index: RefCell::default(),
            ids: Ids::new(),
            pending: Cell::new(0),
            reserved: Cell::new(0),
            runners: Cell::new(0),
            home: Cell::new(None),
            ended: Cell::new(0),
            phase: Cell::new(Phase::Open),
            stop: CancelToken::new(),
            stopping: Arc::default(),
            held: Cell::new(false),
            held_up: RefCell::default(),
            quiet: Notify::new(),
            keys: Keys::default(),
            unfinished: RefCell::default(),
            voice: Voice::default(),
            spare_labels: RefCell::default(),
            origin: time::now(),
            reading: Cell::new((0, 0)),
        });
        QUEUES.with(|queues| queues.borrow_mut().insert(number, Rc::downgrade(&books)));
        books
    }

    // -- the clock

    /// Microseconds since the queue was made, read at most once a turn of the loop.
    pub(super) fn recent(&self) -> u64 {
        let (turn, reading) = self.reading.get();
        if turn != 0 && context::turn_number() == turn {
            return reading;
        }
        self.now()
    }

    /// Microseconds since the queue was made, read now.
    pub(super) fn now(&self) -> u64 {
        let now = micros(time::now().saturating_duration_since(self.origin));
        self.reading.set((context::turn_number(), now));
        now
    }

    // -- looking at a row

    pub(super) fn with<R>(&self, job: JobRef, look: impl FnOnce(&mut Row) -> R) -> Option<R> {
        self.rows.borrow_mut().get_mut(job.row as usize).filter(|row| row.id == job.id).map(look)
    }

    pub(super) fn with_extra<R>(&self, job: JobRef, look: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        self.with(job, |row| look(row.extra.get_or_insert_default()))
    }

    pub(super) fn lane_of(&self, job: JobRef) -> &LaneBooks {
        let lane = self.with(job, |row| row.lane).unwrap_or_default();
        &self.lanes[lane as usize]
    }

    pub(super) fn find(&self, id: JobId) -> Option<JobRef> {
        self.index.borrow().get(id).map(|row| JobRef { row, id })
    }

    /// Whether `cancel` was asked for the job.
    #[inline]
    pub(super) fn is_cancelled(&self, job: JobRef) -> bool {
        self.with(job, |row| row.cancelled).unwrap_or(true)
    }

    /// The jobs of a group that have not begun.
    pub(super) fn fresh_ones_of(&self, group: &Members) -> Vec<JobRef> {
        let is_of = |row: &Row| row.group.as_ref().is_some_and(|theirs| std::ptr::eq(&**theirs, group));
        self.jobs_where(|row| row.is_fresh() && is_of(row))
    }

    pub(super) fn is_waiting(&self, job: JobRef) -> bool {
        self.with(job, |row| row.status == Status::Waiting).unwrap_or_default()
    }

    /// Whether it waits for its delay or its next try.
    pub(super) fn is_asleep(&self, job: JobRef) -> bool {
        self.with(job, |row| row.extra.as_ref().is_some_and(|extra| extra.asleep)).unwrap_or_default()
    }

    pub(super) fn is_on_thread(&self, job: JobRef) -> bool {
        self.with(job, |row| row.extra.as_ref().is_some_and(|extra| extra.on_thread)).unwrap_or_default()
    }

    /// Tells a job on a thread that it took too long.
    pub(super) fn ask_to_stop(&self, job: JobRef) {
        self.with_extra(job, |extra| {
            if let Some(shared) = &extra.shared {
                shared.cancel();
            }
        });
    }

    pub(super) fn condition(&self, job: JobRef) -> Condition {
        self.with(job, |row| row.condition).unwrap_or(Condition::Always)
    }

    /// The job's name for reports.
    pub(super) fn name(&self, job: JobRef) -> Cow<'static, str> {
        self.with(job, |row| row.name()).unwrap_or_default()
    }

    /// Begins the drain.
    pub(super) fn begin_drain(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.cancel();
        if self.phase.get() == Phase::Open {
            self.phase.set(Phase::Draining);
        }
    }

    /// The jobs that are not over.
    pub(super) fn jobs_left(&self) -> Vec<JobRef> {
        self.jobs_where(|row| !row.status.is_final())
    }

    /// The jobs that are meant, oldest first.
    fn jobs_where(&self, is_meant: impl Fn(&Row) -> bool) -> Vec<JobRef> {
        let rows = self.rows.borrow();
        let meant = rows.iter().filter(|(_, row)| is_meant(row));
        let mut meant: Vec<_> = meant.map(|(index, row)| JobRef { row: index as u32, id: row.id }).collect();
        meant.sort_unstable_by_key(|job| job.id);
        meant
    }

    /// Wakes a task of the queue, between the turns of its runtime too.
    pub(super) fn wake(&self, key: TaskKey) {
        let Some(home) = self.home.get() else { return };
        match context::current_of(home) {
            Some(parts) => parts.wake(key),
            None => home.send(Message::Wake(key)),
        }
    }

    /// Has a task of the queue dropped at its next visit.
    pub(super) fn abort(&self, key: TaskKey) {
        let Some(home) = self.home.get() else { return };
        match context::current_of(home) {
            Some(parts) => parts.abort(key),
            None => home.send(Message::Abort(key)),
        }
    }

    /// The task that runs a job, if one does.
    pub(super) fn runner_of(&self, job: JobRef) -> Option<TaskKey> {
        self.with(job, |row| row.work.runner()).flatten()
    }

    // -- labels

    pub(super) fn label(&self, label: &[u8]) -> Vec<u8> {
        let mut memory = self.spare_labels.borrow_mut().pop().unwrap_or_default();
        memory.extend_from_slice(&label[..label.len().min(LONGEST_LABEL)]);
        memory
    }

    pub(super) fn keep_label(&self, mut label: Vec<u8>) {
        let mut spare = self.spare_labels.borrow_mut();
        if spare.len() < SPARE_LABELS {
            label.clear();
            spare.push(label);
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        let unfinished = std::mem::take(&mut *self.unfinished.borrow_mut());
        if !unfinished.is_empty() && !self.has_hook() {
            let more = unfinished.len().saturating_sub(NAMED);
            let report = Report { unfinished, ended: self.ended.get() }.to_string();
            let mut lines: Vec<_> = report.lines().take(1 + NAMED).collect();
            let rest = format!("  and {more} more");
            if more > 0 {
                lines.push(&rest);
            }
            self.voice.say(&lines.join("\n"));
        }
        let _ = QUEUES.try_with(|queues| queues.borrow_mut().remove(&self.number));
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}
