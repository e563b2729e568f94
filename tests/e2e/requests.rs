//! Audio in, frames and outcomes out.

use actix_http::Method;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::stream;
use greenroom::{
    simulator::{RequestState, check_frame_payload},
    wire::{self, Data, proto::ServerResponseAnimation},
};
use prost::encoding::decode_varint;
use serde_json::{Value, json};

use crate::world::{ACME, Answer, GLOBEX, World, silence, until};

fn requests_of(id: &str, query: &str) -> String {
    format!("/v1/sessions/{id}/requests{query}")
}

/// Sends audio with `wait=true` and gives the outcome.
async fn speak(world: &World, id: &str, frames: usize) -> Value {
    world.audio(ACME, &requests_of(id, "?wait=true"), silence(frames)).await.expect(200)
}

async fn outcome_of(world: &World, id: &str, req_id: &Value) -> Value {
    let path = requests_of(id, &format!("/{}", req_id.as_str().unwrap()));
    world.admin(Method::GET, &path, &Value::Null).await.expect(200)
}

/// Waits until the request has its outcome.
async fn settled(world: &World, id: &str, req_id: &Value) -> Value {
    until("the request's outcome", async || {
        let request = outcome_of(world, id, req_id).await;
        if request["outcome"].is_null() { Err(request.to_string()) } else { Ok(request) }
    })
    .await
}

fn requests(world: &World, outcome: &str) -> f64 {
    world.metric("greenroom_requests_total", &[("outcome", outcome), ("tenant", ACME)])
}

fn animation(message: Bytes) -> ServerResponseAnimation {
    match wire::decode(message).unwrap().unwrap() {
        Data::ServerResponseAnimation(frame) => frame,
        other @ (Data::ClientConfigureSession(_)
        | Data::ServerConfirmSession(_)
        | Data::ClientAudioInput(_)
        | Data::ServerError(_)
        | Data::ClientInterrupt(_)
        | Data::ClientPause(_)
        | Data::ClientResume(_)
        | Data::ServerPlaybackState(_)) => panic!("no frame: {other:?}"),
    }
}

/// All frames of the request, each once, in order, unharmed, and the last one ends it.
fn check_frames(req_id: &str, frames: Vec<Bytes>, expected: u32) {
    let frames: Vec<_> = frames.into_iter().map(animation).collect();
    let indices: Vec<_> =
        frames.iter().map(|frame| check_frame_payload(req_id, &frame.animation).unwrap()).collect();
    assert_eq!(indices, (0..expected).collect::<Vec<_>>());
    assert!(frames.iter().all(|frame| frame.req_id == req_id));
    let ends: Vec<_> = frames.iter().map(|frame| frame.end).collect();
    assert_eq!(ends.iter().position(|end| *end), Some(frames.len() - 1));
}

#[actix_rt::test]
async fn a_clip_that_is_waited_for_is_answered_with_its_outcome_and_its_figures() {
    let world = World::start("").await;
    let id = world.running(ACME, "speaker").await;
    let request = speak(&world, &id, 25).await;
    assert_eq!((&request["outcome"], &request["code"]), (&json!("completed"), &Value::Null));
    assert_eq!((&request["frame_count"], &request["audio_ms"]), (&json!(25), &json!(1000)));
    assert_eq!(request["audio_bytes"], 32_000);
    let first = request["first_frame_ms"].as_u64().unwrap();
    let total = request["total_ms"].as_u64().unwrap();
    assert!(first <= total && total < 10_000, "{request}");
    assert_eq!(outcome_of(&world, &id, &request["req_id"]).await, request);
    assert_eq!(requests(&world, "completed"), 1.0);
    assert_eq!(world.metric("greenroom_request_first_frame_seconds_count", &[]), 1.0);
    world.end().await;
}

