//! What is known about a descriptor and when it is forgotten: ends and errors of each direction,
//! events, registration.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream, UdpSocket as StdUdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{join, select};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use postlude::io::Async;
use postlude::net::{TcpListener, TcpStream, UnixDatagram, UnixListener, UnixStream};
use postlude::task::yield_now;
use postlude::time::{sleep, timeout};
use postlude::{Runtime, spawn};
use socket2::SockRef;

use super::io::{LIMIT, MOMENT, run, run_in, tcp_and_std, unix_and_std};

const NOW: Option<Duration> = Some(Duration::ZERO);

/// Waits for nothing, but registers who would.
async fn register(wait: impl Future) {
    assert!(timeout(Duration::ZERO, wait).await.is_err(), "there is something to wait for");
    // What the selector knows already comes with its next polls.
    yield_now().await;
    yield_now().await;
}

/// Checks that `read` has come to its end, or waits on.
async fn assert_end(read: impl Future<Output = io::Result<usize>>, ends: bool, what: &str) {
    if ends {
        assert_eq!(timeout(LIMIT / 4, read).await.expect(what).unwrap(), 0, "{what}");
    } else {
        assert!(timeout(MOMENT, read).await.is_err(), "{what}");
    }
}

// Ends and errors.

/// Shuts a peer down, or closes it.
fn end<S>(peer: S, how: Option<Shutdown>, shutdown: impl Fn(&S, Shutdown) -> io::Result<()>) -> Option<S> {
    shutdown(&peer, how?).unwrap();
    Some(peer)
}

#[test]
fn a_direction_ends_when_the_peer_ended_it_and_the_other_goes_on() {
    const CASES: [(Option<Shutdown>, bool, bool); 4] = [
        // What the peer does; whether our reads end; whether our writes fail on a Unix stream. On
        // TCP the first one never does.
        (Some(Shutdown::Read), false, true),
        (Some(Shutdown::Write), true, false),
        (Some(Shutdown::Both), true, true),
        (None, true, true),
    ];
    run(async {
        for (how, reads_end, writes_fail) in CASES {
            let what = format!("unix, {how:?}");
            let (ours, peer) = unix_and_std();
            register(ours.read(&mut [0; 1])).await;
            let _kept = end(peer, how, StdUnixStream::shutdown);
            for _ in 0..2 {
                assert_end(ours.read(&mut [0; 1]), reads_end, &what).await;
                let written = ours.write(b"x").await.map_err(|error| error.kind());
                assert_eq!(written, if writes_fail { Err(ErrorKind::BrokenPipe) } else { Ok(1) }, "{what}");
            }
        }
        for (how, reads_end, _) in CASES {
            let what = format!("tcp, {how:?}");
            let (ours, peer) = tcp_and_std().await;
            register(ours.read(&mut [0; 1])).await;
            let _kept = end(peer, how, StdTcpStream::shutdown);
            assert_end(ours.read(&mut [0; 1]), reads_end, &what).await;
            assert_eq!(ours.write(b"x").await.unwrap(), 1, "{what}");
        }
    });
}

