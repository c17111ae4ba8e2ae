//! Sockets and other descriptors: nothing is lost, nothing spins, nobody sees "would block", and an
//! end is always seen.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream as StdTcpStream};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::future::{Either, join, join_all, select};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use postlude::io::Async;
use postlude::net::{
    TcpListener, TcpReadHalf, TcpStream, TcpWriteHalf, UdpSocket, UnixDatagram, UnixListener, UnixReadHalf, UnixStream,
    UnixWriteHalf,
};
use postlude::task::yield_now;
use postlude::time::{sleep, timeout};
use postlude::{Runtime, spawn};
use socket2::{Domain, SockRef, Socket, Type};

/// What the socket types promise, checked when this is compiled. hyper asks for `Send` futures.
#[allow(dead_code, reason = "compiled and never run")]
fn sockets_and_their_futures_can_be_sent(tcp: &TcpStream, unix: &UnixStream, udp: &UdpSocket, local: &UnixDatagram) {
    fn socket<T: Send + Sync + Unpin + std::fmt::Debug + std::os::fd::AsFd + std::os::fd::AsRawFd + 'static>() {}
    fn both<T: futures::io::AsyncRead + futures::io::AsyncWrite + Unpin>() {}
    fn reads<T: futures::io::AsyncRead + Send + Sync + Unpin + std::fmt::Debug + 'static>() {}
    fn writes<T: futures::io::AsyncWrite + Send + Sync + Unpin + std::fmt::Debug + 'static>() {}
    fn send<T: Send>(_: T) {}
    let _ = (socket::<TcpListener>, socket::<UnixListener>, socket::<UdpSocket>, socket::<UnixDatagram>);
    let _ = (socket::<TcpStream>, both::<TcpStream>, both::<&TcpStream>);
    let _ = (socket::<UnixStream>, both::<UnixStream>, both::<&UnixStream>);
    let _ = (reads::<TcpReadHalf>, reads::<UnixReadHalf>, writes::<TcpWriteHalf>, writes::<UnixWriteHalf>);
    send((TcpStream::connect("host:1"), UnixStream::connect("path"), udp.connect("host:1")));
    send((tcp.read_exact(&mut []), unix.write_all(&[]), tcp.peek(&mut []), unix.readable()));
    send((udp.send(&[]), udp.recv_from(&mut []), udp.peek(&mut [])));
    send((local.recv_from(&mut []), local.send_to(&[], "path")));
    send(async {
        let (tcp, unix) = (TcpListener::bind("host:1").unwrap(), UnixListener::bind("path").unwrap());
        (tcp.accept().await.unwrap(), unix.accept().await.unwrap())
    });
}

/// How long anything may take before it counts as hung.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Long enough for the selector to report everything that has happened, short enough to wait for.
pub(crate) const MOMENT: Duration = Duration::from_millis(30);

pub(crate) fn run<F: Future>(future: F) -> F::Output {
    run_in(&Runtime::new().unwrap(), future)
}

pub(crate) fn run_in<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(timeout(LIMIT, future)).unwrap().expect("it hung")
}

/// A connection over loopback, its second end accepted.
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

/// The same with a standard stream as the peer, which acts at once and in no runtime.
pub(crate) async fn tcp_and_std() -> (TcpStream, StdTcpStream) {
    let (ours, peer) = tcp_pair().await;
    let peer = peer.into_std().unwrap();
    peer.set_nonblocking(false).unwrap();
    (ours, peer)
}

pub(crate) fn unix_and_std() -> (UnixStream, StdUnixStream) {
    let (ours, peer) = StdUnixStream::pair().unwrap();
    (UnixStream::from_std(ours).unwrap(), peer)
}

fn pipe() -> (Async<mio::unix::pipe::Receiver>, mio::unix::pipe::Sender) {
    let (sender, receiver) = mio::unix::pipe::new().unwrap();
    (Async::new(receiver), sender)
}

async fn udp_pair() -> (UdpSocket, UdpSocket) {
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    a.connect(b.local_addr().unwrap()).await.unwrap();
    b.connect(a.local_addr().unwrap()).await.unwrap();
    (a, b)
}

/// A peer that is closed by this sends a reset instead of an end.
fn reset(peer: StdTcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// Runs both, the first one being polled first: what `then` does happens while `waits` waits.
async fn while_waiting<T>(waits: impl Future<Output = T>, then: impl FnOnce()) -> T {
    join(waits, async { then() }).await.0
}

/// Polls in which nothing but waiting is to be done, while `future` runs.
fn polls_during<F: Future>(runtime: &Runtime, future: F) -> u64 {
    let before = runtime.stats().polls;
    run_in(runtime, future);
    runtime.stats().polls - before
}

struct Counter(AtomicUsize);

impl Counter {
    fn new() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self(AtomicUsize::new(0)));
        (Arc::clone(&counter), Waker::from(counter))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// Ends of streams.

#[test]
fn bytes_and_the_end_in_one_event_are_both_read_from_tcp() {
    run(async {
        let (ours, mut peer) = tcp_and_std().await;
        let mut buffer = [0; 4096];
        let first = while_waiting(ours.read(&mut buffer), || {
            peer.write_all(b"ten bytes!").unwrap();
            drop(peer);
        });
        assert_eq!(first.await.unwrap(), 10);
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 0);
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 0, "the end stays");
    });
}

