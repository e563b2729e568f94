//! The configuration's types. The defaults stand here and nowhere else; `config/greenroom.toml` repeats them
//! for people, and a test holds the two together.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use secrecy::{SecretBox, SecretString};
use url::Url;

use super::{Authorities, Place, Tls, Webhook, WebhookDelivery};
use crate::{
    errors::{Action, ErrorCode},
    outbox::Continuity,
    recovery::{
        Backoff, BudgetConfig, Policy, TenantId,
        fleet::{BreakerConfig, GateConfig},
        lifecycle::StableAfter,
    },
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
    /// The drop-in ingress and console, for the official SDKs.
    pub ingress: Ingress,
    /// Bounds on sessions.
    pub sessions: Sessions,
    /// Logs and metrics.
    pub telemetry: Telemetry,
    /// Where operators are told what happens.
    pub webhooks: Vec<Webhook>,
    /// How webhooks are delivered, those of tenants too.
    pub webhook_delivery: WebhookDelivery,
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
    /// The local addresses that connections leave from, in turn; none leaves the choice to the system.
    pub bind_addresses: Vec<IpAddr>,
    /// Authorities that are trusted with the service's certificates, beside the public ones.
    pub ca: Option<Authorities>,
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
            bind_addresses: Vec::new(),
            ca: None,
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
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// Where records are kept.
    pub place: StorePlace,
    /// What secrets are sealed with. Without it, specs that hold secrets are refused unless `plaintext_secrets`.
    pub encryption_key: Option<EncryptionKey>,
    /// What secrets were sealed with before.
    pub encryption_key_previous: Option<EncryptionKey>,
    /// Whether secrets may be stored in clear where there is no key.
    pub plaintext_secrets: bool,
    /// What waits for a commit.
    pub commit: StoreCommit,
}

/// 32 random bytes; shared, since a secret is not copied.
pub type EncryptionKey = Arc<SecretBox<[u8; 32]>>;

/// `store.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// In memory only: a restart of the process forgets every session.
    Memory,
    /// In this file of redb; a relative path begins at the working directory.
    Redb(PathBuf),
}

impl Default for StorePlace {
    fn default() -> Self {
        Self::Redb(PathBuf::from("data/greenroom.redb"))
    }
}

/// How much waits for a commit of the store, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreCommit {
    /// The most requests that wait.
    pub queue: usize,
    /// The most requests that one commit takes.
    pub group: usize,
    /// How long a request is waited for.
    pub deadline: Duration,
}

impl Default for StoreCommit {
    fn default() -> Self {
        Self { queue: 4096, group: 1024, deadline: Duration::from_secs(5) }
    }
}

impl Config {
    /// What is accepted but does less than it says, or not for long, each as one sentence.
    pub fn notes(&self) -> Vec<String> {
        let now = SystemTime::now();
        [("server.tls", &self.server.tls), ("admin.tls", &self.admin.tls)]
            .into_iter()
            .filter_map(|(section, tls)| tls.as_ref()?.note(section, now))
            .collect()
    }
}

/// `[defaults]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// The continuity of a session whose creator does not say.
    pub continuity: Continuity,
    /// How long a session may be without a client and without audio before it is closed and dormant; `None` is for
    /// ever.
    pub idle_timeout: Option<Duration>,
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
    /// The most bytes of audio that all sessions of one tenant keep together.
    pub tenant_bytes: usize,
    /// The most bytes of audio that all sessions keep together.
    pub total_bytes: usize,
    /// Audio older than this is not sent any more; its request fails.
    pub max_age: Duration,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            session_bytes: 8 * MIB,
            tenant_bytes: 256 * MIB,
            total_bytes: 1024 * MIB,
            max_age: Duration::from_secs(30),
        }
    }
}

/// What a client is told of a request that failed by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartialFailure {
    /// A `ServerError` with the request's id, then a final frame.
    #[default]
    Error,
    /// The final frame alone, for clients that reconnect on any error.
    End,
}

/// `[ingress]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingress {
    /// How long a session outlives a client that vanished, for the client's return.
    pub linger: Duration,
    /// How long a client's upgrade waits for the service's.
    pub upgrade: Duration,
    /// What a client is told of a request that failed by itself.
    pub partial_failure: PartialFailure,
    /// Whether a session token serves for one connection only.
    pub token_single_use: bool,
    /// How long a client may be without a confirmation after its upgrade.
    pub confirm: Duration,
    /// The most bytes that wait for a client that reads slowly.
    pub client_bytes: usize,
    /// How long a client may take nothing of what waits for it.
    pub slow_client: Duration,
    /// The largest message that a client may send, in bytes.
    pub max_message_bytes: usize,
    /// How often a client is pinged.
    pub ping: Duration,
    /// After how long without anything received a client counts as gone.
    pub half_open: Duration,
}

