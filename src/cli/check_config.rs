//! `greenroom check-config`.

use std::{path::PathBuf, process::ExitCode};

use super::output;
use crate::config::{self, ConfigErrors};

/// The exit code for a file that has mistakes.
const EXIT_MISTAKES: u8 = 2;
/// The exit code for a file that cannot be read.
const EXIT_UNREADABLE: u8 = 1;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the file as `serve` does, with the overrides and secrets of the environment, and starts nothing.

Exit codes: 0 the file is good; 1 it cannot be read; 2 it has mistakes, each on a line of stderr as
FILE:LINE:COLUMN: KEY: what is wrong and what is allowed. Secrets are never shown.")]
pub(super) struct Args {
    /// The configuration file.
    file: PathBuf,
}

#[expect(clippy::needless_pass_by_value, reason = "every subcommand's `run` takes its arguments so")]
pub(super) fn run(args: Args) -> ExitCode {
    let file = args.file.display();
    match config::load(&args.file, &config::environment()) {
        Ok(config) => {
            let count = config.tenants.len();
            let noun = if count == 1 { "tenant" } else { "tenants" };
            output::say(&format!("{file}: ok ({count} {noun})"));
            for note in config.notes() {
                output::say(&format!("{file}: note: {note}"));
            }
            ExitCode::SUCCESS
        }
        Err(errors) => {
            output::complain(&errors.to_string());
            ExitCode::from(match errors {
                ConfigErrors::Unreadable { .. } => EXIT_UNREADABLE,
                ConfigErrors::Mistakes(_) => EXIT_MISTAKES,
            })
        }
    }
}
