//! Messages both ways: large ones, fragments, and writes that block.

use std::time::Duration;

use actix_http::ws::{Frame, Item, Message};
use bytes::Bytes;
use greenroom::{
    errors::{ErrorCode, Phase},
    recovery::Policy,
    upstream::{Opened, SendRefused, Socket, SocketEvent},
    wire::{self, Data, proto},
};

use crate::server::{Server, WsPeer, opened, soon};

/// An encoded frame of animation of `length` bytes that are not all the same.
fn animation(length: u32) -> Bytes {
    let animation: Vec<u8> = (0..length).map(|index| index.wrapping_mul(31).to_be_bytes()[1]).collect();
    wire::encode(Data::ServerResponseAnimation(proto::ServerResponseAnimation {
        req_id: "req-1".into(),
        animation: animation.into(),
        ..Default::default()
    }))
}

async fn frame(socket: &mut Socket) -> Bytes {
    match soon("a frame", socket.next(&Policy::default())).await {
        SocketEvent::Animation { bytes, .. } => bytes,
        other => panic!("a frame was due, not {other:?}"),
    }
}

/// The message that `peer` reads while `socket` writes it, and says once that it has room. That comes before the last bytes
/// are gone, so that the socket is polled on.
async fn taken(socket: &mut Socket, peer: &mut WsPeer) -> Bytes {
    let policy = Policy::default();
    let mut reading = std::pin::pin!(peer.message());
    tokio::select! {
        biased;
        event = soon("room", socket.next(&policy)) => assert!(matches!(event, SocketEvent::Room), "{event:?}"),
        _ = &mut reading => panic!("all of it was written, and no room was told of"),
    }
    tokio::select! {
        message = reading => message,
        event = socket.next(&policy) => panic!("the rest is written without a word, not with {event:?}"),
    }
}

#[actix_rt::test]
async fn a_message_is_delivered_as_the_bytes_that_came_without_a_copy() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    let mut sent = animation(1000).to_vec();
    // Field 15 of the envelope is unknown here, and must pass through unharmed.
    sent.extend([0x78, 0x2a]);
    peer.send(Message::Binary(sent.clone().into())).await;
    match soon("a frame", socket.next(&Policy::default())).await {
        SocketEvent::Frame { data, bytes } => {
            let Data::ServerResponseAnimation(data) = *data else { panic!("a frame was due, not {data:?}") };
            assert_eq!(bytes, sent);
            assert!(bytes.as_ptr_range().contains(&data.animation.as_ptr()), "the payload was copied");
        }
        other => panic!("a frame was due, not {other:?}"),
    }
}

#[actix_rt::test]
async fn messages_that_are_not_known_are_passed_over() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    peer.send(Message::Binary(Bytes::from_static(&[0x08, 0x7f]))).await;
    peer.send(Message::Binary(animation(1))).await;
    assert_eq!(frame(&mut socket).await, animation(1));
}

#[actix_rt::test]
async fn pings_are_answered_with_their_own_content() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    let policy = Policy::default();
    tokio::select! {
        event = socket.next(&policy) => panic!("a ping is no event: {event:?}"),
        () = async {
            for content in [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![7; 125])] {
                peer.send(Message::Ping(content.clone())).await;
                assert_eq!(peer.next_quiet().await, Some(Frame::Pong(content)));
            }
        } => {}
    }
}

#[actix_rt::test]
async fn fragments_are_joined_with_control_frames_between_them() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    let whole = animation(3 << 20);
    let (received, ()) = tokio::join!(frame(&mut socket), async {
        let third = whole.len() / 3;
        peer.send(Message::Continuation(Item::FirstBinary(whole.slice(..third)))).await;
        peer.send(Message::Ping(Bytes::from_static(b"between"))).await;
        peer.send(Message::Continuation(Item::Continue(whole.slice(third..2 * third)))).await;
        peer.send(Message::Continuation(Item::Last(whole.slice(2 * third..)))).await;
    });
    assert!(received == whole, "{} bytes of {} came", received.len(), whole.len());
}

#[actix_rt::test]
async fn fragments_together_are_bound_as_one_message_is() {
    let server = Server::start().await;
    let mut config = server.config();
    config.max_message_bytes = 100_000;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, config).await;
    let piece = Bytes::from(vec![1; 60_000]);
    peer.send(Message::Continuation(Item::FirstBinary(piece.clone()))).await;
    peer.send(Message::Continuation(Item::Last(piece))).await;
    match soon("the end", socket.next(&Policy::default())).await {
        SocketEvent::Ended(error) => assert_eq!(error.code, ErrorCode::ProtocolError),
        other => panic!("the end was due, not {other:?}"),
    }
    assert_eq!(peer.close_code().await, Some(1009));
}

