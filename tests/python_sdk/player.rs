//! One Python process for each client, which plays all scenarios of a run side by side.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use greenroom::simulator::Simulator;
use serde_json::{Value, json};

/// Above the scenarios' own deadlines, so that theirs speak first, and for a queue of them.
const DEADLINE: Duration = Duration::from_secs(120);

/// A client, at the version whose behaviour is asserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// 0.2.2, the current one.
    Spatialreal,
    /// 0.1.7, the older one.
    Avatarkit,
}

pub const BOTH: [Sdk; 2] = [Sdk::Spatialreal, Sdk::Avatarkit];

impl Sdk {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spatialreal => "spatialreal",
            Self::Avatarkit => "avatarkit",
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Spatialreal => "0.2.2",
            Self::Avatarkit => "0.1.7",
        }
    }

    fn process(self) -> &'static Process {
        static SPATIALREAL: OnceLock<Process> = OnceLock::new();
        static AVATARKIT: OnceLock<Process> = OnceLock::new();
        let process = match self {
            Self::Spatialreal => &SPATIALREAL,
            Self::Avatarkit => &AVATARKIT,
        };
        process.get_or_init(|| Process::start(self))
    }

    /// Begins a scenario, behind the URLs of a simulator unless `args` say others.
    pub fn play(self, simulator: &Simulator, args: &[String]) -> Playing {
        let (console, ingress) = (simulator.console_url(), simulator.ingress_url());
        let urls = ["--console".into(), console, "--ingress".into(), ingress];
        // The last of two wins.
        let answer = self.process().ask(&[&urls, args].concat());
        Playing { answer, what: format!("{} {args:?}", self.name()) }
    }
}

/// A scenario under way.
pub struct Playing {
    answer: Receiver<Value>,
    what: String,
}

impl Playing {
    /// What the client saw.
    pub fn seen(self) -> Value {
        self.answer.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{}: {error}", self.what))
    }
}

/// It ends with its input, and that with the run.
struct Process {
    asked: Mutex<(ChildStdin, u64)>,
    waiting: Mutex<HashMap<u64, Sender<Value>>>,
}

impl Process {
    fn start(sdk: Sdk) -> Self {
        let venv = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/venv");
        let made =
            Command::new(venv).args([sdk.name(), sdk.version()]).stderr(Stdio::inherit()).output().unwrap();
        assert!(made.status.success(), "{venv} failed; it says why above");
        let mut child = Command::new(String::from_utf8(made.stdout).unwrap().trim())
            // The older client warns of an option that it takes, which is the feature's point.
            .args(["-W", "ignore::FutureWarning"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/client.py"))
            .arg(sdk.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let answer: Value = serde_json::from_str(&line.unwrap()).unwrap();
                let waiting = &sdk.process().waiting;
                let sender = waiting.lock().unwrap().remove(&answer["id"].as_u64().unwrap()).unwrap();
                // Whoever asked may have failed meanwhile.
                let _ = sender.send(answer["seen"].clone());
            }
            // Without its answers those who wait fail at once.
            sdk.process().waiting.lock().unwrap().clear();
            child.wait().unwrap();
        });
        Self { asked: Mutex::new((stdin, 0)), waiting: Mutex::default() }
    }

    fn ask(&self, args: &[String]) -> Receiver<Value> {
        let (sender, receiver) = channel();
        let mut asked = self.asked.lock().unwrap();
        asked.1 += 1;
        let id = asked.1;
        self.waiting.lock().unwrap().insert(id, sender);
        writeln!(asked.0, "{}", json!({"id": id, "args": args})).unwrap();
        receiver
    }
}
