//! Listeners of any kind, several on one server, and the clients that proxies speak for. Real
//! sockets, the paused clock.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use postlude::deferred::Status;
use postlude::http::{
    Acceptor, Address, BackgroundTasks, Error, Limits, Peer, PeerAddr, ProxyProtocol, Request, Router, Server,
    TrustedProxies,
};
use postlude::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use postlude::{spawn, time};

use crate::http::{get, paused};

const SECOND: Duration = Duration::from_secs(1);

fn app() -> Router {
    Router::new()
        .get("/", async || "hello")
        .get("/ip", async |PeerAddr(peer): PeerAddr| peer.to_string())
        .get("/peer", async |request: Request| format!("{} by {}", request.peer(), request.connection_peer()))
        .get("/task", async |tasks: BackgroundTasks| {
            tasks.task("endless").run(async || pending::<()>().await)?;
            Ok::<_, Error>("accepted")
        })
}

fn tcp() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A path for a Unix socket, which is removed again.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("postlude-{}-{name}.sock", std::process::id())))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Sends the bytes, and reads the answer's head and body, or up to the end.
async fn ask(mut io: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    // The server may have closed already.
    let _ = io.write_all(bytes).await;
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match io.read(&mut buffer).await {
            Ok(count) if count > 0 => got.extend_from_slice(&buffer[..count]),
            _ => return String::from_utf8(got).unwrap(),
        }
        let text = String::from_utf8_lossy(&got);
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
        if body.is_some() && body == length {
            return text.into_owned();
        }
    }
}

async fn ask_at(address: SocketAddr, bytes: &[u8]) -> String {
    ask(TcpStream::connect(address).await.unwrap(), bytes).await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn closing(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n")
}

/// Waits for a byte before HTTP begins: a stand-in for the handshake of TLS.
struct Greeted(TcpListener);

impl Acceptor for Greeted {
    type Raw = TcpStream;
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        Acceptor::accept(&self.0).await
    }

    async fn handshake(&self, stream: TcpStream, _: &mut Peer) -> io::Result<TcpStream> {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        if byte == *b"!" { Ok(stream) } else { panic!("rude") }
    }

    fn local_addr(&self) -> io::Result<Address> {
        Acceptor::local_addr(&self.0)
    }
}

#[test]
fn a_client_that_is_silent_in_its_handshake_holds_up_nobody_and_has_the_time_of_a_head() {
    paused(async {
        let (listener, address) = tcp();
        let server = Server::from_listener(Greeted(listener), app())
            .limits(Limits { header_timeout: 3 * SECOND, ..Limits::default() });
        let handle = server.shutdown_handle();
        let running = spawn(server.run());
        let silent = TcpStream::connect(address).await.unwrap();
        let begin = time::now();
        assert_eq!(body(&ask_at(address, format!("!{}", get("/")).as_bytes()).await), "hello");
        // A panic of the handshake ends its connection alone.
        assert_eq!(ask_at(address, b"?").await, "");
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!((time::now() - begin).as_secs(), 3);
        let silent = TcpStream::connect(address).await.unwrap();
        time::sleep(SECOND).await;
        handle.shutdown();
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(running.await.unwrap().unwrap().is_clean());
        assert_eq!((time::now() - begin).as_secs(), 4);
    });
}

#[test]
fn a_handshake_counts_as_a_connection_and_gives_way_to_another() {
    paused(async {
        let (listener, address) = tcp();
        let server = Server::from_listener(Greeted(listener), app()).limits(Limits {
            max_connections: 1,
            header_timeout: 3 * SECOND,
            ..Limits::default()
        });
        let running = spawn(server.run());
        let silent = TcpStream::connect(address).await.unwrap();
        let begin = time::now();
        assert_eq!(body(&ask_at(address, format!("!{}", get("/")).as_bytes()).await), "hello");
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!((time::now() - begin).as_secs(), 0);
        running.abort();
    });
}

