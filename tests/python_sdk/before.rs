//! Each error that the clients document before the socket stands, by what provokes it.

use greenroom::simulator::{Effect, Nonsense, Point};
use serde_json::{Value, json};

use crate::{
    errors::{AT_UPGRADE, Differ, NINETEEN, Same, feature, name},
    feature::Feature,
    form::{Setup, Switch},
};

const AT_TOKEN: &str = "spatialreal goes by the token call's status, avatarkit by its text first";

fn http(status: u16, body: Value) -> Effect {
    Effect::Http { status, body: Some(body), headers: Default::default() }
}

pub fn features() -> Vec<Feature> {
    [client_only(), token_call(), upgrade()].into_iter().flatten().collect()
}

fn client_only() -> Vec<Feature> {
    vec![
        Feature::new("no API key", "start --api-key=", "init: ValueError"),
        Feature::new("no app id", "start --app-id=", "start: ValueError"),
        Feature::new("no avatar id", "start --avatar-id=", "start: ValueError"),
        Feature::new("two rooms at once", "start --agora --livekit-pair", "start: ValueError"),
    ]
}

fn token_call() -> Vec<Feature> {
    const STATUS: &[Switch] = &[Switch::StatusText];
    let refused = [
        (400, Same("init: invalidRequest (session_token) http 400 server INVALID_ARGUMENT")),
        (
            401,
            Differ(
                "init: sessionTokenInvalid (session_token) http 401 server unauthorized",
                "init: invalidEgressConfig (session_token) http 401 server unauthorized",
                "avatarkit takes any \"unauthorized\" for the room's",
            ),
        ),
        (402, Same("init: billingRequired (session_token) http 402 server payment_required")),
        (
            403,
            Differ(
                "init: appIDUnrecognized (session_token) http 403 server forbidden",
                "init: invalidRequest (session_token) http 403 server forbidden",
                AT_TOKEN,
            ),
        ),
        (
            404,
            Differ(
                "init: avatarNotFound (session_token) http 404 server not_found",
                "init: appIDUnrecognized (session_token) http 404 server not_found",
                AT_TOKEN,
            ),
        ),
        (418, Same("init: invalidRequest (session_token) http 418 server unavailable")),
        (
            429,
            Differ(
                "init: concurrencyLimit (session_token) http 429 server too_many_requests",
                "init: invalidRequest (session_token) http 429 server too_many_requests",
                NINETEEN,
            ),
        ),
        (500, Same("init: serverError (session_token) http 500 server unavailable")),
        (503, Same("init: serverError (session_token) http 503 server unavailable")),
    ]
    .map(|(status, sees)| {
        feature(format!("token call: {status}, whatever the form of its status"), "start", sees)
            .struck(Point::Token, Effect::http(status))
            .under(STATUS)
    });
    let bodies = [
        (
            http(401, json!("")),
            Differ(
                "init: sessionTokenInvalid (session_token) http 401",
                "init: sessionTokenExpired (session_token) http 401",
                AT_TOKEN,
            ),
        ),
        (http(502, json!("bad gateway")), Same("init: serverError (session_token) http 502")),
        (
            http(302, json!("")),
            Differ(
                "init: invalidRequest (session_token) http 302",
                "init: unknown (session_token) http 302",
                "spatialreal calls every other status an invalid request, avatarkit has a code for what it cannot tell",
            ),
        ),
        (
            http(400, json!({"message": "app id mismatch"})),
            Differ(
                "init: invalidRequest (session_token) http 400",
                "init: appIDMismatch (session_token) http 400",
                AT_TOKEN,
            ),
        ),
        (http(200, json!({})), Same("init: protocolError (session_token)")),
        (Effect::Nonsense(Nonsense::NotJson), Same("init: protocolError (session_token)")),
        (Effect::Nonsense(Nonsense::TokenWithoutToken), Same("init: protocolError (session_token)")),
        (Effect::Nonsense(Nonsense::HugeHeaders), Same("init: connectionFailed (session_token)")),
        (Effect::Drop { reset: false }, Same("init: connectionFailed (session_token)")),
        (Effect::Drop { reset: true }, Same("init: connectionFailed (session_token)")),
        (Effect::Delay { ms: 300 }, Same("connected")),
    ]
    .map(|(effect, sees)| {
        feature(format!("token call: {}", name(&effect)), "start", sees).struck(Point::Token, effect)
    });
    let errors_in_200 = feature(
        "token call: 200 with errors, whatever the form of their status".into(),
        "start",
        Differ(
            "init: invalidRequest (session_token) http 200 server forbidden",
            "init: invalidRequest (session_token) http 403 server forbidden",
            "avatarkit takes the status in the body for the answer's",
        ),
    )
    .struck(Point::Token, Effect::Nonsense(Nonsense::ErrorsIn200))
    .under(STATUS);
    let silence = feature(
        "token call: no answer".into(),
        "start --token-timeout 0.5 --give-up 1.5",
        Differ(
            "init: connectionFailed (session_token)",
            "init: TimeoutError",
            "avatarkit sets no deadline of its own on the token call: its user gave up",
        ),
    )
    .struck(Point::Token, Effect::Silence {});
    let refuse = feature(
        "token call: the service is gone".into(),
        "start",
        Same("init: connectionFailed (session_token)"),
    )
    .struck(Point::Token, Effect::Refuse { for_ms: 60_000 })
    .in_setup(Setup::Alone);
    let ttl = ["-60", "100000"].map(|ttl| {
        Feature::new(
            format!(
                "a token asked for with a lifetime of {ttl} s, whatever the form of the refusal's status"
            ),
            "",
            "init: invalidRequest (session_token) http 400 server INVALID_ARGUMENT",
        )
        .script(move |_, _| format!("start --token-ttl={ttl}"))
        .under(STATUS)
    });
    refused.into_iter().chain(bodies).chain([errors_in_200, silence, refuse]).chain(ttl).collect()
}

