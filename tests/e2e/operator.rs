//! An operator's commands, in every state that a session can be in.

use actix_http::Method;
use serde_json::{Value, json};

use crate::world::{ACME, World, silence, until};

/// Makes a session for the avatar and brings it into the state, by what the service does.
async fn bring(world: &World, avatar: &str, state: &str) -> String {
    let fault = |at: &str, effect: Value| {
        world.faults(&json!([{"match": {"avatar_id": avatar}, "at": at, "do": effect, "times": 1}]));
    };
    let strike = match state {
        "starting" => {
            fault("handshake", json!({"silence": {}}));
            None
        }
        // The wait that the service asks for is longer than what the test does in it.
        "backing_off" => {
            fault("upgrade", json!({"http": {"status": 503, "headers": {"Retry-After": "1"}}}));
            None
        }
        "failed" => {
            fault("upgrade", json!({"http": {"status": 404}}));
            None
        }
        "parked" => Some(json!({"close": {"code": 4002, "reason": "maximum session duration"}})),
        "dormant" => Some(json!({"close": {"code": 1000, "reason": "no audio input for 60 s"}})),
        "running" => None,
        other => panic!("{other} is not brought about"),
    };
    let id = world.create(ACME, avatar, &json!({})).await;
    if let Some(effect) = strike {
        world.wait_state(&id, "running").await;
        world.strike(avatar, &effect);
    }
    if state == "starting" {
        until("its handshake", async || match world.simulator.stats().connections.unconfirmed {
            0 => Err("nobody waits for a confirmation".to_owned()),
            _ => Ok(()),
        })
        .await;
    }
    world.wait_state(&id, state).await;
    id
}

async fn delete(world: &World, id: &str) -> Value {
    world.admin(Method::DELETE, &format!("/v1/sessions/{id}"), &Value::Null).await.expect(200)
}

const STATES: [&str; 6] = ["running", "starting", "backing_off", "parked", "dormant", "failed"];

#[actix_rt::test]
async fn restart_connects_anew_from_every_state_but_stopped() {
    let world = World::start("").await;
    for state in STATES {
        let id = bring(&world, state, state).await;
        let (before, attempts) = (world.session(&id).await, world.attempts(state));
        world.operate(&id, "restart").await;
        let after = world
            .wait_for(&id, "a new connection", |session| {
                session["state"] == "running" && session["connection_id"] != before["connection_id"]
            })
            .await;
        assert_eq!(world.attempts(state), attempts + 1, "{state}");
        assert_eq!(after["restarts"], before["restarts"], "{state}: a command is no restart of the policy's");
        assert_eq!(after["attempt"], 0, "{state}: a person has acted");
    }
    world.end().await;
}

#[actix_rt::test]
async fn park_holds_from_every_state_until_unpark() {
    let world = World::start("").await;
    for state in STATES {
        let id = bring(&world, state, state).await;
        let parked = world.operate(&id, "park").await;
        assert_eq!(parked["state"], "parked", "{state}");
        assert!(parked["reason"].as_str().unwrap().contains("operator"), "{state}: {parked}");
        assert_eq!((&parked["connection_id"], &parked["next_attempt_at"]), (&Value::Null, &Value::Null));
        let attempts = world.attempts(state);
        let other = world.running(ACME, &format!("beside-{state}")).await;
        delete(&world, &other).await;
        assert_eq!((world.attempts(state), &world.session(&id).await["state"]), (attempts, &json!("parked")));
        world.operate(&id, "unpark").await;
        world.wait_state(&id, "running").await;
        assert_eq!(world.attempts(state), attempts + 1, "{state}");
    }
    world.end().await;
}

#[actix_rt::test]
async fn unpark_changes_nothing_where_nothing_is_parked() {
    let world = World::start("").await;
    for state in STATES {
        let id = bring(&world, state, state).await;
        let before = world.session(&id).await;
        let after = world.operate(&id, "unpark").await;
        if state == "parked" {
            world.wait_state(&id, "running").await;
        } else {
            assert_eq!(before, after);
        }
    }
    world.end().await;
}

