//! One thread of sessions.

use std::{rc::Rc, sync::Arc};

use actix::{Actor, Context, Handler, Message, Recipient};

use super::TenantRuntime;
use crate::{
    session::{
        self, Beginning, ClientBounds, Clock, Continuity, FleetNotice, Journal, OutboxBudget, OutboxShare,
        SessionContext, SessionEntry,
    },
    telemetry::Metrics,
    upstream,
};

/// The actor that starts sessions on its thread. They share its client of the service.
pub(super) struct Shard {
    pub(super) client: upstream::Client,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) fleet: Recipient<FleetNotice>,
    pub(super) journal: Journal,
    pub(super) outbox: Arc<OutboxBudget>,
    pub(super) bounds: ClientBounds,
    pub(super) continuity: Continuity,
}

impl Actor for Shard {
    type Context = Context<Self>;
}

/// Starts a session.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StartSession {
    pub(super) entry: Arc<SessionEntry>,
    pub(super) beginning: Beginning,
    pub(super) tenant: Arc<TenantRuntime>,
}

impl Handler<StartSession> for Shard {
    type Result = ();

    fn handle(&mut self, start: StartSession, _ctx: &mut Self::Context) {
        let StartSession { entry, beginning, tenant } = start;
        let outbox =
            OutboxShare::new(Arc::clone(&tenant.outbox), Arc::clone(&self.outbox), Arc::clone(&self.metrics));
        let context = SessionContext {
            entry,
            tenant,
            clock: self.clock,
            client: self.client.clone(),
            metrics: Arc::clone(&self.metrics),
            fleet: self.fleet.clone(),
            journal: self.journal.clone(),
            outbox,
            bounds: self.bounds,
            continuity: self.continuity,
        };
        session::start(Rc::new(context), beginning);
    }
}
