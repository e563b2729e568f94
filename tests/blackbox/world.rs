//! A Greenroom process between this test and a simulator process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    http::{Answer, Client},
    process::{Program, eventually, greenroom},
};

pub(crate) const ADMIN_KEY: &str = "key-of-the-operators";
pub(crate) const ACME_KEY: &str = "key-of-acme-backends";
pub(crate) const GLOBEX_KEY: &str = "key-of-globex-backends";
const TENANTS: [(&str, &str); 2] = [("acme", ACME_KEY), ("globex", GLOBEX_KEY)];

/// What a test configures, as TOML.
pub(crate) struct Settings {
    /// Lines of `[server]`.
    pub(crate) server: String,
    /// Lines of `[admin]`.
    pub(crate) admin: String,
    /// Lines of `[upstream]` but for the addresses.
    pub(crate) upstream: String,
    /// Lines of `[store]`.
    pub(crate) store: String,
    /// Further tables.
    pub(crate) tables: String,
    /// The tables of the tenants.
    pub(crate) tenants: String,
    /// Lines of `[telemetry]`.
    pub(crate) telemetry: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: "listen = \"127.0.0.1:0\"\nmax_body_bytes = 65536\nshutdown_s = 5\n".to_owned(),
            admin: format!("listen = \"127.0.0.1:0\"\nkey = \"{ADMIN_KEY}\"\n"),
            upstream: String::new(),
            store: "url = \"memory:\"\n".to_owned(),
            tables: "[recovery]\nbackoff = { initial_ms = 20, max_ms = 100 }\n".to_owned(),
            tenants: TENANTS.map(|(id, key)| tenant(id, key, &format!("upstream-key-of-{id}"))).concat(),
            telemetry: "log_level = \"info\"\n".to_owned(),
        }
    }
}

pub(crate) fn tenant(id: &str, key: &str, upstream_api_key: &str) -> String {
    format!(
        "[[tenants]]\nid = \"{id}\"\napp_id = \"app-of-{id}\"\nkeys = [\"{key}\"]\n\
         upstream_api_key = \"{upstream_api_key}\"\n"
    )
}

impl Settings {
    pub(crate) fn toml(&self, console_url: &str, ingress_url: &str) -> String {
        let Self { server, admin, upstream, store, tables, tenants, telemetry } = self;
        format!(
            "[server]\n{server}[admin]\n{admin}[upstream]\nconsole_url = \"{console_url}\"\n\
             ingress_url = \"{ingress_url}\"\n{upstream}[store]\n{store}[telemetry]\n{telemetry}{tables}{tenants}"
        )
    }
}

/// A configuration file in a directory of its own.
pub(crate) fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("greenroom.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

/// A simulator process.
pub(crate) struct Simulator {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
    pub(crate) control: Client,
}

impl Simulator {
    pub(crate) fn start() -> Self {
        Self::start_with(&["simulate", "--listen", "127.0.0.1:0", "--pace", "fast"])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let mut program = Program::start(greenroom().args(arguments));
        let address = program.wait_for("the simulator's address", |program| {
            let out = program.out.text();
            out.lines().find_map(|line| line.strip_prefix("console  http://"))?.parse().ok()
        });
        Self { program, address, control: Client::new(address) }
    }

    pub(crate) fn console_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn ingress_url(&self) -> String {
        format!("ws://{}/v2/driveningress", self.address)
    }

    #[track_caller]
    pub(crate) fn fault(&self, fault: &Value) {
        self.control.post("/_sim/faults", fault).is(201);
    }

    pub(crate) fn stats(&self) -> Value {
        self.control.get("/_sim/stats").is(200).json()
    }

    /// That nothing is connected any more, and that nothing was done against the protocol.
    #[track_caller]
    pub(crate) fn is_left_in_order(&self) {
        let stats = eventually("no connection is live", || {
            Some(self.stats()).filter(|stats| stats["connections"]["live"] == 0)
        });
        assert_eq!(stats["violations"]["total"], 0, "{}", stats["violations"]);
        assert!(stats["max_session_peak"].as_u64().unwrap() <= 1, "{stats}");
    }
}

/// A `greenroom serve` process that is ready.
pub(crate) struct Greenroom {
    pub(crate) program: Program,
    /// The data plane as acme sees it.
    pub(crate) acme: Client,
    pub(crate) globex: Client,
    /// The admin plane.
    pub(crate) admin: Client,
    pub(crate) directory: TempDir,
}

/// The socket address behind `name` in the line that says where the process serves, in text or JSON.
fn served_at(log: &str, name: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("greenroom serves"))?;
    let rest = line.split_once(&format!("{name}=")).or_else(|| line.split_once(&format!("\"{name}\":\"")))?.1;
    rest.split(['"', ' ']).next()?.parse().ok()
}

