//! The books: every job that was accepted and what became of it.
//!
//! A job is a row of at most 64 bytes: its future, its group, when it was added. What most jobs do
//! not have (a name, a timeout, tries) stands in a box beside it. A row that is over stays for a
//! bounded number and time, so that a status route can still tell of it.
//!
//! # Invariants
//!
//! - Per lane and at any moment: accepted = waiting + running + done + failed + skipped + cancelled
//!   + unfinished. [`Books::begin`], [`Books::wait_again`] and [`Books::end`] alone move a job.
//! - User code (futures, their destructors, hooks) runs while nothing here is borrowed, and its
//!   panics end here.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;

use super::group::Members;
use super::id::{Ids, JobId};
use super::index::Index;
use super::info::{AddError, Fault, Info, LaneStats, Limit, Outcome, Report, Stats, Status};
use super::lane::{Kind, LOOP_LANE, LaneBooks, THREADS_LANE};
use super::retry::Retry;
use super::running::{Running, Shared};
use super::trace;
use super::voice::Voice;
use super::work::{self, Make, SendTaskOutput, TaskFuture, TaskOutput, Work};
use crate::event_loop::context::{self, Home};
use crate::event_loop::inbox::Message;
use crate::executor::caught::{self, drop_payload, drop_silently, panic_text};
use crate::executor::id::TaskKey;
use crate::executor::local;
use crate::sync::Notify;
use crate::task::CancelToken;
use crate::{slabs, time};

thread_local! {
    /// The queues of this thread by number, for handles and jobs that cross threads.
    static QUEUES: RefCell<HashMap<u64, Weak<Books>>> = RefCell::new(HashMap::new());
}

static NEXT_QUEUE: AtomicU64 = AtomicU64::new(1);

/// The books of a queue of this thread.
pub(super) fn find(number: u64) -> Option<Rc<Books>> {
    QUEUES.try_with(|queues| queues.borrow().get(&number).and_then(Weak::upgrade)).ok().flatten()
}

/// Names a job within the books: its row, and its id to tell whether the row is still its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JobRef {
    pub(super) row: u32,
    pub(super) id: JobId,
}

impl JobRef {
    /// No job: ids are never 0.
    pub(super) const NONE: Self = Self { row: u32::MAX, id: JobId(0) };
}

/// The row of a job.
pub(super) struct Row {
    work: Slot,
    extra: Option<Box<Extra>>,
    /// The list it belongs to.
    pub(super) group: Option<Rc<Members>>,
    pub(super) id: JobId,
    /// Microseconds on the queue's clock.
    added: u64,
    location: &'static Location<'static>,
    /// Microseconds before it began, at most 71 minutes; `Extra::began` is exact.
    waited: u32,
    lane: u8,
    status: Status,
    condition: Condition,
    /// Set by `cancel`, seen by the task that runs the job.
    cancelled: bool,
}

/// The work of a plain job that has not begun, or a number in its place.
enum Slot {
    Future(TaskFuture),
    /// The key of the task that runs the job; once it is over, for how many microseconds it ran.
    Number(u64),
}

impl Slot {
    const EMPTY: Self = Self::run_by(TaskKey::NONE);

    const fn run_by(key: TaskKey) -> Self {
        Self::Number(key.0)
    }

    fn runner(&self) -> Option<TaskKey> {
        let Self::Number(bits) = *self else { return None };
        (bits != TaskKey::NONE.0).then_some(TaskKey(bits))
    }
}

/// The outcomes of its group on which a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Answer,
    Delivered,
    Failure,
    Always,
}

impl Condition {
    pub(super) fn holds(self, outcome: Outcome) -> bool {
        match self {
            Self::Answer => outcome.is_answer(),
            Self::Delivered => outcome == Outcome::Delivered,
            Self::Failure => !outcome.is_answer(),
            Self::Always => true,
        }
    }
}

/// What few jobs have.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) make: Option<Make>,
    /// The future of a job that is not plain, before its only try.
    once: Option<TaskFuture>,
    pub(super) timeout: Option<Duration>,
    pub(super) after: Option<Duration>,
    pub(super) retry: Option<Retry>,
    pub(super) key: Option<Rc<str>>,
    /// Tries begun.
    pub(super) attempt: u32,
    shared: Option<Arc<Shared>>,
    /// When the last try began, in microseconds on the queue's clock.
    began: u64,
    fault: Option<String>,
    /// It waits for its delay or its next try.
    pub(super) asleep: bool,
    /// A thread has it.
    pub(super) on_thread: bool,
    /// The label and number of its group, once it has left that.
    followed: Option<(String, u64)>,
}

