//! What the gauges say is what there is.

use actix_http::Method;
use greenroom::simulator::Filter;
use serde_json::{Value, json};

use crate::world::{ACME, GLOBEX, World, until};

/// At a quiet moment: connections as the simulator counts them, sessions as the registry lists them, by state and
/// by tenant.
async fn agree(world: &World, when: &str, by_state: &[(&str, f64)]) {
    let connections = |tenant| world.metric("greenroom_upstream_connections", &[("tenant", tenant)]);
    let sessions = |state| world.metric("greenroom_sessions", &[("state", state)]);
    until(when, async || {
        let states: Vec<_> = by_state.iter().map(|(state, _)| (*state, sessions(state))).collect();
        let (counted, live) = (connections(ACME) + connections(GLOBEX), world.live());
        if states == by_state && counted == live as f64 {
            Ok(())
        } else {
            Err(format!("{states:?}, {counted} connections counted, {live} live"))
        }
    })
    .await;
    let running = by_state.iter().find(|(state, _)| *state == "running").map_or(0.0, |(_, count)| *count);
    assert_eq!(world.live() as f64, running, "{when}");
    let all = world.process.manager().registry().len();
    assert_eq!(world.metric("greenroom_sessions", &[]), all as f64, "{when}");
    assert_eq!(by_state.iter().map(|(_, count)| count).sum::<f64>(), all as f64, "{when}");
}

#[actix_rt::test]
async fn connections_and_sessions_are_counted_as_they_are_at_every_quiet_moment() {
    let world = World::start("").await;
    let mut ids = Vec::new();
    for number in 0..10 {
        let tenant = if number % 2 == 0 { ACME } else { GLOBEX };
        ids.push(world.create(tenant, &format!("counted-{number}"), &json!({})).await);
    }
    agree(&world, "all running", &[("running", 10.0)]).await;

    world.simulator.drop_connections(&Filter::default());
    for id in &ids {
        world.wait_restarted(id, 1).await;
    }
    agree(&world, "all restarted", &[("running", 10.0)]).await;

    world.operate(&ids[0], "park").await;
    world.operate(&ids[1], "restart").await;
    world.admin(Method::DELETE, &format!("/v1/sessions/{}", ids[2]), &Value::Null).await.expect(200);
    world.strike("counted-3", &json!({"close": {"code": 1008, "reason": "app id mismatch"}}));
    world.strike("counted-4", &json!({"close": {"code": 1000, "reason": "no audio input for 60 s"}}));
    let by_state = [("parked", 1.0), ("running", 6.0), ("stopped", 1.0), ("failed", 1.0), ("dormant", 1.0)];
    agree(&world, "one of each", &by_state).await;

    world.admin(Method::POST, "/v1/tenants/globex/park", &json!({})).await.expect(202);
    let by_state = [("parked", 6.0), ("running", 2.0), ("stopped", 1.0), ("failed", 0.0), ("dormant", 1.0)];
    agree(&world, "a tenant parked", &by_state).await;

    world.admin(Method::POST, "/v1/tenants/globex/unpark", &json!({})).await.expect(202);
    let by_state = [("parked", 1.0), ("running", 7.0), ("stopped", 1.0), ("failed", 0.0), ("dormant", 1.0)];
    agree(&world, "a tenant unparked", &by_state).await;
    world.end().await;
}

#[actix_rt::test]
async fn a_stopped_session_is_forgotten_after_its_retention_and_by_the_gauge_too() {
    let world = World::start("sessions.retention_s = 1\n").await;
    let id = world.running(ACME, "short").await;
    let path = format!("/v1/sessions/{id}");
    world.admin(Method::DELETE, &path, &Value::Null).await.expect(200);
    until("it to be forgotten", async || match world.admin(Method::GET, &path, &Value::Null).await.status {
        404 => Ok(()),
        status => Err(format!("status {status}")),
    })
    .await;
    assert_eq!(world.metric("greenroom_sessions", &[]), 0.0);
    world.end().await;
}
