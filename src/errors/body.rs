//! What an HTTP error body says, whichever of the forms it has.
//!
//! Seen on the wire: `{"errors":[{"id","status","code","title","detail"}]}`, also inside a 200;
//! `{"message"}`; `{"code"|"error","title","detail"}`; plain text; nothing at all.

use serde_json::{Map, Value};

use super::{Evidence, Phase};

/// The longest text that is kept of one field, in bytes: enough for every known text, and too little for a
/// page of a proxy to fill the logs.
pub const MAX_FIELD_BYTES: usize = 512;

/// The most that is kept of a raw body, in bytes.
pub const MAX_RAW_BODY_BYTES: usize = 2048;

/// The beginning of `text`, at most `max_bytes` long, cut between characters.
pub fn clip(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// What an HTTP error body says. Texts are trimmed, not empty, and at most [`MAX_FIELD_BYTES`] long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// The status inside the body: `errors[0].status`, a number or a numeric text.
    pub status: Option<u16>,
    /// The service's own code; where an entry of `errors` has none, its `id`.
    pub code: Option<String>,
    /// The title.
    pub title: Option<String>,
    /// The detail, or the message, or a body that is plain text.
    pub detail: Option<String>,
    http_status: u16,
    has_errors: bool,
}

impl BodyFacts {
    /// Whether the body carries a non-empty `errors`: then an answer of 200 is a failure too.
    pub fn has_errors(&self) -> bool {
        self.has_errors
    }

    /// The status that counts: the answer's, but inside a 200 that of `errors[0]`.
    pub fn effective_status(&self) -> u16 {
        match self.status {
            Some(status) if self.http_status == 200 => status,
            Some(_) | None => self.http_status,
        }
    }
}

/// Reads the body of an answer with HTTP `status`. Nothing that the service can send is an error here: a body
/// without a known form is plain text, which is the detail.
pub fn parse_error_body(status: u16, body: &str) -> BodyFacts {
    let facts = match serde_json::from_str(body) {
        Ok(Value::Object(object)) => from_object(&object),
        Ok(Value::String(text)) => BodyFacts { detail: bounded(&text), ..BodyFacts::default() },
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | Err(_) => {
            BodyFacts { detail: bounded(body), ..BodyFacts::default() }
        }
    };
    BodyFacts { http_status: status, ..facts }
}

impl Evidence {
    /// The same evidence with what an HTTP answer of `status` with `body` says: `errors[0].status` where it
    /// comes inside a 200, and code, title and detail where they are not known already.
    #[must_use]
    pub fn with_http_answer(mut self, status: u16, body: &str) -> Self {
        let facts = parse_error_body(status, body);
        self.http_status = Some(facts.effective_status());
        self.server_code = self.server_code.or(facts.code);
        self.server_title = self.server_title.or(facts.title);
        self.server_detail = self.server_detail.or(facts.detail);
        self
    }
}

/// Evidence of an HTTP answer of `status` with `body`, to the token call or to the upgrade (`phase`).
pub fn evidence_from_body(phase: Phase, egress: super::Egress, status: u16, body: &str) -> Evidence {
    Evidence::new(phase, super::Observed::Answer, egress).with_http_answer(status, body)
}

fn from_object(object: &Map<String, Value>) -> BodyFacts {
    let first = match object.get("errors") {
        Some(Value::Array(errors)) => errors.first(),
        Some(single @ (Value::Object(_) | Value::String(_))) => Some(single),
        Some(Value::Null | Value::Bool(_) | Value::Number(_)) | None => None,
    };
    match first {
        Some(Value::Object(entry)) => BodyFacts {
            status: entry.get("status").and_then(status_of),
            code: text_of(entry, &["code", "id"]),
            has_errors: true,
            ..titled(entry)
        },
        Some(other) => BodyFacts { detail: scalar(other), has_errors: true, ..BodyFacts::default() },
        None => BodyFacts { code: text_of(object, &["code", "error"]), ..titled(object) },
    }
}

fn titled(object: &Map<String, Value>) -> BodyFacts {
    BodyFacts {
        title: text_of(object, &["title"]),
        detail: text_of(object, &["detail", "message"]),
        ..BodyFacts::default()
    }
}

