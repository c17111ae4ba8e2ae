//! Background tasks: after the answer, in order, exactly once, and nobody's problem but their own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use postlude::deferred::{Info, Limit, Running, Status};
use postlude::http::{
    AddError, BackgroundTasks, Cached, Error, FromRequest, Limits, Next, Path, Request, Response, Result, Router,
    Server, StatusCode, jobs,
};
use postlude::net::{TcpStream, UnixStream};
use postlude::task::yield_now;
use postlude::{spawn, time};

use crate::http::{connect, exchange_with, get, paused, read_to_end, read_until, server, slow};

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Rc<RefCell<Vec<String>>>);

impl Diary {
    fn note(&self, line: impl Into<String>) {
        self.0.borrow_mut().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// A server that notes failures here.
    fn server(&self, router: Router) -> Server {
        let diary = self.clone();
        server(router.state(self.clone())).on_task_error(move |task, _| diary.note(format!("! {task}")))
    }

    async fn get(&self, router: Router, path: &str) -> String {
        let answer = exchange_with(self.server(router), &get(path)).await;
        time::sleep(Duration::from_secs(100)).await;
        answer
    }
}

fn limits_of_tasks(all: usize, per_request: usize) -> Limits {
    Limits { background_tasks: all, background_tasks_per_request: per_request, ..Limits::default() }
}

/// An extractor that adds a task.
struct Adds;

impl FromRequest for Adds {
    type Rejection = Error;

    async fn from_request(request: &mut Request) -> Result<Self> {
        let tasks = BackgroundTasks::from_request(request).await?;
        let postlude::http::State(diary) = postlude::http::State::<Diary>::from_request(request).await?;
        tasks.task("of the extractor").run(async move || {
            time::sleep(Duration::from_secs(1)).await;
            diary.note("extractor");
        })?;
        Ok(Self)
    }
}

#[test]
fn extractor_handler_and_response_add_to_one_list_that_runs_in_order_after_the_answer() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/", async move |_: Adds, tasks: BackgroundTasks| {
        let (first, second) = (notes.clone(), notes.clone());
        tasks.add(async move { first.note("handler") })?;
        Ok::<_, Error>(Response::new(200).with_body("answer").background(async move { second.note("response") }))
    });
    paused(async {
        let client = connect(&Rc::new(diary.server(router)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "answer").await;
        assert!(diary.lines().is_empty(), "the client has its answer first");
        time::sleep(Duration::from_secs(10)).await;
        assert_eq!(diary.lines(), ["extractor", "handler", "response"]);
    });
}

#[test]
fn the_connection_goes_on_while_tasks_run_and_hanging_up_cancels_nothing() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/next", async || "next").get("/task", async move |tasks: BackgroundTasks| {
        let notes = notes.clone();
        tasks.add(async move {
            time::sleep(Duration::from_secs(2)).await;
            notes.note("done");
        })?;
        Ok::<_, Error>("answer")
    });
    paused(async {
        let client = connect(&Rc::new(diary.server(router)));
        let begin = time::now();
        client.write_all((get("/task") + &get("/next")).as_bytes()).await.unwrap();
        read_until(&client, "next").await;
        assert_eq!(time::now(), begin);
        drop(client);
        time::sleep(Duration::from_secs(3)).await;
        assert_eq!(diary.lines(), ["done"]);
    });
}

#[test]
fn a_client_that_leaves_while_the_handler_runs_changes_nothing_for_it() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
        let notes = notes.clone();
        time::sleep(Duration::from_secs(2)).await;
        tasks.add(async move { notes.note("ran") })?;
        Ok::<_, Error>("answer")
    });
    paused(async {
        let client = connect(&Rc::new(diary.server(router)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        time::sleep(Duration::from_secs(1)).await;
        drop(client);
        time::sleep(Duration::from_secs(2)).await;
        assert_eq!(diary.lines(), ["ran"]);
    });
}

#[test]
fn errors_and_panics_are_reported_and_the_next_task_runs() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/fail", async move |tasks: BackgroundTasks| {
        let notes = notes.clone();
        tasks.task("mail").run(async || Err::<(), _>("no route"))?;
        tasks.task("bang").run(async || {
            if true {
                panic!("on purpose")
            }
        })?;
        tasks.task("file").run_blocking(|| Err::<(), _>("no disk"))?;
        tasks.task("boom").run_blocking(|| {
            if true {
                panic!("in a thread")
            }
        })?;
        tasks.add(async move { notes.note("last") })?;
        Ok::<_, Error>("answer")
    });
    let answer = paused(diary.get(router, "/fail"));
    assert!(answer.ends_with("answer"));
    assert_eq!(
        diary.lines(),
        [
            "! background task 'mail' failed: no route (GET /fail, request 1)",
            "! background task 'bang' failed: panicked: on purpose (GET /fail, request 1)",
            "! background task 'file' failed: no disk (GET /fail, request 1)",
            "! background task 'boom' failed: panicked: in a thread (GET /fail, request 1)",
            "last",
        ]
    );
}

