//! Writes the head of a response into a buffer: the status line and the headers.
//!
//! Each function writes complete lines, so a head is a sequence of calls and then an empty line.

use std::time::SystemTime;

use http::StatusCode;

/// The interim response that lets a client send its body (RFC 9110, section 15.2.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub(crate) fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn write_length(out: &mut Vec<u8>, mut length: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(length % 10).unwrap_or_default();
        length /= 10;
        if length == 0 {
            break;
        }
    }
    write_field(out, "content-length", &digits[start..]);
}

/// The value of the `Date` header, formatted once a second for all connections.
#[derive(Debug)]
pub(crate) struct Date {
    second: u64,
    text: String,
}

impl Default for Date {
    fn default() -> Self {
        // No clock reaches this second, so the first write formats the text.
        Self { second: u64::MAX, text: String::new() }
    }
}

pub(crate) fn write_date(out: &mut Vec<u8>, date: &mut Date, now: SystemTime) {
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if date.second != second {
        *date = Date { second, text: httpdate::fmt_http_date(now) };
    }
    write_field(out, "date", date.text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_head_is_a_sequence_of_lines() {
        let mut out = Vec::new();
        write_status(&mut out, StatusCode::NOT_FOUND);
        write_field(&mut out, "allow", b"GET");
        write_length(&mut out, 0);
        write_length(&mut out, u64::MAX);
        let head =
            "HTTP/1.1 404 Not Found\r\nallow: GET\r\ncontent-length: 0\r\ncontent-length: 18446744073709551615\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), head);
    }

    #[test]
    fn a_date_is_formatted_anew_when_the_second_changes() {
        let (mut out, mut date) = (Vec::new(), Date::default());
        for milliseconds in [0, 784_111_777_000, 784_111_777_999, 784_111_778_000] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
            write_date(&mut out, &mut date, now);
        }
        let lines = [
            "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
            "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "date: Sun, 06 Nov 1994 08:49:38 GMT\r\n",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), lines.concat());
    }
}
