//! Clients that do what they must not: each gets the service's own answer or a clear close, and no neighbour notices.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt as _;
use greenroom::wire::{
    self, Data,
    proto::{ServerConfirmSession, ServerResponseAnimation},
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data as Opcode, OpCode},
    },
};

use super::client::{Client, Said, Upgrade};
use crate::world::{ACME, GLOBEX, World, silence, until};

async fn connected(world: &World, avatar: &str) -> Client {
    Upgrade::new(world, ACME, avatar).await.connect().await.unwrap()
}

#[actix_rt::test]
async fn what_breaks_the_protocol_is_answered_as_the_service_answers_it() {
    let world = World::start("").await;
    let binary = |data| Message::Binary(wire::encode(data));
    let configure = || binary(Client::configuration());
    let nonsense = || Message::Binary(Bytes::from_static(b"not protobuf"));
    let text = || Message::text("{}");
    let server = || binary(Data::ServerConfirmSession(ServerConfirmSession::default()));
    let frame = || binary(Data::ServerResponseAnimation(ServerResponseAnimation::default()));
    let audio = |req_id: &str| {
        let (req_id, audio) = (req_id.to_owned(), silence(1));
        binary(Data::ClientAudioInput(wire::proto::ClientAudioInput { req_id, end: true, audio }))
    };
    for (first, second, close, says) in [
        (audio("r"), None, 1008, "expected ClientConfigureSession message"),
        (server(), None, 1008, "expected ClientConfigureSession message"),
        (nonsense(), None, 1008, "failed to unmarshal initial message"),
        (text(), None, 1003, "text frame"),
        (configure(), Some(configure()), 1008, "unexpected message type"),
        (configure(), Some(frame()), 1008, "unexpected message type"),
        (configure(), Some(nonsense()), 1007, "undecodable protobuf"),
        (configure(), Some(text()), 1003, "text frame"),
        (configure(), Some(audio("")), 1008, "audio without a req_id"),
    ] {
        let mut client = connected(&world, "one").await;
        client.send(first).await;
        if let Some(second) = second {
            client.confirmation().await;
            client.send(second).await;
        }
        let (error, code, reason) = client.end().await;
        let error = error.unwrap();
        assert_eq!((error.code, code), (3, close), "{reason}");
        assert!(error.message.contains(says) && reason.contains(says), "{error:?} {reason}");
    }
    world.end().await;
}

/// A client that writes its own bytes, after the upgrade was answered.
async fn raw(world: &World, avatar: &str) -> tokio::net::TcpStream {
    let upgrade = Upgrade::new(world, ACME, avatar).await;
    let mut socket = upgrade.socket().await;
    socket.write_all(upgrade.head().as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    socket
}

/// All that is said until the connection ends, which it does within the deadline.
async fn rest(socket: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(crate::world::DEADLINE, socket.read_to_end(&mut rest)).await;
    // A reset after the last word is an end too.
    let _ended = read.expect("the end of the connection");
    rest
}

/// Whether the bytes end with a close frame of this code.
fn closes_with(bytes: &[u8], code: u16) -> bool {
    let [high, low] = code.to_be_bytes();
    bytes.windows(4).any(|frame| frame[0] == 0x88 && frame[2] == high && frame[3] == low)
}

#[actix_rt::test]
async fn broken_framing_is_closed_and_ends() {
    let world = World::start("").await;
    for (bytes, what) in [
        (&[0x82_u8, 0x01, 0x00][..], "an unmasked frame"),
        (&[0xf2, 0x80, 0, 0, 0, 0], "reserved bits"),
        (&[0x83, 0x80, 0, 0, 0, 0], "an unknown opcode"),
        (&[0x80, 0x80, 0, 0, 0, 0], "a continuation of nothing"),
        (&[0x09, 0x80, 0, 0, 0, 0], "a fragmented ping"),
    ] {
        let mut socket = raw(&world, "one").await;
        socket.write_all(bytes).await.unwrap();
        let said = rest(&mut socket).await;
        assert!(closes_with(&said, 1002), "{what}: {said:?}");
    }
    world.end().await;
}

#[actix_rt::test]
async fn a_message_of_a_hundred_megabytes_is_refused_by_its_header() {
    let world = World::start("").await;
    let mut socket = raw(&world, "one").await;
    // FIN and binary; a mask and eight bytes of length; the mask; and nothing of the payload.
    let mut header = vec![0x82, 0xff];
    header.extend_from_slice(&(100_u64 << 20).to_be_bytes());
    header.extend_from_slice(&[1, 2, 3, 4]);
    socket.write_all(&header).await.unwrap();
    let said = rest(&mut socket).await;
    assert!(closes_with(&said, 1009), "{said:?}");
    // Who goes on sending is told all the same.
    let mut client = connected(&world, "two").await;
    client.configure().await;
    client.confirmation().await;
    let sent = client.socket.send(Message::Binary(vec![0; 100 << 20].into()));
    let _cut_off = tokio::time::timeout(crate::world::DEADLINE, sent).await.expect("an end of the sending");
    world.end().await;
}

#[actix_rt::test]
async fn fragments_are_joined_within_the_bound() {
    let world = World::start("ingress.max_message_bytes = 65536").await;
    let (mut client, _) = Upgrade::new(&world, ACME, "one").await.start().await;
    let audio = wire::proto::ClientAudioInput { req_id: "r-1".into(), end: true, audio: silence(4) };
    let message = wire::encode(Data::ClientAudioInput(audio));
    let piece = |bytes: &[u8], opcode, is_last| {
        Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(opcode), is_last))
    };
    client.send(piece(&message[..1], Opcode::Binary, false)).await;
    client.send(Message::Ping(Bytes::from_static(b"between"))).await;
    client.send(piece(&message[1..3000], Opcode::Continue, false)).await;
    client.send(piece(&message[3000..], Opcode::Continue, true)).await;
    assert_eq!(client.frames("r-1").await.len(), 4);
    client.send(piece(&[0; 40_000], Opcode::Binary, false)).await;
    client.send(piece(&[0; 40_000], Opcode::Continue, false)).await;
    let (error, close, _) = client.end().await;
    assert_eq!((error.map(|error| error.code), close), (Some(3), 1009));
    world.end().await;
}

