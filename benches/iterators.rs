//! What an item of a generator costs, beside a `poll_next` by hand that does the same: `cargo bench --bench iterators`.
//!
//! A counter is the worst case: by hand an item is an addition the compiler folds into the consumer's loop, so all of the generator's
//! time is the handing over. The others are what generators are written for: parsers, walks, and items that wait for something. Both
//! sides of a pair share the work, and differ in who keeps the place.

#![allow(missing_docs, reason = "`criterion_group` makes a public function")]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use criterion::{Criterion, criterion_group, criterion_main};
use futures::{Stream, StreamExt, stream};
use postlude::iter::Out;
use postlude::sync::mpsc;
use postlude::{Runtime, iter, spawn, task};

const ITEMS: u64 = 1000;

fn items(c: &mut Criterion) {
    time(c, "counter, by hand", || Counter(0));
    time(c, "counter, the barest future", || barest(1..=ITEMS, Iterator::next));
    time(c, "counter, generator", counter);

    let bytes: Vec<u8> = pseudorandom().flat_map(|n| encoded(n >> (n % 32))).collect();
    time(c, "varints of 1 to 5 bytes, by hand", || Varints(&bytes));
    time(c, "varints of 1 to 5 bytes, the barest future", || barest(&bytes[..], next_varint));
    time(c, "varints of 1 to 5 bytes, generator", || varints(&bytes));

    let text: String = pseudorandom().map(|n| format!("{n} {}\n", "x".repeat(n as usize % 80))).collect();
    time(c, "lines of up to 90 bytes, by hand", || Lines(&text));
    time(c, "lines of up to 90 bytes, generator", || lines(&text));

    let tree = tree();
    time(c, "tree in order, by hand", || InOrder { below: Some(&tree), above: Vec::new() });
    time(c, "tree in order, the barest future", || {
        barest((Some(&tree), Vec::new()), |(below, above)| next_node(below, above).map(|node| node.key))
    });
    time(c, "tree in order, generator with a stack", || in_order(&tree));
    time(c, "tree in order, recursive generator", || iter::generate(async |out| walk(&tree, out).await));

    time(c, "from a channel, by hand", || Doubled(numbers_sent()));
    time(c, "from a channel, generator", || doubled(numbers_sent()));

    time(c, "yielding before each, by hand", || Yielding { n: 0, has_yielded: false });
    time(c, "yielding before each, generator", yielding);
}

/// For all items, to be divided by [`ITEMS`].
fn time<S: Stream>(c: &mut Criterion, name: &str, make: impl Fn() -> S) {
    let runtime = Runtime::new().expect("a runtime");
    c.bench_function(name, |b| {
        b.iter(|| {
            let count = runtime.block_on(async {
                let mut items = pin!(make());
                let mut count = 0;
                while let Some(item) = items.next().await {
                    black_box(item);
                    count += 1;
                }
                count
            });
            assert_eq!(count.expect("this thread runs no other loop"), ITEMS);
        });
    });
}

struct Counter(u64);

impl Stream for Counter {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.0 == ITEMS {
            return Poll::Ready(None);
        }
        self.0 += 1;
        Poll::Ready(Some(self.0))
    }
}

fn counter() -> impl Stream<Item = u64> {
    iter::generate(async |out| {
        let mut n = 0;
        while n != ITEMS {
            n += 1;
            out.emit(n).await;
        }
    })
}

/// The least a future does to hand out numbers, unfit for use: no waker is compared, nothing waits, nothing is dropped at the end. A
/// generator's item cannot be expected below it; what lies between the two is ours.
fn barest<P>(mut place: P, mut next: impl FnMut(&mut P) -> Option<u64>) -> impl Stream<Item = u64> {
    let slot = Rc::new(Cell::new(None));
    let out = Rc::clone(&slot);
    let mut body = Box::pin(async move {
        while let Some(item) = next(&mut place) {
            let mut item = Some(item);
            poll_fn(|_| match item.take() {
                Some(item) => {
                    out.set(Some(item));
                    Poll::Pending
                }
                None => Poll::Ready(()),
            })
            .await;
        }
    });
    stream::poll_fn(move |cx| match body.as_mut().poll(cx) {
        Poll::Pending => Poll::Ready(slot.take()),
        Poll::Ready(()) => Poll::Ready(None),
    })
}

/// 32 bits each.
fn pseudorandom() -> impl Iterator<Item = u64> {
    let mut state = 1_u64;
    (0..ITEMS).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 32
    })
}

