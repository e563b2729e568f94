//! The line between a session and the connection of its client.
//!
//! The session lives on one thread and its client's connection on another. What the session says to the client
//! goes over a [`client_line`]: the session holds the [`ClientSeat`], the listener the [`ClientLine`]. A frame
//! takes no lock on its way but the channel's own, and what waits is bounded in bytes: a client that is too slow
//! loses its seat, and never holds up the session or its neighbours.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    errors::{ErrorCode, SessionError},
    recovery::lifecycle::Hold,
};

/// What a message costs beside its bytes while it waits, so that a flood of tiny ones is bounded too: its place
/// in the channel and the handle of its bytes.
const MESSAGE_COST: usize = 64;

static NEXT_CLIENT: AtomicU64 = AtomicU64::new(1);

/// The number of a client's connection, unique in the process. What an earlier client of a session says too late
/// is recognised by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

/// What a session says to its client's connection.
#[derive(Clone, Debug)]
pub enum ToClient {
    /// The service has upgraded, so that the client's upgrade may be answered with 101. Said once.
    Ready,
    /// To be sent as one binary message; its ids are the ones that the client knows.
    Message(Bytes),
    /// A request failed and the service has not told the client so: it is owed a `ServerError` and a final frame.
    RequestFailed {
        /// The request, by the client's id.
        req_id: String,
        /// Why.
        code: ErrorCode,
        /// Why, in words.
        reason: String,
    },
    /// A request was interrupted and the service will not answer it any more: the client is owed a final frame.
    RequestInterrupted {
        /// The request, by the client's id.
        req_id: String,
    },
    /// The last word. Before [`ToClient::Ready`] the upgrade is refused with it; after it comes a `ServerError` and
    /// the close.
    Ended(Farewell),
}

/// Why a client loses its session.
#[derive(Clone, Debug)]
pub enum Farewell {
    /// The session was parked, or failed, by this error.
    Error(Arc<SessionError>),
    /// Its tenant is suspended, for this code of another session.
    Suspended(ErrorCode),
    /// The service refuses the tenant's API key, which is not the client's fault.
    KeyRefused,
    /// An operator holds the session.
    ParkedByOperator,
    /// The session was deleted over the API.
    Deleted,
    /// The process ends.
    Draining,
    /// Another client has taken the session over.
    TakenOver,
    /// The client took its messages too slowly. The session is unharmed.
    Overrun,
}

impl Farewell {
    /// What a client is told whose tenant is suspended for `code`.
    pub const fn of_suspension(code: ErrorCode) -> Self {
        // The policy never suspends a tenant for a token of one session: this code stands for the key.
        if matches!(code, ErrorCode::SessionTokenInvalid) { Self::KeyRefused } else { Self::Suspended(code) }
    }

    /// What a client is told whose session is held by `hold`, after `error`.
    pub(super) fn of_hold(hold: &Hold, error: Option<&Arc<SessionError>>) -> Self {
        match (hold, error) {
            (Hold::Operator, _) => Self::ParkedByOperator,
            (Hold::KeyRefused, _) => Self::KeyRefused,
            (Hold::Suspension(code), _) | (Hold::Error(code), None) => Self::of_suspension(*code),
            (Hold::Error(_), Some(error)) => Self::Error(Arc::clone(error)),
        }
    }
}

/// The bytes that wait on a line.
#[derive(Debug, Default)]
struct Meter {
    waiting: AtomicUsize,
}

impl Meter {
    fn add(&self, bytes: usize) -> usize {
        self.waiting.fetch_add(bytes, Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) {
        // A listener that counts more than it was given must not wrap the bound away.
        let _previous = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            Some(waiting.saturating_sub(bytes))
        });
    }
}

/// Why a message did not go onto the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotPushed {
    /// As many bytes wait as may.
    Overrun,
    /// Nobody listens any more.
    Gone,
}

/// The session's end of the line. Clones are the same seat.
#[derive(Clone, Debug)]
pub struct ClientSeat {
    id: ClientId,
    sender: UnboundedSender<ToClient>,
    meter: Arc<Meter>,
    bound: usize,
}

