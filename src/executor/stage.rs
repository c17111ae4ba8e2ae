//! A task's one allocation: the future, and later, in the same place, its output.
//!
//! The loop knows a task only as `Pin<Box<dyn Task>>`. It takes the box out of its slot, polls it, and puts it back, so no part of
//! the runtime is borrowed while user code runs. When the future is ready it is dropped where it stands and the output takes its
//! place; a `JoinHandle`, which knows the type, fetches it through `Any`.
//!
//! # Invariants
//!
//! - No panic leaves this file. Poll, drop of the future and drop of an output are each caught, and become a [`JoinError`].
//! - When `poll` or `cancel` returns ready, the future is gone.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::caught::{Payload, drop_caught};
use super::error::JoinError;
use super::local::{self, Map};

/// What a task leaves behind for its handle; `None` once the handle has it.
pub(crate) type Output<T> = Option<Result<T, JoinError>>;

/// A task as the loop sees it: something to poll, cancel, and take an output from.
pub(crate) trait Task {
    /// Polls the future. Ready means that its output (or its panic) has taken its place.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
    /// Drops the future and leaves `Cancelled` in its place.
    fn cancel(self: Pin<&mut Self>);
    /// The `Output<T>`, for whoever knows `T`. `None` while the future is alive.
    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any>;
    /// Why there is no output, if the future is gone without one.
    fn error(self: Pin<&mut Self>) -> Option<&JoinError>;
    /// Makes a panic the output of a future that has ended.
    fn fail(self: Pin<&mut Self>, panic: Payload);
    /// The panic that ended the task, if one did and nothing has taken it.
    fn take_panic(self: Pin<&mut Self>) -> Option<Payload>;
}

/// A task as the table and the loop know it.
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
    #[inline(always)] // a call by value is a copy of the future
    pub(crate) fn boxed(future: F) -> Boxed {
        Box::pin(Self::Future { future })
    }

    #[cold]
    fn finish_panicked(self: Pin<&mut Self>, panic: Payload) {
        self.finish(Err(JoinError::panicked(panic)));
    }

    /// Replaces the future by `result`; if the future panics as it is dropped, by that panic.
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
            drop_caught(output.replace(Err(JoinError::panicked(panic))));
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

/// A task with the task-locals that were in force where it was spawned, set around all that runs code of its own.
pub(crate) struct Localized {
    /// `None` once the task has ended: what it could read is let go with the future.
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

    /// Lets go of the task-locals. One whose drop panics counts as the task's own panic.
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
    fn an_output_whose_drop_panics_harms_nobody_when_the_future_panics_too() {
        let guard = PanicOnDrop;
        let mut stage = Stage::boxed(std::future::poll_fn(move |_| {
            let _held = &guard;
            Poll::Ready(PanicOnDrop)
        }));
        assert!(stage.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(stage.as_mut().take_panic().is_some());
    }
}
