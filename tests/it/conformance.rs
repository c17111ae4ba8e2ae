//! HTTP/1.1 as RFC 9110 and 9112 ask for it, and the twenty ways in which servers go wrong, as
//! tables of requests.
//!
//! The idea: a case is a name, the bytes a client sends, and what must come back. Each is sent
//! twice, in one piece and byte by byte, to a connection over a wire in memory, and must end the
//! same way. The server is the smallest that shows everything: `GET /` says hello, `POST /echo`
//! gives back what it got, `POST /unread` ignores it.
//!
//! # How it works
//!
//! 1. [`Wire`] hands the connection the bytes, pending between the pieces, then the end, and keeps
//!    what is written.
//! 2. [`answers`] takes that apart into status, fields and body; what is no response is a failed
//!    test.
//! 3. A case is met when the answers are those of its [`Want`], and the last one closes the
//!    connection or not as it says.
//!
//! A refusal must be the last answer, say `connection: close`, and never be followed by an answer
//! to bytes behind it: that is what keeps a request from being smuggled. Most cases have the
//! request [`NEXT`] behind them, which shows where the server believes the message to end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use postlude::http::chunked::{BodyLimits, Decoder};
use postlude::http::parse::Framing;
use postlude::http::{Body, Response, Router, Server};
use proptest::prelude::*;

use crate::http::paused;

/// A request whose answer shows that the one before it ended where it should.
const NEXT: &str = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";
const HELLO: &str = "hello";

/// What must come back.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// `GET /` was answered, and so was the request behind it.
    Hello,
    /// The body came back, and the request behind it was answered.
    Echo(&'static str),
    /// These answers, after which the connection is still open for more.
    Kept(&'static [u16]),
    /// These answers, the last of which closes the connection.
    Closed(&'static [u16]),
    /// No answer: the message is not whole.
    Nothing,
}

type Case<'a> = (&'a str, Vec<u8>, Want);

// ---- the wire -----------------------------------------------------------------------------------

/// A client that sends pieces, ends, and keeps what it gets.
struct Wire {
    pieces: VecDeque<Vec<u8>>,
    /// A read is pending once before each piece, as on a socket.
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
        let Some(mut piece) = self.pieces.pop_front() else { return Poll::Ready(Ok(0)) };
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        if count < piece.len() {
            self.pieces.push_front(piece.split_off(count));
        }
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

fn server() -> Server {
    let router = Router::new()
        .get("/", async || HELLO)
        .post("/echo", async |body: Vec<u8>| body)
        .put("/echo", async |body: Body| Response::stream(body))
        .post("/unread", async || HELLO)
        .get("/empty", async || Response::new(204));
    Server::bind("127.0.0.1:0", router).unwrap()
}

/// What the server writes to a client that sends these pieces.
async fn serve(server: &Server, pieces: impl IntoIterator<Item = &[u8]>) -> Vec<u8> {
    let written = Rc::default();
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).map(<[u8]>::to_vec).collect();
    server.serve_connection(Wire { pieces, rested: false, written: Rc::clone(&written) }).await;
    written.take()
}

// ---- what came back -----------------------------------------------------------------------------

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    closes: bool,
    body: Vec<u8>,
}

/// The final responses in `bytes`; `is_head` says which have no body. Interim ones are skipped.
fn answers(mut bytes: &[u8], is_head: impl Fn(usize) -> bool) -> Vec<Answer> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = head.parse(bytes).unwrap() else { panic!("a response is cut") };
        bytes = &bytes[length..];
        let status = head.code.unwrap();
        if status == 100 {
            continue;
        }
        let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        assert!(field("date").is_some(), "an answer without Date");
        let length = field("content-length").map(|field| std::str::from_utf8(field.value).unwrap().parse().unwrap());
        let framing = match length {
            _ if status == 204 || is_head(all.len()) => Framing::None,
            Some(length) => Framing::Length(length),
            None if field("transfer-encoding").is_some() => Framing::Chunked,
            None => Framing::Length(bytes.len() as u64),
        };
        let closes = field("connection").is_some_and(|field| field.value == b"close");
        all.push(Answer { status, closes, body: take_body(framing, &mut bytes) });
    }
    all
}

