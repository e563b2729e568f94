//! What Greenroom adds for a client that knows nothing of it.

use greenroom::simulator::{Close, Effect, Pace, Point};
use serde_json::{Value, json};

use crate::{
    player::{AVATARKIT, SPATIALREAL as SDK, fault, pick, simulator},
    relay::Greenroom,
};

#[test]
fn a_refused_token_shows_its_code_to_either_client() {
    let simulator = simulator(Pace::Fast);
    let greenroom = Greenroom::before(&simulator, "");
    let names = ["code", "phase", "http_status", "server_code", "server_detail"];
    let seen = greenroom.play(&SDK, "start", &["--api-key", "another-key"]);
    let expected = json!({"code": "sessionTokenInvalid", "phase": "session_token", "http_status": 401,
        "server_code": "invalid_api_key", "server_detail": "the API key belongs to no tenant"});
    assert_eq!(pick(&seen["error"], &names), expected, "{seen}");
    let seen = greenroom.play(&AVATARKIT, "start", &["--api-key", "another-key"]);
    // The older client calls every 401 expired that does not name a cause it knows.
    assert_eq!(seen["error"]["code"], "sessionTokenExpired", "{seen}");

    let seen = greenroom.play(&SDK, "start", &["--token-ttl", "-60"]);
    assert_eq!(seen["error"]["server_code"], "INVALID_ARGUMENT", "{seen}");
    assert_eq!(seen["error"]["server_detail"], "expire_at must be in the future");
    let seen = greenroom.play(&SDK, "start", &["--app-id", "another-app"]);
    assert_eq!(
        pick(&seen["error"], &["http_status", "phase"]),
        json!({"http_status": 400, "phase": "websocket_connect"})
    );
    let seen = greenroom.play(&AVATARKIT, "start", &["--app-id", "another-app"]);
    assert_eq!(seen["error"]["code"], "appIDMismatch", "{seen}");
    let seen = greenroom.play(&SDK, "start", &["--token-twice"]);
    assert_eq!((&seen["stage"], &seen["error"]["http_status"]), (&json!("again"), &json!(400)), "{seen}");
}

#[test]
fn what_would_have_ended_the_session_is_not_seen() {
    let simulator = simulator(Pace::Fast);
    let greenroom = Greenroom::before(&simulator, "");
    for sdk in [&SDK, &AVATARKIT] {
        for effect in [
            Effect::Drop { reset: true },
            Effect::close(4503, "dependency"),
            Effect::close(1000, "bye"),
            Effect::ServerError {
                code: 14,
                message: "animate: unavailable".into(),
                req_id: false,
                then_close: Some(Close { code: 4503, reason: "dependency".into(), after_ms: 20 }),
            },
        ] {
            simulator.clear_faults();
            let mut once = greenroom::simulator::Fault::new(Point::AfterSeconds(0.0), effect);
            once.times = Some(1);
            simulator.add_fault(once).unwrap();
            let before = simulator.stats().upgrades.total;
            let seen = greenroom.play(sdk, "clip", &["--seconds", "1"]);
            assert_eq!(seen["stage"], "done", "{seen}");
            let req_id = seen["req_id"].as_str().unwrap();
            assert_eq!(seen["frames"][req_id], json!({"count": 25, "in_order": true}), "{seen}");
            assert_eq!(seen["errors"], json!([]), "{seen}");
            assert_eq!(simulator.stats().upgrades.total - before, 2, "the session was restarted once");
        }
    }
}

#[test]
fn a_transient_refusal_is_retried_behind_the_upgrade_and_a_lasting_one_is_told() {
    let simulator = simulator(Pace::Fast);
    let greenroom = Greenroom::before(&simulator, "ingress.upgrade_ms = 1500");
    let mut twice = greenroom::simulator::Fault::new(Point::Upgrade, Effect::http(503));
    twice.times = Some(2);
    simulator.add_fault(twice).unwrap();
    let seen = greenroom.play(&SDK, "clip", &["--seconds", "0.2"]);
    assert_eq!(seen["stage"], "done", "{seen}");
    fault(&simulator, Point::Upgrade, Effect::http(503));
    let seen = greenroom.play(&SDK, "start", &[]);
    let expected = json!({"code": "connectionFailed", "http_status": 503, "retryable": true});
    assert_eq!(pick(&seen["error"], &["code", "http_status", "retryable"]), expected, "{seen}");
}

#[test]
fn a_request_that_broke_half_way_is_told_as_an_error_of_that_request() {
    let simulator = simulator(Pace::Realtime);
    let greenroom = Greenroom::before(&simulator, "");
    let mut once = greenroom::simulator::Fault::new(Point::AfterFrames(5), Effect::Drop { reset: false });
    once.times = Some(1);
    simulator.add_fault(once).unwrap();
    let seen = greenroom.play(&SDK, "clip", &["--seconds", "2"]);
    assert_eq!(seen["stage"], "done", "nobody waits for it: {seen}");
    let expected = json!({"code": "upstreamError", "server_code": "4503", "req_id": seen["req_id"], "phase": "websocket_runtime"});
    assert_eq!(pick(&seen["errors"][0], &["code", "server_code", "req_id", "phase"]), expected, "{seen}");
    assert_eq!(seen["errors"].as_array().map(Vec::len), Some(1), "{seen}");
    assert_eq!(seen["error"], Value::Null);
}