#[test]
fn a_failure_says_in_what_way_and_why() {
    let told = Rc::new(RefCell::new(Vec::new()));
    let tell = Rc::clone(&told);
    let router = Router::new()
        .get("/", async |tasks: BackgroundTasks| {
            tasks.task("one").run(async || Err::<(), _>("no disk"))?;
            tasks.task("two").run(async || ())?;
            tasks.stop_on_error();
            tasks.task("three").run(async || ())?;
            Ok::<_, Error>("answer")
        })
        .get("/failed", async |tasks: BackgroundTasks| {
            tasks.task("four").run(async || ())?;
            Err::<&str, _>(Error::new(422, "no"))
        });
    let first = Cell::new(0);
    let server = server(router).on_task_error(move |task, fault| {
        first.set(if first.get() == 0 { task.id.get() } else { first.get() });
        let line = format!("{} {} {} {}", task.name, task.status, fault.unwrap(), task.label);
        tell.borrow_mut().push((task.id.get() - first.get() + 1, task.group, line));
    });
    paused(async {
        exchange_with(server, &format!("{}{}", get("/failed"), get("/"))).await;
        time::sleep(Duration::from_secs(1)).await;
    });
    let told: Vec<_> = told.take().into_iter().map(|(id, number, line)| format!("{id} {number} {line}")).collect();
    let lines = [
        "1 1 four skipped the handler failed with 422 GET /failed",
        "2 2 one failed no disk GET /",
        "3 2 two skipped 'one' failed before it GET /",
        "4 2 three skipped 'one' failed before it GET /",
    ];
    assert_eq!(told, lines);
}

#[test]
fn tasks_of_a_failed_handler_do_not_run_and_are_reported() {
    for (path, status) in [("/err", "404"), ("/panic", "500"), ("/answer", "404")] {
        let diary = Diary::default();
        let router = Router::new()
            .get("/err", async |_: Adds| Err::<(), _>(Error::new(404, "no")))
            .get("/panic", async |_: Adds| if true { panic!("on purpose") } else { "never" })
            .get("/answer", async |_: Adds| StatusCode::NOT_FOUND);
        let answer = paused(diary.get(router, path));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let line = match path {
            "/answer" => String::from("extractor"),
            _ => format!(
                "! background task 'of the extractor' not run: the handler failed with {status} (GET {path}, request 1)"
            ),
        };
        assert_eq!(diary.lines(), [line]);
    }
}

#[test]
fn a_full_list_is_a_503_by_the_question_mark() {
    let diary = Diary::default();
    let router = Router::new().get("/", async |tasks: BackgroundTasks| {
        for _ in 0..3 {
            tasks.add(async {})?;
        }
        Ok::<_, Error>("answer")
    });
    let answer = paused(exchange_with(diary.server(router).limits(limits_of_tasks(10, 2)), &get("/")));
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert_eq!(diary.lines().len(), 2, "the accepted two are reported as not run");
}

#[test]
fn a_response_whose_tasks_do_not_fit_is_a_503() {
    let router = Router::new().get("/", async || Response::new(200).background(async {}).background(async {}));
    let diary = Diary::default();
    let answer = paused(exchange_with(diary.server(router).limits(limits_of_tasks(10, 1)), &get("/")));
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
}

#[test]
fn an_error_that_no_later_try_mends_does_not_ask_for_one() {
    use postlude::http::IntoResponse;
    for (error, retries) in
        [(AddError::Full(Limit::Queue), true), (AddError::ShuttingDown, true), (AddError::Closed, false)]
    {
        for answer in [error.into_response(), Error::from(error).into_response()] {
            assert_eq!(
                (answer.status(), answer.field("retry-after").is_some()),
                (StatusCode::SERVICE_UNAVAILABLE, retries)
            );
        }
    }
    assert!(Error::new(503, "closed for lunch").into_response().field("retry-after").is_none());
}

/// Yields so often that whatever is ready has run.
async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

/// Answers `/busy/{n}` having left so many tasks that are always ready until the cell is set, and
/// `/plain`.
fn busy_router(over: &Rc<Cell<bool>>) -> Router {
    let over = Rc::clone(over);
    let busy = async move |Path(count): Path<u32>, tasks: BackgroundTasks| {
        for _ in 0..count {
            let over = Rc::clone(&over);
            tasks.add(async move {
                while !over.get() {
                    yield_now().await;
                }
            })?;
        }
        Ok::<_, Error>("busy")
    };
    Router::new().get("/plain", async || "plain").get("/busy/{count}", busy)
}

/// Whether the client has been sent nothing yet.
async fn is_silent(client: &UnixStream) -> bool {
    let mut buffer = [0; 64];
    let mut read = pin!(client.read(&mut buffer));
    poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx).is_pending())).await
}

async fn ask(client: &UnixStream, path: &str, end: &str) {
    client.write_all(get(path).as_bytes()).await.unwrap();
    read_until(client, end).await;
}

