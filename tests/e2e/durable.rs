//! What a process leaves, the next takes over: over a store in a file, which both have in turn.

use std::collections::BTreeMap;

use actix_http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{ACME, GLOBEX, World, silence, until};

/// A world whose store is a file.
async fn durable(directory: &TempDir, extra: &str) -> World {
    let path = directory.path().join("greenroom.redb");
    World::start(&format!("store.url = \"redb:{}\"\n{extra}", path.display())).await
}

fn fault(world: &World, avatar: &str, at: &str, effect: &Value) {
    world.faults(&json!([{"match": {"avatar_id": avatar}, "at": at, "do": effect}]));
}

/// Makes one session in each state; gives the ids by state.
async fn one_in_each_state(world: &World) -> BTreeMap<&'static str, String> {
    let mut ids = BTreeMap::new();
    for state in ["running", "parked", "dormant", "failed", "stopped", "held"] {
        if state == "failed" {
            fault(world, state, "upgrade", &json!({"http": {"status": 404}}));
            let id = world.create(ACME, state, &json!({})).await;
            world.wait_state(&id, state).await;
            ids.insert(state, id);
            continue;
        }
        let id = world.create(ACME, state, &json!({"labels": {"state": state}})).await;
        world.wait_state(&id, "running").await;
        match state {
            "parked" => {
                world.strike(state, &json!({"close": {"code": 4002, "reason": "maximum session duration"}}));
                world.wait_state(&id, "parked").await;
            }
            "dormant" => {
                world.strike(state, &json!({"close": {"code": 1000, "reason": "no audio input for 60 s"}}));
                world.wait_state(&id, "dormant").await;
            }
            "held" => {
                world.operate(&id, "park").await;
            }
            "stopped" => {
                world.admin(Method::DELETE, &format!("/v1/sessions/{id}"), &Value::Null).await.expect(200);
            }
            _ => {}
        }
        ids.insert(state, id);
    }
    ids
}

#[actix_rt::test]
async fn every_session_is_after_a_restart_what_it_was_before() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory, "").await;
    let ids = one_in_each_state(&world).await;
    let mut before = BTreeMap::new();
    for (state, id) in &ids {
        before.insert(*state, world.session(id).await);
    }
    let world = world.restarted().await;
    for (state, id) in &ids {
        let before = &before[state];
        let expected = if *state == "held" { "parked" } else { *state };
        let after = world.wait_state(id, expected).await;
        for member in
            ["id", "tenant", "avatar_id", "origin", "restarts", "last_error", "created_at", "labels"]
        {
            assert_eq!(after[member], before[member], "{state}: {member}");
        }
        assert_eq!(after["reason"], before["reason"], "{state}");
    }
    assert_eq!(world.live(), 1, "only the session that should run has a connection");
    for (state, operation) in [("held", "unpark"), ("parked", "unpark"), ("failed", "restart")] {
        world.simulator.clear_faults();
        world.operate(&ids[state], operation).await;
        world.wait_state(&ids[state], "running").await;
    }
    let path = format!("/v1/sessions/{}/requests?end=true", ids["dormant"]);
    world.audio(ACME, &path, silence(1)).await.expect(202);
    world.wait_state(&ids["dormant"], "running").await;
    world.end().await;
}

#[actix_rt::test]
async fn a_suspended_tenant_stays_suspended_and_nothing_of_it_knocks() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory, "").await;
    let running = world.running(ACME, "runs").await;
    let other = world.running(GLOBEX, "other").await;
    fault(&world, "broke", "upgrade", &json!({"http": {"status": 402}}));
    let broke = world.create(ACME, "broke", &json!({})).await;
    world.wait_state(&broke, "parked").await;
    let world = world.restarted().await;
    let attempts = world.attempts("runs");
    world.wait_state(&running, "parked").await;
    world.wait_state(&broke, "parked").await;
    world.wait_state(&other, "running").await;
    assert_eq!(world.attempts("runs"), attempts, "a session of a suspended tenant has knocked");
    assert_eq!(world.metric("greenroom_tenant_suspended", &[("tenant", ACME)]), 1.0);
    world.simulator.clear_faults();
    world.admin(Method::POST, &format!("/v1/tenants/{ACME}/unpark"), &json!({})).await.expect(202);
    world.wait_state(&running, "running").await;
    world.wait_state(&broke, "running").await;
    world.end().await;
}

#[actix_rt::test]
async fn what_was_ended_is_listed_until_its_retention_has_passed_and_then_gone_from_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory, "sessions.retention_s = 1").await;
    let id = world.running(ACME, "a").await;
    let path = format!("/v1/sessions/{id}");
    world.admin(Method::DELETE, &path, &Value::Null).await.expect(200);
    let world = world.restarted().await;
    until("the session is forgotten", async || {
        match world.admin(Method::GET, &path, &Value::Null).await.status {
            404 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    let world = world.restarted().await;
    world.admin(Method::GET, &path, &Value::Null).await.expect(404);
    world.end().await;
}

#[actix_rt::test]
async fn egress_tokens_need_a_key_or_leave_and_are_not_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let spec =
        json!({"avatar_id": "a", "egress": {"type": "agora", "channel_name": "c", "token": "hush-hush"}});
    let world = durable(&directory, "").await;
    let sent = world.data_request(Method::POST, ACME, "/v1/sessions").send_json(&spec);
    let refused = world.call(sent).await.expect(422);
    assert_eq!(refused["code"], "noEncryptionKey", "{refused}");
    assert!(world.process.manager().registry().is_empty(), "something was made");
    world.end().await;
    let key = format!("store.encryption_key = \"{}\"", "07".repeat(32));
    let world = durable(&directory, &key).await;
    let id = world.create(ACME, "a", &spec).await;
    world.wait_state(&id, "running").await;
    let world = world.restarted().await;
    world.wait_state(&id, "running").await;
    let bytes = std::fs::read(directory.path().join("greenroom.redb")).unwrap();
    assert!(!bytes.windows(9).any(|part| part == b"hush-hush"), "the token is in the file");
    world.end().await;
}
