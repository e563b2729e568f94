//! `greenroom classify` as a person and a script use it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

fn greenroom() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    command.arg("classify");
    command
}

fn with_flags(flags: &[&str]) -> Output {
    greenroom().args(flags).stdin(Stdio::null()).output().unwrap()
}

/// Runs the command with `input` on standard input and gives the exit code and the lines of its answer.
fn with_input(input: &[u8]) -> (Option<i32>, Vec<Value>) {
    let mut child = greenroom().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Both pipes are bounded: whoever writes all before reading waits for ever on a long input.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    (output.status.code(), lines(&output.stdout))
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// What the flags get, without the explanation.
#[track_caller]
fn verdict(flags: &[&str]) -> (String, String, u64) {
    let output = with_flags(flags);
    assert!(output.status.success(), "{output:?}");
    let answers = lines(&output.stdout);
    assert_eq!(answers.len(), 1);
    let answer = answers[0].as_object().unwrap();
    assert_eq!(answer.keys().collect::<Vec<_>>(), ["action", "code", "rule", "why"]);
    let text = |key: &str| answer[key].as_str().unwrap().to_owned();
    (text("code"), text("action"), answer["rule"].as_u64().unwrap())
}

fn expected(code: &str, action: &str, rule: u64) -> (String, String, u64) {
    (code.to_owned(), action.to_owned(), rule)
}

#[test]
fn flags_get_one_line_with_code_action_rule_and_reason() {
    assert_eq!(
        verdict(&["--phase", "websocket_runtime", "--close-code", "4001"]),
        expected("creditsExhausted", "park", 2)
    );
    assert_eq!(
        verdict(&["--phase", "websocket_handshake", "--server-code", "16", "--egress", "none"]),
        expected("sessionTokenInvalid", "renew", 24)
    );
    assert_eq!(
        verdict(&["--phase", "websocket_handshake", "--server-code", "16"]),
        expected("invalidEgressConfig", "fail", 24)
    );
    assert_eq!(
        verdict(&[
            "--phase",
            "websocket_send",
            "--close-code",
            "1000",
            "--close-reason",
            "no audio input for 9s"
        ]),
        expected("idleTimeout", "sleep", 11)
    );
    assert_eq!(
        verdict(&[
            "--phase",
            "session_token",
            "--title",
            "Limit",
            "--detail",
            "too many concurrent sessions"
        ]),
        expected("concurrencyLimit", "park", 9)
    );
}

#[test]
fn a_refused_api_key_parks_instead_of_renewing() {
    assert_eq!(
        verdict(&["--phase", "session_token", "--http-status", "401"]),
        expected("sessionTokenInvalid", "park", 1)
    );
}

#[test]
fn code_title_and_detail_are_taken_from_the_body_where_they_are_not_given() {
    let upgrade = ["--phase", "websocket_connect", "--http-status", "404", "--body"];
    assert_eq!(
        verdict(&[&upgrade[..], &[r#"{"message":"Avatar not found: a"}"#]].concat()),
        expected("avatarNotFound", "fail", 17)
    );
    assert_eq!(
        verdict(&[&upgrade[..], &["Avatar not found: a\n"]].concat()),
        expected("avatarNotFound", "fail", 17)
    );
    assert_eq!(
        verdict(&[&upgrade[..], &["Avatar not found: a", "--detail", "unknown app"]].concat()),
        expected("appIDUnrecognized", "fail", 30)
    );
}

#[test]
fn errors_inside_a_200_count_with_their_own_status() {
    let call = ["--phase", "session_token", "--http-status", "200", "--body"];
    assert_eq!(
        verdict(&[&call[..], &[r#"{"errors":[{"status":"401","id":"unauthorized"}]}"#]].concat()),
        expected("sessionTokenInvalid", "park", 1)
    );
    assert_eq!(verdict(&[&call[..], &["<html>"]].concat()), expected("protocolError", "restart", 27));
    assert_eq!(verdict(&call[..4]), expected("protocolError", "restart", 27));
}

#[test]
fn a_phase_with_nothing_else_is_what_a_client_would_see() {
    for (phase, code, rule) in [
        ("session_token", "connectionFailed", 36),
        ("websocket_connect", "connectionFailed", 36),
        ("websocket_handshake", "connectionClosed", 37),
        ("websocket_send", "connectionClosed", 37),
        ("websocket_runtime", "connectionClosed", 37),
    ] {
        assert_eq!(verdict(&["--phase", phase]), expected(code, "restart", rule));
        assert_eq!(verdict(&["--phase", phase, "--egress", "agora", "--detail", ""]).2, rule);
    }
}

#[test]
fn a_bad_flag_is_named_and_exits_with_2() {
    for (flags, named) in [
        (vec!["--phase", "lunch"], "websocket_handshake"),
        (vec!["--http-status", "404"], "--phase"),
        (vec!["--phase", "session_token", "--egress", "zoom"], "livekit"),
        (vec!["--phase", "session_token", "--http-status", "many"], "--http-status"),
        (vec!["--codes", "--phase", "session_token"], "--codes"),
    ] {
        let output = with_flags(&flags);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(told.contains(named), "{flags:?}: {told}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn lines_are_answered_in_order_and_take_numbers_texts_and_nulls() {
    let input = [
        json!({"phase": "websocket_runtime", "server_code": 4002}),
        json!({"phase": "websocket_runtime", "server_code": "4002", "http_status": null, "egress": "none"}),
        json!({"phase": "websocket_runtime", "server_code": 14, "detail": "down", "egress": "livekit"}),
        json!({"phase": "websocket_connect", "http_status": 400, "body": {"message": "app id mismatch"}}),
        json!({"phase": "websocket_handshake", "close_code": 4010, "close_reason": "expired"}),
        json!({"phase": "session_token", "body": r#"{"errors":[{"status":404}]}"#}),
    ]
    .map(|line| line.to_string())
    .join("\r\n");
    let (exit, answers) = with_input(input.as_bytes());
    assert_eq!(exit, Some(0));
    let codes: Vec<_> = answers.iter().map(|answer| answer["code"].as_str().unwrap()).collect();
    assert_eq!(
        codes,
        [
            "sessionDurationExceeded",
            "sessionDurationExceeded",
            "egressUnavailable",
            "appIDMismatch",
            "sessionTokenExpired",
            "appIDUnrecognized"
        ]
    );
}

#[test]
fn a_bad_line_is_named_by_its_number_and_the_rest_is_answered() {
    let good = br#"{"phase": "websocket_runtime"}"#;
    let bad: [&[u8]; 8] = [
        b"not json",
        br#"{"http_status": 401}"#,
        br#"{"phase": "lunch"}"#,
        br#"{"phase": "session_token", "htp_status": 401}"#,
        br#"{"phase": "session_token", "http_status": 70000}"#,
        br#"{"phase": "session_token", "server_code": [1]}"#,
        b"{\"phase\": \"session_token\", \"detail\": \"\xff\"}",
        b"[]",
    ];
    let mut input = Vec::new();
    for line in bad {
        input.extend_from_slice(line);
        input.extend_from_slice(b"\n\n");
    }
    input.extend_from_slice(good);
    let (exit, answers) = with_input(&input);
    assert_eq!(exit, Some(2));
    assert_eq!(answers.len(), bad.len() + 1);
    for (position, answer) in answers[..bad.len()].iter().enumerate() {
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with(&format!("line {}: ", 2 * position + 1)), "{error}");
        assert!(!error.contains("at line"), "{error}");
    }
    assert!(answers[3]["error"].as_str().unwrap().contains("htp_status"));
    assert_eq!(answers[bad.len()]["code"], "connectionClosed");
}

#[test]
fn a_line_beyond_the_bound_is_refused_and_the_next_is_answered() {
    let mebibyte = 1 << 20;
    let line = |length: usize| {
        let (before, after) = (r#"{"phase":"websocket_runtime","detail":""#, "\"}\n");
        format!("{before}{}{after}", "x".repeat(length - before.len() - after.len() + 1))
    };
    let (exit, answers) = with_input((line(mebibyte + 1) + &line(mebibyte) + &line(100)).as_bytes());
    assert_eq!(exit, Some(2));
    assert!(answers[0]["error"].as_str().unwrap().starts_with("line 1: longer than 1048576 bytes"));
    assert_eq!(answers[1]["code"], "serverError");
    assert_eq!(answers[2]["code"], "serverError");
    assert_eq!(answers.len(), 3);
}

#[test]
fn no_input_is_no_answer() {
    assert_eq!(with_input(b""), (Some(0), vec![]));
}

#[test]
fn each_line_is_answered_before_the_next_is_there() {
    let mut child = greenroom().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        stdin.write_all(b"{\"phase\":\"websocket_send\"}\n").unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert!(line.contains("connectionClosed"), "{line}");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let mut child =
        greenroom().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    // The command may be gone before all is written; that end of the pipe is not what is tested.
    let _gone = stdin.write_all("{\"phase\":\"websocket_send\"}\n".repeat(10_000).as_bytes());
    drop(stdin);
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));
}

#[test]
fn codes_lists_all_twenty_with_who_must_act() {
    let output = with_flags(&["--codes"]);
    assert!(output.status.success());
    let codes = lines(&output.stdout);
    assert_eq!(codes.len(), 20);
    for code in &codes {
        let mut keys: Vec<_> = code.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["action", "code", "docs_url", "meaning", "must_act"]);
        let name = code["code"].as_str().unwrap();
        assert!(code["docs_url"].as_str().unwrap().ends_with(&format!("#{name}")));
    }
    let credits = codes.iter().find(|code| code["code"] == "creditsExhausted").unwrap();
    assert_eq!((&credits["must_act"], &credits["action"]), (&json!("billing"), &json!("park")));
}

#[test]
fn help_documents_the_input_and_the_exit_code() {
    let help = String::from_utf8(with_flags(&["--help"]).stdout).unwrap();
    for promise in ["JSON Lines", "snake_case", "exit\ncode is 2", "1 MiB", "--codes"] {
        assert!(help.contains(promise), "{promise} in {help}");
    }
}
