//! The reactor: asks the operating system which descriptors are ready, and remembers the answers.
//!
//! Every descriptor somebody waited for has a [`Source`] in a slab, and its token in the selector is that place and a generation, so
//! an event for a descriptor that was closed meanwhile finds another generation and is dropped. The selector reports edges: it says once
//! that a socket became readable, and we remember it until a read says "would block". So the usual order is not "ask, then
//! read" but "read, and only if that fails, register and wait"; a socket whose reads always succeed is never registered.
//!
//! ```text
//!     source.rs    one descriptor: what it is ready for, who waits
//!     mod.rs       all of them, and the call that fills them in
//! ```
//!
//! # Invariants
//!
//! - Nothing here calls a waker or drops one of the user's: `poll`, `deregister` and `clear` hand them to the caller.
//! - A source is deregistered before its descriptor is closed.

pub(crate) mod source;

use std::io::Result;
use std::os::fd::RawFd;
use std::task::Waker;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

use crate::slabs;
pub(crate) use source::{Direction, Source};

/// Events taken from the system at a time: enough that a busy server asks once per hundreds of events, small enough (12 KiB) for a
/// runtime that is created often.
const EVENTS_PER_POLL: usize = 1024;

/// The token of the call that wakes the loop. No source has it: its place would be beyond any slab.
const WAKE: Token = Token(usize::MAX);

/// A source: its place in the slab, and which of the place's tenants it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceKey {
    slot: u32,
    generation: u32,
}

impl SourceKey {
    fn token(self) -> Token {
        Token((self.generation as usize) << 32 | self.slot as usize)
    }

    fn from_token(token: Token) -> Self {
        Self { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

pub(crate) struct Reactor {
    poll: Poll,
    events: Events,
    sources: Slab<SourceEntry>,
    /// How many sources were left when memory was last given back.
    shrunk_to: usize,
    /// Stamped on each source when it is registered.
    next_generation: u32,
}

struct SourceEntry {
    generation: u32,
    fd: RawFd,
    source: Source,
}

impl Reactor {
    /// A reactor, a second handle of its selector, and the waker that ends its sleep.
    pub(crate) fn new() -> Result<(Self, Registry, mio::Waker)> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(poll.registry(), WAKE)?;
        let reactor = Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            sources: Slab::new(),
            shrunk_to: 0,
            next_generation: 0,
        };
        Ok((reactor, registry, waker))
    }

    /// Adds a descriptor. The selector reports what it is ready for already with the next poll.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the descriptor is registered; the first registration stays as it is.
    pub(crate) fn register(&mut self, fd: RawFd) -> Result<SourceKey> {
        let entry = self.sources.vacant_entry();
        let key = SourceKey { slot: entry.key() as u32, generation: self.next_generation };
        self.poll.registry().register(&mut SourceFd(&fd), key.token(), interest())?;
        self.next_generation = self.next_generation.wrapping_add(1);
        entry.insert(SourceEntry { generation: key.generation, fd, source: Source::default() });
        Ok(key)
    }

    /// Removes a descriptor, which must still be open, and hands out those who waited for it.
    pub(crate) fn deregister(&mut self, key: SourceKey) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if self.source(key).is_some() {
            let mut entry = self.sources.remove(key.slot as usize);
            // Fails if the user has closed the descriptor behind our back; then the system has removed it already.
            let _closed = self.poll.registry().deregister(&mut SourceFd(&entry.fd));
            entry.source.take_all(&mut wakers);
        }
        wakers
    }

    pub(crate) fn source(&mut self, key: SourceKey) -> Option<&mut Source> {
        let entry = self.sources.get_mut(key.slot as usize)?;
        (entry.generation == key.generation).then_some(&mut entry.source)
    }

    /// Asks the system for events, at most `timeout`, and appends the wakers of those who waited for them. Says how many there were.
    pub(crate) fn poll(&mut self, timeout: Option<Duration>, woken: &mut Vec<Waker>) -> Result<usize> {
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            // A signal is as good a reason to look around as an event: epoll_wait(2), EINTR.
            return if error.kind() == std::io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
        }
        let mut count = 0;
        for event in self.events.iter().filter(|event| event.token() != WAKE) {
            count += 1;
            let key = SourceKey::from_token(event.token());
            if let Some(entry) = self.sources.get_mut(key.slot as usize) {
                if entry.generation == key.generation {
                    entry.source.happened(event, woken);
                }
            }
        }
        Ok(count)
    }

    /// Gives memory back that a burst of sources has left. Called when there is nothing else to do.
    pub(crate) fn shrink(&mut self) {
        slabs::shrink(&mut self.sources, &mut self.shrunk_to);
    }

    /// Whether no source is registered, so that the system has nothing to tell.
    pub(crate) fn is_idle(&self) -> bool {
        self.sources.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    /// Removes every source, for the end of the runtime, and hands out those who waited.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for mut entry in self.sources.drain() {
            let _closed = self.poll.registry().deregister(&mut SourceFd(&entry.fd));
            entry.source.take_all(&mut wakers);
        }
        wakers
    }
}

/// Everything: a source is registered once, for both directions. Priority is asked for so that urgent data shows as such.
fn interest() -> Interest {
    let both = Interest::READABLE | Interest::WRITABLE;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let both = both | Interest::PRIORITY;
    both
}
