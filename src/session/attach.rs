//! The session's client: how it comes, what it says, and how it goes.

use actix::{AsyncContext, Context, Handler, WrapFuture};
use bytes::Bytes;

use super::{
    Adopt, Attach, AttachMode, AttachRefused, ClientAudio, ClientAudioRefused, ClientConfigure,
    ClientControl, ClientId, ClientSeat, ConfigureRefused, Departure, Detach, FailRequest, Farewell,
    NotSeated, Origin, SessionActor,
    configuration::{self, Comparison, Configuration},
    intake::accept,
    report::{Teller, report_settled},
    seat::Seated,
    state::Session,
};
use crate::{
    events::{ClientAction, What},
    recovery::{
        Attendance, Generation, StateName,
        lifecycle::{Input, Starting, State},
    },
};

/// What a client whose session does not go on is told.
fn farewell(session: &Session) -> Option<Farewell> {
    let error = session.lifecycle.last_error().map(|(error, _)| error);
    match session.lifecycle.state() {
        State::Parked(hold) => Some(Farewell::of_hold(hold, error)),
        // There is no failure without an error.
        State::Failed => error.map(|error| Farewell::Error(error.clone())),
        State::Stopped { .. } => Some(session.farewell.clone()),
        State::Starting(_) | State::Running { .. } | State::BackingOff(_) | State::Dormant => None,
    }
}

impl SessionActor {
    /// Tells the client the end of a session that does not go on by itself.
    pub(super) fn dismiss_client(&self) {
        let mut session = self.session.borrow_mut();
        if let Some(farewell) = farewell(&session)
            && session.put_out(farewell)
        {
            session.attendance.dismiss(self.context.bounds.linger, self.context.clock.now());
        }
    }

    /// Watches the line of the client that sits here, whose listener may end without a word. A new actor begins
    /// with this, since the watch of the one before it has ended with it.
    pub(super) fn watch_line(&self, ctx: &mut Context<Self>) {
        let Some((client, gone)) =
            self.session.borrow().client.as_ref().map(|seated| (seated.id(), seated.seat().gone()))
        else {
            return;
        };
        let address = ctx.address();
        ctx.spawn(
            async move {
                gone.await;
                address.do_send(Detach { client, how: Departure::Vanished });
            }
            .into_actor(self),
        );
    }

    /// The service has upgraded; with `AwaitsClient` it is the client's turn.
    pub(super) fn upgraded(&mut self, generation: Generation) {
        let mut session = self.session.borrow_mut();
        if session.lifecycle.serves(generation) {
            session.tell_ready();
        }
    }

    /// Whether somebody is there for whom a session may try again that does not by itself.
    pub(super) fn may_revive(&self) -> bool {
        self.session.borrow().attendance.may_revive()
    }

    /// Ends a session whose client is gone for good.
    pub(super) fn end_deserted(&mut self, ctx: &mut Context<Self>) {
        let is_over = {
            let session = self.session.borrow();
            session.attendance.is_over(self.context.clock.now()) && !session.is_stopped()
        };
        if is_over {
            self.handle_input(Input::Delete, ctx);
        }
    }

    fn configure(
        &mut self,
        client: ClientId,
        message: &Bytes,
        ctx: &mut Context<Self>,
    ) -> Result<(), ConfigureRefused> {
        if self.session.borrow_mut().seated(client).is_none() {
            return Err(NotSeated.into());
        }
        let content = configuration::decode(message).map_err(ConfigureRefused::Malformed)?;
        let comparison = self.session.borrow().configuration.compare(message, &content);
        match comparison {
            Comparison::Equal => self.session.borrow_mut().client_configured(client),
            Comparison::First | Comparison::Different => {
                let entry = &self.context.entry;
                let spec = entry.spec.load().configured(&content);
                {
                    let mut session = self.session.borrow_mut();
                    session.ledger.set_format(spec.bytes_per_second());
                    session.configuration = Configuration::told(message, &content);
                    session.confirmation = None;
                    session.client_configured(client);
                    session.wake_link();
                }
                entry.spec.store(spec.into());
                let remembered = self.session.borrow().lifecycle.remembered();
                self.context.journal.note(entry, remembered);
                if comparison == Comparison::Different {
                    self.handle_input(Input::Respec, ctx);
                }
            }
        }
        let is_owed = {
            let session = self.session.borrow();
            session.awaits_confirmation() && session.lifecycle.state().name() == StateName::Dormant
        };
        if is_owed {
            self.handle_input(Input::Audio, ctx);
        }
        Ok(())
    }
}

impl Handler<Attach> for SessionActor {
    type Result = Result<(), AttachRefused>;

    fn handle(&mut self, Attach { seat, mode }: Attach, ctx: &mut Self::Context) -> Self::Result {
        self.attach(seat, mode, ctx)
    }
}

impl Handler<Adopt> for SessionActor {
    type Result = Result<(), AttachRefused>;

