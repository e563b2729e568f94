//! Where in a session's life an error happened.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The phase of an error, as the service's SDKs name it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The HTTP call for a session token.
    SessionToken,
    /// Name lookup, TCP, TLS and the WebSocket upgrade.
    WebsocketConnect,
    /// From the upgrade to the service's confirmation.
    WebsocketHandshake,
    /// Writing to a confirmed connection.
    WebsocketSend,
    /// Everything else on a confirmed connection.
    WebsocketRuntime,
}

impl Phase {
    /// Every phase, in the order of a session's life.
    pub const ALL: [Self; 5] = [
        Self::SessionToken,
        Self::WebsocketConnect,
        Self::WebsocketHandshake,
        Self::WebsocketSend,
        Self::WebsocketRuntime,
    ];

    /// The spelling in JSON, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionToken => "session_token",
            Self::WebsocketConnect => "websocket_connect",
            Self::WebsocketHandshake => "websocket_handshake",
            Self::WebsocketSend => "websocket_send",
            Self::WebsocketRuntime => "websocket_runtime",
        }
    }

    /// Whether the session stood already when the error happened.
    pub const fn is_established(self) -> bool {
        match self {
            Self::SessionToken | Self::WebsocketConnect | Self::WebsocketHandshake => false,
            Self::WebsocketSend | Self::WebsocketRuntime => true,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no phase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no phase; use session_token, websocket_connect, websocket_handshake, websocket_send or websocket_runtime"
)]
pub struct UnknownPhase(pub String);

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}
