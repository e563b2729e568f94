//! Which keys there are, and what each may be.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::{
    Admin, Config, Deadlines, Defaults, Ingress, LogFormat, Outbox, PartialFailure, Recovery, Server,
    Sessions, Telemetry, Tenant, Upstream, UpstreamAuth,
    reader::Section,
    store::read_store,
    tenants::{check_key, read_policy, read_tenants},
    tls::{read_authorities, read_tls},
    webhooks::{Whose, read_delivery, read_webhooks},
};
use crate::{
    outbox::Continuity,
    recovery::{
        Backoff, BudgetConfig, Policy,
        fleet::{BreakerConfig, GateConfig},
        lifecycle::StableAfter,
    },
};

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

pub(super) fn read_config(root: &Section<'_>) -> Config {
    let server = root.section("server", read_server);
    let admin = root.section("admin", |section| read_admin(section, &server));
    let recovery = root.section("recovery", read_recovery);
    let webhook_delivery = root.section("webhook_delivery", read_delivery);
    let tenants = read_tenants(root, admin.key.as_ref(), webhook_delivery.allow_http);
    Config {
        upstream: root.section("upstream", read_upstream),
        store: root.section("store", read_store),
        defaults: root.section("defaults", read_defaults),
        outbox: root.section("outbox", read_outbox),
        ingress: root.section("ingress", read_ingress),
        sessions: root.section("sessions", read_sessions),
        telemetry: root.section("telemetry", read_telemetry),
        webhooks: read_webhooks(root, Whose::Operators, webhook_delivery.allow_http),
        webhook_delivery,
        server,
        admin,
        recovery,
        tenants,
    }
}

fn read_server(section: &Section<'_>) -> Server {
    let default = Server::default();
    Server {
        listen: section.address("listen", default.listen),
        max_body_bytes: section.bytes("max_body_bytes", default.max_body_bytes, KIB..=1024 * MIB),
        shutdown: section.seconds("shutdown_s", default.shutdown, 0..=HOUR_S),
        tls: section.section("tls", |section| read_tls(section, false)),
    }
}

fn read_admin(section: &Section<'_>, server: &Server) -> Admin {
    let default = Admin::default();
    let has_key = section.node("key").is_some();
    let admin = Admin {
        listen: section.address("listen", default.listen),
        key: section.secret("key"),
        tls: section.section("tls", |section| read_tls(section, true)),
    };
    if let Some(Err(text)) = admin.key.as_ref().map(check_key) {
        section.mistake("key", text);
    }
    if !has_key && !admin.listen.ip().is_loopback() {
        let text = "without admin.key only a loopback address is allowed, since whoever reaches it reads all \
                    sessions; set admin.key, or use 127.0.0.1";
        section.mistake("listen", text);
    }
    let same_port = admin.listen.port() == server.listen.port() && admin.listen.port() != 0;
    let (ours, theirs) = (admin.listen.ip(), server.listen.ip());
    if same_port && (ours == theirs || ours.is_unspecified() || theirs.is_unspecified()) {
        section.mistake("listen", format!("takes the port of server.listen, {}; use another", server.listen));
    }
    admin
}

fn read_upstream(section: &Section<'_>) -> Upstream {
    let default = Upstream::default();
    section.not_yet("fallback", "further regions are not built in this version; one upstream serves all");
    let upstream = Upstream {
        console_url: section.base_url("console_url", &default.console_url, &["https", "http"]),
        ingress_url: section.base_url("ingress_url", &default.ingress_url, &["wss", "ws", "https", "http"]),
        auth: section.choice(
            "auth",
            default.auth,
            &[("header", UpstreamAuth::Header), ("query", UpstreamAuth::Query)],
        ),
        bind_addresses: section.local_addresses("bind_addresses"),
        ca: read_authorities(section),
        // The service refuses tokens that are asked for more than a day.
        token_ttl: section.seconds("token_ttl_s", default.token_ttl, 60..=DAY_S),
        max_message_bytes: section.bytes(
            "max_message_bytes",
            default.max_message_bytes,
            64 * KIB..=256 * MIB,
        ),
        ping: section.seconds("ping_s", default.ping, 1..=300),
        half_open: section.seconds("half_open_s", default.half_open, 3..=HOUR_S),
        deadlines: section.section("deadlines", read_deadlines),
        gate: section.section("gate", read_gate),
        breaker: section.section("breaker", read_breaker),
    };
    check_half_open(section, "upstream", upstream.ping, upstream.half_open);
    upstream
}

fn read_deadlines(section: &Section<'_>) -> Deadlines {
    const RANGE: std::ops::RangeInclusive<u64> = 100..=300_000;
    let default = Deadlines::default();
    Deadlines {
        token: section.millis("token_ms", default.token, RANGE),
        connect: section.millis("connect_ms", default.connect, RANGE),
        handshake: section.millis("handshake_ms", default.handshake, RANGE),
    }
}

fn read_gate(section: &Section<'_>) -> GateConfig {
    let default = GateConfig::default();
    let max_in_flight = u32::try_from(default.max_in_flight).unwrap_or(u32::MAX);
    GateConfig {
        max_in_flight: section.count("max_in_flight", max_in_flight, 1..=10_000) as usize,
        per_second: section.count("per_second", default.per_second, 1..=10_000),
    }
}

