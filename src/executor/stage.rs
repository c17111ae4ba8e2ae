//! A task's one allocation: the future, and later, in the same place, its output.
//!
//! The loop knows a task only as `Pin<Box<dyn Task>>`. It takes the box out of its slot, polls it,
//! and puts it back, so no part of the runtime is borrowed while user code runs. A ready future is
//! dropped in place, and its output replaces it. The `JoinHandle`, which knows the output's type,
//! fetches it through `Any`.
//!
//! # Invariants
//!
//! - No panic of a poll, or of the drop of a future or a replaced output, leaves this file. Each is
//!   caught. A panic of the future becomes a [`JoinError`].
//! - When `poll` returns ready, or `cancel` returns, the future is gone.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::caught::{Payload, drop_caught, drop_silently};
use super::error::JoinError;
use super::local::{self, Map};

/// The result that a task leaves for its handle; `None` once taken.
pub(crate) type Output<T> = Option<Result<T, JoinError>>;

/// A task as the loop sees it: polled, cancelled, and asked for its output.
pub(crate) trait Task {
    /// Polls the future. Ready means that its output (or its panic) has taken its place.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
    /// Drops the future and leaves `Cancelled` in its place.
    fn cancel(self: Pin<&mut Self>);
    /// The `Output<T>`, to be downcast. `None` while the future is alive.
    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any>;
    /// The error that ended the future; `None` if it is alive or returned.
    fn error(self: Pin<&mut Self>) -> Option<&JoinError>;
    /// Replaces the output of an ended future by a panic.
    fn fail(self: Pin<&mut Self>, panic: Payload);
    /// The panic that ended the task, unless it was taken already.
    fn take_panic(self: Pin<&mut Self>) -> Option<Payload>;
}

/// A task as the table and the loop own it.
pub(crate) type Boxed = Pin<Box<dyn Task>>;

pin_project! {
    #[project = StageProjection]
    pub(crate) enum Stage<F: Future> {
        Future { #[pin] future: F },
        Output { output: Output<F::Output> },
    }
}

impl<F> Stage<F>
where
    F: Future + 'static,
    F::Output: 'static,
{
    #[inline(always)] // a call by value copies the future
    pub(crate) fn boxed(future: F) -> Boxed {
        Box::pin(Self::Future { future })
    }

    #[cold]
    fn finish_panicked(self: Pin<&mut Self>, panic: Payload) {
        self.finish(Err(JoinError::panicked(panic)));
    }

    /// Replaces the future by `result`, or by the panic if dropping the future panics.
    fn finish(mut self: Pin<&mut Self>, result: Result<F::Output, JoinError>) {
        let output = Some(result);
        // An assignment whose drop unwinds still assigns, so the future is gone on both paths.
        let dropped = catch_unwind(AssertUnwindSafe(|| self.as_mut().set(Self::Output { output })));
        if let Err(panic) = dropped {
            self.fail(panic);
        }
    }
}

impl<F> Task for Stage<F>
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let StageProjection::Future { future } = self.as_mut().project() else {
            return Poll::Ready(());
        };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => self.finish(Ok(value)),
            Err(panic) => self.finish_panicked(panic),
        }
        Poll::Ready(())
    }

    fn cancel(self: Pin<&mut Self>) {
        self.finish(Err(JoinError::cancelled()));
    }

    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any> {
        match self.project() {
            StageProjection::Future { .. } => None,
            StageProjection::Output { output } => Some(output),
        }
    }

    fn error(self: Pin<&mut Self>) -> Option<&JoinError> {
        let StageProjection::Output { output } = self.project() else { return None };
        output.as_ref()?.as_ref().err()
    }

    fn fail(self: Pin<&mut Self>, panic: Payload) {
        if let StageProjection::Output { output } = self.project() {
            drop_silently(output.replace(Err(JoinError::panicked(panic))));
        }
    }

    fn take_panic(self: Pin<&mut Self>) -> Option<Payload> {
        let StageProjection::Output { output } = self.project() else { return None };
        if !matches!(output, Some(Err(error)) if error.is_panic()) {
            return None;
        }
        output.take()?.err()?.into_panic()
    }
}

/// A task with the task-locals of its spawner, set whenever the task's own code runs.
pub(crate) struct Localized {
    /// `None` once the task has ended: the values are released with the future.
    map: Option<Map>,
    /// `None` only while this is being dropped.
    task: Option<Boxed>,
}

impl Localized {
    pub(crate) fn boxed(map: Map, task: Boxed) -> Boxed {
        Box::pin(Self { map: Some(map), task: Some(task) })
    }

    fn task(&mut self) -> Option<Pin<&mut (dyn Task + 'static)>> {
        self.task.as_mut().map(Pin::as_mut)
    }

    /// Releases the task-locals. A panic in a value's drop counts as the task's own panic.
    fn drop_map(&mut self) {
        if let (Some(panic), Some(task)) = (drop_caught(self.map.take()), self.task()) {
            task.fail(panic);
        }
    }
}

impl Task for Localized {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let entered = local::enter(self.map.clone());
        let polled = self.task().map_or(Poll::Ready(()), |task| task.poll(cx));
        drop(entered);
        if polled.is_ready() {
            self.drop_map();
        }
        polled
    }

    fn cancel(mut self: Pin<&mut Self>) {
        let entered = local::enter(self.map.clone());
        if let Some(task) = self.task() {
            task.cancel();
        }
        drop(entered);
        self.drop_map();
    }

    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any> {
        self.get_mut().task()?.output()
    }

    fn error(self: Pin<&mut Self>) -> Option<&JoinError> {
        self.get_mut().task()?.error()
    }

    fn fail(mut self: Pin<&mut Self>, panic: Payload) {
        if let Some(task) = self.task() {
            task.fail(panic);
        }
    }

    fn take_panic(self: Pin<&mut Self>) -> Option<Payload> {
        self.get_mut().task()?.take_panic()
    }
}

impl Drop for Localized {
    fn drop(&mut self) {
        let _entered = local::enter(self.map.clone());
        self.task = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    struct PanicOnDrop;
    impl Drop for PanicOnDrop {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }

    fn take<T: 'static>(stage: &mut Pin<Box<dyn Task>>) -> Output<T> {
        stage.as_mut().output()?.downcast_mut::<Output<T>>()?.take()
    }

    #[test]
    fn a_ready_future_that_panics_in_its_drop_counts_as_panicked() {
        let guard = PanicOnDrop;
        let mut stage = Stage::boxed(std::future::poll_fn(move |_| {
            let _held = &guard;
            Poll::Ready(7)
        }));
        assert!(stage.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        let error = take::<i32>(&mut stage).expect("an output").expect_err("a panic");
        assert!(error.is_panic());
    }

    #[test]
    fn an_output_whose_drop_panics_harms_nothing_when_the_future_panics_too() {
        struct PanicWithPanicOnDrop;
        impl Drop for PanicWithPanicOnDrop {
            fn drop(&mut self) {
                std::panic::panic_any(PanicOnDrop);
            }
        }
        let guard = PanicOnDrop;
        let mut stage = Stage::boxed(std::future::poll_fn(move |_| {
            let _held = &guard;
            Poll::Ready(PanicWithPanicOnDrop)
        }));
        assert!(stage.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(stage.as_mut().take_panic().is_some());
    }
}
