//! The timer wheel: timers by deadline. Setting, cancelling and firing one costs the same however
//! many there are.
//!
//! Time is a 64-bit count of ticks, read as eleven digits of six bits. A timer whose deadline
//! differs from the current time in the last digit only is on level 0, in the slot of its last
//! digit. A timer that first differs one digit earlier is on level 1, in the slot of that digit,
//! and so on. When time reaches a slot of a higher level, its timers agree with the current time in
//! at least one digit more, and move down:
//!
//! ```text
//!     now       0 0 0 5 9        (five of the eleven digits)
//!     deadline  0 0 7 1 2   →    level 2, slot 7
//!     … at      0 0 7 0 0   →    level 1, slot 1
//!     … at      0 0 7 1 0   →    level 0, slot 2
//!     … at      0 0 7 1 2   →    fires
//! ```
//!
//! Since digits are compared, not distances, no slot ever holds timers of two rounds, so nothing
//! wraps around. Slots are chains through the entries of one slab. A bit per slot marks the
//! occupied ones, so counting zeros finds the next.
//!
//! # Invariants
//!
//! - An entry's level and slot follow from its deadline and the cursor at the time it was linked.
//!   Both are stored in the entry.
//! - Every linked entry lies at or after the cursor. An entry whose deadline had passed already was
//!   linked at the cursor.
//! - Entries with the same deadline fire in the order they were set: entries are appended to
//!   chains, and moved down in order.
//! - No waker is cloned, woken or dropped here. The caller gets them.

use std::task::Waker;

use slab::Slab;

use crate::slabs;

use super::clock::NEVER;

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// One level for each digit of a 64-bit number.
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;
const NONE: u32 = u32::MAX;

/// The key of a timer: its slab index, and a generation that tells tenants apart. A stale key does
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    entry: u32,
    generation: u32,
}

struct Entry {
    deadline: u64,
    waker: Waker,
    generation: u32,
    place: Place,
    next: u32,
    previous: u32,
}

/// Where an entry is linked.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    level: u8,
    slot: u8,
}

/// The place of an entry that never fires, which is in no chain.
const NOWHERE: Place = Place { level: u8::MAX, slot: 0 };

#[derive(Clone, Copy)]
struct SlotChain {
    head: u32,
    tail: u32,
}

#[derive(Clone, Copy)]
struct Level {
    /// A bit for each slot that is not empty.
    occupied: u64,
    slots: [SlotChain; SLOTS],
}

impl Level {
    const EMPTY: Self = Self { occupied: 0, slots: [SlotChain { head: NONE, tail: NONE }; SLOTS] };
}

pub(crate) struct Wheel {
    /// All timers due before this tick have fired.
    cursor: u64,
    levels: Vec<Level>,
    entries: Slab<Entry>,
    /// The number of entries when memory was last given back.
    shrunk_to: usize,
    next_generation: u32,
    /// A tick before which no timer is due: the start of the first occupied slot, or earlier.
    /// `NEVER` if no timer will be due.
    bound: u64,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            cursor: 0,
            levels: vec![Level::EMPTY; LEVELS],
            entries: Slab::new(),
            shrunk_to: 0,
            next_generation: 0,
            bound: NEVER,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Gives back the memory of a burst of timers. Called when the loop is idle.
    pub(crate) fn shrink(&mut self) {
        slabs::shrink(&mut self.entries, &mut self.shrunk_to);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets a timer. A deadline that has passed fires with the next `advance`; `NEVER` never fires.
    pub(crate) fn insert(&mut self, deadline: u64, waker: Waker) -> TimerKey {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let entry = Entry { deadline, waker, generation, place: NOWHERE, next: NONE, previous: NONE };
        let entry = self.entries.insert(entry) as u32;
        if deadline != NEVER {
            self.link(entry);
        }
        TimerKey { entry, generation }
    }

    /// Cancels a timer and returns its waker, if it has not fired.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        self.waker(key)?;
        self.unlink(key.entry);
        let waker = self.entries.remove(key.entry as usize).waker;
        if self.entries.is_empty() {
            // The next `advance` corrects a bound that is too early, but skips an empty wheel.
            self.bound = NEVER;
        }
        Some(waker)
    }

    /// The waker of a timer that has not fired.
    pub(crate) fn waker(&self, key: TimerKey) -> Option<&Waker> {
        let entry = self.entries.get(key.entry as usize)?;
        (entry.generation == key.generation).then_some(&entry.waker)
    }

    /// Replaces a timer's waker and returns the previous one, or the new one if the timer has
    /// fired.
    pub(crate) fn replace_waker(&mut self, key: TimerKey, waker: Waker) -> Waker {
        match self.entries.get_mut(key.entry as usize) {
            Some(entry) if entry.generation == key.generation => std::mem::replace(&mut entry.waker, waker),
            _ => waker,
        }
    }

