//! Sessions of an earlier process.

use std::{collections::BTreeMap, sync::Arc};

use actix::{Context, Handler, Message};

use super::{
    TenantRuntime,
    actor::Manager,
    create::{Draft, Start},
};
use crate::{
    recovery::{
        FleetInput, Lifecycle, ParkCause, TenantId,
        lifecycle::{Hold, Remembered, Standing},
    },
    session::{Configuration, Origin, moment, remembered, spec_of_record},
    store::records::{Origin as OriginRecord, SessionRecord},
};

/// Takes the sessions of an earlier process over: all of them at once, before any other is made.
#[derive(Debug, Message)]
#[rtype(result = "Restored")]
pub(super) struct Restore(pub(super) Vec<SessionRecord>);

/// What became of the sessions of an earlier process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Those that should run, and ask the gate.
    pub started: usize,
    /// Those that are parked, dormant or failed.
    pub held: usize,
    /// Those that are ended and listed still.
    pub stopped: usize,
    /// Those that are kept, but of tenants that the configuration does not name.
    pub without_tenant: BTreeMap<TenantId, usize>,
    /// Those that are kept, but not understood.
    pub unreadable: usize,
}

/// A session of an earlier process, and its tenant.
struct Found {
    runtime: Arc<TenantRuntime>,
    draft: Draft,
    /// What is written of it.
    written: Remembered,
    /// How it goes on.
    remembered: Remembered,
}

impl Handler<Restore> for Manager {
    type Result = actix::MessageResult<Restore>;

    fn handle(&mut self, Restore(records): Restore, ctx: &mut Self::Context) -> Self::Result {
        let mut restored = Restored::default();
        let mut found = Vec::with_capacity(records.len());
        for record in records {
            found.extend(self.find(record, &mut restored));
        }
        self.look_at_minutes(ctx);
        // In one turn of this actor: the fleet hears of all who are parked before the first one's ask is taken, so
        // that nothing of a suspended tenant knocks.
        for found in found {
            self.restore(found, &mut restored, ctx);
        }
        actix::MessageResult(restored)
    }
}

impl Manager {
    fn find(&self, record: SessionRecord, restored: &mut Restored) -> Option<Found> {
        let Some(runtime) = self.tenant(&record.tenant) else {
            *restored.without_tenant.entry(record.tenant).or_default() += 1;
            return None;
        };
        let written = remembered(&record);
        let mut remembered = written.clone();
        let origin = match record.origin {
            OriginRecord::Api => Origin::Api,
            OriginRecord::Ingress => Origin::Ingress,
        };
        let is_over = matches!(remembered.standing, Standing::Stopped { .. });
        if origin == Origin::Ingress && !is_over {
            // Its client's connection has ended with the process that had it.
            remembered.standing = Standing::Stopped { at: self.clock.now() };
        }
        // The day has turned, or the bound is another.
        if remembered.standing == Standing::Parked(Hold::Minutes) && !self.fleet.minutes_are_used(&runtime.id)
        {
            remembered.standing = Standing::Run;
        }
        match spec_of_record(record.spec) {
            Ok(spec) => {
                let draft = Draft {
                    id: record.id,
                    origin,
                    is_pooled: false,
                    created_at: moment(record.created_at),
                    spec,
                };
                Some(Found { runtime, draft, written, remembered })
            }
            Err(error) => {
                tracing::error!(session = %record.id, error, "a session is kept, but not understood");
                restored.unreadable += 1;
                None
            }
        }
    }

    fn restore(&mut self, found: Found, restored: &mut Restored, ctx: &mut Context<Self>) {
        let Found { runtime, draft, written, remembered } = found;
        let now = self.clock.now();
        let standing = remembered.standing.clone();
        let lifecycle = Lifecycle::restore(runtime.recovery(), remembered.clone(), now);
        let tenant = runtime.id.clone();
        let entry = self.entry(&runtime, draft, &lifecycle);
        match &standing {
            Standing::Stopped { at } => {
                restored.stopped += 1;
                if written.is_outdated_by(&remembered) {
                    self.journal.note(&entry, remembered);
                }
                runtime.metrics.session_moved(None, Some(entry.snapshot.load().state_name()));
                self.registry.insert(Arc::clone(&entry));
                self.remember_stopped(entry.id.clone(), &tenant, *at + self.limits.retention);
                return;
            }
            Standing::Parked(hold) => {
                restored.held += 1;
                let (session, cause) = (entry.id.clone(), ParkCause::of_restored(hold));
                self.fleet(FleetInput::Parked { session, tenant: tenant.clone(), cause }, ctx);
            }
            Standing::Dormant | Standing::Failed => restored.held += 1,
            Standing::Run => restored.started += 1,
        }
        *self.live.entry(tenant).or_default() += 1;
        let configuration = Configuration::of(&entry.spec.load());
        self.start(&runtime, &entry, Start { lifecycle, noted: remembered, configuration, client: None });
    }
}
