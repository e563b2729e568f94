//! What is known about a failure before it has a code.

use serde::{Deserialize, Serialize};

use super::Phase;

/// Whether the session has its animation published by the service, which decides what some answers mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Animation comes back on the WebSocket.
    None,
    /// The service publishes into a LiveKit room.
    Livekit,
    /// The service publishes into an Agora channel.
    Agora,
    /// Whoever asks does not know.
    #[default]
    Unknown,
}

/// How the failure was noticed, which the other fields of [`Evidence`] cannot say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// The service answered: an HTTP answer, a `ServerError` message or a close frame.
    #[default]
    Answer,
    /// The client itself found a breach of the protocol: a text frame where binary is due, undecodable
    /// protobuf, an empty connection id, an unexpected first message, a token answer without a token.
    Violation,
    /// No usable answer came before the session stood: DNS, refused, reset, TLS, a deadline.
    NoAnswer,
    /// The socket ended after the upgrade without a close frame, or our own ping went unanswered.
    SocketEnded,
    /// A `ServerError` message.
    ServerError,
    /// Something in Greenroom itself went wrong, such as a panic in one session's handler.
    Internal,
}

/// Everything that is known about one failure. Text fields are as the service sent them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where in the session's life it happened.
    pub phase: Phase,
    /// How it was noticed.
    pub observed: Observed,
    /// The session's egress.
    pub egress: Egress,
    /// HTTP status of the token answer (or of `errors[0].status` inside a 200) or of the refused upgrade.
    pub http_status: Option<u16>,
    /// Error code of the body or of the `ServerError`, as text.
    pub server_code: Option<String>,
    /// Error title of the body.
    pub server_title: Option<String>,
    /// Error detail of the body, or the message of the `ServerError`.
    pub server_detail: Option<String>,
    /// WebSocket close code.
    pub close_code: Option<u16>,
    /// WebSocket close reason.
    pub close_reason: Option<String>,
}

impl Evidence {
    /// Evidence that says only where and how.
    pub fn new(phase: Phase, observed: Observed, egress: Egress) -> Self {
        Self {
            phase,
            observed,
            egress,
            http_status: None,
            server_code: None,
            server_title: None,
            server_detail: None,
            close_code: None,
            close_reason: None,
        }
    }
}
