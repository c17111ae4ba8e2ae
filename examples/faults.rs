//! Breaks connections, handlers and jobs at random, and checks that the books agree in the end.
//!
//! ```text
//! cargo run --release --example faults                 a minute
//! cargo run --release --example faults 600 17          ten minutes, from seed 17 on
//! cargo run --release --example faults round 17        one round, with its whole stderr
//! ```
//!
//! A round runs in its own process for about two seconds: a server with small limits, clients that
//! reset, hang up, pipeline and send half heads, handlers that fail, panic and dawdle behind
//! layers, and jobs of every kind. The seed picks its end: a stop, a cancelled `run`, or a runtime
//! dropped in the middle. Then three books must agree about every job:
//!
//! 1. the counts of the job's own code: how often it began, and how often it came to its end;
//! 2. the queue's `stats`, per lane;
//! 3. the calls of the hooks.
//!
//! The first disagreement, or a round that does not end, ends the run with exit code 1 and prints
//! the seed that repeats it. A seed repeats the plan; threads and sockets keep their own time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::panic_any;
use std::process::{Command, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt};
use postlude::deferred::{
    AddError, Fault, Group, Info, JobId, Lane, Once, Outcome, Queue, QueueHandle, Retry, Running, Status, Task,
};
use postlude::http::{
    self, BackgroundTasks, Limits, Next, Path, Request, Response, Router, Server, ShutdownReport, State, Upgraded,
    jobs, middleware,
};
use postlude::iter::generate;
use postlude::task::yield_now;
use postlude::time;

const USAGE: &str = "\
usage: faults [SECONDS] [SEED]    rounds for so long, 60 seconds by default, from this seed on
       faults round SEED          one round";

/// A round ends in two seconds, and its threads soon after. A loaded machine takes its time.
const LONGEST_ROUND: Duration = Duration::from_secs(60);
/// Threads of jobs work at most for a second.
const LONGEST_THREAD: Duration = Duration::from_secs(20);
const CLIENTS: u64 = 4;

type Failure = Box<dyn Error>;
type SendFailure = Box<dyn Error + Send + Sync>;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

// Chance.

/// SplitMix64: what one number says is the whole plan of a request, and of a job.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn split(&mut self) -> Self {
        Self(self.next())
    }
}

/// A panic that is part of the plan; the panic hook says nothing of it.
struct Planned;

fn planned_panic() -> ! {
    panic_any(Planned)
}

// What the jobs say of themselves.

/// One piece of work: what its code did, by its own account.
#[derive(Debug, Default)]
struct Work {
    begun: AtomicU32,
    /// Tries that came to a good end.
    done: AtomicU32,
    /// Tries that came to an error or a panic.
    failed: AtomicU32,
    on_thread: bool,
    /// Its thread may come to its end after its time is over.
    has_limit: bool,
    /// It has a destructor that panics after a good end.
    drops_badly: bool,
}

impl Work {
    fn begin(&self) {
        self.begun.fetch_add(1, SeqCst);
    }

    fn is_at_work(&self) -> bool {
        self.on_thread && self.begun.load(SeqCst) > self.done.load(SeqCst) + self.failed.load(SeqCst)
    }

    fn counts(&self) -> (u32, u32, u32) {
        (self.begun.load(SeqCst), self.done.load(SeqCst), self.failed.load(SeqCst))
    }
}

