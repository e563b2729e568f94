//! Audio in, animation out.

use std::time::{Duration, Instant};

use actix_http::ws;
use bytes::{Bytes, BytesMut};
use greenroom::{
    simulator::{Pace, RequestState, check_frame_payload},
    wire::{
        Data,
        proto::{
            AgoraEgressConfig, ClientConfigureSession, ClientInterrupt, ClientPause, ClientResume,
            EgressType, ServerPlaybackState, server_playback_state::State,
        },
    },
};
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_util::codec::Encoder as _;

use crate::client::{Client, Seen, fast, until, with};

/// A second of 16 kHz PCM.
const SECOND: usize = 32_000;

fn interrupt(req_id: &str) -> Data {
    Data::ClientInterrupt(ClientInterrupt { req_id: req_id.into() })
}

fn pause(req_id: &str) -> Data {
    Data::ClientPause(ClientPause { req_id: req_id.into() })
}

fn resume(req_id: &str) -> Data {
    Data::ClientResume(ClientResume { req_id: req_id.into() })
}

fn agora(configure: &mut ClientConfigureSession) {
    configure.egress_type = EgressType::Agora as i32;
    configure.agora_egress = Some(AgoraEgressConfig::default());
}

#[tokio::test]
async fn a_clip_comes_back_as_25_frames_a_second_in_order_and_whole() {
    let simulator = with(|config| config.frame_bytes = 100).await;
    let mut client = Client::session(&simulator, "ava").await;
    for _ in 0..9 {
        client.audio("r", SECOND / 8, false).await;
    }
    client.audio("r", 2, true).await;
    let frames = client.frames("r").await;
    assert_eq!(frames.len(), 29, "9/8 of a second and one sample");
    for (index, frame) in (0..).zip(&frames) {
        assert_eq!(check_frame_payload("r", &frame.animation), Ok(index));
        assert_eq!(frame.animation.len(), 100);
        assert_eq!(
            (frame.connection_id.as_str(), frame.avatar_id.as_str()),
            (client.connection_id.as_str(), "ava")
        );
    }
    let stats = until(&simulator, |stats| stats.requests_in(RequestState::Completed) == 1).await;
    let request = &stats.requests["r"];
    assert_eq!((request.chunks, request.audio_bytes, request.frames), (10, SECOND as u64 * 9 / 8 + 2, 29));
    assert_eq!(stats.frames_sent, 29);
}

#[tokio::test]
async fn a_request_without_audio_has_one_frame() {
    let simulator = fast().await;
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", 0, true).await;
    assert_eq!(client.frames("r").await.len(), 1);
}

#[tokio::test]
async fn in_real_time_the_frames_are_spread_over_the_clips_length() {
    let simulator = with(|config| config.pace = Pace::Realtime).await;
    let mut client = Client::session(&simulator, "a").await;
    let begun = Instant::now();
    client.audio("r", SECOND / 2, true).await;
    let mut arrivals = Vec::new();
    loop {
        let frame = client.frame().await;
        arrivals.push(begun.elapsed());
        if frame.end {
            break;
        }
    }
    assert_eq!(arrivals.len(), 13);
    for (frame, arrival) in (0..).zip(&arrivals) {
        let due = Duration::from_millis(40) * frame;
        assert!(*arrival >= due, "frame {frame} came at {arrival:?}, before its time");
    }
    // A bound that only a stalled machine misses; the exact cadence is tested on the schedule.
    assert!(arrivals[12] < Duration::from_secs(3), "{arrivals:?}");
}

#[tokio::test]
async fn requests_that_overlap_are_answered_side_by_side() {
    let simulator = with(|config| config.pace = Pace::Realtime).await;
    let mut client = Client::session(&simulator, "a").await;
    client.audio("one", SECOND / 4, true).await;
    client.audio("two", SECOND / 4, true).await;
    let mut order = Vec::new();
    while order.len() < 14 {
        let frame = client.frame().await;
        order.push((
            frame.req_id,
            check_frame_payload(if order.len() % 2 == 0 { "one" } else { "two" }, &frame.animation).is_ok(),
        ));
    }
    let of = |id: &str| order.iter().filter(|(req_id, _)| req_id == id).count();
    assert_eq!((of("one"), of("two")), (7, 7));
    assert!(order.iter().position(|(id, _)| id == "two").unwrap() < 7, "the second waits for nobody");
}

#[tokio::test]
async fn an_interrupt_stops_the_frames_with_one_final_empty_one() {
    let simulator = with(|config| config.pace = Pace::Realtime).await;
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", SECOND * 60, true).await;
    client.frame().await;
    client.send(interrupt("r")).await;
    let frames = client.frames("r").await;
    let last = frames.last().unwrap();
    assert!(last.end && last.animation.is_empty());
    assert!(frames.len() < 100, "a minute of frames would be 1,500");
    // Audio under way at the interrupt, another interrupt, and one for a stranger: no answer, no violation.
    client.audio("r", 640, false).await;
    client.send(interrupt("r")).await;
    client.send(interrupt("nobody")).await;
    client.audio("next", 640, true).await;
    assert_eq!(client.frames("next").await.len(), 1);
    let stats = until(&simulator, |stats| stats.requests_in(RequestState::Completed) == 1).await;
    assert_eq!(stats.requests["r"].state, RequestState::Interrupted);
    assert_eq!(stats.violations.total, 0);
}

#[tokio::test]
async fn audio_behind_the_end_is_a_violation_and_nothing_more() {
    let simulator = fast().await;
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", 640, true).await;
    client.frames("r").await;
    client.audio("r", 640, false).await;
    client.audio("s", 640, true).await;
    assert_eq!(client.frames("s").await.len(), 1);
    assert_eq!(simulator.stats().violations.total, 1);
}

