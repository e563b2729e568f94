//! The two objectives, 99.9 % each over 30 days: sessions that should run are running, and requests complete.
//!
//! Multi-window, multi-burn-rate: an alert says that the budget of errors is used up so and so many times faster
//! than it may be. The long window says that it matters, the short one that it still goes on.

use super::alerts::{Alert, Case, Cause, Link, Severity, case};

/// Every window of the burn rates.
pub(crate) const WINDOWS: [&str; 7] = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"];

/// Long window, short window, and the burn rate that uses up a share of 30 days' budget in the long one.
type Pair = (&'static str, &'static str, &'static str);
/// 2 % in an hour, 5 % in 6 hours.
const FAST: [Pair; 2] = [("1h", "5m", "14.4"), ("6h", "30m", "6")];
/// 10 % in a day, 10 % in 3 days.
const SLOW: [Pair; 2] = [("1d", "2h", "3"), ("3d", "6h", "1")];
/// What may fail: 1 - 0.999.
const BUDGET: &str = "0.001";
/// Fewer failed requests than this in the long window say nothing about one in a thousand.
const LEAST_REQUESTS: u32 = 10;

fn sessions(pairs: [Pair; 2]) -> String {
    let pair = |(long, short, rate): Pair| {
        let ratio = |window| format!("job:greenroom_sessions_waiting:ratio{window} > {rate} * {BUDGET}");
        format!("(\n  {}\n  and {}\n)", ratio(long), ratio(short))
    };
    pairs.map(pair).join("\nor\n")
}

fn requests(pairs: [Pair; 2]) -> String {
    let pair = |(long, short, rate): Pair| {
        let ratio = |window| format!("job:greenroom_requests_failed:ratio{window} > {rate} * {BUDGET}");
        format!(
            "(\n  {}\n  and {}\n  and job:greenroom_requests_failed:increase{long} >= {LEAST_REQUESTS}\n)",
            ratio(long),
            ratio(short)
        )
    };
    pairs.map(pair).join("\nor\n")
}

/// Two for each objective.
pub(crate) fn alerts() -> Vec<Alert> {
    let alert = |name: &str, severity, expr, hold, summary: &str, description: &str, cases| Alert {
        name: name.to_owned(),
        group: "greenroom-objectives",
        severity,
        // The service is what mostly takes it; the runbook tells how to know.
        cause: Cause::Service,
        expr,
        hold,
        summary: summary.to_owned(),
        description: description.to_owned(),
        link: Link::Fleet,
        cases,
    };
    let sessions_say = "Sessions that should run wait for a restart, the gate or the breaker. Parked, dormant and \
                        failed sessions do not count: alerts of their own tell of them.";
    let requests_say = "Requests for audio end as failed. Interrupted ones, and those of tenants that were suspended \
                        for billing in that time, do not count.";
    vec![
        alert(
            "GreenroomSessionsBurnFast",
            Severity::Critical,
            sessions(FAST),
            "2m",
            "{{ $value | humanizePercentage }} of the time of sessions that should run was lost.",
            &format!("{sessions_say} At this rate the budget of 30 days is gone within days."),
            sessions_fast(),
        ),
        alert(
            "GreenroomSessionsBurnSlow",
            Severity::Warning,
            sessions(SLOW),
            "1h",
            "{{ $value | humanizePercentage }} of the time of sessions that should run was lost.",
            &format!("{sessions_say} At this rate the budget does not last for its 30 days."),
            sessions_slow(),
        ),
        alert(
            "GreenroomRequestsBurnFast",
            Severity::Critical,
            requests(FAST),
            "2m",
            "{{ $value | humanizePercentage }} of the requests failed.",
            &format!("{requests_say} At this rate the budget of 30 days is gone within days."),
            requests_fast(),
        ),
        alert(
            "GreenroomRequestsBurnSlow",
            Severity::Warning,
            requests(SLOW),
            "1h",
            "{{ $value | humanizePercentage }} of the requests failed.",
            &format!("{requests_say} At this rate the budget does not last for its 30 days."),
            requests_slow(),
        ),
    ]
}

const RUNNING: &str = "greenroom_sessions{state=\"running\",tenant=\"acme\"}";
const BACKING_OFF: &str = "greenroom_sessions{state=\"backing_off\",tenant=\"acme\"}";
const STARTING: &str = "greenroom_sessions{state=\"starting\",tenant=\"acme\"}";
const COMPLETED: &str = "greenroom_requests_total{outcome=\"completed\",tenant=\"acme\"}";
const FAILED: &str = "greenroom_requests_total{outcome=\"failed\",tenant=\"acme\"}";
const INTERRUPTED: &str = "greenroom_requests_total{outcome=\"interrupted\",tenant=\"acme\"}";
const SUSPENDED: &str = "greenroom_tenant_suspended{tenant=\"acme\"}";

fn sessions_fast() -> Vec<Case> {
    let fires: &[_] = &[("GreenroomSessionsBurnFast", "")];
    vec![
        case(
            "half of 100 sessions wait for 5 minutes, after a good hour",
            &[(RUNNING, "100x59 50x20"), (BACKING_OFF, "0x59 50x20"), (STARTING, "0x80")],
            "65m",
            fires,
        ),
        case(
            "all sessions are new and wait at the breaker",
            &[(RUNNING, "0x80"), (BACKING_OFF, "0x80"), (STARTING, "0x30 100x40")],
            "36m",
            fires,
        ),
        case(
            "half of them wait for one minute, after six good hours",
            &[(RUNNING, "100x359 50 100x20"), (BACKING_OFF, "0x359 50 0x20"), (STARTING, "0x380")],
            "365m",
            &[],
        ),
        case(
            "an outage that is over: the hour is spoilt, the last half of it is not",
            &[(RUNNING, "100x9 0x9 100x60"), (BACKING_OFF, "0x9 100x9 0x60"), (STARTING, "0x80")],
            "55m",
            &[],
        ),
        case(
            "no session at all",
            &[(RUNNING, "0x80"), (BACKING_OFF, "0x80"), (STARTING, "0x80")],
            "65m",
            &[],
        ),
        case(
            "sessions that start and are gone from it at the next look",
            &[
                (RUNNING, "100x80"),
                (BACKING_OFF, "0x80"),
                (STARTING, "5 0 7 0 4 0 9 0 5 0 7 0 4 0 9 0 5 0 7 0"),
            ],
            "18m",
            &[],
        ),
    ]
}

fn sessions_slow() -> Vec<Case> {
    let (running, waits) = ("995x110", (STARTING, "0x110"));
    vec![
        case(
            "5 of 1000 sessions wait for more than an hour",
            &[(RUNNING, running), (BACKING_OFF, "5x110"), waits],
            "100m",
            &[("GreenroomSessionsBurnSlow", "")],
        ),
        case(
            "5 of 1000 sessions wait for half an hour",
            &[(RUNNING, running), (BACKING_OFF, "5x110"), waits],
            "30m",
            &[],
        ),
        // Less than 1 in 1000: the budget is for it.
        case(
            "one of 2000 sessions waits always",
            &[(RUNNING, "1999x110"), (BACKING_OFF, "1x110"), waits],
            "100m",
            &[],
        ),
    ]
}

fn requests_fast() -> Vec<Case> {
    vec![
        case(
            "a fifth of the requests fails for 10 minutes",
            &[(COMPLETED, "0+100x80"), (FAILED, "0x60 20+20x20"), (SUSPENDED, "0x80")],
            "70m",
            &[("GreenroomRequestsBurnFast", "")],
        ),
        case(
            "clients interrupt most of their requests",
            &[(COMPLETED, "0+10x80"), (FAILED, "0x80"), (INTERRUPTED, "0+90x80"), (SUSPENDED, "0x80")],
            "70m",
            &[],
        ),
        case(
            "3 of 9 requests fail in a quiet hour",
            &[(COMPLETED, "0x60 1 2 3 4 5 6x20"), (FAILED, "0x60 1 2 3x20"), (SUSPENDED, "0x80")],
            "64m",
            &[],
        ),
        case("no requests", &[(COMPLETED, "0x80"), (FAILED, "0x80"), (SUSPENDED, "0x80")], "70m", &[]),
        case(
            "all requests of a tenant without credits fail, beside those of another that complete",
            &[
                (FAILED, "0x60 20+20x20"),
                (SUSPENDED, "0x60 1x20"),
                ("greenroom_requests_total{outcome=\"completed\",tenant=\"globex\"}", "0+10x80"),
                ("greenroom_tenant_suspended{tenant=\"globex\"}", "0x80"),
            ],
            "70m",
            &[],
        ),
    ]
}

fn requests_slow() -> Vec<Case> {
    vec![
        case(
            "5 of 1000 requests fail for more than an hour",
            &[(COMPLETED, "0+995x110"), (FAILED, "0+5x110"), (SUSPENDED, "0x110")],
            "100m",
            &[("GreenroomRequestsBurnSlow", "")],
        ),
        case(
            "one of 2000 requests fails",
            &[(COMPLETED, "0+1999x110"), (FAILED, "0+1x110"), (SUSPENDED, "0x110")],
            "100m",
            &[],
        ),
    ]
}
