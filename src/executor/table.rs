//! The task table: where tasks live, and the queues of those that are ready.
//!
//! Tasks stand in slots; slots stand in pages of 256 that are never moved, so growing costs one allocation and copies nothing. A
//! queue is a chain of slot numbers through the slots themselves: pushing and popping touch no allocator. What a wake or a poll
//! does not need (the name, where it was spawned, who joins it) stands outside the slot.
//!
//! # A slot's state
//!
//! One word holds the generation (26 bits) and the state (6 bits): a phase and four flags.
//!
//! | phase   | the box is  | set by                          | left by |
//! |---------|-------------|---------------------------------|---------|
//! | Free    | nowhere     | `release`                       | `insert`, `insert_root`, `insert_member` |
//! | Waiting | in the slot | `insert`, `put_back`            | `pop`, `remove` |
//! | Running | in the loop | `pop`                           | `put_back`, `finish` |
//! | Done    | in the slot | `finish`, if a handle waits     | `take_done`, `detach` |
//!
//! | flag     | says | set by | cleared by |
//! |----------|------|--------|------------|
//! | QUEUED   | in a queue; while Running: woken during its own poll | `wake` | `pop` |
//! | DEFERRED | its queues are the deferred ones | `insert` | `release` |
//! | ABORTED  | its next visit drops it | `mark_aborted` | `release` |
//! | JOINABLE | a `JoinHandle` exists | `insert` | `detach`, `release` |
//!
//! ```text
//!            insert                  pop                 finish (handle)
//!     Free ──────────▶ Waiting ─────────────▶ Running ─────────────────▶ Done
//!      ▲                  ▲                     │ │                        │
//!      │                  └──────put_back───────┘ │                        │
//!      └───────────────finish (no handle)─────────┘                        │
//!      └───────────────────────take_done, detach───────────────────────────┘
//! ```
//!
//! # Invariants
//!
//! - Nothing here runs user code: what a call removes (a box, a waker, a name) it returns, and the caller drops it outside the borrow.
//! - QUEUED and Waiting together mean: in exactly one queue, once.
//! - A key whose generation is not the slot's does nothing, whatever is asked with it.
//!
//! # Members of scopes
//!
//! A child of a `task::scope`, and the scope's body, have a slot without a box: the scope keeps and polls them. A wake puts
//! such a slot into the queue of its group, a chain like the others, and whoever owns the scope is woken by the first. Their phases
//! are Waiting and Running, their cold facts a `Member`.
//!
//! # Fairness
//!
//! FIFO within a class. A foreground task woken by another joins the end of the ready queue and runs in this turn if the
//! turn's polls last. One that wakes itself joins the `later` queue, which `take_up_later` appends to the ready one when the
//! next turn begins: it runs after the OS was asked. A deferred task always joins `later`, taken up when phase 2 begins, so
//! that phase runs at most the tasks that were ready by then.

use std::num::NonZeroU32;
use std::panic::Location;
use std::pin::Pin;
use std::task::Waker;

use slab::Slab;

use super::about::{Current, Sites};
use super::id::{GENERATION_BITS, GENERATION_MASK, Key, MAX_TASKS, TaskId};
use super::stage::Task;

/// Slots in a page: 9 KiB, so that an empty runtime stays small and growth is rare.
const PAGE: usize = 256;
/// Ends a chain of slots.
const NONE: u32 = u32::MAX;

const PHASE: u32 = 0b11;
const FREE: u32 = 0;
const WAITING: u32 = 1;
const RUNNING: u32 = 2;
const DONE: u32 = 3;
const QUEUED: u32 = 1 << 2;
const DEFERRED: u32 = 1 << 3;
const ABORTED: u32 = 1 << 4;
const JOINABLE: u32 = 1 << 5;
const GENERATION_SHIFT: u32 = 32 - GENERATION_BITS;

pub(crate) type Boxed = Pin<Box<dyn Task>>;

/// Which queue a task waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Foreground,
    Deferred,
}

struct Slot {
    /// The task, while it is not being polled. Always `None` for the future of `block_on`.
    task: Option<Boxed>,
    /// Generation, phase and flags.
    state: u32,
    /// The next slot of the queue this one is in, or of the free list.
    next: u32,
    /// Shown to users; 0 in a free slot.
    id: TaskId,
}

