//! The dashboards as Grafana reads them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use serde_json::Value;

use super::{folder, generator::dashboards};

/// A query of a panel: where it stands and what it asks.
pub(crate) struct Query {
    pub(crate) place: String,
    pub(crate) expr: String,
}

/// Every query of a panel, and of a variable or an annotation where `all` is set.
pub(crate) fn queries(all: bool) -> Vec<Query> {
    let mut queries = Vec::new();
    for dashboard in dashboards() {
        let json = dashboard.json();
        let mut add = |what: &Value, expr: &Value| {
            let place = format!("{}: {}", dashboard.title, what.as_str().unwrap());
            queries.push(Query { place, expr: expr.as_str().unwrap().to_owned() });
        };
        for panel in json["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                add(&panel["title"], &target["expr"]);
            }
        }
        if all {
            for annotation in json["annotations"]["list"].as_array().unwrap() {
                add(&annotation["name"], &annotation["expr"]);
            }
        }
    }
    queries
}

/// Every query that the runbooks tell to ask.
pub(crate) fn runbook_queries() -> Vec<Query> {
    let text = fs::read_to_string(folder().join("runbooks.md")).unwrap();
    let snippets = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let is_query = |snippet: &&str| {
        let metric = snippet.contains("greenroom_") && !snippet.contains("curl ");
        // A selector alone, in a list of what a metric's direction may be, is no query.
        metric && !snippet.starts_with("direction")
    };
    snippets
        .filter(is_query)
        .map(|snippet| Query { place: "runbooks".to_owned(), expr: snippet.to_owned() })
        .collect()
}

#[test]
fn panels_do_not_overlap_and_have_a_title_a_unit_and_a_query() {
    for dashboard in dashboards() {
        let json = dashboard.json();
        let mut cells: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for panel in json["panels"].as_array().unwrap() {
            let (id, at) = (panel["id"].as_u64().unwrap(), &panel["gridPos"]);
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| at[key].as_u64().unwrap());
            assert!(x + w <= 24 && w > 0 && h > 0, "{}: {at}", dashboard.uid);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert_eq!(cells.insert(cell, id), None, "{}: {cell:?}", dashboard.uid);
            }
            if matches!(panel["type"].as_str(), Some("row" | "text")) {
                continue;
            }
            assert!(!panel["title"].as_str().unwrap().is_empty(), "{panel}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{panel}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
        }
    }
}

#[test]
fn every_variable_that_a_dashboard_uses_is_one_that_it_has() {
    const OF_GRAFANA: [&str; 2] = ["__rate_interval", "__range"];
    let mut used = 0;
    for dashboard in dashboards() {
        let json = dashboard.json();
        let known: BTreeSet<&str> = json["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .chain(OF_GRAFANA)
            .collect();
        // `$__all` is what a variable is at first, and `$GREENROOM_...` the shell's.
        let text = json.to_string().replace("$__all", "").replace("$GREENROOM_ADMIN_KEY", "");
        for (at, _) in text.match_indices('$') {
            let rest = text[at + 1..].trim_start_matches('{');
            let name = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap()];
            assert!(known.contains(name), "{}: ${name}", dashboard.uid);
            used += 1;
        }
    }
    assert!(used > 100, "{used}");
}

#[test]
fn links_lead_to_dashboards_that_exist() {
    let uids: BTreeSet<&str> = dashboards().iter().map(|dashboard| dashboard.uid).collect();
    let texts = super::generator::files(&super::settings(&[]));
    let mut found = 0;
    for (path, text) in texts {
        for (at, _) in text.match_indices("/d/") {
            let uid = text[at + 3..].split(['?', '"', '\n', ' ']).next().unwrap();
            assert!(uids.contains(uid), "{path}: {uid}");
            found += 1;
        }
    }
    assert!(found > 39, "{found}");
}

/// What is published of Grafana's models, for the version that the README names.
const MODELS: [&str; 2] = ["grafana-foundation-sdk", "1769699998!10.1.0"];

#[test]
fn grafanas_published_models_know_every_key() {
    let venv = Command::new("bash")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/venv"))
        .args(MODELS)
        .output()
        .unwrap();
    assert!(venv.status.success(), "{}", String::from_utf8_lossy(&venv.stderr));
    let python = String::from_utf8(venv.stdout).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let rules = temporary.path().join("alerts.json");
    let provisioned =
        fs::read_to_string(folder().join("grafana/provisioning/alerting/greenroom.yml")).unwrap();
    let provisioned: Value = serde_saphyr::from_str(&provisioned).unwrap();
    fs::write(&rules, provisioned.to_string()).unwrap();
    let output = Command::new(python.trim())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mixin/grafana_schema.py"))
        .args(
            dashboards()
                .iter()
                .map(|dashboard| folder().join(format!("grafana/dashboards/{}.json", dashboard.uid))),
        )
        .arg(&rules)
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("5 dashboards"), "{said}");
}
