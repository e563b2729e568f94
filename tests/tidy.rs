//! The house rules that a compiler does not know, held over the whole tree: each finding names file, line and
//! reason. Each check is shown a bad example too, so that it cannot pass by seeing nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tidy/checks.rs"]
mod checks;
#[path = "tidy/source.rs"]
mod source;

use std::{fs, path::Path, process::Command};

use source::{Source, crate_sources, files_under, sources_under};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn holds(check: fn(&Source) -> Vec<String>) {
    holds_in(&crate_sources(root()), check);
}

#[track_caller]
fn holds_in(sources: &[Source], check: fn(&Source) -> Vec<String>) {
    assert!(sources.len() > 10, "the walk found {} files only", sources.len());
    let findings: Vec<String> = sources.iter().flat_map(check).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// That `check` finds `expected` things in each of the texts.
#[track_caller]
fn finds(expected: usize, check: fn(&Source) -> Vec<String>, path: &str, texts: &[&str]) {
    for text in texts {
        let findings = check(&Source::new(path, text));
        assert_eq!(findings.len(), expected, "{text}\n{findings:?}");
        assert!(findings.iter().all(|finding| finding.starts_with(path)), "{findings:?}");
    }
}

#[test]
fn dependencies_point_one_way() {
    holds(checks::arrows);
}

#[test]
fn the_core_is_pure() {
    holds(checks::purity);
}

#[test]
fn nothing_panics_without_a_reason() {
    holds(checks::panics);
}

#[test]
fn no_file_is_too_long() {
    holds(checks::length);
    holds_in(&sources_under(root(), "dashboards"), checks::length);
}

#[test]
fn every_file_says_what_it_is_for() {
    holds(checks::opening);
    holds_in(&sources_under(root(), "dashboards"), checks::opening);
}

#[test]
fn nothing_is_left_for_later() {
    holds(checks::leftovers);
}

#[test]
fn log_messages_are_lower_case_without_a_period() {
    holds(checks::log_messages);
}

#[test]
fn no_tracked_file_names_a_package_registry() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let files = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect()
        }
        // An unpacked archive is no git checkout.
        Ok(_) | Err(_) => ["src", "tests", "config", "dashboards", "proto"]
            .iter()
            .flat_map(|folder| files_under(root(), folder))
            .collect::<Vec<_>>(),
    };
    assert!(files.len() > 20, "{files:?}");
    let findings: Vec<String> = files
        .iter()
        // A file may be deleted and not yet committed so.
        .filter_map(|file| Some((file, fs::read(root().join(file)).ok()?)))
        .flat_map(|(file, bytes)| checks::registry_hosts(file, &String::from_utf8_lossy(&bytes)))
        .collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn a_dependency_that_points_the_wrong_way_is_found() {
    finds(
        1,
        checks::arrows,
        "src/errors/code.rs",
        &[
            "use crate::recovery::Moment;",
            "use crate::{errors::Phase, outbox};",
            "fn f() -> crate::wire::Data {}",
            "use super::super::recovery::Moment;",
            "mod inner { use super::super::super::manager; }",
            "use crate::Phase;",
        ],
    );
    finds(1, checks::arrows, "src/errors/mod.rs", &["use super::config::Config;"]);
    finds(1, checks::arrows, "src/recovery/x.rs", &["use crate::outbox::Ledger;"]);
    finds(
        1,
        checks::arrows,
        "src/simulator/mod.rs",
        &["use crate::errors::Phase;", "use crate::upstream::X;"],
    );
    finds(1, checks::arrows, "src/wire/mod.rs", &["use crate::telemetry::X;"]);
    finds(1, checks::arrows, "src/store/mod.rs", &["use crate::config::X;", "use crate::tenants::X;"]);
    finds(1, checks::arrows, "src/config/mod.rs", &["use crate::tenants::X;"]);
    finds(1, checks::arrows, "src/upstream/mod.rs", &["use crate::session::X;", "use crate::simulator::X;"]);
    finds(1, checks::arrows, "src/http/mod.rs", &["use crate::simulator::X;", "use crate::cli::X;"]);
    finds(1, checks::arrows, "src/main.rs", &["fn main() { greenroom::http::run() }"]);
    finds(1, checks::arrows, "src/kitchen/mod.rs", &["//! A room that nobody planned."]);
}

#[test]
fn dependencies_that_point_the_right_way_are_left_alone() {
    let both = ["use crate::errors::Phase;", "use crate::recovery::{Moment, Policy};"];
    finds(0, checks::arrows, "src/outbox/ledger.rs", &both);
    finds(0, checks::arrows, "src/wire/mod.rs", &both);
    finds(0, checks::arrows, "src/tenants/mod.rs", &["use crate::{config::X, errors::Phase};"]);
    finds(0, checks::arrows, "src/cli/demo.rs", &["use crate::{http::X, simulator::Y, telemetry::Z, wire};"]);
    finds(
        0,
        checks::arrows,
        "src/http/api.rs",
        &["use crate::{session::X, store::Y}; use super::problem::P;"],
    );
    finds(0, checks::arrows, "src/simulator/mod.rs", &["use crate::wire::Data; use self::script::Script;"]);
    finds(
        0,
        checks::arrows,
        "src/errors/code.rs",
        &[
            "use super::Action; use crate::errors::Phase;",
            "//! See [`crate::recovery::Policy`].\nconst A: &str = \"crate::http\";",
            "#[cfg(test)]\nmod tests { use crate::recovery::Policy; }",
        ],
    );
}

