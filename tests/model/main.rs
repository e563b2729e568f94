//! Every interleaving of one session's life, to a depth: no sampling, no clock, no socket.
//!
//! The product's two machines (a session's and the fleet's) stand in a model of the shell around them: mailboxes that
//! keep their order, a socket that opens, breaks and closes whenever it likes, an operator, a crash. From the start,
//! every order in which these can happen is walked, breadth first, and what must always hold is checked in each world
//! that is met. A breach prints the shortest way to it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, which tells how far it has looked")]

mod checks;
mod search;
mod world;

use std::{sync::Arc, time::Duration};

use greenroom::{
    errors::{Egress, ErrorCode, Evidence, Observed, Phase, SessionError},
    recovery::FleetConfig,
};
use search::{Report, search};
use world::{Budget, World};

/// One error for each way in which a session answers an error.
fn errors() -> Vec<Arc<SessionError>> {
    [
        (ErrorCode::ConnectionClosed, None),
        (ErrorCode::UpstreamError, Some(4503)),
        (ErrorCode::SessionTokenExpired, Some(4010)),
        (ErrorCode::CreditsExhausted, Some(4001)),
        (ErrorCode::ConcurrencyLimit, Some(4003)),
        (ErrorCode::IdleTimeout, None),
        (ErrorCode::AvatarNotFound, None),
        (ErrorCode::Unknown, None),
    ]
    .into_iter()
    .map(|(code, close_code)| {
        let evidence = Evidence::new(Phase::WebsocketRuntime, Observed::SocketEnded, Egress::None);
        let mut error = SessionError::classified(evidence, "the model broke the connection");
        error.code = code;
        error.close_code = close_code;
        Arc::new(error)
    })
    .collect()
}

fn fleet() -> FleetConfig {
    FleetConfig { park_probe: Some(Duration::from_secs(60)), ..FleetConfig::default() }
}

fn walk(sessions: usize, budget: Budget) -> Report {
    let report = search(World::new(sessions, fleet(), budget), &errors());
    println!("{sessions} session(s), {budget:?}: {} worlds, {} moves", report.worlds, report.moves);
    report
}

/// The product's code and a session's view of it do not change with the depth: what a deeper walk adds is rarer
/// coincidences. `MODEL_WAITS=N` lets each walk wait N times more.
fn deeper() -> u8 {
    std::env::var("MODEL_WAITS").map_or(0, |waits| waits.parse().unwrap())
}

#[test]
fn two_breaks_and_one_command_never_breach_what_a_session_promises() {
    let report = walk(1, Budget { breaks: 2, commands: 1, crashes: 0, waits: 2 + deeper() });
    report.assert_sound();
    assert!(report.worlds > 50_000, "the search has met only {} worlds", report.worlds);
}

#[test]
fn a_crash_between_a_break_and_a_command_never_breaches_what_a_session_promises() {
    let report = walk(1, Budget { breaks: 1, commands: 1, crashes: 1, waits: 2 + deeper() });
    report.assert_sound();
    assert!(report.worlds > 20_000, "the search has met only {} worlds", report.worlds);
}

#[test]
fn two_sessions_of_a_tenant_never_breach_what_they_share() {
    let report = walk(2, Budget { breaks: 1, commands: 1, crashes: 0, waits: 1 + deeper() });
    report.assert_sound();
    assert!(report.worlds > 20_000, "the search has met only {} worlds", report.worlds);
}
