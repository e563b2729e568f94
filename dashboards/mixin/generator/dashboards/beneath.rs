//! The dashboards of what is beneath the sessions: the way to the service, and Greenroom itself.

use super::{
    super::{
        panels::{
            Dashboard,
            Item::{Panel, Row},
            Variable::Labels,
            View::{Lines, Number, Stacked, States, Table},
            panel,
        },
        tls, traces, webhooks,
    },
    quantile,
};

pub(super) fn upstream() -> Dashboard {
    let steps = |title, what, metric: &'static str| {
        let of =
            |part| if metric.contains("first") { quantile(part, metric) } else { quantile_ok(part, metric) };
        panel(Lines, title, what)
            .query(of("0.5"), "half")
            .query(of("0.95"), "95 %")
            .query(of("0.99"), "99 %")
            .unit("s")
            .from(2.5, "red")
    };
    Dashboard {
        uid: "greenroom-upstream",
        title: "Greenroom / upstream",
        what: "Is it the avatar service, or the way to it?",
        variables: vec![Labels("upstream", "label_values(greenroom_breaker_state{job=~\"$job\"}, upstream)")],
        items: vec![
            Row("Breaker and gate"),
            Panel(
                panel(States, "Breaker", "Open: nobody knocks but the probe.")
                    .query(
                        "max by (instance, upstream) (greenroom_breaker_state{@,upstream=~\"$upstream\"})",
                        "{{upstream}} {{instance}}",
                    )
                    .word("0", "closed")
                    .word("1", "half-open")
                    .word("2", "open")
                    .from(1.0, "orange")
                    .from(2.0, "red"),
            ),
            Panel(
                panel(Lines, "Waiting at the gate", "Attempts that wait for their turn, or for the breaker.").query(
                    "sum by (upstream) (greenroom_gate_waiting{@,upstream=~\"$upstream\"})",
                    "{{upstream}}",
                ),
            ),
            Row("How long it takes"),
            Panel(steps("Token", "Calls for a session token that went well.", "greenroom_token_request_seconds")),
            Panel(steps("Handshake", "From the begin of a connection until it was confirmed.", "greenroom_handshake_seconds")),
            Panel(steps("First frame", "From a request's first audio until its first frame.", "greenroom_request_first_frame_seconds")),
            Panel(
                panel(Lines, "Attempts that end badly", "Of all connections, by code.")
                    .query(
                        "sum by (outcome) (rate(greenroom_handshake_seconds_count{@,outcome!=\"ok\"}[$__rate_interval]))\n/ ignoring (outcome) group_left ()\n\
                         (sum(rate(greenroom_handshake_seconds_count{@}[$__rate_interval])) > 0)",
                        "{{outcome}}",
                    )
                    .unit("percentunit"),
            ),
            Row("What flows"),
            Panel(
                panel(Lines, "Messages", "A second; up is to the service.")
                    .query("sum by (direction) (rate(greenroom_frames_total{@}[$__rate_interval]))", "{{direction}}")
                    .unit("ops"),
            ),
            Panel(
                panel(Lines, "Bytes", "A second; up is to the service.")
                    .query("sum by (direction) (rate(greenroom_bytes_total{@}[$__rate_interval]))", "{{direction}}")
                    .unit("Bps"),
            ),
            Panel(
                panel(Stacked, "Errors that speak of the service", "Errors a second.")
                    .query(
                        "sum by (code) (rate(greenroom_session_errors_total{@,code=~\"upstreamError|connectionFailed|serverError|egressUnavailable|connectionClosed|protocolError\"}[$__rate_interval]))",
                        "{{code}}",
                    )
                    .unit("ops"),
            ),
            Panel(
                panel(Lines, "Connections", "Open to the service, and sessions that run: the same but for a moment.")
                    .query("sum(greenroom_upstream_connections{@})", "connections")
                    .query("sum(greenroom_sessions{@,state=\"running\"})", "running sessions"),
            ),
        ],
    }
}

/// As [`quantile`], of what went well.
fn quantile_ok(quantile: &str, metric: &str) -> String {
    format!(
        "histogram_quantile({quantile}, sum by (le) (rate({metric}_bucket{{@,outcome=\"ok\"}}[$__rate_interval])))"
    )
}

pub(super) fn own() -> Dashboard {
    let mut dashboard = own_machine();
    dashboard.items.extend(tls::panels().into_iter().chain(traces::panels()));
    dashboard.items.extend(webhooks::panels());
    dashboard
}

