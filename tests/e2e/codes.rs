//! Every code, over real sockets: the state that the policy says, all that is known of the error, and counts that
//! are exact.

use std::collections::BTreeSet;

use greenroom::errors::ErrorCode;
use serde_json::{Value, json};

use crate::{
    table::{Ends, Row, failed, nonsense, parked, restarted},
    world::{ACME, GLOBEX, World, until},
};

/// The fields of an error that the service's words give, beside the connection's id.
const TOLD: [&str; 7] =
    ["http_status", "server_code", "server_title", "server_detail", "req_id", "close_code", "close_reason"];

/// Restarts of the session that tells how long "nothing happens" is watched.
const MARKS: u64 = 10;

#[test]
fn the_table_has_every_code() {
    let rows = [restarted(), parked(), failed()].concat();
    let here: BTreeSet<&str> = rows.iter().map(|row| row.code).collect();
    let all: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(here, all);
}

#[actix_rt::test]
async fn what_happens_by_accident_is_restarted_and_counted_once() {
    for row in restarted() {
        check(row).await;
    }
}

#[actix_rt::test]
async fn what_the_protocol_does_not_allow_is_restarted_and_counted_once() {
    for row in nonsense() {
        check(row).await;
    }
}

#[actix_rt::test]
async fn what_is_blocked_or_idle_is_parked_or_sleeps_and_knocks_no_more() {
    for row in parked() {
        check(row).await;
    }
}

#[actix_rt::test]
async fn what_is_wrongly_configured_fails_and_knocks_no_more() {
    for row in failed() {
        check(row).await;
    }
}

async fn check(row: Row) {
    println!("{}", row.name);
    let world = World::start(row.settings).await;
    world.faults(&row.faults);
    let id = world.create(ACME, row.avatar, &row.spec).await;
    let mut connection_id = Value::Null;
    if let Some(effect) = &row.strike {
        connection_id = world.wait_state(&id, "running").await["connection_id"].clone();
        assert!(connection_id.as_str().is_some_and(|id| !id.is_empty()), "{}", row.name);
        world.strike(row.avatar, effect);
    }
    let errors = f64::from(row.errors);
    let suspended = if row.ends == Ends::Suspended { 1.0 } else { 0.0 };
    let session = world
        .wait_for(&id, row.name, |session| {
            session["state"] == row.ends.state()
                && !session["last_error"].is_null()
                && (row.ends != Ends::Running || session["restarts"] == row.errors)
                && world.all_errors() >= errors
                // The fleet hears of a park a moment after everybody else.
                && world.metric("greenroom_tenant_suspended", &[("tenant", ACME)]) >= suspended
        })
        .await;

    check_error(&row, &session, &connection_id);
    check_counts(&row, &world);
    if row.ends == Ends::Running {
        assert_ne!(session["connection_id"], connection_id, "{}", row.name);
        assert_eq!(session["restarts"], row.errors, "{}", row.name);
    } else {
        assert_eq!(session["connection_id"], Value::Null, "{}", row.name);
        check_quiet(&row, &world, &id).await;
        assert_eq!(world.session(&id).await, session, "{}", row.name);
    }
    world.end().await;
}

/// The last error has all that was known, and nothing else.
fn check_error(row: &Row, session: &Value, connection_id: &Value) {
    let name = row.name;
    let error = &session["last_error"];
    assert_eq!(error["code"], row.code, "{name}: {error}");
    assert_eq!(error["phase"], row.phase, "{name}: {error}");
    assert_eq!(error["action"], row.action, "{name}: {error}");
    if row.strike.is_none() && row.told["server_code"].is_string() && row.phase == "websocket_handshake" {
        // A ServerError names its connection before there is a confirmation.
        assert!(error["connection_id"].is_string(), "{name}: {error}");
    } else {
        assert_eq!(error["connection_id"], *connection_id, "{name}: {error}");
    }
    for field in TOLD {
        assert_eq!(error[field], row.told[field], "{name}, {field}: {error}");
    }
    assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{name}: {error}");
    assert!(error["docs_url"].as_str().is_some_and(|url| url.ends_with(&format!("#{}", row.code))), "{name}");
    // RFC 3339 UTC of the same precision sorts as text.
    assert!(error["at"].as_str() >= session["created_at"].as_str(), "{name}: {error}");
    let has_reason = session["reason"].as_str().is_some_and(|text| text.contains("runbooks.md#"));
    let has_words =
        has_reason || row.ends == Ends::Running || row.ends == Ends::Dormant || is_key_refused(row);
    assert!(has_words, "{name}: {session}");
    if is_key_refused(row) {
        assert!(session["reason"].as_str().is_some_and(|text| text.contains("API key")), "{name}: {session}");
    }
}

