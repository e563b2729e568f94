//! The clients that Greenroom is measured next to, each in a process of its own.
//!
//! They speak one protocol over their standard streams. The child says `up`; told `open`, it opens its sessions
//! and says `opened`; told `go`, it does what its mode is, and for the modes without an end of their own until
//! it is told `stop`; then it says its [`Tally`] as one line of JSON, and ends when its input does.

use std::{collections::BTreeMap, io, path::PathBuf, process::Command, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Args, Client, Scenario,
    children::{self, Child, Usage},
    report::Percentiles,
};

/// An interpreter takes a while on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// The slowest client opens 500 sessions in a second; 18,000 are the most.
const OPEN_DEADLINE: Duration = Duration::from_secs(180);
/// What a client may take beyond the time that was asked for.
const RESULT_MARGIN: Duration = Duration::from_secs(60);

/// The client with the Python SDK, as a program.
const PYTHON_CLIENT: &str = include_str!("sdk_client.py");

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// Keeps its sessions open, and reconnects those that are lost: at once, then a second after each failure.
    Hold,
    /// Speaks in real time.
    Stream,
    /// Speaks as fast as it goes, on one session.
    Burst,
    /// Opens and closes sessions at a rate.
    Churn,
}

impl Mode {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Stream => "stream",
            Self::Burst => "burst",
            Self::Churn => "churn",
        }
    }

    const fn of(scenario: Scenario) -> Self {
        match scenario {
            Scenario::Idle | Scenario::Drop | Scenario::Outage | Scenario::List => Self::Hold,
            Scenario::Stream | Scenario::Relay => Self::Stream,
            Scenario::Burst => Self::Burst,
            Scenario::Churn => Self::Churn,
        }
    }
}

/// What a client saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Attempts to open a session that failed.
    pub(super) failed: u64,
    /// Sessions that were opened in all.
    pub(super) opened: u64,
    /// Frames that were due.
    pub(super) frames_due: u64,
    /// Frames that came, each once and in order.
    pub(super) frames_in_order: u64,
    pub(super) latencies_ms: BTreeMap<String, Percentiles>,
}

/// Where a client finds the service, or what stands in front of it.
pub(super) struct Entrance {
    pub(super) console: String,
    pub(super) ingress: String,
    pub(super) key: String,
    /// The authority of its certificate, where it has one.
    pub(super) ca: Option<PathBuf>,
}

/// A client, as a child.
pub(super) struct Rival {
    child: Child,
}

impl Rival {
    pub(super) async fn start(args: &Args, client: Client, entrance: &Entrance) -> io::Result<Self> {
        let place = children::place()?;
        let (name, mut command) = match (client, &args.python) {
            (Client::Python, Some(python)) => {
                let mut command = Command::new(python);
                command.arg(children::write(&place, "sdk_client.py", PYTHON_CLIENT)?);
                ("the Python client", command)
            }
            (Client::Python, None) => {
                return Err(io::Error::other(
                    "--against python needs --python PATH; the README says how to make one",
                ));
            }
            (Client::Bare | Client::Least | Client::Greenroom, _) => {
                let mut command = Command::new(children::own_program()?);
                command.arg("bench-bare");
                ("the bare client", command)
            }
        };
        command.args([
            "--mode",
            Mode::of(args.scenario).as_str(),
            "--console",
            &entrance.console,
            "--ingress",
            &entrance.ingress,
            "--key",
            &entrance.key,
            "--sessions",
            &args.sessions().to_string(),
            "--in-flight",
            &args.in_flight.to_string(),
            "--seconds",
            &args.seconds.to_string(),
            "--rate",
            &args.rate.to_string(),
        ]);
        if let Some(ca) = &entrance.ca {
            command.arg("--ca").arg(ca);
        }
        let mut rival = Self { child: Child::spawn(name, command, place)? };
        rival.hear("up", START_DEADLINE).await?;
        Ok(rival)
    }

    async fn hear(&mut self, word: &str, deadline: Duration) -> io::Result<()> {
        let line = self.child.line(deadline).await?;
        if line == word {
            Ok(())
        } else {
            Err(self.child.failure(&format!("said {line:?} where {word} was due")))
        }
    }

    pub(super) async fn open(&mut self) -> io::Result<()> {
        self.child.tell("open")?;
        self.hear("opened", OPEN_DEADLINE).await
    }

    pub(super) fn go(&mut self) -> io::Result<()> {
        self.child.tell("go")
    }

    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.child.tell("stop")
    }

    /// Waits for what it saw.
    pub(super) async fn tally(&mut self, longest: Duration) -> io::Result<Tally> {
        let line = self.child.line(longest + RESULT_MARGIN).await?;
        serde_json::from_str(&line)
            .map_err(|error| self.child.failure(&format!("said no tally but {line:?}: {error}")))
    }

    pub(super) fn usage(&self) -> io::Result<Usage> {
        self.child.usage()
    }
}
