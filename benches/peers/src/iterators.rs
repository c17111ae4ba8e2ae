//! What one item of an async iterator costs: a generator of ours, one of `async-stream`, `unfold` of `futures`, and a `poll_next` by
//! hand. First where the compiler sees the iterator's type and may inline it, then boxed.

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::stream::{self, Stream, StreamExt};
use postlude::iter;

use crate::{Contestant, ours};

/// Of one iterator: short, so that most rounds are not interrupted.
const ITEMS: u32 = 10_000;

pub(crate) fn races() -> [(&'static str, Vec<Contestant>); 2] {
    [
        (
            "iterator, per item",
            vec![
                ("postlude", || ours(per_item(generated()))),
                ("async-stream", || ours(per_item(by_macro()))),
                ("unfold", || ours(per_item(unfolded()))),
                ("by hand", || ours(per_item(Counter(0)))),
            ],
        ),
        (
            "boxed, per item",
            vec![
                ("postlude", || ours(per_item(black_box(generated().boxed())))),
                ("async-stream", || ours(per_item(black_box(by_macro().boxed_local())))),
                ("unfold", || ours(per_item(black_box(unfolded().boxed_local())))),
                ("by hand", || ours(per_item(black_box(Counter(0).boxed_local())))),
            ],
        ),
    ]
}

async fn per_item(items: impl Stream<Item = u32>) -> f64 {
    let mut items = pin!(items);
    let start = Instant::now();
    let mut sum = 0_u64;
    while let Some(n) = items.next().await {
        sum += u64::from(black_box(n));
    }
    assert_eq!(sum, u64::from(ITEMS) * u64::from(ITEMS + 1) / 2);
    start.elapsed().as_nanos() as f64 / f64::from(ITEMS)
}

fn generated() -> iter::Generate<u32, impl Future<Output = ()>> {
    iter::generate(async |out| {
        let mut n = 0;
        while n < ITEMS {
            n += 1;
            out.emit(n).await;
        }
    })
}

fn by_macro() -> impl Stream<Item = u32> {
    async_stream::stream! {
        let mut n = 0;
        while n < ITEMS {
            n += 1;
            yield n;
        }
    }
}

fn unfolded() -> impl Stream<Item = u32> {
    stream::unfold(0, async |n| (n < ITEMS).then_some((n + 1, n + 1)))
}

struct Counter(u32);

impl Stream for Counter {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        if self.0 == ITEMS {
            return Poll::Ready(None);
        }
        self.0 += 1;
        Poll::Ready(Some(self.0))
    }
}
