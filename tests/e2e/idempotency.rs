//! A request that is sent twice and carried out once.

use actix_http::Method;
use serde_json::{Value, json};

use crate::world::{ACME, Answer, GLOBEX, World, until};

async fn create(world: &World, tenant: &str, key: &str, body: &Value) -> Answer {
    let request = world.data_request(Method::POST, tenant, "/v1/sessions");
    world.call(request.insert_header(("Idempotency-Key", key)).send_json(body)).await
}

#[actix_rt::test]
async fn the_same_request_again_makes_nothing_and_is_answered_the_same_also_by_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("greenroom.redb");
    let world = World::start(&format!("store.url = \"redb:{}\"", path.display())).await;
    let body = json!({"avatar_id": "a"});
    let first = create(&world, ACME, "k", &body).await;
    first.expect(201);
    assert_eq!(first.headers.get("idempotent-replayed"), None);
    let mut world = world;
    for _ in 0..2 {
        let again = create(&world, ACME, "k", &body).await;
        again.expect(201);
        assert_eq!(again.body, first.body);
        assert_eq!(again.headers.get("location"), first.headers.get("location"));
        assert_eq!(again.headers.get("idempotent-replayed").map(String::as_str), Some("true"));
        world = world.restarted().await;
    }
    assert_eq!(world.process.manager().registry().len(), 1);
    let other = create(&world, ACME, "k", &json!({"avatar_id": "b"})).await.expect(422);
    assert_eq!(other["code"], "idempotencyKeyReused");
    // Another tenant's key is another key.
    create(&world, GLOBEX, "k", &body).await.expect(201);
    assert_eq!(world.process.manager().registry().len(), 2);
    world.end().await;
}

#[actix_rt::test]
async fn of_many_at_the_same_time_one_is_carried_out() {
    let world = World::start("").await;
    let body = json!({"avatar_id": "a"});
    let answers = futures_util::future::join_all((0..20).map(|_| create(&world, ACME, "k", &body))).await;
    assert!(answers.iter().any(|answer| answer.status == 201), "{answers:?}");
    for answer in answers {
        assert!(answer.status == 201 || answer.json()["code"] == "idempotencyKeyInUse", "{answer:?}");
    }
    assert_eq!(world.process.manager().registry().len(), 1);
    world.end().await;
}

#[actix_rt::test]
async fn a_request_that_made_nothing_may_be_sent_again() {
    let world = World::start("sessions.max = 1").await;
    let first = world.create(ACME, "first", &json!({})).await;
    let body = json!({"avatar_id": "a"});
    create(&world, ACME, "k", &body).await.expect(503);
    world.admin(Method::DELETE, &format!("/v1/sessions/{first}"), &Value::Null).await.expect(200);
    until("there is room", async || match create(&world, ACME, "k", &body).await.status {
        201 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    let long = "k".repeat(256);
    assert_eq!(create(&world, ACME, &long, &body).await.expect(400)["code"], "invalidIdempotencyKey");
    world.end().await;
}
