//! From the upgrade to the confirmation.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_http::ws::{Frame, Item, Message};
use bytes::Bytes;
use greenroom::{
    errors::{Egress, ErrorCode, Phase, SessionError},
    upstream::{Client, Target, Timings, Upgraded},
    wire::{self, Data, proto},
};

use crate::server::{Server, WsPeer, opened, refused, soon, target};

/// An attempt whose handshake is answered by `script`.
async fn handshake(script: impl AsyncFnOnce(&mut WsPeer)) -> SessionError {
    let server = Server::start().await;
    let (error, ()) = refused(server.config(), async {
        let mut peer = server.upgraded().await;
        peer.message().await;
        script(&mut peer).await;
        // Held until the client leaves, so that only what the script did can end the attempt.
        while peer.next().await.is_some() {}
    })
    .await;
    assert_eq!((error.phase, error.http_status), (Phase::WebsocketHandshake, None), "{error:?}");
    error
}

#[actix_rt::test]
async fn a_confirmed_connection_has_its_id_and_capabilities() {
    let server = Server::start().await;
    let (opened, _peer) = opened(&server, server.config()).await;
    assert_eq!(opened.connection_id, "con-1");
    assert_eq!(opened.capabilities, ["playback_state"]);
    assert_eq!(opened.socket.unsent(), 0);
}

#[actix_rt::test]
async fn the_configuration_goes_out_as_it_came_with_fields_that_this_version_does_not_know() {
    let server = Server::start().await;
    // Field 15 (varint) of ClientConfigureSession is unknown here.
    let configure = Bytes::from_static(&[0x08, 1, 0x12, 5, 0x08, 0x80, 0x7d, 0x78, 0x2a]);
    let target = Target { configure: Some(configure.clone()), ..target() };
    let (result, received) = tokio::join!(crate::server::open(server.config(), &target), async {
        let mut peer = server.upgraded().await;
        peer.confirm("con-1", &[]).await
    });
    assert!(result.is_ok());
    assert_eq!(received, configure);
}

#[actix_rt::test]
async fn pings_are_answered_and_unknown_messages_ignored_before_the_confirmation() {
    let server = Server::start().await;
    let target = target();
    let (result, ()) = tokio::join!(crate::server::open(server.config(), &target), async {
        let mut peer = server.upgraded().await;
        peer.send(Message::Ping(Bytes::from_static(b"there?"))).await;
        // Type 127 is not known.
        peer.send(Message::Binary(Bytes::from_static(&[0x08, 0x7f]))).await;
        peer.message().await;
        assert_eq!(peer.next().await, Some(Frame::Pong(Bytes::from_static(b"there?"))));
        peer.say(Data::ServerConfirmSession(proto::ServerConfirmSession {
            connection_id: "con-2".into(),
            capabilities: Vec::new(),
        }))
        .await;
    });
    assert_eq!(result.unwrap().connection_id, "con-2");
}

#[actix_rt::test]
async fn a_confirmation_without_an_id_breaks_the_protocol() {
    for id in ["", "x".repeat(300).as_str()] {
        let error = handshake(async |peer| {
            peer.say(Data::ServerConfirmSession(proto::ServerConfirmSession {
                connection_id: id.into(),
                capabilities: Vec::new(),
            }))
            .await;
            assert_eq!(peer.close_code().await, Some(1002));
        })
        .await;
        assert_eq!(error.code, ErrorCode::ProtocolError);
        assert!(error.message.contains("connection_id"), "{}", error.message);
    }
}

#[actix_rt::test]
async fn anything_but_a_confirmation_or_an_error_breaks_the_protocol() {
    let animation = Data::ServerResponseAnimation(proto::ServerResponseAnimation::default());
    let frames = [
        (Message::Binary(greenroom::wire::encode(animation)), 1002),
        (Message::Binary(Bytes::from_static(b"not protobuf")), 1007),
        (Message::Text("{}".into()), 1003),
        (Message::Continuation(Item::FirstText(Bytes::from_static(b"{"))), 1003),
    ];
    for (frame, answer) in frames {
        let error = handshake(async |peer| {
            peer.send(frame).await;
            assert_eq!(peer.close_code().await, Some(answer));
        })
        .await;
        assert_eq!((error.code, error.close_code), (ErrorCode::ProtocolError, None), "{error:?}");
    }
}

