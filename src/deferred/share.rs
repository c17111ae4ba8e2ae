//! Shares: how much of a queue one source of groups holds.
//!
//! A share is a counter. Each group that is made within it carries a clone, so that a job counts
//! where it enters the books and where it ends, without a look-up.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::executor::caught::drop_silently;

/// Counts the jobs of one source, such as a client or a tenant, so that none fills the whole queue.
/// Clones are the same share.
///
/// Groups made by [`Queue::group_within`](super::Queue::group_within) count here.
/// [`QueueBuilder::per_share`](super::QueueBuilder::per_share) limits each share of a queue.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::deferred::{AddError, Limit, Queue, Share};
/// postlude::run(async {
///     let queue = Queue::builder().pending(100).per_share(1).build();
///     let (ann, bob) = (Share::new(), Share::new());
///     let (first, second) = (queue.group_within(&ann, "first", 1), queue.group_within(&ann, "second", 2));
///     first.add(async {}).unwrap();
///     assert_eq!(second.add(async {}), Err(AddError::Full(Limit::Share)));
///     assert!(queue.group_within(&bob, "third", 3).add(async {}).is_ok());
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Share(Rc<Inner>);

struct Inner {
    held: Cell<usize>,
    counts: Counts,
    /// Dropped with the last handle, group or job.
    kept: Option<Box<dyn Any>>,
}

impl Drop for Inner {
    /// It is a user's value, and the books are at work.
    fn drop(&mut self) {
        drop_silently(self.kept.take());
    }
}

/// Where a share counts.
enum Counts {
    Here,
    Within(Share),
    Nowhere,
}

impl Share {
    /// A share that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(Inner { held: Cell::new(0), counts: Counts::Here, kept: None }))
    }

    /// A share that keeps a value until nothing has the share any more: no handle, no group, and no
    /// job of one. Its jobs count `within` another share, or not at all.
    ///
    /// A panic of the value's drop goes unreported.
    ///
    /// So a value that stands for memory or a licence is dropped when the last job that may use it
    /// is over.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::deferred::{Outcome, Queue, Share};
    /// use std::rc::Rc;
    /// postlude::run(async {
    ///     let (queue, licence) = (Queue::new(), Rc::new("one of three"));
    ///     let group = queue.group_within(&Share::keeping(None, Rc::clone(&licence)), "scan", 1);
    ///     group.add(async {}).unwrap();
    ///     group.release(Outcome::Delivered);
    ///     drop(group);
    ///     assert_eq!(Rc::strong_count(&licence), 2);
    ///     queue.idle().await;
    ///     assert_eq!(Rc::strong_count(&licence), 1);
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn keeping(within: Option<&Self>, value: impl Any) -> Self {
        let counts = within.map_or(Counts::Nowhere, |share| Counts::Within(share.clone()));
        Self(Rc::new(Inner { held: Cell::new(0), counts, kept: Some(Box::new(value)) }))
    }

    /// Jobs of its groups that are not over, and places reserved for them.
    #[must_use]
    pub fn held(&self) -> usize {
        self.counter().map_or(0, Cell::get)
    }

    /// Whether anything beside this handle has it: another clone, a group, or a job of one.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    fn counter(&self) -> Option<&Cell<usize>> {
        match &self.0.counts {
            Counts::Here => Some(&self.0.held),
            Counts::Within(share) => share.counter(),
            Counts::Nowhere => None,
        }
    }

    #[inline]
    pub(super) fn take(&self, places: usize) {
        if let Some(held) = self.counter() {
            held.set(held.get() + places);
        }
    }

    #[inline]
    pub(super) fn give_back(&self, places: usize) {
        if let Some(held) = self.counter() {
            held.set(held.get() - places);
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("held", &self.held()).finish_non_exhaustive()
    }
}
