//! The entry of the `greenroom` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    greenroom::cli::run()
}
