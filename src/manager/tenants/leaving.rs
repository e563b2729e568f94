//! The end of a tenant: nothing new of it begins, its connections are closed, its sessions are forgotten.

use std::sync::Arc;

use actix::{Context, Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use crate::{
    manager::actor::Manager,
    recovery::{FleetInput, SessionId, StateName, TenantId},
    session::{Operate, Operation, TenantRuntime},
};

/// A tenant that is on its way out.
pub(in crate::manager) struct Leaving {
    runtime: Arc<TenantRuntime>,
    operation: Operation,
    told: Vec<oneshot::Sender<()>>,
}

/// Ends what a tenant has that the roster has no more; answers when its last connection is closed.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::manager) struct Dismiss {
    pub(in crate::manager) runtime: Arc<TenantRuntime>,
    /// [`Operation::Delete`] ends its sessions for good. With [`Operation::Drain`] they stay in the store, and go on
    /// when the tenant is back.
    pub(in crate::manager) operation: Operation,
}

impl Handler<Dismiss> for Manager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, dismiss: Dismiss, ctx: &mut Self::Context) -> Self::Result {
        let Dismiss { runtime, operation } = dismiss;
        let tenant = runtime.id.clone();
        let (tell, told) = oneshot::channel();
        let new = || Leaving { runtime, operation, told: Vec::new() };
        self.leaving.entry(tenant.clone()).or_insert_with(new).told.push(tell);
        self.stopped.remove(&tenant);
        for entry in self.registry.of_tenant(&tenant) {
            if entry.snapshot.load().state_name() == StateName::Stopped {
                self.forget_leaving(&entry.id, &tenant);
            }
        }
        self.end_leaving();
        self.finish_leaving(&tenant, ctx);
        Box::pin(async move {
            // An error means that the manager is gone, and the sessions with it.
            let _manager_gone = told.await;
        })
    }
}

impl Manager {
    /// Tells the sessions of leaving tenants to end. Again from time to time: one whose actor was being made or
    /// rebuilt has missed it.
    pub(in crate::manager) fn end_leaving(&self) {
        for (tenant, leaving) in &self.leaving {
            for entry in self.registry.of_tenant(tenant) {
                if entry.snapshot.load().state_name() != StateName::Stopped
                    && let Some(address) = entry.address.load_full()
                {
                    // One for each session and second at most.
                    address.do_send(Operate(leaving.operation));
                }
            }
        }
    }

    /// A session has ended whose tenant is leaving: nobody will ask for it. Answers whether that is so.
    pub(in crate::manager) fn forget_leaving(&self, session: &SessionId, tenant: &TenantId) -> bool {
        let Some(leaving) = self.leaving.get(tenant) else { return false };
        if let Some(entry) = self.registry.get(session.as_str()) {
            self.registry.remove(&entry.id);
            if leaving.operation == Operation::Delete {
                self.journal.remove(&entry.id, None);
            }
            let state = entry.snapshot.load().state_name();
            leaving.runtime.metrics.session_moved(Some(state), None);
        }
        true
    }

    /// Tells whoever waits for a tenant's last session, where that was it.
    pub(in crate::manager) fn finish_leaving(&mut self, tenant: &TenantId, ctx: &mut Context<Self>) {
        let is_empty = self.live.get(tenant).is_none_or(|&live| live == 0);
        if !is_empty {
            return;
        }
        let Some(Leaving { runtime, told, .. }) = self.leaving.remove(tenant) else { return };
        if runtime.suspension().is_some() {
            runtime.metrics.resumed();
            runtime.set_suspension(None);
        }
        self.live.remove(tenant);
        self.pool.forget_tenant(tenant);
        self.fleet(FleetInput::TenantGone { tenant: tenant.clone() }, ctx);
        for told in told {
            // Whoever waited may have given up at its deadline.
            let _gave_up = told.send(());
        }
    }
}
