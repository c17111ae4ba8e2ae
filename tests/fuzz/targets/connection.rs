//! A whole connection in memory: what comes out is a row of well-formed responses, the same for
//! every cut.

#![no_main]

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use libfuzzer_sys::fuzz_target;
use postlude::Runtime;
use postlude::http::chunked::{BodyLimits, Decoder};
use postlude::http::parse::{Framing, Head, HeadLimits, HeadParser};
use postlude::http::{Body, Response, Router, Server};

/// Polls of a connection before the runtime has its turn: most inputs need one turn, and the turn
/// is what an input costs.
const POLLS: usize = 64;

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
        // Whether the body comes although nobody asked for it is seen or not: the connection may
        // end one answer earlier.
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
    let io = Wire { bytes: wire.to_vec(), read: 0, piece, rested: false, written: Rc::clone(&written) };
    STAGE.with(|(runtime, server)| {
        let mut connection = pin!(server.serve_connection(io));
        let mut polls = 0;
        let served = std::future::poll_fn(|cx| {
            // Whatever is pending here has woken itself, but for the times, which need the
            // runtime's turn.
            for _ in 0..POLLS {
                polls += 1;
                if connection.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        });
        runtime.block_on(served).unwrap();
        assert!(polls <= 64 * (wire.len() + POLLS), "{polls} polls for {} bytes", wire.len());
    });
    written.take()
}

struct Wire {
    bytes: Vec<u8>,
    read: usize,
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
        let rest = &self.bytes[self.read..];
        let count = self.piece.min(rest.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read += count;
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

/// The methods of the requests that are on the wire, up to what is none, and whether one of them
/// expects `100 Continue`.
fn requests(mut wire: &[u8]) -> (Vec<String>, bool) {
    let (mut methods, mut expects) = (Vec::new(), false);
    let (mut parser, mut head) = (HeadParser::new(HeadLimits::default()), Head::default());
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
