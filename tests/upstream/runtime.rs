//! A confirmed connection: requests that fail, and every way in which a connection ends.

use std::time::{Duration, Instant};

use actix_http::ws::Message;
use bytes::Bytes;
use greenroom::{
    errors::{Action, ErrorCode, Phase, SessionError},
    recovery::Policy,
    upstream::{Opened, Socket, SocketEvent},
    wire::{Data, proto},
};

use crate::server::{Server, WsPeer, always, opened, soon};

fn animation(req_id: &str) -> Data {
    Data::ServerResponseAnimation(proto::ServerResponseAnimation {
        req_id: req_id.into(),
        ..Default::default()
    })
}

async fn next(socket: &mut Socket) -> SocketEvent {
    soon("an event", socket.next(&Policy::default())).await
}

/// The error of a connection that ends, with every frame before it dropped.
async fn ended(socket: &mut Socket, policy: &Policy) -> SessionError {
    soon("the end", async {
        loop {
            if let SocketEvent::Ended(error) = socket.next(policy).await {
                assert_eq!(error.connection_id.as_deref(), Some("con-1"));
                return *error;
            }
        }
    })
    .await
}

/// A confirmed connection to which the service does `script`, and how it ended.
async fn ends_by(policy: Policy, script: impl AsyncFnOnce(&mut WsPeer)) -> SessionError {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    let (error, ()) = tokio::join!(
        async {
            let error = ended(&mut socket, &policy).await;
            drop(socket);
            error
        },
        async {
            script(&mut peer).await;
            while peer.next().await.is_some() {}
        }
    );
    error
}

#[actix_rt::test]
async fn an_error_that_names_a_request_fails_only_that_request() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    peer.error(14, "req-1", "animate unavailable").await;
    peer.say(animation("req-2")).await;
    let SocketEvent::RequestFailed { error, bytes: _ } = next(&mut socket).await else {
        panic!("no request failed")
    };
    assert_eq!(error.req_id.as_deref(), Some("req-1"));
    assert_eq!(error.connection_id.as_deref(), Some("con-1"));
    assert_eq!((error.phase, error.code), (Phase::WebsocketRuntime, ErrorCode::UpstreamError));
    assert_eq!(error.server_code.as_deref(), Some("14"));
    assert_eq!(error.close_code, None);
    assert!(matches!(next(&mut socket).await, SocketEvent::Animation { .. }), "the connection must go on");
}

#[actix_rt::test]
async fn an_error_that_names_a_request_ends_the_connection_where_the_policy_does_not_restart() {
    let error = ends_by(always(Action::Park), async |peer| {
        peer.error(14, "req-1", "animate unavailable").await;
        peer.close(1011, "").await;
    })
    .await;
    assert_eq!((error.req_id.as_deref(), error.close_code), (Some("req-1"), Some(1011)));
    assert_eq!(error.code, ErrorCode::UpstreamError);
}

#[actix_rt::test]
async fn an_error_without_a_request_and_the_close_behind_it_are_one_failure() {
    let error = ends_by(always(Action::Restart), async |peer| {
        peer.error(13, "", "internal").await;
        peer.error(4001, "", "another").await;
        peer.close(4002, "maximum session duration").await;
        assert_eq!(peer.close_code().await, Some(4002));
    })
    .await;
    assert_eq!((error.code, error.close_code), (ErrorCode::SessionDurationExceeded, Some(4002)));
    assert_eq!(error.server_code.as_deref(), Some("13"), "the first error counts");
    assert_eq!(error.phase, Phase::WebsocketRuntime);
}

#[actix_rt::test]
async fn frames_are_delivered_while_an_error_waits_for_its_close_which_is_a_second_at_most() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    let started = Instant::now();
    peer.error(16, "", "unauthorized").await;
    peer.error(13, "req-9", "spared otherwise, but this connection ends").await;
    peer.say(animation("late")).await;
    assert!(matches!(next(&mut socket).await, SocketEvent::Animation { .. }));
    let error = ended(&mut socket, &Policy::default()).await;
    let took = started.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!((error.code, error.close_code), (ErrorCode::SessionTokenInvalid, None));
    assert_eq!(peer.close_code().await, Some(1000));
}

#[actix_rt::test]
async fn an_end_is_said_again_to_whoever_asks_again_and_nothing_more_is_taken() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    peer.close(1001, "bye").await;
    let first = ended(&mut socket, &Policy::default()).await;
    assert_eq!(ended(&mut socket, &Policy::default()).await, first);
    assert!(socket.send(Bytes::from_static(b"x")).is_err());
}

