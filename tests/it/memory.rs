//! The memory that clients make a server hold, in all: who waits, who gives way, what comes back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use postlude::http::{BackgroundTasks, Error, Limits, Router, Server};
use postlude::net::UnixStream;
use postlude::sync::Notify;
use postlude::task::yield_now;
use postlude::{spawn, time};

use crate::http::{connect, get, paused, post, read_to_end, read_until, server};

const KIB: usize = 1024;
const SECOND: Duration = Duration::from_secs(1);

/// Half of it is for bodies, so five of 50 KiB fit; while three of 60 KiB are whole, others wait.
fn limited(router: Router) -> Rc<Server> {
    Rc::new(server(router).limits(Limits { max_body: 64 * KIB as u64, memory: 512 * KIB, ..Limits::default() }))
}

/// Sends the head of a request with a body of so many bytes, and so much of it.
async fn begin(server: &Rc<Server>, path: &str, length: usize, sent: usize) -> Rc<UnixStream> {
    let client = Rc::new(connect(server));
    let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&vec![b'x'; sent]).await.unwrap();
    // The server takes it up.
    for _ in 0..100 {
        yield_now().await;
    }
    client
}

/// Collects what a client reads, in a task.
fn listen(client: &Rc<UnixStream>) -> Rc<RefCell<String>> {
    let (heard, client) = (Rc::<RefCell<String>>::default(), Rc::clone(client));
    let into = Rc::clone(&heard);
    drop(spawn(async move {
        let all = read_to_end(&client).await;
        into.replace(all);
    }));
    heard
}

#[test]
fn bodies_that_do_not_come_on_give_way_to_those_that_do() {
    paused(async {
        let server =
            limited(Router::new().get("/", async || "hello").post("/", async |body: Vec<u8>| body.len().to_string()));
        let mut heard = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..20 {
            let client = begin(&server, "/", 60 * KIB, 50 * KIB).await;
            heard.push(listen(&client));
            clients.push(client);
        }
        time::sleep(SECOND * 3).await;
        let refused = |heard: &[Rc<RefCell<String>>]| heard.iter().filter(|text| !text.borrow().is_empty()).count();
        let before = refused(&heard);
        assert!((15..=16).contains(&before), "{before} of twenty did not fit");
        let first = heard.iter().find(|text| !text.borrow().is_empty()).unwrap();
        assert!(first.borrow().starts_with("HTTP/1.1 503 "), "{}", first.borrow());
        assert!(first.borrow().contains("\r\nretry-after: 1\r\n"), "{}", first.borrow());
        assert!(first.borrow().contains("\r\nconnection: close\r\n"), "{}", first.borrow());
        // One that comes at once has the place of those that stand still.
        let client = connect(&server);
        client.write_all(post("/", "", &"y".repeat(60 * KIB)).as_bytes()).await.unwrap();
        assert!(read_until(&client, "61440").await.starts_with("HTTP/1.1 200 "));
        time::sleep(SECOND / 10).await;
        assert!(refused(&heard) > before);
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "hello").await;
    });
}

#[test]
fn the_body_that_received_least_lately_gives_way() {
    paused(async {
        let server = limited(Router::new().post("/", async |body: Vec<u8>| body.len().to_string()));
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(begin(&server, "/", 60 * KIB, 48 * KIB).await);
        }
        let heard: Vec<_> = clients.iter().map(listen).collect();
        time::sleep(SECOND * 5).await;
        for (n, client) in clients.iter().enumerate() {
            // The fourth comes on least.
            client.write_all(&vec![b'x'; if n == 3 { 10 } else { KIB }]).await.unwrap();
        }
        time::sleep(SECOND / 10).await;
        let last = begin(&server, "/", 60 * KIB, 48 * KIB).await;
        time::sleep(SECOND / 10).await;
        let refused: Vec<_> = heard.iter().map(|text| !text.borrow().is_empty()).collect();
        assert_eq!(refused, [false, false, false, true, false]);
        last.write_all(&[b'x'; 12 * KIB]).await.unwrap();
        assert!(read_until(&last, "61440").await.starts_with("HTTP/1.1 200 "));
    });
}

