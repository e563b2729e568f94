//! What a tenant may have, and how fast it may ask.

use actix_http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    client::Client,
    world::{ACME, Answer, GLOBEX, World, silence},
};
use greenroom::manager::{CreateRefused, IngressRefused};

async fn create(world: &World, tenant: &str, avatar: &str) -> Answer {
    let body = json!({"avatar_id": avatar});
    world.call(world.data_request(Method::POST, tenant, "/v1/sessions").send_json(&body)).await
}

#[actix_rt::test]
async fn starts_beyond_the_minutes_worth_are_refused_for_clients_too_and_told_when_to_come_again() {
    let world = World::start("GREENROOM_TENANTS__0__MAX_STARTS_PER_MINUTE=2\n").await;
    create(&world, ACME, "one").await.expect(201);
    let manager = world.process.manager();
    let client = Client::arrive(manager, ACME, "two").await;
    let refused = create(&world, ACME, "three").await;
    let wait: u64 = refused.headers["retry-after"].parse().unwrap();
    assert!((1..=31).contains(&wait), "{wait}");
    assert_eq!(refused.expect(429)["code"], "tenantStartsLimited");
    let refused = Client::try_arrive(manager, ACME, "four").await;
    let is_told = matches!(refused, Err(IngressRefused::Create(CreateRefused::TooManyStarts { max: 2, .. })));
    assert!(is_told);
    // Another tenant has its own.
    create(&world, GLOBEX, "five").await.expect(201);
    drop(client);
    world.end().await;
}

#[actix_rt::test]
async fn requests_beyond_the_rate_get_429_and_another_tenant_notices_nothing() {
    let world = World::start("GREENROOM_TENANTS__0__REQUESTS_PER_SECOND=3\n").await;
    let list =
        async |tenant: &str| world.call(world.data_request(Method::GET, tenant, "/v1/sessions").send()).await;
    let mut refused = None;
    for _ in 0..100 {
        let answer = list(ACME).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("one in a hundred at once is too many");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.expect(429)["code"], "requestRateLimited");
    for _ in 0..10 {
        list(GLOBEX).await.expect(200);
    }
    world.end().await;
}

#[actix_rt::test]
async fn an_outbox_and_a_continuity_of_its_own_are_a_tenants_until_they_are_changed() {
    let world = World::start("outbox.max_age_s = 3600\n").await;
    let body = json!({"id": "initech", "app_id": "a", "upstream_api_key": "upstream-initech",
        "outbox_bytes": 1 << 20, "continuity": "off"});
    let made = world.admin(Method::POST, "/v1/tenants", &body).await.expect(201);
    assert_eq!((&made["outbox_bytes"], &made["continuity"]), (&json!(1 << 20), &json!("off")));
    // Nothing is connected, so that what is sent waits.
    world.admin(Method::POST, "/v1/upstreams/primary/open", &Value::Null).await.expect(200);
    let create = json!({"tenant": "initech", "avatar_id": "one"});
    let session = world.admin(Method::POST, "/v1/sessions", &create).await.expect(201);
    assert_eq!(session["continuity"], "off");
    let url = format!(
        "http://{}/v1/sessions/{}/requests?end=true",
        world.process.data_address(),
        session["id"].as_str().unwrap()
    );
    let send = async |audio: Bytes| {
        world.call(world.request(Method::POST, &url, made["key"].as_str().unwrap()).send_body(audio)).await
    };
    send(silence(600)).await.expect(202);
    assert_eq!(send(silence(600)).await.expect(503)["code"], "outboxFull");
    let more = json!({"outbox_bytes": null, "continuity": "resume"});
    let changed = world.admin(Method::PATCH, "/v1/tenants/initech", &more).await.expect(200);
    assert_eq!((&changed["outbox_bytes"], &changed["continuity"]), (&json!(268_435_456), &json!("resume")));
    send(silence(600)).await.expect(202);
    world.end().await;
}
