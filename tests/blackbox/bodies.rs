//! Bodies that are too large, empty or odd, of known length and chunked.

use serde_json::{Value, json};

use super::{
    http::{Answer, Client, chunked, exchange},
    process::eventually,
    world::{World, create_avatar},
};

/// `server.max_body_bytes` of these tests.
const MAX_BODY: usize = 65_536;

/// The answer to a body that is sent to its end before anything is read.
#[track_caller]
fn sent_whole(client: &Client, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut request = client.head("POST", path, headers).into_bytes();
    request.extend_from_slice(body);
    let answer = exchange(client.address(), &request);
    Answer::parse(&answer).unwrap_or_else(|| panic!("no answer to a body of {} bytes", body.len()))
}

#[track_caller]
fn sent_with_length(client: &Client, path: &str, body: &[u8]) -> Answer {
    sent_whole(client, path, &[&format!("Content-Length: {}", body.len())], body)
}

#[track_caller]
fn sent_chunked(client: &Client, path: &str, pieces: &[&[u8]]) -> Answer {
    sent_whole(client, path, &["Transfer-Encoding: chunked"], &chunked(pieces))
}

/// That every request that was begun has an outcome, here and at the service.
#[track_caller]
fn nothing_is_open(world: &World) {
    eventually("no request is open at the service", || {
        let stats = world.simulator.stats();
        (stats["requests_by_state"].get("open").and_then(Value::as_u64).unwrap_or_default() == 0)
            .then_some(())
    });
    eventually("the outbox is empty", || {
        (world.greenroom.metric("greenroom_outbox_bytes", &[]) == 0.0).then_some(())
    });
}

#[test]
fn a_json_body_beyond_the_bound_is_413() {
    let world = World::usual();
    let spec = json!({"avatar_id": "a", "tenant": "acme", "labels": {"l": "x".repeat(70_000)}}).to_string();
    let huge = vec![b' '; 4 << 20];
    for client in [&world.greenroom.acme, &world.greenroom.admin] {
        sent_with_length(client, "/v1/sessions", spec.as_bytes()).is_problem(413, "bodyTooLarge");
        sent_with_length(client, "/v1/sessions", &huge).is_problem(413, "bodyTooLarge");
        let pieces: Vec<&[u8]> = huge.chunks(16 << 10).collect();
        sent_chunked(client, "/v1/sessions", &pieces).is_problem(413, "bodyTooLarge");
    }
}

#[test]
fn an_answer_before_the_body_s_end_reaches_a_client_that_still_sends() {
    let world = World::usual();
    let huge = vec![0; 4 << 20];
    let stranger = world.greenroom.acme.with_key("key-of-nobody-at-all");
    sent_with_length(&stranger, "/v1/sessions", &huge).is_problem(401, "unauthorized");
    let acme = &world.greenroom.acme;
    sent_with_length(acme, "/v1/sessions/ses_absent/requests", &huge).is_problem(404, "notFound");
    sent_with_length(acme, "/no/such/path", &huge).is_problem(404, "notFound");
}

#[test]
fn audio_beyond_the_bound_is_413_and_its_request_is_not_left_open() {
    let world = World::usual();
    let acme = &world.greenroom.acme;
    let id = create_avatar(acme, "speaker");
    world.greenroom.until_state(&id, "running");
    let path = format!("/v1/sessions/{id}/requests");
    let huge = vec![0; 4 << 20];
    for client in [acme, &world.greenroom.admin] {
        sent_with_length(client, &path, &huge).is_problem(413, "bodyTooLarge");
        sent_with_length(client, &path, &vec![0; MAX_BODY + 2]).is_problem(413, "bodyTooLarge");
        let pieces: Vec<&[u8]> = huge.chunks(16 << 10).collect();
        sent_chunked(client, &path, &pieces).is_problem(413, "bodyTooLarge");
        sent_chunked(client, &format!("{path}?end=false"), &pieces).is_problem(413, "bodyTooLarge");
        sent_chunked(client, &format!("{path}?wait=true"), &pieces).is_problem(413, "bodyTooLarge");
    }
    nothing_is_open(&world);
    assert_eq!(world.greenroom.metric("greenroom_requests_total", &["completed"]), 0.0);
    sent_with_length(acme, &format!("{path}?wait=true"), &vec![0; MAX_BODY]).is(200);
    world.greenroom.until_state(&id, "running");
}

#[test]
fn empty_and_odd_audio_is_422_and_its_request_is_not_left_open() {
    let world = World::usual();
    let acme = &world.greenroom.acme;
    let id = create_avatar(acme, "speaker");
    world.greenroom.until_state(&id, "running");
    let path = format!("/v1/sessions/{id}/requests");
    for client in [acme, &world.greenroom.admin] {
        for end in ["?end=true", "?end=false", "?wait=true", ""] {
            let path = format!("{path}{end}");
            sent_with_length(client, &path, b"").is_problem(422, "emptyAudio");
            sent_whole(client, &path, &[], b"").is_problem(422, "emptyAudio");
            sent_chunked(client, &path, &[]).is_problem(422, "emptyAudio");
            sent_with_length(client, &path, b"odd").is_problem(422, "oddAudio");
            sent_chunked(client, &path, &[b"odd"]).is_problem(422, "oddAudio");
            sent_chunked(client, &path, &[b"even", b"odd"]).is_problem(422, "oddAudio");
        }
    }
    nothing_is_open(&world);
    assert_eq!(world.greenroom.metric("greenroom_requests_total", &["completed"]), 0.0);
}

#[test]
fn a_sample_that_is_cut_between_two_pieces_is_put_together() {
    let world = World::usual();
    let acme = &world.greenroom.acme;
    let id = create_avatar(acme, "speaker");
    world.greenroom.until_state(&id, "running");
    let path = format!("/v1/sessions/{id}/requests?wait=true");
    let answer = sent_chunked(acme, &path, &[b"abc", b"d", b"e", b"fgh"]).is(200).json();
    assert_eq!((&answer["outcome"], &answer["audio_bytes"]), (&json!("completed"), &json!(8)), "{answer}");
    assert_eq!(world.simulator.stats()["audio_bytes"], 8);
}

#[test]
fn a_body_that_breaks_off_leaves_no_request_open() {
    let world = World::usual();
    let acme = &world.greenroom.acme;
    let id = create_avatar(acme, "speaker");
    world.greenroom.until_state(&id, "running");
    let path = format!("/v1/sessions/{id}/requests");
    let head = acme.head("POST", &path, &["Content-Length: 1000"]) + "half of a sentence";
    let mut stream = std::net::TcpStream::connect(acme.address()).unwrap();
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    eventually("the piece arrives at the service", || {
        (world.simulator.stats()["audio_bytes"].as_u64().unwrap() > 0).then_some(())
    });
    drop(stream);
    eventually("the request is interrupted", || {
        (world.greenroom.metric("greenroom_requests_total", &["interrupted"]) == 1.0).then_some(())
    });
    nothing_is_open(&world);
}
