//! Deferred jobs as events of `tracing`. It is a process of its own: `tracing` keeps for the whole
//! process which events are wanted, and other tests run without a subscriber.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use postlude::Runtime;
use postlude::deferred::Queue;
use postlude::task::yield_now;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

/// What is logged, and the spans that are entered. There is one kind of span.
#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    entered: Vec<Id>,
    kind: Option<&'static Metadata<'static>>,
}

#[derive(Clone, Default)]
struct Collect(Arc<Mutex<Seen>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if ["status", "fault", "message"].contains(&field.name()) {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }
}

impl Subscriber for Collect {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.lock().unwrap().kind = Some(span.metadata());
        Id::from_u64(7)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let mut seen = self.0.lock().unwrap();
        let place = if seen.entered.is_empty() { "outside" } else { "in the span" };
        seen.lines.push(format!("{place}, {}:{}", event.metadata().level(), fields.0));
    }
    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(span.clone());
    }
    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().entered.pop();
    }
    fn current_span(&self) -> Current {
        let seen = self.0.lock().unwrap();
        match (seen.entered.last(), seen.kind) {
            (Some(id), Some(kind)) => Current::new(id.clone(), kind),
            _ => Current::none(),
        }
    }
}

#[test]
fn jobs_are_events_of_tracing_and_run_in_the_span_of_the_place_that_added_them() {
    let log = Collect::default();
    tracing::subscriber::with_default(log.clone(), || {
        let body = async {
            let queue = Queue::new();
            tracing::info_span!("request").in_scope(|| {
                queue
                    .task("fails")
                    .run(async || {
                        tracing::info!("first");
                        yield_now().await;
                        tracing::info!("second");
                        Err::<(), _>("no")
                    })
                    .unwrap();
            });
            queue.idle().await;
        };
        Runtime::builder().paused_clock().build().unwrap().block_on(body).unwrap();
    });
    let lines = std::mem::take(&mut log.0.lock().unwrap().lines);
    assert_eq!(
        lines,
        [
            "in the span, DEBUG: message=job waiting status=\"waiting\"",
            "in the span, INFO: message=first",
            "in the span, INFO: message=second",
            "outside, WARN: message=job failed status=\"failed\" fault=\"no\"",
        ]
    );
}

#[test]
fn a_job_on_a_thread_runs_in_the_span_of_the_place_that_added_it() {
    let log = Collect::default();
    let seen = Arc::clone(&log.0);
    let inside = Arc::new(Mutex::new(Vec::new()));
    let entered = Arc::clone(&inside);
    tracing::subscriber::with_default(log, || {
        let body = async {
            let queue = Queue::new();
            let job = move || {
                let spans = seen.lock().unwrap().entered.len();
                entered.lock().unwrap().push(spans);
            };
            tracing::info_span!("request").in_scope(|| queue.task("blocks").run_blocking(job.clone()).unwrap());
            queue.idle().await;
            queue.task("outside").run_blocking(job).unwrap();
            queue.idle().await;
        };
        Runtime::new().unwrap().block_on(body).unwrap();
    });
    assert_eq!(*inside.lock().unwrap(), [1, 0]);
}
