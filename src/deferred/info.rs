//! What the books say of a job: [`Info`], the one record, and the figures of a whole lane.
//!
//! An event, a row of a list, the answer of a status route and a line of a report are the same
//! record. It is made when it is asked for; the books keep less.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::id::JobId;

/// Where a job is in its life.
///
/// `Waiting` and `Running` change; the others are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Accepted, and not begun: behind others of its group, or waiting for the gate of its group,
    /// for room in its lane, for its delay, its next try, or a job with the same key.
    Waiting,
    /// It is being worked on. A job of a thread lane runs until its thread lets go of it.
    Running,
    /// Its last try succeeded.
    Done,
    /// Its last try gave an error, panicked, or took too long.
    Failed,
    /// It was not run: its condition did not hold, or a job before it failed in a group that stops
    /// on errors.
    Skipped,
    /// It was cancelled by its id.
    Cancelled,
    /// The queue ended before the job did.
    Unfinished,
}

impl Status {
    /// Whether the job is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }

    /// Whether the job did not do what it was accepted for, and was not cancelled.
    pub(super) const fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Skipped | Self::Unfinished)
    }

    /// The name in lower case, as status routes give it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Unfinished => "unfinished",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the work that a group follows has ended. It opens the group's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// An answer was given, and handed to the operating system to its last byte.
    Delivered,
    /// An answer was given, but could not be written to its end.
    Aborted,
    /// There was no answer but an error, with this status.
    Failed(u16),
}

impl Outcome {
    /// Whether there was an answer, delivered or not.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("the answer was delivered"),
            Self::Aborted => f.write_str("the answer could not be written"),
            Self::Failed(status) => write!(f, "the handler failed with {status}"),
        }
    }
}

/// What went wrong with a job, or why it was not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// It returned this error.
    Error(Box<dyn Error>),
    /// It panicked with this text.
    Panic(String),
    /// It took longer than its timeout.
    TimedOut {
        /// Its timeout.
        limit: Duration,
        /// How long the try took. A job of a thread lane is noticed only when its thread lets go.
        elapsed: Duration,
    },
    /// Its group ended in a way that its condition excludes.
    Condition(Outcome),
    /// The job of this name failed before it, in a group that stops on errors.
    After(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panic(text) => write!(f, "panicked: {text}"),
            Self::TimedOut { limit, elapsed } => {
                write!(f, "took longer than its {limit:?}: stopped after {elapsed:.1?}")
            }
            Self::Condition(outcome) => outcome.fmt(f),
            Self::After(name) => write!(f, "'{name}' failed before it"),
        }
    }
}

/// Everything the books say of a job at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Info {
    /// The job's id.
    pub id: JobId,
    /// Its name; without one, the file and line that added it.
    pub name: Cow<'static, str>,
    /// The name of its lane.
    pub lane: &'static str,
    /// Where it is in its life.
    pub status: Status,
    /// The number of the try that runs or ran last, from 1; 0 before the first.
    pub attempt: u32,
    /// The last progress it told of: so many of so many.
    pub progress: Option<(u64, u64)>,
    /// How long ago it was accepted.
    pub age: Duration,
    /// How long it has waited, until it began if it has: then 71 minutes stand for any longer time.
    pub waited: Duration,
    /// How long it has run, up to its end if it has ended. With several tries, the last one.
    pub ran: Duration,
    /// What its group follows, such as a request's method and target; empty without a group.
    pub label: String,
    /// The number of its group: that of the request, for background tasks. 0 without a group.
    pub group: u64,
    /// The last error, or the reason why it was not run.
    pub fault: Option<String>,
    /// The call that added it.
    pub location: &'static Location<'static>,
}

#[cfg(feature = "http")]
impl serde::Serialize for Info {
    /// Times are in seconds, and progress is `{"done": 3, "of": 10}` or null.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        struct Progress(u64, u64);
        impl serde::Serialize for Progress {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map([("done", self.0), ("of", self.1)])
            }
        }
        let mut row = serializer.serialize_struct("Info", 10)?;
        row.serialize_field("id", &self.id)?;
        row.serialize_field("name", &self.name)?;
        row.serialize_field("lane", self.lane)?;
        row.serialize_field("status", self.status.name())?;
        row.serialize_field("attempt", &self.attempt)?;
        row.serialize_field("progress", &self.progress.map(|(done, of)| Progress(done, of)))?;
        row.serialize_field("age", &self.age.as_secs_f64())?;
        row.serialize_field("waited", &self.waited.as_secs_f64())?;
        row.serialize_field("ran", &self.ran.as_secs_f64())?;
        row.serialize_field("fault", &self.fault)?;
        row.end()
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, status, label, group, .. } = self;
        match status {
            Status::Skipped => write!(f, "background task '{name}' not run")?,
            _ => write!(f, "background task '{name}' {status}")?,
        }
        if let Some(fault) = &self.fault {
            write!(f, ": {fault}")?;
        }
        if !label.is_empty() {
            write!(f, " ({label}, request {group})")?;
        }
        Ok(())
    }
}

/// How often something took how long, in powers of two of a microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Histogram {
    /// `buckets[n]` counts what took less than 2ⁿ µs and not less than the bucket before. The last
    /// one also counts everything longer.
    pub buckets: [u64; 32],
    /// How long all of them took together.
    micros: u64,
}

