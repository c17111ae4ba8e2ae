//! A pipeline of generators, with a coroutine at its end: `cargo run --example generators`.
//!
//! The first stage reads a thermometer every second, the second leaves out impossible readings, and
//! a coroutine takes the others and gives the average so far. Each stage is a loop of its own, and
//! runs only as far as the next one asks.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use postlude::iter::{self, Resumed};
use postlude::time;

fn readings() -> impl Stream<Item = f64> {
    iter::generate(async |out| {
        for reading in [20.5, 21.0, 999.0, 21.5, -300.0, 23.0] {
            time::sleep(Duration::from_millis(100)).await;
            out.emit(reading).await;
        }
    })
}

fn plausible(readings: impl Stream<Item = f64>) -> impl Stream<Item = f64> {
    iter::generate(async move |out| {
        let mut readings = pin!(readings);
        while let Some(reading) = readings.next().await {
            if (-90.0..60.0).contains(&reading) {
                out.emit(reading).await;
            }
        }
    })
}

fn main() -> std::io::Result<()> {
    postlude::run(async {
        let mut average = pin!(iter::coroutine(async |mut reading: f64, out| {
            let (mut sum, mut count) = (0.0, 0.0);
            loop {
                sum += reading;
                count += 1.0;
                reading = out.ask(sum / count).await;
            }
        }));
        let mut readings = pin!(plausible(readings()));
        while let Some(reading) = readings.next().await {
            let Resumed::<f64, ()>::Yielded(average) = average.as_mut().resume(reading).await else { return };
            println!("{reading:.1} °C, on average {average:.2} °C");
        }
    })
}
