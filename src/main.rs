//! The entry of the `greenroom` command.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
use tikv_jemallocator::Jemalloc;

/// A process that runs for months under changing load gives memory back, and does not break it into pieces.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    greenroom::cli::run()
}