#[test]
fn what_was_accepted_over_tcp_unix_and_proxy_is_drained_and_reported_alike() {
    let path = SocketPath::new("alike");
    paused(async {
        let (behind, proxied) = tcp();
        let behind = ProxyProtocol::new(behind, TrustedProxies::new(["127.0.0.1"]).unwrap());
        let server = Server::bind("127.0.0.1:0", app())
            .unwrap()
            .listen(UnixListener::bind(&path.0).unwrap())
            .listen(behind)
            .on_task_error(|_, _| {})
            .limits(Limits { drain_limit: 5 * SECOND, ..Limits::default() });
        let (address, handle) = (server.local_addr().unwrap(), server.shutdown_handle());
        let shown: Vec<_> = server.addresses().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(shown, [address.to_string(), format!("unix:{}", path.0.display()), proxied.to_string()]);
        let running = spawn(server.run());
        let begin = time::now();
        let header = format!("PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n{}", get("/task"));
        assert_eq!(body(&ask_at(address, get("/task").as_bytes()).await), "accepted");
        let unix = UnixStream::connect(&path.0).await.unwrap();
        assert_eq!(body(&ask(&unix, get("/task").as_bytes()).await), "accepted");
        assert_eq!(body(&ask_at(proxied, header.as_bytes()).await), "accepted");
        handle.shutdown();
        assert_eq!(unix.read(&mut [0; 1]).await.unwrap(), 0, "idle connections close at once");
        assert_eq!((time::now() - begin).as_secs(), 0);
        let report = running.await.unwrap().unwrap();
        assert_eq!((report.connections_cut, report.unfinished.len()), (0, 3), "{report}");
        assert_eq!((time::now() - begin).as_secs(), 5);
        TcpStream::connect(address).await.unwrap_err();
        TcpStream::connect(proxied).await.unwrap_err();
        UnixStream::connect(&path.0).await.unwrap_err();
    });
}

#[test]
fn a_connection_over_a_unix_socket_has_no_address_unless_its_proxy_is_believed() {
    let path = SocketPath::new("believed");
    paused(async {
        let server = Server::from_listener(UnixListener::bind(&path.0).unwrap(), app());
        let server = server.trusted_proxies(TrustedProxies::new(["unix"]).unwrap());
        let running = spawn(server.run());
        let ask = async |request: String| ask(UnixStream::connect(&path.0).await.unwrap(), request.as_bytes()).await;
        assert_eq!(body(&ask(closing("/peer", "")).await), "unix by unix");
        assert!(ask(closing("/ip", "")).await.starts_with("HTTP/1.1 500 "));
        assert_eq!(body(&ask(closing("/ip", "X-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n")).await), "1.2.3.4:0");
        running.abort();
    });
}

/// Gives socket pairs as fast as they are asked for.
struct Flood(Rc<Cell<usize>>);

impl Acceptor for Flood {
    type Raw = ();
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<((), Peer)> {
        self.0.set(self.0.get() + 1);
        Ok(((), Peer::Unknown))
    }

    async fn handshake(&self, (): (), _: &mut Peer) -> io::Result<UnixStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Other("flood".into()))
    }
}

#[test]
fn a_listener_that_is_always_ready_leaves_turns_to_the_others_and_to_the_stop() {
    paused(async {
        let accepted = Rc::new(Cell::new(0));
        let server = Server::new(app()).listen(Flood(Rc::clone(&accepted))).listen(tcp().0);
        let (address, handle) = (server.local_addr().unwrap(), server.shutdown_handle());
        let running = spawn(server.run());
        assert_eq!(body(&ask_at(address, get("/").as_bytes()).await), "hello");
        handle.shutdown();
        assert!(running.await.unwrap().unwrap().is_clean());
        assert!(accepted.get() > 1);
    });
}

/// Its first connection is an error.
struct Broken;

impl Acceptor for Broken {
    type Raw = ();
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<((), Peer)> {
        time::sleep(SECOND).await;
        Err(io::Error::other("broken"))
    }

    async fn handshake(&self, (): (), _: &mut Peer) -> io::Result<UnixStream> {
        unreachable!()
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Other("nowhere".into()))
    }
}

#[test]
fn a_listener_that_fails_stops_the_server_which_drains() {
    paused(async {
        let server = Server::new(app()).listen(tcp().0).listen(Broken).ready_delay(5 * SECOND).on_task_error(|_, _| {});
        let server = server.limits(Limits { drain_limit: SECOND, ..Limits::default() });
        let (address, begin) = (server.local_addr().unwrap(), time::now());
        let running = spawn(server.run());
        assert_eq!(body(&ask_at(address, get("/task").as_bytes()).await), "accepted");
        assert_eq!(running.await.unwrap().unwrap_err().to_string(), "broken");
        assert_eq!((time::now() - begin).as_secs(), 2, "a second until it fails, one for the task");
    });
}

