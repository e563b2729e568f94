//! All metrics in one value.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::{Counter, Gauge, Histogram};

use super::{
    BreakerLabel, Direction, Invariant, TraceOutcome,
    families::{
        BREAKER_STATE, BUILD_INFO, BYTES, CLIENTS, EVENT_STREAMS, FIRST_FRAME_SECONDS, FRAMES, Family,
        GATE_WAITING, HANDSHAKE_SECONDS, HISTORY_LOST, HOST_SHORTAGES, INVARIANT_BREACHES, OUTBOX_BYTES,
        RECOVERY_SECONDS, RESTARTS, Registry, SESSION_ERRORS, STORE_COMMIT_SECONDS, TLS_EXPIRY, TLS_RELOADS,
        TOKEN_SECONDS, TRACES,
    },
    tenant::TenantMetrics,
    webhooks::WebhookMetrics,
};
use crate::{
    errors::{ErrorCode, Phase, Shortage},
    recovery::TenantId,
};

/// The label of tenants beyond the configured number of labels.
const OTHER_TENANTS: &str = "_other";

/// Every metric of Greenroom.
///
/// Series that can be known in advance exist at 0 from the start, so that `increase()` sees the first event.
/// Handles are made once: recording through one takes some ten nanoseconds. Several values are independent
/// of each other.
pub struct Metrics {
    registry: Registry,
    max_tenant_labels: usize,
    /// Those with a label of their own, and the one that the rest shares.
    tenants: Mutex<BTreeMap<TenantId, Arc<TenantMetrics>>>,
    errors: [[Counter; Phase::ALL.len()]; ErrorCode::ALL.len()],
    restarts: [Counter; ErrorCode::ALL.len()],
    breaches: [Counter; Invariant::ALL.len()],
    shortages: [Counter; Shortage::ALL.len()],
    traces: [Counter; TraceOutcome::ALL.len()],
    /// Errors by code, for whoever wants the number and not the text.
    error_counts: [AtomicU64; ErrorCode::ALL.len()],
    traffic: [Traffic; Direction::ALL.len()],
    outbox_bytes: Gauge,
    clients: Gauge,
    event_streams: Gauge,
    history_lost: Counter,
    webhooks: WebhookMetrics,
    recovery_seconds: Histogram,
    first_frame_seconds: Histogram,
    token_ok_seconds: Histogram,
    handshake_ok_seconds: Histogram,
    store_commit_seconds: Histogram,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("max_tenant_labels", &self.max_tenant_labels).finish_non_exhaustive()
    }
}

impl Metrics {
    /// All metrics at 0. The first `max_tenant_labels` tenants get series of their own, about 75 each.
    pub fn new(max_tenant_labels: usize) -> Self {
        let registry = Registry::new();
        let commit = option_env!("GREENROOM_COMMIT").unwrap_or("unknown");
        let build = [("version", env!("CARGO_PKG_VERSION")), ("commit", commit)];
        registry.gauge(&BUILD_INFO, &build).set(1.0);
        Self {
            errors: ErrorCode::ALL.map(|code| {
                Phase::ALL.map(|phase| {
                    let labels = [("code", code.as_str()), ("phase", phase.as_str())];
                    registry.counter(&SESSION_ERRORS, &labels)
                })
            }),
            restarts: ErrorCode::ALL.map(|code| registry.counter(&RESTARTS, &[("code", code.as_str())])),
            breaches: Invariant::ALL
                .map(|invariant| registry.counter(&INVARIANT_BREACHES, &[("invariant", invariant.as_str())])),
            shortages: Shortage::ALL
                .map(|what| registry.counter(&HOST_SHORTAGES, &[("resource", what.as_str())])),
            traces: TraceOutcome::ALL
                .map(|outcome| registry.counter(&TRACES, &[("outcome", outcome.as_str())])),
            traffic: Direction::ALL.map(|direction| {
                let labels = [("direction", direction.as_str())];
                Traffic {
                    frames: registry.counter(&FRAMES, &labels),
                    bytes: registry.counter(&BYTES, &labels),
                }
            }),
            outbox_bytes: registry.gauge(&OUTBOX_BYTES, &[]),
            clients: registry.gauge(&CLIENTS, &[]),
            event_streams: registry.gauge(&EVENT_STREAMS, &[]),
            history_lost: registry.counter(&HISTORY_LOST, &[]),
            webhooks: WebhookMetrics::new(&registry),
            recovery_seconds: registry.histogram(&RECOVERY_SECONDS, &[]),
            first_frame_seconds: registry.histogram(&FIRST_FRAME_SECONDS, &[]),
            token_ok_seconds: registry.histogram(&TOKEN_SECONDS, &[("outcome", "ok")]),
            handshake_ok_seconds: registry.histogram(&HANDSHAKE_SECONDS, &[("outcome", "ok")]),
            store_commit_seconds: registry.histogram(&STORE_COMMIT_SECONDS, &[]),
            error_counts: ErrorCode::ALL.map(|_| AtomicU64::new(0)),
            tenants: Mutex::default(),
            max_tenant_labels,
            registry,
        }
    }

