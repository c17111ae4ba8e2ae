//! Wakers that panic: in every list of `sync`, `iter` and `task` the waiters behind one are woken
//! all the same, the panic is reported, and the caller never sees it.
//!
//! The table has a row for each way a list is woken or emptied; each test runs every row, with the
//! bad waker first, in the middle and last.

use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::{FutureExt, StreamExt, stream};
use postlude::sync::{Mutex, Notify, OnceCell, Semaphore, broadcast, mpsc, oneshot, watch};
use postlude::task::{CancelToken, JoinSet, yield_now};
use postlude::{Runtime, iter};

/// A panic that says nothing on stderr.
fn quietly(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

/// Where a waker panics, if it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Panics {
    Never,
    InWake,
    InDrop,
}

struct TestWaker {
    panics: Panics,
    wakes: Arc<AtomicUsize>,
}

impl Wake for TestWaker {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        if self.panics == Panics::InWake {
            quietly("wake");
        }
    }
}

impl Drop for TestWaker {
    fn drop(&mut self) {
        if self.panics == Panics::InDrop {
            quietly("drop of a waker");
        }
    }
}

/// Three wakers' counts; the one at `bad` panics.
struct Wakes {
    bad: usize,
    panics: Panics,
    counts: [Arc<AtomicUsize>; 3],
}

impl Wakes {
    fn new(bad: usize, panics: Panics) -> Self {
        Self { bad, panics, counts: Default::default() }
    }

    fn waker(&self, at: usize) -> Waker {
        let panics = if at == self.bad { self.panics } else { Panics::Never };
        Waker::from(Arc::new(TestWaker { panics, wakes: self.counts[at].clone() }))
    }

    fn counts(&self) -> [usize; 3] {
        [0, 1, 2].map(|at| self.counts[at].load(Ordering::SeqCst))
    }
}

type Waiter = Pin<Box<dyn Future<Output = ()>>>;

fn poll(waiter: &mut Waiter, waker: &Waker) -> Poll<()> {
    waiter.as_mut().poll(&mut Context::from_waker(waker))
}

/// Three waiters, and the call that has them woken: all at once, or each as soon as the one before
/// it is ready.
struct Row {
    waiters: Vec<Waiter>,
    /// Returns what must outlive the waiters.
    wake: Box<dyn FnOnce() -> Box<dyn Any>>,
}

impl Row {
    /// Leaves the only handle to each waker with the list it stands in.
    fn wait(&mut self, wakes: &Wakes) {
        for (at, waiter) in self.waiters.iter_mut().enumerate() {
            assert!(poll(waiter, &wakes.waker(at)).is_pending());
        }
    }
}

fn finish(mut waiters: Vec<Waiter>) {
    assert!(waiters.iter_mut().all(|waiter| poll(waiter, Waker::noop()).is_ready()));
}

fn row<K: 'static>(waiters: Vec<Waiter>, wake: impl FnOnce() -> K + 'static) -> Row {
    Row { waiters, wake: Box::new(|| Box::new(wake())) }
}

/// Three of something that has one waiter only.
fn thrice<E: 'static>(mut make: impl FnMut() -> (E, Waiter), wake: impl Fn(E) + 'static) -> Row {
    let (ends, waiters): (Vec<E>, Vec<Waiter>) = (0..3).map(|_| make()).unzip();
    row(waiters, move || ends.into_iter().for_each(wake))
}

/// Three waiters for the same thing.
fn shared<P, F: Future + 'static>(shared: &Rc<P>, wait: impl Fn(Rc<P>) -> F) -> Vec<Waiter> {
    (0..3).map(|_| waiter(wait(Rc::clone(shared)))).collect()
}

fn waiter<F: Future + 'static>(future: F) -> Waiter {
    Box::pin(future.map(drop))
}

/// A future that is polled until it has what it waits for, and then holds it.
fn holding<F: Future + 'static>(future: F) -> Waiter {
    let mut holder = waiter(async move {
        let _held = future.await;
        pending::<()>().await;
    });
    assert!(poll(&mut holder, Waker::noop()).is_pending());
    holder
}

fn full_channel(capacity: usize) -> (mpsc::Sender<usize>, mpsc::Receiver<usize>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (0..capacity).for_each(|n| sender.try_send(n).unwrap());
    (sender, receiver)
}