#[test]
fn while_more_than_half_of_the_limit_is_ready_to_run_no_request_begins() {
    let over = Rc::new(Cell::new(false));
    let router = busy_router(&over);
    paused(async {
        let server = Rc::new(server(router).limits(limits_of_tasks(10, 10)));
        let (first, second, third) = (connect(&server), connect(&server), connect(&server));
        ask(&first, "/busy/5", "busy").await;
        // Half of the limit is not more than half.
        ask(&second, "/plain", "plain").await;
        ask(&first, "/busy/1", "busy").await;
        let begin = time::now();
        // Buffered pipelined requests wait as well.
        second.write_all(get("/plain").repeat(3).as_bytes()).await.unwrap();
        third.write_all(get("/busy/1").as_bytes()).await.unwrap();
        settle().await;
        assert!(is_silent(&second).await && is_silent(&third).await);
        over.set(true);
        read_until(&third, "busy").await;
        let mut answers = String::new();
        while answers.matches("HTTP/1.1 200").count() < 3 {
            answers += &read_until(&second, "plain").await;
        }
        assert_eq!(time::now(), begin, "nothing but the tasks was waited for");
    });
}

#[test]
fn answers_are_flushed_before_a_paused_request_is_waited_for() {
    let over = Rc::new(Cell::new(false));
    let router = busy_router(&over);
    paused(async {
        let server = Rc::new(server(router).limits(limits_of_tasks(10, 10)));
        let client = connect(&server);
        client.write_all((get("/plain") + &get("/busy/8") + &get("/plain")).as_bytes()).await.unwrap();
        // The third waits for what the second left, and the first two do not wait with it.
        read_until(&client, "busy").await;
        settle().await;
        assert!(is_silent(&client).await);
        over.set(true);
        read_until(&client, "plain").await;
    });
}

#[test]
fn no_pause_lasts_longer_than_a_second() {
    let over = Rc::new(Cell::new(false));
    let router = busy_router(&over);
    paused(async {
        let server = Rc::new(server(router).limits(limits_of_tasks(10, 10)));
        let (first, second) = (connect(&server), connect(&server));
        ask(&first, "/busy/8", "busy").await;
        second.write_all(get("/busy/3").as_bytes()).await.unwrap();
        settle().await;
        time::advance(Duration::from_millis(999)).await;
        settle().await;
        assert!(is_silent(&second).await);
        time::advance(Duration::from_millis(1)).await;
        let answer = read_until(&second, "later").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "two places are left, and after a pause `add` refuses: {answer}");
        over.set(true);
    });
}

#[test]
fn tasks_that_wait_and_threads_that_never_return_pause_nothing_and_fill_the_limit_they_are_counted_in() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Arc::new(std::sync::Mutex::new(released));
    let blocking = async move |tasks: BackgroundTasks| {
        for _ in 0..4 {
            let released = std::sync::Arc::clone(&released);
            tasks.add_blocking(move || {
                let _ = released.lock().unwrap().recv();
            })?;
        }
        Ok::<_, Error>("blocking")
    };
    let hours = async |tasks: BackgroundTasks| {
        tasks.concurrent();
        for _ in 0..833 {
            tasks.add(time::sleep(Duration::from_secs(3600)))?;
        }
        Ok::<_, Error>("hours")
    };
    let router = Router::new().get("/plaintext", async || "Hello").get("/blocking", blocking).get("/hours", hours);
    let ran = postlude::run(async {
        let server = Rc::new(server(router));
        let client = connect(&server);
        ask(&client, "/blocking", "blocking").await;
        for _ in 0..12 {
            ask(&client, "/hours", "hours").await;
        }
        // 9 996 + 4 are all.
        let begin = std::time::Instant::now();
        ask(&client, "/plaintext", "Hello").await;
        assert!(begin.elapsed() < Duration::from_millis(900), "{:?}: no pause", begin.elapsed());
        client.write_all(get("/blocking").as_bytes()).await.unwrap();
        let answer = read_until(&client, "try again later").await;
        assert!(answer.starts_with("HTTP/1.1 503") && begin.elapsed() < Duration::from_millis(900), "{answer}");
        drop(release);
    });
    ran.unwrap();
}

#[test]
fn however_small_the_limit_clients_that_share_it_wait_and_are_not_refused() {
    for (limit, clients, pipelined) in [(1, 8, 1), (2, 64, 1), (10, 64, 1), (10, 8, 32), (1, 1, 100)] {
        let router = Router::new().get("/", async |tasks: BackgroundTasks| {
            tasks.add(async {
                for _ in 0..10 {
                    yield_now().await;
                }
            })?;
            Ok::<_, Error>("answer")
        });
        paused(async {
            let server = Rc::new(server(router).limits(limits_of_tasks(limit, 1000)));
            let clients: Vec<_> = (0..clients)
                .map(|_| {
                    let client = connect(&server);
                    spawn(async move {
                        for _ in 0..5 {
                            client.write_all(get("/").repeat(pipelined).as_bytes()).await.unwrap();
                            let mut answered = 0;
                            while answered < pipelined {
                                let answers = read_until(&client, "answer").await;
                                assert_eq!(
                                    answers.matches("HTTP/1.1 200").count(),
                                    answers.matches("HTTP/1.1").count()
                                );
                                answered += answers.matches("HTTP/1.1").count();
                            }
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap_or_else(|error| panic!("limit {limit}, {pipelined} at a time: {error}"));
            }
        });
    }
}

#[test]
fn a_guard_of_the_handler_may_add_when_it_drops() {
    struct Guard(BackgroundTasks, Diary);
    impl Drop for Guard {
        fn drop(&mut self) {
            let diary = self.1.clone();
            self.0.add(async move { diary.note("guard") }).unwrap();
        }
    }
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
        let _guard = Guard(tasks, notes.clone());
        "answer"
    });
    paused(diary.get(router, "/"));
    assert_eq!(diary.lines(), ["guard"]);
}

#[test]
fn a_task_that_panics_when_it_is_dropped_is_reported_and_the_next_one_runs() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
        let notes = notes.clone();
        tasks.task("bomb").run(async || drop(Bomb))?;
        let held = Bomb;
        tasks.task("held").run(async move || {
            let _held = &held;
        })?;
        tasks.add(async move { notes.note("last") })?;
        Ok::<_, Error>("answer")
    });
    paused(diary.get(router, "/"));
    let lines = diary.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("'bomb' failed: panicked: in drop") && lines[1].contains("'held' failed"), "{lines:?}");
    assert_eq!(lines[2], "last");
}