/// Starts `greenroom serve`, and gives it with the addresses of the data plane and of the admin plane.
pub(crate) fn serve(path: &Path) -> (Program, SocketAddr, SocketAddr) {
    let mut program = Program::start(greenroom().arg("serve").arg("--config").arg(path));
    let (data, admin) = program.wait_for("the addresses", |program| {
        let log = program.err.text();
        Some((served_at(&log, "data")?, served_at(&log, "admin")?))
    });
    (program, data, admin)
}

impl Greenroom {
    pub(crate) fn start(toml: &str) -> Self {
        let (directory, path) = file(toml);
        let (program, data, admin) = serve(&path);
        let nobody = Client::new(admin);
        eventually("the process is ready", || {
            nobody.try_call("GET", "/readyz", None).ok().filter(|answer| answer.status == 200)
        });
        Self {
            program,
            acme: nobody.at(data).with_key(ACME_KEY),
            globex: nobody.at(data).with_key(GLOBEX_KEY),
            admin: nobody.with_key(ADMIN_KEY),
            directory,
        }
    }

    /// Where its configuration file is.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("greenroom.toml")
    }

    /// Everything that any caller was answered.
    pub(crate) fn heard(&self) -> String {
        self.admin.heard()
    }

    #[track_caller]
    pub(crate) fn until(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{id}: {what}"), || {
            Some(self.admin.get(&format!("/v1/sessions/{id}")).is(200).json()).filter(&holds)
        })
    }

    #[track_caller]
    pub(crate) fn until_state(&self, id: &str, state: &str) -> Value {
        self.until(id, state, |session| session["state"] == state)
    }

    /// The sum of a metric's samples whose line has all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin.without_key().get("/metrics").is(200).body;
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// Both processes. The one that has connections ends first.
pub(crate) struct World {
    pub(crate) greenroom: Greenroom,
    pub(crate) simulator: Simulator,
}

/// An endpoint of operators that is never asked: its address is private. Its id is made of the address.
pub(crate) const WEBHOOK: &str = "[[webhooks]]\nurl = \"https://127.0.0.1:9/\"\n\
    secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n";
pub(crate) const WEBHOOK_ID: &str = "whk_1722afe7aa6fc07a";

impl World {
    pub(crate) fn start(settings: &Settings) -> Self {
        let simulator = Simulator::start();
        let toml = settings.toml(&simulator.console_url(), &simulator.ingress_url());
        Self { greenroom: Greenroom::start(&toml), simulator }
    }

    pub(crate) fn usual() -> Self {
        Self::start(&Settings::default())
    }
}

/// Creates a session from `spec` and gives its id.
#[track_caller]
pub(crate) fn create(owner: &Client, spec: &Value) -> String {
    id_of(&owner.post("/v1/sessions", spec).is(201))
}

#[track_caller]
pub(crate) fn create_avatar(owner: &Client, avatar_id: &str) -> String {
    create(owner, &json!({"avatar_id": avatar_id}))
}

#[track_caller]
pub(crate) fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}
