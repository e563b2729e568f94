//! The token endpoint and the upgrade: what is given, and what is refused.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{Answer, Client, ask_token, fast, http, token, unix_now, with};

async fn refused(attempt: impl Future<Output = Result<Client, Result<Answer, String>>>) -> Answer {
    match attempt.await {
        Ok(_) => panic!("this upgrade should be refused"),
        Err(answer) => answer.unwrap(),
    }
}

#[tokio::test]
async fn every_path_gives_a_fresh_token_under_both_names() {
    let simulator = fast().await;
    let mut tokens = BTreeSet::new();
    for path in [
        "/v1/auth/session-token",
        "/v1/console/session-tokens",
        "/session-tokens",
        "/any/old/base/session-tokens",
    ] {
        let answer = ask_token(&simulator, path, "key").await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let json = answer.json();
        assert_eq!(json["session_token"], json["sessionToken"]);
        tokens.insert(json["session_token"].as_str().unwrap().to_owned());
    }
    assert_eq!(tokens.len(), 4);
    assert_eq!(simulator.stats().tokens_given, 4);
}

#[tokio::test]
async fn a_token_call_is_refused_in_the_consoles_form() {
    let simulator = fast().await;
    let far = unix_now() + 25 * 3600;
    for (headers, body, status, code, detail) in [
        (&[][..], json!({"expireAt": unix_now() + 60}), 401, "unauthorized", "missing API key"),
        (&[("X-Api-Key", "k")][..], json!({}), 400, "INVALID_ARGUMENT", "expire_at must be in the future"),
        (
            &[("X-Api-Key", "k")][..],
            json!({"expireAt": unix_now() - 1}),
            400,
            "INVALID_ARGUMENT",
            "expire_at must be in the future",
        ),
        (
            &[("X-Api-Key", "k")][..],
            json!({"expireAt": far, "modelVersion": 2}),
            400,
            "INVALID_ARGUMENT",
            "expire_at must be at most 24 hours ahead",
        ),
    ] {
        let answer =
            http(simulator.addr(), "POST /v1/auth/session-token", headers, &body.to_string()).await.unwrap();
        let error = &answer.json()["errors"][0];
        assert_eq!((answer.status, &error["status"]), (status, &Value::from(status)));
        assert_eq!((error["code"].as_str(), error["detail"].as_str()), (Some(code), Some(detail)));
    }
    let refused = simulator.stats().tokens_refused;
    assert_eq!((refused[&400], refused[&401]), (3, 1));
}

#[tokio::test]
async fn header_and_query_authentication_both_connect() {
    let simulator = fast().await;
    assert!(Client::open(&simulator, "a").await.is_ok());
    for prefix in ["", "/some/prefix"] {
        let token = token(&simulator, "key").await;
        let path = format!("{prefix}/v2/driveningress/websocket?id=a%2Fb&appId=app&sessionKey={token}");
        assert!(Client::upgrade(simulator.addr(), &path, &[]).await.is_ok());
    }
    assert_eq!(simulator.stats().attempts_by_avatar["a/b"], 2);
}

#[tokio::test]
async fn an_upgrade_is_refused_in_the_services_form() {
    let simulator = fast().await;
    let good = token(&simulator, "key").await;
    let answer = refused(Client::present(&simulator, "missing-7", &good)).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, "{\"message\":\"Avatar not found: missing-7\"}\n")
    );
    let answer = refused(Client::present(&simulator, "a", "sim_never_given_out")).await;
    assert_eq!((answer.status, answer.body.as_str()), (400, "{\"message\":\"Invalid session token\"}\n"));
    let token = token(&simulator, "key").await;
    let path = format!("/v2/driveningress/websocket?id=a&sessionKey={token}");
    let answer = refused(Client::upgrade(simulator.addr(), &path, &[])).await;
    assert_eq!((answer.status, answer.message().as_str()), (400, "missing app id"));
    let refusals = simulator.stats().upgrades_refused;
    assert_eq!((refusals[&400], refusals[&404]), (2, 1));
}

#[tokio::test]
async fn a_token_presented_twice_is_refused_and_counts_as_the_clients_mistake() {
    let simulator = fast().await;
    let token = token(&simulator, "key").await;
    let first = Client::present(&simulator, "a", &token).await;
    assert!(first.is_ok());
    let answer = refused(Client::present(&simulator, "a", &token)).await;
    assert_eq!((answer.status, answer.message().as_str()), (400, "Invalid session token"));
    let violations = simulator.stats().violations;
    assert_eq!(violations.total, 1);
    assert!(violations.last[0].contains("presented twice"));
}

#[tokio::test]
async fn a_refused_upgrade_uses_its_token_up() {
    let simulator = fast().await;
    let token = token(&simulator, "key").await;
    assert_eq!(refused(Client::present(&simulator, "missing", &token)).await.status, 404);
    assert_eq!(refused(Client::present(&simulator, "a", &token)).await.status, 400);
}

#[tokio::test]
async fn an_expired_token_is_401() {
    let simulator = fast().await;
    let expires = unix_now() + 1;
    let body = json!({"expireAt": expires}).to_string();
    let headers = [("X-Api-Key", "key")];
    let answer = http(simulator.addr(), "POST /session-tokens", &headers, &body).await.unwrap();
    let token = answer.json()["sessionToken"].as_str().unwrap().to_owned();
    // The clock's own event: the service counts whole seconds.
    let expires = std::time::UNIX_EPOCH + std::time::Duration::from_secs(expires);
    while let Ok(left) = expires.duration_since(std::time::SystemTime::now()) {
        tokio::time::sleep(left).await;
    }
    let answer = refused(Client::present(&simulator, "a", &token)).await;
    assert_eq!((answer.status, answer.message().as_str()), (401, "Session token expired"));
}

#[tokio::test]
async fn a_live_connection_is_closed_at_its_tokens_expiry_where_so_configured() {
    let simulator = with(|config| config.token_expiry_closes = true).await;
    let body = json!({"expireAt": unix_now() + 2}).to_string();
    let answer = http(simulator.addr(), "POST /session-tokens", &[("X-Api-Key", "k")], &body).await.unwrap();
    let token = answer.json()["sessionToken"].as_str().unwrap().to_owned();
    let mut client = Client::present(&simulator, "a", &token).await.ok().unwrap();
    assert_eq!(client.closed().await, 4010);
}

#[tokio::test]
async fn other_paths_are_not_found_and_a_plain_get_is_no_upgrade() {
    let simulator = fast().await;
    assert_eq!(http(simulator.addr(), "GET /nothing", &[], "").await.unwrap().status, 404);
    assert_eq!(http(simulator.addr(), "GET /v2/driveningress/websocket", &[], "").await.unwrap().status, 404);
    assert_eq!(refused(Client::upgrade(simulator.addr(), "/elsewhere", &[])).await.status, 404);
}
