//! Lines on stderr that never make a loop wait.
//!
//! Stderr is often a pipe whose reader may be slow, stopped or stuck. A plain write then blocks,
//! and a loop that reports something would stop for all its tasks. So a line is written only if
//! stderr takes it at once. Otherwise it is dropped and counted, and the next line that goes out
//! follows a line with the count. All reports of this crate are written this way.
//!
//! # How it works
//!
//! Non-blocking mode is no way: it belongs to the open file description, which the shell and other
//! processes share. Instead [`line()`] asks the selector, with a time limit of zero, whether stderr
//! is writable, and then writes at most `PIPE_BUF` bytes: as much as a writable pipe takes whole
//! (pipe(7)). Files, which no selector takes, never block.
//!
//! A thread for the lines would need a flush at each end of the process, would change the order
//! among other output, and would be missing after a fork.
//!
//! The standard library's lock is not taken, because a thread that is blocked in `eprintln!` holds
//! it.
//!
//! **Not guaranteed:** a line never waits if others write to the same pipe. A write of theirs
//! between the question and the line may take the last free page.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

/// Lines lost in this process, and those of them that no line has told of.
static LOST: AtomicU64 = AtomicU64::new(0);
static UNTOLD: AtomicU64 = AtomicU64::new(0);

static WRITER: Mutex<Writer> = Mutex::new(Writer { selector: None, file: None });

/// Tries for the writer before a line is lost: about a millisecond. It is held for the time of a
/// write, or for ever in a process that was forked meanwhile.
const TRIES: u32 = 1000;

/// Writes a line to stderr, or several if the text has line ends, unless stderr would block. A line
/// is cut after `PIPE_BUF` bytes: 4096 on Linux.
///
/// ```
/// postlude::stderr::line(format_args!("{} answered {}", "/index.html", 200));
/// ```
pub fn line(text: fmt::Arguments<'_>) {
    line_within(Duration::ZERO, text);
}

/// Does as [`line()`], but waits up to `limit` for stderr: for the last words of a process, when no
/// loop runs any more.
pub fn line_within(limit: Duration, text: fmt::Arguments<'_>) {
    write(&text.to_string(), limit);
}

/// Returns how many lines this process has lost so far, because stderr would have blocked.
///
/// ```
/// assert_eq!(postlude::stderr::lost(), 0);
/// ```
#[must_use]
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Has panics of this process lose their message instead of waiting while stderr is full, as
/// [`line()`] does. An `http::Server` calls this when it begins.
///
/// The standard library's panic hook blocks while stderr is full, and with it the loop on which a
/// task panics. This wraps that hook: it runs as before while its message fits into stderr. If not,
/// or if the message may be long (a long text, or `RUST_BACKTRACE`), it is written as [`line()`]s.
/// A hook of your own is left as it is. Only the first call has an effect.
///
/// It also takes the two descriptors that lines need, a selector and a duplicate of stderr, so that
/// a process can tell that it has none left.
///
/// ```
/// postlude::stderr::guard_panics();
/// ```
pub fn guard_panics() {
    static ONCE: Once = Once::new();
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let _prepared = lock().map(|mut writer| writer.is_writable(Duration::ZERO));
        let hook = panic::take_hook();
        // Once a hook was taken, the standard library's is in place.
        let default = panic::take_hook();
        if is_same(&*hook, &*default) {
            panic::set_hook(Box::new(move |info| if fits(info) { default(info) } else { tell_panic(info) }));
        } else {
            panic::set_hook(hook);
        }
    });
}

type PanicHook = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

#[allow(ambiguous_wide_pointer_comparisons, reason = "hooks without captures differ in nothing but their vtables")]
fn is_same(hook: &PanicHook, other: &PanicHook) -> bool {
    size_of_val(hook) == 0 && std::ptr::eq(hook, other)
}

/// Whether stderr takes what the standard library writes about a panic.
fn fits(info: &PanicHookInfo<'_>) -> bool {
    let is_short = text_of(info).len() < libc::PIPE_BUF / 2 && !wants_backtrace();
    is_short && lock().is_some_and(|mut writer| writer.is_writable(Duration::ZERO))
}

fn wants_backtrace() -> bool {
    std::env::var_os("RUST_BACKTRACE").is_some_and(|wish| wish != "0")
}

fn tell_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
    line(format_args!("thread '{name}' panicked{place}: {}", text_of(info)));
    if wants_backtrace() {
        line(format_args!("{}", Backtrace::force_capture()));
    }
}

fn text_of<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

/// Lines about one thing, at most twenty a second; the rest is counted, and told with the next line
/// or when this is dropped.
///
/// ```
/// use std::time::Instant;
/// let refused = postlude::stderr::Limited::new("refused uploads");
/// for n in 0..1000 {
///     refused.line(Instant::now(), format_args!("upload {n} was refused"));
/// }
/// ```
#[derive(Debug)]
pub struct Limited {
    about: &'static str,
    began: Cell<Option<Instant>>,
    lines: Cell<u32>,
    /// Lines left out since the last one that was written.
    left_out: Cell<u64>,
}