#[test]
fn a_blocking_task_stops_nobody() {
    let diary = Diary::default();
    let notes = diary.clone();
    let (enter, entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let job = Cell::new(Some(move || {
        enter.send(()).unwrap();
        let _ = released.recv();
    }));
    let router = Router::new().get("/plain", async || "plain").get("/", async move |tasks: BackgroundTasks| {
        let notes = notes.clone();
        tasks.add_blocking(job.take().unwrap())?;
        tasks.add(async move { notes.note("behind it") })?;
        Ok::<_, Error>("answer")
    });
    let lines = postlude::run(async {
        let client = connect(&Rc::new(diary.server(router)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "answer").await;
        let reached = async |what: &dyn Fn() -> bool| {
            let waiting = async {
                while !what() {
                    time::sleep(Duration::from_millis(1)).await;
                }
            };
            time::timeout(Duration::from_secs(20), waiting).await.unwrap();
        };
        reached(&|| entered.try_recv().is_ok()).await;
        client.write_all(get("/plain").as_bytes()).await.unwrap();
        read_until(&client, "plain").await;
        assert!(diary.lines().is_empty());
        drop(release);
        reached(&|| !diary.lines().is_empty()).await;
        diary.lines()
    });
    assert_eq!(lines.unwrap(), ["behind it"]);
}

#[test]
fn a_task_may_add_tasks_and_after_the_last_one_the_list_is_closed() {
    let diary = Diary::default();
    let notes = diary.clone();
    let kept: Rc<RefCell<Option<BackgroundTasks>>> = Rc::default();
    let keep = Rc::clone(&kept);
    let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
        let (first, more) = (notes.clone(), tasks.clone());
        *keep.borrow_mut() = Some(tasks.clone());
        tasks.add(async move {
            let second = first.clone();
            first.note("first");
            more.add(async move { second.note("second") }).map(drop)
        })?;
        Ok::<_, Error>("answer")
    });
    paused(async {
        diary.get(router, "/").await;
        assert_eq!(diary.lines(), ["first", "second"]);
        let tasks = kept.take().unwrap();
        assert_eq!(tasks.add(async {}), Err(AddError::Closed));
    });
}

#[test]
fn tasks_wait_for_the_last_byte_of_the_answer() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/big", async move |tasks: BackgroundTasks| {
        let notes = notes.clone();
        tasks.add(async move { notes.note("task") })?;
        Ok::<_, Error>(vec![b'x'; 4_000_000])
    });
    paused(async {
        let client = connect(&Rc::new(diary.server(router)));
        client.write_all(get("/big").as_bytes()).await.unwrap();
        time::sleep(Duration::from_secs(2)).await;
        assert!(diary.lines().is_empty(), "the client reads nothing");
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(read_to_end(&client).await.len() > 4_000_000);
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!(diary.lines(), ["task"]);
    });
}

#[test]
fn a_stream_s_tasks_wait_for_its_last_chunk() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/", async move || {
        let notes = notes.clone();
        slow(&["one", "two"], Duration::from_secs(5)).background(async move { notes.note("task") })
    });
    paused(async {
        let client = connect(&Rc::new(diary.server(router)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_until(&client, "one\r\n").await;
        time::sleep(Duration::from_secs(1)).await;
        assert!(diary.lines().is_empty());
        read_until(&client, "0\r\n\r\n").await;
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!(diary.lines(), ["task"]);
    });
}

#[test]
fn a_stalled_reader_aborts_the_answer_and_the_tasks_run_once() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/big", async move |tasks: BackgroundTasks| {
        let notes = notes.clone();
        tasks.add(async move { notes.note("task") })?;
        Ok::<_, Error>(vec![b'x'; 4_000_000])
    });
    paused(async {
        let client = connect(&Rc::new(
            diary.server(router).limits(Limits { write_timeout: Duration::from_secs(5), ..Limits::default() }),
        ));
        client.write_all(get("/big").as_bytes()).await.unwrap();
        time::sleep(Duration::from_secs(4)).await;
        assert!(diary.lines().is_empty());
        time::sleep(Duration::from_secs(2)).await;
        assert_eq!(diary.lines(), ["task"]);
    });
}

