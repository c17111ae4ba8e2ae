//! What a job does: a future that runs once, or something that makes one for each try.
//!
//! The bounds sit on traits with a marker, so that closures with and without a [`Running`]
//! parameter, and outputs with and without an error, are told apart by the compiler.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::info::Fault;
use super::running::Running;
use crate::executor::local::{Map, Scoped};

/// The future of a job's try.
pub(super) type TaskFuture = Pin<Box<dyn Future<Output = Result<(), Fault>>>>;
/// The closure of a job's try, for a thread.
pub(super) type ThreadJob = Box<dyn FnOnce() -> Result<(), SendError> + Send>;
pub(super) type SendError = Box<dyn Error + Send + Sync>;

/// What a job is made of.
pub(super) enum Work {
    /// A future, ready to be polled.
    Future(TaskFuture),
    Make(Make),
}

impl Work {
    /// The same with the task-locals of the place that adds it. Those of a thread job stay behind:
    /// they do not cross threads.
    pub(super) fn with_locals(self, locals: Map) -> Self {
        match self {
            Self::Future(future) => Self::Future(Box::pin(Scoped::new(locals, future))),
            Self::Make(Make::OnLoop(mut make)) => Self::Make(Make::OnLoop(Box::new(move |running| {
                Box::pin(Scoped::new(Rc::clone(&locals), make(running)))
            }))),
            work @ Self::Make(Make::OnThread(_)) => work,
        }
    }
}

/// Makes the work of a try.
pub(super) enum Make {
    OnLoop(Box<dyn FnMut(Running) -> TaskFuture>),
    OnThread(Box<dyn FnMut(Running) -> ThreadJob>),
}

/// Tells implementations of one trait apart; never made.
#[derive(Debug)]
pub enum Marker {}

/// The output of a job: nothing, or a `Result` whose error is reported.
///
/// The error is anything that converts into a `Box<dyn Error>`, such as a `String`.
#[diagnostic::on_unimplemented(
    message = "a background task cannot return `{Self}`",
    note = "return `()`, or `Result<T, E>` with an error that converts into `Box<dyn std::error::Error>`; \
            a closure that is no future belongs to `add_blocking` or `run_blocking`"
)]
pub trait TaskOutput<M> {
    /// Splits off the error.
    ///
    /// # Errors
    ///
    /// If the job failed.
    fn into_result(self) -> Result<(), Box<dyn Error>>;
}

impl TaskOutput<Marker> for () {
    fn into_result(self) -> Result<(), Box<dyn Error>> {
        Ok(())
    }
}

impl<T, E: Into<Box<dyn Error>>> TaskOutput<(Marker,)> for Result<T, E> {
    fn into_result(self) -> Result<(), Box<dyn Error>> {
        self.map(drop).map_err(Into::into)
    }
}

/// `std` has no conversion from this box.
impl<T> TaskOutput<((Marker,),)> for Result<T, SendError> {
    fn into_result(self) -> Result<(), Box<dyn Error>> {
        self.map(drop).map_err(|error| error as Box<dyn Error>)
    }
}

/// The output of a blocking job, which crosses threads: as [`TaskOutput`].
#[diagnostic::on_unimplemented(
    message = "a blocking background task cannot return `{Self}`",
    note = "return `()`, or `Result<T, E>` with an error that converts into `Box<dyn std::error::Error + Send + Sync>`"
)]
pub trait SendTaskOutput<M> {
    /// Splits off the error.
    ///
    /// # Errors
    ///
    /// If the job failed.
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl SendTaskOutput<Marker> for () {
    fn into_result(self) -> Result<(), SendError> {
        Ok(())
    }
}

impl<T, E: Into<SendError>> SendTaskOutput<(Marker,)> for Result<T, E> {
    fn into_result(self) -> Result<(), SendError> {
        self.map(drop).map_err(Into::into)
    }
}

pin_project! {
    /// A job's future, its output turned into a result.
    struct Finish<F, M> {
        #[pin]
        future: F,
        marker: std::marker::PhantomData<fn() -> M>,
    }
}

impl<F, M> Future for Finish<F, M>
where
    F: Future<Output: TaskOutput<M>>,
{
    type Output = Result<(), Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(|output| output.into_result().map_err(Fault::Error))
    }
}

pub(super) fn boxed<F, M>(future: F) -> TaskFuture
where
    F: Future<Output: TaskOutput<M>> + 'static,
    M: 'static,
{
    Box::pin(Finish { future, marker: std::marker::PhantomData })
}

/// An async closure that is called once, with or without a [`Running`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the work of a background task",
    note = "`run` takes an async closure: `async || …` or `async |job: Running| …`, whose output is `()` or a `Result`"
)]
pub trait RunOnce<M>: private::Once<M> {}
impl<F: private::Once<M>, M> RunOnce<M> for F {}

/// An async closure that is called for each try, with or without a [`Running`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the work of a background task that is tried again",
    note = "with `retry`, `run` takes an async closure that can be called again (`AsyncFn`): clone what it consumes inside"
)]
pub trait RunAgain<M>: private::Again<M> {}
impl<F: private::Again<M>, M> RunAgain<M> for F {}

