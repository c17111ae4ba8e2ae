//! Trusted proxies, and the client that they speak for.
//!
//! A proxy appends the address of its own client to `X-Forwarded-For` or `Forwarded`. Anything to
//! the left of that is hearsay: a client can send such a header, too. So the list is read from the
//! right. As long as an address is that of a trusted proxy, the next one to the left is believed;
//! the first other one is the client.
//!
//! What cannot be read makes the client unknown. It must not make the proxy the client: some
//! program may allow the proxy more.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::peer::Peer;

/// The proxies whose word about their client counts, for
/// [`Server::trusted_proxies`](crate::http::Server::trusted_proxies) and
/// [`ProxyProtocol`](crate::http::ProxyProtocol).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::http::{Peer, TrustedProxies};
/// let proxies = TrustedProxies::new(["127.0.0.1", "10.1.0.0/16", "fd00::/8", "unix"])?;
/// assert!(proxies.trusts(Peer::from(std::net::SocketAddr::from(([10, 1, 2, 3], 4711)))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    unix: bool,
    header: Header,
}

/// Which header the proxies write. Only one is read: a proxy that writes the one passes the other
/// on as its client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Header {
    #[default]
    XForwardedFor,
    Forwarded,
}

#[derive(Clone, Copy, Debug)]
struct Network {
    /// With the bits beyond the prefix cleared.
    first: u128,
    mask: u128,
}

impl TrustedProxies {
    /// Takes addresses (`127.0.0.1`), networks (`10.0.0.0/8`, `fd00::/8`) and `unix`, which stands
    /// for any process that may connect to a Unix socket of this server.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with the text, if one is none of them.
    pub fn new<T: AsRef<str>>(list: impl IntoIterator<Item = T>) -> io::Result<Self> {
        let mut proxies = Self::default();
        for entry in list {
            let text = entry.as_ref();
            if text == "unix" {
                proxies.unix = true;
            } else {
                proxies.networks.push(network(text).ok_or_else(|| {
                    let text = format!("`{text}` is no address, no network and not `unix`");
                    io::Error::new(io::ErrorKind::InvalidInput, text)
                })?);
            }
        }
        Ok(proxies)
    }

    /// Reads `Forwarded` (RFC 7239) in place of `X-Forwarded-For`. Say so only if the proxies write
    /// it; they pass on the other one as their client sent it.
    #[must_use]
    pub fn forwarded(mut self) -> Self {
        self.header = Header::Forwarded;
        self
    }

    /// Returns whether the peer is one of the proxies.
    #[must_use]
    pub fn trusts(&self, peer: Peer) -> bool {
        match peer {
            Peer::Ip(address) => {
                let bits = bits(address.ip());
                self.networks.iter().any(|network| bits & network.mask == network.first)
            }
            Peer::Unix => self.unix,
            Peer::Unknown => false,
        }
    }

    /// Returns the client of a request that came from `peer` with these headers.
    pub(crate) fn client<'a>(&self, peer: Peer, fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Peer {
        if !self.trusts(peer) {
            return peer;
        }
        let name = match self.header {
            Header::XForwardedFor => "x-forwarded-for",
            Header::Forwarded => "forwarded",
        };
        let values: Vec<_> =
            fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
        let mut client = peer;
        // From the right: what stands to the left of an untrusted address is hearsay.
        for value in values.into_iter().rev() {
            let hops = match self.header {
                Header::XForwardedFor => Some(plain_hops(value)),
                Header::Forwarded => std::str::from_utf8(value).ok().and_then(forwarded_hops),
            };
            let Some(hops) = hops else { return Peer::Unknown };
            for hop in hops.into_iter().rev() {
                client = hop;
                if !self.trusts(client) {
                    return client;
                }
            }
        }
        client
    }
}

/// An address as 128 bits. IPv4 addresses are mapped, as a socket for both families shows them.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn network(text: &str) -> Option<Network> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let (most, mapped) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
    let length: u32 = length.map_or(Some(most), |length| length.parse().ok().filter(|length| *length <= most))?;
    let mask = u128::MAX.checked_shl(128 - (mapped + length)).unwrap_or(0);
    Some(Network { first: bits(address) & mask, mask })
}

/// Reads the elements of `X-Forwarded-For`; one that is no text is an unknown client. Empty ones
/// are none (RFC 9110 section 5.6.1.2).
fn plain_hops(value: &[u8]) -> Vec<Peer> {
    let elements = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let read = |element| std::str::from_utf8(element).map_or(Peer::Unknown, hop);
    elements.filter(|element| !element.is_empty()).map(read).collect()
}

/// Reads the elements of `Forwarded`; `None` if the value is malformed, as quotes may then hide
/// where an element begins. An element without `for` hides its client.
fn forwarded_hops(value: &str) -> Option<Vec<Peer>> {
    let mut hops = Vec::new();
    for element in split(value, ',')?.into_iter().filter(|element| !element.is_empty()) {
        let mut client = None;
        for pair in split(element, ';')?.into_iter().filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            if name.eq_ignore_ascii_case("for") && client.replace(hop(unquoted(value)?)).is_some() {
                return None;
            }
        }
        hops.push(client.unwrap_or_default());
    }
    Some(hops)
}

/// Splits outside quoted strings, and trims. `None` if a string is not closed.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (place, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[start..place]);
                start = place + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then(|| parts.into_iter().map(|part| part.trim_matches([' ', '\t'])).collect())
}

/// Returns a token, or the inside of a quoted string. No address needs an escape.
fn unquoted(value: &str) -> Option<&str> {
    let Some(inside) = value.strip_prefix('"') else { return (!value.contains('"')).then_some(value) };
    inside.strip_suffix('"').filter(|inside| !inside.contains(['"', '\\']))
}