#[test]
fn lists_of_different_requests_overlap() {
    let running = Rc::new(Cell::new(0));
    let (most, count) = (Rc::new(Cell::new(0)), Rc::clone(&running));
    let seen = Rc::clone(&most);
    let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
        let (count, seen) = (Rc::clone(&count), Rc::clone(&seen));
        tasks.add(async move {
            count.set(count.get() + 1);
            seen.set(seen.get().max(count.get()));
            time::sleep(Duration::from_secs(1)).await;
            count.set(count.get() - 1);
        })?;
        Ok::<_, Error>("answer")
    });
    paused(async {
        exchange_with(server(router), &get("/").repeat(3)).await;
        time::sleep(Duration::from_secs(2)).await;
    });
    assert_eq!((most.get(), running.get()), (3, 0));
}

#[test]
fn a_stop_drains_tasks_until_the_limit_and_names_the_rest() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
        let notes = notes.clone();
        tasks.task("short").run(async move || {
            time::sleep(Duration::from_secs(5)).await;
            notes.note("short");
        })?;
        tasks.task("endless").run(async || std::future::pending::<()>().await)?;
        tasks.task("behind it").run(async || ())?;
        Ok::<_, Error>("answer")
    });
    paused(async {
        let server = diary.server(router);
        let server = server
            .shutdown_on(time::sleep(Duration::from_secs(1)))
            .limits(Limits { drain_limit: Duration::from_secs(10), ..Limits::default() });
        let address = server.local_addr().unwrap();
        let begin = time::now();
        let running = spawn(server.run());
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        let report = running.await.unwrap().unwrap();
        let unfinished = |name: &str| format!("! background task '{name}' unfinished (GET /, request 1)");
        assert_eq!(diary.lines(), ["short".to_owned(), unfinished("endless"), unfinished("behind it")]);
        assert_eq!((time::now() - begin).as_secs(), 11);
        let left: Vec<_> = report.unfinished.iter().map(|task| (&*task.name, task.status == Status::Running)).collect();
        assert_eq!(left, [("endless", true), ("behind it", false)]);
        assert_eq!((report.completed, report.connections_cut), (1, 0));
    });
}

#[test]
fn what_was_accepted_is_accounted_for_however_short_the_drain() {
    let diary = Diary::default();
    let (stop, stopped) = futures::channel::oneshot::channel();
    let stop = Rc::new(RefCell::new(Some(stop)));
    let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
        tasks.add(async {})?;
        stop.borrow_mut().take().unwrap().send(()).unwrap();
        Ok::<_, Error>("answer")
    });
    paused(async {
        let until = async { stopped.await.unwrap() };
        let server =
            diary.server(router).shutdown_on(until).limits(Limits { drain_limit: Duration::ZERO, ..Limits::default() });
        let address = server.local_addr().unwrap();
        let running = spawn(server.run());
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        let report = running.await.unwrap().unwrap();
        assert_eq!(report.completed + report.failed + report.unfinished.len(), 1, "{report}");
    });
}

#[test]
fn a_list_first_asked_for_after_the_answer_is_closed() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/", async move |request: Request| {
        let notes = notes.clone();
        drop(spawn(async move {
            time::sleep(Duration::from_secs(1)).await;
            notes.note(format!("{:?}", request.tasks().add(async {}).unwrap_err()));
        }));
        "answer"
    });
    paused(async {
        diary.get(router, "/").await;
        assert_eq!(diary.lines(), ["Closed"]);
    });
}

#[test]
fn a_concurrent_list_overlaps_and_takes_more_while_it_runs() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
        tasks.concurrent();
        for (name, seconds) in [("slow", 5), ("quick", 1), ("adds", 2)] {
            let (notes, more) = (notes.clone(), tasks.clone());
            tasks.add(async move {
                time::sleep(Duration::from_secs(seconds)).await;
                notes.note(name);
                if name == "adds" {
                    let notes = notes.clone();
                    more.add(async move { notes.note("added") }).unwrap();
                }
            })?;
        }
        let never = Cell::new(false);
        tasks.add(async move { assert!(never.get(), "alone") })?;
        Ok::<_, Error>("answer")
    });
    paused(async {
        diary.get(router, "/").await;
        let lines = diary.lines();
        assert!(lines[0].contains("panicked: alone"), "{lines:?}");
        assert_eq!(lines[1..], ["quick", "adds", "added", "slow"]);
    });
}

#[test]
fn a_list_that_stops_on_errors_says_what_it_skipped() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new().get("/", async move |tasks: BackgroundTasks| {
        let notes = notes.clone();
        tasks.stop_on_error();
        tasks.task("first").run(async move || notes.note("first"))?;
        tasks.task("charge").run(async || Err::<(), _>("no money"))?;
        tasks.task("ship").run(async || ())?;
        tasks.task("thank").run_blocking(|| ())?;
        Ok::<_, Error>("answer")
    });
    paused(async {
        diary.get(router, "/").await;
        let lines = diary.lines();
        let says = |line: usize, text: &str| assert!(lines[line].contains(text), "{lines:?}");
        assert_eq!((lines.len(), lines[0].as_str()), (4, "first"));
        says(1, "'charge' failed: no money");
        says(2, "'ship' not run: 'charge' failed");
        says(3, "'thank' not run: 'charge' failed");
    });
}

