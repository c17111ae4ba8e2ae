//! Serves one connection: reads a head, calls the handler, writes the answer, and repeats.
//!
//! The connection's task polls the handler's future itself, so a request costs no task. The answers
//! are flushed before the connection waits for anything, the handler included; until then pipelined
//! requests are answered into one buffer, and go out in one write. A request body is read only when
//! the handler asks for it.
//!
//! # How it works
//!
//! 1. `read_head`: parse the input, and read more until the head is complete. Without any byte the
//!    connection is idle; from the first byte on the head's deadline applies.
//! 2. `call`: route, and run the handler. `drive` polls it, feeds it body bytes, flushes, and
//!    listens for the client's end (`hangup`).
//! 3. `begin_answer`, `finish_answer`: write the head and the body, or drive the stream. Leave the
//!    mark that starts the background tasks.
//! 4. `finish_body`: throw away the rest of a body that the handler did not read, if it is small.
//!
//! These steps need buffers and a record of the head. They are one box, [`Active`], which an idle
//! connection lends to others.
//!
//! A step returns a [`ConnectionEnd`] if the connection must not go on.
//!
//! # Invariants
//!
//! - A client that resets ends the connection and its response's stream at once, but not the
//!   handler: this runs to its end, and its tasks run.
//! - Handlers and tasks do not see a failed write: the output throws away the bytes after it.
//! - The connection may close while the client is still sending. Then it half-closes and reads for
//!   a while, or the client's kernel would throw the answer away (RFC 9112 section 9.6).

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use futures_io::{AsyncRead, AsyncWrite};
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use super::active::{Active, Held};
use super::buffer::poll_budget;
use super::closing::Leftover;
use super::hangup::{self, HalfClose, Silence};
use super::incoming::{DRAINED, IncomingBody};
use super::places::ConnectionPlace;
use super::shared::ServerState;
use super::timer::{self, ConnectionTimer, LINGER, LINGER_BYTES, RateLimit};
use super::upgrade;
use crate::http::app::accounts::Account;
use crate::http::app::body::{Body, BodyCell, BodyError, Demand};
use crate::http::app::call::{Answer, AnswerFuture, poll_caught, tell_note};
use crate::http::app::client::ClientEnd;
use crate::http::app::delivery::Watch;
use crate::http::app::peer::Peer;
use crate::http::app::problem;
use crate::http::app::refusal::Refusal;
use crate::http::app::request::{Request, RequestRecord};
use crate::http::app::response::{IntoResponse, Pieces, Response, ResponseBody};
use crate::http::app::route::RouteMatch;
use crate::http::app::stopping::UntilStop;
use crate::http::app::upgraded::{UpgradeFuture, Upgraded};
use crate::http::background::{Trigger, discard, text_of};
use crate::http::wire::chunked::{self, Decoder};
use crate::http::wire::parse::{Framing, Version, begins_with_head_method};
use crate::http::wire::write::{CONTINUE, write_date, write_field, write_length, write_status};
use crate::task::{has_budget, poll_proceed, spend};
use crate::time::now;

/// The longest time that a request waits because background tasks have piled up. A longer one would
/// not help: a task that is then refused tells the client to come back after as long.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionEnd {
    /// The client has gone or was silent for too long, or the server stops. Nothing is to be
    /// written.
    Idle,
    /// Flush and close.
    Close,
    /// Flush, half-close, and read for a while: the client may still be sending.
    Linger,
    /// Nothing more can be written.
    Broken,
    /// Nothing more can be written, but the handler still runs.
    Gone,
    /// Go on with another protocol.
    Upgrade,
}

pub(crate) struct Connection<IO> {
    io: IO,
    shared: Rc<ServerState>,
    place: ConnectionPlace,
    peer: Peer,
    /// The peer's account; unset without an address.
    account: Option<Rc<Account>>,
    active: Held,
    /// Requests still allowed.
    requests_left: u32,
    timer: ConnectionTimer,
}

impl<IO> Connection<IO> {
    pub(crate) fn new(shared: Rc<ServerState>, io: IO, peer: Peer, place: ConnectionPlace) -> Self {
        Self {
            io,
            place,
            peer,
            account: shared.parts.accounts.of(peer),
            active: Held::default(),
            requests_left: shared.limits.max_requests,
            timer: ConnectionTimer::default(),
            shared,
        }
    }

