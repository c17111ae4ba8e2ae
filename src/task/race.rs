//! The first of several futures, polled fairly: [`race`].
//!
//! Each poll begins with another branch than the one before, and ends where the budget does; the next one goes on there. So a branch
//! that is always ready never keeps another from being polled; and one race after the other, in a loop, lets each of two that are ready
//! win in turn.

use std::future::{Future, poll_fn};
use std::task::Poll;

use super::budget;
use crate::runtime::context;

/// Polls all `futures` until one is ready, and gives its place and its output. The others are dropped before it returns.
///
/// All branches are polled whenever one is woken, so none is held up by another. Never ready if there are none.
///
/// # Cancel safety
///
/// Dropping it drops every branch; the losers lose what dropping them loses.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let futures = [std::future::ready(1)];
///     assert_eq!(postlude::task::race(futures).await, (0, 1));
/// })
/// # }
/// ```
pub async fn race<F: Future>(futures: impl IntoIterator<Item = F>) -> (usize, F::Output) {
    let mut branches: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut first = first_branch() % branches.len().max(1);
    poll_fn(|cx| {
        let begin = first;
        first = (begin + 1) % branches.len().max(1);
        for step in 0..branches.len() {
            let number = (begin + step) % branches.len();
            if !budget::has_budget() {
                first = number;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Poll::Ready(output) = branches[number].as_mut().poll(cx) {
                return Poll::Ready((number, output));
            }
        }
        Poll::Pending
    })
    .await
}

/// Counted per runtime, so that a seed's order does not depend on what ran before in the process.
fn first_branch() -> usize {
    context::current().map_or(0, |parts| parts.races.replace(parts.races.get().wrapping_add(1)))
}
