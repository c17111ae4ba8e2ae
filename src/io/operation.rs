//! One operation on a descriptor: try it, and if it would block, wait until it is worth trying
//! again.
//!
//! Every socket of the crate is an [`Io`] around a non-blocking descriptor, and each operation is a
//! closure given to [`Io::poll`] or [`Io::wait`]. Both take the same steps, so no caller ever sees
//! `WouldBlock`:
//!
//! ```text
//!     loop {
//!         not known to be ready?  wait   (before the first "would block" nothing is known: try)
//!         try the operation
//!         would block?            register if need be, forget the readiness, again
//!         anything else?          that is the answer
//!     }
//! ```
//!
//! The first wait registers an `Io`, which belongs to that runtime from then on. It holds a key,
//! not a pointer. Dropped on its loop, it is deregistered and closed at once. Dropped elsewhere, it
//! travels home through the inbox; if its runtime is gone, it is just closed.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker, ready};

use crate::event_loop::context::{self, Home};
use crate::event_loop::inbox::Message;
use crate::event_loop::misuse::Misuse;
use crate::event_loop::parts::Parts;
use crate::executor::budget;
use crate::reactor::source::{Seen, Ticket};
use crate::reactor::{Direction, Source, SourceKey};

/// A descriptor in non-blocking mode, with a place in a reactor once it has had to wait.
pub(crate) struct Io<S: AsRawFd + Send + 'static> {
    /// `None` only during its drop, or once taken out.
    inner: Option<S>,
    registration: OnceLock<Registration>,
}

#[derive(Clone, Copy)]
struct Registration {
    home: Home,
    key: SourceKey,
}

/// Where a pending operation leaves its waker.
enum WakerPlace<'a> {
    /// In the direction's one slot for the `poll_*` methods.
    Polled,
    /// In an entry of its own.
    Ticket(&'a mut Option<Ticket>),
}

impl<S: AsRawFd + Send + 'static> Io<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner: Some(inner), registration: OnceLock::new() }
    }

    pub(crate) fn get(&self) -> &S {
        self.inner.as_ref().expect("an `Io` holds its descriptor until it is dropped")
    }

    /// Takes the descriptor out. It is deregistered first, so any runtime may register it again.
    ///
    /// # Errors
    ///
    /// If it belongs to a runtime that is alive but not current; it is then dropped.
    pub(crate) fn into_inner(mut self) -> io::Result<S> {
        if let Some(registration) = self.registration.take() {
            if let Some(parts) = context::current_of(registration.home) {
                let wakers = parts.reactor.borrow_mut().deregister(registration.key);
                drop(wakers);
            } else if registration.home.is_alive() {
                let _back = self.registration.set(registration);
                return Err(wrong_place());
            }
        }
        Ok(self.inner.take().expect("an `Io` holds its descriptor until it is dropped"))
    }

    /// Performs an operation, or leaves the waker in the direction's slot for the `poll_*` methods.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        operation: impl FnMut(&S) -> io::Result<T>,
        drained: impl Fn(&T) -> bool,
    ) -> Poll<io::Result<T>> {
        self.advance(cx, direction, operation, drained, &mut WakerPlace::Polled)
    }

    /// Performs an operation, as a future. Any number may wait at a time. `drained` tells whether a
    /// result shows that the next operation would block.
    pub(crate) fn wait<T, O, D>(&self, direction: Direction, operation: O, drained: D) -> Operation<'_, S, O, D>
    where
        O: FnMut(&S) -> io::Result<T>,
        D: Fn(&T) -> bool,
    {
        Operation { io: self, direction, operation, drained, ticket: None }
    }

    /// Waits until the direction is reported ready. The next operation may block all the same.
    pub(crate) async fn ready(&self, direction: Direction) -> io::Result<()> {
        // The budget comes first: between a poll without budget and the next, another operation may
        // register this.
        std::future::poll_fn(budget::poll_available).await;
        let mut registered = self.registration.get().is_some();
        self.wait(
            direction,
            move |_| {
                // Before registration nothing is known: say "would block" once, which asks the
                // selector.
                if std::mem::replace(&mut registered, true) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            },
            never,
        )
        .await
    }

    #[inline]
    fn advance<T>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        operation: impl FnMut(&S) -> io::Result<T>,
        drained: impl Fn(&T) -> bool,
        place: &mut WakerPlace<'_>,
    ) -> Poll<io::Result<T>> {
        ready!(budget::poll_available(cx));
        let result = ready!(self.attempt(cx, direction, operation, drained, place));
        budget::spend();
        Poll::Ready(result)
    }

    fn attempt<T>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<T>,
        drained: impl Fn(&T) -> bool,
        place: &mut WakerPlace<'_>,
    ) -> Poll<io::Result<T>> {
        loop {
            let registered = self.registered()?;
            let seen = registered.as_ref().map(|(parts, key)| look(parts, *key, direction)).transpose()?;
            if let (Some((parts, key)), Some(Seen { ready: false, .. })) = (&registered, seen) {
                leave_waker(parts, *key, direction, cx.waker(), place);
                return Poll::Pending;
            }
            match operation(self.get()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match (&registered, seen) {
                    (Some((parts, key)), Some(seen)) => with(parts, *key, |source| source.would_block(direction, seen)),
                    _ => self.register()?,
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    if let (Some((parts, key)), Some(seen), Ok(value)) = (&registered, seen, &result) {
                        if drained(value) {
                            with(parts, *key, |source| source.drained(direction, seen));
                        }
                    }
                    return Poll::Ready(result);
                }
            }
        }
    }

    /// The runtime and the key of this registration, if it has one. Fails if that runtime is not
    /// current.
    fn registered(&self) -> io::Result<Option<(Rc<Parts>, SourceKey)>> {
        match self.registration.get() {
            None => Ok(None),
            Some(Registration { home, key }) => match context::current_of(*home) {
                Some(parts) => Ok(Some((parts, *key))),
                None if home.is_alive() => Err(wrong_place()),
                None => Err(gone()),
            },
        }
    }

    fn register(&self) -> io::Result<()> {
        let Some(parts) = context::current() else {
            return Err(io::Error::other(Misuse::no_runtime("a socket had to wait").to_string()));
        };
        // For an `io::Async` this is the user's code: it must run before the borrow.
        let fd = self.get().as_raw_fd();
        let key = parts.reactor.borrow_mut().register(fd)?;
        if self.registration.set(Registration { home: parts.home, key }).is_err() {
            // Another thread's loop registered it first, and that counts.
            let wakers = parts.reactor.borrow_mut().deregister(key);
            drop(wakers);
        }
        Ok(())
    }
}

