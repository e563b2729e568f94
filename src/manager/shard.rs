//! One thread of sessions.

use std::{rc::Rc, sync::Arc};

use actix::{Actor, Context, Handler, Message, Recipient};

use super::TenantRuntime;
use crate::{
    outbox::LedgerConfig,
    recovery::Lifecycle,
    session::{self, Clock, FleetNotice, OutboxGauge, SessionContext, SessionEntry},
    telemetry::Metrics,
    upstream,
    wire::{self, Data},
};

/// The actor that starts sessions on its thread. They share its client of the service.
pub(super) struct Shard {
    pub(super) client: upstream::Client,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) fleet: Recipient<FleetNotice>,
}

impl Actor for Shard {
    type Context = Context<Self>;
}

/// Starts a session. Its lifecycle carries the effects of its first input.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StartSession {
    pub(super) entry: Arc<SessionEntry>,
    pub(super) lifecycle: Lifecycle,
    pub(super) ledger: LedgerConfig,
    pub(super) tenant: Arc<TenantRuntime>,
}

impl Handler<StartSession> for Shard {
    type Result = ();

    fn handle(&mut self, start: StartSession, _ctx: &mut Self::Context) {
        let StartSession { entry, lifecycle, ledger, tenant } = start;
        let spec = entry.spec.load_full();
        let context = SessionContext {
            target: upstream::Target {
                app_id: tenant.tenant.app_id.clone(),
                api_key: tenant.tenant.upstream_api_key.clone(),
                avatar_id: spec.avatar_id.clone(),
                configure: Some(wire::encode(Data::ClientConfigureSession(spec.configure_message()))),
                egress: spec.egress_kind(),
            },
            entry,
            recovery: Arc::clone(&tenant.recovery),
            clock: self.clock,
            client: self.client.clone(),
            metrics: Arc::clone(&self.metrics),
            tenant_metrics: Arc::clone(&tenant.metrics),
            fleet: self.fleet.clone(),
            outbox: OutboxGauge::default(),
        };
        session::start(Rc::new(context), lifecycle, ledger);
    }
}
