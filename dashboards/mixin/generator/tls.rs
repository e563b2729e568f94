//! The listeners' certificates: alerts and panels.

use super::{
    alerts::{Alert, Cause, Link, OWN, Severity, case},
    panels::{
        Item::{self, Panel, Row},
        View::Lines,
        panel,
    },
};

/// All of them.
pub(crate) fn alerts() -> Vec<Alert> {
    vec![expiring(), refused()]
}

fn expiring() -> Alert {
    const EXPIRY: &str = "greenroom_tls_certificate_expiry_seconds{listener=\"server\"}";
    Alert {
        name: "GreenroomCertificateExpiring".to_owned(),
        group: OWN,
        severity: Severity::Warning,
        cause: Cause::Greenroom,
        // 7 days: whoever renews at two thirds of 90 days has tried for three weeks by then.
        expr: "min by (job, instance, listener) (greenroom_tls_certificate_expiry_seconds) - time() < 604800".to_owned(),
        hold: "15m",
        summary: "The certificate of {{ $labels.listener }} at {{ $labels.instance }} ends in {{ $value | humanizeDuration }}."
            .to_owned(),
        description: "Clients refuse the listener when it has ended. Greenroom serves a new file within seconds, without a \
                      restart, so none has come."
            .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "five days are left",
                &[(EXPIRY, "432000x60")],
                "30m",
                &[("GreenroomCertificateExpiring", "instance=\"a\",listener=\"server\"")],
            ),
            case("thirty days are left", &[(EXPIRY, "2592000x60")], "30m", &[]),
            case("renewed in time", &[(EXPIRY, "432000x10 8208000x50")], "30m", &[]),
        ],
    }
}

fn refused() -> Alert {
    const ERRORS: &str = "greenroom_tls_reloads_total{listener=\"admin\",result=\"error\"}";
    const OK: &str = "greenroom_tls_reloads_total{listener=\"admin\",result=\"ok\"}";
    Alert {
        name: "GreenroomCertificateRefused".to_owned(),
        group: OWN,
        severity: Severity::Warning,
        cause: Cause::Configuration,
        expr: "sum by (job, instance, listener) (increase(greenroom_tls_reloads_total{result=\"error\"}[1h])) > 0\n\
               unless on (job, instance, listener)\n\
               sum by (job, instance, listener) (increase(greenroom_tls_reloads_total{result=\"ok\"}[10m])) > 0"
            .to_owned(),
        hold: "1m",
        summary: "New certificate files of {{ $labels.listener }} at {{ $labels.instance }} cannot be used.".to_owned(),
        description: "The files changed and are not whole, do not fit together or cannot be read; the log says which. The \
                      old certificate is served until it ends."
            .to_owned(),
        link: Link::Own,
        cases: vec![
            case(
                "a key that does not fit",
                &[(ERRORS, "0x10 1x60"), (OK, "0x70")],
                "25m",
                &[("GreenroomCertificateRefused", "instance=\"a\",listener=\"admin\"")],
            ),
            case("a renewal", &[(ERRORS, "0x70"), (OK, "0x10 1x60")], "25m", &[]),
            case("half a renewal, then the rest", &[(ERRORS, "0x10 1x60"), (OK, "0x11 1x59")], "15m", &[]),
        ],
    }
}

/// Their row of the dashboard of Greenroom itself.
pub(crate) fn panels() -> Vec<Item> {
    vec![
        Row("Certificates"),
        Panel(
            panel(Lines, "Certificates end in", "No line where a listener has no TLS.")
                .query(
                    "min by (instance, listener) (greenroom_tls_certificate_expiry_seconds{@}) - time()",
                    "{{instance}} {{listener}}",
                )
                .unit("s"),
        ),
        Panel(
            panel(Lines, "New certificates", "Files that changed: taken, or refused.").query(
                "sum by (instance, listener, result) (increase(greenroom_tls_reloads_total{@}[$__rate_interval]))",
                "{{instance}} {{listener}} {{result}}",
            ),
        ),
    ]
}