#[actix_rt::test]
async fn a_15_mb_message_goes_both_ways() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    let large = animation(15_000_000);
    socket.send(large.clone()).unwrap();
    assert!(!socket.has_room());
    let (received, echoed) = tokio::join!(
        async {
            assert!(matches!(soon("room", socket.next(&Policy::default())).await, SocketEvent::Room));
            assert!(socket.has_room());
            frame(&mut socket).await
        },
        async {
            let message = peer.message().await;
            peer.send(Message::Binary(message.clone())).await;
            message
        }
    );
    assert!(echoed == large, "{} bytes of {} went out", echoed.len(), large.len());
    assert!(received == large, "{} bytes of {} came back", received.len(), large.len());
}

#[actix_rt::test]
async fn what_is_too_long_or_too_much_is_not_taken_and_comes_back() {
    let server = Server::start().await;
    let mut config = server.config();
    config.max_message_bytes = 300_000;
    let (Opened { mut socket, .. }, _peer) = opened(&server, config).await;
    let too_long = socket.send(Bytes::from(vec![0; 300_001]));
    assert!(matches!(too_long, Err(SendRefused::TooLong { bytes: 300_001, max: 300_000 })), "{too_long:?}");
    socket.send(Bytes::from(vec![0; 300_000])).unwrap();
    match socket.send(Bytes::from_static(b"one more")) {
        Err(SendRefused::Full(back)) => assert_eq!(back, "one more"),
        other => panic!("the buffer must be full, not {other:?}"),
    }
}

#[actix_rt::test]
async fn a_blocked_write_never_stops_reading() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    // The service reads nothing yet; 16 MB are more than the kernel buffers of both sides.
    socket.send(Bytes::from(vec![1; 16 << 20])).unwrap();
    for length in 1..=20 {
        peer.send(Message::Binary(animation(length))).await;
        assert_eq!(frame(&mut socket).await, animation(length));
    }
    assert!(!socket.has_room(), "the service has read nothing");
    assert_eq!(taken(&mut socket, &mut peer).await.len(), 16 << 20);
}

#[actix_rt::test]
async fn a_peer_that_takes_no_bytes_is_given_up_after_the_stall() {
    let server = Server::start().await;
    let mut config = server.config();
    config.write_stall = Duration::from_millis(300);
    let (Opened { mut socket, .. }, mut peer) = opened(&server, config).await;
    socket.send(Bytes::from(vec![1; 16 << 20])).unwrap();
    let started = std::time::Instant::now();
    // Frames keep coming: it is the writing alone that ends the connection.
    let error = soon("the end", async {
        loop {
            peer.send(Message::Binary(animation(1))).await;
            match socket.next(&Policy::default()).await {
                SocketEvent::Animation { .. } => {}
                SocketEvent::Ended(error) => break error,
                other => panic!("neither frame nor end: {other:?}"),
            }
        }
    })
    .await;
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    assert_eq!((error.phase, error.code), (Phase::WebsocketSend, ErrorCode::ConnectionClosed));
    assert_eq!(error.close_code, Some(1006));
}

/// Polls the socket once, after which it knows its task; nothing happens on it.
async fn polled(socket: &mut Socket) {
    let policy = Policy::default();
    assert!(futures_util::poll!(std::pin::pin!(socket.next(&policy))).is_pending());
}

#[actix_rt::test]
async fn what_is_written_at_once_goes_out_though_nobody_polls() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    socket.send(animation(1)).unwrap();
    assert!(!socket.write_now(), "no task polls yet that could go on with it");
    polled(&mut socket).await;
    assert_eq!(peer.message().await, animation(1));
    socket.send(animation(2)).unwrap();
    assert!(socket.write_now(), "the kernel takes so little at once");
    assert_eq!(soon("the message", peer.message()).await, animation(2));
}

#[actix_rt::test]
async fn what_the_system_does_not_take_at_once_is_left_to_the_task_that_polls() {
    let server = Server::start().await;
    let (Opened { mut socket, .. }, mut peer) = opened(&server, server.config()).await;
    polled(&mut socket).await;
    socket.send(Bytes::from(vec![1; 16 << 20])).unwrap();
    assert!(!socket.write_now(), "16 MB are more than the kernel buffers of both sides");
    assert_eq!(taken(&mut socket, &mut peer).await.len(), 16 << 20);

    // On a connection of its own: where much was read, the kernel may have made room for so much more.
    let mut config = server.config();
    config.write_stall = Duration::from_millis(300);
    let (Opened { mut socket, .. }, _peer) = opened(&server, config).await;
    polled(&mut socket).await;
    socket.send(Bytes::from(vec![1; 16 << 20])).unwrap();
    assert!(!socket.write_now());
    match soon("the end", socket.next(&Policy::default())).await {
        SocketEvent::Ended(error) => assert_eq!(error.phase, Phase::WebsocketSend),
        other => panic!("a peer that takes nothing must be given up, not {other:?}"),
    }
}
