//! Conditional and partial answers: how RFC 9110 answers a request for a known representation.
//!
//! A client that has a copy sends what it knows of it, and a client that has a part asks for the
//! rest. [`decide`] compares that with what is known of the representation and gives one
//! [`Verdict`]; it reads nothing but the request's fields, so the bytes need not be opened for it.
//!
//! # How it works
//!
//! The order is that of section 13.2.2: `If-Match`, or else `If-Unmodified-Since`; then
//! `If-None-Match`, or else `If-Modified-Since`; then `Range`, if `If-Range` allows it. A date that
//! cannot be read, and one of two fields that may come only once, is as if it were not there.
//!
//! Of `Range` one range is answered, whatever its form. A request for several gets the whole, as
//! section 14.2 allows, unless only one of them is within the representation: several parts cost
//! the server more than the client, and clients that resume or seek ask for one.

use std::ops::Range;
use std::time::SystemTime;

use super::request::Request;

/// The validators and the length of the representation to be sent.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) length: u64,
    /// The entity tag, in its quotes and without the mark of a weak one.
    pub(super) tag: String,
    /// Whether the same tag, or the same date, always means the same bytes.
    pub(super) strong: bool,
    /// In whole seconds, for that is what a client can give back.
    pub(super) modified: Option<SystemTime>,
}

/// How to answer the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 200 and all of it.
    Whole,
    /// 206 and these bytes.
    Part(Range<u64>),
    /// 304: the client has it.
    NotModified,
    /// 412: it is not the representation that the client expects.
    Failed,
    /// 416: it has no such bytes.
    Unsatisfiable,
}

/// Decides how to answer a request for the representation `known`.
pub(super) fn decide(request: &Request, known: &Known) -> Verdict {
    let reads = matches!(request.method_name(), "GET" | "HEAD");
    let matches = has_tag(request, "if-match", |weak, tag| !weak && known.strong && tag == known.tag.as_bytes());
    let unmodified = || since(request, "if-unmodified-since", known).map(|later| !later);
    if !matches.or_else(unmodified).unwrap_or(true) {
        return Verdict::Failed;
    }
    match has_tag(request, "if-none-match", |_, tag| tag == known.tag.as_bytes()) {
        Some(true) if reads => return Verdict::NotModified,
        Some(true) => return Verdict::Failed,
        None if reads && since(request, "if-modified-since", known) == Some(false) => return Verdict::NotModified,
        _ => {}
    }
    // Ranges are defined for GET alone.
    match only(request, "range").filter(|_| request.method_name() == "GET" && allows_range(request, known)) {
        Some(ranges) => part(ranges, known.length),
        None => Verdict::Whole,
    }
}

/// Whether a field lists a tag that `same` accepts, given whether it is weak; `*` stands for any.
/// None: there is no such field.
fn has_tag(request: &Request, name: &str, same: impl Fn(bool, &[u8]) -> bool) -> Option<bool> {
    let mut lines = lines(request, name).peekable();
    lines.peek()?;
    Some(lines.any(|line| line.trim_ascii() == b"*" || tags(line).any(|(weak, tag)| same(weak, tag))))
}

fn lines<'a>(request: &'a Request, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    request.fields().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The value of a field that may come only once.
fn only<'a>(request: &'a Request, name: &'a str) -> Option<&'a [u8]> {
    let mut lines = lines(request, name);
    lines.next().filter(|_| lines.next().is_none())
}

/// The tags of a list, up to the first malformed one; each in its quotes, with whether it is weak.
/// A tag may have a comma in it.
fn tags(mut list: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', rest @ ..] = list {
            list = rest;
        }
        let (weak, quoted) = list.strip_prefix(b"W/").map_or((false, list), |rest| (true, rest));
        let end = quoted.strip_prefix(b"\"")?.iter().position(|byte| *byte == b'"')? + 2;
        let (tag, rest) = quoted.split_at(end);
        list = rest;
        Some((weak, tag))
    })
}

/// Whether the representation is newer than a field's date. None: there is nothing to compare.
fn since(request: &Request, name: &str, known: &Known) -> Option<bool> {
    let date = date(only(request, name)?)?;
    Some(known.modified? > date)
}

fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim_ascii()).ok()
}

/// Whether the part that the client has belongs to the representation as it is now, of which it
/// could not be sure with a weak validator.
fn allows_range(request: &Request, known: &Known) -> bool {
    if lines(request, "if-range").next().is_none() {
        return true;
    }
    let Some(value) = only(request, "if-range").filter(|_| known.strong) else { return false };
    let is_tag = value.iter().take(3).any(|byte| *byte == b'"');
    if is_tag { value == known.tag.as_bytes() } else { date(value).is_some_and(|date| known.modified == Some(date)) }
}

fn part(ranges: &[u8], length: u64) -> Verdict {
    let Some(ranges) = std::str::from_utf8(ranges).ok().and_then(|ranges| satisfiable(ranges, length)) else {
        return Verdict::Whole;
    };
    match ranges.as_slice() {
        [] => Verdict::Unsatisfiable,
        [range] => Verdict::Part(range.clone()),
        _ => Verdict::Whole,
    }
}

/// Those of the ranges that are within the length, cut to it. None: it is no list of ranges of
/// bytes, or asks for none of an empty file's.
fn satisfiable(ranges: &str, length: u64) -> Option<Vec<Range<u64>>> {
    let (unit, list) = ranges.split_once('=')?;
    let mut list = list.split(',').map(|range| range.trim_matches([' ', '\t'])).filter(|range| !range.is_empty());
    let mut range = list.next().filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
    let mut within = Vec::new();
    loop {
        let (first, last) = range.split_once('-')?;
        let found = match (position(first)?, position(last)?) {
            (None, None) => return None,
            (None, Some(0)) => 0..0,
            // It can be satisfied, but not told in a `Content-Range`.
            (None, Some(_)) if length == 0 => return None,
            (None, Some(count)) => length.saturating_sub(count)..length,
            (Some(first), None) => first..length,
            (Some(first), Some(last)) if first > last => return None,
            (Some(first), Some(last)) => first..last.saturating_add(1).min(length),
        };
        within.extend(Some(found).filter(|found| !found.is_empty()));
        match list.next() {
            Some(next) => range = next,
            None => return Some(within),
        }
    }
}

/// A number, or none where none was said. One that is too large for us is beyond every file.
#[allow(clippy::option_option, reason = "the outer is whether it is well formed, the inner whether it is there")]
fn position(digits: &str) -> Option<Option<u64>> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX)))
}
