//! Jobs as events and spans of the `tracing` crate.
//!
//! Each step of a job is an event of the target `postlude::deferred`, and its work runs in the span
//! that was current where the job was added: that of the request, for background tasks.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tracing::{Level, Span};

use super::info::{Info, Status};
use super::work::{Make, TaskFuture, Work};

const TARGET: &str = "postlude::deferred";

/// Whether any subscriber wants to be told of steps.
pub(super) fn is_on() -> bool {
    tracing::enabled!(target: TARGET, Level::WARN)
}

/// Tells of a job's new status: a warning if it went wrong.
pub(super) fn step(info: &Info) {
    let Info { id, name, lane, status, attempt, label, group, .. } = info;
    let (id, status, fault) = (id.get(), status.name(), info.fault.as_deref());
    match info.status {
        Status::Failed | Status::Skipped | Status::Unfinished => {
            tracing::warn!(target: TARGET, id, %name, lane, status, attempt, label, group, fault, "job {status}");
        }
        _ => tracing::debug!(target: TARGET, id, %name, lane, status, attempt, label, group, fault, "job {status}"),
    }
}

/// A job's work in the current span. That of a thread enters the span there.
pub(super) fn carry(work: Work) -> Work {
    let span = Span::current();
    if span.is_none() {
        return work;
    }
    match work {
        Work::Future(future) => Work::Future(Box::pin(InSpan { span, future })),
        Work::Make(Make::OnLoop(mut make)) => Work::Make(Make::OnLoop(Box::new(move |running| {
            Box::pin(InSpan { span: span.clone(), future: make(running) })
        }))),
        Work::Make(Make::OnThread(mut make)) => Work::Make(Make::OnThread(Box::new(move |running| {
            let (span, closure) = (span.clone(), make(running));
            Box::new(move || span.in_scope(closure))
        }))),
    }
}

struct InSpan {
    span: Span,
    future: TaskFuture,
}

impl Future for InSpan {
    type Output = <TaskFuture as Future>::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _entered = this.span.enter();
        this.future.as_mut().poll(cx)
    }
}
