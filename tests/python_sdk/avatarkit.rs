//! `avatarkit` 0.1.7, the older client: what it documents is what it must see. It knows no playback states,
//! reads no code into a close, and asks the console under its older path.

use greenroom::simulator::{Close, Effect, Nonsense, Pace, Point, RequestState};
use serde_json::{Value, json};

use crate::player::{AVATARKIT as SDK, fault, pick, simulator};

#[test]
fn a_clip_comes_back_whole_in_order_and_with_one_end() {
    let simulator = simulator(Pace::Fast);
    for flags in [&[][..], &["--query-auth"][..]] {
        let seen = SDK.play(&simulator, "clip", flags);
        assert_eq!(seen["stage"], "done", "{seen}");
        assert!(seen["connection_id"].as_str().unwrap().starts_with("conn_"));
        let req_id = seen["req_id"].as_str().unwrap();
        assert_eq!(seen["frames"][req_id], json!({"count": 25, "in_order": true}));
        assert_eq!((&seen["ends"], &seen["errors"]), (&json!({ req_id: 1 }), &json!([])));
    }
    let stats = simulator.stats();
    assert_eq!(stats.violations.total, 0, "{:?}", stats.violations);
    assert_eq!(stats.requests_in(RequestState::Completed), 2);
}

#[test]
fn an_interrupt_ends_the_clip_early() {
    let simulator = simulator(Pace::Realtime);
    let seen = SDK.play(&simulator, "interrupt", &["--seconds", "60"]);
    assert_eq!(seen["stage"], "done", "{seen}");
    let req_id = seen["req_id"].as_str().unwrap();
    assert!(seen["frames"][req_id]["count"].as_u64().unwrap() < 1500);
    assert_eq!(seen["ends"], json!({ req_id: 1 }));
    assert_eq!(simulator.stats().requests[req_id].state, RequestState::Interrupted);
}

#[test]
fn each_close_code_is_a_closed_connection_with_that_code() {
    let simulator = simulator(Pace::Fast);
    for close_code in [4001, 4002, 4003, 4010, 4503] {
        fault(&simulator, Point::AfterChunks(3), Effect::close(close_code, "why"));
        let seen = SDK.play(&simulator, "ended", &["--seconds", "0.3"]);
        let expected = json!([{"code": "connectionClosed", "phase": "websocket_runtime",
                               "close_code": close_code, "close_reason": "why"}]);
        let error = pick(&seen["errors"][0], &["code", "phase", "close_code", "close_reason"]);
        assert_eq!(json!([error]), expected, "{seen}");
        assert_eq!(seen["errors"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_server_error_is_told_by_its_code_and_text_and_the_close_behind_it_too() {
    let simulator = simulator(Pace::Fast);
    for (server_code, message, code) in [
        (4001, "limit", "creditsExhausted"),
        (4002, "limit", "sessionDurationExceeded"),
        (4003, "limit", "serverError"),
        (14, "livekit silence timeout", "egressUnavailable"),
        (0, "no audio input for 30s", "idleTimeout"),
        (99, "something odd", "serverError"),
    ] {
        let then_close = Some(Close { code: 4503, reason: "dependency".into(), after_ms: 20 });
        let message = message.to_owned();
        let effect = Effect::ServerError { code: server_code, message, req_id: false, then_close };
        fault(&simulator, Point::AfterChunks(2), effect);
        let seen = SDK.play(&simulator, "ended", &["--seconds", "0.2"]);
        let errors: Vec<_> = seen["errors"].as_array().unwrap().iter().map(|error| &error["code"]).collect();
        assert_eq!(errors, [code, "connectionClosed"], "{seen}");
        assert_eq!(seen["errors"][0]["server_code"], server_code.to_string());
    }
}

#[test]
fn a_refused_start_shows_status_phase_and_code() {
    let simulator = simulator(Pace::Fast);
    for (at, phase, status, code) in [
        (Point::Token, "session_token", 401, "invalidEgressConfig"),
        (Point::Token, "session_token", 402, "billingRequired"),
        (Point::Token, "session_token", 429, "invalidRequest"),
        (Point::Token, "session_token", 503, "serverError"),
        (Point::Upgrade, "websocket_connect", 400, "sessionTokenInvalid"),
        (Point::Upgrade, "websocket_connect", 401, "sessionTokenExpired"),
        (Point::Upgrade, "websocket_connect", 402, "creditsExhausted"),
        (Point::Upgrade, "websocket_connect", 404, "appIDUnrecognized"),
    ] {
        fault(&simulator, at, Effect::http(status));
        let seen = SDK.play(&simulator, "start", &[]);
        let expected = json!({"code": code, "phase": phase, "http_status": status});
        assert_eq!(pick(&seen["error"], &["code", "phase", "http_status"]), expected, "{seen}");
    }
    simulator.clear_faults();
    let seen = SDK.play(&simulator, "start", &["--avatar-id", "missing-one"]);
    assert_eq!(seen["error"]["code"], "avatarNotFound", "{seen}");
}

#[test]
fn a_failed_handshake_shows_what_was_said() {
    let simulator = simulator(Pace::Fast);
    for (effect, code) in [
        (Effect::Nonsense(Nonsense::EmptyConnectionId), "protocolError"),
        (Effect::Nonsense(Nonsense::WrongFirstMessage), "protocolError"),
        (Effect::Nonsense(Nonsense::TextFrame), "protocolError"),
        (Effect::Drop { reset: false }, "connectionClosed"),
    ] {
        fault(&simulator, Point::Handshake, effect);
        let seen = SDK.play(&simulator, "start", &[]);
        let expected = json!({"code": code, "phase": "websocket_handshake", "close_code": Value::Null});
        assert_eq!(pick(&seen["error"], &["code", "phase", "close_code"]), expected, "{seen}");
    }
    simulator.clear_faults();
    let seen = SDK.play(&simulator, "start", &["--sample-rate", "11025"]);
    assert_eq!(seen["error"]["code"], "unsupportedSampleRate", "{seen}");
    let seen = SDK.play(&simulator, "start", &["--livekit-token", "no-jwt"]);
    assert_eq!(seen["error"]["code"], "invalidEgressConfig", "{seen}");
}
