//! Requests for audio over a `kill -9`: each that was accepted is known afterwards, with the outcome that it had or as
//! failed; and none is spoken twice, however often it is sent with its key.

use std::{
    io::Write as _,
    net::{Shutdown, TcpStream},
};

use greenroom::simulator::{Pace, Simulator, SimulatorConfig, spawn_thread};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    http::{Answer, Client},
    process::eventually,
    world::{Greenroom, Settings, create_avatar},
};

/// A Greenroom over a file, and the service, which outlives it.
struct Stage {
    simulator: Simulator,
    toml: String,
    _directory: TempDir,
}

impl Stage {
    fn new() -> Self {
        let simulator =
            spawn_thread(SimulatorConfig { pace: Pace::Fast, ..SimulatorConfig::default() }).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = format!("url = \"redb:{}\"\n", directory.path().join("greenroom.redb").display());
        let toml = Settings { store, ..Settings::default() }
            .toml(&simulator.console_url(), &simulator.ingress_url());
        Self { simulator, toml, _directory: directory }
    }

    fn start(&self) -> Greenroom {
        Greenroom::start(&self.toml)
    }

    /// Bytes of audio that the service was sent, in all.
    fn spoken(&self) -> u64 {
        self.simulator.stats().requests.values().map(|request| request.audio_bytes).sum()
    }
}

const AUDIO: &[u8] = &[0; 6400];

fn path(id: &str, query: &str) -> String {
    format!("/v1/sessions/{id}/requests{query}")
}

fn outcome(client: &Client, id: &str, req_id: &Value) -> Answer {
    client.get(&path(id, &format!("/{}", req_id.as_str().unwrap())))
}

#[track_caller]
fn ended(client: &Client, id: &str, req_id: &Value) -> Value {
    eventually("the outcome", || {
        Some(outcome(client, id, req_id).is(200).json()).filter(|request| !request["outcome"].is_null())
    })
}

