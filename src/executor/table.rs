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
use super::queue::{Chain, NONE, Queue, QueueId, WakeTarget};
use super::random;
use super::slots::{ABORTED, DONE, FREE, JOINABLE, PHASE, QUEUED, RUNNING, Slots, WAITING};
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

/// What a finished task leaves to be dropped or woken outside the borrow.
pub(crate) struct Finished {
    pub(crate) joiner: Option<WakeTarget>,
    /// The box, if no handle will come for it, and what to say of it if it panicked.
    pub(crate) detached: Option<(Boxed, Current)>,
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
    /// By number: the foreground's, the deferred class's, those of scopes.
    queues: Vec<Queue>,
    /// Numbers of scopes' queues that have ended.
    free_queues: Vec<u32>,
    next_id: u64,
    sites: Sites,
    records: Slab<Record>,
    members: Slab<Member>,
    /// Names of those members that have one.
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
        let root = slots.claim();
        debug_assert_eq!(root, Some(ROOT), "the first slot is the root's");
        Self {
            slots,
            queues: vec![Queue::EMPTY, Queue::EMPTY],
            free_queues: Vec::new(),
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

    fn next_id(&mut self) -> TaskId {
        let id = TaskId(self.next_id);
        self.next_id += 1;
        id
    }

    /// Moves a task in, queued. `Err` gives it back if every slot is taken, or the runtime is being dropped.
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
        let Some(number) = self.slots.claim() else { return Err(task) };
        let site = self.sites.number(location);
        let about = if name.is_some() { self.record(site, name, None) } else { About::site(site) };
        let id = self.next_id();
        self.slots.set_id(number, id);
        let slot = self.slots.get_mut(number);
        slot.fill(Some(task));
        slot.state |= WAITING | QUEUED | JOINABLE;
        (slot.next, slot.queue, slot.about) = (NONE, queue, about);
        let key = slot.key(number);
        self.push(number, queue, false);
        Ok((key, id))
    }

    /// Gives a member of a scope a slot, queued. It stays with the scope, which calls it `index`. `None` if every slot is taken.
    pub(crate) fn insert_member(
        &mut self,
        queue: QueueId,
        index: u32,
        location: &'static Location<'static>,
        name: Option<Box<str>>,
    ) -> Option<(TaskKey, TaskId)> {
        let number = self.slots.claim()?;
        let site = NonZeroU32::MIN.saturating_add(self.sites.number(location));
        let name = name.map_or(NONE, |name| self.names.insert(name) as u32);
        slabs::grow_gently(&mut self.members);
        let about = About::of_member(self.members.insert(Member { site, index, name }));
        let id = self.next_id();
        self.slots.set_id(number, id);
        let slot = self.slots.get_mut(number);
        slot.state |= WAITING | QUEUED;
        (slot.next, slot.queue, slot.about) = (NONE, queue, about);
        let key = slot.key(number);
        self.push(number, queue, false);
        Some((key, id))
    }

    /// Begins a `block_on`: its future is queued. It stays where `block_on` pinned it.
    pub(crate) fn begin_root(&mut self) -> TaskKey {
        let id = self.next_id();
        self.slots.set_id(ROOT, id);
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
        let generation = slot.end_tenancy(slot.state & QUEUED);
        self.slots.note_generation(generation);
    }

    /// Begins a scope: a queue of its own.
    pub(crate) fn add_queue(&mut self) -> QueueId {
        if let Some(number) = self.free_queues.pop() {
            return QueueId(number);
        }
        self.queues.push(Queue::EMPTY);
        QueueId(self.queues.len() as u32 - 1)
    }

