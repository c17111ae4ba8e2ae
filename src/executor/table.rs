//! The task table: spawning, waking, visiting and joining, each a few steps on [`slots`](super::slots) and
//! [`queues`](super::queue).
//!
//! A task waits in its slot. A wake puts the slot into its queue; the loop, or the scope that owns the queue, takes it out, polls
//! it and puts it back or finishes it. What a wake or a poll does not need (the name, where it was spawned, who joins it) stands
//! outside the slot. The states of a slot are drawn in `slots.rs`.
//!
//! # Invariants
//!
//! - Nothing here runs user code: what a call removes (a box, a waker, a name) it returns, and the caller drops it outside the borrow.
//! - QUEUED and Waiting together mean: in exactly one queue, once.
//! - A key whose generation is not the slot's does nothing, whatever is asked with it.
//!
//! # Fairness
//!
//! FIFO within a queue. A foreground task woken by another joins the end of the ready chain and runs in this turn if the
//! turn's polls last. One that wakes itself joins the later chain, which `take_up_later` appends to the ready one when the
//! next turn begins: it runs after the OS was asked. A deferred task always joins the later chain, taken up when phase 2 begins,
//! so that phase runs at most the tasks that were ready by then.

use std::num::NonZeroU32;
use std::panic::Location;
use std::task::Waker;

use slab::Slab;

use super::about::{About, Current, Member, Record, Sites};
use super::id::{TaskId, TaskKey};
use super::queue::{Chain, NONE, QueueId, Queues, WakeTarget};
use super::random;
use super::slots::{ABORTED, Claimed, DONE, FREE, JOINABLE, PHASE, QUEUED, RUNNING, Slots, WAITING};
use super::stage::Boxed;
use crate::slabs;

/// The slot of `block_on`'s future, for good.
const ROOT: u32 = 0;

/// The index of a scope's body among its members.
pub(crate) const BODY: u32 = u32::MAX;

/// A ready task that is to be visited. It is Running until `put_back`, `finish` or `remove`.
pub(crate) struct Visit {
    pub(crate) key: TaskKey,
    /// The task, taken out of its slot. `None` for the future of `block_on` and for members of scopes, which others keep.
    pub(crate) task: Option<Boxed>,
    /// It is to be cancelled, not polled.
    pub(crate) is_aborted: bool,
}

/// What a wake did to a task.
enum Marked {
    /// The key is stale, or the task was ready already.
    No,
    Ready,
    /// It is the member of a scope: the owner of this queue may have to be woken, too.
    InScope(QueueId),
}

/// The state in which a handle finds its task.
pub(crate) enum JoinState {
    /// Not done; a waker, or another one, is still to be set.
    Pending,
    /// Not done, and this caller is woken when it is. What it replaces is to be dropped.
    Waits(Option<WakeTarget>),
    Done(Boxed),
    Gone,
}

pub(crate) struct Table {
    slots: Slots,
    queues: Queues,
    next_id: u64,
    sites: Sites,
    records: Slab<Record>,
    members: Slab<Member>,
    /// Names of the tasks that have one.
    names: Slab<Box<str>>,
    /// How many records, members and names were left when memory was last given back.
    shrunk_to: [usize; 3],
    /// State of the generator that picks from the ready queues, if the order is seeded.
    seed: Option<u64>,
    /// How often a waiting task became ready.
    wakes: u64,
    /// Set once, by `close`: nothing is queued any more.
    closed: bool,
}

