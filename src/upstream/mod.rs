//! The client of the avatar service: token call and WebSocket.
//!
//! [`Client::open`] makes one attempt: a fresh session token, the upgrade, the handshake; [`Client::connect`] and
//! [`Upgraded::configure`] make it in two halves, for sessions that learn their configuration in between. What comes of it is
//! an [`Opened`] connection with its [`Socket`], or one [`SessionError`](crate::errors::SessionError) that keeps everything the service
//! said. Nothing here retries, backs off or decides; that is the lifecycle's.
//!
//! Each attempt is bounded: in time by [`Deadlines`], in memory by the bounds named in the modules
//! (128 KiB for the head of an answer, 64 KiB for its body, [`UpstreamConfig::max_message_bytes`] for a
//! message). Dropping the future of an attempt drops its socket.

mod answer;
mod client;
mod connector;
mod ending;
mod endpoint;
mod handshake;
mod liveness;
mod pace;
mod report;
mod socket;
mod sources;
mod token;
mod transport;
mod upgrade;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use secrecy::SecretString;
use url::Url;

use crate::errors::Egress;

pub(crate) use answer::retry_after;
pub use client::Client;
pub use connector::{install_crypto, tls_config, tls_config_trusting};
pub use handshake::Upgraded;
pub use pace::Pace;
pub(crate) use report::egress_of;
pub use socket::{SendRefused, Socket, SocketEvent};
pub use sources::Sources;

/// How a connection authenticates at the ingress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// The headers `X-App-ID` and `X-Session-Key`.
    #[default]
    Header,
    /// The query parameters `appId` and `sessionKey`.
    Query,
}

/// How long each step of an attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The token call, from name lookup to the last byte of its answer.
    pub token: Duration,
    /// Name lookup, TCP, TLS and the answer to the upgrade.
    pub connect: Duration,
    /// From the upgrade to the service's confirmation.
    pub handshake: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        // Python's SDK gives up an upgrade after 10 s: whoever waits for longer waits alone.
        let each = Duration::from_secs(10);
        Self { token: each, connect: each, handshake: each }
    }
}

/// One upstream: its addresses and the bounds of the connections to it.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// The console API. A URL that ends in `/v1/console` is that of the older SDKs and is called at
    /// `/session-tokens`, any other one at `/v1/auth/session-token`.
    pub console_url: Url,
    /// The driven ingress without `/websocket`; `http(s)` is read as `ws(s)`.
    pub ingress_url: Url,
    /// How connections authenticate.
    pub auth: Auth,
    /// Lifetime that is asked for a session token; the service allows at most 24 h.
    pub token_ttl: Duration,
    /// Deadlines of an attempt.
    pub deadlines: Deadlines,
    /// The longest message in either direction, in bytes. The service publishes no limit, and clients send
    /// whole clips as one message.
    pub max_message_bytes: usize,
    /// Time between two of our pings.
    pub ping_every: Duration,
    /// A connection from which nothing has come for this long is ended; at least twice `ping_every`.
    pub half_open_after: Duration,
    /// A connection that takes none of the bytes that wait for it for this long is ended.
    pub write_stall: Duration,
    /// How many upgrades may leave in a second, on all threads together.
    pub pace: Arc<Pace>,
    /// The local addresses that connections leave from, shared by all clients of all threads.
    pub sources: Arc<Sources>,
    /// TLS settings, shared by all clients of all threads.
    pub tls: Arc<rustls::ClientConfig>,
}

impl UpstreamConfig {
    /// The upstream at these addresses, everything else at its default.
    pub fn new(console_url: Url, ingress_url: Url) -> Self {
        Self {
            console_url,
            ingress_url,
            auth: Auth::default(),
            token_ttl: Duration::from_secs(3600),
            deadlines: Deadlines::default(),
            max_message_bytes: 16 * 1024 * 1024,
            ping_every: Duration::from_secs(15),
            half_open_after: Duration::from_secs(45),
            write_stall: Duration::from_secs(15),
            pace: Arc::new(Pace::unbounded()),
            sources: Arc::default(),
            tls: tls_config(),
        }
    }
}

impl fmt::Debug for UpstreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConfig")
            .field("console_url", &self.console_url.as_str())
            .field("ingress_url", &self.ingress_url.as_str())
            .field("auth", &self.auth)
            .field("deadlines", &self.deadlines)
            .finish_non_exhaustive()
    }
}

/// What one session wants of the service.
#[derive(Clone)]
pub struct Target {
    /// The tenant's app id.
    pub app_id: String,
    /// The tenant's API key at the service.
    pub api_key: SecretString,
    /// The avatar, opaque, 1 to 256 characters.
    pub avatar_id: String,
    /// The encoded `Message` that holds the session's `ClientConfigureSession`, where it is known. Bytes, so that a client's own
    /// message goes upstream as it came, with the fields that this version does not know;
    /// [`wire::encode`](crate::wire::encode) makes them of a message of our own.
    pub configure: Option<Bytes>,
    /// The session's egress, or [`Egress::Unknown`] while its configuration is; it decides what some refusals mean.
    pub egress: Egress,
}

impl fmt::Debug for Target {
    // The configuration is left out: it holds egress tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("app_id", &self.app_id)
            .field("avatar_id", &self.avatar_id)
            .field("egress", &self.egress)
            .finish_non_exhaustive()
    }
}

/// How long the steps of an attempt took. A step that failed has the time until it failed, a step that was
/// cancelled or never begun has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The token call.
    pub token: Option<Duration>,
    /// Name lookup, TCP, TLS and upgrade.
    pub connect: Option<Duration>,
    /// From the upgrade to the confirmation.
    pub handshake: Option<Duration>,
}

/// A confirmed connection.
#[derive(Debug)]
pub struct Opened {
    /// The id that the service gave the connection; never empty.
    pub connection_id: String,
    /// What the service says it can do on this connection, such as `playback_state`.
    pub capabilities: Vec<String>,
    /// The message that confirmed the session, as it came.
    pub confirm: Bytes,
    /// The connection itself.
    pub socket: Socket,
}
