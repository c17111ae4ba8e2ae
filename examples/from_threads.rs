//! Other threads send work to the loop and wait for its answer. `cargo run --example from_threads`

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use postlude::Runtime;

thread_local! {
    /// Lives on the loop's thread, and needs no lock.
    static COUNT: Rc<Cell<u32>> = Rc::default();
}

fn main() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let handle = runtime.handle();
            thread::spawn(move || {
                // The closure crosses threads; the future it makes need not be `Send`.
                let mut task = handle.spawn(move || async move {
                    let count = COUNT.with(Rc::clone);
                    postlude::time::sleep(Duration::from_millis(10 * n)).await;
                    count.set(count.get() + 1);
                    count.get()
                });
                task.wait(Duration::from_secs(5))
            })
        })
        .collect();
    runtime.block_on(postlude::time::sleep(Duration::from_millis(100)))?;
    for thread in threads {
        match thread.join().expect("the thread does not panic") {
            Some(Ok(count)) => println!("the loop counted to {count}"),
            Some(Err(error)) => println!("no answer: {error}"),
            None => println!("no answer within 5 s"),
        }
    }
    Ok(())
}
