//! One Greenroom with its simulator, and what the tests ask of both.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_http::Method;
use bytes::Bytes;
use greenroom::{
    cli::process::Process,
    config::{self, Config, ConfigFile},
    session::SessionEntry,
    simulator::{Effect, Filter, Pace, Simulator, SimulatorConfig, parse_faults, start},
    upstream,
};
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Beyond it something hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

pub(crate) const ADMIN_KEY: &str = "e2e-admin-key";
pub(crate) const ACME: &str = "acme";
pub(crate) const GLOBEX: &str = "globex";

/// Tests that measure a rate have the machine for themselves: another test's burst would be measured with theirs.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Kept for its drop.
enum Turn {
    Shared { _held: RwLockReadGuard<'static, ()> },
    Alone { _held: RwLockWriteGuard<'static, ()> },
}

/// Settings of every test, unless it has its own: waits that a test can wait for, and no probe that would end a
/// park while a test looks at it.
const SETTINGS: [(&str, &str); 10] = [
    ("server.listen", "\"127.0.0.1:0\""),
    ("admin.listen", "\"127.0.0.1:0\""),
    ("server.shutdown_s", "5"),
    ("store.url", "\"memory:\""),
    ("recovery.park_probe_s", "0"),
    ("recovery.backoff.initial_ms", "20"),
    ("recovery.backoff.max_ms", "100"),
    ("upstream.deadlines.token_ms", "5000"),
    ("upstream.deadlines.connect_ms", "5000"),
    ("upstream.deadlines.handshake_ms", "5000"),
];

/// The configuration that a test's Greenroom runs with: `extra` has dotted keys, one a line; what begins with
/// `GREENROOM_` is left to [`environment`].
fn configuration(simulator: &Simulator, extra: &str) -> String {
    let mut text = format!(
        "admin.key = \"{ADMIN_KEY}\"\nupstream.console_url = \"{}\"\nupstream.ingress_url = \"{}\"\n",
        simulator.console_url(),
        simulator.ingress_url()
    );
    let is_own = |key: &str| extra.lines().any(|line| line.split('=').next().map(str::trim) == Some(key));
    for (key, value) in SETTINGS {
        if !is_own(key) {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    for line in extra.lines().filter(|line| !line.starts_with("GREENROOM_")) {
        text.push_str(&format!("{line}\n"));
    }
    for tenant in [ACME, GLOBEX] {
        text.push_str(&format!(
            "\n[[tenants]]\nid = \"{tenant}\"\napp_id = \"app-{tenant}\"\n\
             upstream_api_key = \"upstream-{tenant}\"\nkeys = [\"{}\"]\nmax_sessions = 1000\n",
            tenant_key(tenant)
        ));
    }
    text
}

/// The lines of `extra` that are variables, for keys of tenants.
fn environment(extra: &str) -> BTreeMap<String, String> {
    let variables = extra.lines().filter(|line| line.starts_with("GREENROOM_"));
    variables
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

pub(crate) fn tenant_key(tenant: &str) -> String {
    format!("e2e-key-of-{tenant}")
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as JSON, of an answer that must have this status.
    pub(crate) fn expect(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]);
        assert_eq!(self.status, status, "{text}");
        self.json()
    }
}

/// A manager, the simulator that it talks to, and a client for its API.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) process: Process,
    client: awc::Client,
    config: Config,
    _turn: Turn,
}

impl World {
    pub(crate) async fn start(extra: &str) -> Self {
        Self::with(extra, Pace::Fast, Turn::Shared { _held: MACHINE.read().await }).await
    }

    /// Speaks in real time: a request is under way for as long as its audio is.
    pub(crate) async fn in_real_time(extra: &str) -> Self {
        Self::with(extra, Pace::Realtime, Turn::Shared { _held: MACHINE.read().await }).await
    }

    /// While it lives, no other world does.
    pub(crate) async fn alone(extra: &str) -> Self {
        Self::with(extra, Pace::Fast, Turn::Alone { _held: MACHINE.write().await }).await
    }

    /// As [`World::alone`], in real time.
    pub(crate) async fn alone_in_real_time(extra: &str) -> Self {
        Self::with(extra, Pace::Realtime, Turn::Alone { _held: MACHINE.write().await }).await
    }

    /// Reads its configuration from a file, which is given.
    pub(crate) async fn from_file(extra: &str, directory: &Path) -> (Self, PathBuf) {
        let turn = Turn::Shared { _held: MACHINE.read().await };
        upstream::install_crypto();
        let simulator = start(SimulatorConfig::default()).await.unwrap();
        let path = directory.join("greenroom.toml");
        std::fs::write(&path, configuration(&simulator, extra)).unwrap();
        let (config, file) = ConfigFile::load(&path, environment(extra)).unwrap();
        let process = Process::start_from(&config, Some(file)).await.unwrap();
        let client = awc::Client::builder().timeout(DEADLINE + DEADLINE).finish();
        (Self { simulator, process, client, config, _turn: turn }, path)
    }

    async fn with(extra: &str, pace: Pace, turn: Turn) -> Self {
        // awc's default connector needs a crypto provider, TLS or not.
        upstream::install_crypto();
        let simulator = start(SimulatorConfig { pace, ..SimulatorConfig::default() }).await.unwrap();
        let text = configuration(&simulator, extra);
        let config = config::parse(&text, "e2e", &environment(extra)).unwrap();
        let process = Process::start(&config).await.unwrap();
        let client = awc::Client::builder().timeout(DEADLINE + DEADLINE).finish();
        Self { simulator, process, client, config, _turn: turn }
    }

    /// Ends the process in order, and starts another one with the same configuration.
    pub(crate) async fn restarted(self) -> Self {
        self.restarted_after(|_config| {}).await
    }

    /// As [`World::restarted`], with something done while no process is there.
    pub(crate) async fn restarted_after(self, between: impl FnOnce(&mut Config)) -> Self {
        let Self { simulator, process, client, mut config, _turn } = self;
        assert!(process.stop().await, "not every session ended in time");
        between(&mut config);
        let process = Process::start(&config).await.unwrap();
        Self { simulator, process, client, config, _turn }
    }

    // The API.

    /// Calls the admin API.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        let url = format!("http://{}{path}", self.process.admin_address());
        self.call(self.request(method, &url, ADMIN_KEY).send_json(body)).await
    }

    /// Calls the data plane as a tenant, with a body of audio.
    pub(crate) async fn audio(&self, tenant: &str, path: &str, audio: Bytes) -> Answer {
        self.call(self.data_request(Method::POST, tenant, path).send_body(audio)).await
    }

    /// A request to the data plane, for what the helpers have no words for.
    pub(crate) fn data_request(&self, method: Method, tenant: &str, path: &str) -> awc::ClientRequest {
        let url = format!("http://{}{path}", self.process.data_address());
        self.request(method, &url, &tenant_key(tenant))
    }

    pub(crate) fn request(&self, method: Method, url: &str, key: &str) -> awc::ClientRequest {
        // An idle connection would hold the listener at the end for the whole of its grace.
        self.client.request(method, url).bearer_auth(key).force_close()
    }

    pub(crate) async fn call(&self, sent: awc::SendClientRequest) -> Answer {
        let mut response = sent.await.unwrap();
        let body = response.body().limit(16 << 20).await.unwrap();
        let text = |value: &actix_http::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Answer { status: response.status().as_u16(), headers, body }
    }

    /// Makes a session for the avatar over the data plane, with whatever else `spec` has; gives its id.
    pub(crate) async fn create(&self, tenant: &str, avatar: &str, spec: &Value) -> String {
        let mut body = json!({"avatar_id": avatar});
        for (key, value) in spec.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let sent = self.data_request(Method::POST, tenant, "/v1/sessions").send_json(&body);
        let session = self.call(sent).await.expect(201);
        session["id"].as_str().unwrap().to_owned()
    }

    /// [`World::create`], and waits until it runs.
    pub(crate) async fn running(&self, tenant: &str, avatar: &str) -> String {
        let id = self.create(tenant, avatar, &json!({})).await;
        self.wait_state(&id, "running").await;
        id
    }

    pub(crate) async fn session(&self, id: &str) -> Value {
        self.admin(Method::GET, &format!("/v1/sessions/{id}"), &Value::Null).await.expect(200)
    }

    /// An operator's command on a session; gives the session after it.
    pub(crate) async fn operate(&self, id: &str, operation: &str) -> Value {
        self.admin(Method::POST, &format!("/v1/sessions/{id}/{operation}"), &json!({})).await.expect(200)
    }

    /// Waits until the session is as it should be, and gives it.
    pub(crate) async fn wait_for(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let session = self.session(id).await;
            if holds(&session) { Ok(session) } else { Err(session.to_string()) }
        })
        .await
    }

    pub(crate) async fn wait_state(&self, id: &str, state: &str) -> Value {
        self.wait_for(id, state, |session| session["state"] == state).await
    }

    /// Waits until the session runs after so many restarts.
    pub(crate) async fn wait_restarted(&self, id: &str, restarts: u64) -> Value {
        let what = format!("running after {restarts} restarts");
        self.wait_for(id, &what, |session| session["state"] == "running" && session["restarts"] == restarts)
            .await
    }

    /// The session as those see it who share the process with it.
    pub(crate) fn entry(&self, id: &str) -> Arc<SessionEntry> {
        self.process.manager().registry().get(id).unwrap()
    }

    // The metrics.

    /// The sum of the metric's series that have these labels, of which there must be one at least.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        metric(&self.process.metrics().render(), name, labels)
    }

    /// Errors counted for the code, over all phases.
    pub(crate) fn errors(&self, code: &str) -> f64 {
        self.metric("greenroom_session_errors_total", &[("code", code)])
    }

    /// All errors counted.
    pub(crate) fn all_errors(&self) -> f64 {
        self.metric("greenroom_session_errors_total", &[])
    }

    // The simulator.

    /// Adds faults, written as `POST /_sim/faults` takes them.
    pub(crate) fn faults(&self, faults: &Value) {
        for fault in parse_faults(faults.to_string().as_bytes()).unwrap() {
            self.simulator.add_fault(fault).unwrap();
        }
    }

    /// Strikes the avatar's one live connection.
    pub(crate) fn strike(&self, avatar: &str, effect: &Value) {
        let effect: Effect = serde_json::from_value(effect.clone()).unwrap();
        assert_eq!(self.simulator.strike(&Filter::avatar(avatar), 1.0, &effect), 1, "{avatar} {effect:?}");
    }

    /// How often the avatar's sessions have knocked at the ingress.
    pub(crate) fn attempts(&self, avatar: &str) -> u64 {
        self.simulator.stats().attempts_by_avatar.get(avatar).copied().unwrap_or_default()
    }

    /// Connections that the simulator has now.
    pub(crate) fn live(&self) -> u64 {
        self.simulator.stats().connections.live
    }

    /// Ends it all, and checks what must hold after every test: sessions end in time, no connection is left, no
    /// session ever had two, the protocol was kept, and the gauges have come down.
    pub(crate) async fn end(self) {
        let Self { simulator, process, client: _, config: _, _turn } = self;
        let metrics = Arc::clone(process.metrics());
        assert!(process.stop().await, "not every session ended in time");
        until("no live connection", async || match simulator.stats().connections.live {
            0 => Ok(()),
            live => Err(format!("{live} are live")),
        })
        .await;
        let stats = simulator.stats();
        assert!(stats.max_session_peak <= 1, "a session had two connections: {:?}", stats.sessions);
        assert_eq!(stats.violations.total, 0, "{:?}", stats.violations.last);
        let text = metrics.render();
        assert_eq!(metric(&text, "greenroom_invariant_breaches_total", &[]), 0.0);
        assert_eq!(metric(&text, "greenroom_upstream_connections", &[]), 0.0);
        assert_eq!(metric(&text, "greenroom_outbox_bytes", &[]), 0.0);
        assert_eq!(metric(&text, "greenroom_clients", &[]), 0.0);
        assert_eq!(metric(&text, "greenroom_gate_waiting", &[]), 0.0);
        simulator.stop().await;
    }
}

fn metric(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut found = None;
    for line in text.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (own_name, own_labels) = series.split_once('{').unwrap_or((series, ""));
        let has = |(key, value): &(&str, &str)| own_labels.contains(&format!("{key}=\"{value}\""));
        if own_name == name && labels.iter().all(has) {
            *found.get_or_insert(0.0) += value.parse::<f64>().unwrap();
        }
    }
    found.unwrap_or_else(|| panic!("there is no {name} with {labels:?}"))
}

/// Waits until `probe` gives a value; after [`DEADLINE`] fails with what it said last.
pub(crate) async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Err(seen) => panic!("waited {DEADLINE:?} for: {what}; {seen}"),
        }
    }
}

/// So many frames' worth of silence: 40 ms each, in PCM at 16 kHz.
pub(crate) fn silence(frames: usize) -> Bytes {
    Bytes::from(vec![0; frames * 1280])
}