    /// A tick before which no timer is due; `None` if no timer will be. The first deadline is at
    /// most one digit's worth later, unless timers were cancelled since the last `advance`.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        (self.bound != NEVER).then_some(self.bound)
    }

    /// Whether any timer will ever be due.
    pub(crate) fn has_deadline(&self) -> bool {
        self.levels.iter().any(|level| level.occupied != 0)
    }

    /// The exact first deadline. Moves the cursor there, so time must follow before a timer is set.
    pub(crate) fn next_exact(&mut self) -> Option<u64> {
        loop {
            let (level, slot, start) = self.first_slot()?;
            if level == 0 {
                return Some(start);
            }
            self.cursor = start;
            let first = self.unlink_first(level, slot);
            self.link(first);
        }
    }

    /// Moves time forward to `now` and appends the wakers of due timers to `fired`, in the order of
    /// their deadlines. Stops after firing or moving `limit` entries; the rest stays due.
    pub(crate) fn advance(&mut self, now: u64, fired: &mut Vec<Waker>, limit: usize) {
        if now < self.bound {
            return;
        }
        for _ in 0..limit {
            match self.first_slot() {
                Some((level, slot, start)) if start <= now => {
                    self.cursor = start;
                    let first = self.unlink_first(level, slot);
                    if level == 0 {
                        fired.push(self.entries.remove(first as usize).waker);
                    } else {
                        self.link(first);
                    }
                }
                _ => {
                    self.cursor = self.cursor.max(now);
                    break;
                }
            }
        }
        self.bound = self.first_slot().map_or(NEVER, |(_, _, start)| start);
    }

    /// Removes every timer and returns the wakers.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        let entries = std::mem::take(&mut self.entries);
        self.levels.fill(Level::EMPTY);
        self.bound = NEVER;
        entries.into_iter().map(|(_, entry)| entry.waker).collect()
    }

    /// The occupied slot whose time comes first: level, slot, and its first tick.
    ///
    /// On a higher level, the slot of the cursor is being emptied, and its remaining entries come
    /// before everything below. Otherwise a lower level comes before a higher one.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let mut first = None;
        for (number, level) in self.levels.iter().enumerate().rev() {
            let digit = digit(self.cursor, number);
            let ahead = level.occupied & (u64::MAX << digit);
            if ahead == 0 {
                continue;
            }
            let slot = ahead.trailing_zeros() as usize;
            if number > 0 && slot == digit {
                return Some((number, slot, self.cursor));
            }
            first = Some((number, slot, start_of(self.cursor, number, slot)));
        }
        first
    }

    /// Unlinks the first entry of an occupied slot.
    fn unlink_first(&mut self, level: usize, slot: usize) -> u32 {
        let head = self.levels[level].slots[slot].head;
        self.unlink(head);
        head
    }

    fn link(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        let at = entry.deadline.max(self.cursor);
        let difference = at ^ self.cursor;
        let level = (u64::BITS - 1 - (difference | 1).leading_zeros()) / DIGIT_BITS;
        let slot = digit(at, level as usize);
        entry.place = Place { level: level as u8, slot: slot as u8 };
        entry.next = NONE;
        let level_start = start_of(self.cursor, level as usize, slot);
        self.bound = self.bound.min(level_start.max(self.cursor));
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << slot;
        let tail = std::mem::replace(&mut level.slots[slot].tail, number);
        entry.previous = tail;
        if tail == NONE {
            level.slots[slot].head = number;
        } else {
            self.entries[tail as usize].next = number;
        }
    }

    fn unlink(&mut self, number: u32) {
        let Entry { place, next, previous, .. } = self.entries[number as usize];
        if place == NOWHERE {
            return;
        }
        let level = &mut self.levels[place.level as usize];
        let chain = &mut level.slots[place.slot as usize];
        if next == NONE {
            chain.tail = previous;
        } else {
            self.entries[next as usize].previous = previous;
        }
        if previous == NONE {
            chain.head = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if chain.head == NONE {
            level.occupied &= !(1 << place.slot);
        }
    }
}

fn digit(time: u64, level: usize) -> usize {
    (time >> (level as u32 * DIGIT_BITS)) as usize % SLOTS
}

