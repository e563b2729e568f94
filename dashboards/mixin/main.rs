//! Writes the mixin: recording rules, alerts, dashboards and their tests. `cargo run --example mixin -- --help`
//!
//! The one source of what lies in `dashboards/prometheus` and `dashboards/grafana`; `tests/mixin` fails where they
//! differ from it.

mod generator;

use std::{fs, io, path::PathBuf};

use clap::Parser;
use generator::{Settings, files};

/// Writes Greenroom's alerts and dashboards
#[derive(Parser)]
struct Options {
    /// Where to write; a folder that keeps what else is in it
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards"))]
    out: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    for (path, text) in files(&options.settings) {
        let path = options.out.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}
