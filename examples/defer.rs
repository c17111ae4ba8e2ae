//! Deferred tasks wait until nothing is urgent, but a busy loop cannot starve them. `cargo run
//! --example defer`

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use postlude::{defer, spawn, task};

fn main() -> io::Result<()> {
    postlude::run(async {
        println!("an answer, and what is left to do after it:");
        let after = defer(async { println!("  deferred: write the log") });
        let urgent = spawn(async { println!("  urgent: send the answer") });
        urgent.await?;
        after.await?;

        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        let busy = spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                task::yield_now().await;
            }
        });
        defer(async { println!("beside a task that never rests, a deferred one has its turn") }).await?;
        println!("after {} poll(s) of the busy task", polls.get());
        busy.abort();
        Ok(())
    })?
}