fn own_machine() -> Dashboard {
    Dashboard {
        uid: "greenroom-self",
        title: "Greenroom / itself",
        what: "Is it Greenroom? Its processes, bounds, store and broken rules.",
        variables: vec![],
        items: vec![
            Row("Processes"),
            Panel(
                panel(States, "Seen by Prometheus", "")
                    .query("up{@}", "{{instance}}")
                    .word("0", "missing")
                    .word("1", "up"),
            ),
            Panel(
                panel(Table, "Running versions", "")
                    .query("max by (instance, version, commit) (greenroom_build_info{@})", ""),
            ),
            Panel(
                panel(Number, "Rules broken", "Invariants that were breached, in this range. Each is a bug to report.")
                    .query("sum(increase(greenroom_invariant_breaches_total{@}[$__range]))", "")
                    .from(0.5, "red")
                    .wide(6),
            ),
            Panel(
                panel(Lines, "Rules broken, by which", "")
                    .query("sum by (invariant) (increase(greenroom_invariant_breaches_total{@}[$__rate_interval]))", "{{invariant}}")
                    .wide(18),
            ),
            Row("Bounds"),
            Panel(
                panel(Lines, "Audio that waits", "In all outboxes; each session's bound is outbox.session_bytes.")
                    .query("sum by (instance) (greenroom_outbox_bytes{@})", "{{instance}}")
                    .unit("bytes"),
            ),
            Panel(
                panel(Lines, "Audio that waits, for each session", "On average.")
                    .query(
                        "sum(greenroom_outbox_bytes{@})\n/ clamp_min(sum(greenroom_sessions{@,state=~\"starting|running|backing_off\"}), 1)",
                        "a session",
                    )
                    .unit("bytes"),
            ),
            Panel(
                panel(Lines, "Clients", "Connections of tenants' backends to Greenroom.")
                    .query("sum by (instance) (greenroom_clients{@})", "{{instance}}"),
            ),
            Panel(
                panel(Lines, "Unknown and protocol errors", "A crash in a session's code counts as unknown.")
                    .query(
                        "sum by (code) (rate(greenroom_session_errors_total{@,code=~\"unknown|protocolError\"}[$__rate_interval]))",
                        "{{code}}",
                    )
                    .unit("ops"),
            ),
            Panel(
                panel(
                    Lines,
                    "Without ports or descriptors",
                    "Attempts a second that failed for want of local ports or open files on Greenroom's machine.",
                )
                .query(
                    "sum by (instance, resource) (rate(greenroom_host_shortages_total{@}[$__rate_interval]))",
                    "{{instance}} {{resource}}",
                )
                .unit("ops")
                .from(0.001, "red"),
            ),
            Row("Store"),
            Panel(
                panel(Lines, "Commit", "What is answered with 2xx waits for it.")
                    .query(quantile("0.5", "greenroom_store_commit_seconds"), "half")
                    .query(quantile("0.99", "greenroom_store_commit_seconds"), "99 %")
                    .unit("s")
                    .from(0.25, "red"),
            ),
            Panel(
                panel(Lines, "Commits", "A second.")
                    .query("sum by (instance) (rate(greenroom_store_commit_seconds_count{@}[$__rate_interval]))", "{{instance}}")
                    .unit("ops"),
            ),
            Panel(
                panel(
                    Lines,
                    "Events that histories lack",
                    "A second: the store took nothing for so long that timelines have holes. The stream of events had them.",
                )
                .query("sum by (instance) (rate(greenroom_history_lost_total{@}[$__rate_interval]))", "{{instance}}")
                .unit("ops")
                .from(0.001, "orange"),
            ),
            Panel(
                panel(Lines, "Streams of events", "Open GET /v1/events: consoles, ctl, backends. 512 are the most.")
                    .query("sum by (instance) (greenroom_event_streams{@})", "{{instance}}"),
            ),
            Row("Scrape"),
            Panel(
                panel(Lines, "Series", "Each tenant with a label of its own (telemetry.max_tenant_labels) has about 75.")
                    .query("scrape_samples_scraped{@}", "{{instance}}"),
            ),
            Panel(
                panel(Lines, "Duration of a scrape", "")
                    .query("scrape_duration_seconds{@}", "{{instance}}")
                    .unit("s"),
            ),
        ],
    }
}
