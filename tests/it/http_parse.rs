//! Request heads: which are accepted and which refused, whatever the cuts, and in agreement with
//! `httparse`.

use postlude::http::parse::{Error, ErrorKind, Framing, Head, HeadLimits, HeadParser, Version};
use proptest::prelude::*;

type Outcome = Result<Option<(usize, Head)>, Error>;

/// Parses `input`, which arrives in pieces that end at `cuts`.
fn run(limits: HeadLimits, input: &[u8], cuts: &[usize]) -> Outcome {
    let (mut parser, mut head) = (HeadParser::new(limits), Head::default());
    for end in cuts.iter().copied().chain([input.len()]) {
        if let Some(n) = parser.parse(&input[..end], &mut head)? {
            return Ok(Some((n, head)));
        }
    }
    Ok(None)
}

fn whole(input: &[u8]) -> Head {
    let outcome = run(HeadLimits::default(), input, &[]);
    outcome.unwrap_or_else(|e| panic!("{}: {e}", input.escape_ascii())).expect("whole").1
}

fn refused(input: &[u8]) -> ErrorKind {
    run(HeadLimits::default(), input, &[]).expect_err(&input.escape_ascii().to_string()).kind
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: t.example\r\n\r\n").into_bytes()
}

fn with(fields: &str) -> Vec<u8> {
    line(&format!("POST / HTTP/1.1\r\n{fields}"))
}

#[test]
fn a_target_is_split_by_its_form() {
    for (target, path, query, authority) in [
        ("/?a=b&c=%20", "/", Some("a=b&c=%20"), "t.example"),
        ("//x/y", "//x/y", None, "t.example"),
        ("http://o:80", "/", None, "o:80"),
        ("HTTPS://[::1]:8/a?b", "/a", Some("b"), "[::1]:8"),
        ("/a[]={}|^`", "/a[]={}|^`", None, "t.example"),
        ("/50%\\%4?q=100%&%u00e9=\\", "/50%\\%4", Some("q=100%&%u00e9=\\"), "t.example"),
        ("http://o/%?%", "/%", Some("%"), "o"),
    ] {
        let bytes = line(&format!("GET {target} HTTP/1.1"));
        let head = whole(&bytes);
        assert_eq!((head.target(&bytes), head.path(&bytes), head.query(&bytes)), (target, path, query));
        assert_eq!(head.authority(&bytes), Some(authority));
    }
    for (request, path, authority) in [("OPTIONS *", "*", "t.example"), ("CONNECT t.example:80", "", "t.example:80")] {
        let bytes = line(&format!("{request} HTTP/1.1"));
        let head = whole(&bytes);
        assert_eq!((head.path(&bytes), head.authority(&bytes)), (path, Some(authority)));
    }
}

#[test]
fn a_malformed_target_is_refused() {
    for request in [
        "GET no-slash",
        "GET /#f",
        "GET /\u{1}",
        "GET /\u{7f}",
        "GET /é",
        "GET /\"",
        "GET /<x>",
        "GET \\x",
        "GET http://t%/",
        "GET http://%4/",
        "GET http://t\\u/",
        "CONNECT t%zz:80",
        "GET *",
        "GET http:///x",
        "GET http://u@t/",
        "GET http://t:8x/",
        "GET ftp://t/",
        "CONNECT t:",
        "CONNECT t:http",
        "CONNECT /",
        "CONNECT t",
        "GET ",
    ] {
        assert_eq!(refused(&line(&format!("{request} HTTP/1.1"))), ErrorKind::InvalidTarget, "{request}");
    }
}

#[test]
fn a_malformed_request_line_is_refused() {
    for request in [
        "GET HTTP/1.1",
        "GET",
        "GET /",
        "GET / HTTP/1.1 x",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET /\rHTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "G@T / HTTP/1.1",
        " / HTTP/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.10",
        "GET / http/1.1",
        "GET / HTTP/1,1",
        "GET / HTTP/+1.1",
        "GET / HTTP/1.1\r",
        "GET / HTTPS/1.1",
    ] {
        let error = run(HeadLimits::default(), &line(request), &[]).expect_err(request);
        assert_eq!(error.status(), 400, "{request}");
    }
    assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\n"), ErrorKind::UnsupportedVersion);
    assert_eq!(refused(b"GET / HTTP/1.1\nHost: a\n\n"), ErrorKind::BareLf);
}

#[test]
fn a_later_minor_version_is_processed_as_1_1() {
    assert_eq!(whole(&line("GET / HTTP/1.9")).version(), Version::Http11);
}