#[actix_rt::test]
async fn frames_come_as_base64_or_as_delimited_protobuf_in_order_and_unharmed() {
    let world = World::start("").await;
    let id = world.running(ACME, "speaker").await;
    let path = requests_of(&id, "?wait=true&frames=true");
    let answer = world.audio(ACME, &path, silence(40)).await.expect(200);
    let frames = answer["frames"].as_array().unwrap();
    let frames = frames.iter().map(|frame| BASE64_STANDARD.decode(frame.as_str().unwrap()).unwrap().into());
    check_frames(answer["req_id"].as_str().unwrap(), frames.collect(), 40);

    let sent = world
        .data_request(Method::POST, ACME, &path)
        .insert_header(("Accept", "application/x-protobuf"))
        .send_body(silence(40));
    let Answer { status, headers, mut body } = world.call(sent).await;
    assert_eq!((status, headers["content-type"].as_str()), (200, "application/x-protobuf"));
    assert_eq!(headers["greenroom-outcome"], "completed");
    let mut frames = Vec::new();
    while !body.is_empty() {
        let length = usize::try_from(decode_varint(&mut body).unwrap()).unwrap();
        frames.push(body.split_to(length));
    }
    check_frames(&headers["greenroom-req-id"], frames, 40);
    world.end().await;
}

#[actix_rt::test]
async fn a_chunked_upload_is_one_request_however_its_pieces_are_cut() {
    let world = World::start("").await;
    let id = world.running(ACME, "speaker").await;
    // Odd pieces: samples are cut in two on the way.
    let whole = silence(50);
    let pieces: Vec<_> =
        whole.chunks(777).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    let sent = world
        .data_request(Method::POST, ACME, &requests_of(&id, "?wait=true"))
        .send_stream(stream::iter(pieces));
    let request = world.call(sent).await.expect(200);
    assert_eq!((&request["outcome"], &request["frame_count"]), (&json!("completed"), &json!(50)));
    let seen = world.simulator.stats().requests[request["req_id"].as_str().unwrap()].clone();
    assert_eq!((seen.audio_bytes, seen.state), (64_000, RequestState::Completed));

    let odd = world.audio(ACME, &requests_of(&id, ""), Bytes::from_static(&[0; 3])).await.expect(422);
    assert_eq!(odd["code"], "oddAudio");
    world.end().await;
}

#[actix_rt::test]
async fn a_request_is_continued_by_its_id_until_its_end_and_not_beyond() {
    let world = World::start("").await;
    let id = world.running(ACME, "speaker").await;
    let begun = world.audio(ACME, &requests_of(&id, "?end=false"), silence(5)).await.expect(202);
    let req_id = begun["req_id"].as_str().unwrap();
    assert_eq!(outcome_of(&world, &id, &begun["req_id"]).await["outcome"], Value::Null);
    let more = requests_of(&id, &format!("?req_id={req_id}&end=false"));
    world.audio(ACME, &more, silence(5)).await.expect(202);
    let last = requests_of(&id, &format!("?req_id={req_id}&wait=true"));
    let request = world.audio(ACME, &last, silence(5)).await.expect(200);
    assert_eq!((&request["outcome"], &request["frame_count"]), (&json!("completed"), &json!(15)));
    assert_eq!(request["req_id"], req_id);
    assert_eq!(world.audio(ACME, &last, silence(5)).await.expect(409)["code"], "requestEnded");
    let unknown = requests_of(&id, "?req_id=20261122000000_nobodysrequest");
    world.audio(ACME, &unknown, silence(5)).await.expect(404);
    // What is another tenant's is not there.
    world.audio(GLOBEX, &requests_of(&id, ""), silence(5)).await.expect(404);
    world.end().await;
}

