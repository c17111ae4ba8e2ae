//! The task table: spawning, waking, visiting and joining, each a few steps on
//! [`slots`](super::slots) and [`queues`](super::queue).
//!
//! A task waits in its slot. A wake puts the slot into its queue. The loop, or the scope that owns
//! the queue, takes it out, polls it, and puts it back or finishes it. The facts that no wake and
//! no poll needs (name, spawn site, joiner) stand outside the slot. `slots.rs` draws the states of
//! a slot.
//!
//! # Invariants
//!
//! - No user code runs here. A call returns each box and waker it removes, and the caller drops it
//!   outside the borrow.
//! - QUEUED and Waiting together mean: in exactly one queue, once.
//! - A stale key (its generation is not the slot's) does nothing.
//!
//! # Fairness
//!
//! FIFO within a queue. A foreground task woken by another joins the end of the ready chain, and
//! runs in this turn if the turn's polls last. A task that wakes itself joins the later chain,
//! which `take_up_later` appends to the ready one when the next turn begins: it runs after the OS
//! was polled. A deferred task always joins the later chain, taken up when phase 2 begins, so the
//! phase runs at most the tasks that were ready by then.

use std::num::NonZeroU32;
use std::panic::Location;
use std::task::Waker;

use slab::Slab;

use super::about::{About, Current, Member, Record, Sites};
use super::id::{TaskId, TaskKey};
use super::queue::{NONE, QueueId, Queues, WakeTarget};
use super::random;
use super::slots::{ABORTED, Claimed, DONE, FREE, JOINABLE, PHASE, QUEUED, RUNNING, Slots, WAITING};
use super::stage::Boxed;
use crate::slabs;

/// The slot of `block_on`'s future, for good.
const ROOT: u32 = 0;

/// The reach of a seeded pick into its queue: getting there costs a step for each slot.
const PICK_WINDOW: usize = 64;

/// The index of a scope's body among its members.
pub(crate) const BODY: u32 = u32::MAX;

/// A ready task to visit. It is Running until `put_back`, `finish` or `remove`.
pub(crate) struct Visit {
    pub(crate) key: TaskKey,
    /// The task, taken out of its slot. `None` for the future of `block_on` and members of scopes,
    /// which have no box.
    pub(crate) task: Option<Boxed>,
    /// Cancel the task instead of polling it.
    pub(crate) is_aborted: bool,
}

/// The effect of a wake on a task.
enum Marked {
    /// The key is stale, or the task was ready already.
    No,
    Ready,
    /// The member of a scope is ready; its queue's owner may have to be woken too.
    InScope(QueueId),
}

/// The state in which a handle finds its task.
pub(crate) enum JoinState {
    /// Not done; the caller's waker still has to be set.
    Pending,
    /// Not done; the caller is set as the joiner. The caller drops the joiner it replaced.
    Waits(Option<WakeTarget>),
    Done(Boxed),
    Gone,
}

pub(crate) struct Table {
    /// The number of its runtime, a part of every key.
    runtime: u16,
    slots: Slots,
    queues: Queues,
    next_id: u64,
    sites: Sites,
    records: Slab<Record>,
    members: Slab<Member>,
    names: Slab<Box<str>>,
    /// The numbers of records, members and names when memory was last given back.
    shrunk_to: [usize; 3],
    /// State of the generator that picks from the ready queues, if the order is seeded.
    seed: Option<u64>,
    /// The number of wakes that had an effect.
    wakes: u64,
    /// Set once, by `close`: from then on nothing is queued.
    closed: bool,
}

impl Table {
    pub(crate) fn new(runtime: u16, first_generation: u32, seed: Option<u64>) -> Self {
        let mut slots = Slots::new(first_generation);
        let root = slots.claim().map(|claimed| claimed.number);
        debug_assert_eq!(root, Some(ROOT), "the first slot is the root's");
        Self {
            runtime,
            slots,
            queues: Queues::new(),
            next_id: 1,
            sites: Sites::default(),
            records: Slab::new(),
            members: Slab::new(),
            names: Slab::new(),
            shrunk_to: [0; 3],
            seed,
            wakes: 0,
            closed: false,
        }
    }

