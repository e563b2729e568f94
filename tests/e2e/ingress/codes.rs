//! Every code in every phase, as a client of the ingress sees it.

use std::fmt::Write as _;

use greenroom::{
    errors::ErrorCode,
    http::rendering::{ROWS, Row},
};
use serde_json::{Value, json};

use super::client::{Client, Refused, Upgrade};
use crate::{
    table::{Row as Way, restarted},
    world::{ACME, GLOBEX, World, silence},
};

/// Settings under which nothing is recovered from: whatever happens is the end, and is told.
fn everything_fails() -> String {
    let mut settings = String::new();
    for code in ErrorCode::ALL {
        writeln!(settings, "recovery.policy.{code} = \"fail\"").unwrap();
    }
    settings
}

fn avatar(row: &Row) -> String {
    format!("avatar-{}", row.code)
}

fn text_of(row: &Row, text: &str) -> String {
    text.replace("{avatar}", &avatar(row))
}

/// What the service does at `at` to the row's avatar.
fn fault(world: &World, row: &Row, at: &Value, effect: &Value) {
    world.faults(&json!([{"match": {"avatar_id": avatar(row)}, "at": at, "do": effect}]));
}

fn fails_with(row: &Row) -> Value {
    let close = json!({"code": row.close, "reason": "as the service has it"});
    match row.error {
        Some((code, text)) => {
            json!({"server_error": {"code": code, "message": text_of(row, text), "then_close": close}})
        }
        None => json!({ "close": close }),
    }
}

async fn check_end(client: &mut Client, row: &Row, phase: &str) {
    let (error, close, reason) = client.end().await;
    let told = error.map(|error| (error.code, error.message));
    let expected = row.error.map(|(code, text)| (code, text_of(row, text)));
    assert_eq!(told, expected, "{} {phase}", row.code);
    assert_eq!((close, reason.as_str()), (row.close, "as the service has it"), "{} {phase}", row.code);
}

#[actix_rt::test]
async fn each_code_reaches_the_client_in_each_phase_in_the_services_own_words() {
    let world = World::start(&everything_fails()).await;
    for row in &ROWS {
        let message = text_of(row, row.message);
        let body = json!({"message": message, "trace": "7"});
        let before = world.errors(row.upgrade_code().as_str());
        fault(&world, row, &json!("upgrade"), &json!({"http": {"status": row.status, "body": body}}));
        let refused = Upgrade::new(&world, ACME, &avatar(row)).await.connect().await.err().unwrap();
        assert_eq!((refused.status, refused.message()), (row.status, message), "{}", row.code);
        assert!(refused.body.contains("trace"), "the body is the service's own: {refused:?}");
        assert_eq!(world.errors(row.upgrade_code().as_str()) - before, 1.0, "{}", row.code);
        world.simulator.clear_faults();

        fault(&world, row, &json!("handshake"), &fails_with(row));
        let mut client = Upgrade::new(&world, ACME, &avatar(row)).await.connect().await.unwrap();
        client.configure().await;
        check_end(&mut client, row, "handshake").await;
        world.simulator.clear_faults();

        let (mut client, _) = Upgrade::new(&world, ACME, &avatar(row)).await.start().await;
        world.strike(&avatar(row), &fails_with(row));
        check_end(&mut client, row, "runtime").await;
        let counted = |phase: &str| {
            let labels = [("code", row.closing_code().as_str()), ("phase", phase)];
            world.metric("greenroom_session_errors_total", &labels)
        };
        assert!(counted("websocket_handshake") >= 1.0, "{}", row.code);
        assert!(counted("websocket_runtime") >= 1.0, "{}", row.code);
    }
    world.end().await;
}

