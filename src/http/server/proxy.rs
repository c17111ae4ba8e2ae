//! The PROXY protocol around any listener: see [`ProxyProtocol`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use futures_io::AsyncRead;

use super::accept::{Acceptor, Address};
use crate::http::app::peer::Peer;
use crate::http::app::prefixed::Prefixed;
use crate::http::app::proxies::TrustedProxies;
use crate::http::wire::proxy::{self, Source};

/// Bytes to read at a time: the header's usual limit, and most of the request behind it.
const READ: usize = 536;

/// Accepts connections that begin with a PROXY header, version 1 or 2, and takes the client from
/// it: for a load balancer that passes bytes on without reading them (HAProxy, NLB, nginx's
/// `stream`).
///
/// [`Request::peer`](crate::http::Request::peer) is then the client. Only the trusted proxies may
/// connect; any other peer is closed at once, and so is a connection without a valid header, since
/// the protocol forbids to guess. A health check of the proxy (`LOCAL`) comes from the proxy
/// itself; a client that it cannot name (`UNKNOWN`) is [`Peer::Unknown`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::http::{ProxyProtocol, Router, Server, TrustedProxies};
/// use postlude::net::TcpListener;
/// let behind = ProxyProtocol::new(TcpListener::bind("127.0.0.1:0")?, TrustedProxies::new(["10.0.0.0/8"])?);
/// let server = Server::bind("127.0.0.1:0", Router::new())?.listen(behind);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ProxyProtocol<A> {
    listener: A,
    trusted: TrustedProxies,
}

impl<A> ProxyProtocol<A> {
    /// Wraps a listener.
    pub fn new(listener: A, trusted: TrustedProxies) -> Self {
        Self { listener, trusted }
    }
}

impl<A: Acceptor> Acceptor for ProxyProtocol<A> {
    type Raw = A::Raw;
    type Io = Prefixed<A::Io>;

    async fn accept(&self) -> io::Result<(A::Raw, Peer)> {
        self.listener.accept().await
    }

    async fn handshake(&self, raw: A::Raw, peer: &mut Peer) -> io::Result<Prefixed<A::Io>> {
        let mut io = self.listener.handshake(raw, peer).await?;
        if !self.trusted.trusts(*peer) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("`{peer}` is no trusted proxy")));
        }
        let mut bytes = Vec::new();
        let (length, source) = loop {
            let parsed = proxy::parse(&bytes).map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text))?;
            match parsed {
                Some(found) => break found,
                None => read_more(&mut io, &mut bytes).await?,
            }
        };
        match source {
            Source::Proxy => {}
            Source::Client(address) => *peer = Peer::Ip(address),
            Source::Local => *peer = Peer::Unix,
            Source::Unknown => *peer = Peer::Unknown,
        }
        bytes.drain(..length);
        Ok(Prefixed::new(io, bytes))
    }

    fn local_addr(&self) -> io::Result<Address> {
        self.listener.local_addr()
    }

    fn pauses(&self) -> u64 {
        self.listener.pauses()
    }
}

async fn read_more(io: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<()> {
    let filled = bytes.len();
    bytes.resize(filled + READ, 0);
    let count = poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut bytes[filled..])).await?;
    bytes.truncate(filled + count);
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
