//! tokio, twice: `current_thread` with `spawn`, and `LocalRuntime`, stable since 1.51, with
//! `spawn_local`. Everything else is the same.

use std::future::Ready;
use std::marker::PhantomData;
use std::net::TcpStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use pin_project_lite::pin_project;
use tokio::io::{self, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task;
use tokio::{net, time};
use tokio_stream::{StreamExt, StreamMap};

use crate::peer::{Lines, Peer, Receiver, Sender, Socket};

pub type Tokio = Peered<CurrentThread>;
pub type TokioLocal = Peered<Local>;

pub struct Peered<F>(PhantomData<F>);

/// In what the two differ.
pub trait Flavour: 'static {
    const NAME: &'static str;
    const MODE: &'static str;

    fn run<F: Future<Output: 'static> + 'static>(main: F) -> F::Output;

    fn spawn<F: Future<Output: 'static> + 'static>(future: F) -> impl Future<Output = F::Output> + 'static;

    fn detach(future: impl Future<Output = ()> + 'static);
}

pub struct CurrentThread;

impl Flavour for CurrentThread {
    const NAME: &'static str = "tokio";
    const MODE: &'static str = "current_thread, spawn";

    fn run<F: Future<Output: 'static> + 'static>(main: F) -> F::Output {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { Self::spawn(main).await })
    }

    fn spawn<F: Future<Output: 'static> + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        let handle = task::spawn(OnThisThread { inner: future });
        async { handle.await.expect("the task does not panic").inner }
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        drop(task::spawn(OnThisThread { inner: future }));
    }
}

pub struct Local;

impl Flavour for Local {
    const NAME: &'static str = "tokio-local";
    const MODE: &'static str = "LocalRuntime, spawn_local";

    fn run<F: Future<Output: 'static> + 'static>(main: F) -> F::Output {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
        runtime.block_on(async { Self::spawn(main).await })
    }

    fn spawn<F: Future<Output: 'static> + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        let handle = task::spawn_local(future);
        async { handle.await.expect("the task does not panic") }
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        drop(task::spawn_local(future));
    }
}

pin_project! {
    /// `task::spawn` asks for `Send`, which users of it have anyway; the loads, shared with
    /// runtimes that do not ask, have not.
    struct OnThisThread<T> {
        #[pin]
        inner: T,
    }
}

// SAFETY: a current_thread runtime polls and drops its tasks on the thread that is in `block_on`,
// and the runtime is made, entered and dropped by one function, `run`. Handles, which take
// the output, are awaited in those tasks.
unsafe impl<T> Send for OnThisThread<T> {}

impl<F: Future> Future for OnThisThread<F> {
    type Output = OnThisThread<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx).map(|inner| OnThisThread { inner })
    }
}

impl<P: Flavour> Peer for Peered<P> {
    const NAME: &'static str = P::NAME;
    const MODE: &'static str = P::MODE;

    fn run<F: Future<Output: 'static> + 'static>(main: F) -> F::Output {
        P::run(main)
    }

    fn spawn<F: Future<Output: 'static> + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        P::spawn(future)
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        P::detach(future);
    }

    fn yield_now() -> impl Future<Output = ()> {
        task::yield_now()
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        time::sleep(duration)
    }

    async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
        time::timeout(limit, future).await.ok()
    }

    async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        task::spawn_blocking(work).await.expect("the job does not panic")
    }

    fn bounded(room: usize) -> (impl Sender, impl Receiver) {
        mpsc::channel(room)
    }

    fn unbounded() -> (impl Sender, impl Receiver) {
        mpsc::unbounded_channel()
    }

    fn socket(stream: TcpStream) -> impl Socket {
        net::TcpStream::from_std(stream).expect("a connected socket")
    }

    async fn race2(one: Ready<u64>, other: Ready<u64>) -> u64 {
        tokio::select! { n = one => n, n = other => n }
    }

    async fn race8([a, b, c, d, e, f, g, h]: [Ready<u64>; 8]) -> u64 {
        tokio::select! {
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

    fn counter(end: u64) -> impl Stream<Item = u64> {
        async_stream::stream! {
            for n in 0..end {
                yield n;
            }
        }
    }

    fn lines(text: &'static [u8]) -> impl Lines {
        text.lines()
    }

    fn merge<S: Stream<Item = u64> + Unpin + 'static>(streams: Vec<S>) -> impl Stream<Item = u64> {
        streams.into_iter().enumerate().collect::<StreamMap<_, _>>().map(|(_, n)| n)
    }

    fn merge_pair<S: Stream<Item = u64> + Unpin + 'static>(one: S, other: S) -> impl Stream<Item = u64> {
        one.merge(other)
    }
}

impl Sender for mpsc::Sender<u64> {
    async fn send(&mut self, message: u64) {
        mpsc::Sender::send(self, message).await.expect("it is open");
    }
}

impl Sender for mpsc::UnboundedSender<u64> {
    async fn send(&mut self, message: u64) {
        mpsc::UnboundedSender::send(self, message).expect("it is open");
    }
}

impl Receiver for mpsc::Receiver<u64> {
    async fn recv(&mut self) -> Option<u64> {
        mpsc::Receiver::recv(self).await
    }
}

impl Receiver for mpsc::UnboundedReceiver<u64> {
    async fn recv(&mut self) -> Option<u64> {
        mpsc::UnboundedReceiver::recv(self).await
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
        io::BufReader::new(self).lines()
    }
}

impl<R: io::AsyncBufRead + Unpin> Lines for io::Lines<R> {
    async fn next(&mut self) -> Option<String> {
        self.next_line().await.expect("it is UTF-8")
    }
}
