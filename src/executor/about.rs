//! What is known of a task besides its state: its name, and where it was spawned.
//!
//! A wake or a poll needs none of it, so it stands outside the slot. Most tasks have no name, and a program spawns from few places, so a
//! task usually keeps the number of its place and nothing else.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;

use super::id::TaskId;

/// What a task knows of itself: see [`task::current`](crate::task::current).
#[derive(Clone, Debug)]
pub struct Current {
    pub(crate) id: TaskId,
    pub(crate) name: Option<Box<str>>,
    /// `None` for the future given to `block_on`.
    pub(crate) location: Option<&'static Location<'static>>,
}

impl Current {
    /// Its number.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let task = postlude::spawn(async { postlude::task::current().unwrap().id() });
    ///     let id = task.id();
    ///     assert_eq!(task.await.unwrap(), id);
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Its name, if it was given one.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async { assert_eq!(postlude::task::current().unwrap().name(), None) })
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it was spawned; `None` for the future given to `block_on`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let place = postlude::spawn(async { postlude::task::current().unwrap().location() });
    ///     assert_eq!(place.await.unwrap().unwrap().file(), file!());
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.location
    }
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

/// The places tasks are spawned from, numbered as they are met. A program has few, so they stay for good.
#[derive(Default)]
pub(super) struct Sites {
    pub(super) all: Vec<&'static Location<'static>>,
    numbers: HashMap<usize, u32>,
    /// Direct-mapped cache in front of `numbers`: a hash would cost a third of a spawn.
    recent: [u32; Self::RECENT],
}

impl Sites {
    const RECENT: usize = 32;

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
