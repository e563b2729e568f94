//! The token call.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use greenroom::errors::{Phase, SessionError};
use secrecy::SecretString;

use crate::server::{API_KEY, Peer, Server, TOKEN, open, refused, target};

/// An attempt whose token call is answered by `status`, `headers` and `body`.
async fn answered(status: &str, headers: &str, body: &str) -> SessionError {
    let server = Server::start().await;
    let (error, ()) = refused(server.config(), async {
        let mut peer = server.accept().await;
        peer.request().await;
        peer.answer(status, headers, body).await;
    })
    .await;
    assert_eq!(error.phase, Phase::SessionToken);
    assert!(!server.has_caller().await, "nothing may follow a refused token call");
    error
}

#[actix_rt::test]
async fn a_token_is_asked_for_with_the_key_and_an_expiry_and_used_for_the_upgrade() {
    let server = Server::start().await;
    let ((), (request, upgrade)) = tokio::join!(
        async {
            open(server.config(), &target()).await.expect_err("the upgrade is refused");
        },
        async {
            let request = server.give_token().await;
            let mut peer = server.accept().await;
            let upgrade = peer.request().await;
            peer.answer("503 Service Unavailable", "", "").await;
            (request, upgrade)
        }
    );
    assert_eq!(request.line, "POST /v1/auth/session-token HTTP/1.1");
    assert_eq!(request.header("x-api-key"), Some(API_KEY));
    assert_eq!(request.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let lifetime = body["expireAt"].as_u64().unwrap() - now;
    assert!((3500..=3600).contains(&lifetime), "{body}");
    assert_eq!(upgrade.header("x-session-key"), Some(TOKEN));
    assert_eq!(upgrade.header("x-app-id"), Some("app_123"));
}

#[actix_rt::test]
async fn each_attempt_asks_for_a_token_of_its_own() {
    let server = Server::start().await;
    for _ in 0..2 {
        let (error, ()) = refused(server.config(), async {
            let (mut peer, _) = server.asked_to_upgrade().await;
            peer.answer("503 Service Unavailable", "", "").await;
        })
        .await;
        assert_eq!(error.phase, Phase::WebsocketConnect);
    }
}

#[actix_rt::test]
async fn the_older_path_and_field_name_work_too() {
    let server = Server::start().await;
    let mut config = server.config();
    config.console_url.set_path("/v1/console");
    let (error, request) = refused(config, async {
        let mut peer = server.accept().await;
        let request = peer.request().await;
        peer.answer("200 OK", "", r#"{"sessionToken":"old-style","modelVersion":"x"}"#).await;
        let mut peer = server.accept().await;
        assert_eq!(peer.request().await.header("x-session-key"), Some("old-style"));
        peer.answer("503 Service Unavailable", "", "").await;
        request
    })
    .await;
    assert_eq!(request.line, "POST /v1/console/session-tokens HTTP/1.1");
    assert_eq!(error.phase, Phase::WebsocketConnect);
}

#[actix_rt::test]
async fn a_refusal_keeps_its_status_its_texts_and_its_body() {
    let body =
        r#"{"errors":[{"id":"e1","status":401,"code":"unauthorized","title":"No","detail":"bad key"}]}"#;
    let error = answered("401 Unauthorized", "", body).await;
    assert_eq!(error.http_status, Some(401));
    assert_eq!(error.server_code.as_deref(), Some("unauthorized"));
    assert_eq!(error.server_title.as_deref(), Some("No"));
    assert_eq!(error.server_detail.as_deref(), Some("bad key"));
    assert_eq!(error.raw_body.as_deref(), Some(body));

    let error = answered("402 Payment Required", "", "{\"message\":\"credits exhausted\"}\n").await;
    assert_eq!((error.http_status, error.server_detail.as_deref()), (Some(402), Some("credits exhausted")));
    let error = answered("500 Internal Server Error", "", "").await;
    assert_eq!((error.http_status, error.raw_body), (Some(500), None));
}

#[actix_rt::test]
async fn retry_after_is_kept() {
    let error = answered("429 Too Many Requests", "retry-after: 7\r\n", "slow down").await;
    assert_eq!((error.http_status, error.retry_after), (Some(429), Some(Duration::from_secs(7))));
    assert_eq!(error.server_detail.as_deref(), Some("slow down"));
}

#[actix_rt::test]
async fn errors_inside_a_200_count_by_their_own_status() {
    let body = r#"{"errors":[{"id":"e1","status":"402","title":"Payment required"}]}"#;
    let error = answered("200 OK", "", body).await;
    assert_eq!(error.http_status, Some(402));
    assert_eq!(error.server_code.as_deref(), Some("e1"));
    assert_eq!(error.raw_body.as_deref(), Some(body));
}

#[actix_rt::test]
async fn a_200_without_a_token_breaks_the_protocol_and_its_body_is_not_kept() {
    for body in [r#"{"token":"under-another-name"}"#, r#"{"session_token":""}"#, "<html>", "", "[]"] {
        let error = answered("200 OK", "", body).await;
        assert!(error.message.contains("no token"), "{body}: {}", error.message);
        assert_eq!(error.raw_body, None, "a token under another name is still a token");
        assert!(!error.message.contains("under-another-name"));
    }
    let error = answered("200 OK", "", r#"{"session_token":"line\nbreak"}"#).await;
    assert!(error.message.contains("no header can carry"), "{}", error.message);
}

#[actix_rt::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Server::start().await;
    let location = format!("location: http://{}/v1/auth/session-token\r\n", elsewhere.address());
    for status in ["302 Found", "307 Temporary Redirect"] {
        let error = answered(status, &location, "").await;
        assert_eq!(error.http_status, status[..3].parse().ok());
    }
    assert!(!elsewhere.has_caller().await, "the API key must not travel to another host");
}

#[actix_rt::test]
async fn the_key_and_a_token_in_a_refusal_are_removed() {
    let body = format!(
        r#"{{"errors":[{{"code":"{API_KEY}","detail":"key {API_KEY}"}}],"session_token":"{TOKEN}"}}"#
    );
    let error = answered("200 OK", "", &body).await;
    let shown = format!("{error:?}");
    assert!(!shown.contains(API_KEY) && !shown.contains(TOKEN), "{shown}");
    assert_eq!(error.server_detail.as_deref(), Some("key [redacted]"));
}

#[actix_rt::test]
async fn nobody_there_is_no_answer() {
    let server = Server::start().await;
    let config = server.config();
    drop(server);
    let error = open(config, &target()).await.unwrap_err();
    assert_eq!((error.phase, error.http_status), (Phase::SessionToken, None));
    assert!(error.message.contains("refused"), "{}", error.message);
}

#[actix_rt::test]
async fn a_reset_and_nonsense_are_no_answer() {
    for nonsense in ["", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"sess"] {
        let server = Server::start().await;
        let (error, ()) = refused(server.config(), async {
            let mut peer = server.accept().await;
            peer.request().await;
            peer.write(nonsense).await;
        })
        .await;
        assert_eq!((error.phase, error.http_status), (Phase::SessionToken, None), "{nonsense}");
    }
}

#[actix_rt::test]
async fn a_key_that_no_header_can_carry_is_refused_before_anything_is_sent() {
    let server = Server::start().await;
    let target = greenroom::upstream::Target { api_key: SecretString::from("key-with\nnewline"), ..target() };
    let error = open(server.config(), &target).await.unwrap_err();
    assert!(error.message.contains("API key") && !error.message.contains("newline"), "{}", error.message);
    assert!(!server.has_caller().await);
}

/// An attempt whose token call is answered by `script`, with a token deadline of 300 ms.
async fn hurried<T>(script: impl AsyncFnOnce(&mut Peer) -> T) -> (SessionError, T, Duration) {
    let server = Server::start().await;
    let mut config = server.config();
    config.deadlines.token = Duration::from_millis(300);
    let started = Instant::now();
    let (error, (done, took)) = refused(config, async {
        let mut peer = server.accept().await;
        peer.request().await;
        let done = script(&mut peer).await;
        peer.gone().await;
        (done, started.elapsed())
    })
    .await;
    assert_eq!(error.phase, Phase::SessionToken);
    assert!(took < Duration::from_secs(5), "the deadline of 300 ms took {took:?}");
    (error, done, took)
}

#[actix_rt::test]
async fn an_answer_that_never_comes_or_never_ends_meets_the_deadline() {
    let (error, (), took) = hurried(async |_| ()).await;
    assert!(error.message.contains("300 ms"), "{}", error.message);
    assert!(took >= Duration::from_millis(300), "{took:?}");
    let (error, (), _) = hurried(async |peer| peer.write("HTTP/1.1 200 OK\r\nconte").await).await;
    assert!(error.message.contains("300 ms"), "{}", error.message);
    let (error, (), _) =
        hurried(async |peer| peer.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").await).await;
    assert!(error.message.contains("300 ms"), "{}", error.message);
    assert_eq!(error.http_status, None);
}

#[actix_rt::test]
async fn a_refusal_counts_though_its_body_never_ends() {
    let (error, (), _) =
        hurried(async |peer| peer.write("HTTP/1.1 503 Busy\r\ncontent-length: 99\r\n\r\nout of").await).await;
    assert_eq!((error.http_status, error.server_detail.as_deref()), (Some(503), Some("out of")));
}

#[actix_rt::test]
async fn an_endless_head_is_cut_off() {
    let server = Server::start().await;
    let (error, sent) = refused(server.config(), async {
        let mut peer = server.accept().await;
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nx-long: ").await;
        peer.flood(&[b'a'; 65536]).await
    })
    .await;
    assert_eq!((error.phase, error.http_status), (Phase::SessionToken, None));
    assert!(sent < 64 << 20, "the client let {sent} bytes come");
}

#[actix_rt::test]
async fn an_endless_body_is_cut_off_and_a_refusal_keeps_its_status() {
    for (status, expected) in [("200 OK", None), ("503 Busy", Some(503))] {
        let server = Server::start().await;
        let (error, sent) = refused(server.config(), async {
            let mut peer = server.accept().await;
            peer.request().await;
            peer.write(&format!("HTTP/1.1 {status}\r\ncontent-length: 1073741824\r\n\r\n")).await;
            peer.flood(&[b'a'; 65536]).await
        })
        .await;
        assert_eq!(error.http_status, expected);
        assert_eq!(error.message.contains("longer than 64 KiB"), expected.is_none(), "{}", error.message);
        assert_eq!(error.raw_body.map(|body| body.len()), expected.map(|_| 2048));
        assert!(sent < 64 << 20, "the client let {sent} bytes come");
    }
}