fn take_body(framing: Framing, bytes: &mut &[u8]) -> Vec<u8> {
    let (mut decoder, mut body) = (Decoder::new(framing, BodyLimits::default()), Vec::new());
    while !decoder.is_complete() {
        let found = decoder.decode(bytes).unwrap();
        assert!(found.consumed > 0, "a response's body is cut");
        body.extend_from_slice(&bytes[found.data]);
        *bytes = &bytes[found.consumed..];
    }
    body
}

// ---- the judge ----------------------------------------------------------------------------------

/// Why the answers are not what is wanted.
fn judge(want: Want, answers: &[Answer]) -> Result<(), String> {
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    let body = answers.first().map(|answer| answer.body.as_slice());
    let (expected, closes, text): (&[u16], _, _) = match want {
        Want::Hello => (&[200, 200], false, Some(HELLO)),
        Want::Echo(text) => (&[200, 200], false, Some(text)),
        Want::Kept(statuses) => (statuses, false, None),
        Want::Closed(statuses) => (statuses, true, None),
        Want::Nothing => (&[], false, None),
    };
    if statuses != expected {
        return Err(format!("answers {statuses:?}, not {expected:?}"));
    }
    if text.is_some_and(|text| body != Some(text.as_bytes())) {
        return Err(format!("the body is {:?}", body.unwrap_or_default().escape_ascii().to_string()));
    }
    let closing: Vec<_> = answers.iter().map(|answer| answer.closes).collect();
    let last = answers.len().saturating_sub(1);
    match closing.iter().enumerate().all(|(i, &found)| found == (closes && i == last)) {
        true => Ok(()),
        false => Err(format!("closing is {closing:?}")),
    }
}

/// Runs a table and names every case that failed.
fn check(cases: &[Case<'_>]) {
    let failures: Vec<_> = paused(async {
        let server = server();
        let mut failures = Vec::new();
        for (name, bytes, want) in cases {
            let is_head = |_| bytes.starts_with(b"HEAD");
            for (cut, pieces) in [("whole", vec![bytes.as_slice()]), ("by bytes", bytes.chunks(1).collect())] {
                let all = answers(&serve(&server, pieces).await, |n| n == 0 && is_head(n));
                if let Err(text) = judge(*want, &all) {
                    failures.push(format!("{name}, {cut}: {text}"));
                }
            }
        }
        failures
    });
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

// ---- how cases are written ----------------------------------------------------------------------

const REFUSED: Want = Want::Closed(&[400]);

/// A request line, and a whole GET around it.
fn line<'a>(text: &'a str, want: Want) -> Case<'a> {
    (text, format!("{text}\r\nHost: t\r\n\r\n{NEXT}").into_bytes(), want)
}

/// Field lines in a GET.
fn field(text: &str, want: Want) -> Case<'_> {
    (text, format!("GET / HTTP/1.1\r\nHost: t\r\n{text}\r\n\r\n{NEXT}").into_bytes(), want)
}

/// A Host value.
fn host(text: &str, want: Want) -> Case<'_> {
    (text, format!("GET / HTTP/1.1\r\nHost: {text}\r\n\r\n{NEXT}").into_bytes(), want)
}

/// Field lines that frame the body `hello`.
fn framed(text: &str, want: Want) -> Case<'_> {
    (text, format!("POST /echo HTTP/1.1\r\nHost: t\r\n{text}\r\n\r\nhello{NEXT}").into_bytes(), want)
}

/// Field lines that frame the chunk `hello`.
fn coded(text: &str, want: Want) -> Case<'_> {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    (text, format!("POST /echo HTTP/1.1\r\nHost: t\r\n{text}\r\n\r\n{body}{NEXT}").into_bytes(), want)
}

/// A chunked body.
fn chunked(body: &str, want: Want) -> Case<'_> {
    let head = "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    (body, format!("{head}{body}{NEXT}").into_bytes(), want)
}

/// Anything.
fn raw<'a>(name: &'a str, bytes: impl AsRef<[u8]>, want: Want) -> Case<'a> {
    (name, bytes.as_ref().to_vec(), want)
}

fn all<'a>(texts: &[&'a str], want: Want, make: impl Fn(&'a str, Want) -> Case<'a>) -> Vec<Case<'a>> {
    texts.iter().map(|text| make(text, want)).collect()
}

// ---- the tables ---------------------------------------------------------------------------------

