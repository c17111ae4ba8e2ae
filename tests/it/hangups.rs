//! Clients that go, and what their connections do. A reset shows with real TCP only, so most of
//! these have real sockets and the real clock; bounds are generous.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{AsyncReadExt, StreamExt, stream};
use futures_io::{AsyncRead, AsyncWrite};
use postlude::deferred::{Outcome, Running};
use postlude::http::{
    BackgroundTasks, Body, ClientGone, Error, Event, Limits, Response, Router, Server, Upgraded, sse,
};
use postlude::net::TcpStream;
use postlude::sync::Notify;
use postlude::task::AbortOnDrop;
use postlude::{JoinHandle, spawn, task, time};
use socket2::SockRef;

use crate::http::{connect, get, paused, post, read_to_end, read_until, server};

const SECOND: Duration = Duration::from_secs(1);
/// The time for what happens at once, on a busy machine; shorter than the default `half_close`.
const SOON: Duration = Duration::from_millis(900);
/// The time after which nothing happens any more.
const LATER: Duration = Duration::from_millis(2500);

/// Counts the values that are alive.
#[derive(Clone, Default)]
struct Alive(Rc<Cell<usize>>);

impl Alive {
    fn one(&self) -> One {
        self.0.set(self.0.get() + 1);
        One(self.clone())
    }

    fn count(&self) -> usize {
        self.0.get()
    }
}

struct One(Alive);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.set(self.0.count() - 1);
    }
}

/// A stream that gives one piece and then nothing.
fn silent(alive: &Alive) -> impl stream::Stream<Item = io::Result<Vec<u8>>> + use<> {
    let one = alive.one();
    let rest = stream::pending().inspect(move |_: &io::Result<Vec<u8>>| {
        let _ = &one;
    });
    stream::iter([Ok(b"first".to_vec())]).chain(rest)
}

fn app(alive: &Alive) -> Router {
    let (alive, held) = (alive.clone(), alive.clone());
    let busy = || stream::unfold((), async |()| Some((Ok(b"piece".to_vec()), time::sleep(SECOND / 50).await)));
    Router::new()
        .get("/", async || "hello")
        .post("/", async |body: Vec<u8>| body)
        .get("/late", async || {
            time::sleep(SECOND).await;
            "late"
        })
        .get("/never", async || std::future::pending::<&str>().await)
        .get("/silent", async move || Response::stream(silent(&alive)))
        .get("/sized", async move || Response::stream_sized(100, silent(&held)))
        .get("/busy", async move || Response::stream(busy()))
        .get("/sse", async || sse(stream::iter([Event::data("first")]).chain(stream::pending())))
        .get("/upgrade", async || {
            Response::upgrade("test", async |mut client: Upgraded| drop(client.read_to_end(&mut Vec::new()).await))
        })
}

/// Runs a server for one client at a time, in a task.
fn run(server: Server) -> (SocketAddr, AbortOnDrop<io::Result<postlude::http::ShutdownReport>>) {
    let address = server.local_addr().unwrap();
    (address, spawn(server.run()).abort_on_drop())
}

fn for_clients(max_connections: usize, router: Router) -> Server {
    server(router).limits(Limits { max_connections, ..Limits::default() })
}

/// Connects, sends, and reads on and on in a task, until it is told to stop.
struct Client {
    stream: Rc<TcpStream>,
    read: Rc<RefCell<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Client {
    async fn send(address: SocketAddr, bytes: &str) -> Self {
        let stream = Rc::new(TcpStream::connect(address).await.unwrap());
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let read = Rc::new(RefCell::new(Vec::new()));
        let (source, all) = (Rc::clone(&stream), Rc::clone(&read));
        let reading = spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = source.read(&mut buffer).await {
                all.borrow_mut().extend_from_slice(&buffer[..count]);
            }
        });
        Self { stream, read, reading }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read.borrow()).into_owned()
    }

    async fn has_read(&self, end: &str) {
        let has_read = async {
            while !self.text().contains(end) {
                time::sleep(Duration::from_millis(1)).await;
            }
        };
        time::timeout(10 * SECOND, has_read).await.unwrap_or_else(|_| panic!("{end:?} comes: {}", self.text()));
    }

    /// Stops sending, and reads the rest.
    async fn rest(self) -> String {
        self.stream.shutdown(Shutdown::Write).unwrap();
        time::timeout(10 * SECOND, self.reading).await.expect("the connection ends").unwrap();
        String::from_utf8_lossy(&self.read.borrow()).into_owned()
    }

    async fn close(self) {
        self.reading.abort();
        let _ = self.reading.await;
        drop(Rc::into_inner(self.stream).expect("nothing else holds the socket"));
    }

    async fn reset(self) {
        SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        self.close().await;
    }
}

