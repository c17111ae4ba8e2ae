//! One port, a runtime per thread: each thread has a listener of its own on the same port, and the
//! system spreads the connections.
//!
//! This is how a single-threaded runtime uses all cores. The threads share no queue and no lock,
//! and an accepted socket stays on its thread. So the system spreads connections, not load.
//!
//! ```text
//! cargo run --example reuse_port            # until Ctrl-C; then: echo hello | nc 127.0.0.1 PORT
//! cargo run --example reuse_port -- --once  # each thread ends after one connection
//! ```

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;

use postlude::net::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};

/// Connections that may wait to be accepted, per listener.
const BACKLOG: i32 = 1024;

/// Of a longer line only this many bytes are sent back.
const LONGEST_LINE: usize = 1024;

const USAGE: &str = "usage: reuse_port [--once]";

fn main() -> ExitCode {
    let mut once = false;
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--once" => once = true,
            "--help" => {
                print(USAGE);
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("reuse_port: unknown argument {word:?}; {USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match run(once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reuse_port: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(once: bool) -> io::Result<()> {
    let threads = thread::available_parallelism()?.get();

    // All listen before the first connection comes: a listener that joins or leaves moves
    // connections that are being made.
    let first = listen("127.0.0.1:0".parse().expect("an address"))?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(listen(address)?);
    }
    print(&format!("listening on {address} with {threads} threads"));

    let threads: Vec<_> = listeners
        .into_iter()
        .enumerate()
        .map(|(number, listener)| thread::spawn(move || postlude::run(serve(listener, number, once))?))
        .collect();
    for thread in threads {
        thread.join().expect("no thread panics")?;
    }
    Ok(())
}

/// A listener that lets others of the same user listen on its port too: `SO_REUSEPORT`, socket(7).
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn serve(listener: TcpListener, number: usize, once: bool) -> io::Result<()> {
    loop {
        let (stream, client) = listener.accept().await?;
        let answer = postlude::spawn(async move {
            match echo_line(&stream).await {
                Ok(()) => print(&format!("thread {number} answered {client}")),
                Err(error) => eprintln!("thread {number} lost {client}: {error}"),
            }
        });
        if once {
            return answer.await.map_err(io::Error::other);
        }
    }
}

/// Sends one line back, or what came of it before the end.
async fn echo_line(stream: &TcpStream) -> io::Result<()> {
    let mut line = [0; LONGEST_LINE];
    let mut len = 0;
    while len < line.len() {
        let read = stream.read(&mut line[len..]).await?;
        let end = line[len..len + read].iter().position(|&byte| byte == b'\n');
        len += end.map_or(read, |end| end + 1);
        if read == 0 || end.is_some() {
            break;
        }
    }
    stream.write_all(&line[..len]).await
}

#[allow(clippy::print_stdout, reason = "an example speaks to the terminal")]
fn print(line: &str) {
    println!("{line}");
}
