//! Uploads that end otherwise than they began, and what a tenant may leave behind.

use std::io::Write as _;

use actix_http::Method;
use bytes::Bytes;
use greenroom::simulator::{Happening, RequestState};
use serde_json::json;

use crate::world::{ACME, World, silence, tenant_key, until};

#[actix_rt::test]
async fn a_client_that_is_gone_in_the_middle_of_its_upload_leaves_no_request_open() {
    let world = World::start("").await;
    let id = world.running(ACME, "speaker").await;
    let (address, key) = (world.process.data_address(), tenant_key(ACME));
    let mut client = std::net::TcpStream::connect(address).unwrap();
    write!(
        client,
        "POST /v1/sessions/{id}/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: 1000000\r\n\r\n"
    )
    .unwrap();
    client.write_all(&[0; 32_000]).unwrap();
    until("the service to have audio", async || {
        let stats = world.simulator.stats();
        if stats.audio_bytes > 0 { Ok(()) } else { Err(format!("{:?}", stats.requests_by_state)) }
    })
    .await;
    client.shutdown(std::net::Shutdown::Both).unwrap();
    drop(client);
    until("the service to be told", async || {
        let stats = world.simulator.stats();
        match stats.requests_in(RequestState::Interrupted) {
            1 => Ok(()),
            _ => Err(format!("{:?}", stats.requests_by_state)),
        }
    })
    .await;
    assert_eq!(world.metric("greenroom_requests_total", &[("outcome", "interrupted")]), 1.0);
    world.end().await;
}

#[actix_rt::test]
async fn sessions_that_were_deleted_do_not_pile_up_beyond_a_bound() {
    let world = World::start("GREENROOM_TENANTS__0__MAX_SESSIONS=5").await;
    for number in 0..150 {
        let id = world.create(ACME, &format!("gone-{number}"), &json!({})).await;
        let path = format!("/v1/sessions/{id}");
        world.call(world.data_request(Method::DELETE, ACME, &path).send()).await.expect(200);
        until("its place to be free", async || {
            let live = world.metric("greenroom_sessions", &[("state", "stopped"), ("tenant", ACME)]);
            if live >= f64::from(number.min(99) + 1) && world.live() == 0 {
                Ok(())
            } else {
                Err(live.to_string())
            }
        })
        .await;
    }
    until("the oldest to be forgotten", async || match world.process.manager().registry().len() {
        100 => Ok(()),
        kept => Err(format!("{kept} are kept")),
    })
    .await;
    world.end().await;
}

#[actix_rt::test]
async fn a_large_upload_is_cut_to_what_one_message_may_have() {
    let world = World::start("upstream.max_message_bytes = 65536").await;
    let id = world.running(ACME, "speaker").await;
    let path = format!("/v1/sessions/{id}/requests?wait=true");
    let answer = world.audio(ACME, &path, Bytes::from(vec![0; 1 << 20])).await.expect(200);
    assert_eq!(answer["outcome"], "completed", "{answer}");
    assert_eq!(world.session(&id).await["restarts"], 0);
    world.end().await;
}

#[actix_rt::test]
async fn whoever_waits_is_told_the_outcome_of_a_break_in_the_middle_of_the_upload() {
    let world = World::in_real_time("").await;
    let id = world.running(ACME, "speaker").await;
    let (pieces, body) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, std::io::Error>>();
    let body =
        futures_util::stream::unfold(
            body,
            |mut body| async move { body.recv().await.map(|piece| (piece, body)) },
        );
    let path = format!("/v1/sessions/{id}/requests?wait=true");
    let upload = world.data_request(Method::POST, ACME, &path).send_stream(Box::pin(body));
    pieces.send(Ok(silence(10))).unwrap();
    let speak_on = async {
        until("the service to have audio", async || {
            if world.simulator.stats().audio_bytes > 0 { Ok(()) } else { Err("none yet".to_owned()) }
        })
        .await;
        world.strike("speaker", &json!({"close": {"code": 4503}}));
        until("the request to have failed", async || {
            match world.metric("greenroom_requests_total", &[("outcome", "failed")]) {
                1.0 => Ok(()),
                failed => Err(failed.to_string()),
            }
        })
        .await;
        pieces.send(Ok(silence(10))).unwrap();
        drop(pieces);
    };
    let (answer, ()) = tokio::join!(world.call(upload), speak_on);
    let answer = answer.expect(200);
    assert_eq!(
        (&answer["outcome"], &answer["code"]),
        (&json!("failed"), &json!("upstreamError")),
        "{answer}"
    );
    world.end().await;
}

#[actix_rt::test]
async fn words_that_come_while_the_service_ends_an_idle_session_wake_it_again() {
    let world = World::start("").await;
    let id = world.running(ACME, "speaker").await;
    world.strike(
        "speaker",
        &json!({"server_error": {"code": 0, "message": "no audio input for 300s",
                "then_close": {"code": 1000, "reason": "idle", "after_ms": 500}}}),
    );
    // The error is on the wire, and reaches the manager before words that only now set out; the close waits.
    until("the error to be sent", async || {
        let record = world.simulator.record();
        let is_sent = record.iter().any(|event| matches!(event.what, Happening::ErrorSent { .. }));
        if is_sent { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let path = format!("/v1/sessions/{id}/requests?wait=true");
    let answer = world.audio(ACME, &path, silence(5)).await.expect(200);
    assert_eq!(answer["outcome"], "completed", "{answer}");
    assert_eq!(world.errors("idleTimeout"), 1.0);
    world.end().await;
}
