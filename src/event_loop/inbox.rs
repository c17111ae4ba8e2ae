//! The inbox: messages to the loop from other threads, and from this thread between turns.
//!
//! A message is sent through an unbounded channel. Usually that is all, since a running loop checks
//! its inbox once a turn. Only a sleeping loop must be woken, which costs a system call. So the
//! loop arms a flag when it is about to sleep, and the first sender to disarm the flag makes the
//! call:
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
//! Either the sender sees the flag or the loop sees the note: the two fences exclude that neither
//! does. The note exists because checking an empty channel costs a fence, and the loop checks every
//! turn. However many threads send, there is at most one wake-up call per sleep, and none while the
//! loop is awake.
//!
//! A waker names its runtime by number only, so a process-wide registry maps numbers to inboxes.
//! The next runtime of a number continues with its predecessor's generations, so the predecessor's
//! wakers miss. Every other value that can outlive a runtime ([`Home`]) also carries the runtime's
//! serial, which is never reused.

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
use crate::stderr;
use crate::timer::wheel;

/// A request to the loop.
pub(crate) enum Message {
    Wake(TaskKey),
    Abort(TaskKey),
    /// A `JoinHandle` was dropped.
    Detach(TaskKey),
    /// A scope was dropped while its runtime was not current: its queue, its members, and how its
    /// children ended.
    EndScope(QueueId, Vec<TaskKey>, Vec<(TaskId, TaskEnd)>),
    /// Spawns a task: called on the loop, with its runtime current.
    Spawn(Box<dyn FnOnce() + Send>),
    CancelTimer(wheel::TimerKey),
    /// A registered socket was dropped elsewhere: the loop deregisters it, then drops (closes) it.
    Close(reactor::SourceKey, Box<dyn Send>),
    /// The panic of a task whose `RemoteHandle` was dropped before it returned the panic.
    Panicked(Option<Current>, JoinError),
    /// A blocking job has ended; the task awaits it.
    JobEnded(TaskKey),
}

/// The sender's end of an inbox, one per runtime.
pub(crate) struct Outside {
    sender: Sender<Message>,
    /// The note that there is mail. Set by senders after the push, reset by the loop before it
    /// takes messages.
    mail: AtomicBool,
    /// The loop sleeps, or is about to.
    armed: AtomicBool,
    waker: mio::Waker,
    serial: u64,
    /// The number of live `Handle`s: while there is one, work can still arrive.
    pub(crate) handles: AtomicUsize,
    /// The number of wake-up calls made.
    pub(crate) writes: AtomicU64,
    /// A wake-up call failed, so the loop checks its inbox at intervals.
    pub(crate) broken: AtomicBool,
}

impl Outside {
    /// Sends a message and wakes a sleeping loop. `Err` returns the message if the loop has ended.
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
                stderr::line(format_args!(
                    "postlude: cannot wake a sleeping loop: {error}; from now on it looks into its inbox by itself"
                ));
            }
        }
    }
}

/// The receiver's end of an inbox, owned by the loop.
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

    /// Whether a message may have arrived since `open`.
    pub(crate) fn has_mail(&self) -> bool {
        self.outside.mail.load(Ordering::Acquire)
    }

    /// Resets the note. Call it before taking messages: a later one sets the note again.
    pub(crate) fn open(&self) {
        self.outside.mail.store(false, Ordering::Relaxed);
        // Reset the note before the channel is found empty, or a note set in between would be lost.
        fence(Ordering::SeqCst);
    }

    /// Sets the note again. Call it after taking, if messages may remain.
    pub(crate) fn leave_rest(&self) {
        self.outside.mail.store(true, Ordering::Relaxed);
    }

    /// Announces that the loop is about to sleep. True if it may sleep, since there is no mail.
    pub(crate) fn arm(&self) -> bool {
        self.outside.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        !self.has_mail()
    }

    pub(crate) fn disarm(&self) {
        self.outside.armed.store(false, Ordering::Relaxed);
    }

    /// Leaves the inbox armed for a pause between turns. Mail that is there already makes the
    /// runtime's descriptor readable.
    pub(crate) fn arm_for_pause(&self) {
        if !self.arm() && self.outside.armed.swap(false, Ordering::Relaxed) {
            self.outside.wake_loop();
        }
    }
}

