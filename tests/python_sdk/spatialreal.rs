//! `spatialreal` 0.2.2, the current client: what it documents is what it must see.

use greenroom::simulator::{Close, Effect, Nonsense, Pace, Point, RequestState};
use serde_json::{Value, json};

use crate::player::{SPATIALREAL as SDK, fault, pick, simulator};

#[test]
fn a_clip_comes_back_whole_in_order_and_with_one_end() {
    let simulator = simulator(Pace::Fast);
    for flags in [&[][..], &["--query-auth"][..]] {
        let seen = SDK.play(&simulator, "clip", flags);
        assert_eq!(seen["stage"], "done", "{seen}");
        assert!(seen["connection_id"].as_str().unwrap().starts_with("conn_"));
        assert_eq!(seen["capabilities"], json!(["playback_state", "playback_control"]));
        let req_id = seen["req_id"].as_str().unwrap();
        assert_eq!(seen["frames"][req_id], json!({"count": 25, "in_order": true}));
        assert_eq!(seen["ends"], json!({ req_id: 1 }));
        assert_eq!(seen["signals"], 25);
        assert_eq!((&seen["errors"], &seen["closes"]), (&json!([]), &json!(1)));
    }
    let stats = simulator.stats();
    assert_eq!(stats.violations.total, 0, "{:?}", stats.violations);
    assert_eq!(stats.requests_in(RequestState::Completed), 2);
}

