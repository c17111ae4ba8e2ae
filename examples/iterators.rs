//! An async iterator written by hand: `Stream` is the trait, `poll_next` its one method. `cargo run
//! --example iterators`

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use postlude::time::Interval;

/// Counts down, one number per tick.
struct Countdown {
    left: u32,
    ticks: Interval,
}

impl Stream for Countdown {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        ready!(self.ticks.poll_tick(cx));
        self.left -= 1;
        Poll::Ready(Some(self.left))
    }
}

fn main() -> io::Result<()> {
    postlude::run(async {
        println!("a `Stream` written by hand counts down, one number per tick of an interval:");
        let ticks = postlude::time::interval(Duration::from_millis(20));
        let mut countdown = pin!(Countdown { left: 5, ticks });
        while let Some(number) = poll_fn(|cx| countdown.as_mut().poll_next(cx)).await {
            println!("  {number}");
        }
        println!("the stream has ended");
    })
}
