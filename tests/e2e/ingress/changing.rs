//! A session that is changed while a client sits in it.

use actix_http::Method;
use serde_json::{Value, json};

use super::client::{INGRESS, Upgrade};
use crate::world::{ACME, World, silence};

#[actix_rt::test]
async fn a_drop_in_session_is_configured_by_its_client_and_may_be_labelled() {
    let world = World::start("").await;
    let (mut client, _) = Upgrade::new(&world, ACME, "dropped").await.start().await;
    let list = world.admin(Method::GET, "/v1/sessions?avatar_id=dropped", &Value::Null).await.expect(200);
    let session = &list["sessions"][0];
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    for own in
        [json!({"sample_rate": 24000}), json!({"avatar_id": "other"}), json!({"egress": {"type": "agora"}})]
    {
        let refused = world.admin(Method::PATCH, &path, &own).await.expect(409);
        assert_eq!(refused["code"], "configuredByClient", "{refused}");
    }
    let labels = json!({"labels": {"team": "red"}, "continuity": "off"});
    let labelled = world.admin(Method::PATCH, &path, &labels).await.expect(200);
    assert_eq!(labelled["labels"], json!({"team": "red"}));
    assert_eq!(labelled["connection_id"], session["connection_id"], "no restart");
    client.audio("20260101000000_aaaaaaaaaaaa", silence(2), true).await;
    assert_eq!(client.frames("20260101000000_aaaaaaaaaaaa").await.len(), 2);
    client.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_that_is_attached_stays_through_the_restart_of_a_change() {
    let world = World::start("").await;
    let id = world.running(ACME, "one").await;
    let upgrade = Upgrade::new(&world, ACME, "one").await.path(&format!("/s/{id}{INGRESS}"));
    let (mut client, confirm) = upgrade.start().await;
    let path = format!("/v1/sessions/{id}");
    world.admin(Method::PATCH, &path, &json!({"bitrate": 24000})).await.expect(200);
    world
        .wait_for(&id, "a new connection", |session| {
            session["state"] == "running" && session["connection_id"] != confirm.connection_id.as_str()
        })
        .await;
    client.audio("20260101000000_bbbbbbbbbbbb", silence(2), true).await;
    let frames = client.frames("20260101000000_bbbbbbbbbbbb").await;
    assert_eq!(frames.len(), 2);
    // As everything that the client hears, under the id that it knows.
    assert!(frames.iter().all(|frame| frame.connection_id == confirm.connection_id), "{frames:?}");
    client.leave().await;
    assert_eq!(world.session(&id).await["state"], "running");
    world.end().await;
}