/// The work of a round, by what became of it when it was added.
#[derive(Default)]
struct Ledger {
    /// Accepted under this id.
    accepted: HashMap<u64, Arc<Work>>,
    /// Must never begin: a refusal, or another job took its place.
    refused: Vec<Arc<Work>>,
    /// Added in a way that gives no id.
    nameless: Vec<Arc<Work>>,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// What the hooks were told.

#[derive(Default)]
struct Told {
    jobs: HashMap<u64, ToldOf>,
    /// Calls of `on_fault`.
    faults: u64,
    /// Jobs that were not run because of the condition chosen for them: no fault.
    by_choice: u64,
    events: u64,
}

struct ToldOf {
    lane: &'static str,
    status: Status,
    attempt: u32,
    timed_out: bool,
    /// Times that it was told to be over.
    ends: u32,
}

impl Told {
    fn hear(&mut self, info: &Info, fault: Option<&Fault>) {
        self.events += 1;
        let is_excluded = info.status == Status::Skipped && matches!(fault, Some(Fault::Condition(_)));
        self.by_choice += u64::from(is_excluded && info.name == CHOSEN);
        let new = ToldOf { lane: info.lane, status: info.status, attempt: 0, timed_out: false, ends: 0 };
        let job = self.jobs.entry(info.id.get()).or_insert(new);
        job.status = info.status;
        job.attempt = info.attempt;
        job.timed_out = matches!(fault, Some(Fault::TimedOut { .. }));
        job.ends += u32::from(info.status.is_final());
    }
}

// The world of a round.

struct World {
    queue: Queue,
    ledger: Arc<Mutex<Ledger>>,
    recent: RefCell<VecDeque<JobId>>,
    refusals: Cell<u64>,
    /// The queue has said that it takes no more.
    is_over: Cell<bool>,
}

/// Where a job is added.
#[derive(Clone)]
enum Place {
    Queue,
    Request(BackgroundTasks),
    Group(Group),
}

/// The name of a job with a condition of its own.
const CHOSEN: &str = "of a request, by choice";
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

impl World {
    fn note(&self, added: Result<JobId, AddError>, work: Arc<Work>) -> Option<JobId> {
        let mut ledger = lock(&self.ledger);
        match added {
            Ok(id) => {
                // A job with a key may have joined one that was accepted before.
                if let Some(before) = ledger.accepted.insert(id.get(), Arc::clone(&work)) {
                    ledger.accepted.insert(id.get(), before);
                    ledger.refused.push(work);
                }
                let mut recent = self.recent.borrow_mut();
                recent.push_back(id);
                if recent.len() > 64 {
                    recent.pop_front();
                }
                Some(id)
            }
            Err(error) => {
                self.refusals.set(self.refusals.get() + 1);
                self.is_over.set(self.is_over.get() || error == AddError::ShuttingDown);
                ledger.refused.push(work);
                None
            }
        }
    }

    fn cancel_some(&self, dice: &mut Dice) {
        let recent = self.recent.borrow();
        let id = recent.get(dice.below(64) as usize).copied();
        drop(recent);
        if let Some(id) = id {
            self.queue.cancel(id);
        }
    }

    /// Adds a job of some kind. `depth` counts the jobs that it was added by.
    fn add(self: &Rc<Self>, place: &Place, dice: &mut Dice, depth: u32) -> Option<JobId> {
        match dice.below(10) {
            0..4 => {
                let work = Arc::new(Work { drops_badly: dice.one_in(20), ..Work::default() });
                let job = self.on_loop(&work, place.clone(), dice.split(), depth);
                let added = match place {
                    Place::Queue => self.queue.add(job),
                    Place::Request(tasks) => tasks.add(job),
                    Place::Group(group) => group.add(job),
                };
                self.note(added, work)
            }
            4 => {
                let work = Arc::new(Work { on_thread: true, ..Work::default() });
                let job = on_thread(&work, dice.next());
                let job = move || job(None);
                let added = match place {
                    Place::Queue => self.queue.add_blocking(job),
                    Place::Request(tasks) => tasks.add_blocking(job),
                    Place::Group(group) => group.add_blocking(job),
                };
                self.note(added, work)
            }
            _ => match place {
                Place::Queue => self.dress(self.queue.task("of the queue"), place, dice, depth),
                Place::Request(tasks) => {
                    let choice = dice.below(8);
                    let task = tasks.task(if choice < 3 { CHOSEN } else { "of a request" });
                    let task = match choice {
                        0 => task.only_delivered(),
                        1 => task.on_failure(),
                        2 => task.always(),
                        _ => task,
                    };
                    self.dress(task, place, dice, depth)
                }
                Place::Group(group) => self.dress(group.task("of a group"), place, dice, depth),
            },
        }
    }

    fn dress<P>(
        self: &Rc<Self>,
        mut task: Task<'_, P, Once>,
        place: &Place,
        dice: &mut Dice,
        depth: u32,
    ) -> Option<JobId> {
        let (blocks, has_limit, tries) = (dice.one_in(3), dice.one_in(3), dice.one_in(3));
        if has_limit {
            task = task.timeout(ms(1 + dice.below(20)));
        }
        if dice.one_in(5) {
            // Some never begin.
            task = task.after(if dice.one_in(20) { ms(60_000) } else { ms(dice.below(60)) });
        }
        if dice.one_in(4) {
            task = task.key(KEYS[dice.below(4) as usize]);
        }
        if dice.one_in(3) {
            task = task.lane(if blocks { "wide" } else { "narrow" });
        }
        let work = Arc::new(Work { on_thread: blocks, has_limit, ..Work::default() });
        let retry = {
            let retry = Retry::times(1 + dice.below(3) as u32).first(ms(dice.below(20)));
            if dice.one_in(20) { retry.only(|_| planned_panic()) } else { retry }
        };
        let seed = dice.next();
        let added = if blocks {
            let job = on_thread(&work, seed);
            let job = move |running: Running| job(Some(&running));
            if tries { task.retry(retry).run_blocking(job) } else { task.run_blocking(job) }
        } else {
            let (world, place, counted) = (Rc::clone(self), place.clone(), Arc::clone(&work));
            let job = async move |running: Running| {
                let mut dice = Dice(seed.wrapping_add(u64::from(running.attempt())));
                running.progress(1, 2);
                if dice.one_in(40) {
                    world.queue.cancel(running.id());
                }
                if dice.one_in(10) {
                    counted.begin();
                    running.stopping().await;
                    counted.done.fetch_add(1, SeqCst);
                    return Ok(());
                }
                world.on_loop(&counted, place.clone(), dice, depth).await
            };
            if tries { task.retry(retry).run(job) } else { task.run(job) }
        };
        self.note(added, work)
    }

