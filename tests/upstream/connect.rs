//! Connect and upgrade.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom::{
    errors::{ErrorCode, Phase, SessionError},
    upstream::{Auth, Client, Timings},
};
use secrecy::SecretString;

use crate::server::{API_KEY, Peer, Request, Server, TOKEN, open, opened, refused, target};

/// An attempt whose upgrade is answered by `script`.
async fn upgrade_answered(script: impl AsyncFnOnce(&mut Peer, Request)) -> SessionError {
    let server = Server::start().await;
    let (error, ()) = refused(server.config(), async {
        let (mut peer, request) = server.asked_to_upgrade().await;
        script(&mut peer, request).await;
    })
    .await;
    assert_eq!(error.phase, Phase::WebsocketConnect, "{error:?}");
    error
}

#[actix_rt::test]
async fn a_refused_upgrade_keeps_status_and_body() {
    for (status, body, code) in [
        ("400 Bad Request", "{\"message\":\"Invalid session token\"}\n", ErrorCode::SessionTokenInvalid),
        ("400 Bad Request", "{\"message\":\"app id mismatch\"}\n", ErrorCode::AppIdMismatch),
        ("401 Unauthorized", "", ErrorCode::SessionTokenExpired),
        ("402 Payment Required", "session denied: credits exhausted", ErrorCode::CreditsExhausted),
        ("404 Not Found", "{\"message\":\"Avatar not found: avatar-1\"}\n", ErrorCode::AvatarNotFound),
        ("404 Not Found", "{\"message\":\"no such app\"}\n", ErrorCode::AppIdUnrecognized),
        ("503 Service Unavailable", "<html>upstream</html>", ErrorCode::UpstreamError),
        ("500 Internal Server Error", "oops", ErrorCode::ServerError),
    ] {
        let error = upgrade_answered(async |peer, _| peer.answer(status, "", body).await).await;
        assert_eq!(error.code, code, "{error:?}");
        assert_eq!(error.http_status, status[..3].parse().ok());
        assert_eq!(error.raw_body.as_deref().unwrap_or_default(), body.trim());
        assert_eq!((error.close_code, &error.connection_id), (None, &None));
    }
}

#[actix_rt::test]
async fn retry_after_is_kept() {
    let error = upgrade_answered(async |peer, _| {
        peer.answer("429 Too Many Requests", "Retry-After: 12\r\n", "").await;
    })
    .await;
    assert_eq!((error.http_status, error.retry_after), (Some(429), Some(Duration::from_secs(12))));
}

#[actix_rt::test]
async fn a_body_is_kept_however_its_end_is_marked() {
    for answer in [
        "HTTP/1.1 402 No\r\ntransfer-encoding: chunked\r\n\r\n8\r\ncredits \r\n9\r\nexhausted\r\n0\r\n\r\n",
        "HTTP/1.0 402 No\r\n\r\ncredits exhausted",
        "HTTP/1.1 402 No\r\nconnection: close\r\n\r\ncredits exhausted",
        "HTTP/1.1 402 No\r\nupgrade: websocket\r\ncontent-length: 17\r\n\r\ncredits exhaustedNOT THIS",
        "HTTP/1.1 402 No\r\ncontent-length: 17\r\n\r\ncredits exhausted",
    ] {
        let server = Server::start().await;
        let (error, ()) = refused(server.config(), async {
            let (mut peer, _) = server.asked_to_upgrade().await;
            peer.write(answer).await;
        })
        .await;
        assert_eq!(error.http_status, Some(402), "{answer}");
        assert_eq!(error.raw_body.as_deref(), Some("credits exhausted"), "{answer}");
        assert_eq!(error.code, ErrorCode::CreditsExhausted, "{answer}");
    }
}

#[actix_rt::test]
async fn an_answer_that_is_neither_refusal_nor_upgrade_is_no_connection() {
    let elsewhere = Server::start().await;
    let location = format!("location: http://{}/\r\n", elsewhere.address());
    for (status, headers) in [("200 OK", ""), ("204 No Content", ""), ("302 Found", location.as_str())] {
        let error = upgrade_answered(async |peer, _| peer.answer(status, headers, "").await).await;
        assert_eq!((error.code, error.http_status), (ErrorCode::ConnectionFailed, status[..3].parse().ok()));
    }
    assert!(!elsewhere.has_caller().await, "credentials must not travel to another host");
}