#[actix_rt::test]
async fn what_greenroom_found_out_is_told_by_the_table() {
    let settings =
        everything_fails() + "upstream.deadlines.connect_ms = 300\nupstream.deadlines.handshake_ms = 300";
    let world = World::start(&settings).await;
    for (at, effect, code) in [
        ("token", json!({"http": {"status": 402, "body": ""}}), ErrorCode::BillingRequired),
        ("token", json!({"http": {"status": 403, "body": ""}}), ErrorCode::AppIdUnrecognized),
        ("token", json!({"http": {"status": 500, "body": ""}}), ErrorCode::ServerError),
        ("token", json!({"drop": {}}), ErrorCode::ConnectionFailed),
        ("token", json!({"nonsense": "token_without_token"}), ErrorCode::ProtocolError),
        ("token", json!({"http": {"status": 304}}), ErrorCode::Unknown),
        ("upgrade", json!({"drop": {"reset": true}}), ErrorCode::ConnectionFailed),
        ("upgrade", json!({"silence": {}}), ErrorCode::ConnectionFailed),
    ] {
        world.faults(&json!([{"at": at, "do": effect}]));
        let row = Row::of(code);
        let refused = Upgrade::new(&world, ACME, "one").await.connect().await.err().unwrap();
        assert_eq!((refused.status, refused.message().as_str()), (row.status, row.message), "{at} {effect}");
        assert_eq!(refused.headers.contains_key("retry-after"), row.status == 503, "{refused:?}");
        world.simulator.clear_faults();
    }
    for (at, effect, code) in [
        ("handshake", json!({"nonsense": "bad_protobuf"}), ErrorCode::ProtocolError),
        ("handshake", json!({"silence": {}}), ErrorCode::ConnectionFailed),
        ("handshake", json!({"drop": {}}), ErrorCode::ConnectionClosed),
        ("runtime", json!({"nonsense": "text_frame"}), ErrorCode::ProtocolError),
        ("runtime", json!({"drop": {}}), ErrorCode::ConnectionClosed),
    ] {
        let row = Row::of(code);
        let upgrade = Upgrade::new(&world, ACME, "one").await;
        let mut client = if at == "runtime" {
            let (client, _) = upgrade.start().await;
            world.strike("one", &effect);
            client
        } else {
            world.faults(&json!([{"at": at, "do": effect}]));
            let mut client = upgrade.connect().await.unwrap();
            client.configure().await;
            client
        };
        let (error, close, _) = client.end().await;
        let told = error.as_ref().map(|error| (error.code, error.message.as_str()));
        assert_eq!((told, close), (row.error, row.close), "{at} {effect}");
        world.simulator.clear_faults();
    }
    world.end().await;
}

#[actix_rt::test]
async fn what_is_recovered_from_the_client_does_not_see() {
    for way in restarted() {
        check_unseen(way).await;
    }
}

async fn check_unseen(way: Way) {
    println!("{}", way.name);
    let world = World::start(way.settings).await;
    world.faults(&way.faults);
    let (mut client, confirm) = Upgrade::new(&world, ACME, way.avatar).await.start().await;
    if let Some(effect) = &way.strike {
        world.strike(way.avatar, effect);
    }
    // Sent at once, so that some of it meets the broken connection, or none.
    client.audio("20260101000000_aaaaaaaaaaaa", silence(5), true).await;
    let frames = client.frames("20260101000000_aaaaaaaaaaaa").await;
    assert_eq!(frames.len(), 5, "{}", way.name);
    assert!(frames.iter().all(|frame| frame.connection_id == confirm.connection_id), "{}", way.name);
    assert_eq!(world.all_errors(), f64::from(way.errors), "{}", way.name);
    client.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_of_a_suspended_tenant_is_told_the_code_that_suspended_it() {
    let world = World::start("").await;
    let (mut first, _) = Upgrade::new(&world, ACME, "one").await.start().await;
    let waiting = Upgrade::new(&world, ACME, "two").await;
    world.strike("one", &json!({"close": {"code": 4001, "reason": "no credits"}}));
    let (error, close, reason) = first.end().await;
    assert_eq!((error, close, reason.as_str()), (None, 4001, "no credits"));
    crate::world::until("the suspension", async || {
        match world.metric("greenroom_tenant_suspended", &[("tenant", ACME)]) {
            1.0 => Ok(()),
            seen => Err(seen.to_string()),
        }
    })
    .await;
    let Refused { status, body, .. } = waiting.connect().await.err().unwrap();
    assert_eq!((status, body.as_str()), (402, "{\"message\":\"session denied: credits exhausted\"}\n"));
    let (other, _) = Upgrade::new(&world, GLOBEX, "three").await.start().await;
    other.leave().await;
    world.end().await;
}
