//! The rendering table against both clients' own classifiers: what each makes of every code.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use greenroom::http::rendering::{ROWS, Row};
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

#[test]
fn show() {
    for sdk in [&SPATIALREAL, &AVATARKIT] {
        for (row, seen) in ROWS.iter().zip(classified(sdk)) {
            println!("{} {} {seen}", sdk.name, row.code);
        }
    }
    let _: Option<Row> = None;
}
