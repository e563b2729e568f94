//! Refusals of which the service's form is not known, in each.

use greenroom::simulator::Arrival;

use crate::{
    errors::AT_UPGRADE_AND_CLOSE,
    feature::{Feature, pick},
    form::{Form, Setup, Switch},
    player::Sdk,
};

const FORMS: &[Switch] = &[Switch::Arrival, Switch::ErrorBeforeClose];

/// A refusal in each of its forms: as the upgrade's status, as a ServerError, as a close frame alone.
struct Refusal {
    status: [&'static str; 2],
    error: [&'static str; 2],
    close: [&'static str; 2],
}

impl Refusal {
    fn sees(&self, stage: &str, sdk: Sdk, form: &Form) -> String {
        // A ServerError ends the handshake: what comes behind it is read by nobody.
        let as_error = form.arrives == Arrival::ServerError || form.error_before_close;
        let [spatialreal, avatarkit] = match form.arrives {
            Arrival::Http => self.status,
            Arrival::ServerError | Arrival::Close if as_error => self.error,
            Arrival::ServerError | Arrival::Close => self.close,
        };
        format!("{stage}: {}", pick(sdk, spatialreal, avatarkit))
    }
}

const TOKEN: Refusal = Refusal {
    status: [
        "connectionFailed (websocket_connect) http 400",
        "sessionTokenInvalid (websocket_connect) http 400",
    ],
    error: [
        "sessionTokenInvalid (websocket_handshake) server 4010 close 4010",
        "sessionTokenInvalid (websocket_handshake) server 4010",
    ],
    close: [
        "sessionTokenInvalid (websocket_handshake) close 4010",
        "connectionClosed (websocket_handshake) close 4010 \"Invalid session token\"",
    ],
};

const EXPIRED: Refusal = Refusal {
    status: [
        "sessionTokenInvalid (websocket_connect) http 401",
        "sessionTokenExpired (websocket_connect) http 401",
    ],
    error: [
        "sessionTokenInvalid (websocket_handshake) server 4010 close 4010",
        "sessionTokenExpired (websocket_handshake) server 4010",
    ],
    close: [
        "sessionTokenInvalid (websocket_handshake) close 4010",
        "connectionClosed (websocket_handshake) close 4010 \"Session token expired\"",
    ],
};

const CROWDED: Refusal = Refusal {
    status: ["connectionFailed (websocket_connect) http 429", "invalidRequest (websocket_connect) http 429"],
    error: [
        "concurrencyLimit (websocket_handshake) server 4003 close 4003",
        "serverError (websocket_handshake) server 4003",
    ],
    close: [
        "concurrencyLimit (websocket_handshake) close 4003",
        "connectionClosed (websocket_handshake) close 4003 \"concurrency limit reached\"",
    ],
};

pub fn features() -> Vec<Feature> {
    vec![
        Feature::new("a session token presented twice (4010)", "start --token-twice", "")
            .under(FORMS)
            .sees(|sdk, form| TOKEN.sees("again", sdk, form))
            .why(AT_UPGRADE_AND_CLOSE),
        Feature::new(
            "a session token that has expired (4010)",
            "start --token-ttl 5 --wait-before-start 5.1",
            "",
        )
        .under(FORMS)
        .sees(|sdk, form| EXPIRED.sees("start", sdk, form))
        .why(AT_UPGRADE_AND_CLOSE),
        Feature::new("one session too many (4003), and one in its place", "crowd", "")
            .in_setup(Setup::OneSlot)
            .under(FORMS)
            .sees(|sdk, form| CROWDED.sees("run", sdk, form))
            .why("avatarkit has no code for a concurrency limit, and reads none into a close"),
    ]
}
