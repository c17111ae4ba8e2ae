//! hyper on tokio's `LocalRuntime`: a match in place of a router.

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::broadcast::{self, Sender};
use tokio::task::spawn_local;
use tokio_stream::wrappers::BroadcastStream;

use super::{BYTES, EVENT, HELLO, MEDIUM, MESSAGE, TICK, background_work, ran};

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn with(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes.into()).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn events(ticks: &Sender<()>) -> Response<Body> {
    let ticks = BroadcastStream::new(ticks.subscribe());
    let event = Bytes::from(format!("data: {EVENT}\n\n"));
    let events: Pin<Box<dyn Stream<Item = _> + Send>> =
        Box::pin(ticks.map(move |_| Ok::<_, Infallible>(Frame::data(event.clone()))));
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

async fn answer(request: Request<Incoming>, ticks: &Sender<()>) -> Result<Response<Body>, hyper::Error> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const BINARY: &str = "application/octet-stream";
    let response = match (request.method(), request.uri().path()) {
        (&Method::GET, "/plaintext") => with(TEXT, HELLO),
        (&Method::GET, "/json") => with("application/json", serde_json::to_vec(&MESSAGE).expect("it has only strings")),
        (&Method::GET, "/background") => {
            drop(spawn_local(async { background_work() }));
            let mut response = with(TEXT, "accepted");
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
        (&Method::GET, "/ran") => with(TEXT, ran()),
        (&Method::GET, "/medium") => with(BINARY, Bytes::from_static(&BYTES[..MEDIUM])),
        (&Method::GET, "/large") => with(BINARY, Bytes::from_static(&BYTES)),
        (&Method::POST, "/upload") => {
            let body = request.into_body().collect().await?.to_bytes();
            with(TEXT, body.len().to_string())
        }
        (&Method::GET, "/events") => events(ticks),
        _ => {
            let mut response = with(TEXT, "not found");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    Ok(response)
}

pub fn serve(listener: TcpListener) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
    runtime.block_on(async {
        let (ticks, _) = broadcast::channel(64);
        let ticker = ticks.clone();
        drop(spawn_local(async move {
            let mut interval = tokio::time::interval(TICK);
            loop {
                interval.tick().await;
                // Without subscribers nobody listens.
                let _ = ticker.send(());
            }
        }));
        let accept = spawn_local(async move {
            let listener = net::TcpListener::from_std(listener).expect("a listening socket");
            loop {
                let (stream, _) = listener.accept().await.expect("there are descriptors");
                stream.set_nodelay(true).expect("a connected socket");
                let ticks = ticks.clone();
                drop(spawn_local(async move {
                    let service = service_fn(|request| answer(request, &ticks));
                    let mut http = http1::Builder::new();
                    http.timer(TokioTimer::new()).pipeline_flush(true);
                    // A client that goes away is no failure.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                }));
            }
        });
        accept.await.expect("the server runs until it is killed");
    });
}