    /// Moves a task in, queued. `Err` returns it if every slot is taken or the runtime is being
    /// dropped.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        task: Boxed,
        queue: QueueId,
        location: &'static Location<'static>,
        name: Option<Box<str>>,
    ) -> Result<(TaskKey, TaskId), Boxed> {
        if self.closed {
            return Err(task);
        }
        let site = self.sites.number(location);
        let Some(Claimed { number, slot, id }) = self.slots.claim() else { return Err(task) };
        let about = match name {
            None => About(site),
            Some(name) => {
                let name = self.names.insert(name) as u32;
                About::of_record(self.records.insert(Record { site, name, joiner: None }))
            }
        };
        slot.fill(Some(task));
        slot.state |= WAITING | QUEUED | JOINABLE;
        (slot.next, slot.queue, slot.about) = (NONE, queue, about);
        let key = slot.key(self.runtime, number);
        *id = TaskId(self.next_id);
        let id = *id;
        self.next_id += 1;
        self.push(number, queue, false);
        Ok((key, id))
    }

    /// Gives a scope's member a slot, queued. The scope keeps the future, under the number `index`.
    /// `None` if every slot is taken.
    pub(crate) fn insert_member(
        &mut self,
        queue: QueueId,
        index: u32,
        location: &'static Location<'static>,
        name: Option<Box<str>>,
    ) -> Option<(TaskKey, TaskId)> {
        let Claimed { number, slot, id } = self.slots.claim()?;
        let site = NonZeroU32::MIN.saturating_add(self.sites.number(location));
        let name = name.map_or(NONE, |name| self.names.insert(name) as u32);
        slabs::grow_gently(&mut self.members);
        let about = About::of_member(self.members.insert(Member { site, index, name }));
        slot.state |= WAITING | QUEUED;
        (slot.next, slot.queue, slot.about) = (NONE, queue, about);
        let key = slot.key(self.runtime, number);
        *id = TaskId(self.next_id);
        let id = *id;
        self.next_id += 1;
        self.push(number, queue, false);
        Some((key, id))
    }

    /// Begins a `block_on`: queues its future, which stays pinned in `block_on`.
    pub(crate) fn begin_root(&mut self) -> TaskKey {
        self.slots.set_id(ROOT, TaskId(self.next_id));
        self.next_id += 1;
        let slot = self.slots.get_mut(ROOT);
        let is_queued = slot.state & QUEUED != 0;
        slot.state |= WAITING | QUEUED;
        let key = slot.key(self.runtime, ROOT);
        // If the last `block_on` left its slot in the queue, this one takes over that place.
        if !is_queued {
            slot.next = NONE;
            self.push(ROOT, QueueId::FOREGROUND, false);
        }
        key
    }

    /// Ends a `block_on`. If its slot is still in the queue, `pop` skips it.
    pub(crate) fn end_root(&mut self) {
        let slot = self.slots.get_mut(ROOT);
        slot.end_tenancy(slot.state & QUEUED);
    }

    /// Begins a scope: adds its queue.
    pub(crate) fn add_queue(&mut self) -> QueueId {
        self.queues.add()
    }

    /// Ends a scope: removes its remaining members and its queue. Returns its owner, to be dropped.
    pub(crate) fn remove_queue(&mut self, queue: QueueId, members: &[TaskKey]) -> Option<WakeTarget> {
        for &key in members {
            self.remove(key);
        }
        self.queues.remove(queue).owner
    }

    /// Marks a task ready. For the first ready member of a scope, also marks the task that polls
    /// the scope. Does nothing for a stale key or a task that is ready already. Returns an owner
    /// that is not a task of this table, to be woken outside the borrow.
    #[inline(always)] // a call would be a tenth of a wake
    pub(crate) fn wake(&mut self, key: TaskKey) -> Option<Waker> {
        match self.mark_ready(key) {
            Marked::No | Marked::Ready => None,
            Marked::InScope(queue) => self.wake_owner(queue),
        }
    }

    #[inline(never)] // keeps the common path short
    fn wake_owner(&mut self, queue: QueueId) -> Option<Waker> {
        match self.take_owner(queue)? {
            WakeTarget::Task(owner) => self.wake(owner),
            WakeTarget::Foreign(waker) => Some(waker),
        }
    }

    #[inline(always)] // like `wake`
    fn mark_ready(&mut self, key: TaskKey) -> Marked {
        let Some(slot) = self.slots.tenant(key) else { return Marked::No };
        match slot.state & (QUEUED | PHASE) {
            // A task that wakes itself is pushed by `put_back`, after its poll.
            RUNNING => {
                slot.state |= QUEUED;
                self.wakes += 1;
                Marked::Ready
            }
            WAITING if !self.closed => {
                slot.state |= QUEUED;
                slot.next = NONE;
                let queue = slot.queue;
                self.wakes += 1;
                self.push(key.slot(), queue, false);
                if queue.is_scope() { Marked::InScope(queue) } else { Marked::Ready }
            }
            _ => Marked::No,
        }
    }

    /// Like [`wake`](Self::wake), but one task at a time, so that hooks can be told of each.
    /// Returns the task that became ready, and the target to wake next.
    pub(crate) fn wake_and_tell(&mut self, key: TaskKey) -> (Option<TaskId>, Option<WakeTarget>) {
        match self.mark_ready(key) {
            Marked::No => (None, None),
            Marked::Ready => (self.id(key), None),
            Marked::InScope(queue) => (self.id(key), self.take_owner(queue)),
        }
    }

    pub(crate) fn wakes(&self) -> u64 {
        self.wakes
    }

    /// Takes the owner to wake when a scope's member is ready.
    pub(crate) fn take_owner(&mut self, queue: QueueId) -> Option<WakeTarget> {
        self.queues.get_mut(queue).owner.take()
    }

    /// Makes the scope wait for a wake, unless a member is ready. Returns whether one is, and a
    /// waker to drop: the previous owner, or this one if it was not needed.
    pub(crate) fn set_owner(&mut self, queue: QueueId, owner: WakeTarget) -> (Option<WakeTarget>, bool) {
        let queue = self.queues.get_mut(queue);
        if !queue.is_empty() {
            return (Some(owner), true);
        }
        (queue.owner.replace(owner), false)
    }

    /// Begins a phase, or a scope's poll: moves the queue's later tasks to its ready ones.
    #[inline]
    pub(crate) fn take_up_later(&mut self, queue: QueueId) {
        if let Some((tail, next)) = self.queues.get_mut(queue).take_up_later() {
            self.slots.get_mut(tail).next = next;
        }
    }

    /// Takes the next task of a queue to visit.
    #[inline(always)] // a call would be a tenth of a short poll
    pub(crate) fn pop(&mut self, queue: QueueId) -> Option<Visit> {
        if self.seed.is_some() {
            self.bring_forward(queue);
        }
        loop {
            let ready = &mut self.queues.get_mut(queue).ready;
            let number = ready.head;
            if number == NONE {
                return None;
            }
            let slot = self.slots.get_mut(number);
            ready.head = slot.next;
            if slot.state & PHASE == FREE {
                // A `block_on` that has ended left its slot here.
                slot.state &= !QUEUED;
                continue;
            }
            slot.state = (slot.state & !(QUEUED | PHASE)) | RUNNING;
            return Some(Visit {
                key: slot.key(self.runtime, number),
                task: slot.task.take(),
                is_aborted: slot.state & ABORTED != 0,
            });
        }
    }

    /// Puts a pending task back into its slot, and into the later chain if its own poll woke it.
    #[inline(always)] // like `pop`
    pub(crate) fn put_back(&mut self, key: TaskKey, task: Option<Boxed>) {
        let slot = self.slots.get_mut(key.slot());
        slot.fill(task);
        slot.state = (slot.state & !PHASE) | WAITING;
        if slot.state & QUEUED != 0 {
            slot.next = NONE;
            let queue = slot.queue;
            self.push(key.slot(), queue, true);
        }
    }

    /// Like [`put_back`](Self::put_back), for a scope's member, whose scope may have ended in that
    /// poll.
    pub(crate) fn put_back_member(&mut self, key: TaskKey) {
        if self.slots.find(key).is_some() {
            self.put_back(key, None);
        }
    }

    /// Ends a task that is done. Its output waits for the handle; the caller wakes the joiner.
    /// `Err` returns the box if there is no handle: the caller drops it, then frees the slot by
    /// `remove`.
    #[inline]
    pub(crate) fn finish(&mut self, key: TaskKey, task: Boxed) -> Result<Option<WakeTarget>, Boxed> {
        let slot = self.slots.get_mut(key.slot());
        if slot.state & JOINABLE == 0 {
            return Err(task);
        }
        slot.fill(Some(task));
        slot.state = (slot.state & !(PHASE | QUEUED)) | DONE;
        let record = slot.about.record().and_then(|index| self.records.get_mut(index));
        Ok(record.and_then(|record| record.joiner.take()))
    }

    /// Frees the slot of a task whose box is gone and that is in no queue. Returns its joiner, to
    /// be dropped.
    pub(crate) fn remove(&mut self, key: TaskKey) -> Option<WakeTarget> {
        let slot = self.slots.find(key)?;
        let about = std::mem::replace(&mut slot.about, About::NOTHING);
        self.slots.release(key.slot());
        let (name, joiner) = if let Some(index) = about.record() {
            let Record { name, joiner, .. } = self.records.remove(index);
            (name, joiner)
        } else if let Some(index) = about.member() {
            (self.members.remove(index).name, None)
        } else {
            return None;
        };
        if name != NONE {
            drop(self.names.remove(name as usize));
        }
        joiner
    }

    /// Marks a task to be dropped on its next visit; the caller also wakes it.
    pub(crate) fn mark_aborted(&mut self, key: TaskKey) {
        if let Some(slot) = self.slots.find(key) {
            slot.state |= ABORTED;
        }
    }

    /// Notes that the handle is gone. Returns the joiner, to be dropped, and the box of a done
    /// task, to be dropped as after `finish`.
    pub(crate) fn detach(&mut self, key: TaskKey) -> (Option<WakeTarget>, Option<Boxed>) {
        let Some(slot) = self.slots.find(key) else { return (None, None) };
        slot.state &= !JOINABLE;
        let task = if slot.state & PHASE == DONE { slot.task.take() } else { None };
        let record = slot.about.record().and_then(|index| self.records.get_mut(index));
        (record.and_then(|record| record.joiner.take()), task)
    }

    /// The state in which a handle finds its task. Takes a done task out. For any other it sets the
    /// joiner if that is a task of this table; a waker is left to `set_joiner`.
    #[inline]
    pub(crate) fn poll_join(&mut self, key: TaskKey, joiner: Result<TaskKey, &Waker>) -> JoinState {
        let Some(slot) = self.slots.find(key) else { return JoinState::Gone };
        if slot.state & PHASE == DONE {
            let task = slot.task.take();
            let joiner = self.remove(key);
            debug_assert!(joiner.is_none(), "taken as the task finished");
            return task.map_or(JoinState::Gone, JoinState::Done);
        }
        let record = slot.about.record().and_then(|index| self.records.get_mut(index));
        match (joiner, record) {
            (Ok(joiner), Some(record)) => JoinState::Waits(record.joiner.replace(WakeTarget::Task(joiner))),
            (Ok(joiner), None) => {
                let record =
                    Record { site: slot.about.site_number(), name: NONE, joiner: Some(WakeTarget::Task(joiner)) };
                slot.about = About::of_record(self.records.insert(record));
                JoinState::Waits(None)
            }
            (Err(waker), Some(Record { joiner: Some(WakeTarget::Foreign(before)), .. })) if before.will_wake(waker) => {
                JoinState::Waits(None)
            }
            (Err(_), _) => JoinState::Pending,
        }
    }

    /// Sets the joiner, woken when the task is done. Returns one to drop: the previous joiner, or
    /// this one if the task is gone.
    pub(crate) fn set_joiner(&mut self, key: TaskKey, joiner: WakeTarget) -> Option<WakeTarget> {
        let Some(slot) = self.slots.find(key) else { return Some(joiner) };
        if let Some(record) = slot.about.record().and_then(|index| self.records.get_mut(index)) {
            return record.joiner.replace(joiner);
        }
        let record = Record { site: slot.about.site_number(), name: NONE, joiner: Some(joiner) };
        slot.about = About::of_record(self.records.insert(record));
        None
    }

    /// The index of a member among its scope's children, or [`BODY`].
    pub(crate) fn member_index(&mut self, key: TaskKey) -> Option<u32> {
        let about = self.slots.find(key)?.about;
        Some(self.members.get(about.member()?)?.index)
    }

    /// The id of a live task; `None` for a scope's body, which has no id.
    pub(crate) fn id(&mut self, key: TaskKey) -> Option<TaskId> {
        self.slots.find(key)?;
        (!self.is_body(key.slot())).then(|| self.slots.id(key.slot()))
    }

    /// Whether the task is in a queue or, while it runs, was woken during its poll.
    pub(crate) fn is_queued(&mut self, key: TaskKey) -> bool {
        self.slots.find(key).is_some_and(|slot| slot.state & QUEUED != 0)
    }

    /// Whether the task's future still exists.
    pub(crate) fn is_pending(&mut self, key: TaskKey) -> bool {
        self.slots.find(key).is_some_and(|slot| slot.state & PHASE != DONE)
    }

    /// Whether the queue has a task to visit in this phase.
    #[inline]
    pub(crate) fn has_more(&self, queue: QueueId) -> bool {
        !self.queues.get(queue).ready.is_empty()
    }

    /// Whether the queue has a task to visit, in this phase or the next.
    #[inline]
    pub(crate) fn has_ready(&self, queue: QueueId) -> bool {
        !self.queues.get(queue).is_empty()
    }

    /// Takes out the box of the first task at or after slot `from`, for the end of the runtime, and
    /// moves `from` past it. The caller frees the slot by `remove`.
    pub(crate) fn take_next(&mut self, from: &mut u32) -> Option<(TaskKey, Option<Boxed>)> {
        let number = self.slots.taken_from((*from).max(ROOT + 1)).next()?;
        *from = number + 1;
        let slot = self.slots.get_mut(number);
        Some((slot.key(self.runtime, number), slot.task.take()))
    }

    /// Gives back the memory of a burst of tasks. Called when the loop is idle.
    pub(crate) fn shrink(&mut self) {
        if self.slots.is_wasteful() {
            self.slots.shrink();
        }
        let [records, members, names] = &mut self.shrunk_to;
        slabs::shrink(&mut self.records, records);
        slabs::shrink(&mut self.members, members);
        slabs::shrink(&mut self.names, names);
    }

    /// The number of tasks in the table, `block_on`'s future included.
    pub(crate) fn live(&self) -> usize {
        let root_is_free = self.slots.get(ROOT).state & PHASE == FREE;
        self.slots.live() - usize::from(root_is_free)
    }

    /// The generation with which the next runtime of this number begins.
    pub(crate) fn next_generation(&self) -> u32 {
        self.slots.last_generation()
    }

    /// Refuses new tasks and ignores wakes from now on: the runtime is being dropped.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether the runtime is being dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The cold facts of a live task.
    pub(crate) fn describe_key(&mut self, key: TaskKey) -> Option<Current> {
        self.slots.find(key)?;
        Some(self.describe(key.slot()))
    }

    /// The cold facts of every task that is not done, oldest first.
    pub(crate) fn describe_all(&self) -> Vec<Current> {
        let waits = |number: &u32| !self.is_body(*number) && self.slots.get(*number).state & PHASE != DONE;
        let mut all: Vec<_> =
            self.slots.taken_from(ROOT + 1).filter(waits).map(|number| self.describe(number)).collect();
        all.sort_by_key(|task| task.id);
        all
    }

    /// Whether the slot is that of a scope's body, which is part of the scope's owner.
    fn is_body(&self, number: u32) -> bool {
        let member = self.slots.get(number).about.member();
        member.is_some_and(|index| self.members[index].index == BODY)
    }

    fn describe(&self, number: u32) -> Current {
        let about = self.slots.get(number).about;
        let (site, name) = if let Some(index) = about.record() {
            (self.records[index].site, self.records[index].name)
        } else if let Some(index) = about.member() {
            (self.members[index].site(), self.members[index].name)
        } else {
            (about.site_number(), NONE)
        };
        let name = self.names.get(name as usize).cloned();
        let location = (number != ROOT).then(|| self.sites.location(site));
        Current { id: self.slots.id(number), name, location }
    }

    /// Appends a slot, whose `next` is `NONE`, to the queue's ready or later chain.
    #[inline(always)] // like `pop`
    fn push(&mut self, number: u32, queue: QueueId, later: bool) {
        let later = later || queue == QueueId::DEFERRED;
        let queue = self.queues.get_mut(queue);
        let chain = if later { &mut queue.later } else { &mut queue.ready };
        let last = std::mem::replace(&mut chain.tail, number);
        if chain.head == NONE {
            chain.head = number;
        } else {
            self.slots.get_mut(last).next = number;
        }
    }

    /// Makes a slot picked by the seed the first of its queue.
    #[cold]
    fn bring_forward(&mut self, queue: QueueId) {
        let head = self.queues.get(queue).ready.head;
        let or_end = |number: u32| (number != NONE).then_some(number);
        let ready = std::iter::successors(or_end(head), |&number| or_end(self.slots.get(number).next));
        let count = ready.take(PICK_WINDOW).count() as u32;
        if count == 0 {
            return;
        }
        let (mut before, mut number) = (NONE, head);
        for _ in 0..self.pick(count).unwrap_or(0) {
            before = number;
            number = self.slots.get(number).next;
        }
        if before != NONE {
            let next = std::mem::replace(&mut self.slots.get_mut(number).next, head);
            self.slots.get_mut(before).next = next;
            let ready = &mut self.queues.get_mut(queue).ready;
            ready.head = number;
            if next == NONE {
                ready.tail = before;
            }
        }
    }

    /// A pseudo-random number below `len`, which must not be 0; `None` if the order is not seeded.
    pub(crate) fn pick(&mut self, len: u32) -> Option<u32> {
        self.seed.as_mut().map(|counter| random::pick(counter, len))
    }
}
