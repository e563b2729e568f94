//! Who gets a session token, and what it opens.

use serde_json::{Value, json};

use super::client::{Upgrade, ask_token, in_seconds, token};
use crate::world::{ACME, GLOBEX, World, tenant_key, until};

const PATHS: [&str; 3] = ["/v1/auth/session-token", "/v1/console/session-tokens", "/session-tokens"];

#[actix_rt::test]
async fn each_path_answers_with_both_names_and_ignores_what_it_does_not_know() {
    let world = World::start("").await;
    for path in PATHS {
        let body = json!({"expireAt": in_seconds(60), "modelVersion": "v7", "more": [1, 2]});
        let answer = ask_token(&world, path, &tenant_key(ACME), &body).await.expect(200);
        assert!(answer["session_token"].as_str().unwrap().starts_with("grt_"), "{answer}");
        assert_eq!(answer["session_token"], answer["sessionToken"]);
    }
    world.end().await;
}

#[actix_rt::test]
async fn a_refused_token_is_told_in_the_services_form() {
    let world = World::start("").await;
    let key = tenant_key(ACME);
    let soon = json!({"expireAt": in_seconds(60)});
    for (key, body, status, code, says) in [
        ("no-such-key", soon.clone(), 401, "invalid_api_key", "belongs to no tenant"),
        ("", soon, 401, "invalid_api_key", "belongs to no tenant"),
        (&key, json!({"expireAt": in_seconds(-1)}), 400, "INVALID_ARGUMENT", "must be in the future"),
        (&key, json!({"expireAt": -5}), 400, "INVALID_ARGUMENT", "must be in the future"),
        (&key, json!({"expireAt": in_seconds(24 * 3600 + 60)}), 400, "INVALID_ARGUMENT", "24 hours"),
        (&key, json!({"expireAt": 1e300}), 400, "INVALID_ARGUMENT", "24 hours"),
        (&key, json!({"expireAt": "soon"}), 400, "INVALID_ARGUMENT", "must be a number"),
        (&key, json!({}), 400, "INVALID_ARGUMENT", "expireAt is missing"),
        (&key, json!([1]), 400, "INVALID_ARGUMENT", "JSON object"),
    ] {
        for path in PATHS {
            let answer = ask_token(&world, path, key, &body).await;
            let error = &answer.expect(status)["errors"][0];
            assert_eq!((&error["status"], &error["code"]), (&json!(status), &json!(code)), "{error}");
            assert!(error["detail"].as_str().unwrap().contains(says), "{error}");
            assert!(error["id"].is_string() && error["title"].is_string(), "{error}");
            let text = String::from_utf8_lossy(&answer.body).to_lowercase();
            assert!(!text.contains("unauthorized"), "{text}");
        }
    }
    world.end().await;
}

#[actix_rt::test]
async fn unused_tokens_are_bounded_and_no_other_tenant_pays() {
    let world = World::start("GREENROOM_TENANTS__0__MAX_SESSIONS=1").await;
    let body = json!({"expireAt": in_seconds(40)});
    let ask = async |tenant: &str| ask_token(&world, PATHS[0], &tenant_key(tenant), &body).await;
    for _ in 0..100 {
        ask(ACME).await.expect(200);
    }
    let answer = ask(ACME).await;
    assert_eq!(answer.expect(429)["errors"][0]["code"], "too_many_requests");
    let wait: u64 = answer.headers["retry-after"].parse().unwrap();
    assert!((1..=40).contains(&wait), "{wait}");
    ask(GLOBEX).await.expect(200);
    world.end().await;
}

#[actix_rt::test]
async fn a_token_opens_one_connection_and_a_refused_upgrade_gives_it_back() {
    let world = World::start("").await;
    let upgrade = Upgrade::new(&world, ACME, "missing-one").await;
    for _ in 0..2 {
        let refused = upgrade.connect().await.err().unwrap();
        assert_eq!((refused.status, refused.message().as_str()), (404, "Avatar not found: missing-one"));
    }
    let kept = token(&world, ACME).await;
    let upgrade = Upgrade::with(&world, ACME, "one", kept);
    let (client, _) = upgrade.start().await;
    let refused = upgrade.connect().await.err().unwrap();
    assert_eq!((refused.status, refused.message().as_str()), (400, "Invalid session token"));
    client.leave().await;
    let refused = upgrade.clone().in_query().connect().await.err().unwrap();
    assert_eq!(refused.status, 400, "it was used");
    world.end().await;
}

#[actix_rt::test]
async fn where_tokens_serve_often_one_opens_many_connections() {
    let world = World::start("ingress.token_single_use = false").await;
    let token = token(&world, ACME).await;
    let (first, _) = Upgrade::with(&world, ACME, "one", token.clone()).start().await;
    let (second, _) = Upgrade::with(&world, ACME, "two", token).in_query().start().await;
    first.leave().await;
    second.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn whose_token_it_is_decides_and_the_app_id_must_fit() {
    let world = World::start("").await;
    let own = Upgrade::new(&world, ACME, "one").await;
    let cases = [
        (own.clone().app_id("app-globex"), 400, "app id mismatch"),
        (own.clone().app_id(""), 400, "missing app id"),
        (Upgrade::with(&world, ACME, "one", "grt_nonsense".into()), 400, "Invalid session token"),
        (Upgrade::with(&world, ACME, "one", tenant_key(ACME)), 400, "Invalid session token"),
        (Upgrade::with(&world, ACME, "", token(&world, ACME).await), 400, "missing avatar id"),
        (Upgrade::with(&world, ACME, &"a".repeat(257), token(&world, ACME).await), 422, "257 characters"),
    ];
    for (upgrade, status, says) in cases {
        for upgrade in [upgrade.clone(), upgrade.in_query()] {
            let refused = upgrade.connect().await.err().unwrap();
            assert!(refused.status == status && refused.message().contains(says), "{refused:?}");
        }
    }
    assert_eq!(world.simulator.stats().upgrades.total, 0, "nothing of it reached the service");
    world.end().await;
}

#[actix_rt::test]
async fn an_expired_token_is_told_so() {
    let world = World::start("").await;
    // Cut to whole seconds: two to three from now, which leaves a busy machine time to ask.
    let body = json!({"expireAt": in_seconds(3)});
    let answer = ask_token(&world, PATHS[0], &tenant_key(ACME), &body).await.expect(200);
    let upgrade = Upgrade::with(&world, ACME, "missing", answer["session_token"].as_str().unwrap().into());
    until("the token's expiry", async || match upgrade.connect().await.err() {
        Some(refused) if refused.status == 401 => {
            assert_eq!(refused.message(), "Session token expired");
            Ok(())
        }
        seen => Err(format!("{seen:?}")),
    })
    .await;
    world.end().await;
}

#[actix_rt::test]
async fn a_draining_process_gives_no_token_and_no_connection() {
    let world = World::start("server.shutdown_s = 5").await;
    let upgrade = Upgrade::new(&world, ACME, "one").await;
    world.admin(actix_http::Method::POST, "/v1/drain", &Value::Null).await.expect(202);
    let body = json!({"expireAt": in_seconds(60)});
    let answer = ask_token(&world, PATHS[1], &tenant_key(ACME), &body).await;
    answer.expect(503);
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    let refused = upgrade.connect().await.err().unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    world.end().await;
}