    /// Ends a scope with what is left of its members. Returns its owner, to be dropped.
    pub(crate) fn remove_queue(&mut self, queue: QueueId, members: &[TaskKey]) -> Option<WakeTarget> {
        for &key in members {
            self.remove(key);
        }
        let Queue { owner, .. } = std::mem::replace(&mut self.queues[queue.0 as usize], Queue::EMPTY);
        self.free_queues.push(queue.0);
        owner
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
        if self.closed {
            return Marked::No;
        }
        let Some(slot) = self.slots.tenant(key) else { return Marked::No };
        match slot.state & (QUEUED | PHASE) {
            WAITING => slot.state |= QUEUED,
            // One that wakes itself is pushed when its poll is over.
            RUNNING => {
                slot.state |= QUEUED;
                self.wakes += 1;
                return Marked::Ready;
            }
            _ => return Marked::No,
        }
        slot.next = NONE;
        let queue = slot.queue;
        self.wakes += 1;
        self.push(key.slot, queue, false);
        if queue.is_scope() { Marked::InScope(queue) } else { Marked::Ready }
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
        self.queues[queue.0 as usize].owner.take()
    }

    /// The scope waits. Returns a waker to be dropped: the one before, or this one if it is to be woken at once because a member is
    /// ready, and whether that is so.
    pub(crate) fn set_owner(&mut self, queue: QueueId, owner: WakeTarget) -> (Option<WakeTarget>, bool) {
        let queue = &mut self.queues[queue.0 as usize];
        if !queue.is_empty() {
            return (Some(owner), true);
        }
        (queue.owner.replace(owner), false)
    }