#[actix_rt::test]
async fn an_interrupt_ends_the_request_for_everybody() {
    let world = World::in_real_time("").await;
    let id = world.running(ACME, "speaker").await;
    // Ten seconds of speech: nobody waits for its end.
    let begun = world.audio(ACME, &requests_of(&id, ""), silence(250)).await.expect(202);
    until("its first frame", async || {
        let request = outcome_of(&world, &id, &begun["req_id"]).await;
        if request["frame_count"].as_u64() > Some(0) { Ok(()) } else { Err(request.to_string()) }
    })
    .await;
    let path = format!("/v1/sessions/{id}/interrupt");
    let answer = world.admin(Method::POST, &path, &json!({})).await.expect(200);
    assert_eq!((&answer["req_id"], &answer["outcome"]), (&begun["req_id"], &json!("interrupted")));
    assert_eq!(outcome_of(&world, &id, &begun["req_id"]).await["outcome"], "interrupted");
    until("the service to know", async || {
        match world.simulator.stats().requests_in(RequestState::Interrupted) {
            1 => Ok(()),
            other => Err(format!("{other} interrupted")),
        }
    })
    .await;
    assert_eq!(requests(&world, "interrupted"), 1.0);
    assert_eq!(world.session(&id).await["restarts"], 0);
    world.admin(Method::POST, &path, &json!({})).await.expect(404);
    world.end().await;
}

#[actix_rt::test]
async fn audio_that_is_accepted_while_backing_off_is_sent_in_order_after_the_recovery() {
    let world = World::start("").await;
    // The wait that the service asks for is longer than what the test does in it.
    world.faults(&json!([{"match": {"avatar_id": "speaker"}, "at": "upgrade", "times": 1,
        "do": {"http": {"status": 503, "headers": {"Retry-After": "1"}}}}]));
    let id = world.create(ACME, "speaker", &json!({})).await;
    let session = world.wait_state(&id, "backing_off").await;
    assert!(session["next_attempt_at"].is_string());
    let first = world.audio(ACME, &requests_of(&id, "?end=false"), silence(10)).await.expect(202);
    assert_eq!(world.session(&id).await["state"], "backing_off");
    assert_eq!(world.metric("greenroom_outbox_bytes", &[]), 12_800.0);
    let last =
        requests_of(&id, &format!("?wait=true&frames=true&req_id={}", first["req_id"].as_str().unwrap()));
    let request = world.audio(ACME, &last, silence(10)).await.expect(200);
    assert_eq!((&request["outcome"], &request["frame_count"]), (&json!("completed"), &json!(20)));
    let seen = &world.simulator.stats().requests[request["req_id"].as_str().unwrap()];
    assert_eq!((seen.chunks, seen.audio_bytes), (2, 25_600));
    assert!(request["total_ms"].as_u64() > Some(100), "it waited for the connection: {request}");
    assert_eq!(world.session(&id).await["restarts"], 1);
    world.end().await;
}

#[actix_rt::test]
async fn a_request_whose_connection_is_lost_fails_by_name_and_the_next_one_is_answered() {
    let world = World::start("defaults.continuity = \"off\"").await;
    let id = world.running(ACME, "speaker").await;
    world.faults(&json!([{"match": {"avatar_id": "speaker"}, "at": {"after_chunks": 1}, "times": 1,
        "do": {"drop": {}}}]));
    let request = speak(&world, &id, 10).await;
    assert_eq!((&request["outcome"], &request["code"]), (&json!("failed"), &json!("connectionClosed")));
    assert!(request["reason"].as_str().unwrap().contains("connection"), "{request}");
    world.wait_restarted(&id, 1).await;
    assert_eq!(speak(&world, &id, 10).await["outcome"], "completed");
    assert_eq!((requests(&world, "failed"), requests(&world, "completed")), (1.0, 1.0));
    assert_eq!(world.all_errors(), 1.0);
    world.end().await;
}

