//! Connections that serve nobody, and tenants whose connections have lasted long enough.

use std::time::Duration;

use actix_http::Method;
use greenroom::simulator::Happening;
use serde_json::{Value, json};

use crate::{
    client::Client,
    world::{ACME, GLOBEX, World, silence, until},
};

async fn tenant(world: &World, id: &str) -> Value {
    world.admin(Method::GET, &format!("/v1/tenants/{id}"), &Value::Null).await.expect(200)
}

async fn gauge_is_what_the_simulator_counts(world: &World) {
    until("the gauge to be what the simulator counts", async || {
        let gauge = world.metric("greenroom_upstream_connections", &[]);
        let live = world.live() as f64;
        if gauge == live { Ok(()) } else { Err(format!("{gauge} counted, {live} live")) }
    })
    .await;
}

#[actix_rt::test]
async fn a_session_without_a_client_and_audio_is_closed_and_the_next_audio_wakes_it() {
    let world = World::start(
        "defaults.idle_timeout_s = 1\nGREENROOM_TENANTS__1__IDLE_TIMEOUT_S=0\n\
         GREENROOM_TENANTS__0__POOL=[{ avatar_id = \"warm\" }]\n",
    )
    .await;
    let orphan = world.running(ACME, "orphan").await;
    let kept = world.running(GLOBEX, "kept").await;
    let mut client = Client::arrive(world.process.manager(), ACME, "attended").await;
    client.ready().await;
    // It has a connection, though nothing is confirmed on it.
    gauge_is_what_the_simulator_counts(&world).await;
    let confirm = client.confirmed(16_000).await;
    world.wait_state(&orphan, "dormant").await;
    let record = world.simulator.record();
    let closed = record.iter().filter(|event| event.what == Happening::CloseReceived { code: Some(1000) });
    assert_eq!(closed.count(), 1, "{record:?}");
    gauge_is_what_the_simulator_counts(&world).await;
    assert_eq!(world.live(), 3);

    let path = format!("/v1/sessions/{orphan}/requests?end=true&wait=true");
    let answer = world.audio(ACME, &path, silence(2)).await.expect(200);
    assert_eq!(answer["outcome"], "completed", "{answer}");
    // From here on nothing is wanted of it again.
    world.wait_state(&orphan, "dormant").await;
    // Longer than the others may be idle: a client's session is not, and another tenant's may be for ever.
    let session = client.session().to_owned();
    assert_eq!(world.session(&session).await["state"], "running");
    assert_eq!(world.session(&kept).await["state"], "running");
    // What waits for a client in a pool is to be connected.
    assert_eq!(world.attempts("warm"), 1);
    assert!(client.speak("one", &confirm.connection_id, 2).await > 0);
    gauge_is_what_the_simulator_counts(&world).await;
    drop(client);
    world.end().await;
}

#[actix_rt::test]
async fn an_idle_timeout_that_is_set_later_holds_for_sessions_that_are_idle_already() {
    let world = World::start("").await;
    let body = json!({"id": "initech", "app_id": "a", "upstream_api_key": "upstream-initech"});
    world.admin(Method::POST, "/v1/tenants", &body).await.expect(201);
    let create = json!({"tenant": "initech", "avatar_id": "one"});
    let session = world.admin(Method::POST, "/v1/sessions", &create).await.expect(201);
    let id = session["id"].as_str().unwrap();
    world.wait_state(id, "running").await;
    world.admin(Method::PATCH, "/v1/tenants/initech", &json!({"idle_timeout_s": 1})).await.expect(200);
    world.wait_state(id, "dormant").await;
    // A person may want it connected: it has its time again.
    world.operate(id, "restart").await;
    world.wait_state(id, "running").await;
    world.wait_state(id, "dormant").await;
    world.end().await;
}

/// Sessions enough that a minute of connections takes two seconds.
const SESSIONS: usize = 30;

#[actix_rt::test]
async fn a_tenant_that_has_used_its_minutes_is_parked_by_a_code_of_its_own_until_it_has_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("greenroom.redb");
    let settings = format!(
        "store.url = \"redb:{}\"\nstore.plaintext_secrets = true\n\
         GREENROOM_TENANTS__0__MAX_CONNECTED_MINUTES_PER_DAY=1\n",
        path.display()
    );
    let world = World::start(&settings).await;
    let mut ids = Vec::new();
    for number in 0..SESSIONS {
        ids.push(world.create(ACME, &format!("minutes-{number}"), &json!({})).await);
    }
    let other = world.running(GLOBEX, "other").await;
    for id in &ids {
        let session = world.wait_state(id, "parked").await;
        assert_eq!(
            (&session["parked_by"], &session["last_error"]),
            (&json!("tenantMinutesUsed"), &Value::Null)
        );
        assert!(session["reason"].as_str().unwrap().contains("max_connected_minutes_per_day"), "{session}");
    }
    until("its connections are closed", async || match world.live() {
        1 => Ok(()),
        live => Err(live.to_string()),
    })
    .await;
    let used = tenant(&world, ACME).await;
    assert!(used["connected_minutes_today"].as_f64().unwrap() >= 1.0, "{used}");
    assert_eq!((&used["upstream_connections"], &used["suspended"]), (&json!(0), &Value::Null));

    // Nothing of it knocks, by whatever command; a new session is parked at once.
    let knocks = world.simulator.stats().upgrades.total;
    world.operate(&ids[0], "restart").await;
    world.wait_state(&ids[0], "parked").await;
    world.operate(&ids[1], "unpark").await;
    world.wait_state(&ids[1], "parked").await;
    let late = world.create(ACME, "late", &json!({})).await;
    assert_eq!(world.session(&late).await["parked_by"], "tenantMinutesUsed");
    let refused = world.audio(ACME, &format!("/v1/sessions/{late}/requests?end=true"), silence(1)).await;
    let problem = refused.expect(409);
    assert_eq!((&problem["code"], &problem["state"]), (&json!("tenantMinutesUsed"), &json!("parked")));
    assert!(Client::try_arrive(world.process.manager(), ACME, "client").await.is_err());
    assert_eq!(world.simulator.stats().upgrades.total, knocks);
    assert_eq!(world.session(&other).await["state"], "running");

    // Another process counts on from there; more minutes let them all start.
    let world = world.restarted().await;
    world.wait_state(&other, "running").await;
    tokio::time::sleep(Duration::ZERO).await;
    assert_eq!(world.session(&ids[2]).await["parked_by"], "tenantMinutesUsed");
    let world =
        world.restarted_after(|config| config.tenants[0].max_connected_minutes_per_day = Some(1000)).await;
    for id in ids.iter().chain([&late]) {
        world.wait_state(id, "running").await;
    }
    gauge_is_what_the_simulator_counts(&world).await;
    world.end().await;
}
