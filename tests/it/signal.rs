//! Signals, as far as a process that does other things can bear them: those that are ignored by
//! default. The rest is in a binary of its own.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use postlude::signal::{Signal, ctrl_c, signal, terminate};
use postlude::time::{sleep, timeout};
use postlude::{Runtime, spawn};

const PATIENCE: Duration = Duration::from_secs(20);

/// The signals of one test are all listeners' of the process, so these tests run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends this process the signal of a window that changes its size.
fn resize_window() {
    signal_hook::low_level::raise(libc::SIGWINCH).unwrap();
}

async fn received(listener: &mut Signal) {
    timeout(PATIENCE, listener.recv()).await.expect("the signal does not arrive").unwrap();
}

async fn receives_nothing(listener: &mut Signal) {
    timeout(Duration::from_millis(50), listener.recv()).await.expect_err("nobody has sent a signal");
}

#[test]
fn a_signal_is_received_by_every_listener_once() {
    let _alone = alone();
    postlude::run(async {
        let mut listeners: Vec<_> = (0..5).map(|_| signal(libc::SIGWINCH).unwrap()).collect();
        for _ in 0..3 {
            resize_window();
            join_all(listeners.iter_mut().map(received)).await;
            join_all(listeners.iter_mut().map(receives_nothing)).await;
        }
    })
    .unwrap();
}

#[test]
fn a_listener_goes_on_after_another_was_dropped() {
    let _alone = alone();
    postlude::run(async {
        let (first, mut second) = (signal(libc::SIGWINCH).unwrap(), signal(libc::SIGWINCH).unwrap());
        drop(first);
        resize_window();
        received(&mut second).await;
        let mut third = signal(libc::SIGWINCH).unwrap();
        resize_window();
        received(&mut second).await;
        received(&mut third).await;
    })
    .unwrap();
}

#[test]
fn signals_that_nobody_waited_for_meanwhile_count_as_one() {
    let _alone = alone();
    postlude::run(async {
        let mut listener = signal(libc::SIGWINCH).unwrap();
        for _ in 0..5 {
            resize_window();
            thread::sleep(Duration::from_millis(10));
        }
        received(&mut listener).await;
        receives_nothing(&mut listener).await;
    })
    .unwrap();
}

#[test]
fn a_signal_of_another_number_wakes_nobody() {
    let _alone = alone();
    postlude::run(async {
        let (mut urgent, mut window) = (signal(libc::SIGURG).unwrap(), signal(libc::SIGWINCH).unwrap());
        resize_window();
        received(&mut window).await;
        receives_nothing(&mut urgent).await;
    })
    .unwrap();
}

#[test]
fn a_signal_sent_before_the_listener_existed_or_to_a_dropped_one_is_not_delivered() {
    let _alone = alone();
    postlude::run(async {
        let before = signal(libc::SIGWINCH).unwrap();
        resize_window();
        thread::sleep(Duration::from_millis(50));
        drop(before);
        receives_nothing(&mut signal(libc::SIGWINCH).unwrap()).await;
    })
    .unwrap();
}

#[test]
fn a_receive_that_was_given_up_loses_no_signal() {
    let _alone = alone();
    postlude::run(async {
        let mut listener = signal(libc::SIGWINCH).unwrap();
        receives_nothing(&mut listener).await;
        resize_window();
        thread::sleep(Duration::from_millis(50));
        // Given up before its first poll, and after one that was not ready.
        drop(listener.recv());
        received(&mut listener).await;
    })
    .unwrap();
}

#[test]
fn a_listener_is_a_stream_that_does_not_end() {
    let _alone = alone();
    postlude::run(async {
        let mut listener = signal(libc::SIGWINCH).unwrap();
        for _ in 0..3 {
            resize_window();
            timeout(PATIENCE, listener.next()).await.unwrap().unwrap().unwrap();
        }
    })
    .unwrap();
}

#[test]
fn a_listener_may_be_made_before_its_runtime_and_wakes_a_parked_loop() {
    let _alone = alone();
    let mut listener = signal(libc::SIGWINCH).unwrap();
    let runtime = Runtime::new().unwrap();
    let sender = thread::spawn(|| {
        thread::sleep(Duration::from_millis(100));
        resize_window();
    });
    runtime.block_on(received(&mut listener)).unwrap();
    sender.join().unwrap();
    assert!(runtime.stats().turns < 12, "{:?}", runtime.stats());
}

#[test]
fn the_last_task_that_polls_a_listener_is_the_one_that_is_woken() {
    let _alone = alone();
    postlude::run(async {
        let mut listener = signal(libc::SIGWINCH).unwrap();
        assert!(poll_fn(|cx| Poll::Ready(listener.poll_recv(cx))).await.is_pending());
        let task = spawn(async move { received(&mut listener).await });
        sleep(Duration::from_millis(5)).await;
        resize_window();
        timeout(PATIENCE, task).await.unwrap().unwrap();
    })
    .unwrap();
}

#[test]
fn a_number_that_cannot_be_listened_for_is_an_error() {
    for number in
        [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGFPE, libc::SIGILL, 0, -1, 1000, i32::MAX, i32::MIN]
    {
        let error = signal(number).expect_err("it should be refused");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{number}: {error}");
        assert!(signal(number).is_err(), "also the second time");
    }
}

#[test]
fn a_listener_knows_its_number() {
    assert_eq!(signal(libc::SIGWINCH).unwrap().number(), libc::SIGWINCH);
    assert_eq!(ctrl_c().unwrap().number(), libc::SIGINT);
    assert_eq!(terminate().unwrap().number(), libc::SIGTERM);
    assert!(format!("{:?}", ctrl_c().unwrap()).contains('2'));
}
