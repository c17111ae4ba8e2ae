//! What connections hold that are idle, or that wait for a stream. A binary of its own: it counts
//! with the process's allocator.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use futures::StreamExt;
use postlude::http::{Event, Router, Server, ShutdownReport, sse};
use postlude::{JoinHandle, spawn, spawn_blocking, time};

thread_local! {
    /// Bytes this thread asked for and has not given back: the loop's thread holds all that the
    /// server holds.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn add(bytes: usize) {
    LIVE.set(LIVE.get() + bytes as isize);
}

fn subtract(bytes: usize) {
    LIVE.set(LIVE.get() - bytes as isize);
}

// SAFETY: every call goes to the system's allocator as it is; counting touches a thread-local
// without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        subtract(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        subtract(layout.size());
        add(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// More than the spare buffers a server keeps; with the first one a power of two, so that tables
/// that double are full.
const CONNECTIONS: usize = 255;

/// Clients that have had one answer each, or its first event.
fn open(address: SocketAddr, count: usize, path: &'static str) -> Vec<TcpStream> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: {}\r\n\r\n", "x".repeat(500));
    let client = || {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
        while !answer.windows(5).any(|part| part == b"hello") {
            let count = client.read(&mut buffer).unwrap();
            answer.extend_from_slice(&buffer[..count]);
        }
        client
    };
    (0..count).map(|_| client()).collect()
}

async fn settle() {
    time::sleep(Duration::from_millis(100)).await;
}

/// A server with many clients that have had an answer, and what each connection holds then.
struct Opened {
    address: SocketAddr,
    running: JoinHandle<std::io::Result<ShutdownReport>>,
    first: Vec<TcpStream>,
    clients: Vec<TcpStream>,
    /// Live bytes with the first client alone.
    before: isize,
    each: isize,
}

async fn opened(router: Router) -> Opened {
    let server = Server::bind("127.0.0.1:0", router).unwrap();
    let address = server.local_addr().unwrap();
    let running = spawn(server.run());
    let first = spawn_blocking(move || open(address, 1, "/")).await.unwrap();
    settle().await;
    let before = LIVE.get();
    let clients = spawn_blocking(move || open(address, CONNECTIONS, "/")).await.unwrap();
    settle().await;
    let each = (LIVE.get() - before) / CONNECTIONS as isize;
    Opened { address, running, first, clients, before, each }
}

#[test]
fn an_idle_connection_holds_less_than_a_kibibyte_and_nothing_when_it_is_closed() {
    postlude::run(async {
        let Opened { address, running, first, clients, before, each } =
            opened(Router::new().get("/", async || "hello")).await;
        drop(clients);
        settle().await;
        let left = (LIVE.get() - before) / CONNECTIONS as isize;
        let again = spawn_blocking(move || open(address, CONNECTIONS, "/")).await.unwrap();
        drop(again);
        settle().await;
        let later = (LIVE.get() - before) / CONNECTIONS as isize;
        drop(first);
        running.abort();
        eprintln!("{each} bytes per idle connection; {left} after it closed, {later} after as many again");
        assert!(each <= 1024, "{each} bytes per idle connection");
        // Tables of the loop keep their size; the server's list of connections does not, though one
        // is still open.
        assert!(left <= 450 && later <= left, "{left} bytes per closed connection, then {later}");
    })
    .unwrap();
}

#[test]
fn a_connection_that_waits_for_events_holds_no_input_buffer() {
    postlude::run(async {
        let events = || futures::stream::iter([Event::data("hello")]).chain(futures::stream::pending());
        let opened = opened(Router::new().get("/", async move || sse(events()))).await;
        let each = opened.each;
        drop((opened.first, opened.clients));
        opened.running.abort();
        eprintln!("{each} bytes per connection that waits for events");
        assert!(each <= 4 * 1024, "{each} bytes per connection that waits for events");
    })
    .unwrap();
}