/// Reads an address, with or without a port: RFC 7239 section 6.
fn hop(text: &str) -> Peer {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Peer::Ip(address);
    }
    let plain = text.parse::<Ipv4Addr>().map(IpAddr::from).or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::from));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    plain.ok().or_else(bracketed).map_or(Peer::Unknown, |ip| Peer::Ip(SocketAddr::new(ip, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &TrustedProxies, header: &str, values: &[&str]) -> String {
        let peer = Peer::Ip(SocketAddr::from(([10, 0, 0, 1], 1)));
        proxies.client(peer, values.iter().map(|value| (header, value.as_bytes()))).to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_s_is_the_client() {
        let proxies = TrustedProxies::new(["10.0.0.0/8", "fd00::/8"]).unwrap();
        let of = |values: &[&str]| client(&proxies, "X-Forwarded-For", values);
        assert_eq!(of(&[]), "10.0.0.1:1");
        assert_eq!(of(&["1.2.3.4"]), "1.2.3.4:0");
        assert_eq!(of(&["6.6.6.6, 1.2.3.4"]), "1.2.3.4:0");
        assert_eq!(of(&["6.6.6.6", "1.2.3.4"]), "1.2.3.4:0");
        assert_eq!(of(&["6.6.6.6, 1.2.3.4,fd00::1 ,\t10.9.9.9,"]), "1.2.3.4:0");
        assert_eq!(of(&["10.3.3.3, 10.2.2.2"]), "10.3.3.3:0");
        assert_eq!(of(&["1.2.3.4:56"]), "1.2.3.4:56");
        assert_eq!(of(&["[2001:db8::1]:56"]), "[2001:db8::1]:56");
        assert_eq!(of(&["::ffff:10.0.0.9, ::ffff:1.2.3.4"]), "[::ffff:1.2.3.4]:0");
        for hidden in ["unknown", "_x", "1.2.3", "1.2.3.4.5", "01.2.3.4", "a, 10.0.0.2", "\u{ff11}.2.3.4"] {
            assert_eq!(of(&[hidden]), "unknown", "{hidden}");
        }
        assert_eq!(client(&proxies, "Forwarded", &["for=1.2.3.4"]), "10.0.0.1:1", "it is not asked for");
        let bytes = |value: &[u8]| {
            let peer = Peer::Ip(SocketAddr::from(([10, 0, 0, 1], 1)));
            proxies.client(peer, [("x-forwarded-for", value)].into_iter()).to_string()
        };
        assert_eq!(bytes(b"\xff, 1.2.3.4"), "1.2.3.4:0", "what a client says hides nothing");
        assert_eq!(bytes(b"1.2.3.4, \xff"), "unknown");
    }

    #[test]
    fn forwarded_is_read_with_its_quotes_or_not_at_all() {
        let proxies = TrustedProxies::new(["10.0.0.0/8"]).unwrap().forwarded();
        let of = |values: &[&str]| client(&proxies, "forwarded", values);
        assert_eq!(of(&["for=192.0.2.60;proto=http;by=203.0.113.43"]), "192.0.2.60:0");
        assert_eq!(of(&["For=\"[2001:db8:cafe::17]:4711\""]), "[2001:db8:cafe::17]:4711");
        assert_eq!(of(&["for=6.6.6.6, for=192.0.2.43, for=10.7.7.7"]), "192.0.2.43:0");
        assert_eq!(of(&["for=\"a, for=6.6.6.6\", for=1.2.3.4; host=\"x;for=6.6.6.6\""]), "1.2.3.4:0");
        for hidden in [
            "for=unknown",
            "for=_secret",
            "proto=https",
            "for=\"1.2.3.4",
            "for=\"x, for=1.2.3.4",
            "for=1.2.3.4\"\"",
            "for",
            "for=1.2.3.4;for=6.6.6.6",
        ] {
            assert_eq!(of(&[hidden]), "unknown", "{hidden}");
        }
        assert_eq!(client(&proxies, "X-Forwarded-For", &["6.6.6.6"]), "10.0.0.1:1", "it is not asked for");
    }

    #[test]
    fn networks_are_matched_by_their_prefix() {
        let proxies = TrustedProxies::new(["192.168.1.128/25", "2001:db8::/33", "::1", "0.0.0.0/32"]).unwrap();
        let trusts = |text: &str| proxies.trusts(Peer::Ip(SocketAddr::new(text.parse().unwrap(), 1)));
        for text in ["192.168.1.128", "192.168.1.255", "::ffff:192.168.1.200", "2001:db8:7fff::", "::1", "0.0.0.0"] {
            assert!(trusts(text), "{text}");
        }
        for text in ["192.168.1.127", "192.168.2.128", "2001:db8:8000::", "::2", "0.0.0.1", "::"] {
            assert!(!trusts(text), "{text}");
        }
        assert!(!proxies.trusts(Peer::Unix) && TrustedProxies::new(["unix"]).unwrap().trusts(Peer::Unix));
        let all = TrustedProxies::new(["0.0.0.0/0"]).unwrap();
        assert!(all.trusts(Peer::Ip(([9, 9, 9, 9], 1).into())) && !all.trusts(Peer::Ip(([1; 8], 1).into())));
        assert!(TrustedProxies::new(["::/0"]).unwrap().trusts(Peer::Ip(([9, 9, 9, 9], 1).into())));
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "example.com", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0:80"]
        {
            let error = TrustedProxies::new([wrong]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
