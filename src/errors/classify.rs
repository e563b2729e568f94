//! From what the service says to a stable code: one table, one row a rule, first match wins.
//!
//! The rows stand in the order of section 3 of the protocol notes and carry its numbers. Texts stand before
//! gRPC codes, since the service relays one inside the other (`14: livekit silence timeout`). Three readings
//! of the notes are fixed in [`Facts`]: "handshake, runtime" includes sending; a close code of 4000 to 4999
//! outranks a `ServerError`'s code; any other close only adds to a `ServerError` (rows 37 and 38).

use self::{
    Then::{Depends, Gives},
    When::{Holds, Number, Says},
};
use super::{
    ErrorCode::{self, *},
    Evidence,
    facts::Facts,
};

#[cfg(test)]
mod tests;

/// The code that the table gives, and the rule that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The stable code.
    pub code: ErrorCode,
    /// The number of the rule, 1 to 39.
    pub rule: u8,
    /// Why, in words.
    pub why: &'static str,
}

/// Gives the code for `evidence`.
pub fn classify(evidence: &Evidence) -> Verdict {
    let facts = Facts::of(evidence);
    let rule = RULES.iter().find(|rule| rule.matches(&facts)).unwrap_or(&RULES[RULES.len() - 1]);
    let (code, why) = rule.outcome(&facts);
    Verdict { code, rule: rule.number, why }
}

/// One row of the table.
struct Rule {
    number: u8,
    when: When,
    then: Then,
}

