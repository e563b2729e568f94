//! The rules as Prometheus reads them, and the alerts' cases.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use greenroom::errors::ErrorCode;
use serde_json::Value;

use super::{
    folder,
    generator::{alerts, files, scaled},
    settings,
};

/// What `promtool` says in `folder`.
fn promtool(folder: &std::path::Path, arguments: &[&str]) -> String {
    let output =
        Command::new("promtool").args(arguments).current_dir(folder).output().unwrap_or_else(|error| {
            panic!("promtool does not start ({error}): install it (Debian: apt-get install prometheus)")
        });
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{arguments:?}:\n{said}");
    said
}

#[test]
fn promtool_accepts_the_rules_and_the_configuration() {
    let folder = folder().join("prometheus");
    let said = promtool(&folder, &["check", "rules", "greenroom-records.yml", "greenroom-alerts.yml"]);
    assert_eq!(said.matches("SUCCESS").count(), 2, "{said}");
    promtool(&folder, &["check", "config", "prometheus.yml"]);
}

#[test]
fn promtool_accepts_the_rules_of_another_job_and_of_another_scale() {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files(&settings(&["--job", "edge", "--time-scale", "60"])) {
        if let Some(name) = path.strip_prefix("prometheus/") {
            fs::write(folder.path().join(name), text).unwrap();
        }
    }
    promtool(folder.path(), &["check", "config", "prometheus.yml"]);
}

#[test]
fn each_alert_fires_when_it_should_and_not_when_it_should_not() {
    let folder = folder().join("prometheus");
    let said = promtool(&folder, &["test", "rules", "greenroom-tests.yml"]);
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn each_alert_has_a_case_where_it_fires_and_one_where_it_does_not() {
    for alert in alerts(1, "greenroom") {
        let own = |case: &&super::generator::Case| case.firing.iter().any(|(name, _)| *name == alert.name);
        assert!(alert.cases.iter().any(|case| own(&case)), "{} never fires", alert.name);
        assert!(alert.cases.iter().any(|case| !own(&case)), "{} always fires", alert.name);
    }
}

#[test]
fn each_code_has_one_alert_and_each_alert_its_words() {
    let alerts = alerts(1, "greenroom");
    for code in ErrorCode::ALL {
        let selector = format!("{{code=\"{code}\"}}");
        let own = alerts.iter().filter(|alert| alert.expr.contains(&selector)).count();
        assert_eq!(own, 1, "{code}");
    }
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "two of one name");
    for alert in &alerts {
        let camel = alert.name.strip_prefix("Greenroom").unwrap();
        assert!(camel.starts_with(char::is_uppercase) && camel.chars().all(char::is_alphanumeric), "{camel}");
        // Grafana takes ids of at most 40 characters.
        assert!(alert.name.len() <= 40, "{}", alert.name);
        for text in [&alert.summary, &alert.description] {
            assert!(text.ends_with('.') && !text.contains("  "), "{}: {text}", alert.name);
        }
    }
}

#[test]
fn grafana_evaluates_the_same_alerts_as_prometheus() {
    let read = |path: &str| -> Value {
        serde_saphyr::from_str(&fs::read_to_string(folder().join(path)).unwrap()).unwrap()
    };
    let rules = |file: &Value| -> Vec<Value> {
        let groups = file["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    };
    let prometheus: BTreeMap<String, [Value; 3]> = rules(&read("prometheus/greenroom-alerts.yml"))
        .into_iter()
        .map(|rule| {
            let told = ["expr", "for", "labels"].map(|key| rule[key].clone());
            (rule["alert"].as_str().unwrap().to_owned(), told)
        })
        .collect();
    let grafana: BTreeMap<String, [Value; 3]> = rules(&read("grafana/provisioning/alerting/greenroom.yml"))
        .into_iter()
        .map(|rule| {
            // Only Prometheus's templates know `$value`; Grafana's would print the whole of it.
            assert!(!rule["annotations"].to_string().contains("$value "), "{rule}");
            let told =
                [rule["data"][0]["model"]["expr"].clone(), rule["for"].clone(), rule["labels"].clone()];
            (rule["title"].as_str().unwrap().to_owned(), told)
        })
        .collect();
    assert_eq!(grafana, prometheus);
    assert!(prometheus.len() >= 39, "{}", prometheus.len());
}

#[test]
fn a_scale_shortens_windows_and_offsets_and_nothing_else() {
    assert_eq!(
        scaled("rate(x[5m]) > 5 * m5m[1h] offset 15m", 60),
        "rate(x[5000ms]) > 5 * m5m[60000ms] offset 15000ms"
    );
    assert_eq!(scaled("a:b:increase5m / c[$__rate_interval]", 60), "a:b:increase5m / c[$__rate_interval]");
    assert_eq!(scaled("x[3d]", 1), "x[3d]");
}