/// The first of `keys` that has a text or a number.
fn text_of(object: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| object.get(*key).and_then(scalar))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => bounded(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn status_of(value: &Value) -> Option<u16> {
    scalar(value)?.parse().ok()
}

fn bounded(text: &str) -> Option<String> {
    let text = clip(text.trim(), MAX_FIELD_BYTES);
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::errors::{Egress, ErrorCode, classify};

    fn facts(body: &str) -> (Option<u16>, Option<String>, Option<String>, Option<String>) {
        let BodyFacts { status, code, title, detail, .. } = parse_error_body(400, body);
        (status, code, title, detail)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn every_form_that_was_seen_on_the_wire_is_read() {
        let list = r#"{"errors":[{"id":"x","status":"401","code":"unauthorized","title":"T","detail":"D"}]}"#;
        assert_eq!(facts(list), (Some(401), some("unauthorized"), some("T"), some("D")));
        assert_eq!(facts(r#"{"message":"Invalid session token"}"#).3, some("Invalid session token"));
        assert_eq!(
            facts(r#"{"error":"denied","title":"T","detail":"D"}"#),
            (None, some("denied"), some("T"), some("D"))
        );
        assert_eq!(facts(" bad gateway\n"), (None, None, None, some("bad gateway")));
        assert_eq!(facts("  "), (None, None, None, None));
    }

    #[test]
    fn an_entry_without_a_code_goes_by_its_id() {
        let body = r#"{"errors":[{"id":"INVALID_ARGUMENT","status":400,"detail":"D"},{"code":"second"}]}"#;
        assert_eq!(facts(body), (Some(400), some("INVALID_ARGUMENT"), None, some("D")));
    }

    #[test]
    fn a_numeric_code_is_read_as_text_and_an_empty_one_as_missing() {
        assert_eq!(facts(r#"{"code":4001}"#).1, some("4001"));
        assert_eq!(facts(r#"{"code":"","error":"e"}"#).1, some("e"));
    }

    #[test]
    fn errors_inside_a_200_are_a_failure_with_their_own_status() {
        let body = r#"{"errors":[{"status":"403","detail":"no such app"}]}"#;
        assert!(parse_error_body(200, body).has_errors());
        assert_eq!(parse_error_body(200, body).effective_status(), 403);
        assert_eq!(parse_error_body(500, body).effective_status(), 500);
        let verdict = classify(&evidence_from_body(Phase::SessionToken, Egress::None, 200, body));
        assert_eq!((verdict.code, verdict.rule), (ErrorCode::AppIdUnrecognized, 29));
    }

    #[test]
    fn a_good_token_answer_has_no_errors() {
        assert!(!parse_error_body(200, r#"{"sessionToken":"t","errors":[]}"#).has_errors());
        assert!(!parse_error_body(200, r#"{"sessionToken":"t","errors":null}"#).has_errors());
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(clip("aé", 2), "a");
        assert_eq!(clip("aé", 3), "aé");
        let body = "é".repeat(MAX_FIELD_BYTES);
        assert_eq!(facts(&body).3, Some("é".repeat(MAX_FIELD_BYTES / 2)));
    }

    #[test]
    fn what_is_known_already_outranks_the_body() {
        let mut evidence =
            Evidence::new(Phase::WebsocketConnect, crate::errors::Observed::Answer, Egress::None);
        evidence.server_detail = some("known");
        let evidence = evidence.with_http_answer(404, r#"{"message":"Avatar not found: a","code":"c"}"#);
        assert_eq!(evidence.server_detail, some("known"));
        assert_eq!(evidence.server_code, some("c"));
    }

    /// JSON-like text, so that the fuzzing gets past the first byte.
    fn bodies() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec!["errors", "status", "code", "id", "title", "detail", "message"]);
        let leaf =
            prop_oneof![any::<u32>().prop_map(|n| n.to_string()), "\"[^\"\\\\]{0,40}\"", Just("null".into())];
        let value = leaf.prop_recursive(3, 16, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec((key.clone(), inner), 0..4).prop_map(|fields| {
                    let fields: Vec<_> = fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                    format!("{{{}}}", fields.join(","))
                }),
            ]
        });
        prop_oneof![value, any::<String>(), "(?s).{0,2000}"]
    }

    proptest! {
        #[test]
        fn no_body_panics_or_leaves_an_empty_or_long_text(status in any::<u16>(), body in bodies()) {
            let facts = parse_error_body(status, &body);
            for text in [&facts.code, &facts.title, &facts.detail].into_iter().flatten() {
                prop_assert!(!text.is_empty() && text.len() <= MAX_FIELD_BYTES, "{text:?}");
            }
            prop_assert!(facts.status.is_none() || facts.has_errors());
        }
    }
}
