//! A TCP echo server: a task per connection. `cargo run --example echo`, then `nc 127.0.0.1 7000`. Ctrl-C ends it.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::io;

use postlude::net::{TcpListener, TcpStream};

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

fn main() -> io::Result<()> {
    postlude::run(async {
        let listener = TcpListener::bind("127.0.0.1:7000")?;
        println!("echoing on {}", listener.local_addr()?);
        loop {
            let (stream, peer) = listener.accept().await?;
            postlude::spawn(async move {
                if let Err(error) = echo(stream).await {
                    eprintln!("{peer}: {error}");
                }
            });
        }
    })?
}
