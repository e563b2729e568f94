//! What Prometheus sees.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot run its subject has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, Write},
    process::{Command, Stdio},
    time::Duration,
};

use greenroom::{
    errors::{ErrorCode, Phase, Shortage},
    recovery::{StateName, TenantId},
    telemetry::{BreakerLabel, Direction, Invariant, Metrics, RequestOutcome},
};

/// The contract: every metric, its type and its labels.
const FAMILIES: [(&str, &str, &[&str]); 34] = [
    ("greenroom_session_errors_total", "counter", &["code", "phase"]),
    ("greenroom_tenant_errors_total", "counter", &["code", "tenant"]),
    ("greenroom_upstream_connections", "gauge", &["tenant"]),
    ("greenroom_connected_seconds_total", "counter", &["tenant"]),
    ("greenroom_tenant_suspended", "gauge", &["tenant"]),
    ("greenroom_restart_budget_exhausted_total", "counter", &["tenant"]),
    ("greenroom_sessions", "gauge", &["state", "tenant"]),
    ("greenroom_session_restarts_total", "counter", &["code"]),
    ("greenroom_session_parks_total", "counter", &["code", "tenant"]),
    ("greenroom_session_failures_total", "counter", &["code", "tenant"]),
    ("greenroom_session_recovery_seconds", "histogram", &[]),
    ("greenroom_token_request_seconds", "histogram", &["outcome"]),
    ("greenroom_handshake_seconds", "histogram", &["outcome"]),
    ("greenroom_requests_total", "counter", &["outcome", "tenant"]),
    ("greenroom_request_first_frame_seconds", "histogram", &[]),
    ("greenroom_frames_total", "counter", &["direction"]),
    ("greenroom_bytes_total", "counter", &["direction"]),
    ("greenroom_outbox_bytes", "gauge", &[]),
    ("greenroom_clients", "gauge", &[]),
    ("greenroom_breaker_state", "gauge", &["upstream"]),
    ("greenroom_gate_waiting", "gauge", &["upstream"]),
    ("greenroom_store_commit_seconds", "histogram", &[]),
    ("greenroom_tls_certificate_expiry_seconds", "gauge", &["listener"]),
    ("greenroom_tls_reloads_total", "counter", &["listener", "result"]),
    ("greenroom_host_shortages_total", "counter", &["resource"]),
    ("greenroom_history_lost_total", "counter", &[]),
    ("greenroom_event_streams", "gauge", &[]),
    ("greenroom_webhook_deliveries_total", "counter", &["outcome"]),
    ("greenroom_webhook_dropped_total", "counter", &["reason"]),
    ("greenroom_webhook_queue", "gauge", &[]),
    ("greenroom_webhook_endpoints_disabled", "gauge", &[]),
    ("greenroom_invariant_breaches_total", "counter", &["invariant"]),
    ("greenroom_traces_total", "counter", &["outcome"]),
    ("greenroom_build_info", "gauge", &["commit", "version"]),
];

fn tenant_id(text: &str) -> TenantId {
    TenantId::from(text)
}

/// Metrics as they are once a tenant and an upstream are known.
fn fresh() -> Metrics {
    let metrics = Metrics::new(10);
    let _acme = metrics.tenant(&tenant_id("acme"));
    let _upstream = metrics.upstream("main");
    let _tls = metrics.tls("server");
    metrics
}

/// Calls everything that can be called, with every label.
fn exercise(metrics: &Metrics) {
    let tenant = metrics.tenant(&tenant_id("acme"));
    let took = Duration::from_millis(120);
    for code in ErrorCode::ALL {
        for phase in Phase::ALL {
            metrics.error(&tenant, code, phase);
        }
        metrics.restart(code);
        metrics.token_request(Err(code), took);
        metrics.handshake(Err(code), took);
        tenant.park(code);
        tenant.failure(code);
    }
    metrics.token_request(Ok(()), took);
    metrics.handshake(Ok(()), took);
    metrics.recovered(took);
    metrics.first_frame(took);
    metrics.store_commit(took);
    StateName::ALL.into_iter().for_each(|state| tenant.session_moved(None, Some(state)));
    tenant.session_moved(Some(StateName::Starting), Some(StateName::Running));
    RequestOutcome::ALL.into_iter().for_each(|outcome| tenant.request(outcome));
    Invariant::ALL.into_iter().for_each(|invariant| metrics.breach(invariant));
    Shortage::ALL.into_iter().for_each(|what| metrics.shortage(what));
    metrics.traffic(Direction::Up).message(1000);
    metrics.traffic(Direction::Down).message(10);
    metrics.traffic(Direction::Down).message(20);
    metrics.outbox_bytes().increment(4096.0);
    tenant.suspended();
    tenant.budget_exhausted();
    let mut connection = tenant.connection(&std::sync::Arc::default());
    connection.count_time();
    let upstream = metrics.upstream("main");
    upstream.breaker(BreakerLabel::Open);
    upstream.gate_waiting(7);
    metrics.upkeep();
}

/// A sample's value by its name with labels, as it stands in the text. Labels keep their order.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series, value.parse().unwrap())
        })
        .collect()
}

#[track_caller]
fn assert_value(text: &str, series: &str, expected: f64) {
    let found = samples(text).get(series).copied();
    assert_eq!(found, Some(expected), "{series}");
}

fn labels(series: &str) -> BTreeSet<&str> {
    let Some((_, labels)) = series.split_once('{') else { return BTreeSet::new() };
    labels
        .trim_end_matches('}')
        .split(',')
        .map(|label| label.split_once('=').unwrap().0)
        .filter(|name| *name != "le")
        .collect()
}

