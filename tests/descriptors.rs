//! What happens when the process runs out of file descriptors or loses one behind our back, and
//! that none is leaked or closed twice. Each test runs in a process of its own, with a limit of its
//! own: it starts itself again through a shell that sets the limit.

use std::cell::Cell;
use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Command;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use futures::future::{join, pending};
use postlude::io::Async;
use postlude::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use postlude::task::yield_now;
use postlude::time::{interval, sleep, timeout};
use postlude::{Runtime, spawn_blocking};

/// How long anything may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs `body` in a process that may have 64 descriptors open. What it wrote, in the process that
/// started it.
fn with_64_descriptors(test: &str, body: impl FnOnce()) -> Option<String> {
    const MARK: &str = "POSTLUDE_TEST_HAS_64_DESCRIPTORS";
    if env::var_os(MARK).is_some() {
        body();
        return None;
    }
    let output = Command::new("sh")
        .args(["-c", r#"ulimit -n 64; exec "$0" --exact "$1" --nocapture --test-threads=1"#])
        .arg(env::current_exe().unwrap())
        .arg(test)
        .env(MARK, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "in the limited process:\n{text}");
    Some(text)
}

/// What this process has open, by number and kind, without the descriptor that reads the list.
#[cfg(target_os = "linux")]
fn open_descriptors() -> Vec<(RawFd, String)> {
    let numbers: Vec<_> = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let kind = |number| std::fs::read_link(std::path::Path::new("/proc/self/fd").join(number)).ok();
    let open = numbers.iter().filter_map(|number| Some((number, kind(number)?)));
    open.map(|(number, kind)| (number.to_str().unwrap().parse().unwrap(), kind.to_string_lossy().into_owned()))
        .collect()
}

/// A descriptor that is not its own: closing it is somebody else's business.
struct Borrowed(RawFd);

impl AsFd for Borrowed {
    #[allow(unsafe_code, reason = "a descriptor that may be closed at any time is what the test is about")]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: not kept: who gets this uses it for a system call at once, and an error of that
        // is expected.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

impl Borrowed {
    /// Reads from a duplicate, which cannot be had of a closed one.
    fn read(&self) -> io::Result<usize> {
        File::from(self.as_fd().try_clone_to_owned()?).read(&mut [0; 16])
    }
}

/// Closes a descriptor behind everybody's back.
#[allow(unsafe_code, reason = "safe code cannot do this, and a user's unsafe code might")]
fn close(descriptor: RawFd) {
    // SAFETY: the number came out of `into_raw_fd`, and no owner is left.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
}

/// Makes a number stand for another open file.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "safe code cannot do this, and a user's unsafe code might")]
fn replace(descriptor: RawFd, by: &File) {
    // SAFETY: two numbers; the one that is replaced stays open, so its owner closes something of
    // its own.
    assert_eq!(unsafe { libc::dup2(by.as_raw_fd(), descriptor) }, descriptor);
}

/// Sends bytes with descriptors along: unix(7), `SCM_RIGHTS`.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the standard library cannot do this yet")]
fn send_with(stream: &StdUnixStream, bytes: &[u8], descriptors: &[RawFd]) {
    let mut control = [0_u64; 32];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let length = size_of_val(descriptors) as u32;
    // SAFETY: `message` points at `part` and `control`, which outlive it; the one header and its
    // numbers fit into `control`.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(length) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        (*header).cmsg_len = libc::CMSG_LEN(length) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().copy_from_nonoverlapping(descriptors.as_ptr(), descriptors.len());
        libc::sendmsg(stream.as_raw_fd(), &raw const message, 0)
    };
    assert_eq!(sent, bytes.len() as isize, "{}", io::Error::last_os_error());
}

/// Opens descriptors until there are no more.
fn hoard() -> Vec<File> {
    let mut hoard = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => hoard.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                assert!(hoard.len() < 64, "the limit is not set");
                return hoard;
            }
        }
    }
}

