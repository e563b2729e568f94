//! What is told of the past, traces and histories, and gets lost: panels and alerts.

use super::{
    alerts::{Alert, Cause, Link, OWN, Severity, case},
    panels::{
        Item::{self, Panel, Row},
        View::Stacked,
        panel,
    },
};

/// They are no harm to any session: whoever reads them later must know that something is missing.
pub(crate) fn alerts() -> Vec<Alert> {
    vec![traces(), histories()]
}

fn traces() -> Alert {
    const DROPPED: &str = "greenroom_traces_total{outcome=\"dropped\"}";
    const LEFT_OUT: &str = "greenroom_traces_total{outcome=\"sampled_out\"}";
    Alert {
        name: "GreenroomTracesDropped".to_owned(),
        group: OWN,
        severity: Severity::Info,
        cause: Cause::Greenroom,
        expr: "sum by (job, instance) (increase(greenroom_traces_total{outcome=\"dropped\"}[15m])) > 0"
            .to_owned(),
        hold: "5m",
        summary: "{{ $labels.instance }} drops traces: the collector does not take them.".to_owned(),
        description:
            "The OTLP collector of telemetry.otlp is away, refuses, or is slower than traces come. They are \
                      lost; sessions do not notice."
                .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "a collector that is away",
                &[(DROPPED, "0+5x60")],
                "30m",
                &[("GreenroomTracesDropped", "instance=\"a\"")],
            ),
            case(
                "traces that are left out as configured",
                &[(DROPPED, "0x60"), (LEFT_OUT, "0+5x60")],
                "30m",
                &[],
            ),
        ],
    }
}

fn histories() -> Alert {
    const LOST: &str = "greenroom_history_lost_total";
    Alert {
        name: "GreenroomHistoryLost".to_owned(),
        group: OWN,
        severity: Severity::Warning,
        cause: Cause::Greenroom,
        expr: "sum by (job, instance) (increase(greenroom_history_lost_total[15m])) > 0".to_owned(),
        hold: "1m",
        summary: "Timelines of sessions on {{ $labels.instance }} have gaps: their events could not be written."
            .to_owned(),
        description: "More events waited for the store than may, so the oldest were given up: its disk is full or slow, or \
                      a storm was longer than the queue. The sessions themselves are not affected."
            .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "a store that takes nothing for long",
                &[(LOST, "0x10 100x50")],
                "20m",
                &[("GreenroomHistoryLost", "instance=\"a\"")],
            ),
            case("nothing is lost", &[(LOST, "7x60")], "20m", &[]),
        ],
    }
}

/// Their row of the dashboard of Greenroom itself.
pub(crate) fn panels() -> Vec<Item> {
    vec![
        Row("Traces"),
        Panel(
            panel(
                Stacked,
                "Traces",
                "Of attempts and requests: exported, dropped where the collector is away or too slow, or left out by telemetry.otlp.sample_ratio. All 0 where no collector is configured.",
            )
            .query("sum by (outcome) (rate(greenroom_traces_total{@}[$__rate_interval]))", "{{outcome}}")
            .unit("ops"),
        ),
    ]
}
