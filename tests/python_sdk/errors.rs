//! Each error that the clients document once the socket stands, by what provokes it; the others are in `before`.

use greenroom::simulator::{Close, Effect, Nonsense, Point};

use crate::feature::Feature;

pub const AT_UPGRADE: &str =
    "avatarkit reads status and body of a refused upgrade, spatialreal its 401 and 403 alone";
pub const AT_UPGRADE_AND_CLOSE: &str = "at the upgrade avatarkit reads status and body, and spatialreal 401 and 403 alone; in a close spatialreal reads the code, and avatarkit none";
pub const AT_CLOSE: &str = "spatialreal reads a code into a close frame, avatarkit into a ServerError alone";
pub const NO_TEXTS: &str =
    "avatarkit reads the text and gRPC codes of a ServerError, spatialreal close codes alone";
pub const NINETEEN: &str = "avatarkit has 19 codes, and reads no 4003 and 4503";

/// The two lines of a difference, and its reason; one line where there is none.
#[derive(Clone, Copy)]
pub enum Sees {
    Same(&'static str),
    Differ(&'static str, &'static str, &'static str),
}
pub use Sees::{Differ, Same};

pub fn feature(name: String, script: &'static str, sees: Sees) -> Feature {
    let feature = Feature::new(name, script, "");
    match sees {
        Same(line) => feature.sees(move |_, _| line.to_owned()),
        Differ(spatialreal, avatarkit, why) => feature.differs(spatialreal, avatarkit, why),
    }
}

fn server_error(code: i32, message: &str, then_close: Option<u16>) -> Effect {
    let then_close = then_close.map(|code| Close { code, reason: "why".into(), after_ms: 20 });
    Effect::ServerError { code, message: message.into(), req_id: false, then_close }
}

/// Those that take longest.
pub fn long() -> Vec<Feature> {
    vec![
        feature(
            "half-open while it plays: nothing is read or written any more".into(),
            "ended --seconds 0.1 --deadline 60",
            Differ(
                "nothing; connectionClosed (websocket_runtime)",
                "nothing; connectionClosed (websocket_runtime) close 1011 \"keepalive ping timeout\"",
                "the client closes for an unanswered ping: avatarkit tells its own close frame, spatialreal the other side's",
            ),
        )
        .struck(Point::AfterChunks(1), Effect::Silence {}),
        feature(
            "an upgrade without an answer".into(),
            "start",
            Same("start: connectionFailed (websocket_connect)"),
        )
        .struck(Point::Upgrade, Effect::Silence {}),
    ]
}

pub fn features() -> Vec<Feature> {
    [handshake(), closes(), runtime()].into_iter().flatten().collect()
}

/// A ServerError's code and text, and what the clients call it.
const SERVER_ERRORS: [(i32, &str, &str, &str); 26] = [
    (4001, "limit", "creditsExhausted", "creditsExhausted"),
    (4002, "limit", "sessionDurationExceeded", "sessionDurationExceeded"),
    (4003, "limit", "concurrencyLimit", "serverError"),
    (4010, "session token expired", "sessionTokenInvalid", "sessionTokenExpired"),
    (4010, "app id mismatch", "sessionTokenInvalid", "appIDMismatch"),
    (4400, "odd", "connectionClosed", "serverError"),
    (4503, "dependency", "upstreamError", "serverError"),
    (3, "bad", "serverError", "invalidRequest"),
    (3, "agora: bad", "serverError", "invalidEgressConfig"),
    (14, "livekit silence timeout", "serverError", "egressUnavailable"),
    (16, "bad key", "serverError", "invalidEgressConfig"),
    (0, "credits exhausted", "serverError", "creditsExhausted"),
    (0, "session time limit reached", "serverError", "sessionDurationExceeded"),
    (0, "session denied", "serverError", "billingRequired"),
    (0, "Invalid session token", "serverError", "sessionTokenInvalid"),
    (0, "token is expired", "serverError", "sessionTokenExpired"),
    (0, "app ID unrecognized", "serverError", "appIDUnrecognized"),
    (0, "Avatar not found: a", "serverError", "avatarNotFound"),
    (0, "unsupported sample rate: 1", "serverError", "unsupportedSampleRate"),
    (0, "no audio input for 30s", "serverError", "idleTimeout"),
    (0, "missing livekit credentials", "serverError", "invalidEgressConfig"),
    (0, "egress client is not configured on server", "serverError", "egressUnavailable"),
    (0, "driven server request failed", "serverError", "upstreamError"),
    (0, "unexpected message type", "serverError", "protocolError"),
    (13, "something odd", "serverError", "serverError"),
    (99, "something odd", "serverError", "serverError"),
];

/// Why the clients call a ServerError differently.
fn why(code: i32, spatialreal: &str, avatarkit: &str) -> Option<&'static str> {
    let because = match code {
        4003 | 4503 => NINETEEN,
        4010 => "spatialreal reads 4010 itself, avatarkit the text with it",
        4000..=4999 => "spatialreal calls a code of that range that it does not know a closed connection",
        _ => NO_TEXTS,
    };
    (spatialreal != avatarkit).then_some(because)
}

/// A ServerError in the words of both clients, in a phase.
fn in_words(code: i32, (spatialreal, avatarkit): (&str, &str), phase: &str) -> [String; 2] {
    // The newer one tells a code of the close range as the close's, too.
    let close = if (4000..5000).contains(&code) { format!(" close {code}") } else { String::new() };
    [format!("{spatialreal} ({phase}) server {code}{close}"), format!("{avatarkit} ({phase}) server {code}")]
}

fn either(feature: Feature, [spatialreal, avatarkit]: [String; 2], why: Option<&'static str>) -> Feature {
    let feature = feature.sees(move |sdk, _| crate::feature::pick(sdk, &spatialreal, &avatarkit));
    Feature { why, ..feature }
}

fn handshake() -> Vec<Feature> {
    let errors = SERVER_ERRORS.map(|(code, text, spatialreal, avatarkit)| {
        let lines = in_words(code, (spatialreal, avatarkit), "websocket_handshake");
        // Beyond the code the newer client tells the close code too: that alone is no difference in kind.
        let why = why(code, spatialreal, avatarkit).or((lines[0] != lines[1]).then_some(CLOSE_FIELD));
        let feature = Feature::new(format!("handshake: ServerError {code} \"{text}\""), "start", "")
            .struck(Point::Handshake, server_error(code, text, Some(1008)));
        either(feature, lines.map(|line| format!("start: {line}")), why)
    });
    const CLOSED: &str = "start: connectionClosed (websocket_handshake)";
    const PROTOCOL: &str = "start: protocolError (websocket_handshake)";
    let rest = [
        (Effect::Drop { reset: false }, Same(CLOSED)),
        (Effect::Drop { reset: true }, Same(CLOSED)),
        (Effect::Nonsense(Nonsense::TextFrame), Same(PROTOCOL)),
        (Effect::Nonsense(Nonsense::BadProtobuf), Same(PROTOCOL)),
        (Effect::Nonsense(Nonsense::UnknownType), Same(PROTOCOL)),
        (Effect::Nonsense(Nonsense::EmptyConnectionId), Same(PROTOCOL)),
        (Effect::Nonsense(Nonsense::WrongFirstMessage), Same(PROTOCOL)),
        (
            Effect::Nonsense(Nonsense::BadFrame),
            Differ(
                CLOSED,
                "start: connectionClosed (websocket_handshake) close 1002 \"invalid opcode\"",
                OWN_CLOSE,
            ),
        ),
        (Effect::Delay { ms: 300 }, Same("connected")),
        (Effect::Stall { ms: 300 }, Same("connected")),
        (Effect::Trickle { bytes_per_s: 1000 }, Same("connected")),
    ]
    .map(|(effect, sees)| {
        feature(format!("handshake: {}", name(&effect)), "start", sees).struck(Point::Handshake, effect)
    });
    let silence = feature("handshake: no answer".into(), "start --give-up 1", Same("start: TimeoutError"))
        .struck(Point::Handshake, Effect::Silence {});
    let room = feature(
        "handshake: a room token that is none".into(),
        "start --livekit-token no-jwt",
        Differ(
            "start: serverError (websocket_handshake) server 16",
            "start: invalidEgressConfig (websocket_handshake) server 16",
            NO_TEXTS,
        ),
    );
    let nothing = feature(
        "handshake: a room without credentials".into(),
        "start --livekit-token=",
        Differ(
            "start: serverError (websocket_handshake) server 3",
            "start: invalidEgressConfig (websocket_handshake) server 3",
            NO_TEXTS,
        ),
    );
    errors.into_iter().chain(rest).chain([silence, room, nothing]).collect()
}

const CLOSE_FIELD: &str = "spatialreal tells a ServerError's code of the close range as a close code, too";
const OWN_CLOSE: &str =
    "avatarkit tells the close frame that it sent itself, spatialreal only one that it got";

/// Close codes, and what the newer client calls them; the older one tells the code alone.
const CLOSES: [(u16, &str); 9] = [
    (4001, "creditsExhausted"),
    (4002, "sessionDurationExceeded"),
    (4003, "concurrencyLimit"),
    (4010, "sessionTokenInvalid"),
    (4503, "upstreamError"),
    (4400, "connectionClosed"),
    (4999, "connectionClosed"),
    (1011, "connectionClosed"),
    (1012, "connectionClosed"),
];

fn closes() -> Vec<Feature> {
    // One chunk: whoever still spoke when the connection ends would be told there, and not while it listens.
    const SPEAKS: &str = "ended --seconds 0.1";
    let handshake = CLOSES.into_iter().chain([(1000, "connectionClosed")]).map(|(code, called)| {
        let lines = [
            format!("start: {called} (websocket_handshake) close {code}"),
            format!("start: connectionClosed (websocket_handshake) close {code} \"why\""),
        ];
        let feature = Feature::new(format!("handshake: close {code}"), "start", "")
            .struck(Point::Handshake, Effect::close(code, "why"));
        let only_reason = "spatialreal keeps no reason of a close in the handshake";
        either(feature, lines, Some(if called == "connectionClosed" { only_reason } else { AT_CLOSE }))
    });
    let runtime = CLOSES.into_iter().map(|(code, called)| {
        let line = |called| format!("nothing; {called} (websocket_runtime) close {code} \"why\"");
        let feature = Feature::new(format!("runtime: close {code}"), SPEAKS, "")
            .struck(Point::AfterChunks(1), Effect::close(code, "why"));
        let why = (called != "connectionClosed").then_some(AT_CLOSE);
        either(feature, [line(called), line("connectionClosed")], why)
    });
    let normal = [1000, 1001].map(|code| {
        Feature::new(format!("runtime: close {code}"), SPEAKS, "nothing")
            .struck(Point::AfterChunks(1), Effect::close(code, "bye"))
    });
    let reason = format!("{}.", "ä".repeat(61));
    let line = format!("nothing; connectionClosed (websocket_runtime) close 4400 \"{reason}\"");
    let long = Feature::new("runtime: close with a reason of 123 bytes", SPEAKS, "")
        .struck(Point::AfterChunks(1), Effect::close(4400, reason))
        .sees(move |_, _| line.clone());
    let sending = feature(
        "audio for a connection that has just closed (4503)".into(),
        "last_words --seconds 0.1",
        Differ(
            "run: upstreamError (websocket_send) close 4503",
            "run: connectionClosed (websocket_send) close 4503 \"why\"",
            AT_CLOSE,
        ),
    )
    .struck(Point::AfterChunks(1), Effect::close(4503, "why"));
    handshake.chain(runtime).chain(normal).chain([long, sending]).collect()
}

fn runtime() -> Vec<Feature> {
    const TOLD: &str = "told --seconds 0.4";
    let errors = SERVER_ERRORS.map(|(code, text, spatialreal, avatarkit)| {
        let lines = in_words(code, (spatialreal, avatarkit), "websocket_runtime");
        let why = why(code, spatialreal, avatarkit).or((lines[0] != lines[1]).then_some(CLOSE_FIELD));
        let feature =
            Feature::new(format!("runtime: ServerError {code} \"{text}\", and on it goes"), TOLD, "")
                .struck(Point::AfterChunks(1), server_error(code, text, None));
        either(feature, lines.map(|line| format!("10 frames, 1 end; {line}")), why)
    });
    let closed = |called: &str| format!("{called} (websocket_runtime) close 4503 \"why\"");
    let then = Feature::new("runtime: ServerError 14, then close 4503", "ended --seconds 0.1", "")
        .struck(Point::AfterChunks(1), server_error(14, "animate: unavailable", Some(4503)));
    let then = either(
        then,
        [
            format!("nothing; serverError (websocket_runtime) server 14; {}", closed("upstreamError")),
            format!(
                "nothing; egressUnavailable (websocket_runtime) server 14; {}",
                closed("connectionClosed")
            ),
        ],
        Some(AT_CLOSE),
    );
    const LOST: &str = "nothing; connectionClosed (websocket_runtime)";
    let rest = [
        ("ended --seconds 0.1", Effect::Drop { reset: false }, Same(LOST)),
        ("ended --seconds 0.1", Effect::Drop { reset: true }, Same(LOST)),
        (
            TOLD,
            Effect::Nonsense(Nonsense::BadProtobuf),
            Same("10 frames, 1 end; protocolError (websocket_runtime)"),
        ),
        ("clip --seconds 0.4", Effect::Nonsense(Nonsense::TextFrame), Same("10 frames, 1 end")),
        ("clip --seconds 0.4", Effect::Nonsense(Nonsense::UnknownType), Same("10 frames, 1 end")),
        (
            "clip --seconds 0.4",
            Effect::Nonsense(Nonsense::UnknownRequest),
            Same("10 frames, 1 end; 1 request of nobody's"),
        ),
        (
            "ended --seconds 0.1",
            Effect::Nonsense(Nonsense::BadFrame),
            Differ(
                LOST,
                "nothing; connectionClosed (websocket_runtime) close 1002 \"invalid opcode\"",
                OWN_CLOSE,
            ),
        ),
        ("clip --seconds 0.4", Effect::Stall { ms: 300 }, Same("10 frames, 1 end")),
        ("clip --seconds 0.4", Effect::Trickle { bytes_per_s: 20_000 }, Same("10 frames, 1 end")),
    ]
    .map(|(script, effect, sees)| {
        feature(format!("runtime: {}", name(&effect)), script, sees).struck(Point::AfterChunks(1), effect)
    });
    let failed = Feature::new(
        "runtime: ServerError that ends the request it names",
        "told --seconds 0.4 --ends 0",
        "",
    );
    let failed = either(
        failed.struck(
            Point::AfterChunks(1),
            Effect::ServerError { code: 13, message: "no".into(), req_id: true, then_close: None },
        ),
        ["nothing; serverError (websocket_runtime) server 13"; 2].map(str::to_owned),
        None,
    );
    errors.into_iter().chain([then, failed]).chain(rest).collect()
}

/// A fault in words.
pub fn name(effect: &Effect) -> String {
    match effect {
        Effect::Http { status, body: None, .. } => status.to_string(),
        Effect::Http { status, body: Some(body), .. } => format!("{status} {body}"),
        Effect::Drop { reset: true } => "reset".into(),
        Effect::Drop { reset: false } => "the connection ends".into(),
        Effect::Delay { ms } => format!("{ms} ms late"),
        Effect::Stall { ms } => format!("nothing is read for {ms} ms"),
        Effect::Trickle { bytes_per_s } => format!("{bytes_per_s} bytes a second"),
        Effect::Nonsense(nonsense) => format!("{nonsense:?}"),
        Effect::ServerError { .. } | Effect::Close(_) | Effect::Silence {} | Effect::Refuse { .. } => {
            format!("{effect:?}")
        }
    }
}
