//! Request heads: the same answer for every cut, and the same reading as `httparse`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postlude::http::parse::{Error, ErrorKind, Head, HeadLimits, HeadParser, Version};

fuzz_target!(|input: &[u8]| {
    let Some((cut, wire)) = postlude_fuzz::split(input) else { return };
    let once = parse(wire, [wire.len()]);
    assert_eq!(once, parse(wire, [cut, wire.len()]), "cut at {cut}");
    assert_eq!(once, parse(wire, 0..=wire.len()), "byte by byte");
    compare(wire, &once);
});

fn parse(wire: &[u8], ends: impl IntoIterator<Item = usize>) -> Result<Option<(usize, Head)>, Error> {
    let (mut parser, mut head) = (HeadParser::new(HeadLimits::default()), Head::default());
    for end in ends {
        if let Some(length) = parser.parse(&wire[..end], &mut head)? {
            return Ok(Some((length, head)));
        }
    }
    Ok(None)
}

fn compare(wire: &[u8], ours: &Result<Option<(usize, Head)>, Error>) {
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut peer = httparse::Request::new(&mut fields);
    let theirs = peer.parse(wire);
    match (ours, theirs) {
        (Ok(Some((length, head))), Ok(httparse::Status::Complete(end))) => {
            assert_eq!(*length, end);
            assert_eq!((Some(head.method(wire)), Some(head.target(wire))), (peer.method, peer.path));
            assert_eq!(head.version() == Version::Http11, peer.version == Some(1));
            assert!(head.fields(wire).eq(peer.headers.iter().map(|field| (field.name, field.value))));
        }
        // A later minor version is 1.1 to us and an error to the peer.
        (Ok(Some(_)), Err(httparse::Error::Version)) => {}
        (Ok(Some(_)), theirs) => panic!("the peer says {theirs:?}"),
        (Ok(None), Ok(httparse::Status::Complete(end))) => panic!("the peer sees an end at {end}"),
        (Err(error), Ok(httparse::Status::Complete(_))) => assert!(is_stricter(error.kind), "{error:?}"),
        _ => {}
    }
}

/// Where ours refuses what the peer lets through: lines, what the target and the framing fields
/// mean, limits.
fn is_stricter(kind: ErrorKind) -> bool {
    use ErrorKind as K;
    let lines = [K::EmptyLines, K::BareLf];
    let meaning = [K::InvalidTarget, K::MissingHost, K::DuplicateHost, K::InvalidHost, K::UnsupportedExpectation];
    let framing = [
        K::InvalidContentLength,
        K::DuplicateContentLength,
        K::InvalidTransferEncoding,
        K::UnsupportedTransferEncoding,
        K::TransferEncodingInHttp10,
        K::ConflictingFraming,
    ];
    let limits = [K::HeadTooLarge, K::TooManyFields, K::TargetTooLong, K::MethodTooLong];
    lines.contains(&kind) || meaning.contains(&kind) || framing.contains(&kind) || limits.contains(&kind)
}
