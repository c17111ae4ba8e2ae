//! How much of the server's queue one client may hold: its address counts, not its connection.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use postlude::http::{BackgroundTasks, Error, Limits, Router, Server};
use postlude::net::TcpStream;
use postlude::task::{join, yield_now};
use postlude::{JoinHandle, spawn, time};
use socket2::{Domain, Socket, Type};

use crate::http::{connect, get, paused, read_until, server};

/// Leaves a task that runs until the cell is set.
fn router(over: &Rc<Cell<bool>>) -> Router {
    let over = Rc::clone(over);
    Router::new().get("/", async move |tasks: BackgroundTasks| {
        let over = Rc::clone(&over);
        tasks.add(async move {
            while !over.get() {
                time::sleep(Duration::from_millis(1)).await;
            }
        })?;
        Ok::<_, Error>("accepted")
    })
}

fn limits(all: usize, per_peer: usize) -> Limits {
    Limits { background_tasks: all, background_tasks_per_peer: per_peer, ..Limits::default() }
}

fn run(server: Server) -> (SocketAddr, JoinHandle<std::io::Result<postlude::http::ShutdownReport>>) {
    (server.local_addr().unwrap(), spawn(server.run()))
}

/// A client at `from`, one of the addresses of the loopback network.
fn client(from: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
    // The kernel accepts it, so this does not block.
    socket.connect(&to.into()).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

/// The answer to one request.
async fn ask(client: &TcpStream) -> String {
    client.write_all(get("/").as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let count = client.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[test]
fn a_client_that_holds_its_share_is_refused_and_others_are_not() {
    let over = Rc::new(Cell::new(false));
    paused(async {
        let (address, running) = run(server(router(&over)).limits(limits(100, 3)));
        let (one, two) = (client("127.0.0.1", address), client("127.0.0.1", address));
        for connection in [&one, &two, &one] {
            assert!(ask(connection).await.ends_with("accepted"));
        }
        let refused = ask(&two).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
        assert!(refused.contains("this client's share"), "it says which limit was met: {refused}");
        let other = client("127.0.0.2", address);
        assert!(ask(&other).await.ends_with("accepted"));
        // Connecting again gains nothing, not even when no other connection is left.
        drop((one, two, other));
        time::sleep(Duration::from_secs(1)).await;
        let again = client("127.0.0.1", address);
        assert!(ask(&again).await.starts_with("HTTP/1.1 503 "));
        over.set(true);
        time::sleep(Duration::from_secs(1)).await;
        assert!(ask(&again).await.ends_with("accepted"), "its tasks are over");
        drop(again);
        running.abort();
    });
}

#[test]
fn connections_without_an_address_have_no_share() {
    let over = Rc::new(Cell::new(false));
    paused(async {
        let server = Rc::new(server(router(&over)).limits(limits(100, 1)));
        let client = connect(&server);
        for _ in 0..5 {
            client.write_all(get("/").as_bytes()).await.unwrap();
            read_until(&client, "accepted").await;
        }
        assert_eq!(server.tasks().pending(), 5);
        over.set(true);
        server.tasks().idle().await;
    });
}

#[test]
fn the_default_lets_the_server_slow_a_proxy_down_before_it_refuses() {
    let Limits { background_tasks, background_tasks_per_peer, .. } = Limits::default();
    assert!(background_tasks_per_peer > background_tasks / 2, "half of all is where the server begins to pause");
    assert!(background_tasks_per_peer < background_tasks, "on by default");
    paused(async {
        // In proportion. The tasks are ready to run, so clients of one address wait.
        let router = Router::new().get("/", async |tasks: BackgroundTasks| {
            tasks.add(async {
                for _ in 0..50 {
                    yield_now().await;
                }
            })?;
            Ok::<_, Error>("accepted")
        });
        let (address, running) = run(server(router).limits(limits(40, 30)));
        let clients = (0..8).map(|_| async {
            let client = client("127.0.0.1", address);
            for _ in 0..50 {
                assert!(ask(&client).await.ends_with("accepted"));
            }
        });
        join(clients.collect::<Vec<_>>()).await;
        running.abort();
    });
}
