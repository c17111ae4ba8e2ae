//! Async iterators, per item: generators, lines, and many sources as one.

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};

use super::{Job, Load, Outcome, sizes};
use crate::peer::{Lines, Peer};

/// Items of one iterator: few enough that most rounds are not interrupted.
const ITEMS: u64 = 10_000;

pub fn loads<P: Peer>() -> Vec<Load> {
    vec![
        Load::new("generator", "an item of a generator that counts, 10 000 each", 2_000_000, generator::<P>),
        Load::new("lines", "a line of text in memory", 100_000, lines::<P>).sizes(sizes(&[44, 1000], "bytes")),
        Load::new("merge_ready", "an item of one of 16 merged sources that always have one", 500_000, merge_ready::<P>),
        Load::new("merge_yielding", "an item of one of two that yield before each", 200_000, merge_yielding::<P>),
    ]
}

fn generator<P: Peer>(job: Job) -> Outcome {
    P::run(job.time(async |operations| {
        let mut items = 0;
        while items < operations {
            let mut counter = pin!(P::counter(ITEMS));
            let mut sum = 0;
            while let Some(n) = counter.next().await {
                sum += black_box(n);
                items += 1;
            }
            assert_eq!(sum, ITEMS * (ITEMS - 1) / 2);
        }
        items
    }))
}

/// Lines of the text that is read again and again.
pub const LINES: u64 = 1000;

/// [`LINES`] lines of so many bytes each, with the line feed.
pub fn text(length: usize) -> &'static [u8] {
    let mut line = "x".repeat(length - 1);
    line.push('\n');
    line.repeat(LINES as usize).leak().as_bytes()
}

fn lines<P: Peer>(job: Job) -> Outcome {
    let text = text(job.size as usize);
    P::run(job.time(async move |operations| {
        let mut seen = 0;
        while seen < operations {
            let mut lines = P::lines(text);
            let mut bytes = 0;
            while let Some(line) = lines.next().await {
                (seen, bytes) = (seen + 1, bytes + black_box(line).len() + 1);
            }
            assert_eq!(bytes, text.len(), "all bytes of the text");
        }
        seen
    }))
}

/// So many ones; with a pending poll before each, or without.
pub struct Ones {
    left: u64,
    yields: bool,
    yielded: bool,
}

impl Ones {
    pub fn new(left: u64, yields: bool) -> Self {
        Self { left, yields, yielded: false }
    }
}

impl Stream for Ones {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.yields && !self.yielded {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        self.left -= 1;
        Poll::Ready(Some(1))
    }
}

async fn sum(items: impl Stream<Item = u64>) -> u64 {
    let mut items = pin!(items);
    let mut sum = 0;
    while let Some(n) = items.next().await {
        sum += black_box(n);
    }
    sum
}

fn merge_ready<P: Peer>(job: Job) -> Outcome {
    const SOURCES: u64 = 16;
    P::run(job.time(async |operations| {
        let sources = (0..SOURCES).map(|_| Ones::new(operations.div_ceil(SOURCES), false));
        sum(P::merge(sources.collect())).await
    }))
}

fn merge_yielding<P: Peer>(job: Job) -> Outcome {
    P::run(job.time(async |operations| {
        let source = || Ones::new(operations / 2, true);
        // smol's merge of two never ends.
        sum(P::merge_pair(source(), source()).take(operations as usize / 2 * 2)).await
    }))
}
