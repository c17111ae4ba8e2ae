//! Channels between tasks of one thread, per message.

use super::{Job, Load, Outcome};
use crate::peer::{Peer, Receiver, Sender};

const PRODUCERS: u64 = 100;
const ROOM: usize = 64;

pub fn loads<P: Peer>() -> Vec<Load> {
    vec![
        Load::new(
            "ping_pong",
            "a message between two tasks that answer each other, unbounded channels",
            400_000,
            |job| ping_pong::<P, _, _>(job, P::unbounded),
        ),
        Load::new("ping_pong_room_1", "the same through channels with room for one message", 400_000, |job| {
            ping_pong::<P, _, _>(job, || P::bounded(1))
        }),
        Load::new("fan_in_unbounded", "a message from 100 tasks to one, unbounded channel", 400_000, |job| {
            fan_in::<P, _, _>(job, P::unbounded)
        }),
        Load::new("fan_in_bounded", "a message from 100 tasks to one, room for 64", 400_000, |job| {
            fan_in::<P, _, _>(job, || P::bounded(ROOM))
        }),
    ]
}

fn ping_pong<P: Peer, S: Sender, R: Receiver>(job: Job, channel: impl Fn() -> (S, R) + 'static) -> Outcome {
    P::run(job.time(async move |operations| {
        let ((mut ping, mut pinged), (mut pong, mut ponged)) = (channel(), channel());
        P::detach(async move {
            while let Some(n) = pinged.recv().await {
                pong.send(n + 1).await;
            }
        });
        let mut messages = 0;
        while messages < operations {
            ping.send(messages).await;
            let answer = ponged.recv().await;
            assert_eq!(answer, Some(messages + 1));
            messages += 2;
        }
        messages
    }))
}

fn fan_in<P: Peer, S: Sender, R: Receiver>(job: Job, channel: impl Fn() -> (S, R) + 'static) -> Outcome {
    P::run(job.time(async move |operations| {
        let (sender, mut receiver) = channel();
        for _ in 0..PRODUCERS {
            let mut sender = sender.clone();
            P::detach(async move {
                for _ in 0..operations / PRODUCERS {
                    sender.send(1).await;
                }
            });
        }
        drop(sender);
        let mut messages = 0;
        while let Some(n) = receiver.recv().await {
            messages += n;
        }
        messages
    }))
}
