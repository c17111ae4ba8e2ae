//! What an item of a generator costs, beside a `poll_next` by hand that does the same: `cargo bench
//! --bench iterators`.
//!
//! A counter is the worst case: by hand an item is an addition the compiler folds into the
//! consumer's loop, so all of the generator's time is the handing over. The others are what
//! generators are written for: parsers, walks, and items that wait for something. Both sides of a
//! pair share the work, and differ in who keeps the place.
//!
//! The difference is a few nanoseconds, and medians taken one after another vary by more. So the
//! sides take turns, and the least time of each counts: whatever else the machine does can only add
//! to it.

#![allow(clippy::print_stdout, reason = "a bench reports")]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::{Stream, StreamExt, stream};
use postlude::iter::Out;
use postlude::sync::mpsc;
use postlude::{Runtime, iter, spawn, task};

const ITEMS: u64 = 1000;
const TURNS: usize = 3000;
/// Iterators consumed in a turn, to make it long beside the clock's grain and short beside what
/// interrupts it.
const ITERATORS: u32 = 20;

fn main() {
    let runtime = &Runtime::new().expect("a runtime");

    race(
        "a counter",
        &[
            ("by hand", &|| time(runtime, || Counter(0))),
            ("bare future", &|| time(runtime, || bare(0, next_number))),
            ("generator", &|| time(runtime, counter)),
        ],
    );

    let bytes: Vec<u8> = pseudorandom().flat_map(|n| encoded(n >> (n % 32))).collect();
    race(
        "varints of 1 to 5 bytes",
        &[
            ("by hand", &|| time(runtime, || Varints(&bytes))),
            ("bare future", &|| time(runtime, || bare(&bytes[..], next_varint))),
            ("generator", &|| time(runtime, || varints(&bytes))),
        ],
    );

    let text: String = pseudorandom().map(|n| format!("{n} {}\n", "x".repeat(n as usize % 80))).collect();
    race(
        "lines of up to 90 bytes",
        &[("by hand", &|| time(runtime, || Lines(&text))), ("generator", &|| time(runtime, || lines(&text)))],
    );

    let tree = tree();
    let next_key = |(below, above): &mut (_, _)| next_node(below, above).map(|node| node.key);
    race(
        "a tree in order",
        &[
            ("by hand", &|| time(runtime, || InOrder { below: Some(&tree), above: Vec::new() })),
            ("bare future", &|| time(runtime, || bare((Some(&tree), Vec::new()), next_key))),
            ("generator", &|| time(runtime, || in_order(&tree))),
            ("recursive", &|| time(runtime, || iter::generate(async |out| walk(&tree, out).await))),
        ],
    );

    race(
        "from a channel",
        &[
            ("by hand", &|| time(runtime, || Doubled(numbers_sent()))),
            ("generator", &|| time(runtime, || doubled(numbers_sent()))),
        ],
    );

    race(
        "yielding before each",
        &[
            ("by hand", &|| time(runtime, || Yielding { n: 0, has_yielded: false })),
            ("generator", &|| time(runtime, yielding)),
        ],
    );
}

/// Prints each side's nanoseconds per item, and how many times the first's they are.
fn race(name: &str, sides: &[(&str, &dyn Fn() -> f64)]) {
    let mut least = vec![f64::INFINITY; sides.len()];
    for _ in 0..TURNS {
        for (least, (_, side)) in least.iter_mut().zip(sides) {
            *least = least.min(side());
        }
    }
    for ((side, _), ns) in sides.iter().zip(&least) {
        println!("{name:24} {side:12} {ns:6.1} ns  {:5.2} x", ns / least[0]);
    }
}

/// Nanoseconds per item.
fn time<S: Stream>(runtime: &Runtime, make: impl Fn() -> S) -> f64 {
    let consumed = runtime.block_on(async {
        let start = Instant::now();
        for _ in 0..ITERATORS {
            let mut items = pin!(make());
            let mut count = 0;
            while let Some(item) = items.next().await {
                black_box(item);
                count += 1;
            }
            assert_eq!(count, ITEMS);
        }
        start.elapsed().as_nanos() as f64 / f64::from(ITERATORS) / ITEMS as f64
    });
    consumed.expect("this thread runs no other loop")
}

fn next_number(n: &mut u64) -> Option<u64> {
    if *n == ITEMS {
        return None;
    }
    *n += 1;
    Some(*n)
}

struct Counter(u64);

impl Stream for Counter {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        Poll::Ready(next_number(&mut self.0))
    }
}

fn counter() -> impl Stream<Item = u64> {
    iter::generate(async |out| {
        let mut n = 0;
        while let Some(n) = next_number(&mut n) {
            out.emit(n).await;
        }
    })
}

/// A future that hands out numbers and does nothing else, unfit for use: it cannot wait, does not
/// look whether its number was taken, and cannot be polled again after its end. What it costs over
/// a `poll_next` by hand, the compiler's state machine costs.
fn bare<P>(mut place: P, mut next: impl FnMut(&mut P) -> Option<u64>) -> impl Stream<Item = u64> {
    let slot = Rc::new(Cell::new(0));
    let out = Rc::clone(&slot);
    let mut body = Box::pin(async move {
        while let Some(item) = next(&mut place) {
            out.set(item);
            let mut is_out = false;
            poll_fn(|_| if mem::replace(&mut is_out, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        }
    });
    stream::poll_fn(move |cx| match body.as_mut().poll(cx) {
        Poll::Pending => Poll::Ready(Some(slot.get())),
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

/// As it reads best. An item passes through all the nodes above it, as it does in any language
/// without stackful coroutines.
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
