//! A WebSocket echo server: Postlude answers the handshake and hands the socket over,
//! async-tungstenite speaks the protocol on it.
//!
//! ```text
//! cargo run                # serves ws://127.0.0.1:9001/echo until Ctrl-C
//! cargo run -- --once      # a client in the same thread sends a text, checks that it comes back, and ends
//! ```

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use async_tungstenite::tungstenite::{Error, Message};
use futures_util::StreamExt;
use postlude::http::{Request, Response, Router, Server, ShutdownHandle, Stopping, Upgraded};
use postlude::net::TcpStream;
use postlude::task::race;

async fn echo(stopping: Stopping, request: Request) -> Response {
    // RFC 6455 section 4.2: the version is 13, and the key comes back hashed.
    let (version, key) = (request.field("sec-websocket-version"), request.field("sec-websocket-key"));
    let (Some(b"13"), Some(key)) = (version, key) else {
        return Response::new(400)
            .with_field("sec-websocket-version", "13")
            .with_body("this is a WebSocket of version 13");
    };
    let accept = derive_accept_key(key);
    Response::upgrade("websocket", async move |mut socket: Upgraded| {
        // It says goodbye itself, below.
        socket.outlive_stop();
        let mut socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
        let echo = async {
            while let Some(Ok(message)) = socket.next().await {
                let echoed = message.is_text() || message.is_binary();
                if echoed && socket.send(message).await.is_err() {
                    break;
                }
            }
        };
        race((echo, stopping)).await;
        // RFC 6455 section 7.1.2: both sides send a close frame.
        let closed = socket.close(Some(CloseFrame { code: CloseCode::Away, reason: "the server stops".into() })).await;
        while closed.is_ok() && socket.next().await.is_some_and(|message| message.is_ok()) {}
    })
    .with_field("sec-websocket-accept", accept)
}

/// Leaves by itself, and is sent away by the server's stop.
async fn try_once(address: &str, server: ShutdownHandle) -> Result<(), Error> {
    let stream = TcpStream::connect(address).await?;
    let (mut idle, _) = async_tungstenite::client_async(format!("ws://{address}/echo"), stream).await?;
    let stream = TcpStream::connect(address).await?;
    let (mut socket, answer) = async_tungstenite::client_async(format!("ws://{address}/echo"), stream).await?;
    assert_eq!(answer.status(), 101);
    for text in ["hello", &"x".repeat(200_000)] {
        socket.send(Message::text(text)).await?;
        assert_eq!(socket.next().await.expect("an echo")?, Message::text(text));
    }
    socket.close(None).await?;
    while let Some(message) = socket.next().await {
        assert!(message?.is_close());
    }
    server.shutdown();
    let goodbye = idle.next().await.expect("a close frame")?;
    assert!(matches!(goodbye, Message::Close(Some(CloseFrame { code: CloseCode::Away, .. }))), "{goodbye:?}");
    while let Some(message) = idle.next().await {
        message?;
    }
    println!("echoed");
    Ok(())
}

const USAGE: &str = "usage: websocket [--once]";

fn main() -> ExitCode {
    let mut once = false;
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--once" => once = true,
            "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("websocket: unknown argument {word:?}; {USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match run(once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("websocket: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(once: bool) -> io::Result<()> {
    let router = Router::new().get("/echo", echo);
    postlude::run(async move {
        if !once {
            let served = postlude::http::serve("127.0.0.1:9001", router).await;
            return served.map_err(|error| io::Error::other(format!("cannot serve on 127.0.0.1:9001: {error}")));
        }
        let server = Server::bind("127.0.0.1:0", router)?;
        let address = server.local_addr()?.to_string();
        let tried = Rc::new(Cell::new(None));
        let outcome = Rc::clone(&tried);
        let handle = server.shutdown_handle();
        let client = postlude::spawn(async move { outcome.set(Some(try_once(&address, handle).await)) });
        let report = server.run().await?;
        client.await.map_err(io::Error::other)?;
        assert_eq!(report.connections_cut, 0);
        tried.take().unwrap_or(Err(Error::ConnectionClosed)).map_err(io::Error::other)
    })?
}
