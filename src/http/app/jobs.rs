//! Ready handlers for the other half of a 202: what became of a job, and cancelling it.
//!
//! Ids are easy to guess, so each handler takes a guard, which says whether a request may see a
//! job. A job that it may not see is a 404, like one that does not exist.
//!
//! ```
//! use postlude::deferred::Running;
//! use postlude::http::{BackgroundTasks, Response, Result, Router, jobs};
//!
//! async fn upload(tasks: BackgroundTasks) -> Result<Response> {
//!     let id = tasks.task("index").run_blocking(|job: Running| {
//!         (1..=3).for_each(|done| job.progress(done, 3));
//!     })?;
//!     Ok(Response::accepted(id, "/jobs/{id}"))
//! }
//! let app = Router::new()
//!     .post("/files", upload)
//!     .get("/jobs/{id}", jobs::status(async |_, _| true))
//!     .delete("/jobs/{id}", jobs::cancel(async |_, _| true))
//!     .get("/jobs", jobs::list(async |request, job| job.name == "index" && request.field("x-key").is_some()));
//! ```

use super::extract::{Json, Path};
use super::request::Request;
use super::response::{IntoResponse, Response};
use crate::deferred::{Info, JobId, Queue};

/// A handler that answers with what the books say of a job, as JSON. Its route has one parameter,
/// the id.
///
/// While the job is not over the answer has `Retry-After: 1`.
pub fn status<G>(guard: G) -> impl AsyncFn(Path<String>, Queue, Request) -> Response + 'static
where
    G: AsyncFn(&Request, &Info) -> bool + 'static,
{
    async move |Path(id): Path<String>, queue: Queue, request: Request| match find(&id, &queue, &request, &guard).await
    {
        Some(info) if info.status.is_final() => fresh(Json(info).into_response()),
        Some(info) => fresh(Json(info).into_response()).with_field("retry-after", "1"),
        None => missing(),
    }
}

/// A handler that cancels a job: 202 if it was not over, else 409. Its route has one parameter, the
/// id.
pub fn cancel<G>(guard: G) -> impl AsyncFn(Path<String>, Queue, Request) -> Response + 'static
where
    G: AsyncFn(&Request, &Info) -> bool + 'static,
{
    async move |Path(id): Path<String>, queue: Queue, request: Request| match find(&id, &queue, &request, &guard).await
    {
        Some(info) if queue.cancel(info.id) => Response::new(202),
        Some(info) => Response::new(409).with_body(format!("the job is {}", info.status)),
        None => missing(),
    }
}

/// A handler that lists the jobs that the guard lets the request see, as a JSON array, oldest
/// first.
pub fn list<G>(guard: G) -> impl AsyncFn(Queue, Request) -> Response + 'static
where
    G: AsyncFn(&Request, &Info) -> bool + 'static,
{
    async move |queue: Queue, request: Request| {
        let mut seen = Vec::new();
        for info in queue.list() {
            if guard(&request, &info).await {
                seen.push(info);
            }
        }
        fresh(Json(seen).into_response())
    }
}

async fn find<G>(id: &str, queue: &Queue, request: &Request, guard: &G) -> Option<Info>
where
    G: AsyncFn(&Request, &Info) -> bool,
{
    let info = queue.get(id.parse::<JobId>().ok()?)?;
    guard(request, &info).await.then_some(info)
}

fn missing() -> Response {
    Response::new(404).with_body("there is no such job")
}

/// A status is out of date at once.
fn fresh(response: Response) -> Response {
    response.with_field("cache-control", "no-store")
}
