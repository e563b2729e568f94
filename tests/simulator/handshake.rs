//! The first message, and what breaks the protocol.

use actix_http::ws::{Item, Message};
use bytes::Bytes;
use greenroom::{
    simulator::Pace,
    wire::{
        self, Data,
        proto::{AudioFormat, ClientConfigureSession, ClientInterrupt, EgressType, LiveKitEgressConfig},
    },
};

use crate::client::{Client, Seen, fast, until, with};

async fn opened(simulator: &greenroom::simulator::Simulator) -> Client {
    Client::open(simulator, "a").await.ok().unwrap()
}

#[tokio::test]
async fn a_confirm_names_a_connection_of_its_own_and_the_capabilities() {
    let simulator = fast().await;
    let one = Client::session(&simulator, "a").await;
    let two = Client::session(&simulator, "b").await;
    assert_ne!(one.connection_id, two.connection_id);
    assert_eq!(one.capabilities, ["playback_state", "playback_control"]);
    let plain = with(|config| config.capabilities.clear()).await;
    assert!(Client::session(&plain, "a").await.capabilities.is_empty());
}

#[tokio::test]
async fn a_rate_that_the_format_does_not_have_is_refused() {
    let simulator = fast().await;
    let mut client = opened(&simulator).await;
    client.configure(|configure| configure.sample_rate = 12_000).await;
    assert_eq!(client.error().await, (0, "unsupported sample rate: 12000".into()));
    client.closed().await;
    let opus = |configure: &mut ClientConfigureSession| {
        configure.sample_rate = 12_000;
        configure.audio_format = AudioFormat::OggOpus as i32;
    };
    Client::configured(&simulator, "a", opus).await;
    assert_eq!(simulator.stats().violations.total, 0);
}

#[tokio::test]
async fn livekit_credentials_are_judged_by_form() {
    let simulator = fast().await;
    // {"alg":"HS256"} . {"exp":1} . any
    for (api_token, code, says) in [
        ("", 3, "missing livekit credentials"),
        ("no-jwt", 16, "unauthorized"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln", 16, "expired"),
    ] {
        let mut client = opened(&simulator).await;
        let api_token = api_token.to_owned();
        client
            .configure(|configure| {
                configure.egress_type = EgressType::Livekit as i32;
                configure.livekit_egress = Some(LiveKitEgressConfig { api_token, ..Default::default() });
            })
            .await;
        let (got, message) = client.error().await;
        assert_eq!(got, code);
        assert!(message.contains("livekit") && message.contains(says), "{message}");
        client.closed().await;
    }
}

#[tokio::test]
async fn another_first_message_is_refused_with_the_services_text() {
    let simulator = fast().await;
    let interrupt = wire::encode(Data::ClientInterrupt(ClientInterrupt::default()));
    for (message, says) in [
        (interrupt, "expected ClientConfigureSession message"),
        (Bytes::from_static(&[0x08, 0x01]), "ClientConfigureSession message is nil"),
        (Bytes::from_static(b"nonsense"), "failed to unmarshal initial message"),
    ] {
        let mut client = opened(&simulator).await;
        client.send_raw(Message::Binary(message)).await;
        assert!(client.error().await.1.starts_with(says));
        assert_eq!(client.closed().await, 1008);
    }
    assert_eq!(simulator.stats().violations.total, 3);
}

#[tokio::test]
async fn a_text_frame_and_undecodable_bytes_end_the_connection_as_violations() {
    let simulator = fast().await;
    let mut client = opened(&simulator).await;
    client.send_raw(Message::Text("{}".into())).await;
    assert!(client.error().await.1.contains("text frame"));
    assert_eq!(client.closed().await, 1003);
    let mut client = Client::session(&simulator, "a").await;
    client.send_raw(Message::Binary(Bytes::from_static(b"\x12\x64nonsense"))).await;
    assert!(client.error().await.1.contains("undecodable"));
    assert_eq!(client.closed().await, 1007);
    let violations = simulator.stats().violations;
    assert_eq!(violations.total, 2);
    assert!(violations.last[0].contains("text frame") && violations.last[0].contains("(a)"));
}

#[tokio::test]
async fn a_second_configuration_and_the_servers_own_messages_are_violations() {
    let simulator = fast().await;
    let configure = Data::ClientConfigureSession(ClientConfigureSession::default());
    let confirm = Data::ServerConfirmSession(wire::proto::ServerConfirmSession::default());
    for data in [configure, confirm] {
        let mut client = Client::session(&simulator, "a").await;
        client.send(data).await;
        assert!(client.error().await.1.contains("unexpected message type"));
        assert_eq!(client.closed().await, 1008);
    }
    assert_eq!(simulator.stats().violations.total, 2);
}

#[tokio::test]
async fn unknown_message_types_are_ignored() {
    let simulator = fast().await;
    let mut client = Client::session(&simulator, "a").await;
    client.send_raw(Message::Binary(Bytes::from_static(&[0x08, 0x7f]))).await;
    client.audio("r", 100, true).await;
    assert_eq!(client.frames("r").await.len(), 1);
    assert_eq!(simulator.stats().violations.total, 0);
}

#[tokio::test]
async fn a_ping_is_answered_and_a_close_too() {
    let simulator = fast().await;
    let mut client = Client::session(&simulator, "a").await;
    client.send_raw(Message::Ping(Bytes::from_static(b"are you there"))).await;
    assert_eq!(client.next().await, Seen::Pong(Bytes::from_static(b"are you there")));
    client.send_raw(Message::Close(Some(actix_http::ws::CloseCode::Normal.into()))).await;
    assert_eq!(client.next().await, Seen::Close(Some((1000, String::new()))));
    assert_eq!(client.next().await, Seen::End);
    until(&simulator, |stats| stats.connections.live == 0).await;
}

#[tokio::test]
async fn a_message_of_sixteen_mebibytes_is_taken_whole_or_in_fragments_and_no_more() {
    // At the fast pace as much animation would come back, which this client does not read.
    let simulator = with(|config| config.pace = Pace::Realtime).await;
    let mut client = Client::session(&simulator, "a").await;
    let size = 15 * 1024 * 1024;
    client.audio("whole", size, false).await;
    let audio = Bytes::from(vec![0; size]);
    let input = wire::proto::ClientAudioInput { req_id: "parts".into(), end: false, audio };
    let bytes = wire::encode(Data::ClientAudioInput(input));
    let (half, end) = (bytes.len() / 2, bytes.len() - 10);
    client.send_raw(Message::Continuation(Item::FirstBinary(bytes.slice(..half)))).await;
    client.send_raw(Message::Continuation(Item::Continue(bytes.slice(half..end)))).await;
    client.send_raw(Message::Continuation(Item::Last(bytes.slice(end..)))).await;
    let stats = until(&simulator, |stats| stats.requests.len() == 2).await;
    assert_eq!(stats.requests["whole"].audio_bytes, size as u64);
    assert_eq!(stats.requests["parts"].audio_bytes, size as u64);
    let mut client = Client::session(&simulator, "b").await;
    // The length alone is enough for the refusal: 17 MiB are announced.
    let mut head = vec![0x82, 0xff];
    head.extend_from_slice(&(17_u64 * 1024 * 1024).to_be_bytes());
    head.extend_from_slice(&[0; 8]);
    tokio::io::AsyncWriteExt::write_all(&mut client.stream, &head).await.unwrap();
    let seen = client.next().await;
    assert!(matches!(seen, Seen::Close(Some((1009, _)))), "{seen:?}");
}
