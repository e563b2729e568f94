//! The WebSocket of one session.
//!
//! Everything that happens on it passes one poll: writes are flushed, frames are read, deadlines are kept,
//! so that a write that is stuck never stops the reading.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_codec::Framed;
use actix_http::ws::{CloseCode, CloseReason, Codec, Frame, Item, Message, ProtocolError};
use awc::BoxedSocket;
use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::{
    UpstreamConfig,
    failure::{CloseFrame, Failures},
    liveness::{Due, Liveness},
};
use crate::{
    errors::{ErrorCode, Phase, SessionError},
    recovery::Policy,
    wire::{
        self, Data,
        proto::{ServerConfirmSession, ServerError},
    },
};

/// How long a `ServerError` that ends a connection is held for the close frame that may follow it: the two
/// are one failure.
const HOLD: Duration = Duration::from_secs(1);

/// How long a close handshake may take before the socket is dropped.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// What happened on a socket.
#[derive(Debug)]
pub enum SocketEvent {
    /// A message came. `bytes` is the message as the service sent it.
    Frame {
        /// Its content.
        data: Data,
        /// The whole message.
        bytes: Bytes,
    },
    /// There is room to send again.
    Room,
    /// One request failed; the connection goes on.
    RequestFailed(SessionError),
    /// The connection is over.
    Ended(SessionError),
}

/// A `ServerError` that ends the connection, held for its close frame.
#[derive(Debug)]
struct Held {
    server_error: ServerError,
    until: Instant,
}

/// Whether what was given to send has left.
#[derive(Clone, Copy, Debug)]
enum Outgoing {
    Flushed,
    /// Something is on its way; `full` since there was no room for more.
    Flushing {
        since: Instant,
        full: bool,
    },
}

enum Step {
    Frame(Frame),
    Room,
    Broken(ProtocolError),
    Eof,
    Timer,
}

/// One connection to the service.
pub struct Socket {
    framed: Framed<BoxedSocket, Codec>,
    failures: Failures,
    phase: Phase,
    liveness: Liveness,
    stuck_after: Duration,
    timer: Pin<Box<Sleep>>,
    outgoing: Outgoing,
    held: Option<Held>,
    /// The pieces of a message that comes in several frames.
    fragments: Option<BytesMut>,
    max_message_bytes: usize,
}

impl Socket {
    pub(super) fn new(
        framed: Framed<BoxedSocket, Codec>,
        config: &UpstreamConfig,
        failures: Failures,
    ) -> Self {
        let now = Instant::now();
        let liveness = Liveness::new(config.ping_every, config.half_open_after, now);
        Self {
            framed,
            failures,
            phase: Phase::WebsocketHandshake,
            timer: Box::pin(sleep_until(liveness.next_due())),
            liveness,
            stuck_after: config.half_open_after,
            outgoing: Outgoing::Flushed,
            held: None,
            fragments: None,
            max_message_bytes: config.max_message_bytes,
        }
    }

    pub(super) const fn failures(&self) -> &Failures {
        &self.failures
    }

    /// The service confirmed the session: errors from here on are runtime errors and name the connection.
    pub(super) fn confirmed(&mut self, connection_id: &str) {
        self.phase = Phase::WebsocketRuntime;
        self.failures.connection_id = Some(connection_id.to_owned());
    }

    /// The confirmation, which must be the first message.
    pub(super) async fn first_message(&mut self) -> Result<ServerConfirmSession, SessionError> {
        loop {
            match self.next_where(|_code| false).await {
                SocketEvent::Frame { data: Data::ServerConfirmSession(confirm), .. } => return Ok(confirm),
                SocketEvent::Frame { .. } => {
                    let what = "the first message is neither a confirmation nor an error";
                    return Err(self.failures.violation(self.phase, what));
                }
                SocketEvent::Room => {}
                SocketEvent::RequestFailed(error) | SocketEvent::Ended(error) => return Err(error),
            }
        }
    }

    /// Waits for what happens next. May be dropped at any time: nothing is lost by it.
    pub async fn next(&mut self, policy: &Policy) -> SocketEvent {
        self.next_where(|code| policy.spares_the_connection(code)).await
    }