#[test]
fn a_stop_ends_a_concurrent_list_too_and_names_what_ran() {
    let diary = Diary::default();
    let router = Router::new().get("/", async |tasks: BackgroundTasks| {
        tasks.concurrent();
        tasks.task("one").run(async || std::future::pending::<()>().await)?;
        tasks.task("two").run(async || std::future::pending::<()>().await)?;
        Ok::<_, Error>("answer")
    });
    paused(async {
        let server = diary.server(router).shutdown_on(time::sleep(Duration::from_secs(1)));
        let server = server.limits(Limits { drain_limit: Duration::from_secs(10), ..Limits::default() });
        let address = server.local_addr().unwrap();
        let running = spawn(server.run());
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        let report = running.await.unwrap().unwrap();
        let left: Vec<_> = report.unfinished.iter().map(|task| (&*task.name, task.status == Status::Running)).collect();
        assert_eq!(left, [("one", true), ("two", true)]);
    });
}

/// Adds a note to the diary in a task of the response.
fn noting(diary: &Diary, text: &'static str) -> Response {
    let diary = diary.clone();
    Response::new(200).with_body("inner").background(async move { diary.note(text) })
}

#[test]
fn a_layer_that_answers_something_else_loses_no_task_of_the_response_it_replaces() {
    let diary = Diary::default();
    let (inner, outer) = (diary.clone(), diary.clone());
    let router = Router::new().get("/", async move || noting(&inner, "inner")).with(
        async move |request: Request, next: Next| {
            drop(next.run(request).await);
            noting(&outer, "outer").with_body("replaced")
        },
    );
    let answer = paused(diary.get(router, "/"));
    assert!(answer.ends_with("replaced"));
    assert_eq!(diary.lines(), ["inner", "outer"]);
}

#[test]
fn the_handler_s_own_outcome_decides_whatever_a_layer_makes_of_it() {
    // The handler, the layer, and what is noted.
    for (path, layered, expected) in [
        ("/fails", true, "! background task 'task' not run: the handler failed with 404 (GET /fails, request 1)"),
        ("/panics", false, "! background task 'task' not run: the handler failed with 500 (GET /panics, request 1)"),
        ("/slow", false, "! background task 'task' not run: the handler failed with 503 (GET /slow, request 1)"),
        ("/teapot", true, "ran"),
    ] {
        let diary = Diary::default();
        let notes = diary.clone();
        let add = async move |tasks: &BackgroundTasks| {
            let notes = notes.clone();
            tasks.task("task").run(async move || notes.note("ran")).map(drop)
        };
        let (one, two, three) = (add.clone(), add.clone(), add.clone());
        let router = Router::new()
            .get("/fails", async move |tasks: BackgroundTasks| {
                one(&tasks).await?;
                Err::<(), _>(Error::new(404, "no"))
            })
            .get("/panics", async move |tasks: BackgroundTasks| {
                two(&tasks).await.unwrap();
                if true { panic!("on purpose") } else { "never" }
            })
            .get("/slow", async move |tasks: BackgroundTasks| {
                three(&tasks).await.unwrap();
                std::future::pending::<&str>().await
            })
            .get("/teapot", async move |tasks: BackgroundTasks| {
                add(&tasks).await.unwrap();
                (StatusCode::IM_A_TEAPOT, "an answer all the same")
            })
            .with(postlude::http::middleware::timeout(Duration::from_secs(5)))
            .with(postlude::http::middleware::catch_panic());
        let router = if layered {
            router.with(async |request: Request, next: Next| {
                drop(next.run(request).await);
                Response::new(200).with_body("a page of its own")
            })
        } else {
            router
        };
        let _answer = paused(diary.get(router, path));
        assert_eq!(diary.lines(), [expected], "{path}");
    }
}

/// A layer as it may end, given what is inside of it.
type LayerEnd = fn(Router) -> Router;