impl Slot {
    /// Puts a task back. While it runs its slot is empty: nothing is dropped here, where the table is borrowed.
    fn fill(&mut self, task: Option<Boxed>) {
        let before = std::mem::replace(&mut self.task, task);
        debug_assert!(before.is_none(), "a task that runs has left its slot");
        std::mem::forget(before);
    }

    /// The key of its tenant; `number` is its own.
    fn key(&self, number: u32) -> Key {
        Key { slot: number, generation: self.state >> GENERATION_SHIFT }
    }

    fn class(&self) -> Class {
        if self.state & DEFERRED == 0 { Class::Foreground } else { Class::Deferred }
    }
}

struct Page {
    slots: [Slot; PAGE],
    /// For each slot: the number of its spawn site, or of its record.
    about: [About; PAGE],
}

/// Where the cold facts of a task stand: in a site shared with all tasks spawned there, or in a record of its own.
#[derive(Clone, Copy)]
struct About(u32);

impl About {
    const RECORD: u32 = 1 << 31;
    const MEMBER: u32 = 1 << 30;

    fn member(self) -> Option<usize> {
        (self.0 & Self::MEMBER != 0).then_some((self.0 & !Self::MEMBER) as usize)
    }

    fn record(self) -> Option<usize> {
        (self.0 & Self::RECORD != 0).then_some((self.0 & !Self::RECORD) as usize)
    }
}

/// The cold facts of a task that has a name or a joiner.
struct Record {
    site: u32,
    name: Option<Box<str>>,
    joiner: Option<Waker>,
}

/// What a scope polls by itself: one of its children, or its body.
struct Member {
    /// The number of its spawn site, plus one: so an unused entry of the slab needs no tag beside it.
    site: NonZeroU32,
    group: u32,
    /// Where the scope keeps it.
    index: u32,
    /// Its place among the names, or `NONE`.
    name: u32,
}

impl Member {
    fn site(&self) -> u32 {
        self.site.get() - 1
    }
}

/// A member of a scope that is to be visited.
pub(crate) struct ReadyMember {
    pub(crate) key: Key,
    /// Where the scope keeps it, or `BODY`.
    pub(crate) index: u32,
    /// It is to be dropped, not polled.
    pub(crate) is_aborted: bool,
}

/// The members of a scope that are ready, and who is to be told of the next one.
struct Group {
    queues: Queues,
    /// Set while the scope waits and none of its members is ready; taken by the first wake.
    owner: Option<Waker>,
}

/// The index of a scope's body among its members.
pub(crate) const BODY: u32 = u32::MAX;

/// What a wake came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The key is stale, or the task was ready already.
    No,
    Yes,
    /// A member of this group is ready: its owner is to be woken.
    Member(u32),
}

/// A chain through the slots' `next`.
#[derive(Clone, Copy)]
struct Queue {
    head: u32,
    /// Means nothing while there is no head.
    tail: u32,
}

impl Queue {
    const EMPTY: Self = Self { head: NONE, tail: NONE };

    fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Makes a slot the last, and returns the one that is to link to it, or `NONE`.
    fn append(&mut self, number: u32) -> u32 {
        let tail = std::mem::replace(&mut self.tail, number);
        if self.is_empty() {
            self.head = number;
            return NONE;
        }
        tail
    }

    /// Takes out the slot between these two; `NONE` stands for an end.
    fn remove_between(&mut self, before: u32, next: u32) {
        if before == NONE {
            self.head = next;
        } else if next == NONE {
            self.tail = before;
        }
    }
}

/// The two queues of a class: of this turn, and of the next.
struct Queues {
    ready: Queue,
    later: Queue,
}

impl Queues {
    /// Appends the queue of the next turn to that of this one. Returns the slot to be linked, and to which.
    fn take_up_later(&mut self) -> Option<(u32, u32)> {
        if self.later.is_empty() {
            return None;
        }
        let later = std::mem::replace(&mut self.later, Queue::EMPTY);
        let tail = std::mem::replace(&mut self.ready.tail, later.tail);
        if self.ready.is_empty() {
            self.ready.head = later.head;
            return None;
        }
        Some((tail, later.head))
    }

