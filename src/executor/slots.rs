//! The slots of tasks, in pages of 256 that never move.
//!
//! Growing allocates a page and copies nothing. Free slots form a chain, last freed first. After a
//! burst, once the loop is idle, `shrink` gives empty pages back. Of such a page it keeps only the
//! highest generation among its slots. A page allocated there again starts with that generation, so
//! that old keys still miss.
//!
//! # A slot's state
//!
//! One word holds the generation (26 bits) and the state: a phase (2 bits), three flags, and a bit
//! that is not used. The generation goes up as a slot becomes Free.
//!
//! | phase   | the box is  | set by                            | left by |
//! |---------|-------------|-----------------------------------|---------|
//! | Free    | nowhere     | `remove`, `end_root`              | `insert`, `insert_member`, |
//! |         |             |                                   | `begin_root` |
//! | Waiting | in the slot | `insert`, `insert_member`,        | `pop`, `remove`, `end_root` |
//! |         |             | `begin_root`, `put_back`          | |
//! | Running | in the loop | `pop`                             | `put_back`, `finish`, `remove` |
//! | Done    | in the slot | `finish`, if a handle exists      | `poll_join`, `remove` |
//!
//! | flag     | says | set by | cleared by |
//! |----------|------|--------|------------|
//! | QUEUED   | in a queue, or woken by its poll | `insert`, `insert_member`, | `pop`, `finish`, |
//! |          |      | `begin_root`, `mark_ready` | `remove` |
//! | ABORTED  | its next visit drops it | `mark_aborted` | `remove` |
//! | JOINABLE | a `JoinHandle` exists | `insert` | `detach`, `remove` |
//!
//! ```text
//!            insert                  pop                 finish (handle)
//!     Free ──────────▶ Waiting ─────────────▶ Running ─────────────────▶ Done
//!      ▲                  ▲                     │ │                        │
//!      │                  └──────put_back───────┘ │                        │
//!      ├──────────────────remove──────────────────┘                        │
//!      └──────────────────poll_join, remove (after detach)─────────────────┘
//! ```
//!
//! The future of `block_on` and the members of scopes have a slot without a box: `block_on` and the
//! scope keep these futures and poll them.

use super::about::About;
use super::id::{GENERATION_MASK, GENERATION_SHIFT, MAX_TASKS, PAGE, TaskId, TaskKey};
use super::queue::{NONE, QueueId};
use super::stage::Boxed;

/// Holds for every slot that a key or a queue leads to, or that the caller has claimed.
const IN_USE: &str = "a slot that is in use is in a page";

pub(super) const PHASE: u32 = 0b11;
pub(super) const FREE: u32 = 0;
pub(super) const WAITING: u32 = 1;
pub(super) const RUNNING: u32 = 2;
pub(super) const DONE: u32 = 3;
pub(super) const QUEUED: u32 = 1 << 2;
pub(super) const ABORTED: u32 = 1 << 3;
pub(super) const JOINABLE: u32 = 1 << 4;

pub(super) struct Slot {
    /// The task, unless it is being polled. Always `None` for `block_on` and members of scopes.
    pub(super) task: Option<Boxed>,
    /// Generation, phase and flags.
    pub(super) state: u32,
    /// The next slot of its queue, or of the free chain.
    pub(super) next: u32,
    /// The queue it enters when it is ready.
    pub(super) queue: QueueId,
    /// The index of its cold facts.
    pub(super) about: About,
}

impl Slot {
    /// Puts a task into its empty slot. Drops nothing: the table is borrowed here.
    #[inline]
    pub(super) fn fill(&mut self, task: Option<Boxed>) {
        let before = std::mem::replace(&mut self.task, task);
        debug_assert!(before.is_none(), "a task that runs has left its slot");
        std::mem::forget(before);
    }

    /// The key of its tenant; `number` is the slot's own.
    #[inline]
    pub(super) fn key(&self, runtime: u16, number: u32) -> TaskKey {
        TaskKey::new(runtime, self.state >> GENERATION_SHIFT, number)
    }

    /// Frees it for the next tenant: the next generation, with only `flags` set.
    #[inline]
    pub(super) fn end_tenancy(&mut self, flags: u32) {
        self.state = ((self.state >> GENERATION_SHIFT) + 1) << GENERATION_SHIFT | flags;
    }
}