impl Histogram {
    pub(super) fn note(&mut self, micros: u64) {
        let bucket = (u64::BITS - micros.leading_zeros()).min(31);
        self.buckets[bucket as usize] += 1;
        self.micros = self.micros.saturating_add(micros);
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(other.buckets) {
            *count += more;
        }
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How long all of them took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.micros)
    }

    /// A bound that the given share of them, such as 0.99, stayed below: up to twice as long as the
    /// longest of these, and [`Duration::MAX`] beyond 18 minutes. `None` if there were none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = ((self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let last = self.buckets.len() - 1;
        bucket.map(|bucket| if bucket == last { Duration::MAX } else { Duration::from_micros(1 << bucket) })
    }
}

/// The books of one lane.
///
/// At any moment `accepted` is the sum of `waiting`, `running`, `done`, `failed`, `skipped`,
/// `cancelled` and `unfinished`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LaneStats {
    /// The lane's name.
    pub lane: &'static str,
    /// Jobs accepted since the queue was made.
    pub accepted: u64,
    /// Jobs that have not begun.
    pub waiting: u64,
    /// Jobs that run.
    pub running: u64,
    /// Jobs that succeeded.
    pub done: u64,
    /// Jobs whose last try failed.
    pub failed: u64,
    /// Jobs that were not run.
    pub skipped: u64,
    /// Jobs cancelled by their id.
    pub cancelled: u64,
    /// Jobs that the end of the queue cut off.
    pub unfinished: u64,
    /// The age of the oldest job that is not over.
    pub oldest: Option<Duration>,
    /// How long jobs waited before they began.
    pub wait: Histogram,
    /// How long jobs ran. With several tries, the last one.
    pub run: Histogram,
}

/// The books of a queue: see [`Queue::stats`](super::Queue::stats).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The lanes, in the order in which they were given; the loop's own comes first.
    pub lanes: Vec<LaneStats>,
}

impl Stats {
    /// The sum of all lanes.
    #[must_use]
    pub fn total(&self) -> LaneStats {
        let mut total = LaneStats::default();
        for lane in &self.lanes {
            total.accepted += lane.accepted;
            total.waiting += lane.waiting;
            total.running += lane.running;
            total.done += lane.done;
            total.failed += lane.failed;
            total.skipped += lane.skipped;
            total.cancelled += lane.cancelled;
            total.unfinished += lane.unfinished;
            total.oldest = total.oldest.max(lane.oldest);
            total.wait.add(&lane.wait);
            total.run.add(&lane.run);
        }
        total
    }
}

/// What a queue's end did not wait for: see [`Queue::drain`](super::Queue::drain).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The jobs that were cut off, oldest first. The thread of a job of a thread lane that
    /// [`Running`](Status::Running) names may still be at work.
    pub unfinished: Vec<Info>,
    /// Jobs that ended while the queue drained.
    pub ended: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.unfinished.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} background task{plural} unfinished")?;
        for job in &self.unfinished {
            let Info { name, status, age, .. } = job;
            write!(f, "\n  '{name}', {status}, {:.1} s old", age.as_secs_f64())?;
            if !job.label.is_empty() {
                write!(f, " ({}, request {})", job.label, job.group)?;
            }
        }
        Ok(())
    }
}

/// The refusal of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddError {
    /// As many jobs as this limit allows are waiting already.
    Full(Limit),
    /// The queue has ended its drain and begins nothing new.
    ShuttingDown,
    /// The group has ended: its gate has opened and its last job is over.
    Closed,
    /// The lane does not exist, or does another kind of work.
    Lane {
        /// The lane that was asked for.
        lane: &'static str,
        /// The call that the lane takes its jobs from; `None` if the queue has no such lane.
        takes: Option<&'static str>,
    },
}

/// The limits of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`QueueBuilder::pending`](super::QueueBuilder::pending).
    Queue,
    /// [`Lane::waiting`](super::Lane::waiting) of the lane.
    Lane,
    /// [`QueueBuilder::per_group`](super::QueueBuilder::per_group).
    Group,
    /// [`QueueBuilder::per_share`](super::QueueBuilder::per_share).
    Share,
}

impl AddError {
    /// Whether the same job may be accepted later.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Full(_) | Self::ShuttingDown)
    }
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(Limit::Queue) => f.write_str("too many background tasks are waiting; try again later"),
            Self::Full(Limit::Lane) => f.write_str("too many background tasks wait for this lane; try again later"),
            Self::Full(Limit::Group) => f.write_str("this request has too many background tasks; add fewer"),
            Self::Full(Limit::Share) => {
                f.write_str("this client's share of the background tasks is used up; try again when some are over")
            }
            Self::ShuttingDown => f.write_str("the server is shutting down and takes no more background tasks"),
            Self::Closed => {
                f.write_str("the request's background tasks have ended; add before the answer, or from one of them")
            }
            Self::Lane { lane, takes: None } => {
                write!(f, "the queue has no lane `{lane}`; add it with `QueueBuilder::lane`")
            }
            Self::Lane { lane, takes: Some(call) } => {
                write!(f, "the lane `{lane}` takes another kind of work; add to it with `{call}`")
            }
        }
    }
}

impl Error for AddError {}
