//! What the books tell: of each step to the hooks or stderr, of a job or all to whatever asks, and
//! the figures.
//!
//! An [`Info`] is made only if it is asked for: without a hook a job that goes well costs no more
//! than a look at the settings.

use std::time::Duration;

use super::books::{Books, EventHook, Settings};
use super::id::JobId;
use super::info::{Fault, Info, LaneStats, Stats, Status};
use super::lane::LaneBooks;
use super::row::{Condition, JobRef};
use super::trace;
use crate::executor::caught::{self, drop_payload, panic_text};

impl Books {
    /// Tells the hooks of a job's new status. Without a hook for them, stderr is told of failures
    /// here, and of skipped jobs by their group, which knows how many there are.
    #[inline]
    pub(super) fn tell(&self, job: JobRef, fault: Option<&Fault>) {
        if self.settings.on_event.is_some() || self.settings.on_fault.is_some() || fault.is_some() || trace::is_on() {
            self.call_hooks(job, fault);
        }
    }

    #[inline(never)] // most jobs go well and are not watched
    fn call_hooks(&self, job: JobRef, fault: Option<&Fault>) {
        let Settings { on_event, on_fault, .. } = &self.settings;
        let goes_well = || self.with(job, |row| !row.status.is_bad()).unwrap_or(true);
        if on_event.is_none() && !trace::is_on() && goes_well() {
            return;
        }
        let Some(info) = self.info(job) else { return };
        trace::step(&info);
        if let Some(hook) = on_event {
            self.call(hook, &info, fault);
        }
        if fault.is_some_and(|fault| self.is_by_choice(job, fault)) {
            return;
        }
        match on_fault {
            Some(hook) if info.status.is_bad() => self.call(hook, &info, fault),
            None if info.status == Status::Failed => self.voice.say(&info.to_string()),
            _ => {}
        }
    }

    /// Whether a job is not run because of a condition that was chosen for it.
    pub(super) fn is_by_choice(&self, job: JobRef, fault: &Fault) -> bool {
        matches!(fault, Fault::Condition(_)) && self.condition(job) != Condition::Answer
    }

    fn call(&self, hook: &EventHook, info: &Info, fault: Option<&Fault>) {
        if let Err(payload) = caught::call(|| hook(info, fault)) {
            self.voice.say(&format!("the hook of a deferred queue panicked: {}", panic_text(&payload)));
            drop_payload(payload);
        }
    }

    /// Whether a hook is told of what goes wrong, so that stderr is not.
    pub(super) fn has_hook(&self) -> bool {
        self.settings.on_fault.is_some()
    }

    /// What is known of a job that is not over, or is still kept.
    pub(super) fn get(&self, id: JobId) -> Option<Info> {
        self.forget_old(self.now());
        self.info(self.find(id)?)
    }

    pub(super) fn info(&self, job: JobRef) -> Option<Info> {
        let now = self.recent();
        self.with(job, |row| row.info(now, &self.lanes[row.lane as usize]))
    }

    pub(super) fn list(&self) -> Vec<Info> {
        self.forget_old(self.now());
        let now = self.recent();
        let rows = self.rows.borrow();
        let mut all: Vec<_> = rows.iter().map(|(_, row)| row.info(now, &self.lanes[row.lane as usize])).collect();
        all.sort_unstable_by_key(|info| info.id);
        all
    }

    pub(super) fn stats(&self) -> Stats {
        let mut lanes: Vec<LaneStats> = self.lanes.iter().map(LaneBooks::stats).collect();
        let now = self.now();
        for (_, row) in self.rows.borrow().iter().filter(|(_, row)| !row.status.is_final()) {
            let age = Some(Duration::from_micros(now.saturating_sub(row.added)));
            let oldest = &mut lanes[row.lane as usize].oldest;
            *oldest = (*oldest).max(age);
        }
        Stats { lanes }
    }
}