#[test]
fn two_clips_at_the_same_time_both_come_back() {
    let simulator = simulator(Pace::Realtime);
    let seen = SDK.play(&simulator, "two_clips", &["--seconds", "0.4"]);
    assert_eq!(seen["stage"], "done", "{seen}");
    for req_id in seen["req_ids"].as_array().unwrap() {
        assert_eq!(seen["frames"][req_id.as_str().unwrap()], json!({"count": 10, "in_order": true}));
    }
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
fn egress_tells_its_playback_states() {
    let simulator = simulator(Pace::Realtime);
    let seen = SDK.play(&simulator, "pause", &["--agora", "--seconds", "0.4"]);
    let states = json!([["PLAYING", ""], ["PAUSED", "explicit"], ["PLAYING", "explicit"], ["ENDED", ""]]);
    assert_eq!(seen["states"], states, "{seen}");
    assert_eq!(seen["ends"][seen["req_id"].as_str().unwrap()], 2);
}

#[test]
fn each_close_code_is_seen_as_the_client_documents_it() {
    let simulator = simulator(Pace::Fast);
    for (close_code, code, retryable) in [
        (4001, "creditsExhausted", false),
        (4002, "sessionDurationExceeded", true),
        (4003, "concurrencyLimit", false),
        (4010, "sessionTokenInvalid", false),
        (4503, "upstreamError", true),
    ] {
        fault(&simulator, Point::AfterChunks(3), Effect::close(close_code, "why"));
        let seen = SDK.play(&simulator, "ended", &["--seconds", "0.3"]);
        let expected = json!([{"code": code, "phase": "websocket_runtime", "close_code": close_code,
                               "close_reason": "why", "retryable": retryable}]);
        let error = pick(&seen["errors"][0], &["code", "phase", "close_code", "close_reason", "retryable"]);
        assert_eq!(json!([error]), expected, "{seen}");
        assert_eq!((seen["errors"].as_array().unwrap().len(), &seen["closes"]), (1, &json!(1)));
    }
}

#[test]
fn a_drop_is_a_closed_connection_without_a_code() {
    let simulator = simulator(Pace::Fast);
    for reset in [false, true] {
        fault(&simulator, Point::AfterChunks(3), Effect::Drop { reset });
        let seen = SDK.play(&simulator, "ended", &["--seconds", "0.3"]);
        let error = pick(&seen["errors"][0], &["code", "close_code", "retryable"]);
        let expected = json!({"code": "connectionClosed", "close_code": null, "retryable": true});
        assert_eq!(error, expected, "{seen}");
    }
}

#[test]
fn an_error_and_the_close_behind_it_are_both_told() {
    let simulator = simulator(Pace::Fast);
    let then_close = Some(Close { code: 4503, reason: "dependency".into(), after_ms: 20 });
    let message = "animate: unavailable".to_owned();
    fault(
        &simulator,
        Point::AfterChunks(2),
        Effect::ServerError { code: 14, message, req_id: true, then_close },
    );
    let seen = SDK.play(&simulator, "ended", &["--seconds", "0.2"]);
    let names = ["code", "server_code", "server_detail", "req_id", "close_code"];
    let errors: Vec<_> = seen["errors"].as_array().unwrap().iter().map(|error| pick(error, &names)).collect();
    let expected = json!([
        {"code": "serverError", "server_code": "14", "server_detail": "animate: unavailable",
         "req_id": seen["req_id"], "close_code": null},
        {"code": "upstreamError", "server_code": null, "server_detail": null, "req_id": null, "close_code": 4503}
    ]);
    assert_eq!(json!(errors), expected, "{seen}");
}

#[test]
fn a_refused_upgrade_shows_its_status() {
    let simulator = simulator(Pace::Fast);
    for (status, code, retryable) in [
        (400, "connectionFailed", true),
        (401, "sessionTokenInvalid", false),
        (402, "connectionFailed", true),
        (403, "sessionTokenInvalid", false),
        (404, "connectionFailed", true),
        (503, "connectionFailed", true),
    ] {
        fault(&simulator, Point::Upgrade, Effect::http(status));
        let seen = SDK.play(&simulator, "start", &[]);
        let error = pick(&seen["error"], &["code", "phase", "http_status", "retryable"]);
        let expected = json!({"code": code, "phase": "websocket_connect", "http_status": status,
                              "retryable": retryable});
        assert_eq!((&seen["stage"], error), (&json!("start"), expected));
    }
    simulator.clear_faults();
    let seen = SDK.play(&simulator, "start", &["--avatar-id", "missing-one"]);
    assert_eq!(seen["error"]["http_status"], 404, "{seen}");
}

#[test]
fn a_refused_token_shows_its_code() {
    let simulator = simulator(Pace::Fast);
    let names = ["code", "phase", "http_status", "server_code"];
    for (status, code, server_code) in [
        (401, "sessionTokenInvalid", "unauthorized"),
        (402, "billingRequired", "payment_required"),
        (403, "appIDUnrecognized", "forbidden"),
        (429, "concurrencyLimit", "too_many_requests"),
        (503, "serverError", "unavailable"),
    ] {
        fault(&simulator, Point::Token, Effect::http(status));
        let seen = SDK.play(&simulator, "start", &[]);
        let expected = json!({"code": code, "phase": "session_token", "http_status": status,
                              "server_code": server_code});
        assert_eq!(pick(&seen["error"], &names), expected, "{seen}");
    }
    simulator.clear_faults();
    let seen = SDK.play(&simulator, "start", &["--token-ttl", "-60"]);
    assert_eq!(seen["error"]["server_code"], "INVALID_ARGUMENT", "{seen}");
    assert_eq!(seen["error"]["server_detail"], "expire_at must be in the future");
    for (effect, code) in [
        (Effect::Drop { reset: false }, "connectionFailed"),
        (Effect::Nonsense(Nonsense::TokenWithoutToken), "protocolError"),
        (Effect::Nonsense(Nonsense::ErrorsIn200), "invalidRequest"),
    ] {
        fault(&simulator, Point::Token, effect);
        let seen = SDK.play(&simulator, "start", &[]);
        assert_eq!((&seen["stage"], &seen["error"]["code"]), (&json!("init"), &json!(code)), "{seen}");
    }
}

#[test]
fn a_failed_handshake_shows_what_was_said() {
    let simulator = simulator(Pace::Fast);
    let limit = Effect::ServerError { code: 4003, message: "limit".into(), req_id: false, then_close: None };
    for (effect, code, close_code, retryable) in [
        (limit, "concurrencyLimit", json!(4003), false),
        (Effect::close(4010, "session token expired"), "sessionTokenInvalid", json!(4010), false),
        (Effect::Nonsense(Nonsense::EmptyConnectionId), "protocolError", Value::Null, false),
        (Effect::Nonsense(Nonsense::WrongFirstMessage), "protocolError", Value::Null, false),
        (Effect::Nonsense(Nonsense::TextFrame), "protocolError", Value::Null, false),
        (Effect::Nonsense(Nonsense::BadProtobuf), "protocolError", Value::Null, false),
    ] {
        fault(&simulator, Point::Handshake, effect);
        let seen = SDK.play(&simulator, "start", &[]);
        let error = pick(&seen["error"], &["code", "phase", "close_code", "retryable"]);
        let expected = json!({"code": code, "phase": "websocket_handshake", "close_code": close_code,
                              "retryable": retryable});
        assert_eq!(error, expected, "{seen}");
    }
}

#[test]
fn what_the_session_asks_for_is_judged() {
    let simulator = simulator(Pace::Fast);
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln";
    let seen = SDK.play(&simulator, "start", &["--livekit-token", jwt]);
    assert_eq!(seen["stage"], "done", "{seen}");
    for (flags, server_code, says) in [
        (["--sample-rate", "11025"], "0", "unsupported sample rate: 11025"),
        (["--livekit-token", "no-jwt"], "16", "unauthorized"),
        (["--livekit-token", ""], "3", "missing livekit credentials"),
    ] {
        let seen = SDK.play(&simulator, "start", &flags);
        assert_eq!(seen["error"]["server_code"], server_code, "{seen}");
        assert!(seen["error"]["server_detail"].as_str().unwrap().contains(says), "{seen}");
    }
}
