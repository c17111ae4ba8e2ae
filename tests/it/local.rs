//! Task-locals: who sees a value, and who does not.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;

use futures::{StreamExt, stream};
use postlude::task::{self, JoinSet, Local, yield_now};
use postlude::{Runtime, defer, iter, spawn, spawn_blocking};

static USER: Local<u32> = Local::new();
static UNIT: Local<()> = Local::new();
static OTHER_UNIT: Local<()> = Local::new();

fn run(future: impl Future<Output = ()>) {
    Runtime::builder().paused_clock().build().unwrap().block_on(future).unwrap();
}

#[test]
fn a_value_is_inherited_by_what_is_spawned_within_and_by_nobody_else() {
    run(async {
        let outside = spawn(async {
            yield_now().await;
            USER.get()
        });
        let scope = USER.scope(7, async {
            assert_eq!(spawn(async { spawn(async { USER.get() }).await.unwrap() }).await.unwrap(), Some(7));
            assert_eq!(defer(async { USER.get() }).await.unwrap(), Some(7));
            let mut set = JoinSet::new();
            set.spawn(async { USER.get() });
            assert_eq!(set.join_next().await.unwrap().unwrap(), Some(7));
            assert_eq!(spawn_blocking(|| USER.get()).await.unwrap(), None);
        });
        scope.await;
        assert_eq!((outside.await.unwrap(), USER.get()), (None, None));
    });
}

#[test]
fn an_inner_scope_hides_the_outer_and_keys_of_no_size_are_apart() {
    USER.sync_scope(1, || {
        USER.sync_scope(2, || assert_eq!(USER.get(), Some(2)));
        UNIT.sync_scope((), || assert_eq!((USER.get(), UNIT.get(), OTHER_UNIT.get()), (Some(1), Some(()), None)));
        assert_eq!(USER.get(), Some(1));
    });
    assert_eq!(USER.get(), None);
}

#[test]
fn a_destructor_within_the_scope_sees_the_value() {
    struct Look(Rc<Cell<Option<u32>>>);
    impl Drop for Look {
        fn drop(&mut self) {
            self.0.set(USER.get());
        }
    }
    run(async {
        let seen = Rc::new(Cell::new(None));
        let look = Look(seen.clone());
        let task = USER.sync_scope(3, || {
            spawn(async move {
                let _look = look;
                pending::<()>().await;
            })
        });
        yield_now().await;
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(seen.get(), Some(3));
    });
}

#[test]
fn a_panic_in_a_scope_puts_the_outer_value_back() {
    let caught = std::panic::catch_unwind(|| USER.sync_scope(1, || std::panic::resume_unwind(Box::new(()))));
    assert!(caught.is_err());
    assert_eq!(USER.get(), None);
}

#[test]
fn a_child_of_a_scope_sees_what_was_set_where_it_was_spawned() {
    run(async {
        let seen = task::scope(async |s| {
            let bare = s.spawn(async { USER.get() });
            let inner = USER.sync_scope(2, || s.spawn(async { USER.get() }));
            Ok::<_, ()>((bare.await.unwrap(), inner.await.unwrap()))
        });
        assert_eq!(USER.scope(1, seen).await.unwrap(), (Some(1), Some(2)));
    });
}

#[test]
fn what_a_set_an_adapter_or_a_generator_spawns_inherits_where_it_is_spawned() {
    run(async {
        let mut set = JoinSet::new();
        set.spawn(async { USER.get() });
        USER.sync_scope(1, || set.spawn(async { USER.get() }));
        USER.sync_scope(2, || set.spawn_named("named", async { spawn(async { USER.get() }).await.unwrap() }));
        let mut seen: Vec<_> = set.by_ref().map(Result::unwrap).collect().await;
        seen.sort_unstable();
        assert_eq!(seen, [None, Some(1), Some(2)]);

        let source = || stream::iter(0..3).map(|_| async { USER.get() });
        // They are spawned by who polls the adapter, not by who made it.
        let (ordered, unordered) =
            USER.sync_scope(1, || (iter::buffered(source(), 2), iter::buffer_unordered(source(), 2)));
        let all: Vec<_> = USER.scope(2, ordered.collect()).await;
        assert_eq!(all, [Some(2); 3]);
        let all: Vec<_> = unordered.collect().await;
        assert_eq!(all, [None; 3]);

        // A generator's body runs in its consumer's polls.
        let mut numbers = Box::pin(iter::generate(async |out| {
            loop {
                out.emit((USER.get(), spawn(async { USER.get() }).await.unwrap())).await;
            }
        }));
        assert_eq!(USER.scope(1, numbers.next()).await, Some((Some(1), Some(1))));
        assert_eq!(USER.scope(2, numbers.next()).await, Some((Some(2), Some(2))));
        assert_eq!(numbers.next().await, Some((None, None)));
    });
}

#[test]
fn a_task_s_locals_are_let_go_when_it_ends_and_not_when_its_output_is_fetched() {
    static HELD: Local<Rc<()>> = Local::new();
    let value = Rc::new(());
    let held = Rc::clone(&value);
    postlude::run(async move {
        let task = HELD.sync_scope(held, || spawn(async { HELD.with(|_| ()).is_some() }));
        let aborted = HELD.sync_scope(Rc::clone(&value), || spawn(std::future::pending::<()>()));
        yield_now().await;
        aborted.abort();
        yield_now().await;
        yield_now().await;
        assert!(task.is_finished() && aborted.is_finished());
        assert_eq!(Rc::strong_count(&value), 1);
        assert!(task.await.unwrap());
    })
    .unwrap();
}

#[test]
fn a_local_whose_drop_panics_makes_the_task_it_goes_with_a_panicked_one() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
    static BOMB: Local<Bomb> = Local::new();
    postlude::run(async {
        let task = BOMB.sync_scope(Bomb, || spawn(async { 7 }));
        assert!(task.await.unwrap_err().is_panic());
    })
    .unwrap();
}