/// Keeps each body in a task until it is told.
fn keeping(gate: &Rc<Notify>, open: &Rc<Cell<bool>>) -> Router {
    let (gate, open) = (Rc::clone(gate), Rc::clone(open));
    Router::new().get("/", async || "hello").post("/", async move |tasks: BackgroundTasks, body: Vec<u8>| {
        let (gate, open) = (Rc::clone(&gate), Rc::clone(&open));
        tasks.add(async move {
            while !open.get() {
                gate.notified().await;
            }
            drop(body);
        })?;
        Ok::<_, Error>("kept")
    })
}

/// Has the tasks of `keeping` hold 180 KiB, so that the next body waits. Returns the client.
async fn fill(server: &Rc<Server>) -> UnixStream {
    let client = connect(server);
    for _ in 0..3 {
        client.write_all(post("/", "", &"x".repeat(60 * KIB)).as_bytes()).await.unwrap();
        read_until(&client, "kept").await;
    }
    client
}

#[test]
fn a_body_counts_until_the_tasks_of_its_request_are_over() {
    let (gate, open) = (Rc::new(Notify::new()), Rc::<Cell<bool>>::default());
    paused(async {
        let server = limited(keeping(&gate, &open));
        let _client = fill(&server).await;
        // The fourth waits, and a request without a body does not.
        let (fourth, other) = (connect(&server), connect(&server));
        fourth.write_all(post("/", "", &"x".repeat(60 * KIB)).as_bytes()).await.unwrap();
        let fourth = Rc::new(fourth);
        let heard = listen(&fourth);
        time::sleep(SECOND * 10).await;
        assert_eq!(*heard.borrow(), "");
        other.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&other, "hello").await;
        open.set(true);
        gate.notify_waiters();
        time::sleep(SECOND).await;
        fourth.shutdown(std::net::Shutdown::Write).unwrap();
        time::sleep(SECOND).await;
        assert!(heard.borrow().starts_with("HTTP/1.1 200 "), "{}", heard.borrow());
    });
}

#[test]
fn a_request_that_waits_for_memory_in_vain_is_told_to_come_again() {
    let (gate, open) = (Rc::new(Notify::new()), Rc::<Cell<bool>>::default());
    paused(async {
        let server = limited(keeping(&gate, &open));
        let client = fill(&server).await;
        client.write_all(post("/", "", &"x".repeat(60 * KIB)).as_bytes()).await.unwrap();
        let begun = time::now();
        let answer = read_until(&client, "try again later").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        let waited = time::now() - begun;
        assert!(waited >= SECOND * 30 && waited < SECOND * 40, "{waited:?}");
        open.set(true);
        gate.notify_waiters();
    });
}

#[test]
fn a_body_without_tasks_counts_until_its_handler_has_ended() {
    let handlers = Rc::new(Cell::new(0));
    let (seen, most) = (Rc::clone(&handlers), Rc::new(Cell::new(0)));
    let peak = Rc::clone(&most);
    paused(async {
        let server = limited(Router::new().post("/", async move |body: Vec<u8>| {
            seen.set(seen.get() + 1);
            peak.set(peak.get().max(seen.get()));
            time::sleep(SECOND).await;
            seen.set(seen.get() - 1);
            body.len().to_string()
        }));
        let mut heard = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..20 {
            let client = begin(&server, "/", 60 * KIB, 60 * KIB).await;
            heard.push(listen(&client));
            client.shutdown(std::net::Shutdown::Write).unwrap();
            clients.push(client);
        }
        time::sleep(SECOND * 20).await;
        assert!(heard.iter().all(|text| text.borrow().starts_with("HTTP/1.1 200 ")), "none was lost: {heard:?}");
        assert!((3..=4).contains(&most.get()), "{} handlers at once hold a body", most.get());
    });
}

#[test]
fn clients_that_do_not_read_are_cut_off_when_the_memory_is_used_up() {
    paused(async {
        let server = limited(Router::new().get("/", async || "hello").get("/big", async || vec![b'x'; 400 * KIB]));
        let mut clients = Vec::new();
        for _ in 0..20 {
            let client = connect(&server);
            client.write_all(get("/big").as_bytes()).await.unwrap();
            clients.push(client);
            time::sleep(SECOND / 100).await;
        }
        let open = clients.len();
        let mut whole = 0;
        for client in clients {
            client.shutdown(std::net::Shutdown::Write).unwrap();
            whole += usize::from(read_to_end(&client).await.len() > 400 * KIB);
        }
        assert!(whole >= 1 && whole < open / 2, "{whole} of {open} had all of it");
        let client = connect(&server);
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "hello").await;
    });
}

