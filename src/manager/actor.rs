//! The manager's actor: makes sessions, and carries the fleet's effects out.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle};
use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::{
    Leaving, Limits, MinutesNoted, Registry, Roster, TenantRuntime, UPSTREAM, UpstreamView, pool::Pool,
    shard::Shards,
};
use crate::{
    errors::ErrorCode,
    events::{BreakerAction, TenantAction, What},
    outbox::LedgerConfig,
    recovery::{
        AttemptOutcome, BreakerState, Fleet, FleetEffect, FleetInput, Generation, Moment, ParkCause,
        SessionId, StateName, TenantId,
    },
    session::{
        Clock, FleetAnswer, FleetNews, FleetNotice, Journal, Operate, Operation, OutboxBudget, ShedCopies,
    },
    telemetry::{BreakerLabel, Invariant, Metrics, UpstreamMetrics},
};

/// Stopped sessions of a tenant that are listed for the retention time at least, however few sessions it may have.
const MIN_STOPPED: usize = 100;

/// How often retention and upkeep are looked after.
const UPKEEP: Duration = Duration::from_secs(1);

/// How often a drain looks for sessions that its command has missed: those whose actor was just being made, or
/// being rebuilt after a crash.
const END_AGAIN: Duration = Duration::from_millis(50);

/// The supervisor of all sessions of this process.
pub(super) struct Manager {
    pub(super) fleet: Fleet,
    /// The latest ask of each session that waits or tries, by which a late grant is recognised.
    pub(super) asks: BTreeMap<SessionId, Generation>,
    pub(super) registry: Arc<Registry>,
    pub(super) tenants: Arc<ArcSwap<Roster>>,
    /// Tenants that the roster has no more, and whose sessions are being ended.
    pub(super) leaving: BTreeMap<TenantId, Leaving>,
    /// Sessions of each tenant that are not stopped.
    pub(super) live: BTreeMap<TenantId, usize>,
    /// Stopped sessions, in the order in which they are forgotten.
    pub(super) stopped: BTreeMap<TenantId, VecDeque<(Moment, SessionId)>>,
    pub(super) shards: Shards,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) ledger: LedgerConfig,
    pub(super) outbox: Arc<OutboxBudget>,
    pub(super) journal: Journal,
    pub(super) metrics: Arc<Metrics>,
    pub(super) upstream_metrics: UpstreamMetrics,
    pub(super) timer: Option<(Moment, SpawnHandle)>,
    pub(super) pool: Pool,
    pub(super) minutes: MinutesNoted,
    pub(super) mode: Mode,
}

/// Whether sessions are taken.
pub(super) enum Mode {
    Open,
    /// No new session is taken; whoever waits for the last one to end is told.
    Draining(Vec<oneshot::Sender<()>>),
}

impl Actor for Manager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.fill_pools(ctx);
        ctx.run_interval(UPKEEP, Self::upkeep);
    }
}

impl Manager {
    /// The tenant with this id, where there is one now.
    pub(super) fn tenant(&self, id: &TenantId) -> Option<Arc<TenantRuntime>> {
        self.tenants.load().get(id.as_str()).cloned()
    }

    pub(super) fn fleet(&mut self, input: FleetInput, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        for effect in self.fleet.handle(input, now) {
            self.carry_out(effect);
        }
        self.upstream_metrics.gate_waiting(self.fleet.waiting());
        self.upstream_metrics.breaker(breaker_label(&self.fleet.breaker_state()));
        self.arm_timer(ctx);
    }

    fn carry_out(&mut self, effect: FleetEffect) {
        match effect {
            FleetEffect::Grant { session } => {
                if let Some(generation) = self.asks.get(&session).copied() {
                    self.answer(&session, FleetAnswer::Granted(generation));
                }
            }
            FleetEffect::Suspended { session, code } => {
                if let Some(generation) = self.asks.remove(&session) {
                    self.answer(&session, FleetAnswer::Suspended(generation, code));
                }
            }
            FleetEffect::OutOfMinutes { session } => {
                self.asks.remove(&session);
                self.answer(&session, FleetAnswer::MinutesUsed);
            }
            FleetEffect::Probe { session } => self.answer(&session, FleetAnswer::Probe),
            FleetEffect::Release { session } => self.answer(&session, FleetAnswer::Release),
            FleetEffect::TenantSuspended { tenant, code } => {
                tracing::warn!(%tenant, code = code.as_str(), "tenant suspended");
                if let Some(runtime) = self.tenant(&tenant) {
                    runtime.metrics.suspended();
                    runtime.set_suspension(self.fleet.suspension(&tenant).copied());
                }
                self.tell_tenant(&tenant, TenantAction::Suspended, Some(code));
            }
            FleetEffect::TenantReleased { tenant } => {
                tracing::info!(%tenant, "tenant released");
                if let Some(runtime) = self.tenant(&tenant) {
                    runtime.metrics.resumed();
                    runtime.set_suspension(None);
                }
                self.tell_tenant(&tenant, TenantAction::Released, None);
            }
            FleetEffect::BreakerChanged { state } => {
                tracing::warn!(state = ?state, "breaker changed");
                let what = What::Upstream { name: UPSTREAM, breaker: breaker_action(&state) };
                self.journal.chronicle().tell(self.clock.now(), None, what);
            }
            FleetEffect::GrantExpired { session } => {
                // Every attempt has deadlines of its own, so that this cannot be unless one did not hold.
                tracing::error!(%session, "an attempt held its place at the gate beyond every deadline");
                self.metrics.breach(Invariant::BoundedMemory);
            }
        }
    }