fn senders(sender: mpsc::Sender<usize>) -> Vec<Waiter> {
    shared(&Rc::new(sender), |sender| async move { sender.send(9).await })
}

fn receivers(sender: &broadcast::Sender<u8>) -> Vec<Waiter> {
    let wait = || {
        let mut receiver = sender.subscribe();
        waiter(async move { receiver.recv().await })
    };
    vec![wait(), wait(), wait()]
}

type MakeRow = fn() -> Row;

const TABLE: &[(&str, MakeRow)] = &[
    ("oneshot: sent", || {
        let make = || {
            let (sender, receiver) = oneshot::channel();
            (sender, waiter(receiver))
        };
        thrice(make, |sender: oneshot::Sender<u8>| sender.send(1).unwrap())
    }),
    ("oneshot: the receiver is gone", || {
        let make = || {
            let (mut sender, receiver) = oneshot::channel::<u8>();
            (receiver, waiter(async move { sender.closed().await }))
        };
        thrice(make, drop)
    }),
    ("mpsc bounded: sent", || {
        let make = || {
            let (sender, mut receiver) = mpsc::channel(1);
            (sender, waiter(async move { receiver.recv().await }))
        };
        thrice(make, |sender| sender.try_send(1).unwrap())
    }),
    ("mpsc bounded: the last sender is gone", || {
        let make = || {
            let (sender, mut receiver) = mpsc::channel::<u8>(1);
            (sender, waiter(async move { receiver.next().await }))
        };
        thrice(make, drop)
    }),
    ("mpsc bounded: room", || {
        let (sender, mut receiver) = full_channel(3);
        row(senders(sender), move || {
            (0..3).for_each(|n| assert_eq!(receiver.try_recv(), Ok(n)));
            receiver
        })
    }),
    ("mpsc bounded: a permit is dropped", || {
        let (sender, receiver) = mpsc::channel::<usize>(1);
        let other = sender.clone();
        let holder = holding(async move {
            let _permit = other.reserve().await.unwrap();
            pending::<()>().await;
        });
        let waiters = shared(&Rc::new(sender), |sender| async move { drop(sender.reserve().await.unwrap()) });
        row(waiters, move || {
            drop(holder);
            receiver
        })
    }),
    ("mpsc bounded: closed under senders", || {
        let (sender, receiver) = full_channel(1);
        row(senders(sender), move || drop(receiver))
    }),
    ("mpsc bounded: closed()", || {
        let (sender, receiver) = mpsc::channel::<u8>(1);
        row(shared(&Rc::new(sender), |sender| async move { sender.closed().await }), move || drop(receiver))
    }),
    ("mpsc unbounded: sent", || {
        let make = || {
            let (sender, mut receiver) = mpsc::unbounded();
            (sender, waiter(async move { receiver.recv().await }))
        };
        thrice(make, |sender| sender.send(1).unwrap())
    }),
    ("mpsc unbounded: closed()", || {
        let (sender, receiver) = mpsc::unbounded::<u8>();
        row(shared(&Rc::new(sender), |sender| async move { sender.closed().await }), move || drop(receiver))
    }),
    ("broadcast: sent", || {
        let sender = broadcast::channel(1).0;
        row(receivers(&sender), move || assert_eq!(sender.send(1).unwrap(), 3))
    }),
    ("broadcast: the last sender is gone", || {
        let sender = broadcast::channel(1).0;
        row(receivers(&sender), move || drop(sender))
    }),
    ("watch: changed", || {
        let (sender, receiver) = watch::channel(0);
        let wait = |receiver: Rc<watch::Receiver<u8>>| async move { (*receiver).clone().changed().await };
        row(shared(&Rc::new(receiver), wait), move || sender.send(1).unwrap())
    }),
    ("watch: closed()", || {
        let (sender, receiver) = watch::channel(0);
        row(shared(&Rc::new(sender), |sender| async move { sender.closed().await }), move || drop(receiver))
    }),
    ("Notify: one", || {
        let notify = Rc::new(Notify::new());
        let waiters = shared(&notify, |notify| async move { notify.notified().await });
        row(waiters, move || (0..3).for_each(|_| notify.notify_one()))
    }),
    ("Notify: waiters", || {
        let notify = Rc::new(Notify::new());
        let waiters = shared(&notify, |notify| async move { notify.notified().await });
        row(waiters, move || notify.notify_waiters())
    }),
    ("Semaphore: permits are dropped", || {
        let semaphore = Rc::new(Semaphore::new(3));
        let holder = holding(semaphore.acquire_many_owned(3));
        row(shared(&semaphore, |semaphore| semaphore.acquire_owned()), move || drop(holder))
    }),
    ("Semaphore: closed", || {
        let semaphore = Rc::new(Semaphore::new(0));
        let waiters = shared(&semaphore, |semaphore| semaphore.acquire_owned());
        row(waiters, move || semaphore.close())
    }),
    ("Mutex", || {
        let mutex = Rc::new(Mutex::new(1));
        let holder = holding(mutex.lock_owned());
        row(shared(&mutex, |mutex| mutex.lock_owned()), move || drop(holder))
    }),
    ("OnceCell: set", || {
        let cell = Rc::new(OnceCell::new());
        let maker = Rc::clone(&cell);
        let maker = holding(async move { *maker.get_or_init(pending).await });
        let waiters = shared(&cell, |cell| async move { *cell.get_or_init(pending).await });
        row(waiters, move || {
            cell.set(1).unwrap();
            drop(maker);
        })
    }),
    ("OnceCell: the maker is dropped", || {
        let cell = Rc::new(OnceCell::new());
        let maker = Rc::clone(&cell);
        let maker = holding(async move { *maker.get_or_init(pending).await });
        let waiters = shared(&cell, |cell| async move { *cell.get_or_init(async || 1).await });
        row(waiters, move || drop(maker))
    }),
    ("CancelToken", || {
        let token = CancelToken::new();
        let child = Rc::new(token.child());
        let waiters = shared(&child, |token| async move { token.cancelled().await });
        row(waiters, move || drop(token.drop_guard()))
    }),
    ("tee", || {
        let (sender, receiver) = mpsc::unbounded();
        let wait = |reader: Rc<iter::Tee<mpsc::Receiver<u8>>>| async move { (*reader).clone().next().await };
        let waiters = shared(&Rc::new(iter::tee(receiver).0), wait);
        row(waiters, move || sender.send(1).unwrap())
    }),
    ("merge", || {
        let make = || {
            let (sender, receiver) = mpsc::unbounded();
            let mut merged = iter::merge([receiver]);
            (sender, waiter(async move { merged.next().await }))
        };
        thrice(make, |sender| sender.send(1).unwrap())
    }),
];

