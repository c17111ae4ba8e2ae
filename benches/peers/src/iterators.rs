//! What one item of an async iterator costs: a generator of ours, one of `async-stream`, `unfold`
//! of `futures`, and a `poll_next` by hand. First a counter, where the compiler sees the iterator's
//! type and may inline it, then boxed; and a walk of a tree, as an item that takes some work.

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::stream::{self, Stream, StreamExt};
use postlude::iter;

use crate::{Contestant, ours};

/// Of one iterator: short, so that most rounds are not interrupted.
const ITEMS: u32 = 10_000;

pub(crate) fn races() -> [(&'static str, Vec<Contestant>); 3] {
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
        (
            "tree, per item",
            vec![
                ("postlude", || ours(per_node(walk_generated))),
                ("async-stream", || ours(per_node(walk_by_macro))),
                ("unfold", || ours(per_node(walk_unfolded))),
                ("by hand", || ours(per_node(|root| InOrder { below: Some(root), above: Vec::new() }))),
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

struct Node {
    key: u32,
    left: Option<Box<Self>>,
    right: Option<Box<Self>>,
}

/// Of one tree: few enough that it stays in the cache.
const NODES: u32 = 1000;

fn tree() -> Node {
    let mut root = None;
    let mut key = 1_u32;
    for _ in 0..NODES {
        key = key.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let mut place: &mut Option<Box<Node>> = &mut root;
        while let Some(node) = place {
            place = if key < node.key { &mut node.left } else { &mut node.right };
        }
        *place = Some(Box::new(Node { key, left: None, right: None }));
    }
    *root.expect("it has nodes")
}

/// Walks a tree until [`ITEMS`] nodes were seen.
async fn per_node<S: Stream<Item = u32>>(walk: impl Fn(&'static Node) -> S) -> f64 {
    static TREE: LazyLock<Node> = LazyLock::new(tree);
    let root = &*TREE;
    let start = Instant::now();
    for _ in 0..ITEMS / NODES {
        let mut keys = pin!(walk(root));
        while let Some(key) = keys.next().await {
            black_box(key);
        }
    }
    start.elapsed().as_nanos() as f64 / f64::from(ITEMS)
}

/// The next node in order: all contestants walk so, and differ in who keeps the place.
fn next_node<'a>(below: &mut Option<&'a Node>, above: &mut Vec<&'a Node>) -> Option<&'a Node> {
    while let Some(node) = *below {
        above.push(node);
        *below = node.left.as_deref();
    }
    let node = above.pop()?;
    *below = node.right.as_deref();
    Some(node)
}

fn walk_generated(root: &Node) -> impl Stream<Item = u32> {
    iter::generate(async move |out| {
        let (mut below, mut above) = (Some(root), Vec::new());
        while let Some(node) = next_node(&mut below, &mut above) {
            out.emit(node.key).await;
        }
    })
}

fn walk_by_macro(root: &Node) -> impl Stream<Item = u32> {
    async_stream::stream! {
        let (mut below, mut above) = (Some(root), Vec::new());
        while let Some(node) = next_node(&mut below, &mut above) {
            yield node.key;
        }
    }
}

fn walk_unfolded(root: &Node) -> impl Stream<Item = u32> {
    stream::unfold((Some(root), Vec::new()), async |(mut below, mut above)| {
        let key = next_node(&mut below, &mut above)?.key;
        Some((key, (below, above)))
    })
}

struct InOrder<'a> {
    below: Option<&'a Node>,
    above: Vec<&'a Node>,
}

impl Stream for InOrder<'_> {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        let Self { below, above } = &mut *self;
        Poll::Ready(next_node(below, above).map(|node| node.key))
    }
}
