//! The dashboards: five questions, from "is anything wrong" to "is it Greenroom itself". Here are those that are asked
//! of sessions: of all, of a tenant's, of one.

mod beneath;

use super::panels::{
    Dashboard,
    Item::{self, Panel, Row, Text},
    Variable::{Labels, Text as Field},
    View::{Lines, Number, Stacked, Table},
    panel,
};

/// All of them.
pub(crate) fn all() -> Vec<Dashboard> {
    vec![fleet(), tenant(), session(), beneath::upstream(), beneath::own()]
}

fn fleet() -> Dashboard {
    let mut items = vec![Row("Now")];
    items.extend(fleet_now());
    items.push(Row("Sessions and their errors"));
    items.extend([
        Panel(
            panel(Stacked, "Sessions by state", "Every session, by what it does now.")
                .query("sum by (state) (greenroom_sessions{@})", "{{state}}"),
        ),
        Panel(
            panel(Lines, "Errors by code", "Errors a second. Look closer: which phase, whose, since when.")
                .query(
                    "sum by (code) (rate(greenroom_session_errors_total{@}[$__rate_interval])) > 0",
                    "{{code}}",
                )
                .unit("ops")
                .to("/d/greenroom-session"),
        ),
        Panel(
            panel(Lines, "Restarts by code", "Restarts a second, by the error that caused them.")
                .query(
                    "sum by (code) (rate(greenroom_session_restarts_total{@}[$__rate_interval])) > 0",
                    "{{code}}",
                )
                .unit("ops"),
        ),
        Panel(
            panel(Lines, "Recovery", "From the loss of a connection until the session runs again.")
                .query(quantile("0.5", "greenroom_session_recovery_seconds"), "half")
                .query(quantile("0.95", "greenroom_session_recovery_seconds"), "95 %")
                .unit("s")
                .from(60.0, "red"),
        ),
        Row("Objectives: 99.9 % in 30 days"),
        Panel(
            burn("Sessions that should run: burn rate", "sessions")
                .query("job:greenroom_sessions_waiting:ratio5m{job=~\"$job\"} / 0.001", "5 minutes")
                .query("job:greenroom_sessions_waiting:ratio1h{job=~\"$job\"} / 0.001", "1 hour")
                .query("job:greenroom_sessions_waiting:ratio6h{job=~\"$job\"} / 0.001", "6 hours")
                .query("job:greenroom_sessions_waiting:ratio3d{job=~\"$job\"} / 0.001", "3 days"),
        ),
        Panel(
            burn("Requests complete: burn rate", "requests")
                .query("job:greenroom_requests_failed:ratio5m{job=~\"$job\"} / 0.001", "5 minutes")
                .query("job:greenroom_requests_failed:ratio1h{job=~\"$job\"} / 0.001", "1 hour")
                .query("job:greenroom_requests_failed:ratio6h{job=~\"$job\"} / 0.001", "6 hours")
                .query("job:greenroom_requests_failed:ratio3d{job=~\"$job\"} / 0.001", "3 days"),
        ),
        Row("Tenants"),
        Panel(
            panel(
                Table,
                "Errors in this range by tenant",
                "The ten worst. One tenant: its account, key or configuration.",
            )
            .query(
                "topk(10, sum by (tenant, code) (increase(greenroom_tenant_errors_total{@}[$__range])) > 0)",
                "",
            )
            .to("/d/greenroom-tenant"),
        ),
        Panel(
            panel(Table, "Sessions that do not run, by tenant", "Parked, failed or backing off, now.").query(
                "sum by (tenant, state) (greenroom_sessions{@,state=~\"parked|failed|backing_off\"}) > 0",
                "",
            ),
        ),
        Panel(
            panel(Stacked, "Connections by tenant", "What is billed, while it is open.")
                .query("sum by (tenant) (greenroom_upstream_connections{@})", "{{tenant}}"),
        ),
        Panel(
            panel(Lines, "Requests by outcome", "Requests that ended, a second.")
                .query(
                    "sum by (outcome) (rate(greenroom_requests_total{@}[$__rate_interval]))",
                    "{{outcome}}",
                )
                .unit("reqps"),
        ),
    ]);
    Dashboard {
        uid: "greenroom-fleet",
        title: "Greenroom / fleet",
        what: "Is anything wrong, for whom, since when?",
        variables: vec![],
        items,
    }
}

fn burn(title: &'static str, of: &'static str) -> super::panels::Panel {
    let what = if of == "sessions" {
        "1 uses up exactly the budget of 30 days. Alerts: 14.4 over 1 h, 6 over 6 h, 3 over 1 d, 1 over 3 d."
    } else {
        "As beside it; tenants that are suspended do not count."
    };
    panel(Lines, title, what).from(1.0, "orange").from(14.4, "red")
}