impl Extra {
    pub(super) fn named(name: Cow<'static, str>) -> Box<Self> {
        Box::new(Self { name: Some(name), ..Self::default() })
    }

    /// Whether the work can be polled as it is, without a try around it.
    fn is_plain(&self) -> bool {
        self.make.is_none() && self.timeout.is_none() && self.after.is_none() && self.key.is_none()
    }
}

/// A job that is about to be added: for code that keeps jobs until their group is known.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::deferred::{NewJob, Outcome, Queue};
/// postlude::run(async {
///     let jobs = vec![NewJob::future(async {}), NewJob::blocking(|| {})];
///     let queue = Queue::new();
///     let group = queue.group("", 0);
///     group.extend(jobs).unwrap();
///     group.release(Outcome::Delivered);
///     queue.idle().await;
/// })
/// # }
/// ```
#[must_use = "a job is added by `Group::extend`"]
pub struct NewJob {
    pub(super) work: Work,
    pub(super) extra: Option<Box<Extra>>,
    pub(super) lane: u8,
    pub(super) condition: Condition,
    pub(super) location: &'static Location<'static>,
}

impl NewJob {
    /// A future, for the loop's lane. Reports name it by this line of your code.
    #[track_caller]
    pub fn future<F, M>(future: F) -> Self
    where
        F: Future<Output: TaskOutput<M>> + 'static,
        M: 'static,
    {
        Self::new(Work::Future(work::boxed(future)), LOOP_LANE, Location::caller())
    }

    /// A closure that blocks, for the lane of threads. Reports name it by this line of your code.
    #[track_caller]
    pub fn blocking<F, T, M>(closure: F) -> Self
    where
        F: FnOnce() -> T + Send + 'static,
        T: SendTaskOutput<M>,
    {
        Self::new(work::once(move |_| closure().into_result()).0, THREADS_LANE, Location::caller())
    }

    pub(super) fn new(work: Work, lane: u8, location: &'static Location<'static>) -> Self {
        Self { work, extra: None, lane, condition: Condition::Answer, location }
    }
}

impl fmt::Debug for NewJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewJob").field("location", &self.location).finish_non_exhaustive()
    }
}

/// What a try is to do.
pub(super) enum Start {
    /// Poll this.
    Plain(TaskFuture),
    /// Go through [`attempt`](super::run::attempt).
    Full,
    /// Nothing: the job is over.
    Gone,
}

/// Where the queue is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Nothing is accepted; what was accepted still runs.
    Draining,
    /// Nothing begins any more.
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
    settings: Settings,
    pub(super) lanes: Box<[LaneBooks]>,
    rows: RefCell<Slab<Row>>,
    index: RefCell<Index>,
    /// Jobs that are over, and when they ended, oldest first.
    over: RefCell<VecDeque<(JobRef, u64)>>,
    ids: Ids,
    /// Jobs that are not over.
    pending: Cell<usize>,
    /// Places kept for permits.
    pub(super) reserved: Cell<usize>,
    /// The pending jobs that are ready to run on the loop.
    ready: Cell<usize>,
    /// Tasks that run groups and single jobs.
    pub(super) runners: Cell<usize>,
    /// The runtime of those tasks.
    pub(super) home: Cell<Option<Home>>,
    /// Jobs that are over and were not cut off.
    ended: Cell<u64>,
    pub(super) phase: Cell<Phase>,
    /// Cancelled when the queue begins to drain.
    pub(super) stop: CancelToken,
    stopping: Arc<AtomicBool>,
    /// No job begins while this is set.
    pub(super) held: Cell<bool>,
    /// The tasks that wait for the end of that.
    pub(super) held_up: RefCell<Vec<TaskKey>>,
    /// Tells of room for more ready jobs.
    room: Notify,
    /// Tells that no job is pending, or that no task of the queue runs.
    pub(super) quiet: Notify,
    pub(super) keys: RefCell<HashMap<Rc<str>, Keyed>>,
    /// Infos of jobs cut off, kept for the report.
    pub(super) unfinished: RefCell<Vec<Info>>,
    pub(super) voice: Voice,
    spare_labels: RefCell<Vec<Vec<u8>>>,
    origin: Instant,
    /// The turn of the last reading of the clock, and the reading.
    reading: Cell<(u64, u64)>,
}

