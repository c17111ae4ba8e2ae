//! The server of this repository, as its documentation sets it up.

use std::net::TcpListener;
use std::rc::Rc;

use postlude::http::{BackgroundTasks, Event, Json, Response, Result, Router, Server, State, sse};
use postlude::sync::broadcast::{self, RecvError, Sender};
use postlude::{iter, net, time};

use super::{BYTES, EVENT, HELLO, MEDIUM, MESSAGE, TICK, background_work, ran};

type Ticks = State<Rc<Sender<()>>>;

async fn background(tasks: BackgroundTasks) -> Result<Response> {
    tasks.add(async { background_work() })?;
    Ok(Response::new(202).with_body("accepted"))
}

async fn events(State(ticks): Ticks) -> Response {
    let mut ticks = ticks.subscribe();
    sse(iter::generate(async move |out| {
        loop {
            match ticks.recv().await {
                Ok(_) => out.emit(Event::data(EVENT)).await,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }))
}

fn router(ticks: Rc<Sender<()>>) -> Router {
    Router::new()
        .state(ticks)
        .get("/plaintext", async || HELLO)
        .get("/json", async || Json(MESSAGE))
        .get("/background", background)
        .get("/ran", async || ran())
        .get("/medium", async || &BYTES[..MEDIUM])
        .get("/large", async || *BYTES)
        .post("/upload", async |body: Vec<u8>| body.len().to_string())
        .get("/events", events)
}

pub fn serve(listener: TcpListener) {
    let served = postlude::run(async {
        let (ticks, _) = broadcast::channel(64);
        let ticks = Rc::new(ticks);
        drop(postlude::spawn({
            let ticks = Rc::clone(&ticks);
            async move {
                let mut interval = time::interval(TICK);
                loop {
                    interval.tick().await;
                    // Without subscribers nobody listens.
                    let _ = ticks.send(());
                }
            }
        }));
        let listener = net::TcpListener::from_std(listener)?;
        Server::from_listener(listener, router(ticks)).run().await.map(drop)
    });
    served.and_then(|result| result).expect("the server runs until it is killed");
}
