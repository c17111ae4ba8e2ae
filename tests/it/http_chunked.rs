//! Request bodies: where they end, which are refused, whatever the cuts.

use postlude::http::chunked::{BodyLimits, Decoder, write_chunk, write_last_chunk};
use postlude::http::parse::{Error, ErrorKind, Framing};
use proptest::prelude::*;

type Outcome = Result<(Vec<u8>, usize, bool), (Vec<u8>, Error)>;

/// Decodes `wire`, which arrives in pieces that end at `cuts`: data, bytes consumed, whether
/// complete.
fn run(framing: Framing, limits: BodyLimits, wire: &[u8], cuts: &[usize]) -> Outcome {
    let mut decoder = Decoder::new(framing, limits);
    let (mut body, mut at) = (Vec::new(), 0);
    for end in cuts.iter().copied().chain([wire.len()]) {
        while at < end && !decoder.is_complete() {
            let found = decoder.decode(&wire[at..end]).map_err(|e| (body.clone(), e))?;
            body.extend_from_slice(&wire[at..end][found.data]);
            at += found.consumed;
        }
    }
    Ok((body, at, decoder.is_complete()))
}

fn whole(wire: &[u8]) -> Outcome {
    run(Framing::Chunked, BodyLimits::default(), wire, &[])
}

fn refused(wire: &[u8]) -> ErrorKind {
    whole(wire).expect_err(&format!("{:?}", wire.escape_ascii().to_string())).1.kind
}