#[test]
fn promtool_has_no_complaint_about_a_full_page() {
    let metrics = fresh();
    exercise(&metrics);
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match spawned {
        Ok(promtool) => promtool,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("promtool is missing: install it (Debian: apt-get install prometheus) to run this test")
        }
        Err(error) => panic!("promtool does not start: {error}"),
    };
    promtool.stdin.take().unwrap().write_all(metrics.render().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}

#[test]
fn every_metric_of_the_contract_is_there_from_the_start_with_help_type_and_labels() {
    let text = fresh().render();
    let mut helped = BTreeSet::new();
    let mut types = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(help.ends_with('.') || help.contains(';') || help.contains(':'), "{line}");
            helped.insert(name);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            types.insert(name, kind);
        }
    }
    let expected: BTreeMap<&str, &str> = FAMILIES.map(|(name, kind, _)| (name, kind)).into();
    assert_eq!(types, expected);
    assert_eq!(helped, expected.keys().copied().collect());
    for (name, _, expected) in FAMILIES {
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        let samples = samples(&text);
        let mut own = samples.keys().filter(|series| {
            let base = series.split('{').next().unwrap();
            let suffix = base.strip_prefix(name);
            matches!(suffix, Some("" | "_bucket" | "_sum" | "_count"))
        });
        let first = own.next().unwrap_or_else(|| panic!("{name} has no sample"));
        for series in std::iter::once(first).chain(own) {
            assert_eq!(labels(series), expected, "{series}");
        }
    }
}

#[test]
fn every_code_and_every_invariant_is_at_0_from_the_start() {
    let text = fresh().render();
    for code in ErrorCode::ALL {
        for phase in Phase::ALL {
            let series = format!("greenroom_session_errors_total{{code=\"{code}\",phase=\"{phase}\"}}");
            assert_value(&text, &series, 0.0);
        }
        assert_value(&text, &format!("greenroom_session_restarts_total{{code=\"{code}\"}}"), 0.0);
        for name in ["tenant_errors", "session_parks", "session_failures"] {
            let series = format!("greenroom_{name}_total{{code=\"{code}\",tenant=\"acme\"}}");
            assert_value(&text, &series, 0.0);
        }
    }
    for invariant in [
        "one_connection",
        "one_outcome",
        "quiet_when_parked",
        "tenant_isolation",
        "no_secret",
        "crash_contained",
        "bounded_memory",
        "durable",
    ] {
        let series = format!("greenroom_invariant_breaches_total{{invariant=\"{invariant}\"}}");
        assert_value(&text, &series, 0.0);
    }
}

#[test]
fn what_is_recorded_is_shown_once_under_its_own_labels() {
    let metrics = fresh();
    let tenant = metrics.tenant(&tenant_id("acme"));
    metrics.error(&tenant, ErrorCode::CreditsExhausted, Phase::WebsocketHandshake);
    exercise(&metrics);
    let text = metrics.render();
    for (series, expected) in [
        ("session_errors_total{code=\"creditsExhausted\",phase=\"websocket_handshake\"}", 2.0),
        ("session_errors_total{code=\"creditsExhausted\",phase=\"websocket_send\"}", 1.0),
        ("tenant_errors_total{code=\"creditsExhausted\",tenant=\"acme\"}", 6.0),
        ("sessions{state=\"starting\",tenant=\"acme\"}", 0.0),
        ("sessions{state=\"running\",tenant=\"acme\"}", 2.0),
        ("frames_total{direction=\"down\"}", 2.0),
        ("bytes_total{direction=\"down\"}", 30.0),
        ("bytes_total{direction=\"up\"}", 1000.0),
        ("tenant_suspended{tenant=\"acme\"}", 1.0),
        ("upstream_connections{tenant=\"acme\"}", 0.0),
        ("breaker_state{upstream=\"main\"}", 2.0),
        ("gate_waiting{upstream=\"main\"}", 7.0),
        ("outbox_bytes", 4096.0),
        ("requests_total{outcome=\"interrupted\",tenant=\"acme\"}", 1.0),
        ("token_request_seconds_bucket{outcome=\"ok\",le=\"0.1\"}", 0.0),
        ("token_request_seconds_bucket{outcome=\"ok\",le=\"0.25\"}", 1.0),
        ("handshake_seconds_count{outcome=\"connectionFailed\"}", 1.0),
        ("session_recovery_seconds_sum", 0.12),
    ] {
        assert_value(&text, &format!("greenroom_{series}"), expected);
    }
}

#[test]
fn tenants_beyond_the_bound_share_one_label() {
    let metrics = Metrics::new(2);
    for number in 0..50 {
        let tenant = metrics.tenant(&tenant_id(&format!("tenant-{number}")));
        tenant.session_moved(None, Some(StateName::Running));
    }
    // One that has a label keeps it after the others came.
    metrics.tenant(&tenant_id("tenant-1")).session_moved(None, Some(StateName::Running));
    let text = metrics.render();
    let running = |tenant: &str| format!("greenroom_sessions{{state=\"running\",tenant=\"{tenant}\"}}");
    assert_value(&text, &running("tenant-0"), 1.0);
    assert_value(&text, &running("tenant-1"), 2.0);
    assert_value(&text, &running("_other"), 48.0);
    assert!(!text.contains("tenant-2"));
}

#[test]
fn two_in_one_process_do_not_see_each_other() {
    let (one, other) = (fresh(), fresh());
    one.restart(ErrorCode::ConnectionClosed);
    let series = "greenroom_session_restarts_total{code=\"connectionClosed\"}";
    assert_value(&one.render(), series, 1.0);
    assert_value(&other.render(), series, 0.0);
}
