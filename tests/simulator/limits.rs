//! The service's own limits, and each form of what is not known of it.

use std::time::Duration;

use greenroom::{
    simulator::{Arrival, Effect, Fault, Point, Simulator},
    wire::{
        Data,
        proto::{AgoraEgressConfig, EgressType, LiveKitEgressConfig, server_playback_state::State},
    },
};
use serde_json::json;

use crate::client::{Answer, Client, Seen, control, fast, http, in_time, until, with};

/// Far above what a busy machine delays a message by.
const IDLE: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(200);

async fn refused(simulator: &Simulator, avatar: &str) -> Answer {
    match Client::open(simulator, avatar).await {
        Ok(_) => panic!("this upgrade should be refused"),
        Err(answer) => answer.unwrap(),
    }
}

/// A close frame with its code and reason.
async fn close_of(client: &mut Client) -> (u16, String) {
    match client.next().await {
        Seen::Close(Some(close)) => close,
        other => panic!("expected a close frame: {other:?}"),
    }
}

#[tokio::test]
async fn credits_run_out_for_all_sessions_of_a_key_until_they_are_topped_up() {
    let simulator = with(|config| config.limits.credits_s = Some(1.0)).await;
    let mut first = Client::session(&simulator, "a").await;
    let mut second = Client::session(&simulator, "b").await;
    for client in [&mut first, &mut second] {
        assert_eq!(close_of(client).await, (4001, "credits exhausted".into()));
    }
    let seconds = simulator.stats().connected_seconds["key"];
    assert!((0.999..1.9).contains(&seconds), "two sessions used one second up together: {seconds}");
    let answer = refused(&simulator, "a").await;
    assert_eq!((answer.status, answer.message().as_str()), (402, "session denied: credits exhausted"));
    let topped = control(&simulator, "POST /_sim/credits", json!({"api_key": "key", "seconds": 60})).await;
    assert_eq!(topped.json(), json!({"api_key": "key", "seconds_left": 60.0}));
    Client::session(&simulator, "a").await.expect_quiet().await;
    let wrong = control(&simulator, "POST /_sim/credits", json!({"key": "key", "seconds": 60})).await;
    assert!(wrong.status == 400 && wrong.message().contains("unknown field `key`"), "{wrong:?}");
}

#[tokio::test]
async fn credits_can_be_taken_away_under_a_live_session() {
    let simulator = fast().await;
    let mut client = Client::session(&simulator, "a").await;
    assert_eq!(simulator.top_up("other", 0.0), 0.0);
    assert_eq!(simulator.top_up("key", 1000.0), 1000.0);
    client.expect_quiet().await;
    assert_eq!(simulator.top_up("key", -2000.0), 0.0);
    assert_eq!(close_of(&mut client).await, (4001, "credits exhausted".into()));
}

