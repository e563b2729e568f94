//! A bad network in the fault plan: reading that stands still, writing that trickles, refused connections.

use std::time::{Duration, Instant};

use actix_http::ws::Message;
use bytes::Bytes;
use greenroom::simulator::{Effect, Fault, Filter, Point, SimulatorConfig};

use crate::client::{Client, Seen, ask_token, fast, in_time, until, with};

const STALL: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_stalled_connection_reads_nothing_for_so_long_and_writes_on() {
    let simulator = with(|config| config.pace = SimulatorConfig::default().pace).await;
    let stall = Effect::Stall { ms: u64::try_from(STALL.as_millis()).unwrap() };
    simulator.add_fault(Fault::new(Point::AfterChunks(1), stall)).unwrap();
    let mut client = Client::session(&simulator, "a").await;
    let begun = Instant::now();
    client.audio("r", 3200, true).await;
    client.send_raw(Message::Ping(Bytes::from_static(b"p"))).await;
    assert!(client.frames("r").await.len() >= 2);
    let frames_took = begun.elapsed();
    assert_eq!(client.next().await, Seen::Pong(Bytes::from_static(b"p")));
    assert!(begun.elapsed() >= STALL, "the ping was read after the stall");
    assert!(frames_took < STALL, "frames came while nothing was read");
}

#[tokio::test]
async fn a_client_that_leaves_while_nothing_is_read_counts_no_more() {
    let simulator = fast().await;
    let stall = Effect::Stall { ms: 60_000 };
    simulator.add_fault(Fault::new(Point::AfterChunks(1), stall)).unwrap();
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", 1280, true).await;
    client.frames("r").await;
    drop(client);
    // Within the deadline of a wait, which is far shorter than the stall.
    until(&simulator, |stats| stats.connections.live == 0).await;
}

#[tokio::test]
async fn a_trickling_connection_writes_only_so_fast_and_loses_nothing() {
    let simulator = with(|config| config.frame_bytes = 1000).await;
    let trickle = Effect::Trickle { bytes_per_s: 20_000 };
    simulator.add_fault(Fault::new(Point::Handshake, trickle)).unwrap();
    let mut client = Client::session(&simulator, "a").await;
    let begun = Instant::now();
    client.audio("r", 12_800, true).await;
    let frames = client.frames("r").await;
    assert_eq!(frames.len(), 10);
    // Ten frames of a kilobyte take half a second; the first portion is free.
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_upgrade_can_be_answered_by_bytes() {
    let simulator = fast().await;
    simulator.add_fault(Fault::new(Point::Upgrade, Effect::Trickle { bytes_per_s: 400 })).unwrap();
    let begun = Instant::now();
    let _client = Client::session(&simulator, "a").await;
    assert!(begun.elapsed() >= Duration::from_millis(250), "130 bytes of head: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_refused_network_comes_back_and_live_connections_stay() {
    let simulator = fast().await;
    let mut stays = Client::session(&simulator, "stays").await;
    let refuse = Effect::Refuse { for_ms: 300 };
    let fault = Fault::new(Point::Upgrade, refuse).only(Filter::avatar("b")).times(1);
    simulator.add_fault(fault).unwrap();
    let begun = Instant::now();
    assert!(Client::open(&simulator, "b").await.err().unwrap().is_err(), "no answer");
    assert_eq!(ask_token(&simulator, "/session-tokens", "key").await.unwrap_err(), "connection refused");
    in_time(async {
        while ask_token(&simulator, "/session-tokens", "key").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    Client::session(&simulator, "b").await.expect_quiet().await;
    stays.audio("r", 32, true).await;
    stays.frames("r").await;
}

#[tokio::test]
async fn with_a_seed_chance_falls_the_same_in_every_run() {
    async fn run(seed: u64) -> Vec<bool> {
        let simulator = with(|config| config.seed = Some(seed)).await;
        let fault = Fault::new(Point::Upgrade, Effect::http(503));
        simulator.add_fault(Fault { chance: Some(0.5), ..fault }).unwrap();
        let mut struck = Vec::new();
        for _ in 0..24 {
            struck.push(Client::open(&simulator, "a").await.is_err());
        }
        until(&simulator, |stats| stats.connections.live == 0).await;
        struck
    }
    let first = run(1).await;
    assert_eq!(run(1).await, first);
    assert_ne!(run(2).await, first);
    assert!(first.contains(&true) && first.contains(&false));
}