/// A quantile of a histogram over all instances.
fn quantile(quantile: &str, metric: &str) -> String {
    format!("histogram_quantile({quantile}, sum by (le) (rate({metric}_bucket{{@}}[$__rate_interval])))")
}

fn fleet_now() -> Vec<Item> {
    let state = |title, what, state: &str| {
        panel(Number, title, what).query(format!("sum(greenroom_sessions{{@,state=\"{state}\"}})"), "")
    };
    vec![
        Panel(
            panel(Number, "Running", "Of the sessions that should run. Parked, dormant and failed ones do not count.")
                .query(
                    "sum(greenroom_sessions{@,state=\"running\"})\n/ \
                     (sum(greenroom_sessions{@,state=~\"starting|running|backing_off\"}) > 0)",
                    "",
                )
                .unit("percentunit"),
        ),
        Panel(state("Backing off", "A restart is due.", "backing_off").from(1.0, "orange")),
        Panel(state("Parked", "Blocked by billing or concurrency.", "parked").from(1.0, "orange")),
        Panel(state("Failed", "A person must act.", "failed").from(1.0, "orange")),
        Panel(
            panel(Number, "Suspended tenants", "Billing, or a refused API key.")
                .query("sum(greenroom_tenant_suspended{@})", "")
                .from(1.0, "orange"),
        ),
        Panel(
            panel(Number, "Alerts", "Those of Greenroom that fire now.")
                .query("count(ALERTS{job=~\"$job\",alertname=~\"Greenroom.*\",alertstate=\"firing\"}) or vector(0)", "")
                .from(1.0, "red"),
        ),
        Panel(
            panel(Table, "Firing", "Which, whose fault, and how bad.")
                .query(
                    "max by (severity, cause, alertname, tenant, code) \
                     (ALERTS{job=~\"$job\",alertname=~\"Greenroom.*\",alertstate=\"firing\"})",
                    "",
                )
                .wide(24),
        ),
    ]
}

fn tenant() -> Dashboard {
    Dashboard {
        uid: "greenroom-tenant",
        title: "Greenroom / tenant",
        what: "What happens to one tenant: its sessions, its errors, its bill?",
        variables: vec![Labels("tenant", "label_values(greenroom_sessions{job=~\"$job\"}, tenant)")],
        items: vec![
            Row("$tenant"),
            Panel(
                panel(Number, "Suspended", "Nothing new of it connects. For _other: how many tenants are.")
                    .query("sum(greenroom_tenant_suspended{@,tenant=~\"$tenant\"})", "")
                    .from(1.0, "red"),
            ),
            Panel(
                panel(Number, "Connections", "Open now.")
                    .query("sum(greenroom_upstream_connections{@,tenant=~\"$tenant\"})", ""),
            ),
            Panel(
                panel(Number, "Billed in this range", "Time that connections were open.")
                    .query("sum(increase(greenroom_connected_seconds_total{@,tenant=~\"$tenant\"}[$__range]))", "")
                    .unit("s"),
            ),
            Panel(
                panel(Number, "Gave up in this range", "Sessions that used up their restart budget.")
                    .query(
                        "sum(increase(greenroom_restart_budget_exhausted_total{@,tenant=~\"$tenant\"}[$__range]))",
                        "",
                    )
                    .from(0.5, "orange"),
            ),
            Panel(
                panel(Number, "Requests failed", "Of those that were not interrupted, in this range.")
                    .query(
                        "sum(increase(greenroom_requests_total{@,tenant=~\"$tenant\",outcome=\"failed\"}[$__range]))\n/ \
                         (sum(increase(greenroom_requests_total{@,tenant=~\"$tenant\",outcome=~\"completed|failed\"}[$__range])) > 0)",
                        "",
                    )
                    .unit("percentunit")
                    .from(0.001, "orange")
                    .from(0.01, "red")
                    .wide(8),
            ),
            Panel(
                panel(Stacked, "Sessions by state", "")
                    .query("sum by (state) (greenroom_sessions{@,tenant=~\"$tenant\"})", "{{state}}"),
            ),
            Panel(
                panel(Lines, "Errors by code", "Errors a second.")
                    .query(
                        "sum by (code) (rate(greenroom_tenant_errors_total{@,tenant=~\"$tenant\"}[$__rate_interval])) > 0",
                        "{{code}}",
                    )
                    .unit("ops"),
            ),
            Panel(
                panel(Table, "Parked in this range", "By code: what whoever pays must know.").query(
                    "sum by (tenant, code) (increase(greenroom_session_parks_total{@,tenant=~\"$tenant\"}[$__range])) > 0",
                    "",
                ),
            ),
            Panel(
                panel(Table, "Failed in this range", "By code: what whoever wrote its backend must know.").query(
                    "sum by (tenant, code) (increase(greenroom_session_failures_total{@,tenant=~\"$tenant\"}[$__range])) > 0",
                    "",
                ),
            ),
            Panel(
                panel(Lines, "Requests by outcome", "Requests that ended, a second.")
                    .query(
                        "sum by (outcome) (rate(greenroom_requests_total{@,tenant=~\"$tenant\"}[$__rate_interval]))",
                        "{{outcome}}",
                    )
                    .unit("reqps"),
            ),
            Panel(
                panel(Stacked, "Billed connections", "Connections open on average: connected seconds a second.").query(
                    "sum by (tenant) (rate(greenroom_connected_seconds_total{@,tenant=~\"$tenant\"}[$__rate_interval]))",
                    "{{tenant}}",
                ),
            ),
        ],
    }
}