    fn are_empty(&self) -> bool {
        self.ready.is_empty() && self.later.is_empty()
    }
}

/// What the loop gets to visit.
pub(crate) enum Visit {
    /// The future given to `block_on`.
    Root,
    /// A task, taken out of its slot.
    Task(Boxed),
    /// A task that was aborted: to be cancelled, not polled.
    Aborted(Boxed),
}

/// What a finished task leaves to be dropped or woken outside the borrow.
pub(crate) struct Finished {
    pub(crate) joiner: Option<Waker>,
    /// The box, if no handle will come for it, and what to say of it if it panicked.
    pub(crate) detached: Option<(Boxed, Current)>,
}

pub(crate) struct Table {
    pages: Vec<Box<Page>>,
    /// First of the free list. Slots at `unused` and above were never used.
    free: u32,
    unused: u32,
    live: u32,
    next_id: u64,
    /// Generation of slots used for the first time: later than any the number's previous runtime gave out.
    first_generation: u32,
    /// The latest generation a slot has reached.
    last_generation: u32,
    /// The slot of `block_on`'s future, while there is one.
    root: Option<u32>,
    foreground: Queues,
    deferred: Queues,
    sites: Sites,
    records: Slab<Record>,
    members: Slab<Member>,
    /// Names of those members that have one.
    names: Slab<Box<str>>,
    groups: Slab<Group>,
    /// State of the generator that picks from the ready queues, if the order is seeded.
    seed: Option<u64>,
    /// Set once, by `close`: nothing is queued any more.
    closed: bool,
}

impl Table {
    pub(crate) fn new(first_generation: u32, seed: Option<u64>) -> Self {
        let queues = || Queues { ready: Queue::EMPTY, later: Queue::EMPTY };
        Self {
            pages: Vec::new(),
            free: NONE,
            unused: 0,
            live: 0,
            next_id: 1,
            first_generation: first_generation & GENERATION_MASK,
            last_generation: first_generation & GENERATION_MASK,
            root: None,
            foreground: queues(),
            deferred: queues(),
            sites: Sites::default(),
            records: Slab::new(),
            members: Slab::new(),
            names: Slab::new(),
            groups: Slab::new(),
            seed,
            closed: false,
        }
    }

    /// Moves a task in, queued. `Err` gives it back if every slot is taken.
    pub(crate) fn insert(
        &mut self,
        task: Boxed,
        class: Class,
        location: &'static Location<'static>,
        name: Option<Box<str>>,
    ) -> Result<(Key, TaskId), Boxed> {
        let Some(key) = self.claim() else { return Err(task) };
        let site = self.sites.number(location);
        let about = if name.is_some() { self.record(site, name, None) } else { About(site) };
        self.set_about(key.slot, about);
        let class_flag = if class == Class::Deferred { DEFERRED } else { 0 };
        let id = TaskId(self.next_id);
        self.next_id += 1;
        let slot = self.slot_mut(key.slot);
        slot.fill(Some(task));
        slot.state |= WAITING | QUEUED | JOINABLE | class_flag;
        slot.id = id;
        self.push(key.slot, false);
        Ok((key, id))
    }

    /// Gives the future of `block_on` a slot of its own, queued. It stays where `block_on` pinned it.
    pub(crate) fn insert_root(&mut self) -> Option<Key> {
        let key = self.claim()?;
        let id = TaskId(self.next_id);
        self.next_id += 1;
        let slot = self.slot_mut(key.slot);
        slot.state |= WAITING | QUEUED;
        slot.id = id;
        self.root = Some(key.slot);
        self.push(key.slot, false);
        Some(key)
    }

    /// Ends what `insert_root` began.
    pub(crate) fn remove_root(&mut self, key: Key) {
        self.unqueue(key.slot);
        self.release(key.slot, None);
        self.root = None;
    }