#[actix_rt::test]
async fn an_upgrade_that_does_not_prove_itself_is_no_connection() {
    for head in [
        "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: no\r\n\r\n",
        "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "\x15\x03\x01 not HTTP at all\r\n\r\n",
    ] {
        let error = upgrade_answered(async |peer, _| peer.write(head).await).await;
        assert_eq!((error.code, error.http_status), (ErrorCode::ConnectionFailed, None), "{head:?}");
    }
}

#[actix_rt::test]
async fn tls_towards_a_server_without_it_is_no_connection() {
    let server = Server::start().await;
    let mut config = server.config();
    config.ingress_url = format!("wss://{}/v2/driveningress", server.address()).parse().unwrap();
    let (error, ()) = refused(config, async {
        server.give_token().await;
        let mut peer = server.accept().await;
        peer.write("HTTP/1.1 400 Plain HTTP sent to HTTPS\r\n\r\n").await;
        peer.gone().await;
    })
    .await;
    assert_eq!((error.code, error.phase), (ErrorCode::ConnectionFailed, Phase::WebsocketConnect));
}

#[actix_rt::test]
async fn header_authentication_keeps_the_credentials_out_of_the_url() {
    upgrade_answered(async |peer, request| {
        assert_eq!(request.line, "GET /v2/driveningress/websocket?id=avatar-1 HTTP/1.1");
        assert_eq!(request.header("x-app-id"), Some("app_123"));
        assert_eq!(request.header("x-session-key"), Some(TOKEN));
        assert_eq!(request.header("sec-websocket-version"), Some("13"));
        peer.answer("503 Busy", "", "").await;
    })
    .await;
}

