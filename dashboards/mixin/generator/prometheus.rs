//! The files for Prometheus: rules, a configuration to try them with, and the rules' own tests.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    NOTICE, Settings,
    alerts::{Alert, all as alerts},
    cases, records,
    time::{scaled, shorter},
    yaml,
};

#[derive(Serialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rule {
    Record {
        record: String,
        expr: String,
    },
    Alert {
        alert: String,
        expr: String,
        #[serde(rename = "for")]
        hold: String,
        labels: BTreeMap<&'static str, String>,
        annotations: BTreeMap<&'static str, String>,
    },
}

/// The labels of an alert that are always the same.
pub(crate) fn labels(alert: &Alert) -> BTreeMap<&'static str, String> {
    [("cause", alert.cause.as_str()), ("severity", alert.severity.as_str())]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
}

/// What an alert says.
pub(crate) fn annotations(alert: &Alert, settings: &Settings) -> BTreeMap<&'static str, String> {
    [
        ("dashboard_url", format!("{}{}", settings.grafana, alert.link.path())),
        ("description", alert.description.clone()),
        ("runbook_url", format!("{}#{}", settings.runbooks, alert.name)),
        ("summary", alert.summary.clone()),
    ]
    .into()
}

/// The names of the groups of alerts, in their order.
pub(crate) fn groups(alerts: &[Alert]) -> Vec<&'static str> {
    let mut groups: Vec<_> = alerts.iter().map(|alert| alert.group).collect();
    groups.dedup();
    groups
}

/// The files.
pub(crate) fn files(settings: &Settings) -> BTreeMap<String, String> {
    let scale = settings.time_scale;
    // An evaluation must see what a scaled hold waits for.
    let interval = (scale > 1).then(|| shorter("1m", scale));
    let rules = records::all()
        .into_iter()
        .map(|record| Rule::Record { record: record.name, expr: scaled(&record.expr, scale) })
        .collect();
    let recorded = Rules {
        groups: vec![Group { name: "greenroom-records".to_owned(), interval: interval.clone(), rules }],
    };
    let alerts = alerts(settings.outbox_session_bytes, &settings.job);
    let rule = |alert: &Alert| Rule::Alert {
        alert: alert.name.clone(),
        expr: scaled(&alert.expr, scale),
        hold: shorter(alert.hold, scale),
        labels: labels(alert),
        annotations: annotations(alert, settings),
    };
    let told = Rules {
        groups: groups(&alerts)
            .into_iter()
            .map(|group| Group {
                name: group.to_owned(),
                interval: interval.clone(),
                rules: alerts.iter().filter(|alert| alert.group == group).map(rule).collect(),
            })
            .collect(),
    };
    let mut files = vec![
        ("prometheus/greenroom-records.yml", yaml(&recorded)),
        ("prometheus/greenroom-alerts.yml", yaml(&told)),
        ("prometheus/prometheus.yml", configuration(settings)),
    ];
    // The cases are in real minutes.
    if scale == 1 {
        files.push(("prometheus/greenroom-tests.yml", cases::tests(&alerts, &settings.job)));
    }
    files.into_iter().map(|(path, text)| (path.to_owned(), text)).collect()
}

fn configuration(settings: &Settings) -> String {
    format!("{NOTICE}{}", CONFIGURATION.replace("JOB", &format!("{:?}", settings.job)))
}

const CONFIGURATION: &str = r#"# To try it, in this folder, beside a Greenroom with its admin listener at 127.0.0.1:8081:
#
#   prometheus --config.file prometheus.yml --storage.tsdb.path /tmp/greenroom-prometheus
#
# then look at http://127.0.0.1:9090/alerts. In an installation, take over `rule_files` and the scrape job.
global:
  scrape_interval: 15s
  # At most a minute: the shortest alerts hold for one.
  evaluation_interval: 15s
rule_files:
  # The alerts need the records, and so do the dashboards and Grafana's own alerts.
  - greenroom-records.yml
  # Leave this one out where Grafana evaluates the alerts (grafana/provisioning/alerting).
  - greenroom-alerts.yml
scrape_configs:
  # GreenroomTargetMissing and the dashboards name the job.
  - job_name: JOB
    static_configs:
      - targets: ["127.0.0.1:8081"]
"#;
