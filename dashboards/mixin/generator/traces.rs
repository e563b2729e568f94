//! Traces and their collector: panels.

use super::panels::{
    Item::{self, Panel, Row},
    View::Stacked,
    panel,
};

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
