//! HTTPS: a listener that speaks TLS, made of any other and a TLS library.
//!
//! ```text
//! cargo run                            # serves https://localhost:8443 with a certificate of its own making
//! cargo run -- cert.pem key.pem        # with yours
//! cargo run -- --once                  # asks itself, over TCP and over a Unix socket, and ends
//! curl --insecure https://localhost:8443
//! ```
//!
//! [`Tls`] is all there is to it: the handshake runs in the connection's own task, so a client that
//! never begins it costs its place for `Limits::header_timeout`, and nobody else's time.

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector, server};
use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use postlude::http::{self, Acceptor, Address, BackgroundTasks, Peer, Router, Server};
use postlude::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// TLS over any other listener: TCP, a Unix socket, one behind the PROXY protocol.
struct Tls<A> {
    listener: A,
    tls: TlsAcceptor,
}

impl<A: Acceptor> Acceptor for Tls<A> {
    type Raw = A::Raw;
    type Io = server::TlsStream<A::Io>;

    async fn accept(&self) -> io::Result<(A::Raw, Peer)> {
        self.listener.accept().await
    }

    async fn handshake(&self, raw: A::Raw, peer: &mut Peer) -> io::Result<Self::Io> {
        let io = self.listener.handshake(raw, peer).await?;
        self.tls.accept(io).await
    }

    fn local_addr(&self) -> io::Result<Address> {
        self.listener.local_addr()
    }
}

/// A certificate with its chain, and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn self_signed() -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        Ok(Self { chain: vec![made.cert.der().clone()], key })
    }

    fn from_files(certificate: &str, key: &str) -> io::Result<Self> {
        let unreadable = |file: &str| {
            let file = file.to_owned();
            move |error| io::Error::other(format!("{file} cannot be read: {error}"))
        };
        let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
        Ok(Self { chain: chain.map_err(unreadable(certificate))?, key })
    }

    fn acceptor(self) -> io::Result<TlsAcceptor> {
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(self.chain, self.key);
        let mut config = config.map_err(io::Error::other)?;
        // Otherwise a browser may begin with HTTP/2.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn app(tasks_run: Rc<Cell<usize>>) -> Router {
    Router::new().get("/", async move |tasks: BackgroundTasks| {
        let tasks_run = Rc::clone(&tasks_run);
        tasks.add(async move { tasks_run.set(tasks_run.get() + 1) })?;
        Ok::<_, http::Error>("a secret\n")
    })
}

async fn serve(identity: Identity) -> io::Result<ExitCode> {
    let listener = TcpListener::bind("127.0.0.1:8443")
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on 127.0.0.1:8443: {error}")))?;
    let server = Server::from_listener(Tls { listener, tls: identity.acceptor()? }, app(Rc::default()));
    println!("listening on https://localhost:8443");
    let report = server.shutdown_on_signals().run().await?;
    eprintln!("{report}");
    Ok(report.exit_code())
}

/// Asks over an open connection, whose end must be announced, and returns the answer.
async fn ask(io: impl AsyncRead + AsyncWrite + Unpin, connector: &TlsConnector) -> io::Result<String> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut client = connector.connect(name, io).await?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    // It fails if the server ends without a word, as an attacker would.
    client.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn once() -> io::Result<ExitCode> {
    let identity = Identity::self_signed()?;
    let mut roots = RootCertStore::empty();
    roots.add(identity.chain[0].clone()).map_err(io::Error::other)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));

    let path = std::env::temp_dir().join(format!("postlude-https-{}.sock", std::process::id()));
    let (tls, tasks_run) = (identity.acceptor()?, Rc::new(Cell::new(0)));
    let over_tcp = Tls { listener: TcpListener::bind("127.0.0.1:0")?, tls: tls.clone() };
    let over_unix = Tls { listener: UnixListener::bind(&path)?, tls };
    let server = Server::from_listener(over_tcp, app(Rc::clone(&tasks_run))).listen(over_unix);
    let (address, handle) = (server.local_addr()?, server.shutdown_handle());

    let clients = postlude::spawn(async move {
        let silent = TcpStream::connect(address).await?;
        let answers = [
            ask(TcpStream::connect(address).await?, &connector).await?,
            ask(UnixStream::connect(&path).await?, &connector).await?,
        ];
        handle.shutdown();
        drop(silent);
        std::fs::remove_file(&path)?;
        Ok::<_, io::Error>(answers)
    });
    let report = server.run().await?;
    for answer in clients.await.map_err(io::Error::other)?? {
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("a secret\n"), "{answer}");
    }
    assert!(report.is_clean() && tasks_run.get() == 2, "{report}");
    println!("answered twice over TLS");
    Ok(report.exit_code())
}

const USAGE: &str = "usage: https [--once | CERTIFICATE.pem KEY.pem]";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        ["--once"] => postlude::run(once()),
        [] => postlude::run(async { serve(Identity::self_signed()?).await }),
        [certificate, key] if !certificate.starts_with('-') => {
            postlude::run(async { serve(Identity::from_files(certificate, key)?).await })
        }
        _ => {
            eprintln!("https: unknown arguments; {USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(Err).unwrap_or_else(|error| {
        eprintln!("https: {error}");
        ExitCode::FAILURE
    })
}
