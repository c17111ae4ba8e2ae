//! The inbox: how everything outside the loop's thread reaches the loop.
//!
//! A message is sent through an unbounded channel. Most of the time that is all: a loop that is running looks into its inbox once a
//! turn. Only a loop that sleeps must be woken, and that costs a system call, so it says when it is about to sleep by arming a
//! flag, and the first sender to disarm it makes the call:
//!
//! ```text
//!     sender                         loop, before it sleeps
//!     push the message               arm the flag
//!     note that there is mail        fence
//!     fence                          if there is no mail: sleep
//!     if the flag was armed:         disarm the flag
//!         disarm it, wake the loop
//! ```
//!
//! Either the sender sees the flag or the loop sees the note; the two fences forbid that neither does. The note is there because an
//! empty channel costs a fence to look into, and a loop looks every turn. However many threads send,
//! there is at most one wake-up call per sleep, and none while the loop is awake.
//!
//! A waker names its runtime by number only, so a process-wide registry leads from the number to the inbox. Numbers are reused, oldest
//! first, and the next runtime of a number continues with the generations of the one before, so what is left of the old one's wakers
//! misses. Everything else that can outlive a runtime ([`Home`]) carries the serial too, which is never reused.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use super::hooks::TaskEnd;
use crate::executor::about::Current;
use crate::executor::error::JoinError;
use crate::executor::id::{MAX_RUNTIMES, RUNTIME_BITS, TaskId, TaskKey};
use crate::executor::queue::QueueId;
use crate::reactor;
use crate::timer::wheel;

/// What other threads ask of a loop.
pub(crate) enum Message {
    Wake(TaskKey),
    Abort(TaskKey),
    /// A `JoinHandle` was dropped.
    Detach(TaskKey),
    /// A scope was dropped between turns: its group, the slots of its members, and how its children
    /// ended.
    EndScope(QueueId, Vec<TaskKey>, Vec<(TaskId, TaskEnd)>),
    /// Spawns a task: called on the loop, with its runtime current.
    Spawn(Box<dyn FnOnce() + Send>),
    CancelTimer(wheel::TimerKey),
    /// A registered socket was dropped elsewhere: it is deregistered here, and closed by its drop.
    Close(reactor::SourceKey, Box<dyn Send>),
    /// The panic of a task whose `RemoteHandle` was dropped without having asked for it.
    Panicked(Option<Current>, JoinError),
    /// A blocking job has ended; the task awaits it.
    JobEnded(TaskKey),
}

/// The outside of an inbox, one per runtime.
pub(crate) struct Outside {
    sender: Sender<Message>,
    /// Something was sent since the loop last began to look. Set by senders after the push, reset by the loop before it takes.
    mail: AtomicBool,
    /// The loop sleeps, or is about to.
    armed: AtomicBool,
    waker: mio::Waker,
    serial: u64,
    /// Live `Handle`s: as long as there is one, work can still arrive.
    pub(crate) handles: AtomicUsize,
    /// Wake-up calls made.
    pub(crate) writes: AtomicU64,
    /// A wake-up call failed, so the loop must look by itself.
    pub(crate) broken: AtomicBool,
}

impl Outside {
    /// Sends a message and wakes the loop if it sleeps. Gives the message back if the loop has ended.
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        self.sender.send(message).map_err(|refused| refused.0)?;
        self.mail.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Relaxed) {
            self.wake_loop();
        }
        Ok(())
    }

    fn wake_loop(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.waker.wake() {
            if !self.broken.swap(true, Ordering::SeqCst) {
                eprintln!(
                    "postlude: cannot wake a sleeping loop: {error}; from now on it looks into its inbox by itself"
                );
            }
        }
    }
}

/// The loop's end of an inbox.
pub(crate) struct Inbox {
    receiver: Receiver<Message>,
    pub(crate) outside: Arc<Outside>,
}