#[test]
fn a_well_formed_request_line_is_answered() {
    let hello = [
        "GET / HTTP/1.1",
        "GET /?a=b HTTP/1.1",
        "GET /? HTTP/1.1",
        "GET /?a?b/c:@!$&'()*+,;=-._~ HTTP/1.1",
        "GET http://t HTTP/1.1",
        "GET http://t/ HTTP/1.1",
        "GET http://other:8080/ HTTP/1.1",
        "GET http://t?a=b HTTP/1.1",
        "GET HTTP://T/ HTTP/1.1",
        "GET http://[::1]:80/ HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/1.9",
    ];
    check(&all(&hello, Want::Hello, line));
    let unknown = ["GET /a%20b HTTP/1.1", "GET //x HTTP/1.1", "GET http://t/none HTTP/1.1", "GET /a[]{}|^ HTTP/1.1"];
    // What browsers and hand-written links send, and nobody can misread.
    let loose =
        ["GET /% HTTP/1.1", "GET /%4 HTTP/1.1", "GET /%zz HTTP/1.1", "GET /\\a HTTP/1.1", "GET /%u00e9 HTTP/1.1"];
    check(&all(&loose, Want::Kept(&[404, 200]), line));
    let queries = ["GET /?q=50% HTTP/1.1", "GET /?q=%u00e9 HTTP/1.1", "GET /?\\%& HTTP/1.1", "GET http://t?% HTTP/1.1"];
    check(&all(&queries, Want::Hello, line));
    check(&all(&unknown, Want::Kept(&[404, 200]), line));
    let methods = ["get / HTTP/1.1", "BREW / HTTP/1.1", "!#$%&'*+-.^_`|~09 / HTTP/1.1", "DELETE / HTTP/1.1"];
    check(&all(&methods, Want::Kept(&[405, 200]), line));
}

#[test]
fn a_malformed_request_line_is_refused() {
    let shapes = [
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        "GET",
        "GET /",
        "/ HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET / HTTP/1.1 HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET\x0b/ HTTP/1.1",
        "GET\x0c/ HTTP/1.1",
        "GET\r/ HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\r",
    ];
    check(&all(&shapes, REFUSED, line));
    let methods = [
        "G@T / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET: / HTTP/1.1",
        "\"GET\" / HTTP/1.1",
        "G\0T / HTTP/1.1",
        "GÉT / HTTP/1.1",
        "\u{feff}GET / HTTP/1.1",
    ];
    check(&all(&methods, REFUSED, line));
    let versions = [
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1.1a",
        "GET / HTTP /1.1",
        "GET / HTTP1.1",
        "GET / http/1.1",
        "GET / HTPT/1.1",
        "GET / HTTP/1,1",
        "GET / HTTP/+1.1",
        "GET / HTTP/1.\0",
        "GET / HTTPS/1.1",
        "GET / RTSP/1.1",
        "GET / HTTP/4294967297.1",
        "GET / HTTP/a.b",
    ];
    check(&all(&versions, REFUSED, line));
    check(&all(&["GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/3.0", "PRI * HTTP/2.0"], Want::Closed(&[505]), line));
}

#[test]
fn a_malformed_target_is_refused() {
    let targets = [
        "GET x HTTP/1.1",
        "GET /#a HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /é HTTP/1.1",
        "GET /\" HTTP/1.1",
        "GET /<a> HTTP/1.1",
        "GET \\a HTTP/1.1",
        "GET % HTTP/1.1",
        "GET http://t%/ HTTP/1.1",
        "GET http://t\\@u/ HTTP/1.1",
        "CONNECT t%4:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://u:p@t/ HTTP/1.1",
        "GET http://t:x/ HTTP/1.1",
        "GET http://t:99999/ HTTP/1.1",
        "GET ftp://t/ HTTP/1.1",
        "GET http:/t HTTP/1.1",
        "CONNECT t: HTTP/1.1",
        "CONNECT t:x HTTP/1.1",
        "CONNECT /a HTTP/1.1",
        "CONNECT t HTTP/1.1",
        "CONNECT :80 HTTP/1.1",
    ];
    check(&all(&targets, REFUSED, line));
}