#[test]
fn impurity_of_the_core_is_found() {
    finds(
        1,
        checks::purity,
        "src/recovery/x.rs",
        &[
            "use std::time::Instant;",
            "fn f() { let now = std::time::SystemTime::now(); }",
            "use tokio::sync::mpsc;",
            "use actix::Actor;",
            "fn f(a: actix_web::App) {}",
            "use awc::Client;",
            "fn f() { rand::random() }",
            "fn f() { std::env::var(X) }",
            "use std::{fmt, fs};",
            "use std::net::SocketAddr;",
            "use std::thread;",
            "static mut COUNT: u8 = 0;",
            "use std::sync::{Arc, Mutex};",
            "use std::collections::HashMap;",
            "fn f() { println!(\"x\") }",
            "fn f() { tracing::info!(\"x\") }",
        ],
    );
}

#[test]
fn what_is_pure_or_of_the_shell_or_of_a_test_is_left_alone() {
    finds(
        0,
        checks::purity,
        "src/errors/x.rs",
        &[
            "use std::{collections::BTreeMap, time::Duration};",
            "fn f(rand: f64, tokio: u8) { rand }",
            "//! No Instant, no HashMap.\nconst A: &str = \"Mutex\";",
            "#[cfg(test)]\nmod tests { use std::time::Instant; }",
        ],
    );
    finds(0, checks::purity, "src/session/mod.rs", &["use tokio::sync::mpsc; use std::time::Instant;"]);
}

#[test]
fn a_panic_without_a_reason_is_found() {
    finds(
        1,
        checks::panics,
        "src/session/mod.rs",
        &[
            "fn f() { x.unwrap(); }",
            "fn f() { x\n    .expect(\"y\"); }",
            "#[expect(clippy::expect_used)]\nfn f() { x.expect(\"y\"); }",
            "#[expect(clippy::expect_used, reason = \"r\")]\nfn f() { x.expect(\"y\") }\nfn g() { x.expect(\"z\") }",
        ],
    );
    finds(
        0,
        checks::panics,
        "src/session/mod.rs",
        &[
            "fn f() { x.unwrap_or(1); x.unwrap_or_default(); x.expect_err(\"y\"); }",
            "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }",
            "/// `x.unwrap()`\nfn f() { \".unwrap()\" }",
            "fn f() { #[expect(clippy::expect_used, reason = \"r\")]\n let y = x.expect(\"y\"); }",
        ],
    );
}

#[test]
fn a_long_file_and_one_without_an_opening_are_found() {
    let (long, enough) = ("//! x\n".repeat(501), "//! x\n".repeat(500));
    finds(1, checks::length, "src/x.rs", &[&long]);
    finds(0, checks::length, "src/x.rs", &[&enough]);
    finds(1, checks::opening, "src/x.rs", &["", "// A comment.\n", "\n//! Late.\n"]);
    finds(0, checks::opening, "src/x.rs", &["//! A file.\n"]);
}

#[test]
fn what_was_left_for_later_is_found() {
    let (later, broken) = (["// TO", "DO: x"].concat(), ["/* FIX", "ME */"].concat());
    let (unsure, gap) = (["// X", "XX"].concat(), ["fn f() { to", "do!() }"].concat());
    let hole = ["fn f() { unimple", "mented!() }"].concat();
    finds(1, checks::leftovers, "src/x.rs", &[&later, &broken, &unsure, &gap, &hole]);
    finds(0, checks::leftovers, "src/x.rs", &["//! A mastodon's todo list, all in XXXL."]);
}

#[test]
fn a_log_message_that_is_a_sentence_is_found() {
    finds(
        1,
        checks::log_messages,
        "src/x.rs",
        &[
            "fn f() { info!(\"Session started\") }",
            "fn f() { tracing::warn!(code = %code, \"session broke.\") }",
            "fn f() {\n    error!(\n        reason = \"it broke\",\n        \"A session broke: {}\", x,\n    )\n}",
        ],
    );
    finds(
        0,
        checks::log_messages,
        "src/x.rs",
        &[
            "fn f() { info!(\"session started\") }",
            "fn f() { debug!(session = \"Upper.\", count = f(1, 2), \"TLS failed: {x}\") }",
            "fn f() { Error(\"A sentence.\") }",
            "// info!(\"A comment.\")",
        ],
    );
}

#[test]
fn a_registry_host_is_found_but_in_the_lock_file() {
    let text = ["index = \"https://pypi", ".org/simple\""].concat();
    assert_eq!(checks::registry_hosts("tests/sdk/venv", &text).len(), 1);
    assert_eq!(checks::registry_hosts("Cargo.lock", &text), Vec::<String>::new());
    assert_eq!(checks::registry_hosts("README.md", "our crates, io and all"), Vec::<String>::new());
}
