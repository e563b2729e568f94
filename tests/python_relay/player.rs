//! Plays scenarios with a client, each in a process of its own: a process is what its user restarts.

use std::{
    io::{Read as _, Seek as _},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use greenroom::simulator::{Effect, Fault, Pace, Point, Simulator, SimulatorConfig, spawn_thread};
use serde_json::Value;

/// Above the scenarios' own deadlines, so that theirs speak first.
const DEADLINE: Duration = Duration::from_secs(60);

/// A client, at the version whose behaviour is asserted.
pub struct Sdk {
    pub name: &'static str,
    version: &'static str,
    /// Where it expects the token endpoint below the console's URL.
    console_path: &'static str,
    python: OnceLock<String>,
}

pub static SPATIALREAL: Sdk =
    Sdk { name: "spatialreal", version: "0.2.2", console_path: "", python: OnceLock::new() };
pub static AVATARKIT: Sdk =
    Sdk { name: "avatarkit", version: "0.1.7", console_path: "/v1/console", python: OnceLock::new() };

impl Sdk {
    pub fn python(&self) -> &str {
        self.python.get_or_init(|| {
            let venv = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/venv");
            let output =
                Command::new(venv).args([self.name, self.version]).stderr(Stdio::inherit()).output().unwrap();
            assert!(output.status.success(), "{venv} failed; it says why above");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
    }

    /// Plays a scenario against the simulator and gives what the client saw.
    pub fn play(&self, simulator: &Simulator, scenario: &str, flags: &[&str]) -> Value {
        self.play_at(&simulator.console_url(), &simulator.ingress_url(), scenario, flags)
    }

    /// Plays a scenario and gives what the client saw.
    pub fn play_at(&self, console: &str, ingress: &str, scenario: &str, flags: &[&str]) -> Value {
        let mut stdout = tempfile::tempfile().unwrap();
        let console = format!("{console}{}", self.console_path);
        let mut child = Command::new(self.python())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/relay_client.py"))
            .args([self.name, scenario])
            .args(["--console", &console, "--ingress", ingress])
            .args(flags)
            .stdout(stdout.try_clone().unwrap())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > DEADLINE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{} {scenario} {flags:?} hangs", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{} {scenario} {flags:?}: {status}", self.name);
        let mut text = String::new();
        stdout.rewind().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

pub fn simulator(pace: Pace) -> Simulator {
    with(|config| config.pace = pace)
}

pub fn with(change: impl FnOnce(&mut SimulatorConfig)) -> Simulator {
    let mut config = SimulatorConfig { pace: Pace::Fast, ..SimulatorConfig::default() };
    change(&mut config);
    spawn_thread(config).unwrap()
}

/// The only fault from here on.
pub fn fault(simulator: &Simulator, at: Point, effect: Effect) {
    simulator.clear_faults();
    simulator.add_fault(Fault::new(at, effect)).unwrap();
}

/// The named fields of an error.
pub fn pick(error: &Value, names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), error[name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