#[test]
fn lines_end_in_crlf_and_nothing_else() {
    check(&[
        raw("an empty line first", format!("\r\n{NEXT}"), Want::Kept(&[200])),
        raw("three empty lines first", format!("\r\n\r\n\r\n{NEXT}"), Want::Kept(&[200])),
        raw("an empty line between", format!("{NEXT}\r\n{NEXT}"), Want::Kept(&[200, 200])),
        raw("many empty lines", format!("{}{NEXT}", "\r\n".repeat(50)), REFUSED),
        raw("a bare LF first", format!("\n{NEXT}"), REFUSED),
        raw("bare LFs", "GET / HTTP/1.1\nHost: t\n\n", REFUSED),
        raw("a bare LF after the version", "GET / HTTP/1.1\nHost: t\r\n\r\n", REFUSED),
        raw("a bare LF after a field", "GET / HTTP/1.1\r\nHost: t\nX: y\r\n\r\n", REFUSED),
        raw("a bare LF at the end", format!("GET / HTTP/1.1\r\nHost: t\r\n\n{NEXT}"), REFUSED),
        raw("a bare CR after the version", format!("GET / HTTP/1.1\rHost: t\r\n\r\n{NEXT}"), REFUSED),
        raw("a bare CR at the end", format!("GET / HTTP/1.1\r\nHost: t\r\n\rGET / HTTP/1.1\r\n\r\n{NEXT}"), REFUSED),
        raw("a CR before CRLF", format!("GET / HTTP/1.1\r\nHost: t\r\r\n\r\n{NEXT}"), REFUSED),
        raw("a CR before the last CRLF", format!("GET / HTTP/1.1\r\nHost: t\r\n\r\r\n{NEXT}"), REFUSED),
        raw("a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", REFUSED),
        raw("noise", b"\x80\x81\xfe\xff\x00\x01\r\n\r\n", REFUSED),
    ]);
}

#[test]
fn a_malformed_field_is_refused() {
    let fields = [
        "X : y",
        "X\t: y",
        "X  : y",
        " X: y",
        "\tX: y",
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X: a\r\n ",
        "X: a\r\n Content-Length: 5",
        "X",
        "Content-Length 5",
        ": y",
        "X Y: z",
        "X@: y",
        "X[: y",
        "X(: y",
        "X,: y",
        "X;: y",
        "X/: y",
        "X\": y",
        "X=: y",
        "X\\: y",
        "X{: y",
        "X\0: y",
        "X\x01: y",
        "X\x7f: y",
        "Xé: y",
        "X\r: y",
        "X\x0b: y",
        "X: a\0b",
        "X: a\x01b",
        "X: a\x08b",
        "X: a\x0bb",
        "X: a\x0cb",
        "X: a\x1fb",
        "X: a\x7fb",
        "X: a\rb",
        "X: a\r",
        "X: a\rContent-Length: 5",
        "X: a\nContent-Length: 5",
        "Host : t",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "Content-\r\nLength: 5",
        "Content-Length\0: 5",
        "Content-Length\x0b: 5",
        "Content-Length\u{a0}: 5",
    ];
    check(&all(&fields, REFUSED, field));
}

#[test]
fn a_well_formed_field_is_let_through() {
    let long = format!("X: {}", "v".repeat(6000));
    let many = "X: y\r\n".repeat(60);
    let fields = [
        "X:",
        "X:y",
        "X: y ",
        "X:\ty\t",
        "X: a\tb",
        "X: é",
        "X: a:b",
        "!#$%&'*+-.^_`|~: y",
        "0: y",
        "X: \"a, b\"",
        "Content_Length: 5",
        "Transfer_Encoding: chunked",
        "X-Content-Length: 5",
        "Content-Lengths: 5",
        "Cookie: a=b; c",
        &long,
        many.trim_end(),
    ];
    check(&all(&fields, Want::Hello, field));
    check(&[raw("obs-text", b"GET / HTTP/1.1\r\nHost: t\r\nX: \x80\xff\r\n\r\n", Want::Kept(&[200]))]);
}

#[test]
fn host_is_there_once_and_valid() {
    let bad = [
        "a b",
        "a/b",
        "u@t",
        "[::1",
        "t:x",
        "<t>",
        "t%zz",
        "t, u",
        "é",
        "http://t",
        "t:1:2",
        "t?a",
        "t\0",
        "t#a",
        "t:99999",
        ":80",
        "[::1]x",
        "[x]",
        "t\r\nHost: t",
        "t\r\nHost: u",
        "t\r\nhOST: t",
        "t\\",
    ];
    check(&all(&bad, REFUSED, host));
    let good = ["t", "t:80", "127.0.0.1", "[::1]", "[2001:db8::1]:80", "t:", "t.", "a_b", "T", "a-b.c", "", "%41"];
    check(&all(&good, Want::Hello, host));
    check(&[
        raw("none", format!("GET / HTTP/1.1\r\n\r\n{NEXT}"), REFUSED),
        raw("none, with a body", format!("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello{NEXT}"), REFUSED),
        raw("none, absolute", format!("GET http://t/ HTTP/1.1\r\n\r\n{NEXT}"), REFUSED),
        raw("none in 1.0", "GET / HTTP/1.0\r\n\r\n", Want::Closed(&[200])),
        raw("two in 1.0", "GET / HTTP/1.0\r\nHost: t\r\nHost: t\r\n\r\n", REFUSED),
    ]);
}

