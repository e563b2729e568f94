//! Every metric is looked at by somebody, and nobody looks at what does not exist.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    generator::{alerts, records},
    shown::{queries, runbook_queries},
    world::World,
};

/// Metrics of the design that no process has yet, and why something is asked of them already.
const NOT_YET: [(&str, &str); 4] = [
    ("greenroom_clients", "comes with the drop-in ingress; until then the panel says \"no data\""),
    ("greenroom_store_commit_seconds", "comes with the durable store; a store in memory commits nothing"),
    ("greenroom_tls_certificate_expiry_seconds", "the process of this test has no TLS"),
    ("greenroom_tls_reloads_total", "the process of this test has no TLS"),
];

/// Series that Prometheus itself makes.
const OF_PROMETHEUS: [&str; 4] = ["up", "ALERTS", "scrape_samples_scraped", "scrape_duration_seconds"];

/// What a running process exposes: each metric with its labels. Histograms under their base name.
fn exposed() -> BTreeMap<String, BTreeSet<String>> {
    let world = World::usual();
    super::world::create_avatar(&world.greenroom.acme, "seen");
    let text = world.greenroom.admin.without_key().get("/metrics").is(200).body;
    let histograms: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")).collect();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        found.entry(base(name, &histograms)).or_default().extend(labels.map(|(label, _)| label.to_owned()));
    }
    assert!(found.len() >= 22, "{found:?}");
    found
}

fn base(name: &str, histograms: &BTreeSet<&str>) -> String {
    let of_histogram = ["_bucket", "_sum", "_count"]
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix))
        .find(|name| histograms.contains(name));
    of_histogram.unwrap_or(name).to_owned()
}

/// The metrics and records in an expression, each with the labels that it is selected by.
fn asked(expr: &str) -> Vec<(String, Vec<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '"' || c == '$') {
        rest = &rest[start..];
        if rest.starts_with('"') {
            let end = rest[1..].find('"').unwrap() + 2;
            rest = &rest[end..];
            continue;
        }
        let length = rest[1..].find(|c| !is_name(c)).map_or(rest.len(), |end| end + 1);
        let (name, after) = rest.split_at(length);
        rest = after;
        let selected = after.strip_prefix('{').map(|selector| selector.split_once('}').unwrap().0);
        if OF_PROMETHEUS.contains(&name) || name.contains("greenroom_") {
            let labels = selected
                .unwrap_or_default()
                .split("\",")
                .filter_map(|matcher| Some(matcher.split(['=', '!']).next()?.to_owned()))
                .filter(|label| !label.is_empty())
                .collect();
            found.push((name.to_owned(), labels));
        }
        if let Some(selected) = selected {
            rest = &rest[selected.len() + 2..];
        }
    }
    found
}

#[test]
fn names_and_labels_are_read_from_expressions() {
    let read = asked(
        "sum by (job) (rate(greenroom_x_bucket{job=~\"$job\",code=~\"a|greenroom_no\"}[5m])) > 0\nand up == a:greenroom_y:sum",
    );
    let names: Vec<_> = read.iter().map(|(name, labels)| (name.as_str(), labels.len())).collect();
    assert_eq!(names, [("greenroom_x_bucket", 2), ("up", 0), ("a:greenroom_y:sum", 0)]);
}

/// The labels that an expression groups or matches by.
fn grouped_by(expr: &str) -> Vec<String> {
    ["by (", "on (", "ignoring (", "without ("]
        .iter()
        .flat_map(|opening| expr.split(opening).skip(1))
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .flat_map(|labels| labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned))
        .collect()
}

/// Every expression with the place where it stands.
fn expressions() -> Vec<(String, String)> {
    let rules = records().into_iter().map(|record| (record.name, record.expr));
    let alerts = alerts(1, "greenroom").into_iter().map(|alert| (alert.name, alert.expr));
    let shown = queries(true).into_iter().chain(runbook_queries()).map(|query| (query.place, query.expr));
    rules.chain(alerts).chain(shown).collect()
}

#[test]
fn every_expression_asks_for_metrics_and_labels_that_exist() {
    let exposed = exposed();
    let histograms: BTreeSet<&str> =
        exposed.iter().filter(|(_, labels)| labels.contains("le")).map(|(name, _)| name.as_str()).collect();
    let recorded: BTreeSet<String> = records().into_iter().map(|record| record.name).collect();
    let mut labels: BTreeSet<&str> = exposed.values().flatten().map(String::as_str).collect();
    // The last two are those of TLS, which the process of this test has not.
    labels.extend(["job", "instance", "alertname", "severity", "cause", "listener", "result"]);
    for (place, expr) in expressions() {
        for label in grouped_by(&expr) {
            assert!(labels.contains(label.as_str()), "{place} groups by {label}, which nothing has: {expr}");
        }
        let asked = asked(&expr);
        assert!(!asked.is_empty(), "{place} asks for nothing: {expr}");
        for (name, labels) in asked {
            let later = NOT_YET.iter().any(|(metric, _)| name.starts_with(metric));
            if recorded.contains(&name) || OF_PROMETHEUS.contains(&name.as_str()) || later {
                continue;
            }
            let known = exposed.get(&base(&name, &histograms));
            let known = known.unwrap_or_else(|| panic!("{place} asks for {name}, which no process has"));
            for label in labels {
                let of_scrape = ["job", "instance"].contains(&label.as_str());
                assert!(of_scrape || known.contains(&label), "{place}: {name} has no label {label}");
            }
        }
    }
}

#[test]
fn every_metric_is_on_a_panel_and_every_record_is_used() {
    let exposed = exposed();
    let histograms: BTreeSet<&str> =
        exposed.iter().filter(|(_, labels)| labels.contains("le")).map(|(name, _)| name.as_str()).collect();
    let on_panels: BTreeSet<String> = queries(false)
        .iter()
        .flat_map(|query| asked(&query.expr))
        .map(|(name, _)| base(&name, &histograms))
        .collect();
    let unseen: Vec<_> = exposed.keys().filter(|name| !on_panels.contains(*name)).collect();
    assert!(unseen.is_empty(), "on no panel: {unseen:?}");
    let used: BTreeSet<String> = expressions()
        .iter()
        .filter(|(place, _)| place != "runbooks")
        .flat_map(|(_, expr)| asked(expr))
        .map(|(name, _)| name)
        .collect();
    let idle: Vec<_> =
        records().into_iter().map(|record| record.name).filter(|name| !used.contains(name)).collect();
    assert!(idle.is_empty(), "used by nobody: {idle:?}");
}
