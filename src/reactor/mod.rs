//! The reactor: polls the operating system for ready descriptors, and remembers the readiness.
//!
//! Every registered descriptor has a [`Source`] in a slab. Its token in the selector is the slab
//! index and a generation, so an event for a descriptor closed meanwhile finds another generation
//! and is dropped. The selector is edge-triggered: it reports once that a socket became readable,
//! and the source remembers that until a read would block. An operation registers its descriptor
//! only when it would block for the first time.
//!
//! ```text
//!     source.rs    one descriptor: its readiness and its waiters
//!     mod.rs       all descriptors, and the call that polls the system
//! ```
//!
//! # Invariants
//!
//! - No waker is called here, and no user's waker dropped: `poll`, `deregister` and `clear` hand
//!   them to the caller.
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

/// Events taken from the system at a time: enough that a busy server polls once per hundreds of
/// events, small enough (12 KiB) for runtimes that are created often.
const EVENTS_PER_POLL: usize = 1024;

/// The token of the wake-up call. No source has it: its index would be beyond any slab.
const WAKE: Token = Token(usize::MAX);

/// The key of a source: its index in the slab, and a generation that tells tenants apart.
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
    /// The number of sources when memory was last given back.
    shrunk_to: usize,
    /// The generation of the next source to be registered.
    next_generation: u32,
}

struct SourceEntry {
    generation: u32,
    fd: RawFd,
    source: Source,
}

impl Reactor {
    /// A reactor, a second handle to its selector, and the waker that ends its sleep.
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

    /// Adds a descriptor. The next poll reports its current readiness.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the descriptor is registered already; that registration stays as it is.
    pub(crate) fn register(&mut self, fd: RawFd) -> Result<SourceKey> {
        // Every event: a source is registered once, for both directions. Priority makes urgent data
        // visible.
        let interest = Interest::READABLE | Interest::WRITABLE;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let interest = interest | Interest::PRIORITY;
        let entry = self.sources.vacant_entry();
        let key = SourceKey { slot: entry.key() as u32, generation: self.next_generation };
        self.poll.registry().register(&mut SourceFd(&fd), key.token(), interest)?;
        self.next_generation = self.next_generation.wrapping_add(1);
        entry.insert(SourceEntry { generation: key.generation, fd, source: Source::default() });
        Ok(key)
    }

    /// Removes a descriptor, which must still be open, and returns the wakers of its waiters.
    pub(crate) fn deregister(&mut self, key: SourceKey) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if self.source(key).is_some() {
            let mut entry = self.sources.remove(key.slot as usize);
            // Fails if the user closed the descriptor behind our back: the system has removed it
            // then.
            let _closed = self.poll.registry().deregister(&mut SourceFd(&entry.fd));
            entry.source.take_all(&mut wakers);
        }
        wakers
    }

    pub(crate) fn source(&mut self, key: SourceKey) -> Option<&mut Source> {
        let entry = self.sources.get_mut(key.slot as usize)?;
        (entry.generation == key.generation).then_some(&mut entry.source)
    }

    /// Polls the system for events, waits at most `timeout`, and appends the wakers of their
    /// waiters to `woken`. Returns the number of events.
    pub(crate) fn poll(&mut self, timeout: Option<Duration>, woken: &mut Vec<Waker>) -> Result<usize> {
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            // A signal ends the wait like an event: epoll_wait(2), EINTR.
            return if error.kind() == std::io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
        }
        let mut count = 0;
        for event in self.events.iter().filter(|event| event.token() != WAKE) {
            count += 1;
            let key = SourceKey::from_token(event.token());
            if let Some(entry) = self.sources.get_mut(key.slot as usize) {
                if entry.generation == key.generation {
                    entry.source.on_event(event, woken);
                }
            }
        }
        Ok(count)
    }

    /// Gives back the memory of a burst of sources. Called when the loop is idle.
    pub(crate) fn shrink(&mut self) {
        slabs::shrink(&mut self.sources, &mut self.shrunk_to);
    }

    /// Whether no source is registered, so that the system has no event to report.
    pub(crate) fn is_idle(&self) -> bool {
        self.sources.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    /// Removes every source, for the end of the runtime, and returns the wakers of their waiters.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for mut entry in self.sources.drain() {
            let _closed = self.poll.registry().deregister(&mut SourceFd(&entry.fd));
            entry.source.take_all(&mut wakers);
        }
        wakers
    }
}
