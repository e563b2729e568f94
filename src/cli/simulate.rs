//! `greenroom simulate`.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::ServerConfig;
use tokio::net::TcpListener;

use super::{front, signals};
use crate::{
    config::Tls,
    simulator::{self, Arrival, FaultFile, Limits, Pace, SimulatorConfig, Unknowns},
};

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
    /// Put the time of sending (nanoseconds of the monotonic clock) into bytes 8 to 15 of a frame's payload.
    #[arg(long)]
    stamp_frames: bool,
    /// Capabilities of the confirm message, comma-separated; empty for none.
    #[arg(long, value_delimiter = ',', default_value = "playback_state,playback_control")]
    capabilities: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    unknowns: UnknownArgs,
    /// A fault plan: a .toml file as config/faults.toml, or JSON with what `POST /_sim/faults` takes.
    #[arg(long, value_name = "FILE")]
    faults: Option<std::path::PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Makes the `chance` of faults fall the same in every run; wins over the fault plan's own seed.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// The same behind TLS.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
struct TlsArgs {
    /// Serve everything behind TLS too, on this address.
    #[arg(long, value_name = "ADDR", requires_all = ["tls_cert", "tls_key"])]
    tls_listen: Option<SocketAddr>,
    /// The certificate chain for it, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Where to listen, and with what.
    fn read(self) -> Result<Option<(SocketAddr, Arc<ServerConfig>)>, String> {
        let (Some(listen), Some(cert), Some(key)) = (self.tls_listen, self.tls_cert, self.tls_key) else {
            return Ok(None);
        };
        let now = SystemTime::now();
        let tls = Tls { cert, key, client_ca: None, expires: now };
        let loaded = tls.read().and_then(|files| tls.load(&files, now)).map_err(|mistake| mistake.text)?;
        Ok(Some((listen, loaded.server)))
    }
}

/// The service's own limits, off unless given.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits of the service")]
struct LimitArgs {
    /// Connected seconds that an API key begins with; they run out with 4001, or 402 at the upgrade.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    credits: Option<Duration>,
    /// Connections of one API key at a time; one more is refused with 4003.
    #[arg(long, value_name = "COUNT")]
    concurrency: Option<u32>,
    /// Seconds without audio after which a session ends.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_timeout: Option<Duration>,
    /// Seconds after the confirm at which a session ends with 4002.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_duration: Option<Duration>,
    /// Seconds for which a request may be paused; then it ends INTERRUPTED.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    pause_timeout: Duration,
}

/// What is not known of the service.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Forms of what is not known of the service")]
struct UnknownArgs {
    /// How "too many connections" (4003) arrives.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    concurrency_arrives: Arrival,
    /// How a refused session token (4010) arrives.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    auth_arrives: Arrival,
    /// Close a connection with 4010 when its token expires.
    #[arg(long)]
    token_expiry_closes: bool,
    /// Send a ServerError before a close frame that ends a session.
    #[arg(long)]
    error_before_close: bool,
    /// Send no empty control frames in egress mode.
    #[arg(long)]
    no_egress_frames: bool,
    /// Say `end=true` once for a request in egress mode, not twice.
    #[arg(long)]
    egress_single_end: bool,
    /// In egress mode a new request ends those that play, as preempted.
    #[arg(long)]
    egress_preempts: bool,
    /// Send `status` in the body of a refused token call as a string.
    #[arg(long)]
    token_status_text: bool,
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        Limits {
            credits_s: self.credits.map(|credits| credits.as_secs_f64()),
            concurrency: self.concurrency,
            idle_timeout: self.idle_timeout,
            max_duration: self.max_duration,
        }
    }
}

impl UnknownArgs {
    const fn unknowns(&self) -> Unknowns {
        Unknowns {
            concurrency_arrives: self.concurrency_arrives,
            auth_arrives: self.auth_arrives,
            error_before_close: self.error_before_close,
            egress_frames: !self.no_egress_frames,
            egress_preempts: self.egress_preempts,
            token_status_text: self.token_status_text,
        }
    }
}

/// Longer than a run is no limit.
const MAX_SECONDS: f64 = 31_536_000.0;

/// Seconds, fractions allowed.
fn seconds(text: &str) -> Result<Duration, String> {
    let wanted = || format!("expected seconds from 0 to {MAX_SECONDS}");
    let seconds: f64 = text.parse().map_err(|_| wanted())?;
    if seconds > MAX_SECONDS {
        return Err(wanted());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wanted())
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
    let plan = match &args.faults {
        None => FaultFile::default(),
        Some(path) => FaultFile::read(path)?,
    };
    let tls = args.tls.read()?;
    let config = SimulatorConfig {
        listen: args.listen,
        pace: args.pace,
        workers: usize::from(args.workers),
        frame_bytes: usize::try_from(args.frame_bytes).unwrap_or(usize::MAX),
        stamp_frames: args.stamp_frames,
        capabilities: args.capabilities.into_iter().filter(|name| !name.is_empty()).collect(),
        token_expiry_closes: args.unknowns.token_expiry_closes,
        egress_double_end: !args.unknowns.egress_single_end,
        pause_timeout: args.limits.pause_timeout,
        limits: args.limits.limits(),
        unknowns: args.unknowns.unknowns(),
        seed: args.seed.or(plan.seed),
        ..SimulatorConfig::default()
    };
    actix_rt::System::new().block_on(async move {
        let told_to_end = signals::terminate();
        let listen = config.listen;
        let simulator =
            simulator::start(config).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        for fault in plan.faults {
            simulator.add_fault(fault).map_err(|error| error.to_string())?;
        }
        let (console, ingress) = (simulator.console_url(), simulator.ingress_url());
        // A closed pipe is no reason to end: the simulator is of use without its reader.
        let _ =
            writeln!(std::io::stdout(), "console  {console}\ningress  {ingress}\ncontrol  {console}/_sim/");
        if let Some((listen, server)) = tls {
            let refused = |error: io::Error| format!("cannot listen on {listen}: {error}");
            let listener = TcpListener::bind(listen).await.map_err(refused)?;
            let secured = listener.local_addr().map_err(refused)?;
            actix_rt::spawn(front::serve(listener, server, simulator.addr()));
            let _ =
                writeln!(std::io::stdout(), "tls      https://{secured}, wss://{secured}/v2/driveningress");
        }
        told_to_end.await;
        simulator.stop().await;
        Ok(())
    })
}
