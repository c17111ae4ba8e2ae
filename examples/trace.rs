//! Prints each step of the loop in a program of a dozen lines: `cargo run --example trace`.
//!
//! `Hooks` report each spawn, wake, poll and end. They report neither the phase of a turn nor the
//! cause of a wake, so this example derives both. The task being polled causes a wake during its
//! poll. For any other wake, the counters of the turn show whether a timer, a message or an event
//! caused it.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use postlude::sync::mpsc;
use postlude::task::{self, Current};
use postlude::time::sleep;
use postlude::{Hooks, Runtime, TaskEnd, TaskId};

/// The program that is traced.
async fn program() {
    let (sender, mut receiver) = mpsc::channel(1);
    let reader = task::Builder::new().name("reader").spawn(async move {
        while let Some(word) = receiver.recv().await {
            drop(task::Builder::new().name(format!("log {word}")).defer(async {}));
        }
    });
    for word in ["one", "two"] {
        sleep(Duration::from_millis(10)).await;
        sender.send(word).await.expect("the reader is there");
    }
    drop(sender);
    reader.await.expect("the reader does not panic");
}

/// Writes down what the hooks are told.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Notes>>);

#[derive(Default)]
struct Notes {
    text: String,
    names: HashMap<TaskId, String>,
    /// The task that is being polled.
    running: Option<TaskId>,
}

impl Notes {
    fn line(&mut self, task: TaskId, what: &str) {
        let name = self.names.get(&task).map_or("?", String::as_str);
        let _ = writeln!(self.text, "    {name}: {what}");
    }
}

impl Hooks for Trace {
    fn spawned(&self, task: &Current) {
        let mut notes = self.0.borrow_mut();
        let name = task.name.as_deref().unwrap_or("program");
        notes.names.insert(task.id, name.to_owned());
        notes.line(task.id, "spawned");
    }

    fn woken(&self, task: TaskId) {
        let mut notes = self.0.borrow_mut();
        let by = notes.running.and_then(|running| notes.names.get(&running));
        let what = by.map_or_else(|| "woken by the loop".to_owned(), |by| format!("woken by {by}"));
        notes.line(task, &what);
    }

    fn poll_begins(&self, task: TaskId) {
        let mut notes = self.0.borrow_mut();
        notes.running = Some(task);
        notes.line(task, "poll begins");
    }

    fn poll_ends(&self, task: TaskId) {
        let mut notes = self.0.borrow_mut();
        notes.running = None;
        notes.line(task, "poll ends");
    }

    fn ended(&self, task: TaskId, how: TaskEnd) {
        self.0.borrow_mut().line(task, &format!("ended: {how:?}"));
    }

    fn parks(&self) {
        self.0.borrow_mut().text.push_str("    nothing is ready: park\n");
    }
}

/// Runs the program turn by turn, on a paused clock, so that each run writes the same.
pub(crate) fn trace() -> io::Result<String> {
    let trace = Trace::default();
    let mut runtime = Runtime::builder().paused_clock().hooks(trace.clone()).build()?;
    drop(runtime.spawn(program()));
    let mut number = 0;
    while runtime.stats().tasks > 0 {
        number += 1;
        let _ = writeln!(trace.0.borrow_mut().text, "turn {number}");
        let before = runtime.stats();
        runtime.turn(Some(Duration::ZERO))?;
        let after = runtime.stats();
        if after.timers > before.timers {
            let _ = writeln!(trace.0.borrow_mut().text, "    timers fired: {}", after.timers - before.timers);
        }
    }
    Ok(trace.0.take().text)
}

fn main() -> io::Result<()> {
    print!("{}", trace()?);
    Ok(())
}