    /// Whether another message may be given to send: what is buffered is bounded by one message.
    pub fn has_room(&self) -> bool {
        !self.framed.is_write_buf_full()
    }

    /// Gives a message to send; [`Socket::next`] sends it.
    ///
    /// # Errors
    ///
    /// The message cannot be framed.
    pub fn send(&mut self, message: Bytes) -> Result<(), SessionError> {
        self.write(Message::Binary(message)).map_err(|error| {
            self.failures
                .socket_ended(Phase::WebsocketSend, &format!("a message could not be framed: {error}"))
        })
    }

    /// Closes with 1000, waits for the service's own close frame at most a second, and drops the socket.
    pub async fn close(mut self) {
        let reason = CloseReason { code: CloseCode::Normal, description: None };
        if self.write(Message::Close(Some(reason))).is_err() {
            return;
        }
        let goodbye = async {
            loop {
                match poll_fn(|cx| self.poll_step(cx)).await {
                    Step::Frame(Frame::Close(_)) | Step::Broken(_) | Step::Eof => break,
                    Step::Frame(_) | Step::Room | Step::Timer => {}
                }
            }
        };
        if timeout(CLOSE_DEADLINE, goodbye).await.is_err() {
            tracing::debug!("the service did not answer a close in time");
        }
    }

    async fn next_where(&mut self, spares: impl Fn(ErrorCode) -> bool) -> SocketEvent {
        loop {
            let event = match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Frame(frame) => {
                    self.liveness.sign(Instant::now());
                    self.take(frame, &spares)
                }
                Step::Room => Some(SocketEvent::Room),
                Step::Timer => self.tick(),
                Step::Eof => Some(self.ended("the connection ended without a close frame")),
                Step::Broken(ProtocolError::Io(error)) => {
                    Some(self.ended(&format!("the connection broke: {error}")))
                }
                Step::Broken(error) => Some(self.violation(&format!("no WebSocket frame: {error}"))),
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    fn write(&mut self, message: Message) -> Result<(), ProtocolError> {
        Pin::new(&mut self.framed).write(message)?;
        let full = self.framed.is_write_buf_full();
        self.outgoing = match self.outgoing {
            Outgoing::Flushed => Outgoing::Flushing { since: Instant::now(), full },
            Outgoing::Flushing { since, full: before } => Outgoing::Flushing { since, full: full || before },
        };
        Ok(())
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Outgoing::Flushing { full, .. } = self.outgoing {
            match Pin::new(&mut self.framed).flush::<Message>(cx) {
                Poll::Ready(Ok(())) => {
                    self.outgoing = Outgoing::Flushed;
                    if full {
                        return Poll::Ready(Step::Room);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Step::Broken(error)),
                Poll::Pending => {}
            }
        }
        match Pin::new(&mut self.framed).next_item(cx) {
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Step::Frame(frame)),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Step::Broken(error)),
            Poll::Ready(None) => return Poll::Ready(Step::Eof),
            Poll::Pending => {}
        }
        let due = self.next_due();
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        self.timer.as_mut().poll(cx).map(|()| Step::Timer)
    }

    fn next_due(&self) -> Instant {
        let stuck = match self.outgoing {
            Outgoing::Flushed => None,
            Outgoing::Flushing { since, .. } => Some(since + self.stuck_after),
        };
        let held = self.held.as_ref().map(|held| held.until);
        [stuck, held].into_iter().flatten().fold(self.liveness.next_due(), Instant::min)
    }

    fn tick(&mut self) -> Option<SocketEvent> {
        let now = Instant::now();
        if self.held.as_ref().is_some_and(|held| now >= held.until) {
            return Some(self.ended("the service did not close after its error"));
        }
        if let Outgoing::Flushing { since, .. } = self.outgoing
            && now >= since + self.stuck_after
        {
            let what = format!("nothing could be sent for {} s", self.stuck_after.as_secs());
            return Some(SocketEvent::Ended(self.failures.socket_ended(Phase::WebsocketSend, &what)));
        }
        match self.liveness.tick(now) {
            Due::Nothing => None,
            Due::Ping => {
                self.write(Message::Ping(Bytes::new())).err().map(|error| self.ended(&error.to_string()))
            }
            Due::Lost => Some(self.ended("half-open: nothing came from the service, not even to a ping")),
        }
    }

    fn take(&mut self, frame: Frame, spares: &impl Fn(ErrorCode) -> bool) -> Option<SocketEvent> {
        match frame {
            Frame::Binary(message) => self.message(message, spares),
            Frame::Continuation(item) => match self.join(item) {
                Ok(Some(message)) => self.message(message, spares),
                Ok(None) => None,
                Err(what) => Some(self.violation(what)),
            },
            Frame::Text(_) => Some(self.violation("a text frame came where binary is due")),
            Frame::Ping(payload) => {
                self.write(Message::Pong(payload)).err().map(|error| self.ended(&error.to_string()))
            }
            Frame::Pong(_) => None,
            Frame::Close(reason) => {
                let close = CloseFrame {
                    code: reason.as_ref().map(|reason| u16::from(reason.code)),
                    reason: reason.as_ref().and_then(|reason| reason.description.clone()),
                };
                self.answer_close(reason);
                Some(SocketEvent::Ended(match &self.held {
                    Some(held) => self.failures.server_error(self.phase, &held.server_error, Some(&close)),
                    None => self.failures.closed(self.phase, &close),
                }))
            }
        }
    }

    /// Best effort: the connection is over either way, and the kernel sends what is written now.
    fn answer_close(&mut self, reason: Option<CloseReason>) {
        let code = reason.map_or(CloseCode::Normal, |reason| reason.code);
        if self.write(Message::Close(Some(CloseReason { code, description: None }))).is_ok() {
            let mut idle = Context::from_waker(std::task::Waker::noop());
            let _sent = Pin::new(&mut self.framed).flush::<Message>(&mut idle);
        }
    }

    fn join(&mut self, item: Item) -> Result<Option<Bytes>, &'static str> {
        let too_large = "a fragmented message exceeds upstream.max_message_bytes";
        match item {
            Item::FirstText(_) => Err("a text frame came where binary is due"),
            Item::FirstBinary(piece) => {
                self.fragments = Some(BytesMut::from(piece.as_ref()));
                Ok(None)
            }
            Item::Continue(piece) => {
                let fragments = self.fragments.get_or_insert_default();
                fragments.extend_from_slice(&piece);
                if fragments.len() > self.max_message_bytes { Err(too_large) } else { Ok(None) }
            }
            Item::Last(piece) => {
                let mut fragments = self.fragments.take().unwrap_or_default();
                fragments.extend_from_slice(&piece);
                if fragments.len() > self.max_message_bytes {
                    Err(too_large)
                } else {
                    Ok(Some(fragments.freeze()))
                }
            }
        }
    }