/// Gives the time in which a client is answered; `None` if it is not.
async fn answered(address: SocketAddr) -> Option<Duration> {
    let begin = time::now();
    let client = Client::send(address, &get("/")).await;
    let answer = async {
        while !client.text().ends_with("hello") {
            time::sleep(Duration::from_millis(1)).await;
        }
    };
    let time = time::timeout(LATER, answer).await.ok().map(|()| time::now() - begin);
    client.close().await;
    time
}

/// What happens to a connection in a state when its client resets it, ends its sending but reads
/// on, closes it, or does nothing. "ends": at once. "after": when `half_close` is over. "-": it
/// goes on. (Without a request it gives way to the next client, whatever its own does.)
const MATRIX: [(&str, [&str; 4]); 9] = [
    ("idle", ["ends", "ends", "ends", "ends"]),
    ("half a head", ["ends", "ends", "ends", "ends"]),
    ("half a body", ["ends", "ends", "ends", "-"]),
    ("handler waiting", ["ends", "-", "-", "-"]),
    ("known length", ["ends", "-", "-", "-"]),
    ("stream silent", ["ends", "after", "after", "-"]),
    ("stream busy", ["ends", "-", "ends", "-"]),
    ("sse", ["ends", "-", "ends", "-"]),
    ("upgraded", ["ends", "ends", "ends", "-"]),
];

/// The request that leads to a state, and the text that shows it.
fn way_to(state: &str) -> (String, &'static str) {
    match state {
        "idle" => (get("/"), "hello"),
        "half a head" => (get("/") + "GET / HT", "hello"),
        "half a body" => (get("/") + &post("/", "", "").replace(": 0", ": 10") + "body", "hello"),
        "handler waiting" => (get("/") + &get("/never"), "hello"),
        "known length" => (get("/sized"), "first"),
        "stream silent" => (get("/silent"), "first"),
        "stream busy" => (get("/busy"), "piece"),
        "sse" => (get("/sse"), "first"),
        "upgraded" => {
            let upgrade = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n";
            (upgrade.to_owned(), "101")
        }
        _ => unreachable!(),
    }
}

/// One field of the matrix: a server with place for one client, whose place another one takes.
async fn field(state: &str, end: usize) -> &'static str {
    let (address, _running) = run(for_clients(1, app(&Alive::default())));
    let (request, shows) = way_to(state);
    let client = Client::send(address, &request).await;
    client.has_read(shows).await;
    time::sleep(SECOND / 20).await;
    let mut held = None;
    match end {
        0 => client.reset().await,
        1 => {
            client.stream.shutdown(Shutdown::Write).unwrap();
            held = Some(client);
        }
        2 => client.close().await,
        _ => held = Some(client),
    }
    let found = match answered(address).await {
        None => "-",
        Some(time) if time < SOON => "ends",
        Some(_) => "after",
    };
    drop(held);
    found
}

#[test]
fn the_end_of_a_client_is_heard_in_every_state() {
    let fields = || async {
        let rows = MATRIX
            .map(|(state, _)| async move { (state, task::join([0, 1, 2, 3].map(|end| field(state, end))).await) });
        task::join(rows).await
    };
    let found = postlude::run(fields()).unwrap();
    assert_eq!(found, MATRIX, "left: what happened");
}

#[test]
fn as_many_resets_as_there_are_places_leave_the_server_free() {
    postlude::run(async {
        let alive = Alive::default();
        let (address, _running) = run(for_clients(20, app(&alive)));
        let mut clients = Vec::new();
        for _ in 0..20 {
            let client = Client::send(address, &get("/silent")).await;
            client.has_read("first").await;
            clients.push(client);
        }
        assert_eq!(alive.count(), 20);
        for client in clients {
            client.reset().await;
        }
        let time = answered(address).await.expect("the places are free");
        assert!(time < SOON, "{time:?}");
        assert_eq!(alive.count(), 0, "the streams are dropped");
    })
    .unwrap();
}

