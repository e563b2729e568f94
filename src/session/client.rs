//! The line between a session and the connection of its client.
//!
//! The session may live on another thread than its client's connection. What the session says to the client
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
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    watch,
};

use super::{ThreadId, here};
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
    /// The minutes are used that the connections of its tenant may last in a day.
    MinutesUsed,
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
            (Hold::Minutes, _) => Self::MinutesUsed,
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
    listener: watch::Receiver<()>,
    /// Where the client is served.
    thread: Option<ThreadId>,
}

/// The listener's end of the line. Dropping it tells the session that its client has vanished.
#[derive(Debug)]
pub struct ClientLine {
    receiver: UnboundedReceiver<ToClient>,
    taker: LineTaker,
    /// Kept for its drop.
    _listens: watch::Sender<()>,
}

/// Counts what the client has taken, for whoever gave the [`ClientLine`] away as a stream.
#[derive(Clone, Debug)]
pub struct LineTaker {
    id: ClientId,
    meter: Arc<Meter>,
}

/// A line to a client that is served on this thread, on which at most `bound_bytes` of messages wait for the client; a single message beyond it passes while
/// nothing else waits.
pub fn client_line(bound_bytes: usize) -> (ClientSeat, ClientLine) {
    let id = ClientId(NEXT_CLIENT.fetch_add(1, Ordering::Relaxed));
    let meter = Arc::new(Meter::default());
    let (sender, receiver) = unbounded_channel();
    let (listens, listener) = watch::channel(());
    let seat =
        ClientSeat { id, sender, meter: Arc::clone(&meter), bound: bound_bytes, listener, thread: here() };
    (seat, ClientLine { receiver, taker: LineTaker { id, meter }, _listens: listens })
}

impl ClientSeat {
    /// The client's number.
    pub const fn id(&self) -> ClientId {
        self.id
    }

    /// The thread that serves the client, where it is one that sessions can live on.
    pub const fn thread(&self) -> Option<ThreadId> {
        self.thread
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

    /// Ends when nobody listens any more. It does not keep the line open.
    pub(super) fn gone(&self) -> impl Future<Output = ()> + use<> {
        let mut listener = self.listener.clone();
        async move { while listener.changed().await.is_ok() {} }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> ToClient {
        ToClient::Message(Bytes::from(vec![0; bytes]))
    }

    async fn bytes(line: &mut ClientLine) -> usize {
        match line.next().await {
            Some(ToClient::Message(bytes)) => bytes.len(),
            other => panic!("it is no message: {other:?}"),
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_until_the_clients_socket_has_taken_it() {
        let (seat, mut line) = client_line(1000);
        assert_eq!(seat.push(message(800)), Ok(()));
        assert_eq!(seat.push(message(200)), Err(NotPushed::Overrun));
        assert_eq!(bytes(&mut line).await, 800);
        assert_eq!(line.waiting_bytes(), 800, "the listener has it, and its socket has not");
        assert_eq!(seat.push(message(200)), Err(NotPushed::Overrun));
        line.taken(500);
        assert_eq!(seat.push(message(200)), Ok(()));
        assert_eq!(bytes(&mut line).await, 200);
        line.taker().taken(500);
        assert_eq!(line.waiting_bytes(), 0);
    }

    #[tokio::test]
    async fn one_message_above_the_bound_passes_an_empty_line_and_the_last_word_any() {
        let (seat, mut line) = client_line(10);
        assert_eq!(seat.push(message(5000)), Ok(()));
        assert_eq!(seat.push(ToClient::Ready), Err(NotPushed::Overrun));
        seat.end(Farewell::Overrun);
        drop(seat);
        assert_eq!(bytes(&mut line).await, 5000);
        assert!(matches!(line.next().await, Some(ToClient::Ended(Farewell::Overrun))));
        assert!(line.next().await.is_none());
        line.taken(usize::MAX);
        assert_eq!(line.waiting_bytes(), 0, "counting too much does not wrap");
    }

    #[test]
    fn tiny_messages_are_bounded_too() {
        let (seat, _line) = client_line(64 << 10);
        let mut pushed = 0;
        while seat.push(ToClient::Message(Bytes::new())).is_ok() {
            pushed += 1;
            assert!(pushed < 10_000, "there must be a bound");
        }
        assert!(pushed > 500, "{pushed}");
    }

    #[tokio::test]
    async fn a_line_that_is_dropped_is_noticed_and_the_watch_keeps_none_open() {
        let (seat, mut line) = client_line(10);
        let gone = seat.gone();
        assert!(!seat.is_gone());
        drop(seat);
        assert!(line.next().await.is_none());
        drop(line);
        gone.await;

        let (seat, line) = client_line(10);
        drop(line);
        assert!(seat.is_gone());
        assert_eq!(seat.push(ToClient::Ready), Err(NotPushed::Gone));
    }

    #[test]
    fn clients_differ() {
        let (first, line) = client_line(1);
        let (second, _) = client_line(1);
        assert_ne!(first.id(), second.id());
        assert_eq!((first.clone().id(), line.id()), (first.id(), first.id()));
    }

    #[test]
    fn a_hold_is_told_as_what_the_client_can_know_of_it() {
        use crate::errors::{Egress, Evidence, Observed, Phase};
        let evidence = Evidence::new(Phase::WebsocketConnect, Observed::Answer, Egress::None);
        let error = Arc::new(SessionError::classified(evidence, "told by a test"));
        let told = |hold: &Hold| Farewell::of_hold(hold, Some(&error));
        assert!(matches!(told(&Hold::Operator), Farewell::ParkedByOperator));
        assert!(matches!(told(&Hold::KeyRefused), Farewell::KeyRefused));
        assert!(matches!(told(&Hold::Error(ErrorCode::CreditsExhausted)), Farewell::Error(_)));
        let billing = ErrorCode::BillingRequired;
        assert!(matches!(told(&Hold::Suspension(billing)), Farewell::Suspended(code) if code == billing));
        // A suspension for a token stands for the API key.
        assert!(matches!(told(&Hold::Suspension(ErrorCode::SessionTokenInvalid)), Farewell::KeyRefused));
    }
}
