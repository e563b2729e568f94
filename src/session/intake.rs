//! Audio and what can be done about its answer, whoever it comes from.

use std::cell::RefCell;

use actix::{Context, Handler, MessageResult};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    Accepted, AskRequest, AudioRefused, Control, Finished, Interrupt, Pause, Resume, SendAudio, SessionActor,
    SessionContext, ShedCopies, Watch, Which,
    report::{Teller, report_settled},
    state::Session,
};
use crate::{
    outbox::{HoldFate, InterruptFate, Record},
    recovery::lifecycle::{Admission, Hold, Input, State},
};

/// Takes audio into the outbox, where the session's state lets it; an id that is not known begins a request.
pub(super) fn accept(
    context: &SessionContext,
    session: &RefCell<Session>,
    req_id: &str,
    audio: Bytes,
    end: bool,
) -> Result<Admission, AudioRefused> {
    let now = context.clock.now();
    let mut session = session.borrow_mut();
    let admission = session.lifecycle.admission();
    if admission == Admission::Refused {
        let snapshot = context.entry.snapshot.load();
        if snapshot.state == State::Parked(Hold::Minutes) {
            return Err(AudioRefused::MinutesUsed);
        }
        return Err(AudioRefused::State { state: snapshot.state_name(), code: snapshot.code() });
    }
    session.ledger.accept(req_id, audio, end, context.outbox.room(), now)?;
    session.push_out(context);
    context.outbox.settle(&mut session.ledger);
    Ok(admission)
}

/// As [`accept`], of a request that is to be new or to be known; with whoever watches its outcome.
pub(super) fn begin_or_continue(
    context: &SessionContext,
    session: &RefCell<Session>,
    request: &Which,
    audio: Bytes,
    end: bool,
    watch: Option<Watch>,
) -> Result<(Admission, Option<oneshot::Receiver<Finished>>), AudioRefused> {
    let (Which::Open(req_id) | Which::New(req_id)) = request;
    let begins = matches!(request, Which::New(_));
    let is_unknown = || {
        let session = session.borrow();
        // A refusal for the session's state says more than one for the request.
        session.lifecycle.admission() != Admission::Refused && session.ledger.record(req_id).is_none()
    };
    if !begins && is_unknown() {
        return Err(AudioRefused::UnknownRequest(req_id.clone()));
    }
    let admission = accept(context, session, req_id, audio, end)?;
    if begins {
        session.borrow_mut().kept.insert(req_id.clone());
    }
    let finished = watch.map(|wants| session.borrow_mut().watch(req_id, wants));
    Ok((admission, finished))
}

impl SessionActor {
    /// What follows audio that was accepted.
    pub(super) fn accepted(&mut self, admission: Admission, ctx: &mut Context<Self>) {
        match admission {
            Admission::Wakes => self.handle_input(Input::Audio, ctx),
            Admission::Flows | Admission::Waits | Admission::Refused => self.arm_timer(ctx),
        }
    }

    pub(super) fn interrupt(&self, req_id: &str) -> InterruptFate {
        let mut session = self.session.borrow_mut();
        let fate = session.ledger.interrupt(req_id, self.context.clock.now());
        session.wake_link();
        let teller = match fate {
            InterruptFate::Told => Teller::Service,
            InterruptFate::Dropped | InterruptFate::AlreadyEnded(_) | InterruptFate::Unknown => {
                Teller::Session
            }
        };
        report_settled(&self.context, &mut session, teller);
        fate
    }

    pub(super) fn pause(&mut self, req_id: &str, ctx: &mut Context<Self>) -> HoldFate {
        self.hold(|actor| actor.session.borrow_mut().ledger.pause(req_id, actor.context.clock.now()), ctx)
    }

    pub(super) fn resume(&mut self, req_id: &str, ctx: &mut Context<Self>) -> HoldFate {
        self.hold(|actor| actor.session.borrow_mut().ledger.resume(req_id, actor.context.clock.now()), ctx)
    }

    fn hold(&mut self, change: impl FnOnce(&Self) -> HoldFate, ctx: &mut Context<Self>) -> HoldFate {
        let fate = change(self);
        self.session.borrow().wake_link();
        // Deadlines have moved.
        self.arm_timer(ctx);
        fate
    }

    fn or_latest(&self, req_id: Option<String>) -> Option<String> {
        let session = self.session.borrow();
        req_id.or_else(|| session.ledger.latest_open().map(|record| record.req_id.clone()))
    }
}

impl Handler<SendAudio> for SessionActor {
    type Result = Result<Accepted, AudioRefused>;

    fn handle(&mut self, message: SendAudio, ctx: &mut Self::Context) -> Self::Result {
        let SendAudio { request, audio, end, watch } = message;
        let (admission, finished) =
            begin_or_continue(&self.context, &self.session, &request, audio, end, watch)?;
        self.accepted(admission, ctx);
        let (Which::New(req_id) | Which::Open(req_id)) = request;
        Ok(Accepted { req_id, finished })
    }
}

impl Handler<Interrupt> for SessionActor {
    type Result = MessageResult<Interrupt>;

    fn handle(&mut self, Interrupt(req_id): Interrupt, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(match self.or_latest(req_id) {
            Some(req_id) => {
                let fate = self.interrupt(&req_id);
                (Some(req_id), fate)
            }
            None => (None, InterruptFate::Unknown),
        })
    }
}

impl Handler<Pause> for SessionActor {
    type Result = MessageResult<Pause>;

    fn handle(&mut self, Pause(req_id): Pause, ctx: &mut Self::Context) -> Self::Result {
        MessageResult(match self.or_latest(req_id) {
            Some(req_id) => {
                let fate = self.pause(&req_id, ctx);
                (Some(req_id), fate)
            }
            None => (None, HoldFate::Unknown),
        })
    }
}

impl Handler<Resume> for SessionActor {
    type Result = MessageResult<Resume>;

    fn handle(&mut self, Resume(req_id): Resume, ctx: &mut Self::Context) -> Self::Result {
        MessageResult(match self.or_latest(req_id) {
            Some(req_id) => {
                let fate = self.resume(&req_id, ctx);
                (Some(req_id), fate)
            }
            None => (None, HoldFate::Unknown),
        })
    }
}

impl SessionActor {
    /// Does what a client wishes for one of its requests.
    pub(super) fn control(&mut self, req_id: &str, control: Control, ctx: &mut Context<Self>) {
        match control {
            Control::Interrupt => {
                self.interrupt(req_id);
            }
            Control::Pause => {
                self.pause(req_id, ctx);
            }
            Control::Resume => {
                self.resume(req_id, ctx);
            }
        }
    }
}

impl Handler<AskRequest> for SessionActor {
    type Result = Option<Record>;

    fn handle(&mut self, AskRequest(req_id): AskRequest, _ctx: &mut Self::Context) -> Self::Result {
        self.session.borrow().ledger.record(&req_id).cloned()
    }
}

impl Handler<ShedCopies> for SessionActor {
    type Result = ();

    fn handle(&mut self, _message: ShedCopies, _ctx: &mut Self::Context) {
        self.context.outbox.settle(&mut self.session.borrow_mut().ledger);
    }
}
