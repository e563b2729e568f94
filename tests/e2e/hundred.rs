//! A hundred sessions that speak in real time, as the demo has them, on two cores.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::world::{ACME, World, silence};

const SESSIONS: usize = 100;
/// Four seconds of speech.
const FRAMES: usize = 100;
const SPEECH: Duration = Duration::from_secs(4);
/// A machine that cannot keep up falls behind by more, and further with every second.
const BEHIND: Duration = Duration::from_secs(1);

#[actix_rt::test]
async fn a_hundred_sessions_speak_in_real_time_and_no_frame_is_lost() {
    let world = World::alone_in_real_time("").await;
    let ids = join_all((0..SESSIONS).map(|number| {
        let avatar = format!("hundred-{number}");
        let world = &world;
        async move { world.running(ACME, &avatar).await }
    }))
    .await;
    let begun = Instant::now();
    let speak = |id: &String| {
        let path = format!("/v1/sessions/{id}/requests?wait=true");
        let world = &world;
        async move { world.audio(ACME, &path, silence(FRAMES)).await.expect(200) }
    };
    let outcomes = join_all(ids.iter().map(speak)).await;
    let took = begun.elapsed();
    for outcome in &outcomes {
        assert_eq!((&outcome["outcome"], &outcome["frame_count"]), (&json!("completed"), &json!(FRAMES)));
    }
    let made: u64 = world.simulator.stats().requests.values().map(|request| request.frames).sum();
    assert_eq!(made, (SESSIONS * FRAMES) as u64);
    assert_eq!(world.metric("greenroom_frames_total", &[("direction", "down")]), made as f64);
    println!("{SESSIONS} sessions spoke for {SPEECH:?} in {took:.2?}, {made} frames");
    assert!((SPEECH - Duration::from_millis(100)..SPEECH + BEHIND).contains(&took), "{took:?}");
    world.end().await;
}