/// A handler that waits to be told, adds a task before and after, and answers.
fn waiting(go: &Rc<Notify>, said: &Rc<RefCell<Vec<String>>>, alive: &Alive) -> Router {
    let (go, said, alive) = (Rc::clone(go), Rc::clone(said), alive.clone());
    let router = Router::new().get("/", async || "hello");
    router.get("/wait", async move |tasks: BackgroundTasks, gone: ClientGone| {
        let _one = alive.one();
        let note = |name: &'static str| {
            let said = Rc::clone(&said);
            async move |job: Running| said.borrow_mut().push(format!("{name} {:?}", job.outcome()))
        };
        tasks.task("before").run(note("before"))?;
        go.notified().await;
        tasks.task("after").run(note("after"))?;
        tasks.task("delivered").only_delivered().run(note("delivered"))?;
        said.borrow_mut().push(format!("gone: {}", gone.is_gone()));
        Ok::<_, Error>("answer")
    })
}

#[test]
fn a_handler_and_its_tasks_run_to_their_end_without_their_client_and_a_stop_waits_for_them() {
    postlude::run(async {
        let (go, said, alive) = (Rc::new(Notify::new()), Rc::default(), Alive::default());
        let stop = Rc::new(Notify::new());
        let stopped = Rc::clone(&stop);
        let server = for_clients(1, waiting(&go, &said, &alive)).shutdown_on(async move { stopped.notified().await });
        let (address, running) = run(server);
        let client = Client::send(address, &get("/wait")).await;
        time::sleep(SECOND / 20).await;
        assert_eq!(alive.count(), 1);
        client.reset().await;
        assert!(answered(address).await.expect("the place is free") < SOON);
        assert_eq!((alive.count(), said.borrow().len()), (1, 0), "the handler still runs");
        stop.notify_one();
        time::sleep(SECOND / 20).await;
        assert!(!running.is_finished(), "the stop waits for the handler");
        go.notify_one();
        let report = time::timeout(10 * SECOND, running).await.unwrap().unwrap().unwrap();
        assert_eq!((report.connections_cut, report.unfinished.len()), (0, 0));
        let aborted = format!("{:?}", Some(Outcome::Aborted));
        let expected = ["gone: true".to_owned(), format!("before {aborted}"), format!("after {aborted}")];
        assert_eq!(said.borrow()[..], expected);
    })
    .unwrap();
}

#[test]
fn clients_that_reset_cannot_start_any_number_of_handlers() {
    postlude::run(async {
        let (go, alive) = (Rc::new(Notify::new()), Alive::default());
        let (address, _running) = run(for_clients(2, waiting(&go, &Rc::default(), &alive)));
        for _ in 0..4 {
            let client = Client::send(address, &get("/wait")).await;
            time::sleep(SECOND / 20).await;
            client.reset().await;
        }
        assert_eq!(answered(address).await, None, "two handlers have no place, and two have kept theirs");
        assert_eq!(alive.count(), 4);
        go.notify_one();
        assert!(answered(address).await.expect("one of them has ended") < SOON);
    })
    .unwrap();
}

#[test]
fn a_client_that_has_ended_its_sending_gets_the_whole_answer() {
    postlude::run(async {
        let late = async || {
            time::sleep(SECOND * 3 / 2).await;
            vec![b'x'; 4_000_000]
        };
        let pieces = |count: u32, pause: Duration| {
            stream::iter(0..count).then(move |n| async move {
                time::sleep(pause).await;
                Ok(format!("piece {n}").into_bytes())
            })
        };
        let app = Router::new()
            .get("/late", late)
            .get("/pieces", async move || Response::stream(pieces(3, SECOND / 2)))
            .get("/sized", async move || Response::stream_sized(14, pieces(2, SECOND * 3 / 2)));
        let (address, _running) = run(server(app));
        let answers = ["/late", "/pieces", "/sized"].map(|path| async move {
            let client = Client::send(address, &(get(path) + &get(path))).await;
            client.rest().await
        });
        let [late, pieces, sized] = task::join(answers).await;
        assert_eq!(late.matches("HTTP/1.1 200").count(), 2);
        assert!(late.len() > 8_000_000, "{}", late.len());
        assert_eq!((pieces.matches("piece 2").count(), pieces.matches("0\r\n\r\n").count()), (2, 2), "{pieces}");
        assert_eq!((sized.matches("piece 1").count(), sized.matches("content-length: 14").count()), (2, 2), "{sized}");
    })
    .unwrap();
}