#[actix_rt::test]
async fn an_error_and_the_close_behind_it_are_one_failure_and_the_services_close_code_outranks() {
    let error = handshake(async |peer| {
        peer.error(13, "", "something internal").await;
        peer.close(4001, "no credits").await;
        assert_eq!(peer.close_code().await, Some(4001));
    })
    .await;
    assert_eq!(error.code, ErrorCode::CreditsExhausted);
    assert_eq!(error.server_code.as_deref(), Some("13"));
    assert_eq!(error.server_detail.as_deref(), Some("something internal"));
    assert_eq!((error.close_code, error.close_reason.as_deref()), (Some(4001), Some("no credits")));
    assert_eq!(error.connection_id.as_deref(), Some("con-1"));
}

#[actix_rt::test]
async fn nothing_but_a_close_counts_after_an_error() {
    let error = handshake(async |peer| {
        peer.error(4003, "", "limit").await;
        peer.error(13, "", "another").await;
        peer.send(Message::Binary(Bytes::from_static(b"not protobuf"))).await;
        peer.say(Data::ServerConfirmSession(proto::ServerConfirmSession {
            connection_id: "con-1".into(),
            capabilities: Vec::new(),
        }))
        .await;
        peer.close(1000, "").await;
    })
    .await;
    assert_eq!((error.code, error.close_code), (ErrorCode::ConcurrencyLimit, Some(1000)));
    assert_eq!(error.server_detail.as_deref(), Some("limit"));
}

#[actix_rt::test]
async fn a_normal_close_behind_an_error_only_adds_its_code() {
    let error = handshake(async |peer| {
        peer.error(0, "", "unsupported sample rate: 1").await;
        peer.close(1011, "").await;
    })
    .await;
    assert_eq!(error.code, ErrorCode::UnsupportedSampleRate);
    assert_eq!((error.close_code, error.close_reason), (Some(1011), None));
}

