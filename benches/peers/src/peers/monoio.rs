//! monoio on epoll, its driver for machines without io_uring. Its channels are those of the crate
//! local-sync, by the same author.

use std::future::{Pending, Ready};
use std::net::TcpStream;
use std::time::Duration;

use local_sync::mpsc::{bounded, unbounded};
use monoio::blocking::DefaultThreadPool;
use monoio::buf::IoBuf;
use monoio::io::{AsyncBufReadExt, AsyncReadRent, AsyncWriteRentExt, BufReader};
use monoio::{LegacyDriver, RuntimeBuilder, net, time};

use crate::peer::{Lines, Peer, Receiver, Sender, Socket, not_offered};

pub struct Monoio;

/// As many as its documentation's example has.
const BLOCKING_THREADS: usize = 4;

impl Peer for Monoio {
    const NAME: &'static str = "monoio";
    const MODE: &'static str = "LegacyDriver (epoll), features legacy and sync";

    fn run<F: Future<Output: 'static> + 'static>(main: F) -> F::Output {
        let pool = Box::new(DefaultThreadPool::new(BLOCKING_THREADS));
        let builder = RuntimeBuilder::<LegacyDriver>::new().attach_thread_pool(pool).enable_timer();
        builder.build().expect("a runtime").block_on(async { monoio::spawn(main).await })
    }

    fn spawn<F: Future<Output: 'static> + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        monoio::spawn(future)
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        drop(monoio::spawn(future));
    }

    /// A task that wakes itself is the next one to run, so nothing makes it give way.
    fn yield_now() -> impl Future<Output = ()> {
        not_offered::<Pending<()>>("a way to give way: a task that wakes itself runs next")
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        time::sleep(duration)
    }

    async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
        time::timeout(limit, future).await.ok()
    }

    async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        monoio::spawn_blocking(work).await.expect("the job does not panic")
    }

    fn bounded(room: usize) -> (impl Sender, impl Receiver) {
        bounded::channel(room)
    }

    fn unbounded() -> (impl Sender, impl Receiver) {
        unbounded::channel()
    }

    fn socket(stream: TcpStream) -> impl Socket {
        net::TcpStream::from_std(stream).expect("a connected socket")
    }

    async fn race2(one: Ready<u64>, other: Ready<u64>) -> u64 {
        monoio::select! { n = one => n, n = other => n }
    }

    async fn race8([a, b, c, d, e, f, g, h]: [Ready<u64>; 8]) -> u64 {
        monoio::select! {
            n = a => n,
            n = b => n,
            n = c => n,
            n = d => n,
            n = e => n,
            n = f => n,
            n = g => n,
            n = h => n,
        }
    }
}

impl Sender for bounded::Tx<u64> {
    async fn send(&mut self, message: u64) {
        bounded::Tx::send(self, message).await.expect("it is open");
    }
}

impl Sender for unbounded::Tx<u64> {
    async fn send(&mut self, message: u64) {
        unbounded::Tx::send(self, message).expect("it is open");
    }
}

impl Receiver for bounded::Rx<u64> {
    async fn recv(&mut self) -> Option<u64> {
        bounded::Rx::recv(self).await
    }
}

impl Receiver for unbounded::Rx<u64> {
    async fn recv(&mut self) -> Option<u64> {
        unbounded::Rx::recv(self).await
    }
}

impl Socket for net::TcpStream {
    async fn read(&mut self, buffer: &mut Vec<u8>) -> usize {
        let (read, lent) = AsyncReadRent::read(self, std::mem::take(buffer)).await;
        *buffer = lent;
        read.expect("it is readable")
    }

    async fn write_all(&mut self, buffer: &mut Vec<u8>, length: usize) {
        let (written, lent) = AsyncWriteRentExt::write_all(self, std::mem::take(buffer).slice(..length)).await;
        *buffer = lent.into_inner();
        written.expect("it is writable");
    }

    fn lines(self) -> impl Lines {
        BufReader::new(self)
    }
}

impl Lines for BufReader<net::TcpStream> {
    async fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.read_line(&mut line).await.expect("it is UTF-8");
        line.truncate(line.trim_end_matches('\n').len());
        (read > 0).then_some(line)
    }
}
