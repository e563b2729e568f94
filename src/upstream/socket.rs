//! A confirmed connection: everything that happens on it comes out of one poll.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_http::ws::{CloseCode, CloseReason, Message};
use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::{
    UpstreamConfig,
    ending::{self, CLOSE_FRAME_WAIT, End, Reported},
    liveness::{Liveness, Tick},
    report::Reporter,
    transport::{Incoming, Transport},
};
use crate::{
    errors::{Phase, SessionError},
    recovery::{Moment, Policy},
    wire::{self, Animation, Data},
};

/// Unsent bytes from which on no more are taken: a few seconds of audio, beyond what the kernel buffers.
const WRITE_BOUND_BYTES: usize = 256 * 1024;

/// Unsent bytes down to which a full buffer must fall before it is called roomy again, so that a writer is not
/// woken for every packet.
const ROOM_AGAIN_BYTES: usize = WRITE_BOUND_BYTES / 2;

/// How long a close of ours waits for the peer's Close: the next attempt waits for this.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

const PHASE: Phase = Phase::WebsocketRuntime;

/// What happened on a connection.
#[derive(Debug)]
pub enum SocketEvent {
    /// A message of the service; see [`SocketEvent::Animation`] for the usual one.
    Frame {
        /// The message, decoded. Its byte fields share memory with `bytes`. Boxed, as [`SocketEvent::Ended`] is.
        data: Box<Data>,
        /// The message as it came, to be relayed. It shares the read buffer's memory, which lives as long as
        /// this does: copy what is kept for long.
        bytes: Bytes,
    },
    /// A frame that has nothing in it but what this version knows.
    Animation {
        /// What is needed of it.
        animation: Animation,
        /// The message as it came, as in [`SocketEvent::Frame`].
        bytes: Bytes,
    },
    /// The service failed one request, which the error names by `req_id`; the connection goes on.
    RequestFailed {
        /// The error. Boxed, as below: an event is moved for every frame, and an error is ten times as long.
        error: Box<SessionError>,
        /// The message as it came, as in [`SocketEvent::Frame`].
        bytes: Bytes,
    },
    /// The write buffer was full and has room again.
    Room,
    /// The connection ended. Polled again it says the same again.
    Ended(Box<SessionError>),
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendRefused {
    /// The write buffer is full; [`SocketEvent::Room`] says when it no longer is. The message comes back.
    #[error("the connection's write buffer is full; wait for room")]
    Full(Bytes),
    /// The message is longer than [`UpstreamConfig::max_message_bytes`].
    #[error("a message of {bytes} bytes is longer than the {max} bytes that are allowed")]
    TooLong {
        /// The message's length.
        bytes: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// The connection has ended. The message comes back.
    #[error("the connection has ended")]
    Ended(Bytes),
}

enum State {
    Open,
    /// The service reported an error that ends the connection; its close frame may follow.
    Closing {
        reported: Reported,
        until: Moment,
    },
    Ended(Box<SessionError>),
}

/// A confirmed connection. Dropping it drops the TCP connection without a Close; see [`Socket::close`].
pub struct Socket {
    transport: Transport,
    config: Arc<UpstreamConfig>,
    reporter: Reporter,
    state: State,
    liveness: Liveness,
    epoch: Instant,
    timer: Pin<Box<Sleep>>,
    /// Since when the socket has taken none of the bytes that wait.
    stalled_since: Option<Moment>,
    /// Since when nothing can be written any more, while it is read what the peer said before.
    broken_since: Option<Moment>,
    /// Whether somebody found, or made, the write buffer full.
    awaits_room: bool,
    /// Of the task that polls.
    waker: Option<Waker>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("unsent", &self.unsent()).finish_non_exhaustive()
    }
}

impl Socket {
    pub(super) fn new(transport: Transport, config: Arc<UpstreamConfig>, reporter: Reporter) -> Self {
        let epoch = Instant::now();
        let liveness = Liveness::new(Moment::ZERO, config.ping_every, config.half_open_after);
        Self {
            transport,
            reporter,
            state: State::Open,
            liveness,
            epoch,
            timer: Box::pin(sleep_until(epoch + config.ping_every)),
            stalled_since: None,
            broken_since: None,
            awaits_room: false,
            waker: None,
            config,
        }
    }

