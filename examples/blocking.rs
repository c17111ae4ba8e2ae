//! Work that blocks goes to threads, and the loop goes on. `cargo run --example blocking`

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::io;
use std::thread;
use std::time::Duration;

use postlude::blocking::Pool;
use postlude::{spawn, spawn_blocking, time};

fn main() -> io::Result<()> {
    postlude::run(async {
        println!("a thread sleeps for 50 ms and reads a file, while the loop ticks every 20 ms:");
        let clock = spawn(async {
            for tick in 1..=4 {
                time::sleep(Duration::from_millis(20)).await;
                println!("  the loop ticks: {tick}");
            }
        });
        let file = spawn_blocking(|| {
            thread::sleep(Duration::from_millis(50));
            std::fs::read_to_string("Cargo.toml").map(|text| text.lines().count())
        });
        match file.await? {
            Ok(lines) => println!("  the blocking job has read {lines} lines"),
            Err(error) => println!("  the blocking job could not read: {error}"),
        }

        // A pool of one's own keeps one kind of work from crowding out another.
        println!("four jobs on a pool of two threads:");
        let two_at_a_time = Pool::new(2);
        let jobs: Vec<_> = (0..4).map(|n| two_at_a_time.spawn(move || n * n)).collect();
        for job in jobs {
            println!("  a square: {}", job.await?);
        }
        clock.await?;
        Ok(())
    })?
}
