//! The form of error answers: a text, or problem details (RFC 9457) for a client that prefers JSON.
//!
//! Every error of a request with a valid head becomes a response with a `ResponseBody::Problem`,
//! its text. The form is chosen only when the answer is written, so the code that makes an error
//! need not know the request.
//!
//! # How it works
//!
//! The request's `Accept` gives each form a weight: that of the most specific range that matches it
//! (RFC 9110 section 12.5.1). The larger weight wins. If they are equal, a form that is named wins
//! over one that matches only a wildcard, and of two named ones the first. Otherwise the text wins.

use http::header::{self, HeaderValue};

use super::request::RequestRecord;
use super::response::{Response, ResponseBody};

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const ACCEPT: HeaderValue = HeaderValue::from_static("accept");

/// Converts an error into the form that the client prefers. Leaves other answers unchanged.
pub(crate) fn settle(response: &mut Response, record: &RequestRecord) {
    let ResponseBody::Problem(detail) = &response.payload else { return };
    let fields = record.head.fields(&record.bytes);
    let accept = fields.filter(|(name, _)| name.eq_ignore_ascii_case("accept")).map(|(_, value)| value);
    if prefers_json(accept) {
        response.payload = ResponseBody::Bytes(json_of(response, detail));
        response.fields.retain(|(name, _)| *name != header::CONTENT_TYPE);
        response.fields.push((header::CONTENT_TYPE, PROBLEM));
    }
    let vary = (header::VARY, ACCEPT);
    if !response.fields.contains(&vary) {
        response.fields.push(vary);
    }
}

fn json_of(response: &Response, detail: &str) -> Vec<u8> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut json = String::from(r#"{"type":"about:blank""#);
    if let Some(title) = response.status.canonical_reason() {
        json.extend([r#","title":"#, &quoted(title)]);
    }
    json.extend([r#","status":"#, response.status.as_str()]);
    if !detail.is_empty() {
        json.extend([r#","detail":"#, &quoted(detail)]);
    }
    json.push('}');
    json.into_bytes()
}

/// The weight that the client gives to a form.
#[derive(Clone, Copy, Debug, Default)]
struct Worth {
    /// How specific the matching range is; 0 if no range matches.
    rank: u8,
    /// In thousandths.
    weight: u16,
    /// The index of the range.
    place: usize,
}

impl Worth {
    fn take(&mut self, other: Self) {
        if other.rank > 0 && (other.rank, other.weight) > (self.rank, self.weight) {
            *self = other;
        }
    }

    fn is_named(self) -> bool {
        self.rank >= NAMED
    }
}

const WILD: u8 = 1;
const WILD_SUBTYPE: u8 = 2;
const NAMED: u8 = 3;
const NAMED_EXACTLY: u8 = 4;

/// Returns how specifically a range matches JSON and text.
fn ranks(range: (&str, &str)) -> (u8, u8) {
    match range {
        ("application", "problem+json") => (NAMED_EXACTLY, 0),
        ("application", "json") => (NAMED, 0),
        ("application", "*") => (WILD_SUBTYPE, 0),
        ("text", "plain") => (0, NAMED_EXACTLY),
        ("text", "*") => (0, WILD_SUBTYPE),
        ("*", "*") => (WILD, WILD),
        _ => (0, 0),
    }
}

fn prefers_json<'a>(accept: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut json, mut text) = (Worth::default(), Worth::default());
    let values = accept.filter_map(|value| std::str::from_utf8(value).ok());
    for (place, range) in values.flat_map(|value| pieces(value, ',')).enumerate() {
        let Some((range, weight)) = weighed(range) else { continue };
        let (json_rank, text_rank) = range.split_once('/').map_or((0, 0), ranks);
        json.take(Worth { rank: json_rank, weight, place });
        text.take(Worth { rank: text_rank, weight, place });
    }
    match json.weight.cmp(&text.weight) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => {
            json.weight > 0 && json.is_named() && (!text.is_named() || json.place < text.place)
        }
    }
}

/// Parses a media range: in lower case and without parameters, and its weight.
fn weighed(range: &str) -> Option<(String, u16)> {
    let mut parts = pieces(range, ';').map(str::trim);
    let range = parts.next()?.to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some((range, weight.map_or(Some(1000), thousandths)?))
}

/// Parses a weight: `0` or `1`, with up to three digits after a point (RFC 9110 section 12.4.2).
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "0" if digits => format!("{fraction:0<3}").parse().ok(),
        "1" if digits && fraction.bytes().all(|byte| byte == b'0') => Some(1000),
        _ => None,
    }
}

/// Splits at separators outside quotes.
fn pieces(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let literal = std::mem::take(&mut escaped);
        match character {
            '"' if !literal => quoted = !quoted,
            '\\' if quoted && !literal => escaped = true,
            _ => {}
        }
        character == separator && !quoted
    })
}