#[test]
fn bytes_and_the_end_in_one_event_are_both_read_from_unix() {
    run(async {
        let (ours, mut peer) = unix_and_std();
        let mut buffer = [0; 4096];
        let first = while_waiting(ours.read(&mut buffer), || {
            peer.write_all(b"ten bytes!").unwrap();
            drop(peer);
        });
        assert_eq!(first.await.unwrap(), 10);
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 0);
    });
}

#[test]
fn bytes_that_come_with_the_end_before_anybody_waits_are_read() {
    run(async {
        let (ours, mut peer) = tcp_and_std().await;
        peer.write_all(b"ten bytes!").unwrap();
        drop(peer);
        let mut buffer = [0; 4096];
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 10);
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 0);
    });
}

#[test]
fn a_hang_up_with_bytes_left_loses_none_of_them_in_small_reads() {
    run(async {
        let (reader, mut writer) = pipe();
        let mut byte = [0; 1];
        let first = while_waiting(reader.read_with(|mut pipe| pipe.read(&mut byte)), || {
            writer.write_all(&[7; 1000]).unwrap();
            drop(writer);
        });
        assert_eq!(first.await.unwrap(), 1);
        for _ in 1..1000 {
            assert_eq!(reader.read_with(|mut pipe| pipe.read(&mut byte)).await.unwrap(), 1);
        }
        assert_eq!(reader.read_with(|mut pipe| pipe.read(&mut byte)).await.unwrap(), 0);

        let (ours, mut peer) = unix_and_std();
        let first = while_waiting(ours.read(&mut byte), || {
            peer.write_all(&[7; 1000]).unwrap();
            drop(peer);
        });
        assert_eq!(first.await.unwrap(), 1);
        for _ in 1..1000 {
            assert_eq!(ours.read(&mut byte).await.unwrap(), 1);
        }
        assert_eq!(ours.read(&mut byte).await.unwrap(), 0);
    });
}

#[test]
fn a_pipe_whose_writer_leaves_wakes_the_reader() {
    run(async {
        let (mut reader, mut writer) = pipe();
        writer.write_all(b"all").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 3);
        let end = while_waiting(reader.read(&mut buffer), || drop(writer)).await;
        assert_eq!(end.unwrap(), 0);
    });
}

