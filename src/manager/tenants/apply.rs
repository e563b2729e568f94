//! The manager's part of a change: the new roster and terms, in one turn of its actor.

use std::sync::Arc;

use actix::{Handler, Message};
use secrecy::ExposeSecret as _;

use super::Roster;
use crate::{
    manager::actor::Manager,
    recovery::FleetInput,
    session::{Reconfigure, TenantRuntime, TenantTerms},
    tenants::Tenant,
};

/// Makes a change hold: whoever asks before sees what was, whoever asks after sees what is.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::manager) struct Apply {
    /// Who is there from now on.
    pub(in crate::manager) roster: Roster,
    /// The tenants whose terms are others from now on.
    pub(in crate::manager) changed: Vec<(Arc<TenantRuntime>, TenantTerms)>,
}

impl Handler<Apply> for Manager {
    type Result = ();

    fn handle(&mut self, Apply { roster, changed }: Apply, ctx: &mut Self::Context) {
        for tenant in roster.iter() {
            self.leaving.remove(&tenant.id);
        }
        let mut released = Vec::new();
        for (runtime, terms) in changed {
            if is_another_account(&runtime.tenant(), &terms.tenant) {
                released.push(runtime.id.clone());
            }
            runtime.set_terms(terms);
            self.tell_sessions(&runtime);
        }
        self.tenants.store(Arc::new(roster));
        // What the old account was refused says nothing of the new one. Its sessions come through the gate.
        for tenant in released {
            self.fleet(FleetInput::Unsuspend { tenant }, ctx);
        }
        self.look_at_minutes(ctx);
        self.close_pools();
        self.fill_pools(ctx);
    }
}

impl Manager {
    /// Sessions whose actor is being rebuilt load the terms anyway when they are back.
    fn tell_sessions(&self, runtime: &TenantRuntime) {
        for entry in self.registry.of_tenant(&runtime.id) {
            if let Some(address) = entry.address.load_full() {
                // One message for each session and change, of which there is one at a time.
                address.do_send(Reconfigure);
            }
        }
    }
}

/// Whether the service may answer otherwise to what it refused before.
fn is_another_account(before: &Tenant, after: &Tenant) -> bool {
    before.upstream_api_key.expose_secret() != after.upstream_api_key.expose_secret()
        || before.app_id != after.app_id
}
