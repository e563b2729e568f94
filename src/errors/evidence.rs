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

    /// The same evidence with `observed` as its other fields suggest it, for failures that somebody tells of
    /// instead of having seen them: a typed command line, a line of a log, a test.
    ///
    /// Nothing but a phase is no usable answer before the upgrade and a socket that ended after it; a code,
    /// title or detail after the upgrade is a `ServerError`; a token answer of 200 that says nothing is one
    /// without a token.
    #[must_use]
    pub fn presumed(mut self) -> Self {
        let speaks =
            self.server_code.is_some() || self.server_title.is_some() || self.server_detail.is_some();
        let closed = self.close_code.is_some() || self.close_reason.is_some();
        self.observed = match self.phase {
            Phase::SessionToken if self.http_status == Some(200) && !speaks && !closed => Observed::Violation,
            Phase::SessionToken | Phase::WebsocketConnect => {
                if speaks || closed || self.http_status.is_some() {
                    Observed::Answer
                } else {
                    Observed::NoAnswer
                }
            }
            Phase::WebsocketHandshake | Phase::WebsocketSend | Phase::WebsocketRuntime => {
                if speaks {
                    Observed::ServerError
                } else if self.close_code.is_some() || self.http_status.is_some() {
                    Observed::Answer
                } else {
                    Observed::SocketEnded
                }
            }
        };
        self
    }
}