impl Table {
    pub(crate) fn new(first_generation: u32, seed: Option<u64>) -> Self {
        let mut slots = Slots::new(first_generation);
        let root = slots.claim().map(|claimed| claimed.key.slot);
        debug_assert_eq!(root, Some(ROOT), "the first slot is the root's");
        Self {
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

    /// Moves a task in, queued. `Err` gives it back if every slot is taken, or the runtime is being dropped.
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
        let Some(Claimed { key, slot, id }) = self.slots.claim() else { return Err(task) };
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
        let number = TaskId(self.next_id);
        self.next_id += 1;
        *id = number;
        self.push(key.slot, queue, false);
        Ok((key, number))
    }

    /// Gives a member of a scope a slot, queued. It stays with the scope, which calls it `index`. `None` if every slot is taken.
    pub(crate) fn insert_member(
        &mut self,
        queue: QueueId,
        index: u32,
        location: &'static Location<'static>,
        name: Option<Box<str>>,
    ) -> Option<(TaskKey, TaskId)> {
        let Claimed { key, slot, id } = self.slots.claim()?;
        let site = NonZeroU32::MIN.saturating_add(self.sites.number(location));
        let name = name.map_or(NONE, |name| self.names.insert(name) as u32);
        slabs::grow_gently(&mut self.members);
        let about = About::of_member(self.members.insert(Member { site, index, name }));
        slot.state |= WAITING | QUEUED;
        (slot.next, slot.queue, slot.about) = (NONE, queue, about);
        let number = TaskId(self.next_id);
        self.next_id += 1;
        *id = number;
        self.push(key.slot, queue, false);
        Some((key, number))
    }

    /// Begins a `block_on`: its future is queued. It stays where `block_on` pinned it.
    pub(crate) fn begin_root(&mut self) -> TaskKey {
        self.slots.set_id(ROOT, TaskId(self.next_id));
        self.next_id += 1;
        let slot = self.slots.get_mut(ROOT);
        let is_queued = slot.state & QUEUED != 0;
        slot.state |= WAITING | QUEUED;
        let key = slot.key(ROOT);
        // The last one's place may still be in the queue, and then it is this one's.
        if !is_queued {
            slot.next = NONE;
            self.push(ROOT, QueueId::FOREGROUND, false);
        }
        key
    }

    /// Ends what `begin_root` began. A place in the queue that is left is passed over by `pop`.
    pub(crate) fn end_root(&mut self) {
        let slot = self.slots.get_mut(ROOT);
        slot.end_tenancy(slot.state & QUEUED);
    }

    /// Begins a scope: a queue of its own.
    pub(crate) fn add_queue(&mut self) -> QueueId {
        self.queues.add()
    }

    /// Ends a scope with what is left of its members. Returns its owner, to be dropped.
    pub(crate) fn remove_queue(&mut self, queue: QueueId, members: &[TaskKey]) -> Option<WakeTarget> {
        for &key in members {
            self.remove(key);
        }
        self.queues.remove(queue).owner
    }

    /// Marks a task ready, and with the first member of a scope the task that polls the scope. Nothing happens for a stale key or a task
    /// that is ready already. Returns an owner that is no task of this table, to be woken outside the borrow.
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
            // One that wakes itself is pushed when its poll is over.
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
                self.push(key.slot, queue, false);
                if queue.is_scope() { Marked::InScope(queue) } else { Marked::Ready }
            }
            _ => Marked::No,
        }
    }

    /// As [`wake`](Self::wake), one task at a time, for hooks that are told of each. Returns the task that became ready, and who is to
    /// be woken next.
    pub(crate) fn wake_and_tell(&mut self, key: TaskKey) -> (Option<TaskId>, Option<WakeTarget>) {
        match self.mark_ready(key) {
            Marked::No => (None, None),
            Marked::Ready => (self.id(key), None),
            Marked::InScope(queue) => (self.id(key), self.take_owner(queue)),
        }
    }

    /// How often a waiting task became ready.
    pub(crate) fn wakes(&self) -> u64 {
        self.wakes
    }

    /// Who is to be woken because a member of a scope is ready.
    pub(crate) fn take_owner(&mut self, queue: QueueId) -> Option<WakeTarget> {
        self.queues.get_mut(queue).owner.take()
    }

    /// The scope waits. Returns a waker to be dropped: the one before, or this one if it is to be woken at once because a member is
    /// ready, and whether that is so.
    pub(crate) fn set_owner(&mut self, queue: QueueId, owner: WakeTarget) -> (Option<WakeTarget>, bool) {
        let queue = self.queues.get_mut(queue);
        if !queue.is_empty() {
            return (Some(owner), true);
        }
        (queue.owner.replace(owner), false)
    }

    /// Begins a phase, or a scope's poll: tasks of the queue that were put off until then take part.
    #[inline]
    pub(crate) fn take_up_later(&mut self, queue: QueueId) {
        if let Some((tail, next)) = self.queues.get_mut(queue).take_up_later() {
            self.slots.get_mut(tail).next = next;
        }
    }

    /// The next task of a queue to visit.
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
                // A `block_on` that has ended has left its place.
                slot.state &= !QUEUED;
                continue;
            }
            slot.state = (slot.state & !(QUEUED | PHASE)) | RUNNING;
            return Some(Visit {
                key: slot.key(number),
                task: slot.task.take(),
                is_aborted: slot.state & ABORTED != 0,
            });
        }
    }

    /// A polled task is pending: back to its slot, and to the later chain of its queue if it was woken meanwhile.
    #[inline(always)] // like `pop`
    pub(crate) fn put_back(&mut self, key: TaskKey, task: Option<Boxed>) {
        let slot = self.slots.get_mut(key.slot);
        slot.fill(task);
        slot.state = (slot.state & !PHASE) | WAITING;
        if slot.state & QUEUED != 0 {
            slot.next = NONE;
            let queue = slot.queue;
            self.push(key.slot, queue, true);
        }
    }

    /// As [`put_back`](Self::put_back), for a member of a scope, which may have ended in that poll.
    pub(crate) fn put_back_member(&mut self, key: TaskKey) {
        if self.slots.find(key).is_some() {
            self.put_back(key, None);
        }
    }

    /// A polled task is done. Its output waits for the handle, and the joiner is to be woken. `Err` gives the box back if there is no
    /// handle: it is to be dropped, and then the slot freed by `remove`.
    #[inline]
    pub(crate) fn finish(&mut self, key: TaskKey, task: Boxed) -> Result<Option<WakeTarget>, Boxed> {
        let slot = self.slots.get_mut(key.slot);
        if slot.state & JOINABLE == 0 {
            return Err(task);
        }
        slot.fill(Some(task));
        slot.state = (slot.state & !(PHASE | QUEUED)) | DONE;
        let record = slot.about.record().and_then(|index| self.records.get_mut(index));
        Ok(record.and_then(|record| record.joiner.take()))
    }

    /// A task that is in no queue is over, and its box is gone. Returns a joiner, to be dropped.
    pub(crate) fn remove(&mut self, key: TaskKey) -> Option<WakeTarget> {
        let slot = self.slots.find(key)?;
        let about = std::mem::replace(&mut slot.about, About::NOTHING);
        self.slots.release(key.slot);
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

    /// Has the loop, or its scope, drop the task on the next visit, which a `wake` brings about.
    pub(crate) fn mark_aborted(&mut self, key: TaskKey) {
        if let Some(slot) = self.slots.find(key) {
            slot.state |= ABORTED;
        }
    }

    /// The handle is gone. Returns the joiner, to be dropped, and the box if the task was done: that is to be dropped as after `finish`.
    pub(crate) fn detach(&mut self, key: TaskKey) -> (Option<WakeTarget>, Option<Boxed>) {
        let Some(slot) = self.slots.find(key) else { return (None, None) };
        slot.state &= !JOINABLE;
        let task = if slot.state & PHASE == DONE { slot.task.take() } else { None };
        let record = slot.about.record().and_then(|index| self.records.get_mut(index));
        (record.and_then(|record| record.joiner.take()), task)
    }

    /// The state in which a handle finds its task. A done one is taken out; for any other, a joiner that is a task of this table is
    /// set, and a waker is left to `set_joiner`.
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

    /// Sets who is woken when the task is done. Returns what is to be dropped: the one before, or this one if the task has gone.
    pub(crate) fn set_joiner(&mut self, key: TaskKey, joiner: WakeTarget) -> Option<WakeTarget> {
        let Some(slot) = self.slots.find(key) else { return Some(joiner) };
        if let Some(record) = slot.about.record().and_then(|index| self.records.get_mut(index)) {
            return record.joiner.replace(joiner);
        }
        let record = Record { site: slot.about.site_number(), name: NONE, joiner: Some(joiner) };
        slot.about = About::of_record(self.records.insert(record));
        None
    }

    /// Where the scope keeps a member, or [`BODY`].
    pub(crate) fn member_index(&mut self, key: TaskKey) -> Option<u32> {
        let about = self.slots.find(key)?.about;
        Some(self.members.get(about.member()?)?.index)
    }

    /// The number of a live task. A scope's body has none of its own.
    pub(crate) fn id(&mut self, key: TaskKey) -> Option<TaskId> {
        self.slots.find(key)?;
        (!self.is_body(key.slot)).then(|| self.slots.id(key.slot))
    }

    /// Whether the task is to be visited: while it runs, whether it was woken meanwhile.
    pub(crate) fn is_queued(&mut self, key: TaskKey) -> bool {
        self.slots.find(key).is_some_and(|slot| slot.state & QUEUED != 0)
    }

    /// Whether the task's future still exists.
    pub(crate) fn is_pending(&mut self, key: TaskKey) -> bool {
        self.slots.find(key).is_some_and(|slot| slot.state & PHASE != DONE)
    }

    /// Whether any task of the queue can be visited in this phase.
    #[inline]
    pub(crate) fn has_more(&self, queue: QueueId) -> bool {
        !self.queues.get(queue).ready.is_empty()
    }

    /// Whether any task of the queue can be visited in this phase or the queue's next one.
    #[inline]
    pub(crate) fn has_ready(&self, queue: QueueId) -> bool {
        !self.queues.get(queue).is_empty()
    }

    /// Takes the box of any one task out, for the end of the runtime; the slot is to be freed by `remove`. Starts at slot `from` and
    /// says where to go on.
    pub(crate) fn take_next(&mut self, from: &mut u32) -> Option<(TaskKey, Option<Boxed>)> {
        let number = self.slots.taken_from((*from).max(ROOT + 1)).next()?;
        *from = number + 1;
        let slot = self.slots.get_mut(number);
        Some((slot.key(number), slot.task.take()))
    }

    /// Gives memory back that a burst of tasks has left. Called when there is nothing else to do.
    pub(crate) fn shrink(&mut self) {
        if self.slots.is_wasteful() {
            self.slots.shrink();
        }
        let [records, members, names] = &mut self.shrunk_to;
        slabs::shrink(&mut self.records, records);
        slabs::shrink(&mut self.members, members);
        slabs::shrink(&mut self.names, names);
    }

    /// Tasks in the table, `block_on`'s future among them.
    pub(crate) fn live(&self) -> usize {
        let root_is_free = self.slots.get(ROOT).state & PHASE == FREE;
        self.slots.live() - usize::from(root_is_free)
    }

    /// The generation with which the next runtime of this number begins: none was given out with it.
    pub(crate) fn next_generation(&self) -> u32 {
        self.slots.last_generation()
    }

    /// The runtime ends: nothing is visited any more, whoever wakes it.
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
        Some(self.describe(key.slot))
    }

    /// The cold facts of every task that waits, oldest first.
    pub(crate) fn describe_all(&self) -> Vec<Current> {
        let waits = |number: &u32| !self.is_body(*number) && self.slots.get(*number).state & PHASE != DONE;
        let mut all: Vec<_> =
            self.slots.taken_from(ROOT + 1).filter(waits).map(|number| self.describe(number)).collect();
        all.sort_by_key(|task| task.id);
        all
    }

    /// A scope's body is part of the task that owns the scope.
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

    /// Puts a slot that links to none at the end of a queue: of what runs in this phase, or of what runs in the next.
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

    /// Makes a slot that is picked by the seed the first of a queue.
    #[cold]
    fn bring_forward(&mut self, queue: QueueId) {
        let mut ready = self.queues.get(queue).ready;
        let count = self.chain(ready).take(PICK_WINDOW as usize).count() as u32;
        if count == 0 {
            return;
        }
        let (mut before, mut number) = (NONE, ready.head);
        for _ in 0..self.pick(count).unwrap_or(0) {
            before = number;
            number = self.slots.get(number).next;
        }
        if before != NONE {
            let next = std::mem::replace(&mut self.slots.get_mut(number).next, ready.head);
            self.slots.get_mut(before).next = next;
            ready.bring_forward(number, before, next);
            self.queues.get_mut(queue).ready = ready;
        }
    }

    /// The numbers of the slots in a chain.
    fn chain(&self, chain: Chain) -> impl Iterator<Item = u32> {
        let or_end = |number: u32| (number != NONE).then_some(number);
        std::iter::successors(or_end(chain.head), move |&number| or_end(self.slots.get(number).next))
    }

    /// A number below `len`, which is not 0, if the order is seeded.
    pub(crate) fn pick(&mut self, len: u32) -> Option<u32> {
        self.seed.as_mut().map(|counter| random::pick(counter, len))
    }
}

/// How far into the queue a seeded pick may reach: the walk there costs a step each.
const PICK_WINDOW: u32 = 64;
