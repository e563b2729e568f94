//! The session's actor: takes messages, asks the machines, and carries their effects out.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};
use tokio::sync::{Notify, oneshot};

use super::{
    Farewell, FleetAnswer, FleetNews, FleetNotice, InjectPanic, Operate, Operation, Reconfigure,
    SessionContext, Snapshot,
    configuration::Confirmation,
    connection::{Connection, Ending, Granted},
    crash::panic_error,
    messages::{Crash, LinkNews},
    report::{Teller, report_settled},
    state::{Link, Session},
};
use crate::{
    errors::SessionError,
    events::{ErrorDetail, StateChange, What},
    recovery::{
        Generation, Moment,
        lifecycle::{Admission, Count, Effect, EndRequests, Input},
    },
};

/// The actor of one session. A panic ends it; its machines live on, and a new actor takes them over.
pub struct SessionActor {
    pub(super) context: Rc<SessionContext>,
    pub(super) session: Rc<RefCell<Session>>,
    /// The input that the new actor begins with: the crash of the one before it.
    first: Option<Input>,
    /// The timer, set to what the session knows as armed.
    timer: Option<SpawnHandle>,
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.watch_line(ctx);
        match self.first.take() {
            Some(input) => self.handle_input(input, ctx),
            None => self.carry_out(ctx),
        }
    }
}

impl SessionActor {
    pub(super) const fn new(
        context: Rc<SessionContext>,
        session: Rc<RefCell<Session>>,
        first: Option<Input>,
    ) -> Self {
        Self { context, session, first, timer: None }
    }

    pub(super) fn handle_input(&mut self, input: Input, ctx: &mut Context<Self>) {
        let now = self.context.clock.now();
        self.session.borrow_mut().lifecycle.handle(input, now, rand::random());
        self.carry_out(ctx);
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        loop {
            let effect = self.session.borrow_mut().lifecycle.next_effect();
            let Some(effect) = effect else { break };
            self.carry_out_one(effect, ctx);
        }
        // First, so that the end of a session looks as the service's own does: one error and a close, without one
        // more for each of its requests.
        self.dismiss_client();
        report_settled(&self.context, &mut self.session.borrow_mut(), Teller::Session);
        self.publish();
        self.arm_timer(ctx);
        self.stop_when_gone(ctx);
    }

