//! The service's limits, as the clients meet them.

use greenroom::simulator::Happening;

use crate::{
    errors::AT_CLOSE,
    feature::{Feature, Look, pick, saw},
    form::{DEFAULT, Form, Setup, Switch, simulator},
    player::{BOTH, Sdk},
    playing::ROOM_TOKEN,
};

const SILENT: &str = "ended --seconds 0";

/// A limit that ends a live session with a code of its own: what comes before the close, where something does.
fn ends(name: &str, setup: Setup, error: [&'static str; 2], close: [&'static str; 2]) -> Feature {
    Feature::new(name, SILENT, "")
        .in_setup(setup)
        .under(&[Switch::ErrorBeforeClose])
        .sees(move |sdk, form| ended(sdk, form, error, close))
        .why(AT_CLOSE)
}

fn ended(sdk: Sdk, form: &Form, error: [&'static str; 2], close: [&'static str; 2]) -> String {
    let close = pick(sdk, close[0], close[1]);
    if form.error_before_close { format!("{}; {close}", pick(sdk, error[0], error[1])) } else { close }
}

const EXPIRED_ERROR: [&str; 2] = [
    "sessionTokenInvalid (websocket_runtime) server 4010 close 4010",
    "sessionTokenExpired (websocket_runtime) server 4010",
];
const EXPIRED_CLOSE: [&str; 2] = [
    "sessionTokenInvalid (websocket_runtime) close 4010 \"session token expired\"",
    "connectionClosed (websocket_runtime) close 4010 \"session token expired\"",
];

const IDLE_ERROR: [&str; 2] =
    ["serverError (websocket_runtime) server 14", "egressUnavailable (websocket_runtime) server 14"];

/// An idle session ends with 1008, which says nothing: only an error before it does, and to the older client.
fn idle(name: &str, flags: &'static str, text: &'static str) -> Feature {
    Feature::new(name, "", "")
        .in_setup(Setup::Idle)
        .under(&[Switch::ErrorBeforeClose])
        .script(move |_, _| format!("{SILENT} {flags}"))
        .sees(move |sdk, form| {
            let close = format!("connectionClosed (websocket_runtime) close 1008 \"{text}\"");
            match form.error_before_close {
                true => format!("{}; {close}", pick(sdk, IDLE_ERROR[0], IDLE_ERROR[1])),
                false => close,
            }
        })
        .why("avatarkit reads gRPC's 14 as the room's failing, before any text; spatialreal reads no gRPC code")
}

pub fn features() -> Vec<Feature> {
    vec![
        Feature::new("a live session whose token expires", "", "")
            .under(&[Switch::ExpiryCloses, Switch::ErrorBeforeClose])
            .script(|_, form| match form.expiry_closes {
                true => format!("{SILENT} --token-ttl 5"),
                false => "outlive --token-ttl 5 --seconds 0.4".into(),
            })
            .sees(|sdk, form| match form.expiry_closes {
                true => ended(sdk, form, EXPIRED_ERROR, EXPIRED_CLOSE),
                false => "10 frames, 1 end".into(),
            })
            .why(AT_CLOSE),
        ends(
            "credits that run out (4001)",
            Setup::Credits,
            [
                "creditsExhausted (websocket_runtime) server 4001 close 4001",
                "creditsExhausted (websocket_runtime) server 4001",
            ],
            [
                "creditsExhausted (websocket_runtime) close 4001 \"credits exhausted\"",
                "connectionClosed (websocket_runtime) close 4001 \"credits exhausted\"",
            ],
        ),
        ends(
            "the maximum duration (4002)",
            Setup::Duration,
            [
                "sessionDurationExceeded (websocket_runtime) server 4002 close 4002",
                "sessionDurationExceeded (websocket_runtime) server 4002",
            ],
            [
                "sessionDurationExceeded (websocket_runtime) close 4002 \"maximum session duration reached\"",
                "connectionClosed (websocket_runtime) close 4002 \"maximum session duration reached\"",
            ],
        ),
        idle("a session without audio", "", "no audio input for 1s"),
        idle("a session without audio, Agora", "--agora", "no audio input for 1s"),
        idle("a session without audio, LiveKit", ROOM_TOKEN, "livekit silence timeout"),
        idle(
            "a session without audio, LiveKit's own time",
            "--livekit-pair --livekit-idle 2",
            "livekit silence timeout",
        ),
    ]
}