#[test]
fn no_layer_changes_how_the_handler_has_ended() {
    use postlude::http::middleware::{catch_panic, timeout};
    const LIMIT: Duration = Duration::from_secs(5);
    let ends: [(&str, &str, LayerEnd); 6] = [
        ("returns `Err`", "418", |router| {
            router.with(async |request: Request, next: Next| {
                drop(next.run(request).await);
                Err::<Response, _>(Error::new(418, "the layer's own"))
            })
        }),
        ("panics", "500", |router| router.with(panics)),
        ("panics within `catch_panic`", "500", |router| router.with(panics).with(catch_panic())),
        ("keeps the answer until a time limit drops it", "503", |router| {
            router.with(timeout(LIMIT)).with(async |request: Request, next: Next| {
                let response = next.run(request).await;
                time::sleep(2 * LIMIT).await;
                response
            })
        }),
        ("drops what is inside after a time of its own", "504", |router| {
            router
                .with(async |request: Request, next: Next| {
                    let inside = time::timeout(LIMIT, next.run(request)).await;
                    inside.map_err(|_| Error::new(504, "too slow"))
                })
                .with(async |request: Request, next: Next| {
                    let response = next.run(request).await;
                    std::future::pending::<()>().await;
                    response
                })
        }),
        ("replaces the answer", "200", |router| {
            router.with(async |request: Request, next: Next| {
                drop(next.run(request).await);
                Response::new(200)
            })
        }),
    ];
    let jobs = async |tasks: &BackgroundTasks, diary: Diary| {
        let (one, two, three) = (diary.clone(), diary.clone(), diary);
        tasks.task("default").run(async move || one.note("default"))?;
        tasks.task("delivered").only_delivered().run(async move || two.note("delivered"))?;
        tasks.task("failure").on_failure().run(async move |job: Running| {
            three.note(format!("failure: {}", job.outcome().expect("it has one")));
        })?;
        Ok::<_, Error>(())
    };
    let router = |diary: &Diary| {
        let (one, two, three) = (diary.clone(), diary.clone(), diary.clone());
        Router::new()
            .get("/ok", async move |tasks: BackgroundTasks| jobs(&tasks, one.clone()).await.map(|()| "an answer"))
            .get("/err", async move |tasks: BackgroundTasks| {
                jobs(&tasks, two.clone()).await?;
                Err::<&str, _>(Error::new(404, "no"))
            })
            .get("/slow", async move |tasks: BackgroundTasks| {
                jobs(&tasks, three.clone()).await?;
                time::sleep(100 * LIMIT).await;
                Ok::<_, Error>("an answer that nobody waits for")
            })
    };
    for (way, status, end) in ends {
        for path in ["/ok", "/err", "/slow"] {
            if path == "/slow" && !way.contains("time") {
                continue;
            }
            let diary = Diary::default();
            let answer = paused(diary.get(end(router(&diary)), path));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}, and the layer {way}: {answer}");
            let lines: Vec<_> = diary.lines().into_iter().filter(|line| !line.starts_with('!')).collect();
            match path {
                "/ok" => assert_eq!(lines, ["default", "delivered"], "the layer {way}"),
                "/err" => assert_eq!(lines, ["failure: the handler failed with 404"], "the layer {way}"),
                _ => assert_eq!(lines, ["failure: the handler failed with 503"], "the layer {way}"),
            }
        }
    }
}

async fn panics(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.status() != 1 { panic!("in a layer") } else { response }
}

#[test]
fn a_connection_that_is_dropped_after_the_handler_answered_aborts_the_answer() {
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new()
        .get("/", async move |tasks: BackgroundTasks| {
            let (one, two) = (notes.clone(), notes.clone());
            tasks.task("default").run(async move |job: Running| one.note(format!("{:?}", job.outcome())))?;
            tasks.task("failure").on_failure().run(async move || two.note("failure"))?;
            Ok::<_, Error>("answer")
        })
        .with(async |request: Request, next: Next| {
            let response = next.run(request).await;
            std::future::pending::<()>().await;
            response
        });
    paused(async {
        let server = diary.server(router);
        let (client, wire) = UnixStream::pair().unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        assert!(time::timeout(Duration::from_secs(1), server.serve_connection(wire)).await.is_err());
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!(diary.lines(), ["Some(Aborted)"]);
    });
}

#[test]
fn an_extractor_that_two_parameters_share_runs_once_as_cached() {
    #[derive(Clone)]
    struct Counted;
    impl FromRequest for Counted {
        type Rejection = Error;

        async fn from_request(request: &mut Request) -> Result<Self> {
            Adds::from_request(request).await.map(|_| Self)
        }
    }
    let diary = Diary::default();
    let router = Router::new().get("/", async |_: Cached<Counted>, _: Cached<Counted>| "cached");
    let _answer = paused(diary.get(router, "/"));
    assert_eq!(diary.lines(), ["extractor"]);
    let router = Router::new().get("/", async |_: Counted, _: Counted| "not cached");
    let _answer = paused(diary.get(router, "/"));
    assert_eq!(diary.lines(), ["extractor"; 3]);
}

#[test]
fn task_locals_of_a_layer_reach_the_task() {
    static TENANT: postlude::task::Local<u32> = postlude::task::Local::new();
    let diary = Diary::default();
    let notes = diary.clone();
    let router = Router::new()
        .get("/", async move |tasks: BackgroundTasks| {
            let notes = notes.clone();
            tasks.add(async move { notes.note(format!("{:?}", TENANT.get())) })?;
            Ok::<_, Error>("answer")
        })
        .with(async |request: Request, next: Next| TENANT.scope(7, next.run(request)).await);
    let _answer = paused(diary.get(router, "/"));
    assert_eq!(diary.lines(), ["Some(7)"]);
}