    /// A job's try on the loop.
    fn on_loop(
        self: &Rc<Self>,
        work: &Arc<Work>,
        place: Place,
        mut dice: Dice,
        depth: u32,
    ) -> impl Future<Output = Result<(), Failure>> + use<> {
        let (world, work) = (Rc::clone(self), Arc::clone(work));
        let guard = AtEnd {
            adds: dice.one_in(20).then(|| (Rc::clone(self), place.clone(), dice.split())),
            panics: work.drops_badly.then(|| Arc::clone(&work)),
        };
        async move {
            let _guard = guard;
            work.begin();
            for _ in 0..dice.below(3) {
                yield_now().await;
            }
            if dice.one_in(3) {
                time::sleep(ms(dice.below(12))).await;
            }
            if depth < 3 && dice.one_in(5) {
                world.add(&place, &mut dice, depth + 1);
            }
            if dice.one_in(40) {
                world.cancel_some(&mut dice);
            }
            if dice.one_in(2000) {
                std::future::pending::<()>().await;
            }
            match dice.below(12) {
                0 => {
                    work.failed.fetch_add(1, SeqCst);
                    Err("on purpose".into())
                }
                1 => {
                    work.failed.fetch_add(1, SeqCst);
                    planned_panic()
                }
                2 if dice.one_in(4) => {
                    work.failed.fetch_add(1, SeqCst);
                    Err(Unspeakable.into())
                }
                _ => {
                    work.done.fetch_add(1, SeqCst);
                    Ok(())
                }
            }
        }
    }
}

/// A job's try on a thread.
fn on_thread(
    work: &Arc<Work>,
    seed: u64,
) -> impl Fn(Option<&Running>) -> Result<(), SendFailure> + Send + Sync + use<> {
    let work = Arc::clone(work);
    move |running| {
        let attempt = running.map_or(1, Running::attempt);
        let mut dice = Dice(seed.wrapping_add(u64::from(attempt)));
        work.begin();
        // Some outlive the stop.
        let mut left = if dice.one_in(60) { 200 + dice.below(800) } else { dice.below(6) };
        let heeds = dice.one_in(2);
        while left > 0 && !(heeds && running.is_some_and(Running::is_cancelled)) {
            let step = left.min(5);
            std::thread::sleep(ms(step));
            left -= step;
        }
        match dice.below(8) {
            0 => {
                work.failed.fetch_add(1, SeqCst);
                Err("on purpose".into())
            }
            1 => {
                work.failed.fetch_add(1, SeqCst);
                planned_panic()
            }
            _ => {
                work.done.fetch_add(1, SeqCst);
                Ok(())
            }
        }
    }
}

/// What the end of a try does beside ending.
struct AtEnd {
    adds: Option<(Rc<World>, Place, Dice)>,
    /// Panics if this came to a good end.
    panics: Option<Arc<Work>>,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some((world, place, mut dice)) = self.adds.take() {
            // Outside a runtime a queue panics, where a group refuses or cuts off.
            if !matches!(place, Place::Queue) || postlude::task::current().is_some() {
                world.add(&place, &mut dice, 3);
            }
        }
        if self.panics.take().is_some_and(|work| work.done.load(SeqCst) > 0) {
            planned_panic();
        }
    }
}

/// An error whose text panics.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        planned_panic()
    }
}

impl Error for Unspeakable {}

// The server.

