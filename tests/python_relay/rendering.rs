//! The rendering table against both clients' own classifiers: what each makes of every code.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use greenroom::{
    errors::{Action, ErrorCode},
    http::rendering::ROWS,
};
use serde_json::{Value, json};

use crate::player::{AVATARKIT, SPATIALREAL, Sdk};

/// What a client's classifier makes of each row: the refused upgrade, the ServerError, the close.
fn classified(sdk: &Sdk) -> Vec<Value> {
    let mut input = String::new();
    for row in &ROWS {
        let text = |text: &str| text.replace("{avatar}", "a-1");
        let line = json!({
            "status": row.status,
            "body": format!("{}\n", json!({"message": text(row.message)})),
            "code": row.error.map(|(code, _)| code),
            "text": row.error.map(|(_, said)| text(said)),
            "close": row.close,
        });
        input.push_str(&format!("{line}\n"));
    }
    let mut child = Command::new(sdk.python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/rendering.py"))
        .arg(sdk.name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", sdk.name);
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Where the older client gives another code to the refused upgrade or the ServerError, and why.
const AVATARKIT_DIFFERS: [(ErrorCode, [&str; 2], &str); 4] = [
    (ErrorCode::ConcurrencyLimit, ["invalidRequest", "serverError"], "it has no such code"),
    (ErrorCode::ConnectionFailed, ["serverError", "serverError"], "an answer cannot say that there was none"),
    (ErrorCode::ConnectionClosed, ["serverError", ""], "before the upgrade no connection can end"),
    (ErrorCode::Unknown, ["serverError", "serverError"], "every answer has a meaning"),
];

#[test]
fn the_older_client_gives_each_error_its_code() {
    for (row, seen) in ROWS.iter().zip(classified(&AVATARKIT)) {
        let listed = AVATARKIT_DIFFERS.iter().find(|(code, ..)| *code == row.code);
        let [upgrade, error] = listed.map_or([row.code.as_str(); 2], |(_, codes, _)| *codes);
        assert_eq!(seen["upgrade"], upgrade, "{}", row.code);
        assert_eq!(seen["error"].as_str().unwrap_or_default(), error, "{}", row.code);
        // It reads no close code; the ServerError before it has said why.
        assert_eq!(seen["close"], "connectionClosed", "{}", row.code);
    }
}

/// The numbers that the current client knows; the texts it hands to its caller.
fn spatialreal_code(number: u16) -> &'static str {
    match number {
        4001 => "creditsExhausted",
        4002 => "sessionDurationExceeded",
        4003 => "concurrencyLimit",
        4010 => "sessionTokenInvalid",
        4503 => "upstreamError",
        _ => "connectionClosed",
    }
}

#[test]
fn the_current_client_reads_the_numbers_and_reconnects_where_that_helps() {
    for (row, seen) in ROWS.iter().zip(classified(&SPATIALREAL)) {
        let upgrade = if row.status == 401 { "sessionTokenInvalid" } else { "connectionFailed" };
        assert_eq!(seen["upgrade"], upgrade, "{}", row.code);
        assert_eq!(seen["close"], spatialreal_code(row.close), "{}", row.code);
        let error = row.error.map(|(number, _)| match u16::try_from(number) {
            Ok(own @ 4000..=4999) => spatialreal_code(own),
            Ok(_) | Err(_) => "serverError",
        });
        assert_eq!(seen["error"].as_str(), error, "{}", row.code);
        // The protocol expects a reconnect after 4002, whoever has to pay for it.
        let helps = match row.code.default_action() {
            Action::Restart | Action::Sleep => true,
            Action::Park | Action::Fail | Action::Renew => row.code == ErrorCode::SessionDurationExceeded,
        };
        assert_eq!(seen["retryable"], helps, "{}", row.code);
    }
}
