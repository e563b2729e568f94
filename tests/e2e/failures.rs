//! One failure, one count, however many things the service says about it.

use serde_json::{Value, json};

use crate::world::{ACME, World, silence};

/// Strikes a running session, and gives the session once it has noted an error.
async fn struck(world: &World, id: &str, effect: &Value) -> Value {
    world.strike("subject", effect);
    world.wait_for(id, "the error", |session| !session["last_error"].is_null()).await
}

#[actix_rt::test]
async fn an_error_and_the_close_after_it_are_one_error_and_the_close_code_outranks() {
    let world = World::start("").await;
    let id = world.running(ACME, "subject").await;
    let effect = json!({"server_error": {"code": 13, "message": "something broke",
        "then_close": {"code": 4503, "reason": "dependency", "after_ms": 300}}});
    let session = struck(&world, &id, &effect).await;
    let error = &session["last_error"];
    assert_eq!((&error["code"], &error["close_code"]), (&json!("upstreamError"), &json!(4503)));
    assert_eq!((&error["close_reason"], &error["server_code"]), (&json!("dependency"), &json!("13")));
    assert_eq!(error["server_detail"], "something broke");
    world.wait_restarted(&id, 1).await;
    assert_eq!((world.errors("upstreamError"), world.all_errors()), (1.0, 1.0));
    world.end().await;
}

#[actix_rt::test]
async fn an_error_decides_where_the_close_after_it_says_nothing() {
    let world = World::start("").await;
    let id = world.running(ACME, "subject").await;
    let effect = json!({"server_error": {"code": 4001, "message": "no more",
        "then_close": {"code": 1000, "reason": "bye"}}});
    let session = struck(&world, &id, &effect).await;
    let error = &session["last_error"];
    assert_eq!((&error["code"], &error["close_code"]), (&json!("creditsExhausted"), &json!(1000)));
    assert_eq!((&error["close_reason"], &error["server_code"]), (&json!("bye"), &json!("4001")));
    world.wait_state(&id, "parked").await;
    assert_eq!((world.errors("creditsExhausted"), world.all_errors()), (1.0, 1.0));
    world.end().await;
}

#[actix_rt::test]
async fn an_error_without_a_close_ends_the_connection_and_is_one_error() {
    let world = World::start("").await;
    let id = world.running(ACME, "subject").await;
    let effect = json!({"server_error": {"code": 13, "message": "something broke"}});
    let session = struck(&world, &id, &effect).await;
    let error = &session["last_error"];
    assert_eq!((&error["code"], &error["close_code"]), (&json!("serverError"), &Value::Null));
    world.wait_restarted(&id, 1).await;
    assert_eq!((world.errors("serverError"), world.all_errors()), (1.0, 1.0));
    assert_eq!(world.simulator.stats().connections.total, 2);
    world.end().await;
}

#[actix_rt::test]
async fn an_error_that_is_followed_by_the_loss_of_the_socket_is_one_error() {
    let world = World::start("").await;
    let id = world.running(ACME, "subject").await;
    world.strike("subject", &json!({"server_error": {"code": 13, "message": "something broke"}}));
    // What was written before the end of a stream is read before it.
    world.strike("subject", &json!({"drop": {}}));
    let session = world.wait_restarted(&id, 1).await;
    let error = &session["last_error"];
    assert_eq!((&error["code"], &error["close_code"]), (&json!("serverError"), &json!(1006)));
    assert_eq!((world.errors("serverError"), world.all_errors()), (1.0, 1.0));
    world.end().await;
}

#[actix_rt::test]
async fn what_no_client_has_to_understand_is_ignored() {
    let world = World::start("").await;
    let id = world.running(ACME, "subject").await;
    let before = world.session(&id).await;
    for what in ["unknown_type", "unknown_request"] {
        world.strike("subject", &json!({"nonsense": what}));
        let path = format!("/v1/sessions/{id}/requests?wait=true");
        let request = world.audio(ACME, &path, silence(2)).await.expect(200);
        assert_eq!((&request["outcome"], &request["frame_count"]), (&json!("completed"), &json!(2)));
    }
    assert_eq!(world.session(&id).await, before);
    assert_eq!(world.all_errors(), 0.0);
    world.end().await;
}

#[actix_rt::test]
async fn a_connection_that_has_gone_silent_is_given_up_and_replaced() {
    let world = World::start("upstream.ping_s = 1\nupstream.half_open_s = 3\n").await;
    let id = world.running(ACME, "subject").await;
    world.strike("subject", &json!({"silence": {}}));
    let session = world.wait_restarted(&id, 1).await;
    let error = &session["last_error"];
    assert_eq!((&error["code"], &error["close_code"]), (&json!("connectionClosed"), &json!(1006)));
    assert!(error["message"].as_str().unwrap().contains("half-open"), "{error}");
    assert_eq!(world.all_errors(), 1.0);
    world.end().await;
}

#[actix_rt::test]
async fn a_service_that_quotes_a_secret_does_not_make_it_known() {
    let world = World::start("").await;
    let body = json!({"message": "the key upstream-acme is odd, and so is lk-secret"});
    world.faults(&json!([{"at": "upgrade", "do": {"http": {"status": 418, "body": body}}}]));
    let egress =
        json!({"type": "livekit", "url": "wss://rtc.example", "room_name": "r", "api_token": "lk-secret"});
    let id = world.create(ACME, "subject", &json!({"egress": egress})).await;
    let session = world.wait_state(&id, "failed").await;
    let detail = session["last_error"]["server_detail"].as_str().unwrap();
    assert_eq!(detail, "the key [redacted] is odd, and so is [redacted]");
    for secret in ["upstream-acme", "lk-secret"] {
        assert!(!session.to_string().contains(secret), "{session}");
        assert!(!world.process.metrics().render().contains(secret));
    }
    world.end().await;
}
