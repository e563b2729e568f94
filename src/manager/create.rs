//! How sessions come to be.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use actix::{ActorFutureExt as _, Context, Handler, Message, ResponseActFuture, WrapFuture as _};
use arc_swap::{ArcSwap, ArcSwapOption};

use super::{
    CreateRefused, IngressRefused, TenantRuntime,
    actor::{Manager, Mode},
    ids,
    shard::StartSession,
};
use crate::{
    events::{TenantQuota, What},
    outbox::LedgerConfig,
    recovery::{
        FleetInput, Lifecycle, Moment, SessionId, TenantId,
        lifecycle::{Input, Pass, Remembered},
    },
    session::{
        Beginning, ClientSeat, Configuration, Farewell, Origin, SessionEntry, SessionSpec, Snapshot, record,
    },
    store::{
        Batch, Expect, StoreError,
        records::{StoredAnswer, Ticket},
    },
    tenants::TooFast,
};

/// An answer that is kept with the session that it tells of, and repeated to whoever asks again.
pub struct Promise {
    /// The right to give it.
    pub ticket: Ticket,
    /// Makes it.
    pub answer: Box<dyn FnOnce(&SessionEntry) -> StoredAnswer + Send>,
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// A session that was made, and is kept.
#[derive(Debug)]
pub struct Answered {
    /// The session.
    pub entry: Arc<SessionEntry>,
    /// The answer that is kept with it, where one was promised.
    pub answer: Option<StoredAnswer>,
}

/// Makes a session.
#[derive(Debug, Message)]
#[rtype(result = "Result<Answered, CreateRefused>")]
pub(super) struct Create {
    pub(super) tenant: TenantId,
    pub(super) spec: SessionSpec,
    pub(super) promise: Option<Promise>,
    /// Of the request that asks for it, so that what is logged here is found by the request's id.
    pub(super) asked_in: tracing::Span,
}

impl Handler<Create> for Manager {
    type Result = ResponseActFuture<Self, Result<Answered, CreateRefused>>;

    fn handle(&mut self, create: Create, _ctx: &mut Self::Context) -> Self::Result {
        let Create { tenant, spec, promise, asked_in } = create;
        let runtime = match self.admit(&tenant).and_then(within_rate) {
            Ok(runtime) => runtime,
            Err(refused) => {
                self.tell_refusal(&tenant, &refused);
                return Box::pin(std::future::ready(Err(refused)).into_actor(self));
            }
        };
        // Its place is taken while it is being written.
        *self.live.entry(tenant).or_default() += 1;
        let entry = self.draft(&runtime, spec, false);
        let ticket = promise.as_ref().map(|promise| promise.ticket.clone());
        let (batch, answer) = match self.stage(&entry, promise) {
            Ok(staged) => staged,
            Err(error) => {
                self.leave(&entry.tenant);
                return Box::pin(std::future::ready(Err(error.into())).into_actor(self));
            }
        };
        let records = self.journal.records().clone();
        let written = async move { records.commit(batch).await };
        Box::pin(written.into_actor(self).map(move |written, manager, ctx| match written {
            // It was deleted meanwhile, and its sessions with it.
            Ok(_) if manager.tenant(&entry.tenant).is_none() => {
                manager.leave(&entry.tenant);
                manager.finish_leaving(&entry.tenant, ctx);
                manager.journal.remove(&entry.id, ticket);
                Err(CreateRefused::UnknownTenant)
            }
            Ok(_) => {
                asked_in.in_scope(|| manager.begin(&runtime, &entry, ctx));
                Ok(Answered { entry, answer })
            }
            Err(error) => {
                manager.leave(&entry.tenant);
                if error.may_be_written() {
                    manager.journal.remove(&entry.id, ticket);
                }
                Err(error.into())
            }
        }))
    }
}

/// Makes a session for a drop-in client.
#[derive(Debug, Message)]
#[rtype(result = "Result<Arc<SessionEntry>, IngressRefused>")]
pub(super) struct CreateIngress {
    pub(super) tenant: TenantId,
    pub(super) avatar_id: String,
    pub(super) seat: ClientSeat,
}

impl Handler<CreateIngress> for Manager {
    type Result = ResponseActFuture<Self, Result<Arc<SessionEntry>, IngressRefused>>;

