//! What a request may allocate. A binary of its own: it counts with the process's allocator.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use postlude::http::{BackgroundTasks, Error, Next, Request, Router, Server, middleware};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it is; counting touches a thread-local
// without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A client inside the connection: a request per read, the answers forgotten, counted from the
/// warm-up on.
struct Script {
    request: &'static [u8],
    left: usize,
    warm: usize,
    /// The count when the warm-up was over.
    start: Rc<Cell<usize>>,
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        // Every second read lets the deferred queue have its turn.
        if self.left % 2 == 1 {
            self.left -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.left == 0 {
            return Poll::Ready(Ok(0));
        }
        self.left -= 1;
        if self.left / 2 == self.warm {
            self.start.set(COUNT.get());
        }
        buffer[..self.request.len()].copy_from_slice(self.request);
        Poll::Ready(Ok(self.request.len()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Allocations per request, over 1000 of them.
fn allocations(router: Router, request: &'static [u8]) -> f64 {
    postlude::run(async {
        let server = Server::bind("127.0.0.1:0", router).unwrap();
        let start = Rc::new(Cell::new(0));
        let script = Script { request, left: 2200, warm: 1000, start: Rc::clone(&start) };
        server.serve_connection(script).await;
        (COUNT.get() - start.get()) as f64 / 1000.0
    })
    .unwrap()
}

#[test]
fn a_plain_request_allocates_the_handler_s_future_and_the_fields_of_the_answer() {
    let router = Router::new().get("/plaintext", async || "Hello, World!");
    let count = allocations(router, b"GET /plaintext HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\nAccept: */*\r\n\r\n");
    assert!(count < 2.1, "{count}");
}

#[test]
fn layers_and_what_they_leave_in_a_request_have_their_price() {
    let layers = |count: usize, leave: bool| {
        let mut router = Router::new().get("/", async || "Hello, World!");
        for _ in 0..count {
            router = router.with(async move |mut request: Request, next: Next| {
                if leave {
                    request.extensions_mut().insert(7_u32);
                }
                next.run(request).await
            });
        }
        allocations(router, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    };
    let (none, one, two) = (layers(0, false), layers(1, false), layers(2, false));
    assert!(none < 2.1 && one - none < 2.1 && two - one < 1.1, "{none} without layers, {one} with one, {two} with two");
    assert!(layers(1, true) - one < 2.1, "the list, and the value in it");
}

#[test]
fn a_line_of_an_access_log_has_its_price() {
    let app = || Router::new().get("/", async || "Hello, World!");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let plain = allocations(app().with(async |request: Request, next: Next| next.run(request).await), request);
    let logged = allocations(app().with(middleware::access_log(|_| {})), request);
    assert!(logged - plain < 3.1, "{plain} with a layer that does nothing, {logged} with the log");
}

#[test]
fn a_background_task_has_its_price() {
    let with = |tasks: usize| {
        let router = Router::new().get("/", async move |list: BackgroundTasks| {
            for _ in 0..tasks {
                list.add(async {})?;
            }
            Ok::<_, Error>("answer")
        });
        allocations(router, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") - 2.0
    };
    let (one, two) = (with(1), with(2));
    assert!(one < 3.1 && two - one < 2.1, "{one} for the first task, {two} for two");
}
