//! The metrics that have a tenant label.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge};

use super::{
    RequestOutcome, TenantUsage,
    families::{
        BUDGET_EXHAUSTED, CONNECTED_SECONDS, FAILURES, PARKS, REQUESTS, Registry, SESSIONS, TENANT_ERRORS,
        TENANT_SUSPENDED, UPSTREAM_CONNECTIONS,
    },
};
use crate::{errors::ErrorCode, recovery::StateName};

type ByCode = [Counter; ErrorCode::ALL.len()];

/// One tenant's metrics, or those of all tenants that have no label of their own.
///
/// Since several may share it, gauges go up and down and are never set.
pub struct TenantMetrics {
    errors: ByCode,
    parks: ByCode,
    failures: ByCode,
    sessions: [Gauge; StateName::ALL.len()],
    requests: [Counter; RequestOutcome::ALL.len()],
    connections: Gauge,
    connected_seconds: Counter,
    /// All the time counted so far, of which `connected_seconds` has the whole seconds.
    connected_micros: AtomicU64,
    suspended: Gauge,
    budget_exhausted: Counter,
}

impl TenantMetrics {
    pub(super) fn new(registry: &Registry, tenant: &str) -> Self {
        let tenant = ("tenant", tenant);
        let by_code =
            |family| ErrorCode::ALL.map(|code| registry.counter(family, &[("code", code.as_str()), tenant]));
        Self {
            errors: by_code(&TENANT_ERRORS),
            parks: by_code(&PARKS),
            failures: by_code(&FAILURES),
            sessions: StateName::ALL
                .map(|state| registry.gauge(&SESSIONS, &[("state", state.as_str()), tenant])),
            requests: RequestOutcome::ALL
                .map(|outcome| registry.counter(&REQUESTS, &[("outcome", outcome.as_str()), tenant])),
            connections: registry.gauge(&UPSTREAM_CONNECTIONS, &[tenant]),
            connected_seconds: registry.counter(&CONNECTED_SECONDS, &[tenant]),
            connected_micros: AtomicU64::new(0),
            suspended: registry.gauge(&TENANT_SUSPENDED, &[tenant]),
            budget_exhausted: registry.counter(&BUDGET_EXHAUSTED, &[tenant]),
        }
    }

    /// An error of a session; called by [`Metrics::error`](super::Metrics::error).
    pub(super) fn error(&self, code: ErrorCode) {
        self.errors[code.index()].increment(1);
    }

    /// A session was parked.
    pub fn park(&self, code: ErrorCode) {
        self.parks[code.index()].increment(1);
    }

    /// A session failed for good.
    pub fn failure(&self, code: ErrorCode) {
        self.failures[code.index()].increment(1);
    }

    /// A session used up its restart budget.
    pub fn budget_exhausted(&self) {
        self.budget_exhausted.increment(1);
    }

    /// A session changed its state: `None` before it was created, and after it was forgotten.
    pub fn session_moved(&self, from: Option<StateName>, to: Option<StateName>) {
        if let Some(from) = from {
            self.sessions[from.index()].decrement(1.0);
        }
        if let Some(to) = to {
            self.sessions[to.index()].increment(1.0);
        }
    }

    /// A request has its outcome.
    pub fn request(&self, outcome: RequestOutcome) {
        self.requests[outcome.index()].increment(1);
    }

    /// The tenant was suspended. Call it once for each suspension.
    pub fn suspended(&self) {
        self.suspended.increment(1.0);
    }

    /// The tenant's suspension ended. Call it once for each suspension.
    pub fn resumed(&self) {
        self.suspended.decrement(1.0);
    }

    /// Counts a connection as open until the result is dropped, here and in what its tenant uses.
    pub fn connection(self: &Arc<Self>, usage: &Arc<TenantUsage>) -> OpenConnection {
        self.connections.increment(1.0);
        usage.opened();
        OpenConnection { tenant: Arc::clone(self), usage: Arc::clone(usage), counted_to: Instant::now() }
    }

    /// Counts time that a connection was open. The counter has whole seconds only; what is left over is kept
    /// for the next call of any connection of the tenant, so that nothing is lost to rounding.
    fn add_connected(&self, span: Duration) {
        const SECOND: u64 = 1_000_000;
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let before = self.connected_micros.fetch_add(micros, Ordering::Relaxed);
        let after = before.wrapping_add(micros);
        self.connected_seconds.increment((after / SECOND).saturating_sub(before / SECOND));
    }
}

/// A connection to the avatar service that counts as open while this lives.
///
/// A value that is dropped, and not a call at the end, because a panic in a session's code skips calls but drops
/// values.
pub struct OpenConnection {
    tenant: Arc<TenantMetrics>,
    usage: Arc<TenantUsage>,
    counted_to: Instant,
}

impl OpenConnection {
    /// Counts the time since the last call, or since the connection was opened. Call it every few seconds: a
    /// connection may last for days, and its bill should be seen while it grows.
    pub fn count_time(&mut self) {
        let now = Instant::now();
        let span = now.saturating_duration_since(self.counted_to);
        self.tenant.add_connected(span);
        self.counted_to = now;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.count_time();
        self.usage.closed();
        self.tenant.connections.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{recovery::TenantId, telemetry::Metrics};

    #[test]
    fn parts_of_seconds_add_up_over_connections() {
        let metrics = Metrics::new(1);
        let tenant = metrics.tenant(&TenantId::from("acme"));
        for _ in 0..3 {
            tenant.add_connected(Duration::from_millis(700));
        }
        let text = metrics.render();
        assert!(text.contains("greenroom_connected_seconds_total{tenant=\"acme\"} 2\n"), "{text}");
    }

    #[test]
    fn a_connection_counts_as_open_until_it_is_dropped_even_by_a_panic() {
        let metrics = Metrics::new(1);
        let tenant = metrics.tenant(&TenantId::from("acme"));
        let open = |count: u32| format!("greenroom_upstream_connections{{tenant=\"acme\"}} {count}\n");
        let usage = Arc::default();
        let first = tenant.connection(&usage);
        let second = tenant.connection(&usage);
        assert!(metrics.render().contains(&open(2)));
        drop(first);
        assert!(metrics.render().contains(&open(1)));
        let crash = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = second;
            std::panic::resume_unwind(Box::new("a crash"));
        }));
        assert!(crash.is_err());
        assert!(metrics.render().contains(&open(0)));
    }
}
