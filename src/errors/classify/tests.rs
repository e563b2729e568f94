//! A case for each row, the order of the rows, and that nothing panics.

use proptest::prelude::*;

use super::*;
use crate::errors::{
    Egress, Observed,
    Phase::{self, *},
};

/// Evidence that is built up field by field.
#[derive(Clone, Debug)]
struct Case(Evidence);

fn at(phase: Phase) -> Case {
    Case(Evidence::new(phase, Observed::Answer, Egress::Unknown))
}

impl Case {
    fn seen(mut self, observed: Observed) -> Self {
        self.0.observed = observed;
        self
    }

    fn egress(mut self, egress: Egress) -> Self {
        self.0.egress = egress;
        self
    }

    fn http(mut self, status: u16) -> Self {
        self.0.http_status = Some(status);
        self
    }

    fn code(mut self, code: &str) -> Self {
        self.0.server_code = Some(code.to_owned());
        self
    }

    fn title(mut self, title: &str) -> Self {
        self.0.server_title = Some(title.to_owned());
        self
    }

    fn says(mut self, detail: &str) -> Self {
        self.0.server_detail = Some(detail.to_owned());
        self
    }

    fn close(mut self, code: u16, reason: &str) -> Self {
        self.0.close_code = Some(code);
        self.0.close_reason = Some(reason.to_owned());
        self
    }
}

fn token() -> Case {
    at(SessionToken)
}

fn upgrade() -> Case {
    at(WebsocketConnect)
}

fn handshake() -> Case {
    at(WebsocketHandshake)
}

fn send() -> Case {
    at(WebsocketSend)
}

fn runtime() -> Case {
    at(WebsocketRuntime)
}

#[track_caller]
fn check(cases: &[(u8, ErrorCode, Case)]) {
    for (rule, code, case) in cases {
        let verdict = classify(&case.0);
        assert_eq!((verdict.rule, verdict.code), (*rule, *code), "{case:#?}");
    }
}

#[test]
fn rows_are_numbered_in_their_order() {
    let numbers: Vec<u8> = RULES.iter().map(|rule| rule.number).collect();
    assert_eq!(numbers, (1..=39).collect::<Vec<u8>>());
}

#[test]
fn the_services_own_numbers_have_their_codes() {
    check(&[
        (1, SessionTokenInvalid, token().http(401).code("unauthorized").says("bad key")),
        (2, CreditsExhausted, runtime().close(4001, "")),
        (2, CreditsExhausted, handshake().code(" 4001 ")),
        (2, CreditsExhausted, upgrade().http(400).code("4001")),
        (3, SessionDurationExceeded, runtime().close(4002, "")),
        (3, SessionDurationExceeded, runtime().code("4002")),
        (4, ConcurrencyLimit, handshake().close(4003, "")),
        (5, SessionTokenExpired, runtime().close(4010, "session EXPIRED")),
        (5, AppIdMismatch, handshake().code("4010").says("App ID mismatch")),
        (5, SessionTokenInvalid, handshake().close(4010, "")),
        (6, UpstreamError, runtime().close(4503, "")),
        (6, UpstreamError, runtime().code("4503").seen(Observed::ServerError)),
    ]);
}

#[test]
fn texts_about_payment_and_waiting_have_their_codes() {
    check(&[
        (7, CreditsExhausted, upgrade().http(402).says("session denied: Credits Exhausted")),
        (8, SessionDurationExceeded, runtime().says("session time limit reached")),
        (8, SessionDurationExceeded, runtime().close(1000, "maximum session duration")),
        (9, ConcurrencyLimit, upgrade().http(403).says("Concurrency limit of 3 reached")),
        (9, ConcurrencyLimit, token().http(400).title("limit").says("too many concurrent sessions")),
        (10, BillingRequired, upgrade().http(400).says("Session denied")),
        (10, BillingRequired, token().http(402)),
        (11, IdleTimeout, runtime().code("14").says("livekit silence timeout")),
        (11, IdleTimeout, send().close(1000, "no audio input for 300s")),
        (12, InvalidEgressConfig, handshake().code("16").says("room token expired").egress(Egress::None)),
        (12, InvalidEgressConfig, runtime().code("13").says("Agora: permission denied")),
    ]);
}

