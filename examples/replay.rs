//! Finds an ordering bug that a queue never shows, and replays it from its number: `cargo run --example replay`.
//!
//! A cache is filled by whoever asks first. The racy one looks, waits for the database, and fills: whoever looks meanwhile asks again. On
//! a loop that is first in, first out, the program below always runs in an order that hides this. `postlude::test` tries others.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

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

/// Two tasks read; the second one has something else to do first. Returns how often the database was asked.
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

async fn racy() {
    assert_eq!(two_readers(async |cache: Rc<Cache>| cache.get_racy().await).await, 1, "the database was asked twice");
}

async fn repaired() {
    assert_eq!(two_readers(async |cache: Rc<Cache>| cache.get().await).await, 1, "the database was asked twice");
}

fn main() -> std::io::Result<()> {
    postlude::run(racy())?;
    println!("first in, first out: passed");

    let fails = |seed| catch_unwind(AssertUnwindSafe(|| postlude::test([seed], racy))).is_err();
    let seed = (0..100).find(|seed| fails(*seed)).expect("an order that asks twice");
    println!("seed {seed}: asked twice");
    for _ in 0..3 {
        assert!(fails(seed), "a seed is an order");
    }
    println!("seed {seed}, three more times: asked twice");

    postlude::test(0..100, repaired);
    println!("repaired, 100 orders: passed");
    Ok(())
}