    /// Waits for what happens next. Writing, pings and deadlines go on only while this is polled.
    ///
    /// A `ServerError` that names a request, and whose code `policy` does not park, put to sleep or fail, is a
    /// [`SocketEvent::RequestFailed`]. Any other one ends the connection, together with its close frame if
    /// that comes within a second; until then frames are delivered.
    ///
    /// Safe to cancel: an event is lost only if it was returned.
    pub async fn next(&mut self, policy: &Policy) -> SocketEvent {
        poll_fn(|cx| self.poll_next(policy, cx)).await
    }

    /// Writes what was taken now, as far as the system takes it at once, for whoever does not want to wait for the task
    /// that polls. Gives whether nothing of it is left to that task, which otherwise has to be woken.
    pub fn write_now(&mut self) -> bool {
        // Whoever never polled is woken by nothing.
        let Some(waker) = self.waker.take() else { return false };
        self.write(&mut Context::from_waker(&waker));
        self.waker = Some(waker);
        self.unsent() == 0 && self.broken_since.is_none() && !self.awaits_room
    }

    /// Takes one encoded message to be sent as [`Socket::next`] is polled, or by [`Socket::write_now`].
    ///
    /// # Errors
    ///
    /// The buffer is full, the message is too long, or the connection has ended.
    pub fn send(&mut self, message: Bytes) -> Result<(), SendRefused> {
        if matches!(self.state, State::Ended(_)) {
            return Err(SendRefused::Ended(message));
        }
        if message.len() > self.config.max_message_bytes {
            return Err(SendRefused::TooLong { bytes: message.len(), max: self.config.max_message_bytes });
        }
        if !self.has_room() {
            self.awaits_room = true;
            return Err(SendRefused::Full(message));
        }
        self.transport.queue(Message::Binary(message));
        self.awaits_room = !self.has_room();
        Ok(())
    }

    /// Whether [`Socket::send`] takes a message. The bound is on what waits already, so that one long message
    /// fits however long it is. A connection that the service is ending takes nothing more: it would be lost.
    pub fn has_room(&self) -> bool {
        matches!(self.state, State::Open) && self.unsent() < WRITE_BOUND_BYTES
    }

    /// Bytes that were taken and that the operating system has not taken yet.
    pub fn unsent(&self) -> usize {
        self.transport.unsent()
    }

    /// Closes: sends what waits and a Close with 1000, waits for the peer's Close, for at most a second in all,
    /// then drops the connection. What comes meanwhile is dropped.
    pub async fn close(mut self) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        self.transport.queue(Message::Close(Some(CloseReason::from(CloseCode::Normal))));
        let parting = async {
            while matches!(poll_fn(|cx| self.transport.poll_both(cx)).await, Incoming::Message(_)) {}
            poll_fn(|cx| self.transport.poll_shutdown(cx)).await;
        };
        // Late is as good as done: the connection is dropped either way.
        let _ = timeout(CLOSE_WAIT, parting).await;
    }

    fn now(&self) -> Moment {
        Moment::at(self.epoch.elapsed())
    }