#[test]
fn one_body_of_the_largest_size_always_fits() {
    paused(async {
        let limits = Limits { max_body: 256 * KIB as u64, memory: 1, ..Limits::default() };
        let server =
            Rc::new(server(Router::new().post("/", async |body: Vec<u8>| body.len().to_string())).limits(limits));
        for _ in 0..3 {
            let client = begin(&server, "/", 256 * KIB, 256 * KIB).await;
            assert!(read_until(&client, "262144").await.starts_with("HTTP/1.1 200 "));
        }
    });
}

#[test]
fn a_crowd_whose_handlers_begin_at_once_holds_no_more_than_its_half() {
    let (held, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (now, peak) = (Rc::clone(&held), Rc::clone(&most));
    paused(async {
        let server = limited(Router::new().post("/", async move |body: Vec<u8>| {
            now.set(now.get() + body.len());
            peak.set(peak.get().max(now.get()));
            time::sleep(SECOND * 5).await;
            now.set(now.get() - body.len());
            "done"
        }));
        let mut clients = Vec::new();
        for _ in 0..100 {
            clients.push(begin(&server, "/", 60 * KIB, 0).await);
        }
        let heard: Vec<_> = clients.iter().map(listen).collect();
        for client in &clients {
            client.write_all(&[b'x'; 60 * KIB]).await.unwrap();
        }
        time::sleep(SECOND * 10).await;
        let of = |status: &str| heard.iter().filter(|text| text.borrow().starts_with(status)).count();
        assert_eq!(most.get(), 240 * KIB, "of the 256 KiB for bodies");
        assert_eq!(of("HTTP/1.1 503 "), 96);
    });
}

#[test]
fn slow_readers_hold_up_no_body_and_static_bytes_are_no_memory() {
    static BIG: [u8; 2048 * KIB] = [b'x'; 2048 * KIB];
    paused(async {
        let app = Router::new()
            .get("/big", async || vec![b'x'; 480 * KIB])
            .get("/static", async || &BIG[..])
            .post("/", async |body: Vec<u8>| body.len().to_string());
        let server = limited(app);
        let slow = [connect(&server), connect(&server), connect(&server)];
        for (client, path) in slow.iter().zip(["/big", "/static", "/static"]) {
            client.write_all(get(path).as_bytes()).await.unwrap();
        }
        time::sleep(SECOND).await;
        let client = connect(&server);
        let begun = time::now();
        client.write_all(post("/", "", "12345").as_bytes()).await.unwrap();
        read_until(&client, "5").await;
        assert_eq!((time::now() - begun).as_secs(), 0);
        // The only one that is larger than its half is sent whole.
        slow[0].shutdown(std::net::Shutdown::Write).unwrap();
        let whole = read_to_end(&slow[0]).await.len();
        assert!(whole > 480 * KIB, "{whole}");
    });
}

#[test]
fn a_body_counts_no_more_while_its_answer_streams() {
    paused(async {
        let server = limited(Router::new().post("/", async |body: Vec<u8>| {
            drop(body);
            postlude::http::sse(futures::stream::pending())
        }));
        let mut clients = Vec::new();
        for _ in 0..8 {
            let client = begin(&server, "/", 60 * KIB, 60 * KIB).await;
            assert!(time::timeout(SECOND, client.read(&mut [0; 1024])).await.expect("at once").unwrap() > 0);
            clients.push(client);
        }
    });
}

#[test]
fn a_request_that_waits_for_memory_hears_its_client_and_the_stop() {
    let (gate, open) = (Rc::new(Notify::new()), Rc::<Cell<bool>>::default());
    paused(async {
        let server = limited(keeping(&gate, &open));
        let handle = server.shutdown_handle();
        let client = fill(&server).await;
        client.write_all(post("/", "", &"x".repeat(60 * KIB)).as_bytes()).await.unwrap();
        time::sleep(SECOND).await;
        let begun = time::now();
        handle.shutdown();
        let answer = read_to_end(&client).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!((time::now() - begun).as_secs(), 0);
        open.set(true);
        gate.notify_waiters();
    });
}
