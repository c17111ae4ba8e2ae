//! Sign-ups that send a mail after the response, through a mail server as slow as a real one.
//!
//! The mail server is part of this program: it takes 200 ms for each line, answers `451` the first
//! time it hears of an address that begins with `grey`, and `550` to one that begins with `nobody`.
//!
//! ```text
//! cargo run --example notifications
//! curl -i -X POST http://127.0.0.1:8000/sign-up/ada@example.com      # at once; the mail 1.2 s later
//! curl -i -X POST http://127.0.0.1:8000/sign-up/grey@example.com     # the second try succeeds
//! curl -i -X POST http://127.0.0.1:8000/sign-up/nobody@example.com   # no second try
//! curl -i -X POST http://127.0.0.1:8000/sign-up/ada                  # 422: only the operator is told
//! ```
//!
//! Ctrl-C within a second of the first: the mail is still sent. A second Ctrl-C does not wait.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::StreamExt;
use postlude::deferred::{Lane, Queue, Retry, Running};
use postlude::http::{BackgroundTasks, Error, Path, Result, Router, Server, State};
use postlude::net::{TcpListener, TcpStream};
use postlude::{iter, spawn, time};

const USAGE: &str = "usage: notifications [--port N]";

/// The address of the mail server.
#[derive(Clone, Copy)]
struct Mail(SocketAddr);

impl Mail {
    async fn send(self, to: &str) -> io::Result<()> {
        let stream = TcpStream::connect(self.0).await?;
        let mut answers = iter::lines(&stream);
        let (from, to) = ("MAIL FROM:<shop@example.com>", format!("RCPT TO:<{to}>"));
        for line in ["HELO shop", from, &to, "DATA", "Welcome!\r\n.", "QUIT"] {
            stream.write_all(format!("{line}\r\n").as_bytes()).await?;
            let answer = answers.next().await.unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()))?;
            match answer.as_bytes().first() {
                Some(b'2' | b'3') => {}
                Some(b'4') => return Err(io::Error::new(io::ErrorKind::WouldBlock, answer)),
                _ => return Err(io::Error::other(answer)),
            }
        }
        Ok(())
    }
}

async fn sign_up(Path(address): Path<String>, State(mail): State<Mail>, tasks: BackgroundTasks) -> Result<String> {
    let (to, refused) = (address.clone(), address.clone());
    tasks.task("tell the operator").on_failure().run(async move || say(&format!("refused: {refused}")))?;
    tasks.task("audit").always().run(async |job: Running| say(&format!("audit: {:?}", job.outcome())))?;
    if !address.contains('@') {
        return Err(Error::new(422, "an address has an @"));
    }
    tasks
        .task("welcome mail")
        .lane("mail")
        .timeout(Duration::from_secs(10))
        .retry(Retry::times(3).only(is_temporary))
        .run(async move |job: Running| {
            say(&format!("mail to {to}, try {}", job.attempt()));
            mail.send(&to).await?;
            say(&format!("mail to {to} sent"));
            Ok::<_, io::Error>(())
        })?;
    tasks.task("the code was shown").only_delivered().run(async || say("the code was shown"))?;
    Ok(format!("{address} is signed up; your code is 4711\n"))
}

fn is_temporary(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// The mail server.
async fn receive(listener: TcpListener) -> io::Result<()> {
    let known = Rc::new(RefCell::new(HashSet::new()));
    loop {
        let ((stream, _), known) = (listener.accept().await?, Rc::clone(&known));
        drop(spawn(async move {
            let mut lines = iter::lines(&stream);
            while let Some(Ok(line)) = lines.next().await {
                time::sleep(Duration::from_millis(200)).await;
                let answer = match line.as_str() {
                    "DATA" => "354 go on",
                    "Welcome!" => continue,
                    line if line.contains("<nobody") => "550 no such mailbox",
                    line if line.contains("<grey") && known.borrow_mut().insert(line.to_owned()) => "451 come again",
                    _ => "250 ok",
                };
                stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
            }
            io::Result::Ok(())
        }));
    }
}

async fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mail = Mail(listener.local_addr()?);
    let _receiver = spawn(receive(listener)).abort_on_drop();
    let app = Router::new().state(mail).post("/sign-up/{address}", sign_up);
    // Without this hook stderr is told.
    let queue = Queue::builder()
        .lane(Lane::on_loop("mail").at_once(4).waiting(1_000))
        .on_fault(|task, _| say(&task.to_string()))
        .build();
    let server = Server::bind(("127.0.0.1", port), app)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on 127.0.0.1:{port}: {error}")))?
        .queue(queue)
        .shutdown_on_signals();
    say(&format!("listening on http://{}", server.local_addr()?));
    let report = server.run().await?;
    say(&report.to_string());
    Ok(())
}

/// Writes a line. A closed stdout is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let port = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(8000),
        ["--port", port] => port.parse().map_err(|_| format!("--port does not take {port:?}")),
        ["--help"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => Err(format!("unknown arguments {words:?}")),
    };
    let (text, code) = match port.map(|port| postlude::run(serve(port)).and_then(|served| served)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (error.to_string(), 1),
        Err(text) => (format!("{text}; {USAGE}"), 2),
    };
    let _ = writeln!(io::stderr(), "notifications: {text}");
    ExitCode::from(code)
}