#[test]
fn a_malformed_field_is_refused() {
    for (field, kind) in [
        ("X : b", ErrorKind::SpaceBeforeColon),
        ("X\t: b", ErrorKind::SpaceBeforeColon),
        (" X: b", ErrorKind::ObsFold),
        ("X: a\r\n\tb", ErrorKind::ObsFold),
        ("X: a\r\n ", ErrorKind::ObsFold),
        ("X", ErrorKind::MissingColon),
        (": v", ErrorKind::InvalidFieldName),
        ("X Y: v", ErrorKind::InvalidFieldName),
        ("X\rY: v", ErrorKind::InvalidFieldName),
        ("X: a\rb", ErrorKind::BareCr),
        ("X: a\r", ErrorKind::BareCr),
        ("X: a\nY: b", ErrorKind::BareLf),
        ("X: a\0b", ErrorKind::InvalidFieldValue),
        ("X: 0123456789abcdef0123456789abcde\u{7f}", ErrorKind::InvalidFieldValue),
    ] {
        assert_eq!(refused(&with(field)), kind, "{field:?}");
    }
}

#[test]
fn a_host_is_there_once_and_valid() {
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), ErrorKind::MissingHost);
    assert_eq!(refused(b"GET / HTTP/1.0\r\nHost: a\r\nhOsT: a\r\n\r\n"), ErrorKind::DuplicateHost);
    for host in [
        "a b", "a/b", "u@t", "[::1", "t:http", "<t>", "t%zz", "a, b", "é", "http://t", "t:1:2", "t?x", "t:99999",
        ":80", "[::1]x",
    ] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(refused(bytes.as_bytes()), ErrorKind::InvalidHost, "{host}");
    }
    for host in ["t:8080", "127.0.0.1:80", "[::1]", "[2001:db8::1]:80", "t:", "t.", "a_b.c", "T", ""] {
        whole(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    }
}

#[test]
fn a_content_length_is_digits_once() {
    for v in ["+5", "-5", "0x5", "5.0", "", "5a", "5 5", "5_0", "\"5\"", "5, 5", "5,", "18446744073709551616"] {
        assert_eq!(refused(&with(&format!("Content-Length: {v}"))), ErrorKind::InvalidContentLength, "{v}");
    }
    let twice = with("Content-Length: 5\r\ncontent-length: 5");
    assert_eq!(refused(&twice), ErrorKind::DuplicateContentLength);
    assert_eq!(whole(&with("cOnTeNt-LENGTH:\t0010 ")).framing(), Framing::Length(10));
}

#[test]
fn a_transfer_encoding_is_chunked_once_and_alone() {
    for v in [
        "gzip",
        "xchunked",
        "chunked, gzip",
        "\"chunked\"",
        "chunked, chunked",
        ", chunked",
        "chunked,",
        "chunked;q=1",
        "",
    ] {
        assert_eq!(refused(&with(&format!("Transfer-Encoding: {v}"))), ErrorKind::InvalidTransferEncoding, "{v}");
    }
    assert_eq!(refused(&with("Transfer-Encoding: gzip, chunked")), ErrorKind::UnsupportedTransferEncoding);
    let twice = with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked");
    assert_eq!(refused(&twice), ErrorKind::InvalidTransferEncoding);
    for both in ["Transfer-Encoding: chunked\r\nContent-Length: 5", "Content-Length: 5\r\nTransfer-Encoding: chunked"] {
        assert_eq!(refused(&with(both)), ErrorKind::ConflictingFraming);
    }
    let old = line("POST / HTTP/1.0\r\nTransfer-Encoding: chunked");
    assert_eq!(refused(&old), ErrorKind::TransferEncodingInHttp10);
    assert_eq!(whole(&with("Transfer-Encoding: \tChunked ")).framing(), Framing::Chunked);
}

#[test]
fn the_connection_goes_on_as_its_options_say() {
    for (version, options, on) in [
        ("1.1", "", true),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: ,close,\r\n", false),
        ("1.1", "Connection: closed, xclose\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\n{options}Host: a\r\n\r\n");
        assert_eq!(whole(bytes.as_bytes()).keep_alive(), on, "{bytes}");
    }
    assert!(!whole(b"CONNECT a:1 HTTP/1.1\r\nConnection: keep-alive\r\nHost: a:1\r\n\r\n").keep_alive());
}

#[test]
fn an_expectation_needs_a_body_and_1_1() {
    assert!(whole(&with("eXPECT: 100-Continue\r\nContent-Length: 5")).expects_continue());
    assert!(!whole(&with("Expect: 100-continue\r\nContent-Length: 0")).expects_continue());
    let old = line("POST / HTTP/1.0\r\nExpect: dinner\r\nContent-Length: 5");
    assert!(!whole(&old).expects_continue());
    assert_eq!(refused(&with("Expect: dinner")), ErrorKind::UnsupportedExpectation);
}

#[test]
fn a_few_empty_lines_are_skipped() {
    let request = line("GET / HTTP/1.1");
    whole(&[&b"\r\n\r\n\r\n"[..], &request].concat());
    assert_eq!(refused(&[&b"\r\n".repeat(5)[..], &request].concat()), ErrorKind::EmptyLines);
}

