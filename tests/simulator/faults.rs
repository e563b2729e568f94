//! Every fault, as it looks on the wire.

use std::time::{Duration, Instant};

use greenroom::{
    simulator::{Close, Effect, Fault, Filter, Nonsense, Pace, Point, RequestState, Simulator},
    wire::Data,
};
use serde_json::json;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use crate::client::{
    Answer, Client, QUIET, Seen, ask_token, control, fast, send_request, token, until, with,
};

fn add(simulator: &Simulator, at: Point, effect: Effect) {
    simulator.add_fault(Fault::new(at, effect)).unwrap();
}

async fn token_answer(simulator: &Simulator) -> Result<Answer, String> {
    ask_token(simulator, "/v1/auth/session-token", "key").await
}

#[tokio::test]
async fn a_token_call_is_answered_as_scripted_so_many_times() {
    let simulator = fast().await;
    let headers = [("Retry-After".to_owned(), "7".to_owned())].into();
    let effect = Effect::Http { status: 429, body: Some(json!({"message": "slow down"})), headers };
    simulator.add_fault(Fault::new(Point::Token, effect).times(1)).unwrap();
    simulator
        .add_fault(Fault::new(Point::Token, Effect::http(503)).only(Filter::api_key("k*")).times(1))
        .unwrap();
    let answer = token_answer(&simulator).await.unwrap();
    assert_eq!((answer.status, answer.message().as_str()), (429, "slow down"));
    assert!(answer.head.to_lowercase().contains("retry-after: 7"));
    let answer = token_answer(&simulator).await.unwrap();
    assert_eq!((answer.status, &answer.json()["errors"][0]["status"]), (503, &json!(503)));
    assert_eq!(token_answer(&simulator).await.unwrap().status, 200);
    let hits: Vec<_> = simulator.faults().iter().map(|fault| fault.hits).collect();
    assert_eq!(hits, [1, 1]);
    assert_eq!(simulator.stats().faults_struck, 2);
}

#[tokio::test]
async fn a_token_call_can_end_without_an_answer() {
    let simulator = fast().await;
    add(&simulator, Point::Token, Effect::Drop { reset: false });
    assert_eq!(token_answer(&simulator).await.unwrap_err(), "end after 0 bytes");
    simulator.clear_faults();
    add(&simulator, Point::Token, Effect::Drop { reset: true });
    assert_eq!(token_answer(&simulator).await.unwrap_err(), "connection reset");
}