    /// Provides a record for the next request: the last one, unless a request still holds it.
    fn fresh_record(&mut self) {
        let Some(active) = self.active.0.as_deref_mut() else { return };
        match Rc::get_mut(&mut active.record) {
            Some(record) => record.clear(),
            None => {
                let mut record = RequestRecord::new(Rc::clone(&self.shared.parts), self.peer);
                record.account = self.account.clone();
                active.record = Rc::new(record);
            }
        }
    }

    /// Returns the buffers to the spare ones if they are empty.
    fn release_buffers(&mut self) {
        if let Some(mut active) = self.active.0.take_if(|active| active.is_unused()) {
            active.input.shrink(&self.shared.places.spare.input);
            active.output.reset();
            active.half_close = HalfClose::default();
            self.shared.places.spare.give_back(active);
        }
    }

    /// Takes or creates buffers if there are none.
    fn acquire_buffers(&mut self) {
        if self.active.0.is_none() {
            let shared = &self.shared;
            let lent = shared.places.spare.lend();
            let mut active = lent.unwrap_or_else(|| Box::new(Active::new(&shared.limits, &shared.parts)));
            if let Some(record) = Rc::get_mut(&mut active.record) {
                (record.peer, record.account) = (self.peer, self.account.clone());
            }
            self.active = Held(Some(active));
        }
    }

    fn is(&self, method: &str) -> bool {
        self.active.record.head.method(&self.active.record.bytes) == method
    }

