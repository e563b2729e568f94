//! A connection breaks: what is sent again, from where, and what its client sees of it.

use actix_http::Method;
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use greenroom::{
    simulator::Happening,
    wire::{self, Data},
};
use serde_json::{Value, json};

use crate::world::{ACME, GLOBEX, World, silence, until};

/// Bytes of a frame's worth of audio: 40 ms at 16 kHz.
const FRAME: u64 = 1280;

fn requests_of(id: &str, query: &str) -> String {
    format!("/v1/sessions/{id}/requests{query}")
}

async fn speaker(world: &World, spec: &Value) -> String {
    let id = world.create(ACME, "speaker", spec).await;
    world.wait_state(&id, "running").await;
    id
}

/// A session whose avatar the service publishes itself, so that it says what it has played.
fn with_egress(continuity: &str) -> Value {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let token = format!("{}.{}.c2ln", part(r#"{"alg":"HS256"}"#), part(r#"{"exp":9999999999}"#));
    let egress = json!({"type": "livekit", "url": "wss://rtc.example", "room_name": "r", "api_token": token});
    json!({"continuity": continuity, "egress": egress})
}

fn break_at(world: &World, at: &Value, times: u64) {
    world.faults(&json!([{"match": {"avatar_id": "speaker"}, "at": at, "times": times, "do": {"drop": {}}}]));
}

async fn speak(world: &World, id: &str, frames: usize, query: &str) -> Value {
    world.audio(ACME, &requests_of(id, query), silence(frames)).await.expect(200)
}

async fn outcome_of(world: &World, id: &str, req_id: &Value) -> Value {
    let path = requests_of(id, &format!("/{}", req_id.as_str().unwrap()));
    world.admin(Method::GET, &path, &Value::Null).await.expect(200)
}

async fn settled(world: &World, id: &str, req_id: &Value) -> Value {
    until("the request's outcome", async || {
        let request = outcome_of(world, id, req_id).await;
        if request["outcome"].is_null() { Err(request.to_string()) } else { Ok(request) }
    })
    .await
}

/// The audio that the service took: connection, request id there, and bytes, in order.
fn audio_taken(world: &World) -> Vec<(String, String, u64)> {
    let events = world.simulator.record();
    let audio = events.into_iter().filter_map(|event| match event.what {
        Happening::Audio { req_id, bytes, .. } => Some((event.connection_id?, req_id, bytes)),
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
    });
    audio.collect()
}

#[actix_rt::test]
async fn what_nothing_was_answered_to_is_sent_again_whole_and_keeps_its_id_for_its_client() {
    for continuity in ["unanswered", "resume"] {
        let world = World::start("").await;
        let id = speaker(&world, &json!({"continuity": continuity})).await;
        break_at(&world, &json!({"after_chunks": 1}), 1);
        // The break comes in the middle of its audio.
        let begun = world.audio(ACME, &requests_of(&id, "?end=false"), silence(3)).await.expect(202);
        let req_id = begun["req_id"].as_str().unwrap();
        let query = format!("?wait=true&frames=true&req_id={req_id}");
        let request = speak(&world, &id, 5, &query).await;
        assert_eq!((&request["outcome"], &request["req_id"]), (&json!("completed"), &json!(req_id)));
        assert_eq!((&request["frame_count"], &request["breaks"]), (&json!(8), &json!(1)));
        for frame in request["frames"].as_array().unwrap() {
            let bytes = BASE64_STANDARD.decode(frame.as_str().unwrap()).unwrap();
            let Ok(Some(Data::ServerResponseAnimation(frame))) = wire::decode(bytes.into()) else {
                panic!("{continuity}: no frame")
            };
            assert_eq!(frame.req_id, req_id, "{continuity}");
        }
        let taken = audio_taken(&world);
        assert_eq!(taken.len(), 2, "{continuity}: {taken:?}");
        let [first, second] = [&taken[0], &taken[1]];
        assert_eq!((&*first.1, first.2), (req_id, 3 * FRAME), "{continuity}");
        assert_eq!(second.2, 8 * FRAME, "{continuity}: without a gap and without a repetition");
        assert!(
            first.0 != second.0 && first.1 != second.1,
            "{continuity}: ids are never used again: {taken:?}"
        );
        assert_eq!(world.session(&id).await["restarts"], 1);
        assert_eq!(world.metric("greenroom_requests_total", &[("outcome", "completed")]), 1.0);
        world.end().await;
    }
}

#[actix_rt::test]
async fn with_off_what_was_sent_fails_by_name_and_what_waited_is_sent() {
    let world = World::start("defaults.continuity = \"off\"").await;
    let id = speaker(&world, &json!({})).await;
    assert_eq!(world.session(&id).await["continuity"], "off");
    break_at(&world, &json!({"after_chunks": 1}), 1);
    let request = speak(&world, &id, 5, "?wait=true").await;
    assert_eq!((&request["outcome"], &request["code"]), (&json!("failed"), &json!("connectionClosed")));
    assert_eq!(speak(&world, &id, 5, "?wait=true").await["outcome"], "completed");
    assert_eq!(audio_taken(&world).len(), 2);
    world.end().await;
}

#[actix_rt::test]
async fn what_was_partly_answered_fails_by_name_where_it_cannot_be_resumed() {
    for continuity in ["unanswered", "resume", "off"] {
        let world = World::in_real_time("").await;
        let id = speaker(&world, &json!({"continuity": continuity})).await;
        break_at(&world, &json!({"after_frames": 3}), 1);
        let request = speak(&world, &id, 50, "?wait=true").await;
        assert_eq!((&request["outcome"], &request["code"]), (&json!("failed"), &json!("connectionClosed")));
        assert!(request["frame_count"].as_u64() > Some(0), "{continuity}: {request}");
        let reason = request["reason"].as_str().unwrap();
        assert_eq!(reason.contains("after the answer had begun"), continuity != "off", "{reason}");
        world.wait_restarted(&id, 1).await;
        assert_eq!(audio_taken(&world).len(), 1, "{continuity}: nothing is sent again");
        world.end().await;
    }
}

#[actix_rt::test]
async fn a_request_that_broke_two_connections_fails_by_name_and_is_not_sent_a_third_time() {
    let world = World::start("").await;
    let id = speaker(&world, &json!({})).await;
    assert_eq!(world.session(&id).await["continuity"], "unanswered");
    break_at(&world, &json!({"after_chunks": 1}), 2);
    let request = speak(&world, &id, 5, "?wait=true").await;
    assert_eq!((&request["outcome"], &request["breaks"]), (&json!("failed"), &json!(2)));
    assert!(request["reason"].as_str().unwrap().contains("may be the reason"), "{request}");
    world.wait_restarted(&id, 2).await;
    assert_eq!(speak(&world, &id, 5, "?wait=true").await["outcome"], "completed");
    assert_eq!(audio_taken(&world).iter().map(|(_, _, bytes)| *bytes).collect::<Vec<_>>(), [5 * FRAME; 3]);
    world.end().await;
}

/// Breaks the speaker's connection, and refuses the next one for longer than its request waits.
fn break_for_long(world: &World) {
    world.faults(&json!([{"match": {"avatar_id": "speaker"}, "at": "upgrade",
        "do": {"http": {"status": 503, "headers": {"Retry-After": "3"}}}}]));
    break_at(world, &json!({"after_chunks": 1}), 1);
}

#[actix_rt::test]
async fn what_waits_for_a_connection_for_too_long_is_stale_and_fails_by_name() {
    let world = World::start("outbox.max_age_s = 1").await;
    let id = speaker(&world, &json!({})).await;
    break_for_long(&world);
    let request = speak(&world, &id, 5, "?wait=true").await;
    assert_eq!((&request["outcome"], &request["code"]), (&json!("failed"), &json!("upstreamError")));
    assert_eq!(
        (&request["reason"], &request["breaks"]),
        (&json!("its audio waited 1 s for a connection"), &json!(1))
    );
    assert_eq!(audio_taken(&world).len(), 1);
    world.end().await;
}

#[actix_rt::test]
async fn an_interrupt_of_what_is_to_be_sent_again_ends_it() {
    let world = World::start("").await;
    let id = speaker(&world, &json!({})).await;
    break_for_long(&world);
    let begun = world.audio(ACME, &requests_of(&id, ""), silence(5)).await.expect(202);
    world.wait_for(&id, "a refused attempt", |session| session["last_error"]["http_status"] == 503).await;
    assert_eq!(world.metric("greenroom_outbox_bytes", &[]), 6400.0, "it waits again");
    let answer = world.operate(&id, "interrupt").await;
    assert_eq!((&answer["req_id"], &answer["outcome"]), (&begun["req_id"], &json!("interrupted")));
    assert_eq!(world.metric("greenroom_outbox_bytes", &[]), 0.0);
    world.simulator.clear_faults();
    world.operate(&id, "restart").await;
    world.wait_state(&id, "running").await;
    assert_eq!(speak(&world, &id, 5, "?wait=true").await["outcome"], "completed");
    let ids: Vec<_> = audio_taken(&world).into_iter().map(|(_, req_id, _)| req_id).collect();
    assert_eq!((ids.len(), &*ids[0]), (2, begun["req_id"].as_str().unwrap()), "{ids:?}");
    world.end().await;
}

#[actix_rt::test]
async fn with_resume_and_egress_the_rest_is_sent_from_where_playing_stopped() {
    // As it was made, and at three times the rate after a change.
    for times in [1, 3] {
        let world = World::in_real_time("").await;
        let id = speaker(&world, &with_egress("resume")).await;
        assert_eq!(world.session(&id).await["continuity"], "resume");
        let change = json!({"sample_rate": 16_000 * times});
        world.admin(Method::PATCH, &format!("/v1/sessions/{id}"), &change).await.expect(200);
        world.wait_state(&id, "running").await;
        break_at(&world, &json!({"after_frames": 10}), 1);
        let request = speak(&world, &id, 40 * times, "?wait=true").await;
        assert_eq!((&request["outcome"], &request["breaks"]), (&json!("completed"), &json!(1)), "{request}");
        let taken = audio_taken(&world);
        let frame = FRAME * times as u64;
        assert_eq!((taken.len(), taken[0].2), (2, 40 * frame), "{taken:?}");
        // Ten frames are 360 ms after the first, which PLAYING announces; what is measured between lags, within reason.
        let rest = taken[1].2;
        assert!((20 * frame..=32 * frame).contains(&rest) && rest.is_multiple_of(2), "{rest}");
        world.end().await;
    }
}

#[actix_rt::test]
async fn with_unanswered_what_has_begun_to_play_is_not_played_a_second_time() {
    let world = World::in_real_time("").await;
    let id = speaker(&world, &with_egress("unanswered")).await;
    break_at(&world, &json!({"after_frames": 3}), 1);
    let request = speak(&world, &id, 20, "?wait=true").await;
    assert_eq!((&request["outcome"], &request["code"]), (&json!("failed"), &json!("connectionClosed")));
    world.wait_restarted(&id, 1).await;
    assert_eq!(audio_taken(&world).len(), 1);
    world.end().await;
}

#[actix_rt::test]
async fn a_pause_holds_across_a_break_until_it_is_resumed() {
    let world = World::in_real_time("").await;
    let id = speaker(&world, &with_egress("resume")).await;
    let paused = world.audio(ACME, &requests_of(&id, ""), silence(10)).await.expect(202);
    let body = json!({"req_id": paused["req_id"]});
    let post = async |command: &str, body: &Value| {
        world.admin(Method::POST, &format!("/v1/sessions/{id}/{command}"), body).await
    };
    let answer = post("pause", &json!({})).await.expect(200);
    assert_eq!(answer, json!({"req_id": paused["req_id"], "paused": true}));
    // Another one that is longer, and that is played to its end meanwhile.
    assert_eq!(speak(&world, &id, 20, "?wait=true").await["outcome"], "completed");
    assert!(outcome_of(&world, &id, &paused["req_id"]).await["outcome"].is_null(), "it is paused");

    world.strike("speaker", &json!({"drop": {}}));
    world.wait_restarted(&id, 1).await;
    assert_eq!(speak(&world, &id, 20, "?wait=true").await["outcome"], "completed");
    let request = outcome_of(&world, &id, &paused["req_id"]).await;
    assert_eq!((&request["outcome"], &request["breaks"]), (&Value::Null, &json!(1)), "it is paused again");

    let answer = post("resume", &body).await.expect(200);
    assert_eq!(answer, json!({"req_id": paused["req_id"], "paused": false}));
    assert_eq!(settled(&world, &id, &paused["req_id"]).await["outcome"], "completed");
    for command in ["pause", "resume"] {
        let refused = post(command, &body).await.expect(409);
        assert_eq!(refused["code"], "requestEnded");
        assert_eq!(post(command, &json!({})).await.expect(404)["code"], "notFound");
        assert_eq!(post(command, &json!({"req_id": "absent"})).await.expect(404)["code"], "notFound");
        let path = format!("/v1/sessions/{id}/{command}");
        let foreign = world.data_request(Method::POST, GLOBEX, &path).send_json(&body);
        assert_eq!(world.call(foreign).await.expect(404)["code"], "notFound");
    }
    world.end().await;
}

#[actix_rt::test]
async fn a_pause_that_the_service_would_not_carry_out_is_refused() {
    let world = World::start("").await;
    let id = speaker(&world, &json!({})).await;
    let open = world.audio(ACME, &requests_of(&id, "?end=false"), silence(5)).await.expect(202);
    for command in ["pause", "resume"] {
        let path = format!("/v1/sessions/{id}/{command}");
        let sent =
            world.data_request(Method::POST, ACME, &path).send_json(&json!({"req_id": open["req_id"]}));
        let refused = world.call(sent).await.expect(409);
        assert_eq!(refused["code"], "pauseUnsupported");
        assert!(refused["detail"].as_str().unwrap().contains("no egress"), "{refused}");
    }
    world.end().await;
}

#[actix_rt::test]
async fn a_changed_continuity_holds_at_the_next_break_without_a_restart() {
    for (before, after, outcome) in [("off", "unanswered", "completed"), ("unanswered", "off", "failed")] {
        let world = World::start("").await;
        let id = speaker(&world, &json!({"continuity": before})).await;
        let path = format!("/v1/sessions/{id}");
        world.admin(Method::PATCH, &path, &json!({"continuity": after})).await.expect(200);
        break_at(&world, &json!({"after_chunks": 1}), 1);
        let request = speak(&world, &id, 3, "?wait=true").await;
        assert_eq!((&request["outcome"], &request["breaks"]), (&json!(outcome), &json!(1)), "{after}");
        assert_eq!(world.session(&id).await["restarts"], 1, "{after}: of the break, and of nothing else");
        world.end().await;
    }
}

#[actix_rt::test]
async fn a_request_that_is_open_when_its_session_is_changed_is_interrupted_or_not_touched() {
    let world = World::start("").await;
    let id = speaker(&world, &json!({})).await;
    let path = format!("/v1/sessions/{id}");
    let begun = world.audio(ACME, &requests_of(&id, "?end=false"), silence(3)).await.expect(202);
    world.admin(Method::PATCH, &path, &json!({"labels": {"a": "b"}})).await.expect(200);
    assert_eq!(outcome_of(&world, &id, &begun["req_id"]).await["outcome"], Value::Null);
    // Twice the rate: what comes for the request would be played at half its speed.
    world.admin(Method::PATCH, &path, &json!({"sample_rate": 32000})).await.expect(200);
    assert_eq!(settled(&world, &id, &begun["req_id"]).await["outcome"], "interrupted");
    let more = format!("?req_id={}", begun["req_id"].as_str().unwrap());
    world.audio(ACME, &requests_of(&id, &more), silence(3)).await.expect(409);
    world.wait_state(&id, "running").await;
    assert_eq!(speak(&world, &id, 3, "?wait=true").await["outcome"], "completed");
    assert_eq!(world.metric("greenroom_requests_total", &[("outcome", "interrupted")]), 1.0);
    world.end().await;
}
