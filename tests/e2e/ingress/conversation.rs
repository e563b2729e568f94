//! What a drop-in client and the service say to each other, through Greenroom.

use greenroom::wire::{
    Data,
    proto::{ClientPause, ClientResume, server_playback_state::State},
};
use serde_json::json;

use super::client::{Client, Said, Upgrade};
use crate::world::{ACME, World, silence, until};

const REQUEST: &str = "20260101000000_aaaaaaaaaaaa";

#[actix_rt::test]
async fn a_clip_comes_back_as_the_service_sent_it() {
    let world = World::start("").await;
    for upgrade in
        [Upgrade::new(&world, ACME, "one").await, Upgrade::new(&world, ACME, "one").await.in_query()]
    {
        let (mut client, confirm) = upgrade.start().await;
        assert!(confirm.connection_id.starts_with("conn_"), "the service's own: {confirm:?}");
        assert_eq!(confirm.capabilities, ["playback_state", "playback_control"]);
        client.audio(REQUEST, silence(10), false).await;
        client.audio(REQUEST, silence(15), true).await;
        let frames = client.frames(REQUEST).await;
        assert_eq!(frames.len(), 25);
        assert!(frames.iter().all(|frame| frame.connection_id == confirm.connection_id));
        client.leave().await;
    }
    world.end().await;
}

/// A client in the middle of a long clip, some of which it has seen.
async fn speaking(world: &World) -> Client {
    let (mut client, _) = Upgrade::new(world, ACME, "one").await.start().await;
    client.audio(REQUEST, silence(500), true).await;
    client.frame().await;
    client
}

#[actix_rt::test]
async fn an_interrupt_ends_a_request_with_one_final_frame() {
    let world = World::in_real_time("").await;
    let mut client = speaking(&world).await;
    client.interrupt(REQUEST).await;
    assert!(client.frames(REQUEST).await.len() < 400);
    // What comes late for it is dropped, and the next request is the next to be heard of.
    client.audio(REQUEST, silence(1), true).await;
    client.audio("20260101000000_bbbbbbbbbbbb", silence(2), true).await;
    assert_eq!(client.frames("20260101000000_bbbbbbbbbbbb").await.len(), 2);
    client.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn an_interrupted_request_has_its_final_frame_though_its_connection_ends_first() {
    let world = World::in_real_time("").await;
    let mut client = speaking(&world).await;
    // The service neither reads nor says anything more.
    world.strike("one", &json!({"stall": {"ms": 60_000}}));
    client.interrupt(REQUEST).await;
    until("the interrupt to be taken", async || {
        match world.metric("greenroom_requests_total", &[("outcome", "interrupted"), ("tenant", ACME)]) {
            1.0 => Ok(()),
            seen => Err(seen.to_string()),
        }
    })
    .await;
    world.strike("one", &json!({"drop": {}}));
    let last = client.frames(REQUEST).await.pop().unwrap();
    assert!(last.animation.is_empty());
    client.audio("20260101000000_bbbbbbbbbbbb", silence(2), true).await;
    assert_eq!(client.frames("20260101000000_bbbbbbbbbbbb").await.len(), 2);
    client.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn a_request_that_broke_half_way_fails_by_name_and_the_session_goes_on() {
    for (setting, has_error) in [("error", true), ("end", false)] {
        let world = World::in_real_time(&format!("ingress.partial_failure = \"{setting}\"")).await;
        let mut client = speaking(&world).await;
        world.strike("one", &json!({"drop": {}}));
        let mut errors = Vec::new();
        loop {
            match client.hear().await {
                Said::Message(Data::ServerError(error)) => errors.push(error),
                Said::Message(Data::ServerResponseAnimation(frame)) if frame.end => {
                    assert_eq!((frame.req_id.as_str(), frame.animation.len()), (REQUEST, 0));
                    break;
                }
                Said::Message(Data::ServerResponseAnimation(_)) => {}
                said => panic!("{said:?}"),
            }
        }
        assert_eq!(errors.len(), usize::from(has_error), "{errors:?}");
        assert!(errors.iter().all(|error| error.req_id == REQUEST && error.code == 4503), "{errors:?}");
        client.audio("20260101000000_bbbbbbbbbbbb", silence(2), true).await;
        assert_eq!(client.frames("20260101000000_bbbbbbbbbbbb").await.len(), 2);
        client.leave().await;
        world.end().await;
    }
}

#[actix_rt::test]
async fn pauses_and_playback_states_go_through() {
    let world = World::in_real_time("").await;
    let mut client = Upgrade::new(&world, ACME, "one").await.connect().await.unwrap();
    let Data::ClientConfigureSession(mut configuration) = Client::configuration() else { unreachable!() };
    configuration.egress_type = 2;
    configuration.agora_egress = Some(greenroom::wire::proto::AgoraEgressConfig {
        channel_name: "channel".into(),
        token: "token".into(),
        ..Default::default()
    });
    client.say(Data::ClientConfigureSession(configuration)).await;
    client.confirmation().await;
    client.audio(REQUEST, silence(10), true).await;
    let mut states = Vec::new();
    let mut ends = 0;
    while states.last() != Some(&State::Ended) {
        match client.hear().await {
            Said::Message(Data::ServerPlaybackState(state)) => {
                states.push(state.state());
                let req_id = REQUEST.to_owned();
                match states.len() {
                    1 => client.say(Data::ClientPause(ClientPause { req_id })).await,
                    2 => client.say(Data::ClientResume(ClientResume { req_id })).await,
                    _ => {}
                }
            }
            Said::Message(Data::ServerResponseAnimation(frame)) => ends += usize::from(frame.end),
            said => panic!("{said:?}"),
        }
    }
    assert_eq!(states, [State::Playing, State::Paused, State::Playing, State::Ended]);
    assert_eq!(ends, 1, "the service says it twice, and Greenroom once");
    client.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn a_large_clip_is_one_message_and_messages_of_one_byte_are_as_good() {
    let world = World::start("").await;
    let (mut client, _) = Upgrade::new(&world, ACME, "one").await.start().await;
    // 90 s at 48 kHz.
    let clip = silence(6750);
    assert_eq!(clip.len(), 8_640_000);
    client.audio(REQUEST, clip, true).await;
    assert_eq!(client.frames(REQUEST).await.len(), 6750);
    let second = "20260101000000_bbbbbbbbbbbb";
    for byte in 0..2560 {
        client.audio(second, silence(1).slice(..1), byte == 2559).await;
    }
    assert_eq!(client.frames(second).await.len(), 2);
    client.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn a_good_bye_ends_the_session_and_is_answered_with_its_own_code() {
    use futures_util::SinkExt as _;
    use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
    let world = World::start("").await;
    for code in [Some(1000), Some(1001), None, Some(4321)] {
        let (mut client, _) = Upgrade::new(&world, ACME, "one").await.start().await;
        let frame = code.map(|code: u16| CloseFrame { code: code.into(), reason: "bye".into() });
        client.socket.send(Message::Close(frame)).await.unwrap();
        assert_eq!(client.hear().await, Said::Close(code, String::new()));
        until("the session's end", async || match world.live() {
            0 => Ok(()),
            live => Err(format!("{live} are live")),
        })
        .await;
    }
    world.end().await;
}
