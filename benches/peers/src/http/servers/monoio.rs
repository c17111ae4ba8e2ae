//! monoio with httparse: what a user of it would write for these paths, and no more.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;

use local_sync::mpsc::unbounded::{self, Tx};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use monoio::{LegacyDriver, RuntimeBuilder, net, time};

use super::floor::{Head, append_response, event_chunk, event_head};
use super::{TICK, background_work};

type Subscribers = Rc<RefCell<Vec<Tx<()>>>>;

/// Reads a request's head with httparse.
fn parse(bytes: &[u8]) -> Option<Head<'_>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = request.parse(bytes).expect("the client's heads are valid") else {
        return None;
    };
    let field = |name: &str| request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let body = field("content-length").and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    Some(Head {
        length,
        body: body.unwrap_or(0),
        closes: field("connection").is_some_and(|field| field.value.eq_ignore_ascii_case(b"close")),
        path: request.path.unwrap_or("/"),
    })
}

async fn subscribe(stream: &mut TcpStream, subscribers: &Subscribers) {
    let (sender, mut ticks) = unbounded::channel();
    subscribers.borrow_mut().push(sender);
    let (mut written, _) = stream.write_all(event_head().to_vec()).await;
    while written.is_ok() && ticks.recv().await.is_some() {
        (written, _) = stream.write_all(event_chunk().to_vec()).await;
    }
}

async fn serve_connection(mut stream: TcpStream, subscribers: Subscribers) {
    let (mut bytes, mut answers) = (Vec::new(), Vec::new());
    let mut piece = vec![0; 16 << 10];
    loop {
        let mut used = 0;
        let mut closes = false;
        while let Some(head) = parse(&bytes[used..]).filter(|head| used + head.length + head.body <= bytes.len()) {
            used += head.length + head.body;
            closes |= head.closes;
            match head.path {
                "/events" => return subscribe(&mut stream, &subscribers).await,
                "/background" => drop(monoio::spawn(async { background_work() })),
                _ => {}
            }
            append_response(&head, &mut answers);
        }
        bytes.drain(..used);
        if !answers.is_empty() {
            let (written, mut back) = stream.write_all(std::mem::take(&mut answers)).await;
            if written.is_err() || closes {
                return;
            }
            back.clear();
            answers = back;
        }
        let (read, back) = stream.read(piece).await;
        piece = back;
        match read {
            Ok(1..) => bytes.extend_from_slice(&piece),
            // The client is gone.
            Ok(0) | Err(_) => return,
        }
    }
}

pub fn serve(listener: TcpListener) {
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().expect("a runtime");
    runtime.block_on(async {
        let subscribers = Subscribers::default();
        drop(monoio::spawn({
            let subscribers = Rc::clone(&subscribers);
            async move {
                let mut interval = time::interval(TICK);
                loop {
                    interval.tick().await;
                    subscribers.borrow_mut().retain(|subscriber| subscriber.send(()).is_ok());
                }
            }
        }));
        let listener = net::TcpListener::from_std(listener).expect("a listening socket");
        loop {
            let (stream, _) = listener.accept().await.expect("there are descriptors");
            stream.set_nodelay(true).expect("a connected socket");
            drop(monoio::spawn(serve_connection(stream, Rc::clone(&subscribers))));
        }
    });
}
