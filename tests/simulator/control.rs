//! The control API, the outage switch, the statistics.

use std::time::Duration;

use greenroom::simulator::{Effect, Fault, Filter, Point, SimulatorConfig, spawn_thread};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::{
    Client, Seen, ask_token, control, fast, in_time, read_answer, send_request, token, until, with,
};

#[tokio::test]
async fn faults_are_added_listed_with_their_hits_and_cleared() {
    let simulator = fast().await;
    let one = json!({"at": "upgrade", "do": {"http": {"status": 402}}, "match": {"avatar_id": "poor-*"}});
    let answer = control(&simulator, "POST /_sim/faults", one.clone()).await;
    assert_eq!((answer.status, answer.json()), (201, json!({"ids": [1]})));
    let more = json!([
        {"at": {"after_chunks": 1}, "do": {"drop": {}}, "times": 1},
        {"at": "token", "do": {"nonsense": "errors_in_200"}, "chance": 0.0}
    ]);
    assert_eq!(control(&simulator, "POST /_sim/faults", more).await.json(), json!({"ids": [2, 3]}));
    assert!(Client::open(&simulator, "poor-1").await.is_err());
    let list = control(&simulator, "GET /_sim/faults", Value::Null).await.json();
    assert_eq!(list[0]["fault"], one);
    let hits: Vec<_> = list.as_array().unwrap().iter().map(|fault| fault["hits"].as_u64().unwrap()).collect();
    assert_eq!(hits, [1, 0, 0]);
    assert_eq!(control(&simulator, "DELETE /_sim/faults", Value::Null).await.status, 204);
    assert!(Client::open(&simulator, "poor-1").await.is_ok());
}

#[tokio::test]
async fn a_wrong_fault_is_refused_by_name_and_its_list_with_it() {
    let simulator = fast().await;
    let wrong = json!([
        {"at": "token", "do": {"drop": {}}},
        {"at": "token", "do": {"close": {"code": 4001}}}
    ]);
    let answer = control(&simulator, "POST /_sim/faults", wrong).await;
    assert_eq!(answer.status, 400);
    assert!(answer.message().contains("fault 2") && answer.message().contains("close"), "{answer:?}");
    assert!(simulator.faults().is_empty());
    let answer = control(&simulator, "POST /_sim/faults", json!({"at": "token", "do": {"dorp": {}}})).await;
    assert!(answer.message().contains("dorp"), "{answer:?}");
}

#[tokio::test]
async fn a_drop_sends_no_close_frame_and_strikes_only_whom_it_names() {
    let simulator = fast().await;
    let mut gone = Client::session(&simulator, "gone").await;
    let mut stays = Client::session(&simulator, "stays").await;
    let answer = control(&simulator, "POST /_sim/drop", json!({"avatar_id": "gone"})).await;
    assert_eq!(answer.json(), json!({"dropped": 1}));
    assert_eq!(gone.next().await, Seen::End);
    stays.expect_quiet().await;
    assert_eq!(
        control(&simulator, "POST /_sim/drop", json!({"reset": true})).await.json(),
        json!({"dropped": 1})
    );
    assert_eq!(stays.next().await, Seen::Reset);
    assert_eq!(simulator.drop_connections(&Filter::default()), 0);
}

#[tokio::test]
async fn a_share_is_drawn_by_lot() {
    let simulator = fast().await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(Client::session(&simulator, "a").await);
    }
    assert_eq!(
        control(&simulator, "POST /_sim/drop", json!({"share": 0.3})).await.json(),
        json!({"dropped": 3})
    );
    let stats = until(&simulator, |stats| stats.connections.live == 7).await;
    assert_eq!(stats.session("app", "a").map(|session| (session.live, session.peak)), Some((7, 10)));
}

#[tokio::test]
async fn any_effect_can_strike_now() {
    let simulator = fast().await;
    let mut client = Client::session(&simulator, "a").await;
    let strike = json!({"match": {"api_key": "key"}, "do": {"close": {"code": 4010, "reason": "session token expired"}}});
    assert_eq!(control(&simulator, "POST /_sim/strike", strike).await.json(), json!({"struck": 1}));
    assert_eq!(client.next().await, Seen::Close(Some((4010, "session token expired".into()))));
    let impossible = json!({"do": {"http": {"status": 402}}});
    assert_eq!(control(&simulator, "POST /_sim/strike", impossible).await.status, 400);
}

#[tokio::test]
async fn an_outage_refuses_connections_and_the_same_port_comes_back() {
    let simulator = fast().await;
    let mut live = Client::session(&simulator, "a").await;
    let mut idle = TcpStream::connect(simulator.addr()).await.unwrap();
    send_request(&mut idle, "POST /session-tokens", &[], "{}").await;
    assert_eq!(read_answer(&mut idle).await.unwrap().0.status, 401);
    for _ in 0..3 {
        simulator.set_down(true).await;
        assert_eq!(ask_token(&simulator, "/session-tokens", "k").await.unwrap_err(), "connection refused");
        simulator.set_down(false).await;
        assert_eq!(ask_token(&simulator, "/session-tokens", "k").await.unwrap().status, 200);
    }
    live.audio("r", 640, true).await;
    assert_eq!(live.frames("r").await.len(), 1, "a live connection outlives the outage");
    assert!(read_answer(&mut idle).await.is_err(), "one that waits for its next call does not");
}