#[test]
fn limits_are_exact() {
    let of = |n: usize| line(&format!("GET /{} HTTP/1.1", "a".repeat(n - 1)));
    let longest = of(8192);
    assert_eq!(whole(&longest).target(&longest).len(), 8192);
    for n in [8193, 9000, 65536] {
        assert_eq!(refused(&of(n)), ErrorKind::TargetTooLong);
    }
    assert_eq!(refused(&line(&format!("{} / HTTP/1.1", "M".repeat(9000)))), ErrorKind::MethodTooLong);
    assert_eq!(refused(&with("X: v\r\n".repeat(100).trim_end())), ErrorKind::TooManyFields);
    assert_eq!(refused(&with(&format!("X: {}", "v".repeat(1 << 15)))), ErrorKind::HeadTooLarge);
    let bytes = line("GET / HTTP/1.1");
    let limits = |head_bytes| HeadLimits { head_bytes, ..HeadLimits::default() };
    assert!(run(limits(bytes.len()), &bytes, &[]).is_ok());
    assert_eq!(run(limits(bytes.len() - 1), &bytes, &[]).unwrap_err().kind, ErrorKind::HeadTooLarge);
}

#[test]
fn every_byte_of_a_value_is_judged_alike_wherever_it_stands() {
    for byte in 0..=255_u8 {
        for before in 0..20 {
            let value = [&vec![b'a'; before + 1][..], &[byte; 9], &b"a".repeat(20 - before)].concat();
            let head = [&b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..], &value, b"\r\n\r\n"].concat();
            let is_valid = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            assert_eq!(run(HeadLimits::default(), &head, &[]).is_ok(), is_valid, "{byte} after {before}");
        }
    }
}

/// Refused here and accepted there: line ends, the meaning of targets and headers, limits.
const STRICTER_THAN_HTTPARSE: [ErrorKind; 17] = [
    ErrorKind::EmptyLines,
    ErrorKind::BareLf,
    ErrorKind::InvalidTarget,
    ErrorKind::MissingHost,
    ErrorKind::DuplicateHost,
    ErrorKind::InvalidHost,
    ErrorKind::UnsupportedExpectation,
    ErrorKind::InvalidContentLength,
    ErrorKind::DuplicateContentLength,
    ErrorKind::InvalidTransferEncoding,
    ErrorKind::UnsupportedTransferEncoding,
    ErrorKind::TransferEncodingInHttp10,
    ErrorKind::ConflictingFraming,
    ErrorKind::HeadTooLarge,
    ErrorKind::TooManyFields,
    ErrorKind::TargetTooLong,
    ErrorKind::MethodTooLong,
];

fn input() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        6 => Just(&b"GET /a?b HTTP/1.1\r\nHost: a\r\n"[..]),
        2 => Just(&b"\r\nPOST http://a/ HTTP/1.0\r\n"[..]),
        1 => Just(&b""[..]),
    ];
    let piece = prop_oneof![
        6 => "[A-Za-z-]{1,12}: ?[ -~\t]{0,24} ?\r\n".prop_map(String::into_bytes),
        1 => Just(b"Content-Length: 12\r\n".to_vec()),
        1 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        1 => Just(b"Connection: close\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    let end = prop_oneof![4 => Just(&b"\r\n"[..]), 1 => Just(&b""[..])];
    (start, prop::collection::vec(piece, 0..8), end)
        .prop_map(|(start, pieces, end)| [start, &pieces.concat(), end].concat())
}

proptest! {
    #[test]
    fn every_split_gives_the_same_head(
        input in input(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        small in any::<bool>(),
    ) {
        let tiny = HeadLimits { head_bytes: 60, target_bytes: 4, fields: 3 };
        let limits = if small { tiny } else { HeadLimits::default() };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let bytes: Vec<_> = (0..input.len()).collect();
        let once = run(limits, &input, &[]);
        prop_assert_eq!(&once, &run(limits, &input, &cuts));
        prop_assert_eq!(&once, &run(limits, &input, &bytes));
    }

    #[test]
    fn what_httparse_accepts_too_is_read_alike(
        mut input in input(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        for (index, byte) in mutations {
            if !input.is_empty() {
                let at = index.index(input.len());
                input[at] = byte;
            }
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut peer = httparse::Request::new(&mut fields);
        let theirs = peer.parse(&input);
        match (run(HeadLimits::default(), &input, &[]), theirs) {
            (Ok(Some((n, head))), Ok(httparse::Status::Complete(m))) => {
                prop_assert_eq!(n, m);
                prop_assert_eq!(Some(head.method(&input)), peer.method);
                prop_assert_eq!(Some(head.target(&input)), peer.path);
                prop_assert_eq!(Some(head.version() as u8), peer.version);
                prop_assert!(head.fields(&input).eq(peer.headers.iter().map(|h| (h.name, h.value))));
            }
            (Err(error), Ok(httparse::Status::Complete(_))) => {
                prop_assert!(STRICTER_THAN_HTTPARSE.contains(&error.kind), "{}", error);
            }
            // A later minor version is 1.1 here and an error there.
            (Ok(Some(_)), theirs) => prop_assert_eq!(theirs, Err(httparse::Error::Version)),
            (Ok(None), theirs) => prop_assert!(!theirs.is_ok_and(|status| status.is_complete())),
            (Err(_), _) => {}
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = run(HeadLimits::default(), &input, &[input.len() / 2]);
    }
}
