//! The servers. Each is one thread, serves the same paths, and stands in a file of its own; to add
//! one, write a `serve` and a line in [`ALL`].
//!
//! | path | answer |
//! |---|---|
//! | `GET /plaintext` | [`HELLO`] |
//! | `GET /json` | [`Message`] |
//! | `GET /background` | 202, and a task afterwards that calls [`background_work`] |
//! | `GET /ran` | how many of these tasks have run |
//! | `GET /medium`, `GET /large` | [`MEDIUM`] and [`LARGE`] bytes |
//! | `POST /upload` | the length of the body, which is collected first |
//! | `GET /events` | server-sent events: [`EVENT`] for every subscriber each [`TICK`] |

mod axum;
mod floor;
mod hyper;
mod monoio;
mod postlude;

use std::hint::black_box;
use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use crate::peers::{FLOOR, OURS};
use crate::report::Column;

pub const HELLO: &str = "Hello, World!";
pub const MEDIUM: usize = 64 << 10;
pub const LARGE: usize = 1 << 20;
/// The mark in it is what the client counts.
pub const EVENT: &str = "tick!";
pub const TICK: Duration = Duration::from_millis(5);

#[derive(Serialize)]
pub struct Message {
    pub message: &'static str,
}

pub const MESSAGE: Message = Message { message: HELLO };

pub static BYTES: LazyLock<&'static [u8]> = LazyLock::new(|| vec![b'x'; LARGE].leak());

static RAN: AtomicU64 = AtomicU64::new(0);

/// Some hundred additions.
pub fn background_work() {
    black_box((0..100).fold(0_u64, |sum, n| black_box(sum + n)));
    RAN.fetch_add(1, Relaxed);
}

pub fn ran() -> String {
    RAN.load(Relaxed).to_string()
}

pub struct Entry {
    pub column: Column,
    pub program: Program,
}

#[derive(Clone, Copy)]
pub enum Program {
    /// This one, with the function to call.
    Own(fn(TcpListener)),
    /// A script for Python.
    Python(&'static str),
}

pub const ALL: [Entry; 6] = [
    Entry {
        column: Column { name: OURS, mode: "http::Server: router, limits, timeouts, dates, background tasks" },
        program: Program::Own(postlude::serve),
    },
    Entry {
        column: Column { name: "hyper", mode: "http1 on tokio's LocalRuntime, timer, pipeline_flush, no router" },
        program: Program::Own(hyper::serve),
    },
    Entry {
        column: Column { name: "axum", mode: "axum::serve on tokio's current_thread" },
        program: Program::Own(axum::serve),
    },
    Entry {
        column: Column { name: "monoio", mode: "epoll, httparse, by hand: no timeouts, no limits, no dates" },
        program: Program::Own(monoio::serve),
    },
    Entry {
        column: Column { name: FLOOR, mode: "epoll by hand: no timeouts, no limits, no dates, no parser" },
        program: Program::Own(floor::serve),
    },
    Entry {
        column: Column { name: "fastapi", mode: "uvicorn with what it finds installed, one process" },
        program: Program::Python(include_str!("fastapi.py")),
    },
];
