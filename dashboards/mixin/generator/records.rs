//! The recording rules: what several alerts and panels ask for, named `level:metric:operations`.

use super::objectives::WINDOWS;

/// A recording rule.
pub(crate) struct Record {
    /// Its name.
    pub(crate) name: String,
    /// Its expression.
    pub(crate) expr: String,
}

fn record(name: impl Into<String>, expr: impl Into<String>) -> Record {
    Record { name: name.into(), expr: expr.into() }
}

/// How much a counter grew in a window. A series that is younger than the window counts whole: `increase()` alone
/// would miss what happened between the birth of the series and its first scrape, which for a process that has just
/// started, or for a tenant that was just created, is the very error that must be told.
pub(crate) fn grown(counter: &str, window: &str) -> String {
    format!("({counter} unless {counter} offset {window}) or increase({counter}[{window}])")
}

/// All of them, in the order in which one builds on another.
pub(crate) fn all() -> Vec<Record> {
    let mut records = vec![
        record(
            "job_code:greenroom_session_errors:increase5m",
            "sum by (job, code) (increase(greenroom_session_errors_total[5m]))",
        ),
        record(
            "job_code:greenroom_session_errors:increase15m",
            format!("sum by (job, code) (\n  {}\n)", grown("greenroom_session_errors_total", "15m")),
        ),
        record(
            "job_tenant_code:greenroom_tenant_errors:increase15m",
            format!("sum by (job, tenant, code) (\n  {}\n)", grown("greenroom_tenant_errors_total", "15m")),
        ),
        record(
            "job:greenroom_sessions_wanted:sum",
            "sum by (job) (greenroom_sessions{state=~\"starting|running|backing_off\"})",
        ),
        // A session that starts is no failure: only those count that were there all the minute, which is how
        // sessions look that wait for a gate or a breaker.
        record(
            "job:greenroom_sessions_waiting:sum",
            "sum by (job) (greenroom_sessions{state=\"backing_off\"})\n\
             + sum by (job) (min_over_time(greenroom_sessions{state=\"starting\"}[1m]))",
        ),
    ];
    // Of session-seconds, and not the mean of ratios: a moment with few sessions weighs little.
    records.extend(WINDOWS.map(|window| {
        record(
            format!("job:greenroom_sessions_waiting:ratio{window}"),
            format!(
                "sum_over_time(job:greenroom_sessions_waiting:sum[{window}])\n\
                 / sum_over_time(job:greenroom_sessions_wanted:sum[{window}])"
            ),
        )
    }));
    for window in WINDOWS {
        // Requests of a tenant whose account is empty fail for a reason of its own, which has alerts of its own.
        let ended = |outcomes: &str| {
            format!(
                "sum by (job) (\n  increase(greenroom_requests_total{{outcome=~\"{outcomes}\"}}[{window}])\n  \
                 unless on (job, tenant)\n  \
                 max by (job, tenant) (max_over_time(greenroom_tenant_suspended[{window}])) > 0\n)"
            )
        };
        records.push(record(format!("job:greenroom_requests_failed:increase{window}"), ended("failed")));
        records.push(record(
            format!("job:greenroom_requests_failed:ratio{window}"),
            format!("job:greenroom_requests_failed:increase{window}\n/ {}", ended("completed|failed")),
        ));
    }
    for (metric, selector, window) in [
        ("session_recovery_seconds", "", "15m"),
        ("token_request_seconds", "{outcome=\"ok\"}", "10m"),
        ("handshake_seconds", "{outcome=\"ok\"}", "10m"),
        ("request_first_frame_seconds", "", "10m"),
    ] {
        records.push(record(
            format!("job:greenroom_{metric}:p95_{window}"),
            format!(
                "histogram_quantile(\n  0.95,\n  \
                 sum by (job, le) (rate(greenroom_{metric}_bucket{selector}[{window}]))\n)"
            ),
        ));
        records.push(record(
            format!("job:greenroom_{metric}:increase{window}"),
            format!("sum by (job) (increase(greenroom_{metric}_count{selector}[{window}]))"),
        ));
    }
    records
}
