//! The configuration's types. The defaults stand here and nowhere else; `config/greenroom.toml` repeats them
//! for people, and a test holds the two together.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use secrecy::SecretString;
use url::Url;

use super::Tls;
use crate::recovery::{
    Backoff, BudgetConfig, Policy, TenantId,
    fleet::{BreakerConfig, GateConfig},
    lifecycle::StableAfter,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The whole configuration, checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The data plane: what tenants' backends reach.
    pub server: Server,
    /// The listener for operators and Prometheus.
    pub admin: Admin,
    /// The avatar service.
    pub upstream: Upstream,
    /// Where sessions are kept.
    pub store: Store,
    /// What a session gets when its creator does not say.
    pub defaults: Defaults,
    /// What is done about errors.
    pub recovery: Recovery,
    /// The audio that is kept until its request has an outcome.
    pub outbox: Outbox,
    /// Bounds on sessions.
    pub sessions: Sessions,
    /// Logs and metrics.
    pub telemetry: Telemetry,
    /// The tenants, in the file's order.
    pub tenants: Vec<Tenant>,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Where the data plane listens.
    pub listen: SocketAddr,
    /// The largest body of one HTTP request, in bytes.
    pub max_body_bytes: usize,
    /// How long a graceful stop waits for sessions to end.
    pub shutdown: Duration,
    /// Its TLS; without it the data plane speaks plain HTTP.
    pub tls: Option<Tls>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            max_body_bytes: 64 * MIB,
            shutdown: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where the admin API, the console page and the metrics listen.
    pub listen: SocketAddr,
    /// The key of operators. Without one the admin API is read-only, and `listen` is a loopback address.
    pub key: Option<SecretString>,
    /// Its TLS; without it the admin plane speaks plain HTTP.
    pub tls: Option<Tls>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)), key: None, tls: None }
    }
}

/// Where the app id and the session token stand in the WebSocket upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamAuth {
    /// In the headers `X-App-ID` and `X-Session-Key`.
    #[default]
    Header,
    /// In the query, as `appId` and `sessionKey`, for proxies that drop unknown headers.
    Query,
}

/// `[upstream]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The base of the console API; `http` or `https`.
    pub console_url: Url,
    /// The base of the ingress; `ws`, `wss`, `http` or `https`. `/websocket` is appended.
    pub ingress_url: Url,
    /// Where the credentials stand in the upgrade.
    pub auth: UpstreamAuth,
    /// The lifetime that is asked for each session token.
    pub token_ttl: Duration,
    /// The largest message that is accepted from the service, in bytes.
    pub max_message_bytes: usize,
    /// How often an idle connection is pinged.
    pub ping: Duration,
    /// After how long without anything received a connection counts as lost.
    pub half_open: Duration,
    /// How long each step towards a running session may take.
    pub deadlines: Deadlines,
    /// The storm gate.
    pub gate: GateConfig,
    /// The breaker.
    pub breaker: BreakerConfig,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            console_url: literal_url("https://api.spatialreal.cloud"),
            ingress_url: literal_url("wss://driven.us-west.spatialreal.cloud/v2/driveningress"),
            auth: UpstreamAuth::Header,
            token_ttl: Duration::from_secs(3600),
            max_message_bytes: 16 * MIB,
            ping: Duration::from_secs(15),
            half_open: Duration::from_secs(45),
            deadlines: Deadlines::default(),
            gate: GateConfig::default(),
            breaker: BreakerConfig::default(),
        }
    }
}

#[expect(clippy::expect_used, reason = "start-up: the two literals are parsed by every test of the defaults")]
fn literal_url(text: &str) -> Url {
    Url::parse(text).expect("a literal URL")
}

/// `[upstream.deadlines]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Deadlines {
    /// For the answer of the token call.
    pub token: Duration,
    /// For name lookup, TCP, TLS and the upgrade together.
    pub connect: Duration,
    /// For the service's confirmation after the upgrade.
    pub handshake: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let all = Duration::from_secs(10);
        Self { token: all, connect: all, handshake: all }
    }
}