/// The first tick of a slot: the cursor's digits above the level, the slot's digit, then zeros.
fn start_of(cursor: u64, level: usize, slot: usize) -> u64 {
    let shift = level as u32 * DIGIT_BITS;
    let above = cursor.checked_shr(shift + DIGIT_BITS).map_or(0, |digits| digits << DIGIT_BITS);
    (above | slot as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    /// A waker that logs the number of its timer.
    struct Named {
        number: u64,
        log: Arc<Mutex<Vec<u64>>>,
    }

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.log.lock().unwrap().push(self.number);
        }
    }

    #[derive(Default)]
    struct Bench {
        log: Arc<Mutex<Vec<u64>>>,
        next: AtomicU64,
    }

    impl Bench {
        fn waker(&self) -> (u64, Waker) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            (number, Arc::new(Named { number, log: Arc::clone(&self.log) }).into())
        }

        fn advance(&self, wheel: &mut Wheel, now: u64, limit: usize) -> Vec<u64> {
            let mut fired = Vec::new();
            wheel.advance(now, &mut fired, limit);
            fired.into_iter().for_each(Waker::wake);
            std::mem::take(&mut self.log.lock().unwrap())
        }
    }

    /// The wheel as a sorted list of (deadline, number), oldest first among equals.
    #[derive(Default)]
    struct Oracle {
        now: u64,
        timers: Vec<(u64, u64)>,
    }

    impl Oracle {
        fn insert(&mut self, deadline: u64, number: u64) {
            // A timer set late fires in the order of its deadline, among the others due now.
            let place = self.timers.partition_point(|&(other, _)| other <= deadline);
            self.timers.insert(place, (deadline, number));
        }

        fn due(&self, now: u64) -> usize {
            self.timers.partition_point(|&(deadline, _)| deadline <= now)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Cancel(usize),
        Advance(u64),
        Jump,
    }

    fn step() -> impl Strategy<Value = Step> {
        let distance = prop_oneof![0..4u64, 0..200u64, 0..70_000u64, any::<u64>().prop_map(|n| n >> 5), Just(NEVER)];
        prop_oneof![
            6 => distance.clone().prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Cancel),
            3 => distance.prop_map(|by| Step::Advance(by.min(1 << 40))),
            1 => Just(Step::Jump),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn it_fires_what_a_sorted_list_would(steps in prop::collection::vec(step(), 1..200)) {
            let (bench, mut wheel, mut oracle) = (Bench::default(), Wheel::new(), Oracle::default());
            let mut keys = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(distance) => {
                        let deadline = if distance == NEVER { NEVER } else { oracle.now.saturating_add(distance).min(NEVER - 1) };
                        let (number, waker) = bench.waker();
                        keys.push((wheel.insert(deadline, waker), number));
                        if deadline != NEVER {
                            oracle.insert(deadline, number);
                        }
                    }
                    Step::Cancel(which) if !keys.is_empty() => {
                        let (key, number) = keys[which % keys.len()];
                        let alive = wheel.waker(key).is_some();
                        prop_assert_eq!(wheel.cancel(key).is_some(), alive);
                        oracle.timers.retain(|&(_, other)| other != number);
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(by) => {
                        oracle.now = oracle.now.saturating_add(by);
                        let due: Vec<u64> = oracle.timers.drain(..oracle.due(oracle.now)).map(|(_, number)| number).collect();
                        prop_assert_eq!(bench.advance(&mut wheel, oracle.now, usize::MAX), due);
                    }
                    Step::Jump => {
                        let first = oracle.timers.first().map(|&(deadline, _)| deadline.max(oracle.now));
                        prop_assert_eq!(wheel.next_exact(), first);
                        if let Some(first) = first {
                            oracle.now = first;
                            let due: Vec<u64> = oracle.timers.drain(..oracle.due(first)).map(|(_, number)| number).collect();
                            prop_assert_eq!(bench.advance(&mut wheel, first, usize::MAX), due);
                        }
                    }
                }
                if let Some(&(first, _)) = oracle.timers.first() {
                    let bound = wheel.next_deadline();
                    prop_assert!(bound.is_some_and(|bound| bound <= first.max(oracle.now)), "{:?} is after {}", bound, first);
                }
            }
        }

        #[test]
        fn a_limit_only_spreads_the_firing_over_more_calls(
            deadlines in prop::collection::vec(0..100_000u64, 1..100), limit in 1..7usize
        ) {
            let (bench, mut wheel) = (Bench::default(), Wheel::new());
            let mut expected: Vec<(u64, u64)> = Vec::new();
            for deadline in deadlines {
                let (number, waker) = bench.waker();
                wheel.insert(deadline, waker);
                expected.push((deadline, number));
            }
            expected.sort_unstable();
            let mut fired = Vec::new();
            while wheel.next_deadline().is_some_and(|bound| bound <= 100_000) {
                fired.extend(bench.advance(&mut wheel, 100_000, limit));
            }
            prop_assert!(wheel.is_empty());
            prop_assert_eq!(fired, expected.into_iter().map(|(_, number)| number).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_set_and_cancel_storm_leaves_no_memory_behind() {
        let (bench, mut wheel) = (Bench::default(), Wheel::new());
        for round in 0..10_000 {
            let key = wheel.insert(1 << (round % 50), bench.waker().1);
            assert!(wheel.cancel(key).is_some());
            assert!(wheel.cancel(key).is_none(), "the key is stale now");
        }
        assert_eq!((wheel.len(), wheel.entries.capacity()), (0, 4));
    }

    #[test]
    fn a_timer_that_never_fires_can_be_cancelled() {
        let (bench, mut wheel) = (Bench::default(), Wheel::new());
        let key = wheel.insert(NEVER, bench.waker().1);
        assert_eq!(wheel.next_deadline(), None);
        assert!(bench.advance(&mut wheel, NEVER - 1, usize::MAX).is_empty());
        assert!(wheel.cancel(key).is_some());
    }
}
