//! Egress tokens that run out: told before, and by name when a connection would need one.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::world::{ACME, World};

/// An egress whose token expires so many seconds from now.
fn egress(seconds: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let token = format!("{}.{}.c2ln", part(json!({"alg": "HS256"})), part(json!({"exp": now + seconds})));
    json!({"egress": {"type": "livekit", "url": "wss://rtc.example", "room_name": "r", "api_token": token}})
}

fn world() -> impl Future<Output = World> {
    World::start("store.plaintext_secrets = true")
}

#[actix_rt::test]
async fn a_token_that_expires_soon_is_warned_of_and_fails_the_session_by_name_when_a_connection_needs_it() {
    let world = world().await;
    let fresh = world.create(ACME, "fresh", &egress(86_400)).await;
    let soon = world.create(ACME, "soon", &egress(3)).await;
    for id in [&fresh, &soon] {
        world.wait_state(id, "running").await;
    }
    assert_eq!(world.session(&fresh).await["warnings"], Value::Null);
    let expires = world.session(&soon).await["warnings"][0].as_str().unwrap().to_owned();
    assert!(expires.contains("egress.api_token expires at"), "{expires}");
    // The connection that stands is not harmed.
    let expired = world
        .wait_for(&soon, "the token to expire", |session| {
            session["warnings"][0].as_str().is_some_and(|text| text.contains("expired at"))
        })
        .await;
    assert_eq!((&expired["state"], world.attempts("soon")), (&json!("running"), 1));
    world.operate(&soon, "restart").await;
    let failed = world.wait_state(&soon, "failed").await;
    assert_eq!(failed["last_error"]["code"], "invalidEgressConfig");
    let message = failed["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("egress.api_token expired at"), "{message}");
    world.end().await;
}

#[actix_rt::test]
async fn a_token_that_expired_long_ago_costs_no_attempt() {
    let world = world().await;
    let id = world.create(ACME, "late", &egress(-3600)).await;
    let failed = world.wait_state(&id, "failed").await;
    assert_eq!(failed["last_error"]["code"], "invalidEgressConfig");
    assert!(failed["last_error"]["message"].as_str().unwrap().starts_with("egress.api_token expired at"));
    assert_eq!(world.attempts("late"), 0);
    world.end().await;
}
