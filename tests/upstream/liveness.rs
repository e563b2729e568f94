//! Pings and half-open connections, with short times.

use std::time::{Duration, Instant};

use actix_http::ws::{Frame, Message};
use bytes::Bytes;
use greenroom::{
    errors::{ErrorCode, Phase},
    recovery::Policy,
    upstream::{Opened, SocketEvent, UpstreamConfig},
};

use crate::server::{Server, opened, soon};

fn quick(server: &Server) -> UpstreamConfig {
    let mut config = server.config();
    config.ping_every = Duration::from_millis(100);
    config.half_open_after = Duration::from_millis(300);
    config
}

#[actix_rt::test]
async fn a_connection_on_which_nothing_comes_is_half_open() {
    let server = Server::start().await;
    // Held, but neither read nor answered.
    let (Opened { mut socket, .. }, _peer) = opened(&server, quick(&server)).await;
    let started = Instant::now();
    let event = soon("the end", socket.next(&Policy::default())).await;
    let SocketEvent::Ended(error) = event else { panic!("the end was due, not {event:?}") };
    assert!((200..3000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert_eq!((error.phase, error.code), (Phase::WebsocketRuntime, ErrorCode::ConnectionClosed));
    assert_eq!(error.close_code, Some(1006));
    assert!(error.message.contains("half-open"), "{}", error.message);
}

#[actix_rt::test]
async fn pongs_keep_an_idle_connection_alive() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, quick(&server)).await;
    let policy = Policy::default();
    tokio::select! {
        event = socket.next(&policy) => panic!("a live connection ended: {event:?}"),
        () = async {
            // Twelve pings are four times the time after which silence ends a connection.
            for _ in 0..12 {
                let Some(Frame::Ping(content)) = peer.next().await else { panic!("a ping was due") };
                peer.send(Message::Pong(content)).await;
            }
        } => {}
    }
}

#[actix_rt::test]
async fn bytes_of_a_message_that_is_not_complete_are_a_sign_of_life() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, quick(&server)).await;
    peer.raw(&[0x82, 126, 1, 0]).await;
    let policy = Policy::default();
    tokio::select! {
        event = socket.next(&policy) => panic!("a live connection ended: {event:?}"),
        () = async {
            for _ in 0..12 {
                assert_eq!(peer.next().await, Some(Frame::Ping(Bytes::new())));
                peer.raw(&[0]).await;
            }
        } => {}
    }
}