#[test]
fn a_half_closed_client_of_events_gets_a_comment_at_once_and_its_events() {
    let late = || {
        stream::iter(["one", "two"]).then(async |text| {
            time::sleep(10 * SECOND).await;
            Event::data(text)
        })
    };
    let app = Router::new().get("/", async move || sse(late()));
    paused(async {
        let client = connect(&Rc::new(server(app)));
        let begin = time::now();
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "\r\n\r\n").await;
        client.shutdown(Shutdown::Write).unwrap();
        read_until(&client, "3\r\n:\n\n\r\n").await;
        assert_eq!(time::now(), begin);
        let rest = read_to_end(&client).await;
        assert_eq!((time::now() - begin).as_secs(), 20);
        assert!(rest.contains("data: one\n\n") && rest.contains("data: two\n\n"), "{rest}");
        assert!((2..10).contains(&rest.matches(":\n\n").count()) && rest.ends_with("0\r\n\r\n"), "{rest}");
    });
}

#[test]
fn a_silent_stream_of_a_half_closed_client_ends_when_its_time_is_over_and_not_as_if_it_were_complete() {
    for (half_close, seconds) in [(Duration::from_secs(1), 1), (Duration::from_secs(7), 7)] {
        paused(async {
            let alive = Alive::default();
            let server = server(app(&alive)).limits(Limits { half_close, ..Limits::default() });
            let client = connect(&Rc::new(server));
            let begin = time::now();
            client.write_all(get("/silent").as_bytes()).await.unwrap();
            read_until(&client, "first\r\n").await;
            time::sleep(100 * SECOND).await;
            assert_eq!(alive.count(), 1, "silence alone ends nothing");
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&client).await, "", "no last chunk");
            assert_eq!(((time::now() - begin).as_secs(), alive.count()), (100 + seconds, 0));
        });
    }
}

#[test]
fn a_half_closed_client_leaves_nothing_of_its_end_to_the_next_one() {
    paused(async {
        let alive = Alive::default();
        let server = Rc::new(server(app(&alive)));
        // The server keeps spare buffers while a connection is open.
        let _idle = connect(&server);
        let first = connect(&server);
        first.write_all(get("/late").as_bytes()).await.unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert!(read_to_end(&first).await.ends_with("late"));
        let next = connect(&server);
        next.write_all(get("/silent").as_bytes()).await.unwrap();
        read_until(&next, "first\r\n").await;
        time::sleep(100 * SECOND).await;
        assert_eq!(alive.count(), 1, "the stream goes on");
        drop(next);
        time::sleep(2 * SECOND).await;
        assert_eq!(alive.count(), 0, "and its own client's end is heard");
    });
}

#[test]
fn a_pipelining_client_is_read_ahead_for_at_most_one_buffer_and_answered_in_order() {
    postlude::run(async {
        let (go, number) = (Rc::new(Notify::new()), Cell::new(0));
        let gate = Rc::clone(&go);
        let app = Router::new()
            .get("/wait", async move || {
                gate.notified().await;
                "waited"
            })
            .get("/", async move || {
                number.set(number.get() + 1);
                format!("<{}>", number.get())
            });
        let server = Rc::new(server(app));
        let wire = Wire::default();
        let far = wire.clone();
        wire.send(&(get("/wait") + &get("/").repeat(1000)));
        let serving = spawn(async move { server.serve_connection(far).await });
        time::sleep(SECOND / 20).await;
        let most = get("/wait").len() + 8 * 1024;
        assert!(wire.taken() <= most, "{} bytes were read", wire.taken());
        go.notify_one();
        wire.end(Ok(()));
        serving.await.unwrap();
        let answers = wire.written();
        let order: Vec<_> = answers.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
        assert_eq!(order, (1..=1000).map(|n| n.to_string()).collect::<Vec<_>>());
    })
    .unwrap();
}

