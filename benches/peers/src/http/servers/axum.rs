//! axum on tokio's current_thread.

use std::convert::Infallible;
use std::net::TcpListener;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::net;
use tokio::runtime::Builder;
use tokio::sync::broadcast::{self, Sender};
use tokio_stream::wrappers::BroadcastStream;

use super::{BYTES, EVENT, HELLO, MEDIUM, MESSAGE, TICK, background_work, ran};

async fn background() -> (StatusCode, &'static str) {
    drop(tokio::spawn(async { background_work() }));
    (StatusCode::ACCEPTED, "accepted")
}

async fn events(State(ticks): State<Sender<()>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = BroadcastStream::new(ticks.subscribe());
    Sse::new(ticks.map(|_| Ok(Event::default().data(EVENT)))).keep_alive(KeepAlive::default())
}

fn router(ticks: Sender<()>) -> Router {
    Router::new()
        .route("/plaintext", get(async || HELLO))
        .route("/json", get(async || Json(MESSAGE)))
        .route("/background", get(background))
        .route("/ran", get(async || ran()))
        .route("/medium", get(async || &BYTES[..MEDIUM]))
        .route("/large", get(async || *BYTES))
        .route("/upload", post(async |body: Bytes| body.len().to_string()))
        .route("/events", get(events))
        .with_state(ticks)
}

pub fn serve(listener: TcpListener) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let serving = async {
        let (ticks, _) = broadcast::channel(64);
        let ticker = ticks.clone();
        drop(tokio::spawn(async move {
            let mut interval = tokio::time::interval(TICK);
            loop {
                interval.tick().await;
                // Without subscribers nobody listens.
                let _ = ticker.send(());
            }
        }));
        let listener = net::TcpListener::from_std(listener).expect("a listening socket");
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a connected socket"));
        axum::serve(listener, router(ticks)).await.expect("the server runs until it is killed");
    };
    runtime.block_on(async { tokio::spawn(serving).await.expect("the server does not panic") });
}