#[test]
fn content_length_is_decimal_digits_in_one_line() {
    let good = ["Content-Length: 5", "content-length:5", "CONTENT-LENGTH: \t5 ", "Content-Length: 0005"];
    check(&all(&good, Want::Echo("hello"), framed));
    let bad = [
        "+5",
        "-5",
        "-0",
        "0x5",
        "5.0",
        "5e0",
        "",
        "five",
        "5x",
        "5 5",
        "5_0",
        "5;",
        "\"5\"",
        "５",
        "5\x0b",
        "\u{a0}5",
        "5, 6",
        "5, x",
        "5, -5",
        "(5)",
        "5, 5",
        "5,",
        ",5",
        "18446744073709551616",
        "18446744073709551621",
        "0o5",
        "10000000000000000000000000000000000000000",
        "5\r\nContent-Length: 5",
        "5\r\nContent-Length: 05",
        "5\r\nContent-Length: 6",
        "0\r\nContent-Length: 5",
        "5\r\nContent-Length: 0",
        "\r\nContent-Length: 5",
        "5\r\nContent-Length: x",
        "5\r\n 0",
    ];
    let lines: Vec<_> = bad.iter().map(|value| format!("Content-Length: {value}")).collect();
    check(&lines.iter().map(|line| framed(line, REFUSED)).collect::<Vec<_>>());
    let large = ["9223372036854775813", "18446744073709551615", "1000000000000000000"];
    let lines: Vec<_> = large.iter().map(|value| format!("Content-Length: {value}")).collect();
    check(&lines.iter().map(|line| framed(line, Want::Closed(&[413]))).collect::<Vec<_>>());
}

#[test]
fn transfer_encoding_is_chunked_alone() {
    let good = ["chunked", "Chunked", "CHUNKED", " \tchunked \t"];
    let lines: Vec<_> = good.iter().map(|value| format!("Transfer-Encoding:{value}")).collect();
    check(&lines.iter().map(|line| coded(line, Want::Echo("hello"))).collect::<Vec<_>>());
    let bad = [
        "gzip",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked, gzip",
        "chunked, identity",
        "\"chunked\"",
        "'chunked'",
        "\x0bchunked",
        "chunked\x0b",
        "\u{a0}chunked",
        "gzip chunked",
        ":chunked",
        "unknown",
        "",
        "chunke",
        "chunked, chunked",
        "chunked;q=1",
        ", chunked",
        "chunked,",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: gzip",
        "gzip\r\nTransfer-Encoding: chunked",
        "\r\nTransfer-Encoding: chunked",
        "\r\n chunked",
        "gzip\r\nContent-Length: 5",
        "identity\r\nContent-Length: 5",
        "xchunked\r\nContent-Length: 5",
        "\r\nContent-Length: 5",
        "\x0bchunked\r\nContent-Length: 5",
        "chunked, identity\r\nContent-Length: 5",
        "chunked\r\nContent-Length: 15",
        "chunked\r\nContent-Length: 0",
        "chunked\r\nContent-Length: x",
        "CHUNKED\r\nContent-Length: 5",
    ];
    let lines: Vec<_> = bad.iter().map(|value| format!("Transfer-Encoding: {value}")).collect();
    check(&lines.iter().map(|line| coded(line, REFUSED)).collect::<Vec<_>>());
    check(&[
        coded("Content-Length: 15\r\nTransfer-Encoding: chunked", REFUSED),
        coded("Transfer-Encoding: gzip, chunked", Want::Closed(&[501])),
        coded("Transfer-Encoding: unknown, chunked", Want::Closed(&[501])),
    ]);
    for connection in ["", "Connection: keep-alive\r\n", "Content-Length: 5\r\n"] {
        let request = format!(
            "POST /echo HTTP/1.0\r\n{connection}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{NEXT}"
        );
        check(&[raw("in 1.0", request, REFUSED)]);
    }
}

