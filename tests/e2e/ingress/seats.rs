//! Where a client may sit, how long it waits for its seat, and how it loses it.

use std::time::{Duration, Instant};

use actix_http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::client::{Client, INGRESS, Said, Upgrade, token};
use crate::world::{ACME, GLOBEX, World, silence, until};

fn under(prefix: &str) -> String {
    format!("{prefix}{INGRESS}")
}

fn clients(world: &World) -> f64 {
    world.metric("greenroom_clients", &[])
}

/// The tenant's sessions that are not stopped.
async fn sessions(world: &World, tenant: &str) -> Vec<Value> {
    let path = format!("/v1/sessions?tenant={tenant}");
    let list = world.admin(Method::GET, &path, &Value::Null).await.expect(200);
    let all = list["sessions"].as_array().unwrap().clone();
    all.into_iter().filter(|session| session["state"] != "stopped").collect()
}

async fn no_sessions(world: &World, tenant: &str) {
    until("no session", async || match sessions(world, tenant).await.as_slice() {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
}

#[actix_rt::test]
async fn a_client_attaches_to_a_session_and_leaves_it_running() {
    let world = World::start("").await;
    let id = world.running(ACME, "one").await;
    let upgrade = Upgrade::new(&world, ACME, "one").await.path(&under(&format!("/s/{id}")));
    let (mut client, confirm) = upgrade.start().await;
    assert_eq!(world.session(&id).await["connection_id"], confirm.connection_id.as_str());
    client.audio("20260101000000_aaaaaaaaaaaa", silence(3), true).await;
    assert_eq!(client.frames("20260101000000_aaaaaaaaaaaa").await.len(), 3);
    assert_eq!(clients(&world), 1.0);
    client.leave().await;
    until("the seat to be empty", async || match clients(&world) {
        0.0 => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
    assert_eq!(world.session(&id).await["state"], "running");
    world.end().await;
}

#[actix_rt::test]
async fn what_is_not_yours_is_not_there_and_what_is_taken_is_taken() {
    let world = World::start("").await;
    let id = world.running(ACME, "one").await;
    let at = |path: &str, upgrade: Upgrade| upgrade.path(&under(path));
    let (own, taken) = (format!("/s/{id}"), format!("/s/{id}/takeover"));
    let (mut client, _) = at(&own, Upgrade::new(&world, ACME, "one").await).start().await;
    let mut absent = Vec::new();
    for (path, tenant, avatar, status, says) in [
        (own.as_str(), GLOBEX, "one", 404, "no such session"),
        (&taken, GLOBEX, "one", 404, "no such session"),
        ("/s/ses_nonsense", GLOBEX, "one", 404, "no such session"),
        (&own, ACME, "other", 409, "of avatar one"),
        (&taken, ACME, "other", 409, "of avatar one"),
        (&own, ACME, "one", 409, "has a client already"),
    ] {
        let refused = at(path, Upgrade::new(&world, tenant, avatar).await).connect().await.err().unwrap();
        assert!(refused.status == status && refused.message().contains(says), "{path} {refused:?}");
        if status == 404 {
            absent.push(refused.body);
        }
    }
    assert!(absent.windows(2).all(|pair| pair[0] == pair[1]), "{absent:?}");

    let (second, _) = at(&taken, Upgrade::new(&world, ACME, "one").await).start().await;
    let (error, close, reason) = client.end().await;
    assert_eq!(error.map(|error| error.code), Some(4000));
    assert!(close == 4000 && reason.contains("another client"), "{close} {reason}");
    second.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn each_end_of_a_session_is_told_in_its_own_way() {
    let world = World::start("").await;
    for (operation, close, has_error) in [("park", 4500, true), ("delete", 1000, false)] {
        let (mut client, _) = Upgrade::new(&world, ACME, "one").await.start().await;
        let id = sessions(&world, ACME).await[0]["id"].as_str().unwrap().to_owned();
        if operation == "delete" {
            world.admin(Method::DELETE, &format!("/v1/sessions/{id}"), &Value::Null).await.expect(200);
        } else {
            world.operate(&id, operation).await;
        }
        let (error, code, reason) = client.end().await;
        assert_eq!((error.is_some(), code), (has_error, close), "{operation} {reason}");
        no_sessions(&world, ACME).await;
    }
    let (mut client, _) = Upgrade::new(&world, ACME, "one").await.start().await;
    let (_, (error, code, _)) = tokio::join!(world.end(), client.end());
    assert_eq!((error, code), (None, 1012), "what ends with the process is to be connected again");
}

#[actix_rt::test]
async fn an_upgrade_waits_no_longer_than_it_may() {
    let world = World::start("ingress.upgrade_ms = 300").await;
    world.faults(&json!([{"at": "upgrade", "do": {"silence": {}}}]));
    let upgrade = Upgrade::new(&world, ACME, "one").await;
    let begun = Instant::now();
    let refused = upgrade.connect().await.err().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "2"), "{refused:?}");
    no_sessions(&world, ACME).await;
    world.simulator.clear_faults();
    // The token was given back.
    let (client, _) = upgrade.start().await;
    client.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_that_leaves_while_it_waits_leaves_nothing_behind() {
    let world = World::start("ingress.upgrade_ms = 60000\nupstream.deadlines.connect_ms = 60000").await;
    world.faults(&json!([{"at": "upgrade", "do": {"silence": {}}}]));
    for reset in [false, true] {
        let upgrade = Upgrade::new(&world, ACME, "one").await;
        let mut socket = upgrade.socket().await;
        socket.write_all(upgrade.head().as_bytes()).await.unwrap();
        until("its attempt", async || match sessions(&world, ACME).await.len() {
            1 => Ok(()),
            seen => Err(seen.to_string()),
        })
        .await;
        if reset {
            socket.set_zero_linger().unwrap();
        }
        drop(socket);
        no_sessions(&world, ACME).await;
        assert_eq!(clients(&world), 0.0);
        until("the token to be free", async || {
            match upgrade.clone().app_id("another").connect().await.err() {
                Some(refused) if refused.message() == "app id mismatch" => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
    }
    world.end().await;
}

#[actix_rt::test]
async fn a_plain_request_is_told_what_is_expected_and_costs_no_token() {
    let world = World::start("").await;
    let token = token(&world, ACME).await;
    let sent = world.data_request(Method::GET, ACME, &format!("{INGRESS}?id=one")).send();
    let answer = world.call(sent).await;
    assert!(answer.expect(400)["message"].as_str().unwrap().contains("WebSocket upgrade"));
    let (client, _) = Upgrade::with(&world, ACME, "one", token).start().await;
    client.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_that_vanished_can_come_back_to_its_session_while_it_lingers() {
    let world = World::start("ingress.linger_s = 30").await;
    let (client, confirm) = Upgrade::new(&world, ACME, "one").await.start().await;
    let id = sessions(&world, ACME).await[0]["id"].as_str().unwrap().to_owned();
    drop(client);
    until("the seat to be empty", async || match clients(&world) {
        0.0 => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
    let upgrade = Upgrade::new(&world, ACME, "one").await.path(&under(&format!("/s/{id}")));
    let (client, again) = upgrade.start().await;
    assert_eq!(again.connection_id, confirm.connection_id);
    client.leave().await;
    no_sessions(&world, ACME).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_without_a_fin_is_noticed_and_one_that_answers_pings_stays() {
    let world = World::start("ingress.ping_s = 1\ningress.half_open_s = 3").await;
    // One that takes what comes and answers nothing, pings included.
    let silent = Upgrade::new(&world, ACME, "silent").await;
    let mut socket = silent.socket().await;
    socket.write_all(silent.head().as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    let (mut alive, _) = Upgrade::new(&world, GLOBEX, "alive").await.start().await;
    let begun = Instant::now();
    let gone = async {
        let mut rest = [0; 4096];
        while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        begun.elapsed()
    };
    // The library answers pings while it is read.
    let (gone, heard) = tokio::join!(gone, alive.hear_within(Duration::from_secs(6)));
    assert!((Duration::from_secs(3)..Duration::from_secs(6)).contains(&gone), "{gone:?}");
    assert_eq!(heard, None);
    no_sessions(&world, ACME).await;
    alive.audio("20260101000000_aaaaaaaaaaaa", silence(1), true).await;
    assert!(matches!(alive.hear().await, Said::Message(_)));
    alive.leave().await;
    world.end().await;
}

#[actix_rt::test]
async fn a_client_that_is_not_confirmed_in_time_is_told() {
    let world = World::start("ingress.confirm_ms = 1000\nupstream.deadlines.handshake_ms = 5000").await;
    let (mut confirmed, _) = Upgrade::new(&world, GLOBEX, "two").await.start().await;
    world.faults(&json!([{"at": "handshake", "do": {"silence": {}}}]));
    let mut client: Client = Upgrade::new(&world, ACME, "one").await.connect().await.unwrap();
    client.configure().await;
    let (error, close, reason) = client.end().await;
    assert_eq!((error.map(|error| error.code), close), (Some(4503), 4503));
    assert!(reason.contains("not confirmed"), "{reason}");
    assert_eq!(confirmed.hear_within(Duration::from_millis(200)).await, None, "it was confirmed");
    confirmed.leave().await;
    no_sessions(&world, ACME).await;
    world.end().await;
}
