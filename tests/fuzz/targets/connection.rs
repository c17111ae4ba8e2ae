//! A whole connection in memory: what comes out is a row of well-formed responses, the same for every cut.

#![no_main]

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use libfuzzer_sys::fuzz_target;
use postlude::Runtime;
use postlude::http::chunked::{BodyLimits, Decoder};
use postlude::http::parse::{Framing, Head, HeadParser, Limits};
use postlude::http::{Body, Response, Router, Server};

thread_local! {
    /// Made once and never dropped: an input costs no descriptor.
    static STAGE: &'static (Runtime, Server) = Box::leak(Box::new(stage()));
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, wire)) = postlude_fuzz::split(input) else { return };
    let (methods, expects) = requests(wire);
    let once = responses(&serve(wire, wire.len().max(1)), &methods);
    let cut = responses(&serve(wire, cut.max(1)), &methods);
    if expects {
        // Whether the body comes although nobody asked for it is seen or not: the connection may end one answer earlier.
        let both = once.len().min(cut.len());
        assert_eq!(once[..both], cut[..both]);
    } else {
        assert_eq!(once, cut);
    }
    assert!(once.len() <= methods.len() + 1, "{} answers to {} requests", once.len(), methods.len());
});

fn stage() -> (Runtime, Server) {
    let runtime = Runtime::builder().paused_clock().build().unwrap();
    let router = Router::new()
        .get("/", async || "hello")
        .post("/", async || "unread")
        .post("/echo", async |body: Vec<u8>| body)
        .put("/echo", async |body: Body| Response::stream(body))
        .get("/n", async || Response::new(204));
    let server = runtime.block_on(async { Server::bind("127.0.0.1:0", router).unwrap() }).unwrap();
    (runtime, server)
}

/// What the server writes when `wire` arrives in pieces of `piece` bytes and then ends.
fn serve(wire: &[u8], piece: usize) -> Vec<u8> {
    let written = Rc::default();
    let io = Wire { rest: wire.to_vec(), piece, rested: false, written: Rc::clone(&written) };
    STAGE.with(|(runtime, server)| runtime.block_on(server.serve_connection(io)).unwrap());
    written.take()
}

struct Wire {
    rest: Vec<u8>,
    piece: usize,
    rested: bool,
    written: Rc<RefCell<Vec<u8>>>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.rested = !self.rested;
        if self.rested {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = self.piece.min(self.rest.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The methods of the requests that are on the wire, up to what is none, and whether one of them expects `100 Continue`.
fn requests(mut wire: &[u8]) -> (Vec<String>, bool) {
    let (mut methods, mut expects) = (Vec::new(), false);
    let (mut parser, mut head) = (HeadParser::new(Limits::default()), Head::default());
    while let Ok(Some(length)) = parser.parse(wire, &mut head) {
        methods.push(head.method(wire).to_owned());
        expects |= head.expects_continue();
        wire = &wire[length..];
        let mut decoder = Decoder::new(head.framing(), BodyLimits::default());
        while !decoder.is_complete() && !wire.is_empty() {
            let Ok(found) = decoder.decode(wire) else { return (methods, expects) };
            wire = &wire[found.consumed..];
        }
    }
    (methods, expects)
}

/// Status and body of each final response; panics on what is none.
fn responses(mut bytes: &[u8], methods: &[String]) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    let mut closed = false;
    while !bytes.is_empty() {
        assert!(!closed, "more after a response that closes");
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else { panic!("no response") };
        bytes = &bytes[length..];
        let status = head.code.unwrap();
        if status == 100 {
            continue;
        }
        let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        assert!(field("date").is_some());
        closed = field("connection").is_some_and(|field| field.value == b"close");
        let bodyless = status == 204 || methods.get(all.len()).is_some_and(|method| method == "HEAD");
        let length = field("content-length").map(|field| std::str::from_utf8(field.value).unwrap().parse().unwrap());
        let framing = match length {
            _ if bodyless => Framing::None,
            Some(length) => Framing::Length(length),
            None if field("transfer-encoding").is_some() => Framing::Chunked,
            // A stream for a client of HTTP/1.0.
            None => {
                assert!(closed, "no length, no end");
                all.push((status, bytes.to_vec()));
                return all;
            }
        };
        all.push((status, take_body(framing, &mut bytes)));
    }
    all
}

fn take_body(framing: Framing, bytes: &mut &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::new(framing, BodyLimits::default());
    let mut body = Vec::new();
    while !decoder.is_complete() && !bytes.is_empty() {
        let found = decoder.decode(bytes).unwrap();
        body.extend_from_slice(&bytes[found.data]);
        *bytes = &bytes[found.consumed..];
    }
    body
}