    /// Marks a task ready. Nothing happens for a stale key or a task that is ready already.
    #[inline]
    pub(crate) fn wake(&mut self, key: Key) -> Woken {
        if self.closed {
            return Woken::No;
        }
        let Some(slot) = self.tenant(key) else { return Woken::No };
        match slot.state & (QUEUED | PHASE) {
            WAITING => slot.state |= QUEUED,
            RUNNING => {
                slot.state |= QUEUED;
                return Woken::Yes;
            }
            _ => return Woken::No,
        }
        slot.next = NONE;
        let class = slot.class();
        // Of those that wait only the root and the members of scopes have no box.
        if slot.task.is_none() && self.root != Some(key.slot) {
            return self.push_member(key.slot, false);
        }
        self.append(class, false, key.slot);
        Woken::Yes
    }

    /// Begins a scope: a group without members.
    pub(crate) fn add_group(&mut self) -> u32 {
        let queues = Queues { ready: Queue::EMPTY, later: Queue::EMPTY };
        self.groups.insert(Group { queues, owner: None }) as u32
    }

    /// Gives a member of a scope a slot, queued in its group. It stays with the scope, which calls it `index`. `None` if every slot
    /// is taken.
    pub(crate) fn insert_member(
        &mut self,
        group: u32,
        index: u32,
        location: &'static Location<'static>,
        name: Option<Box<str>>,
    ) -> Option<(Key, TaskId)> {
        let key = self.claim()?;
        let site = NonZeroU32::MIN.saturating_add(self.sites.number(location));
        let name = name.map_or(NONE, |name| self.names.insert(name) as u32);
        grow_gently(&mut self.members);
        let about = About(About::MEMBER | self.members.insert(Member { site, group, index, name }) as u32);
        self.set_about(key.slot, about);
        let id = TaskId(self.next_id);
        self.next_id += 1;
        let slot = self.slot_mut(key.slot);
        slot.state |= WAITING | QUEUED;
        slot.id = id;
        self.push_member(key.slot, false);
        Some((key, id))
    }

    /// Who is to be woken because a member is ready.
    #[inline(never)] // keeps the common path short
    pub(crate) fn take_owner(&mut self, group: u32) -> Option<Waker> {
        self.groups.get_mut(group as usize)?.owner.take()
    }

    /// The scope is polled: members that woke themselves in its last poll may take part in this one. Returns the waker that need
    /// not be called meanwhile.
    pub(crate) fn begin_poll(&mut self, group: u32) -> Option<Waker> {
        let Group { queues, owner } = self.groups.get_mut(group as usize)?;
        let owner = owner.take();
        if let Some((tail, next)) = queues.take_up_later() {
            self.slot_mut(tail).next = next;
        }
        owner
    }

    /// The scope waits. Returns a waker to be dropped: the one before, or this one if it is to be woken at once because a member is
    /// ready, and whether that is so.
    pub(crate) fn set_owner(&mut self, group: u32, waker: Waker) -> (Option<Waker>, bool) {
        let Some(group) = self.groups.get_mut(group as usize) else { return (Some(waker), false) };
        if !group.queues.are_empty() {
            return (Some(waker), true);
        }
        (group.owner.replace(waker), false)
    }

    /// The next member that is ready; it is Running until `put_back_member` or `remove_member`.
    pub(crate) fn pop_member(&mut self, group: u32) -> Option<ReadyMember> {
        let mut queue = self.groups.get(group as usize)?.queues.ready;
        if queue.is_empty() {
            return None;
        }
        if self.seed.is_some() {
            queue = self.bring_forward(queue);
        }
        let number = queue.head;
        let slot = self.slot_mut(number);
        slot.state = (slot.state & !(QUEUED | PHASE)) | RUNNING;
        queue.head = slot.next;
        let (key, is_aborted) = (slot.key(number), slot.state & ABORTED != 0);
        self.groups.get_mut(group as usize)?.queues.ready = queue;
        let index = self.members.get(self.about(number).member()?)?.index;
        Some(ReadyMember { key, index, is_aborted })
    }

    /// A polled member is pending. Woken by itself meanwhile, it is ready in its scope's next poll.
    pub(crate) fn put_back_member(&mut self, key: Key) {
        let Some(slot) = self.find(key) else { return };
        slot.state = (slot.state & !PHASE) | WAITING;
        if slot.state & QUEUED != 0 {
            self.push_member(key.slot, true);
        }
    }

    /// A member that is in no queue is over.
    pub(crate) fn remove_member(&mut self, key: Key) {
        if self.find(key).is_some() {
            self.release(key.slot, None);
        }
    }