impl Default for Ingress {
    fn default() -> Self {
        Self {
            linger: Duration::ZERO,
            // Python's client gives its upgrade up after 10 s, and should see the answer instead.
            upgrade: Duration::from_secs(8),
            partial_failure: PartialFailure::Error,
            token_single_use: true,
            confirm: Duration::from_secs(30),
            client_bytes: 8 * MIB,
            slow_client: Duration::from_secs(15),
            max_message_bytes: 16 * MIB,
            ping: Duration::from_secs(15),
            half_open: Duration::from_secs(45),
        }
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
    /// Where its id is written.
    pub place: Place,
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
    /// The most sessions that may be made in a minute; `None` is no bound.
    pub max_starts_per_minute: Option<u32>,
    /// The most requests in a second over HTTP; `None` is no bound.
    pub requests_per_second: Option<u32>,
    /// The most bytes of audio that all its sessions keep together, where that is not `outbox.tenant_bytes`.
    pub outbox_bytes: Option<usize>,
    /// The continuity of its sessions, where that is not `defaults.continuity`.
    pub continuity: Option<Continuity>,
    /// How long a session may be without a client and without audio, where that is not `defaults.idle_timeout_s`;
    /// zero is for ever.
    pub idle_timeout: Option<Duration>,
    /// The most minutes of connections in a day (UTC); `None` is no bound.
    pub max_connected_minutes_per_day: Option<u32>,
    /// The codes whose action is not that of `[recovery.policy]`.
    pub policy: BTreeMap<ErrorCode, Action>,
    /// `[[tenants.pool]]`: the sessions that are kept connected for its drop-in clients.
    pub pool: Vec<PoolSpec>,
    /// `[[tenants.webhooks]]`: where it is told what happens to its sessions.
    pub webhooks: Vec<Webhook>,
}

/// One of `[[tenants.pool]]`: sessions of one avatar that are connected before their clients come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// The avatar.
    pub avatar_id: String,
    /// Sessions that wait for a client.
    pub size: u32,
    /// Samples a second; a client that configures another rate costs a reconnect.
    pub sample_rate: u32,
    /// Bits a second of encoded audio; 0 is the service's default.
    pub bitrate: u32,
    /// The encoding of the audio.
    pub audio_format: PoolFormat,
}

impl PoolSpec {
    /// Characters of an avatar id at most, as for a session over HTTP.
    pub const MAX_AVATAR_ID: usize = 256;
}

/// The encoding of the audio that a pool's clients send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolFormat {
    /// Mono, 16 bit, little-endian.
    #[default]
    PcmS16le,
    /// Ogg Opus.
    OggOpus,
}

impl Tenant {
    /// The default of `max_sessions`.
    pub const DEFAULT_MAX_SESSIONS: u32 = 200;
    /// The least length of a key, in bytes: less can be guessed by trying.
    pub const MIN_KEY_BYTES: usize = 8;
    /// The greatest length of a key, in bytes: comparing in constant time costs the longest for each.
    pub const MAX_KEY_BYTES: usize = 256;
    /// What `max_sessions` may be.
    pub const MAX_SESSIONS: RangeInclusive<u32> = 1..=1_000_000;
    /// What `max_starts_per_minute` may be.
    pub const STARTS_PER_MINUTE: RangeInclusive<u32> = 1..=1_000_000;
    /// What `requests_per_second` may be.
    pub const REQUESTS_PER_SECOND: RangeInclusive<u32> = 1..=100_000;
    /// What `outbox_bytes` may be, as for `outbox.tenant_bytes`.
    pub const OUTBOX_BYTES: RangeInclusive<u32> = 1024 * 1024..=4095 * 1024 * 1024;
    /// What `idle_timeout_s` may be; zero is for ever.
    pub const IDLE_TIMEOUT_S: RangeInclusive<u64> = 0..=7 * 24 * 3600;
    /// What `max_connected_minutes_per_day` may be.
    pub const CONNECTED_MINUTES: RangeInclusive<u32> = 1..=1_000_000_000;
    /// The metrics' label for tenants without one of their own, which no tenant may have as its id.
    pub const RESERVED_ID: &'static str = "_other";
}