#[test]
fn texts_about_token_app_avatar_and_configuration_have_their_codes() {
    check(&[
        (13, SessionTokenInvalid, upgrade().http(400).says("Invalid session token")),
        (13, SessionTokenInvalid, handshake().says("empty token")),
        (14, SessionTokenExpired, upgrade().http(400).says("token is expired")),
        (14, SessionTokenExpired, runtime().code("16").says("session token expired")),
        (15, AppIdMismatch, upgrade().http(400).says("app id mismatch")),
        (16, AppIdUnrecognized, token().http(400).code("appIDUnrecognized")),
        (16, AppIdUnrecognized, upgrade().http(400).says("app ID unrecognized")),
        (17, AvatarNotFound, upgrade().http(404).says("Avatar not found: a-1")),
        (18, UnsupportedSampleRate, handshake().code("3").says("unsupported sample rate: 11025")),
        (19, EgressUnavailable, handshake().code("3").says("egress client is not configured on server")),
        (19, EgressUnavailable, handshake().code("13").says("failed to create egress connection: x")),
        (20, InvalidEgressConfig, handshake().code("13").says("livekit_egress.url is required")),
        (20, InvalidEgressConfig, handshake().code("13").says("agora_egress is required")),
        (20, InvalidEgressConfig, handshake().says("missing LiveKit credentials")),
        (20, InvalidEgressConfig, upgrade().says("provide api_token or both api_key and api_secret")),
        (21, UpstreamError, runtime().code("14").says("driven server returned non-200 status code: 500")),
        (21, UpstreamError, runtime().code("3").says("driven server request failed")),
        (22, ProtocolError, handshake().code("3").says("expected ClientConfigureSession message")),
        (22, ProtocolError, handshake().code("3").says("ClientConfigureSession message is nil")),
        (22, ProtocolError, runtime().says("unexpected message type: 6")),
        (22, ProtocolError, handshake().says("failed to unmarshal initial message: x")),
    ]);
}

#[test]
fn grpc_codes_and_the_rest_of_the_numbers_have_their_codes() {
    check(&[
        (23, InvalidEgressConfig, handshake().code("3").says("egress type is missing")),
        (23, InvalidRequest, handshake().code("3").says("bad bitrate")),
        (23, InvalidRequest, token().http(400).code("INVALID_ARGUMENT").says("must be in the future")),
        (23, InvalidRequest, runtime().code("invalid_argument")),
        (24, SessionTokenInvalid, handshake().code("16").egress(Egress::None)),
        (24, SessionTokenInvalid, runtime().code("7").says("Unauthorized").egress(Egress::None)),
        (24, InvalidEgressConfig, handshake().code("UNAUTHENTICATED").egress(Egress::Agora)),
        (24, InvalidEgressConfig, send().says("unauthorized").egress(Egress::Livekit)),
        (24, InvalidEgressConfig, runtime().code("16")),
        (25, UpstreamError, runtime().code("14").egress(Egress::None)),
        (25, UpstreamError, runtime().code("14").says("animate: x").egress(Egress::Livekit)),
        (25, UpstreamError, runtime().code("UNAVAILABLE").says("inference pool is empty")),
        (25, UpstreamError, runtime().code("14").says("driven: connection refused")),
        (25, EgressUnavailable, runtime().code("Unavailable").egress(Egress::Agora)),
        (25, EgressUnavailable, handshake().code("14")),
        (26, InvalidRequest, runtime().close(4000, "")),
        (26, InvalidRequest, handshake().code("4499")),
        (26, UpstreamError, runtime().close(4500, "")),
        (26, UpstreamError, handshake().code("4999")),
        (27, ProtocolError, handshake().seen(Observed::Violation)),
        (27, ProtocolError, token().http(200).seen(Observed::Violation)),
    ]);
}

#[test]
fn http_statuses_have_their_codes() {
    check(&[
        (28, SessionTokenExpired, upgrade().http(401)),
        (28, SessionTokenExpired, upgrade().http(401).code("16").says("unauthorized")),
        (29, AppIdUnrecognized, token().http(403)),
        (29, SessionTokenInvalid, upgrade().http(403)),
        (30, AppIdUnrecognized, upgrade().http(404).says("unknown app")),
        (30, AppIdUnrecognized, token().http(404)),
        (31, SessionTokenInvalid, upgrade().http(400)),
        (32, ConcurrencyLimit, upgrade().http(429)),
        (32, ConcurrencyLimit, token().http(429)),
        (32, UpstreamError, token().http(408)),
        (33, InvalidRequest, token().http(400)),
        (33, InvalidRequest, upgrade().http(418)),
        (34, UpstreamError, token().http(502)),
        (34, UpstreamError, upgrade().http(503)),
        (34, UpstreamError, upgrade().http(504)),
        (35, ServerError, upgrade().http(500)),
        (35, ServerError, token().http(599)),
    ]);
}