/// Speaks until the server takes nothing more or has gone, and reads nothing.
async fn stuff(client: &mut Client) {
    let mut number = 0;
    loop {
        number += 1;
        let audio = wire::proto::ClientAudioInput {
            req_id: format!("20260101000000_{number:012}"),
            end: true,
            audio: silence(2000),
        };
        let message = Message::Binary(wire::encode(Data::ClientAudioInput(audio)));
        let sent = tokio::time::timeout(Duration::from_millis(500), client.socket.send(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Slow by the bytes that wait for it, and slow by the time that nothing was taken.
const SLOW: [&str; 2] = [
    "ingress.client_bytes = 65536\ningress.slow_client_ms = 60000",
    "ingress.client_bytes = 1000000000\ningress.slow_client_ms = 1000",
];
/// So much waits only once its socket takes nothing more.
const SLOW_AND_STUFFED: &str = "ingress.client_bytes = 200000\ningress.slow_client_ms = 60000";

async fn seat_is_empty(world: &World) {
    until("the seat to be empty", async || match world.metric("greenroom_clients", &[]) {
        0.0 => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
}

/// Its connection is cut a second after its last word, which is behind all that it has not read: whether it gets to
/// it is its own affair.
#[actix_rt::test]
async fn a_client_whose_socket_is_full_loses_its_seat_by_the_bytes_that_wait() {
    let world = World::start(SLOW_AND_STUFFED).await;
    let (mut client, _) = Upgrade::new(&world, ACME, "one").await.start().await;
    stuff(&mut client).await;
    seat_is_empty(&world).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_that_never_reads_loses_its_seat_and_is_told_why_if_it_looks() {
    for settings in SLOW {
        let world = World::start(settings).await;
        let (mut client, _) = Upgrade::new(&world, ACME, "one").await.start().await;
        stuff(&mut client).await;
        seat_is_empty(&world).await;
        let last = loop {
            match client.hear().await {
                Said::Message(_) => {}
                last @ (Said::Close(..) | Said::Ended) => break last,
            }
        };
        assert!(matches!(last, Said::Close(Some(1013), _)), "{settings} {last:?}");
        world.end().await;
    }
}

/// Whether the listener still has the connection of this client, as the kernel knows it.
#[cfg(target_os = "linux")]
fn is_served(world: &World, client: &Client) -> bool {
    let port = |address: std::net::SocketAddr| format!(":{:04X}", address.port());
    let (server, client) =
        (port(world.process.data_address()), port(client.socket.get_ref().local_addr().unwrap()));
    std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&server))
            && fields.next().is_some_and(|remote| remote.ends_with(&client))
    })
}

#[actix_rt::test]
#[cfg(target_os = "linux")]
async fn a_client_that_never_reads_is_cut_off() {
    let world = World::start(SLOW[1]).await;
    let (mut client, _) = Upgrade::new(&world, ACME, "one").await.start().await;
    stuff(&mut client).await;
    assert!(is_served(&world, &client));
    until("its connection to be gone", async || match is_served(&world, &client) {
        false => Ok(()),
        true => Err("it is there".into()),
    })
    .await;
    world.end().await;
}

/// The times from audio to its first frame, in ascending order.
async fn latencies(client: &mut Client, round: &str, count: usize) -> Vec<Duration> {
    let mut all = Vec::new();
    for number in 0..count {
        let req_id = format!("{round}_{number:012}");
        let begun = Instant::now();
        client.audio(&req_id, silence(1), true).await;
        assert_eq!(client.frames(&req_id).await.len(), 1);
        all.push(begun.elapsed());
    }
    all.sort();
    all
}

#[actix_rt::test]
async fn a_neighbours_frames_come_on_time_whatever_the_others_do() {
    let world = World::alone("ingress.client_bytes = 65536\ningress.slow_client_ms = 5000").await;
    let (mut neighbour, _) = Upgrade::new(&world, GLOBEX, "neighbour").await.start().await;
    let quiet = latencies(&mut neighbour, "quiet", 200).await;

    let (mut stuffed, _) = Upgrade::new(&world, ACME, "stuffed").await.start().await;
    stuff(&mut stuffed).await;
    let flooding = [
        Message::Ping(Bytes::from_static(b"ping")),
        // Of a type that nobody knows.
        Message::Binary(Bytes::from_static(&[0x08, 99])),
    ];
    let mut floods = Vec::new();
    for (number, message) in flooding.into_iter().enumerate() {
        let (mut client, _) = Upgrade::new(&world, ACME, &format!("flood-{number}")).await.start().await;
        floods.push(actix_rt::spawn(async move {
            // A burst at a time: the neighbour's client shares this thread.
            loop {
                for _ in 0..200 {
                    if client.socket.feed(message.clone()).await.is_err() {
                        return;
                    }
                }
                if client.socket.flush().await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    let (mut huge, _) = Upgrade::new(&world, ACME, "huge").await.start().await;
    let hundred_megabytes = actix_rt::spawn(async move {
        let _cut_off = huge.socket.send(Message::Binary(vec![0; 100 << 20].into())).await;
    });
    let flooded = latencies(&mut neighbour, "flooded", 200).await;
    floods.iter().for_each(tokio::task::JoinHandle::abort);
    hundred_megabytes.await.unwrap();
    let of = |all: &[Duration], percent: usize| all[all.len() * percent / 100];
    println!(
        "audio to frame: median {:?}, p90 {:?}; beside abusers {:?}, {:?}",
        of(&quiet, 50),
        of(&quiet, 90),
        of(&flooded, 50),
        of(&flooded, 90)
    );
    // Both cores are busy then; what must not be is a wait for somebody else's socket.
    assert!(of(&flooded, 90) < of(&quiet, 90) * 10 + Duration::from_millis(50), "{:?}", of(&flooded, 90));
    drop(stuffed);
    neighbour.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn audio_that_finds_no_room_is_not_read_on_and_fails_by_name() {
    let world = World::start("outbox.session_bytes = 65536").await;
    let (mut client, _) = Upgrade::new(&world, ACME, "one").await.start().await;
    // The service takes nothing more.
    world.strike("one", &json!({"stall": {"ms": 18_000}}));
    let begun = Instant::now();
    let mut clips = 0;
    let sender = async {
        loop {
            client.audio(&format!("20260101000000_{clips:012}"), silence(200), true).await;
            clips += 1;
        }
    };
    let _still_sending = tokio::time::timeout(Duration::from_secs(3), sender).await;
    // What the kernel holds on the way, and not what Greenroom does: a quarter of a megabyte each.
    assert!(clips < 80, "{clips} clips were taken");
    let said = client.hear_within(Duration::from_secs(20)).await;
    let after = begun.elapsed();
    let Some(Said::Message(Data::ServerError(error))) = said else { panic!("{said:?}") };
    assert!(after > Duration::from_secs(14), "{after:?}");
    assert!(error.message.contains("no room for 15 s") || error.code == 4503, "{error:?}");
    let last = client.frame().await;
    assert!(last.end && last.req_id == error.req_id, "{last:?}");
    drop(client);
    world.end().await;
}
