//! A crash of one session's code ends that session's turn and nothing else.

use actix_http::Method;
use greenroom::session::InjectPanic;
use serde_json::{Value, json};

use crate::world::{ACME, GLOBEX, World, silence, until};

fn crash(world: &World, id: &str) {
    world.entry(id).address.load_full().expect("it has an actor").do_send(InjectPanic);
}

async fn begin_request(world: &World, tenant: &str, id: &str) -> String {
    let path = format!("/v1/sessions/{id}/requests?end=false");
    let accepted = world.audio(tenant, &path, silence(2)).await.expect(202);
    accepted["req_id"].as_str().unwrap().to_owned()
}

async fn all_sessions(world: &World) -> Vec<Value> {
    let list = world.admin(Method::GET, "/v1/sessions?limit=500", &Value::Null).await.expect(200);
    list["sessions"].as_array().unwrap().clone()
}

#[actix_rt::test]
async fn a_panic_in_one_session_of_a_hundred_restarts_that_one_and_touches_no_other() {
    let world = World::start("").await;
    let mut ids = Vec::new();
    for number in 0..100 {
        let tenant = if number % 2 == 0 { ACME } else { GLOBEX };
        ids.push((tenant, world.create(tenant, &format!("one-of-100-{number}"), &json!({})).await));
    }
    for (_, id) in &ids {
        world.wait_state(id, "running").await;
    }
    let before = all_sessions(&world).await;
    let (tenant, victim) = ids[42].clone();
    let cut_off = begin_request(&world, tenant, &victim).await;
    let mut under_way = Vec::new();
    for (tenant, id) in ids.iter().take(20) {
        under_way.push((*tenant, id.clone(), begin_request(&world, tenant, id).await));
    }

    crash(&world, &victim);
    let session = world.wait_restarted(&victim, 1).await;
    let error = &session["last_error"];
    assert_eq!((&error["code"], &error["phase"]), (&json!("unknown"), &json!("websocket_runtime")));
    assert!(error["message"].as_str().unwrap().contains("panicked: injected"), "{error}");

    for (tenant, id, req_id) in under_way {
        let path = format!("/v1/sessions/{id}/requests?req_id={req_id}&wait=true");
        let finished = world.audio(tenant, &path, silence(1)).await.expect(200);
        assert_eq!((&finished["outcome"], &finished["frame_count"]), (&json!("completed"), &json!(3)));
    }
    let path = format!("/v1/sessions/{victim}/requests/{cut_off}");
    let lost = world.admin(Method::GET, &path, &Value::Null).await.expect(200);
    assert_eq!((&lost["outcome"], &lost["code"]), (&json!("failed"), &json!("unknown")));

    let after = all_sessions(&world).await;
    assert_eq!(after.len(), 100);
    for (before, after) in before.iter().zip(&after).filter(|(before, _)| before["id"] != victim.as_str()) {
        assert_eq!(before, after);
        assert_eq!(after["restarts"], 0);
    }
    assert_eq!((world.all_errors(), world.errors("unknown")), (1.0, 1.0));
    assert_eq!(world.simulator.stats().connections.total, 101);
    world.end().await;
}

#[actix_rt::test]
async fn a_panic_while_parked_leaves_it_parked_and_one_while_starting_starts_it_again() {
    let world = World::start("").await;
    let parked = world.running(ACME, "parked").await;
    world.operate(&parked, "park").await;
    crash(&world, &parked);
    let session = world.wait_for(&parked, "the crash", |session| !session["last_error"].is_null()).await;
    assert_eq!((&session["state"], &session["restarts"]), (&json!("parked"), &json!(0)));
    assert_eq!(world.attempts("parked"), 1);
    world.operate(&parked, "unpark").await;
    world.wait_state(&parked, "running").await;

    world.faults(
        &json!([{"match": {"avatar_id": "starting"}, "at": "handshake", "do": {"silence": {}}, "times": 1}]),
    );
    let starting = world.create(ACME, "starting", &json!({})).await;
    until("its handshake", async || match world.simulator.stats().connections.unconfirmed {
        1 => Ok(()),
        other => Err(format!("{other} handshakes")),
    })
    .await;
    crash(&world, &starting);
    world.wait_restarted(&starting, 1).await;
    assert_eq!(world.attempts("starting"), 2);
    assert_eq!(world.errors("unknown"), 2.0);
    world.end().await;
}

#[actix_rt::test]
async fn a_session_that_panics_at_every_turn_is_restarted_three_times_and_then_failed() {
    let world = World::start("").await;
    let id = world.running(ACME, "crashes").await;
    for restarts in 1..=3 {
        crash(&world, &id);
        world.wait_restarted(&id, restarts).await;
    }
    crash(&world, &id);
    let session = world.wait_state(&id, "failed").await;
    assert_eq!(session["restarts"], 3);
    assert_eq!(session["last_error"]["code"], "unknown");
    assert_eq!(world.errors("unknown"), 4.0);
    assert_eq!(world.attempts("crashes"), 4);
    world.end().await;
}

#[actix_rt::test]
async fn a_panic_of_a_session_that_is_being_ended_gives_its_place_back_once() {
    let world = World::start("GREENROOM_TENANTS__0__MAX_SESSIONS=2\n").await;
    world.running(ACME, "stays").await;
    let ended = world.running(ACME, "ended").await;
    // Its Close is not answered, so that its end takes a second.
    world.strike("ended", &json!({"silence": {}}));
    let path = format!("/v1/sessions/{ended}");
    world.admin(Method::DELETE, &path, &Value::Null).await.expect(200);
    crash(&world, &ended);

    let body = json!({"avatar_id": "next", "tenant": ACME});
    until("its place", async || match world.admin(Method::POST, "/v1/sessions", &body).await.status {
        201 => Ok(()),
        status => Err(format!("status {status}")),
    })
    .await;
    let refused = world.admin(Method::POST, "/v1/sessions", &body).await.expect(429);
    assert_eq!(refused["code"], "tenantQuotaReached");
    world.end().await;
}

#[actix_rt::test]
async fn a_command_that_is_lost_in_a_crash_is_given_again() {
    let world = World::start("").await;
    let id = world.running(ACME, "crashes").await;
    // The command stands behind the crash in the mailbox, and goes down with it.
    crash(&world, &id);
    world.admin(Method::POST, "/v1/tenants/acme/park", &json!({})).await.expect(202);
    assert_eq!(world.session(&id).await["state"], "parked");
    world.operate(&id, "unpark").await;
    world.wait_state(&id, "running").await;
    crash(&world, &id);
    // As is that of the end, or the session would not end in time.
    world.end().await;
}