    fn handle(&mut self, ask: CreateIngress, ctx: &mut Self::Context) -> Self::Result {
        let CreateIngress { tenant, avatar_id, seat } = ask;
        let refused = match self.tenant(&tenant) {
            _ if matches!(self.mode, Mode::Draining(_)) => CreateRefused::Draining,
            None => CreateRefused::UnknownTenant,
            Some(runtime) => return self.seat_client(runtime, avatar_id, seat, ctx),
        };
        Box::pin(std::future::ready(Err(IngressRefused::Create(refused))).into_actor(self))
    }
}

/// A session that is about to be.
pub(super) struct Draft {
    pub(super) id: SessionId,
    pub(super) origin: Origin,
    /// Whether it is made for whoever comes.
    pub(super) is_pooled: bool,
    pub(super) created_at: Moment,
    pub(super) spec: SessionSpec,
}

/// What a session starts with.
pub(super) struct Start {
    pub(super) lifecycle: Lifecycle,
    /// What is written of it.
    pub(super) noted: Remembered,
    pub(super) configuration: Configuration,
    pub(super) client: Option<ClientSeat>,
}

/// Whether the tenant may make one more session now; it is counted as made.
fn within_rate(runtime: Arc<TenantRuntime>) -> Result<Arc<TenantRuntime>, CreateRefused> {
    match runtime.quotas.start() {
        Ok(()) => Ok(runtime),
        Err(TooFast { bound, retry_after }) => Err(CreateRefused::TooManyStarts { max: bound, retry_after }),
    }
}

impl Manager {
    /// Whether the tenant may have one more session.
    pub(super) fn admit(&self, tenant: &TenantId) -> Result<Arc<TenantRuntime>, CreateRefused> {
        if matches!(self.mode, Mode::Draining(_)) {
            return Err(CreateRefused::Draining);
        }
        let runtime = self.tenant(tenant).ok_or(CreateRefused::UnknownTenant)?;
        let live = self.live.get(tenant).copied().unwrap_or_default();
        let max = runtime.tenant().max_sessions as usize;
        if live >= max {
            return Err(CreateRefused::TenantFull { max });
        }
        if self.live.values().sum::<usize>() >= self.limits.max_sessions {
            return Err(CreateRefused::Full { max: self.limits.max_sessions });
        }
        Ok(runtime)
    }

    /// Tells that a quota refuses, where one does.
    fn tell_refusal(&self, tenant: &TenantId, refused: &CreateRefused) {
        let quota = match refused {
            CreateRefused::TenantFull { .. } => TenantQuota::MaxSessions,
            CreateRefused::TooManyStarts { .. } => TenantQuota::MaxStartsPerMinute,
            CreateRefused::UnknownTenant
            | CreateRefused::Full { .. }
            | CreateRefused::Unkept(_)
            | CreateRefused::Draining => return,
        };
        if let Some(runtime) = self.tenant(tenant) {
            self.journal.chronicle().tell_quota(self.clock.now(), &runtime, quota);
        }
    }

    /// A session as it will be, of which nobody knows yet.
    fn draft(&self, runtime: &TenantRuntime, spec: SessionSpec, is_pooled: bool) -> Arc<SessionEntry> {
        let suspension = self.fleet.suspension(&runtime.id);
        let first = suspension.map_or(Input::Start, |suspension| Input::StartSuspended(suspension.code));
        let now = self.clock.now();
        let mut lifecycle = Lifecycle::new(runtime.recovery());
        lifecycle.handle(first, now, 0.0);
        if self.fleet.minutes_are_used(&runtime.id) {
            lifecycle.handle(Input::MinutesUsed, now, 0.0);
        }
        let id = ids::session_id(SystemTime::now(), rand::random());
        self.entry(runtime, Draft { id, origin: Origin::Api, is_pooled, created_at: now, spec }, &lifecycle)
    }

    fn stage(
        &self,
        entry: &SessionEntry,
        promise: Option<Promise>,
    ) -> Result<(Batch, Option<StoredAnswer>), StoreError> {
        let records = self.journal.records();
        let record = record(entry, &Remembered::new());
        let batch = records.stage_session(Batch::new(), &record, Expect::Absent)?;
        let Some(Promise { ticket, answer }) = promise else { return Ok((batch, None)) };
        let answer = answer(entry);
        // What a session shows of itself has no secret in it.
        let batch = records.stage_answer(batch, &ticket, &answer, false)?;
        Ok((batch, Some(answer)))
    }

    /// Starts a session that is kept, whose place is taken.
    fn begin(&mut self, runtime: &Arc<TenantRuntime>, entry: &Arc<SessionEntry>, ctx: &mut Context<Self>) {
        let tenant = &runtime.id;
        let first = match self.fleet.suspension(tenant).map(|suspension| suspension.code) {
            None => Input::Start,
            Some(code) => {
                // The ask is made for it here, so that the fleet knows it among those to release.
                let (session, tenant) = (entry.id.clone(), tenant.clone());
                self.fleet(FleetInput::Ask { session, tenant, pass: Pass::Normal }, ctx);
                Input::StartSuspended(code)
            }
        };
        let now = self.clock.now();
        let mut lifecycle = Lifecycle::new(runtime.recovery());
        lifecycle.handle(first, now, 0.0);
        if self.fleet.minutes_are_used(tenant) {
            // Its ask is taken back, and it waits with the others.
            lifecycle.handle(Input::MinutesUsed, now, 0.0);
        }
        entry.snapshot.store(Arc::new(Snapshot::of(&lifecycle, now)));
        self.tell_made(entry);
        let configuration = Configuration::of(&entry.spec.load());
        let noted = Remembered::new();
        self.start(runtime, entry, Start { lifecycle, noted, configuration, client: None });
    }

