//! The floor: an epoll, a vector of connections, and answers that are bytes already. The head of a
//! request is searched for what these few paths need and is not checked.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::{BYTES, EVENT, HELLO, MEDIUM, TICK, background_work, ran};

pub struct Head<'a> {
    pub length: usize,
    /// Bytes of the body.
    pub body: usize,
    pub closes: bool,
    pub path: &'a str,
}

fn find(bytes: &[u8]) -> Option<Head<'_>> {
    let length = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..length]).ok()?;
    let mut lines = text.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?;
    let (mut body, mut closes) = (0, false);
    for line in lines {
        if let Some(number) = line.strip_prefix("Content-Length: ") {
            body = number.parse().ok()?;
        }
        closes |= line.eq_ignore_ascii_case("connection: close");
    }
    Some(Head { length, body, closes, path })
}

/// Every answer but the events.
pub fn append_response(head: &Head<'_>, to: &mut Vec<u8>) {
    let (mut status, mut content_type) = ("200 OK", "text/plain; charset=utf-8");
    let text;
    let body: &[u8] = match head.path {
        "/plaintext" => HELLO.as_bytes(),
        "/json" => {
            content_type = "application/json";
            text = serde_json::to_string(&super::MESSAGE).expect("it has only strings");
            text.as_bytes()
        }
        "/background" => {
            status = "202 Accepted";
            b"accepted"
        }
        "/ran" => {
            text = ran();
            text.as_bytes()
        }
        "/medium" => &BYTES[..MEDIUM],
        "/large" => &BYTES,
        "/upload" => {
            text = head.body.to_string();
            text.as_bytes()
        }
        _ => {
            status = "404 Not Found";
            b"not found"
        }
    };
    let length = body.len();
    let close = if head.closes { "connection: close\r\n" } else { "" };
    write!(to, "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n{close}\r\n")
        .expect("a vector takes all");
    to.extend_from_slice(body);
}

pub fn event_head() -> &'static [u8] {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
}

pub fn event_chunk() -> Vec<u8> {
    let event = format!("data: {EVENT}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    sent: usize,
    closes: bool,
}

/// What became of a connection in its turn.
enum Then {
    Waits,
    Subscribes,
    Ends,
}

impl Connection {
    /// The buffer is lent by the loop.
    fn turn(&mut self, piece: &mut [u8], background: &mut VecDeque<fn()>) -> Then {
        loop {
            match self.stream.read(piece) {
                Ok(0) => return Then::Ends,
                Ok(read) => {
                    self.read.extend_from_slice(&piece[..read]);
                    // A short read has emptied the socket: epoll(7).
                    if read < piece.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Then::Ends,
            }
        }
        let mut used = 0;
        while let Some(head) = find(&self.read[used..]).filter(|head| used + head.length + head.body <= self.read.len())
        {
            used += head.length + head.body;
            self.closes |= head.closes;
            match head.path {
                "/events" => {
                    self.unsent.extend_from_slice(event_head());
                    self.flush();
                    return Then::Subscribes;
                }
                "/background" => background.push_back(background_work),
                _ => {}
            }
            append_response(&head, &mut self.unsent);
        }
        self.read.drain(..used);
        if self.flush() { Then::Waits } else { Then::Ends }
    }

    /// Returns whether the connection lives on.
    fn flush(&mut self) -> bool {
        while self.sent < self.unsent.len() {
            match self.stream.write(&self.unsent[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        let answered = self.sent > 0;
        self.sent = 0;
        self.unsent.clear();
        !(answered && self.closes)
    }
}

pub fn serve(listener: TcpListener) {
    const LISTENER: u64 = u64::MAX;
    listener.set_nonblocking(true).expect("a listening socket");
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN).expect("a listening socket");
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut subscribers: Vec<usize> = Vec::new();
    let mut background: VecDeque<fn()> = VecDeque::new();
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    let mut piece = vec![0; 64 << 10];
    let mut next_tick = Instant::now() + TICK;
    loop {
        let wait =
            if subscribers.is_empty() { None } else { Some(next_tick.saturating_duration_since(Instant::now())) };
        let wait = wait.map(|wait| Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() });
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()).expect("epoll");
        for &Event { data, .. } in &events {
            let number = data.u64();
            if number == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).expect("a connected socket");
                    let place = free.pop().unwrap_or(connections.len());
                    // Edge-triggered, for both directions at once.
                    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                    epoll::add(&epoll, &stream, EventData::new_u64(place as u64), flags).expect("a socket");
                    let connection =
                        Connection { stream, read: Vec::new(), unsent: Vec::new(), sent: 0, closes: false };
                    if place == connections.len() {
                        connections.push(Some(connection));
                    } else {
                        connections[place] = Some(connection);
                    }
                }
                continue;
            }
            let place = number as usize;
            let Some(connection) = &mut connections[place] else { continue };
            match connection.turn(&mut piece, &mut background) {
                Then::Waits => {}
                Then::Subscribes => {
                    // Nobody has waited for the ticks before.
                    if subscribers.is_empty() {
                        next_tick = Instant::now() + TICK;
                    }
                    subscribers.push(place);
                }
                Then::Ends => {
                    connections[place] = None;
                    free.push(place);
                    subscribers.retain(|&subscriber| subscriber != place);
                }
            }
        }
        let now = Instant::now();
        let mut chunks = Vec::new();
        while next_tick <= now {
            next_tick += TICK;
            chunks.extend(event_chunk());
        }
        // None if no tick is due.
        for &place in subscribers.iter().filter(|_| !chunks.is_empty()) {
            if let Some(connection) = &mut connections[place] {
                connection.unsent.extend_from_slice(&chunks);
                connection.flush();
            }
        }
        background.drain(..).for_each(|work| work());
    }
}