/// The jobs with one key that are not over.
pub(super) struct Keyed {
    /// Those that wait, oldest first: another with the key may be the same job.
    pub(super) waiting: Vec<JobId>,
    /// The one whose turn it is.
    pub(super) running: Option<JobId>,
    /// Tells those that wait that the other has ended.
    pub(super) ended: Rc<Notify>,
}

/// Jobs that are looked at for one of the same key: a request's own, and the one that waits next.
const JOINABLE: usize = 8;
/// Jobs that stderr names of those that a runtime's end cut off: enough to see which kind it was.
const NAMED: usize = 20;
const SPARE_LABELS: usize = 64;
const LONGEST_LABEL: usize = 128;

impl Books {
    pub(super) fn new(settings: Settings, lanes: Box<[LaneBooks]>) -> Rc<Self> {
        let number = NEXT_QUEUE.fetch_add(1, Ordering::Relaxed);
        let books = Rc::new(Self {
            number,
            settings,
            lanes,
            rows: RefCell::default(),
            index: RefCell::default(),
            over: RefCell::default(),
            ids: Ids::new(),
            pending: Cell::new(0),
            reserved: Cell::new(0),
            ready: Cell::new(0),
            runners: Cell::new(0),
            home: Cell::new(None),
            ended: Cell::new(0),
            phase: Cell::new(Phase::Open),
            stop: CancelToken::new(),
            stopping: Arc::default(),
            held: Cell::new(false),
            held_up: RefCell::default(),
            room: Notify::new(),
            quiet: Notify::new(),
            keys: RefCell::default(),
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

    // -- accepting

    /// Whether so many more jobs may be added.
    pub(super) fn admit(&self, lane: u8, more: usize) -> Result<(), AddError> {
        self.admit_anywhere(more)?;
        self.admit_to(lane, more)
    }

    /// [`admit`](Self::admit), as far as it has nothing to do with a lane.
    pub(super) fn admit_anywhere(&self, more: usize) -> Result<(), AddError> {
        if self.phase.get() == Phase::Closed {
            return Err(AddError::ShuttingDown);
        }
        let taken = self.pending.get() + self.reserved.get();
        if taken.saturating_add(more) > self.settings.pending { Err(AddError::Full(Limit::Queue)) } else { Ok(()) }
    }

    /// [`admit`](Self::admit), as far as it has to do with this lane.
    pub(super) fn admit_to(&self, lane: u8, more: usize) -> Result<(), AddError> {
        if self.lanes[lane as usize].has_room_for(more) { Ok(()) } else { Err(AddError::Full(Limit::Lane)) }
    }

    pub(super) fn per_group(&self) -> usize {
        self.settings.per_group
    }

    pub(super) fn per_share(&self) -> usize {
        self.settings.per_share
    }

    /// Enters a job that was admitted.
    pub(super) fn enter(&self, job: NewJob, group: Option<Rc<Members>>) -> JobRef {
        let NewJob { work, mut extra, lane, condition, location } = job;
        let work = match local::current() {
            None => work,
            Some(locals) => work.with_locals(locals),
        };
        let work = trace::carry(work);
        let id = self.ids.next();
        self.pending.set(self.pending.get() + 1);
        self.lanes[lane as usize].accept();
        if let Some(share) = group.as_ref().and_then(|group| group.share.as_ref()) {
            share.take(1);
        }
        let added = self.recent();
        let key = extra.as_ref().and_then(|extra| extra.key.clone());
        let is_plain = self.lanes[lane as usize].is_open() && extra.as_ref().is_none_or(|extra| extra.is_plain());
        let work = match work {
            Work::Future(future) if is_plain => Slot::Future(future),
            Work::Future(future) => {
                extra.get_or_insert_default().once = Some(future);
                Slot::EMPTY
            }
            Work::Make(make) => {
                extra.get_or_insert_default().make = Some(make);
                Slot::EMPTY
            }
        };
        let row = Row {
            work,
            extra,
            group,
            id,
            added,
            location,
            waited: 0,
            lane,
            status: Status::Waiting,
            condition,
            cancelled: false,
        };
        let mut rows = self.rows.borrow_mut();
        slabs::grow_gently(&mut rows);
        let row = rows.insert(row) as u32;
        drop(rows);
        if let Some(key) = key {
            let new = || Keyed { waiting: Vec::new(), running: None, ended: Rc::default() };
            self.keys.borrow_mut().entry(key).or_insert_with(new).waiting.push(id);
        }
        self.index.borrow_mut().insert(id, row);
        let job = JobRef { row, id };
        self.tell(job, None);
        job
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

    /// A job with this key that has not begun and runs if one of this group and condition would.
    pub(super) fn waiting_with(
        &self,
        key: &Rc<str>,
        group: Option<&Rc<Members>>,
        condition: Condition,
    ) -> Option<JobId> {
        let keys = self.keys.borrow();
        let Keyed { waiting, running, .. } = keys.get(key)?;
        // Its turn may have come while its lane is full.
        let candidates = waiting.iter().rev().take(JOINABLE).chain(running);
        candidates.copied().find(|&id| {
            let look = |row: &mut Row| {
                row.is_fresh()
                    && !row.cancelled
                    && row.group.as_ref().is_none_or(|theirs| {
                        theirs.skips_nothing_more()
                            || row.condition == condition && group.is_some_and(|group| Rc::ptr_eq(group, theirs))
                    })
            };
            self.find(id).and_then(|job| self.with(job, look)) == Some(true)
        })
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

    // -- the life of a job

    /// Notes which task runs a job from now on, unless it is plain and has not begun.
    #[inline]
    pub(super) fn run_by(&self, job: JobRef, key: TaskKey) {
        self.with(job, |row| {
            if let (work @ Slot::Number(_), false) = (&mut row.work, row.status.is_final()) {
                *work = Slot::run_by(key);
            }
        });
    }

    /// Takes a job's work to begin it in task `key`. A plain one begins at once; for any other see
    /// [`Start`].
    #[inline]
    pub(super) fn start(&self, job: JobRef, key: TaskKey) -> Start {
        let recent = self.recent();
        let mut rows = self.rows.borrow_mut();
        let Some(row) = rows.get_mut(job.row as usize).filter(|row| row.id == job.id) else { return Start::Gone };
        if row.status.is_final() {
            return Start::Gone;
        }
        match std::mem::replace(&mut row.work, Slot::run_by(key)) {
            Slot::Future(future) => {
                row.begin(recent, &self.lanes[row.lane as usize]);
                Start::Plain(future)
            }
            Slot::Number(_) => Start::Full,
        }
    }

    /// The work of the only try of a job that is not plain.
    pub(super) fn take_once(&self, job: JobRef) -> Option<TaskFuture> {
        self.with_extra(job, |extra| extra.once.take()).flatten()
    }

    /// A try begins.
    pub(super) fn begin(&self, job: JobRef) {
        let now = self.now();
        self.with(job, |row| {
            row.begin(now, &self.lanes[row.lane as usize]);
            row.extra.get_or_insert_default().began = now;
        });
        self.tell(job, None);
    }

    /// A try has failed, and another follows.
    pub(super) fn wait_again(&self, job: JobRef, fault: &Fault) {
        let text = text_of(fault);
        self.with(job, |row| {
            self.lanes[row.lane as usize].wait_again();
            row.status = Status::Waiting;
            row.extra.get_or_insert_default().fault = Some(text);
        });
        self.tell(job, Some(fault));
    }

    /// What a try is told and what tells of it.
    pub(super) fn running(&self, job: JobRef) -> Option<Running> {
        self.with(job, |row| {
            let extra = row.extra.get_or_insert_default();
            let outcome = row.group.as_ref().and_then(|group| group.outcome.get());
            // An earlier try may have been told that it took too long; this one was not.
            extra.shared = extra.shared.take().filter(|shared| !shared.is_cancelled());
            let shared = extra
                .shared
                .get_or_insert_with(|| Arc::new(Shared::new(row.id, self.number, outcome, Arc::clone(&self.stopping))));
            Running::new(Arc::clone(shared), extra.attempt)
        })
    }

    /// A job is over. Its work must be gone, except where it never began.
    pub(super) fn end(&self, job: JobRef, status: Status, fault: Option<&Fault>) {
        let now = self.now();
        let text = fault.map(text_of);
        let mut rows = self.rows.borrow_mut();
        let Some(row) = rows.get_mut(job.row as usize).filter(|row| row.id == job.id) else { return };
        if row.status.is_final() {
            return;
        }
        let is_fresh = row.is_fresh();
        let before = std::mem::replace(&mut row.status, status);
        let mut ran = 0;
        if before == Status::Running {
            ran = now.saturating_sub(row.began());
        }
        if is_fresh {
            row.waited = u32::try_from(now.saturating_sub(row.added)).unwrap_or(u32::MAX);
        }
        self.lanes[row.lane as usize].end(before, status, ran);
        let work = std::mem::replace(&mut row.work, Slot::Number(ran));
        if let Some(share) = row.group.as_ref().and_then(|group| group.share.as_ref()) {
            share.give_back(1);
        }
        // A job that went well is found by its id; its group's memory is free for the next one.
        let went_well = status == Status::Done && self.settings.on_event.is_none();
        let group = if went_well { row.group.take() } else { None };
        let has_group = row.group.is_some();
        let rest = if row.extra.is_some() || !went_well {
            // A plain job has one try, which it did not count.
            let attempt = u32::from(!is_fresh);
            let extra = row.extra.get_or_insert_with(|| Box::new(Extra { attempt, ..Extra::default() }));
            extra.fault = text.or_else(|| extra.fault.take());
            Some(((extra.make.take(), extra.once.take(), extra.retry.take()), extra.key.clone()))
        } else {
            None
        };
        drop(rows);
        if let Slot::Future(work) = work {
            drop_silently(work);
        }
        if let Some((of_user, key)) = rest {
            drop_silently(of_user);
            if let Some(key) = key {
                self.end_key(&key, job.id);
            }
        }
        self.tell(job, fault);
        drop(group);
        if has_group {
            self.leave_group(job);
        }
        if status != Status::Unfinished {
            self.ended.set(self.ended.get() + 1);
        }
        self.over.borrow_mut().push_back((job, now));
        self.forget_old(now);
        self.pending.set(self.pending.get() - 1);
        if self.pending.get() == 0 {
            self.give_back_memory();
            self.quiet.notify_waiters();
        }
    }

    /// Takes a job that is over out of its group: the two would keep each other, and the books.
    fn leave_group(&self, job: JobRef) {
        let left = self.with(job, |row| {
            let group = row.group.take()?;
            row.extra.get_or_insert_default().followed = Some((group.label(), group.number));
            Some(group)
        });
        drop(left);
    }

    fn end_key(&self, key: &Rc<str>, id: JobId) {
        let mut keys = self.keys.borrow_mut();
        let Some(keyed) = keys.get_mut(key) else { return };
        keyed.waiting.retain(|&one| one != id);
        let ended = if keyed.running == Some(id) {
            keyed.running = None;
            Some(Rc::clone(&keyed.ended))
        } else {
            None
        };
        if keyed.waiting.is_empty() && keyed.running.is_none() {
            keys.remove(key);
        }
        drop(keys);
        if let Some(ended) = ended {
            ended.notify_waiters();
        }
    }

    /// Removes rows that are over, as far as there are too many or they are too old.
    fn forget_old(&self, now: u64) {
        let (most, longest) = self.settings.keep;
        let oldest = now.saturating_sub(micros(longest));
        loop {
            let mut over = self.over.borrow_mut();
            let Some(&(job, ended)) = over.front() else { return };
            if over.len() <= most && ended >= oldest {
                return;
            }
            over.pop_front();
            drop(over);
            self.index.borrow_mut().remove(job.id);
            let row = self.rows.borrow_mut().try_remove(job.row as usize);
            drop_silently(row);
        }
    }

    /// Called when no job is pending.
    fn give_back_memory(&self) {
        let mut rows = self.rows.borrow_mut();
        if rows.capacity() > 64 && rows.capacity() / 4 > rows.len() {
            rows.shrink_to_fit();
        }
        drop(rows);
        self.index.borrow_mut().shrink();
        let mut over = self.over.borrow_mut();
        let len = over.len();
        if over.capacity() / 4 > len {
            over.shrink_to(len.max(16));
        }
    }

    // -- telling

    /// Tells the hooks of a job's new status. Without a hook for them, stderr is told of failures
    /// here, and of skipped jobs by their group, which knows how many there are.
    #[inline]
    fn tell(&self, job: JobRef, fault: Option<&Fault>) {
        if self.settings.on_event.is_some() || self.settings.on_fault.is_some() || fault.is_some() || trace::is_on() {
            self.call_hooks(job, fault);
        }
    }

    #[inline(never)] // most jobs go well and are not watched
    fn call_hooks(&self, job: JobRef, fault: Option<&Fault>) {
        let Settings { on_event, on_fault, .. } = &self.settings;
        let goes_well = || self.with(job, |row| !row.status.is_bad()).unwrap_or(true);
        if on_event.is_none() && !trace::is_on() && goes_well() {
            return;
        }
        let Some(info) = self.info(job) else { return };
        trace::step(&info);
        if let Some(hook) = on_event {
            self.call(hook, &info, fault);
        }
        if fault.is_some_and(|fault| self.is_by_choice(job, fault)) {
            return;
        }
        match on_fault {
            Some(hook) if info.status.is_bad() => self.call(hook, &info, fault),
            None if info.status == Status::Failed => self.voice.say(&info.to_string()),
            _ => {}
        }
    }

    /// Whether a job is not run because of a condition that was chosen for it.
    pub(super) fn is_by_choice(&self, job: JobRef, fault: &Fault) -> bool {
        matches!(fault, Fault::Condition(_)) && self.condition(job) != Condition::Answer
    }

    fn call(&self, hook: &EventHook, info: &Info, fault: Option<&Fault>) {
        if let Err(payload) = caught::call(|| hook(info, fault)) {
            self.voice.say(&format!("the hook of a deferred queue panicked: {}", panic_text(&payload)));
            drop_payload(payload);
        }
    }

    /// Whether a hook is told of what goes wrong, so that stderr is not.
    pub(super) fn has_hook(&self) -> bool {
        self.settings.on_fault.is_some()
    }

    /// What is known of a job that is not over, or is still kept.
    pub(super) fn get(&self, id: JobId) -> Option<Info> {
        self.forget_old(self.now());
        self.info(self.find(id)?)
    }

    pub(super) fn info(&self, job: JobRef) -> Option<Info> {
        let now = self.recent();
        self.with(job, |row| row.info(now, &self.lanes[row.lane as usize]))
    }

    pub(super) fn list(&self) -> Vec<Info> {
        self.forget_old(self.now());
        let now = self.recent();
        let rows = self.rows.borrow();
        let mut all: Vec<_> = rows.iter().map(|(_, row)| row.info(now, &self.lanes[row.lane as usize])).collect();
        all.sort_unstable_by_key(|info| info.id);
        all
    }

    pub(super) fn stats(&self) -> Stats {
        let mut lanes: Vec<LaneStats> = self.lanes.iter().map(LaneBooks::stats).collect();
        let now = self.now();
        for (_, row) in self.rows.borrow().iter().filter(|(_, row)| !row.status.is_final()) {
            let age = Some(Duration::from_micros(now.saturating_sub(row.added)));
            let oldest = &mut lanes[row.lane as usize].oldest;
            *oldest = (*oldest).max(age);
        }
        Stats { lanes }
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.get()
    }

    pub(super) fn ended(&self) -> u64 {
        self.ended.get()
    }

    // -- cancelling and stopping

    /// Cancels a job. True if it was not over.
    pub(super) fn cancel(&self, id: JobId) -> bool {
        let Some(job) = self.find(id) else { return false };
        let found = self.with(job, |row| {
            if row.status.is_final() {
                return None;
            }
            row.cancelled = true;
            if let Some(shared) = row.extra.as_ref().and_then(|extra| extra.shared.as_ref()) {
                shared.cancel();
            }
            Some(row.work.runner())
        });
        match found.flatten() {
            None => false,
            Some(Some(runner)) => {
                self.wake(runner);
                true
            }
            // Nothing has begun: it ends here, and its group passes it over.
            Some(None) => {
                self.end(job, Status::Cancelled, None);
                true
            }
        }
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

    /// Ends a job that the end of the queue cuts off, and keeps what the report says of it.
    pub(super) fn cut(&self, job: JobRef) {
        let info = self.info(job).filter(|info| !info.status.is_final());
        if let Some(info) = info {
            self.unfinished.borrow_mut().push(info);
            self.end(job, Status::Unfinished, None);
        }
    }

    // -- pressure

    /// So many jobs are ready in place of so many.
    pub(super) fn count_ready(&self, before: usize, now: usize) {
        self.ready.set(self.ready.get() + now - before);
        if now >= before {
            return;
        }
        if self.ready.get() == 0 {
            self.room.notify_waiters();
        } else if !self.is_busy() {
            self.room.notify_one();
        }
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.get()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.ready.get() > self.settings.pending / 2
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.pending.get() > self.settings.pending / 2
    }

    pub(super) async fn room(&self) {
        let mut has_waited = false;
        while self.is_busy() {
            has_waited = true;
            self.room.notified().await;
        }
        if has_waited {
            // There may be room for the next as well: it looks for itself.
            self.room.notify_one();
        }
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

    /// The lane of this name and kind.
    pub(super) fn find_lane(&self, name: &'static str, kind: Kind) -> Result<u8, AddError> {
        match self.lanes.iter().position(|lane| lane.name == name) {
            None => Err(AddError::Lane { lane: name, takes: None }),
            Some(place) if self.lanes[place].kind == kind => Ok(place as u8),
            Some(place) => Err(AddError::Lane { lane: name, takes: Some(self.lanes[place].kind.call()) }),
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

impl Row {
    /// Whether no try has begun. (A plain job has one try, and does not count it.)
    fn is_fresh(&self) -> bool {
        self.status == Status::Waiting && self.extra.as_ref().is_none_or(|extra| extra.attempt == 0)
    }

    fn name(&self) -> Cow<'static, str> {
        match self.extra.as_ref().and_then(|extra| extra.name.clone()) {
            Some(name) => name,
            None => Cow::Owned(format!("{}:{}", self.location.file(), self.location.line())),
        }
    }

    #[inline]
    fn begin(&mut self, now: u64, lane: &LaneBooks) {
        let waited = now.saturating_sub(self.added);
        let attempt = self.extra.as_mut().map_or(1, |extra| {
            extra.attempt += 1;
            extra.began = now;
            extra.attempt
        });
        if attempt == 1 {
            self.waited = u32::try_from(waited).unwrap_or(u32::MAX);
        }
        self.status = Status::Running;
        lane.begin(waited, attempt == 1);
    }

    /// When its last try began.
    fn began(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.began).max(self.added + u64::from(self.waited))
    }

    fn info(&self, now: u64, lane: &LaneBooks) -> Info {
        let extra = self.extra.as_deref();
        let waited = if self.is_fresh() { now.saturating_sub(self.added) } else { u64::from(self.waited) };
        let (label, group) = match (&self.group, extra.and_then(|extra| extra.followed.clone())) {
            (Some(group), _) => (group.label(), group.number),
            (None, followed) => followed.unwrap_or_default(),
        };
        let ran = match (self.status, &self.work) {
            (Status::Running, _) => now.saturating_sub(self.began()),
            (Status::Waiting, _) | (_, Slot::Future(_)) => 0,
            (_, Slot::Number(ran)) => *ran,
        };
        Info {
            id: self.id,
            name: self.name(),
            lane: lane.name,
            status: self.status,
            attempt: extra
                .map_or(u32::from(self.status != Status::Waiting && self.status != Status::Skipped), |extra| {
                    extra.attempt
                }),
            progress: extra.and_then(|extra| extra.shared.as_ref()?.progress()),
            age: Duration::from_micros(now.saturating_sub(self.added)),
            waited: Duration::from_micros(waited),
            ran: Duration::from_micros(ran),
            label,
            group,
            fault: extra.and_then(|extra| extra.fault.clone()),
            location: self.location,
        }
    }
}

/// The text of a fault: that of an error is the user's code.
fn text_of(fault: &Fault) -> String {
    caught::call(|| fault.to_string()).unwrap_or_else(|payload| {
        let text = format!("an error whose text panicked: {}", panic_text(&payload));
        drop_payload(payload);
        text
    })
}

fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_row_takes_64_bytes() {
        assert_eq!(size_of::<super::Row>(), 64);
    }
}
