//! The whole executor of the crate's page: `cargo run --example toy`.
//!
//! It polls tasks, sleeps until another thread wakes it, keeps timers and waits for a socket, all
//! with the standard library. The numbers are the steps of the page.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// 2. A task.
type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The part of the loop that wakers reach: the slots they woke, and the thread to unpark.
struct Inbox {
    woken: Mutex<Vec<usize>>,
    thread: Thread,
}

/// 4. A waker.
struct WakeSlot {
    slot: usize,
    inbox: Arc<Inbox>,
}

impl Wake for WakeSlot {
    fn wake(self: Arc<Self>) {
        self.inbox.woken.lock().unwrap().push(self.slot);
        // 6. The loop may be asleep, unless this is its own thread.
        if thread::current().id() != self.inbox.thread.id() {
            self.inbox.thread.unpark();
        }
    }
}

thread_local! {
    /// 7. Deadlines, each with the waker to call then.
    static TIMERS: RefCell<Vec<(Instant, Waker)>> = RefCell::default();
    /// 8. The wakers of tasks that wait for a socket.
    static SOCKETS: RefCell<Vec<Waker>> = RefCell::default();
}

fn run(tasks: Vec<Task>) {
    let inbox = Arc::new(Inbox { woken: Mutex::default(), thread: thread::current() });
    // 3. Slots and a queue of slot numbers.
    let mut slots: Vec<_> = tasks.into_iter().map(Some).collect();
    let mut ready: VecDeque<_> = (0..slots.len()).collect();
    loop {
        // 5. Poll the ready tasks, each taken out of its slot.
        while let Some(slot) = ready.pop_front() {
            let Some(mut task) = slots[slot].take() else { continue };
            let waker = Waker::from(Arc::new(WakeSlot { slot, inbox: Arc::clone(&inbox) }));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                slots[slot] = Some(task);
            }
        }
        if slots.iter().all(Option::is_none) {
            return;
        }
        // 6. Nothing is ready: sleep. A wake between the look and the sleep leaves a token, so the
        // sleep ends at once.
        if inbox.woken.lock().unwrap().is_empty() {
            thread::park_timeout(patience());
        }
        // 7. Fire the timers that are due.
        let now = Instant::now();
        TIMERS.with_borrow_mut(|timers| {
            timers.retain(|(deadline, waker)| {
                if *deadline <= now {
                    waker.wake_by_ref();
                }
                *deadline > now
            });
        });
        // 8. Let every task that waits for a socket try again.
        SOCKETS.with_borrow_mut(|waiting| waiting.drain(..).for_each(Waker::wake));
        ready.extend(inbox.woken.lock().unwrap().drain(..));
    }
}

/// How long the loop may sleep: until the first deadline, and no longer than a millisecond while a
/// task waits for a socket.
fn patience() -> Duration {
    let first = TIMERS.with_borrow(|timers| timers.iter().map(|(deadline, _)| *deadline).min());
    let until_first = first.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let for_sockets = SOCKETS.with_borrow(|waiting| (!waiting.is_empty()).then_some(Duration::from_millis(1)));
    // Waking for no reason is harmless, so an hour stands for ever.
    until_first.into_iter().chain(for_sockets).min().unwrap_or(Duration::from_secs(3600))
}

/// 6. Runs `work` on a thread, which wakes the task when it is done.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (mut work, result) = (Some(work), Arc::new(Mutex::new(None)));
    let wait = poll_fn(|cx| {
        if let Some(work) = work.take() {
            let (result, waker) = (Arc::clone(&result), cx.waker().clone());
            thread::spawn(move || {
                let done = work();
                *result.lock().unwrap() = Some(done);
                waker.wake();
            });
        }
        result.lock().unwrap().take().map_or(Poll::Pending, Poll::Ready)
    });
    wait.await
}

/// 7. A timer.
async fn sleep(duration: Duration) {
    let deadline = Instant::now() + duration;
    let wait = poll_fn(|cx| {
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        TIMERS.with_borrow_mut(|timers| timers.push((deadline, cx.waker().clone())));
        Poll::Pending
    });
    wait.await;
}

/// 8. A socket: try first, wait only if it would block.
async fn recv(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    let wait = poll_fn(|cx| match socket.recv(buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            SOCKETS.with_borrow_mut(|waiting| waiting.push(cx.waker().clone()));
            Poll::Pending
        }
        result => Poll::Ready(result),
    });
    wait.await
}

fn main() -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    run(vec![
        Box::pin(async move {
            let mut buffer = [0; 16];
            let count = recv(&socket, &mut buffer).await.unwrap();
            eprintln!("the socket received {:?}", String::from_utf8_lossy(&buffer[..count]));
        }),
        Box::pin(async move {
            sleep(Duration::from_millis(20)).await;
            eprintln!("20 ms are over");
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", address).unwrap();
        }),
        Box::pin(async {
            let sum = on_a_thread(|| (1..=100).sum::<u32>()).await;
            eprintln!("a thread counted to {sum}");
        }),
    ]);
    Ok(())
}