/// `[store]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// In memory only: a restart of the process forgets every session.
    #[default]
    Memory,
}

/// What happens to the audio of a request when its connection breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Continuity {
    /// The request fails.
    #[default]
    Off,
    /// Sent again if nothing was answered yet, else failed. Not carried out yet, see [`Config::notes`].
    Unanswered,
    /// Sent again from where playing stopped. Not carried out yet, see [`Config::notes`].
    Resume,
}

impl Config {
    /// What is accepted but does less than it says, or not for long, each as one sentence.
    pub fn notes(&self) -> Vec<String> {
        let now = SystemTime::now();
        let mut notes = match self.defaults.continuity {
            Continuity::Off => Vec::new(),
            Continuity::Unanswered | Continuity::Resume => vec![
                "defaults.continuity: this version does not send audio again yet; requests that are open when \
                 a connection breaks fail by name, as with \"off\""
                    .to_owned(),
            ],
        };
        for (section, tls) in [("server.tls", &self.server.tls), ("admin.tls", &self.admin.tls)] {
            notes.extend(tls.as_ref().and_then(|tls| tls.note(section, now)));
        }
        notes
    }
}

/// `[defaults]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// The continuity of a session whose creator does not say.
    pub continuity: Continuity,
}

/// `[recovery]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// The waits between restarts.
    pub backoff: Backoff,
    /// How many restarts a session may use.
    pub budget: BudgetConfig,
    /// After how long in `running` a session's failed attempts are forgotten (`recovery.budget.stable_after_s`).
    pub stable_after: StableAfter,
    /// How often one parked session of a tenant tries again; `None` is never.
    pub park_probe: Option<Duration>,
    /// The action for each code.
    pub policy: Policy,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            budget: BudgetConfig::default(),
            stable_after: StableAfter::default(),
            park_probe: Some(Duration::from_secs(600)),
            policy: Policy::default(),
        }
    }
}

/// `[outbox]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Outbox {
    /// The most bytes of audio that one session keeps.
    pub session_bytes: usize,
    /// Audio older than this is not sent any more; its request fails.
    pub max_age: Duration,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { session_bytes: 8 * MIB, max_age: Duration::from_secs(30) }
    }
}

/// `[sessions]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sessions {
    /// How long a stopped session is still listed.
    pub retention: Duration,
    /// The most sessions of all tenants together.
    pub max: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { retention: Duration::from_secs(3600), max: 20_000 }
    }
}

/// The form of the logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[telemetry]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// The form of the logs.
    pub log_format: LogFormat,
    /// What is logged: directives such as `info` or `info,greenroom::session=debug`.
    pub log_level: String,
    /// How many tenants have metrics of their own; the rest count as `_other`.
    pub max_tenant_labels: u32,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, log_level: "info".to_owned(), max_tenant_labels: 100 }
    }
}

/// One of `[[tenants]]`.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name in the API, the logs and the metrics.
    pub id: TenantId,
    /// Its app at the avatar service.
    pub app_id: String,
    /// Its API key at the avatar service.
    pub upstream_api_key: SecretString,
    /// What its backends present to Greenroom: at least one.
    pub keys: Vec<SecretString>,
    /// The most sessions that it may have at once.
    pub max_sessions: u32,
    /// The action for each code: `[recovery.policy]`, changed by the tenant's own.
    pub policy: Policy,
}

impl Tenant {
    /// The default of `max_sessions`.
    pub const DEFAULT_MAX_SESSIONS: u32 = 200;
    /// The least length of a key, in bytes: less can be guessed by trying.
    pub const MIN_KEY_BYTES: usize = 8;
    /// The greatest length of a key, in bytes: comparing in constant time costs the longest for each.
    pub const MAX_KEY_BYTES: usize = 256;
    /// The metrics' label for tenants without one of their own, which no tenant may have as its id.
    pub const RESERVED_ID: &'static str = "_other";
}