    /// Ends a scope with what is left of its members. Returns the waker to be dropped.
    pub(crate) fn remove_group(&mut self, group: u32, members: &[Key]) -> Option<Waker> {
        let group = self.groups.try_remove(group as usize)?;
        for &key in members {
            self.remove_member(key);
        }
        group.owner
    }

    #[inline(never)] // keeps the common path short
    fn push_member(&mut self, number: u32, later: bool) -> Woken {
        self.slot_mut(number).next = NONE;
        let Some(member) = self.about(number).member().and_then(|index| self.members.get(index)) else {
            return Woken::No;
        };
        let group = member.group;
        let Some(Group { queues, .. }) = self.groups.get_mut(group as usize) else { return Woken::No };
        let queue = if later { &mut queues.later } else { &mut queues.ready };
        let tail = queue.append(number);
        self.link(tail, number);
        Woken::Member(group)
    }

    /// Has the loop, or its scope, drop the task on the next visit, which a `wake` brings about.
    pub(crate) fn mark_aborted(&mut self, key: Key) {
        if let Some(slot) = self.find(key) {
            slot.state |= ABORTED;
        }
    }

    /// The handle is gone: returns the box if the task was done, to be dropped, and the joiner's waker.
    pub(crate) fn detach(&mut self, key: Key) -> Option<Finished> {
        let slot = self.find(key)?;
        slot.state &= !JOINABLE;
        if slot.state & PHASE == DONE {
            let detached = slot.task.take();
            return Some(self.release(key.slot, detached));
        }
        let joiner = self.record_mut(key.slot).and_then(|record| record.joiner.take());
        Some(Finished { joiner, detached: None })
    }

    /// What a handle finds that is polled with `waker`. A done task is taken out.
    pub(crate) fn poll_join(&mut self, key: Key, waker: &Waker) -> Joining {
        let Some(slot) = self.find(key) else { return Joining::Gone };
        if slot.state & PHASE == DONE {
            let task = slot.task.take();
            return self.release(key.slot, task).detached.map_or(Joining::Gone, |(task, _)| Joining::Done(task));
        }
        let joiner = self.record_mut(key.slot).and_then(|record| record.joiner.as_ref());
        if joiner.is_some_and(|joiner| joiner.will_wake(waker)) { Joining::Waits } else { Joining::Pending }
    }

    /// The number of a live task. A scope's body has none of its own.
    pub(crate) fn id(&mut self, key: Key) -> Option<TaskId> {
        let id = self.find(key)?.id;
        (!self.is_body(key.slot)).then_some(id)
    }

    /// Whether the task is to be visited: while it runs, whether it was woken meanwhile.
    pub(crate) fn is_queued(&mut self, key: Key) -> bool {
        self.find(key).is_some_and(|slot| slot.state & QUEUED != 0)
    }

    /// Whether the task's future still exists.
    pub(crate) fn is_pending(&mut self, key: Key) -> bool {
        self.find(key).is_some_and(|slot| slot.state & PHASE != DONE)
    }

    /// Sets the waker to be woken when the task is done, and returns the one before it.
    pub(crate) fn set_joiner(&mut self, key: Key, waker: Waker) -> Option<Waker> {
        if self.find(key).is_none() {
            return Some(waker);
        }
        if let Some(record) = self.record_mut(key.slot) {
            return record.joiner.replace(waker);
        }
        let About(site) = self.about(key.slot);
        let about = self.record(site, None, Some(waker));
        self.set_about(key.slot, about);
        None
    }

    /// Begins a phase: tasks of the class that were put off until it take part.
    pub(crate) fn take_up_later(&mut self, class: Class) {
        if let Some((tail, next)) = self.queues(class).take_up_later() {
            self.slot_mut(tail).next = next;
        }
    }

