//! `GET /_sim/record` and `Simulator::record()`: what happened, in order and with times.

use greenroom::simulator::{Digest, Effect, Event, Fault, Filter, Happening, Point};
use serde_json::{Value, json};

use crate::client::{Client, control, fast, in_time, token};

/// The events' names, of one avatar id.
fn names(events: &[Event], avatar: &str) -> Vec<String> {
    let of = |event: &&Event| event.avatar_id.as_deref() == Some(avatar);
    let name = |event: &Event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned();
    events.iter().filter(of).map(name).collect()
}

#[tokio::test]
async fn a_session_is_recorded_from_its_token_to_its_close() {
    let simulator = fast().await;
    let fault = Fault::new(Point::AfterChunks(3), Effect::close(4503, "dependency"));
    simulator.add_fault(fault.only(Filter::avatar("a"))).unwrap();
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r1", 3200, false).await;
    client.audio("r1", 3200, true).await;
    client.frames("r1").await;
    client.audio("r2", 10, false).await;
    assert_eq!(client.closed().await, 4503);
    let events = simulator.record();
    assert_eq!((&events[0].what, events[0].api_key.as_deref()), (&Happening::TokenGiven, Some("key")));
    let expected = [
        "upgrade_granted",
        "confirmed",
        "audio",
        "frames",
        "audio",
        "fault_struck",
        "close_sent",
        "close_received",
    ];
    assert_eq!(names(&events, "a"), expected);
    let whats: Vec<_> = events.iter().map(|event| event.what.clone()).collect();
    let mut digest = Digest::default();
    digest.feed(&[7; 6400]);
    let audio = Happening::Audio { req_id: "r1".into(), chunks: 2, bytes: 6400, digest };
    assert!(whats.contains(&audio), "{whats:?}");
    assert!(whats.contains(&Happening::Frames { req_id: "r1".into(), frames: 5, ends: 1 }), "{whats:?}");
    assert!(whats.contains(&Happening::CloseSent { code: 4503, reason: "dependency".into() }));
    assert!(whats.contains(&Happening::CloseReceived { code: Some(4503) }));
    assert!(whats.contains(&Happening::FaultStruck { id: 1 }));
    assert!(events.iter().all(|event| event.at_ms <= event.until_ms));
    assert!(events.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms));
    let connection = events.iter().find_map(|event| event.connection_id.clone());
    assert_eq!(connection, Some(client.connection_id));
}

#[tokio::test]
async fn refusals_errors_drops_and_departures_are_recorded() {
    let simulator = fast().await;
    let error = Effect::ServerError { code: 14, message: "m".into(), req_id: false, then_close: None };
    simulator.add_fault(Fault::new(Point::AfterChunks(1), error)).unwrap();
    simulator.add_fault(Fault::new(Point::Token, Effect::http(429)).only(Filter::api_key("poor"))).unwrap();
    assert!(Client::open(&simulator, "missing-a").await.is_err());
    crate::client::ask_token(&simulator, "/session-tokens", "poor").await.unwrap();
    let mut dropped = Client::session(&simulator, "dropped").await;
    dropped.audio("r", 10, false).await;
    dropped.error().await;
    simulator.drop_connections(&Filter::avatar("dropped"));
    dropped.next().await;
    drop(Client::session(&simulator, "left").await);
    let events = in_time(async {
        loop {
            let events = simulator.record();
            if names(&events, "left").len() >= 3 {
                return events;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(names(&events, "left"), ["upgrade_granted", "confirmed", "left"]);
    assert_eq!(names(&events, "missing-a"), ["upgrade_refused"]);
    let expected = ["upgrade_granted", "confirmed", "audio", "fault_struck", "error_sent", "dropped"];
    assert_eq!(names(&events, "dropped"), expected);
    let whats: Vec<_> = events.into_iter().map(|event| event.what).collect();
    for what in [
        Happening::UpgradeRefused { status: 404 },
        Happening::TokenRefused { status: 429 },
        Happening::ErrorSent { code: 14, message: "m".into(), req_id: String::new() },
        Happening::Dropped { reset: false },
    ] {
        assert!(whats.contains(&what), "{what:?} in {whats:?}");
    }
}

#[tokio::test]
async fn the_record_is_asked_by_avatar_and_time() {
    let simulator = fast().await;
    // Not before the simulator's own clock.
    let began = std::time::Instant::now();
    let _a = Client::session(&simulator, "a-1").await;
    let _b = Client::session(&simulator, "b-1").await;
    token(&simulator, "key").await;
    let get = async |query: &str| {
        control(&simulator, &format!("GET /_sim/record{query}"), Value::Null).await.json()
    };
    let all = get("").await;
    assert_eq!(all, serde_json::to_value(simulator.record()).unwrap());
    assert_eq!(all.as_array().unwrap().len(), 7);
    assert_eq!(get("?avatar_id=&since=0").await, all);
    let of_a = get("?avatar_id=a-*").await;
    assert_eq!(of_a.pointer("/0/event"), Some(&json!("upgrade_granted")));
    assert_eq!(of_a.as_array().unwrap().len(), 2);
    assert_eq!(get("?since=999999999").await, json!([]));
    // Events of one millisecond belong together: a later one tells what was before.
    let last = all.as_array().unwrap().last().unwrap()["until_ms"].as_u64().unwrap();
    while u64::try_from(began.elapsed().as_millis()).unwrap() <= last + 1 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let _c = Client::session(&simulator, "c-1").await;
    let later = get(&format!("?since={}", last + 1)).await;
    let events = ["token_given", "upgrade_granted", "confirmed"];
    let told: Vec<_> =
        later.as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(told, events);
    assert_eq!(
        get(&format!("?since={}", last + 1)).await,
        get(&format!("?avatar_id=&since={}", last + 1)).await
    );
    assert_eq!(get(&format!("?avatar_id=a-1&since={}", last + 1)).await, json!([]));
    let wrong = control(&simulator, "GET /_sim/record?since=soon", Value::Null).await;
    assert!(wrong.status == 400 && !wrong.message().is_empty(), "{wrong:?}");
}