/// 256 slots, or the generation they had reached when their memory was given back.
enum Page {
    /// The ids shown to users stand apart: no wake and no poll needs them.
    InUse { slots: Box<[Slot; PAGE]>, ids: Box<[TaskId; PAGE]> },
    /// Its slots start again with this generation.
    GivenBack { generation: u32 },
}

/// A slot that has just been taken.
pub(super) struct Claimed<'a> {
    pub(super) number: u32,
    pub(super) slot: &'a mut Slot,
    pub(super) id: &'a mut TaskId,
}

pub(super) struct Slots {
    pages: Vec<Page>,
    /// The head of the free chain, which runs through all pages.
    free: u32,
    /// Slots taken.
    live: u32,
    /// Pages in memory.
    allocated: u32,
    /// Pages and taken slots after the last `shrink`. While they have hardly changed, another
    /// `shrink` would find nothing.
    shrunk_to: (u32, u32),
    /// The generation of a slot used for the first time. It is later than any that an earlier
    /// runtime of this number gave out.
    first_generation: u32,
}

impl Slots {
    pub(super) fn new(first_generation: u32) -> Self {
        let first_generation = first_generation & GENERATION_MASK;
        Self { pages: Vec::new(), free: NONE, live: 0, allocated: 0, shrunk_to: (0, 0), first_generation }
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> &Slot {
        match &self.pages[number as usize / PAGE] {
            Page::InUse { slots, .. } => &slots[number as usize % PAGE],
            Page::GivenBack { .. } => unreachable!("{IN_USE}"),
        }
    }

    #[inline(always)] // like `push`, which calls it
    pub(super) fn get_mut(&mut self, number: u32) -> &mut Slot {
        match &mut self.pages[number as usize / PAGE] {
            Page::InUse { slots, .. } => &mut slots[number as usize % PAGE],
            Page::GivenBack { .. } => unreachable!("{IN_USE}"),
        }
    }

    /// The slot of a key, which may be free; `None` if the generations differ.
    #[inline]
    pub(super) fn tenant(&mut self, key: TaskKey) -> Option<&mut Slot> {
        let number = key.slot() as usize;
        let Some(Page::InUse { slots, .. }) = self.pages.get_mut(number / PAGE) else { return None };
        let slot = &mut slots[number % PAGE];
        key.is_of_generation(slot.state).then_some(slot)
    }

    /// The slot of a key; `None` if the key is stale.
    #[inline]
    pub(super) fn find(&mut self, key: TaskKey) -> Option<&mut Slot> {
        self.tenant(key).filter(|slot| slot.state & PHASE != FREE)
    }

    pub(super) fn id(&self, number: u32) -> TaskId {
        match &self.pages[number as usize / PAGE] {
            Page::InUse { ids, .. } => ids[number as usize % PAGE],
            Page::GivenBack { .. } => unreachable!("{IN_USE}"),
        }
    }

    pub(super) fn set_id(&mut self, number: u32, id: TaskId) {
        match &mut self.pages[number as usize / PAGE] {
            Page::InUse { ids, .. } => ids[number as usize % PAGE] = id,
            Page::GivenBack { .. } => unreachable!("{IN_USE}"),
        }
    }

    /// The numbers of the taken slots, beginning with `first`.
    pub(super) fn taken_from(&self, first: u32) -> impl Iterator<Item = u32> {
        let end = self.pages.len() as u32 * PAGE as u32;
        (first..end).filter(|&number| match &self.pages[number as usize / PAGE] {
            Page::InUse { slots, .. } => slots[number as usize % PAGE].state & PHASE != FREE,
            Page::GivenBack { .. } => false,
        })
    }

    pub(super) fn live(&self) -> usize {
        self.live as usize
    }

    /// The latest generation that any slot has reached.
    pub(super) fn last_generation(&self) -> u32 {
        let generations = self.pages.iter().map(|page| match page {
            Page::InUse { slots, .. } => self.latest(&**slots),
            Page::GivenBack { generation } => *generation,
        });
        generations.max_by_key(|&generation| self.age(generation)).unwrap_or(self.first_generation)
    }

    fn latest(&self, slots: &[Slot]) -> u32 {
        let generations = slots.iter().map(|slot| slot.state >> GENERATION_SHIFT);
        generations.max_by_key(|&generation| self.age(generation)).unwrap_or(self.first_generation)
    }

    /// The distance of a generation from the first one, modulo 2²⁶.
    fn age(&self, generation: u32) -> u32 {
        generation.wrapping_sub(self.first_generation) & GENERATION_MASK
    }

    /// Takes a free slot, with its flags clear. `None` if the table is full.
    #[inline]
    pub(super) fn claim(&mut self) -> Option<Claimed<'_>> {
        if self.free == NONE {
            self.grow()?;
        }
        let number = self.free;
        match &mut self.pages[number as usize / PAGE] {
            Page::InUse { slots, ids } => {
                let index = number as usize % PAGE;
                let slot = &mut slots[index];
                self.free = slot.next;
                self.live += 1;
                Some(Claimed { number, slot, id: &mut ids[index] })
            }
            Page::GivenBack { .. } => unreachable!("{IN_USE}"),
        }
    }