    /// A session for whoever comes. Nobody was promised it: what is written of it is for the next process, which ends
    /// it and makes its own.
    pub(super) fn create_pooled(
        &mut self,
        runtime: &Arc<TenantRuntime>,
        spec: SessionSpec,
        ctx: &mut Context<Self>,
    ) -> Arc<SessionEntry> {
        let entry = self.draft(runtime, spec, true);
        *self.live.entry(runtime.id.clone()).or_default() += 1;
        self.journal.note(&entry, Remembered::new());
        self.begin(runtime, &entry, ctx);
        entry
    }

    /// A new session for a drop-in client.
    pub(super) fn make_ingress(
        &mut self,
        runtime: &Arc<TenantRuntime>,
        avatar_id: String,
        seat: ClientSeat,
    ) -> Result<Arc<SessionEntry>, IngressRefused> {
        self.admit(&runtime.id)
            .and_then(within_rate)
            .inspect_err(|refused| self.tell_refusal(&runtime.id, refused))
            .map_err(IngressRefused::Create)?;
        self.create_ingress(runtime, avatar_id, seat).map_err(IngressRefused::Farewell)
    }

    fn create_ingress(
        &mut self,
        runtime: &Arc<TenantRuntime>,
        avatar_id: String,
        seat: ClientSeat,
    ) -> Result<Arc<SessionEntry>, Farewell> {
        let tenant = &runtime.id;
        let now = self.clock.now();
        if self.fleet.minutes_are_used(tenant) {
            return Err(Farewell::MinutesUsed);
        }
        let first = match self.fleet.suspension(tenant).map(|suspension| suspension.code) {
            None => Input::Start,
            Some(_) if self.fleet.wants_volunteer(tenant, now) => Input::Volunteer,
            Some(code) => return Err(Farewell::of_suspension(code)),
        };
        let mut lifecycle = Lifecycle::new(runtime.recovery());
        lifecycle.handle(first, now, 0.0);
        let id = ids::session_id(SystemTime::now(), rand::random());
        let spec = SessionSpec::for_avatar(avatar_id);
        let draft = Draft { id, origin: Origin::Ingress, is_pooled: false, created_at: now, spec };
        let entry = self.entry(runtime, draft, &lifecycle);
        *self.live.entry(tenant.clone()).or_default() += 1;
        // Nothing is promised: its client is told by its connection what becomes of it.
        let noted = Remembered::new();
        self.journal.note(&entry, noted.clone());
        self.tell_made(&entry);
        let configuration = Configuration::Unknown;
        self.start(runtime, &entry, Start { lifecycle, noted, configuration, client: Some(seat) });
        Ok(entry)
    }

    fn tell_made(&self, entry: &SessionEntry) {
        let change = entry.snapshot.load().change();
        self.journal.chronicle().tell_of(self.clock.now(), &entry.tenant, &entry.id, What::State(change));
    }

    pub(super) fn entry(
        &self,
        runtime: &TenantRuntime,
        draft: Draft,
        lifecycle: &Lifecycle,
    ) -> Arc<SessionEntry> {
        let Draft { id, origin, is_pooled, created_at, mut spec } = draft;
        spec.continuity.get_or_insert(runtime.tenant().continuity);
        Arc::new(SessionEntry {
            id,
            tenant: runtime.id.clone(),
            origin: ArcSwap::from_pointee(origin),
            is_pooled,
            created_at,
            spec: ArcSwap::from_pointee(spec),
            address: ArcSwapOption::empty(),
            thread: OnceLock::new(),
            snapshot: ArcSwap::from_pointee(Snapshot::of(lifecycle, self.clock.now())),
        })
    }

    /// Lists a session and starts it on a thread. Its place is taken already.
    pub(super) fn start(&mut self, runtime: &Arc<TenantRuntime>, entry: &Arc<SessionEntry>, start: Start) {
        let Start { lifecycle, noted, configuration, client } = start;
        let spec = entry.spec.load();
        let continuity = spec.continuity.unwrap_or(self.ledger.continuity);
        let ledger = LedgerConfig { continuity, bytes_per_second: spec.bytes_per_second(), ..self.ledger };
        runtime.metrics.session_moved(None, Some(entry.snapshot.load().state_name()));
        self.registry.insert(Arc::clone(entry));
        tracing::info!(
            session = %entry.id, tenant = %entry.tenant, avatar_id = spec.avatar_id,
            origin = entry.origin.load().as_str(), "session starts"
        );

        // Beside its client, so that what they say to each other wakes no other thread.
        let beside = client.as_ref().and_then(ClientSeat::thread);
        let beginning = Beginning { lifecycle, noted, ledger, configuration, client };
        self.shards.start_session(
            beside,
            StartSession { entry: Arc::clone(entry), beginning, tenant: Arc::clone(runtime) },
        );
    }
}
