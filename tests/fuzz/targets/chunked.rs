//! Chunked bodies: the same answer for every cut, and the same body as a decoder that works on
//! whole lines finds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postlude::http::chunked::{BodyLimits, Decoder};
use postlude::http::parse::{Error, Framing};

fuzz_target!(|input: &[u8]| {
    let Some((cut, wire)) = postlude_fuzz::split(input) else { return };
    let once = decode(wire, [wire.len()]);
    assert_eq!(once, decode(wire, [cut, wire.len()]), "cut at {cut}");
    assert_eq!(once, decode(wire, 0..=wire.len()), "byte by byte");
    let whole = once.error.is_none().then_some(once).filter(|once| once.complete).map(|once| (once.body, once.end));
    assert_eq!(whole, naive(wire));
});

#[derive(Debug, PartialEq)]
struct Outcome {
    body: Vec<u8>,
    end: usize,
    complete: bool,
    error: Option<Error>,
}

fn decode(wire: &[u8], ends: impl IntoIterator<Item = usize>) -> Outcome {
    let mut decoder = Decoder::new(Framing::Chunked, BodyLimits::default());
    let mut outcome = Outcome { body: Vec::new(), end: 0, complete: false, error: None };
    for end in ends {
        while outcome.end < end && !decoder.is_complete() {
            let here = &wire[outcome.end..end];
            match decoder.decode(here) {
                Ok(found) => {
                    outcome.body.extend_from_slice(&here[found.data]);
                    outcome.end += found.consumed;
                }
                Err(error) => return Outcome { end: 0, error: Some(error), ..outcome },
            }
        }
    }
    Outcome { complete: decoder.is_complete(), ..outcome }
}

/// The body and where it ends, if it is whole and well-formed.
fn naive(wire: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut rest) = (Vec::new(), wire);
    loop {
        let line = take_line(&mut rest)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extensions) = line.split_at(digits);
        if digits.is_empty() || !are_extensions(extensions) {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let (data, after) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n")?;
    }
    for lines in 0.. {
        let line = take_line(&mut rest)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_at(line.iter().position(|&byte| byte == b':')?);
        if lines == 100 || name.is_empty() || token(name) < name.len() || !value.iter().all(|&byte| is_text(byte)) {
            return None;
        }
    }
    Some((body, wire.len() - rest.len()))
}

/// What comes before the next LF, which must be a CRLF and the only CR.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let line = rest[..end].strip_suffix(b"\r")?;
    *rest = &rest[end + 1..];
    (!line.contains(&b'\r')).then_some(line)
}

fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(name) = skip_blanks(rest).strip_prefix(b";").map(skip_blanks) else { return false };
        let length = token(name);
        if length == 0 {
            return false;
        }
        rest = &name[length..];
        if let Some(value) = skip_blanks(rest).strip_prefix(b"=").map(skip_blanks) {
            let Some(length) = value_length(value) else { return false };
            rest = &value[length..];
        }
    }
    true
}

fn value_length(value: &[u8]) -> Option<usize> {
    if value.first() != Some(&b'"') {
        return Some(token(value)).filter(|&length| length > 0);
    }
    let mut at = 1;
    loop {
        let byte = *value.get(at)?;
        match byte {
            b'"' => return Some(at + 1),
            b'\\' if is_text(*value.get(at + 1)?) => at += 2,
            b'\\' => return None,
            _ if is_text(byte) => at += 1,
            _ => return None,
        }
    }
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[blanks..]
}

/// How much of the beginning is a token.
fn token(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)).count()
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
