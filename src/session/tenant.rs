//! A tenant as its sessions and whoever makes them share it, on every thread.
//!
//! What the tenant *is* changes at run time as one value, its [`TenantTerms`]: readers load it without a lock, and
//! see the old terms or the new ones, never a mixture. What it *has used* stays as it is over such a change.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::OutboxBudget;
use crate::{
    recovery::{RecoveryConfig, TenantId, fleet::Suspension},
    telemetry::{TenantMetrics, TenantUsage},
    tenants::{Quotas, Tenant},
};

/// What a tenant is, and what its sessions do about errors.
#[derive(Clone, Debug)]
pub struct TenantTerms {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// What its sessions do about errors.
    pub recovery: Arc<RecoveryConfig>,
}

/// A tenant, with what its sessions share.
pub struct TenantRuntime {
    /// Its id.
    pub id: TenantId,
    /// Its metrics, which it may share with tenants that have no label of their own.
    pub metrics: Arc<TenantMetrics>,
    /// What its connections cost.
    pub usage: Arc<TenantUsage>,
    /// What the outboxes of its sessions may hold together.
    pub outbox: Arc<OutboxBudget>,
    /// How fast it may ask.
    pub quotas: Quotas,
    terms: ArcSwap<TenantTerms>,
    suspension: ArcSwapOption<Suspension>,
}

impl TenantRuntime {
    /// A tenant of these terms, which has used nothing yet.
    pub fn new(terms: TenantTerms, metrics: Arc<TenantMetrics>) -> Self {
        let tenant = &terms.tenant;
        Self {
            id: tenant.id.clone(),
            metrics,
            usage: Arc::default(),
            outbox: Arc::new(OutboxBudget::new(tenant.outbox_bytes)),
            quotas: Quotas::new(tenant),
            terms: ArcSwap::from_pointee(terms),
            suspension: ArcSwapOption::empty(),
        }
    }

    /// What the tenant is now.
    pub fn tenant(&self) -> Arc<Tenant> {
        Arc::clone(&self.terms.load().tenant)
    }

    /// What its sessions do about errors now.
    pub fn recovery(&self) -> Arc<RecoveryConfig> {
        Arc::clone(&self.terms.load().recovery)
    }

    /// Why and since when it is suspended.
    pub fn suspension(&self) -> Option<Suspension> {
        self.suspension.load().as_deref().copied()
    }

    pub(crate) fn set_terms(&self, terms: TenantTerms) {
        self.outbox.set_bound(terms.tenant.outbox_bytes);
        self.quotas.change(&terms.tenant);
        self.terms.store(Arc::new(terms));
    }

    pub(crate) fn set_suspension(&self, suspension: Option<Suspension>) {
        self.suspension.store(suspension.map(Arc::new));
    }
}