/// Runs each row with a bad waker in each place, inside a runtime whose hook is to be told of one
/// panic.
fn run_table(panics: &[Panics], test: impl Fn(Row, &Wakes)) {
    for &panics in panics {
        for (name, make) in TABLE {
            for bad in 0..3 {
                let reports = Rc::new(RefCell::new(Vec::new()));
                let told = Rc::clone(&reports);
                let hook = move |panic: &postlude::TaskPanic| told.borrow_mut().push(panic.text.clone());
                let runtime = Runtime::builder().on_panic(hook).build().unwrap();
                let run = || runtime.block_on(async { test(make(), &Wakes::new(bad, panics)) }).unwrap();
                assert!(catch_unwind(AssertUnwindSafe(run)).is_ok(), "{name}, waker {bad}");
                let text = if panics == Panics::InWake { "wake" } else { "drop of a waker" };
                assert_eq!(reports.take(), [text], "{name}, waker {bad}");
                assert_eq!(runtime.stats().panics, 1, "{name}, waker {bad}");
            }
        }
    }
}

const EITHER: &[Panics] = &[Panics::InWake, Panics::InDrop];

#[test]
fn a_waker_that_panics_leaves_nobody_asleep_and_is_reported() {
    run_table(EITHER, |mut row, wakes| {
        row.wait(wakes);
        let Row { waiters, wake } = row;
        let _kept = wake();
        finish(waiters);
        assert_eq!(wakes.counts(), [1; 3]);
    });
}