#[tokio::test]
async fn a_token_call_can_hang_and_can_be_late() {
    let simulator = fast().await;
    add(&simulator, Point::Token, Effect::Silence {});
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    send_request(&mut stream, "POST /session-tokens", &[("X-Api-Key", "k")], "{}").await;
    until(&simulator, |stats| stats.faults_struck == 1).await;
    assert!(timeout(QUIET, stream.read_u8()).await.is_err(), "silence says nothing");
    simulator.clear_faults();
    add(&simulator, Point::Token, Effect::Delay { ms: 60 });
    let begun = Instant::now();
    assert_eq!(token_answer(&simulator).await.unwrap().status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn token_nonsense_looks_as_named() {
    let simulator = fast().await;
    let mut answers = Vec::new();
    for nonsense in [
        Nonsense::TokenWithoutToken,
        Nonsense::ErrorsIn200,
        Nonsense::NotJson,
        Nonsense::HugeBody,
        Nonsense::HugeHeaders,
    ] {
        simulator.clear_faults();
        add(&simulator, Point::Token, Effect::Nonsense(nonsense));
        let answer = token_answer(&simulator).await.unwrap();
        assert_eq!(answer.status, 200);
        answers.push(answer);
    }
    assert_eq!(answers[0].json(), json!({}));
    assert_eq!(answers[1].json()["errors"][0]["status"], 403);
    assert!(serde_json::from_str::<serde_json::Value>(&answers[2].body).is_err());
    assert!(answers[3].body.len() > 8_000_000);
    assert!(answers[4].head.len() > 256_000);
}

async fn refused(simulator: &Simulator) -> Result<Answer, String> {
    match Client::open(simulator, "a").await {
        Ok(_) => panic!("this upgrade should fail"),
        Err(answer) => answer,
    }
}

#[tokio::test]
async fn an_upgrade_is_refused_as_scripted() {
    let simulator = fast().await;
    for (status, message) in [
        (401, "Session token expired"),
        (402, "session denied: credits exhausted"),
        (404, "app not found"),
        (429, "too many requests"),
        (503, "service unavailable"),
    ] {
        simulator.clear_faults();
        add(&simulator, Point::Upgrade, Effect::http(status));
        let answer = refused(&simulator).await.unwrap();
        assert_eq!((answer.status, answer.message().as_str()), (status, message));
    }
    simulator.clear_faults();
    let headers = [("Retry-After".to_owned(), "3".to_owned())].into();
    let body = Some(json!("app id mismatch"));
    add(&simulator, Point::Upgrade, Effect::Http { status: 400, body, headers });
    let answer = refused(&simulator).await.unwrap();
    assert_eq!(answer.body, "app id mismatch");
    assert!(answer.head.contains("Retry-After: 3\r\n"));
    assert_eq!(simulator.stats().connections.total, 0);
}

#[tokio::test]
async fn a_fault_strikes_only_whom_it_names() {
    let simulator = fast().await;
    for filter in [Filter::avatar("b"), Filter { app_id: Some("other".into()), ..Filter::default() }] {
        simulator.add_fault(Fault::new(Point::Upgrade, Effect::http(402)).only(filter)).unwrap();
    }
    assert!(Client::open(&simulator, "a").await.is_ok());
    assert!(Client::open(&simulator, "b").await.is_err());
    simulator.add_fault(Fault::new(Point::Upgrade, Effect::http(402)).only(Filter::api_key("key"))).unwrap();
    assert!(Client::open(&simulator, "a").await.is_err(), "the token remembers its key");
}

#[tokio::test]
async fn a_region_is_what_stands_before_the_services_path() {
    let simulator = fast().await;
    for at in [Point::Token, Point::Upgrade] {
        simulator.add_fault(Fault::new(at, Effect::http(503)).only(Filter::region("eu"))).unwrap();
    }
    for path in ["/v1/auth/session-token", "/v1/console/session-tokens", "/session-tokens"] {
        for (region, status) in [("", 200), ("/us", 200), ("/eu", 503)] {
            let answer = ask_token(&simulator, &format!("{region}{path}"), "key").await.unwrap();
            assert_eq!(answer.status, status, "{region}{path}");
        }
    }
    let upgrade = async |region: &str| {
        let token = token(&simulator, "key").await;
        let path = format!("{region}/v2/driveningress/websocket?id=a{}", region.trim_start_matches('/'));
        Client::upgrade(simulator.addr(), &path, &[("X-App-ID", "app"), ("X-Session-Key", &token)]).await
    };
    let (Ok(_here), Ok(mut us)) = (upgrade("").await, upgrade("/us").await) else { panic!("refused") };
    assert_eq!(upgrade("/eu").await.map(|_| ()).unwrap_err().unwrap().status, 503);
    let dropped = control(&simulator, "POST /_sim/drop", json!({"region": "us"})).await;
    assert_eq!(dropped.json(), json!({"dropped": 1}));
    assert_eq!(us.next().await, Seen::End);
}

#[tokio::test]
async fn a_reason_is_sent_whole_up_to_what_a_frame_holds() {
    let simulator = fast().await;
    let reason = format!("{}.", "ä".repeat(61));
    assert_eq!(reason.len(), 123);
    add(&simulator, Point::Handshake, Effect::close(4400, reason.clone()));
    let mut client = configured(&simulator).await;
    assert_eq!(client.next().await, Seen::Close(Some((4400, reason.clone()))));
    let longer = Fault::new(Point::Handshake, Effect::close(4400, format!("{reason}.")));
    assert!(simulator.add_fault(longer).is_err());
}

#[tokio::test]
async fn an_upgrade_can_end_hang_be_late_or_be_nonsense() {
    let simulator = fast().await;
    add(&simulator, Point::Upgrade, Effect::Drop { reset: false });
    assert_eq!(refused(&simulator).await.unwrap_err(), "end after 0 bytes");
    simulator.clear_faults();
    add(&simulator, Point::Upgrade, Effect::Drop { reset: true });
    assert_eq!(refused(&simulator).await.unwrap_err(), "connection reset");
    simulator.clear_faults();
    add(&simulator, Point::Upgrade, Effect::Silence {});
    assert!(timeout(QUIET, Client::open(&simulator, "a")).await.is_err());
    simulator.clear_faults();
    add(&simulator, Point::Upgrade, Effect::Nonsense(Nonsense::WrongAccept));
    assert_eq!(refused(&simulator).await.unwrap().status, 101);
    simulator.clear_faults();
    add(&simulator, Point::Upgrade, Effect::Nonsense(Nonsense::HugeHeaders));
    assert!(refused(&simulator).await.unwrap().head.len() > 256_000);
    simulator.clear_faults();
    add(&simulator, Point::Upgrade, Effect::Delay { ms: 60 });
    let begun = Instant::now();
    assert!(Client::open(&simulator, "a").await.is_ok());
    assert!(begun.elapsed() >= Duration::from_millis(60));
}

/// A connection that has sent its configuration and waits.
async fn configured(simulator: &Simulator) -> Client {
    let mut client = Client::open(simulator, "a").await.ok().unwrap();
    client.configure(|_| ()).await;
    client
}

#[tokio::test]
async fn the_handshake_can_fail_in_every_way() {
    let simulator = fast().await;
    let handshake = |effect| {
        simulator.clear_faults();
        add(&simulator, Point::Handshake, effect);
    };
    handshake(Effect::close(4003, "concurrency limit"));
    let mut client = configured(&simulator).await;
    assert_eq!(client.closed().await, 4003);

    let error = |then_close| {
        let message = "livekit: permission denied".to_owned();
        Effect::ServerError { code: 16, message, req_id: false, then_close }
    };
    handshake(error(None));
    let mut client = configured(&simulator).await;
    assert_eq!(client.error().await, (16, "livekit: permission denied".into()));
    client.audio("r", 640, true).await;
    client.expect_quiet().await;

    handshake(error(Some(Close { code: 4010, reason: "x".into(), after_ms: 40 })));
    let mut client = configured(&simulator).await;
    client.error().await;
    let begun = Instant::now();
    assert_eq!(client.closed().await, 4010);
    assert!(begun.elapsed() >= Duration::from_millis(35), "the close comes after the error");

    handshake(Effect::Drop { reset: false });
    assert_eq!(configured(&simulator).await.next().await, Seen::End);

    handshake(Effect::Delay { ms: 60 });
    let begun = Instant::now();
    Client::session(&simulator, "a").await;
    assert!(begun.elapsed() >= Duration::from_millis(60));
    assert_eq!(simulator.stats().connections.confirmed, 1);
}

#[tokio::test]
async fn handshake_nonsense_looks_as_named() {
    let simulator = fast().await;
    let mut seen = Vec::new();
    for nonsense in [
        Nonsense::TextFrame,
        Nonsense::BadProtobuf,
        Nonsense::UnknownType,
        Nonsense::BadFrame,
        Nonsense::EmptyConnectionId,
        Nonsense::WrongFirstMessage,
    ] {
        simulator.clear_faults();
        add(&simulator, Point::Handshake, Effect::Nonsense(nonsense));
        seen.push(configured(&simulator).await.next().await);
    }
    assert_eq!(seen[..4], [Seen::Text, Seen::Undecodable, Seen::UnknownType, Seen::BrokenFrame]);
    assert!(
        matches!(&seen[4], Seen::Message(Data::ServerConfirmSession(confirm)) if confirm.connection_id.is_empty())
    );
    assert!(matches!(&seen[5], Seen::Message(Data::ServerResponseAnimation(_))));
}

#[tokio::test]
async fn silence_neither_reads_nor_writes_and_ends_when_the_client_leaves() {
    let simulator = with(|config| config.pace = Pace::Realtime).await;
    add(&simulator, Point::AfterFrames(2), Effect::Silence {});
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", 32_000, true).await;
    client.frame().await;
    client.frame().await;
    client.send_raw(actix_http::ws::Message::Ping("still there?".into())).await;
    client.expect_quiet().await;
    assert_eq!(simulator.stats().connections.live, 1);
    drop(client);
    let stats = until(&simulator, |stats| stats.connections.live == 0).await;
    assert_eq!(stats.requests["r"].state, RequestState::Lost);
}

#[tokio::test]
async fn a_fault_strikes_after_exactly_so_many_chunks() {
    let simulator = fast().await;
    add(&simulator, Point::AfterChunks(3), Effect::close(4001, "credits exhausted"));
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", 0, false).await;
    client.audio("r", 0, false).await;
    client.expect_quiet().await;
    client.audio("r", 0, false).await;
    assert_eq!(client.closed().await, 4001);
    let stats = until(&simulator, |stats| stats.connections.live == 0).await;
    assert_eq!(stats.requests["r"].chunks, 3);
}

#[tokio::test]
async fn a_fault_strikes_after_exactly_so_many_frames() {
    let simulator = fast().await;
    add(&simulator, Point::AfterFrames(10), Effect::Drop { reset: false });
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", 320_000, true).await;
    let mut frames = 0;
    loop {
        match client.next().await {
            Seen::Message(Data::ServerResponseAnimation(_)) => frames += 1,
            Seen::End => break,
            other => panic!("no close frame should come, and nothing else: {other:?}"),
        }
    }
    assert_eq!(frames, 10, "what was made before the fault arrives");
    assert_eq!(until(&simulator, |stats| stats.connections.live == 0).await.frames_sent, 10);
}

#[tokio::test]
async fn a_fault_strikes_after_a_time_also_one_that_is_added_later() {
    let simulator = fast().await;
    add(&simulator, Point::AfterSeconds(0.08), Effect::close(4002, "maximum session duration reached"));
    let begun = Instant::now();
    let mut client = Client::session(&simulator, "a").await;
    assert_eq!(client.closed().await, 4002);
    assert!(begun.elapsed() >= Duration::from_millis(80));
    simulator.clear_faults();
    let mut client = Client::session(&simulator, "a").await;
    client.expect_quiet().await;
    add(&simulator, Point::AfterSeconds(0.01), Effect::Drop { reset: true });
    assert_eq!(client.next().await, Seen::Reset);
}

#[tokio::test]
async fn an_error_that_names_a_request_ends_that_request_alone() {
    let simulator = with(|config| config.pace = Pace::Realtime).await;
    let message = "inference failed".to_owned();
    add(
        &simulator,
        Point::AfterChunks(2),
        Effect::ServerError { code: 14, message, req_id: true, then_close: None },
    );
    let mut client = Client::session(&simulator, "a").await;
    client.audio("one", 6_400, true).await;
    client.audio("two", 320_000, true).await;
    let (mut error, mut ones) = (None, 0);
    while error.is_none() || ones < 5 {
        match client.next().await {
            Seen::Message(Data::ServerError(seen)) => error = Some(seen),
            Seen::Message(Data::ServerResponseAnimation(frame)) => {
                assert!(error.is_none() || frame.req_id == "one", "the failed request has no more frames");
                ones += usize::from(frame.req_id == "one");
            }
            other => panic!("{other:?}"),
        }
    }
    let error = error.unwrap();
    assert_eq!((error.code, error.req_id.as_str()), (14, "two"));
    assert_eq!(error.connection_id, client.connection_id);
    client.audio("three", 640, true).await;
    assert_eq!(client.frames("three").await.len(), 1);
    let stats = until(&simulator, |stats| stats.requests_in(RequestState::Completed) == 2).await;
    assert_eq!(stats.requests["two"].state, RequestState::Failed);
}

#[tokio::test]
async fn runtime_nonsense_comes_in_the_midst() {
    let simulator = fast().await;
    for (nonsense, expected) in [
        (Nonsense::TextFrame, Seen::Text),
        (Nonsense::UnknownType, Seen::UnknownType),
        (Nonsense::BadProtobuf, Seen::Undecodable),
    ] {
        simulator.clear_faults();
        add(&simulator, Point::AfterChunks(1), Effect::Nonsense(nonsense));
        let mut client = Client::session(&simulator, "a").await;
        client.audio("r", 0, false).await;
        assert_eq!(client.next().await, expected);
        client.audio("r", 0, true).await;
        assert_eq!(client.frames("r").await.len(), 1, "the connection goes on");
    }
    simulator.clear_faults();
    add(&simulator, Point::AfterChunks(1), Effect::Nonsense(Nonsense::UnknownRequest));
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", 0, false).await;
    assert_ne!(client.frame().await.req_id, "r");
}
