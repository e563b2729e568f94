//! What the fuzzers call: each takes any bytes, and panics where a promise does not hold. Only with `--features
//! fuzzing`: `fuzz/` gives each to libFuzzer, and `tests/fuzz_corpus.rs` replays what was found.
//!
//! A target that cannot fail finds crashes only; so each holds what it reads against a second way to read it.

use std::collections::BTreeMap;

use bytes::Bytes;
use secrecy::ExposeSecret as _;

use crate::{
    cli::fuzz_classify as classify,
    config as configuration,
    errors::{Egress, ErrorCode, Phase, SessionError, evidence_from_body, redact},
    http::{fuzz_ingress_messages as ingress_messages, fuzz_ogg as ogg, fuzz_wav as wav},
    wire::{self, Rewrite},
};

/// A target's body.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus in `tests/fuzz`.
pub const TARGETS: &[(&str, Target)] = &[
    ("classify", classify),
    ("config", config),
    ("envelope", envelope),
    ("error_body", error_body),
    ("ingress_messages", ingress_messages),
    ("ogg", ogg),
    ("wav", wav),
];

/// Runs the target of this name, which has to be one of [`TARGETS`].
///
/// # Panics
///
/// A promise does not hold.
#[expect(clippy::panic, reason = "a panic is how a fuzzer is told")]
pub fn run(name: &str, bytes: &[u8]) {
    match TARGETS.iter().find(|(target, _)| *target == name) {
        Some((_, body)) => body(bytes),
        None => panic!("there is no target {name}"),
    }
}

/// The configuration file: whatever is in it, it is read or refused with the line of each mistake.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A secret's file is opened, and what an input names may be a pipe that nobody writes to.
    if text.contains("file") {
        return;
    }
    let lines = text.lines().count().max(1) as u64;
    match configuration::parse(text, "fuzz.toml", &BTreeMap::new()) {
        // What is read says no secret of the file when it is shown.
        Ok(config) => {
            let shown = format!("{config:?}");
            for key in config.tenants.iter().flat_map(|tenant| &tenant.keys) {
                let key = key.expose_secret();
                assert!(key.len() < 16 || !shown.contains(key), "a key is shown");
            }
        }
        Err(errors) => {
            assert!(!errors.mistakes().is_empty(), "refused without a reason");
            for mistake in errors.mistakes() {
                assert!(!mistake.text.is_empty());
                if let configuration::Place::File { line, .. } = &mistake.place {
                    assert!(
                        (1..=lines + 1).contains(&(*line as u64)),
                        "{mistake}: the file has {lines} lines"
                    );
                }
            }
        }
    }
}

/// The body of a refusal, as the token call and the upgrade get one: the first byte is the phase, two the status.
fn error_body(bytes: &[u8]) {
    let [phase, high, low, body @ ..] = bytes else { return };
    let phase = Phase::ALL[usize::from(*phase) % Phase::ALL.len()];
    let status = 100 + u16::from_be_bytes([*high, *low]) % 900;
    let body = String::from_utf8_lossy(body);
    let evidence = evidence_from_body(phase, Egress::Unknown, status, &body);
    let error = SessionError::classified(evidence.clone(), "fuzzed");
    assert_eq!(error.code, SessionError::classified(evidence, "fuzzed").code);
    assert!(ErrorCode::ALL.contains(&error.code));
    for text in [&error.server_code, &error.server_title, &error.server_detail].into_iter().flatten() {
        assert!(text.len() <= crate::errors::MAX_FIELD_BYTES, "{} bytes are kept", text.len());
    }
    let secret = "planted-secret";
    assert!(!redact(&format!("{body}{secret}"), &[secret]).contains(secret));
}

/// A message of the protocol, decoded, and relayed under other ids: a splice changes the ids and nothing else.
fn envelope(bytes: &[u8]) {
    let message = Bytes::copy_from_slice(bytes);
    let decoded = wire::decode(message.clone());
    let peeked = wire::peek(&message);
    if let Ok(Some(data)) = &decoded {
        assert_eq!(wire::decode(wire::encode(data.clone())).as_ref(), Ok(&Some(data.clone())));
        assert!(peeked.is_some(), "what can be decoded can be looked into");
    }
    let ids = Rewrite { connection_id: Some("another-connection"), req_id: Some("another-request") };
    let Ok(spliced) = wire::rewrite(&message, ids) else {
        assert!(!matches!(decoded, Ok(Some(_))), "what can be decoded can be relayed");
        return;
    };
    assert_eq!(wire::rewrite(&message, Rewrite::default()).as_deref(), Ok(bytes), "nothing was to change");
    if decoded.is_err() {
        return;
    }
    // An id that is there is the other one, and an id that is not there was not made up.
    let (Some(before), Some(after)) = (peeked, wire::peek(&spliced)) else { return };
    for (was, is, other) in [
        (before.connection_id, after.connection_id, "another-connection"),
        (before.req_id, after.req_id, "another-request"),
    ] {
        assert_eq!(is, if was.is_empty() { "" } else { other });
    }
    assert_eq!((before.kind, before.end), (after.kind, after.end));
    assert_eq!(wire::decode(spliced).is_ok(), decoded.is_ok(), "a splice broke the message");
}