#[test]
fn our_own_shutdown_wakes_who_waits_in_that_direction_only() {
    run(async {
        let (ours, mut peer) = unix_and_std();
        let end = join(ours.read(&mut [0; 1]), async { ours.shutdown(Shutdown::Read).unwrap() }).await.0;
        assert_eq!(end.unwrap(), 0);
        assert_eq!(ours.write(b"x").await.unwrap(), 1);

        let (ours, _peer) = unix_and_std();
        register(ours.read(&mut [0; 1])).await;
        ours.shutdown(Shutdown::Write).unwrap();
        assert_end(ours.read(&mut [0; 1]), false, "our writing is over, not our reading").await;
        assert_eq!(ours.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        peer.write_all(b"x").unwrap_err();
    });
}

#[test]
fn the_end_of_reading_is_no_news_to_a_writer_that_waits() {
    let runtime = Runtime::new().unwrap();
    run_in(&runtime, async {
        let (ours, peer) = unix_and_std();
        let ours = Rc::new(ours);
        let writer = Rc::clone(&ours);
        let flood = spawn(async move {
            loop {
                writer.write(&[0; 65_536]).await.unwrap();
            }
        });
        register(ours.read(&mut [0; 1])).await;
        peer.shutdown(Shutdown::Write).unwrap();
        assert_end(ours.read(&mut [0; 1]), true, "the peer has ended it").await;
        let before = runtime.stats().polls;
        sleep(MOMENT).await;
        let polls = runtime.stats().polls - before;
        assert!(polls < 20, "{polls} polls for an end that is reported once");
        assert!(!flood.is_finished());
        flood.abort();
    });
}

#[test]
fn a_reset_wakes_reader_and_writer() {
    run(async {
        let (ours, peer) = tcp_and_std().await;
        let flood = async {
            loop {
                if let Err(error) = ours.write(&[0; 65_536]).await {
                    return error.kind();
                }
            }
        };
        let reset = async {
            sleep(MOMENT).await;
            SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
        };
        let mut buffer = [0; 1];
        let ((read, write), ()) = join(join(ours.read(&mut buffer), flood), reset).await;
        assert!(matches!(write, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{write}");
        // Whoever comes first gets the error; after that the stream is at its end.
        assert!(read.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |bytes| bytes == 0));
    });
}

#[test]
fn an_error_alone_wakes_who_waits_to_read_and_once_fetched_does_not_spin() {
    let runtime = Runtime::new().unwrap();
    run_in(&runtime, async {
        let nobody = StdUdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let ours = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        ours.connect(nobody).unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Async::new(ours);
        for _ in 0..3 {
            register(ours.read_with(|socket| socket.recv(&mut [0; 1]))).await;
            ours.get_ref().send(b"anybody?").unwrap();
            ours.readable().await.unwrap();
            let error = ours.get_ref().take_error().unwrap().expect("no error is there");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let before = runtime.stats().polls;
            timeout(MOMENT, ours.read_with(|socket| socket.recv(&mut [0; 1]))).await.expect_err("nothing came");
            let polls = runtime.stats().polls - before;
            assert!(polls < 20, "{polls} polls for an error that is gone");
        }
    });
}

// What is known of one direction says nothing about the other.

#[test]
fn reading_until_it_would_block_leaves_a_socket_writable() {
    let runtime = Runtime::new().unwrap();
    run_in(&runtime, async {
        let (ours, mut peer) = unix_and_std();
        register(ours.read(&mut [0; 1])).await;
        for _ in 0..3 {
            peer.write_all(b"x").unwrap();
            assert_eq!(ours.read(&mut [0; 4]).await.unwrap(), 1);
            register(ours.read(&mut [0; 4])).await;
            let events = runtime.stats().events;
            assert_eq!(ours.write(b"y").now_or_never().expect("it was writable").unwrap(), 1);
            assert_eq!(runtime.stats().events, events);
        }
    });
}

#[test]
fn writing_until_it_would_block_leaves_a_socket_readable() {
    run(async {
        let (ours, mut peer) = unix_and_std();
        register(ours.read(&mut [0; 1])).await;
        peer.write_all(b"word").unwrap();
        ours.readable().await.unwrap();
        while ours.write(&[0; 65_536]).now_or_never().is_some() {}
        for _ in 0..4 {
            assert_eq!(ours.read(&mut [0; 1]).now_or_never().expect("it was readable").unwrap(), 1);
        }
    });
}

// Events.

#[test]
fn an_event_is_reported_once_and_a_turn_of_no_time_does_not_wait() {
    let mut runtime = Runtime::new().unwrap();
    let (ours, mut peer) = unix_and_std();
    drop(runtime.spawn(async move {
        ours.readable().await.unwrap();
        pending::<()>().await;
        drop(ours);
    }));
    // That it can be written is an event, too.
    while runtime.stats().events == 0 {
        runtime.turn(NOW).unwrap();
    }
    for round in 1..=3 {
        // There is nothing to wait for and no timer: a turn that waited would not return.
        let idle = runtime.stats();
        for _ in 0..10 {
            runtime.turn(NOW).unwrap();
        }
        assert_eq!(runtime.stats().events, idle.events);
        assert_eq!(runtime.stats().parks, idle.parks + 10);
        // It is not read, and reported all the same only when there is more of it.
        peer.write_all(b"x").unwrap();
        while runtime.stats().events == idle.events {
            runtime.turn(NOW).unwrap();
        }
        assert_eq!(runtime.stats().events, idle.events + 1, "round {round}");
    }
}

#[test]
fn a_loop_can_wait_for_the_descriptor_of_another() {
    let (outer, mut inner) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let descriptor = Async::new(inner.as_fd().try_clone_to_owned().unwrap());
    while inner.turn(NOW).unwrap().has_more {}
    for round in 0..3 {
        let nothing = descriptor.read_with(|_| Err::<(), _>(ErrorKind::WouldBlock.into()));
        run_in(&outer, async { timeout(MOMENT, nothing).await.unwrap_err() });
        let handle = inner.handle();
        let thread = thread::spawn(move || handle.spawn(move || async move { round }));
        run_in(&outer, descriptor.readable()).unwrap();
        let mut task = thread.join().unwrap();
        while inner.turn(NOW).unwrap().has_more {}
        assert_eq!(task.wait(Duration::ZERO).unwrap().unwrap(), round);
    }
}

// Registration.

#[test]
fn a_socket_that_goes_is_deregistered_though_a_clone_keeps_it_open() {
    type Go = fn(&Runtime, UnixStream);
    let ways: [(&str, Go); 3] = [
        ("dropped", |runtime, ours| run_in(runtime, async { drop(ours) })),
        ("taken out", |runtime, ours| drop(run_in(runtime, async { ours.into_std().unwrap() }))),
        ("dropped elsewhere", |runtime, ours| {
            thread::spawn(move || drop(ours)).join().unwrap();
            run_in(runtime, async {
                yield_now().await;
                yield_now().await;
            });
        }),
    ];
    for (way, go) in ways {
        let runtime = Runtime::new().unwrap();
        let (ours, mut peer) = StdUnixStream::pair().unwrap();
        let clone = ours.try_clone().unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        run_in(&runtime, register(ours.read(&mut [0; 1])));
        go(&runtime, ours);
        assert_eq!(runtime.stats().sources, 0, "{way}");
        let events = runtime.stats().events;
        peer.write_all(b"x").unwrap();
        run_in(&runtime, sleep(MOMENT));
        assert_eq!(runtime.stats().events, events, "an event of a socket that was {way}");
        // And the other descriptor of it is as good as new.
        let clone = UnixStream::from_std(clone).unwrap();
        assert_eq!(run_in(&runtime, clone.read(&mut [0; 4])).unwrap(), 1, "{way}");
    }
}

#[test]
fn sockets_that_come_and_go_leave_no_source_behind() {
    let runtime = Runtime::new().unwrap();
    run_in(&runtime, async {
        for round in 0..300 {
            let (ours, mut peer) = unix_and_std();
            register(ours.read(&mut [0; 1])).await;
            if round % 3 == 0 {
                peer.write_all(b"x").unwrap();
            } else if round % 3 == 1 {
                drop(peer);
            }
        }
    });
    assert_eq!(runtime.stats().sources, 0);
}

// Operations that are given up.

#[test]
fn an_accept_that_is_given_up_leaves_the_connection_to_the_next() {
    async fn check<L: 'static>(
        listener: L,
        accept: impl AsyncFn(&L) + Copy + 'static,
        poll_accept: impl Fn(&L, &mut Context<'_>) -> Poll<()>,
        connect: impl Fn(),
    ) {
        let listener = Rc::new(listener);
        let tasks = [Rc::clone(&listener), Rc::clone(&listener)];
        let [first, second] = tasks.map(|listener| spawn(async move { accept(&listener).await }));
        yield_now().await;
        // The event is handed out to this task first, which takes no connection; the next in line
        // goes away before it is polled.
        let mut woken = false;
        let abort = poll_fn(|cx| {
            if std::mem::replace(&mut woken, true) {
                first.abort();
                return Poll::Ready(());
            }
            poll_accept(&listener, cx)
        });
        join(abort, async { connect() }).await;
        second.await.unwrap();
        assert!(first.await.unwrap_err().is_cancelled());
        // The only one goes away; there is no further event.
        register(accept(&listener)).await;
        connect();
        sleep(MOMENT).await;
        accept(&listener).await;
        // One that was polled once sees the event, and is dropped unpolled.
        {
            let mut given_up = pin!(accept(&listener));
            assert!(given_up.as_mut().now_or_never().is_none());
        }
        connect();
        accept(&listener).await;
    }
    let path = std::env::temp_dir().join(format!("postlude-test-given-up-{}", std::process::id()));
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || drop(StdTcpStream::connect(address).unwrap());
        let poll = |listener: &TcpListener, cx: &mut Context<'_>| listener.poll_accept(cx).map(drop);
        check(listener, async |listener| drop(listener.accept().await.unwrap()), poll, connect).await;
        let listener = UnixListener::bind(&path).unwrap();
        let connect = || drop(StdUnixStream::connect(&path).unwrap());
        let poll = |listener: &UnixListener, cx: &mut Context<'_>| listener.poll_accept(cx).map(drop);
        check(listener, async |listener| drop(listener.accept().await.unwrap()), poll, connect).await;
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_send_that_is_given_up_sends_nothing() {
    run(async {
        let (a, b) = UnixDatagram::pair().unwrap();
        let mut sent = 0;
        while let Ok(result) = timeout(MOMENT, a.send(b"sent")).await {
            result.unwrap();
            sent += 1;
        }
        for _ in 0..10 {
            register(a.send(b"given up")).await;
        }
        let mut buffer = [0; 16];
        for _ in 0..sent {
            let len = b.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..len], b"sent");
        }
        register(b.recv(&mut buffer)).await;
        a.send(b"sent").await.unwrap();
        assert_eq!(b.recv(&mut buffer).await.unwrap(), 4);
    });
}

#[test]
fn the_bytes_a_write_reports_are_those_that_go_out_though_others_are_given_up() {
    run(async {
        let (ours, mut peer) = unix_and_std();
        let mut written = 0;
        while let Ok(result) = timeout(MOMENT, ours.write(&[1; 10_000])).await {
            written += result.unwrap();
        }
        for _ in 0..10 {
            register(ours.write(&[2; 10_000])).await;
        }
        ours.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), written);
        assert!(all.iter().all(|&byte| byte == 1));
    });
}

