//! Readers and listeners as async iterators: every line once, in order, whatever the pieces it
//! comes in.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::StreamExt;
use futures::io::AsyncRead;
use futures::stream::{FusedStream, Stream};
use postlude::Runtime;
use postlude::iter;
use postlude::net::{TcpListener, TcpStream, UnixStream};
use postlude::task::yield_now;
use postlude::time::{self, timeout};
use proptest::prelude::*;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn paused<F: Future>(future: F) -> F::Output {
    Runtime::builder().paused_clock().build().unwrap().block_on(future).unwrap()
}

fn poll_now<S: Stream>(stream: Pin<&mut S>) -> Poll<Option<S::Item>> {
    stream.poll_next(&mut Context::from_waker(Waker::noop()))
}

/// Gives its bytes in pieces of these lengths, with a `Pending` before each.
struct Pieces {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    at: usize,
    waits: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.waits = !self.waits;
        if self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let wanted = if self.lengths.is_empty() { 1 } else { self.lengths[self.at % self.lengths.len()] };
        self.at += 1;
        let n = wanted.min(buffer.len()).min(self.bytes.len());
        buffer[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes.drain(..n);
        Poll::Ready(Ok(n))
    }
}

/// What `lines` should give, said naively.
fn naive_lines(bytes: &[u8], max_len: usize) -> Vec<Option<String>> {
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let last = lines.pop().unwrap();
    let whole = lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let decode = |line: &[u8]| String::from_utf8(line.to_vec()).ok();
    let mut all: Vec<_> = whole.map(|line| if line.len() > max_len { None } else { decode(line) }).collect();
    if !last.is_empty() {
        all.push(if last.len() > max_len { None } else { decode(last) });
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_are_the_same_however_the_bytes_come(
        bytes in "[a-cé\r\n]{0,60}",
        spoilt in proptest::option::of(0_usize..60),
        lengths in proptest::collection::vec(1_usize..7, 0..5),
        max_len in 0_usize..12,
    ) {
        let mut bytes = bytes.into_bytes();
        if let Some(byte) = spoilt.and_then(|at| bytes.get_mut(at)) {
            *byte = 0xff;
        }
        let reader = Pieces { bytes: bytes.clone(), lengths, at: 0, waits: false };
        let lines = paused(iter::lines(reader).max_len(max_len).map(Result::ok).collect::<Vec<_>>());
        prop_assert_eq!(lines, naive_lines(&bytes, max_len));
    }
}

#[test]
fn a_line_longer_than_the_limit_is_one_error_and_little_memory() {
    paused(async {
        let mut bytes = vec![b'x'; 1_000_000];
        bytes.extend_from_slice(b"\nnext\n");
        let mut lines = pin!(iter::lines(&bytes[..]).max_len(100));
        assert_eq!(lines.next().await.unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(lines.next().await.unwrap().unwrap(), "next");
        assert!(lines.next().await.is_none());
    });
}

#[test]
fn lines_of_the_longest_length_and_beyond_the_first_buffer_come_whole() {
    paused(async {
        let long = "y".repeat(64 * 1024);
        let text = format!("{long}\r\n{long}\n{long}z\n{long}");
        let lines: Vec<_> = iter::lines(text.as_bytes()).map(Result::ok).collect().await;
        assert_eq!(lines, [Some(long.clone()), Some(long.clone()), None, Some(long)]);
    });
}

/// Fails once, then has more.
struct Fails(u32);

impl AsyncRead for Fails {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0 += 1;
        Poll::Ready(match self.0 {
            2 => Err(io::ErrorKind::Interrupted.into()),
            4 => Err(io::ErrorKind::ConnectionReset.into()),
            _ => {
                buffer[..4].copy_from_slice(b"a\nb\n");
                Ok(4)
            }
        })
    }
}

#[test]
fn an_error_of_the_reader_ends_lines_and_chunks_and_an_interruption_does_not() {
    paused(async {
        let lines: Vec<_> = iter::lines(Fails(0)).map(|line| line.map_err(|error| error.kind())).collect().await;
        let line = |text: &str| Ok(text.to_owned());
        assert_eq!(lines, [line("a"), line("b"), line("a"), line("b"), Err(io::ErrorKind::ConnectionReset)]);
        let chunks: Vec<_> = iter::chunks(Fails(0), 9).map(|chunk| chunk.map_err(|error| error.kind())).collect().await;
        assert_eq!(chunks, [Ok(b"a\nb\n".to_vec()), Ok(b"a\nb\n".to_vec()), Err(io::ErrorKind::ConnectionReset)]);
    });
}

#[test]
fn a_wait_for_a_line_given_up_loses_nothing() {
    paused(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut lines = pin!(iter::lines(ours));
        let mut seen = Vec::new();
        let text = "one\ntwo\nthree\n";
        for byte in text.bytes() {
            theirs.write_all(&[byte]).await.unwrap();
            if let Ok(line) = timeout(ms(1), lines.next()).await {
                seen.push(line.unwrap().unwrap());
            }
        }
        drop(theirs);
        while let Some(line) = lines.next().await {
            seen.push(line.unwrap());
        }
        assert_eq!(seen, ["one", "two", "three"]);
    });
}

#[test]
fn lines_in_memory_let_other_tasks_run() {
    paused(async {
        let text = "x\n".repeat(10_000);
        let turns = Rc::new(Cell::new(0));
        let other = postlude::spawn({
            let turns = Rc::clone(&turns);
            async move {
                loop {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
            }
        });
        assert_eq!(iter::lines(text.as_bytes()).count().await, 10_000);
        assert!(turns.get() > 50, "{}", turns.get());
        other.abort();
    });
}

#[test]
fn chunks_come_as_the_bytes_do() {
    paused(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut chunks = pin!(iter::chunks(&ours, 4));
        theirs.write_all(b"abcdef").await.unwrap();
        assert_eq!(chunks.next().await.unwrap().unwrap(), b"abcd");
        assert_eq!(chunks.next().await.unwrap().unwrap(), b"ef");
        assert!(timeout(ms(1), chunks.next()).await.is_err());
        theirs.write_all(b"g").await.unwrap();
        assert_eq!(chunks.next().await.unwrap().unwrap(), b"g");
        drop(theirs);
        assert!(chunks.next().await.is_none());
        assert!(chunks.next().await.is_none());
    });
}

#[test]
#[should_panic(expected = "chunks of no bytes would never end")]
fn chunks_of_no_bytes_are_refused() {
    let _chunks = iter::chunks(&b""[..], 0);
}

#[test]
fn incoming_gives_the_connections_one_after_the_other() {
    postlude::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let accepted: Vec<_> = listener.incoming().take(5).map(|connection| connection.unwrap().1).collect().await;
        let expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
        assert_eq!(accepted, expected);
    })
    .unwrap();
}

#[test]
fn incoming_ends_after_an_error_of_the_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut incoming = listener.incoming();
    // Nobody waits here, and there is no runtime to wait in.
    let first = Pin::new(&mut incoming).poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(first, Poll::Ready(Some(Err(_)))), "{first:?}");
    assert!(incoming.is_terminated());
    assert!(matches!(poll_now(Pin::new(&mut incoming)), Poll::Ready(None)));
}

#[test]
fn an_interval_is_an_iterator() {
    paused(async {
        let start = time::now();
        let ticks: Vec<_> = time::interval(ms(10)).take(3).map(|due| due - start).collect().await;
        assert_eq!(ticks, [ms(0), ms(10), ms(20)]);
    });
}
