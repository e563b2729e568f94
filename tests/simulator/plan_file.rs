//! The example plan: each stable code is struck as its comment says.

use std::{collections::BTreeMap, path::Path};

use greenroom::{
    errors::{Egress, ErrorCode, Evidence, Observed, Phase, classify, evidence_from_body},
    simulator::{Effect, Fault, FaultFile, Nonsense, Point},
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/faults.toml");

/// What a client gathers when the fault strikes.
fn evidence(fault: &Fault) -> Evidence {
    let phase = match fault.at {
        Point::Token => Phase::SessionToken,
        Point::Upgrade => Phase::WebsocketConnect,
        Point::Handshake => Phase::WebsocketHandshake,
        Point::AfterChunks(_) | Point::AfterSeconds(_) | Point::AfterFrames(_) => Phase::WebsocketRuntime,
    };
    let observed = |observed| Evidence::new(phase, observed, Egress::Unknown);
    match &fault.effect {
        Effect::Http { status, body, .. } => {
            let body = match body {
                None => String::new(),
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(json) => json.to_string(),
            };
            evidence_from_body(phase, Egress::Unknown, *status, &body)
        }
        Effect::ServerError { code, message, then_close, .. } => Evidence {
            server_code: Some(code.to_string()),
            server_detail: Some(message.clone()),
            close_code: then_close.as_ref().map(|close| close.code),
            ..observed(Observed::ServerError)
        },
        Effect::Close(close) => Evidence {
            close_code: Some(close.code),
            close_reason: Some(close.reason.clone()),
            ..observed(Observed::Answer)
        },
        Effect::Drop { .. } if fault.at == Point::Upgrade => observed(Observed::NoAnswer),
        Effect::Drop { .. } => observed(Observed::SocketEnded),
        Effect::Nonsense(Nonsense::EmptyConnectionId) => observed(Observed::Violation),
        other => panic!("no code of the example is struck by {other:?}"),
    }
}

#[test]
fn the_example_strikes_each_code_under_its_number() {
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    // `# 7 creditsExhausted`, with or without an explanation behind a colon or semicolon.
    let named: BTreeMap<usize, &str> = text
        .lines()
        .filter_map(|line| {
            let (number, name) = line.strip_prefix("# ")?.split_once(' ')?;
            Some((number.parse().ok()?, name.split([':', ';']).next()?))
        })
        .collect();
    let expected: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    let mut names: Vec<_> = named.values().copied().collect();
    names.sort_unstable();
    let mut all = expected;
    all.sort_unstable();
    assert_eq!(names, all, "each code once");
    let plan = FaultFile::read(Path::new(EXAMPLE)).unwrap();
    assert_eq!(plan.seed, Some(20));
    for (number, name) in named {
        let id = Some(format!("code-{number:02}"));
        let struck = |fault: &&Fault| fault.who.avatar_id == id || fault.who.api_key == id;
        let fault = plan.faults.iter().find(struck).unwrap_or_else(|| panic!("no fault for {name}"));
        let verdict = classify(&evidence(fault));
        assert_eq!(verdict.code.as_str(), name, "number {number}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plan.toml");
    assert!(FaultFile::read(&path).unwrap_err().contains("plan.toml"));
    std::fs::write(&path, "[[faults]]\nat = \"token\"\n").unwrap();
    let error = FaultFile::read(&path).unwrap_err();
    assert!(error.contains("plan.toml") && error.contains("missing field `do`"), "{error}");
}
