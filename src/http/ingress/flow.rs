//! What flows between a client's socket and its session, and what stops it.
//!
//! Three things share a [`Flow`] on one thread: the stream of bytes that come in ([`Inbound`]), the stream of what the
//! session says ([`FromSession`]), and the response's body, which is what goes out ([`Metered`]). The HTTP server
//! polls the body only while its write buffer has room, so a client that does not read freezes everything that
//! runs in the body; [`watch`] runs beside it, and bounds what then waits.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    error::Error,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    error::PayloadError,
};
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream};
use tokio::time::Instant;

use super::scanner::{Scanner, TooLong};
use crate::session::{ClientLine, Farewell, LineTaker, ToClient};

/// Bytes that are handed to the socket ahead of what it has taken: enough to keep it busy, and little to hold for a
/// client that does not read.
const HIGH_WATER_BYTES: usize = 64 << 10;

/// How long a client that reads may take for what was sent before its session's end; then it is dropped.
const FAREWELL_WAIT: Duration = Duration::from_secs(5);

/// How many times within the deadline of a slow client it is looked after, at least.
const LOOKS: u32 = 8;
/// How long a client may hold what waits for it after its seat is lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The state that a client's streams share.
pub(super) struct Flow {
    /// `None` once the client has no seat any more.
    line: RefCell<Option<ClientLine>>,
    /// What was taken off the line already while the socket took nothing.
    queue: RefCell<VecDeque<ToClient>>,
    taker: LineTaker,
    /// Bytes of messages that were handed to the socket since it took the last ones.
    given: Cell<usize>,
    /// When the socket last took something, or nothing waited for it.
    taken_at: Cell<Instant>,
    /// When something last came from the client.
    heard_at: Cell<Instant>,
    /// Since when a last word waits behind other messages.
    ended_at: Cell<Option<Instant>>,
    is_reading: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
    input: Cell<Input>,
}

/// How the bytes of a client go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// They come.
    Open,
    /// A frame announces more than is allowed.
    TooLong,
    /// The connection ended.
    Lost,
}

impl Flow {
    pub(super) fn new(line: ClientLine) -> Self {
        let now = Instant::now();
        Self {
            taker: line.taker(),
            line: RefCell::new(Some(line)),
            queue: RefCell::default(),
            given: Cell::new(0),
            taken_at: Cell::new(now),
            heard_at: Cell::new(now),
            ended_at: Cell::new(None),
            is_reading: Cell::new(true),
            reader: RefCell::default(),
            writer: RefCell::default(),
            input: Cell::new(Input::Open),
        }
    }

    /// Stops reading from the client: its TCP window fills, and it waits.
    pub(super) fn stop_reading(&self) {
        self.is_reading.set(false);
    }

    /// Reads on.
    pub(super) fn read_on(&self) {
        if !self.is_reading.replace(true)
            && let Some(waker) = self.reader.take()
        {
            waker.wake();
        }
    }

    /// How the bytes of the client go on.
    pub(super) const fn input(&self) -> Input {
        self.input.get()
    }

    /// For how long nothing has come from the client.
    pub(super) fn silent_for(&self) -> Duration {
        self.heard_at.get().elapsed()
    }

    /// So many bytes of a message were handed to the socket.
    pub(super) fn give(&self, bytes: usize) {
        self.given.set(self.given.get().saturating_add(bytes));
    }

    /// The client has its last word: nothing more is for it.
    pub(super) fn end(&self) {
        self.line.take();
        self.queue.take();
    }

    /// The socket asks for more: it has taken what it was given.
    fn took(&self) {
        let given = self.given.replace(0);
        if given > 0 {
            self.taker.taken(given);
            self.taken_at.set(Instant::now());
        }
    }

    /// Looks after a client that may read too slowly.
    fn look(&self, slow_client: Duration) {
        let now = Instant::now();
        if self.taker.waiting_bytes() == 0 || self.line.borrow().is_none() {
            self.taken_at.set(now);
            return;
        }
        if self.given.get() >= HIGH_WATER_BYTES {
            self.look_ahead(now);
        }
        let is_over = self.ended_at.get().is_some_and(|at| now - at >= FAREWELL_WAIT);
        if now - self.taken_at.get() >= slow_client {
            self.cut_short(ToClient::Ended(Farewell::Overrun));
        } else if is_over && let Some(last) = self.queue.take().pop_back() {
            self.cut_short(last);
        }
    }