fn upgrade() -> Vec<Feature> {
    const LOST: &str = "start: connectionFailed (websocket_connect)";
    let text = |text: &str| json!({"message": text});
    [
        (
            http(400, text("app id mismatch")),
            Differ(
                "start: connectionFailed (websocket_connect) http 400",
                "start: appIDMismatch (websocket_connect) http 400",
                AT_UPGRADE,
            ),
        ),
        (
            http(400, text("something odd")),
            Differ(
                "start: connectionFailed (websocket_connect) http 400",
                "start: sessionTokenInvalid (websocket_connect) http 400",
                AT_UPGRADE,
            ),
        ),
        (
            Effect::http(401),
            Differ(
                "start: sessionTokenInvalid (websocket_connect) http 401",
                "start: sessionTokenExpired (websocket_connect) http 401",
                AT_UPGRADE,
            ),
        ),
        (
            Effect::http(402),
            Differ(
                "start: connectionFailed (websocket_connect) http 402",
                "start: creditsExhausted (websocket_connect) http 402",
                AT_UPGRADE,
            ),
        ),
        (
            http(402, text("session denied: no plan")),
            Differ(
                "start: connectionFailed (websocket_connect) http 402",
                "start: billingRequired (websocket_connect) http 402",
                AT_UPGRADE,
            ),
        ),
        (
            Effect::http(403),
            Differ(
                "start: sessionTokenInvalid (websocket_connect) http 403",
                "start: invalidRequest (websocket_connect) http 403",
                AT_UPGRADE,
            ),
        ),
        (
            Effect::http(404),
            Differ(
                "start: connectionFailed (websocket_connect) http 404",
                "start: appIDUnrecognized (websocket_connect) http 404",
                AT_UPGRADE,
            ),
        ),
        (
            Effect::http(429),
            Differ(
                "start: connectionFailed (websocket_connect) http 429",
                "start: invalidRequest (websocket_connect) http 429",
                AT_UPGRADE,
            ),
        ),
        (
            Effect::http(500),
            Differ(
                "start: connectionFailed (websocket_connect) http 500",
                "start: serverError (websocket_connect) http 500",
                AT_UPGRADE,
            ),
        ),
        (
            Effect::http(503),
            Differ(
                "start: connectionFailed (websocket_connect) http 503",
                "start: serverError (websocket_connect) http 503",
                AT_UPGRADE,
            ),
        ),
        (Effect::Drop { reset: false }, Same(LOST)),
        (Effect::Drop { reset: true }, Same(LOST)),
        (Effect::Nonsense(Nonsense::WrongAccept), Same(LOST)),
        (Effect::Nonsense(Nonsense::HugeHeaders), Same(LOST)),
        (Effect::Delay { ms: 300 }, Same("connected")),
        (Effect::Trickle { bytes_per_s: 2000 }, Same("connected")),
    ]
    .into_iter()
    .map(|(effect, sees)| {
        feature(format!("upgrade: {}", name(&effect)), "start", sees).struck(Point::Upgrade, effect)
    })
    .chain([
        feature(
            "upgrade: the avatar does not exist".into(),
            "start --avatar-id missing-one",
            Differ(
                "start: connectionFailed (websocket_connect) http 404",
                "start: avatarNotFound (websocket_connect) http 404",
                AT_UPGRADE,
            ),
        ),
        feature("upgrade: the service is gone".into(), "start", Same(LOST))
            .struck(Point::Upgrade, Effect::Refuse { for_ms: 60_000 })
            .in_setup(Setup::Alone),
    ])
    .collect()
}
