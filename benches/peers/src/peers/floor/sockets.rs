//! Sockets by hand: one epoll, level-triggered, and what each connection is doing in a vector.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::loads::{Job, LINES, MESSAGE, Outcome, pair, raise_limit, resident, text};

struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Round trips that the client has not begun.
    left: u64,
    buffer: Box<[u8; MESSAGE]>,
}

struct Loop {
    epoll: OwnedFd,
    connections: Vec<Connection>,
}

impl Loop {
    fn new(connections: u64) -> Self {
        raise_limit(connections);
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
        let mut all = Self { epoll, connections: Vec::new() };
        for number in 0..connections {
            let (client, server) = pair(&listener);
            for (end, side) in [(&client, 0), (&server, 1)] {
                epoll::add(&all.epoll, end, EventData::new_u64(2 * number + side), EventFlags::IN).expect("a socket");
            }
            all.connections.push(Connection { client, server, left: 0, buffer: Box::new([0; MESSAGE]) });
        }
        all
    }

    /// Divides so many round trips among the first `active` connections.
    fn echo(&mut self, operations: u64, active: u64) -> u64 {
        let mut begun = 0;
        for (number, connection) in (0..active).zip(&mut self.connections) {
            connection.left = operations / active + u64::from(number < operations % active);
            begun += connection.begin();
        }
        let mut events = Vec::with_capacity(1024);
        let mut done = 0;
        while done < begun {
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None).expect("epoll");
            for &Event { data, .. } in &events {
                let data = data.u64();
                let connection = &mut self.connections[(data / 2) as usize];
                if data % 2 == 1 {
                    connection.answer();
                } else {
                    connection.client.read_exact(&mut *connection.buffer).expect("a whole message");
                    done += 1;
                    begun += connection.begin();
                }
            }
        }
        done
    }
}

impl Connection {
    /// How many round trips this begins: one or none.
    fn begin(&mut self) -> u64 {
        if self.left == 0 {
            return 0;
        }
        self.left -= 1;
        self.client.write_all(&[7; MESSAGE]).expect("it is writable");
        1
    }

    fn answer(&mut self) {
        self.server.read_exact(&mut *self.buffer).expect("a whole message");
        self.server.write_all(&*self.buffer).expect("it is writable");
    }
}

pub fn echo(job: Job) -> Outcome {
    let mut all = Loop::new(job.size);
    job.time_plain(|operations| all.echo(operations, job.size))
}

pub fn echo_beside_idle(job: Job) -> Outcome {
    let mut all = Loop::new(job.size + 1);
    job.time_plain(|operations| all.echo(operations, 1))
}

pub fn memory(job: Job) -> Outcome {
    let first = Loop::new(1);
    let before = resident();
    let all = Loop::new(job.operations);
    let values = vec![(resident() - before) / job.operations as f64];
    drop(first);
    Outcome { count: all.connections.len() as u64, values }
}

/// Fills the connection, empties it, and looks for line feeds.
pub fn lines(job: Job) -> Outcome {
    let text = text(job.size as usize);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let (mut writer, mut reader) = pair(&listener);
    let mut buffer = vec![0; 8 * 1024];
    job.time_plain(|operations| {
        let mut unsent = operations.div_ceil(LINES) as usize * text.len();
        let (mut seen, mut end) = (0, 0);
        while unsent > 0 || end > 0 || seen < operations {
            while unsent > 0 {
                let from = (text.len() - unsent % text.len()) % text.len();
                match writer.write(&text[from..]) {
                    Ok(written) => unsent -= written,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            match reader.read(&mut buffer[end..]) {
                Ok(read) => end += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            let mut start = 0;
            for feed in memchr::memchr_iter(b'\n', &buffer[..end]) {
                let line = String::from_utf8(buffer[start..feed].to_vec()).expect("it is UTF-8");
                assert_eq!(line.len() as u64 + 1, job.size);
                start = feed + 1;
                seen += 1;
            }
            buffer.copy_within(start..end, 0);
            end -= start;
        }
        seen
    })
}