    /// The tenant's metrics, registered at 0 the first time. Keep the result: this takes a lock.
    pub fn tenant(&self, id: &TenantId) -> Arc<TenantMetrics> {
        // A poisoned lock still guards a whole map: nothing in here leaves it half changed.
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = tenants.get(id) {
            return Arc::clone(metrics);
        }
        let other = TenantId::from(OTHER_TENANTS);
        let named = tenants.len() - usize::from(tenants.contains_key(&other));
        let label = if named < self.max_tenant_labels { id.clone() } else { other };
        let new = |label: &TenantId| Arc::new(TenantMetrics::new(&self.registry, label.as_str()));
        Arc::clone(tenants.entry(label).or_insert_with_key(new))
    }

    /// The metrics of an upstream. Its name is one from the configuration, so their number is bounded.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        let labels = [("upstream", name)];
        UpstreamMetrics {
            breaker_state: self.registry.gauge(&BREAKER_STATE, &labels),
            gate_waiting: self.registry.gauge(&GATE_WAITING, &labels),
        }
    }

    /// The metrics of a listener's TLS.
    pub fn tls(&self, listener: &str) -> TlsMetrics {
        let reloads =
            |result| self.registry.counter(&TLS_RELOADS, &[("listener", listener), ("result", result)]);
        TlsMetrics {
            expiry: self.registry.gauge(&TLS_EXPIRY, &[("listener", listener)]),
            ok: reloads("ok"),
            error: reloads("error"),
        }
    }

    /// An error of a session: counts it in all and for its tenant.
    pub fn error(&self, tenant: &TenantMetrics, code: ErrorCode, phase: Phase) {
        self.errors[code.index()][phase as usize].increment(1);
        self.error_counts[code.index()].fetch_add(1, Ordering::Relaxed);
        tenant.error(code);
    }

    /// Errors of all sessions with `code` since the start.
    pub fn error_count(&self, code: ErrorCode) -> u64 {
        self.error_counts[code.index()].load(Ordering::Relaxed)
    }

    /// A session is restarted because of `code`.
    pub fn restart(&self, code: ErrorCode) {
        self.restarts[code.index()].increment(1);
    }

    /// A session is running again, `took` after it lost its connection.
    pub fn recovered(&self, took: Duration) {
        self.recovery_seconds.record(took);
    }

    /// A call for a session token ended.
    pub fn token_request(&self, outcome: Result<(), ErrorCode>, took: Duration) {
        self.step(&self.token_ok_seconds, &TOKEN_SECONDS, outcome, took);
    }

    /// Connect and handshake ended.
    pub fn handshake(&self, outcome: Result<(), ErrorCode>, took: Duration) {
        self.step(&self.handshake_ok_seconds, &HANDSHAKE_SECONDS, outcome, took);
    }

    fn step(&self, ok: &Histogram, family: &Family, outcome: Result<(), ErrorCode>, took: Duration) {
        match outcome {
            Ok(()) => ok.record(took),
            // Looked up each time: 20 codes with a dozen buckets each are not worth having at 0, since
            // greenroom_session_errors_total counts the same events.
            Err(code) => self.registry.histogram(family, &[("outcome", code.as_str())]).record(took),
        }
    }

    /// A request's first frame came, `took` after its first audio was accepted.
    pub fn first_frame(&self, took: Duration) {
        self.first_frame_seconds.record(took);
    }

    /// The store has tried a commit.
    pub fn store_commit(&self, took: Duration) {
        self.store_commit_seconds.record(took);
    }

    /// The counters of messages in one direction.
    pub const fn traffic(&self, direction: Direction) -> &Traffic {
        &self.traffic[direction.index()]
    }

    /// The bytes in all outboxes. Add and subtract: sessions share it.
    pub const fn outbox_bytes(&self) -> &Gauge {
        &self.outbox_bytes
    }

    /// Counts a client as seated until the result is dropped.
    pub fn client(&self) -> Counted {
        Counted::new(&self.clients)
    }

    /// Counts a stream of events as open until the result is dropped.
    pub fn event_stream(&self) -> Counted {
        Counted::new(&self.event_streams)
    }

    /// What is counted of webhooks.
    pub const fn webhooks(&self) -> &WebhookMetrics {
        &self.webhooks
    }

    /// An event will be missing in a session's history.
    pub fn history_lost(&self) {
        self.history_lost.increment(1);
    }

    /// An invariant was seen broken.
    pub fn breach(&self, invariant: Invariant) {
        self.breaches[invariant.index()].increment(1);
    }

    /// An attempt failed for want of something on this machine.
    pub fn shortage(&self, what: Shortage) {
        self.shortages[what as usize].increment(1);
    }

    /// This became of `count` traces.
    pub fn traces(&self, outcome: TraceOutcome, count: u64) {
        self.traces[outcome.index()].increment(count);
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.registry.handle.render()
    }

    /// Folds recorded samples into the histograms. Call it every few seconds, or memory grows with each sample
    /// until the next scrape.
    pub fn upkeep(&self) {
        self.registry.handle.run_upkeep();
    }
}