#[test]
fn a_listener_out_of_descriptors_pauses_and_serves_when_there_are_some() {
    const CLIENTS: usize = 20;
    with_64_descriptors("a_listener_out_of_descriptors_pauses_and_serves_when_there_are_some", || {
        let runtime = Runtime::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..CLIENTS).map(|_| StdTcpStream::connect(address).unwrap()).collect();
        let mut hoard = hoard();

        let served = Rc::new(Cell::new(0));
        let count = Rc::clone(&served);
        // Several who accept share one pause.
        let listener = Rc::new(listener);
        for _ in 0..4 {
            let (listener, count) = (Rc::clone(&listener), Rc::clone(&count));
            drop(runtime.spawn(async move {
                let mut held = Vec::new();
                loop {
                    held.push(listener.accept().await.unwrap());
                    count.set(count.get() + 1);
                }
            }));
        }
        let before = runtime.stats();
        runtime.block_on(sleep(Duration::from_millis(500))).unwrap();
        let (polls, turns) = (runtime.stats().polls - before.polls, runtime.stats().turns - before.turns);
        assert_eq!(served.get(), 0);
        assert!(polls < 100 && turns < 100, "{polls} polls in {turns} turns while there was nothing to do");

        let freed = Instant::now();
        drop(hoard.pop());
        let first = async {
            while served.get() < 1 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        runtime.block_on(timeout(LIMIT, first)).unwrap().unwrap();
        assert!(freed.elapsed() < Duration::from_secs(2), "served {:?} after a descriptor was freed", freed.elapsed());
        assert_eq!(served.get(), 1);

        drop(hoard);
        let rest = async {
            while served.get() < CLIENTS {
                sleep(Duration::from_millis(1)).await;
            }
        };
        runtime.block_on(timeout(LIMIT, rest)).unwrap().unwrap();
        drop(clients);
    });
}

#[test]
fn tasks_that_accept_without_descriptors_share_one_timer() {
    const TASKS: usize = 10;
    with_64_descriptors("tasks_that_accept_without_descriptors_share_one_timer", || {
        let runtime = Runtime::new().unwrap();
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let client = || StdTcpStream::connect(address).unwrap();
        let mut clients: Vec<_> = (0..TASKS).map(|_| client()).collect();
        let hoard = hoard();
        let mut tasks: Vec<_> = (0..TASKS)
            .map(|n| {
                let listener = Rc::clone(&listener);
                runtime.spawn(async move {
                    // One of them waits as the hand-written futures do.
                    let accepted = if n == 1 {
                        std::future::poll_fn(|cx| listener.poll_accept(cx)).await
                    } else {
                        listener.accept().await
                    };
                    accepted.unwrap().0
                })
            })
            .collect();

        let polls = runtime.stats().polls;
        for _ in 0..5 {
            // `block_on` has cancelled the timer of this `sleep` when it returns.
            runtime.block_on(sleep(Duration::from_millis(50))).unwrap();
            assert!(runtime.stats().timers_set <= 1, "{} timers", runtime.stats().timers_set);
        }
        // At most three pauses: each is ended by one wake per task.
        let polls = runtime.stats().polls - polls;
        assert!(polls < 5 * TASKS as u64, "{polls} polls while there was nothing to do");

        // The pause is nobody's: without the task that began it the others go on.
        tasks.remove(0).abort();
        drop(hoard);
        let rest = futures::future::join_all(tasks);
        let served = runtime.block_on(timeout(LIMIT, rest)).unwrap().unwrap();
        assert_eq!(served.into_iter().filter(Result::is_ok).count(), TASKS - 1);
        assert_eq!(runtime.stats().timers_set, 0);
        clients.clear();
    });
}

