//! Alerts on what Greenroom does for sessions and tenants: budgets, suspensions, recovery, connections.

use greenroom::errors::ErrorCode;

use super::{
    alerts::{Alert, Cause, Link, Severity, case},
    codes::{Kind, kind},
    records::grown,
};

const GROUP: &str = "greenroom-fleet";

/// All of them.
pub(crate) fn alerts() -> Vec<Alert> {
    vec![suspended(), refused_for_many(), budget(), recovery(), unused()]
}

fn suspended() -> Alert {
    const SUSPENDED: &str = "greenroom_tenant_suspended{tenant=\"acme\"}";
    Alert {
        name: "GreenroomTenantSuspended".to_owned(),
        group: GROUP,
        severity: Severity::Warning,
        cause: Cause::Billing,
        // For `_other` the gauge is how many are.
        expr: "max by (job, tenant) (greenroom_tenant_suspended) > 0".to_owned(),
        hold: "30m",
        summary: "Tenant {{ $labels.tenant }} has been suspended for half an hour.".to_owned(),
        description: "Its account or its upstream API key was refused, and nobody has mended it yet. Nothing new of it \
                      connects; one session tries every recovery.park_probe_s."
            .to_owned(),
        link: Link::Tenant,
        cases: vec![
            case(
                "suspended for 40 minutes",
                &[(SUSPENDED, "0x4 1x60")],
                "45m",
                &[("GreenroomTenantSuspended", "tenant=\"acme\"")],
            ),
            case(
                "three without labels of their own are",
                &[("greenroom_tenant_suspended{tenant=\"_other\"}", "0x4 3x60")],
                "45m",
                &[("GreenroomTenantSuspended", "tenant=\"_other\"")],
            ),
            case("suspended, and paid within 20 minutes", &[(SUSPENDED, "0x4 1x20 0x40")], "45m", &[]),
        ],
    }
}

fn refused_for_many() -> Alert {
    let codes: Vec<&str> = ErrorCode::ALL
        .iter()
        .filter(|code| kind(**code) == Kind::Configuration)
        .map(|code| code.as_str())
        .collect();
    let errors = |tenant: &str| {
        format!("greenroom_tenant_errors_total{{code=\"appIDUnrecognized\",tenant=\"{tenant}\"}}")
    };
    let sessions =
        |tenant: &str, state: &str| format!("greenroom_sessions{{state=\"{state}\",tenant=\"{tenant}\"}}");
    let (a, b, c) = (errors("a"), errors("b"), errors("c"));
    let (of_a, of_b, of_c) = (sessions("a", "failed"), sessions("b", "failed"), sessions("c", "failed"));
    let many: Vec<String> = (0..7).map(|number| sessions(&format!("well-{number}"), "running")).collect();
    let struck = [
        (a.as_str(), "0x9 1x40"),
        (&b, "0x9 1x40"),
        (&c, "0x9 1x40"),
        (&of_a, "1x50"),
        (&of_b, "1x50"),
        (&of_c, "1x50"),
    ];
    let of_each: Vec<(String, String)> = ["a", "b", "c"]
        .iter()
        .map(|tenant| {
            (
                "GreenroomAppIDUnrecognized".to_owned(),
                format!("code=\"appIDUnrecognized\",tenant=\"{tenant}\""),
            )
        })
        .collect();
    let each: Vec<(&str, &str)> =
        of_each.iter().map(|(name, labels)| (name.as_str(), labels.as_str())).collect();
    let all = [&each[..], &[("GreenroomRefusedForManyTenants", "code=\"appIDUnrecognized\"")]].concat();
    let beside: Vec<_> =
        struck.into_iter().chain(many.iter().map(|series| (series.as_str(), "5x50"))).collect();
    Alert {
        name: "GreenroomRefusedForManyTenants".to_owned(),
        group: GROUP,
        severity: Severity::Critical,
        cause: Cause::Greenroom,
        expr: format!(
            "count by (job, code) (\n  \
             job_tenant_code:greenroom_tenant_errors:increase15m{{code=~\"{}\"}} > 0\n)\n\
             >= on (job) group_left ()\nclamp_min(\n  0.5 * count by (job) (\n    \
             sum by (job, tenant) (greenroom_sessions{{state!=\"stopped\"}}) > 0\n  ),\n  3\n)",
            codes.join("|")
        ),
        hold: "2m",
        summary: "{{ $labels.code }} for {{ $value }} tenants at once.".to_owned(),
        description: "Half of the tenants do not make the same mistake in the same quarter of an hour: an upstream URL, \
                      a release of Greenroom or of the service has changed. Their sessions are failing for good."
            .to_owned(),
        link: Link::Session,
        cases: vec![
            case("all three tenants are refused", &struck, "15m", &all),
            case("three of ten tenants are refused", &beside, "15m", &each),
        ],
    }
}

