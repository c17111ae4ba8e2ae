//! The runtime of this repository.

use std::cell::Cell;
use std::future::Ready;
use std::net::TcpStream;
use std::time::Duration;

use futures::{Stream, StreamExt};
use postlude::sync::mpsc;
use postlude::{iter, net, task, time};

use crate::peer::{Lines, Peer, Receiver, Sender, Socket};

pub struct Postlude;

impl Peer for Postlude {
    const NAME: &'static str = "postlude";
    const MODE: &'static str = "postlude::run";

    fn run<F: Future<Output: 'static> + 'static>(main: F) -> F::Output {
        postlude::run(async { postlude::spawn(main).await.expect("the main task does not panic") })
            .expect("this thread runs no other loop")
    }

    fn spawn<F: Future<Output: 'static> + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        let handle = postlude::spawn(future);
        async { handle.await.expect("the task does not panic") }
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        drop(postlude::spawn(future));
    }

    fn defer(future: impl Future<Output = ()> + 'static) {
        drop(postlude::defer(future));
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
        postlude::spawn_blocking(work).await.expect("the job does not panic")
    }

    fn bounded(room: usize) -> (impl Sender, impl Receiver) {
        mpsc::channel(room)
    }

    fn unbounded() -> (impl Sender, impl Receiver) {
        mpsc::unbounded()
    }

    fn socket(stream: TcpStream) -> impl Socket {
        net::TcpStream::from_std(stream).expect("a connected socket")
    }

    async fn race2(one: Ready<u64>, other: Ready<u64>) -> u64 {
        task::race((one, other)).await.1
    }

    async fn race8([a, b, c, d, e, f, g, h]: [Ready<u64>; 8]) -> u64 {
        task::race((a, b, c, d, e, f, g, h)).await.1
    }

    fn join<F: Future<Output = u64> + 'static>(futures: Vec<F>) -> impl Future<Output = Vec<u64>> {
        task::join(futures)
    }

    async fn scope(children: u64, ran: &Cell<u64>) {
        let ended = task::scope::<_, (), _>(async |scope| {
            for _ in 0..children {
                scope.spawn(async {
                    task::yield_now().await;
                    ran.set(ran.get() + 1);
                });
            }
            Ok(())
        });
        ended.await.expect("no child fails");
    }

    fn counter(end: u64) -> impl Stream<Item = u64> {
        iter::generate(async move |out| {
            for n in 0..end {
                out.emit(n).await;
            }
        })
    }

    fn lines(text: &'static [u8]) -> impl Lines {
        iter::lines(text)
    }

    fn merge<S: Stream<Item = u64> + Unpin + 'static>(streams: Vec<S>) -> impl Stream<Item = u64> {
        iter::merge(streams)
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

impl Socket for net::TcpStream {
    async fn read(&mut self, buffer: &mut Vec<u8>) -> usize {
        net::TcpStream::read(self, buffer).await.expect("it is readable")
    }

    async fn write_all(&mut self, buffer: &mut Vec<u8>, length: usize) {
        net::TcpStream::write_all(self, &buffer[..length]).await.expect("it is writable");
    }

    fn lines(self) -> impl Lines {
        iter::lines(self)
    }
}

impl<R: futures::AsyncRead + Unpin> Lines for iter::Lines<R> {
    async fn next(&mut self) -> Option<String> {
        StreamExt::next(self).await.map(|line| line.expect("it is UTF-8"))
    }
}
