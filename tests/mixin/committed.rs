//! What is committed is what the source gives, and people find what it points to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use greenroom::errors::ErrorCode;
use serde_json::Value;

use super::{
    folder,
    generator::{alerts, files},
    settings,
};

fn paths_under(folder: &Path, from: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths_under(&path, from, found);
        } else {
            found.insert(path.strip_prefix(from).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn the_committed_files_are_those_that_the_generator_writes_and_no_others() {
    let generated = files(&settings(&[]));
    let mut committed = BTreeSet::new();
    for part in ["prometheus", "grafana"] {
        paths_under(&folder().join(part), &folder(), &mut committed);
    }
    assert_eq!(committed, generated.keys().cloned().collect(), "run `cargo run --example mixin`");
    for (path, text) in generated {
        let there = fs::read_to_string(folder().join(&path)).unwrap();
        assert!(there == text, "dashboards/{path} differs from its source: run `cargo run --example mixin`");
    }
}

#[test]
fn every_file_is_yaml_or_json() {
    for (path, text) in files(&settings(&["--job", "it's: \"odd\"", "--time-scale", "60"])) {
        let read: Value = if path.ends_with(".json") {
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
        } else {
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        assert!(read.is_object(), "{path}");
    }
}

#[test]
fn every_alert_has_its_section_in_the_runbooks_and_no_section_is_left_over() {
    let runbooks = fs::read_to_string(folder().join("runbooks.md")).unwrap();
    let mut anchors: BTreeMap<&str, &str> = runbooks
        .match_indices("<a id=\"")
        .map(|(at, opening)| {
            let (anchor, rest) = runbooks[at + opening.len()..].split_once("\"></a>\n").unwrap();
            // Two anchors may stand before one section.
            let body = rest.trim_start_matches(|c| c != '#');
            (anchor, body.split("\n<a id=").next().unwrap())
        })
        .collect();
    for alert in alerts(1, "greenroom") {
        let section = anchors.remove(alert.name.as_str()).unwrap_or_else(|| panic!("no {}", alert.name));
        let says = format!("`{}`, {}, cause {}", alert.name, alert.severity.as_str(), alert.cause.as_str());
        for part in [says.as_str(), "**Means:**", "**Look at:**", "**Do:**", "**Over when:**"] {
            assert!(section.contains(part), "{}: no {part}", alert.name);
        }
        assert!(
            ["admin \"$ADMIN", "admin -X POST \"$ADMIN", "curl "]
                .iter()
                .any(|command| section.contains(command)),
            "{}: no command",
            alert.name
        );
    }
    assert!(anchors.remove("alerts").is_some(), "the opening of the alerts");
    for code in ErrorCode::ALL {
        assert!(anchors.remove(code.as_str()).is_some(), "{code}");
    }
    assert!(anchors.is_empty(), "no alert and no code: {anchors:?}");
}
