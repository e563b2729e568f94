//! What a process leaves, the next takes over: over a store in a file, which both have in turn.

use std::{collections::BTreeMap, sync::Arc};

use actix_http::Method;
use greenroom::store::{Bounds, Embedded, Key, Store as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::Client,
    world::{ACME, GLOBEX, World, silence, until},
};

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

#[actix_rt::test]
async fn the_session_of_a_drop_in_client_ends_with_the_process_that_had_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory, "").await;
    let (client, _) = Client::settled(world.process.manager(), ACME, "talker").await;
    let id = client.session().to_owned();
    let before = world.session(&id).await;
    let world = world.restarted().await;
    for _ in 0..2 {
        let after = world.session(&id).await;
        assert_eq!(after["state"], "stopped");
        for member in ["origin", "avatar_id", "sample_rate", "created_at"] {
            assert_eq!(after[member], before[member], "{member}");
        }
    }
    assert_eq!(world.attempts("talker"), 1, "nobody is there for whom it would connect");
    let world = world.restarted().await;
    assert_eq!(world.session(&id).await["state"], "stopped");
    world.end().await;
}

#[actix_rt::test]
async fn sessions_of_a_tenant_that_the_configuration_does_not_name_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let world = durable(&directory, "").await;
    let gone = world.running(GLOBEX, "gone").await;
    let stays = world.running(ACME, "stays").await;
    let mut tenants = Vec::new();
    let world = world
        .restarted_after(|config| {
            tenants = config.tenants.clone();
            config.tenants.retain(|tenant| tenant.id.as_str() == ACME);
        })
        .await;
    world.wait_state(&stays, "running").await;
    world.admin(Method::GET, &format!("/v1/sessions/{gone}"), &Value::Null).await.expect(404);
    assert_eq!((world.attempts("gone"), world.live()), (1, 1));
    let world = world.restarted_after(|config| config.tenants = tenants).await;
    world.wait_state(&gone, "running").await;
    world.end().await;
}

#[actix_rt::test]
async fn a_session_that_cannot_be_read_holds_no_other_up_and_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("greenroom.redb");
    let world = durable(&directory, "").await;
    let fine = world.running(ACME, "fine").await;
    let damaged = world.running(ACME, "damaged").await;
    let key = Key::session(&damaged.as_str().into());
    let open = || Embedded::open(&path, Bounds::default(), Arc::new(|_report| {})).unwrap();
    let world = world
        .restarted_after(|_config| {
            let store = open();
            let write = async {
                store.put(key.clone(), "no record".into()).await.unwrap();
                store.close().await.unwrap();
            };
            // A thread of its own: this one has a runtime, in which nothing can be waited for here.
            std::thread::scope(|scope| {
                scope.spawn(|| actix_rt::System::new().block_on(write)).join().unwrap();
            });
        })
        .await;
    world.wait_state(&fine, "running").await;
    world.admin(Method::GET, &format!("/v1/sessions/{damaged}"), &Value::Null).await.expect(404);
    world.end().await;
    let entry = open().get(&key).await.unwrap().unwrap();
    assert_eq!(entry.value, "no record");
}
