//! Finds an ordering bug that a queue never shows, and replays it from its number:
//! `cargo run --example replay`.
//!
//! The first reader fills a cache. The racy cache looks, waits for the database, and fills; a
//! reader that looks meanwhile asks the database again. A first-in, first-out loop always runs the
//! program below in an order that hides this. A seed gives another order.
//!
//! This example writes out the steps of `postlude::test(0..100, racy)`: in a test, that call tries
//! the seeds, and its panic names the first that fails.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use postlude::Runtime;
use postlude::task::yield_now;
use postlude::time::sleep;

#[derive(Default)]
struct Cache {
    value: Cell<Option<u32>>,
    asking: Cell<bool>,
    queries: Cell<u32>,
}

impl Cache {
    async fn get_racy(&self) -> u32 {
        if let Some(value) = self.value.get() {
            return value;
        }
        self.ask_database().await
    }

    /// Leaves a note before it waits, so that the others wait too.
    async fn get(&self) -> u32 {
        while self.asking.get() {
            sleep(Duration::from_millis(1)).await;
        }
        if let Some(value) = self.value.get() {
            return value;
        }
        self.asking.set(true);
        let value = self.ask_database().await;
        self.asking.set(false);
        value
    }

    async fn ask_database(&self) -> u32 {
        self.queries.set(self.queries.get() + 1);
        yield_now().await;
        self.value.set(Some(42));
        42
    }
}

/// Two tasks read; the second one has something else to do first. Returns how often the database
/// was asked.
async fn two_readers(read: impl AsyncFn(Rc<Cache>) -> u32 + Clone + 'static) -> u32 {
    let cache = Rc::new(Cache::default());
    let (first, second) = (Rc::clone(&cache), Rc::clone(&cache));
    let read_early = read.clone();
    let early = postlude::spawn(async move { read_early(first).await });
    let late = postlude::spawn(async move {
        yield_now().await;
        read(second).await
    });
    assert_eq!((early.await.unwrap(), late.await.unwrap()), (42, 42));
    cache.queries.get()
}

async fn racy() -> u32 {
    two_readers(async |cache: Rc<Cache>| cache.get_racy().await).await
}

async fn repaired() {
    let queries = two_readers(async |cache: Rc<Cache>| cache.get().await).await;
    assert_eq!(queries, 1, "the database was asked twice");
}

/// How often the racy cache asks the database in the order of this seed.
fn queries(seed: u64) -> io::Result<u32> {
    Runtime::builder().seed(seed).paused_clock().build()?.block_on(racy())
}

fn main() -> io::Result<()> {
    println!("first in, first out: the database is asked {} time(s)", postlude::run(racy())?);

    let mut seed = 0;
    while queries(seed)? == 1 {
        seed += 1;
    }
    println!("seed {seed}: asked {} times", queries(seed)?);
    for _ in 0..3 {
        println!("seed {seed} again: asked {} times", queries(seed)?);
    }

    postlude::test(0..100, repaired);
    println!("repaired: asked once in each of 100 orders");
    Ok(())
}
