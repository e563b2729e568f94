//! What an alert is.

use super::{codes, fleet, health, objectives, tls, traces, webhooks};

/// How soon somebody must look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Now: it wakes somebody.
    Critical,
    /// Today: a ticket.
    Warning,
    /// Whoever owns it should know.
    Info,
}

impl Severity {
    /// The label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Where the fault most likely lies, and so who acts. Alerts are routed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The avatar service.
    Service,
    /// The way to the service, or to Greenroom.
    Network,
    /// The tenant's bill.
    Billing,
    /// The tenant's code or configuration.
    Configuration,
    /// Greenroom, its machine or its configuration.
    Greenroom,
}

impl Cause {
    /// The label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Network => "network",
            Self::Billing => "billing",
            Self::Configuration => "configuration",
            Self::Greenroom => "greenroom",
        }
    }
}

/// A dashboard that an alert points to, with the variables that it fills in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    /// The fleet.
    Fleet,
    /// The tenant of the alert.
    Tenant,
    /// The code of the alert.
    Session,
    /// The upstream.
    Upstream,
    /// Greenroom itself.
    Own,
}

impl Link {
    /// The path of the dashboard in Grafana.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Fleet => "/d/greenroom-fleet",
            Self::Tenant => "/d/greenroom-tenant?var-tenant={{ $labels.tenant }}",
            Self::Session => "/d/greenroom-session?var-code={{ $labels.code }}",
            Self::Upstream => "/d/greenroom-upstream",
            Self::Own => "/d/greenroom-self",
        }
    }
}

/// The group of rules on Greenroom itself, whatever part of it they are about.
pub(crate) const OWN: &str = "greenroom-self";

/// An alert with its proof.
pub(crate) struct Alert {
    /// Its name, which is also its anchor in the runbooks.
    pub(crate) name: String,
    /// The group of rules.
    pub(crate) group: &'static str,
    /// How soon somebody must look.
    pub(crate) severity: Severity,
    /// Who acts.
    pub(crate) cause: Cause,
    /// The condition.
    pub(crate) expr: String,
    /// How long it must hold.
    pub(crate) hold: &'static str,
    /// One line.
    pub(crate) summary: String,
    /// What it means and what Greenroom does meanwhile.
    pub(crate) description: String,
    /// Where to look.
    pub(crate) link: Link,
    /// When it fires and when not.
    pub(crate) cases: Vec<Case>,
}

/// A history, and what fires at its end.
pub(crate) struct Case {
    /// What happens, in words.
    pub(crate) name: String,
    /// Seconds between samples and evaluations.
    pub(crate) interval: &'static str,
    /// Series without `job` and `instance`, with values as `promtool` takes them.
    pub(crate) series: Vec<(String, String)>,
    /// When to look.
    pub(crate) at: &'static str,
    /// Every alert that fires then, with the labels that are not always the same.
    pub(crate) firing: Vec<(String, String)>,
}

/// A case at steps of a minute.
pub(crate) fn case(name: &str, series: &[(&str, &str)], at: &'static str, firing: &[(&str, &str)]) -> Case {
    let owned = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
    };
    Case { name: name.to_owned(), interval: "1m", series: owned(series), at, firing: owned(firing) }
}

/// All of them.
pub(crate) fn all(outbox_session_bytes: u64, job: &str) -> Vec<Alert> {
    let mut alerts = codes::alerts();
    alerts.extend(objectives::alerts());
    alerts.extend(fleet::alerts());
    alerts.extend(health::alerts(outbox_session_bytes, job));
    alerts.extend(tls::alerts());
    alerts.extend(webhooks::alerts());
    alerts.extend(traces::alerts());
    alerts
}
