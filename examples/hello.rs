//! The smallest program: a task beside the main future. `cargo run --example hello`

#![allow(clippy::print_stdout, reason = "an example shows something")]

fn main() -> std::io::Result<()> {
    postlude::run(async {
        let word = postlude::spawn(async { "hello" });
        println!("{}, world", word.await.expect("the task does not panic"));
    })
}