#[test]
fn chunks_are_joined_and_what_follows_is_left() {
    for (wire, body) in [
        (&b"5\r\nhello\r\n0\r\n\r\n"[..], &b"hello"[..]),
        (b"0\r\n\r\n", b""),
        (b"0005\r\nhello\r\n0000\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"9\r\n0\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n\r\n\r\n"),
        (b"5 ; a = b\r\nhello\r\n0;x\r\n\r\n", b"hello"),
        (b"5;a=\"b \\\" c;d\";e\r\nhello\r\n0\r\nX: v\r\nY:\r\n\r\n", b"hello"),
    ] {
        let rest = [wire, b"GET"].concat();
        assert_eq!(whole(&rest), Ok((body.to_vec(), wire.len(), true)));
    }
}

#[test]
fn a_size_that_is_not_hexadecimal_is_refused() {
    for size in ["0x5", "+5", "-5", "-0", "g", "0_5", "", "5,5", "5\0", "5\x0b", "\"5\"", "5.0", "5h", " 5"] {
        let wire = format!("{size}\r\nhello\r\n0\r\n\r\n");
        assert_eq!(refused(wire.as_bytes()), ErrorKind::InvalidChunkSize, "{size:?}");
    }
}

#[test]
fn a_size_never_wraps() {
    assert_eq!(refused(b"10000000000000005\r\nhello"), ErrorKind::ChunkSizeOverflow);
    let huge = b"FFFFFFFFFFFFFFFF\r\nhello";
    assert_eq!(whole(huge), Ok((b"hello".to_vec(), huge.len(), false)));
}

#[test]
fn a_malformed_extension_is_refused() {
    for line in ["5 5", "5  ", "5;", "5;a\x01", "5;a=\"", "5;a\nb", "5;a ", "5;=b", "5;a=", "5\t"] {
        let wire = format!("{line}\r\nhello\r\n0\r\n\r\n");
        assert_eq!(refused(wire.as_bytes()), ErrorKind::InvalidChunkExtension, "{line:?}");
    }
}

#[test]
fn a_line_end_other_than_crlf_is_refused() {
    for wire in [
        &b"5\r\nhello\n0\r\n\r\n"[..],
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"6\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5\r;a\r\nhello\r\n",
        b"5\r\r\nhello\r\n",
    ] {
        assert_eq!(refused(wire), ErrorKind::InvalidChunkEnd);
    }
    for wire in [&b"5\nhello\n0\n\n"[..], b"5\r\nhello\r\n\r\n0\r\n\r\n", b"\r\n5\r\nhello"] {
        assert_eq!(refused(wire), ErrorKind::InvalidChunkSize);
    }
}

#[test]
fn a_malformed_trailer_is_refused() {
    for (line, kind) in [
        ("bad line", ErrorKind::SpaceBeforeColon),
        ("bad", ErrorKind::MissingColon),
        ("X : v", ErrorKind::SpaceBeforeColon),
        ("X: a\r\n b", ErrorKind::ObsFold),
        ("X: a\rb", ErrorKind::BareCr),
        ("X: a\nY: b", ErrorKind::BareLf),
        ("X: a\0b", ErrorKind::InvalidFieldValue),
        ("X@Y: v", ErrorKind::InvalidFieldName),
        ("\n", ErrorKind::BareLf),
    ] {
        let wire = format!("0\r\n{line}\r\n\r\n");
        assert_eq!(refused(wire.as_bytes()), kind, "{line:?}");
    }
}

#[test]
fn what_is_not_data_is_limited_over_the_body() {
    let long = [&b"5;a="[..], &[b'x'; 17_000], b"\r\nhello"].concat();
    assert_eq!(refused(&long), ErrorKind::ChunkExtensionsTooLarge);
    let many = b"1;a=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\nz\r\n".repeat(3000);
    assert_eq!(refused(&many), ErrorKind::ChunkExtensionsTooLarge);
    assert_eq!(refused(&[b'0'; 20_000]), ErrorKind::ChunkExtensionsTooLarge);
    let lines = [&b"0\r\n"[..], &b"X: v\r\n".repeat(101)].concat();
    assert_eq!(refused(&lines), ErrorKind::TooManyFields);
    let value = [&b"0\r\nX: "[..], &[b'v'; 17_000]].concat();
    assert_eq!(refused(&value), ErrorKind::TrailersTooLarge);
}

#[test]
fn a_body_of_known_length_ends_by_count() {
    let limits = BodyLimits::default();
    assert_eq!(run(Framing::Length(3), limits, b"abcdef", &[1]), Ok((b"abc".to_vec(), 3, true)));
    assert_eq!(run(Framing::Length(9), limits, b"abc", &[]), Ok((b"abc".to_vec(), 3, false)));
    assert_eq!(run(Framing::Length(0), limits, b"abc", &[]), Ok((Vec::new(), 0, true)));
}

#[test]
fn an_error_is_given_again() {
    let mut decoder = Decoder::new(Framing::Chunked, BodyLimits::default());
    let error = decoder.decode(b"x").unwrap_err();
    assert_eq!(decoder.decode(b"5\r\nhello"), Err(error));
}

fn wire() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"5\r\nhello\r\n".to_vec()),
        2 => Just(b"3;a=\"b\"\r\nxyz\r\n".to_vec()),
        2 => Just(b"0\r\nX: y\r\n\r\n".to_vec()),
        1 => Just(b"00".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_split_gives_the_same_body(
        wire in wire(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        small in any::<bool>(),
    ) {
        let tiny = BodyLimits { extension_bytes: 8, trailer_bytes: 9, trailer_fields: 1 };
        let limits = if small { tiny } else { BodyLimits::default() };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        let bytes: Vec<_> = (0..wire.len()).collect();
        for framing in [Framing::Chunked, Framing::Length(7)] {
            let once = run(framing, limits, &wire, &[]);
            prop_assert_eq!(&once, &run(framing, limits, &wire, &cuts));
            prop_assert_eq!(&once, &run(framing, limits, &wire, &bytes));
        }
    }

    #[test]
    fn what_is_written_is_read_again(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6)) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            write_chunk(&mut wire, chunk);
        }
        write_last_chunk(&mut wire);
        prop_assert_eq!(whole(&wire), Ok((chunks.concat(), wire.len(), true)));
    }
}