    fn carry_out_one(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Ask { generation, pass } => {
                self.session.borrow_mut().asked_at = self.context.clock.now();
                self.tell_fleet(FleetNews::Ask(generation, pass));
            }
            Effect::Withdraw => self.tell_fleet(FleetNews::Withdraw),
            Effect::Upgraded => self.tell_fleet(FleetNews::Upgraded),
            Effect::Settled(error) => self.tell_fleet(FleetNews::Settled(error)),
            // A crash between the decision and this has ended the attempt before it began.
            Effect::Connect(generation) if !self.session.borrow().lifecycle.serves(generation) => {}
            Effect::Connect(generation) => self.connect(generation, ctx),
            Effect::Close(generation) => self.close(generation),
            Effect::Parked(hold) => {
                self.tell_fleet(FleetNews::Parked(hold));
                if !self.session.borrow().attendance.waits_parked() {
                    self.tell_fleet(FleetNews::Unparked);
                }
            }
            Effect::Unparked => self.tell_fleet(FleetNews::Unparked),
            Effect::SlotFreed => self.tell_fleet(FleetNews::SlotFreed),
            Effect::EndRequests(which) => self.end_requests(which),
            Effect::Count(count) => self.count(&count),
        }
    }

    /// The manager's mailbox bound is passed by: a session has at most a handful of notices under way (an
    /// ask, its settlement, a park), so that their number is bounded by that of the sessions.
    fn tell_fleet(&self, news: FleetNews) {
        let entry = &self.context.entry;
        self.context.fleet.do_send(FleetNotice {
            session: entry.id.clone(),
            tenant: entry.tenant.clone(),
            news,
        });
    }

    fn connect(&mut self, generation: Generation, ctx: &Context<Self>) {
        let (stop, stopped) = oneshot::channel();
        let wake = Rc::new(Notify::new());
        let actor = ctx.address();
        let granted = self.granted();
        let connection = Connection {
            context: Rc::clone(&self.context),
            session: Rc::clone(&self.session),
            generation,
            granted,
            wake: Rc::clone(&wake),
            actor: actor.clone().recipient(),
        };
        let session = Rc::clone(&self.session);
        let running = actix_rt::spawn(connection.run(stopped));
        let abort = running.abort_handle();
        let gone = actix_rt::spawn(async move {
            let error = match running.await {
                Ok(Ending::Closed) => None,
                Ok(Ending::Broke(error)) => Some(error),
                Err(crash) => match crash.try_into_panic() {
                    Ok(payload) => {
                        let egress = session.borrow().configuration.egress();
                        Some(Box::new(panic_error(payload.as_ref(), egress)))
                    }
                    // Aborted by whoever takes a crashed session over, who knows.
                    Err(_cancelled) => None,
                },
            };
            actor.do_send(LinkNews::Gone { generation, error });
        });
        let link = Link { generation, stop: Some(stop), wake, outlet: Weak::new(), abort, gone };
        self.session.borrow_mut().link = Some(link);
    }

    /// The attempt that begins now.
    fn granted(&self) -> Granted {
        let session = self.session.borrow();
        let now = self.context.clock.now();
        Granted {
            waited: now.since(session.asked_at),
            attempt: session.lifecycle.attempt(now).saturating_add(1),
        }
    }

    fn close(&self, generation: Generation) {
        if let Some(link) = &mut self.session.borrow_mut().link
            && link.generation == generation
        {
            link.stop = None;
        }
    }

    fn end_requests(&self, which: EndRequests) {
        let now = self.context.clock.now();
        let mut session = self.session.borrow_mut();
        for req_id in session.ledger.unended() {
            session.tell_interrupted(req_id);
        }
        match which {
            EndRequests::Sent(code) => session.ledger.connection_lost(code, now),
            EndRequests::All(code) => session.ledger.fail_all(code, now),
            EndRequests::Interrupted => session.ledger.interrupt_all(now),
        }
    }

    fn count(&self, count: &Count) {
        let (metrics, tenant) = (&self.context.metrics, &self.context.tenant.metrics);
        let recovery = self.context.tenant.recovery();
        match count {
            Count::Error(error) => {
                metrics.error(tenant, error.code, error.phase);
                if let Some(shortage) = error.shortage {
                    metrics.shortage(shortage);
                }
                self.log_error(error);
                self.tell_error(error);
            }
            Count::Restart(code) => metrics.restart(*code),
            Count::Park(code) => tenant.park(*code),
            Count::Failure(code) => tenant.failure(*code),
            Count::BudgetExhausted => {
                tenant.budget_exhausted();
                self.session.borrow_mut().budget_exhausted = true;
                tracing::error!(
                    session = %self.context.entry.id, tenant = %self.context.entry.tenant,
                    restarts = recovery.budget.restarts,
                    window_s = recovery.budget.window.as_secs(),
                    "restart budget exhausted"
                );
            }
            Count::Recovered(after) => {
                metrics.recovered(*after);
                self.session.borrow_mut().recovered_after = Some(*after);
            }
        }
    }

    fn tell_error(&self, error: &Arc<SessionError>) {
        let action = self.context.tenant.recovery().policy.answer(error).as_str();
        // The same moment as the session shows, which was noted a turn ago.
        let noted = match self.session.borrow().lifecycle.last_error() {
            Some((last, at)) if Arc::ptr_eq(last, error) => Some(at),
            Some(_) | None => None,
        };
        let at = noted.unwrap_or_else(|| self.context.clock.now());
        self.context.tell(What::Error { error: ErrorDetail::new(Arc::clone(error), action, at) });
    }

    fn log_error(&self, error: &SessionError) {
        let recovery = self.context.tenant.recovery();
        tracing::warn!(
            session = %self.context.entry.id,
            tenant = %self.context.entry.tenant,
            code = error.code.as_str(),
            phase = error.phase.as_str(),
            connection_id = error.connection_id.as_deref().unwrap_or_default(),
            req_id = error.req_id.as_deref().unwrap_or_default(),
            close_code = error.close_code.unwrap_or_default(),
            http_status = error.http_status.unwrap_or_default(),
            rule = error.rule,
            action = recovery.policy.answer(error).as_str(),
            error = error.message,
            "session error"
        );
    }

    /// Notes what must survive the process, publishes the snapshot, and moves the session from state to state in the gauges.
    fn publish(&self) {
        let now = self.context.clock.now();
        let news = self.session.borrow_mut().news();
        if let Some(remembered) = news {
            self.context.journal.note(&self.context.entry, remembered);
        }
        let snapshot = Snapshot::of(&self.session.borrow().lifecycle, now);
        let name = snapshot.state_name();
        let recovered_after = self.session.borrow_mut().recovered_after.take();
        let budget_exhausted = std::mem::take(&mut self.session.borrow_mut().budget_exhausted);
        let change = StateChange { from: None, recovered_after, budget_exhausted, ..snapshot.change() };
        let before = self.context.entry.snapshot.swap(Arc::new(snapshot)).state_name();
        if before != name {
            self.context.tenant.metrics.session_moved(Some(before), Some(name));
            tracing::info!(
                session = %self.context.entry.id, tenant = %self.context.entry.tenant,
                from = before.as_str(), to = name.as_str(), "session state changed"
            );
            self.context.tell(What::State(StateChange { from: Some(before), ..change }));
        }
    }

    /// Sets the one timer to the earliest of what is due. A timer that comes too early finds nothing due and
    /// is set again, so it is only replaced where something is due earlier.
    pub(super) fn arm_timer(&mut self, ctx: &mut Context<Self>) {
        let due = self.next_timeout();
        let Some(due) = due else { return };
        let armed = self.session.borrow_mut().armed.replace(due);
        match (self.timer, armed) {
            (Some(_), Some(armed)) if armed <= due => {
                self.session.borrow_mut().armed = Some(armed);
                return;
            }
            (Some(handle), _) => {
                ctx.cancel_future(handle);
            }
            (None, _) => {}
        }
        let handle = ctx.run_later(self.context.clock.until(due), |actor, ctx| {
            actor.timer = None;
            let now = actor.context.clock.now();
            {
                let mut session = actor.session.borrow_mut();
                session.armed = None;
                // A session that runs has no trouble that an old error could name.
                let cause = match session.lifecycle.admission() {
                    Admission::Flows => None,
                    Admission::Waits | Admission::Wakes | Admission::Refused => {
                        session.lifecycle.last_error().map(|(error, _)| error.code)
                    }
                };
                session.ledger.tick(cause, now);
                session.wake_link();
            }
            actor.handle_input(Input::Tick, ctx);
            actor.end_deserted(ctx);
            actor.end_idle(ctx);
        });
        self.timer = Some(handle);
    }

    /// A session of a pool waits for its client, and is to be connected while it does.
    fn idle_timeout(&self) -> Option<Duration> {
        if self.context.entry.is_pooled { None } else { self.context.tenant.tenant().idle_timeout }
    }

    fn next_timeout(&self) -> Option<Moment> {
        let mut session = self.session.borrow_mut();
        let is_idle = session.is_idle();
        session.idleness.observe(is_idle, self.context.clock.now());
        let idle = session.idleness.next_timeout(self.idle_timeout());
        session.next_timeout().into_iter().chain(idle).min()
    }

    fn end_idle(&mut self, ctx: &mut Context<Self>) {
        let idleness = self.session.borrow().idleness;
        if idleness.is_over(self.idle_timeout(), self.context.clock.now()) {
            tracing::info!(
                session = %self.context.entry.id, tenant = %self.context.entry.tenant,
                "session is idle for too long, its connection is closed"
            );
            self.handle_input(Input::Idle, ctx);
        }
    }

    /// A stopped session whose connection is gone has nothing left to do.
    fn stop_when_gone(&self, ctx: &mut Context<Self>) {
        let gone = {
            let session = self.session.borrow();
            session.is_stopped() && session.link.is_none()
        };
        if gone {
            self.tell_fleet(FleetNews::Gone);
            ctx.stop();
        }
    }
}

