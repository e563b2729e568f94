//! A client's seat in its session, as the listener holds it: what the client says goes through here.

use std::{cell::Cell, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{parting::Parting, rendering::UNAVAILABLE};
use crate::{
    errors::ErrorCode,
    manager::{ManagerHandle, Unreachable},
    outbox::Refusal,
    session::{
        AudioRefused, ClientAudio, ClientAudioRefused, ClientConfigure, ClientControl, ClientId,
        ConfigureRefused, Control, Departure, Detach, FailRequest, SessionEntry, client_audio,
    },
};

/// How long audio waits for room in a full outbox while the client's socket is not read: longer, and clients'
/// keep-alives end the connection.
const ROOM_DEADLINE: Duration = Duration::from_secs(15);
/// How often room is looked for meanwhile.
const ROOM_PAUSE: Duration = Duration::from_millis(25);

/// Audio is copied out of the socket's buffer up to this length: a small piece would keep a large buffer alive for as
/// long as its request may have to be sent again. A larger one fills its buffer by itself.
const COPIED_BYTES: usize = 64 << 10;

/// What came of a message for the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing that the client has to hear now: it was taken, or what becomes of it comes over the line.
    Done,
    /// The request was not begun, and the session will not tell of it.
    NotBegun {
        /// The request, by the client's id.
        req_id: String,
        code: ErrorCode,
        reason: String,
    },
    /// The session cannot be reached any more.
    Lost(Parting),
}

/// A client's seat. Dropping it tells the session that its client is gone.
pub(super) struct Seated {
    manager: ManagerHandle,
    entry: Arc<SessionEntry>,
    client: ClientId,
    departure: Cell<Departure>,
}

impl Seated {
    /// The seat of a client whose upgrade waits.
    pub(super) const fn new(manager: ManagerHandle, entry: Arc<SessionEntry>, client: ClientId) -> Self {
        Self { manager, entry, client, departure: Cell::new(Departure::Abandoned) }
    }

    /// The session.
    pub(super) const fn entry(&self) -> &Arc<SessionEntry> {
        &self.entry
    }

    /// The upgrade was answered: from here on the client has a connection, which ends without a good-bye unless one
    /// is said.
    pub(super) fn is_connected(&self) {
        self.departure.set(Departure::Vanished);
    }

    /// Tells the session that the client has left. Said before the client's line is dropped, whose end says less.
    pub(super) fn leave(&self, how: Departure) {
        self.departure.set(how);
        if let Some(address) = self.entry.address.load_full() {
            // Two messages for each client at most, past the mailbox's bound, since nobody is left to wait. Where
            // the session's actor is just being rebuilt, the end of the line tells it.
            address.do_send(Detach { client: self.client, how });
        }
    }

    /// Hands the client's configuration over.
    pub(super) async fn configure(&self, message: Bytes) -> Told {
        let (client, message) = (self.client, message);
        let ask = || ClientConfigure { client, message: message.clone() };
        match self.manager.ask(&self.entry, ask).await {
            // Who has no seat any more has heard, or will hear, why.
            Ok(Ok(()) | Err(ConfigureRefused::NotSeated(_))) | Err(Unreachable::Ended) => Told::Done,
            Ok(Err(ConfigureRefused::Malformed(why))) => {
                Told::Lost(Parting::told(3, 1008, format!("failed to unmarshal initial message: {why}")))
            }
            Err(Unreachable::Late) => Told::Lost(late()),
        }
    }

    /// Hands a control over.
    pub(super) async fn control(&self, req_id: String, control: Control) -> Told {
        let ask = || ClientControl { client: self.client, req_id: req_id.clone(), control };
        match self.manager.ask(&self.entry, ask).await {
            Ok(()) | Err(Unreachable::Ended) => Told::Done,
            Err(Unreachable::Late) => Told::Lost(late()),
        }
    }

    /// Hands audio over at once, where the session is on this thread, has room, and needs nothing of its actor. Else
    /// [`Seated::audio`] has to be asked: nothing was taken.
    pub(super) fn audio_at_once(&self, req_id: &str, audio: &Bytes, end: bool) -> bool {
        match client_audio(&self.entry, self.client, req_id, audio, end) {
            // Who has no seat any more has heard, or will hear, why.
            Some(Ok(()) | Err(ClientAudioRefused::NotSeated(_))) => true,
            Some(Err(ClientAudioRefused::Audio(_))) | None => false,
        }
    }

    /// Hands audio over, and waits while there is no room for it.
    pub(super) async fn audio(&self, req_id: String, audio: Bytes, end: bool) -> Told {
        let deadline = Instant::now() + ROOM_DEADLINE;
        loop {
            let ask =
                || ClientAudio { client: self.client, req_id: req_id.clone(), audio: audio.clone(), end };
            let refused = match self.manager.ask(&self.entry, ask).await {
                Ok(Ok(()) | Err(ClientAudioRefused::NotSeated(_))) | Err(Unreachable::Ended) => {
                    return Told::Done;
                }
                Err(Unreachable::Late) => return Told::Lost(late()),
                Ok(Err(ClientAudioRefused::Audio(refused))) => refused,
            };
            match refused {
                AudioRefused::Ledger(
                    full @ (Refusal::Full { .. } | Refusal::NoRoom { .. } | Refusal::TooManyPieces { .. }),
                ) => {
                    if Instant::now() >= deadline {
                        return self
                            .fail(req_id, format!("no room for {} s: {full}", ROOM_DEADLINE.as_secs()))
                            .await;
                    }
                    tokio::time::sleep(ROOM_PAUSE).await;
                }
                AudioRefused::Ledger(many @ Refusal::TooManyOpen { .. }) => {
                    let (code, reason) = (ErrorCode::InvalidRequest, many.to_string());
                    return Told::NotBegun { req_id, code, reason };
                }
                // What comes for a request that has its outcome is dropped; a session that takes no audio has
                // told its client why, or will.
                AudioRefused::Ledger(Refusal::Ended(_) | Refusal::AfterEnd)
                | AudioRefused::State { .. }
                | AudioRefused::MinutesUsed
                | AudioRefused::UnknownRequest(_) => return Told::Done,
            }
        }
    }

    async fn fail(&self, req_id: String, reason: String) -> Told {
        let fail = || FailRequest {
            client: self.client,
            req_id: req_id.clone(),
            code: ErrorCode::UpstreamError,
            reason: reason.clone(),
        };
        match self.manager.ask(&self.entry, fail).await {
            Ok(()) | Err(Unreachable::Ended) => Told::Done,
            Err(Unreachable::Late) => Told::Lost(late()),
        }
    }
}

/// Audio in memory of its own, where that is worth a copy.
pub(super) fn kept(audio: Bytes) -> Bytes {
    if audio.len() <= COPIED_BYTES { Bytes::copy_from_slice(&audio) } else { audio }
}

impl Drop for Seated {
    fn drop(&mut self) {
        // Said again it changes nothing: the client sits there no more.
        self.leave(self.departure.get());
    }
}

fn late() -> Parting {
    Parting::told(UNAVAILABLE.into(), UNAVAILABLE, "the session does not answer")
}