#[test]
fn with_a_full_buffer_the_end_is_heard_at_the_next_write() {
    postlude::run(async {
        let alive = Alive::default();
        let one = alive.clone();
        let ticks = move || {
            stream::unfold(one.one(), async |one| {
                time::sleep(SECOND / 5).await;
                Some((Ok(b"tick".to_vec()), one))
            })
        };
        let app = Router::new().get("/", async || "hello").get("/ticks", async move || Response::stream(ticks()));
        let (address, _running) = run(for_clients(1, app));
        let client = Client::send(address, &(get("/ticks") + &get("/").repeat(1000))).await;
        client.has_read("tick").await;
        client.reset().await;
        assert!(answered(address).await.expect("the place is free") < LATER);
        assert_eq!(alive.count(), 0);
    })
    .unwrap();
}

#[test]
fn bytes_of_a_body_that_are_read_ahead_reach_the_handler() {
    let app = || {
        Router::new().post("/", async |mut body: Body| {
            time::sleep(SECOND).await;
            let first = body.next().await.unwrap()?;
            time::sleep(SECOND).await;
            let rest = Body::collect(&mut body).await?;
            Ok::<_, Error>([first, rest].concat())
        })
    };
    for bytes in [10, 8 * 1024, 100_000] {
        let text: String = (0..bytes).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
        let answer = paused(crate::http::exchange_with(server(app()), &post("/", "", &text)));
        assert!(answer.ends_with(&text), "{bytes} bytes");
    }
}