    fn tell_tenant(&self, tenant: &TenantId, action: TenantAction, code: Option<ErrorCode>) {
        let what = What::Tenant { action, code, quota: None };
        self.journal.chronicle().tell(self.clock.now(), Some(tenant.clone()), what);
    }

    /// A session whose actor is being rebuilt after a crash misses this, and asks again when it is back.
    fn answer(&self, session: &SessionId, answer: FleetAnswer) {
        let address = self.registry.get(session.as_str()).and_then(|entry| entry.address.load_full());
        if let Some(address) = address {
            address.do_send(answer);
        }
    }

    fn arm_timer(&mut self, ctx: &mut Context<Self>) {
        let Some(due) = self.fleet.next_timeout() else { return };
        match self.timer {
            Some((armed, _)) if armed <= due => return,
            Some((_, handle)) => {
                ctx.cancel_future(handle);
            }
            None => {}
        }
        let handle = ctx.run_later(self.clock.until(due), |manager, ctx| {
            manager.timer = None;
            manager.fleet(FleetInput::Tick, ctx);
        });
        self.timer = Some((due, handle));
    }

    fn upkeep(&mut self, ctx: &mut Context<Self>) {
        self.look_at_minutes(ctx);
        self.note_minutes();
        self.fill_pools(ctx);
        self.end_leaving();
        let now = self.clock.now();
        let mut expired = Vec::new();
        for stopped in self.stopped.values_mut() {
            while stopped.front().is_some_and(|(until, _)| *until <= now) {
                expired.extend(stopped.pop_front().map(|(_, id)| id));
            }
        }
        for id in expired {
            self.forget(&id);
        }
        self.shed_copies();
        self.metrics.upkeep();
    }

    /// Where the outboxes hold too much, sessions that have no turn of their own are called to drop their copies.
    fn shed_copies(&self) {
        let entries = if self.outbox.excess() > 0 {
            self.registry.all()
        } else {
            let roster = self.tenants.load();
            let full = roster.iter().filter(|runtime| runtime.outbox.excess() > 0);
            full.flat_map(|runtime| self.registry.of_tenant(&runtime.id)).collect()
        };
        for entry in entries {
            if let Some(address) = entry.address.load_full() {
                // One for each session and second, and only where memory is short.
                address.do_send(ShedCopies);
            }
        }
    }

    /// Ends every session that is not ended yet.
    fn end_all(&self) {
        let all = self.registry.all();
        for entry in all.iter().filter(|entry| entry.snapshot.load().state_name() != StateName::Stopped) {
            if let Some(address) = entry.address.load_full() {
                // One message for each session, and none to those that have taken it.
                address.do_send(Operate(Operation::Drain));
            }
        }
    }

    /// Keeps a stopped session listed for the retention time, but no more of them than the tenant may have
    /// sessions: whoever makes and deletes sessions in a loop must not fill the memory.
    pub(super) fn remember_stopped(&mut self, session: SessionId, tenant: &TenantId, until: Moment) {
        let max = self.tenant(tenant).map_or(0, |runtime| runtime.tenant().max_sessions as usize);
        let stopped = self.stopped.entry(tenant.clone()).or_default();
        // At the end but for those of an earlier process, which come in the order of their names.
        let place = stopped.partition_point(|(other, _)| *other <= until);
        stopped.insert(place, (until, session));
        let oldest = if stopped.len() > max.max(MIN_STOPPED) { stopped.pop_front() } else { None };
        if let Some((_, id)) = oldest {
            self.forget(&id);
        }
    }

    fn forget(&self, id: &SessionId) {
        let Some(entry) = self.registry.get(id.as_str()) else { return };
        self.registry.remove(id);
        // A process that ends forgets sessions that go on in the next.
        if let Mode::Open = self.mode {
            self.journal.remove(id, None);
        }
        if let Some(runtime) = self.tenant(&entry.tenant) {
            runtime.metrics.session_moved(Some(entry.snapshot.load().state_name()), None);
        }
    }

