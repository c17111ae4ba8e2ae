//! TCP on loopback: both ends of a connection are tasks of the one loop, so its cost is all of the
//! time, beside the system's.

use std::cell::{Cell, RefCell};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

use super::iterators::{LINES, text};
use super::{CPU, Countdown, Job, Load, MEMORY, Outcome, Sizes, WALL, resident, sizes};
use crate::machine;
use crate::peer::{Lines, Peer, Socket, not_offered};

/// Bytes of a message that is echoed.
pub const MESSAGE: usize = 64;

pub fn loads<P: Peer>() -> Vec<Load> {
    // Two descriptors each: the hard limit of many machines is 20 000.
    let idle = Sizes { values: &[1, 100, 9_000], of: "idle connections", plotted: true };
    vec![
        Load::new("echo", "64 bytes to the other end of a connection and back", 40_000, echo::<P>)
            .metrics(&[CPU, WALL])
            .sizes(sizes(&[1, 256], "connections")),
        Load::new("echo_beside_idle", "the same on one connection beside idle ones", 20_000, echo_beside_idle::<P>)
            .sizes(idle),
        Load::new(
            "connection_memory",
            "resident bytes of a task that waits for a connection to become readable, with a buffer of 64 bytes",
            5_000,
            memory::<P>,
        )
        .metrics(&[MEMORY])
        .once(),
        Load::new("lines_socket", "a line from a socket, which a task of the same loop fills", 50_000, lines::<P>)
            .sizes(sizes(&[44, 1000], "bytes")),
    ]
}

/// Both ends of a connection, in non-blocking mode.
pub fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let address = listener.local_addr().expect("it is bound");
    let one = TcpStream::connect(address).expect("the listener is there");
    let (other, _) = listener.accept().expect("a connection waits");
    for end in [&one, &other] {
        end.set_nonblocking(true).and_then(|()| end.set_nodelay(true)).expect("a connected socket");
    }
    (one, other)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("loopback has a free port")
}

/// Makes room for so many connections.
pub fn raise_limit(connections: u64) {
    machine::allow_descriptors(2 * connections + 100).unwrap_or_else(|text| not_offered(&text));
}

/// Answers until the other end is closed.
async fn answer(mut socket: impl Socket) {
    let mut buffer = vec![0; MESSAGE];
    loop {
        match socket.read(&mut buffer).await {
            0 => return,
            n => socket.write_all(&mut buffer, n).await,
        }
    }
}

async fn round_trip(socket: &mut impl Socket, message: &mut Vec<u8>, answer: &mut Vec<u8>) {
    socket.write_all(message, MESSAGE).await;
    let mut echoed = 0;
    while echoed < MESSAGE {
        let read = socket.read(answer).await;
        assert_eq!(answer[..read], message[echoed..echoed + read], "the echo is the message");
        assert_ne!(read, 0, "the other end stays open");
        echoed += read;
    }
}

fn echo<P: Peer>(job: Job) -> Outcome {
    P::run(async move {
        let listener = listener();
        let clients = (0..job.size).map(|_| {
            let (client, server) = pair(&listener);
            P::detach(answer(P::socket(server)));
            P::socket(client)
        });
        let clients = Rc::new(RefCell::new(clients.collect::<Vec<_>>()));
        let outcome = job.time(async |operations| {
            let done = Rc::new(Cell::new(0));
            let ended = Countdown::new(job.size);
            for (number, mut client) in (0..).zip(clients.take()) {
                let share = operations / job.size + u64::from(number < operations % job.size);
                let (clients, done, ended) = (Rc::clone(&clients), Rc::clone(&done), ended.clone());
                P::detach(async move {
                    let (mut message, mut answer) = (vec![number as u8; MESSAGE], vec![0; MESSAGE]);
                    for _ in 0..share {
                        round_trip(&mut client, &mut message, &mut answer).await;
                        done.set(done.get() + 1);
                    }
                    clients.borrow_mut().push(client);
                    ended.tick();
                });
            }
            ended.ended().await;
            done.get()
        });
        outcome.await
    })
}

/// Opens connections, starts a task at one end of each that waits for bytes, and returns the other
/// ends.
async fn idle<P: Peer>(count: u64) -> Vec<TcpStream> {
    raise_limit(count);
    let listener = listener();
    let begun = Countdown::new(count);
    let mut ends = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (client, server) = pair(&listener);
        ends.push(client);
        let (server, begun) = (P::socket(server), begun.clone());
        P::detach(async move {
            begun.tick();
            answer(server).await;
        });
    }
    begun.ended().await;
    ends
}

fn echo_beside_idle<P: Peer>(job: Job) -> Outcome {
    P::run(async move {
        let _open = idle::<P>(job.size).await;
        let (client, server) = pair(&listener());
        P::detach(answer(P::socket(server)));
        let client = RefCell::new(Some(P::socket(client)));
        let outcome = job.time(async |operations| {
            let mut socket = client.take().expect("it is back");
            let (mut message, mut answer) = (vec![7; MESSAGE], vec![0; MESSAGE]);
            let mut done = 0;
            for _ in 0..operations {
                round_trip(&mut socket, &mut message, &mut answer).await;
                done += 1;
            }
            client.replace(Some(socket));
            done
        });
        outcome.await
    })
}

fn memory<P: Peer>(job: Job) -> Outcome {
    P::run(async move {
        // What the first connection needs once is not asked for again.
        let _first = idle::<P>(1).await;
        let before = resident();
        let _open = idle::<P>(job.operations).await;
        Outcome { count: job.operations, values: vec![(resident() - before) / job.operations as f64] }
    })
}

fn lines<P: Peer>(job: Job) -> Outcome {
    let text = text(job.size as usize);
    P::run(job.time(async move |operations| {
        let (writer, reader) = pair(&listener());
        let (mut writer, reader) = (P::socket(writer), P::socket(reader));
        P::detach(async move {
            let mut buffer = text.to_vec();
            for _ in 0..operations.div_ceil(LINES) {
                let length = buffer.len();
                writer.write_all(&mut buffer, length).await;
            }
        });
        let mut lines = reader.lines();
        let (mut seen, mut bytes) = (0, 0);
        while let Some(line) = lines.next().await {
            (seen, bytes) = (seen + 1, bytes + line.len() as u64 + 1);
        }
        assert_eq!(bytes, seen * job.size, "all bytes of the text");
        seen
    }))
}
