//! Many clients speak while their connections are killed, the service goes away, and a token is refused: what was said
//! arrives whole and in order, or fails by name, and no client loses its connection to Greenroom.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use greenroom::{
    simulator::{Digest, Filter, Happening},
    wire::Data,
};
use serde_json::json;

use super::client::{Client, Said, Upgrade};
use crate::world::{ACME, World};

const CLIENTS: usize = 50;
const CLIPS: usize = 20;
/// 40 ms each, so that a clip is 0.4 s long.
const CHUNKS: usize = 10;
const CHUNK_BYTES: usize = 1280;
/// How long the service is gone.
const GONE: Duration = Duration::from_secs(20);
/// Beyond the outage, the longest pause of the breaker's probe, and the answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// A connection is killed every 3.5 s on average: a share of all, ten times a second.
const KILL_EVERY: Duration = Duration::from_millis(100);
const KILL_SHARE: f64 = 0.1 / 3.5;

/// Audio that no other clip has, so that a piece of another, a gap or a piece twice shows in the digest.
fn chunk(client: usize, clip: usize, chunk: usize) -> Bytes {
    let mut state = (client * CLIPS + clip) * CHUNKS + chunk + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..CHUNK_BYTES).map(|_| next()).collect()
}

fn req_id(client: usize, clip: usize) -> String {
    format!("20260101000000_{client:04}_{clip:04}xx")
}

/// What a client was told of one clip.
#[derive(Debug)]
enum Told {
    Completed { frames: usize },
    Failed { code: i32, message: String },
}

async fn speak(client: &mut Client, number: usize, clip: usize) -> Told {
    let id = req_id(number, clip);
    for piece in 0..CHUNKS {
        client.audio(&id, chunk(number, clip, piece), piece + 1 == CHUNKS).await;
    }
    let mut frames = 0;
    let mut failure = None;
    loop {
        let said = client.hear_within(PATIENCE).await;
        match said.unwrap_or_else(|| panic!("client {number} waits for the outcome of {id}")) {
            Said::Message(Data::ServerResponseAnimation(frame)) if frame.req_id == id => {
                frames += usize::from(!frame.animation.is_empty());
                if frame.end {
                    return match failure {
                        None => Told::Completed { frames },
                        Some((code, message)) => Told::Failed { code, message },
                    };
                }
            }
            Said::Message(Data::ServerError(error)) if error.req_id == id => {
                failure = Some((error.code, error.message));
            }
            // Nothing else may be told: no state of an upstream, no error of the session, above all no close.
            said => panic!("client {number} was told {said:?} while {id} was open"),
        }
    }
}

async fn client(world: &World, number: usize) -> Vec<Told> {
    let (mut client, _) = Upgrade::new(world, ACME, &format!("avatar-{number}")).await.start().await;
    let mut told = Vec::new();
    for clip in 0..CLIPS {
        told.push(speak(&mut client, number, clip).await);
        // Nothing is waited for: the pause is that of a client which speaks now and then, at a pace of its own, so that
        // its clips are spread over the time of the faults.
        tokio::time::sleep(Duration::from_millis(400 + (number as u64 * 37) % 400)).await;
    }
    client.leave().await;
    told
}

/// Kills connections, each time in another way; takes the service away once; and refuses a token.
async fn disturb(world: &World) {
    let ways = [
        json!({"drop": {"reset": true}}),
        json!({"drop": {}}),
        json!({"close": {"code": 4503, "reason": "dependency"}}),
        json!({"close": {"code": 1011}}),
        json!({"server_error": {"code": 14, "message": "animate: unavailable",
            "then_close": {"code": 4503, "reason": "dependency"}}}),
    ];
    let ways = ways.map(|way| serde_json::from_value(way).unwrap());
    let kill = async |rounds: usize| {
        for round in 0..rounds {
            tokio::time::sleep(KILL_EVERY).await;
            world.simulator.strike(&Filter::default(), KILL_SHARE, &ways[round % ways.len()]);
        }
    };
    // Some connections break at their first audio, before there is a frame: what a replay is for.
    world.faults(&json!([{"at": {"after_chunks": 1}, "do": {"drop": {}}, "chance": 0.3}]));
    kill(60).await;
    world.faults(&json!([{"at": "upgrade", "times": 1,
        "do": {"http": {"status": 400, "body": "{\"message\":\"Invalid session token\"}\n"}}}]));
    world.simulator.set_down(true).await;
    world.simulator.drop_connections(&Filter::default());
    tokio::time::sleep(GONE).await;
    world.simulator.set_down(false).await;
    // Until whoever waits for the clients has seen them all.
    loop {
        kill(60).await;
    }
}