#[test]
fn what_the_client_saw_without_an_answer_has_its_codes() {
    check(&[
        (36, ConnectionFailed, token().seen(Observed::NoAnswer)),
        (36, ConnectionFailed, upgrade().seen(Observed::NoAnswer)),
        (36, ConnectionFailed, handshake().seen(Observed::NoAnswer)),
        (36, ConnectionFailed, upgrade().seen(Observed::SocketEnded)),
        (36, ConnectionFailed, upgrade().http(200)),
        (36, ConnectionFailed, upgrade().http(302)),
        (37, ConnectionClosed, handshake().seen(Observed::SocketEnded)),
        (37, ConnectionClosed, runtime().seen(Observed::SocketEnded)),
        (37, ConnectionClosed, runtime().seen(Observed::NoAnswer)),
        (37, ConnectionClosed, runtime().close(1000, "bye")),
        (37, ConnectionClosed, send().close(1006, "").seen(Observed::SocketEnded)),
        (37, ConnectionClosed, handshake().close(3999, "")),
        (38, ServerError, runtime().code("13").says("boom").seen(Observed::ServerError)),
        (38, ServerError, handshake().seen(Observed::ServerError)),
        (38, ServerError, runtime().code("5000")),
        (39, Unknown, token().http(304)),
        (39, Unknown, upgrade().http(101)),
        (39, Unknown, token().says("odd")),
        (39, Unknown, runtime().seen(Observed::Internal)),
    ]);
}

#[test]
fn one_failure_of_a_server_error_and_its_close_has_one_code() {
    check(&[
        // A close code of 4000 to 4999 outranks what the ServerError said before it.
        (6, UpstreamError, runtime().code("4001").close(4503, "").seen(Observed::ServerError)),
        (2, CreditsExhausted, runtime().code("13").close(4001, "").seen(Observed::ServerError)),
        (26, InvalidRequest, handshake().code("14").close(4400, "").seen(Observed::ServerError)),
        // Any other close adds its code and reason, and the ServerError decides.
        (38, ServerError, runtime().code("13").close(1011, "").seen(Observed::ServerError)),
        (38, ServerError, runtime().code("13").seen(Observed::SocketEnded)),
        (25, EgressUnavailable, runtime().code("14").close(1000, "").seen(Observed::ServerError)),
    ]);
}

#[test]
fn rows_for_handshake_and_runtime_leave_http_answers_alone() {
    check(&[
        (33, InvalidRequest, token().http(418).code("14").says("no audio input for 5s")),
        (31, SessionTokenInvalid, upgrade().http(400).code("16").says("room: permission denied")),
        (28, SessionTokenExpired, upgrade().http(401).says("unauthorized")),
    ]);
}

#[test]
fn texts_do_not_run_across_fields() {
    check(&[(39, Unknown, token().title("avatar").says("not found"))]);
}

/// Inputs that satisfy two rows, and no row before the first.
#[test]
fn where_two_rows_match_the_earlier_wins() {
    let overlaps = [
        (1, 2, token().http(401).code("4001")),
        (1, 7, token().http(401).says("credits exhausted")),
        (1, 13, token().http(401).says("invalid session token")),
        (2, 8, runtime().close(4001, "maximum session duration")),
        (2, 26, runtime().close(4001, "")),
        (3, 7, runtime().code("4002").says("credits exhausted")),
        (4, 8, runtime().close(4003, "session time limit reached")),
        (5, 14, runtime().close(4010, "session token expired")),
        (6, 7, runtime().close(4503, "credits exhausted")),
        (7, 8, runtime().says("credits exhausted: maximum session duration")),
        (7, 10, upgrade().http(402).says("credits exhausted")),
        (8, 9, runtime().says("session time limit reached for concurrent sessions")),
        (9, 10, upgrade().http(402).says("concurrency limit")),
        (9, 32, upgrade().http(429).says("concurrency limit")),
        (10, 11, runtime().says("session denied: no audio input for 5s")),
        (10, 13, upgrade().says("session denied: invalid session token")),
        (10, 33, upgrade().http(402)),
        (11, 12, runtime().says("livekit silence timeout: room expired")),
        (11, 25, runtime().code("14").says("livekit silence timeout")),
        (12, 13, handshake().says("egress: invalid token: invalid session token")),
        (12, 20, handshake().says("livekit_egress: unauthorized")),
        (12, 24, handshake().says("livekit: unauthorized").egress(Egress::None)),
        (13, 14, upgrade().says("invalid session token: token is expired")),
        (13, 28, upgrade().http(401).says("invalid session token")),
        (13, 31, upgrade().http(400).says("invalid session token")),
        (14, 15, upgrade().says("token is expired; app id mismatch")),
        (15, 16, upgrade().says("app id mismatch: app id unrecognized")),
        (16, 17, upgrade().says("app id unrecognized; avatar not found")),
        (17, 18, upgrade().says("avatar not found; unsupported sample rate")),
        (17, 30, upgrade().http(404).says("avatar not found: a")),
        (18, 19, handshake().says("unsupported sample rate; failed to create egress connection")),
        (18, 23, handshake().code("3").says("unsupported sample rate: 1")),
        (19, 20, handshake().says("failed to create egress connection: missing livekit credentials")),
        (20, 21, handshake().says("agora_egress: driven server request failed")),
        (21, 22, handshake().says("driven server request failed: unexpected message type")),
        (22, 23, handshake().code("3").says("unexpected message type")),
        (23, 24, handshake().code("3").says("unauthorized")),
        (23, 31, upgrade().http(400).code("3")),
        (24, 25, handshake().code("14").says("unauthorized")),
        (24, 26, handshake().close(4400, "unauthorized")),
        (25, 38, handshake().code("14").seen(Observed::ServerError)),
        (26, 27, handshake().close(4400, "").seen(Observed::Violation)),
        (26, 28, upgrade().http(401).code("4400")),
        (26, 37, runtime().close(4999, "")),
        (27, 28, upgrade().http(401).seen(Observed::Violation)),
        (28, 33, upgrade().http(401)),
        (29, 33, upgrade().http(403)),
        (30, 33, upgrade().http(404)),
        (31, 33, upgrade().http(400)),
        (32, 33, upgrade().http(408)),
        (34, 35, upgrade().http(503)),
        (35, 36, token().http(500).seen(Observed::NoAnswer)),
        (36, 37, handshake().close(1006, "").seen(Observed::NoAnswer)),
        (37, 39, runtime().close(1006, "")),
        (38, 39, runtime().code("13")),
    ];
    for (earlier, later, case) in overlaps {
        let facts = Facts::of(&case.0);
        assert!(RULES[later - 1].matches(&facts), "row {later} does not match {case:#?}");
        assert_eq!(usize::from(classify(&case.0).rule), earlier, "{case:#?}");
    }
}

