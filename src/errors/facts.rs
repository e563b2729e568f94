//! Evidence as the classification table reads it: texts joined and lower-cased, numbers parsed, once.

use super::{Egress, Evidence, Observed, Phase};

/// One failure's evidence, prepared for the rows of the table.
pub(super) struct Facts<'a> {
    evidence: &'a Evidence,
    /// Server code, title, detail and close reason, lower-cased, a line each, so that no text is found
    /// across two fields.
    text: String,
    /// The service's own code, lower-cased: the `ServerError`'s or body's, unless a close code outranks it.
    code: Option<String>,
    /// The service's own code where it is a number.
    number: Option<u32>,
}

impl<'a> Facts<'a> {
    /// Prepares `evidence`.
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        let text =
            [&evidence.server_code, &evidence.server_title, &evidence.server_detail, &evidence.close_reason]
                .into_iter()
                .flatten()
                .map(|field| field.to_lowercase())
                .collect::<Vec<_>>()
                .join("\n");
        // Protocol, section 3: a `ServerError` and the close that follows it are one failure, and a close
        // code in 4000 to 4999 outranks the code of the `ServerError`.
        let code = match evidence.close_code {
            Some(close @ 4000..=4999) => Some(close.to_string()),
            _ => evidence.server_code.as_deref().map(|code| code.trim().to_lowercase()),
        };
        let number = code.as_deref().and_then(|code| code.parse().ok());
        Self { evidence, text, code, number }
    }

    /// Whether a text of the service holds `needle`, which is in lower case.
    pub(super) fn says(&self, needle: &str) -> bool {
        self.text.contains(needle)
    }

    /// Whether a text of the service holds one of `needles`, which are in lower case.
    pub(super) fn says_any(&self, needles: &[&str]) -> bool {
        needles.iter().any(|needle| self.says(needle))
    }

    /// The service's own code where it is a number: a close code of 4000 to 4999, else the server code.
    pub(super) fn number(&self) -> Option<u32> {
        self.number
    }

    /// Whether the server code is this gRPC code, given as its number or, in lower case, its name.
    pub(super) fn is_grpc(&self, number: u32, name: &str) -> bool {
        self.number == Some(number) || self.code.as_deref() == Some(name)
    }

    /// Whether the failure is one of the call for a session token.
    pub(super) fn is_token_call(&self) -> bool {
        self.evidence.phase == Phase::SessionToken
    }

    /// Whether the upgrade had succeeded: what the table calls "handshake, runtime".
    ///
    /// Sending happens on a running session, and what the service says about it is what it would have said
    /// to a session that only listens: so `websocket_send` belongs here.
    pub(super) fn is_past_upgrade(&self) -> bool {
        match self.evidence.phase {
            Phase::SessionToken | Phase::WebsocketConnect => false,
            Phase::WebsocketHandshake | Phase::WebsocketSend | Phase::WebsocketRuntime => true,
        }
    }

    /// HTTP status of the token answer or of the refused upgrade.
    pub(super) fn http(&self) -> Option<u16> {
        self.evidence.http_status
    }

    /// HTTP status of the refused upgrade. A status that is not the token answer's can only be that, even
    /// where whoever collected the evidence names a later phase.
    pub(super) fn upgrade(&self) -> Option<u16> {
        self.http().filter(|_| !self.is_token_call())
    }

    /// Whether the client itself found a breach of the protocol.
    pub(super) fn is_violation(&self) -> bool {
        self.evidence.observed == Observed::Violation
    }

    /// Whether no usable answer came before the session stood.
    pub(super) fn has_no_answer(&self) -> bool {
        // Before the upgrade there is no WebSocket yet that could end: the connection was reset.
        let nothing_came = matches!(
            (self.evidence.observed, self.evidence.phase),
            (Observed::NoAnswer, Phase::SessionToken | Phase::WebsocketConnect | Phase::WebsocketHandshake)
                | (Observed::SocketEnded, Phase::SessionToken | Phase::WebsocketConnect)
        );
        let not_an_upgrade = self.evidence.phase == Phase::WebsocketConnect
            && self.http().is_some_and(|status| (200..400).contains(&status));
        nothing_came || not_an_upgrade
    }

    /// Whether the service sent a `ServerError`: then that decides, and a close without a meaning of its own
    /// only adds its code and reason.
    pub(super) fn is_server_error(&self) -> bool {
        match self.evidence.observed {
            Observed::ServerError => true,
            Observed::Answer | Observed::SocketEnded => {
                self.is_past_upgrade() && self.evidence.server_code.is_some()
            }
            Observed::Violation | Observed::NoAnswer | Observed::Internal => false,
        }
    }

    /// Whether the socket ended after the upgrade, with a close frame or without one.
    pub(super) fn has_ended(&self) -> bool {
        let ended = match self.evidence.observed {
            // An answer that is missing on a session that stands is the one to our ping.
            Observed::SocketEnded | Observed::NoAnswer => self.is_past_upgrade(),
            Observed::Answer | Observed::Violation | Observed::ServerError | Observed::Internal => false,
        };
        (ended || self.evidence.close_code.is_some()) && !self.is_server_error()
    }

    /// Whether the session is known to have no egress.
    pub(super) fn is_without_egress(&self) -> bool {
        match self.evidence.egress {
            Egress::None => true,
            Egress::Livekit | Egress::Agora | Egress::Unknown => false,
        }
    }
}
