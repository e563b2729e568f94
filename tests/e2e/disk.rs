//! A disk that fails under a Greenroom: nothing is promised that is not kept. Needs `--features failpoints`.

use actix_http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{ACME, Answer, World, silence, until};

/// Faults are the whole process's, so that no other world may be there.
async fn world(directory: &TempDir) -> World {
    let path = directory.path().join("greenroom.redb");
    World::alone(&format!("store.url = \"redb:{}\"", path.display())).await
}

fn break_disk(point: &str) {
    fail::cfg(point, "return(full)").unwrap();
}

async fn ready(world: &World) -> Answer {
    world.admin(Method::GET, "/readyz", &Value::Null).await
}

async fn mended(world: &World, point: &str) {
    fail::remove(point);
    until("the store is ready", async || match ready(world).await.status {
        200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
}

#[actix_rt::test]
async fn while_the_disk_is_full_nothing_is_made_and_afterwards_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let world = world(&directory).await;
    let id = world.running(ACME, "there").await;
    break_disk("store::begin");
    let spec = json!({"avatar_id": "refused"});
    let create = || world.call(world.data_request(Method::POST, ACME, "/v1/sessions").send_json(&spec));
    let refused = create().await;
    assert_eq!(refused.expect(503)["code"], "storeUnavailable");
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    assert_eq!(world.process.manager().registry().len(), 1, "something was made");
    assert_eq!(ready(&world).await.expect(503)["status"], "storeUnavailable");
    let park = world.admin(Method::POST, &format!("/v1/sessions/{id}/park"), &json!({})).await;
    assert_eq!(park.expect(503)["code"], "storeUnavailable");
    assert_eq!(world.session(&id).await["state"], "parked", "it is carried out, and told not to be kept yet");
    mended(&world, "store::begin").await;
    let made = create().await.expect(201);
    let made = made["id"].as_str().unwrap();
    world.wait_state(made, "running").await;
    world.operate(&id, "park").await;
    let world = world.restarted().await;
    world.wait_state(&id, "parked").await;
    world.wait_state(made, "running").await;
    assert_eq!(world.process.manager().registry().len(), 2);
    assert_eq!(world.attempts("refused"), 2, "one for each process");
    world.end().await;
}

#[actix_rt::test]
async fn a_session_whose_commit_is_not_certain_was_not_made_and_may_be_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = world(&directory).await;
    let spec = json!({"avatar_id": "a"});
    for round in 0..2 {
        break_disk("store::disk_sync");
        let request = world.data_request(Method::POST, ACME, "/v1/sessions");
        let refused = world.call(request.send_json(&spec)).await;
        assert_eq!(refused.expect(503)["code"], "storeUnavailable", "{round}");
        mended(&world, "store::disk_sync").await;
        world = world.restarted().await;
        assert_eq!(world.process.manager().registry().len(), 0, "{round}");
    }
    assert_eq!(world.attempts("a"), 0);
    world.end().await;
}

#[actix_rt::test]
async fn audio_is_not_promised_while_it_cannot_be_written_and_its_outcome_is_kept_when_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let world = world(&directory).await;
    let id = world.running(ACME, "speaker").await;
    let path = format!("/v1/sessions/{id}/requests");
    let open = world.audio(ACME, &format!("{path}?end=false"), silence(5)).await.expect(202);
    let req_id = open["req_id"].as_str().unwrap();
    let keyed = async |key| {
        let request = world.data_request(Method::POST, ACME, &path).insert_header(("Idempotency-Key", key));
        world.call(request.send_body(silence(5))).await
    };
    for point in ["store::begin", "store::disk_sync"] {
        break_disk(point);
        // What has no key is in the log, which is written: that the disk has failed is found by something that needs it, be
        // it a sync that was just due.
        let plain = world.audio(ACME, &path, silence(5)).await.status;
        assert!([202, 503].contains(&plain), "{point}: {plain}");
        // It stays found while this goes on.
        break_disk("store::open");
        let request = world.data_request(Method::POST, ACME, "/v1/sessions");
        let refused = world.call(request.send_json(&json!({"avatar_id": "other"}))).await;
        assert_eq!(refused.expect(503)["code"], "storeUnavailable", "{point}");
        // From then on nothing is promised.
        assert_eq!(
            world.audio(ACME, &path, silence(5)).await.expect(503)["code"],
            "storeUnavailable",
            "{point}"
        );
        assert_eq!(keyed(point).await.expect(503)["code"], "storeUnavailable", "{point}");
        fail::remove("store::open");
        mended(&world, point).await;
        keyed(point).await.expect(202);
    }
    // Only what waits for no sync is written to the log.
    break_disk("store::log_write");
    assert_eq!(world.audio(ACME, &path, silence(5)).await.expect(503)["code"], "storeUnavailable");
    mended(&world, "store::log_write").await;
    break_disk("store::log_write");
    let end = format!("{path}?req_id={req_id}&end=true");
    world.audio(ACME, &end, silence(5)).await.expect(202);
    let outcome =
        async |world: &World| world.admin(Method::GET, &format!("{path}/{req_id}"), &Value::Null).await;
    until("the outcome is there, and is not told while it may be lost", async || {
        match outcome(&world).await.status {
            503 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    mended(&world, "store::log_write").await;
    assert_eq!(outcome(&world).await.expect(200)["outcome"], "completed");
    let world = world.restarted().await;
    assert_eq!(outcome(&world).await.expect(200)["outcome"], "completed");
    world.end().await;
}