    fn is_http10(&self) -> bool {
        self.active.record.head.version() == Version::Http10
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Connection<IO> {
    /// Serves the connection to its end. If it ends while idle, `close` gets the rest.
    pub(crate) fn serve(self, close: impl AsyncFnOnce(Leftover<IO>, &ServerState)) -> impl Future<Output = ()> {
        let mut connection = self;
        // The future of an async function would hold the connection twice, as parameter and
        // variable.
        async move {
            let end = loop {
                if let Err(end) = connection.serve_one().await {
                    break end;
                }
            };
            match end {
                ConnectionEnd::Idle => close(Leftover::new(connection.io, connection.place), &connection.shared).await,
                ConnectionEnd::Broken => {}
                ConnectionEnd::Gone => hangup::outlive(connection.io, connection.active, connection.place).await,
                ConnectionEnd::Upgrade => connection.hand_over().await,
                ConnectionEnd::Close | ConnectionEnd::Linger => connection.close(end == ConnectionEnd::Linger).await,
            }
        }
    }

    async fn serve_one(&mut self) -> Result<(), ConnectionEnd> {
        // A client may pipeline hundreds of requests, so each one spends budget.
        poll_fn(poll_proceed).await;
        self.read_head().await?;
        if self.shared.queue.is_loaded() {
            self.wait_for_room().await;
        }
        let has_body = !matches!(self.active.record.head.framing(), Framing::None | Framing::Length(0));
        let has_memory = !has_body || self.shared.parts.budget.has_room() || self.wait_for_memory().await?;
        let mut begun = if has_memory { self.call().await? } else { self.refuse_body() };
        self.finish_answer(&mut begun).await?;
        self.finish_body().await?;
        // Bounds the memory for a client that pipelines without reading.
        if self.active.output.is_full() { self.flush().await } else { Ok(()) }
    }

    /// Delays the request, for at most `LONGEST_PAUSE`, while too many background tasks are ready
    /// to run. It flushes first: no client should wait for an answer meanwhile, and a task counts
    /// as ready once its answer is out.
    async fn wait_for_room(&mut self) {
        if self.active.output.holds_tasks() || self.shared.queue.is_busy() {
            // A failed write does not end the request.
            let _ = self.flush().await;
        }
        if !self.shared.queue.is_busy() {
            return;
        }
        self.active.record.refuse(Refusal::Pause, None, "");
        let queue = self.shared.queue.clone();
        let mut room = pin!(queue.room());
        self.timer.set(LONGEST_PAUSE);
        poll_fn(|cx| if self.timer.expired(cx) { Poll::Ready(()) } else { room.as_mut().poll(cx) }).await;
    }

    /// Delays a request with a body while the server's memory is taken. Returns false if that takes
    /// too long, or the server stops. Boxed, as it is rare.
    fn wait_for_memory(&mut self) -> Pin<Box<dyn Future<Output = Result<bool, ConnectionEnd>> + '_>> {
        Box::pin(async {
            self.flush().await?;
            let parts = Rc::clone(&self.shared.parts);
            let (mut room, mut stopping) = (pin!(parts.budget.room()), pin!(parts.stop.stopping()));
            self.timer.set(self.shared.limits.body_timeout);
            poll_fn(|cx| {
                self.active.listen(&mut self.io, &self.shared.places.spare.input, cx);
                if self.active.output.is_broken() {
                    return Poll::Ready(Err(ConnectionEnd::Broken));
                }
                if room.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(true));
                }
                let is_over = stopping.as_mut().poll(cx).is_ready() || self.timer.expired(cx);
                if is_over { Poll::Ready(Ok(false)) } else { Poll::Pending }
            })
            .await
        })
    }

    /// Answers a request for whose body there is no memory.
    fn refuse_body(&mut self) -> PendingAnswer {
        let error = BodyError::Overloaded;
        drop(self.begin_body());
        self.active.record.refuse(Refusal::Memory, Some(error.status()), &error.to_string());
        self.begin_answer(Answer::failed(error.into_response()))
    }

    // 1. The head.

    async fn read_head(&mut self) -> Result<(), ConnectionEnd> {
        self.acquire_buffers();
        self.fresh_record();
        self.active.head_since = None;
        loop {
            if !self.active.input.is_empty() && self.parse_head()? {
                return Ok(());
            }
            self.flush().await?;
            self.read_more_head().await?;
        }
    }

    fn parse_head(&mut self) -> Result<bool, ConnectionEnd> {
        let Active { input, parser, record, .. } = &mut *self.active;
        let record = Rc::get_mut(record).expect("a fresh record is the connection's alone");
        match parser.parse(input.bytes(), &mut record.head) {
            Ok(None) => Ok(false),
            Ok(Some(length)) => {
                record.bytes.extend_from_slice(&input.bytes()[..length]);
                record.number = self.shared.next_request();
                // Only now: half a head, however often bytes of it come, stays where it is in line.
                self.place.is_busy();
                self.requests_left = self.requests_left.saturating_sub(1);
                input.consume(length);
                Ok(true)
            }
            Err(error) => Err(self.refuse(Refusal::Head, error.status(), &error.to_string())),
        }
    }

    /// Waits for bytes of a head, within the limit for an idle connection or for an incomplete
    /// head.
    async fn read_more_head(&mut self) -> Result<(), ConnectionEnd> {
        let idle = self.active.input.is_empty();
        if idle {
            self.timer.set(self.shared.limits.idle_timeout);
        } else {
            let deadline = self.head_deadline();
            self.timer.set_at(deadline);
        }
        let count = poll_fn(|cx| {
            self.acquire_buffers();
            let polled = self.poll_fill_head(idle, cx);
            if idle {
                self.release_buffers();
            }
            polled
        });
        match count.await? {
            0 => Err(if idle { ConnectionEnd::Idle } else { ConnectionEnd::Close }),
            _ => Ok(()),
        }
    }

    fn head_deadline(&mut self) -> Option<Instant> {
        let Active { input, head_since, .. } = &mut *self.active;
        let limits = &self.shared.limits;
        let since = *head_since.get_or_insert_with(now);
        timer::head_deadline(since, input.bytes().len(), limits.header_rate, limits.header_grace, limits.header_timeout)
    }

    fn poll_fill_head(&mut self, idle: bool, cx: &mut Context<'_>) -> Poll<Result<usize, ConnectionEnd>> {
        match self.active.input.poll_fill(&mut self.io, &self.shared.places.spare.input, cx) {
            Poll::Ready(read) => Poll::Ready(read.map_err(|_| ConnectionEnd::Broken)),
            // Checked only with budget, without which the read says nothing: a request that has
            // arrived is answered. One that is still incomplete may take long: it is not begun.
            Poll::Pending if has_budget() && self.place.must_end(cx) => Poll::Ready(Err(ConnectionEnd::Idle)),
            Poll::Pending if !self.timer.expired(cx) => Poll::Pending,
            Poll::Pending if idle => Poll::Ready(Err(ConnectionEnd::Idle)),
            Poll::Pending => {
                Poll::Ready(Err(self.refuse(Refusal::HeadTimeout, 408, "the request did not arrive in time")))
            }
        }
    }

    fn refuse(&mut self, what: Refusal, status: u16, text: &str) -> ConnectionEnd {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        self.shared.parts.refused.tell(what, self.peer, Some(status), self.active.input.bytes(), text);
        self.refuse_with(Response::text(status, text))
    }

    fn refuse_with(&mut self, response: Response) -> ConnectionEnd {
        self.write_head(&response, false, Length::Known(response.payload.length().unwrap_or_default()));
        if !begins_with_head_method(self.active.input.bytes()) {
            self.active.output.append_payload(response.payload);
        }
        ConnectionEnd::Linger
    }

    // 2. The handler.

    async fn call(&mut self) -> Result<PendingAnswer, ConnectionEnd> {
        let handler = match self.route() {
            Ok(handler) => handler,
            Err(begun) => return Ok(begun),
        };
        let mut running = Some(handler);
        self.active.half_close.silence = Silence::Unlimited;
        let Some(outcome) = self.drive(|cx| poll_caught(&mut running, cx)).await else {
            self.active.orphan = running;
            return Err(ConnectionEnd::Gone);
        };
        let answer = outcome.unwrap_or_else(|text| self.active.answer_panic(&text));
        Ok(self.begin_answer(answer))
    }

    /// Returns the handler's future, or the answer if no handler is needed.
    fn route(&mut self) -> Result<AnswerFuture, PendingAnswer> {
        let record = Rc::get_mut(&mut self.active.record).expect("a fresh record is the connection's alone");
        let found = self.shared.router.find(record);
        let body = self.begin_body();
        let has_handler = self.active.record.endpoint.is_some();
        let found = match &self.active.body {
            Some(body) if body.failed && has_handler => found.instead(|| BodyError::TooLarge.into_response()),
            _ => found,
        };
        let next = match found {
            RouteMatch::Handler(next) => next,
            RouteMatch::Answer(response) => return Err(self.begin_answer(Answer { response, failed: false })),
        };
        self.active.calling = true;
        Ok(next.start(Request::new(Rc::clone(&self.active.record), body)))
    }

    /// Prepares for the request's body, if there is one. If its declared length is too large, it
    /// has failed from the start.
    fn begin_body(&mut self) -> Body {
        let framing = self.active.record.head.framing();
        let left = match framing {
            Framing::None | Framing::Length(0) => return Body::default(),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        let allowance = self.active.record.max_body().unwrap_or(self.shared.limits.max_body);
        let too_large = left.is_some_and(|length| length > allowance);
        let cell = Rc::new(BodyCell::new(&self.shared.parts.budget));
        if too_large {
            cell.end(Err(BodyError::TooLarge));
        }
        *self.active.record.load.borrow_mut() = cell.load();
        self.active.body = Some(IncomingBody {
            decoder: Decoder::new(framing, self.shared.limits.chunks),
            cell: Rc::clone(&cell),
            allowance,
            left,
            expects_continue: self.active.record.head.expects_continue(),
            ended: too_large,
            failed: too_large,
            fault: too_large.then_some(BodyError::TooLarge),
            patience: RateLimit::new(self.shared.limits.body_timeout, self.shared.limits.body_rate),
        });
        Body::new(cell)
    }

    /// Polls the handler's future or stream until it is ready. Whenever it waits, feeds it body
    /// bytes, flushes, and listens. Returns `None` if nothing more can be written, or a half-closed
    /// client has heard nothing for too long.
    async fn drive<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        self.timer.clear();
        self.active.half_close.until = None;
        poll_fn(|cx| {
            loop {
                self.attend(true);
                let polled = poll(cx);
                self.attend(false);
                if let Poll::Ready(output) = polled {
                    return Poll::Ready(Some(output));
                }
                let fed = self.feed(cx);
                if fed == Fed::End || self.active.output.is_broken() {
                    return Poll::Ready(None);
                }
                if fed == Fed::Nothing {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn attend(&self, attended: bool) {
        if let Some(body) = &self.active.body {
            body.cell.attend(attended);
        }
    }

    /// Reads and writes while the handler or stream waits.
    fn feed(&mut self, cx: &mut Context<'_>) -> Fed {
        let fed = self.poll_body(cx).is_ready();
        let writing = self.active.poll_flush(&mut self.io, cx).is_pending();
        if fed {
            self.timer.clear();
            return Fed::Body;
        }
        let reading =
            self.active.body.as_ref().is_some_and(|body| !body.ended && body.cell.wanted(cx) != Demand::Nothing);
        if !reading {
            self.active.listen(&mut self.io, &self.shared.places.spare.input, cx);
        }
        let Active { output, body, half_close, .. } = &mut *self.active;
        let deadline = match body {
            Some(body) if reading => body.patience.deadline(),
            _ if writing => output.deadline(),
            _ => half_close.deadline(),
        };
        if let Some(body) = body.as_mut().filter(|_| !reading) {
            // The handler waits for something else, which must not cost the client's time.
            body.patience.pause();
        }
        self.timer.set_at(deadline);
        if !self.timer.expired(cx) {
            return Fed::Nothing;
        }
        self.timer.clear();
        if writing {
            self.cut_off();
        }
        if let Some(body) = self.active.body.as_mut().filter(|_| reading) {
            body.fail(BodyError::TimedOut, cx);
            return Fed::Body;
        }
        Fed::End
    }

    /// Is ready when the handler got what it asked for, or an error; pending also if it asks for
    /// nothing.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Active { input, output, body, .. } = &mut *self.active;
            let Some(body) = body.as_mut().filter(|body| !body.ended) else { return Poll::Pending };
            if body.cell.wanted(cx) == Demand::Nothing {
                return Poll::Pending;
            }
            if body.decode(input, &self.shared.places.spare.input, cx) {
                return Poll::Ready(());
            }
            if std::mem::take(&mut body.expects_continue) && input.is_empty() {
                output.append(|buffer| buffer.extend_from_slice(CONTINUE));
            }
            let _ = output.poll_flush(&mut self.io, cx);
            match ready!(input.poll_fill(&mut self.io, &self.shared.places.spare.input, cx)) {
                Ok(0) => {
                    body.fail(BodyError::Disconnected, cx);
                    self.active.hear_half_close();
                    return Poll::Ready(());
                }
                Ok(bytes) => body.patience.earn(bytes as u64),
                Err(_) => {
                    self.active.break_off();
                    return Poll::Pending;
                }
            }
        }
    }

    // 3. The answer.

    /// Appends the head to the output, and the body unless it is a stream.
    fn begin_answer(&mut self, mut answer: Answer) -> PendingAnswer {
        self.active.gather_tasks(&mut answer);
        let Answer { mut response, failed } = answer;
        let switches = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if (switches || matches!(response.payload, ResponseBody::Upgrade(_)))
            && !upgrade::was_asked(&self.active.record, &response)
        {
            response = upgrade::required(response);
        }
        tell_note(&mut response, &self.active.record);
        self.tell_fault(Some(response.status));
        problem::settle(&mut response, &self.active.record);
        let trigger = self.active.settle(failed.then_some(response.status));
        self.active.let_go_of_body();
        let bodyless = self.is("HEAD") || matches!(response.status.as_u16(), 204 | 205 | 304);
        let length = self.length_of(&response);
        let streams = !bodyless && response.payload.is_stream();
        self.settle_continue(streams);
        let keep = self.keeps_alive(&response, streams) && length != Length::UntilClose;
        self.write_head(&response, keep, length);
        self.begin_watch(response.status);
        self.active.half_close.silence = Silence::of(&response.payload, self.shared.limits.half_close);
        let (stream, big) = match response.payload {
            payload if bodyless => {
                discard(payload);
                (None, false)
            }
            ResponseBody::Events(stream) => {
                let stopping = self.shared.parts.stop.stopping();
                (Some(Box::pin(UntilStop { stream, stopping }) as Pieces), false)
            }
            ResponseBody::Stream(stream) | ResponseBody::Sized(_, stream) => (Some(stream), false),
            ResponseBody::Upgrade(on_upgrade) => {
                self.active.on_upgrade = Some(on_upgrade);
                (None, true)
            }
            payload => (None, self.active.output.append_payload(payload)),
        };
        PendingAnswer { stream, big, length, keep, trigger }
    }

    /// Takes `begun` by reference: by value it would enlarge every idle connection's future.
    async fn finish_answer(&mut self, begun: &mut PendingAnswer) -> Result<(), ConnectionEnd> {
        if begun.stream.is_some() {
            let sent = self.answer_stream(begun).await;
            discard(begun.stream.take());
            sent?;
        }
        self.active.output.mark(begun.trigger.take());
        if begun.big {
            self.flush().await?;
        }
        self.active.record.client.end(ClientEnd::Answered);
        if self.active.on_upgrade.is_some() {
            return Err(ConnectionEnd::Upgrade);
        }
        self.go_on(begun.keep)
    }

    /// Sends `100 Continue` before a response that is a stream: the stream may read the request
    /// body, and no interim response can follow the response's head.
    fn settle_continue(&mut self, streams: bool) {
        let Active { input, output, body, .. } = &mut *self.active;
        let Some(body) = body else { return };
        if streams && !body.ended && std::mem::take(&mut body.expects_continue) && input.is_empty() {
            output.append(|buffer| buffer.extend_from_slice(CONTINUE));
        }
    }

    fn begin_watch(&mut self, status: StatusCode) {
        let Active { output, record, .. } = &mut *self.active;
        if let Some(watch) = Watch::new(record.take_watchers(), Some(status), output.position()) {
            output.watch(watch);
        }
    }

    /// Returns whether the connection goes on after this answer. One that `streams` may still read
    /// the request's body.
    fn keeps_alive(&mut self, response: &Response, streams: bool) -> bool {
        let asked_to_close =
            response.fields.iter().any(|(name, value)| name == header::CONNECTION && says_close(value));
        let Active { input, record, body, .. } = &mut *self.active;
        record.head.keep_alive()
            && !asked_to_close
            && self.requests_left > 0
            && !self.shared.places.are_stopping()
            && body.as_mut().is_none_or(|body| body.is_little(input) || streams && !body.failed)
    }

    fn length_of(&self, response: &Response) -> Length {
        match response.status.as_u16() {
            101 | 204 => return Length::Unsaid,
            // RFC 9110 section 15.3.6: a 205 has no content, and says so.
            205 => return Length::Known(0),
            // The length is that of the 200, which only the handler knows.
            304 => return declared(response).map_or(Length::Unsaid, Length::Known),
            _ => {}
        }
        match response.payload.length() {
            Some(0) if self.is("HEAD") => Length::Known(declared(response).unwrap_or(0)),
            Some(length) => Length::Known(length),
            None if self.is_http10() => Length::UntilClose,
            None => Length::Chunks,
        }
    }

    fn write_head(&mut self, response: &Response, keep: bool, length: Length) {
        let http10 = self.is_http10();
        let shared = &self.shared;
        self.active.output.append(|out| {
            write_status(out, response.status);
            for (name, value) in &response.fields {
                if !is_ours(name) {
                    write_field(out, name.as_str(), value.as_bytes());
                }
            }
            match length {
                Length::Known(length) => write_length(out, length),
                Length::Chunks => write_field(out, "transfer-encoding", b"chunked"),
                Length::UntilClose | Length::Unsaid => {}
            }
            if response.fields.iter().any(|(name, _)| name == header::UPGRADE) {
                write_field(out, "connection", b"upgrade");
            }
            match (keep || response.status == StatusCode::SWITCHING_PROTOCOLS, http10) {
                (false, _) => write_field(out, "connection", b"close"),
                (true, true) => write_field(out, "connection", b"keep-alive"),
                (true, false) => {}
            }
            write_date(out, &mut shared.date.borrow_mut(), SystemTime::now());
            out.extend_from_slice(b"\r\n");
        });
    }

    /// Sends a stream's pieces, up to the known length.
    async fn answer_stream(&mut self, begun: &mut PendingAnswer) -> Result<(), ConnectionEnd> {
        while begun.length != Length::Known(0) {
            // A piece costs budget: a stream that is always ready would fill the output in one
            // poll.
            let next_piece = |cx: &mut Context<'_>| {
                ready!(poll_budget(cx));
                let piece = ready!(poll_piece(&mut begun.stream, cx));
                spend();
                Poll::Ready(piece)
            };
            match self.drive(next_piece).await {
                _ if self.active.output.is_broken() => return Err(ConnectionEnd::Broken),
                None => {
                    let probe = self.active.half_close.probe(self.shared.limits.half_close);
                    self.append_piece(probe.ok_or(ConnectionEnd::Broken)?, begun);
                }
                Some(Err(text)) => {
                    self.active.record.say(format_args!("a response's stream failed: {text}"));
                    let _ = self.flush().await;
                    return Err(ConnectionEnd::Broken);
                }
                Some(Ok(Some(piece))) => self.append_piece(piece, begun),
                Some(Ok(None)) => break,
            }
            if self.active.output.is_full() || self.shared.parts.budget.is_tight() {
                self.flush().await?;
            }
        }
        if let Length::Known(left @ 1..) = begun.length {
            let record = &self.active.record;
            record.say(format_args!("a response's stream ended {left} bytes before its length"));
            let _ = self.flush().await;
            return Err(ConnectionEnd::Broken);
        }
        if begun.length == Length::Chunks {
            self.active.output.append(chunked::write_last_chunk);
        }
        Ok(())
    }

    /// Appends a piece. Counts a known length down, and cuts off bytes beyond it.
    fn append_piece(&mut self, mut piece: Vec<u8>, begun: &mut PendingAnswer) {
        if let Length::Known(left) = &mut begun.length {
            if piece.len() as u64 > *left {
                let record = &self.active.record;
                record.say(format_args!("a response's stream has more than its length; the rest is cut off"));
                piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                begun.keep = false;
            }
            *left -= piece.len() as u64;
        }
        self.active.output.append(|out| match begun.length {
            Length::Chunks if piece.is_empty() => {}
            Length::Chunks => chunked::write_chunk(out, &piece),
            _ => out.extend_from_slice(&piece),
        });
    }

    /// Returns how the connection ends, if it does after this answer.
    fn go_on(&self, keep: bool) -> Result<(), ConnectionEnd> {
        match (keep, &self.active.body) {
            (true, _) => Ok(()),
            (false, Some(body)) if !body.ended || body.failed => Err(ConnectionEnd::Linger),
            (false, _) if !self.active.input.is_empty() => Err(ConnectionEnd::Linger),
            // The client does not know yet that this is the last answer, or expects a tunnel. So it
            // may be sending.
            (false, _) if self.active.record.head.keep_alive() || self.is("CONNECT") => Err(ConnectionEnd::Linger),
            (false, _) => Err(ConnectionEnd::Close),
        }
    }

    async fn flush(&mut self) -> Result<(), ConnectionEnd> {
        if !self.active.output.is_empty() {
            // A closure of its fields would enlarge every idle connection's future.
            poll_fn(|cx| self.poll_flush_in_time(cx)).await;
        }
        if self.active.output.is_broken() { Err(ConnectionEnd::Broken) } else { Ok(()) }
    }

    fn poll_flush_in_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.active.poll_flush(&mut self.io, cx).is_pending() {
            self.timer.set_at(self.active.output.deadline());
            if !self.timer.expired(cx) {
                return Poll::Pending;
            }
            self.cut_off();
        }
        Poll::Ready(())
    }

    /// The client has not taken its answer in time.
    fn cut_off(&mut self) {
        self.active.record.refuse(Refusal::WriteTimeout, None, "");
        self.active.break_off();
    }

    /// Tells of a body's fault, once.
    fn tell_fault(&mut self, status: Option<StatusCode>) {
        let Some(fault) = self.active.body.as_mut().and_then(|body| body.fault.take()) else { return };
        let what = match fault {
            BodyError::TooLarge => Refusal::BodyTooLarge,
            BodyError::TimedOut => Refusal::BodyTimeout,
            BodyError::Malformed(_) => Refusal::BodyFraming,
            BodyError::Overloaded => Refusal::Memory,
            BodyError::Disconnected => return,
        };
        self.active.record.refuse(what, status, &fault.to_string());
    }

    // 4. The rest of the body.

    async fn finish_body(&mut self) -> Result<(), ConnectionEnd> {
        self.tell_fault(None);
        let Some(mut body) = self.active.body.take() else { return Ok(()) };
        drop(self.active.record.load.take());
        if !body.ended {
            body.cell.abandon();
        }
        body.allowance = body.allowance.min(DRAINED as u64);
        while !body.skip(&mut self.active.input) {
            self.flush().await?;
            self.timer.set_at(body.patience.deadline());
            let bytes = poll_fn(|cx| self.poll_drain(cx)).await?;
            body.patience.earn(bytes as u64);
        }
        if body.failed { Err(ConnectionEnd::Linger) } else { Ok(()) }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, ConnectionEnd>> {
        match self.active.input.poll_fill(&mut self.io, &self.shared.places.spare.input, cx) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(ConnectionEnd::Broken)),
            Poll::Ready(Ok(bytes)) => Poll::Ready(Ok(bytes)),
            Poll::Pending if has_budget() && self.place.must_end(cx) => Poll::Ready(Err(ConnectionEnd::Linger)),
            Poll::Pending if self.timer.expired(cx) => Poll::Ready(Err(ConnectionEnd::Close)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Passes the socket, and the bytes read after the request, to the upgrade's function. It is
    /// boxed because few connections need this part of the future.
    fn hand_over(self) -> UpgradeFuture {
        let Self { io, place, mut active, shared, .. } = self;
        let on_upgrade = active.on_upgrade.take();
        let upgraded = Upgraded::new(io, active.input.bytes().to_vec(), shared.parts.stop.stopping());
        drop(active);
        Box::pin(async move {
            if let Some(on_upgrade) = on_upgrade {
                upgrade::run(on_upgrade, upgraded).await;
            }
            drop(place);
        })
    }

    /// Flushes, half-closes, and reads for a while if it should `linger`.
    async fn close(&mut self, linger: bool) {
        if self.flush().await.is_err() {
            return;
        }
        self.timer.set(LINGER);
        let closed = poll_fn(|cx| match Pin::new(&mut self.io).poll_close(cx) {
            Poll::Ready(closed) => Poll::Ready(closed.is_ok()),
            Poll::Pending if self.timer.expired(cx) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        if closed.await && linger {
            let mut left = LINGER_BYTES;
            while poll_fn(|cx| self.poll_linger(&mut left, cx)).await {}
        }
    }

    /// Reads and drops up to `left` bytes, and then only waits. Returns false when the client has
    /// ended, too, or time is up.
    fn poll_linger(&mut self, left: &mut usize, cx: &mut Context<'_>) -> Poll<bool> {
        self.active.input.clear();
        if self.timer.expired(cx) {
            return Poll::Ready(false);
        }
        if *left == 0 {
            return Poll::Pending;
        }
        let read = ready!(self.active.input.poll_fill(&mut self.io, &self.shared.places.spare.input, cx));
        let count = read.unwrap_or_default();
        *left = left.saturating_sub(count);
        Poll::Ready(count > 0)
    }
}

/// Polls a response's stream, and drops it when it has ended. A panic is an error like any other.
fn poll_piece(stream: &mut Option<Pieces>, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>, String>> {
    let Some(running) = stream else { return Poll::Ready(Ok(None)) };
    let piece = match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll_next(cx))) {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(Some(Ok(piece)))) => return Poll::Ready(Ok(Some(piece))),
        Ok(Poll::Ready(Some(Err(error)))) => Err(error.to_string()),
        Ok(Poll::Ready(None)) => Ok(None),
        Err(payload) => Err(text_of(payload)),
    };
    let ended = stream.take();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(ended))).map_err(text_of);
    Poll::Ready(dropped.and(piece))
}

/// What a waiting handler or stream got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    Nothing,
    /// Bytes of the request's body, or its end.
    Body,
    /// Nothing, and its time is over.
    End,
}

/// An answer whose head is in the output, but perhaps not its body.
struct PendingAnswer {
    /// The rest of its body.
    stream: Option<Pieces>,
    /// Whether the output must be flushed before anything follows: after a big body, or the 101.
    big: bool,
    length: Length,
    keep: bool,
    trigger: Option<Trigger>,
}

/// How a response declares the end of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known(u64),
    Chunks,
    UntilClose,
    /// It has no body because of its status.
    Unsaid,
}

/// The length that a handler declared for a body that it left out.
fn declared(response: &Response) -> Option<u64> {
    response.field("content-length")?.to_str().ok()?.parse().ok()
}

/// Returns whether the connection writes this header itself.
fn is_ours(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH
        || *name == header::TRANSFER_ENCODING
        || *name == header::CONNECTION
        || *name == header::DATE
}

fn says_close(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")))
}
