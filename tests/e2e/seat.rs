//! Sessions of drop-in clients: how a client comes, what it hears, and how it goes.

use greenroom::{
    errors::ErrorCode,
    manager::IngressRefused,
    session::{
        AttachMode, AttachRefused, ClientAudioRefused, ConfigureRefused, Control, Departure, Farewell,
        InjectPanic, ToClient,
    },
    wire::{self, Data, proto},
};
use serde_json::json;

use crate::{
    client::{Client, configuration},
    world::{ACME, GLOBEX, World, until},
};

fn crash(client: &Client) {
    client.entry.address.load_full().expect("it has an actor").do_send(InjectPanic);
}

fn clients(world: &World) -> f64 {
    world.metric("greenroom_clients", &[])
}

#[actix_rt::test]
async fn an_upgrade_is_answered_when_the_services_is_and_the_configuration_is_the_clients() {
    let world = World::start("").await;
    let manager = world.process.manager();
    manager.open_breaker().await.unwrap();
    let mut client = Client::arrive(manager, ACME, "talker").await;
    until("its ask", async || match world.metric("greenroom_gate_waiting", &[]) {
        1.0 => Ok(()),
        waiting => Err(format!("{waiting} wait")),
    })
    .await;
    assert!(client.has_heard_all(), "the service was not asked yet");
    assert_eq!(world.attempts("talker"), 0);
    manager.close_breaker().await.unwrap();
    client.ready().await;
    assert_eq!((world.attempts("talker"), clients(&world)), (1, 1.0));
    let session = world.session(client.session()).await;
    assert_eq!((&session["origin"], &session["state"]), (&json!("ingress"), &json!("starting")));

    let confirm = client.confirmed(24_000).await;
    assert!(!confirm.connection_id.is_empty());
    let session = world.wait_state(client.session(), "running").await;
    assert_eq!(session["sample_rate"], 24_000);
    assert_eq!(session["connection_id"], confirm.connection_id.as_str());
    // 24 kHz: 1920 bytes a frame.
    assert_eq!(client.speak("req-1", &confirm.connection_id, 15).await, 10);
    assert_eq!(world.attempts("talker"), 1);

    let id = client.session().to_owned();
    client.leave(Departure::Closed).await;
    world.wait_state(&id, "stopped").await;
    assert_eq!(clients(&world), 0.0);
    world.end().await;
}

#[actix_rt::test]
async fn a_refusal_reaches_the_client_with_the_status_and_the_body_that_the_service_gave() {
    let world = World::start("").await;
    let manager = world.process.manager();
    world.faults(&json!([{"match": {"avatar_id": "broke"}, "at": "upgrade",
        "do": {"http": {"status": 402, "body": {"message": "session denied: credits exhausted"}}}}]));
    let mut client = Client::arrive(manager, ACME, "broke").await;
    let Farewell::Error(error) = client.ended().await else { panic!("it is no error") };
    assert_eq!((error.code, error.http_status), (ErrorCode::CreditsExhausted, Some(402)));
    assert!(error.raw_body.as_deref().unwrap().contains("session denied: credits exhausted"), "{error:?}");
    world.wait_state(client.session(), "stopped").await;

    let mut client = Client::arrive(manager, GLOBEX, "missing-1").await;
    let Farewell::Error(error) = client.ended().await else { panic!("it is no error") };
    assert_eq!((error.code, error.http_status), (ErrorCode::AvatarNotFound, Some(404)));
    assert!(error.raw_body.as_deref().unwrap().contains("Avatar not found: missing-1"), "{error:?}");
    world.wait_state(client.session(), "stopped").await;
    world.end().await;
}

