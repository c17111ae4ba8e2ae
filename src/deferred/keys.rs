//! Keys: of the jobs with one key one runs at a time, and one stands for all that ask meanwhile.
//!
//! A job that is added while another with its key waits is that one, unless it would run on other
//! terms ([`Books::waiting_with`]). Those that wait all the same take turns.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::books::Books;
use super::group::Members;
use super::id::JobId;
use super::row::{Condition, Row};
use crate::sync::Notify;

/// Jobs that are looked at for one of the same key: a request's own, and the one that waits next.
const JOINABLE: usize = 8;

/// The jobs that have a key and are not over.
#[derive(Default)]
pub(super) struct Keys(RefCell<HashMap<Rc<str>, Keyed>>);

/// The jobs with one key.
#[derive(Default)]
struct Keyed {
    /// Those that wait, oldest first.
    waiting: Vec<JobId>,
    /// The one whose turn it is.
    running: Option<JobId>,
    /// Tells those that wait that the other has ended.
    ended: Rc<Notify>,
}

impl Keys {
    pub(super) fn add(&self, key: Rc<str>, id: JobId) {
        self.0.borrow_mut().entry(key).or_default().waiting.push(id);
    }

    /// Gives the job its turn if no other has it. If one has, that tells of its end.
    pub(super) fn take_turn(&self, key: &Rc<str>, id: JobId) -> Option<Rc<Notify>> {
        let mut keys = self.0.borrow_mut();
        let keyed = keys.get_mut(key)?;
        if keyed.running.is_some_and(|running| running != id) {
            return Some(Rc::clone(&keyed.ended));
        }
        keyed.running = Some(id);
        keyed.waiting.retain(|&one| one != id);
        None
    }

    /// A job is over.
    pub(super) fn end(&self, key: &Rc<str>, id: JobId) {
        let mut keys = self.0.borrow_mut();
        let Some(keyed) = keys.get_mut(key) else { return };
        keyed.waiting.retain(|&one| one != id);
        let had_turn = keyed.running.take_if(|running| *running == id).is_some();
        let ended = had_turn.then(|| Rc::clone(&keyed.ended));
        if keyed.waiting.is_empty() && keyed.running.is_none() {
            keys.remove(key);
        }
        drop(keys);
        if let Some(ended) = ended {
            ended.notify_waiters();
        }
    }
}

impl Books {
    /// A job with this key that has not begun and runs if one of this group and condition would.
    pub(super) fn waiting_with(
        &self,
        key: &Rc<str>,
        group: Option<&Rc<Members>>,
        condition: Condition,
    ) -> Option<JobId> {
        let keys = self.keys.0.borrow();
        let Keyed { waiting, running, .. } = keys.get(key)?;
        // Its turn may have come while its lane is full.
        let candidates = waiting.iter().rev().take(JOINABLE).chain(running);
        candidates.copied().find(|&id| {
            let look = |row: &mut Row| {
                row.is_fresh()
                    && !row.cancelled
                    && row.group.as_ref().is_none_or(|theirs| {
                        theirs.skips_nothing_more()
                            || row.condition == condition && group.is_some_and(|group| Rc::ptr_eq(group, theirs))
                    })
            };
            self.find(id).and_then(|job| self.with(job, look)) == Some(true)
        })
    }
}
