//! The client of the avatar service: token call and WebSocket, over awc.
//!
//! [`Client::open`] makes one attempt: a fresh token, the upgrade, the handshake, each with a deadline. What
//! comes back is a [`Socket`], or one [`SessionError`] that says all that was known. A socket's every
//! failure is one error, too: a `ServerError` and the close that follows it are classified together.

mod answer;
mod client;
mod connector;
mod endpoint;
mod failure;
mod liveness;
mod socket;
mod token;

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

pub use client::{Client, Opened, install_crypto};
pub use socket::{Socket, SocketEvent};

use crate::{
    errors::{Egress, redact},
    wire::proto::ClientConfigureSession,
};

/// How the upgrade carries app id and token; the service takes both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Headers `X-App-ID` and `X-Session-Key`.
    #[default]
    Header,
    /// Query parameters `appId` and `sessionKey`.
    Query,
}

/// How long each step of an attempt may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// The token call, with its body.
    pub token: Duration,
    /// Name lookup, TCP, TLS and the upgrade's answer.
    pub connect: Duration,
    /// From the upgrade to the confirmation.
    pub handshake: Duration,
}

/// Where the service is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// The console API's root, or that of an older deployment, which ends in `/v1/console`.
    pub console_url: Url,
    /// The ingress's root, to which `/websocket` is appended.
    pub ingress_url: Url,
    /// How the upgrade carries app id and token.
    pub auth: Auth,
    /// The lifetime that is asked for a token.
    pub token_ttl: Duration,
    /// How long each step of an attempt may take.
    pub deadlines: Deadlines,
    /// The greatest message in either direction, in bytes.
    pub max_message_bytes: usize,
    /// From one ping to the next.
    pub ping_every: Duration,
    /// A connection from which nothing came for this long is half open: lost, though nobody said so.
    pub half_open_after: Duration,
}

/// Whose session is opened, and which.
#[derive(Clone, Debug)]
pub struct Target {
    /// The tenant's app at the service.
    pub app_id: String,
    /// The tenant's API key at the service.
    pub api_key: SecretString,
    /// The avatar.
    pub avatar_id: String,
    /// The session's settings.
    pub configure: ClientConfigureSession,
    /// The session's egress, which decides what some errors mean.
    pub egress: Egress,
}

/// How long the steps of an attempt took, as far as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// The token call.
    pub token: Option<Duration>,
    /// From the name lookup to the upgrade's answer.
    pub connect: Option<Duration>,
    /// From the upgrade to the confirmation.
    pub handshake: Option<Duration>,
}

/// What must not appear in any text that comes of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Vec<SecretString>);

impl Secrets {
    fn of(target: &Target, token: Option<&SecretString>) -> Arc<Self> {
        let mut secrets = vec![target.api_key.clone()];
        secrets.extend(token.cloned());
        if let Some(livekit) = &target.configure.livekit_egress {
            for secret in [&livekit.api_key, &livekit.api_secret, &livekit.api_token] {
                secrets.push(SecretString::from(secret.as_str()));
            }
        }
        if let Some(agora) = &target.configure.agora_egress {
            secrets.push(SecretString::from(agora.token.as_str()));
        }
        Arc::new(Self(secrets))
    }

    /// `text` without any of them.
    fn clean(&self, text: &str) -> String {
        let secrets: Vec<&str> = self.0.iter().map(SecretString::expose_secret).collect();
        redact(text, &secrets)
    }
}