    fn gone(&mut self, session: SessionId, tenant: &TenantId, ctx: &mut Context<Self>) {
        self.asks.remove(&session);
        self.pool.forget(&session);
        if self.forget_leaving(&session, tenant) {
            self.leave(tenant);
            self.finish_leaving(tenant, ctx);
            return;
        }
        let until = self.clock.now() + self.limits.retention;
        self.remember_stopped(session, tenant, until);
        self.leave(tenant);
    }

    /// One session of the tenant fewer is not stopped.
    pub(super) fn leave(&mut self, tenant: &TenantId) {
        if let Some(live) = self.live.get_mut(tenant) {
            *live = live.saturating_sub(1);
        }
        let is_last = self.live.values().all(|&live| live == 0);
        if let Mode::Draining(waiting) = &mut self.mode
            && is_last
        {
            for told in waiting.drain(..) {
                // Whoever waited may have given up at its deadline.
                let _gave_up = told.send(());
            }
        }
    }
}

impl Handler<FleetNotice> for Manager {
    type Result = ();

    fn handle(&mut self, notice: FleetNotice, ctx: &mut Self::Context) {
        let FleetNotice { session, tenant, news } = notice;
        let input = match news {
            FleetNews::Ask(generation, pass) => {
                self.asks.insert(session.clone(), generation);
                FleetInput::Ask { session, tenant, pass }
            }
            FleetNews::Withdraw => {
                self.asks.remove(&session);
                FleetInput::Withdraw { session }
            }
            FleetNews::Upgraded => FleetInput::Upgraded { session },
            FleetNews::Settled(error) => {
                self.asks.remove(&session);
                let retry_after = error.as_ref().and_then(|error| error.retry_after);
                let outcome = AttemptOutcome::of(error.as_deref());
                FleetInput::Settled { session, outcome, retry_after }
            }
            FleetNews::Parked(hold) => FleetInput::Parked { session, tenant, cause: ParkCause::of(&hold) },
            FleetNews::Unparked => FleetInput::Left { session },
            FleetNews::SlotFreed => FleetInput::SlotFreed { tenant },
            FleetNews::Gone => {
                self.gone(session.clone(), &tenant, ctx);
                FleetInput::Left { session }
            }
        };
        self.fleet(input, ctx);
    }
}

/// What the metrics call a state of the breaker.
pub(super) const fn breaker_label(state: &BreakerState) -> BreakerLabel {
    match state {
        BreakerState::Closed => BreakerLabel::Closed,
        BreakerState::HalfOpen { .. } => BreakerLabel::HalfOpen,
        BreakerState::Open { .. } | BreakerState::Forced => BreakerLabel::Open,
    }
}

const fn breaker_action(state: &BreakerState) -> BreakerAction {
    match state {
        BreakerState::Closed => BreakerAction::Closed,
        BreakerState::HalfOpen { .. } => BreakerAction::HalfOpen,
        BreakerState::Open { .. } | BreakerState::Forced => BreakerAction::Open,
    }
}

/// Lifts a tenant's suspension.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Unsuspend(pub(super) TenantId);

impl Handler<Unsuspend> for Manager {
    type Result = ();

    fn handle(&mut self, Unsuspend(tenant): Unsuspend, ctx: &mut Self::Context) {
        self.fleet(FleetInput::Unsuspend { tenant }, ctx);
    }
}

/// Takes no new session, ends all, and answers when the last one is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Drain;

impl Handler<Drain> for Manager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _message: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (told, gone) = oneshot::channel();
        let waiting = match &mut self.mode {
            Mode::Draining(waiting) => waiting,
            mode @ Mode::Open => {
                *mode = Mode::Draining(Vec::new());
                self.end_all();
                ctx.run_interval(END_AGAIN, |manager, _ctx| manager.end_all());
                let Mode::Draining(waiting) = &mut self.mode else { return Box::pin(async {}) };
                waiting
            }
        };
        if self.live.values().all(|&live| live == 0) {
            return Box::pin(async {});
        }
        waiting.push(told);
        Box::pin(async move {
            // An error means that the manager is gone, and then so are the sessions.
            let _manager_gone = gone.await;
        })
    }
}

/// Asks how the service's endpoints are judged.
#[derive(Debug, Message)]
#[rtype(result = "Vec<UpstreamView>")]
pub(super) struct AskUpstreams;

impl Handler<AskUpstreams> for Manager {
    type Result = Vec<UpstreamView>;

    fn handle(&mut self, _message: AskUpstreams, _ctx: &mut Self::Context) -> Self::Result {
        vec![UpstreamView::of(&self.fleet)]
    }
}

/// Opens or closes the breaker by an operator's command.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum SetBreaker {
    Open,
    Close,
}

impl Handler<SetBreaker> for Manager {
    type Result = ();

    fn handle(&mut self, message: SetBreaker, ctx: &mut Self::Context) {
        let input = match message {
            SetBreaker::Open => FleetInput::OpenBreaker,
            SetBreaker::Close => FleetInput::CloseBreaker,
        };
        self.fleet(input, ctx);
    }
}
