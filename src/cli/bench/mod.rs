//! `greenroom bench`: what Greenroom costs and how it behaves, measured against the simulator on one machine,
//! side by side with a client without supervision and with an official SDK.
//!
//! Three processes: Greenroom (`greenroom serve`, as in production), the simulator, and this one, which drives
//! them. Nothing is pinned. CPU and memory are read from `/proc` for each process by itself, so what the driver
//! and the simulator cost is not counted as Greenroom's, and is told beside it.
//!
//! Latencies have two clocks' worth of care. A frame's way is measured from the simulator's stamp of sending (in
//! its payload, on the machine's monotonic clock, which all processes share) to its receipt. The driver keeps
//! to a schedule that does not wait for answers, and the `schedule` latency counts from when the audio was
//! due, not from when it was sent: a stall delays what comes after it, and is counted for all of it.

mod bare;
mod children;
mod least;
mod product;
mod report;
mod rival;
mod scenarios;
mod schedule;
mod secured;
mod service;
mod upload;

use std::{io, path::PathBuf, process::ExitCode};

use actix::System;

pub(super) use bare::{Args as BareArgs, run as run_bare};
pub(super) use least::{Args as LeastArgs, run as run_least};
use product::Greenroom;
use report::{Report, Run};
use rival::Rival;
use service::Service;

use super::output;
use crate::simulator::Pace;

/// Sessions when the command line does not say.
const DEFAULT_SESSIONS: u32 = 200;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Scenario {
    /// Sessions that are open and silent.
    Idle,
    /// Sessions that are spoken to in real time over HTTP: 40 ms chunks, 25 frames a second.
    Stream,
    /// As `stream`, by the bare client through Greenroom's drop-in ingress.
    Relay,
    /// One session, spoken to as fast as it goes.
    Burst,
    /// All connections are lost in one instant.
    Drop,
    /// The service is away for some seconds: connections are lost, and new ones refused.
    Outage,
    /// Sessions that are created and ended, at a rate.
    Churn,
    /// Pages of the list, one session and the metrics, with a tenth of the sessions and with all.
    List,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Client {
    /// Greenroom.
    #[value(skip)]
    Greenroom,
    /// awc and nothing else: no supervision, no API, no metrics.
    Bare,
    /// An actix-web handler in front of awc and nothing else: the least that audio over HTTP can cost on these crates.
    Least,
    /// The official Python SDK `spatialreal`.
    Python,
}

impl Client {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Greenroom => "greenroom",
            Self::Bare => "bare",
            Self::Least => "least",
            Self::Python => "python",
        }
    }
}

/// What the answer to a streamed request has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Answer {
    /// The frames: each is counted and its order checked.
    Frames,
    /// The outcome, with the number of frames.
    Outcome,
}

/// The arguments.
///
/// Exit code 0 where no frame was lost and nothing went wrong; 1 otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to measure.
    #[arg(value_enum)]
    scenario: Scenario,
    /// Sessions; `burst` always has one.
    #[arg(long, short = 'n', default_value_t = DEFAULT_SESSIONS, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    sessions: u32,
    /// Seconds of measuring; for `outage`, of the outage.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Seconds from the last session that was opened to the begin of measuring.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3600))]
    settle: u32,
    /// Sessions that `churn` creates in a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// Greenroom's storm gate, attempts a second. The default is wide open, and for `drop` and `outage` that of
    /// the configuration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    gate: Option<u32>,
    /// Attempts under way at a time, for everybody who is measured.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// What the answer to a request of `stream` and `burst` has in it.
    #[arg(long, value_enum, default_value = "frames")]
    answer: Answer,
    /// Measure these too, in turns with Greenroom, and tell the ratios.
    #[arg(long, value_delimiter = ',', value_enum)]
    against: Vec<Client>,
    /// A Python that has `spatialreal` installed, for `--against python`.
    #[arg(long, value_name = "PATH", required_if_eq("against", "python"))]
    python: Option<PathBuf>,
    /// Take this many turns, each client once in each; the medians are told.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads of the simulator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    simulator_workers: u16,
    /// Connect to the simulator over TLS, with a certificate made for this run. Not with `--against python`.
    #[arg(long)]
    tls: bool,
    /// Keep Greenroom's sessions in memory: without it they are in a file, as `serve` has them.
    #[arg(long)]
    memory: bool,
    /// Tell everything as one JSON document.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What the gate lets through in a second.
    fn gate_per_second(&self) -> u32 {
        self.gate.unwrap_or(match self.scenario {
            Scenario::Drop | Scenario::Outage => crate::recovery::fleet::GateConfig::default().per_second,
            Scenario::Idle
            | Scenario::Stream
            | Scenario::Relay
            | Scenario::Burst
            | Scenario::Churn
            | Scenario::List => 10_000,
        })
    }

    fn sessions(&self) -> u32 {
        if self.scenario == Scenario::Burst { 1 } else { self.sessions }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "every subcommand's `run` takes its arguments so")]