impl Limited {
    /// Lines in a second: enough to see what fails, too few to hold up the loop.
    const LINES: u32 = 20;

    /// Creates a limit of its own for lines about something, a plural.
    #[must_use]
    pub const fn new(about: &'static str) -> Self {
        Self { about, began: Cell::new(None), lines: Cell::new(0), left_out: Cell::new(0) }
    }

    /// Writes a [`line()`], unless too many were written in the second before `now`.
    pub fn line(&self, now: Instant, text: fmt::Arguments<'_>) {
        let is_new =
            self.began.get().is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1));
        if is_new {
            self.began.set(Some(now));
            self.lines.set(0);
        }
        if self.lines.get() == Self::LINES {
            self.left_out.set(self.left_out.get() + 1);
            return;
        }
        self.lines.set(self.lines.get() + 1);
        self.tell_left_out();
        line(text);
    }

    /// Writes how many lines were left out, if any.
    pub fn tell_left_out(&self) {
        let left_out = self.left_out.take();
        if left_out > 0 {
            let plural = if left_out == 1 { "" } else { "s" };
            line(format_args!("postlude: {left_out} more line{plural} about {} left out", self.about));
        }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.tell_left_out();
    }
}

fn lose(lines: usize) {
    LOST.fetch_add(lines as u64, Ordering::Relaxed);
    UNTOLD.fetch_add(lines as u64, Ordering::Relaxed);
}

fn write(text: &str, limit: Duration) {
    let Some(mut writer) = lock() else { return lose(text.lines().count()) };
    let untold = UNTOLD.swap(0, Ordering::Relaxed);
    if untold > 0
        && !writer.write(format!("postlude: {untold} lines lost, because stderr was full\n").as_bytes(), limit)
    {
        UNTOLD.fetch_add(untold, Ordering::Relaxed);
        return lose(text.lines().count());
    }
    let mut lines = text.lines().peekable();
    let (mut piece, mut count) = (Vec::new(), 0);
    while let Some(line) = lines.next() {
        push_line(&mut piece, line);
        count += 1;
        let has_room = lines.peek().is_some_and(|next| piece.len() + next.len() < libc::PIPE_BUF);
        if !has_room {
            if !writer.write(&piece, limit) {
                return lose(count + lines.count());
            }
            piece.clear();
            count = 0;
        }
    }
}

/// Appends a line and its end, at most `PIPE_BUF` bytes.
fn push_line(piece: &mut Vec<u8>, line: &str) {
    const MORE: &str = "…";
    if line.len() < libc::PIPE_BUF {
        piece.extend_from_slice(line.as_bytes());
    } else {
        let mut end = libc::PIPE_BUF - MORE.len() - 1;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        piece.extend_from_slice(&line.as_bytes()[..end]);
        piece.extend_from_slice(MORE.as_bytes());
    }
    piece.push(b'\n');
}

/// `None` if another thread holds the writer for long.
fn lock() -> Option<MutexGuard<'static, Writer>> {
    for _ in 0..TRIES {
        match WRITER.try_lock() {
            Ok(writer) => return Some(writer),
            Err(TryLockError::Poisoned(writer)) => return Some(writer.into_inner()),
            Err(TryLockError::WouldBlock) => thread::yield_now(),
        }
    }
    None
}

/// Both are kept, because a process that is out of descriptors has something to tell.
struct Writer {
    /// Nothing is registered with it between two writes.
    selector: Option<(Poll, Events)>,
    /// A duplicate of stderr, as it was when the last one could be made.
    file: Option<File>,
}

impl Writer {
    /// Writes at most `PIPE_BUF` bytes. False if stderr would block.
    fn write(&mut self, bytes: &[u8], limit: Duration) -> bool {
        if !self.is_writable(limit) {
            return false;
        }
        let Some(file) = &mut self.file else { return false };
        loop {
            match file.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody can be told of another error: stderr may be closed.
                written => return !written.is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
            }
        }
    }

    fn is_writable(&mut self, limit: Duration) -> bool {
        if let Ok(duplicate) = io::stderr().as_fd().try_clone_to_owned() {
            self.file = Some(duplicate.into());
        }
        if self.selector.is_none() {
            self.selector = Poll::new().ok().map(|poll| (poll, Events::with_capacity(1)));
        }
        let (Some((poll, events)), Some(file)) = (&mut self.selector, &self.file) else { return false };
        let descriptor = file.as_raw_fd();
        if let Err(error) = poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::WRITABLE) {
            // The selector does not take a file, which never blocks: epoll_ctl(2), EPERM.
            return error.kind() == ErrorKind::PermissionDenied;
        }
        let is_polled = loop {
            match poll.poll(events, Some(limit)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                polled => break polled.is_ok(),
            }
        };
        let _forgotten_with_the_duplicate = poll.registry().deregister(&mut SourceFd(&descriptor));
        is_polled && !events.is_empty()
    }
}