    fn handle(&mut self, Adopt { seat, offer }: Adopt, ctx: &mut Self::Context) -> Self::Result {
        {
            let session = self.session.borrow();
            if session.is_stopped() {
                return Err(AttachRefused::Ended);
            }
            if session.client.is_some() || !offer.take() {
                return Err(AttachRefused::Occupied);
            }
        }
        self.attach(seat, AttachMode::Join, ctx)?;
        self.session.borrow_mut().attendance = Attendance::Attended;
        self.context.entry.origin.store(Origin::Ingress.into());
        // Where it has just been parked or failed its client was told so, and there is nobody any more.
        if self.session.borrow().client.is_none() {
            self.session
                .borrow_mut()
                .attendance
                .dismiss(self.context.bounds.linger, self.context.clock.now());
            self.arm_timer(ctx);
        }
        Ok(())
    }
}

impl SessionActor {
    fn tell_client(&self, action: ClientAction) {
        self.context.tell(What::Client { action });
    }

    fn attach(
        &mut self,
        seat: ClientSeat,
        mode: AttachMode,
        ctx: &mut Context<Self>,
    ) -> Result<(), AttachRefused> {
        {
            let mut session = self.session.borrow_mut();
            if session.is_stopped() {
                return Err(AttachRefused::Ended);
            }
            match (&session.client, mode) {
                // Said again, since the answer was lost in a crash.
                (Some(present), _) if present.id() == seat.id() => return Ok(()),
                (Some(present), AttachMode::Join) if !present.is_vacant() => {
                    return Err(AttachRefused::Occupied);
                }
                (Some(_), AttachMode::Join | AttachMode::Takeover) => {
                    self.tell_client(ClientAction::TakenOver);
                    session.put_out(Farewell::TakenOver);
                }
                (None, _) => {}
            }
            session.client = Some(Seated::new(seat, self.context.metrics.client()));
            self.tell_client(ClientAction::Attached);
            if farewell(&session).is_none() {
                session.attendance.join();
            }
            let is_upgraded = matches!(session.lifecycle.state(), State::Starting(Starting::Upgraded(_)));
            session.welcome(is_upgraded);
        }
        self.watch_line(ctx);
        self.dismiss_client();
        Ok(())
    }
}

impl Handler<Detach> for SessionActor {
    type Result = ();

    fn handle(&mut self, Detach { client, how }: Detach, ctx: &mut Self::Context) {
        {
            let mut session = self.session.borrow_mut();
            let Some(seated) = session.seated(client) else { return };
            // Its connection is closed since it was too slow, and not since it has had enough.
            let how = if seated.is_overrun() { Departure::Vanished } else { how };
            session.client = None;
            self.tell_client(ClientAction::Left);
            let has_stood = session.confirmation.is_some();
            let (linger, now) = (self.context.bounds.linger, self.context.clock.now());
            session.attendance.leave(how, has_stood, linger, now);
        }
        self.end_deserted(ctx);
        self.arm_timer(ctx);
    }
}

impl Handler<ClientConfigure> for SessionActor {
    type Result = Result<(), ConfigureRefused>;

    fn handle(&mut self, configure: ClientConfigure, ctx: &mut Self::Context) -> Self::Result {
        self.configure(configure.client, &configure.message, ctx)
    }
}

impl Handler<ClientAudio> for SessionActor {
    type Result = Result<(), ClientAudioRefused>;

    fn handle(&mut self, message: ClientAudio, ctx: &mut Self::Context) -> Self::Result {
        let ClientAudio { client, req_id, audio, end } = message;
        if self.session.borrow_mut().seated(client).is_none() {
            return Err(NotSeated.into());
        }
        let admission = accept(&self.context, &self.session, &req_id, audio, end)?;
        self.accepted(admission, ctx);
        Ok(())
    }
}

impl Handler<ClientControl> for SessionActor {
    type Result = ();

    fn handle(&mut self, message: ClientControl, ctx: &mut Self::Context) {
        let ClientControl { client, req_id, control } = message;
        if self.session.borrow_mut().seated(client).is_some() {
            self.control(&req_id, control, ctx);
        }
    }
}

impl Handler<FailRequest> for SessionActor {
    type Result = ();

    fn handle(&mut self, message: FailRequest, _ctx: &mut Self::Context) {
        let FailRequest { client, req_id, code, reason } = message;
        let mut session = self.session.borrow_mut();
        if session.seated(client).is_none() {
            return;
        }
        let now = self.context.clock.now();
        // A request whose first piece found no room: what comes of its rest must not begin it anew.
        let is_noted = session.ledger.record(&req_id).is_some()
            || session.ledger.accept(&req_id, Bytes::new(), false, usize::MAX, now).is_ok();
        session.ledger.fail(&req_id, code, &reason, now);
        session.wake_link();
        report_settled(&self.context, &mut session, Teller::Session);
        if !is_noted {
            session.tell_failed(req_id, code, reason);
        }
    }
}