#[test]
fn what_is_presumed_of_fields_alone_is_what_a_client_would_have_seen() {
    let rule = |case: Case| classify(&case.0.presumed()).rule;
    assert_eq!(rule(token()), 36);
    assert_eq!(rule(upgrade()), 36);
    for past_upgrade in [handshake(), send(), runtime()] {
        assert_eq!(rule(past_upgrade.clone()), 37);
        assert_eq!(rule(past_upgrade.clone().close(1001, "")), 37);
        assert_eq!(rule(past_upgrade.clone().code("13").close(1001, "")), 38);
        assert_eq!(rule(past_upgrade.says("boom")), 38);
    }
    assert_eq!(rule(token().http(200)), 27);
    assert_eq!(rule(token().http(304)), 39);
    assert_eq!(rule(upgrade().http(200)), 36);
}

fn texts() -> impl Strategy<Value = Option<String>> {
    let known = prop::sample::select(vec![
        "3",
        "14",
        "16",
        "4001",
        "4999",
        "99999999999999999999",
        "livekit unauthorized",
        "CONCURRENT LIMIT",
        "İ expired",
        "driven server request failed",
    ]);
    prop::option::of(prop_oneof![known.prop_map(str::to_owned), any::<String>()])
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let observed = prop::sample::select(vec![
        Observed::Answer,
        Observed::Violation,
        Observed::NoAnswer,
        Observed::SocketEnded,
        Observed::ServerError,
        Observed::Internal,
    ]);
    let egress = prop::sample::select(vec![Egress::None, Egress::Livekit, Egress::Agora, Egress::Unknown]);
    let kind = (prop::sample::select(Phase::ALL.to_vec()), observed, egress);
    let status = prop::option::of(prop_oneof![100..600_u16, any::<u16>()]);
    let close = prop::option::of(prop_oneof![1000..5000_u16, any::<u16>()]);
    (kind, status, close, texts(), texts(), texts(), texts()).prop_map(
        |((phase, observed, egress), http_status, close_code, code, title, detail, reason)| Evidence {
            http_status,
            server_code: code,
            server_title: title,
            server_detail: detail,
            close_code,
            close_reason: reason,
            ..Evidence::new(phase, observed, egress)
        },
    )
}

proptest! {
    #[test]
    fn any_evidence_gets_the_first_row_that_matches(evidence in evidence()) {
        let verdict = classify(&evidence);
        prop_assert!((1..=39).contains(&verdict.rule));
        let facts = Facts::of(&evidence);
        let first = RULES.iter().position(|rule| rule.matches(&facts)).unwrap() + 1;
        prop_assert_eq!(usize::from(verdict.rule), first);
        prop_assert!(!verdict.why.is_empty());
    }

    #[test]
    fn lettering_does_not_matter(evidence in evidence()) {
        let shout = |text: &Option<String>| text.as_ref().map(|text| text.to_ascii_uppercase());
        let loud = Evidence {
            server_code: shout(&evidence.server_code),
            server_title: shout(&evidence.server_title),
            server_detail: shout(&evidence.server_detail),
            close_reason: shout(&evidence.close_reason),
            ..evidence.clone()
        };
        prop_assert_eq!(classify(&loud), classify(&evidence));
    }
}