impl Inbox {
    pub(crate) fn new(waker: mio::Waker, serial: u64) -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let outside = Outside {
            sender,
            mail: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            waker,
            serial,
            handles: AtomicUsize::new(0),
            writes: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        };
        Self { receiver, outside: Arc::new(outside) }
    }

    pub(crate) fn take(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// Whether something may have arrived since `open`.
    pub(crate) fn has_mail(&self) -> bool {
        self.outside.mail.load(Ordering::Acquire)
    }

    /// To be called before taking: what is sent from now on is noted anew.
    pub(crate) fn open(&self) {
        self.outside.mail.store(false, Ordering::Relaxed);
        // The note must be gone before the channel is found empty, or one set in between would be lost.
        fence(Ordering::SeqCst);
    }

    /// To be called after taking, if something may be left.
    pub(crate) fn leave_rest(&self) {
        self.outside.mail.store(true, Ordering::Relaxed);
    }

    /// Announces that the loop is about to sleep. True if it may: nothing has arrived.
    pub(crate) fn arm(&self) -> bool {
        self.outside.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        !self.has_mail()
    }

    pub(crate) fn disarm(&self) {
        self.outside.armed.store(false, Ordering::Relaxed);
    }

    /// Leaves the inbox armed for a pause between turns; what is in it already makes the descriptor readable.
    pub(crate) fn arm_for_pause(&self) {
        if !self.arm() && self.outside.armed.swap(false, Ordering::Relaxed) {
            self.outside.wake_loop();
        }
    }
}

/// Bits of a runtime's serial: one runtime made every microsecond would use them up in 140 years.
const SERIAL_BITS: u32 = u64::BITS - RUNTIME_BITS;

/// Which runtime a handle, a timer or a socket belongs to.
///
/// The number its wakers carry in the same bits as they do, and its serial, which is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(u64);

impl Home {
    fn new(number: u16, serial: u64) -> Self {
        Self(u64::from(number) << SERIAL_BITS | serial)
    }

    /// What wakers name it by.
    pub(crate) const fn number(self) -> u16 {
        (self.0 >> SERIAL_BITS) as u16
    }

    fn outside(self) -> Option<Arc<Outside>> {
        find(self.number()).filter(|outside| outside.serial == self.0 & !(u64::MAX << SERIAL_BITS))
    }

    pub(crate) fn is_alive(self) -> bool {
        self.outside().is_some()
    }

    /// Sends a message home; if the runtime is gone, drops it here.
    pub(crate) fn send(self, message: Message) {
        if let Some(outside) = self.outside() {
            drop(outside.send(message));
        }
    }
}

/// Sends a message to whichever runtime has this number now, if any.
#[inline(never)] // keeps the common path short
pub(crate) fn send_to(number: u16, message: Message) {
    if let Some(outside) = find(number) {
        drop(outside.send(message));
    }
}

/// The runtimes of this process, by number.
struct Registry {
    live: Vec<Option<Arc<Outside>>>,
    /// Generation with which the next runtime of a number begins.
    generations: Vec<u32>,
    /// Numbers in use before, oldest first. Numbers at `live.len()` and above were never used.
    free: VecDeque<u16>,
    next_serial: u64,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { live: Vec::new(), generations: Vec::new(), free: VecDeque::new(), next_serial: 1 });

/// The registry. No user code runs while it is locked, so it is never poisoned by one.
fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(number: u16) -> Option<Arc<Outside>> {
    registry().live.get(number as usize)?.clone()
}

/// Registers a runtime: its home, its inbox, and the first generation of its slots.
pub(crate) fn register(waker: mio::Waker) -> io::Result<(Home, Inbox, u32)> {
    let mut registry = registry();
    let number = if registry.live.len() < MAX_RUNTIMES as usize {
        registry.live.push(None);
        registry.generations.push(0);
        registry.live.len() as u16 - 1
    } else {
        registry.free.pop_front().ok_or_else(|| {
            io::Error::other(format!("{MAX_RUNTIMES} runtimes are alive; drop one before making another"))
        })?
    };
    let serial = registry.next_serial;
    registry.next_serial += 1;
    let inbox = Inbox::new(waker, serial);
    registry.live[number as usize] = Some(Arc::clone(&inbox.outside));
    Ok((Home::new(number, serial), inbox, registry.generations[number as usize]))
}

/// Takes a runtime out of the registry: from now on wakes and messages from elsewhere miss.
pub(crate) fn deregister(home: Home, next_generation: u32) {
    let mut registry = registry();
    let outside = registry.live[home.number() as usize].take();
    registry.generations[home.number() as usize] = next_generation;
    registry.free.push_back(home.number());
    drop(registry);
    drop(outside);
}