#[actix_rt::test]
async fn an_error_without_a_close_waits_a_second_for_it_and_no_longer() {
    let started = Instant::now();
    let error = handshake(async |peer| {
        peer.error(4003, "", "limit").await;
        assert_eq!(peer.close_code().await, Some(1000));
    })
    .await;
    let took = started.elapsed();
    assert_eq!((error.code, error.close_code), (ErrorCode::ConcurrencyLimit, None));
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

#[actix_rt::test]
async fn a_close_before_the_confirmation_keeps_its_code() {
    let error = handshake(async |peer| {
        peer.close(4010, "session token expired").await;
        assert_eq!(peer.close_code().await, Some(4010));
    })
    .await;
    assert_eq!((error.code, error.close_code), (ErrorCode::SessionTokenExpired, Some(4010)));
    assert_eq!(error.close_reason.as_deref(), Some("session token expired"));
    let error = handshake(async |peer| peer.send(Message::Close(None)).await).await;
    assert_eq!((error.code, error.close_code), (ErrorCode::ConnectionClosed, Some(1005)));
}

#[actix_rt::test]
async fn a_socket_that_ends_before_the_confirmation_is_1006() {
    let server = Server::start().await;
    let (error, ()) = refused(server.config(), async {
        let mut peer = server.upgraded().await;
        peer.message().await;
    })
    .await;
    assert_eq!(error.phase, Phase::WebsocketHandshake);
    assert_eq!((error.code, error.close_code), (ErrorCode::ConnectionClosed, Some(1006)));
}

#[actix_rt::test]
async fn a_confirmation_that_never_comes_meets_the_deadline() {
    let server = Server::start().await;
    let mut config = server.config();
    config.deadlines.handshake = Duration::from_millis(300);
    let started = Instant::now();
    let (error, took) = refused(config, async {
        let mut peer = server.upgraded().await;
        peer.message().await;
        // Signs of life do not confirm anything.
        peer.send(Message::Ping(Bytes::new())).await;
        while peer.next().await.is_some() {}
        started.elapsed()
    })
    .await;
    assert_eq!((error.phase, error.code), (Phase::WebsocketHandshake, ErrorCode::ConnectionFailed));
    assert!(error.message.contains("300 ms"), "{}", error.message);
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

/// A connection that was upgraded without a configuration, and its other end.
async fn unconfigured(server: &Server) -> (Upgraded, WsPeer) {
    let client = Client::new(Arc::new(server.config()));
    let target = Target { configure: None, egress: Egress::Unknown, ..target() };
    let mut timings = Timings::default();
    let (result, peer) =
        tokio::join!(soon("the upgrade", client.connect(&target, &mut timings)), server.upgraded());
    assert!(timings.connect.is_some() && timings.handshake.is_none());
    (result.unwrap(), peer)
}

#[actix_rt::test]
async fn a_connection_that_is_not_configured_yet_answers_pings_and_is_configured_later() {
    let server = Server::start().await;
    let (mut upgraded, mut peer) = unconfigured(&server).await;
    peer.send(Message::Ping(Bytes::from_static(b"there?"))).await;
    // Cancelled and begun again, as by whoever looks after something else too.
    for _ in 0..2 {
        let waiting = tokio::time::timeout(Duration::from_millis(20), upgraded.ended()).await;
        assert!(waiting.is_err(), "{waiting:?}");
    }
    assert_eq!(peer.next().await, Some(Frame::Pong(Bytes::from_static(b"there?"))));

    let livekit = proto::ClientConfigureSession {
        egress_type: proto::EgressType::Livekit.into(),
        livekit_egress: Some(proto::LiveKitEgressConfig {
            api_token: "lk-hush".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let configure = wire::encode(Data::ClientConfigureSession(livekit));
    let mut timings = Timings::default();
    let (result, received) =
        tokio::join!(soon("the handshake", upgraded.configure(configure.clone(), &mut timings)), async {
            let received = peer.message().await;
            peer.say(Data::ServerError(proto::ServerError {
                code: 16,
                message: "lk-hush is unauthorized".into(),
                ..Default::default()
            }))
            .await;
            received
        });
    assert_eq!(received, configure);
    let error = result.expect_err("it was refused");
    // What the egress is, and what is secret in it, was only learned with the configuration.
    assert_eq!(error.code, ErrorCode::InvalidEgressConfig);
    assert!(!format!("{error:?}").contains("lk-hush"), "{error:?}");
    assert!(timings.handshake.is_some());
}

#[actix_rt::test]
async fn a_connection_that_is_not_configured_yet_notices_its_end() {
    let server = Server::start().await;
    let (mut upgraded, peer) = unconfigured(&server).await;
    drop(peer);
    let error = soon("the end", upgraded.ended()).await;
    assert_eq!((error.code, error.phase), (ErrorCode::ConnectionClosed, Phase::WebsocketHandshake));

    let (mut upgraded, mut peer) = unconfigured(&server).await;
    peer.say(Data::ServerError(proto::ServerError {
        code: 4001,
        message: "no".into(),
        ..Default::default()
    }))
    .await;
    let error = soon("the end", upgraded.ended()).await;
    assert_eq!(error.code, ErrorCode::CreditsExhausted);

    let (mut upgraded, mut peer) = unconfigured(&server).await;
    peer.say(Data::ServerConfirmSession(proto::ServerConfirmSession {
        connection_id: "too early".into(),
        ..Default::default()
    }))
    .await;
    let error = soon("the end", upgraded.ended()).await;
    assert_eq!(error.code, ErrorCode::ProtocolError);
}

#[actix_rt::test]
async fn a_confirmation_is_kept_as_it_came() {
    let server = Server::start().await;
    let (opened, _peer) = opened(&server, server.config()).await;
    let Ok(Some(Data::ServerConfirmSession(confirm))) = wire::decode(opened.confirm) else {
        panic!("it is no confirmation")
    };
    assert_eq!((confirm.connection_id.as_str(), confirm.capabilities.len()), ("con-1", 1));
}