async fn act(
    Path(seed): Path<u64>,
    State(world): State<Rc<World>>,
    tasks: BackgroundTasks,
    request: Request,
) -> http::Result<Response> {
    let mut dice = Dice(seed);
    if dice.one_in(4) {
        tasks.concurrent();
    }
    if dice.one_in(6) {
        tasks.stop_on_error();
    }
    let place = Place::Request(tasks.clone());
    let mut ids = String::new();
    for _ in 0..dice.below(5) {
        if let Some(id) = world.add(&place, &mut dice, 0) {
            ids += &format!("{id} ");
        }
    }
    if dice.one_in(8) {
        world.add(&Place::Queue, &mut dice, 0);
    }
    if dice.one_in(10) {
        if let Ok(mut permit) = tasks.reserve(1) {
            let (world, mut dice) = (Rc::clone(&world), dice.split());
            drop(postlude::spawn(async move {
                time::sleep(ms(dice.below(30))).await;
                let work = Arc::new(Work::default());
                let job = world.on_loop(&work, Place::Queue, dice.split(), 3);
                world.note(permit.add(job), work);
            }));
        }
    }
    if dice.one_in(8) {
        // It may outlive the request.
        drop(postlude::spawn(async move {
            time::sleep(ms(3)).await;
            drop(request);
        }));
    }
    if dice.one_in(6) {
        time::sleep(ms(dice.below(30))).await;
    }
    match dice.below(20) {
        0 => Err(http::Error::new(404, "no")),
        1 if dice.one_in(4) => planned_panic(),
        2 => {
            let work = Arc::new(Work::default());
            lock(&world.ledger).nameless.push(Arc::clone(&work));
            Ok(Response::new(200).background(world.on_loop(&work, place, dice, 0)))
        }
        3 => {
            let pieces = generate(async move |out| {
                for n in 0..dice.below(5) {
                    if dice.one_in(20) {
                        planned_panic();
                    }
                    time::sleep(ms(n)).await;
                    out.emit(Ok(vec![b'x'; 1000])).await;
                }
            });
            Ok(Response::stream(pieces))
        }
        4 => Ok(Response::new(200).with_body("x".repeat(1 << 20))),
        5 => {
            let work = Arc::new(Work::default());
            let added = tasks.add(world.on_loop(&work, place, dice, 0));
            world.note(added, work);
            added?;
            Ok(Response::new(204))
        }
        _ => Ok(Response::new(200).with_body(ids)),
    }
}

async fn upgrade(Path(seed): Path<u64>, State(world): State<Rc<World>>, tasks: BackgroundTasks) -> Response {
    let mut dice = Dice(seed);
    world.add(&Place::Request(tasks.clone()), &mut dice, 0);
    Response::upgrade("faults", async move |mut client: Upgraded| {
        let mut bytes = [0; 10];
        if client.read_exact(&mut bytes).await.is_ok() && client.write_all(&bytes).await.is_ok() {
            world.add(&Place::Request(tasks.clone()), &mut dice, 0);
        }
        if dice.one_in(10) {
            planned_panic();
        }
    })
}

async fn replace(request: Request, next: Next) -> Response {
    let inner = next.run(request).await;
    if inner.status().is_success() { Response::new(502) } else { Response::new(200).with_body("never mind") }
}

fn router(world: &Rc<World>) -> Router {
    let acting = || Router::new().state(Rc::clone(world)).get("/{seed}", act).post("/{seed}", act);
    Router::new()
        .nest("/plain", acting())
        .nest("/replaced", acting().with(replace))
        .nest("/limited", acting().with(middleware::timeout(ms(10))))
        .nest("/caught", acting().with(replace).with(middleware::catch_panic()))
        .nest("/upgrade", Router::new().state(Rc::clone(world)).get("/{seed}", upgrade))
        .get("/jobs/{id}", jobs::status(async |_, _| true))
        .delete("/jobs/{id}", jobs::cancel(async |_, _| true))
        .get("/jobs", jobs::list(async |_, _| true))
}

/// Opens a group at the latest when it is dropped.
struct Gate(Group);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.release(Outcome::Aborted);
    }
}

/// Works on the queue beside the requests: groups and jobs of its own, holds, cancels.
async fn meddle(world: Rc<World>, mut dice: Dice) {
    while !world.is_over.get() {
        time::sleep(ms(1 + dice.below(8))).await;
        match dice.below(12) {
            0 => {
                world.queue.hold();
                time::sleep(ms(dice.below(8))).await;
                world.queue.release();
            }
            1 | 2 => world.cancel_some(&mut dice),
            3 => drop(world.queue.list()),
            _ => {
                let group = world.queue.group("a group", dice.next());
                if dice.one_in(3) {
                    group.stop_on_error();
                }
                if dice.one_in(3) {
                    group.concurrent();
                }
                let mut permit = if dice.one_in(3) { group.reserve(1).ok() } else { None };
                if dice.one_in(5) {
                    // Dropping it counts as aborted, unless one of its jobs has a clone.
                    let work = Arc::new(Work::default());
                    world.note(group.add(world.on_loop(&work, Place::Queue, dice.split(), 3)), work);
                    continue;
                }
                // A runtime may end while this waits.
                let gate = Gate(group.clone());
                for _ in 0..dice.below(6) {
                    world.add(&Place::Group(group.clone()), &mut dice, 0);
                }
                match dice.below(5) {
                    0 => drop(gate),
                    1 => group.release(Outcome::Failed(500)),
                    _ => group.release(Outcome::Delivered),
                }
                if let Some(permit) = &mut permit {
                    time::sleep(ms(dice.below(20))).await;
                    let work = Arc::new(Work::default());
                    let job = world.on_loop(&work, Place::Queue, dice.split(), 3);
                    world.note(permit.add(job), work);
                }
            }
        }
    }
}