    fn message(&mut self, bytes: Bytes, spares: &impl Fn(ErrorCode) -> bool) -> Option<SocketEvent> {
        match wire::decode(bytes.clone()) {
            Err(error) => Some(self.violation(&error.to_string())),
            Ok(None) => None,
            Ok(Some(Data::ServerError(server_error))) => self.server_error(server_error, spares),
            Ok(Some(data)) => Some(SocketEvent::Frame { data, bytes }),
        }
    }

    fn server_error(
        &mut self,
        server_error: ServerError,
        spares: &impl Fn(ErrorCode) -> bool,
    ) -> Option<SocketEvent> {
        if self.held.is_some() {
            return None;
        }
        let error = self.failures.server_error(self.phase, &server_error, None);
        if error.req_id.is_some() && spares(error.code) {
            return Some(SocketEvent::RequestFailed(error));
        }
        self.held = Some(Held { server_error, until: Instant::now() + HOLD });
        None
    }

    /// The connection is over without a close frame; an error that was held says why.
    fn ended(&self, what: &str) -> SocketEvent {
        SocketEvent::Ended(match &self.held {
            Some(held) => self.failures.server_error(self.phase, &held.server_error, None),
            None => self.failures.socket_ended(self.phase, what),
        })
    }

    fn violation(&self, what: &str) -> SocketEvent {
        SocketEvent::Ended(self.failures.violation(self.phase, what))
    }
}