/// The listener's end of the line. Dropping it tells the session that its client has vanished.
#[derive(Debug)]
pub struct ClientLine {
    receiver: UnboundedReceiver<ToClient>,
    taker: LineTaker,
}

/// Counts what the client has taken, for whoever gave the [`ClientLine`] away as a stream.
#[derive(Clone, Debug)]
pub struct LineTaker {
    id: ClientId,
    meter: Arc<Meter>,
}

/// A line on which at most `bound_bytes` of messages wait for the client; a single message beyond it passes while
/// nothing else waits.
pub fn client_line(bound_bytes: usize) -> (ClientSeat, ClientLine) {
    let id = ClientId(NEXT_CLIENT.fetch_add(1, Ordering::Relaxed));
    let meter = Arc::new(Meter::default());
    let (sender, receiver) = unbounded_channel();
    let seat = ClientSeat { id, sender, meter: Arc::clone(&meter), bound: bound_bytes };
    (seat, ClientLine { receiver, taker: LineTaker { id, meter } })
}

impl ClientSeat {
    /// The client's number.
    pub const fn id(&self) -> ClientId {
        self.id
    }

    /// Puts a message onto the line, where there is room.
    pub(super) fn push(&self, message: ToClient) -> Result<(), NotPushed> {
        let cost = cost(&message);
        let waiting = self.meter.add(cost);
        if waiting > 0 && waiting.saturating_add(cost) > self.bound {
            self.meter.take(cost);
            return Err(NotPushed::Overrun);
        }
        self.sender.send(message).map_err(|_unheard| NotPushed::Gone)
    }

    /// Says the last word, for which there is always room.
    pub(super) fn end(&self, farewell: Farewell) {
        self.meter.add(MESSAGE_COST);
        // Whoever is not there any more needs no farewell.
        let _unheard = self.sender.send(ToClient::Ended(farewell));
    }

    /// Whether nobody listens any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// Ends when nobody listens any more.
    pub(super) async fn gone(&self) {
        self.sender.closed().await;
    }
}

impl ClientLine {
    /// The client's number.
    pub const fn id(&self) -> ClientId {
        self.taker.id
    }

    /// The next message; `None` once the session has let the seat go, which follows the [`ToClient::Ended`].
    ///
    /// Its bytes count as waiting until [`ClientLine::taken`] says that the client's socket has taken them.
    pub async fn next(&mut self) -> Option<ToClient> {
        let message = self.receiver.recv().await;
        self.received(message.as_ref());
        message
    }

    /// The client's socket has taken so many bytes of the messages that [`ClientLine::next`] gave.
    pub fn taken(&self, bytes: usize) {
        self.taker.taken(bytes);
    }

    /// Bytes that wait for the client, those included that the listener has and the client's socket has not taken.
    pub fn waiting_bytes(&self) -> usize {
        self.taker.waiting_bytes()
    }

    /// Counts for this line when it was given away as a stream.
    pub fn taker(&self) -> LineTaker {
        self.taker.clone()
    }

    fn received(&self, message: Option<&ToClient>) {
        if message.is_some() {
            self.taker.meter.take(MESSAGE_COST);
        }
    }
}

impl Stream for ClientLine {
    type Item = ToClient;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ToClient>> {
        let message = self.receiver.poll_recv(cx);
        if let Poll::Ready(message) = &message {
            self.received(message.as_ref());
        }
        message
    }
}

impl LineTaker {
    /// The client's number.
    pub const fn id(&self) -> ClientId {
        self.id
    }

    /// As [`ClientLine::taken`].
    pub fn taken(&self, bytes: usize) {
        self.meter.take(bytes);
    }

    /// As [`ClientLine::waiting_bytes`].
    pub fn waiting_bytes(&self) -> usize {
        self.meter.waiting.load(Ordering::Relaxed)
    }
}

fn cost(message: &ToClient) -> usize {
    MESSAGE_COST
        + match message {
            ToClient::Message(bytes) => bytes.len(),
            ToClient::Ready
            | ToClient::RequestFailed { .. }
            | ToClient::RequestInterrupted { .. }
            | ToClient::Ended(_) => 0,
        }
}
