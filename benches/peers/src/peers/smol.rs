//! smol: a `LocalExecutor` inside `smol::block_on`, which polls async-io's reactor.

use std::cell::Cell;
use std::future::Ready;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use smol::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use smol::stream::{self, Stream, StreamExt};
use smol::{LocalExecutor, Timer, channel, future, net};

use crate::peer::{Lines, Peer, Receiver, Sender, Socket};

pub struct Smol;

thread_local! {
    static EXECUTOR: Rc<LocalExecutor<'static>> = Rc::default();
}

fn start<T: 'static>(future: impl Future<Output = T> + 'static) -> smol::Task<T> {
    EXECUTOR.with(|executor| executor.spawn(future))
}

impl Peer for Smol {
    const NAME: &'static str = "smol";
    const MODE: &'static str = "LocalExecutor in smol::block_on";

    fn run<F: Future<Output: 'static> + 'static>(main: F) -> F::Output {
        let executor = EXECUTOR.with(Rc::clone);
        smol::block_on(executor.run(start(main)))
    }

    fn spawn<F: Future<Output: 'static> + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        start(future)
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        start(future).detach();
    }

    fn yield_now() -> impl Future<Output = ()> {
        future::yield_now()
    }

    async fn sleep(duration: Duration) {
        Timer::after(duration).await;
    }

    fn timeout<F: Future>(limit: Duration, future: F) -> impl Future<Output = Option<F::Output>> {
        let over = async move {
            Timer::after(limit).await;
            None
        };
        future::or(async { Some(future.await) }, over)
    }

    fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
        smol::unblock(work)
    }

    fn bounded(room: usize) -> (impl Sender, impl Receiver) {
        channel::bounded(room)
    }

    fn unbounded() -> (impl Sender, impl Receiver) {
        channel::unbounded()
    }

    fn socket(stream: TcpStream) -> impl Socket {
        net::TcpStream::try_from(stream).expect("a connected socket")
    }

    fn race2(one: Ready<u64>, other: Ready<u64>) -> impl Future<Output = u64> {
        future::race(one, other)
    }

    fn race8([a, b, c, d, e, f, g, h]: [Ready<u64>; 8]) -> impl Future<Output = u64> {
        let (left, right) = (future::race(future::race(a, b), future::race(c, d)), future::race(e, f));
        future::race(left, future::race(right, future::race(g, h)))
    }

    async fn scope(children: u64, ran: &Cell<u64>) {
        let executor = LocalExecutor::new();
        let mut tasks = Vec::with_capacity(children as usize);
        let spawned = (0..children).map(|_| async {
            future::yield_now().await;
            ran.set(ran.get() + 1);
        });
        executor.spawn_many(spawned, &mut tasks);
        let joined = async {
            for task in tasks {
                task.await;
            }
        };
        executor.run(joined).await;
    }

    fn counter(end: u64) -> impl Stream<Item = u64> {
        stream::unfold(0, move |n| async move { (n < end).then_some((n, n + 1)) })
    }

    fn lines(text: &'static [u8]) -> impl Lines {
        text.lines()
    }

    fn merge_pair<S: Stream<Item = u64> + Unpin + 'static>(one: S, other: S) -> impl Stream<Item = u64> {
        stream::race(one, other)
    }
}

impl Sender for channel::Sender<u64> {
    async fn send(&mut self, message: u64) {
        channel::Sender::send(self, message).await.expect("it is open");
    }
}

impl Receiver for channel::Receiver<u64> {
    async fn recv(&mut self) -> Option<u64> {
        channel::Receiver::recv(self).await.ok()
    }
}

impl Socket for net::TcpStream {
    async fn read(&mut self, buffer: &mut Vec<u8>) -> usize {
        AsyncReadExt::read(self, buffer).await.expect("it is readable")
    }

    async fn write_all(&mut self, buffer: &mut Vec<u8>, length: usize) {
        AsyncWriteExt::write_all(self, &buffer[..length]).await.expect("it is writable");
    }

    fn lines(self) -> impl Lines {
        BufReader::new(self).lines()
    }
}

impl<R: smol::io::AsyncBufRead + Unpin> Lines for smol::io::Lines<R> {
    async fn next(&mut self) -> Option<String> {
        StreamExt::next(self).await.map(|line| line.expect("it is UTF-8"))
    }
}
