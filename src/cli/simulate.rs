//! `greenroom simulate`.

use std::{io::Write as _, net::SocketAddr, process::ExitCode};

use super::signals;
use crate::simulator::{self, Pace, SimulatorConfig};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The address to listen on: console, ingress and control API.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// How fast animation comes back.
    #[arg(long, value_enum, default_value_t)]
    pace: Pace,
    /// Threads that serve connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Size of a frame's animation payload in bytes.
    #[arg(long, default_value_t = 1200, value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    frame_bytes: u32,
    /// Capabilities of the confirm message, comma-separated; empty for none.
    #[arg(long, value_delimiter = ',', default_value = "playback_state,playback_control")]
    capabilities: Vec<String>,
    /// Close a connection with 4010 when its token expires.
    #[arg(long)]
    token_expiry_closes: bool,
    /// A fault plan: a JSON file with what `POST /_sim/faults` takes.
    #[arg(long, value_name = "FILE")]
    faults: Option<std::path::PathBuf>,
}

pub(super) fn run(args: Args) -> ExitCode {
    match simulate(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "greenroom simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(args: Args) -> Result<(), String> {
    let faults = match &args.faults {
        None => Vec::new(),
        Some(path) => {
            let name = path.display();
            let text = std::fs::read(path).map_err(|error| format!("{name}: {error}"))?;
            simulator::parse_faults(&text).map_err(|error| format!("{name}: {error}"))?
        }
    };
    let config = SimulatorConfig {
        listen: args.listen,
        pace: args.pace,
        workers: usize::from(args.workers),
        frame_bytes: usize::try_from(args.frame_bytes).unwrap_or(usize::MAX),
        capabilities: args.capabilities.into_iter().filter(|name| !name.is_empty()).collect(),
        token_expiry_closes: args.token_expiry_closes,
        ..SimulatorConfig::default()
    };
    actix_rt::System::new().block_on(async move {
        let told_to_end = signals::terminate();
        let listen = config.listen;
        let simulator =
            simulator::start(config).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        for fault in faults {
            simulator.add_fault(fault).map_err(|error| error.to_string())?;
        }
        let (console, ingress) = (simulator.console_url(), simulator.ingress_url());
        // A closed pipe is no reason to end: the simulator is of use without its reader.
        let _ =
            writeln!(std::io::stdout(), "console  {console}\ningress  {ingress}\ncontrol  {console}/_sim/");
        told_to_end.await;
        simulator.stop().await;
        Ok(())
    })
}
