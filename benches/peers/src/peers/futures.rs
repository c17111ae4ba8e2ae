//! `LocalPool` of the crate futures, which has neither timers nor sockets.

use std::cell::{Cell, RefCell};
use std::future::Ready;

use futures::SinkExt;
use futures::channel::mpsc;
use futures::executor::{LocalPool, LocalSpawner};
use futures::future;
use futures::io::{AsyncBufRead, AsyncBufReadExt};
use futures::stream::{self, FuturesUnordered, Stream, StreamExt};
use futures::task::LocalSpawnExt;

use crate::peer::{self, Lines, Peer, Receiver, Sender};

pub struct Futures;

thread_local! {
    static SPAWNER: RefCell<Option<LocalSpawner>> = const { RefCell::new(None) };
}

fn with_spawner<T>(spawn: impl FnOnce(&LocalSpawner) -> T) -> T {
    SPAWNER.with_borrow(|spawner| spawn(spawner.as_ref().expect("the pool is running")))
}

impl Peer for Futures {
    const NAME: &'static str = "futures";
    const MODE: &'static str = "LocalPool";

    fn run<F: Future<Output: 'static> + 'static>(main: F) -> F::Output {
        let mut pool = LocalPool::new();
        SPAWNER.set(Some(pool.spawner()));
        pool.run_until(async { Self::spawn(main).await })
    }

    fn spawn<F: Future<Output: 'static> + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        with_spawner(|spawner| spawner.spawn_local_with_handle(future)).expect("the pool is there")
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        with_spawner(|spawner| spawner.spawn_local(future)).expect("the pool is there");
    }

    fn bounded(room: usize) -> (impl Sender, impl Receiver) {
        mpsc::channel(room)
    }

    fn unbounded() -> (impl Sender, impl Receiver) {
        mpsc::unbounded()
    }

    async fn race2(one: Ready<u64>, other: Ready<u64>) -> u64 {
        future::select(one, other).await.factor_first().0
    }

    async fn race8(futures: [Ready<u64>; 8]) -> u64 {
        future::select_all(futures).await.0
    }

    fn join<F: Future<Output = u64> + 'static>(futures: Vec<F>) -> impl Future<Output = Vec<u64>> {
        future::join_all(futures)
    }

    async fn scope(children: u64, ran: &Cell<u64>) {
        let child = async || {
            peer::YieldNow::default().await;
            ran.set(ran.get() + 1);
        };
        let running: FuturesUnordered<_> = (0..children).map(|_| child()).collect();
        running.collect::<()>().await;
    }

    fn counter(end: u64) -> impl Stream<Item = u64> {
        stream::unfold(0, move |n| async move { (n < end).then_some((n, n + 1)) })
    }

    fn lines(text: &'static [u8]) -> impl Lines {
        text.lines()
    }

    fn merge<S: Stream<Item = u64> + Unpin + 'static>(streams: Vec<S>) -> impl Stream<Item = u64> {
        stream::select_all(streams)
    }

    fn merge_pair<S: Stream<Item = u64> + Unpin + 'static>(one: S, other: S) -> impl Stream<Item = u64> {
        stream::select(one, other)
    }
}

impl Sender for mpsc::Sender<u64> {
    async fn send(&mut self, message: u64) {
        SinkExt::send(self, message).await.expect("it is open");
    }
}

impl Sender for mpsc::UnboundedSender<u64> {
    async fn send(&mut self, message: u64) {
        self.unbounded_send(message).expect("it is open");
    }
}

impl Receiver for mpsc::Receiver<u64> {
    async fn recv(&mut self) -> Option<u64> {
        self.next().await
    }
}

impl Receiver for mpsc::UnboundedReceiver<u64> {
    async fn recv(&mut self) -> Option<u64> {
        self.next().await
    }
}

impl<R: AsyncBufRead + Unpin> Lines for futures::io::Lines<R> {
    async fn next(&mut self) -> Option<String> {
        StreamExt::next(self).await.map(|line| line.expect("it is UTF-8"))
    }
}
