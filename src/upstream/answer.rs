//! HTTP answers: bodies with a bound and a deadline, what an error body says, `Retry-After`.

use std::time::{Duration, SystemTime};

use actix_http::header::{self, HeaderMap, HttpDate};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use crate::errors::Evidence;

/// How long the body of a refusal may take after its head: the status alone is worth reporting, and a service
/// in trouble may never finish its text.
pub(super) const REFUSAL_BODY_PATIENCE: Duration = Duration::from_secs(2);

/// The longest `Retry-After` that is believed: beyond a day it is a mistake, and nobody waits for it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How reading a body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// The whole body was read.
    Complete,
    /// There was more than the bound allows.
    TooLong,
    /// The deadline passed.
    Late,
    /// The connection broke.
    Broken(String),
}

/// A body as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    /// The bytes, at most as many as the bound allowed.
    pub(super) bytes: Bytes,
    /// Whether these are all.
    pub(super) end: BodyEnd,
}

impl Body {
    /// The body as text; what is no UTF-8 is replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Whether bytes are missing at the end.
    pub(super) fn is_cut(&self) -> bool {
        self.end != BodyEnd::Complete
    }
}

/// Reads at most `limit` bytes until `deadline`. The stream is dropped, and its connection with it unless the
/// body was read to its end.
pub(super) async fn read_body<E: std::fmt::Display>(
    chunks: impl Stream<Item = Result<Bytes, E>>,
    limit: usize,
    deadline: Instant,
) -> Body {
    let mut chunks = std::pin::pin!(chunks);
    let mut bytes = BytesMut::new();
    let end = loop {
        match timeout_at(deadline, chunks.next()).await {
            Err(_) => break BodyEnd::Late,
            Ok(None) => break BodyEnd::Complete,
            Ok(Some(Err(error))) => break BodyEnd::Broken(error.to_string()),
            Ok(Some(Ok(chunk))) => {
                let room = limit - bytes.len();
                bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    break BodyEnd::TooLong;
                }
            }
        }
    };
    Body { bytes: bytes.freeze(), end }
}

/// How long the service asks to wait: seconds or an HTTP date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = SystemTime::from(value.parse::<HttpDate>().ok()?);
            date.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Whether an answer of 200 is a failure all the same.
pub(super) fn has_errors(body: &Value) -> bool {
    body.get("errors").is_some_and(|errors| first_error(errors).is_some())
}

/// Adds to `evidence` what an answer of `status` with `body` says.
pub(super) fn read_error(mut evidence: Evidence, status: u16, body: &str) -> Evidence {
    evidence.http_status = Some(status);
    match serde_json::from_str(body) {
        Ok(Value::Object(object)) => match object.get("errors").and_then(first_error) {
            Some(Value::Object(entry)) => {
                if (200..300).contains(&status) {
                    evidence.http_status = entry.get("status").and_then(status_of).or(Some(status));
                }
                evidence.server_code = text_of(entry, &["code", "id"]);
                evidence.server_title = text_of(entry, &["title"]);
                evidence.server_detail = text_of(entry, &["detail", "message"]);
            }
            Some(other) => evidence.server_detail = scalar(other),
            None => {
                evidence.server_code = text_of(&object, &["code", "error"]);
                evidence.server_title = text_of(&object, &["title"]);
                evidence.server_detail = text_of(&object, &["detail", "message"]);
            }
        },
        Ok(Value::String(text)) => evidence.server_detail = filled(&text),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | Err(_) => {
            evidence.server_detail = filled(body);
        }
    }
    evidence
}

