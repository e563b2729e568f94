//! What a client's connection says to its session's actor.
//!
//! Each message carries the client's number: what comes from a client that does not sit in the session any more
//! changes nothing.

use std::sync::Arc;

use actix::Message;
use bytes::Bytes;

use super::{AudioRefused, ClientId, ClientSeat, Control, sums::TakenOnce};
use crate::{errors::ErrorCode, recovery::Departure};

/// Seats a client. It hears [`ToClient::Ready`](super::ToClient::Ready) or
/// [`ToClient::Ended`](super::ToClient::Ended) first, at once or when the session has come so far.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), AttachRefused>")]
pub struct Attach {
    /// The session's end of the client's line.
    pub seat: ClientSeat,
    /// What becomes of a client that is there already.
    pub mode: AttachMode,
}

/// Gives a session of the pool to a drop-in client: from now on it lives as long as that is there.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), AttachRefused>")]
pub(crate) struct Adopt {
    pub(crate) seat: ClientSeat,
    pub(crate) offer: Offer,
}

/// A client that is offered to a session, and that somebody else takes if the session is too late: it must not sit in
/// two.
#[derive(Clone, Debug)]
pub(crate) struct Offer(Arc<TakenOnce>);

impl Offer {
    pub(crate) fn new() -> Self {
        Self(Arc::new(TakenOnce::new()))
    }

    /// Whether the client was there to be taken; once.
    pub(crate) fn take(&self) -> bool {
        self.0.take()
    }
}

/// What becomes of a client that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// It stays, and the new one is refused.
    Join,
    /// It is put out, and told so.
    Takeover,
}

/// Why a client was not seated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachRefused {
    /// Another client is there.
    #[error("the session has a client already; take it over, or wait until the client has gone")]
    Occupied,
    /// The session is stopped.
    #[error("the session has ended")]
    Ended,
}

/// A client has gone. Also said where its line's end is only dropped, as [`Departure::Vanished`].
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Detach {
    /// Who.
    pub client: ClientId,
    /// How it left.
    pub how: Departure,
}

/// The client's `ClientConfigureSession`.
///
/// The first one of a session goes to the service as it came. Later ones that are equal to what stands are confirmed
/// at once; a different one is a restart.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), ConfigureRefused>")]
pub struct ClientConfigure {
    /// Who.
    pub client: ClientId,
    /// The encoded `Message`.
    pub message: Bytes,
}

/// Why a configuration was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigureRefused {
    /// Another client sits there, or none.
    #[error(transparent)]
    NotSeated(#[from] NotSeated),
    /// The bytes are none.
    #[error("expected ClientConfigureSession message: {0}")]
    Malformed(String),
}

/// The client does not sit in the session any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has no seat in the session any more")]
pub struct NotSeated;

/// Audio of a client. An id that the session does not know begins a request.
///
/// On [`Refusal::Full`](crate::outbox::Refusal::Full) nothing was taken: say it again a little later.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), ClientAudioRefused>")]
pub struct ClientAudio {
    /// Who.
    pub client: ClientId,
    /// The request, by the client's id.
    pub req_id: String,
    /// The audio, in the session's format.
    pub audio: Bytes,
    /// Whether it is the request's last.
    pub end: bool,
}

/// Why a client's audio was not taken. Nothing of it is kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientAudioRefused {
    /// Another client sits there, or none.
    #[error(transparent)]
    NotSeated(#[from] NotSeated),
    /// As for audio over HTTP. Audio of a request that has its outcome is dropped without an answer.
    #[error(transparent)]
    Audio(#[from] AudioRefused),
}

/// A client's interrupt, pause or resume.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ClientControl {
    /// Who.
    pub client: ClientId,
    /// The request, by the client's id.
    pub req_id: String,
    /// What is to be done.
    pub control: Control,
}

/// Fails a request of a client, such as one whose audio found no room for too long.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct FailRequest {
    /// Who.
    pub client: ClientId,
    /// The request, by the client's id.
    pub req_id: String,
    /// Why.
    pub code: ErrorCode,
    /// Why, in words.
    pub reason: String,
}