#[test]
fn a_waker_that_panics_in_a_destructor_during_an_unwind_aborts_nothing() {
    struct Wake(Option<Box<dyn FnOnce() -> Box<dyn Any>>>, Rc<RefCell<Option<Box<dyn Any>>>>);

    impl Drop for Wake {
        fn drop(&mut self) {
            *self.1.borrow_mut() = self.0.take().map(|wake| wake());
        }
    }

    run_table(EITHER, |mut row, wakes| {
        row.wait(wakes);
        let Row { waiters, wake } = row;
        let kept = Rc::default();
        let wake = Wake(Some(wake), Rc::clone(&kept));
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let _wake = wake;
            quietly("the unwind")
        }));
        let payload: Box<dyn Any> = match unwound {
            Ok(never) => never,
            Err(payload) => payload,
        };
        assert_eq!(payload.downcast_ref(), Some(&"the unwind"));
        finish(waiters);
        assert_eq!(wakes.counts(), [1; 3]);
    });
}

#[test]
fn outside_a_runtime_the_caller_sees_no_panic_either() {
    for (name, make) in TABLE {
        for bad in 0..3 {
            for &panics in EITHER {
                let (mut row, wakes) = (make(), Wakes::new(bad, panics));
                row.wait(&wakes);
                let Row { waiters, wake } = row;
                let _kept = wake();
                finish(waiters);
                assert_eq!(wakes.counts(), [1; 3], "{name}, waker {bad}");
            }
        }
    }
}

#[test]
fn a_waker_that_panics_when_another_replaces_it_is_reported() {
    run_table(&[Panics::InDrop], |mut row, wakes| {
        row.wait(wakes);
        row.wait(&Wakes::new(0, Panics::Never));
        assert_eq!(wakes.counts(), [0; 3]);
    });
}

#[test]
fn a_waker_that_panics_when_its_wait_is_given_up_is_reported() {
    run_table(&[Panics::InDrop], |mut row, wakes| {
        row.wait(wakes);
        drop(row.waiters);
        assert_eq!(wakes.counts(), [0; 3]);
    });
}

#[test]
fn what_waits_for_tasks_lets_no_waker_harm_them() {
    let runtime = Runtime::builder().on_panic(|_| ()).build().unwrap();
    let wakes = Wakes::new(1, Panics::InWake);
    let outputs = runtime.block_on(async {
        let mut set = JoinSet::new();
        set.spawn(yield_now());
        let mut in_order = iter::buffered(stream::iter([yield_now()]), 1);
        let mut by_finish = iter::buffer_unordered(stream::iter([yield_now()]), 1);
        let bad = wakes.waker(1);
        let mut cx = Context::from_waker(&bad);
        assert!(set.poll_join_next(&mut cx).is_pending());
        assert!(in_order.poll_next_unpin(&mut cx).is_pending());
        assert!(by_finish.poll_next_unpin(&mut cx).is_pending());
        while wakes.counts()[1] < 3 {
            yield_now().await;
        }
        (set.join_next().await.map(|result| result.is_ok()), in_order.next().await, by_finish.next().await)
    });
    assert_eq!(outputs.unwrap(), (Some(true), Some(()), Some(())));
    assert_eq!(runtime.stats().panics, 3);
}

#[test]
fn a_generator_goes_on_whose_emit_was_given_a_waker_that_panics() {
    let runtime = Runtime::builder().on_panic(|_| ()).build().unwrap();
    for panics in EITHER {
        let numbers = || {
            iter::generate(async |out| {
                let mut bad = Some(Wakes::new(1, *panics).waker(1));
                let mut emit = pin!(out.emit(1));
                let first_with_bad = |cx: &mut Context<'_>| match bad.take() {
                    Some(waker) => emit.as_mut().poll(&mut Context::from_waker(&waker)),
                    None => emit.as_mut().poll(cx),
                };
                poll_fn(first_with_bad).await;
                out.emit(2).await;
            })
        };
        let items = runtime.block_on(async {
            let given_up = Box::pin(numbers()).next().await;
            (given_up, numbers().collect::<Vec<_>>().await)
        });
        assert_eq!(items.unwrap(), (Some(1), vec![1, 2]));
    }
    // Two in a wake; one in the drop of a generator that was given up.
    assert_eq!(runtime.stats().panics, 3);
}