#[test]
fn an_accepted_job_can_be_followed_and_cancelled_at_its_location() {
    let diary = Diary::default();
    let allowed = async |request: &Request, _: &Info| request.field("x-key") == Some(b"secret");
    let router = Router::new()
        .post("/files", async |tasks: BackgroundTasks| {
            let id = tasks.task("index").run(async |job: Running| {
                job.progress(3, 10);
                time::sleep(Duration::from_secs(5)).await;
            })?;
            Ok::<_, Error>(Response::accepted(id, "/jobs/{id}"))
        })
        .get("/jobs/{id}", jobs::status(allowed))
        .delete("/jobs/{id}", jobs::cancel(allowed))
        .get("/jobs", jobs::list(allowed));
    paused(async {
        let server = Rc::new(diary.server(router));
        let ask = async |method: &str, path: &str, key: &str| {
            let client = connect(&server);
            let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\nConnection: close\r\n\r\n");
            client.write_all(head.as_bytes()).await.unwrap();
            read_to_end(&client).await
        };
        let answer = ask("POST", "/files", "").await;
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        let location = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned();
        let id = location.strip_prefix("/jobs/").unwrap();
        assert!(answer.ends_with(&format!("{{\"id\":\"{id}\"}}")), "{answer}");
        time::sleep(Duration::from_secs(1)).await;
        let running = ask("GET", &location, "secret").await;
        assert!(running.contains("retry-after: 1\r\n") && running.contains("cache-control: no-store"), "{running}");
        assert!(
            running.contains(&format!("\"id\":\"{id}\",\"name\":\"index\",\"lane\":\"loop\",\"status\":\"running\""))
        );
        assert!(running.contains("\"progress\":{\"done\":3,\"of\":10}"), "{running}");
        assert!(ask("GET", &location, "wrong").await.starts_with("HTTP/1.1 404"), "the guard says no");
        assert!(ask("GET", "/jobs/17", "secret").await.starts_with("HTTP/1.1 404"));
        assert!(ask("GET", "/jobs/x", "secret").await.starts_with("HTTP/1.1 404"));
        assert!(ask("GET", "/jobs", "wrong").await.ends_with("[]"));
        assert!(ask("DELETE", &location, "secret").await.starts_with("HTTP/1.1 202"));
        time::sleep(Duration::from_secs(1)).await;
        let over = ask("DELETE", &location, "secret").await;
        assert!(over.starts_with("HTTP/1.1 409") && over.ends_with("the job is cancelled"), "{over}");
        assert!(ask("GET", "/jobs", "secret").await.contains("\"status\":\"cancelled\""));
        assert_eq!(server.tasks().stats().total().cancelled, 1);
    });
}

#[test]
fn one_line_reports_a_thousand_tasks_that_do_not_run() {
    let told = Rc::new(Cell::new(0));
    let events = Rc::clone(&told);
    let queue = postlude::deferred::Queue::builder()
        .on_event(move |job, _| events.set(events.get() + u32::from(job.status == Status::Skipped)))
        .build();
    let router = Router::new().get("/", async |tasks: BackgroundTasks| {
        for _ in 0..1000 {
            tasks.add(async {})?;
        }
        Err::<(), _>(Error::new(500, "no"))
    });
    paused(async {
        exchange_with(server(router).queue(queue), &get("/")).await;
        time::sleep(Duration::from_secs(1)).await;
    });
    // One line on stderr, which `reports` looks at; here each is on the books.
    assert_eq!(told.get(), 1000);
}

#[test]
fn tasks_that_the_end_of_the_runtime_cuts_off_are_told_however_the_server_ended() {
    for (way, runs) in [("run", true), ("single connections", false)] {
        let diary = Diary::default();
        let router = Router::new().get("/", async |tasks: BackgroundTasks| {
            tasks.task("endless").run(async || std::future::pending::<()>().await)?;
            tasks.task("behind").run(async || ())?;
            Ok::<_, Error>("answer")
        });
        let server = diary.server(router);
        paused(async {
            if runs {
                let address = server.local_addr().unwrap();
                let running = spawn(time::timeout(Duration::from_secs(5), server.run()));
                let client = TcpStream::connect(address).await.unwrap();
                client.write_all(get("/").as_bytes()).await.unwrap();
                assert!(running.await.unwrap().is_err(), "the server's future is dropped");
            } else {
                let (client, wire) = UnixStream::pair().unwrap();
                client.write_all(get("/").as_bytes()).await.unwrap();
                server.serve_connection(wire).await;
            }
        });
        let unfinished = |name: &str| format!("! background task '{name}' unfinished (GET /, request 1)");
        assert_eq!(diary.lines(), [unfinished("endless"), unfinished("behind")], "{way}");
    }
}

#[test]
fn tasks_of_a_response_that_are_refused_and_panic_as_they_are_dropped_are_a_503_all_the_same() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    fn refused() -> Response {
        let explosive = || {
            let bomb = Bomb;
            async move {
                let _bomb = bomb;
            }
        };
        Response::new(200).background(explosive()).background(explosive())
    }
    let routers = [
        Router::new().get("/", async || refused()),
        Router::new().get("/", async || "inner").with(async |request: Request, next: Next| {
            drop(next.run(request).await);
            refused()
        }),
    ];
    for router in routers {
        let answer = paused(exchange_with(server(router).limits(limits_of_tasks(0, 0)), &get("/")));
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
}