impl Handler<LinkNews> for SessionActor {
    type Result = ();

    fn handle(&mut self, news: LinkNews, ctx: &mut Self::Context) {
        let input = match news {
            LinkNews::Upgraded { generation } => {
                self.upgraded(generation);
                return;
            }
            LinkNews::AwaitsClient { generation } => {
                self.upgraded(generation);
                Input::Upgraded(generation)
            }
            LinkNews::Connected { generation, connection_id, capabilities, confirm } => {
                let mut session = self.session.borrow_mut();
                if session.lifecycle.serves(generation) {
                    session
                        .confirmed(Confirmation { message: confirm, connection_id: connection_id.clone() });
                }
                drop(session);
                Input::Connected { generation, connection_id, capabilities }
            }
            LinkNews::DueEarlier => return self.arm_timer(ctx),
            LinkNews::RequestFailed { generation, error } => Input::RequestFailed { generation, error },
            LinkNews::Gone { generation, error } => {
                let mut session = self.session.borrow_mut();
                if session.link.as_ref().is_some_and(|link| link.generation == generation) {
                    session.link = None;
                }
                drop(session);
                match error {
                    Some(error) => Input::Broke { generation, error: Arc::from(error) },
                    None => Input::Closed(generation),
                }
            }
        };
        self.handle_input(input, ctx);
        let is_spoken_to = {
            let session = self.session.borrow();
            session.lifecycle.admission() == Admission::Wakes && session.ledger.open_count() > 0
        };
        if is_spoken_to {
            self.handle_input(Input::Audio, ctx);
        }
    }
}