pub(super) fn run(args: Args) -> ExitCode {
    if args.scenario == Scenario::List && !args.against.is_empty() {
        output::complain("greenroom bench: there is nothing that `list` could be compared with");
        return ExitCode::from(2);
    }
    let speaks_http = matches!(args.scenario, Scenario::Idle | Scenario::Stream | Scenario::Burst);
    if args.against.contains(&Client::Least) && (!speaks_http || args.tls) {
        output::complain("greenroom bench: `least` has idle, stream and burst, without TLS");
        return ExitCode::from(2);
    }
    if args.tls && args.against.contains(&Client::Python) {
        output::complain("greenroom bench: the Python SDK cannot be told to trust a certificate of this run");
        return ExitCode::from(2);
    }
    let _limit = rlimit::increase_nofile_limit(u64::MAX);
    match System::new().block_on(measure(&args)) {
        Ok(report) => {
            if args.json {
                output::say(&report.to_json());
            } else {
                output::say(&report.to_table());
            }
            if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            output::complain(&format!("greenroom bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &Args) -> io::Result<Report> {
    let mut clients = vec![Client::Greenroom];
    for client in &args.against {
        if !clients.contains(client) {
            clients.push(*client);
        }
    }
    let mut report = Report::new(args);
    for round in 0..args.rounds as usize {
        // Who begins changes from round to round, so that a slow moment does not always hit the same one.
        for turn in 0..clients.len() {
            let client = clients[(round + turn) % clients.len()];
            if !args.json {
                output::complain(&format!(
                    "round {} of {}: {} with {}",
                    round + 1,
                    args.rounds,
                    scenario_name(args.scenario),
                    client.as_str()
                ));
            }
            report.add(round, measure_one(args, client).await?);
        }
    }
    Ok(report)
}

fn scenario_name(scenario: Scenario) -> String {
    use clap::ValueEnum as _;
    scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

async fn measure_one(args: &Args, client: Client) -> io::Result<Run> {
    let pace = if args.scenario == Scenario::Burst { Pace::Fast } else { Pace::Realtime };
    let service = Service::start(pace, args).await?;
    let mut run = Run::new(client);
    let mut subject = match client {
        Client::Greenroom => {
            let greenroom = Greenroom::start(args, &service).await?;
            match args.scenario {
                Scenario::Relay => {
                    let client = Rival::start(args, Client::Bare, &greenroom.entrance()).await?;
                    Subject::Relay { greenroom, client }
                }
                Scenario::Idle
                | Scenario::Stream
                | Scenario::Burst
                | Scenario::Drop
                | Scenario::Outage
                | Scenario::Churn
                | Scenario::List => Subject::Greenroom(greenroom),
            }
        }
        Client::Least => Subject::Greenroom(Greenroom::start_least(args, &service).await?),
        Client::Bare | Client::Python => {
            Subject::Rival(Rival::start(args, client, &service.entrance()).await?)
        }
    };
    scenarios::run(args, &service, &mut subject, &mut run).await?;
    let violations = service.stats().await?.violations.total;
    if violations > 0 {
        run.trouble.push(format!("the simulator saw {violations} violations of the protocol"));
    }
    Ok(run)
}

/// Who is measured, as a running process.
enum Subject {
    Greenroom(Greenroom),
    /// Greenroom, with a client that speaks the service's own protocol to it.
    Relay {
        greenroom: Greenroom,
        client: Rival,
    },
    Rival(Rival),
}

impl Subject {
    fn usage(&self) -> io::Result<children::Usage> {
        match self {
            Self::Greenroom(greenroom) | Self::Relay { greenroom, .. } => greenroom.usage(),
            Self::Rival(rival) => rival.usage(),
        }
    }

    /// What the client that speaks through Greenroom uses.
    fn client(&self) -> io::Result<Option<children::Usage>> {
        match self {
            Self::Relay { client, .. } => client.usage().map(Some),
            Self::Greenroom(_) | Self::Rival(_) => Ok(None),
        }
    }

    /// Opens `sessions` more sessions, and returns when all of them run.
    async fn open(&mut self, sessions: u32) -> io::Result<()> {
        match self {
            Self::Greenroom(greenroom) => greenroom.open(sessions).await,
            Self::Relay { client: rival, .. } | Self::Rival(rival) => rival.open().await,
        }
    }
}