fn is_key_refused(row: &Row) -> bool {
    row.code == "sessionTokenInvalid" && row.phase == "session_token"
}

/// Every counter rose by what happened, and no other did.
fn check_counts(row: &Row, world: &World) {
    let name = row.name;
    let errors = f64::from(row.errors);
    let own = [("code", row.code), ("phase", row.phase)];
    assert_eq!(world.metric("greenroom_session_errors_total", &own), errors, "{name}");
    assert_eq!(world.all_errors(), errors, "{name}");
    let own = [("code", row.code), ("tenant", ACME)];
    assert_eq!(world.metric("greenroom_tenant_errors_total", &own), errors, "{name}");
    assert_eq!(world.metric("greenroom_tenant_errors_total", &[]), errors, "{name}");

    let (parks, failures, restarts, suspended) = match row.ends {
        Ends::Running => (0.0, 0.0, errors, 0.0),
        Ends::Parked => (1.0, 0.0, errors - 1.0, 0.0),
        Ends::Suspended => (1.0, 0.0, errors - 1.0, 1.0),
        Ends::Dormant => (0.0, 0.0, errors - 1.0, 0.0),
        Ends::Failed => (0.0, 1.0, errors - 1.0, 0.0),
    };
    for (metric, expected) in [
        ("greenroom_session_parks_total", parks),
        ("greenroom_session_failures_total", failures),
        ("greenroom_session_restarts_total", restarts),
    ] {
        assert_eq!(world.metric(metric, &[("code", row.code)]), expected, "{name}: {metric}");
        assert_eq!(world.metric(metric, &[]), expected, "{name}: {metric} of other codes");
    }
    assert_eq!(world.metric("greenroom_tenant_suspended", &[("tenant", ACME)]), suspended, "{name}");
    assert_eq!(world.metric("greenroom_tenant_suspended", &[("tenant", GLOBEX)]), 0.0, "{name}");
}

/// Nothing of the session reaches the service while another one, with the same backoff and through the same gate,
/// is restarted ten times: time enough for as many attempts of its own.
async fn check_quiet(row: &Row, world: &World, id: &str) {
    let name = row.name;
    let before = world.simulator.stats();
    let attempts = world.attempts(row.avatar);
    world.faults(&json!([{"match": {"avatar_id": "marker"}, "at": {"after_seconds": 0.02},
        "do": {"drop": {}}, "times": MARKS}]));
    let marker = world.create(GLOBEX, "marker", &json!({})).await;
    world.wait_restarted(&marker, MARKS).await;

    let after = world.simulator.stats();
    assert_eq!(world.attempts(row.avatar), attempts, "{name}: it knocked");
    assert_eq!(after.token_calls.total, before.token_calls.total + MARKS + 1, "{name}: it fetched a token");
    assert_eq!(after.upgrades.total, before.upgrades.total + MARKS + 1, "{name}");
    let live = until("its connection to be gone", async || {
        match world.simulator.stats().session("app-acme", row.avatar).map_or(0, |session| session.live) {
            0 => Ok(0),
            live => Err(format!("{live} are live")),
        }
    })
    .await;
    assert_eq!(live, 0, "{name}");
    assert_eq!(
        world.metric("greenroom_tenant_errors_total", &[("tenant", ACME)]),
        f64::from(row.errors),
        "{name}: {id} had further errors"
    );
}
