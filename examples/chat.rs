//! A chat server with a broadcast channel: `cargo run --example chat`, then `nc 127.0.0.1 9000`
//! from several terminals.
//!
//! The first line a client sends is its name, and every further line goes to all the others. Each
//! client is two loops in one scope, which ends as soon as one of them ends. A client that reads
//! too slowly misses lines, learns how many, and holds up no other client. Ctrl-C says goodbye and
//! ends.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::io;
use std::process::ExitCode;
use std::rc::Rc;

use futures::{AsyncWrite, AsyncWriteExt, Stream, StreamExt};
use postlude::net::{TcpListener, TcpStream};
use postlude::sync::broadcast::{self, RecvError};
use postlude::task::{self, CancelToken, JoinSet};
use postlude::{iter, signal};

const ADDRESS: &str = "127.0.0.1:9000";
const BACKLOG: usize = 100;
const LONGEST_LINE: usize = 1000;

struct Line {
    from: Rc<str>,
    text: String,
}

type Room = broadcast::Sender<Rc<Line>>;

fn say(room: &Room, from: &Rc<str>, text: String) {
    let line = Line { from: Rc::clone(from), text };
    // An error means that the room is empty.
    drop(room.send(Rc::new(line)));
}

/// Passes on what this client says, until it hangs up.
async fn listen(
    lines: &mut (impl Stream<Item = io::Result<String>> + Unpin),
    name: &Rc<str>,
    room: &Room,
) -> io::Result<()> {
    while let Some(line) = lines.next().await {
        say(room, name, format!("{name}: {}", line?));
    }
    Ok(())
}

/// Tells this client what the others say.
async fn tell(
    mut writer: impl AsyncWrite + Unpin,
    name: &Rc<str>,
    mut heard: broadcast::Receiver<Rc<Line>>,
) -> io::Result<()> {
    loop {
        let text = match heard.recv().await {
            Ok(line) if Rc::ptr_eq(&line.from, name) => continue,
            Ok(line) => format!("{}\n", line.text),
            Err(RecvError::Lagged(missed)) => format!("-- you missed {missed} lines\n"),
            Err(RecvError::Closed) => return Ok(()),
        };
        writer.write_all(text.as_bytes()).await?;
    }
}

async fn client(stream: TcpStream, room: Room) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    writer.write_all(b"-- your name?\n").await?;
    let mut lines = std::pin::pin!(iter::lines(reader).max_len(LONGEST_LINE));
    let Some(name) = lines.next().await.transpose()? else { return Ok(()) };
    let name: Rc<str> = name.trim().into();
    let heard = room.subscribe();
    say(&room, &name, format!("-- {name} has come"));
    let (_, ended) = task::race((listen(&mut lines, &name, &room), tell(writer, &name, heard))).await;
    say(&room, &name, format!("-- {name} has gone"));
    ended
}

async fn serve(listener: TcpListener, stop: CancelToken) {
    let (room, _) = broadcast::channel(BACKLOG);
    let mut clients = JoinSet::new();
    let mut incoming = std::pin::pin!(listener.incoming());
    while let Some(Some(accepted)) = stop.run_until_cancelled(incoming.next()).await {
        match accepted {
            Ok((stream, peer)) => drop(clients.spawn_named(peer.to_string(), client(stream, room.clone()))),
            Err(error) => println!("a client could not come in: {error}"),
        }
        forget_those_who_left(&mut clients);
    }
    say(&room, &"server".into(), "-- goodbye".to_owned());
    task::yield_now().await;
    forget_those_who_left(&mut clients);
    println!("said goodbye to {}", clients.len());
}

fn forget_those_who_left(clients: &mut JoinSet<io::Result<()>>) {
    while let Some(left) = clients.try_join_next() {
        if let Ok(Err(error)) = left {
            println!("a client was lost: {error}");
        }
    }
}

async fn run() -> Result<(), String> {
    let listener = TcpListener::bind(ADDRESS).map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    let mut ctrl_c = signal::ctrl_c().map_err(|error| format!("cannot listen for Ctrl-C: {error}"))?;
    println!("listening on {ADDRESS}; Ctrl-C ends");
    let stop = CancelToken::new();
    task::spawn({
        let stop = stop.clone();
        async move {
            if ctrl_c.recv().await.is_ok() {
                stop.cancel();
            }
        }
    });
    serve(listener, stop).await;
    Ok(())
}

fn main() -> ExitCode {
    match postlude::run(run()).unwrap_or_else(|error| Err(error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("chat: {text}");
            ExitCode::FAILURE
        }
    }
}