// Together.

#[test]
fn two_loops_on_one_listener_accept_each_connection_once() {
    const CONNECTIONS: usize = 200;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut stops = Vec::new();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let listener = TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
            let (stop, stopped) = futures::channel::oneshot::channel::<()>();
            stops.push(stop);
            thread::spawn(move || {
                let accepted = Cell::new(0);
                let serve = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        accepted.set(accepted.get() + 1);
                        stream.write_all(b"x").await.unwrap();
                    }
                };
                postlude::run(async {
                    select(pin!(serve), stopped).await;
                })
                .unwrap();
                accepted.get()
            })
        })
        .collect();
    for _ in 0..CONNECTIONS {
        let mut client = StdTcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
    }
    drop(stops);
    let accepted: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(accepted.iter().sum::<usize>(), CONNECTIONS, "{accepted:?}");
}

/// Copies one direction and passes its end on.
async fn pass_on(from: &TcpStream, to: &TcpStream) -> io::Result<u64> {
    let copied = futures::io::copy(from, &mut &*to).await?;
    let mut to = to;
    to.close().await?;
    Ok(copied)
}

#[test]
fn a_proxy_of_two_copies_passes_each_half_close_on() {
    const BYTES: usize = 1 << 20;
    run(async {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let (behind, before): (SocketAddr, SocketAddr) = (upstream.local_addr().unwrap(), proxy.local_addr().unwrap());
        let copies = spawn(async move {
            let (client, _) = proxy.accept().await.unwrap();
            let server = TcpStream::connect(behind).await.unwrap();
            join(pass_on(&client, &server), pass_on(&server, &client)).await
        });
        // Answers only when the question has ended, so the end has to come through while the other
        // direction is open.
        let server = spawn(async move {
            let (stream, _) = upstream.accept().await.unwrap();
            let mut question = Vec::new();
            (&stream).read_to_end(&mut question).await.unwrap();
            question.reverse();
            stream.write_all(&question).await.unwrap();
        });
        let client = TcpStream::connect(before).await.unwrap();
        let question: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
        client.write_all(&question).await.unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        (&client).read_to_end(&mut answer).await.unwrap();
        answer.reverse();
        assert!(answer == question, "{} of {BYTES} bytes came back", answer.len());
        let (there, back) = copies.await.unwrap();
        assert_eq!((there.unwrap(), back.unwrap()), (BYTES as u64, BYTES as u64));
        server.await.unwrap();
    });
}
