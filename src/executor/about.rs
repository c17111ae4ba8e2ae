//! The cold facts of a task: its name, its spawn site, and its joiner.
//!
//! No wake and no poll needs them, so they stand outside the slot. Most tasks have no name, and a
//! program spawns from few places, so a task usually stores only the number of its spawn site.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::panic::Location;

use super::id::TaskId;
use super::queue::WakeTarget;

/// The number, name and spawn site of a task: see [`task::current`](crate::task::current).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let task = postlude::spawn(async { postlude::task::current().unwrap() });
///     let id = task.id();
///     let current = task.await.unwrap();
///     assert_eq!((current.id, current.name), (id, None));
///     assert_eq!(current.location.unwrap().file(), file!());
/// })
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Current {
    /// The task's number.
    pub id: TaskId,
    /// The task's name, if it has one.
    pub name: Option<Box<str>>,
    /// The place that spawned the task; `None` for the future given to `block_on`.
    pub location: Option<&'static Location<'static>>,
}

impl fmt::Display for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " `{name}`")?;
        }
        match self.location {
            Some(location) => write!(f, " (spawned at {location})"),
            None => f.write_str(" (the future given to `block_on`)"),
        }
    }
}

/// The index of a task's cold facts: a site shared with all tasks spawned there, a record of its
/// own, or a member's record.
#[derive(Clone, Copy)]
pub(super) struct About(pub(super) u32);

impl About {
    const RECORD: u32 = 1 << 31;
    const MEMBER: u32 = 1 << 30;
    pub(super) const NOTHING: Self = Self(0);

    pub(super) fn of_record(index: usize) -> Self {
        Self(Self::RECORD | index as u32)
    }

    pub(super) fn of_member(index: usize) -> Self {
        Self(Self::MEMBER | index as u32)
    }

    pub(super) fn record(self) -> Option<usize> {
        (self.0 & Self::RECORD != 0).then_some((self.0 & !Self::RECORD) as usize)
    }

    pub(super) fn member(self) -> Option<usize> {
        (self.0 & Self::MEMBER != 0).then_some((self.0 & !Self::MEMBER) as usize)
    }

    /// Only for an index that is neither a record nor a member.
    pub(super) fn site_number(self) -> u32 {
        self.0
    }
}

/// The cold facts of a task that has a name or a joiner.
pub(super) struct Record {
    pub(super) site: u32,
    /// Its index among the names, or `NONE`.
    pub(super) name: u32,
    pub(super) joiner: Option<WakeTarget>,
}

/// The cold facts of a scope's member: one of its children, or its body.
pub(super) struct Member {
    /// The number of its spawn site plus one, so that an unused slab entry needs no tag.
    pub(super) site: NonZeroU32,
    /// Its index among the scope's children, or `BODY`.
    pub(super) index: u32,
    /// Its index among the names, or `NONE`.
    pub(super) name: u32,
}

impl Member {
    pub(super) fn site(&self) -> u32 {
        self.site.get() - 1
    }
}

/// The sites tasks are spawned from, in order of first use. A program has few, so they stay for
/// good.
#[derive(Default)]
pub(super) struct Sites {
    all: Vec<&'static Location<'static>>,
    numbers: HashMap<usize, u32>,
    /// Direct-mapped cache in front of `numbers`, which spares most spawns a hash.
    recent: [u32; Self::RECENT],
}

impl Sites {
    const RECENT: usize = 32;

    pub(super) fn location(&self, number: u32) -> &'static Location<'static> {
        self.all[number as usize]
    }

    pub(super) fn number(&mut self, location: &'static Location<'static>) -> u32 {
        let address = std::ptr::from_ref(location) as usize;
        let recent = self.recent[address / align_of::<Location<'_>>() % Self::RECENT];
        match self.all.get(recent as usize) {
            Some(known) if std::ptr::eq(*known, location) => recent,
            _ => self.look_up(address, location),
        }
    }

    #[cold]
    fn look_up(&mut self, address: usize, location: &'static Location<'static>) -> u32 {
        let all = &mut self.all;
        let number = *self.numbers.entry(address).or_insert_with(|| {
            all.push(location);
            all.len() as u32 - 1
        });
        self.recent[address / align_of::<Location<'_>>() % Self::RECENT] = number;
        number
    }
}
