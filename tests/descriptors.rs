//! What happens when the process runs out of file descriptors, and that none is leaked. Each test runs in a process of its own, with
//! a limit of its own: it starts itself again through a shell that sets the limit.

use std::cell::Cell;
use std::env;
use std::fs::File;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use postlude::Runtime;
use postlude::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use postlude::time::{sleep, timeout};

/// How long anything may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs `body` in a process that may have 64 descriptors open.
fn with_64_descriptors(test: &str, body: impl FnOnce()) {
    const MARK: &str = "POSTLUDE_TEST_HAS_64_DESCRIPTORS";
    if env::var_os(MARK).is_some() {
        return body();
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
        let peer = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let hoard = hoard();
        let full = |result: Option<io::Error>| assert_eq!(result.unwrap().raw_os_error(), Some(libc::EMFILE));
        full(Runtime::new().err());
        full(TcpListener::bind("127.0.0.1:0").err());
        full(UdpSocket::bind("127.0.0.1:0").err());
        full(UnixStream::pair().err());
        full(UnixDatagram::unbound().err());
        full(runtime.block_on(TcpStream::connect(peer)).unwrap().err());
        drop(hoard);
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
