//! Shares: how much of a queue one source of groups holds.
//!
//! A share is a counter. Each group that is made within it carries a clone, so that a job counts
//! where it enters the books and where it ends, without a look-up.

use std::cell::Cell;
use std::rc::Rc;

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
#[derive(Clone, Debug, Default)]
pub struct Share {
    held: Rc<Cell<usize>>,
}

impl Share {
    /// A share that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Jobs of its groups that are not over, and places reserved for them.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// Whether anything beside this handle has it: another clone, a group, or a job of one.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Rc::strong_count(&self.held) > 1
    }

    #[inline]
    pub(super) fn take(&self, places: usize) {
        self.held.set(self.held.get() + places);
    }

    #[inline]
    pub(super) fn give_back(&self, places: usize) {
        self.held.set(self.held.get() - places);
    }
}