/// A closure that blocks and is called once, with or without a [`Running`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the work of a blocking background task",
    note = "`run_blocking` takes a closure that is `Send`: `|| …` or `|job: Running| …`, whose output is `()` or a `Result`"
)]
pub trait RunBlocking<M>: private::Blocking<M> {}
impl<F: private::Blocking<M>, M> RunBlocking<M> for F {}

/// A closure that blocks and is called for each try, with or without a [`Running`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the work of a blocking background task that is tried again",
    note = "with `retry`, `run_blocking` takes a closure that can be called again (`Fn + Send + Sync`)"
)]
pub trait RunBlockingAgain<M>: private::BlockingAgain<M> {}
impl<F: private::BlockingAgain<M>, M> RunBlockingAgain<M> for F {}

mod private {
    #[allow(unreachable_pub, reason = "supertraits of public traits, not to be named")]
    pub trait Once<M>: 'static {
        fn work(self) -> super::AnyWork;
    }
    #[allow(unreachable_pub, reason = "supertraits of public traits, not to be named")]
    pub trait Again<M>: 'static {
        fn work(self) -> super::AnyWork;
    }
    #[allow(unreachable_pub, reason = "supertraits of public traits, not to be named")]
    pub trait Blocking<M>: Send + 'static {
        fn work(self) -> super::AnyWork;
    }
    #[allow(unreachable_pub, reason = "supertraits of public traits, not to be named")]
    pub trait BlockingAgain<M>: Send + Sync + 'static {
        fn work(self) -> super::AnyWork;
    }
}

pub(super) use private::{Again, Blocking, BlockingAgain, Once};

/// [`Work`], whose variants are private.
#[derive(Debug)]
pub struct AnyWork(pub(super) Work);

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

/// Without a parameter.
type Plain<T, M> = (fn() -> T, M);
/// With a `Running`.
type Told<T, M> = (fn(Running) -> T, M);

impl<F, T, M> Once<Plain<T, M>> for F
where
    F: AsyncFnOnce() -> T + 'static,
    T: TaskOutput<M> + 'static,
    M: 'static,
{
    fn work(self) -> AnyWork {
        AnyWork(Work::Future(boxed(async move { self().await })))
    }
}

impl<F, T, M> Once<Told<T, M>> for F
where
    F: AsyncFnOnce(Running) -> T + 'static,
    T: TaskOutput<M> + 'static,
    M: 'static,
{
    fn work(self) -> AnyWork {
        let mut closure = Some(self);
        AnyWork(Work::Make(Make::OnLoop(Box::new(move |running| match closure.take() {
            Some(closure) => boxed(async move { closure(running).await }),
            None => unreachable!("a job that cannot be tried again is called once"),
        }))))
    }
}

impl<F, T, M> Again<Plain<T, M>> for F
where
    F: AsyncFn() -> T + 'static,
    T: TaskOutput<M> + 'static,
    M: 'static,
{
    fn work(self) -> AnyWork {
        let closure = Rc::new(self);
        AnyWork(Work::Make(Make::OnLoop(Box::new(move |_| {
            let closure = Rc::clone(&closure);
            boxed(async move { closure().await })
        }))))
    }
}

impl<F, T, M> Again<Told<T, M>> for F
where
    F: AsyncFn(Running) -> T + 'static,
    T: TaskOutput<M> + 'static,
    M: 'static,
{
    fn work(self) -> AnyWork {
        let closure = Rc::new(self);
        AnyWork(Work::Make(Make::OnLoop(Box::new(move |running| {
            let closure = Rc::clone(&closure);
            boxed(async move { closure(running).await })
        }))))
    }
}

/// A closure for a thread that is called once.
pub(super) fn once(closure: impl FnOnce(Running) -> Result<(), SendError> + Send + 'static) -> AnyWork {
    let mut closure = Some(closure);
    AnyWork(Work::Make(Make::OnThread(Box::new(move |running| match closure.take() {
        Some(closure) => Box::new(move || closure(running)),
        None => unreachable!("a job that cannot be tried again is called once"),
    }))))
}

/// A closure for a thread that may be called again.
fn again(closure: impl Fn(Running) -> Result<(), SendError> + Send + Sync + 'static) -> AnyWork {
    let closure = Arc::new(closure);
    AnyWork(Work::Make(Make::OnThread(Box::new(move |running| {
        let closure = Arc::clone(&closure);
        Box::new(move || closure(running))
    }))))
}

impl<F, T, M> Blocking<Plain<T, M>> for F
where
    F: FnOnce() -> T + Send + 'static,
    T: SendTaskOutput<M>,
{
    fn work(self) -> AnyWork {
        once(move |_| self().into_result())
    }
}

impl<F, T, M> Blocking<Told<T, M>> for F
where
    F: FnOnce(Running) -> T + Send + 'static,
    T: SendTaskOutput<M>,
{
    fn work(self) -> AnyWork {
        once(move |running| self(running).into_result())
    }
}

impl<F, T, M> BlockingAgain<Plain<T, M>> for F
where
    F: Fn() -> T + Send + Sync + 'static,
    T: SendTaskOutput<M>,
{
    fn work(self) -> AnyWork {
        again(move |_| self().into_result())
    }
}

impl<F, T, M> BlockingAgain<Told<T, M>> for F
where
    F: Fn(Running) -> T + Send + Sync + 'static,
    T: SendTaskOutput<M>,
{
    fn work(self) -> AnyWork {
        again(move |running| self(running).into_result())
    }
}