/// Bits of a runtime's serial. A runtime every microsecond would use them up in 140 years.
const SERIAL_BITS: u32 = u64::BITS - RUNTIME_BITS;

/// The runtime of a handle, a timer or a socket.
///
/// Holds the runtime's number, in the same bits as its wakers do, and its serial, which is never
/// reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(u64);

impl Home {
    fn new(number: u16, serial: u64) -> Self {
        Self(u64::from(number) << SERIAL_BITS | serial)
    }

    /// Whether the task is one of this runtime's.
    #[inline]
    pub(crate) const fn holds(self, key: TaskKey) -> bool {
        // Both have the runtime's number in their highest bits.
        (self.0 ^ key.0) >> SERIAL_BITS == 0
    }

    /// The number by which wakers name the runtime.
    pub(crate) const fn number(self) -> u16 {
        (self.0 >> SERIAL_BITS) as u16
    }

    fn outside(self) -> Option<Arc<Outside>> {
        find(self.number()).filter(|outside| outside.serial == self.0 & !(u64::MAX << SERIAL_BITS))
    }

    pub(crate) fn is_alive(self) -> bool {
        self.outside().is_some()
    }

    /// Sends a message to the runtime, or drops it here if the runtime is gone.
    pub(crate) fn send(self, message: Message) {
        if let Some(outside) = self.outside() {
            drop(outside.send(message));
        }
    }
}

/// Sends a message to the runtime that has this number now, if any.
#[inline(never)] // keeps the common path short
pub(crate) fn send_to(number: u16, message: Message) {
    if let Some(outside) = find(number) {
        drop(outside.send(message));
    }
}

/// The runtimes of this process, by number.
struct Registry {
    /// Numbers used so far, at most `MAX_RUNTIMES`.
    numbers: Vec<Number>,
    /// Numbers given back, oldest first. They are used again once no unused number is left.
    free: VecDeque<u16>,
    next_serial: u64,
}

#[derive(Default)]
struct Number {
    live: Option<Arc<Outside>>,
    /// The generation with which the next runtime of this number begins.
    generation: u32,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { numbers: Vec::new(), free: VecDeque::new(), next_serial: 1 });

/// Locks the registry. No user code runs while it is locked, so no user's panic can poison it.
fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(number: u16) -> Option<Arc<Outside>> {
    registry().numbers.get(number as usize)?.live.clone()
}

/// Registers a runtime. Returns its home, its inbox, and the first generation of its slots.
///
/// # Errors
///
/// At 4096 live runtimes, with a text that says so and to drop one.
pub(crate) fn register(waker: mio::Waker) -> io::Result<(Home, Inbox, u32)> {
    let mut registry = registry();
    let number = if registry.numbers.len() < MAX_RUNTIMES as usize {
        registry.numbers.push(Number::default());
        registry.numbers.len() as u16 - 1
    } else {
        registry.free.pop_front().ok_or_else(|| {
            io::Error::other(format!("{MAX_RUNTIMES} runtimes are alive; drop one before making another"))
        })?
    };
    let serial = registry.next_serial;
    registry.next_serial += 1;
    let inbox = Inbox::new(waker, serial);
    let entry = &mut registry.numbers[number as usize];
    entry.live = Some(Arc::clone(&inbox.outside));
    Ok((Home::new(number, serial), inbox, entry.generation))
}

/// Removes a runtime from the registry: from now on wakes and messages from elsewhere miss.
pub(crate) fn deregister(home: Home, next_generation: u32) {
    let mut registry = registry();
    let entry = std::mem::take(&mut registry.numbers[home.number() as usize]);
    registry.numbers[home.number() as usize].generation = next_generation;
    registry.free.push_back(home.number());
    drop(registry);
    drop(entry);
}