    /// The next task of a class to visit; it is Running until `put_back` or `finish`.
    #[inline]
    pub(crate) fn pop(&mut self, class: Class) -> Option<(Key, Visit)> {
        if self.seed.is_some() {
            let queue = self.queues(class).ready;
            self.queues(class).ready = self.bring_forward(queue);
        }
        let number = self.queues(class).ready.head;
        if number == NONE {
            return None;
        }
        let slot = self.slot_mut(number);
        slot.state = (slot.state & !(QUEUED | PHASE)) | RUNNING;
        let (key, next) = (slot.key(number), slot.next);
        let visit = match slot.task.take() {
            Some(task) if slot.state & ABORTED != 0 => Visit::Aborted(task),
            Some(task) => Visit::Task(task),
            None => Visit::Root,
        };
        self.queues(class).ready.head = next;
        Some((key, visit))
    }

    /// A polled task is pending: back to its slot, and to the queue of the next turn if it was woken meanwhile.
    #[inline]
    pub(crate) fn put_back(&mut self, key: Key, task: Option<Boxed>) {
        let slot = self.slot_mut(key.slot);
        slot.fill(task);
        slot.state = (slot.state & !PHASE) | WAITING;
        if slot.state & QUEUED != 0 {
            self.push(key.slot, true);
        }
    }

    /// A polled task is done. Its output waits for the handle, if there is one.
    pub(crate) fn finish(&mut self, key: Key, task: Boxed) -> Finished {
        let slot = self.slot_mut(key.slot);
        if slot.state & JOINABLE == 0 {
            return self.release(key.slot, Some(task));
        }
        slot.fill(Some(task));
        slot.state = (slot.state & !(PHASE | QUEUED)) | DONE;
        let joiner = self.record_mut(key.slot).and_then(|record| record.joiner.take());
        Finished { joiner, detached: None }
    }

    /// Whether any task of the class can be visited in this phase.
    pub(crate) fn has_more(&self, class: Class) -> bool {
        !self.queues_of(class).ready.is_empty()
    }

    /// Whether any task of the class can be visited in this phase or the class's next one.
    pub(crate) fn has_ready(&self, class: Class) -> bool {
        !self.queues_of(class).are_empty()
    }

    fn queues_of(&self, class: Class) -> &Queues {
        match class {
            Class::Foreground => &self.foreground,
            Class::Deferred => &self.deferred,
        }
    }

    /// Takes any one task out, for the end of the runtime. Starts at slot `from` and says where to go on.
    pub(crate) fn remove_next(&mut self, from: &mut u32) -> Option<Finished> {
        while *from < self.unused {
            let number = *from;
            *from += 1;
            if self.slot_mut(number).state & PHASE == FREE || self.root == Some(number) {
                continue;
            }
            let task = self.slot_mut(number).task.take();
            return Some(self.release(number, task));
        }
        None
    }

    /// Tasks in the table, `block_on`'s future among them.
    pub(crate) fn live(&self) -> usize {
        self.live as usize
    }

    /// The generation with which the next runtime of this number begins: none was given out with it.
    pub(crate) fn next_generation(&self) -> u32 {
        self.last_generation
    }

    /// The runtime ends: nothing is visited any more, whoever wakes it.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// The cold facts of a live task.
    pub(crate) fn describe_key(&mut self, key: Key) -> Option<Current> {
        self.find(key)?;
        Some(self.describe(key.slot))
    }

