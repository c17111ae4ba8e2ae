//! The header of the PROXY protocol, versions 1 and 2, which a proxy sends before the client's
//! bytes: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.
//!
//! Version 1 is a line of text, version 2 a binary block. Everything that is not exactly one of
//! them is an error: the receiver must not guess.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The bytes that version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The fixed part of version 2: the signature, version and command, family, length.
const FIXED: usize = 16;
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// The longest block of version 2. The protocol fits it into one segment of 536 bytes; certificates
/// of TLS clients, which some proxies add, may take more.
const LONGEST_BLOCK: usize = 4096;

/// For whom the proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The proxy itself: a health check.
    Proxy,
    /// A client over TCP.
    Client(SocketAddr),
    /// A process on the proxy's machine.
    Local,
    /// A client that the proxy cannot name.
    Unknown,
}

/// Parses the header at the beginning of `bytes`. Returns its length and the source; `None` if it
/// is incomplete.
///
/// # Errors
///
/// The text says what is wrong.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(usize, Source)>, &'static str> {
    let begins_as = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    match bytes {
        [] => Ok(None),
        _ if begins_as(SIGNATURE) => parse_block(bytes),
        _ if begins_as(b"PROXY ") => parse_line(bytes),
        _ => Err("no PROXY header"),
    }
}

fn parse_line(bytes: &[u8]) -> Result<Option<(usize, Source)>, &'static str> {
    let seen = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if bytes.len() < LONGEST_LINE { Ok(None) } else { Err("an overlong PROXY line") };
    };
    match seen[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if bytes.len() < LONGEST_LINE => return Ok(None),
        _ => return Err("a PROXY line that does not end in CR LF"),
    }
    let line = std::str::from_utf8(&seen[..end]).map_err(|_| "a PROXY line that is not ASCII")?;
    let source = line_source(line).ok_or("a malformed PROXY line")?;
    Ok(Some((end + 2, source)))
}

fn line_source(line: &str) -> Option<Source> {
    let words: Vec<_> = line.split(' ').collect();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => return Some(Source::Unknown),
        ["PROXY", "TCP4", source, destination, from, to] => {
            destination.parse::<Ipv4Addr>().ok()?;
            port(to)?;
            SocketAddr::new(address::<Ipv4Addr>(source)?, port(from)?)
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            destination.parse::<Ipv6Addr>().ok()?;
            port(to)?;
            SocketAddr::new(address::<Ipv6Addr>(source)?, port(from)?)
        }
        _ => return None,
    };
    Some(Source::Client(source))
}

fn address<T: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<T>().ok().map(Into::into)
}

/// A decimal port without a sign and without zeros in front.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok())?
}

fn parse_block(bytes: &[u8]) -> Result<Option<(usize, Source)>, &'static str> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_BLOCK {
        return Err("an overlong PROXY block");
    }
    if !matches!(command, 0x20 | 0x21) {
        return Err("a PROXY block of another version or command");
    }
    if family >> 4 > 3 || family & 0xf > 2 {
        return Err("a PROXY block of an unknown family");
    }
    let Some(block) = rest.get(..length) else { return Ok(None) };
    let source = match (command, family) {
        (0x20, _) => Source::Proxy,
        (_, 0x11 | 0x12) => {
            let (source, ports) = addresses::<4>(block).ok_or("a PROXY block that is too short")?;
            Source::Client(SocketAddr::new(IpAddr::from(source), ports))
        }
        (_, 0x21 | 0x22) => {
            let (source, ports) = addresses::<16>(block).ok_or("a PROXY block that is too short")?;
            Source::Client(SocketAddr::new(IpAddr::from(source), ports))
        }
        (_, 0x31 | 0x32) => Source::Local,
        _ => Source::Unknown,
    };
    Ok(Some((FIXED + length, source)))
}

/// The source's address and port in a block that has two of each.
fn addresses<const N: usize>(block: &[u8]) -> Option<([u8; N], u16)> {
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (_destination, rest) = rest.split_first_chunk::<N>()?;
    let (ports, _extensions) = rest.split_first_chunk::<4>()?;
    Some((*source, u16::from_be_bytes([ports[0], ports[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, body].concat()
    }

    /// Whole, and byte by byte with a request behind it.
    fn read(header: &[u8]) -> Source {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Ok(None), "{:?}", String::from_utf8_lossy(&header[..end]));
        }
        let (length, source) = parse(&[header, b"GET / HTTP/1.1\r\n"].concat()).unwrap().unwrap();
        assert_eq!(length, header.len());
        source
    }

    #[test]
    fn lines_of_version_1_are_read() {
        let line = b"PROXY TCP4 255.255.255.255 10.0.0.1 65535 80\r\n";
        assert_eq!(read(line), Source::Client("255.255.255.255:65535".parse().unwrap()));
        let line = b"PROXY TCP6 2001:db8::1 ::1 0 443\r\n";
        assert_eq!(read(line), Source::Client("[2001:db8::1]:0".parse().unwrap()));
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Source::Unknown);
        let worst = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
        assert_eq!((read(worst.as_bytes()), worst.len()), (Source::Unknown, LONGEST_LINE));
    }

    #[test]
    fn malformed_lines_are_errors() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY\r\n",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r \n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4\u{a0}1.2.3.4 1 2\r\n",
            &format!("PROXY UNKNOWN{}\r\n", " ".repeat(LONGEST_LINE)),
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn blocks_of_version_2_are_read_whatever_extensions_follow() {
        let body = [1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x34, 0, 80];
        let client = Source::Client("1.2.3.4:4660".parse().unwrap());
        assert_eq!(read(&block(0x21, 0x11, &body)), client);
        assert_eq!(read(&block(0x21, 0x12, &[body.as_slice(), &[4; 100]].concat())), client);
        let mut body = [0; 36];
        (body[0], body[1], body[15], body[33]) = (0x20, 1, 7, 9);
        assert_eq!(read(&block(0x21, 0x21, &body)), Source::Client("[2001::7]:9".parse().unwrap()));
        assert_eq!(read(&block(0x21, 0x31, &[0; 216])), Source::Local);
        assert_eq!(read(&block(0x21, 0x00, &[])), Source::Unknown);
        assert_eq!(read(&block(0x20, 0x00, &[])), Source::Proxy);
        assert_eq!(read(&block(0x20, 0x11, &[1; 3])), Source::Proxy);
    }

    #[test]
    fn malformed_blocks_are_errors() {
        for block in [
            block(0x11, 0x11, &[0; 12]),
            block(0x22, 0x11, &[0; 12]),
            block(0x2f, 0x11, &[0; 12]),
            block(0x21, 0x41, &[0; 12]),
            block(0x21, 0x13, &[0; 12]),
            block(0x21, 0x11, &[0; 11]),
            block(0x21, 0x21, &[0; 35]),
            block(0x21, 0x11, &[0; LONGEST_BLOCK + 1]),
            b"\r\n\r\n\0\r\nQUIX\n!\x11\0\0".to_vec(),
            b"\r\n\r\nGET".to_vec(),
        ] {
            assert!(parse(&block).is_err(), "{block:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let seeds = [block(0x21, 0x11, &[7; 12]), b"PROXY TCP6 ::1 ::1 1 2\r\n".to_vec()];
        for seed in seeds {
            for place in 0..seed.len() {
                for byte in 0..=255 {
                    let mut changed = seed.clone();
                    changed[place] = byte;
                    let _ = parse(&changed);
                    let _ = parse(&changed[..place]);
                }
            }
        }
    }
}