#[test]
fn a_chunked_body_is_decoded() {
    let good = [
        "5\r\nhello\r\n0\r\n\r\n",
        "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n",
        "05\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n000\r\n\r\n",
        "5;a\r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b c\"\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\\\"\"\r\nhello\r\n0\r\n\r\n",
        "5;a;b=c;d\r\nhello\r\n0;e\r\n\r\n",
        "5 ; a = b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
        "5\r\nhello\r\n0\r\nHost: u\r\nTransfer-Encoding: gzip\r\n\r\n",
        "5\r\nhello\r\n0\r\nGET http://t/: HTTP/1.1\r\n\r\n",
    ];
    let (last, good) = good.split_last().unwrap();
    check(&all(good, Want::Echo("hello"), chunked));
    check(&[chunked(last, REFUSED)]);
    check(&[
        chunked("0\r\n\r\n", Want::Echo("")),
        chunked("a\r\n0123456789\r\n0\r\n\r\n", Want::Echo("0123456789")),
        chunked("A\r\n0123456789\r\n0\r\n\r\n", Want::Echo("0123456789")),
        chunked("9\r\n0\r\n\r\nGET \r\n0\r\n\r\n", Want::Echo("0\r\n\r\nGET ")),
    ]);
}

#[test]
fn a_chunk_size_is_hexadecimal_digits_and_fits() {
    let sizes = [
        "0x5", "+5", "-5", "-0", "x", "5x", "0_5", "", "5,5", "5\0", "5\x0b", "\"5\"", "5.0", "5h", " 5", "5 5", "5 ",
        "5\t", "５",
    ];
    let bodies: Vec<_> = sizes.iter().map(|size| format!("{size}\r\nhello\r\n0\r\n\r\n")).collect();
    check(&bodies.iter().map(|body| chunked(body, REFUSED)).collect::<Vec<_>>());
    for size in ["10000000000000005", "100000000000000000", "fffffffffffffffff"] {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        check(&[chunked(&body, Want::Closed(&[413]))]);
    }
}

#[test]
fn a_chunked_body_s_lines_end_in_crlf_and_nothing_else() {
    let bodies = [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\rX",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;\n0\r\n\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\r b\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;a\x01\r\nhello\r\n0\r\n\r\n",
        "5;=b\r\nhello\r\n0\r\n\r\n",
        "5;a=\r\nhello\r\n0\r\n\r\n",
        "5;a b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n",
        "5\r\nhello\r\n0\r\nX@: y\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5\r\nhello\r\n0\r\n: y\r\n\r\n",
        "5\r\nhello\r\nX\r\n\r\n",
    ];
    check(&all(&bodies, REFUSED, chunked));
}

#[test]
fn a_body_nobody_reads_is_never_a_request() {
    let smuggled = "GET /none HTTP/1.1\r\nHost: t\r\n\r\n";
    for (method, path, status) in [
        ("GET", "/", 200),
        ("POST", "/unread", 200),
        ("DELETE", "/", 405),
        ("OPTIONS", "/", 204),
        ("PATCH", "/", 405),
        ("BREW", "/", 405),
        ("POST", "/none", 404),
        ("GET", "/none", 404),
    ] {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: t\r\n");
        let length = smuggled.len();
        let statuses: &'static [u16] = match status {
            200 => &[200, 200],
            204 => &[204, 200],
            404 => &[404, 200],
            _ => &[405, 200],
        };
        check(&[
            raw(path, format!("{head}Content-Length: {length}\r\n\r\n{smuggled}{NEXT}"), Want::Kept(statuses)),
            raw(
                path,
                format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n{NEXT}"),
                Want::Kept(statuses),
            ),
        ]);
    }
    let upgrade = "GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    check(&[
        raw("an upgrade that is not taken", format!("{upgrade}\r\n{NEXT}"), Want::Hello),
        raw(
            "an upgrade with a body",
            format!("{upgrade}Content-Length: {}\r\n\r\n{smuggled}{NEXT}", smuggled.len()),
            Want::Hello,
        ),
        raw(
            "h2c",
            format!("GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n{NEXT}"),
            Want::Hello,
        ),
        raw(
            "HEAD with a body",
            format!("HEAD / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello{NEXT}"),
            Want::Kept(&[200, 200]),
        ),
    ]);
}