fn budget() -> Alert {
    const EXHAUSTED: &str = "greenroom_restart_budget_exhausted_total{tenant=\"acme\"}";
    Alert {
        name: "GreenroomRestartBudgetExhausted".to_owned(),
        group: GROUP,
        severity: Severity::Warning,
        cause: Cause::Service,
        expr: format!(
            "sum by (job, tenant) (\n  {}\n) > 0",
            grown("greenroom_restart_budget_exhausted_total", "1h")
        ),
        hold: "1m",
        summary: "Tenant {{ $labels.tenant }}: {{ $value | humanize }} sessions gave up within the hour.".to_owned(),
        description: "They broke again and again until their restart budget was used up, and are failed: a person must \
                      find out why and restart them."
            .to_owned(),
        link: Link::Tenant,
        cases: vec![
            case(
                "one session gives up",
                &[(EXHAUSTED, "0x70 1x30")],
                "75m",
                &[("GreenroomRestartBudgetExhausted", "tenant=\"acme\"")],
            ),
            case("one gave up two hours ago", &[(EXHAUSTED, "0x9 1x140")], "130m", &[]),
        ],
    }
}

fn recovery() -> Alert {
    // Five recoveries a minute, all of between one and five minutes; and all within a second.
    let histogram = |under: &'static str, over: &'static str| {
        [
            ("greenroom_session_recovery_seconds_bucket{le=\"1\"}", under),
            ("greenroom_session_recovery_seconds_bucket{le=\"60\"}", under),
            ("greenroom_session_recovery_seconds_bucket{le=\"300\"}", over),
            ("greenroom_session_recovery_seconds_bucket{le=\"+Inf\"}", over),
            ("greenroom_session_recovery_seconds_count", over),
        ]
    };
    let breaker = |values| ("greenroom_breaker_state{upstream=\"primary\"}", values);
    Alert {
        name: "GreenroomRecoverySlow".to_owned(),
        group: GROUP,
        severity: Severity::Warning,
        cause: Cause::Greenroom,
        // While a breaker is open recovery takes as long as the outage, which other alerts tell.
        expr: "job:greenroom_session_recovery_seconds:p95_15m > 60\n\
               and job:greenroom_session_recovery_seconds:increase15m >= 5\n\
               unless on (job) max by (job) (max_over_time(greenroom_breaker_state[15m])) > 0"
            .to_owned(),
        hold: "5m",
        summary: "One recovery in 20 takes longer than {{ $value | humanizeDuration }}.".to_owned(),
        description: "From the loss of a connection until the session runs again, without an outage of the service that \
                      would explain it: the gate, the backoff, or a service that refuses without being down."
            .to_owned(),
        link: Link::Fleet,
        cases: vec![
            case(
                "recoveries take minutes and the breaker is closed",
                &[&histogram("0x40", "0+5x40")[..], &[breaker("0x40")]].concat(),
                "20m",
                &[("GreenroomRecoverySlow", "")],
            ),
            case(
                "recoveries take minutes after an outage",
                &[&histogram("0x40", "0+5x40")[..], &[breaker("0x10 2x5 0x25")]].concat(),
                "25m",
                &[],
            ),
            case(
                "recoveries take under a second",
                &[&histogram("0+5x40", "0+5x40")[..], &[breaker("0x40")]].concat(),
                "20m",
                &[],
            ),
            case("nothing recovers", &[&histogram("0x40", "0x40")[..], &[breaker("0x40")]].concat(), "20m", &[]),
            case(
                "two slow recoveries",
                &[&histogram("0x40", "0x10 2x30")[..], &[breaker("0x40")]].concat(),
                "20m",
                &[],
            ),
        ],
    }
}

fn unused() -> Alert {
    const CONNECTED: &str = "greenroom_connected_seconds_total{tenant=\"acme\"}";
    const COMPLETED: &str = "greenroom_requests_total{outcome=\"completed\",tenant=\"acme\"}";
    Alert {
        name: "GreenroomUnusedConnections".to_owned(),
        group: GROUP,
        severity: Severity::Warning,
        cause: Cause::Configuration,
        expr: "sum by (job, tenant) (rate(greenroom_connected_seconds_total[1h])) > 0.5\n\
               unless on (job, tenant)\n\
               sum by (job, tenant) (increase(greenroom_requests_total[1h])) > 0"
            .to_owned(),
        hold: "30m",
        summary: "Tenant {{ $labels.tenant }} pays for {{ $value | humanize }} connections that nobody uses."
            .to_owned(),
        description:
            "They have been open for an hour and no request has ended on any of them. The service bills the \
                      time that a connection is open."
                .to_owned(),
        link: Link::Tenant,
        cases: vec![
            case(
                "two connections stand for two hours without a request",
                &[(CONNECTED, "0+120x130"), (COMPLETED, "7x130")],
                "120m",
                &[("GreenroomUnusedConnections", "tenant=\"acme\"")],
            ),
            case(
                "one request in half an hour",
                &[(CONNECTED, "0+120x130"), (COMPLETED, "0x30 1x30 2x30 3x40")],
                "120m",
                &[],
            ),
            case(
                "only another tenant speaks",
                &[
                    (CONNECTED, "0+120x130"),
                    (COMPLETED, "7x130"),
                    ("greenroom_requests_total{outcome=\"completed\",tenant=\"globex\"}", "0+9x130"),
                    ("greenroom_tenant_suspended{tenant=\"globex\"}", "0x130"),
                ],
                "120m",
                &[("GreenroomUnusedConnections", "tenant=\"acme\"")],
            ),
            case("no connection", &[(CONNECTED, "500x130"), (COMPLETED, "7x130")], "120m", &[]),
        ],
    }
}