/// The `drained` of operations whose results say nothing about the next one.
pub(crate) fn never<T>(_: &T) -> bool {
    false
}

#[inline]
fn look(parts: &Parts, key: SourceKey, direction: Direction) -> io::Result<Seen> {
    parts.reactor.borrow_mut().source(key).map(|source| source.seen(direction)).ok_or_else(gone)
}

fn with(parts: &Parts, key: SourceKey, change: impl FnOnce(&mut Source)) {
    if let Some(source) = parts.reactor.borrow_mut().source(key) {
        change(source);
    }
}

/// Leaves the waker where the next event finds it. Clones and drops, which run foreign code, happen
/// outside the borrow.
fn leave_waker(parts: &Parts, key: SourceKey, direction: Direction, waker: &Waker, place: &mut WakerPlace<'_>) {
    let left = {
        let mut reactor = parts.reactor.borrow_mut();
        let there = reactor.source(key).and_then(|source| match place {
            WakerPlace::Polled => source.polled_by(direction).as_mut(),
            WakerPlace::Ticket(ticket) => ticket.and_then(|ticket| source.waiter(direction, ticket)),
        });
        there.is_some_and(|there| there.will_wake(waker))
    };
    if left {
        return;
    }
    let mut waker = Some(waker.clone());
    let mut before = None;
    if let Some(source) = parts.reactor.borrow_mut().source(key) {
        match place {
            WakerPlace::Polled => before = std::mem::replace(source.polled_by(direction), waker.take()),
            WakerPlace::Ticket(ticket) => {
                before = ticket.take().and_then(|old| source.stop_waiting(direction, old));
                **ticket = waker.take().map(|waker| source.wait(direction, waker));
            }
        }
    }
    drop((before, waker));
}

fn wrong_place() -> io::Error {
    io::Error::other(Misuse::elsewhere("a socket was used").to_string())
}

fn gone() -> io::Error {
    io::Error::other("the socket's runtime is gone; `into_std` moves a socket to another one before that")
}

impl<S: AsRawFd + Send + 'static> Drop for Io<S> {
    fn drop(&mut self) {
        let (Some(registration), Some(inner)) = (self.registration.take(), self.inner.take()) else { return };
        if let Some(parts) = context::current_of(registration.home) {
            let wakers = parts.reactor.borrow_mut().deregister(registration.key);
            drop(wakers);
            drop(inner);
        } else {
            registration.home.send(Message::Close(registration.key, Box::new(inner)));
        }
    }
}

impl<S: AsRawFd + Send + fmt::Debug + 'static> fmt::Debug for Io<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// An operation in flight. Dropping it stops the wait and loses nothing: it has not been performed.
#[must_use = "futures do nothing unless awaited"]
pub(crate) struct Operation<'a, S: AsRawFd + Send + 'static, O, D> {
    io: &'a Io<S>,
    direction: Direction,
    operation: O,
    drained: D,
    ticket: Option<Ticket>,
}

/// Nothing in it is pinned.
impl<S: AsRawFd + Send + 'static, O, D> Unpin for Operation<'_, S, O, D> {}

impl<S, O, D, T> Future for Operation<'_, S, O, D>
where
    S: AsRawFd + Send + 'static,
    O: FnMut(&S) -> io::Result<T>,
    D: Fn(&T) -> bool,
{
    type Output = io::Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let place = &mut WakerPlace::Ticket(&mut this.ticket);
        this.io.advance(cx, this.direction, &mut this.operation, &this.drained, place)
    }
}

impl<S: AsRawFd + Send + 'static, O, D> Drop for Operation<'_, S, O, D> {
    fn drop(&mut self) {
        let (Some(ticket), Some(registration)) = (self.ticket, self.io.registration.get()) else { return };
        // Elsewhere the waker stays until the next event takes it: one spurious wake.
        if let Some(parts) = context::current_of(registration.home) {
            let source = parts
                .reactor
                .borrow_mut()
                .source(registration.key)
                .and_then(|s| s.stop_waiting(self.direction, ticket));
            drop(source);
        }
    }
}
