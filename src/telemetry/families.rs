//! The names, the help and the buckets of all metrics. The names are a contract: alerts and dashboards are
//! written on them.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// A metric's name and what a person reads about it.
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
}

macro_rules! families {
    ($($constant:ident = $name:literal, $help:literal;)*) => {
        $(pub(super) const $constant: Family = Family { name: concat!("greenroom_", $name), help: $help };)*
    };
}

families! {
    SESSION_ERRORS = "session_errors_total",
        "Errors of sessions by code and the phase they happened in.";
    TENANT_ERRORS = "tenant_errors_total", "Errors of sessions by code and tenant.";
    UPSTREAM_CONNECTIONS = "upstream_connections",
        "Connections to the avatar service that are open now, which is what costs money.";
    CONNECTED_SECONDS = "connected_seconds_total",
        "Whole seconds that connections to the avatar service were open, which is what is billed.";
    TENANT_SUSPENDED = "tenant_suspended",
        "1 while a tenant is suspended for billing or a refused API key; for _other, how many are.";
    BUDGET_EXHAUSTED = "restart_budget_exhausted_total",
        "Sessions that failed because they used up their restart budget.";
    SESSIONS = "sessions", "Sessions by state.";
    RESTARTS = "session_restarts_total", "Restarts of sessions by the code that caused them.";
    PARKS = "session_parks_total", "Sessions parked, by code.";
    FAILURES = "session_failures_total", "Sessions failed for good until a person acts, by code.";
    RECOVERY_SECONDS = "session_recovery_seconds",
        "Seconds from the loss of a session's connection until it is running again.";
    TOKEN_SECONDS = "token_request_seconds",
        "Seconds of calls for a session token; outcome is ok or the error code.";
    HANDSHAKE_SECONDS = "handshake_seconds",
        "Seconds from the begin of a connection until the service confirmed the session; outcome is ok or the error code.";
    REQUESTS = "requests_total", "Requests for audio by how they ended.";
    FIRST_FRAME_SECONDS = "request_first_frame_seconds",
        "Seconds from a request's first accepted audio, which may wait for a connection, until its first frame came.";
    FRAMES = "frames_total",
        "Messages on connections to the avatar service; up is to the service, down is from it.";
    BYTES = "bytes_total",
        "Bytes of messages on connections to the avatar service; up is to the service, down is from it.";
    OUTBOX_BYTES = "outbox_bytes", "Bytes of audio that were accepted and wait to be sent.";
    CLIENTS = "clients", "Clients that sit in a session now.";
    BREAKER_STATE = "breaker_state", "State of the upstream's breaker: 0 closed, 1 half-open, 2 open.";
    GATE_WAITING = "gate_waiting", "Attempts that wait at the upstream's storm gate.";
    HOST_SHORTAGES = "host_shortages_total",
        "Attempts that failed for want of something on Greenroom's own machine: ports (local ports towards the service) or descriptors (open files).";
    STORE_COMMIT_SECONDS = "store_commit_seconds",
        "Seconds of commits of the store, from the begin of the transaction to the end of the sync, or of the write to the log where none is waited for; one commit may take many writes.";
    HISTORY_LOST = "history_lost_total",
        "Events that are missing in the kept histories of sessions, since the store took nothing for too long.";
    EVENT_STREAMS = "event_streams", "Streams of events that are open now, on both listeners.";
    INVARIANT_BREACHES = "invariant_breaches_total",
        "Breaches of Greenroom's invariants that it noticed itself: each is a bug to report.";
    TLS_EXPIRY = "tls_certificate_expiry_seconds",
        "When the certificate that a listener serves ends, in seconds of Unix time.";
    TLS_RELOADS = "tls_reloads_total",
        "Changed certificate files that were looked at; result is ok, or error where the old certificate is served on.";
    TRACES = "traces_total",
        "Traces of attempts and requests: exported to the collector, dropped because it was away or too slow, or sampled_out by configuration.";
    WEBHOOK_DELIVERIES = "webhook_deliveries_total",
        "Attempts to deliver a webhook by how they ended: delivered is an answer of 2xx, refused another one.";
    WEBHOOK_DROPPED = "webhook_dropped_total",
        "Webhooks that were given up, by reason; with gap, events that were not looked at in time.";
    WEBHOOK_QUEUE = "webhook_queue", "Webhooks that are neither delivered nor given up.";
    WEBHOOK_DISABLED = "webhook_endpoints_disabled",
        "Endpoints that answered 410 Gone and get nothing until an operator enables them.";
    BUILD_INFO = "build_info", "Always 1; the labels tell the version and the commit that is running.";
}

/// Steps towards a session: a healthy service answers within 50 to 500 ms, and the default deadline is 10 s.
/// Beyond stands one bucket for deployments that raised it.
const STEP_BUCKETS: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Recovery: a quick restart takes under a second, the longest backoff and the breaker add up to a minute each,
/// and an outage of the service may last an hour.
const RECOVERY_BUCKETS: [f64; 11] = [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0];

/// The first frame: what a listener feels as a pause, finest between 0.1 and 1 s.
const FIRST_FRAME_BUCKETS: [f64; 11] = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0];

/// Commits: a sync takes under a millisecond to some ten, a disk that is struggling a second; beyond, the deadline of
/// whoever waits passes.
const COMMIT_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Every histogram: one without buckets would be rendered as a summary, which cannot be added up over nodes.
const HISTOGRAMS: [(Family, &[f64]); 5] = [
    (RECOVERY_SECONDS, &RECOVERY_BUCKETS),
    (TOKEN_SECONDS, &STEP_BUCKETS),
    (HANDSHAKE_SECONDS, &STEP_BUCKETS),
    (FIRST_FRAME_SECONDS, &FIRST_FRAME_BUCKETS),
    (STORE_COMMIT_SECONDS, &COMMIT_BUCKETS),
];

const METADATA: Metadata<'static> = Metadata::new("greenroom", Level::INFO, Some(module_path!()));

/// Registers series, each with its help. Not the process's global recorder, so that several can live in one
/// process.
pub(super) struct Registry {
    recorder: PrometheusRecorder,
    pub(super) handle: PrometheusHandle,
}

impl Registry {
    pub(super) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "start-up: only an empty list of buckets is refused")]
        let builder = HISTOGRAMS.iter().fold(PrometheusBuilder::new(), |builder, (family, buckets)| {
            builder
                .set_buckets_for_metric(Matcher::Full(family.name.to_owned()), buckets)
                .expect("a list of buckets that is not empty")
        });
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    /// The counter with these labels, which is there from now on, at 0 if it is new.
    pub(super) fn counter(&self, family: &Family, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.describe_counter(family.name.into(), None, family.help.into());
        self.recorder.register_counter(&key(family, labels), &METADATA)
    }

    /// The gauge with these labels, which is there from now on, at 0 if it is new.
    pub(super) fn gauge(&self, family: &Family, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.describe_gauge(family.name.into(), None, family.help.into());
        self.recorder.register_gauge(&key(family, labels), &METADATA)
    }

    /// The histogram with these labels, which is there from now on.
    pub(super) fn histogram(&self, family: &Family, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.describe_histogram(family.name.into(), None, family.help.into());
        self.recorder.register_histogram(&key(family, labels), &METADATA)
    }
}

fn key(family: &Family, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(family.name, labels)
}