    /// The cold facts of every task that waits, oldest first.
    pub(crate) fn describe_all(&mut self) -> Vec<Current> {
        let mut all: Vec<Current> = (0..self.unused)
            .filter(|&number| {
                self.root != Some(number)
                    && !self.is_body(number)
                    && self.slot(number).state & PHASE != FREE
                    && self.slot(number).state & PHASE != DONE
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|number| self.describe(number))
            .collect();
        all.sort_by_key(|task| task.id);
        all
    }

    /// A scope's body is part of the task that owns the scope.
    fn is_body(&self, number: u32) -> bool {
        self.about(number).member().is_some_and(|index| self.members[index].index == BODY)
    }

    fn describe(&mut self, number: u32) -> Current {
        let about = self.about(number);
        let (site, name) = if let Some(index) = about.record() {
            (self.records[index].site, self.records[index].name.clone())
        } else if let Some(index) = about.member() {
            let member = &self.members[index];
            (member.site(), self.names.get(member.name as usize).cloned())
        } else {
            (about.0, None)
        };
        Current { id: self.slot(number).id, name, location: self.location(number, site) }
    }

    fn location(&self, number: u32, site: u32) -> Option<&'static Location<'static>> {
        (self.root != Some(number)).then(|| self.sites.all[site as usize])
    }

    fn slot(&self, number: u32) -> &Slot {
        &self.pages[number as usize / PAGE].slots[number as usize % PAGE]
    }

    fn slot_mut(&mut self, number: u32) -> &mut Slot {
        &mut self.pages[number as usize / PAGE].slots[number as usize % PAGE]
    }

    /// The slot of a key that is not stale.
    fn find(&mut self, key: Key) -> Option<&mut Slot> {
        self.tenant(key).filter(|slot| slot.state & PHASE != FREE)
    }

    /// The slot of a key whose generation is the slot's; it may be free.
    fn tenant(&mut self, key: Key) -> Option<&mut Slot> {
        let page = self.pages.get_mut(key.slot as usize / PAGE)?;
        let slot = &mut page.slots[key.slot as usize % PAGE];
        (slot.state >> GENERATION_SHIFT == key.generation).then_some(slot)
    }

    fn about(&self, number: u32) -> About {
        self.pages[number as usize / PAGE].about[number as usize % PAGE]
    }

    fn set_about(&mut self, number: u32, about: About) {
        self.pages[number as usize / PAGE].about[number as usize % PAGE] = about;
    }

    fn record(&mut self, site: u32, name: Option<Box<str>>, joiner: Option<Waker>) -> About {
        About(About::RECORD | self.records.insert(Record { site, name, joiner }) as u32)
    }

    fn record_mut(&mut self, number: u32) -> Option<&mut Record> {
        let index = self.about(number).record()?;
        self.records.get_mut(index)
    }

    /// A free slot, its flags clear.
    #[inline]
    fn claim(&mut self) -> Option<Key> {
        let number = if self.free == NONE {
            if self.unused == MAX_TASKS {
                return None;
            }
            if self.unused as usize == self.pages.len() * PAGE {
                self.add_page();
            }
            self.unused += 1;
            self.unused - 1
        } else {
            let number = self.free;
            self.free = self.slot(number).next;
            number
        };
        self.live += 1;
        Some(self.slot(number).key(number))
    }

    #[cold]
    fn add_page(&mut self) {
        let state = self.first_generation << GENERATION_SHIFT;
        self.pages.push(Box::new(Page {
            slots: std::array::from_fn(|_| Slot { task: None, state, next: NONE, id: TaskId(0) }),
            about: [About(0); PAGE],
        }));
    }

    /// Frees a slot for its next tenant. What stood in it and around it goes to the caller.
    fn release(&mut self, number: u32, task: Option<Boxed>) -> Finished {
        let about = self.about(number);
        self.set_about(number, About(0));
        let (site, name, joiner) = self.take_cold(about);
        let (free, location) = (self.free, self.location(number, site));
        let slot = self.slot_mut(number);
        let generation = ((slot.state >> GENERATION_SHIFT) + 1) & GENERATION_MASK;
        let id = std::mem::replace(&mut slot.id, TaskId(0));
        slot.state = generation << GENERATION_SHIFT;
        slot.next = free;
        self.free = number;
        self.live -= 1;
        self.note_generation(generation);
        let detached = task.map(|task| (task, Current { id, name, location }));
        Finished { joiner, detached }
    }

    fn take_cold(&mut self, about: About) -> (u32, Option<Box<str>>, Option<Waker>) {
        if let Some(index) = about.record() {
            let record = self.records.remove(index);
            return (record.site, record.name, record.joiner);
        }
        if let Some(index) = about.member() {
            let member = self.members.remove(index);
            return (member.site(), self.names.try_remove(member.name as usize), None);
        }
        (about.0, None, None)
    }

    fn note_generation(&mut self, generation: u32) {
        let age = |generation: u32| generation.wrapping_sub(self.first_generation) & GENERATION_MASK;
        if age(generation) > age(self.last_generation) {
            self.last_generation = generation;
        }
    }

    fn queues(&mut self, class: Class) -> &mut Queues {
        match class {
            Class::Foreground => &mut self.foreground,
            Class::Deferred => &mut self.deferred,
        }
    }

    fn push(&mut self, number: u32, later: bool) {
        let slot = self.slot_mut(number);
        slot.next = NONE;
        let class = slot.class();
        self.append(class, later, number);
    }

    /// Puts a slot that links to none at the end of a queue.
    fn append(&mut self, class: Class, later: bool, number: u32) {
        let later = later || class == Class::Deferred;
        let queues = self.queues(class);
        let queue = if later { &mut queues.later } else { &mut queues.ready };
        let tail = queue.append(number);
        self.link(tail, number);
    }

    /// Makes a slot the one after `tail`, if there is one.
    fn link(&mut self, tail: u32, number: u32) {
        if tail != NONE {
            self.slot_mut(tail).next = number;
        }
    }

    /// Makes a slot that is picked by the seed the first of a queue.
    #[cold]
    fn bring_forward(&mut self, mut queue: Queue) -> Queue {
        let count = self.chain(queue.head).take(PICK_WINDOW as usize).count() as u32;
        if count == 0 {
            return queue;
        }
        let (mut before, mut number) = (NONE, queue.head);
        for _ in 0..self.pick(count).unwrap_or(0) {
            before = number;
            number = self.slot(number).next;
        }
        if before != NONE {
            let next = std::mem::replace(&mut self.slot_mut(number).next, queue.head);
            self.slot_mut(before).next = next;
            queue.remove_between(before, next);
            queue.head = number;
        }
        queue
    }

    /// The numbers of the slots from `head` on.
    fn chain(&self, head: u32) -> impl Iterator<Item = u32> {
        let or_end = |number: u32| (number != NONE).then_some(number);
        std::iter::successors(or_end(head), move |&number| or_end(self.slot(number).next))
    }

    /// A number below `len`, which is not 0, if the order is seeded.
    pub(crate) fn pick(&mut self, len: u32) -> Option<u32> {
        self.seed.as_mut().map(|state| pick(state, len))
    }

    fn unlink(&mut self, class: Class, later: bool, before: u32, number: u32) {
        let next = self.slot(number).next;
        if before != NONE {
            self.slot_mut(before).next = next;
        }
        let queues = self.queues(class);
        let queue = if later { &mut queues.later } else { &mut queues.ready };
        queue.remove_between(before, next);
    }

    /// Takes a slot out of the queue it may be in, wherever in it: only at the end of `block_on`.
    fn unqueue(&mut self, number: u32) {
        let slot = self.slot_mut(number);
        if slot.state & QUEUED == 0 || slot.state & PHASE != WAITING {
            return;
        }
        slot.state &= !QUEUED;
        let class = slot.class();
        for later in [false, true] {
            let queues = self.queues(class);
            let mut at = if later { queues.later.head } else { queues.ready.head };
            let mut before = NONE;
            while at != NONE && at != number {
                before = at;
                at = self.slot(at).next;
            }
            if at == number {
                return self.unlink(class, later, before, number);
            }
        }
    }
}

/// What a handle finds when it is polled.
pub(crate) enum Joining {
    /// The task is not done, and another waker or none waits for it.
    Pending,
    /// The task is not done, and this waker waits for it.
    Waits,
    Done(Boxed),
    Gone,
}

/// Above this many entries a slab grows by an eighth instead of by as much again: one of a hundred thousand should not have another
/// thirty thousand unused. Each entry is then copied some eight times over the slab's life, which is cheap beside allocating for it.
const DOUBLED_UP_TO: usize = 1024;

/// Makes room for another entry, if there is none.
pub(crate) fn grow_gently<T>(slab: &mut Slab<T>) {
    let len = slab.len();
    if len == slab.capacity() {
        slab.reserve_exact(if len < DOUBLED_UP_TO { len.max(4) } else { len / 8 });
    }
}

/// How far into the queue a seeded pick may reach: the walk there costs a step each.
const PICK_WINDOW: u32 = 64;

/// A number below `len` from a splitmix64 generator.
fn pick(state: &mut u64, len: u32) -> u32 {
    *state = state.wrapping_add(GOLDEN_RATIO);
    (scramble(*state) % u64::from(len)) as u32
}

/// The steps in which splitmix64 counts.
pub(crate) const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

/// What splitmix64 makes of its counter.
pub(crate) fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