    /// Takes what is on the line while the socket takes nothing, so that a last word is found behind what waits.
    fn look_ahead(&self, now: Instant) {
        while let Some(Some(message)) = self.take_ready() {
            match &message {
                // Frames are missing after those that wait: these are of no use.
                ToClient::Ended(Farewell::Overrun) => return self.cut_short(message),
                ToClient::Ended(_) => self.ended_at.set(Some(now)),
                ToClient::Ready
                | ToClient::Message(_)
                | ToClient::RequestFailed { .. }
                | ToClient::RequestInterrupted { .. } => {}
            }
            self.queue.borrow_mut().push_back(message);
        }
    }

    /// The next message, if it is there.
    fn take_ready(&self) -> Option<Option<ToClient>> {
        self.line.borrow_mut().as_mut()?.next().now_or_never()
    }

    /// Drops all that waits but for the last word. The session learns that its client is gone.
    fn cut_short(&self, last: ToClient) {
        self.line.take();
        self.queue.replace(VecDeque::from([last]));
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

/// Looks after a client until its connection is gone.
pub(super) async fn watch(flow: Weak<Flow>, slow_client: Duration) {
    let mut looks = tokio::time::interval((slow_client / LOOKS).min(LOOK_EVERY));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(flow) = flow.upgrade() else { return };
        flow.look(slow_client);
    }
}

/// What the session says, as fast as the client's socket takes it. Ends with the client's seat.
pub(super) struct FromSession(pub(super) Rc<Flow>);

impl Stream for FromSession {
    type Item = ToClient;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ToClient>> {
        let flow = &self.0;
        {
            let mut writer = flow.writer.borrow_mut();
            if !writer.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *writer = Some(cx.waker().clone());
            }
        }
        if flow.given.get() >= HIGH_WATER_BYTES {
            return Poll::Pending;
        }
        if let Some(message) = flow.queue.borrow_mut().pop_front() {
            return Poll::Ready(Some(message));
        }
        match flow.line.borrow_mut().as_mut() {
            Some(line) => Pin::new(line).poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

/// The bytes of a client, as far as they are wanted.
pub(super) struct Inbound<S> {
    /// What came before the upgrade was answered.
    early: VecDeque<Bytes>,
    stream: S,
    scanner: Scanner,
    flow: Rc<Flow>,
}

impl<S> Inbound<S> {
    pub(super) fn new(early: VecDeque<Bytes>, stream: S, max_message_bytes: usize, flow: Rc<Flow>) -> Self {
        Self { early, stream, scanner: Scanner::new(max_message_bytes), flow }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Inbound<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.flow.input() != Input::Open {
            return Poll::Ready(None);
        }
        if !self.flow.is_reading.get() {
            self.flow.reader.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let chunk = match self.early.pop_front() {
            Some(chunk) => chunk,
            None => match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(chunk))) => chunk,
                Poll::Ready(end @ (None | Some(Err(_)))) => {
                    self.flow.input.set(Input::Lost);
                    return Poll::Ready(end);
                }
            },
        };
        self.flow.heard_at.set(Instant::now());
        match self.scanner.scan(&chunk) {
            Ok(()) => Poll::Ready(Some(Ok(chunk))),
            Err(TooLong) => {
                self.flow.input.set(Input::TooLong);
                Poll::Ready(Some(Err(PayloadError::Overflow)))
            }
        }
    }
}

/// The response's body. That more of it is asked for tells that the socket has taken what was given.
pub(super) struct Metered {
    body: BoxBody,
    flow: Rc<Flow>,
}

impl Metered {
    pub(super) const fn new(body: BoxBody, flow: Rc<Flow>) -> Self {
        Self { body, flow }
    }
}

impl MessageBody for Metered {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn Error>>>> {
        self.flow.took();
        Pin::new(&mut self.body).poll_next(cx)
    }
}