#[test]
fn a_pipe_whose_reader_leaves_wakes_the_writer() {
    run(async {
        let (sender, receiver) = mio::unix::pipe::new().unwrap();
        let writer = Async::new(sender);
        let flood = async {
            loop {
                if let Err(error) = writer.write_with(|mut pipe| pipe.write(&[0; 65_536])).await {
                    return error;
                }
            }
        };
        let broken = while_waiting(flood, || drop(receiver)).await;
        assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_peer_that_hangs_up_wakes_reader_and_writer() {
    run(async {
        let (ours, peer) = unix_and_std();
        let flood = async {
            loop {
                if let Err(error) = ours.write(&[0; 65_536]).await {
                    return error;
                }
            }
        };
        let mut buffer = [0; 16];
        let (read, write) = while_waiting(join(ours.read(&mut buffer), flood), || drop(peer)).await;
        assert!(matches!(read, Ok(0)) || read.unwrap_err().kind() == ErrorKind::ConnectionReset);
        assert!(matches!(write.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{write}");
    });
}

#[test]
fn a_peer_that_shuts_down_writing_is_at_its_end_and_still_receives() {
    run(async {
        let (ours, peer) = tcp_and_std().await;
        let mut buffer = [0; 16];
        let end = while_waiting(ours.read(&mut buffer), || peer.shutdown(Shutdown::Write).unwrap()).await;
        assert_eq!(end.unwrap(), 0);
        ours.write_all(b"still here").await.unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        (&peer).read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
    });
}

#[test]
fn urgent_bytes_hide_neither_others_nor_the_end() {
    run(async {
        let (ours, mut peer) = tcp_and_std().await;
        let mut buffer = [0; 4096];
        let first = while_waiting(ours.read(&mut buffer), || {
            peer.write_all(b"before").unwrap();
            SockRef::from(&peer).send_out_of_band(b"!").unwrap();
            peer.write_all(b"after").unwrap();
        });
        // A read stops at the mark, so it is short although more is there.
        let mut total = first.await.unwrap();
        while total < 11 {
            total += ours.read(&mut buffer).await.unwrap();
        }
        assert_eq!(total, 11);
        let end = while_waiting(ours.read(&mut buffer), || {
            SockRef::from(&peer).send_out_of_band(b"!").unwrap();
            drop(peer);
        });
        assert_eq!(end.await.unwrap(), 0);
    });
}

#[test]
fn a_write_to_a_peer_that_is_gone_is_an_error_and_no_signal() {
    run(async {
        let (ours, peer) = unix_and_std();
        drop(peer);
        assert_eq!(ours.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);

        let (ours, peer) = tcp_and_std().await;
        drop(peer);
        let error = loop {
            if let Err(error) = ours.write(b"x").await {
                break error;
            }
            yield_now().await;
        };
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    });
}

#[test]
fn shutting_a_dead_connection_down_is_fine() {
    run(async {
        let (ours, peer) = tcp_and_std().await;
        let error = while_waiting(ours.read(&mut [0; 16]), || reset(peer)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        ours.shutdown(Shutdown::Both).unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
    });
}

#[test]
fn closing_with_a_full_send_buffer_and_a_slow_peer_ends() {
    const BYTES: usize = 8 << 20;
    let runtime = Runtime::new().unwrap();
    let polls = polls_during(&runtime, async {
        let (ours, mut peer) = tcp_and_std().await;
        let slow = thread::spawn(move || {
            let (mut total, mut buffer) = (0, [0; 65_536]);
            loop {
                match peer.read(&mut buffer).unwrap() {
                    0 => return total,
                    len => total += len,
                }
            }
        });
        let mut writer = &ours;
        AsyncWriteExt::write_all(&mut writer, &vec![0; BYTES]).await.unwrap();
        writer.flush().await.unwrap();
        writer.close().await.unwrap();
        assert_eq!(slow.join().unwrap(), BYTES);
    });
    assert!(polls < 20_000, "{polls} polls");
}

#[test]
fn halves_put_together_again_are_still_connected() {
    run(async {
        let (ours, mut peer) = tcp_and_std().await;
        let (read, write) = ours.split();
        let ours = read.reunite(write).unwrap();
        ours.write_all(b"there").await.unwrap();
        let mut word = [0; 5];
        peer.read_exact(&mut word).unwrap();
        peer.write_all(&word).unwrap();
        ours.read_exact(&mut word).await.unwrap();

        let (read, write) = ours.split();
        drop(write);
        assert_eq!(peer.read(&mut word).unwrap(), 0, "the writing half's drop ends the stream");
        peer.write_all(b"again").unwrap();
        read.stream().read_exact(&mut word).await.unwrap();

        let (other, _) = tcp_pair().await;
        let (_, stranger) = other.split();
        assert!(read.reunite(stranger).is_err());
    });
}

// Readiness.

#[test]
fn one_event_wakes_all_who_wait_for_it() {
    const TASKS: usize = 8;
    run(async {
        let (sender, receiver) = udp_pair().await;
        let receiver = Rc::new(receiver);
        let woken = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (receiver, woken) = (Rc::clone(&receiver), Rc::clone(&woken));
                spawn(async move {
                    receiver.readable().await.unwrap();
                    woken.set(woken.get() + 1);
                })
            })
            .collect();
        yield_now().await;
        assert_eq!(woken.get(), 0);
        sender.send(b"x").await.unwrap();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(woken.get(), TASKS);
    });
}

#[test]
fn of_many_who_receive_each_gets_one_datagram_and_the_rest_wait_on() {
    const TASKS: u8 = 8;
    run(async {
        let (sender, receiver) = udp_pair().await;
        let receiver = Rc::new(receiver);
        let got = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (receiver, got) = (Rc::clone(&receiver), Rc::clone(&got));
                spawn(async move {
                    let mut byte = [0; 1];
                    assert_eq!(receiver.recv(&mut byte).await.unwrap(), 1);
                    got.borrow_mut().push(byte[0]);
                })
            })
            .collect();
        yield_now().await;
        for number in 0..TASKS {
            sender.send(&[number]).await.unwrap();
            while got.borrow().len() <= usize::from(number) {
                yield_now().await;
            }
        }
        join_all(tasks).await;
        assert_eq!(*got.borrow(), (0..TASKS).collect::<Vec<_>>());
    });
}

#[test]
fn an_event_that_was_wrong_is_not_seen_by_the_caller() {
    run(async {
        let (ours, mut peer) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Async::new(ours);
        let calls = Cell::new(0);
        // Says "would block" in spite of four true events.
        let stubborn = ours.read_with(|mut stream| {
            calls.set(calls.get() + 1);
            if calls.get() < 5 { Err(ErrorKind::WouldBlock.into()) } else { stream.read(&mut [0; 64]) }
        });
        let events = async {
            loop {
                peer.write_all(b"x").unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        };
        match select(pin!(stubborn), pin!(events)).await {
            Either::Left((read, _)) => assert!(read.unwrap() > 0),
            Either::Right(((), _)) => unreachable!("the events do not end"),
        }
        assert_eq!(calls.get(), 5);
    });
}

#[test]
fn peek_waits_and_takes_nothing() {
    run(async {
        let (ours, mut peer) = tcp_and_std().await;
        let mut word = [0; 4];
        let peeked = while_waiting(ours.peek(&mut word), || peer.write_all(b"word").unwrap()).await;
        assert!(peeked.unwrap() > 0);
        ours.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"word");
        let peeked = while_waiting(ours.peek(&mut word), || drop(peer)).await;
        assert_eq!(peeked.unwrap(), 0);
    });
}

#[test]
fn a_cancelled_read_loses_nothing_and_leaves_nobody_waiting() {
    run(async {
        let (ours, mut peer) = tcp_and_std().await;
        let mut word = [0; 4];
        timeout(Duration::from_millis(1), ours.read(&mut [0; 4])).await.unwrap_err();
        // Two wait; the one that was first goes away when the event has been handed out, the other
        // gets the bytes.
        let ours = Rc::new(ours);
        let first = {
            let ours = Rc::clone(&ours);
            spawn(async move { ours.read(&mut [0; 4]).await })
        };
        let second = while_waiting(ours.read_exact(&mut word), || {
            first.abort();
            peer.write_all(b"word").unwrap();
        });
        second.await.unwrap();
        assert_eq!(&word, b"word");
        assert!(first.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn of_those_who_poll_the_last_waker_wins() {
    let runtime = Runtime::new().unwrap();
    let (ours, mut peer) = unix_and_std();
    let ((first, first_waker), (last, last_waker)) = (Counter::new(), Counter::new());
    run_in(&runtime, async {
        for waker in [&first_waker, &last_waker] {
            assert!(ours.poll_read(&mut Context::from_waker(waker), &mut [0; 4]).is_pending());
        }
        peer.write_all(b"word").unwrap();
        while last.count() == 0 {
            yield_now().await;
        }
        assert_eq!((first.count(), last.count()), (0, 1));
    });
}

#[test]
fn two_tasks_read_and_write_one_socket_at_the_same_time() {
    const BYTES: usize = 4 << 20;
    run(async {
        let (a, b) = UnixStream::pair().unwrap();
        let (a, b) = (Rc::new(a), Rc::new(b));
        // Each end sends more than the buffers hold, so both would stick if one direction stopped
        // the other.
        let tasks =
            [Rc::clone(&a), Rc::clone(&b)].map(|end| spawn(async move { end.write_all(&vec![1; BYTES]).await }));
        let reads = [a, b].map(|end| spawn(async move { end.read_exact(&mut vec![0; BYTES]).await }));
        for task in tasks.into_iter().chain(reads) {
            task.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_closed_socket_takes_no_event_from_others() {
    run(async {
        let ((a, mut a_peer), (b, mut b_peer), (c, mut c_peer)) = (unix_and_std(), unix_and_std(), unix_and_std());
        let b = Rc::new(RefCell::new(Some(b)));
        let slot = Rc::clone(&b);
        // All three are ready in one batch. Whoever is first closes `b`, and a new socket takes its
        // place in the reactor.
        let first = spawn(async move {
            a.read(&mut [0; 16]).await.unwrap();
            drop(slot.take());
            let (new, mut new_peer) = unix_and_std();
            let mut buffer = [0; 16];
            let read = while_waiting(new.read(&mut buffer), || new_peer.write_all(b"new").unwrap());
            assert_eq!(read.await.unwrap(), 3);
        });
        let other = spawn(async move { c.read(&mut [0; 16]).await });
        // Registers `b`.
        timeout(Duration::ZERO, poll_fn(|cx| b.borrow().as_ref().unwrap().poll_read(cx, &mut [0; 1])))
            .await
            .unwrap_err();
        yield_now().await;
        for peer in [&mut a_peer, &mut b_peer, &mut c_peer] {
            peer.write_all(b"x").unwrap();
        }
        first.await.unwrap();
        assert_eq!(other.await.unwrap().unwrap(), 1);
    });
}

#[test]
fn a_descriptor_taken_out_can_be_registered_again() {
    run(async {
        let (mut ours, mut peer) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        for _ in 0..3 {
            let wrapped = Async::new(ours);
            let read = while_waiting(wrapped.read_with(|mut s| s.read(&mut [0; 4])), || peer.write_all(b"x").unwrap());
            assert_eq!(read.await.unwrap(), 1);
            ours = wrapped.into_inner().unwrap();
        }
    });
}

#[test]
fn a_second_registration_of_a_descriptor_is_an_error_and_the_first_stays() {
    run(async {
        let (ours, mut peer) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Arc::new(ours);
        let (first, second) = (Async::new(Arc::clone(&ours)), Async::new(ours));
        let read = first.read_with(|stream| (&**stream).read(&mut [0; 4]));
        let attempt = async {
            assert_eq!(second.readable().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
            drop(second);
            peer.write_all(b"x").unwrap();
        };
        assert_eq!(join(read, attempt).await.0.unwrap(), 1);
    });
}

#[test]
fn a_socket_that_is_not_connected_does_not_spin() {
    let runtime = Runtime::new().unwrap();
    let raw = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let ours = TcpStream::from_std(raw.into()).unwrap();
    let idle = UdpSocket::bind("127.0.0.1:0").unwrap();
    let polls = polls_during(&runtime, async {
        assert_eq!(ours.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::NotConnected);
        // The system reports it ready at once, with nothing to do.
        ours.readable().await.unwrap();
        timeout(MOMENT, idle.recv(&mut [0; 1])).await.unwrap_err();
    });
    assert!(polls < 20, "{polls} polls");
}

#[test]
fn a_writable_socket_does_not_keep_its_reader_awake() {
    let runtime = Runtime::new().unwrap();
    let polls = polls_during(&runtime, async {
        let (ours, mut peer) = tcp_and_std().await;
        let mut byte = [0; 1];
        let mut read = pin!(timeout(MOMENT * 4, ours.read(&mut byte)));
        // Write events come all the while: the send buffer is filled and emptied.
        let writes = async {
            let mut buffer = vec![0; 1 << 20];
            for _ in 0..20 {
                let sent = ours.write(&buffer).await.unwrap();
                peer.read_exact(&mut buffer[..sent]).unwrap();
            }
            std::future::pending::<()>().await;
        };
        assert!(matches!(select(&mut read, pin!(writes)).await, Either::Left((Err(_), _))));
    });
    assert!(polls < 2000, "{polls} polls");
}

#[test]
fn a_task_whose_socket_is_always_ready_lets_others_run() {
    const ENOUGH: u64 = 100_000;
    run(async {
        let (ours, _peer) = udp_pair().await;
        let stop = Rc::new(Cell::new(false));
        let stopped = Rc::clone(&stop);
        // Nothing in it waits: a datagram that finds the receiver full is dropped.
        let flood = spawn(async move {
            let mut sent = 0;
            while !stopped.get() && sent < ENOUGH {
                ours.send(b"x").await.unwrap();
                sent += 1;
            }
            sent
        });
        let other = spawn(async move { stop.set(true) });
        other.await.unwrap();
        assert!(flood.await.unwrap() < ENOUGH);
    });
}

#[test]
fn a_time_limit_ends_a_task_whose_socket_is_always_ready() {
    const ENOUGH: u64 = 2_000_000;
    run(async {
        let (ours, _peer) = udp_pair().await;
        let sent = Cell::new(0);
        let flood = async {
            while sent.get() < ENOUGH {
                ours.send(b"x").await.unwrap();
                sent.set(sent.get() + 1);
            }
        };
        timeout(MOMENT, flood).await.unwrap_err();
    });
}

// Connecting and accepting.

#[test]
fn connecting_where_nobody_listens_is_refused() {
    run(async {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let nobody = UnixStream::connect("/nobody/listens/here").await.unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::NotFound);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_connect_that_hangs_can_be_timed_out_and_closes_its_socket() {
    // A listener whose backlog is full answers nothing.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let runtime = Runtime::new().unwrap();
    let mut filling = Vec::new();
    loop {
        let connect = TcpStream::connect(address);
        match runtime.block_on(timeout(Duration::from_millis(200), connect)).unwrap() {
            Ok(stream) => filling.push(stream.unwrap()),
            Err(_elapsed) => break,
        }
        assert!(filling.len() < 100, "the backlog is never full");
    }
    let registered = runtime.stats().sources;
    drop(filling);
    runtime.block_on(yield_now()).unwrap();
    assert!(runtime.stats().sources <= registered);
    assert_eq!(runtime.stats().sources, 0, "the socket of the connect that was dropped is still registered");
}

#[test]
fn a_connection_reset_before_it_is_accepted_does_no_harm_to_the_listener() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..50 {
            reset(StdTcpStream::connect(address).unwrap());
        }
        let good = StdTcpStream::connect(address).unwrap();
        loop {
            let (_, from) = listener.accept().await.unwrap();
            if from == good.local_addr().unwrap() {
                break;
            }
        }
    });
}

#[test]
fn many_accept_on_one_listener_and_each_connection_is_accepted_once() {
    const CONNECTIONS: usize = 100;
    run(async {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let accepted = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..8 {
            let (listener, accepted) = (Rc::clone(&listener), Rc::clone(&accepted));
            drop(spawn(async move {
                loop {
                    let (_, from) = listener.accept().await.unwrap();
                    accepted.borrow_mut().push(from);
                }
            }));
        }
        yield_now().await;
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| StdTcpStream::connect(address).unwrap()).collect();
        while accepted.borrow().len() < CONNECTIONS {
            yield_now().await;
        }
        let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
        expected.sort();
        accepted.borrow_mut().sort();
        assert_eq!(*accepted.borrow(), expected);
    });
}

#[test]
fn runtimes_on_one_port_share_its_connections() {
    const THREADS: usize = 4;
    const CONNECTIONS: usize = 400;
    let listen = |address: SocketAddr| -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        TcpListener::from_std(socket.into())
    };
    let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let mut listeners = vec![first];
    listeners.extend((1..THREADS).map(|_| listen(address).unwrap()));

    let mut stops = Vec::new();
    let mut threads = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let (stop, stopped) = futures::channel::oneshot::channel::<()>();
        stops.push(stop);
        threads.push(thread::spawn(move || {
            let serve = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    stream.write_all(&[number as u8]).await.unwrap();
                }
            };
            postlude::run(async {
                select(pin!(serve), stopped).await;
            })
            .unwrap();
        }));
    }
    let mut served = [0; THREADS];
    for _ in 0..CONNECTIONS {
        let mut client = StdTcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let mut number = [0];
        client.read_exact(&mut number).unwrap();
        served[usize::from(number[0])] += 1;
    }
    drop(stops);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(served.iter().sum::<usize>(), CONNECTIONS);
    // Linux spreads by a hash of the addresses; elsewhere one listener may get all.
    #[cfg(target_os = "linux")]
    assert!(served.iter().all(|&count| count > 0), "{served:?}");
}

// Datagrams.

#[test]
fn a_connected_udp_socket_reports_a_dead_peer_once_and_works_when_it_comes() {
    run(async {
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        ours.connect(peer).await.unwrap();
        ours.send(b"anybody?").await.unwrap();
        let mut buffer = [0; 16];
        let refused = ours.recv(&mut buffer).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        timeout(MOMENT, ours.recv(&mut buffer)).await.expect_err("it is reported once");

        let peer = UdpSocket::bind(peer).unwrap();
        ours.send(b"now?").await.unwrap();
        let (len, from) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], from), (&b"now?"[..], ours.local_addr().unwrap()));
        peer.send_to(b"yes", from).await.unwrap();
        assert_eq!(ours.recv(&mut buffer).await.unwrap(), 3);
    });
}

#[test]
fn a_udp_client_that_vanished_does_no_harm_to_the_server() {
    run(async {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let alive = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 16];
        for _ in 0..1000 {
            let gone = {
                let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                client.send_to(b"gone", address).unwrap();
                server.recv_from(&mut buffer).await.unwrap().1
            };
            server.send_to(b"answer", gone).await.unwrap();
            alive.send_to(b"alive", address).await.unwrap();
            let (len, from) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!((len, from), (5, alive.local_addr().unwrap()));
            server.send_to(b"ok", from).await.unwrap();
            assert_eq!(alive.recv(&mut buffer).await.unwrap(), 2);
        }
    });
}

#[test]
fn datagrams_keep_their_bounds_and_one_that_is_short_says_nothing_about_the_next() {
    run(async {
        let (a, b) = udp_pair().await;
        let (c, d) = UnixDatagram::pair().unwrap();
        let mut buffer = [0; 64];
        // Both are registered by a wait; then several arrive with one event, each shorter than the
        // buffer.
        timeout(Duration::ZERO, join(b.recv(&mut [0; 1]), d.recv(&mut [0; 1]))).await.unwrap_err();
        for text in ["one", "", "three", "a datagram that is longer than its receiver's buffer of sixty-four bytes"] {
            a.send(text.as_bytes()).await.unwrap();
            c.send(text.as_bytes()).await.unwrap();
        }
        for expected in [3, 0, 5, 64] {
            assert_eq!(b.peek(&mut buffer).await.unwrap(), expected);
            assert_eq!(b.recv(&mut buffer).await.unwrap(), expected);
            assert_eq!(d.recv(&mut buffer).await.unwrap(), expected);
        }
        assert_eq!(a.send(&[0; 70_000]).await.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    });
}

#[test]
fn a_full_unix_receiver_makes_the_connected_sender_wait() {
    let runtime = Runtime::new().unwrap();
    run_in(&runtime, async {
        let (a, b) = UnixDatagram::pair().unwrap();
        let mut sent = 0;
        while let Ok(result) = timeout(MOMENT, a.send(b"x")).await {
            result.unwrap();
            sent += 1;
        }
        let drain = async {
            let before = runtime.stats().polls;
            sleep(MOMENT).await;
            let polls = runtime.stats().polls - before;
            assert!(polls < 100, "{polls} polls while there was nothing to do");
            for _ in 0..=sent {
                b.recv(&mut [0; 1]).await.unwrap();
            }
        };
        join(a.send(b"x"), drain).await.0.unwrap();
    });
}

#[test]
fn a_unix_receiver_that_others_filled_makes_the_sender_wait_and_no_longer_than_that() {
    let path = std::env::temp_dir().join(format!("postlude-test-filled-{}", std::process::id()));
    let runtime = Runtime::new().unwrap();
    run_in(&runtime, async {
        let receiver = UnixDatagram::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        // One alone may come to the end of its own send buffer first: until somebody new gets
        // nothing in.
        let mut filled = 0;
        let mut others = Vec::new();
        loop {
            let (other, before) = (UnixDatagram::unbound().unwrap(), filled);
            while let Ok(result) = timeout(MOMENT, other.send_to(b"other", &path)).await {
                result.unwrap();
                filled += 1;
            }
            others.push(other);
            if filled == before {
                break;
            }
        }
        let mut buffer = [0; 16];
        let wait = sender.send_to(b"ours", &path);
        let drain = async {
            let before = runtime.stats().polls;
            sleep(MOMENT * 4).await;
            let polls = runtime.stats().polls - before;
            assert!(polls < 100, "{polls} polls while there was nothing to do");
            for _ in 0..filled {
                assert_eq!(receiver.recv(&mut buffer).await.unwrap(), 5);
            }
            receiver.recv(&mut buffer).await
        };
        let (sent, received) = join(wait, drain).await;
        assert_eq!((sent.unwrap(), received.unwrap()), (4, 4));
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn shutting_a_unix_datagram_down_wakes_its_receivers() {
    run(async {
        let (a, b) = UnixDatagram::pair().unwrap();
        let mut buffer = [0; 16];
        let end = while_waiting(a.recv(&mut buffer), || a.shutdown(Shutdown::Read).unwrap()).await;
        assert_eq!(end.unwrap(), 0);
        let (len, from) = a.recv_from(&mut buffer).await.unwrap();
        assert!(len == 0 && from.is_unnamed());
        assert_eq!(b.send(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(a.send(b"x").await.unwrap(), 1);
    });
}

#[test]
fn unix_addresses_of_every_kind_work() {
    let path = std::env::temp_dir().join(format!("postlude-test-address-{}", std::process::id()));
    run(async {
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).await.unwrap();
        let (server, from) = listener.accept().await.unwrap();
        assert!(from.is_unnamed() && client.local_addr().unwrap().is_unnamed());
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(path.as_path()));
        assert!(server.peer_addr().unwrap().is_unnamed());
        assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);

        let long = format!("/tmp/{}", "x".repeat(120));
        assert_eq!(UnixListener::bind(&long).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(UnixDatagram::bind(&long).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(UnixStream::connect(&long).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(UnixStream::connect("/tmp/with\0nul").await.is_err());
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn abstract_unix_addresses_may_contain_nul() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    run(async {
        let name = format!("postlude\0test\0{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let client = UnixStream::connect_addr(&listener.local_addr().unwrap()).await.unwrap();
        listener.accept().await.unwrap();
        assert_eq!(client.peer_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));

        let address = SocketAddr::from_abstract_name(format!("{name}\0datagram")).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to_addr(b"to", &address).await.unwrap();
        sender.connect_addr(&address).unwrap();
        sender.send(b"connected").await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(receiver.recv(&mut buffer).await.unwrap(), 2);
        assert_eq!(receiver.recv(&mut buffer).await.unwrap(), 9);
    });
}

// Between runtimes and threads.

#[test]
fn a_socket_dropped_on_another_thread_is_closed_and_deregistered_at_home() {
    let runtime = Runtime::new().unwrap();
    let (ours, mut peer) = unix_and_std();
    runtime.block_on(timeout(Duration::ZERO, ours.read(&mut [0; 1]))).unwrap().unwrap_err();
    assert_eq!(runtime.stats().sources, 1);
    thread::spawn(move || drop(ours)).join().unwrap();
    let polling = async {
        yield_now().await;
        yield_now().await;
    };
    run_in(&runtime, polling);
    assert_eq!(runtime.stats().sources, 0);
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_socket_dropped_on_another_thread_wakes_a_loop_that_sleeps() {
    run(async {
        let (ours, peer) = unix_and_std();
        let peer = UnixStream::from_std(peer).unwrap();
        timeout(Duration::ZERO, ours.read(&mut [0; 1])).await.unwrap_err();
        let other = thread::spawn(move || drop(ours));
        assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0);
        other.join().unwrap();
    });
}

#[test]
fn a_socket_outlives_its_runtime() {
    let (ours, mut peer) = unix_and_std();
    run(async { timeout(Duration::ZERO, ours.read(&mut [0; 1])).await.unwrap_err() });
    let gone = run(ours.write(b"x")).unwrap_err();
    assert!(gone.to_string().contains("runtime is gone"), "{gone}");
    drop(ours);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);

    let (ours, mut peer) = unix_and_std();
    run(async { timeout(Duration::ZERO, ours.read(&mut [0; 1])).await.unwrap_err() });
    let mut ours = ours.into_std().unwrap();
    ours.write_all(b"x").unwrap();
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 1);
}

#[test]
fn a_socket_moves_between_runtimes_by_way_of_the_standard_one() {
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let (mut ours, mut peer) = unix_and_std();
    for runtime in [&first, &second, &first, &second] {
        ours = run_in(runtime, async {
            let mut word = [0; 4];
            let read = while_waiting(ours.read(&mut word), || peer.write_all(b"word").unwrap());
            assert_eq!(read.await.unwrap(), 4);
            UnixStream::from_std(ours.into_std().unwrap()).unwrap()
        });
        assert_eq!(runtime.stats().sources, 0);
    }
}

#[test]
fn a_socket_used_in_another_runtime_or_in_none_is_an_error() {
    let (home, other) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    run_in(&home, async { timeout(Duration::ZERO, socket.recv(&mut [0; 1])).await.unwrap_err() });

    let error = run_in(&other, socket.recv(&mut [0; 1])).unwrap_err();
    assert!(error.to_string().contains("which runs another runtime"), "{error}");
    let error = futures::executor::block_on(socket.readable()).unwrap_err();
    assert!(error.to_string().contains("which runs no runtime"), "{error}");
    run_in(&other, async { socket.into_std().unwrap_err() });
    assert_eq!(home.stats().sources, 1, "it is on its way home");
    run_in(&home, yield_now());
    run_in(&home, yield_now());
    assert_eq!(home.stats().sources, 0);
}

#[test]
fn a_socket_needs_no_runtime_until_it_has_to_wait() {
    futures::executor::block_on(async {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        a.send_to(b"x", b.local_addr().unwrap()).await.unwrap();
        assert_eq!(b.recv(&mut [0; 1]).await.unwrap(), 1);
        let error = b.recv(&mut [0; 1]).await.unwrap_err();
        assert!(error.to_string().contains("which runs no runtime"), "{error}");
    });
}

// Groups of datagram sockets.

#[test]
fn a_datagram_for_a_group_comes_to_the_socket_that_has_joined_it_until_it_leaves() {
    run(async {
        let (group, interface) = (Ipv4Addr::new(239, 255, 71, 13), Ipv4Addr::LOCALHOST);
        let receiver = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        receiver.join_multicast_v4(group, interface).unwrap();
        assert_eq!(receiver.join_multicast_v4(group, interface).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert!(receiver.join_multicast_v4(interface, interface).is_err(), "an address of one host is no group");

        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        SockRef::from(&sender).set_multicast_if_v4(&interface).unwrap();
        let mut buffer = [0; 16];
        sender.send_to(b"to all", (group, port).into()).await.unwrap();
        let (length, from) = receiver.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"to all"[..], sender.local_addr().unwrap()));

        receiver.leave_multicast_v4(group, interface).unwrap();
        assert_eq!(receiver.leave_multicast_v4(group, interface).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        sender.send_to(b"to all", (group, port).into()).await.unwrap();
        sender.send_to(b"to one", (interface, port).into()).await.unwrap();
        let (length, _) = receiver.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"to one");
    });
}

#[test]
fn a_group_of_ipv6_is_joined_and_left() {
    let Ok(socket) = UdpSocket::bind("[::1]:0") else { return };
    // The loopback interface, which every host has first.
    let (group, interface) = ("ff02::4711".parse().unwrap(), 1);
    socket.join_multicast_v6(group, interface).unwrap();
    assert_eq!(socket.join_multicast_v6(group, interface).unwrap_err().kind(), ErrorKind::AddrInUse);
    socket.leave_multicast_v6(group, interface).unwrap();
    assert_eq!(socket.leave_multicast_v6(group, interface).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
}

// Other descriptors.

#[test]
fn a_pipe_carries_more_than_it_holds() {
    const BYTES: usize = 1 << 20;
    run(async {
        let (sender, receiver) = mio::unix::pipe::new().unwrap();
        let (mut reader, mut writer) = (Async::new(receiver), Async::new(sender));
        let write = spawn(async move {
            writer.write_all(&vec![3; BYTES]).await.unwrap();
            writer.close().await.unwrap();
        });
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        write.await.unwrap();
        assert_eq!(all, vec![3; BYTES]);
    });
}

#[test]
fn calls_that_poll_to_read_share_one_waker_and_the_last_one_is_woken() {
    run(async {
        let (reader, mut sender) = pipe();
        let ((first, of_first), (last, of_last)) = (Counter::new(), Counter::new());
        let read = |waker| {
            reader.poll_read_with(&mut Context::from_waker(waker), |mut pipe| {
                let mut buffer = [0; 8];
                pipe.read(&mut buffer).map(|length| buffer[..length].to_vec())
            })
        };
        assert!(read(&of_first).is_pending() && read(&of_last).is_pending());
        sender.write_all(b"hello").unwrap();
        while last.count() == 0 {
            sleep(MOMENT).await;
        }
        assert_eq!((first.count(), last.count()), (0, 1));
        assert!(matches!(read(&of_first), Poll::Ready(Ok(bytes)) if bytes == b"hello"));
        assert!(read(&of_first).is_pending());
        drop(sender);
        while first.count() == 0 {
            sleep(MOMENT).await;
        }
        assert!(matches!(read(&of_first), Poll::Ready(Ok(bytes)) if bytes.is_empty()), "the end");
    });
}

#[test]
fn a_poll_to_write_waits_for_room_and_leaves_the_waker_of_reads_alone() {
    run(async {
        let (ours, mut peer) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        // Full before the budget of this poll is used up.
        SockRef::from(&ours).set_send_buffer_size(1 << 16).unwrap();
        let ours = Async::new(ours);
        let ((reads, reading), (writes, writing)) = (Counter::new(), Counter::new());
        let read = || ours.poll_read_with(&mut Context::from_waker(&reading), |mut stream| stream.read(&mut [0; 8]));
        let write =
            || ours.poll_write_with(&mut Context::from_waker(&writing), |mut stream| stream.write(&[7; 1 << 15]));
        let mut written = 0;
        while let Poll::Ready(result) = write() {
            written += result.unwrap();
        }
        assert!(read().is_pending());
        peer.read_exact(&mut vec![0; written]).unwrap();
        while writes.count() == 0 {
            sleep(MOMENT).await;
        }
        assert_eq!((reads.count(), writes.count()), (0, 1));
        assert!(matches!(write(), Poll::Ready(Ok(1..))));
        peer.write_all(b"answer").unwrap();
        while reads.count() == 0 {
            sleep(MOMENT).await;
        }
        assert!(matches!(read(), Poll::Ready(Ok(6))));
    });
}

#[test]
fn what_is_polled_is_tried_again_when_it_was_interrupted_and_hands_its_errors_out() {
    run(async {
        let (reader, _sender) = pipe();
        let context = &mut Context::from_waker(Waker::noop());
        let mut calls = 0;
        let interrupted = reader.poll_read_with(context, |_| {
            calls += 1;
            if calls < 3 { Err(ErrorKind::Interrupted.into()) } else { Ok(calls) }
        });
        assert!(matches!(interrupted, Poll::Ready(Ok(3))));
        let fails = |_: &_| Err::<(), _>(io::Error::other("of the operation"));
        assert!(
            matches!(reader.poll_read_with(context, fails), Poll::Ready(Err(error)) if error.kind() == ErrorKind::Other)
        );
        assert!(
            matches!(reader.poll_write_with(context, fails), Poll::Ready(Err(error)) if error.kind() == ErrorKind::Other)
        );
    });
    let (outside, _sender) = pipe();
    let read =
        outside.poll_read_with(&mut Context::from_waker(Waker::noop()), |_| Err::<(), _>(ErrorKind::WouldBlock.into()));
    let Poll::Ready(Err(error)) = read else { panic!("without a runtime there is nothing to wait with: {read:?}") };
    assert!(error.to_string().contains("no runtime"), "{error}");
}

#[test]
fn a_terminal_echoes_what_is_written_to_it() {
    let Ok(master) = std::fs::File::options().read(true).write(true).open("/dev/ptmx") else { return };
    SockRef::from(&master).set_nonblocking(true).unwrap();
    run(async {
        let terminal = Async::new(master);
        let read = terminal.read_with(|mut master| master.read(&mut [0; 64]));
        let write = async {
            yield_now().await;
            terminal.write_with(|mut master| master.write(b"hello\n")).await.unwrap();
        };
        assert!(join(read, write).await.0.unwrap() > 0);
    });
}

#[test]
fn a_file_on_disk_is_read_at_once_and_cannot_be_waited_for() {
    run(async {
        let mut file = Async::new(std::fs::File::open(std::env::current_exe().unwrap()).unwrap());
        assert_eq!(file.read(&mut [0; 16]).await.unwrap(), 16);
        #[cfg(target_os = "linux")]
        assert_eq!(file.readable().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    });
}

/// A descriptor whose `AsFd` is the user's code and uses the runtime.
struct Nosy(StdUnixStream);

impl std::os::fd::AsFd for Nosy {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        let (other, _peer) = unix_and_std();
        let poll = other.poll_read(&mut Context::from_waker(Waker::noop()), &mut [0; 1]);
        assert!(matches!(poll, Poll::Pending));
        self.0.as_fd()
    }
}

#[test]
fn as_fd_of_a_wrapped_descriptor_may_use_the_runtime() {
    run(async {
        let (ours, mut peer) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Async::new(Nosy(ours));
        let read = while_waiting(ours.read_with(|nosy| (&nosy.0).read(&mut [0; 4])), || peer.write_all(b"x").unwrap());
        assert_eq!(read.await.unwrap(), 1);
    });
}

#[test]
fn a_unix_listener_whose_backlog_is_full_is_busy_and_never_would_block() {
    let path = std::env::temp_dir().join(format!("postlude-backlog-{}", std::process::id()));
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(1).unwrap();
    let error = run(async {
        let mut held = Vec::new();
        loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
        }
    });
    std::fs::remove_file(&path).unwrap();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
}