    /// Begins a phase, or a scope's poll: tasks of the queue that were put off until then take part.
    pub(crate) fn take_up_later(&mut self, queue: QueueId) {
        if let Some((tail, next)) = self.queues[queue.0 as usize].take_up_later() {
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
            let ready = &mut self.queues[queue.0 as usize].ready;
            let number = ready.head;
            if number == NONE {
                return None;
            }
            let slot = self.slots.get_mut(number);
            ready.head = slot.next;
            let phase = slot.state & PHASE;
            slot.state &= !(QUEUED | PHASE);
            if phase == FREE {
                // A `block_on` that has ended has left its place.
                continue;
            }
            slot.state |= RUNNING;
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

    /// A polled task is done. Its output waits for the handle, if there is one.
    pub(crate) fn finish(&mut self, key: TaskKey, task: Boxed) -> Finished {
        let slot = self.slots.get_mut(key.slot);
        if slot.state & JOINABLE == 0 {
            return self.release(key.slot, Some(task));
        }
        slot.fill(Some(task));
        slot.state = (slot.state & !(PHASE | QUEUED)) | DONE;
        let about = slot.about;
        Finished { joiner: self.take_joiner(about), detached: None }
    }

    /// A member of a scope that is in no queue is over.
    pub(crate) fn remove(&mut self, key: TaskKey) {
        if self.slots.find(key).is_some() {
            self.release(key.slot, None);
        }
    }

    /// Has the loop, or its scope, drop the task on the next visit, which a `wake` brings about.
    pub(crate) fn mark_aborted(&mut self, key: TaskKey) {
        if let Some(slot) = self.slots.find(key) {
            slot.state |= ABORTED;
        }
    }

    /// The handle is gone: returns the box if the task was done, to be dropped, and the joiner.
    pub(crate) fn detach(&mut self, key: TaskKey) -> Option<Finished> {
        let slot = self.slots.find(key)?;
        slot.state &= !JOINABLE;
        if slot.state & PHASE == DONE {
            let detached = slot.task.take();
            return Some(self.release(key.slot, detached));
        }
        let about = slot.about;
        Some(Finished { joiner: self.take_joiner(about), detached: None })
    }

    /// The state in which a handle finds its task. A done one is taken out; for any other, a joiner that is a task of this table is
    /// set, and a waker is left to `set_joiner`.
    pub(crate) fn poll_join(&mut self, key: TaskKey, joiner: Result<TaskKey, &Waker>) -> JoinState {
        let Some(slot) = self.slots.find(key) else { return JoinState::Gone };
        if slot.state & PHASE == DONE {
            let task = slot.task.take();
            return self.release(key.slot, task).detached.map_or(JoinState::Gone, |(task, _)| JoinState::Done(task));
        }
        let about = slot.about;
        match joiner {
            Ok(joiner) => JoinState::Waits(self.set_joiner(key, WakeTarget::Task(joiner))),
            Err(waker) => {
                let record = about.record().and_then(|index| self.records.get(index));
                match record.and_then(|record| record.joiner.as_ref()) {
                    Some(WakeTarget::Foreign(before)) if before.will_wake(waker) => JoinState::Waits(None),
                    _ => JoinState::Pending,
                }
            }
        }
    }

    /// Sets who is woken when the task is done. Returns what is to be dropped: the one before, or this one if the task has gone.
    pub(crate) fn set_joiner(&mut self, key: TaskKey, joiner: WakeTarget) -> Option<WakeTarget> {
        let Some(slot) = self.slots.find(key) else { return Some(joiner) };
        let about = slot.about;
        if let Some(record) = about.record().and_then(|index| self.records.get_mut(index)) {
            return record.joiner.replace(joiner);
        }
        let about = self.record(about.site_number(), None, Some(joiner));
        self.slots.get_mut(key.slot).about = about;
        None
    }

    fn take_joiner(&mut self, about: About) -> Option<WakeTarget> {
        let record = self.records.get_mut(about.record()?)?;
        record.joiner.take()
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
    pub(crate) fn has_more(&self, queue: QueueId) -> bool {
        !self.queues[queue.0 as usize].ready.is_empty()
    }

    /// Whether any task of the queue can be visited in this phase or the queue's next one.
    pub(crate) fn has_ready(&self, queue: QueueId) -> bool {
        !self.queues[queue.0 as usize].is_empty()
    }

    /// Takes any one task out, for the end of the runtime. Starts at slot `from` and says where to go on.
    pub(crate) fn remove_next(&mut self, from: &mut u32) -> Option<Finished> {
        let number = self.slots.taken_from((*from).max(ROOT + 1)).next()?;
        *from = number + 1;
        let task = self.slots.get_mut(number).task.take();
        Some(self.release(number, task))
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
            (self.records[index].site, self.records[index].name.clone())
        } else if let Some(index) = about.member() {
            let member = &self.members[index];
            (member.site(), self.names.get(member.name as usize).cloned())
        } else {
            (about.site_number(), None)
        };
        Current { id: self.slots.id(number), name, location: self.location(number, site) }
    }

    fn location(&self, number: u32, site: u32) -> Option<&'static Location<'static>> {
        (number != ROOT).then(|| self.sites.location(site))
    }

    fn record(&mut self, site: u32, name: Option<Box<str>>, joiner: Option<WakeTarget>) -> About {
        About::of_record(self.records.insert(Record { site, name, joiner }))
    }

    /// Frees a slot for its next tenant. What stood in it and around it goes to the caller.
    fn release(&mut self, number: u32, task: Option<Boxed>) -> Finished {
        let id = self.slots.id(number);
        let about = std::mem::replace(&mut self.slots.get_mut(number).about, About::NOTHING);
        let (site, name, joiner) = self.take_cold(about);
        let location = self.location(number, site);
        self.slots.release(number);
        let detached = task.map(|task| (task, Current { id, name, location }));
        Finished { joiner, detached }
    }

    fn take_cold(&mut self, about: About) -> (u32, Option<Box<str>>, Option<WakeTarget>) {
        if let Some(index) = about.record() {
            let record = self.records.remove(index);
            return (record.site, record.name, record.joiner);
        }
        if let Some(index) = about.member() {
            let member = self.members.remove(index);
            return (member.site(), self.names.try_remove(member.name as usize), None);
        }
        (about.site_number(), None, None)
    }

    /// Puts a slot that links to none at the end of a queue: of what runs in this phase, or of what runs in the next.
    #[inline(always)] // like `pop`
    fn push(&mut self, number: u32, queue: QueueId, later: bool) {
        let later = later || queue == QueueId::DEFERRED;
        let queue = &mut self.queues[queue.0 as usize];
        let chain = if later { &mut queue.later } else { &mut queue.ready };
        let tail = chain.append(number);
        if tail != NONE {
            self.slots.get_mut(tail).next = number;
        }
    }

    /// Makes a slot that is picked by the seed the first of a queue.
    #[cold]
    fn bring_forward(&mut self, queue: QueueId) {
        let mut ready = self.queues[queue.0 as usize].ready;
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
            self.queues[queue.0 as usize].ready = ready;
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