impl Handler<FleetAnswer> for SessionActor {
    type Result = ();

    fn handle(&mut self, answer: FleetAnswer, ctx: &mut Self::Context) {
        let input = match answer {
            FleetAnswer::Granted(generation) => Input::Granted(generation),
            FleetAnswer::MinutesUsed => Input::MinutesUsed,
            FleetAnswer::Suspended(generation, code) => Input::Suspended(generation, code),
            // It has left the fleet's memory of parked sessions, which had not heard of that.
            FleetAnswer::Probe | FleetAnswer::Release if !self.may_revive() => return,
            FleetAnswer::Probe => Input::Probe,
            FleetAnswer::Release => Input::Release,
        };
        self.handle_input(input, ctx);
    }
}

impl Handler<Operate> for SessionActor {
    type Result = Arc<Snapshot>;

    fn handle(&mut self, Operate(operation): Operate, ctx: &mut Self::Context) -> Self::Result {
        let input = match operation {
            // Nobody is there who would use the connection.
            Operation::Restart | Operation::Unpark if !self.may_revive() => {
                return self.context.entry.snapshot.load_full();
            }
            Operation::Restart => Input::Restart,
            Operation::Park => Input::Park,
            Operation::Unpark => Input::Unpark,
            Operation::Delete => Input::Delete,
            Operation::Drain => {
                self.session.borrow_mut().farewell = Farewell::Draining;
                Input::Delete
            }
        };
        self.handle_input(input, ctx);
        self.context.entry.snapshot.load_full()
    }
}

impl Handler<Reconfigure> for SessionActor {
    type Result = ();

    fn handle(&mut self, _message: Reconfigure, ctx: &mut Self::Context) {
        self.session.borrow_mut().lifecycle.reconfigure(self.context.tenant.recovery());
        self.arm_timer(ctx);
    }
}

impl Handler<Crash> for SessionActor {
    type Result = ();

    fn handle(&mut self, Crash(payload): Crash, _ctx: &mut Self::Context) {
        std::panic::resume_unwind(payload);
    }
}

impl Handler<InjectPanic> for SessionActor {
    type Result = ();

    #[expect(clippy::panic, reason = "the message exists to show what a panic costs")]
    fn handle(&mut self, _message: InjectPanic, _ctx: &mut Self::Context) {
        panic!("injected");
    }
}