#[tokio::test]
async fn a_slot_beyond_the_concurrency_limit_is_refused_in_each_form() {
    for arrival in [Arrival::Http, Arrival::ServerError, Arrival::Close] {
        let simulator = with(|config| {
            config.limits.concurrency = Some(1);
            config.unknowns.concurrency_arrives = arrival;
        })
        .await;
        let first = Client::session(&simulator, "a").await;
        match arrival {
            Arrival::Http => {
                let answer = refused(&simulator, "b").await;
                assert_eq!((answer.status, answer.message().as_str()), (429, "concurrency limit reached"));
            }
            Arrival::ServerError => {
                let mut client = Client::open(&simulator, "b").await.ok().unwrap();
                client.configure(|_| ()).await;
                assert_eq!(client.error().await, (4003, "concurrency limit reached".into()));
                assert_eq!(client.closed().await, 1008);
            }
            Arrival::Close => {
                let mut client = Client::open(&simulator, "b").await.ok().unwrap();
                client.configure(|_| ()).await;
                assert_eq!(client.closed().await, 4003);
            }
        }
        drop(first);
        until(&simulator, |stats| stats.connections.live == 0).await;
        Client::session(&simulator, "b").await.expect_quiet().await;
        assert_eq!(simulator.stats().violations.total, 0);
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_in_each_form() {
    for arrival in [Arrival::Http, Arrival::ServerError, Arrival::Close] {
        let simulator = with(|config| config.unknowns.auth_arrives = arrival).await;
        let attempt = Client::present(&simulator, "a", "never-given").await;
        if arrival == Arrival::Http {
            assert_eq!(attempt.err().unwrap().unwrap().status, 400);
            continue;
        }
        let mut client = attempt.ok().unwrap();
        client.configure(|_| ()).await;
        if arrival == Arrival::ServerError {
            assert_eq!(client.error().await, (4010, "Invalid session token".into()));
            assert_eq!(client.closed().await, 1008);
        } else {
            assert_eq!(client.closed().await, 4010);
        }
        assert_eq!(simulator.stats().connections.confirmed, 0);
    }
}

#[tokio::test]
async fn silence_ends_a_session_and_audio_keeps_it() {
    let simulator = with(|config| config.limits.idle_timeout = Some(IDLE)).await;
    let mut client = Client::session(&simulator, "a").await;
    let since = std::time::Instant::now();
    for number in 0..4 {
        client.audio(&format!("r{number}"), 32, true).await;
        client.frames(&format!("r{number}")).await;
        tokio::time::sleep(IDLE / 3).await;
    }
    assert_eq!(close_of(&mut client).await, (1008, "no audio input for 1s".into()));
    assert!(since.elapsed() > IDLE * 3 / 2, "audio put the end off");
}

#[tokio::test]
async fn a_silent_room_is_told_with_its_own_text_and_the_clients_timeout() {
    let simulator = with(|config| {
        config.limits.idle_timeout = Some(Duration::from_secs(3600));
        config.unknowns.error_before_close = true;
    })
    .await;
    let mut client = Client::configured(&simulator, "a", |configure| {
        configure.egress_type = EgressType::Livekit as i32;
        configure.livekit_egress = Some(LiveKitEgressConfig {
            api_key: "k".into(),
            api_secret: "s".into(),
            idle_timeout: 1,
            ..Default::default()
        });
    })
    .await;
    assert_eq!(client.error().await, (14, "livekit silence timeout".into()));
    assert_eq!(close_of(&mut client).await, (1008, "livekit silence timeout".into()));
}

#[tokio::test]
async fn a_session_ends_at_its_maximum_duration() {
    for error_before_close in [false, true] {
        let simulator = with(|config| {
            config.limits.max_duration = Some(SOON);
            config.unknowns.error_before_close = error_before_close;
        })
        .await;
        let mut client = Client::session(&simulator, "a").await;
        let text = "maximum session duration reached";
        if error_before_close {
            assert_eq!(client.error().await, (4002, text.into()));
        }
        assert_eq!(close_of(&mut client).await, (4002, text.into()));
    }
}

#[tokio::test]
async fn egress_without_frames_tells_states_only() {
    let simulator = with(|config| config.unknowns.egress_frames = false).await;
    let mut client = Client::configured(&simulator, "a", |configure| {
        configure.egress_type = EgressType::Agora as i32;
        configure.agora_egress = Some(AgoraEgressConfig::default());
    })
    .await;
    client.audio("r", 6400, true).await;
    for expected in [State::Playing, State::Ended] {
        match client.next().await {
            Seen::Message(Data::ServerPlaybackState(state)) => assert_eq!(state.state, expected as i32),
            other => panic!("expected {expected:?}: {other:?}"),
        }
    }
    client.expect_quiet().await;
}

#[tokio::test]
async fn the_status_in_a_token_body_can_be_a_string() {
    for (text, expected) in [(false, json!(429)), (true, json!("429"))] {
        let simulator = with(|config| config.unknowns.token_status_text = text).await;
        simulator.add_fault(Fault::new(Point::Token, Effect::http(429))).unwrap();
        let call = http(simulator.addr(), "POST /session-tokens", &[("X-Api-Key", "k")], "{}");
        let answer = in_time(call).await.unwrap();
        assert_eq!(answer.json()["errors"][0]["status"], expected);
    }
}