/// Something that counts as there while this lives, so that a panic cannot leave it counted.
#[derive(Debug)]
pub struct Counted {
    gauge: Gauge,
}

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self { gauge: gauge.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
    }
}

/// Messages and bytes in one direction.
pub struct Traffic {
    frames: Counter,
    bytes: Counter,
}

impl Traffic {
    /// Counts one message of `bytes`.
    pub fn message(&self, bytes: usize) {
        self.frames.increment(1);
        self.bytes.increment(bytes as u64);
    }
}

/// The metrics of one upstream.
pub struct UpstreamMetrics {
    breaker_state: Gauge,
    gate_waiting: Gauge,
}

impl UpstreamMetrics {
    /// The breaker's state now.
    pub fn breaker(&self, state: BreakerLabel) {
        self.breaker_state.set(state.index() as f64);
    }

    /// How many attempts wait at the gate now.
    pub fn gate_waiting(&self, attempts: usize) {
        self.gate_waiting.set(attempts as f64);
    }
}

/// The metrics of one listener's TLS.
pub struct TlsMetrics {
    expiry: Gauge,
    ok: Counter,
    error: Counter,
}

impl TlsMetrics {
    /// A certificate that ends at `expires` is served now.
    pub fn loaded(&self, expires: SystemTime) {
        self.expiry.set(expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    }

    /// Changed files were taken.
    pub fn reloaded(&self) {
        self.ok.increment(1);
    }

    /// Changed files cannot be used.
    pub fn reload_failed(&self) {
        self.error.increment(1);
    }
}
