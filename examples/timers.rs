//! Sleeping, a time limit, and an interval that skips what it missed. `cargo run --example timers`

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::io;
use std::time::Duration;

use postlude::time::{self, MissedTick};

fn main() -> io::Result<()> {
    postlude::run(async {
        let start = time::now();
        let say = |what: &str| println!("{:4} ms  {what}", start.elapsed().as_millis());

        time::sleep(Duration::from_millis(50)).await;
        say("slept 50 ms");

        let late = time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
        say(&format!("a future that is never ready: {}", late.expect_err("it is never ready")));

        let mut every = time::interval(Duration::from_millis(10));
        every.set_missed_tick(MissedTick::Skip);
        every.tick().await;
        std::thread::sleep(Duration::from_millis(35));
        every.tick().await;
        say("a late tick: the thread was blocked for 35 ms");
        for _ in 0..2 {
            every.tick().await;
            say("a tick on time; those that were missed are not made up for");
        }
    })
}