#[track_caller]
fn failed_with_its_process(request: &Value) {
    assert_eq!((&request["outcome"], &request["code"]), (&json!("failed"), &json!("connectionClosed")));
    assert!(request["reason"].as_str().unwrap().contains("the process ended"), "{request}");
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

#[test]
fn what_was_accepted_is_known_to_the_next_process_with_the_outcome_that_it_had() {
    let stage = Stage::new();
    let greenroom = stage.start();
    let id = create_avatar(&greenroom.acme, "speaker");
    greenroom.until_state(&id, "running");
    let open = greenroom.acme.send(&path(&id, "?end=false"), AUDIO).is(202).json();
    let waited = greenroom.acme.send(&path(&id, "?wait=true"), AUDIO).is(200).json();
    let sent = greenroom.acme.send(&path(&id, ""), AUDIO).is(202).json();
    let sent = ended(&greenroom.acme, &id, &sent["req_id"]);
    assert_eq!((&waited["outcome"], &sent["outcome"]), (&json!("completed"), &json!("completed")));
    drop(greenroom);

    let greenroom = stage.start();
    for before in [&waited, &sent] {
        assert_eq!(outcome(&greenroom.acme, &id, &before["req_id"]).is(200).json(), *before);
    }
    failed_with_its_process(&outcome(&greenroom.acme, &id, &open["req_id"]).is(200).json());
    outcome(&greenroom.globex, &id, &open["req_id"]).is(404);
    outcome(&greenroom.acme, &id, &json!("20261122200000_abcdefghijkl")).is(404);
    outcome(&greenroom.acme, &id, &json!("x".repeat(600))).is(404);
    greenroom.until_state(&id, "running");
    greenroom.acme.call("DELETE", &format!("/v1/sessions/{id}"), None).is(200);
    assert_eq!(outcome(&greenroom.acme, &id, &waited["req_id"]).is(200).json(), waited, "it is listed still");
}

#[test]
fn the_same_key_is_the_same_request_before_and_after_a_crash() {
    let stage = Stage::new();
    let greenroom = stage.start();
    let id = create_avatar(&greenroom.acme, "speaker");
    greenroom.until_state(&id, "running");
    let once = |greenroom: &Greenroom, key: &str, query: &str, body: &[u8]| {
        greenroom.acme.with_idempotency_key(key).send(&path(&id, query), body)
    };
    let first = once(&greenroom, "a", "", AUDIO).is(202);
    assert!(!replayed(&first));
    let waited = once(&greenroom, "w", "?wait=true", AUDIO).is(200).json();
    let open = once(&greenroom, "o", "?end=false", AUDIO).is(202).json();
    let second = once(&greenroom, "a", "", AUDIO).is(202);
    assert!(replayed(&second));
    assert_eq!(second.body, first.body);
    once(&greenroom, "a", "", &[1; 6400]).is_problem(422, "idempotencyKeyReused");
    once(&greenroom, "a", "?end=false", AUDIO).is_problem(422, "idempotencyKeyReused");
    let again = once(&greenroom, "w", "?wait=true", AUDIO).is(200);
    assert!(replayed(&again));
    assert_eq!(again.json(), waited);
    assert_eq!(stage.spoken(), 3 * 6400, "a retry was spoken");
    drop(greenroom);

    let greenroom = stage.start();
    greenroom.until_state(&id, "running");
    assert_eq!(once(&greenroom, "a", "", AUDIO).is(202).body, first.body);
    assert_eq!(once(&greenroom, "w", "?wait=true", AUDIO).is(200).json(), waited);
    assert_eq!(once(&greenroom, "o", "?end=false", AUDIO).is(202).json()["req_id"], open["req_id"]);
    failed_with_its_process(&outcome(&greenroom.acme, &id, &open["req_id"]).is(200).json());
    assert_eq!(stage.spoken(), 3 * 6400, "a retry was spoken by the next process");
}

/// The first half of an upload with a key.
fn half(greenroom: &Greenroom, id: &str, key: &str) -> TcpStream {
    let headers = [format!("Idempotency-Key: {key}"), format!("Content-Length: {}", AUDIO.len())];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut stream = TcpStream::connect(greenroom.acme.address()).unwrap();
    stream.write_all(greenroom.acme.head("POST", &path(id, ""), &headers).as_bytes()).unwrap();
    stream.write_all(&AUDIO[..AUDIO.len() / 2]).unwrap();
    stream
}

#[test]
fn an_upload_that_broke_off_or_whose_process_died_is_not_begun_anew() {
    let stage = Stage::new();
    let greenroom = stage.start();
    let id = create_avatar(&greenroom.acme, "speaker");
    greenroom.until_state(&id, "running");
    let heard = |bytes: u64| eventually("audio", || (stage.spoken() == bytes).then_some(()));
    let part = AUDIO.len() as u64 / 2;

    let left = half(&greenroom, &id, "left");
    heard(part);
    let once = |greenroom: &Greenroom, key: &str| {
        greenroom.acme.with_idempotency_key(key).send(&path(&id, ""), AUDIO)
    };
    once(&greenroom, "left").is_problem(409, "idempotencyKeyInUse");
    left.shutdown(Shutdown::Both).unwrap();
    let again = eventually("the client's leaving is noticed", || {
        Some(once(&greenroom, "left")).filter(|answer| answer.status != 409)
    });
    assert!(replayed(&again));
    let again = again.is(202).json();
    assert_eq!(ended(&greenroom.acme, &id, &again["req_id"])["outcome"], "interrupted");

    let died = half(&greenroom, &id, "died");
    heard(2 * part);
    drop(greenroom);
    drop(died);
    let greenroom = stage.start();
    greenroom.until_state(&id, "running");
    let again = once(&greenroom, "died").is(202);
    assert!(replayed(&again));
    failed_with_its_process(&ended(&greenroom.acme, &id, &again.json()["req_id"]));
    assert_eq!(stage.spoken(), 2 * part, "something was spoken twice");
}

#[test]
fn what_was_refused_before_any_of_it_was_taken_may_be_sent_again() {
    let stage = Stage::new();
    let greenroom = stage.start();
    let id = create_avatar(&greenroom.acme, "speaker");
    greenroom.until_state(&id, "running");
    let caller = greenroom.acme.with_idempotency_key("k");
    greenroom.admin.send(&format!("/v1/sessions/{id}/park"), b"").is(200);
    caller.send(&path(&id, ""), AUDIO).is(409);
    greenroom.admin.send(&format!("/v1/sessions/{id}/unpark"), b"").is(200);
    greenroom.until_state(&id, "running");
    caller.send(&path(&id, ""), &[0; 3]).is_problem(422, "oddAudio");
    let answer = caller.send(&path(&id, ""), AUDIO).is(202);
    assert!(!replayed(&answer));
    assert_eq!(ended(&greenroom.acme, &id, &answer.json()["req_id"])["outcome"], "completed");
}
