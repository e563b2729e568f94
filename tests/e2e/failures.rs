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
    // While the close that may follow is waited for, frames are delivered: these tell that the error has come.
    let path = format!("/v1/sessions/{id}/requests?wait=true");
    assert_eq!(world.audio(ACME, &path, silence(1)).await.expect(200)["outcome"], "completed");
    world.strike("subject", &json!({"drop": {}}));
    let session = world.wait_restarted(&id, 1).await;
    let error = &session["last_error"];
    assert_eq!((&error["code"], &error["close_code"]), (&json!("serverError"), &json!(1006)));
    assert_eq!((world.errors("serverError"), world.all_errors()), (1.0, 1.0));
    world.end().await;
}
