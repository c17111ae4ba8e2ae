//! What a load asks of a runtime: the one trait to implement for a new peer.
//!
//! The loads are generic over [`Peer`], so every runtime does the same work, and no call goes
//! through a pointer that a user of that runtime would not have. An operation that a runtime does
//! not have keeps its default, which ends the process with the words "not offered": each
//! measurement is a process of its own, and the table shows a dash.
//!
//! To add a peer, write one file beside `peers/smol.rs` and one line in `peers/mod.rs`.

use std::cell::Cell;
use std::future::{Pending, Ready};
use std::net::TcpStream;
use std::pin::Pin;
use std::process;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

/// A runtime, in the mode its documentation recommends for one thread.
pub trait Peer: Sized + 'static {
    const NAME: &'static str;
    /// How it is run, for the table's header.
    const MODE: &'static str;

    /// Makes a runtime, and runs a future as a task of it.
    fn run<F: Future<Output: 'static> + 'static>(main: F) -> F::Output;

    fn spawn<F: Future<Output: 'static> + 'static>(future: F) -> impl Future<Output = F::Output> + 'static;

    fn detach(future: impl Future<Output = ()> + 'static);

    /// Starts work that is not urgent. A runtime without such a class spawns it.
    fn defer(future: impl Future<Output = ()> + 'static) {
        Self::detach(future);
    }

    /// Default: a future that wakes itself, for runtimes without one of their own.
    fn yield_now() -> impl Future<Output = ()> {
        YieldNow::default()
    }

    fn sleep(_: Duration) -> impl Future<Output = ()> {
        not_offered::<Pending<()>>("timers")
    }

    /// `None` when the time is over.
    fn timeout<F: Future>(_limit: Duration, _future: F) -> impl Future<Output = Option<F::Output>> {
        not_offered::<Pending<_>>("timers")
    }

    fn spawn_blocking<T: Send + 'static>(_: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
        not_offered::<Pending<T>>("a pool for blocking work")
    }

    fn bounded(_room: usize) -> (impl Sender, impl Receiver) {
        not_offered::<(Never, Never)>("channels")
    }

    fn unbounded() -> (impl Sender, impl Receiver) {
        not_offered::<(Never, Never)>("channels")
    }

    /// Takes a connected socket that is in non-blocking mode.
    fn socket(_: TcpStream) -> impl Socket {
        not_offered::<Never>("sockets")
    }

    fn race2(_: Ready<u64>, _: Ready<u64>) -> impl Future<Output = u64> {
        not_offered::<Pending<u64>>("a race")
    }

    fn race8(_: [Ready<u64>; 8]) -> impl Future<Output = u64> {
        not_offered::<Pending<u64>>("a race of eight")
    }

    fn join<F: Future<Output = u64> + 'static>(_: Vec<F>) -> impl Future<Output = Vec<u64>> {
        not_offered::<Pending<Vec<u64>>>("a join of a Vec")
    }

    /// Runs so many children at the same time. Each yields once and then adds one to the number,
    /// which it borrows.
    fn scope(_children: u64, _ran: &Cell<u64>) -> impl Future<Output = ()> {
        not_offered::<Pending<()>>("tasks that borrow")
    }

    /// A generator of the numbers below `end`.
    fn counter(_end: u64) -> impl Stream<Item = u64> {
        not_offered::<Never>("generators")
    }

    /// Splits text into lines, each with a `String` of its own.
    fn lines(_text: &'static [u8]) -> impl Lines {
        not_offered::<Never>("lines")
    }

    fn merge<S: Stream<Item = u64> + Unpin + 'static>(_: Vec<S>) -> impl Stream<Item = u64> {
        not_offered::<Never>("a merge of a Vec")
    }

    fn merge_pair<S: Stream<Item = u64> + Unpin + 'static>(one: S, other: S) -> impl Stream<Item = u64> {
        Self::merge(vec![one, other])
    }
}

pub trait Sender: Clone + 'static {
    fn send(&mut self, message: u64) -> impl Future<Output = ()>;
}

pub trait Receiver: 'static {
    /// `None` once every sender is gone.
    fn recv(&mut self) -> impl Future<Output = Option<u64>>;
}

/// A connection. Buffers are lent as vectors, because monoio takes them away and gives them back.
pub trait Socket: 'static {
    /// Reads at most the buffer's length; 0 at the end.
    fn read(&mut self, buffer: &mut Vec<u8>) -> impl Future<Output = usize>;

    /// Writes the first `length` bytes.
    fn write_all(&mut self, buffer: &mut Vec<u8>, length: usize) -> impl Future<Output = ()>;

    fn lines(self) -> impl Lines;
}

pub trait Lines {
    fn next(&mut self) -> impl Future<Output = Option<String>>;
}

/// Ends this process: the runtime has no such thing.
pub fn not_offered<T>(what: &str) -> T {
    println!("{}", serde_json::json!({ "not_offered": what }));
    process::exit(0)
}

/// Stands in for the types of operations that are not offered.
#[derive(Clone)]
pub enum Never {}

impl Sender for Never {
    async fn send(&mut self, _: u64) {
        match *self {}
    }
}

impl Receiver for Never {
    async fn recv(&mut self) -> Option<u64> {
        match *self {}
    }
}

impl Socket for Never {
    async fn read(&mut self, _: &mut Vec<u8>) -> usize {
        match *self {}
    }

    async fn write_all(&mut self, _: &mut Vec<u8>, _: usize) {
        match *self {}
    }

    fn lines(self) -> impl Lines {
        self
    }
}

impl Lines for Never {
    async fn next(&mut self) -> Option<String> {
        match *self {}
    }
}

impl Stream for Never {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        match *self {}
    }
}

/// Wakes itself and is ready at the next poll.
#[derive(Default)]
pub struct YieldNow(bool);

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
