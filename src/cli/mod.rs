//! The command line: one module a subcommand, each with its arguments and a `run` that gives the exit code.

mod bench;
mod check_config;
mod classify;
mod ctl;
mod demo;
mod doctor;
mod figures;
mod front;
mod keeping;
mod output;
pub mod process;
mod reload;
mod serve;
mod signals;
mod simulate;

use std::process::ExitCode;

#[cfg(feature = "fuzzing")]
pub(crate) use classify::fuzz as fuzz_classify;

use clap::{Parser, Subcommand};

/// A supervised session manager for realtime avatar sessions.
#[derive(Debug, Parser)]
#[command(name = "greenroom", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the session manager with a configuration file.
    Serve(serve::Args),
    /// Show the whole at work: the manager against the simulator, with faults. Needs nothing.
    Demo(demo::Args),
    /// Run the avatar service's simulator.
    Simulate(simulate::Args),
    /// Ask what Greenroom would make of an error, and do about it.
    Classify(classify::Args),
    /// Operate a running Greenroom: sessions, tenants, events, errors.
    Ctl(ctl::Args),
    /// Try the way to running sessions, step by step, and say who must act where it fails.
    Doctor(doctor::Args),
    /// Measure Greenroom against the simulator, and next to other clients. Needs nothing.
    Bench(bench::Args),
    /// The client without supervision that `bench` measures next to Greenroom.
    #[command(hide = true)]
    BenchBare(bench::BareArgs),
    /// The least program in front of the service that `bench` measures next to Greenroom.
    #[command(hide = true)]
    BenchLeast(bench::LeastArgs),
    /// Check a configuration file and name everything that is wrong with it.
    CheckConfig(check_config::Args),
}

/// Parses the command line and runs the command.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Classify(args) => classify::run(args),
        Command::Ctl(args) => ctl::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Bench(args) => bench::run(args),
        Command::BenchBare(args) => bench::run_bare(args),
        Command::BenchLeast(args) => bench::run_least(args),
        Command::CheckConfig(args) => check_config::run(args),
    }
}
