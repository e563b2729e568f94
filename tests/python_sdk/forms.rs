//! Both clients under each form in which "too many connections" and a refused token can arrive.

use std::{io::Write as _, thread};

use greenroom::simulator::{Arrival, Unknowns};
use serde_json::{Value, json};

use crate::player::{AVATARKIT, SPATIALREAL, Sdk, pick, with};

/// A form by name, and what it sets.
fn forms() -> [(&'static str, Unknowns); 4] {
    let form = |arrives, error_before_close| Unknowns {
        concurrency_arrives: arrives,
        auth_arrives: arrives,
        error_before_close,
        ..Unknowns::default()
    };
    [
        ("http", form(Arrival::Http, false)),
        ("server_error", form(Arrival::ServerError, false)),
        ("close", form(Arrival::Close, false)),
        ("error, then close", form(Arrival::Close, true)),
    ]
}

/// A row of the table: what an SDK makes of a feature under a form.
struct Seen {
    sdk: &'static str,
    feature: &'static str,
    form: &'static str,
    saw: String,
}

/// What a client's error says, in one line.
fn error_line(error: &Value) -> String {
    let error = pick(error, &["code", "phase", "http_status", "close_code"]);
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let mut line = format!("{} ({})", text("code"), text("phase"));
    for name in ["http_status", "close_code"] {
        if let Some(number) = error[name].as_u64() {
            line.push_str(&format!(" {name} {number}"));
        }
    }
    line
}

fn grid(sdk: &Sdk) -> Vec<Seen> {
    let mut rows = Vec::new();
    for (form, unknowns) in forms() {
        let mut add = |feature, saw| rows.push(Seen { sdk: sdk.name, feature, form, saw });
        // One slot is enough for whoever keeps to it, and what is refused has no say in what is granted.
        let one_slot = with(|config| {
            config.unknowns = unknowns;
            config.limits.concurrency = Some(1);
        });
        let seen = sdk.play(&one_slot, "clip", &["--query-auth"]);
        let req_id = seen["req_id"].as_str().unwrap_or_default();
        assert_eq!(seen["frames"][req_id], json!({"count": 25, "in_order": true}), "{form}: {seen}");
        add("clip", format!("{}, {} frames", seen["stage"], seen["frames"][req_id]["count"]));
        let seen = sdk.play(&one_slot, "start", &["--token-twice"]);
        assert_eq!(seen["stage"], "again", "{form}: {seen}");
        add("4010", error_line(&seen["error"]));
        let no_slot = with(|config| {
            config.unknowns = unknowns;
            config.limits.concurrency = Some(0);
        });
        let seen = sdk.play(&no_slot, "start", &[]);
        assert_eq!(seen["stage"], "start", "{form}: {seen}");
        add("4003", error_line(&seen["error"]));
    }
    rows
}

/// Feature, form, and what the SDK documents for it.
type Expected = [(&'static str, &'static str, &'static str); 8];

const SPATIALREAL_SEES: Expected = [
    ("4003", "http", "connectionFailed (websocket_connect) http_status 429"),
    ("4003", "server_error", "concurrencyLimit (websocket_handshake) close_code 4003"),
    ("4003", "close", "concurrencyLimit (websocket_handshake) close_code 4003"),
    ("4003", "error, then close", "concurrencyLimit (websocket_handshake) close_code 4003"),
    ("4010", "http", "connectionFailed (websocket_connect) http_status 400"),
    ("4010", "server_error", "sessionTokenInvalid (websocket_handshake) close_code 4010"),
    ("4010", "close", "sessionTokenInvalid (websocket_handshake) close_code 4010"),
    ("4010", "error, then close", "sessionTokenInvalid (websocket_handshake) close_code 4010"),
];

/// It has no code for a concurrency limit, and reads none into a close.
const AVATARKIT_SEES: Expected = [
    ("4003", "http", "invalidRequest (websocket_connect) http_status 429"),
    ("4003", "server_error", "serverError (websocket_handshake)"),
    ("4003", "close", "connectionClosed (websocket_handshake) close_code 4003"),
    ("4003", "error, then close", "serverError (websocket_handshake)"),
    ("4010", "http", "sessionTokenInvalid (websocket_connect) http_status 400"),
    ("4010", "server_error", "sessionTokenInvalid (websocket_handshake)"),
    ("4010", "close", "connectionClosed (websocket_handshake) close_code 4010"),
    ("4010", "error, then close", "sessionTokenInvalid (websocket_handshake)"),
];

#[test]
fn both_clients_see_each_form_as_they_document_it() {
    let rows: Vec<Seen> = thread::scope(|scope| {
        let grids = [&SPATIALREAL, &AVATARKIT].map(|sdk| scope.spawn(|| grid(sdk)));
        grids.into_iter().flat_map(|grid| grid.join().unwrap()).collect()
    });
    let mut table = format!("\n{:<12} {:<8} {:<18} saw\n", "sdk", "feature", "form");
    for Seen { sdk, feature, form, saw } in &rows {
        table.push_str(&format!("{sdk:<12} {feature:<8} {form:<18} {saw}\n"));
    }
    // Past the test's capture: the table is worth reading when all is well, too.
    let _ = std::io::stdout().write_all(table.as_bytes());
    for (sdk, expected) in [("spatialreal", SPATIALREAL_SEES), ("avatarkit", AVATARKIT_SEES)] {
        for (feature, form, sees) in expected {
            let row = rows.iter().find(|row| (row.sdk, row.feature, row.form) == (sdk, feature, form));
            assert_eq!(row.map(|row| row.saw.as_str()), Some(sees), "{sdk} {feature} {form}{table}");
        }
    }
}
