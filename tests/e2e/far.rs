//! Audio that comes on another thread than its session's: by the admin listener, whose threads no session lives on.
//!
//! But for the first piece and the last, whether a piece was taken is read as the next one is there.

use std::io;

use actix_http::Method;
use bytes::Bytes;
use greenroom::simulator::{Digest, Happening};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::world::{ACME, ADMIN_KEY, World, silence, until};

/// Pieces of a body that is under way, until it is dropped.
type Pieces = UnboundedSender<Result<Bytes, io::Error>>;

fn upload(world: &World, id: &str, query: &str) -> (Pieces, awc::SendClientRequest) {
    let (pieces, body) = unbounded_channel();
    let body =
        futures_util::stream::unfold(
            body,
            |mut body| async move { body.recv().await.map(|piece| (piece, body)) },
        );
    let url = format!("http://{}/v1/sessions/{id}/requests{query}", world.process.admin_address());
    (pieces, world.request(Method::POST, &url, ADMIN_KEY).send_stream(Box::pin(body)))
}

/// Audio that is not the same anywhere: a piece that is missing, twice or in another's place is seen.
fn speech(bytes: usize) -> Bytes {
    (0..bytes as u32).map(|at| at.wrapping_mul(0x9e37_79b1).to_be_bytes()[0]).collect::<Vec<u8>>().into()
}

/// That the service has heard `audio`, and nothing else.
fn check_heard(world: &World, audio: &[u8]) {
    let mut expected = Digest::default();
    expected.feed(audio);
    let events = world.simulator.record().into_iter();
    let heard: Vec<_> = events
        .filter_map(|event| match event.what {
            Happening::Audio { bytes, digest, .. } => Some((bytes, digest)),
            Happening::TokenGiven
            | Happening::TokenRefused { .. }
            | Happening::UpgradeGranted
            | Happening::UpgradeRefused { .. }
            | Happening::Confirmed
            | Happening::Frames { .. }
            | Happening::ErrorSent { .. }
            | Happening::CloseSent { .. }
            | Happening::CloseReceived { .. }
            | Happening::Dropped { .. }
            | Happening::Left
            | Happening::FaultStruck { .. } => None,
        })
        .collect();
    assert_eq!(heard, [(audio.len() as u64, expected)]);
}

async fn heard_some(world: &World) {
    until("the service to have audio", async || {
        if world.simulator.stats().audio_bytes > 0 { Ok(()) } else { Err("none yet".to_owned()) }
    })
    .await;
}

#[actix_rt::test]
async fn it_arrives_whole_and_in_its_order() {
    let world = World::start("").await;
    let id = world.running(ACME, "speaker").await;
    let audio = speech(200 * 1280);
    let (pieces, sent) = upload(&world, &id, "?wait=true");
    // Odd pieces: samples are cut in two on the way.
    for piece in audio.chunks(777) {
        pieces.send(Ok(Bytes::copy_from_slice(piece))).unwrap();
    }
    drop(pieces);
    let request = world.call(sent).await.expect(200);
    assert_eq!((&request["outcome"], &request["frame_count"]), (&json!("completed"), &json!(200)));
    check_heard(&world, &audio);
    world.end().await;
}

#[actix_rt::test]
async fn what_finds_no_room_is_offered_again_until_it_does() {
    let world = World::start("GREENROOM_TENANTS__0__OUTBOX_BYTES=1048576").await;
    // Nothing is connected, so that what is sent waits.
    world.admin(Method::POST, "/v1/upstreams/primary/open", &Value::Null).await.expect(200);
    let id = world.create(ACME, "speaker", &json!({})).await;
    let audio = speech(1000 * 1280);
    let (pieces, sent) = upload(&world, &id, "?end=false");
    for piece in audio.chunks(1280) {
        pieces.send(Ok(Bytes::copy_from_slice(piece))).unwrap();
    }
    drop(pieces);
    let serve = async {
        until("the outbox to be full", async || {
            let waiting = world.metric("greenroom_outbox_bytes", &[]);
            if waiting > f64::from((1 << 20) - (64 << 10)) { Ok(()) } else { Err(waiting.to_string()) }
        })
        .await;
        world.admin(Method::POST, "/v1/upstreams/primary/close", &Value::Null).await.expect(200);
    };
    let (answer, ()) = tokio::join!(world.call(sent), serve);
    let accepted = answer.expect(202);
    assert_eq!(accepted["audio_bytes"], audio.len());
    let last = format!("?wait=true&req_id={}", accepted["req_id"].as_str().unwrap());
    let (pieces, sent) = upload(&world, &id, &last);
    drop(pieces);
    assert_eq!(world.call(sent).await.expect(200)["outcome"], "completed");
    check_heard(&world, &audio);
    world.end().await;
}

#[actix_rt::test]
async fn a_last_piece_that_is_refused_is_told_though_nothing_follows_it() {
    let world = World::in_real_time("").await;
    let id = world.running(ACME, "speaker").await;
    let (pieces, sent) = upload(&world, &id, "?end=false");
    pieces.send(Ok(silence(10))).unwrap();
    let interrupt = async {
        heard_some(&world).await;
        world.operate(&id, "interrupt").await;
        pieces.send(Ok(silence(10))).unwrap();
        drop(pieces);
    };
    let (answer, ()) = tokio::join!(world.call(sent), interrupt);
    let refused = answer.expect(409);
    assert_eq!(refused["code"], "requestEnded", "{refused}");
    check_heard(&world, &silence(10));
    world.end().await;
}

#[actix_rt::test]
async fn the_end_of_its_session_is_told() {
    let world = World::in_real_time("").await;
    let id = world.running(ACME, "speaker").await;
    let (pieces, sent) = upload(&world, &id, "?end=false");
    pieces.send(Ok(silence(10))).unwrap();
    let delete = async {
        heard_some(&world).await;
        world.admin(Method::DELETE, &format!("/v1/sessions/{id}"), &Value::Null).await.expect(200);
        world.wait_state(&id, "stopped").await;
        pieces.send(Ok(silence(10))).unwrap();
        drop(pieces);
    };
    let (answer, ()) = tokio::join!(world.call(sent), delete);
    let refused = answer.expect(409);
    assert_eq!(refused["code"], "sessionStopped", "{refused}");
    world.end().await;
}