const FORENSIC: &str = "\
From a code to the session: metrics have no session ids, the API has. With the admin key in `GREENROOM_ADMIN_KEY`:

```sh
curl -sS -H \"Authorization: Bearer $GREENROOM_ADMIN_KEY\" \"${admin}/v1/sessions?code=${code:csv}\"   # who has it; `reason` says why in words
curl -sS -H \"Authorization: Bearer $GREENROOM_ADMIN_KEY\" \"${admin}/v1/sessions/${session}\"         # one session, with `last_error`
curl -sS -H \"Authorization: Bearer $GREENROOM_ADMIN_KEY\" \"${admin}/v1/sessions/${session}/history\" # its timeline
```

[sessions with this code](${admin}/v1/sessions?code=${code:csv}) · [this session](${admin}/v1/sessions/${session}) · \
[its timeline](${admin}/v1/sessions/${session}/history) · [all codes](${admin}/v1/codes)";

fn session() -> Dashboard {
    let by_code = |metric: &str, by: &str| {
        format!("sum by ({by}) (increase({metric}{{@,code=~\"$code\"}}[$__range])) > 0")
    };
    Dashboard {
        uid: "greenroom-session",
        title: "Greenroom / session forensic",
        what: "What broke a session: which code, in which phase, whose, and what became of it?",
        variables: vec![
            Labels("code", "label_values(greenroom_session_errors_total{job=~\"$job\"}, code)"),
            Field("session", "ses_"),
            Field("admin", "http://127.0.0.1:8081"),
        ],
        items: vec![
            Text(FORENSIC, 6),
            Row("Where it broke"),
            Panel(
                panel(Table, "Errors by code and phase", "In this range.")
                    .query(by_code("greenroom_session_errors_total", "code, phase"), ""),
            ),
            Panel(
                panel(Table, "Errors by code and tenant", "In this range. All tenants at once: the service or the network.")
                    .query(by_code("greenroom_tenant_errors_total", "code, tenant"), ""),
            ),
            Panel(
                panel(Lines, "Errors over time", "Errors a second.")
                    .query(
                        "sum by (code, phase) (rate(greenroom_session_errors_total{@,code=~\"$code\"}[$__rate_interval])) > 0",
                        "{{code}} {{phase}}",
                    )
                    .unit("ops")
                    .wide(24),
            ),
            Row("What became of it"),
            Panel(
                panel(Table, "Restarted", "By the code that caused it, in this range.")
                    .query(by_code("greenroom_session_restarts_total", "code"), "")
                    .wide(8),
            ),
            Panel(
                panel(Table, "Parked", "In this range.")
                    .query(by_code("greenroom_session_parks_total", "code, tenant"), "")
                    .wide(8),
            ),
            Panel(
                panel(Table, "Failed", "In this range.")
                    .query(by_code("greenroom_session_failures_total", "code, tenant"), "")
                    .wide(8),
            ),
            Panel(
                panel(Lines, "How attempts ended", "Connections a second by outcome: ok, or the code that ended them.")
                    .query("sum by (outcome) (rate(greenroom_handshake_seconds_count{@}[$__rate_interval]))", "connect {{outcome}}")
                    .query("sum by (outcome) (rate(greenroom_token_request_seconds_count{@}[$__rate_interval]))", "token {{outcome}}")
                    .unit("ops"),
            ),
            Panel(
                panel(Lines, "Recoveries by duration", "Recoveries a second that took at most so long.")
                    .query("sum by (le) (rate(greenroom_session_recovery_seconds_bucket{@}[$__rate_interval]))", "{{le}} s")
                    .unit("ops"),
            ),
        ],
    }
}
