//! The client that sits in a session, and what it is told.
//!
//! Like the session's machines it survives a panic of the actor's code: a client sees nothing of it.

use bytes::Bytes;

use super::{
    ClientId, ClientSeat, Farewell, ToClient, client::NotPushed, configuration::Confirmation, state::Session,
};
use crate::{
    errors::ErrorCode,
    outbox::{FrameFate, Outcome, Record},
    recovery::{Moment, StateName},
    telemetry::Counted,
    wire::{self, Rewrite},
};

/// How far a client has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Its upgrade is not answered yet.
    Upgrading,
    /// It has not said how the session is configured.
    Upgraded,
    /// It has, and waits for the confirmation.
    Configured,
    /// It was told that it speaks to this connection, whichever stands now.
    Confirmed { connection_id: String },
    /// It took its messages too slowly, was told so, and is expected to leave.
    Overrun,
}

/// A client that sits in a session.
#[derive(Debug)]
pub(super) struct Seated {
    seat: ClientSeat,
    stage: Stage,
    /// Kept for its drop.
    _counted: Counted,
}

impl Seated {
    pub(super) const fn new(seat: ClientSeat, counted: Counted) -> Self {
        Self { seat, stage: Stage::Upgrading, _counted: counted }
    }

    /// The client's number.
    pub(super) const fn id(&self) -> ClientId {
        self.seat.id()
    }

    /// The client's line.
    pub(super) const fn seat(&self) -> &ClientSeat {
        &self.seat
    }

    /// Whether nobody can use the seat: its client has gone without a word, or is about to.
    pub(super) fn is_vacant(&self) -> bool {
        self.is_overrun() || self.seat.is_gone()
    }

    /// Whether the client was too slow.
    pub(super) fn is_overrun(&self) -> bool {
        self.stage == Stage::Overrun
    }

    /// Says the last word.
    pub(super) fn end(self, farewell: Farewell) {
        if !self.is_overrun() {
            self.seat.end(farewell);
        }
    }

    fn push(&mut self, message: ToClient) {
        if self.is_overrun() {
            return;
        }
        match self.seat.push(message) {
            // Whoever watches the line's end tells of its client's.
            Ok(()) | Err(NotPushed::Gone) => {}
            Err(NotPushed::Overrun) => {
                self.seat.end(Farewell::Overrun);
                self.stage = Stage::Overrun;
            }
        }
    }

    fn ready(&mut self) {
        if self.stage == Stage::Upgrading {
            self.stage = Stage::Upgraded;
            self.push(ToClient::Ready);
        }
    }

    fn confirm(&mut self, confirmation: &Confirmation) {
        self.stage = Stage::Confirmed { connection_id: confirmation.connection_id.clone() };
        self.push(ToClient::Message(confirmation.message.clone()));
    }
}

/// The ids in a message of the service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids<'a> {
    pub(super) connection_id: &'a str,
    /// As the service knows the request.
    pub(super) req_id: &'a str,
}

impl Session {
    /// The client with this number, if it is the one that sits here.
    pub(super) fn seated(&mut self, client: ClientId) -> Option<&mut Seated> {
        self.client.as_mut().filter(|seated| seated.id() == client)
    }

    /// The service has upgraded, or need not be asked: the client's upgrade is answered.
    pub(super) fn tell_ready(&mut self) {
        if let Some(seated) = &mut self.client {
            seated.ready();
        }
    }

    /// Tells a client that has just sat down how things are, where they are decided.
    pub(super) fn welcome(&mut self, is_upgraded: bool) {
        match self.lifecycle.state().name() {
            // What is dormant is woken by the first audio.
            StateName::Running | StateName::Dormant => self.tell_ready(),
            StateName::Starting if is_upgraded => self.tell_ready(),
            StateName::Starting
            | StateName::BackingOff
            | StateName::Parked
            | StateName::Failed
            | StateName::Stopped => {}
        }
    }

    /// The client has said how the session is configured, which is how it stands, or will.
    pub(super) fn client_configured(&mut self, client: ClientId) {
        let confirmation = self.confirmation.clone();
        let Some(seated) = self.seated(client) else { return };
        if seated.is_overrun() {
            return;
        }
        seated.stage = Stage::Configured;
        if let Some(confirmation) = confirmation {
            seated.confirm(&confirmation);
        }
    }

