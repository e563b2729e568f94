//! A tenant that is suspended for billing, and sessions that wait for a free connection.

use actix_http::Method;
use serde_json::{Value, json};

use crate::world::{ACME, GLOBEX, World, until};

async fn suspended(world: &World, tenant: &str, expected: f64) {
    until("the tenant's suspension", async || {
        match world.metric("greenroom_tenant_suspended", &[("tenant", tenant)]) {
            suspended if suspended == expected => Ok(()),
            suspended => Err(format!("greenroom_tenant_suspended is {suspended}")),
        }
    })
    .await;
}

/// A tenant with one session that runs on, and one that is parked for its credits.
async fn out_of_credits(settings: &str) -> (World, String, String) {
    let world = World::start(settings).await;
    let lucky = world.running(ACME, "lucky").await;
    let first = world.running(ACME, "first").await;
    world.strike("first", &json!({"close": {"code": 4001, "reason": "credits exhausted"}}));
    world.wait_state(&first, "parked").await;
    suspended(&world, ACME, 1.0).await;
    (world, lucky, first)
}

#[actix_rt::test]
async fn a_session_made_while_its_tenant_is_suspended_is_parked_and_follows_the_one_that_is_unparked() {
    let (world, lucky, first) = out_of_credits("").await;
    let body = json!({"avatar_id": "second", "tenant": ACME});
    let second = world.admin(Method::POST, "/v1/sessions", &body).await.expect(201);
    assert_eq!(second["state"], "parked");
    assert!(second["reason"].as_str().unwrap().contains("creditsExhausted"), "{second}");
    let second = second["id"].as_str().unwrap();

    // Another tenant is not concerned, nor is what ran already.
    let other = world.running(GLOBEX, "other").await;
    assert_eq!(world.session(&lucky).await["restarts"], 0);
    assert_eq!((world.attempts("first"), world.attempts("second")), (1, 0));

    world.operate(&first, "unpark").await;
    world.wait_state(&first, "running").await;
    world.wait_state(second, "running").await;
    suspended(&world, ACME, 0.0).await;
    assert_eq!((world.attempts("first"), world.attempts("second")), (2, 1));
    for id in [&lucky, &other] {
        let session = world.session(id).await;
        assert_eq!((&session["state"], &session["restarts"]), (&json!("running"), &json!(0)));
    }
    world.end().await;
}

#[actix_rt::test]
async fn an_unpark_in_vain_is_one_attempt_and_the_suspension_stays() {
    let (world, _, first) = out_of_credits("").await;
    let second = world.create(ACME, "second", &json!({})).await;
    world.faults(&json!([{"match": {"app_id": "app-acme"}, "at": "upgrade",
        "do": {"http": {"status": 402, "body": {"message": "payment required"}}}}]));
    world.operate(&first, "unpark").await;
    let session = world
        .wait_for(&first, "parked again", |session| {
            session["state"] == "parked" && session["last_error"]["code"] == "billingRequired"
        })
        .await;
    assert_eq!(session["last_error"]["http_status"], 402);
    assert_eq!((world.attempts("first"), world.attempts("second")), (2, 0));
    assert_eq!(world.session(&second).await["state"], "parked");
    suspended(&world, ACME, 1.0).await;

    // Paid at last: the tenant as a whole is unparked.
    world.simulator.clear_faults();
    world.admin(Method::POST, "/v1/tenants/acme/unpark", &Value::Null).await.expect(202);
    world.wait_state(&first, "running").await;
    world.wait_state(&second, "running").await;
    suspended(&world, ACME, 0.0).await;
    world.end().await;
}

#[actix_rt::test]
async fn the_probe_lifts_a_suspension_without_a_person() {
    let (world, _, first) = out_of_credits("recovery.park_probe_s = 1\n").await;
    let second = world.create(ACME, "second", &json!({})).await;
    world.wait_state(&first, "running").await;
    world.wait_state(&second, "running").await;
    suspended(&world, ACME, 0.0).await;
    assert_eq!((world.attempts("first"), world.attempts("second")), (2, 1));
    world.end().await;
}

#[actix_rt::test]
async fn a_refused_api_key_suspends_the_tenant_and_unpark_of_the_tenant_brings_it_back() {
    let world = World::start("").await;
    world.faults(
        &json!([{"match": {"api_key": "upstream-acme"}, "at": "token", "do": {"http": {"status": 401}}}]),
    );
    let first = world.create(ACME, "first", &json!({})).await;
    world.wait_state(&first, "parked").await;
    suspended(&world, ACME, 1.0).await;
    let second = world.create(ACME, "second", &json!({})).await;
    assert_eq!(world.session(&second).await["state"], "parked");
    assert_eq!(world.simulator.stats().token_calls.total, 1);
    world.running(GLOBEX, "other").await;

    world.simulator.clear_faults();
    world.admin(Method::POST, "/v1/tenants/acme/unpark", &Value::Null).await.expect(202);
    world.wait_state(&first, "running").await;
    world.wait_state(&second, "running").await;
    suspended(&world, ACME, 0.0).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_session_that_lacked_a_connection_gets_the_one_that_becomes_free() {
    let world = World::start("").await;
    let first = world.running(ACME, "first").await;
    world.faults(&json!([{"match": {"avatar_id": "second"}, "at": "handshake",
        "do": {"close": {"code": 4003, "reason": "concurrency limit"}}, "times": 1}]));
    let second = world.create(ACME, "second", &json!({})).await;
    world.wait_state(&second, "parked").await;
    assert_eq!(world.metric("greenroom_tenant_suspended", &[]), 0.0);
    world.admin(Method::DELETE, &format!("/v1/sessions/{first}"), &Value::Null).await.expect(200);
    world.wait_state(&second, "running").await;
    assert_eq!(world.attempts("second"), 2);
    world.end().await;
}