#[actix_rt::test]
async fn an_error_that_names_a_request_fails_that_request_and_leaves_the_connection() {
    let world = World::start("").await;
    let id = world.running(ACME, "speaker").await;
    let connection_id = world.session(&id).await["connection_id"].clone();
    // Begun before the fault is there, and open across it.
    let other = world.audio(ACME, &requests_of(&id, "?end=false"), silence(5)).await.expect(202);
    world.faults(&json!([{"match": {"avatar_id": "speaker"}, "at": {"after_chunks": 2}, "times": 1,
        "do": {"server_error": {"code": 13, "message": "renderer stumbled", "req_id": true}}}]));
    let request = speak(&world, &id, 10).await;
    assert_eq!((&request["outcome"], &request["code"]), (&json!("failed"), &json!("serverError")));
    assert!(request["reason"].as_str().unwrap().contains("renderer stumbled"), "{request}");

    let session = world.wait_for(&id, "the error", |session| !session["last_error"].is_null()).await;
    assert_eq!((&session["connection_id"], &session["restarts"]), (&connection_id, &json!(0)));
    let error = &session["last_error"];
    assert_eq!((&error["req_id"], &error["connection_id"]), (&request["req_id"], &connection_id));
    assert_eq!((&error["server_code"], &error["code"]), (&json!("13"), &json!("serverError")));
    let own = [("code", "serverError"), ("phase", "websocket_runtime")];
    assert_eq!(world.metric("greenroom_session_errors_total", &own), 1.0);
    assert_eq!(world.all_errors(), 1.0);

    let rest = requests_of(&id, &format!("?wait=true&req_id={}", other["req_id"].as_str().unwrap()));
    assert_eq!(world.audio(ACME, &rest, silence(5)).await.expect(200)["outcome"], "completed");
    assert_eq!(world.session(&id).await["connection_id"], connection_id);
    world.end().await;
}

#[actix_rt::test]
async fn audio_for_a_session_that_does_not_connect_by_itself_is_refused_by_code() {
    let world = World::start("").await;
    let id = world.running(ACME, "speaker").await;
    let open = world.audio(ACME, &requests_of(&id, "?end=false"), silence(5)).await.expect(202);
    world.strike("speaker", &json!({"close": {"code": 4001, "reason": "credits exhausted"}}));
    world.wait_state(&id, "parked").await;
    let refused = world.audio(ACME, &requests_of(&id, ""), silence(5)).await.expect(409);
    assert_eq!((&refused["code"], &refused["state"]), (&json!("creditsExhausted"), &json!("parked")));
    assert!(refused["detail"].as_str().unwrap().contains("runbooks.md#creditsExhausted"), "{refused}");
    let request = settled(&world, &id, &open["req_id"]).await;
    assert_eq!((&request["outcome"], &request["code"]), (&json!("failed"), &json!("creditsExhausted")));

    let held = world.running(GLOBEX, "held").await;
    world.operate(&held, "park").await;
    let refused = world.audio(GLOBEX, &requests_of(&held, ""), silence(5)).await.expect(409);
    assert_eq!(refused["code"], "sessionParked");
    world.faults(&json!([{"at": "upgrade", "do": {"http": {"status": 404}}}]));
    let failed = world.create(GLOBEX, "failed", &json!({})).await;
    world.wait_state(&failed, "failed").await;
    let refused = world.audio(GLOBEX, &requests_of(&failed, ""), silence(5)).await.expect(409);
    assert_eq!((&refused["code"], &refused["state"]), (&json!("appIDUnrecognized"), &json!("failed")));
    world.end().await;
}

#[actix_rt::test]
async fn a_dormant_session_is_woken_by_audio_and_answers_it() {
    let world = World::start("").await;
    let id = world.running(ACME, "sleeper").await;
    world.strike(
        "sleeper",
        &json!({"server_error": {"code": 14, "message": "livekit silence timeout",
        "then_close": {"code": 1000, "reason": ""}}}),
    );
    world.wait_state(&id, "dormant").await;
    let request = speak(&world, &id, 10).await;
    assert_eq!((&request["outcome"], &request["frame_count"]), (&json!("completed"), &json!(10)));
    let session = world.session(&id).await;
    assert_eq!((&session["state"], &session["restarts"]), (&json!("running"), &json!(0)));
    assert_eq!(session["last_error"]["code"], "idleTimeout");
    assert_eq!(world.attempts("sleeper"), 2);
    world.end().await;
}