#[actix_rt::test]
async fn delete_ends_from_every_state_and_is_final() {
    let world = World::start("").await;
    for state in STATES {
        let id = bring(&world, state, state).await;
        let attempts = world.attempts(state);
        assert_eq!(delete(&world, &id).await["state"], "stopped", "{state}");
        until("its connection to be gone", async || match world.live() {
            0 => Ok(()),
            live => Err(format!("{live} are live")),
        })
        .await;
        for operation in ["restart", "park", "unpark"] {
            let path = format!("/v1/sessions/{id}/{operation}");
            let answer = world.admin(Method::POST, &path, &json!({})).await.expect(409);
            assert_eq!(answer["code"], "sessionStopped", "{state}, {operation}");
        }
        let audio = world.audio(ACME, &format!("/v1/sessions/{id}/requests"), silence(1)).await.expect(409);
        assert_eq!(audio["code"], "sessionStopped", "{state}");
        assert_eq!(delete(&world, &id).await["state"], "stopped", "{state}: a second time");
        let path = "/v1/sessions?state=stopped&limit=500";
        let listed = world.admin(Method::GET, path, &Value::Null).await.expect(200);
        let listed = listed["sessions"].as_array().unwrap();
        assert!(listed.iter().any(|session| session["id"] == id.as_str()), "{state}: it is not listed");
        assert_eq!(world.attempts(state), attempts, "{state}: it knocked");
    }
    world.end().await;
}

#[actix_rt::test]
async fn delete_while_the_token_call_is_unanswered_cancels_it_and_frees_its_place() {
    let world = World::start("upstream.gate.max_in_flight = 1\n").await;
    world.faults(&json!([{"at": "token", "do": {"silence": {}}, "times": 1}]));
    let id = world.create(ACME, "cancelled", &json!({})).await;
    until("its token call", async || match world.simulator.stats().token_calls.total {
        1 => Ok(()),
        other => Err(format!("{other} calls")),
    })
    .await;
    assert_eq!(world.session(&id).await["state"], "starting");
    assert_eq!(delete(&world, &id).await["state"], "stopped");
    // The only place at the gate was its own.
    world.running(ACME, "next").await;
    assert_eq!(world.attempts("cancelled"), 0);
    assert_eq!(world.all_errors(), 0.0);
    let upstreams = world.admin(Method::GET, "/v1/upstreams", &Value::Null).await.expect(200);
    assert_eq!(upstreams["upstreams"][0]["in_flight"], 0);
    world.end().await;
}

#[actix_rt::test]
async fn requests_that_are_open_when_a_person_ends_the_turn_are_interrupted() {
    let world = World::start("").await;
    for operation in ["park", "restart", "delete"] {
        let id = world.running(ACME, operation).await;
        let path = format!("/v1/sessions/{id}/requests?end=false");
        let open = world.audio(ACME, &path, silence(2)).await.expect(202);
        if operation == "delete" {
            // The outcome of a stopped session's request can be had while its actor is there; a counter stays.
            delete(&world, &id).await;
        } else {
            world.operate(&id, operation).await;
            let path = format!("/v1/sessions/{id}/requests/{}", open["req_id"].as_str().unwrap());
            let request = world.admin(Method::GET, &path, &Value::Null).await.expect(200);
            assert_eq!(request["outcome"], "interrupted", "{operation}: {request}");
        }
    }
    assert_eq!(world.metric("greenroom_requests_total", &[("outcome", "interrupted")]), 3.0);
    world.end().await;
}

#[actix_rt::test]
async fn a_restart_waits_for_the_old_connection_though_the_service_does_not_answer_its_close() {
    let world = World::start("").await;
    let id = world.running(ACME, "subject").await;
    let before = world.session(&id).await;
    world.strike("subject", &json!({"silence": {}}));
    assert_eq!(world.operate(&id, "restart").await["state"], "starting");
    world
        .wait_for(&id, "a new connection", |session| {
            session["state"] == "running" && session["connection_id"] != before["connection_id"]
        })
        .await;
    let stats = world.simulator.stats();
    let seen = stats.session("app-acme", "subject").unwrap();
    assert_eq!((seen.connections, seen.peak), (2, 1));
    assert_eq!(world.all_errors(), 0.0);
    world.end().await;
}
