//! Fetches pages in parallel, in a scope whose children borrow:
//! `cargo run --example fetch [-- HOST:PORT/PATH ...]`.
//!
//! Without arguments it starts its own small server with slow pages, and fetches three of them and
//! then one that does not exist. The first failure ends the scope: the other requests are dropped,
//! and their connections closed, before the scope returns.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::cell::Cell;
use std::io::{self, Error, ErrorKind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, StreamExt};
use postlude::net::{TcpListener, TcpStream};
use postlude::{task, time};

const LIMIT: Duration = Duration::from_secs(10);
const LARGEST: u64 = 1 << 20;

/// The body of `HOST:PORT/PATH`.
async fn fetch(address: &str) -> io::Result<String> {
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let stream = TcpStream::connect(host).await?;
    stream.write_all(format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LARGEST).read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::InvalidData)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        status => Err(Error::other(format!("{address}: status {}", status.unwrap_or("missing")))),
    }
}

/// Fetches all, or fails with the first that fails.
async fn fetch_all(addresses: &[String]) -> io::Result<usize> {
    let total = Cell::new(0);
    let all = task::scope(async |s| {
        for address in addresses {
            let total = &total;
            s.named(address.as_str()).try_spawn(async move {
                let started = Instant::now();
                let body = time::timeout(LIMIT, fetch(address)).await.map_err(|_| ErrorKind::TimedOut)??;
                println!("{address}: {} bytes after {} ms", body.len(), started.elapsed().as_millis());
                total.set(total.get() + body.len());
                Ok(())
            });
        }
        Ok(())
    });
    match all.await {
        Ok(()) => Ok(total.get()),
        Err(failed) => Err(failed.first.into_error().unwrap_or_else(|| Error::other("a child panicked"))),
    }
}

/// Answers `/MS` after so many milliseconds, and anything else with 404.
async fn serve(listener: TcpListener) {
    let mut incoming = std::pin::pin!(listener.incoming());
    while let Some(Ok((stream, _))) = incoming.next().await {
        task::spawn(async move {
            let mut request = [0; 256];
            let read = stream.read(&mut request).await?;
            let path = String::from_utf8_lossy(&request[..read]).split(' ').nth(1).unwrap_or("/").to_owned();
            let answer = match path[1..].parse() {
                Ok(wait) => {
                    time::sleep(Duration::from_millis(wait)).await;
                    format!("HTTP/1.0 200 OK\r\n\r\nthis took {wait} ms\n")
                }
                Err(_) => "HTTP/1.0 404 Not Found\r\n\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await
        });
    }
}

const USAGE: &str = "usage: fetch [HOST:PORT/PATH ...]";

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if given.iter().any(|word| word == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if let Some(word) = given.iter().find(|word| word.starts_with('-')) {
        eprintln!("fetch: unknown argument {word:?}; {USAGE}");
        return ExitCode::from(2);
    }
    match run(&given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fetch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(given: &[String]) -> io::Result<()> {
    postlude::run(async {
        if !given.is_empty() {
            println!("{} bytes", fetch_all(given).await?);
            return Ok(());
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let own = listener.local_addr()?;
        task::spawn(serve(listener));
        let pages = |paths: &[&str]| paths.iter().map(|path| format!("{own}/{path}")).collect::<Vec<_>>();

        let started = Instant::now();
        let bytes = fetch_all(&pages(&["300", "200", "100"])).await?;
        println!("{bytes} bytes in {} ms: in parallel", started.elapsed().as_millis());

        let error = fetch_all(&pages(&["5000", "missing"])).await.expect_err("one page is missing");
        println!("{error}; the page that takes 5 s was not waited for");
        Ok(())
    })?
}
