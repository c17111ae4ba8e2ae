//! Large futures: however they are spawned, few copies of them stand on the stack.

use std::future::Future;
use std::hint::black_box;

use postlude::task::{self, JoinSet, yield_now};
use postlude::{Runtime, defer, spawn};

const SIZE: usize = 200 * 1024;
/// The future, what `Box::pin` makes of it, two copies, and what everything else needs.
const STACK: usize = 4 * SIZE + 160 * 1024;

/// A future of that size.
fn large() -> impl Future<Output = u8> + 'static {
    let bytes = [1; SIZE];
    async move {
        yield_now().await;
        black_box(&bytes)[SIZE - 1]
    }
}

/// Runs a test on a thread whose stack ends soon: beyond it the process would end.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK).spawn(test).unwrap().join().unwrap();
}

fn within(spawn: impl AsyncFnOnce() -> u8 + Send + 'static) {
    on_a_small_stack(move || assert_eq!(postlude::run(async move { spawn().await }).unwrap(), 1));
}

#[test]
fn spawn_and_defer_box_a_large_future_at_once() {
    within(async || spawn(large()).await.unwrap());
    within(async || defer(large()).await.unwrap());
    within(async || task::Builder::new().name("large").spawn(large()).await.unwrap());
    within(async || task::Builder::new().name("large").defer(large()).await.unwrap());
}

#[test]
fn a_runtime_and_its_handle_box_a_large_future_at_once() {
    on_a_small_stack(|| {
        let runtime = Runtime::new().unwrap();
        let task = runtime.spawn(large());
        assert_eq!(runtime.block_on(task).unwrap().unwrap(), 1);
        let task = runtime.defer(large());
        assert_eq!(runtime.block_on(task).unwrap().unwrap(), 1);
    });
}

#[test]
fn a_set_and_a_scope_box_a_large_future_at_once() {
    within(async || {
        let mut set = JoinSet::new();
        set.spawn(large());
        set.join_next().await.unwrap().unwrap()
    });
    within(async || task::scope(async |scope| Ok::<_, ()>(scope.spawn(large()).await.unwrap())).await.unwrap());
}

#[test]
fn task_locals_cost_no_further_copies() {
    static LOCAL: task::Local<u8> = task::Local::new();
    within(async || LOCAL.sync_scope(7, || spawn(large())).await.unwrap());
}
