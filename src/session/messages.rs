//! What can be said to a session's actor, and what it says to the fleet.

use std::sync::Arc;

use actix::Message;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Frames, OutcomeWrite, Snapshot};
use crate::{
    errors::{ErrorCode, SessionError},
    outbox::{HoldFate, InterruptFate, Record, Refusal},
    recovery::{
        Generation, SessionId, StateName, TenantId,
        lifecycle::{Hold, Pass},
    },
};

/// A command of an operator or of the session's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Close, then connect again.
    Restart,
    /// Hold until unparked.
    Park,
    /// Try again.
    Unpark,
    /// End for good.
    Delete,
    /// End for good, since the process does.
    Drain,
}

/// Carries an [`Operation`] out; answers with the snapshot after it.
#[derive(Debug, Message)]
#[rtype(result = "Arc<Snapshot>")]
pub struct Operate(pub Operation);

/// The terms of the session's tenant have changed.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Reconfigure;

/// Audio for a session.
#[derive(Debug, Message)]
#[rtype(result = "Result<Accepted, AudioRefused>")]
pub struct SendAudio {
    /// The request that it belongs to.
    pub request: Which,
    /// The audio, in the session's format.
    pub audio: Bytes,
    /// Whether it is the request's last.
    pub end: bool,
    /// Whether the sender wants to be told the outcome.
    pub watch: Option<Watch>,
}

/// A request that audio belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// One that it begins, under this id, which has to be fresh.
    New(String),
    /// An open one.
    Open(String),
}

impl Which {
    /// The request's id.
    pub fn req_id(&self) -> &str {
        let (Self::New(req_id) | Self::Open(req_id)) = self;
        req_id
    }
}

/// What a sender wants to be told of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The outcome.
    Outcome,
    /// The outcome, with the frames.
    Frames,
}

/// The audio was accepted: the request will have exactly one outcome.
#[derive(Debug)]
pub struct Accepted {
    /// The request's id.
    pub req_id: String,
    /// The outcome, where it was asked for.
    pub finished: Option<oneshot::Receiver<Finished>>,
}

/// A request that has its outcome.
#[derive(Debug)]
pub struct Finished {
    /// Its account.
    pub record: Record,
    /// Its frames, where they were asked for.
    pub frames: Frames,
    /// Frames that were left out, since the bound on collected frames was reached.
    pub frames_left_out: u64,
    /// That this is being written, where it was promised that it outlives the process.
    pub written: Option<OutcomeWrite>,
}

/// Why audio was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AudioRefused {
    /// The session does not connect by itself.
    #[error("the session is {} and takes no audio", .state.as_str())]
    State {
        /// The session's state.
        state: StateName,
        /// The code that put it there, where there is one.
        code: Option<ErrorCode>,
    },
    /// The session is parked, since the minutes of its tenant are used.
    #[error(
        "the session is parked and takes no audio: the connections of its tenant have lasted for as long as they may \
         in a day (max_connected_minutes_per_day); it starts again at 00:00 UTC, or when that is raised"
    )]
    MinutesUsed,
    /// No such request is open.
    #[error("the session knows no request {0}")]
    UnknownRequest(String),
    /// A bound is reached, or the request has ended.
    #[error(transparent)]
    Ledger(#[from] Refusal),
}

/// Interrupts a request; without an id, the one that began last.
#[derive(Debug, Message)]
#[rtype(result = "(Option<String>, InterruptFate)")]
pub struct Interrupt(pub Option<String>);

/// Pauses a request; without an id, the one whose audio was accepted last.
#[derive(Debug, Message)]
#[rtype(result = "(Option<String>, HoldFate)")]
pub struct Pause(pub Option<String>);

/// Lets a request go on that was paused; without an id, the one whose audio was accepted last.
#[derive(Debug, Message)]
#[rtype(result = "(Option<String>, HoldFate)")]
pub struct Resume(pub Option<String>);

/// All sessions together hold too many copies of sent audio: this one is to drop its own.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ShedCopies;

/// Asks for the account of a request.
#[derive(Debug, Message)]
#[rtype(result = "Option<Record>")]
pub struct AskRequest(pub String);

/// What the fleet says to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum FleetAnswer {
    /// It is this ask's turn.
    Granted(Generation),
    /// This ask is refused, since the tenant is suspended for the code.
    Suspended(Generation, ErrorCode),
    /// The minutes are used that the connections of the tenant may last in a day.
    MinutesUsed,
    /// The parked session is to make one attempt.
    Probe,
    /// The parked session may start again.
    Release,
}

/// What a session says to the fleet.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct FleetNotice {
    /// Who speaks.
    pub session: SessionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it says.
    pub news: FleetNews,
}

/// The content of a [`FleetNotice`].
#[derive(Clone, Debug)]
pub enum FleetNews {
    /// It asks for a turn.
    Ask(Generation, Pass),
    /// It does not want its turn any more.
    Withdraw,
    /// Its attempt waits for its client.
    Upgraded,
    /// Its attempt ended; without an error it is confirmed.
    Settled(Option<Arc<SessionError>>),
    /// It is parked.
    Parked(Hold),
    /// It is parked no more.
    Unparked,
    /// An established connection of its tenant has ended.
    SlotFreed,
    /// It is stopped, and its connection is gone.
    Gone,
}

/// What a session's connection says to its actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum LinkNews {
    /// The service has upgraded.
    Upgraded { generation: Generation },
    /// The service has upgraded, and only the session's client knows how it is configured.
    AwaitsClient { generation: Generation },
    /// The service confirmed the session.
    Connected { generation: Generation, connection_id: String, capabilities: Vec<String>, confirm: Bytes },
    /// A deadline of a request has come nearer: the service plays on.
    DueEarlier,
    /// A request failed by itself.
    RequestFailed { generation: Generation, error: Arc<SessionError> },
    /// The connection is gone: without an error it was closed by command.
    Gone { generation: Generation, error: Option<Box<SessionError>> },
}

/// Goes on with a panic of the session's code that was caught elsewhere: it is the session's crash.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Crash(pub(super) Box<dyn std::any::Any + Send>);

/// Panics in the session's handler. No listener reaches it: it is how the tests and the demo show that a
/// crash of one session's code ends that session's turn and nothing else.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct InjectPanic;
