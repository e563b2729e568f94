//! The example's fault plan, which provokes each of the 20 stable codes, with both clients.

use std::path::Path;

use greenroom::simulator::FaultFile;

use crate::{
    feature::error_line,
    form::{DEFAULT, Setup, simulator},
    player::{BOTH, Sdk},
};

/// What the clients call each of the 20, in the order of `config/faults.toml`: their codes are those of the
/// table in the product where they read as much of the failure as it does.
const CALLED: [(&str, &str, &str); 20] = [
    ("sessionTokenExpired", "sessionTokenInvalid", "sessionTokenExpired"),
    ("sessionTokenInvalid", "sessionTokenInvalid", "connectionClosed"),
    ("appIDUnrecognized", "connectionFailed", "appIDUnrecognized"),
    ("appIDMismatch", "connectionFailed", "appIDMismatch"),
    ("avatarNotFound", "connectionFailed", "avatarNotFound"),
    ("billingRequired", "connectionFailed", "billingRequired"),
    ("creditsExhausted", "creditsExhausted", "connectionClosed"),
    ("sessionDurationExceeded", "sessionDurationExceeded", "connectionClosed"),
    ("unsupportedSampleRate", "serverError", "unsupportedSampleRate"),
    ("invalidEgressConfig", "serverError", "invalidEgressConfig"),
    ("egressUnavailable", "serverError", "egressUnavailable"),
    ("idleTimeout", "serverError", "egressUnavailable"),
    ("upstreamError", "upstreamError", "connectionClosed"),
    ("invalidRequest", "connectionClosed", "connectionClosed"),
    ("connectionFailed", "connectionFailed", "connectionFailed"),
    ("connectionClosed", "connectionClosed", "connectionClosed"),
    ("protocolError", "protocolError", "protocolError"),
    ("serverError", "connectionFailed", "serverError"),
    ("unknown", "invalidRequest", "unknown"),
    ("concurrencyLimit", "concurrencyLimit", "serverError"),
];

#[test]
fn each_of_the_twenty_codes_is_provoked_by_the_fault_plan_and_seen_by_both_clients() {
    let simulator = simulator(&DEFAULT, Setup::Plain);
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/faults.toml"));
    for fault in FaultFile::read(path).unwrap().faults {
        simulator.add_fault(fault).unwrap();
    }
    let play = |sdk: Sdk, number: usize| {
        let id = format!("code-{number:02}");
        let args = ["ended", "--seconds", "0.3", "--avatar-id", &id, "--api-key", &id];
        sdk.play(&simulator, &args.map(str::to_owned))
    };
    let playing: Vec<_> = (1..=CALLED.len()).map(|number| BOTH.map(|sdk| play(sdk, number))).collect();
    for ((code, spatialreal, avatarkit), playing) in CALLED.into_iter().zip(playing) {
        for (called, playing) in [spatialreal, avatarkit].into_iter().zip(playing) {
            let seen = playing.seen();
            // The first is the failure; a close that follows it belongs to it.
            let error = if seen["error"].is_null() { &seen["errors"][0] } else { &seen["error"] };
            assert_eq!(error["code"], called, "{code}: {}; {seen}", error_line(error));
        }
    }
    let struck = |planned: &greenroom::simulator::PlannedFault| planned.hits;
    let hits: Vec<_> = simulator.faults().iter().take(CALLED.len()).map(struck).collect();
    assert_eq!(hits, [2; 20], "each strikes both clients, once");
}