fn proxy_block(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, body].concat()
}

/// Runs a server behind the PROXY protocol that trusts these.
fn behind_proxy(trusted: &str, test: impl AsyncFnOnce(SocketAddr)) {
    paused(async {
        let (listener, address) = tcp();
        let listener = ProxyProtocol::new(listener, TrustedProxies::new([trusted]).unwrap());
        let server = Server::from_listener(listener, app())
            .limits(Limits { header_timeout: 3 * SECOND, ..Limits::default() })
            .trusted_proxies(TrustedProxies::new([trusted]).unwrap());
        let running = spawn(server.run());
        test(address).await;
        assert!(!running.is_finished());
        running.abort();
    });
}

#[test]
fn the_client_of_a_proxy_header_is_the_peer() {
    behind_proxy("127.0.0.1", async |address| {
        let of = async |header: &[u8], path: &str| {
            let answer = ask_at(address, &[header, closing(path, "").as_bytes()].concat()).await;
            body(&answer).to_owned()
        };
        assert_eq!(of(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", "/ip").await, "1.2.3.4:9");
        let block = proxy_block(0x21, 0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 10]);
        assert_eq!(of(&block, "/peer").await, "1.2.3.4:9 by 1.2.3.4:9");
        assert!(of(&proxy_block(0x20, 0, &[]), "/ip").await.starts_with("127.0.0.1:"));
        assert_eq!(of(&proxy_block(0x21, 0x31, &[0; 216]), "/peer").await, "unix by unix");
        assert_eq!(of(b"PROXY UNKNOWN\r\n", "/peer").await, "unknown by unknown");
        // Whom the proxy does not know, it vouches for no more than for another client.
        let spoof = closing("/peer", "X-Forwarded-For: 6.6.6.6\r\n");
        for header in ["PROXY UNKNOWN\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"] {
            let answer = ask_at(address, format!("{header}{spoof}").as_bytes()).await;
            assert!(!body(&answer).contains("6.6.6.6"), "{answer}");
        }
        // In pieces, with the request in several, too.
        let client = TcpStream::connect(address).await.unwrap();
        let bytes = format!("PROXY TCP6 ::2 ::3 9 10\r\n{}", closing("/ip", ""));
        for piece in bytes.as_bytes().chunks(7) {
            client.write_all(piece).await.unwrap();
            time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(body(&ask(&client, b"").await), "[::2]:9");
    });
}

#[test]
fn a_peer_that_is_no_trusted_proxy_is_closed_whatever_it_says() {
    behind_proxy("10.0.0.0/8", async |address| {
        let begin = time::now();
        for header in ["", "PROXY TCP4 10.0.0.1 10.0.0.1 9 10\r\n"] {
            assert_eq!(ask_at(address, format!("{header}{}", get("/")).as_bytes()).await, "");
        }
        assert_eq!(time::now(), begin);
    });
}

#[test]
fn connections_with_a_malformed_proxy_header_are_closed() {
    behind_proxy("127.0.0.1", async |address| {
        let begin = time::now();
        let blocks = [
            get("/").into_bytes(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\n\n".to_vec(),
            b"PROXY TCP4 1.2.3.400 5.6.7.8 9 10\r\n".to_vec(),
            vec![b'P'; 200],
            b"PROXY UNKNOWN ".repeat(20),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            proxy_block(0x11, 0x11, &[0; 12]),
            proxy_block(0x21, 0x11, &[0; 3]),
            proxy_block(0x21, 0xff, &[0; 12]),
            proxy_block(0x21, 0x11, &[0; 5000]),
        ];
        for block in blocks {
            assert_eq!(ask_at(address, &block).await, "", "{block:?}");
        }
        assert_eq!((time::now() - begin).as_secs(), 0);
        for half in [b"PROXY TCP4 1.2".to_vec(), proxy_block(0x21, 0x11, &[0; 12])[..20].to_vec(), Vec::new()] {
            assert_eq!(ask_at(address, &half).await, "", "it has the time of a head");
        }
        assert_eq!((time::now() - begin).as_secs(), 9);
    });
}

#[test]
fn a_forwarded_header_counts_only_from_a_trusted_proxy_and_only_its_end() {
    let of = |trusted: &[&str], fields: &str| {
        let proxies = TrustedProxies::new(trusted).unwrap();
        paused(async {
            let server = Server::bind("127.0.0.1:0", app()).unwrap().trusted_proxies(proxies);
            let address = server.local_addr().unwrap();
            let running = spawn(server.run());
            let answer = ask_at(address, closing("/ip", fields).as_bytes()).await;
            running.abort();
            answer
        })
    };
    let spoofed = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n";
    for trusted in [[].as_slice(), &["10.0.0.0/8"], &["unix"]] {
        assert!(body(&of(trusted, spoofed)).starts_with("127.0.0.1:"), "{trusted:?}");
    }
    let appended = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 1.2.3.4, 10.0.0.7\r\nForwarded: for=6.6.6.6\r\n";
    assert_eq!(body(&of(&["127.0.0.1", "10.0.0.0/8"], appended)), "1.2.3.4:0");
    assert_eq!(body(&of(&["127.0.0.1"], appended)), "10.0.0.7:0");
    assert!(of(&["127.0.0.1"], "X-Forwarded-For: nonsense\r\n").starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_connection_that_is_served_by_hand_can_have_an_address() {
    paused(async {
        let server = Server::new(app());
        let address: SocketAddr = "192.0.2.1:7".parse().unwrap();
        for (peer, seen) in [(Peer::from(address), "192.0.2.1:7"), (Peer::Unix, "unix"), (Peer::Unknown, "unknown")] {
            let (client, wire) = UnixStream::pair().unwrap();
            client.write_all(closing("/peer", "").as_bytes()).await.unwrap();
            server.serve_connection_from(wire, peer).await;
            assert_eq!(body(&ask(client, b"").await), format!("{seen} by {seen}"));
        }
        server.local_addr().unwrap_err();
    });
}

/// Serves the connections of a listener as a program without `run` would, until the server stops.
async fn accept_by_hand(server: Rc<Server>, listener: TcpListener) {
    let accept = async {
        loop {
            let (stream, address) = listener.accept().await.unwrap();
            let server = Rc::clone(&server);
            drop(spawn(async move { server.serve_connection_from(stream, address).await }));
        }
    };
    postlude::task::race((accept, server.stopping())).await;
}

#[test]
fn an_accept_loop_of_ones_own_is_told_of_the_stop_drained_cut_and_reported() {
    let app = app().get("/slow", async || {
        time::sleep(2 * SECOND).await;
        "slow"
    });
    let app = app.get("/never", async || pending::<&str>().await);
    paused(async {
        let server = Server::new(app).on_task_error(|_, _| {});
        let server = Rc::new(server.limits(Limits { drain_limit: 5 * SECOND, ..Limits::default() }));
        let (listener, address) = tcp();
        let accepting = spawn(accept_by_hand(Rc::clone(&server), listener));
        assert_eq!(body(&ask_at(address, get("/task").as_bytes()).await), "accepted");
        let idle = TcpStream::connect(address).await.unwrap();
        let slow = spawn(async move { ask_at(address, get("/slow").as_bytes()).await });
        let never = spawn(async move { ask_at(address, get("/never").as_bytes()).await });
        time::sleep(SECOND).await;
        let begin = time::now();
        server.shutdown();
        accepting.await.unwrap();
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!((time::now() - begin).as_secs(), 0);
        let report = server.drain().await;
        assert_eq!((time::now() - begin).as_secs(), 5);
        assert_eq!((report.connections_cut, report.unfinished.len()), (1, 1), "{report}");
        assert_eq!((body(&slow.await.unwrap()), never.await.unwrap().as_str()), ("slow", ""));
    });
}

#[test]
fn tasks_of_connections_served_by_hand_are_reported_if_the_program_just_ends() {
    let told = Rc::new(RefCell::new(Vec::new()));
    let tell = Rc::clone(&told);
    paused(async {
        let hook = move |task: &postlude::deferred::Info, _: Option<&postlude::deferred::Fault>| {
            tell.borrow_mut().push((task.name.to_string(), task.status));
        };
        let server = Rc::new(Server::new(app()).on_task_error(hook));
        let (listener, address) = tcp();
        drop(spawn(accept_by_hand(server, listener)));
        assert_eq!(body(&ask_at(address, get("/task").as_bytes()).await), "accepted");
    });
    assert_eq!(*told.borrow(), [("endless".to_owned(), Status::Unfinished)]);
}