#[actix_rt::test]
async fn every_close_code_ends_the_connection_and_is_answered() {
    for (sent, code) in [
        (1000, ErrorCode::ConnectionClosed),
        (1001, ErrorCode::ConnectionClosed),
        (1012, ErrorCode::ConnectionClosed),
        (4001, ErrorCode::CreditsExhausted),
        (4003, ErrorCode::ConcurrencyLimit),
        (4503, ErrorCode::UpstreamError),
    ] {
        let error = ends_by(Policy::default(), async |peer| {
            peer.close(sent, "").await;
            assert_eq!(peer.close_code().await, Some(sent));
        })
        .await;
        assert_eq!((error.code, error.close_code), (code, Some(sent)));
    }
    let error = ends_by(Policy::default(), async |peer| {
        peer.send(Message::Close(None)).await;
        assert_eq!(peer.close_code().await, None);
    })
    .await;
    assert_eq!((error.code, error.close_code), (ErrorCode::ConnectionClosed, Some(1005)));
}

#[actix_rt::test]
async fn a_socket_that_ends_or_is_reset_without_a_close_is_1006() {
    for is_reset in [false, true] {
        let server = Server::start().await;
        let (Opened { mut socket, .. }, peer) = opened(&server, server.config()).await;
        let stream = peer.framed.into_parts().io;
        if is_reset {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        let error = ended(&mut socket, &Policy::default()).await;
        assert_eq!((error.code, error.close_code), (ErrorCode::ConnectionClosed, Some(1006)));
        assert_eq!(error.message.contains("reset"), is_reset, "{}", error.message);
    }
}

#[actix_rt::test]
async fn a_close_that_came_before_a_reset_is_still_heard() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    peer.close(4001, "credits").await;
    let stream = peer.framed.into_parts().io;
    stream.set_zero_linger().unwrap();
    drop(stream);
    socket.send(Bytes::from_static(b"into the void")).unwrap();
    assert_eq!(ended(&mut socket, &Policy::default()).await.code, ErrorCode::CreditsExhausted);
}

#[actix_rt::test]
async fn what_breaks_the_protocol_ends_the_connection_and_is_told_why() {
    let huge = [0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0];
    let long_ping = [0x89, 126, 1, 0];
    let masked = [0x82, 0x81, 1, 2, 3, 4, 5];
    let frames: [(&[u8], u16, &str); 7] = [
        (&[0x81, 2, b'h', b'i'], 1003, "text message"),
        (&[0x01, 2, b'h', b'i'], 1003, "text message"),
        (&[0x82, 3, 1, 2, 3], 1007, "protobuf"),
        (&[0x82, 2, 0x08, 5], 1007, "without its content"),
        (&huge, 1009, "more than 16777216 bytes"),
        (&long_ping, 1002, "control frame"),
        (&masked, 1002, "masked"),
    ];
    for (bytes, answer, what) in frames {
        let error = ends_by(Policy::default(), async |peer| {
            peer.raw(bytes).await;
            assert_eq!(peer.close_code().await, Some(answer), "{what}");
        })
        .await;
        assert_eq!((error.code, error.close_code), (ErrorCode::ProtocolError, None), "{error:?}");
        assert!(error.message.contains(what), "{what}: {}", error.message);
    }
}

#[actix_rt::test]
async fn closing_sends_what_waits_then_1000_and_waits_for_the_answer() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    socket.send(Bytes::from_static(b"last words")).unwrap();
    let started = Instant::now();
    tokio::join!(socket.close(), async {
        assert_eq!(peer.message().await, Bytes::from_static(b"last words"));
        assert_eq!(peer.close_code().await, Some(1000));
        peer.say(animation("too late, dropped")).await;
        peer.close(1000, "").await;
        assert_eq!(peer.next().await, None, "the socket must be gone after the answer");
    });
    assert!(started.elapsed() < Duration::from_secs(1), "an answered close waits for nothing");
}

#[actix_rt::test]
async fn closing_a_connection_whose_peer_is_silent_takes_a_second() {
    let server = Server::start().await;
    let (Opened { socket, .. }, mut peer) = opened(&server, server.config()).await;
    let started = Instant::now();
    soon("the close", socket.close()).await;
    let took = started.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert_eq!(peer.close_code().await, Some(1000));
    assert_eq!(peer.next().await, None);
}