#[test]
fn a_unix_listener_out_of_descriptors_waits_for_one() {
    with_64_descriptors("a_unix_listener_out_of_descriptors_waits_for_one", || {
        let runtime = Runtime::new().unwrap();
        let path = env::temp_dir().join(format!("postlude-test-full-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let hoard = hoard();
        runtime.block_on(timeout(Duration::from_millis(50), listener.accept())).unwrap().unwrap_err();
        drop(hoard);
        runtime.block_on(timeout(LIMIT, listener.accept())).unwrap().unwrap().unwrap();
        drop(client);
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn without_descriptors_everything_that_needs_one_returns_an_error() {
    with_64_descriptors("without_descriptors_everything_that_needs_one_returns_an_error", || {
        let runtime = Runtime::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        let client = StdTcpStream::connect(peer).unwrap();
        let hoard = hoard();
        let full = |result: Option<io::Error>| assert_eq!(result.unwrap().raw_os_error(), Some(libc::EMFILE));
        full(Runtime::new().err());
        full(TcpListener::bind("127.0.0.1:0").err());
        full(UdpSocket::bind("127.0.0.1:0").err());
        full(UnixStream::pair().err());
        full(UnixDatagram::unbound().err());
        full(runtime.block_on(TcpStream::connect(peer)).unwrap().err());
        // A listener pauses inside a runtime; outside there is no clock to pause by.
        full(futures::executor::block_on(listener.accept()).err());
        drop((hoard, client));
        Runtime::new().unwrap();
    });
}

#[test]
#[cfg(target_os = "linux")]
fn failures_and_cancellations_leak_no_descriptor() {
    with_64_descriptors("failures_and_cancellations_leak_no_descriptor", || {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let runtime = Runtime::new().unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let before = open();
        for _ in 0..100 {
            runtime
                .block_on(async {
                    TcpStream::connect(refused).await.unwrap_err();
                    TcpListener::bind(taken.local_addr().unwrap()).unwrap_err();
                    UdpSocket::bind(socket.local_addr().unwrap()).unwrap_err();
                    UnixStream::connect("/nobody/listens/here").await.unwrap_err();
                    UnixListener::bind("/no/such/folder/here").unwrap_err();
                    UnixDatagram::bind("/no/such/folder/here").unwrap_err();
                    let program = || Command::new("/no/such/program/here").spawn().map(drop);
                    spawn_blocking(program).await.unwrap().unwrap_err();
                    timeout(Duration::ZERO, taken.accept()).await.unwrap_err();
                    let (a, _b) = UnixStream::pair().unwrap();
                    timeout(Duration::ZERO, a.read(&mut [0; 1])).await.unwrap_err();
                })
                .unwrap();
            drop(Runtime::new().unwrap());
        }
        assert_eq!(open(), before);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_runtime_has_one_selector_and_one_way_to_be_woken() {
    with_64_descriptors("a_runtime_has_one_selector_and_one_way_to_be_woken", || {
        let before = open_descriptors();
        let runtime = Runtime::new().unwrap();
        let handles: Vec<_> = (0..10).map(|_| runtime.handle()).collect();
        let remote = thread::spawn(move || handles.iter().map(|h| h.spawn(|| async {})).collect::<Vec<_>>());
        runtime.block_on(futures::future::join_all(remote.join().unwrap())).unwrap();
        let mut new = open_descriptors();
        new.retain(|one| !before.contains(one));
        let mut kinds: Vec<_> = new.iter().map(|(_, kind)| kind.as_str()).collect();
        kinds.sort_unstable();
        // The second of the selector is for whoever asks the runtime for a descriptor.
        assert_eq!(kinds, ["anon_inode:[eventfd]", "anon_inode:[eventpoll]", "anon_inode:[eventpoll]"]);
        drop(runtime);
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_loop_that_cannot_be_woken_says_so_once_and_looks_by_itself() {
    let text = with_64_descriptors("a_loop_that_cannot_be_woken_says_so_once_and_looks_by_itself", || {
        let runtime = Runtime::new().unwrap();
        let (wakes, _) = open_descriptors().into_iter().find(|(_, kind)| kind == "anon_inode:[eventfd]").unwrap();
        // Opened for reading only: a write is an error.
        replace(wakes, &File::open("/dev/null").unwrap());

        // The first wake-up call that fails finds the loop asleep until its next timer.
        let handle = runtime.handle();
        let mut remote = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            handle.spawn(|| async { 1 })
        });
        let other = async {
            let mut every = interval(Duration::from_millis(10));
            while !remote.is_finished() {
                every.tick().await;
            }
            every.tick().await;
        };
        runtime.block_on(timeout(LIMIT, other)).unwrap().unwrap();
        assert_eq!(runtime.block_on(remote.join().unwrap()).unwrap().unwrap(), 1);

        // From now on nothing but the loop itself can end its sleep.
        thread::spawn(|| {
            thread::sleep(LIMIT);
            eprintln!("the loop sleeps on");
            std::process::exit(1);
        });
        let handle = runtime.handle();
        remote = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            handle.spawn(|| async { 2 })
        });
        let (told, tells) = futures::channel::oneshot::channel();
        let thread = thread::spawn(move || told.send(remote.join().unwrap().wait(LIMIT)).unwrap());
        assert_eq!(runtime.block_on(tells).unwrap().unwrap().unwrap().unwrap(), 2);
        thread.join().unwrap();
    });
    if let Some(text) = text {
        assert_eq!(text.matches("postlude: cannot wake a sleeping loop").count(), 1, "{text}");
    }
}

#[test]
fn a_descriptor_closed_behind_our_back_harms_nobody_else() {
    with_64_descriptors("a_descriptor_closed_behind_our_back_harms_nobody_else", || {
        let runtime = Runtime::new().unwrap();
        let closed = async {
            let stream = || {
                let (ours, peer) = StdUnixStream::pair().unwrap();
                ours.set_nonblocking(true).unwrap();
                (ours.into_raw_fd(), peer)
            };
            let (good, mut good_peer) = StdUnixStream::pair().unwrap();
            let good = UnixStream::from_std(good).unwrap();
            let is_closed = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EBADF));

            // One that was never registered, one that is known to be ready, one that waits.
            let ((fresh, _a), (ready, mut b), (waiting, _c)) = (stream(), stream(), stream());
            let bad = [fresh, ready, waiting].map(|descriptor| Async::new(Borrowed(descriptor)));
            b.write_all(b"x").unwrap();
            bad[1].readable().await.unwrap();
            timeout(Duration::ZERO, bad[2].read_with(Borrowed::read)).await.unwrap_err();
            for descriptor in [fresh, ready, waiting] {
                close(descriptor);
            }
            is_closed(bad[0].readable().await.unwrap_err());
            is_closed(bad[0].read_with(Borrowed::read).await.unwrap_err());
            is_closed(bad[1].read_with(Borrowed::read).await.unwrap_err());
            // The system says nothing to the one that waits; it can be given up.
            timeout(Duration::from_millis(20), bad[2].read_with(Borrowed::read)).await.unwrap_err();

            let write = async {
                sleep(Duration::from_millis(5)).await;
                good_peer.write_all(b"good").unwrap();
            };
            assert_eq!(join(good.read(&mut [0; 16]), write).await.0.unwrap(), 4);
            drop(bad);
            let write = async {
                sleep(Duration::from_millis(5)).await;
                good_peer.write_all(b"as ever").unwrap();
            };
            assert_eq!(join(good.read(&mut [0; 16]), write).await.0.unwrap(), 7);
        };
        runtime.block_on(timeout(LIMIT, closed)).unwrap().unwrap();
        assert_eq!(runtime.stats().sources, 0);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn no_descriptor_is_closed_twice() {
    type Way = fn(Runtime, UnixStream) -> Option<Runtime>;
    const WAYS: [(&str, Way); 6] = [
        ("dropped at home", |runtime, ours| {
            runtime.block_on(async { drop(ours) }).unwrap();
            Some(runtime)
        }),
        ("dropped with its task", |runtime, ours| {
            let task = runtime.spawn(async move { ours.read(&mut [0; 1]).await });
            runtime.block_on(yield_now()).unwrap();
            task.abort();
            drop(task);
            runtime.block_on(async { sleep(Duration::from_millis(1)).await }).unwrap();
            Some(runtime)
        }),
        ("taken out", |runtime, ours| {
            drop(runtime.block_on(async { ours.into_std() }).unwrap().unwrap());
            Some(runtime)
        }),
        ("dropped elsewhere", |runtime, ours| {
            thread::spawn(move || drop(ours)).join().unwrap();
            runtime.block_on(async { sleep(Duration::from_millis(1)).await }).unwrap();
            Some(runtime)
        }),
        ("dropped after its runtime", |runtime, ours| {
            drop(runtime);
            drop(ours);
            None
        }),
        ("dropped by the end of its runtime", |runtime, ours| {
            drop(runtime.spawn(async move {
                pending::<()>().await;
                drop(ours);
            }));
            drop(runtime);
            None
        }),
    ];
    with_64_descriptors("no_descriptor_is_closed_twice", || {
        for (way, go) in WAYS {
            let runtime = Runtime::new().unwrap();
            let (ours, peer) = UnixStream::pair().unwrap();
            // Registered, so that there is something to undo.
            runtime.block_on(timeout(Duration::ZERO, ours.read(&mut [0; 1]))).unwrap().unwrap_err();
            let number = ours.as_fd().as_raw_fd();
            let rest = go(runtime, ours);
            assert!(open_descriptors().iter().all(|(open, _)| *open != number), "{way}: it is still open");
            // Its number goes to somebody else, as do all that were closed before.
            let others = hoard();
            assert!(others.iter().any(|other| other.as_raw_fd() == number), "{way}");
            if let Some(runtime) = &rest {
                runtime.block_on(async { sleep(Duration::from_millis(1)).await }).unwrap();
            }
            drop((rest, peer));
            for mut other in others {
                assert_eq!(other.read(&mut [0; 1]).unwrap(), 0, "{way}: number {} was closed", other.as_raw_fd());
            }
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn descriptors_that_come_with_bytes_are_neither_kept_nor_do_they_hide_bytes() {
    with_64_descriptors("descriptors_that_come_with_bytes_are_neither_kept_nor_do_they_hide_bytes", || {
        let runtime = Runtime::new().unwrap();
        let (ours, peer) = StdUnixStream::pair().unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        let file = File::open("/dev/null").unwrap();
        let read = async {
            let mut buffer = [0; 64];
            timeout(Duration::ZERO, ours.read(&mut buffer)).await.unwrap_err();
            let before = open_descriptors();
            for _ in 0..20 {
                // One event for all three, and each read ends at a message that carries
                // descriptors.
                send_with(&peer, b"one", &[file.as_raw_fd(); 10]);
                send_with(&peer, b"two", &[file.as_raw_fd(); 10]);
                (&peer).write_all(b"three").unwrap();
                let mut all = Vec::new();
                while all.len() < 11 {
                    let len = ours.read(&mut buffer).await.unwrap();
                    all.extend_from_slice(&buffer[..len]);
                }
                assert_eq!(all, b"onetwothree");
            }
            assert_eq!(open_descriptors(), before);
        };
        runtime.block_on(timeout(LIMIT, read)).unwrap().expect("bytes are hidden");
    });
}

#[cfg(feature = "http")]
#[test]
fn a_server_tells_that_it_is_out_of_descriptors() {
    use postlude::http::{Refusal, Router, Server};
    let told = with_64_descriptors("a_server_tells_that_it_is_out_of_descriptors", || {
        let runtime = Runtime::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let test = async {
            let server = Server::from_listener(listener, Router::new().get("/", async || "hello"));
            let (handle, refused) = (server.shutdown_handle(), server.refused());
            let running = postlude::spawn(server.run());
            sleep(Duration::from_millis(50)).await;
            let mut hoard = hoard();
            hoard.pop();
            let client = StdTcpStream::connect(address).unwrap();
            while refused.count(Refusal::Descriptors) == 0 {
                sleep(Duration::from_millis(10)).await;
            }
            drop(hoard);
            drop(client);
            handle.shutdown();
            running.await.unwrap().unwrap();
        };
        runtime.block_on(timeout(LIMIT, test)).unwrap().unwrap();
    });
    let Some(told) = told else { return };
    assert!(told.contains("postlude: stopped accepting for 100 ms: no descriptor or memory is left"), "{told}");
}
