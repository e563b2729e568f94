//! A tenant as its sessions and whoever makes them share it, on every thread.
//!
//! What the tenant *is* changes at run time as one value, its [`TenantTerms`]: readers load it without a lock, and
//! see the old terms or the new ones, never a mixture. What it *has used* stays as it is over such a change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::OutboxBudget;
use crate::{
    events::TenantQuota,
    recovery::{Moment, RecoveryConfig, TenantId, fleet::Suspension},
    telemetry::{TenantMetrics, TenantUsage},
    tenants::{Quotas, Tenant},
};

/// How often it is told at most that a quota refuses: a flood of refusals is one piece of news.
const QUOTA_NEWS_EVERY: Duration = Duration::from_secs(60);

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
    quota_news: QuotaNews,
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
            quota_news: QuotaNews::default(),
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

    /// Whether it is news that a quota refuses: of those that ask in one minute, one is told yes.
    pub(super) fn quota_is_news(&self, quota: TenantQuota, now: Moment) -> bool {
        self.quota_news.is_news(quota, now)
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

/// When each quota was last told to be reached: milliseconds since 1970, 0 for never.
#[derive(Default)]
struct QuotaNews([AtomicU64; TenantQuota::COUNT]);

impl QuotaNews {
    fn is_news(&self, quota: TenantQuota, now: Moment) -> bool {
        let now = u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX);
        let told = &self.0[quota as usize];
        let last = told.load(Ordering::Relaxed);
        let is_due = last == 0 || now.saturating_sub(last) >= QUOTA_NEWS_EVERY.as_millis() as u64;
        is_due && told.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quota_is_news_once_a_minute_however_often_it_refuses() {
        let news = QuotaNews::default();
        let at = |seconds| Moment::at(Duration::from_secs(1_700_000_000 + seconds));
        let (sessions, starts) = (TenantQuota::MaxSessions, TenantQuota::MaxStartsPerMinute);
        let told = (0..180_u64).filter(|second| news.is_news(sessions, at(*second))).collect::<Vec<_>>();
        assert_eq!(told, [0, 60, 120]);
        assert!(news.is_news(starts, at(121)) && !news.is_news(starts, at(122)));
    }
}