#[tokio::test]
async fn pause_and_resume_mean_nothing_without_egress() {
    let simulator = fast().await;
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", SECOND, false).await;
    client.send(pause("r")).await;
    client.send(resume("r")).await;
    client.audio("r", 0, true).await;
    assert_eq!(client.frames("r").await.len(), 25);
}

/// What egress shows, in short.
async fn egress_event(client: &mut Client) -> String {
    match client.next().await {
        Seen::Message(Data::ServerResponseAnimation(frame)) => {
            assert!(frame.animation.is_empty());
            format!("frame end={}", frame.end)
        }
        Seen::Message(Data::ServerPlaybackState(state)) => {
            let ServerPlaybackState { state, reason, .. } = state;
            format!("{} {reason}", State::try_from(state).unwrap().as_str_name()).trim_end().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn egress_shows_the_beginning_and_the_end_and_the_end_twice() {
    let simulator = fast().await;
    let mut client = Client::configured(&simulator, "a", agora).await;
    client.audio("r", SECOND, true).await;
    for expected in ["frame end=false", "PLAYING", "frame end=true", "frame end=true", "ENDED"] {
        assert_eq!(egress_event(&mut client).await, expected);
    }
    client.expect_quiet().await;
    let stats = simulator.stats();
    assert_eq!((stats.frames_sent, stats.requests_in(RequestState::Completed)), (3, 1));
}

#[tokio::test]
async fn egress_without_capabilities_says_no_states() {
    let simulator = with(|config| {
        config.capabilities.clear();
        config.egress_double_end = false;
    })
    .await;
    let mut client = Client::configured(&simulator, "a", agora).await;
    client.send(pause("r")).await;
    client.audio("r", SECOND, true).await;
    for expected in ["frame end=false", "frame end=true"] {
        assert_eq!(egress_event(&mut client).await, expected);
    }
    client.expect_quiet().await;
}

#[tokio::test]
async fn each_pause_and_each_resume_has_exactly_one_answer() {
    let simulator = with(|config| config.pace = Pace::Realtime).await;
    let mut client = Client::configured(&simulator, "a", agora).await;
    client.audio("r", SECOND / 5, false).await;
    assert_eq!(egress_event(&mut client).await, "frame end=false");
    assert_eq!(egress_event(&mut client).await, "PLAYING");
    client.send(pause("r")).await;
    assert_eq!(egress_event(&mut client).await, "PAUSED explicit");
    client.audio("r", 0, true).await;
    client.expect_quiet().await;
    client.send(resume("r")).await;
    for expected in ["PLAYING explicit", "frame end=true", "frame end=true", "ENDED"] {
        assert_eq!(egress_event(&mut client).await, expected);
    }
    client.send(pause("r")).await;
    assert_eq!(egress_event(&mut client).await, "ENDED");
}

#[tokio::test]
async fn a_pause_held_too_long_interrupts() {
    let simulator = with(|config| {
        config.pace = Pace::Realtime;
        config.pause_timeout = Duration::from_millis(30);
    })
    .await;
    let mut client = Client::configured(&simulator, "a", agora).await;
    client.audio("r", SECOND, true).await;
    egress_event(&mut client).await;
    egress_event(&mut client).await;
    client.send(pause("r")).await;
    for expected in ["PAUSED explicit", "INTERRUPTED pause_timeout", "frame end=true"] {
        assert_eq!(egress_event(&mut client).await, expected);
    }
    client.audio("s", SECOND, true).await;
    egress_event(&mut client).await;
    egress_event(&mut client).await;
    client.send(interrupt("s")).await;
    for expected in ["INTERRUPTED explicit", "frame end=true"] {
        assert_eq!(egress_event(&mut client).await, expected);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_frames_and_is_dropped_in_the_end() {
    let simulator = with(|config| {
        config.frame_bytes = 64 * 1024;
        config.stall_timeout = Duration::from_millis(300);
    })
    .await;
    let mut client = Client::session(&simulator, "a").await;
    // 2,500 frames of 64 KiB: 160 MiB, far beyond what the sockets' buffers hold.
    client.audio("r", SECOND * 100, true).await;
    let stats = until(&simulator, |stats| stats.connections.live == 0).await;
    assert!(stats.frames_sent < 2500, "{} frames were made for nobody", stats.frames_sent);
    assert_eq!(stats.requests["r"].state, RequestState::Lost);
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_not_read_from_either() {
    /// Far more than the sockets' buffers hold, in both directions together.
    const FLOOD: usize = 64 * 1024 * 1024;
    let simulator = with(|config| config.outgoing_limit_bytes = 1024).await;
    let mut client = Client::session(&simulator, "a").await;
    let mut pings = BytesMut::new();
    let mut codec = ws::Codec::new().client_mode();
    while pings.len() < 1024 * 1024 {
        codec.encode(ws::Message::Ping(Bytes::from_static(&[1; 120])), &mut pings).unwrap();
    }
    for _ in 0..FLOOD / pings.len() {
        // A mebibyte takes some 0.1 s; the simulator's own patience is far longer than this.
        if timeout(Duration::from_secs(2), client.stream.write_all(&pings)).await.is_err() {
            return;
        }
    }
    panic!("all was read, and answered to nobody");
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_every_frame() {
    let simulator = with(|config| config.frame_bytes = 64 * 1024).await;
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", SECOND * 20, true).await;
    let frames = client.frames("r").await;
    assert_eq!(frames.len(), 500);
    assert!((0..).zip(&frames).all(|(index, frame)| check_frame_payload("r", &frame.animation) == Ok(index)));
}