/// What the service took for one clip, attempt by attempt.
#[derive(Default)]
struct Taken {
    attempts: Vec<Attempt>,
}

struct Attempt {
    /// Chunks from the first, without a gap.
    chunks: usize,
    frames: u64,
}

/// Reads the record, and checks that the audio of each attempt is a clip's, from its first chunk on.
fn taken(world: &World) -> BTreeMap<(usize, usize), Taken> {
    let mut prefixes = HashMap::new();
    for number in 0..CLIENTS {
        for clip in 0..CLIPS {
            let mut digest = Digest::default();
            for piece in 0..CHUNKS {
                digest.feed(&chunk(number, clip, piece));
                prefixes.insert(digest, (number, clip, piece + 1));
            }
        }
    }
    let events = world.simulator.record();
    let mut frames = HashMap::new();
    for event in &events {
        if let Happening::Frames { req_id, frames: count, .. } = &event.what {
            frames.insert((event.connection_id.clone(), req_id.clone()), *count);
        }
    }
    let mut taken = BTreeMap::<(usize, usize), Taken>::new();
    for event in &events {
        let Happening::Audio { req_id, bytes, digest, .. } = &event.what else { continue };
        let whose = prefixes.get(digest);
        let Some((number, clip, chunks)) = whose.copied() else {
            panic!("{bytes} bytes of {req_id} are no clip's beginning: {event:?}");
        };
        assert_eq!(event.avatar_id.as_deref(), Some(&*format!("avatar-{number}")), "{event:?}");
        let frames = frames.get(&(event.connection_id.clone(), req_id.clone())).copied().unwrap_or_default();
        taken.entry((number, clip)).or_default().attempts.push(Attempt { chunks, frames });
    }
    taken
}

#[actix_rt::test]
async fn fifty_clients_are_answered_whole_or_told_by_name_whatever_happens_behind() {
    // The kills of a minute are more than a session's budget is for, and the outage longer than speech is fresh.
    let settings = "recovery.budget.restarts = 1000\noutbox.max_age_s = 60\nupstream.breaker.open_max_s = 5\n\
        recovery.backoff.initial_ms = 100\nrecovery.backoff.max_ms = 2000";
    let world = World::alone_in_real_time(settings).await;
    let clients = async { join_all((0..CLIENTS).map(|number| client(&world, number))).await };
    let told = tokio::select! {
        told = clients => told,
        () = disturb(&world) => unreachable!("it goes on until the clients are done"),
    };
    let taken = taken(&world);
    let (mut broken, mut saved, mut failed) = (0, 0, 0);
    for (number, told) in told.iter().enumerate() {
        for (clip, told) in told.iter().enumerate() {
            let attempts = &taken[&(number, clip)].attempts;
            broken += usize::from(attempts.len() > 1 || matches!(told, Told::Failed { .. }));
            match told {
                Told::Completed { frames } => {
                    assert_eq!(*frames, CHUNKS, "{}: {told:?}", req_id(number, clip));
                    assert_eq!(attempts.last().map(|last| last.chunks), Some(CHUNKS));
                    saved += usize::from(attempts.len() > 1);
                }
                Told::Failed { code, message } => {
                    failed += 1;
                    assert!(*code != 0 && !message.is_empty(), "{told:?}");
                    // One that had no frame yet is sent again, unless that connection broke as well; what was on its
                    // way when it broke is not in the service's record.
                    let lost_twice = attempts.len() > 1 || message.contains("as the one before it did");
                    assert!(lost_twice || attempts[0].frames > 0, "{}: {told:?}", req_id(number, clip));
                }
            }
        }
    }
    println!("{} clips, {broken} broken: {saved} saved, {failed} failed by name", CLIENTS * CLIPS);
    assert!(saved >= 20, "the faults have met only {saved} requests that could be saved");
    assert!(world.simulator.stats().upgrades.total > 200, "the kills have not happened");
    world.end().await;
}
