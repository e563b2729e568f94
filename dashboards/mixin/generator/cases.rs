//! The alerts' cases as a file for `promtool test rules`.
//!
//! Each case asks for everything that fires, so that an alert that fires besides is found too.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    alerts::{Alert, Case},
    prometheus::{groups, labels},
    yaml,
};

#[derive(Serialize)]
struct Tests {
    rule_files: Vec<&'static str>,
    evaluation_interval: &'static str,
    group_eval_order: Vec<&'static str>,
    tests: Vec<Test>,
}

#[derive(Serialize)]
struct Test {
    name: String,
    interval: &'static str,
    input_series: Vec<Input>,
    promql_expr_test: Vec<Expectation>,
}

#[derive(Serialize)]
struct Input {
    series: String,
    values: String,
}

#[derive(Serialize)]
struct Expectation {
    expr: &'static str,
    eval_time: &'static str,
    exp_samples: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    labels: String,
    value: u32,
}

/// A series as one target has it.
fn scraped(series: &str, job: &str) -> String {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut all = labels.trim_end_matches('}').to_owned();
    for (label, value) in [("instance", "a"), ("job", job)] {
        if !all.split(',').any(|has| has.starts_with(&format!("{label}="))) {
            let comma = if all.is_empty() { "" } else { "," };
            all.push_str(&format!("{comma}{label}=\"{value}\""));
        }
    }
    format!("{name}{{{all}}}")
}

fn test(alert: &Alert, case: &Case, all: &BTreeMap<&str, &Alert>, job: &str) -> Test {
    let mut series = case.series.clone();
    // Without it, the target would be missing in every case.
    if !series.iter().any(|(name, _)| name == "up") {
        series.push(("up".to_owned(), "1x500".to_owned()));
    }
    let input_series =
        series.into_iter().map(|(series, values)| Input { series: scraped(&series, job), values }).collect();
    let exp_samples = case
        .firing
        .iter()
        .map(|(name, varying)| {
            let fixed: Vec<String> = labels(all[name.as_str()])
                .iter()
                .map(|(label, value)| format!("{label}=\"{value}\""))
                .collect();
            let comma = if varying.is_empty() { "" } else { "," };
            Sample {
                labels: format!(
                    "ALERTS{{alertname=\"{name}\",alertstate=\"firing\",job=\"{job}\",{}{comma}{varying}}}",
                    fixed.join(",")
                ),
                value: 1,
            }
        })
        .collect();
    let expr = "ALERTS{alertstate=\"firing\"}";
    Test {
        name: format!("{}: {}", alert.name, case.name),
        interval: case.interval,
        input_series,
        promql_expr_test: vec![Expectation { expr, eval_time: case.at, exp_samples }],
    }
}

/// The file.
pub(crate) fn tests(alerts: &[Alert], job: &str) -> String {
    let by_name: BTreeMap<&str, &Alert> = alerts.iter().map(|alert| (alert.name.as_str(), alert)).collect();
    yaml(&Tests {
        rule_files: vec!["greenroom-records.yml", "greenroom-alerts.yml"],
        evaluation_interval: "1m",
        // Within one instant, what alerts are built on comes first.
        group_eval_order: [&["greenroom-records"], &groups(alerts)[..]].concat(),
        tests: alerts
            .iter()
            .flat_map(|alert| alert.cases.iter().map(move |case| (alert, case)))
            .map(|(alert, case)| test(alert, case, &by_name, job))
            .collect(),
    })
}
