//! The files for Grafana: dashboards, where they are found, the data source, and the alerts as its own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Settings,
    alerts::{Alert, all as alerts},
    dashboards,
    prometheus::{annotations, groups, labels},
    time::{scaled, shorter},
    yaml,
};

/// The data source that is provisioned, and that Grafana's alerts ask.
const SOURCE: &str = "greenroom-prometheus";
const FOLDER: &str = "Greenroom";

/// The files.
pub(crate) fn files(settings: &Settings) -> BTreeMap<String, String> {
    let source = json!({"apiVersion": 1, "datasources": [{
        "name": "Greenroom Prometheus", "uid": SOURCE, "type": "prometheus", "access": "proxy",
        "url": "http://127.0.0.1:9090", "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
    }]});
    let provider = json!({"apiVersion": 1, "providers": [{
        "name": "greenroom", "folder": FOLDER, "folderUid": "greenroom", "type": "file", "allowUiUpdates": false,
        "options": {"path": "/var/lib/grafana/dashboards/greenroom"},
    }]});
    let mut files = BTreeMap::from([
        ("grafana/provisioning/datasources/greenroom.yml".to_owned(), yaml(&source)),
        ("grafana/provisioning/dashboards/greenroom.yml".to_owned(), yaml(&provider)),
        ("grafana/provisioning/alerting/greenroom.yml".to_owned(), yaml(&rules(settings))),
    ]);
    for dashboard in dashboards::all() {
        let mut json = dashboard.json();
        // Opened without a choice, a dashboard looks at the job that was generated for.
        json["templating"]["list"][1]["current"] =
            json!({"selected": true, "text": [settings.job], "value": [settings.job]});
        files.insert(format!("grafana/dashboards/{}.json", dashboard.uid), format!("{json:#}\n"));
    }
    files
}

fn rules(settings: &Settings) -> Value {
    let alerts = alerts(settings.outbox_session_bytes, &settings.job);
    let group = |name: &&str| {
        let rules: Vec<Value> =
            alerts.iter().filter(|alert| alert.group == *name).map(|alert| rule(alert, settings)).collect();
        let interval = if settings.time_scale == 1 { "1m".to_owned() } else { "10s".to_owned() };
        json!({"orgId": 1, "name": name, "folder": FOLDER, "interval": interval, "rules": rules})
    };
    json!({"apiVersion": 1, "groups": groups(&alerts).iter().map(group).collect::<Vec<_>>()})
}

/// As Grafana itself takes over a rule of Prometheus: an alert for each series that the query gives, whatever its
/// value, and none where it gives none.
fn rule(alert: &Alert, settings: &Settings) -> Value {
    let said: BTreeMap<_, _> = annotations(alert, settings)
        .into_iter()
        .map(|(name, text)| (name, text.replace("$value", "$values.A.Value")))
        .collect();
    let expression = |id: &str, model: Value| json!({"refId": id, "datasourceUid": "__expr__", "relativeTimeRange": {"from": 0, "to": 0}, "model": model});
    // One alert says that nothing can be asked; forty would say it forty times.
    let unanswered = if alert.name == "GreenroomTargetMissing" { "Error" } else { "OK" };
    json!({
        "uid": alert.name, "title": alert.name, "condition": "C", "for": shorter(alert.hold, settings.time_scale),
        "noDataState": "OK", "execErrState": unanswered, "isPaused": false,
        "labels": labels(alert), "annotations": said,
        "data": [
            {
                "refId": "A", "datasourceUid": SOURCE, "relativeTimeRange": {"from": 600, "to": 0},
                "model": {
                    "refId": "A", "expr": scaled(&alert.expr, settings.time_scale), "instant": true, "range": false,
                    "intervalMs": 1000, "maxDataPoints": 43200,
                },
            },
            expression("B", json!({
                "refId": "B", "type": "math", "expression": "is_number($A) || is_nan($A) || is_inf($A)",
            })),
            expression("C", json!({
                "refId": "C", "type": "threshold", "expression": "B",
                "conditions": [{"evaluator": {"type": "gt", "params": [0]}}],
            })),
        ],
    })
}