/// Adds jobs from a thread.
fn remote(handle: &QueueHandle, ledger: &Mutex<Ledger>, mut dice: Dice, stop: &AtomicBool) {
    while !stop.load(SeqCst) {
        std::thread::sleep(ms(1 + dice.below(10)));
        let work = Arc::new(Work::default());
        lock(ledger).nameless.push(Arc::clone(&work));
        let mut added = handle.add(move || async move {
            work.begin();
            yield_now().await;
            work.done.fetch_add(1, SeqCst);
        });
        if let Some(Ok(Ok(id))) = added.wait(ms(100)) {
            if dice.one_in(3) {
                drop(handle.cancel(id));
            }
        }
    }
}

// The clients.

struct Client {
    address: SocketAddr,
    dice: Dice,
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    id: Option<String>,
}

impl Client {
    fn run(mut self) {
        while !self.stop.load(SeqCst) {
            if self.visit().is_err() {
                std::thread::sleep(ms(1));
            }
        }
    }

    fn request(&mut self, fields: &str) -> String {
        self.requests.fetch_add(1, SeqCst);
        if let (Some(id), true) = (&self.id, self.dice.one_in(6)) {
            let method = if self.dice.one_in(2) { "DELETE" } else { "GET" };
            return format!("{method} /jobs/{id} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        }
        let path = match self.dice.below(20) {
            0 => "/jobs".to_owned(),
            n => {
                let group = ["plain", "plain", "plain", "replaced", "limited", "caught"][n as usize % 6];
                format!("/{group}/{}", self.dice.next())
            }
        };
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    }

    /// One connection.
    fn visit(&mut self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.address, ms(500))?;
        stream.set_read_timeout(Some(ms(200)))?;
        stream.set_write_timeout(Some(ms(200)))?;
        match self.dice.below(12) {
            0 => {
                let request = self.request("");
                let half = self.dice.below(request.len() as u64) as usize;
                stream.write_all(&request.as_bytes()[..half])?;
                std::thread::sleep(ms(self.dice.below(5)));
                if self.dice.one_in(2) { self.reset(&stream) } else { Ok(()) }
            }
            1 => {
                stream.write_all(self.request("").as_bytes())?;
                std::thread::sleep(ms(self.dice.below(5)));
                self.reset(&stream)
            }
            2 => {
                stream.write_all(self.request("").as_bytes())?;
                stream.shutdown(Shutdown::Write)?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            }
            3 => {
                let requests: String = (0..2 + self.dice.below(8)).map(|_| self.request("")).collect();
                stream.write_all(requests.as_bytes())?;
                if self.dice.one_in(3) {
                    return self.reset(&stream);
                }
                stream.read_to_end(&mut Vec::new()).map(drop)
            }
            4 => {
                let seed = self.dice.next();
                self.requests.fetch_add(1, SeqCst);
                let head = "Host: a\r\nConnection: upgrade\r\nUpgrade: faults\r\n\r\n";
                write!(stream, "GET /upgrade/{seed} HTTP/1.1\r\n{head}")?;
                let count = self.dice.below(14) as usize;
                stream.write_all(&b"0123456789abcd"[..count])?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            }
            5 => {
                self.requests.fetch_add(1, SeqCst);
                let seed = self.dice.next();
                write!(stream, "POST /plain/{seed} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")?;
                std::thread::sleep(ms(self.dice.below(5)));
                Ok(())
            }
            6 => {
                stream.write_all(b"GET / HTTP/1.1\r\nHost a\r\n\r\n")?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            }
            _ => {
                for _ in 0..self.dice.below(20) {
                    stream.write_all(self.request("").as_bytes())?;
                    if !self.read_answer(&mut stream)? {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// Reads one answer, and keeps an id that it names. False if the connection ends with it.
    fn read_answer(&mut self, stream: &mut TcpStream) -> std::io::Result<bool> {
        let (mut text, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        loop {
            if let Some(at) = text.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&text[..at]).to_lowercase();
                let body = &text[at + 4..];
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                let is_whole = match length {
                    Some(length) => body.len() >= length,
                    None => head.contains(" 204 ") || body.ends_with(b"0\r\n\r\n"),
                };
                if is_whole {
                    let body = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
                    let id = body.split_whitespace().find(|word| word.len() > 15 && word.parse::<JobId>().is_ok());
                    self.id = id.map(str::to_owned).or(self.id.take());
                    return Ok(!head.contains("connection: close"));
                }
            }
            match stream.read(&mut buffer)? {
                0 => return Ok(false),
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn reset(&self, stream: &TcpStream) -> std::io::Result<()> {
        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
    }
}

// A round.

/// How a round ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The server is told to stop under load.
    Stop,
    /// The clients go first, and the queue is idle when the server stops.
    Idle,
    /// `run` is cancelled, and the program drains the queue.
    Cancelled,
    /// `run` is cancelled, and the runtime is dropped at once.
    Dropped,
}

fn round(seed: u64) -> Result<String, Failure> {
    let mut dice = Dice(seed);
    let told = Arc::new(Mutex::new(Told::default()));
    // The hook reaches the queue that holds it, until the round is over.
    let reach: Rc<RefCell<Option<Queue>>> = Rc::default();
    let queue = build_queue(&mut dice, &told, &reach);
    *reach.borrow_mut() = Some(queue.clone());
    let ending = [Ending::Stop, Ending::Idle, Ending::Cancelled, Ending::Dropped][seed as usize % 4];
    let stop = Arc::new(AtomicBool::new(false));
    let (requests, ledger) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Ledger::default())));
    let mut threads = Vec::new();

    let runtime = postlude::Runtime::builder().seed(seed).on_panic(|_| {}).build()?;
    let report = runtime.block_on(async {
        let world = Rc::new(World {
            queue: queue.clone(),
            ledger: Arc::clone(&ledger),
            recent: RefCell::default(),
            refusals: Cell::new(0),
            is_over: Cell::new(false),
        });
        let limits = Limits {
            drain_limit: ms(dice.below(400)),
            idle_timeout: ms(300),
            header_timeout: ms(100),
            body_timeout: ms(50),
            write_timeout: ms(100),
            max_requests: 50,
            max_connections: 20,
            ..Limits::default()
        };
        let server = Server::bind("127.0.0.1:0", router(&world))?.limits(limits).queue(queue.clone());
        let address = server.local_addr()?;
        for _ in 0..CLIENTS {
            let (stop, requests) = (Arc::clone(&stop), Arc::clone(&requests));
            let client = Client { address, dice: dice.split(), stop, requests, id: None };
            threads.push(std::thread::spawn(move || client.run()));
        }
        let (handle, remote_ledger, remote_dice) = (queue.handle(), Arc::clone(&ledger), dice.split());
        let remote_stop = Arc::clone(&stop);
        threads.push(std::thread::spawn(move || remote(&handle, &remote_ledger, remote_dice, &remote_stop)));

        let tick = Arc::new(Work::default());
        lock(&ledger).nameless.push(Arc::clone(&tick));
        drop(queue.every(ms(7), "tick", async move || {
            tick.begin();
            tick.done.fetch_add(1, SeqCst);
        }));
        let meddling = postlude::spawn(meddle(Rc::clone(&world), dice.split()));
        let length = ms(1000 + dice.below(1000));
        let report = match ending {
            Ending::Stop => Some(server.shutdown_on(time::sleep(length)).run().await?),
            Ending::Idle => {
                let (calm, ended) = (queue.clone(), Arc::clone(&stop));
                let calmed = async move {
                    time::sleep(length).await;
                    ended.store(true, SeqCst);
                    world.is_over.set(true);
                    let _ = meddling.await;
                    // Connections that are left end by their limits; the delayed jobs by the stop.
                    let _ = time::timeout(ms(500), calm.idle()).await;
                };
                Some(server.shutdown_on(calmed).run().await?)
            }
            Ending::Cancelled => {
                let _cancelled = time::timeout(length, server.run()).await;
                let unfinished = queue.drain(ms(dice.below(400))).await.unfinished;
                return Ok((None, Some(unfinished)));
            }
            Ending::Dropped => {
                let _cancelled = time::timeout(length, server.run()).await;
                None
            }
        };
        Ok::<_, Failure>((report, None))
    })?;
    let waits = dice.one_in(2);
    if waits {
        runtime.shutdown(LONGEST_THREAD)?;
    } else {
        drop(runtime);
    }
    stop.store(true, SeqCst);
    for thread in threads {
        thread.join().map_err(|_| "a client panicked")?;
    }
    wait_for_threads(&ledger)?;
    let (report, drained) = report?;
    let unfinished = report.as_ref().map(|report: &ShutdownReport| &report.unfinished).or(drained.as_ref());
    let summary = compare(&queue, &lock(&ledger), &lock(&told), unfinished)?;
    reach.take();
    drop(queue);
    if Arc::strong_count(&told) > 1 {
        return Err("the queue is dropped and not freed: its hooks are still there".into());
    }
    Ok(format!("{ending:?}, {} requests, {summary}", requests.load(SeqCst)))
}

fn build_queue(dice: &mut Dice, told: &Arc<Mutex<Told>>, reach: &Rc<RefCell<Option<Queue>>>) -> Queue {
    let (events, faults) = (Arc::clone(told), Arc::clone(told));
    let (reach, hooked) = (Rc::clone(reach), RefCell::new(dice.split()));
    let on_event = move |info: &Info, fault: Option<&Fault>| {
        lock(&events).hear(info, fault);
        let mut dice = hooked.borrow_mut().split();
        let (cancels, panics) = (dice.one_in(100), dice.one_in(200));
        let queue = reach.borrow().clone();
        if let (true, Some(queue)) = (cancels, queue) {
            queue.cancel(info.id);
        }
        if panics {
            planned_panic();
        }
    };
    Queue::builder()
        .pending(30 + dice.below(100) as usize)
        .per_group(3 + dice.below(10) as usize)
        .keep_finished(dice.below(200) as usize, ms(dice.below(2000)))
        .lane(Lane::on_threads("threads").at_once(3))
        .lane(Lane::on_loop("narrow").at_once(2).waiting(10))
        .lane(Lane::on_threads("wide").at_once(2).waiting(10))
        .on_event(on_event)
        .on_fault(move |_, _| lock(&faults).faults += 1)
        .build()
}

fn wait_for_threads(ledger: &Mutex<Ledger>) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let ledger = lock(ledger);
        if !ledger.accepted.values().any(|work| work.is_at_work()) {
            return Ok(());
        }
        drop(ledger);
        if began.elapsed() > LONGEST_THREAD {
            return Err("the thread of a job does not come to its end".into());
        }
        std::thread::sleep(ms(5));
    }
}

// The books.

const FINAL: [Status; 5] = [Status::Done, Status::Failed, Status::Skipped, Status::Cancelled, Status::Unfinished];

/// Compares the books, and says how many jobs there were.
fn compare(queue: &Queue, ledger: &Ledger, told: &Told, report: Option<&Vec<Info>>) -> Result<String, Failure> {
    let mut wrong = Vec::new();
    let stats = queue.stats();
    let total = stats.total();

    // The queue's with the hooks'.
    for lane in &stats.lanes {
        let ended = [lane.done, lane.failed, lane.skipped, lane.cancelled, lane.unfinished];
        if lane.accepted != ended.iter().sum::<u64>() || (lane.waiting, lane.running) != (0, 0) {
            wrong.push(format!("the lane does not add up: {lane:?}"));
        }
        let heard = FINAL.map(|status| {
            told.jobs.values().filter(|job| job.lane == lane.lane && job.status == status).count() as u64
        });
        if heard != ended {
            wrong.push(format!("the lane `{}` counts {ended:?}, its hook was told of {heard:?}", lane.lane));
        }
    }
    if told.jobs.len() as u64 != total.accepted {
        wrong.push(format!("{} accepted, the hook was told of {}", total.accepted, told.jobs.len()));
    }
    let bad = total.failed + total.skipped + total.unfinished - told.by_choice;
    if told.faults != bad {
        wrong.push(format!("{bad} went wrong, the hook for faults was told of {}", told.faults));
    }
    if queue.pending() != 0 || queue.ready() != 0 {
        wrong.push(format!("{} are pending and {} ready in an idle queue", queue.pending(), queue.ready()));
    }
    if let Some(report) = report {
        let mut reported: Vec<_> = report.iter().map(|info| info.id.get()).collect();
        let unfinished = told.jobs.iter().filter(|(_, job)| job.status == Status::Unfinished);
        let mut unfinished: Vec<_> = unfinished.map(|(id, _)| *id).collect();
        reported.sort_unstable();
        unfinished.sort_unstable();
        if reported != unfinished {
            wrong.push(format!("the report names {} unfinished jobs of {}", reported.len(), unfinished.len()));
        }
    }

    // The hooks' with the jobs' own.
    let mut nameless = BTreeMap::new();
    for (id, job) in &told.jobs {
        if job.ends != 1 {
            wrong.push(format!("job {id} ended {} times: {}", job.ends, job.status));
        }
        match ledger.accepted.get(id) {
            Some(work) => wrong.extend(judge(*id, job, work)),
            None => *nameless.entry(job.status.name()).or_insert(0_u32) += 1,
        }
    }
    for id in ledger.accepted.keys().filter(|id| !told.jobs.contains_key(id)) {
        wrong.push(format!("job {id} was accepted, and its hook told of nothing"));
    }
    for work in ledger.refused.iter().filter(|work| work.begun.load(SeqCst) > 0) {
        wrong.push(format!("a job that was refused ran: {work:?}"));
    }
    let done: u32 = ledger.nameless.iter().map(|work| work.done.load(SeqCst)).sum();
    if done != nameless.get("done").copied().unwrap_or(0) {
        wrong.push(format!("{done} jobs without an id came to a good end; the hook was told {nameless:?}"));
    }

    if wrong.is_empty() {
        Ok(format!(
            "{} jobs: {} done, {} failed, {} skipped, {} cancelled, {} unfinished; {} refused or joined",
            total.accepted,
            total.done,
            total.failed,
            total.skipped,
            total.cancelled,
            total.unfinished,
            ledger.refused.len(),
        ))
    } else {
        wrong.truncate(10);
        Err(wrong.join("\n").into())
    }
}

/// Whether the end that the hook was told of is the one that the job's code came to.
fn judge(id: u64, told: &ToldOf, work: &Work) -> Option<String> {
    let (begun, done, failed) = work.counts();
    let is_right = match told.status {
        // A thread that was late may have come to a good end in vain.
        Status::Done if work.on_thread && work.has_limit => done >= 1 && begun == told.attempt,
        Status::Done => done == 1 && begun == told.attempt,
        Status::Failed if work.on_thread && work.has_limit => begun == told.attempt,
        Status::Failed if work.drops_badly => begun == 1 && done + failed == 1,
        // One that panics as it is made or whose time is over at once has not begun.
        Status::Failed => done == 0 && (told.timed_out || failed >= 1) && begun <= told.attempt,
        Status::Skipped => begun == 0,
        Status::Cancelled if work.on_thread && work.has_limit => begun <= told.attempt,
        Status::Cancelled => done == 0 && begun <= told.attempt,
        Status::Unfinished if work.on_thread => begun <= told.attempt,
        Status::Unfinished => done == 0 && begun <= told.attempt,
        _ => false,
    };
    (!is_right).then(|| {
        format!(
            "job {id} is {} in its try {} (timed out: {}), and says {work:?}",
            told.status, told.attempt, told.timed_out
        )
    })
}

// The program.

fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Runs a round in a process of its own: a hang or an abort must not take the run with it.
fn watch(seed: u64) -> Result<String, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut process =
        command.args(["round", &seed.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = (process.stdout.take().ok_or("no stdout")?, process.stderr.take().ok_or("no stderr")?);
    let out = std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).collect::<Vec<_>>());
    // The server reports each panic of a handler, and they are many. What else is written is news.
    let err = std::thread::spawn(move || {
        let lines = BufReader::new(err).lines().map_while(Result::ok);
        lines.filter(|line| !line.starts_with("postlude: ") || line.contains("has not moved")).collect::<Vec<_>>()
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > LONGEST_ROUND {
            process.kill()?;
            process.wait()?;
            break None;
        }
        std::thread::sleep(ms(10));
    };
    let (out, err) = (out.join().unwrap_or_default().join("\n"), err.join().unwrap_or_default().join("\n"));
    match status {
        Some(status) if status.success() && err.is_empty() => Ok(out),
        Some(status) => Err(format!("{status}\n{out}\n{err}").into()),
        None => Err(format!("the round does not end\n{out}\n{err}").into()),
    }
}

fn run(seconds: u64, first: u64) -> ExitCode {
    let began = Instant::now();
    for seed in first.. {
        match watch(seed) {
            Ok(line) => say(&line),
            Err(error) => {
                say(&format!("seed {seed}: {error}\nrepeat it with: faults round {seed}"));
                return ExitCode::FAILURE;
            }
        }
        if began.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
    }
    say("the books agree");
    ExitCode::SUCCESS
}

fn run_round(seed: u64) -> ExitCode {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Planned>() {
            default(info);
        }
    }));
    match round(seed) {
        Ok(line) => {
            say(&format!("seed {seed}: {line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let wrong = match words[..] {
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        ["round", seed] => match seed.parse() {
            Ok(seed) => return run_round(seed),
            Err(_) => format!("`{seed}` is no seed"),
        },
        [] | [_] | [_, _] => {
            let number = |place: usize, default: u64| match words.get(place) {
                None => Ok(default),
                Some(word) => word.parse().map_err(|_| format!("`{word}` is no number")),
            };
            match number(0, 60).and_then(|seconds| Ok((seconds, number(1, 1)?))) {
                Ok((seconds, seed)) => return run(seconds, seed),
                Err(wrong) => wrong,
            }
        }
        _ => "too many arguments".to_owned(),
    };
    let _ = writeln!(std::io::stderr(), "faults: {wrong}; see faults --help");
    ExitCode::from(2)
}
