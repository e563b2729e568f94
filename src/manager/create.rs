//! How sessions come to be.

use std::{sync::Arc, time::SystemTime};

use actix::{Context, Handler, Message};
use arc_swap::{ArcSwap, ArcSwapOption};

use super::{
    CreateRefused, IngressRefused, TenantRuntime,
    actor::{Manager, Mode},
    ids,
    shard::StartSession,
};
use crate::{
    outbox::LedgerConfig,
    recovery::{
        FleetInput, Lifecycle, SessionId, TenantId,
        lifecycle::{Input, Pass},
    },
    session::{Beginning, ClientSeat, Configuration, Farewell, Origin, SessionEntry, SessionSpec, Snapshot},
};

/// Makes a session.
#[derive(Debug, Message)]
#[rtype(result = "Result<Arc<SessionEntry>, CreateRefused>")]
pub(super) struct Create {
    pub(super) tenant: TenantId,
    pub(super) spec: SessionSpec,
}

impl Handler<Create> for Manager {
    type Result = Result<Arc<SessionEntry>, CreateRefused>;

    fn handle(&mut self, Create { tenant, spec }: Create, ctx: &mut Self::Context) -> Self::Result {
        let runtime = self.admit(&tenant)?;
        Ok(self.create(&runtime, spec, ctx))
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
    type Result = Result<Arc<SessionEntry>, IngressRefused>;

    fn handle(&mut self, ask: CreateIngress, _ctx: &mut Self::Context) -> Self::Result {
        let CreateIngress { tenant, avatar_id, seat } = ask;
        let runtime = self.admit(&tenant).map_err(IngressRefused::Create)?;
        self.create_ingress(&runtime, avatar_id, seat).map_err(IngressRefused::Farewell)
    }
}

/// A session that is about to start.
struct Draft {
    id: SessionId,
    origin: Origin,
    spec: SessionSpec,
    /// What its lifecycle begins with.
    first: Input,
    configuration: Configuration,
    client: Option<ClientSeat>,
}

impl Manager {
    /// Whether the tenant may have one more session.
    fn admit(&self, tenant: &TenantId) -> Result<Arc<TenantRuntime>, CreateRefused> {
        if matches!(self.mode, Mode::Draining(_)) {
            return Err(CreateRefused::Draining);
        }
        let runtime = self.tenants.get(tenant).cloned().ok_or(CreateRefused::UnknownTenant)?;
        let live = self.live.get(tenant).copied().unwrap_or_default();
        if live >= runtime.tenant.max_sessions as usize {
            return Err(CreateRefused::TenantFull { max: runtime.tenant.max_sessions as usize });
        }
        if self.live.values().sum::<usize>() >= self.limits.max_sessions {
            return Err(CreateRefused::Full { max: self.limits.max_sessions });
        }
        Ok(runtime)
    }

    fn create(
        &mut self,
        runtime: &Arc<TenantRuntime>,
        spec: SessionSpec,
        ctx: &mut Context<Self>,
    ) -> Arc<SessionEntry> {
        let tenant = &runtime.tenant.id;
        let id = ids::session_id(SystemTime::now(), rand::random());
        let first = match self.fleet.suspension(tenant).map(|suspension| suspension.code) {
            None => Input::Start,
            Some(code) => {
                // The ask is made for it here, so that the fleet knows it among those to release.
                let ask = FleetInput::Ask { session: id.clone(), tenant: tenant.clone(), pass: Pass::Normal };
                self.fleet(ask, ctx);
                Input::StartSuspended(code)
            }
        };
        let configuration = Configuration::of(&spec);
        self.start(runtime, Draft { id, origin: Origin::Api, spec, first, configuration, client: None })
    }

    fn create_ingress(
        &mut self,
        runtime: &Arc<TenantRuntime>,
        avatar_id: String,
        seat: ClientSeat,
    ) -> Result<Arc<SessionEntry>, Farewell> {
        let tenant = &runtime.tenant.id;
        let first = match self.fleet.suspension(tenant).map(|suspension| suspension.code) {
            None => Input::Start,
            Some(_) if self.fleet.wants_volunteer(tenant, self.clock.now()) => Input::Volunteer,
            Some(code) => return Err(Farewell::of_suspension(code)),
        };
        Ok(self.start(
            runtime,
            Draft {
                id: ids::session_id(SystemTime::now(), rand::random()),
                origin: Origin::Ingress,
                spec: SessionSpec::for_avatar(avatar_id),
                first,
                configuration: Configuration::Unknown,
                client: Some(seat),
            },
        ))
    }

    fn start(&mut self, runtime: &Arc<TenantRuntime>, draft: Draft) -> Arc<SessionEntry> {
        let Draft { id, origin, mut spec, first, configuration, client } = draft;
        let tenant = &runtime.tenant.id;
        let now = self.clock.now();
        let mut lifecycle = Lifecycle::new(Arc::clone(&runtime.recovery));
        lifecycle.handle(first, now, 0.0);
        let snapshot = Snapshot::of(&lifecycle, now);
        runtime.metrics.session_moved(None, Some(snapshot.state_name()));
        let continuity = *spec.continuity.get_or_insert(self.ledger.continuity);
        let bytes_per_second = spec.bytes_per_second();
        let ledger = LedgerConfig { continuity, bytes_per_second, ..self.ledger };
        let entry = Arc::new(SessionEntry {
            id,
            tenant: tenant.clone(),
            origin,
            created_at: now,
            spec: ArcSwap::from_pointee(spec),
            address: ArcSwapOption::empty(),
            snapshot: ArcSwap::from_pointee(snapshot),
        });
        *self.live.entry(tenant.clone()).or_default() += 1;
        self.registry.insert(Arc::clone(&entry));
        tracing::info!(
            session = %entry.id, %tenant, avatar_id = entry.spec.load().avatar_id, origin = origin.as_str(),
            "session created"
        );

        let shard = &self.shards[self.next_shard % self.shards.len()];
        self.next_shard = self.next_shard.wrapping_add(1);
        let beginning = Beginning { lifecycle, ledger, configuration, client };
        // One message for each session that was admitted, so the limits bound them.
        shard.do_send(StartSession { entry: Arc::clone(&entry), beginning, tenant: Arc::clone(runtime) });
        entry
    }
}