#[actix_rt::test]
async fn a_transient_refusal_is_retried_behind_the_clients_upgrade() {
    let world = World::start("").await;
    world.faults(&json!([{"match": {"avatar_id": "talker"}, "at": "upgrade", "times": 3,
        "do": {"http": {"status": 503}}}]));
    let (mut client, connection_id) = Client::settled(world.process.manager(), ACME, "talker").await;
    assert_eq!(world.attempts("talker"), 4);
    assert_eq!(client.speak("req-1", &connection_id, 10).await, 10);
    client.leave(Departure::Closed).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_keeps_its_audio_and_its_ids_over_a_restart_and_sees_nothing_of_it() {
    let world = World::start("").await;
    let (mut client, told) = Client::settled(world.process.manager(), ACME, "talker").await;
    assert_eq!(client.speak("req-1", &told, 10).await, 10);
    world.faults(&json!([{"match": {"avatar_id": "talker"}, "at": "upgrade", "times": 2,
        "do": {"http": {"status": 503}}}]));
    world.strike("talker", &json!({"drop": {}}));
    world.wait_for(client.session(), "the loss", |session| session["state"] != "running").await;
    client.audio("req-2", 5, false).await.unwrap();
    client.audio("req-2", 5, true).await.unwrap();
    assert_eq!(client.answer("req-2", &told).await, 10);
    let session = world.session(client.session()).await;
    assert_eq!((&session["state"], &session["restarts"]), (&json!("running"), &json!(3)));
    assert_ne!(session["connection_id"], told.as_str());
    client.leave(Departure::Closed).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_request_that_is_sent_again_keeps_the_id_that_its_client_gave_it() {
    let world = World::start("").await;
    let (mut client, told) = Client::settled(world.process.manager(), ACME, "talker").await;
    world.faults(&json!([{"match": {"avatar_id": "talker"}, "at": {"after_chunks": 1}, "times": 1,
        "do": {"drop": {}}}]));
    assert_eq!(client.speak("req-1", &told, 10).await, 10);
    let seen = world.simulator.stats().requests;
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.contains_key("req-1"), "{seen:?}");

    // An error that the service gives for a request comes as it came, with the ids that the client knows.
    world.faults(&json!([{"match": {"avatar_id": "talker"}, "at": {"after_chunks": 2}, "times": 1,
        "do": {"server_error": {"code": 14, "message": "animate: unavailable", "req_id": true}}}]));
    client.audio("req-2", 5, true).await.unwrap();
    let Data::ServerError(error) = client.message().await else { panic!("it is no error") };
    assert_eq!((error.req_id.as_str(), error.connection_id.as_str()), ("req-2", told.as_str()));
    assert_eq!((error.code, error.message.as_str()), (14, "animate: unavailable"));
    assert!(client.has_heard_all(), "it is told once");
    client.leave(Departure::Closed).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_session_has_one_client_until_another_takes_it_over() {
    let world = World::start("").await;
    let manager = world.process.manager();
    let id = world.running(ACME, "shared").await;
    let mut first = Client::join(manager, &id, AttachMode::Join).await.unwrap();
    first.ready().await;
    let confirm = first.confirmed(16_000).await;
    assert_eq!(world.session(&id).await["connection_id"], confirm.connection_id.as_str());
    let refused = Client::join(manager, &id, AttachMode::Join).await.err();
    assert_eq!(refused, Some(AttachRefused::Occupied));

    let mut second = Client::join(manager, &id, AttachMode::Takeover).await.unwrap();
    assert!(matches!(first.ended().await, Farewell::TakenOver));
    second.ready().await;
    let again = second.confirmed(16_000).await;
    assert_eq!(again.connection_id, confirm.connection_id);
    assert_eq!(second.speak("req-1", &confirm.connection_id, 4).await, 4);

    // What the first one says too late changes nothing.
    let late = first.audio("req-2", 1, true).await;
    assert!(matches!(late, Err(ClientAudioRefused::NotSeated(_))), "{late:?}");
    let late = first.configure(configuration(24_000)).await;
    assert!(matches!(late, Err(ConfigureRefused::NotSeated(_))), "{late:?}");
    first.leave(Departure::Closed).await;
    assert_eq!(second.speak("req-3", &confirm.connection_id, 4).await, 4);
    assert_eq!(clients(&world), 1.0);

    // It belongs to its owner, and outlives every client.
    second.leave(Departure::Closed).await;
    assert_eq!(clients(&world), 0.0);
    let session = world.session(&id).await;
    assert_eq!((&session["state"], &session["restarts"]), (&json!("running"), &json!(0)));
    assert_eq!(world.attempts("shared"), 1);
    world.end().await;
}

#[actix_rt::test]
async fn an_equal_configuration_is_confirmed_at_once_and_a_different_one_is_a_reconnect() {
    let world = World::start("").await;
    let id = world.running(ACME, "shared").await;
    let mut client = Client::join(world.process.manager(), &id, AttachMode::Join).await.unwrap();
    client.ready().await;
    let first = client.confirmed(16_000).await;
    let again = client.confirmed(16_000).await;
    assert_eq!((world.attempts("shared"), again.connection_id), (1, first.connection_id.clone()));

    let other = client.confirmed(24_000).await;
    assert_ne!(other.connection_id, first.connection_id);
    assert_eq!(world.attempts("shared"), 2);
    let session = world.wait_state(&id, "running").await;
    assert_eq!(session["sample_rate"], 24_000);
    assert_eq!(client.speak("req-1", &other.connection_id, 15).await, 10);

    let refused = client.configure(wire::encode(Data::ClientPause(proto::ClientPause::default()))).await;
    assert!(matches!(refused, Err(ConfigureRefused::Malformed(_))), "{refused:?}");
    client.leave(Departure::Closed).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_that_leaves_before_its_upgrade_cancels_what_is_under_way() {
    let world = World::start("").await;
    let manager = world.process.manager();
    world.faults(&json!([{"match": {"avatar_id": "slow"}, "at": "upgrade", "do": {"silence": {}}}]));
    for how in [Departure::Abandoned, Departure::Closed] {
        let client = Client::arrive(manager, ACME, "slow").await;
        world.wait_for(client.session(), "its attempt", |_| world.attempts("slow") > 0).await;
        let id = client.session().to_owned();
        client.leave(how).await;
        world.wait_state(&id, "stopped").await;
    }
    // A listener that is gone without a word leaves no session behind.
    let client = Client::arrive(manager, ACME, "vanishes").await;
    let id = client.session().to_owned();
    drop(client);
    world.wait_state(&id, "stopped").await;
    let (client, _) = Client::settled(manager, ACME, "vanishes").await;
    let id = client.session().to_owned();
    drop(client);
    world.wait_state(&id, "stopped").await;
    assert_eq!(clients(&world), 0.0);
    world.end().await;
}

#[actix_rt::test]
async fn a_panic_of_the_session_keeps_the_seat_at_every_stage() {
    let world = World::start("").await;
    let manager = world.process.manager();
    // Before its upgrade is answered.
    manager.open_breaker().await.unwrap();
    let mut client = Client::arrive(manager, ACME, "talker").await;
    until("its actor", async || client.entry.address.load_full().map(drop).ok_or("none".to_owned())).await;
    crash(&client);
    manager.close_breaker().await.unwrap();
    client.ready().await;
    // While the service waits for its configuration.
    crash(&client);
    world.wait_for(client.session(), "the crash", |session| session["restarts"] == 1).await;
    let told = client.confirmed(16_000).await.connection_id;
    assert_eq!(client.speak("req-1", &told, 4).await, 4);
    // While it runs.
    crash(&client);
    world.wait_restarted(client.session(), 2).await;
    assert_eq!(client.speak("req-2", &told, 4).await, 4);
    // The one who watches for its end has been replaced too.
    let id = client.session().to_owned();
    drop(client);
    world.wait_state(&id, "stopped").await;
    assert_eq!((world.errors("unknown"), clients(&world)), (3.0, 0.0));
    world.end().await;
}

#[actix_rt::test]
async fn a_client_that_is_too_slow_loses_its_seat_and_the_session_is_unharmed() {
    let world = World::start("").await;
    let manager = world.process.manager();
    let id = world.running(ACME, "shared").await;
    let mut client = Client::join_over(manager, &id, AttachMode::Join, 4096).await.unwrap();
    client.ready().await;
    let told = client.confirmed(16_000).await.connection_id;
    client.audio("req-1", 200, true).await.unwrap();
    let path = format!("/v1/sessions/{id}/requests/req-1");
    until("the answer's end", async || {
        let seen = world.admin(actix_http::Method::GET, &path, &json!(null)).await.expect(200);
        if seen["outcome"] == "completed" { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    let mut frames = 0;
    let end = loop {
        let said = client.next().await;
        if !matches!(said, ToClient::Message(_)) {
            break said;
        }
        frames += 1;
    };
    assert!(matches!(end, ToClient::Ended(Farewell::Overrun)), "{end:?}");
    assert!((1..200).contains(&frames), "{frames} frames fitted");
    // The next one need not wait for the slow one to have gone.
    let mut next = Client::join(manager, &id, AttachMode::Join).await.unwrap();
    next.ready().await;
    assert_eq!(next.confirmed(16_000).await.connection_id, told);
    assert_eq!(next.speak("req-2", &told, 4).await, 4);
    client.leave(Departure::Closed).await;
    let session = world.session(&id).await;
    assert_eq!((&session["state"], &session["restarts"]), (&json!("running"), &json!(0)));
    assert_eq!(clients(&world), 1.0);
    next.leave(Departure::Closed).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_tenant_with_drop_in_clients_only_is_probed_by_one_of_them() {
    let world = World::start("recovery.park_probe_s = 1\n").await;
    let manager = world.process.manager();
    world.faults(&json!([{"match": {"app_id": "app-acme"}, "at": "upgrade", "times": 1,
        "do": {"http": {"status": 402, "body": {"message": "payment required"}}}}]));
    let mut first = Client::arrive(manager, ACME, "first").await;
    let Farewell::Error(error) = first.ended().await else { panic!("it is no error") };
    assert_eq!(error.code, ErrorCode::BillingRequired);
    let mut refused = 0;
    let mut second =
        until("the probe to be due", async || match Client::try_arrive(manager, ACME, "second").await {
            Ok(client) => Ok(client),
            Err(IngressRefused::Farewell(Farewell::Suspended(ErrorCode::BillingRequired))) => {
                refused += 1;
                assert_eq!(world.attempts("second"), 0);
                Err("still suspended".to_owned())
            }
            Err(other) => panic!("{other:?}"),
        })
        .await;
    assert!(refused > 0, "it was suspended");
    second.ready().await;
    second.confirmed(16_000).await;
    until("the suspension's end", async || match world.metric("greenroom_tenant_suspended", &[]) {
        0.0 => Ok(()),
        _ => Err("suspended".to_owned()),
    })
    .await;
    let (third, _) = Client::settled(manager, ACME, "third").await;
    assert_eq!((world.attempts("first"), world.attempts("second")), (1, 1));
    second.leave(Departure::Closed).await;
    third.leave(Departure::Closed).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_refused_api_key_is_told_as_what_it_is() {
    let world = World::start("").await;
    let manager = world.process.manager();
    world.faults(
        &json!([{"match": {"api_key": "upstream-acme"}, "at": "token", "do": {"http": {"status": 401}}}]),
    );
    let mut first = Client::arrive(manager, ACME, "first").await;
    let farewell = first.ended().await;
    assert!(matches!(farewell, Farewell::KeyRefused), "{farewell:?}");
    let second = until("the suspension", async || match Client::try_arrive(manager, ACME, "second").await {
        Ok(_) => Err("it was given a session".to_owned()),
        Err(refused) => Ok(refused),
    })
    .await;
    assert!(matches!(second, IngressRefused::Farewell(Farewell::KeyRefused)), "{second:?}");
    world.end().await;
}

#[actix_rt::test]
async fn a_hundred_clients_that_never_configure_keep_no_neighbour_from_connecting() {
    let world = World::start("upstream.gate.max_in_flight = 2\n").await;
    let manager = world.process.manager();
    let mut dawdlers = Vec::new();
    for number in 0..100 {
        let mut client = Client::arrive(manager, ACME, &format!("dawdler-{number}")).await;
        client.ready().await;
        dawdlers.push(client);
    }
    assert_eq!(world.simulator.stats().connections.unconfirmed, 100);
    world.running(GLOBEX, "neighbour").await;
    let (mut client, told) = Client::settled(manager, GLOBEX, "drop-in").await;
    assert_eq!(client.speak("req-1", &told, 4).await, 4);
    // One that thinks better of it is served.
    let mut late = dawdlers.pop().unwrap();
    late.confirmed(16_000).await;
    assert_eq!(clients(&world), 101.0);
    client.leave(Departure::Closed).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_drain_is_told_to_every_client() {
    let world = World::start("").await;
    let manager = world.process.manager();
    let (mut running, _) = Client::settled(manager, ACME, "running").await;
    let mut configuring = Client::arrive(manager, ACME, "configuring").await;
    configuring.ready().await;
    let id = world.running(ACME, "shared").await;
    let mut joined = Client::join(manager, &id, AttachMode::Join).await.unwrap();
    joined.ready().await;
    manager.drain().await;
    for client in [&mut running, &mut configuring, &mut joined] {
        let farewell = client.ended().await;
        assert!(matches!(farewell, Farewell::Draining), "{farewell:?}");
    }
    let refused = Client::try_arrive(manager, ACME, "late").await.err();
    assert!(matches!(refused, Some(IngressRefused::Create(_))), "{refused:?}");
    world.end().await;
}

#[actix_rt::test]
async fn what_an_operator_does_to_a_session_is_told_to_its_client() {
    let world = World::start("").await;
    let manager = world.process.manager();
    let (mut parked, told) = Client::settled(manager, ACME, "parked").await;
    parked.audio("open", 4, false).await.unwrap();
    world.operate(parked.session(), "park").await;
    let said = parked.next_but_messages().await;
    assert!(matches!(&said, ToClient::Ended(Farewell::ParkedByOperator)), "{said:?}");
    world.wait_state(parked.session(), "stopped").await;
    assert!(!told.is_empty());

    let (mut deleted, _) = Client::settled(manager, ACME, "deleted").await;
    let path = format!("/v1/sessions/{}", deleted.session());
    world.admin(actix_http::Method::DELETE, &path, &json!(null)).await.expect(200);
    assert!(matches!(deleted.ended().await, Farewell::Deleted));

    let (mut restarted, told) = Client::settled(manager, ACME, "restarted").await;
    world.operate(restarted.session(), "restart").await;
    assert_eq!(restarted.speak("req-1", &told, 4).await, 4);
    assert_eq!(world.attempts("restarted"), 2);

    // One that joins a session which does not go on by itself hears why.
    let id = world.running(ACME, "held").await;
    world.operate(&id, "park").await;
    let mut joins = Client::join(manager, &id, AttachMode::Join).await.unwrap();
    assert!(matches!(joins.ended().await, Farewell::ParkedByOperator));
    restarted.leave(Departure::Closed).await;
    world.end().await;
}

#[actix_rt::test]
async fn the_end_of_a_session_is_told_once_and_not_once_more_for_each_of_its_requests() {
    let world = World::in_real_time("").await;
    let (mut client, _) = Client::settled(world.process.manager(), ACME, "talker").await;
    client.audio("req-1", 50, true).await.unwrap();
    world.strike("talker", &json!({"close": {"code": 4001, "reason": "credits exhausted"}}));
    let Farewell::Error(error) = client.ended_amid_answers().await else { panic!("it is no error") };
    assert_eq!((error.code, error.close_code), (ErrorCode::CreditsExhausted, Some(4001)));
    let failed = [("outcome", "failed"), ("tenant", ACME)];
    until("the request's outcome", async || match world.metric("greenroom_requests_total", &failed) {
        1.0 => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_interrupts_pauses_and_fails_its_requests() {
    let world = World::in_real_time("").await;
    let (mut client, told) = Client::settled(world.process.manager(), ACME, "talker").await;
    client.audio("req-1", 500, true).await.unwrap();
    let Data::ServerResponseAnimation(frame) = client.message().await else { panic!("it is no frame") };
    assert_eq!(frame.req_id, "req-1");
    client.control("req-1", Control::Interrupt).await;
    // The service answers it with a final frame of its own.
    assert!(client.answer("req-1", &told).await < 500);

    // Of what was never sent the service knows nothing.
    world.faults(&json!([{"match": {"avatar_id": "talker"}, "at": "upgrade", "times": 1,
        "do": {"http": {"status": 503, "headers": {"Retry-After": "1"}}}}]));
    world.strike("talker", &json!({"drop": {}}));
    world.wait_for(client.session(), "the loss", |session| session["restarts"] == 2).await;
    client.audio("req-2", 4, true).await.unwrap();
    client.control("req-2", Control::Interrupt).await;
    let said = client.next().await;
    assert!(matches!(&said, ToClient::RequestInterrupted { req_id } if req_id == "req-2"), "{said:?}");
    client.control("req-2", Control::Pause).await;

    for req_id in ["req-3", "never-accepted"] {
        if req_id == "req-3" {
            client.audio(req_id, 4, false).await.unwrap();
        }
        client.fail(req_id, ErrorCode::InvalidRequest).await;
        let said = client.next().await;
        let ToClient::RequestFailed { req_id: told, code, reason } = said else { panic!("{said:?}") };
        assert_eq!((told.as_str(), code), (req_id, ErrorCode::InvalidRequest));
        assert_eq!(reason, "told by a test");
        let late = client.audio(req_id, 1, true).await;
        assert!(matches!(late, Err(ClientAudioRefused::Audio(_))), "{req_id}: {late:?}");
    }
    client.leave(Departure::Closed).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_of_a_session_that_sleeps_stays_and_wakes_it() {
    let world = World::start("").await;
    let (mut client, told) = Client::settled(world.process.manager(), ACME, "talker").await;
    world.strike("talker", &json!({"close": {"code": 1008, "reason": "no audio input for 30 s"}}));
    world.wait_state(client.session(), "dormant").await;
    assert!(client.has_heard_all());
    assert_eq!(client.speak("req-1", &told, 4).await, 4);
    assert_eq!(world.attempts("talker"), 2);
    client.leave(Departure::Closed).await;
    world.end().await;
}