#[test]
fn what_is_cut_off_is_not_answered_as_if_it_were_whole() {
    check(&[
        raw("nothing", "", Want::Nothing),
        raw("half a line", "GET / HT", Want::Nothing),
        raw("half a head", "GET / HTTP/1.1\r\nHost: t\r\n", Want::Nothing),
        raw("half a line end", "GET / HTTP/1.1\r\nHost: t\r\n\r", Want::Nothing),
        raw("half a body", "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhel", REFUSED),
        raw("half a chunk", "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", REFUSED),
        raw(
            "no last chunk",
            "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            REFUSED,
        ),
        raw("no last line", "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", REFUSED),
        raw("a request, half a request", format!("{NEXT}GET /"), Want::Kept(&[200])),
    ]);
}

#[test]
fn a_connection_goes_on_until_one_side_says_close() {
    let close =
        ["close", "Close", "CLOSE", "x, close", "close, x", ",close,", "keep-alive, close", "x\r\nConnection: close"];
    let lines: Vec<_> = close.iter().map(|options| format!("Connection: {options}")).collect();
    check(&lines.iter().map(|line| field(line, Want::Closed(&[200]))).collect::<Vec<_>>());
    let kept = ["closed", "xclose", "keep-alive", "", "\"close\"", "content-length", "host", "te"];
    let lines: Vec<_> = kept.iter().map(|options| format!("Connection: {options}")).collect();
    check(&lines.iter().map(|line| field(line, Want::Hello)).collect::<Vec<_>>());
    let posts = "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello".repeat(3);
    check(&[
        raw("twenty", NEXT.repeat(20), Want::Kept(&[200; 20])),
        raw("a hundred", NEXT.repeat(100), Want::Kept(&[200; 100])),
        raw(
            "mixed",
            format!("{posts}{NEXT}GET /none HTTP/1.1\r\nHost: t\r\n\r\n{NEXT}"),
            Want::Kept(&[200, 200, 200, 200, 404, 200]),
        ),
        raw("HEAD", format!("HEAD / HTTP/1.1\r\nHost: t\r\n\r\n{NEXT}"), Want::Kept(&[200, 200])),
        raw("HEAD of nothing", format!("HEAD /none HTTP/1.1\r\nHost: t\r\n\r\n{NEXT}"), Want::Kept(&[404, 200])),
        raw("204", format!("GET /empty HTTP/1.1\r\nHost: t\r\n\r\n{NEXT}"), Want::Kept(&[204, 200])),
        raw("1.0", format!("GET / HTTP/1.0\r\n\r\n{NEXT}"), Want::Closed(&[200])),
        raw(
            "1.0 with a body",
            format!("POST /echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello{NEXT}"),
            Want::Closed(&[200]),
        ),
        raw(
            "1.0 keep-alive",
            format!("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n{NEXT}"),
            Want::Kept(&[200, 200]),
        ),
        raw("a bad one behind a good one", format!("{NEXT}G@T\r\n\r\n{NEXT}"), Want::Closed(&[200, 400])),
        raw(
            "close in the middle",
            format!("{NEXT}GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n{NEXT}"),
            Want::Closed(&[200, 200]),
        ),
        raw(
            "a stream",
            format!("PUT /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello{NEXT}"),
            Want::Echo("hello"),
        ),
        raw(
            "a stream to 1.0",
            format!("PUT /echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello{NEXT}"),
            Want::Closed(&[200]),
        ),
    ]);
}

