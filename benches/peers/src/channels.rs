//! Channels between tasks of one thread, per message: through an unbounded one within a task, from
//! 100 producers through a bounded one, and back and forth between two tasks, through unbounded
//! channels and through bounded ones with room for one message. `futures` and `local-channel` bring
//! no executor and run on ours; `local-channel` has unbounded channels only.

use std::future::Future;
use std::time::Instant;

use futures::channel::mpsc as futures_mpsc;
use futures::{SinkExt, StreamExt};
use postlude::sync::mpsc;
use tokio::sync::mpsc as tokio_mpsc;

use crate::{Contestant, ours};

const MESSAGES: u32 = 200_000;
const PRODUCERS: u32 = 100;
const ROOM: usize = 64;

pub(crate) fn races() -> [(&'static str, Vec<Contestant>); 4] {
    [
        (
            "mpsc unbounded",
            vec![
                ("postlude", || ours(unbounded_ours())),
                ("tokio", || tokio_local(unbounded_tokio())),
                ("futures", || ours(unbounded_futures())),
                ("local-channel", || ours(unbounded_local())),
            ],
        ),
        (
            "mpsc fan-in 100:1",
            vec![
                ("postlude", || ours(fan_in_ours())),
                ("tokio", || tokio_local(fan_in_tokio())),
                ("futures", || ours(fan_in_futures())),
            ],
        ),
        (
            "mpsc ping-pong",
            vec![
                ("postlude", || ours(ping_pong_ours())),
                ("tokio", || tokio_local(ping_pong_tokio())),
                ("futures", || ours(ping_pong_futures())),
                ("local-channel", || ours(ping_pong_local())),
            ],
        ),
        (
            "mpsc ping-pong, room 1",
            vec![
                ("postlude", || ours(ping_pong_bounded_ours())),
                ("tokio", || tokio_local(ping_pong_bounded_tokio())),
                ("futures", || ours(ping_pong_bounded_futures())),
            ],
        ),
    ]
}

fn tokio_local<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

fn per_message(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / f64::from(MESSAGES)
}

async fn unbounded_ours() -> f64 {
    let (sender, mut receiver) = mpsc::unbounded();
    let start = Instant::now();
    for n in 0..MESSAGES {
        sender.send(n).expect("it is open");
        std::hint::black_box(receiver.recv().await);
    }
    per_message(start)
}

async fn unbounded_tokio() -> f64 {
    let (sender, mut receiver) = tokio_mpsc::unbounded_channel();
    let start = Instant::now();
    for n in 0..MESSAGES {
        sender.send(n).expect("it is open");
        std::hint::black_box(receiver.recv().await);
    }
    per_message(start)
}

async fn unbounded_futures() -> f64 {
    let (sender, mut receiver) = futures_mpsc::unbounded();
    let start = Instant::now();
    for n in 0..MESSAGES {
        sender.unbounded_send(n).expect("it is open");
        std::hint::black_box(receiver.next().await);
    }
    per_message(start)
}

async fn unbounded_local() -> f64 {
    let (sender, mut receiver) = local_channel::mpsc::channel();
    let start = Instant::now();
    for n in 0..MESSAGES {
        sender.send(n).expect("it is open");
        std::hint::black_box(receiver.recv().await);
    }
    per_message(start)
}

async fn fan_in_ours() -> f64 {
    let (sender, mut receiver) = mpsc::channel(ROOM);
    let start = Instant::now();
    for _ in 0..PRODUCERS {
        let sender = sender.clone();
        drop(postlude::spawn(async move {
            for n in 0..MESSAGES / PRODUCERS {
                sender.send(n).await.expect("it is open");
            }
        }));
    }
    drop(sender);
    while let Some(n) = receiver.recv().await {
        std::hint::black_box(n);
    }
    per_message(start)
}

async fn fan_in_tokio() -> f64 {
    let (sender, mut receiver) = tokio_mpsc::channel(ROOM);
    let start = Instant::now();
    for _ in 0..PRODUCERS {
        let sender = sender.clone();
        drop(tokio::task::spawn_local(async move {
            for n in 0..MESSAGES / PRODUCERS {
                sender.send(n).await.expect("it is open");
            }
        }));
    }
    drop(sender);
    while let Some(n) = receiver.recv().await {
        std::hint::black_box(n);
    }
    per_message(start)
}

async fn fan_in_futures() -> f64 {
    // Each sender has a slot of its own beside the room that is asked for.
    let (sender, mut receiver) = futures_mpsc::channel(ROOM);
    let start = Instant::now();
    for _ in 0..PRODUCERS {
        let mut sender = sender.clone();
        drop(postlude::spawn(async move {
            for n in 0..MESSAGES / PRODUCERS {
                sender.send(n).await.expect("it is open");
            }
        }));
    }
    drop(sender);
    while let Some(n) = receiver.next().await {
        std::hint::black_box(n);
    }
    per_message(start)
}

async fn ping_pong_ours() -> f64 {
    let (ping, mut pinged) = mpsc::unbounded();
    let (pong, mut ponged) = mpsc::unbounded();
    drop(postlude::spawn(async move {
        while let Some(n) = pinged.recv().await {
            if pong.send(n).is_err() {
                break;
            }
        }
    }));
    let start = Instant::now();
    for n in 0..MESSAGES / 2 {
        ping.send(n).expect("it is open");
        std::hint::black_box(ponged.recv().await);
    }
    per_message(start)
}

async fn ping_pong_tokio() -> f64 {
    let (ping, mut pinged) = tokio_mpsc::unbounded_channel();
    let (pong, mut ponged) = tokio_mpsc::unbounded_channel();
    drop(tokio::task::spawn_local(async move {
        while let Some(n) = pinged.recv().await {
            if pong.send(n).is_err() {
                break;
            }
        }
    }));
    let start = Instant::now();
    for n in 0..MESSAGES / 2 {
        ping.send(n).expect("it is open");
        std::hint::black_box(ponged.recv().await);
    }
    per_message(start)
}

async fn ping_pong_futures() -> f64 {
    let (ping, mut pinged) = futures_mpsc::unbounded();
    let (pong, mut ponged) = futures_mpsc::unbounded();
    drop(postlude::spawn(async move {
        while let Some(n) = pinged.next().await {
            if pong.unbounded_send(n).is_err() {
                break;
            }
        }
    }));
    let start = Instant::now();
    for n in 0..MESSAGES / 2 {
        ping.unbounded_send(n).expect("it is open");
        std::hint::black_box(ponged.next().await);
    }
    per_message(start)
}

async fn ping_pong_local() -> f64 {
    let (ping, mut pinged) = local_channel::mpsc::channel();
    let (pong, mut ponged) = local_channel::mpsc::channel();
    drop(postlude::spawn(async move {
        while let Some(n) = pinged.recv().await {
            if pong.send(n).is_err() {
                break;
            }
        }
    }));
    let start = Instant::now();
    for n in 0..MESSAGES / 2 {
        ping.send(n).expect("it is open");
        std::hint::black_box(ponged.recv().await);
    }
    per_message(start)
}

async fn ping_pong_bounded_ours() -> f64 {
    let (ping, mut pinged) = mpsc::channel(1);
    let (pong, mut ponged) = mpsc::channel(1);
    drop(postlude::spawn(async move {
        while let Some(n) = pinged.recv().await {
            if pong.send(n).await.is_err() {
                break;
            }
        }
    }));
    let start = Instant::now();
    for n in 0..MESSAGES / 2 {
        ping.send(n).await.expect("it is open");
        std::hint::black_box(ponged.recv().await);
    }
    per_message(start)
}

async fn ping_pong_bounded_tokio() -> f64 {
    let (ping, mut pinged) = tokio_mpsc::channel(1);
    let (pong, mut ponged) = tokio_mpsc::channel(1);
    drop(tokio::task::spawn_local(async move {
        while let Some(n) = pinged.recv().await {
            if pong.send(n).await.is_err() {
                break;
            }
        }
    }));
    let start = Instant::now();
    for n in 0..MESSAGES / 2 {
        ping.send(n).await.expect("it is open");
        std::hint::black_box(ponged.recv().await);
    }
    per_message(start)
}

async fn ping_pong_bounded_futures() -> f64 {
    let (mut ping, mut pinged) = futures_mpsc::channel(1);
    let (mut pong, mut ponged) = futures_mpsc::channel(1);
    drop(postlude::spawn(async move {
        while let Some(n) = pinged.next().await {
            if pong.send(n).await.is_err() {
                break;
            }
        }
    }));
    let start = Instant::now();
    for n in 0..MESSAGES / 2 {
        ping.send(n).await.expect("it is open");
        std::hint::black_box(ponged.next().await);
    }
    per_message(start)
}