#[actix_rt::test]
async fn query_authentication_is_encoded_and_sends_no_headers() {
    let server = Server::start().await;
    let mut config = server.config();
    config.auth = Auth::Query;
    let target =
        greenroom::upstream::Target { app_id: "app&1".into(), avatar_id: "a/b c+ü".into(), ..target() };
    let (result, ()) = tokio::join!(open(config, &target), async {
        let mut peer = server.accept().await;
        peer.request().await;
        peer.answer("200 OK", "", r#"{"session_token":"t+/=&"}"#).await;
        let mut peer = server.accept().await;
        let request = peer.request().await;
        let path = "/v2/driveningress/websocket?id=a%2Fb%20c%2B%C3%BC&appId=app%261&sessionKey=t%2B%2F%3D%26";
        assert_eq!(request.line, format!("GET {path} HTTP/1.1"));
        assert_eq!((request.header("x-app-id"), request.header("x-session-key")), (None, None));
        peer.answer("400 No", "", &format!("no such path: {path}")).await;
    });
    let error = result.unwrap_err();
    let shown = format!("{error:?}");
    assert!(shown.contains("sessionKey=[redacted]") && !shown.contains("t%2B"), "{shown}");
}

#[actix_rt::test]
async fn secrets_that_a_refusal_quotes_are_removed() {
    let body = format!(r#"{{"message":"Invalid session token {TOKEN} of key {API_KEY}"}}"#);
    let error = upgrade_answered(async |peer, _| peer.answer("400 No", "", &body).await).await;
    let shown = format!("{error:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains(API_KEY), "{shown}");
    assert_eq!(error.code, ErrorCode::SessionTokenInvalid);
}

#[actix_rt::test]
async fn an_app_id_that_no_header_can_carry_is_named() {
    let server = Server::start().await;
    let target = greenroom::upstream::Target { app_id: "äpp\n".into(), ..target() };
    let (result, _) = tokio::join!(open(server.config(), &target), server.give_token());
    let error = result.unwrap_err();
    assert!(error.message.contains("app id"), "{}", error.message);
}

/// An attempt with a connect deadline of 300 ms whose upgrade is answered by `script`.
async fn hurried(script: impl AsyncFnOnce(&mut Peer)) -> SessionError {
    let server = Server::start().await;
    let mut config = server.config();
    config.deadlines.connect = Duration::from_millis(300);
    let started = Instant::now();
    let (error, took) = refused(config, async {
        let (mut peer, _) = server.asked_to_upgrade().await;
        script(&mut peer).await;
        peer.gone().await;
        started.elapsed()
    })
    .await;
    assert_eq!(error.phase, Phase::WebsocketConnect);
    assert!(took < Duration::from_secs(5), "the deadline of 300 ms took {took:?}");
    error
}

#[actix_rt::test]
async fn an_upgrade_that_is_never_answered_meets_the_deadline() {
    for head in ["", "HTTP/1.1 101 Swit"] {
        let error = hurried(async |peer| peer.write(head).await).await;
        assert_eq!(error.code, ErrorCode::ConnectionFailed);
        assert!(error.message.contains("300 ms"), "{}", error.message);
    }
}

#[actix_rt::test]
async fn a_refusal_counts_though_its_body_never_ends() {
    for head in [
        "HTTP/1.1 402 No\r\ncontent-length: 99\r\n\r\ncredits exhausted",
        "HTTP/1.1 402 No\r\n\r\ncredits exhausted",
    ] {
        let error = hurried(async |peer| peer.write(head).await).await;
        assert_eq!((error.code, error.http_status), (ErrorCode::CreditsExhausted, Some(402)));
    }
}

#[actix_rt::test]
async fn an_endless_head_or_body_is_cut_off() {
    for (head, status) in [
        ("HTTP/1.1 402 No\r\nx-long: ", None),
        ("HTTP/1.1 402 No\r\ncontent-length: 1073741824\r\n\r\n", Some(402)),
        ("HTTP/1.1 402 No\r\n\r\n", Some(402)),
    ] {
        let server = Server::start().await;
        let (error, sent) = refused(server.config(), async {
            let (mut peer, _) = server.asked_to_upgrade().await;
            peer.write(head).await;
            peer.flood(&[b'a'; 65536]).await
        })
        .await;
        assert_eq!((error.phase, error.http_status), (Phase::WebsocketConnect, status));
        assert!(sent < 64 << 20, "the client let {sent} bytes come");
    }
}

#[actix_rt::test]
async fn dropping_an_attempt_drops_its_socket_wherever_it_is() {
    for step in ["token", "connect", "handshake"] {
        let server = Server::start().await;
        let client = Client::new(Arc::new(server.config()));
        let target = target();
        let mut timings = Timings::default();
        let mut attempt = Box::pin(client.open(&target, &mut timings));
        let reached = async {
            match step {
                "token" => {
                    let mut peer = server.accept().await;
                    peer.request().await;
                    peer.stream
                }
                "connect" => server.asked_to_upgrade().await.0.stream,
                _ => {
                    let mut peer = server.upgraded().await;
                    peer.message().await;
                    peer.framed.into_parts().io
                }
            }
        };
        let mut stream = tokio::select! {
            _ = &mut attempt => panic!("the attempt ended at {step}"),
            stream = reached => stream,
        };
        drop(attempt);
        let mut buffer = [0; 1];
        let read =
            crate::server::soon("the end", tokio::io::AsyncReadExt::read(&mut stream, &mut buffer)).await;
        assert!(matches!(read, Ok(0) | Err(_)), "the socket must be gone at {step}: {read:?}");
    }
}

#[actix_rt::test]
async fn a_connection_that_the_console_keeps_open_serves_the_upgrade_on_the_same_host() {
    let server = Server::start().await;
    let target = target();
    let (result, mut peer) = tokio::join!(open(server.config(), &target), async {
        let mut peer = server.accept().await;
        peer.request().await;
        let body = format!(r#"{{"session_token":"{TOKEN}"}}"#);
        peer.write(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
        let upgrade = peer.request().await;
        let mut peer = peer.upgrade(&upgrade).await;
        peer.confirm("con-1", &[]).await;
        peer
    });
    tokio::join!(result.unwrap().socket.close(), async {
        assert_eq!(peer.close_code().await, Some(1000));
        peer.close(1000, "").await;
    });
}

#[actix_rt::test]
async fn timings_are_filled_as_far_as_the_attempt_got() {
    let server = Server::start().await;
    let client = Client::new(Arc::new(server.config()));
    let target = target();
    let mut timings = Timings::default();
    let (result, ()) = tokio::join!(client.open(&target, &mut timings), async {
        let (mut peer, _) = server.asked_to_upgrade().await;
        peer.answer("503 Busy", "", "").await;
    });
    assert!(result.is_err());
    assert!(timings.token.is_some() && timings.connect.is_some() && timings.handshake.is_none());
}

#[actix_rt::test]
async fn nothing_that_is_shown_holds_a_secret() {
    let server = Server::start().await;
    let target = greenroom::upstream::Target { api_key: SecretString::from(API_KEY), ..target() };
    let client = Client::new(Arc::new(server.config()));
    let (opened, _peer) = opened(&server, server.config()).await;
    let shown = format!("{target:?} {client:?} {opened:?} {:?}", server.config());
    assert!(!shown.contains(API_KEY) && !shown.contains(TOKEN), "{shown}");
}
