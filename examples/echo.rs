//! A TCP echo server: a task per connection. `cargo run --example echo`, then `nc 127.0.0.1 7000`.
//! Ctrl-C ends it.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::io;
use std::process::ExitCode;

use postlude::net::{TcpListener, TcpStream};

const ADDRESS: &str = "127.0.0.1:7000";

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

async fn serve() -> Result<(), String> {
    let listener = TcpListener::bind(ADDRESS).map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    println!("echoing on {ADDRESS}");
    loop {
        let (stream, peer) = listener.accept().await.map_err(|error| format!("cannot accept: {error}"))?;
        postlude::spawn(async move {
            if let Err(error) = echo(stream).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

fn main() -> ExitCode {
    match postlude::run(serve()).unwrap_or_else(|error| Err(error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("echo: {text}");
            ExitCode::FAILURE
        }
    }
}
