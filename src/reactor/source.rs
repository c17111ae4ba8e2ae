//! One descriptor: its readiness and its waiters.
//!
//! The two directions are independent. Each remembers that the system reported it ready, until an
//! operation would block. It may have any number of waiters. Each async operation in flight is one,
//! under a ticket that the operation's drop removes. The `poll_*` methods share one more place,
//! where the last waker wins, as the traits of the ecosystem prescribe.
//!
//! # Ticks
//!
//! "Would block" proves that a direction is not ready only if the system has reported nothing since
//! the operation began. So each report increments the direction's tick, and an operation clears the
//! readiness only if the tick is still the one it saw.

use std::task::Waker;

use mio::event::Event;

/// The direction of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

#[derive(Debug, Default)]
pub(crate) struct Source {
    read: Side,
    write: Side,
}

#[derive(Debug, Default)]
struct Side {
    ready: bool,
    /// The last event reported an end, an error or urgent data. A short read proves nothing then.
    special: bool,
    /// The number of reports.
    tick: u64,
    polled_by: Option<Waker>,
    waiters: Vec<(Ticket, Waker)>,
    next_ticket: u64,
}

/// Names a waiter of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// The readiness that an operation saw before it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) ready: bool,
    tick: u64,
}

impl Source {
    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    /// Remembers the readiness that an event reports, and appends the wakers of its waiters.
    ///
    /// An error concerns both directions, and so does the end of both (`EPOLLHUP`). The end of the
    /// read side (`EPOLLRDHUP`) concerns only that.
    pub(crate) fn on_event(&mut self, event: &Event, woken: &mut Vec<Waker>) {
        let ended = event.is_read_closed() || event.is_error() || event.is_priority();
        if event.is_readable() || ended {
            self.read.report(ended, woken);
        }
        let broken = event.is_write_closed() || event.is_error();
        if event.is_writable() || broken {
            self.write.report(broken, woken);
        }
    }

    pub(crate) fn seen(&mut self, direction: Direction) -> Seen {
        let side = self.side(direction);
        Seen { ready: side.ready, tick: side.tick }
    }

    /// Notes that an operation begun after `seen` would block.
    pub(crate) fn would_block(&mut self, direction: Direction, seen: Seen) {
        let side = self.side(direction);
        if side.tick == seen.tick {
            side.ready = false;
        }
    }

    /// Notes that a stream moved fewer bytes than it was offered, so the next operation would
    /// block, and the system reports when that changes. Does nothing if the last report was of an
    /// end, an error or urgent data, which is still to be read.
    pub(crate) fn drained(&mut self, direction: Direction, seen: Seen) {
        if !self.side(direction).special {
            self.would_block(direction, seen);
        }
    }

    /// Adds a waiter, and returns the ticket under which it is known.
    pub(crate) fn wait(&mut self, direction: Direction, waker: Waker) -> Ticket {
        let side = self.side(direction);
        let ticket = Ticket(side.next_ticket);
        side.next_ticket += 1;
        side.waiters.push((ticket, waker));
        ticket
    }

    /// The waker of a waiter that is still waiting.
    pub(crate) fn waiter(&mut self, direction: Direction, ticket: Ticket) -> Option<&mut Waker> {
        let mut waiters = self.side(direction).waiters.iter_mut();
        waiters.find(|(one, _)| *one == ticket).map(|(_, waker)| waker)
    }

    /// Removes a waiter and returns its waker.
    pub(crate) fn stop_waiting(&mut self, direction: Direction, ticket: Ticket) -> Option<Waker> {
        let waiters = &mut self.side(direction).waiters;
        let place = waiters.iter().position(|(one, _)| *one == ticket)?;
        Some(waiters.remove(place).1)
    }

    /// The one waker that the `poll_*` methods share.
    pub(crate) fn polled_by(&mut self, direction: Direction) -> &mut Option<Waker> {
        &mut self.side(direction).polled_by
    }

    /// Removes every waiter, of both directions.
    pub(crate) fn take_all(&mut self, wakers: &mut Vec<Waker>) {
        self.read.take_waiters(wakers);
        self.write.take_waiters(wakers);
    }
}

impl Side {
    fn report(&mut self, special: bool, woken: &mut Vec<Waker>) {
        self.ready = true;
        self.special = special;
        self.tick += 1;
        self.take_waiters(woken);
    }

    fn take_waiters(&mut self, wakers: &mut Vec<Waker>) {
        if let Some(waker) = self.polled_by.take() {
            wakers.push(waker);
        }
        // An event usually reports both directions, and usually only one has a waiter.
        if !self.waiters.is_empty() {
            wakers.extend(self.waiters.drain(..).map(|(_, waker)| waker));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(source: &mut Source) {
        source.read.report(false, &mut Vec::new());
    }

    #[test]
    fn readiness_reported_during_an_operation_survives_its_would_block() {
        let mut source = Source::default();
        for between in [1_u64, 1 << 8, 1 << 16] {
            let seen = source.seen(Direction::Read);
            for _ in 0..between {
                ready(&mut source);
            }
            source.would_block(Direction::Read, seen);
            assert!(source.seen(Direction::Read).ready, "{between} reports were lost");
        }
    }

    #[test]
    fn a_flood_of_write_events_does_not_keep_reads_ready() {
        let mut source = Source::default();
        ready(&mut source);
        let seen = source.seen(Direction::Read);
        source.write.report(false, &mut Vec::new());
        source.would_block(Direction::Read, seen);
        assert!(!source.seen(Direction::Read).ready);
        assert!(source.seen(Direction::Write).ready, "the other direction stays as it is");
    }

    #[test]
    fn a_short_read_is_no_proof_after_an_end_was_reported() {
        let mut source = Source::default();
        source.read.report(true, &mut Vec::new());
        let seen = source.seen(Direction::Read);
        source.drained(Direction::Read, seen);
        assert!(source.seen(Direction::Read).ready);
    }

    #[test]
    fn one_event_hands_out_every_waiter_and_keeps_none() {
        let mut source = Source::default();
        for _ in 0..8 {
            source.wait(Direction::Read, Waker::noop().clone());
        }
        *source.polled_by(Direction::Read) = Some(Waker::noop().clone());
        let mut woken = Vec::new();
        source.read.report(false, &mut woken);
        assert_eq!(woken.len(), 9);
        source.take_all(&mut woken);
        assert_eq!(woken.len(), 9);
    }
}