#[tokio::test]
async fn an_outage_by_http_can_be_ended_by_its_own_connection_or_by_itself() {
    let simulator = fast().await;
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    send_request(&mut stream, "POST /_sim/down", &[], &json!({"down": true}).to_string()).await;
    assert_eq!(read_answer(&mut stream).await.unwrap().0.json(), json!({"down": true}));
    assert!(TcpStream::connect(simulator.addr()).await.is_err());
    send_request(&mut stream, "POST /_sim/down", &[], &json!({"down": false}).to_string()).await;
    assert_eq!(read_answer(&mut stream).await.unwrap().0.json(), json!({"down": false}));
    control(&simulator, "POST /_sim/down", json!({"down": true, "for_ms": 50})).await;
    in_time(async {
        while TcpStream::connect(simulator.addr()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn two_connections_of_one_session_are_seen_and_one_after_the_other_is_not() {
    let simulator = with(|config| config.workers = 2).await;
    // A silent connection with unread bytes is the slowest to see its client leave.
    simulator.add_fault(Fault::new(Point::AfterSeconds(0.0), Effect::Silence {})).unwrap();
    for _ in 0..20 {
        let next = token(&simulator, "key").await;
        let mut silent = Client::session(&simulator, "turns").await;
        silent.audio("unread", 640, false).await;
        // Dropped without a close frame, and the next one follows at once.
        drop(silent);
        drop(Client::present(&simulator, "turns", &next).await);
    }
    simulator.clear_faults();
    let _first = Client::session(&simulator, "both").await;
    let _second = Client::session(&simulator, "both").await;
    let stats = simulator.stats();
    let peak = |avatar: &str| stats.session("app", avatar).unwrap().peak;
    assert_eq!((peak("turns"), peak("both"), stats.max_session_peak), (1, 2, 2));
    assert_eq!(stats.session("app", "turns").unwrap().connections, 40);
}

#[tokio::test]
async fn the_statistics_count_attempts_tokens_and_time() {
    let simulator = fast().await;
    let mut client = Client::session(&simulator, "a").await;
    client.audio("r", 640, true).await;
    client.frames("r").await;
    assert!(Client::open(&simulator, "missing").await.is_err());
    let unconfirmed = Client::open(&simulator, "b").await.ok().unwrap();
    until(&simulator, |stats| stats.connected_seconds.get("key").is_some_and(|seconds| *seconds > 0.01))
        .await;
    let stats = control(&simulator, "GET /_sim/stats", Value::Null).await.json();
    for (pointer, expected) in [
        ("/connections/total", 2),
        ("/connections/live", 2),
        ("/connections/confirmed", 1),
        ("/connections/unconfirmed", 1),
        ("/token_calls/total", 3),
        ("/upgrades/total", 3),
        ("/attempts_by_avatar/missing", 1),
        ("/upgrades_refused/404", 1),
        ("/tokens_given", 3),
        ("/audio_bytes", 640),
        ("/requests/r/audio_bytes", 640),
        ("/requests_by_state/completed", 1),
        ("/violations/total", 0),
    ] {
        assert_eq!(stats.pointer(pointer), Some(&json!(expected)), "{pointer} in {stats}");
    }
    assert_eq!(stats["requests"]["r"]["state"], "completed");
    let per_second = stats["upgrades"]["per_second"].as_array().unwrap();
    assert_eq!(per_second.iter().filter_map(Value::as_u64).sum::<u64>(), 3);
    drop(unconfirmed);
    until(&simulator, |stats| stats.connections.unconfirmed == 0).await;
}

#[tokio::test]
async fn a_storm_connects_and_is_dropped_at_once() {
    const SESSIONS: usize = 300;
    let simulator = with(|config| config.workers = 2).await;
    let avatars: Vec<_> = (0..SESSIONS).map(|number| format!("a{number}")).collect();
    let sessions = avatars.iter().map(|avatar| Client::session(&simulator, avatar));
    let mut clients = futures_util::future::join_all(sessions).await;
    assert_eq!(simulator.drop_connections(&Filter::avatar("a*")), SESSIONS);
    for client in &mut clients {
        assert_eq!(client.next().await, Seen::End);
    }
    let stats = simulator.stats();
    assert_eq!((stats.connections.live, stats.connections.peak), (0, SESSIONS as u64));
    assert_eq!((stats.max_session_peak, stats.sessions.len()), (1, SESSIONS));
}

#[tokio::test]
async fn a_stopped_simulator_frees_its_port_and_ends_its_connections() {
    let simulator = fast().await;
    let addr = simulator.addr();
    let mut client = Client::session(&simulator, "a").await;
    simulator.stop().await;
    assert!(matches!(client.next().await, Seen::End | Seen::Reset));
    let again = with(|config| config.listen = addr).await;
    assert_eq!(again.addr(), addr);
}

#[tokio::test]
async fn it_starts_from_anywhere() {
    let inside = spawn_thread(SimulatorConfig::default()).unwrap();
    Client::session(&inside, "a").await;
    let outside = std::thread::spawn(|| spawn_thread(SimulatorConfig::default()).unwrap()).join().unwrap();
    Client::session(&outside, "a").await;
    let taken = spawn_thread(SimulatorConfig { listen: outside.addr(), ..SimulatorConfig::default() });
    assert_eq!(taken.err().map(|error| error.kind()), Some(std::io::ErrorKind::AddrInUse));
}

#[test]
fn it_starts_inside_an_actix_system() {
    actix_rt::System::new().block_on(async {
        let simulator = fast().await;
        Client::session(&simulator, "a").await;
        simulator.stop().await;
    });
}
