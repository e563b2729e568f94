//! The mixin in `dashboards/`: that it is what its source says, that it fits the metrics, and that Prometheus and
//! Grafana understand it as it is meant.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod committed;
mod coverage;
#[path = "../../dashboards/mixin/generator/mod.rs"]
mod generator;
#[path = "../blackbox/http.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod http;
mod incident;
#[path = "../blackbox/process.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod process;
mod prometheus;
mod rules;
mod shown;
#[path = "../blackbox/world.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod world;

use std::path::{Path, PathBuf};

use clap::Parser;
use generator::Settings;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// The settings that arguments of the generator give.
fn settings(arguments: &[&str]) -> Settings {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }
    Line::parse_from([&["mixin"], arguments].concat()).settings
}