fn read_breaker(section: &Section<'_>) -> BreakerConfig {
    let default = BreakerConfig::default();
    let breaker = BreakerConfig {
        window: section.seconds("window_s", default.window, 1..=600),
        min_attempts: section.count("min_attempts", default.min_attempts, 1..=100_000),
        failure_ratio: section.number("failure_ratio", default.failure_ratio, 0.01..=1.0),
        open_for: section.seconds("open_s", default.open_for, 1..=HOUR_S),
        open_max: section.seconds("open_max_s", default.open_max, 1..=DAY_S),
        probes: section.count("probes", default.probes, 1..=100),
    };
    if breaker.open_max < breaker.open_for {
        section.mistake("open_max_s", "is less than open_s in the same section; make it at least as long");
    }
    breaker
}

fn read_defaults(section: &Section<'_>) -> Defaults {
    let words = [Continuity::Off, Continuity::Unanswered, Continuity::Resume].map(|it| (it.as_str(), it));
    let continuity = section.choice("continuity", Continuity::default(), &words);
    let idle_timeout = section.seconds("idle_timeout_s", Duration::ZERO, Tenant::IDLE_TIMEOUT_S);
    Defaults { continuity, idle_timeout: Some(idle_timeout).filter(|span| !span.is_zero()) }
}

fn read_recovery(section: &Section<'_>) -> Recovery {
    let default = Recovery::default();
    let park_probe = section.seconds("park_probe_s", default.park_probe.unwrap_or_default(), 0..=7 * DAY_S);
    let backoff = section.section("backoff", read_backoff);
    let (budget, stable_after) = section.section("budget", read_budget);
    Recovery {
        backoff,
        budget,
        stable_after,
        park_probe: (park_probe > Duration::ZERO).then_some(park_probe),
        policy: section.section("policy", |section| read_policy(section, Policy::default())),
    }
}

fn read_backoff(section: &Section<'_>) -> Backoff {
    let default = Backoff::default();
    let backoff = Backoff {
        initial: section.millis("initial_ms", default.initial, 10..=600_000),
        max: section.millis("max_ms", default.max, 10..=HOUR_S * 1000),
        multiplier: section.number("multiplier", default.multiplier, 1.0..=10.0),
    };
    if backoff.max < backoff.initial {
        section.mistake("max_ms", "is less than initial_ms in the same section; make it at least as long");
    }
    backoff
}

fn read_budget(section: &Section<'_>) -> (BudgetConfig, StableAfter) {
    let default = BudgetConfig::default();
    let budget = BudgetConfig {
        restarts: section.count("restarts", default.restarts, 0..=10_000),
        window: section.seconds("window_s", default.window, 1..=DAY_S),
    };
    let stable_after = section.seconds("stable_after_s", StableAfter::default().0, 1..=DAY_S);
    (budget, StableAfter(stable_after))
}

fn read_outbox(section: &Section<'_>) -> Outbox {
    let default = Outbox::default();
    Outbox {
        session_bytes: section.bytes("session_bytes", default.session_bytes, 64 * KIB..=1024 * MIB),
        tenant_bytes: section.bytes("tenant_bytes", default.tenant_bytes, MIB..=4095 * MIB),
        total_bytes: section.bytes("total_bytes", default.total_bytes, MIB..=4095 * MIB),
        max_age: section.seconds("max_age_s", default.max_age, 1..=HOUR_S),
    }
}

fn read_ingress(section: &Section<'_>) -> Ingress {
    let default = Ingress::default();
    let ingress = Ingress {
        linger: section.seconds("linger_s", default.linger, 0..=HOUR_S),
        upgrade: section.millis("upgrade_ms", default.upgrade, 100..=300_000),
        partial_failure: section.choice(
            "partial_failure",
            default.partial_failure,
            &[("error", PartialFailure::Error), ("end", PartialFailure::End)],
        ),
        token_single_use: section.switch("token_single_use", default.token_single_use),
        confirm: section.millis("confirm_ms", default.confirm, 1000..=300_000),
        client_bytes: section.bytes("client_bytes", default.client_bytes, 64 * KIB..=1024 * MIB),
        slow_client: section.millis("slow_client_ms", default.slow_client, 1000..=300_000),
        max_message_bytes: section.bytes(
            "max_message_bytes",
            default.max_message_bytes,
            64 * KIB..=256 * MIB,
        ),
        ping: section.seconds("ping_s", default.ping, 1..=300),
        half_open: section.seconds("half_open_s", default.half_open, 3..=HOUR_S),
    };
    check_half_open(section, "ingress", ingress.ping, ingress.half_open);
    ingress
}

/// One ping that is lost must not end a connection.
fn check_half_open(section: &Section<'_>, name: &str, ping: Duration, half_open: Duration) {
    if half_open <= ping * 2 {
        let text = format!(
            "is {} s, but must be more than twice {name}.ping_s ({} s), or one lost ping ends a connection",
            half_open.as_secs(),
            ping.as_secs()
        );
        section.mistake("half_open_s", text);
    }
}

fn read_sessions(section: &Section<'_>) -> Sessions {
    let default = Sessions::default();
    Sessions {
        retention: section.seconds("retention_s", default.retention, 0..=7 * DAY_S),
        max: section.count("max", default.max, 1..=1_000_000),
    }
}

fn read_telemetry(section: &Section<'_>) -> Telemetry {
    let default = Telemetry::default();
    let level = section.text("log_level", "a log directive such as \"info\"", |text| {
        // An empty directive is valid to the filter, and silences everything but errors.
        match EnvFilter::try_new(text) {
            Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
            Ok(_) | Err(_) => Err(format!(
                "\"{}\" is no log directive; use one such as \"info\" or \"info,greenroom::session=debug\"",
                text.escape_debug()
            )),
        }
    });
    Telemetry {
        log_format: section.choice(
            "log_format",
            default.log_format,
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        ),
        log_level: level.unwrap_or(default.log_level),
        max_tenant_labels: section.count("max_tenant_labels", default.max_tenant_labels, 0..=10_000),
    }
}