/// Milliseconds from the confirm to the close frame of each session of an avatar.
fn lives(simulator: &greenroom::simulator::Simulator, avatar: &str) -> Vec<u64> {
    let of_avatar = |event: &greenroom::simulator::Event| event.avatar_id.as_deref() == Some(avatar);
    let events: Vec<_> = simulator.record().into_iter().filter(of_avatar).collect();
    let at = |is: fn(&Happening) -> bool| {
        events.iter().filter(|event| is(&event.what)).map(|event| event.at_ms).collect::<Vec<_>>()
    };
    let confirmed = at(|what| matches!(what, Happening::Confirmed));
    let closed = at(|what| matches!(what, Happening::CloseSent { .. }));
    assert_eq!(confirmed.len(), closed.len(), "{events:?}");
    confirmed.iter().zip(closed).map(|(confirmed, closed)| closed - confirmed).collect()
}

fn args(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_limit_strikes_at_its_time_and_not_before() {
    for (setup, flags, at_least) in [
        (Setup::Idle, "", 1000),
        // The client's own idle time stands for the service's.
        (Setup::Idle, " --livekit-pair --livekit-idle 2", 2000),
        (Setup::Duration, "", 1000),
    ] {
        let simulator = simulator(&DEFAULT, setup);
        let playing = BOTH
            .map(|sdk| sdk.play(&simulator, &args(&format!("{SILENT}{flags} --avatar-id {}", sdk.name()))));
        for (sdk, playing) in BOTH.iter().zip(playing) {
            assert_eq!(playing.seen()["closes"].as_u64().map(|closes| closes > 0), Some(true));
            let lives = lives(&simulator, sdk.name());
            // Ten times the limit would be another limit.
            assert!(
                lives.len() == 1 && (at_least..10 * at_least).contains(&lives[0]),
                "{setup:?}: {lives:?}"
            );
        }
    }
}

#[test]
fn whoever_speaks_is_not_idle() {
    let simulator = simulator(&DEFAULT, Setup::Idle);
    for sdk in BOTH {
        let seen = sdk.play(&simulator, &args("ended --seconds 0.2")).seen();
        let expected =
            "5 frames, 1 end; connectionClosed (websocket_runtime) close 1008 \"no audio input for 1s\"";
        assert_eq!(saw(&seen, Look::Whole), expected);
    }
}

#[test]
fn an_account_that_is_empty_is_refused_until_it_is_topped_up() {
    let simulator = simulator(&DEFAULT, Setup::Credits);
    for (sdk, refused) in [
        (Sdk::Spatialreal, "start: connectionFailed (websocket_connect) http 402"),
        (Sdk::Avatarkit, "start: creditsExhausted (websocket_connect) http 402"),
    ] {
        let play = |words: &str| {
            let words = format!("{words} --api-key {}", sdk.name());
            saw(&sdk.play(&simulator, &args(&words)).seen(), Look::Whole)
        };
        assert!(play(SILENT).contains("close 4001"));
        assert_eq!(play("start"), refused);
        assert!(simulator.top_up(sdk.name(), 60.0) > 59.0);
        assert_eq!(play("clip --seconds 0.8"), "20 frames, 1 end");
        // Another key has its own.
        let other = sdk.play(&simulator, &args("start --api-key other")).seen();
        assert_eq!(saw(&other, Look::Whole), "connected");
    }
}