    /// The service has confirmed the session. A client that knew it before is not told of a restart.
    pub(super) fn confirmed(&mut self, confirmation: Confirmation) {
        if let Some(seated) = &mut self.client {
            match seated.stage {
                Stage::Upgrading => seated.ready(),
                Stage::Configured => seated.confirm(&confirmation),
                Stage::Upgraded | Stage::Confirmed { .. } | Stage::Overrun => {}
            }
        }
        self.confirmation = Some(confirmation);
    }

    /// Whether the client waits for a confirmation.
    pub(super) fn awaits_confirmation(&self) -> bool {
        self.client.as_ref().is_some_and(|seated| seated.stage == Stage::Configured)
    }

    /// Relays a message of the service to the client, with the ids that the client knows.
    ///
    /// `req_id` is the request's by the client's name.
    pub(super) fn relay(&mut self, message: &Bytes, ids: Ids<'_>, req_id: &str) {
        let Some(seated) = &mut self.client else { return };
        let Stage::Confirmed { connection_id } = &seated.stage else { return };
        let rewrite = Rewrite {
            connection_id: (connection_id != ids.connection_id).then_some(connection_id.as_str()),
            req_id: (req_id != ids.req_id).then_some(req_id),
        };
        let message = if rewrite == Rewrite::default() {
            message.clone()
        } else {
            // What was decoded can be spliced; as it came is the next best.
            wire::rewrite(message, rewrite).unwrap_or_else(|_malformed| message.clone())
        };
        seated.push(ToClient::Message(message));
    }

    /// Notes a frame, keeps it for whoever wants it, and relays it.
    pub(super) fn take_frame(&mut self, message: &Bytes, ids: Ids<'_>, end: bool, now: Moment) -> FrameFate {
        // Only after a restart the service knows it by another id than the client.
        let renamed = self.ledger.client_id(ids.req_id).filter(|id| *id != ids.req_id).map(str::to_owned);
        let fate = self.ledger.frame(ids.req_id, end, now);
        match fate {
            FrameFate::Deliver | FrameFate::AfterInterrupt => {
                self.collect(ids.req_id, renamed.as_deref(), message);
                self.relay(message, ids, renamed.as_deref().unwrap_or(ids.req_id));
            }
            FrameFate::Late => {}
        }
        fate
    }

    /// Relays what the service says of the playing of a request that the client knows.
    pub(super) fn relay_playback(&mut self, message: &Bytes, ids: Ids<'_>) {
        if let Some(req_id) = self.ledger.client_id(ids.req_id).map(str::to_owned) {
            self.relay(message, ids, &req_id);
        }
    }

    /// Tells the client of the outcome of a request that the service does not tell it of itself.
    pub(super) fn tell_outcome(&mut self, record: &Record) {
        let Some(seated) = &mut self.client else { return };
        let req_id = record.req_id.clone();
        match record.outcome {
            Some(Outcome::Failed(code)) => seated.push(ToClient::RequestFailed {
                req_id,
                code,
                reason: record.reason.clone().unwrap_or_default(),
            }),
            Some(Outcome::Interrupted) => seated.push(ToClient::RequestInterrupted { req_id }),
            Some(Outcome::Completed) | None => {}
        }
    }

    /// Tells the client that nothing more comes for a request that it interrupted.
    pub(super) fn tell_interrupted(&mut self, req_id: String) {
        if let Some(seated) = &mut self.client {
            seated.push(ToClient::RequestInterrupted { req_id });
        }
    }

    /// Tells the client that a request has failed of which nothing was ever accepted.
    pub(super) fn tell_failed(&mut self, req_id: String, code: ErrorCode, reason: String) {
        if let Some(seated) = &mut self.client {
            seated.push(ToClient::RequestFailed { req_id, code, reason });
        }
    }

    /// Puts the client out; whether there was one.
    pub(super) fn put_out(&mut self, farewell: Farewell) -> bool {
        match self.client.take() {
            Some(seated) => {
                seated.end(farewell);
                true
            }
            None => false,
        }
    }
}