    /// As [`Socket::next`].
    pub fn poll_next(&mut self, policy: &Policy, cx: &mut Context<'_>) -> Poll<SocketEvent> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
        loop {
            if let State::Ended(error) = &self.state {
                return Poll::Ready(SocketEvent::Ended(error.clone()));
            }
            self.write(cx);
            if self.awaits_room && self.unsent() <= ROOM_AGAIN_BYTES {
                self.awaits_room = false;
                return Poll::Ready(SocketEvent::Room);
            }
            if let Poll::Ready(event) = self.poll_read(policy, cx) {
                return Poll::Ready(event);
            }
            if let Some((end, code)) = self.overdue() {
                return Poll::Ready(self.end(end, code, cx));
            }
            // Pings and pongs that were queued above.
            self.write(cx);
            let deadline = self.epoch + self.next_deadline().since_start();
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        let before = self.transport.written();
        let flushed = self.transport.poll_flush(cx);
        let has_progressed = self.transport.written() > before;
        if self.broken_since.is_none() && self.transport.write_error().is_some() {
            self.broken_since = Some(self.now());
        }
        if flushed.is_ready() {
            self.stalled_since = None;
        } else if has_progressed || self.stalled_since.is_none() {
            self.stalled_since = Some(self.now());
        }
    }

    fn poll_read(&mut self, policy: &Policy, cx: &mut Context<'_>) -> Poll<SocketEvent> {
        loop {
            let before = self.transport.received();
            let incoming = self.transport.poll_incoming(cx);
            if self.transport.received() > before {
                self.liveness.heard(self.now());
            }
            let Poll::Ready(incoming) = incoming else { return Poll::Pending };
            match incoming {
                Incoming::Message(bytes) => {
                    if let Some(event) = self.on_message(bytes, policy, cx) {
                        return Poll::Ready(event);
                    }
                }
                Incoming::Close(reason) => {
                    let code = ending::echo(reason.as_ref());
                    return Poll::Ready(self.end(End::Closed(reason), code, cx));
                }
                Incoming::Violation(what, code) => {
                    return Poll::Ready(self.end(End::Violation(what), Some(code), cx));
                }
                Incoming::Lost(how) => {
                    let end = self.lost(how);
                    return Poll::Ready(self.end(end, None, cx));
                }
            }
        }
    }

    fn on_message(&mut self, bytes: Bytes, policy: &Policy, cx: &mut Context<'_>) -> Option<SocketEvent> {
        if let Some(animation) = wire::animation(&bytes) {
            return Some(SocketEvent::Animation { animation, bytes });
        }
        match wire::decode(bytes.clone()) {
            // Of a type that this version does not know.
            Ok(None) => None,
            Ok(Some(Data::ServerError(error))) => self.on_server_error(Reported::from(error), bytes, policy),
            Ok(Some(
                data @ (Data::ClientConfigureSession(_)
                | Data::ServerConfirmSession(_)
                | Data::ClientAudioInput(_)
                | Data::ServerResponseAnimation(_)
                | Data::ClientInterrupt(_)
                | Data::ClientPause(_)
                | Data::ClientResume(_)
                | Data::ServerPlaybackState(_)),
            )) => Some(SocketEvent::Frame { data: Box::new(data), bytes }),
            Err(error) => Some(self.end(End::Violation(error.to_string()), Some(CloseCode::Invalid), cx)),
        }
    }

    fn on_server_error(&mut self, reported: Reported, bytes: Bytes, policy: &Policy) -> Option<SocketEvent> {
        // One failure, one error: what is reported after it belongs to it.
        if !matches!(self.state, State::Open) {
            return None;
        }
        if reported.names_a_request() {
            let error = reported.error(PHASE, &self.reporter);
            if policy.spares_the_connection(error.code) {
                return Some(SocketEvent::RequestFailed { error: Box::new(error), bytes });
            }
        }
        self.state = State::Closing { reported, until: self.now() + CLOSE_FRAME_WAIT };
        None
    }

    /// What is due now that nothing more can be read.
    fn overdue(&mut self) -> Option<(End, Option<CloseCode>)> {
        let now = self.now();
        if let State::Closing { until, .. } = &self.state
            && now >= *until
        {
            return Some((End::Unfollowed, Some(CloseCode::Normal)));
        }
        if let Some(since) = self.broken_since
            && now.since(since) >= CLOSE_FRAME_WAIT
        {
            return Some((self.lost("nothing more was heard".into()), None));
        }
        if let Some(since) = self.stalled_since {
            let span = now.since(since);
            if span >= self.config.write_stall {
                return Some((End::Stalled(span), None));
            }
        }
        match self.liveness.tick(now) {
            Tick::Wait => None,
            Tick::Ping => {
                self.transport.rest();
                self.transport.queue(Message::Ping(Bytes::new()));
                None
            }
            Tick::HalfOpen { silent } => Some((End::HalfOpen(silent), Some(CloseCode::Normal))),
        }
    }

    fn next_deadline(&self) -> Moment {
        let mut due = self.liveness.due();
        if let State::Closing { until, .. } = &self.state {
            due = due.min(*until);
        }
        if let Some(since) = self.stalled_since {
            due = due.min(since + self.config.write_stall);
        }
        if let Some(since) = self.broken_since {
            due = due.min(since + CLOSE_FRAME_WAIT);
        }
        due
    }

    fn lost(&self, how: String) -> End {
        match self.transport.write_error() {
            Some(error) => End::WriteFailed(error.to_owned()),
            None => End::Lost(how),
        }
    }

    fn end(&mut self, end: End, code: Option<CloseCode>, cx: &mut Context<'_>) -> SocketEvent {
        self.transport.part(code, cx);
        let reported = match &self.state {
            State::Closing { reported, .. } => Some(reported),
            State::Open | State::Ended(_) => None,
        };
        let error = Box::new(ending::error(end, reported, PHASE, &self.reporter));
        self.state = State::Ended(error.clone());
        SocketEvent::Ended(error)
    }
}