    /// Allocates a page, in the place of one that was given back if there is such a place.
    #[cold]
    fn grow(&mut self) -> Option<()> {
        let is_one_given_back = (self.allocated as usize) < self.pages.len();
        let given_back = |(index, page): (usize, &Page)| match page {
            Page::InUse { .. } => None,
            Page::GivenBack { generation } => Some((index, *generation)),
        };
        let again = if is_one_given_back { self.pages.iter().enumerate().find_map(given_back) } else { None };
        let (index, generation) = again.unwrap_or((self.pages.len(), self.first_generation));
        if index == MAX_TASKS as usize / PAGE {
            return None;
        }
        let first = (index * PAGE) as u32;
        let last = first + PAGE as u32 - 1;
        let slot = |number: u32| Slot {
            task: None,
            state: generation << GENERATION_SHIFT,
            next: if number < last { number + 1 } else { NONE },
            queue: QueueId::FOREGROUND,
            about: About::NOTHING,
        };
        // Collect into the box: an array would be built on the stack and copied.
        let slots: Box<[Slot]> = (first..=last).map(slot).collect();
        let ids: Box<[TaskId]> = (0..PAGE).map(|_| TaskId(0)).collect();
        let (Ok(slots), Ok(ids)) = (slots.try_into(), ids.try_into()) else {
            unreachable!("both have a page's length")
        };
        let page = Page::InUse { slots, ids };
        if index < self.pages.len() {
            self.pages[index] = page;
        } else {
            self.pages.push(page);
        }
        self.allocated += 1;
        self.free = first;
        Some(())
    }

    /// Frees a slot for its next tenant.
    #[inline]
    pub(super) fn release(&mut self, number: u32) {
        let free = self.free;
        let slot = self.get_mut(number);
        slot.end_tenancy(0);
        slot.next = free;
        self.free = number;
        self.live -= 1;
    }

    /// Whether most slots are free, and more may be given back than at the last `shrink`.
    pub(super) fn is_wasteful(&self) -> bool {
        let (pages, live) = self.shrunk_to;
        let is_wide = self.allocated > 1 && self.live < self.allocated * PAGE as u32 / 4;
        is_wide && (self.allocated != pages || self.live <= live / 2)
    }

    /// Gives back every page without a taken slot, except the first, and relinks the free chain.
    #[cold]
    pub(super) fn shrink(&mut self) {
        self.free = NONE;
        for index in (0..self.pages.len()).rev() {
            let is_free = |slot: &Slot| slot.state & PHASE == FREE;
            let Page::InUse { slots, .. } = &self.pages[index] else { continue };
            if index > 0 && slots.iter().all(is_free) {
                self.pages[index] = Page::GivenBack { generation: self.latest(&**slots) };
                self.allocated -= 1;
                continue;
            }
            let Page::InUse { slots, .. } = &mut self.pages[index] else { continue };
            for place in (0..PAGE).rev() {
                let number = (index * PAGE + place) as u32;
                // Slot 0 belongs to the root, even while no `block_on` runs.
                if number > 0 && is_free(&slots[place]) {
                    slots[place].next = self.free;
                    self.free = number;
                }
            }
        }
        self.shrunk_to = (self.allocated, self.live);
    }
}