/// What a row asks for.
enum When {
    /// The service's number: a close code, or a server code, of its own range 4000 to 4999.
    Number(u32),
    /// One of these texts.
    Says(&'static [&'static str]),
    /// Something that takes more than one fact.
    Holds(fn(&Facts<'_>) -> bool),
}

/// What a row gives: a code, and why.
enum Then {
    Gives(ErrorCode, &'static str),
    Depends(fn(&Facts<'_>) -> (ErrorCode, &'static str)),
}

impl Rule {
    fn matches(&self, facts: &Facts<'_>) -> bool {
        match self.when {
            When::Number(number) => facts.number() == Some(number),
            When::Says(needles) => facts.says_any(needles),
            When::Holds(condition) => condition(facts),
        }
    }

    fn outcome(&self, facts: &Facts<'_>) -> (ErrorCode, &'static str) {
        match self.then {
            Then::Gives(code, why) => (code, why),
            Then::Depends(outcome) => outcome(facts),
        }
    }
}

const fn rule(number: u8, when: When, then: Then) -> Rule {
    Rule { number, when, then }
}

static RULES: [Rule; 39] = [
    rule(
        1,
        Holds(|f| f.is_token_call() && f.http() == Some(401)),
        Gives(SessionTokenInvalid, "upstream API key refused"),
    ),
    // The service's own numbers.
    rule(2, Number(4001), Gives(CreditsExhausted, "code 4001: credits exhausted")),
    rule(3, Number(4002), Gives(SessionDurationExceeded, "code 4002: maximum session duration reached")),
    rule(4, Number(4003), Gives(ConcurrencyLimit, "code 4003: concurrency limit")),
    rule(5, Number(4010), Depends(bad_token_or_app)),
    rule(6, Number(4503), Gives(UpstreamError, "code 4503: a dependency of the service is unavailable")),
    // Texts that say who must pay, or wait.
    rule(
        7,
        Says(&["credits exhausted"]),
        Gives(CreditsExhausted, "the text says that the credits are exhausted"),
    ),
    rule(
        8,
        Says(&["session time limit reached", "maximum session duration"]),
        Gives(SessionDurationExceeded, "the text says that the session reached its longest duration"),
    ),
    rule(
        9,
        Holds(|f| f.says("concurren") && f.says("limit")),
        Gives(ConcurrencyLimit, "the text speaks of a limit on concurrent sessions"),
    ),
    rule(
        10,
        Holds(|f| f.says("session denied") || f.http() == Some(402)),
        Gives(BillingRequired, "the session is denied, or HTTP 402"),
    ),
    rule(
        11,
        Holds(|f| f.is_past_upgrade() && f.says_any(&["livekit silence timeout", "no audio input for"])),
        Gives(IdleTimeout, "the text says that no audio came for too long"),
    ),
    rule(
        12,
        Holds(|f| {
            f.is_past_upgrade()
                && f.says_any(&["livekit", "agora", "egress", "room"])
                && f.says_any(&["expired", "unauthorized", "invalid token", "permission"])
        }),
        Gives(InvalidEgressConfig, "the text says that the room or channel refused the egress credentials"),
    ),
    // Texts that say what is wrong with the token, the app, the avatar or the configuration.
    rule(
        13,
        Says(&["invalid session token", "empty token"]),
        Gives(SessionTokenInvalid, "the text says that the session token is invalid or empty"),
    ),
    rule(
        14,
        Says(&["token is expired", "session token expired"]),
        Gives(SessionTokenExpired, "the text says that the session token has expired"),
    ),
    rule(
        15,
        Says(&["app id mismatch"]),
        Gives(AppIdMismatch, "the text says that the app id does not belong to the token"),
    ),
    rule(
        16,
        Says(&["appidunrecognized", "app id unrecognized"]),
        Gives(AppIdUnrecognized, "the text says that the app id is unknown"),
    ),
    rule(
        17,
        Says(&["avatar not found"]),
        Gives(AvatarNotFound, "the text says that the avatar does not exist"),
    ),
    rule(
        18,
        Says(&["unsupported sample rate"]),
        Gives(UnsupportedSampleRate, "the text says that the sample rate is not supported"),
    ),
    rule(
        19,
        Says(&["egress client is not configured on server", "failed to create egress connection"]),
        Gives(EgressUnavailable, "the text says that the service has no egress connection"),
    ),
    rule(
        20,
        Says(&[
            "livekit_egress",
            "agora_egress",
            "missing livekit credentials",
            "provide api_token or both api_key and api_secret",
        ]),
        Gives(InvalidEgressConfig, "the text names a fault in the egress settings"),
    ),
    rule(
        21,
        Says(&["driven server returned non-200 status code", "driven server request failed"]),
        Gives(UpstreamError, "the text says that the service's animation server failed"),
    ),
    rule(
        22,
        Says(&[
            "expected clientconfiguresession message",
            "clientconfiguresession message is nil",
            "unexpected message type",
            "failed to unmarshal initial message",
        ]),
        Gives(ProtocolError, "the text says that the service did not understand a message"),
    ),
    // gRPC codes, and what else of the service's numbers is left.
    rule(23, Holds(|f| f.is_grpc(3, "invalid_argument")), Depends(invalid_argument)),
    rule(
        24,
        Holds(|f| f.is_past_upgrade() && (f.is_grpc(16, "unauthenticated") || f.says("unauthorized"))),
        Depends(unauthenticated),
    ),
    rule(25, Holds(|f| f.is_past_upgrade() && f.is_grpc(14, "unavailable")), Depends(unavailable)),
    rule(26, Holds(|f| matches!(f.number(), Some(4000..=4999))), Depends(own_range)),
    rule(
        27,
        Holds(|f| f.is_violation()),
        Gives(ProtocolError, "the service sent what its protocol does not allow"),
    ),
    // HTTP statuses.
    rule(28, Holds(|f| f.upgrade() == Some(401)), Gives(SessionTokenExpired, "HTTP 401 on the upgrade")),
    rule(29, Holds(|f| f.http() == Some(403)), Depends(forbidden)),
    rule(30, Holds(|f| f.http() == Some(404)), Gives(AppIdUnrecognized, "HTTP 404 without an avatar named")),
    rule(31, Holds(|f| f.upgrade() == Some(400)), Gives(SessionTokenInvalid, "HTTP 400 on the upgrade")),
    rule(32, Holds(|f| matches!(f.http(), Some(429 | 408))), Depends(not_now)),
    rule(
        33,
        Holds(|f| matches!(f.http(), Some(400..=499))),
        Gives(InvalidRequest, "HTTP 4xx: the request is at fault"),
    ),
    rule(
        34,
        Holds(|f| matches!(f.http(), Some(502..=504))),
        Gives(UpstreamError, "HTTP 502, 503 or 504: something behind the service's door is unavailable"),
    ),
    rule(
        35,
        Holds(|f| matches!(f.http(), Some(500..=599))),
        Gives(ServerError, "HTTP 5xx: the service failed"),
    ),
    // What the client saw where the service said nothing.
    rule(
        36,
        Holds(|f| f.has_no_answer()),
        Gives(ConnectionFailed, "no usable answer before the session stood"),
    ),
    rule(
        37,
        Holds(|f| f.has_ended()),
        Gives(ConnectionClosed, "the connection ended without a reason that means anything else"),
    ),
    rule(
        38,
        Holds(|f| f.is_server_error()),
        Gives(ServerError, "the service sent a ServerError that matches no other rule"),
    ),
    rule(39, Holds(|_| true), Gives(Unknown, "matches nothing")),
];

/// Row 5.
fn bad_token_or_app(facts: &Facts<'_>) -> (ErrorCode, &'static str) {
    if facts.says("expired") {
        (SessionTokenExpired, "code 4010: the session token has expired")
    } else if facts.says("app id mismatch") {
        (AppIdMismatch, "code 4010: the app id does not belong to the token")
    } else {
        (SessionTokenInvalid, "code 4010: the session token was not accepted")
    }
}

/// Row 23.
fn invalid_argument(facts: &Facts<'_>) -> (ErrorCode, &'static str) {
    if facts.says_any(&["livekit", "agora", "egress"]) {
        (InvalidEgressConfig, "INVALID_ARGUMENT in the egress settings")
    } else {
        (InvalidRequest, "INVALID_ARGUMENT")
    }
}

/// Row 24.
fn unauthenticated(facts: &Facts<'_>) -> (ErrorCode, &'static str) {
    if facts.is_without_egress() {
        (SessionTokenInvalid, "unauthenticated, and without egress only the session token can be meant")
    } else {
        (InvalidEgressConfig, "unauthenticated, which with egress means the egress credentials")
    }
}

/// Row 25.
fn unavailable(facts: &Facts<'_>) -> (ErrorCode, &'static str) {
    if facts.is_without_egress() || facts.says_any(&["animate", "inference", "driven"]) {
        (UpstreamError, "UNAVAILABLE: the service's animation server")
    } else {
        (EgressUnavailable, "UNAVAILABLE: the service's egress")
    }
}

/// Row 26.
fn own_range(facts: &Facts<'_>) -> (ErrorCode, &'static str) {
    if facts.number().is_some_and(|number| number < 4500) {
        (InvalidRequest, "code 4000 to 4499: the request is at fault")
    } else {
        (UpstreamError, "code 4500 to 4999: the service is briefly unable")
    }
}

/// Row 29.
fn forbidden(facts: &Facts<'_>) -> (ErrorCode, &'static str) {
    if facts.is_token_call() {
        (AppIdUnrecognized, "HTTP 403 on the token call")
    } else {
        (SessionTokenInvalid, "HTTP 403 on the upgrade")
    }
}

/// Row 32.
fn not_now(facts: &Facts<'_>) -> (ErrorCode, &'static str) {
    if facts.http() == Some(429) {
        (ConcurrencyLimit, "HTTP 429: too many at once")
    } else {
        (UpstreamError, "HTTP 408: the service gave up waiting")
    }
}
