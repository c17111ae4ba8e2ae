//! Places for connections: the longest idle one gives way to a new one, and no busy one does.

use std::net::SocketAddr;
use std::time::Duration;

use postlude::http::{Limits, Router, ShutdownReport};
use postlude::net::TcpStream;
use postlude::task::AbortOnDrop;
use postlude::{Runtime, spawn, time};

use crate::http::{get, server};

const SECOND: Duration = Duration::from_secs(1);
/// The time for what happens at once, on a busy machine.
const SOON: Duration = Duration::from_secs(5);

fn run(most: usize) -> (SocketAddr, AbortOnDrop<std::io::Result<ShutdownReport>>) {
    let router = Router::new().get("/", async || "hello").get("/slow", async || {
        time::sleep(SECOND / 2).await;
        "slow"
    });
    let server = server(router).limits(Limits { max_connections: most, ..Limits::default() });
    (server.local_addr().unwrap(), spawn(server.run()).abort_on_drop())
}

fn real<T>(test: impl AsyncFnOnce() -> T) -> T {
    Runtime::new().unwrap().block_on(test()).unwrap()
}

async fn client(address: SocketAddr, sends: &str) -> TcpStream {
    let client = TcpStream::connect(address).await.unwrap();
    client.write_all(sends.as_bytes()).await.unwrap();
    // So that the server sees them in this order.
    time::sleep(SECOND / 50).await;
    client
}

async fn answer(client: &TcpStream) -> String {
    let mut buffer = [0; 1024];
    let count = time::timeout(SOON, client.read(&mut buffer)).await.expect("an answer in time").unwrap_or(0);
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// Whether the server has neither closed it nor sent anything.
async fn is_open(client: &TcpStream) -> bool {
    time::timeout(SECOND / 50, client.read(&mut [0; 1])).await.is_err()
}

#[test]
fn the_longest_idle_connection_gives_way_to_a_new_one() {
    real(async || {
        let (address, _server) = run(3);
        let silent = client(address, "").await;
        let kept_alive = client(address, &get("/")).await;
        assert!(answer(&kept_alive).await.ends_with("hello"));
        let other = client(address, "").await;
        let new = client(address, &get("/")).await;
        assert!(answer(&new).await.ends_with("hello"));
        assert_eq!(answer(&silent).await, "", "it was closed");
        assert!(is_open(&kept_alive).await && is_open(&other).await);
        // One that asks is the youngest again.
        kept_alive.write_all(get("/").as_bytes()).await.unwrap();
        assert!(answer(&kept_alive).await.ends_with("hello"));
        let next = client(address, &get("/")).await;
        assert!(answer(&next).await.ends_with("hello"));
        assert_eq!(answer(&other).await, "");
        assert!(is_open(&kept_alive).await && is_open(&new).await);
    });
}

#[test]
fn a_thousand_silent_connections_keep_no_client_out() {
    real(async || {
        let (address, _server) = run(10);
        let mut silent = Vec::new();
        for n in 0..300 {
            silent.push(TcpStream::connect(address).await.unwrap());
            if n % 100 == 99 {
                let new = client(address, &get("/")).await;
                assert!(answer(&new).await.ends_with("hello"));
            }
        }
    });
}

#[test]
fn half_a_head_is_idle_however_often_a_byte_of_it_comes() {
    real(async || {
        let (address, _server) = run(2);
        let dribbling = client(address, "GET / HTTP/1.1\r\nHost: te").await;
        let silent = client(address, "").await;
        dribbling.write_all(b"s").await.unwrap();
        time::sleep(SECOND / 50).await;
        let new = client(address, &get("/")).await;
        assert!(answer(&new).await.ends_with("hello"));
        assert_eq!(answer(&dribbling).await, "", "it is the longest idle one");
        assert!(is_open(&silent).await);
    });
}

#[test]
fn a_busy_connection_does_not_give_way() {
    real(async || {
        let (address, _server) = run(2);
        let (one, two) = (client(address, &get("/slow")).await, client(address, &get("/slow")).await);
        let new = client(address, &get("/")).await;
        assert!(is_open(&new).await, "it waits in the kernel");
        assert!(answer(&one).await.ends_with("slow") && answer(&two).await.ends_with("slow"));
        assert!(answer(&new).await.ends_with("hello"), "they are idle now, and one has given way");
    });
}

#[test]
fn a_connection_that_is_asked_to_give_way_still_answers_a_request_that_has_come() {
    real(async || {
        let (address, _server) = run(1);
        for _ in 0..20 {
            let first = client(address, "").await;
            // Both arrive before the loop's next turn.
            let second = TcpStream::connect(address).await.unwrap();
            first.write_all(get("/").as_bytes()).await.unwrap();
            second.write_all(get("/").as_bytes()).await.unwrap();
            let heard = answer(&first).await;
            assert!(heard.is_empty() || heard.ends_with("hello"), "{heard}");
            assert!(answer(&second).await.ends_with("hello"));
        }
    });
}