fn first_error(errors: &Value) -> Option<&Value> {
    match errors {
        Value::Array(list) => list.first(),
        Value::Object(_) | Value::String(_) => Some(errors),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn text_of(object: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| object.get(*key).and_then(scalar))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => filled(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn status_of(value: &Value) -> Option<u16> {
    scalar(value)?.parse().ok()
}

fn filled(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderValue;

    use super::*;
    use crate::errors::{Egress, Observed, Phase};

    fn evidence() -> Evidence {
        Evidence::new(Phase::SessionToken, Observed::Answer, Egress::None)
    }

    fn read(status: u16, body: &str) -> (Option<u16>, Option<String>, Option<String>, Option<String>) {
        let evidence = read_error(evidence(), status, body);
        (evidence.http_status, evidence.server_code, evidence.server_title, evidence.server_detail)
    }

    fn said(
        status: u16,
        code: Option<&str>,
        title: Option<&str>,
        detail: Option<&str>,
    ) -> (Option<u16>, Option<String>, Option<String>, Option<String>) {
        (Some(status), code.map(Into::into), title.map(Into::into), detail.map(Into::into))
    }

    #[test]
    fn every_known_form_of_an_error_body_is_read() {
        let full = r#"{"errors":[{"id":"i","status":401,"code":"c","title":"t","detail":"d"}]}"#;
        assert_eq!(read(400, full), said(400, Some("c"), Some("t"), Some("d")));
        assert_eq!(read(200, full), said(401, Some("c"), Some("t"), Some("d")));
        let text_status = r#"{"errors":[{"id":"i","status":"402","title":"t"}]}"#;
        assert_eq!(read(200, text_status), said(402, Some("i"), Some("t"), None));
        assert_eq!(read(404, "{\"message\":\"Avatar not found: x\"}\n").3.unwrap(), "Avatar not found: x");
        assert_eq!(
            read(429, r#"{"error":"slow","title":"t","detail":"d"}"#),
            said(429, Some("slow"), Some("t"), Some("d"))
        );
        assert_eq!(read(500, r#"{"code":13,"detail":"d"}"#), said(500, Some("13"), None, Some("d")));
        assert_eq!(read(502, "<html>bad</html>\n"), said(502, None, None, Some("<html>bad</html>")));
        assert_eq!(read(503, ""), said(503, None, None, None));
        assert_eq!(read(503, "[1]"), said(503, None, None, Some("[1]")));
        assert_eq!(read(503, "\"plain\""), said(503, None, None, Some("plain")));
        assert_eq!(read(400, r#"{"errors":["bad"]}"#), said(400, None, None, Some("bad")));
        assert_eq!(read(400, r#"{"errors":[],"message":"m"}"#), said(400, None, None, Some("m")));
    }

    #[test]
    fn only_errors_that_are_there_make_a_failure_of_a_200() {
        for (body, expected) in [
            (r#"{"errors":[]}"#, false),
            (r#"{"errors":null}"#, false),
            (r#"{"session_token":"t"}"#, false),
            (r#"{"errors":[{}]}"#, true),
            (r#"{"errors":{"code":"x"}}"#, true),
        ] {
            assert_eq!(has_errors(&serde_json::from_str(body).unwrap()), expected, "{body}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_is_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers, now)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:51:37 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("18446744073709551615"), Some(MAX_RETRY_AFTER));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_body_is_read_to_its_bound_and_no_further() {
        let read = |chunks: Vec<Result<Bytes, &'static str>>| {
            futures_util::FutureExt::now_or_never(read_body(
                futures_util::stream::iter(chunks),
                4,
                Instant::now() + Duration::from_secs(60),
            ))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let four = Bytes::from_static(b"abcd");
        assert_eq!(read(vec![Ok(four.clone())]), Some(Body { bytes: four.clone(), end: BodyEnd::Complete }));
        assert_eq!(
            read(vec![Ok(four.slice(..2)), Ok(four.slice(2..)), Ok(four.clone())]),
            Some(Body { bytes: four.clone(), end: BodyEnd::TooLong })
        );
        assert_eq!(
            read(vec![Ok(four.slice(..1)), Err("reset")]),
            Some(Body { bytes: four.slice(..1), end: BodyEnd::Broken("reset".into()) })
        );
    }
}