#[test]
fn an_expectation_is_met_or_refused() {
    let expecting = |value: &str, rest: &str| format!("POST /echo HTTP/1.1\r\nHost: t\r\nExpect: {value}\r\n{rest}");
    check(&[
        raw("a body", expecting("100-continue", "Content-Length: 5\r\n\r\nhello") + NEXT, Want::Echo("hello")),
        raw("in any case", expecting("100-Continue", "Content-Length: 5\r\n\r\nhello") + NEXT, Want::Echo("hello")),
        raw(
            "chunks",
            expecting("100-continue", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n") + NEXT,
            Want::Echo("hello"),
        ),
        raw("no body", expecting("100-continue", "\r\n") + NEXT, Want::Echo("")),
        raw("an empty body", expecting("100-continue", "Content-Length: 0\r\n\r\n") + NEXT, Want::Echo("")),
        raw("another", expecting("dinner", "Content-Length: 5\r\n\r\nhello") + NEXT, Want::Closed(&[417])),
        raw("a bad length", expecting("100-continue", "Content-Length: x\r\n\r\nhello") + NEXT, REFUSED),
        raw(
            "1.0",
            "POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
            Want::Closed(&[200]),
        ),
    ]);
}

#[test]
fn limits_have_their_status() {
    let long = |n: usize| "a".repeat(n);
    check(&[
        raw(
            "a target of 8 KiB",
            format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n{NEXT}", long(8191)),
            Want::Kept(&[404, 200]),
        ),
        raw("a longer target", format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n{NEXT}", long(8192)), Want::Closed(&[414])),
        raw("an endless target", format!("GET /{}", long(20_000)), Want::Closed(&[414])),
        raw("an endless method", long(20_000), Want::Closed(&[501])),
        raw("an endless value", format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}", long(20_000)), Want::Closed(&[431])),
        raw("an endless name", format!("GET / HTTP/1.1\r\nHost: t\r\n{}", long(20_000)), Want::Closed(&[431])),
        raw("100 fields", format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "X:\r\n".repeat(99)), Want::Kept(&[200])),
        raw("101 fields", format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "X:\r\n".repeat(100)), Want::Closed(&[431])),
    ]);
    let extension = format!("5;a={}\r\nhello\r\n0\r\n\r\n", long(20_000));
    let extensions = format!("1;a={}\r\nh\r\n", long(100)).repeat(200);
    let trailer = format!("0\r\nX: {}\r\n\r\n", long(20_000));
    let trailers = format!("0\r\n{}\r\n", "X:\r\n".repeat(101));
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(20_000));
    for (body, want) in [
        (&extension, Want::Closed(&[413])),
        (&extensions, Want::Closed(&[413])),
        (&zeros, Want::Closed(&[413])),
        (&trailer, Want::Closed(&[431])),
        (&trailers, Want::Closed(&[431])),
    ] {
        check(&[("a body's framing", chunked(body, REFUSED).1, want)]);
    }
}

// ---- any cut ------------------------------------------------------------------------------------

fn session() -> impl Strategy<Value = Vec<u8>> {
    let chunks = "Host: t\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\n";
    let request = prop_oneof![
        4 => Just(NEXT.to_owned()),
        2 => Just("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello".to_owned()),
        2 => Just(format!("POST /echo HTTP/1.1\r\n{chunks}")),
        2 => Just(format!("POST /unread HTTP/1.1\r\n{chunks}")),
        1 => Just("GET /none HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned()),
        1 => Just("GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".to_owned()),
        1 => Just("GET / HTTP/1.1\r\n\r\n".to_owned()),
    ];
    // A byte somewhere is replaced, often by one that means something.
    let mutation =
        (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), prop::sample::select(b"\r\n :;,\t0".to_vec())]);
    (prop::collection::vec(request, 1..6), prop::collection::vec(mutation, 0..3)).prop_map(|(requests, mutations)| {
        let mut bytes = requests.concat().into_bytes();
        for (index, byte) in mutations {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// All but the date, which the second changes.
fn text(answers: &[u8]) -> String {
    let lines = std::str::from_utf8(answers).unwrap().lines();
    lines.filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_split_of_what_is_refused_gives_the_same_answer() {
    let ends = [
        "",
        "H",
        "HEAD ",
        "HEAD / HTTP/1.1\r\n",
        "\rHEAD ",
        "\r\nHEAD ",
        " HEAD / HTTP/1.1\r\n",
        "HEAD / HTTP/1.1\nHEAD ",
    ];
    let begins = ["", "\n", "\r", "\r\n", "\r\n\n", "\r\n\r\n\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n"];
    paused(async {
        let server = server();
        for (begin, end) in begins.iter().flat_map(|begin| ends.map(|end| (begin, end))) {
            let wire = format!("{begin}{end}");
            let once = text(&serve(&server, [wire.as_bytes()]).await);
            for at in 1..wire.len() {
                let (first, second) = wire.as_bytes().split_at(at);
                assert_eq!(once, text(&serve(&server, [first, second]).await), "{wire:?} at {at}");
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_split_of_a_connection_gives_the_same_answers(
        bytes in session(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        let (once, cut, single) = paused(async {
            let server = server();
            let once = serve(&server, [bytes.as_slice()]).await;
            (once, serve(&server, pieces).await, serve(&server, bytes.chunks(1)).await)
        });
        let [once, cut, single] = [once, cut, single].map(|bytes| answers(&bytes, |_| false));
        prop_assert_eq!(&once, &cut);
        prop_assert_eq!(&once, &single);
    }
}
