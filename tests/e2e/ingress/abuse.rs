//! Clients that do what they must not: each gets the service's own answer or a clear close, and no neighbour notices.

use bytes::Bytes;
use greenroom::wire::{
    self, Data,
    proto::{ServerConfirmSession, ServerResponseAnimation},
};
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Upgrade};
use crate::world::{ACME, World, silence};

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
