//! Conditional requests and ranges (RFC 9110 sections 13 and 14).
//!
//! A client that has a copy sends its validators, and one that has a part asks for the rest.
//! [`decide`] compares the request's headers with the representation's validators and length, and
//! returns a [`Verdict`]. It does not need the bytes.
//!
//! # How it works
//!
//! The order is that of section 13.2.2: `If-Match`, or else `If-Unmodified-Since`; then
//! `If-None-Match`, or else `If-Modified-Since`; then `Range`, if `If-Range` allows it. An invalid
//! date is ignored, and so is a repeated header that may come only once.
//!
//! One range is answered, in any form. A request for several ranges gets the whole, as section 14.2
//! allows, unless only one of them is within the representation: several parts cost the server more
//! than they help the client, and clients that resume or seek ask for one.

use std::ops::Range;
use std::time::SystemTime;

use super::request::Request;

/// The length and the validators of a representation.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) length: u64,
    /// The entity tag, with its quotes and without `W/`.
    pub(super) tag: String,
    /// Whether an equal tag or date guarantees equal bytes.
    pub(super) strong: bool,
    /// In whole seconds, the resolution of an HTTP date.
    pub(super) modified: Option<SystemTime>,
}

/// How to answer the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 200: all bytes.
    Whole,
    /// 206: these bytes.
    Part(Range<u64>),
    /// 304: the client has them.
    NotModified,
    /// 412: the client expects another representation.
    Failed,
    /// 416: there are no such bytes.
    Unsatisfiable,
}

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

/// Returns whether a header lists `*` or a tag that `same` accepts, which also gets whether the tag
/// is weak. `None` if there is no such header.
fn has_tag(request: &Request, name: &str, same: impl Fn(bool, &[u8]) -> bool) -> Option<bool> {
    let mut lines = lines(request, name).peekable();
    lines.peek()?;
    Some(lines.any(|line| line.trim_ascii() == b"*" || tags(line).any(|(weak, tag)| same(weak, tag))))
}

fn lines<'a>(request: &'a Request, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    request.fields().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Returns the value of a header, unless it is repeated.
fn only<'a>(request: &'a Request, name: &'a str) -> Option<&'a [u8]> {
    let mut lines = lines(request, name);
    lines.next().filter(|_| lines.next().is_none())
}

/// Iterates over a list of tags, up to the first invalid one: whether each is weak, and the tag
/// with its quotes. A tag may contain a comma.
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

/// Returns whether the representation is newer than a header's date. `None` if either date is
/// missing.
fn since(request: &Request, name: &str, known: &Known) -> Option<bool> {
    let date = date(only(request, name)?)?;
    Some(known.modified? > date)
}

fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim_ascii()).ok()
}

/// Returns whether the client's part belongs to the current representation. A weak validator cannot
/// tell.
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

/// Returns the ranges within the length, cut to it. `None` if the list is invalid or has another
/// unit, or asks for the last bytes of an empty representation.
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
            // It can be satisfied, but a `Content-Range` cannot express it.
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

/// Parses an optional number. One that is too large for 64 bits is beyond every file.
#[allow(clippy::option_option, reason = "the outer is whether it is valid, the inner whether it is there")]
fn position(digits: &str) -> Option<Option<u64>> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX)))
}
