//! A real Prometheus that scrapes a process of this test.

use std::{collections::BTreeSet, fs, net::SocketAddr, process::Command, time::Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    generator::files,
    http::Client,
    process::{Program, eventually},
    settings,
};

/// How much shorter than in an installation every window and hold is: a minute is a second.
pub(crate) const SCALE: &str = "60";
/// Half a minute, scaled. It is also the deadline of a scrape, on a machine that does other things beside.
const SCRAPE: &str = "500ms";

pub(crate) struct Prometheus {
    api: Client,
    /// Ends with its guard.
    _program: Program,
    since: Instant,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it with the mixin's own rules and its own configuration, but for the target and the pace.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files(&settings(&["--time-scale", SCALE])) {
            let Some(name) = path.strip_prefix("prometheus/") else { continue };
            let text = match name {
                "prometheus.yml" => text.replace("127.0.0.1:8081", &target.to_string()).replace(
                    "scrape_interval: 15s",
                    &format!("scrape_interval: {SCRAPE}\n  scrape_timeout: {SCRAPE}"),
                ),
                _ => text,
            };
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut command = Command::new("prometheus");
        command.env_clear().current_dir(folder.path()).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:0",
            // Five minutes, scaled.
            "--query.lookback-delta=5s",
        ]);
        if let Err(error) = Command::new("prometheus").arg("--version").output() {
            panic!("prometheus does not start ({error}): install it (Debian: apt-get install prometheus)");
        }
        let mut program = Program::start(&mut command);
        let address = program.wait_for("the address of Prometheus", |program| {
            let log = program.err.text();
            let line = log.lines().find(|line| line.contains("Listening on"))?;
            line.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
        });
        let api = Client::new(address);
        eventually("Prometheus is ready", || {
            api.try_call("GET", "/-/ready", None).ok().filter(|answer| answer.status == 200)
        });
        Self { api, _program: program, since: Instant::now(), _folder: folder }
    }

    fn get(&self, path: &str) -> Value {
        self.api.get(path).is(200).json()["data"].clone()
    }

    /// Looks back no further than this. Prometheus needs seconds to find its targets, which are minutes of the rules.
    pub(crate) fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// Every alert that is pending or firing now, as `name{labels} state`, with the labels that tell cases apart.
    pub(crate) fn alerts(&self) -> BTreeSet<String> {
        let active = self.get("/api/v1/alerts");
        active["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|alert| {
                let said = alert["annotations"].to_string();
                assert!(
                    !said.contains("{{") && !said.contains("<no value>") && !said.contains("rror exec"),
                    "{said}"
                );
                format!("{} {}", described(&alert["labels"]), alert["state"].as_str().unwrap())
            })
            .collect()
    }

    /// Every alert that was in `state` since the beginning.
    pub(crate) fn ever(&self, state: &str) -> BTreeSet<String> {
        let found = self.query(&format!(
            "max by (alertname, tenant, code, upstream) (max_over_time(ALERTS{{alertstate=\"{state}\"}}[{}ms]))",
            self.since.elapsed().as_millis()
        ));
        found.iter().map(|series| described(&series["metric"])).collect()
    }

    pub(crate) fn query(&self, expr: &str) -> Vec<Value> {
        let found = self.get(&format!("/api/v1/query?query={}", utf8_percent_encode(expr, NON_ALPHANUMERIC)));
        found["result"].as_array().unwrap().clone()
    }

    /// Whether an expression had a value other than NaN at any second since the beginning.
    pub(crate) fn had_data(&self, expr: &str) -> bool {
        let now = self.query("time()")[0].as_f64().unwrap();
        let start = now - self.since.elapsed().as_secs_f64();
        let found = self.get(&format!(
            "/api/v1/query_range?start={start}&end={now}&step=1&query={}",
            utf8_percent_encode(expr, NON_ALPHANUMERIC)
        ));
        found["result"]
            .as_array()
            .unwrap()
            .iter()
            .any(|series| series["values"].as_array().unwrap().iter().any(|value| value[1] != "NaN"))
    }
}

fn described(labels: &Value) -> String {
    let varying: Vec<String> = ["tenant", "code", "upstream"]
        .iter()
        .filter_map(|name| Some(format!("{name}={}", labels[*name].as_str()?)))
        .collect();
    format!("{}{{{}}}", labels["alertname"].as_str().unwrap(), varying.join(","))
}
