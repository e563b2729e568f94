//! Webhooks: alerts and panels.

use super::{
    alerts::{Alert, Cause, Link, OWN, Severity, case},
    panels::{
        Item::{self, Panel, Row},
        View::{Lines, Stacked},
        panel,
    },
};

/// All of them.
pub(crate) fn alerts() -> Vec<Alert> {
    vec![failing(), dropped(), disabled()]
}

fn failing() -> Alert {
    const DELIVERED: &str = "greenroom_webhook_deliveries_total{outcome=\"delivered\"}";
    const TIMEOUT: &str = "greenroom_webhook_deliveries_total{outcome=\"timeout\"}";
    Alert {
        name: "GreenroomWebhookFailing".to_owned(),
        group: OWN,
        severity: Severity::Warning,
        cause: Cause::Configuration,
        // 5: one message makes two attempts within seconds and three within six minutes.
        expr: "sum by (job, instance) (increase(greenroom_webhook_deliveries_total{outcome!=\"delivered\"}[30m])) > 5\n\
               and on (job, instance)\n\
               sum by (job, instance) (increase(greenroom_webhook_deliveries_total{outcome!=\"delivered\"}[30m]))\n\
               > sum by (job, instance) (increase(greenroom_webhook_deliveries_total{outcome=\"delivered\"}[30m]))"
            .to_owned(),
        hold: "5m",
        summary: "More webhooks of {{ $labels.instance }} fail than are taken.".to_owned(),
        description: "A receiver answers with an error, late or not at all. Each message is tried for three days; GET \
                      /v1/webhooks tells which endpoint it is."
            .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "a receiver that does not answer",
                &[(TIMEOUT, "0x10 0+1x50"), (DELIVERED, "0x60")],
                "40m",
                &[("GreenroomWebhookFailing", "instance=\"a\"")],
            ),
            case("one that failed for a moment", &[(TIMEOUT, "0x10 3x50"), (DELIVERED, "0x60")], "40m", &[]),
            case("one of many", &[(TIMEOUT, "0x10 0+1x50"), (DELIVERED, "0+5x60")], "40m", &[]),
        ],
    }
}

fn dropped() -> Alert {
    const FULL: &str = "greenroom_webhook_dropped_total{reason=\"full\"}";
    const REMOVED: &str = "greenroom_webhook_dropped_total{reason=\"removed\"}";
    Alert {
        name: "GreenroomWebhookDropped".to_owned(),
        group: OWN,
        severity: Severity::Warning,
        cause: Cause::Configuration,
        expr: "sum by (job, instance, reason) (increase(greenroom_webhook_dropped_total{reason=~\"attempts|full|gap\"}[15m])) > 0"
            .to_owned(),
        hold: "1m",
        summary: "Webhooks of {{ $labels.instance }} are given up ({{ $labels.reason }}).".to_owned(),
        description: "Somebody was not told of something: a receiver took nothing for three days (attempts), as many \
                      messages wait for it as may (full), or events came faster than they were looked at (gap)."
            .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "a full queue",
                &[(FULL, "0x10 1x50")],
                "20m",
                &[("GreenroomWebhookDropped", "instance=\"a\",reason=\"full\"")],
            ),
            case("an endpoint that was taken out", &[(REMOVED, "0x10 7x50")], "20m", &[]),
        ],
    }
}

fn disabled() -> Alert {
    const DISABLED: &str = "greenroom_webhook_endpoints_disabled";
    Alert {
        name: "GreenroomWebhookDisabled".to_owned(),
        group: OWN,
        severity: Severity::Info,
        cause: Cause::Configuration,
        expr: "max by (job, instance) (greenroom_webhook_endpoints_disabled) > 0".to_owned(),
        hold: "5m",
        summary: "{{ $value }} webhook endpoints of {{ $labels.instance }} answered 410 and get nothing."
            .to_owned(),
        description:
            "The receiver says that the address is gone. Take it out of the configuration, or enable it with \
                      POST /v1/webhooks/ID/enable."
                .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "one that is gone",
                &[(DISABLED, "0x10 1x50")],
                "20m",
                &[("GreenroomWebhookDisabled", "instance=\"a\"")],
            ),
            case("enabled at once", &[(DISABLED, "0x10 1x2 0x48")], "20m", &[]),
        ],
    }
}

/// Their row of the dashboard of Greenroom itself.
pub(crate) fn panels() -> Vec<Item> {
    vec![
        Row("Webhooks"),
        Panel(
            panel(
                Stacked,
                "Attempts to deliver webhooks",
                "By how they ended; delivered is an answer of 2xx.",
            )
            .query(
                "sum by (outcome) (increase(greenroom_webhook_deliveries_total{@}[$__rate_interval]))",
                "{{outcome}}",
            ),
        ),
        Panel(
            panel(
                Lines,
                "Webhooks that wait, and endpoints that are gone",
                "Neither delivered nor given up; disabled by a 410.",
            )
            .query("sum by (instance) (greenroom_webhook_queue{@})", "{{instance}} waiting")
            .query("sum by (instance) (greenroom_webhook_endpoints_disabled{@})", "{{instance}} disabled"),
        ),
        Panel(panel(Stacked, "Webhooks given up", "Somebody was not told, but for removed.").query(
            "sum by (reason) (increase(greenroom_webhook_dropped_total{@}[$__rate_interval]))",
            "{{reason}}",
        )),
    ]
}