fn encoded(n: u64) -> impl Iterator<Item = u8> {
    let length = (64 - n.leading_zeros()).div_ceil(7).max(1);
    (0..length).map(move |at| (n >> (7 * at)) as u8 & 0x7f | if at + 1 < length { 0x80 } else { 0 })
}

fn next_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

struct Varints<'a>(&'a [u8]);

impl Stream for Varints<'_> {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        Poll::Ready(next_varint(&mut self.0))
    }
}

fn varints(mut bytes: &[u8]) -> impl Stream<Item = u64> {
    iter::generate(async move |out| {
        while let Some(n) = next_varint(&mut bytes) {
            out.emit(n).await;
        }
    })
}

fn next_line<'a>(text: &mut &'a str) -> Option<&'a str> {
    let (line, rest) = text.split_once('\n')?;
    *text = rest;
    Some(line)
}

struct Lines<'a>(&'a str);

impl<'a> Stream for Lines<'a> {
    type Item = &'a str;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<&'a str>> {
        Poll::Ready(next_line(&mut self.0))
    }
}

fn lines(mut text: &str) -> impl Stream<Item = &str> {
    iter::generate(async move |out| {
        while let Some(line) = next_line(&mut text) {
            out.emit(line).await;
        }
    })
}

struct Node {
    key: u64,
    left: Option<Box<Self>>,
    right: Option<Box<Self>>,
}

fn tree() -> Node {
    let mut root = None;
    for key in pseudorandom() {
        let mut place: &mut Option<Box<Node>> = &mut root;
        while let Some(node) = place {
            place = if key < node.key { &mut node.left } else { &mut node.right };
        }
        *place = Some(Box::new(Node { key, left: None, right: None }));
    }
    *root.expect("there are items")
}

fn next_node<'a>(below: &mut Option<&'a Node>, above: &mut Vec<&'a Node>) -> Option<&'a Node> {
    while let Some(node) = *below {
        above.push(node);
        *below = node.left.as_deref();
    }
    let node = above.pop()?;
    *below = node.right.as_deref();
    Some(node)
}

struct InOrder<'a> {
    below: Option<&'a Node>,
    above: Vec<&'a Node>,
}

impl Stream for InOrder<'_> {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        let Self { below, above } = &mut *self;
        Poll::Ready(next_node(below, above).map(|node| node.key))
    }
}

fn in_order(root: &Node) -> impl Stream<Item = u64> {
    iter::generate(async move |out| {
        let (mut below, mut above) = (Some(root), Vec::new());
        while let Some(node) = next_node(&mut below, &mut above) {
            out.emit(node.key).await;
        }
    })
}

/// As it reads best. An item passes through all the nodes above it, as it does in any language without stackful coroutines.
async fn walk(node: &Node, out: &mut Out<u64>) {
    if let Some(left) = &node.left {
        Box::pin(walk(left, out)).await;
    }
    out.emit(node.key).await;
    if let Some(right) = &node.right {
        Box::pin(walk(right, out)).await;
    }
}

/// A receiver of numbers, some of which are there and some still come.
fn numbers_sent() -> mpsc::Receiver<u64> {
    let (sender, receiver) = mpsc::channel(16);
    drop(spawn(async move {
        for n in 0..ITEMS {
            sender.send(n).await.expect("it is received");
        }
    }));
    receiver
}

struct Doubled(mpsc::Receiver<u64>);

impl Stream for Doubled {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        self.0.poll_next_unpin(cx).map(|n| n.map(|n| 2 * n))
    }
}

fn doubled(mut numbers: mpsc::Receiver<u64>) -> impl Stream<Item = u64> {
    iter::generate(async move |out| {
        while let Some(n) = numbers.recv().await {
            out.emit(2 * n).await;
        }
    })
}

struct Yielding {
    n: u64,
    has_yielded: bool,
}

impl Stream for Yielding {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.n == ITEMS {
            return Poll::Ready(None);
        }
        self.has_yielded = !self.has_yielded;
        if self.has_yielded {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.n += 1;
        Poll::Ready(Some(self.n))
    }
}

fn yielding() -> impl Stream<Item = u64> {
    iter::generate(async |out| {
        for n in 1..=ITEMS {
            task::yield_now().await;
            out.emit(n).await;
        }
    })
}

criterion_group!(benches, items);
criterion_main!(benches);
