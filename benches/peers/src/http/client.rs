//! A client for what wrk does not do: one request, idle connections, and subscribers.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::target::Target;
use super::{EVENT, events_per_second};
use crate::machine;

const PATIENCE: Duration = Duration::from_secs(10);

fn open(target: &Target) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(target.address).map_err(|error| format!("cannot connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    Ok(stream)
}

pub fn get(target: &Target, path: &str) -> Result<Vec<u8>, String> {
    request(target, format!("GET {path} HTTP/1.1\r\nHost: peers\r\nConnection: close\r\n\r\n").as_bytes())
}

pub fn post(target: &Target, path: &str, length: usize) -> Result<Vec<u8>, String> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: peers\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    request(target, &[head.as_bytes(), &vec![b'x'; length]].concat())
}

/// Sends a request and returns the body of an answer that is a 2xx, whose length is known.
fn request(target: &Target, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error| format!("a request failed: {error}");
    let mut stream = open(target)?;
    stream.write_all(bytes).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let head = memchr::memmem::find(&answer, b"\r\n\r\n").ok_or("an answer without a head")?;
    if !answer.starts_with(b"HTTP/1.1 2") {
        return Err(String::from_utf8_lossy(&answer[..head]).lines().next().unwrap_or("no status").to_owned());
    }
    Ok(answer.split_off(head + 4))
}

/// Opens connections on which nothing is sent.
pub fn connect(target: &Target, count: usize) -> Result<Vec<TcpStream>, String> {
    machine::allow_descriptors(count as u64 + 200)?;
    (0..count).map(|_| open(target)).collect()
}

/// Connections that receive events.
pub struct Subscribed {
    epoll: OwnedFd,
    streams: Vec<TcpStream>,
}

pub fn subscribe(target: &Target, count: usize) -> Result<Subscribed, String> {
    let failed = |error: std::io::Error| error.to_string();
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| error.to_string())?;
    let mut streams = connect(target, count)?;
    for (number, stream) in (0..).zip(&mut streams) {
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: peers\r\n\r\n").map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        epoll::add(&epoll, &*stream, EventData::new_u64(number), EventFlags::IN).map_err(|error| error.to_string())?;
    }
    let mut subscribed = Subscribed { epoll, streams };
    // Heads, and what has piled up meanwhile.
    subscribed.read(Duration::from_millis(200))?;
    Ok(subscribed)
}

impl Subscribed {
    /// How many events came within that time, on all connections. It is an error if no more than
    /// one connection would have received, or if one is closed.
    pub fn count(&mut self, time: Duration) -> Result<u64, String> {
        let events = self.read(time)?;
        if (events as f64) < events_per_second() * time.as_secs_f64() / 2.0 {
            return Err(format!("only {events} events for {} subscribers", self.streams.len()));
        }
        Ok(events)
    }

    fn read(&mut self, time: Duration) -> Result<u64, String> {
        let end = Instant::now() + time;
        let mark = EVENT.as_bytes()[EVENT.len() - 1];
        let mut ready: Vec<Event> = Vec::with_capacity(1024);
        let mut piece = vec![0; 64 << 10];
        let mut events = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(events);
            }
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            ready.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(&left))
                .map_err(|error| error.to_string())?;
            for &Event { data, .. } in &ready {
                match self.streams[data.u64() as usize].read(&mut piece) {
                    Ok(0) => return Err("the server has closed a subscriber's connection".to_owned()),
                    Ok(read) => events += memchr::memchr_iter(mark, &piece[..read]).count() as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
    }
}