#[test]
fn a_body_that_has_arrived_reaches_a_handler_whose_client_has_reset() {
    for (length, expected) in [(5, "Ok([104, 101, 108, 108, 111])"), (6, "Err(Disconnected)")] {
        let seen = Rc::new(RefCell::new(String::new()));
        let read = Rc::clone(&seen);
        let app = Router::new().post("/", async move |mut body: Body| {
            time::sleep(SECOND).await;
            *read.borrow_mut() = format!("{:?}", Body::collect(&mut body).await);
        });
        paused(async {
            let server = Rc::new(server(app));
            let wire = Wire::default();
            wire.send(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello"));
            wire.end(Err(io::ErrorKind::ConnectionReset));
            server.serve_connection(wire).await;
        });
        assert_eq!(*seen.borrow(), expected);
    }
}

#[test]
fn client_gone_is_told_of_an_end_that_came_during_an_earlier_request() {
    let app = Router::new()
        .get("/late", async || time::sleep(SECOND).await)
        .get("/", async |gone: ClientGone| time::timeout(10 * SECOND, gone).await.map_or("waited", |()| "gone"));
    let answer = paused(crate::http::exchange_with(server(app), &(get("/late") + &get("/"))));
    assert!(answer.ends_with("gone"), "{answer}");
}

#[test]
fn over_any_io_a_failed_read_frees_it_at_once_and_its_handler_runs_on() {
    paused(async {
        let (go, said, alive) = (Rc::new(Notify::new()), Rc::default(), Alive::default());
        let server = Rc::new(server(waiting(&go, &said, &alive)));
        let wire = Wire::default();
        wire.send(&get("/wait"));
        let far = wire.clone();
        let serving = spawn(async move { server.serve_connection(far).await });
        time::sleep(SECOND).await;
        assert_eq!((wire.ends(), alive.count()), (2, 1));
        wire.end(Err(io::ErrorKind::ConnectionReset));
        time::sleep(SECOND).await;
        assert_eq!((wire.ends(), alive.count()), (1, 1), "the server has dropped its end");
        assert!(!serving.is_finished());
        go.notify_one();
        serving.await.unwrap();
        time::sleep(SECOND).await;
        assert_eq!(said.borrow()[0], "gone: true");
        assert_eq!((said.borrow().len(), wire.written()), (3, String::new()));
    });
}

/// A duplex in memory; clones are its two ends. What the client sends lies in a queue.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<WireState>>);

#[derive(Default)]
struct WireState {
    sent: VecDeque<u8>,
    taken: usize,
    end: Option<Result<(), io::ErrorKind>>,
    written: Vec<u8>,
    reader: Option<Waker>,
}

impl Wire {
    fn send(&self, text: &str) {
        self.0.borrow_mut().sent.extend(text.as_bytes());
    }

    fn end(&self, end: Result<(), io::ErrorKind>) {
        self.0.borrow_mut().end = Some(end);
        let reader = self.0.borrow_mut().reader.take();
        reader.unwrap_or_else(|| Waker::noop().clone()).wake();
    }

    fn taken(&self) -> usize {
        self.0.borrow().taken
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow().written).into_owned()
    }

    fn ends(&self) -> usize {
        Rc::strong_count(&self.0)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        let count = buffer.len().min(state.sent.len());
        if count == 0 {
            state.reader = Some(cx.waker().clone());
            let ended = state.end.map(|end| end.map(|()| 0).map_err(io::Error::from));
            return ended.map_or(Poll::Pending, Poll::Ready);
        }
        buffer.iter_mut().zip(state.sent.drain(..count)).for_each(|(place, byte)| *place = byte);
        state.taken += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn client_gone_is_ready_in_every_task_when_the_client_has_gone_or_has_its_answer() {
    let app = |seen: &Rc<RefCell<Vec<&'static str>>>| {
        let (seen, early) = (Rc::clone(seen), Rc::clone(seen));
        Router::new()
            .get("/", async move |gone: ClientGone| {
                let (seen, clone) = (Rc::clone(&seen), gone.clone());
                assert!(!gone.is_gone());
                drop(spawn(async move {
                    let mut clone = clone;
                    (&mut clone).await;
                    seen.borrow_mut().push(if clone.is_gone() { "gone" } else { "answered" });
                }));
                let work = async {
                    time::sleep(5 * SECOND).await;
                    "done"
                };
                let given_up = async {
                    gone.await;
                    "given up"
                };
                task::race((work, given_up)).await.1
            })
            .get("/silent", async move |gone: ClientGone| {
                let seen = Rc::clone(&early);
                let watched = async move {
                    gone.await;
                    seen.borrow_mut().push("gone");
                };
                Response::stream(stream::once(watched).map(|()| Ok(b"a last word".to_vec())))
            })
    };
    let run = |path: &'static str, end: Option<Shutdown>| {
        let seen = Rc::default();
        let answer = paused(async {
            let client = connect(&Rc::new(server(app(&seen))));
            let begin = time::now();
            client.write_all(get(path).as_bytes()).await.unwrap();
            time::sleep(SECOND).await;
            let (answer, at) = match end {
                None => (read_until(&client, "done").await, 5),
                Some(end) => {
                    client.shutdown(end).unwrap();
                    (read_to_end(&client).await, 1)
                }
            };
            assert_eq!((time::now() - begin).as_secs(), at);
            time::sleep(SECOND).await;
            answer
        });
        (seen.take(), answer)
    };
    let (seen, answer) = run("/", None);
    assert!(seen == ["answered"] && answer.ends_with("done"), "{seen:?} {answer}");
    let (seen, answer) = run("/", Some(Shutdown::Write));
    assert!(seen == ["gone"] && answer.ends_with("given up"), "{seen:?} {answer}");
    assert_eq!(run("/", Some(Shutdown::Both)).0, ["gone"]);
    let (seen, answer) = run("/silent", Some(Shutdown::Write));
    assert!(seen == ["gone"] && answer.contains("a last word"), "{seen:?} {answer}");
}

#[test]
fn client_gone_ends_a_handler_of_a_client_that_resets() {
    postlude::run(async {
        let alive = Alive::default();
        let one = alive.clone();
        let app = Router::new().get("/", async move |gone: ClientGone| {
            let _one = one.one();
            gone.await;
            "given up"
        });
        let (address, _running) = run(server(app));
        let client = Client::send(address, &get("/")).await;
        time::sleep(SECOND / 20).await;
        assert_eq!(alive.count(), 1);
        client.reset().await;
        time::sleep(SECOND / 2).await;
        assert_eq!(alive.count(), 0);
    })
    .unwrap();
}
