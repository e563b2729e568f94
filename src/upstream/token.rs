//! The token call.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use awc::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{
    answer::{BodyEnd, read_body, retry_after},
    failure::Failures,
};
use crate::errors::{Phase, SessionError, parse_error_body};

const PHASE: Phase = Phase::SessionToken;
/// What a success is answered with.
const OK: u16 = 200;

/// Asks for one session token.
pub(super) async fn request(
    client: &awc::Client,
    url: &str,
    api_key: &SecretString,
    ttl: Duration,
    failures: &Failures,
) -> Result<SecretString, SessionError> {
    let expire_at =
        (SystemTime::now() + ttl).duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
    let mut key = HeaderValue::from_str(api_key.expose_secret())
        .map_err(|_| failures.no_answer(PHASE, "the upstream API key cannot stand in a header"))?;
    key.set_sensitive(true);
    let answered = client
        .post(url)
        .insert_header(("X-Api-Key", key))
        .insert_header((CONTENT_TYPE, "application/json"))
        .send_body(json!({"expireAt": expire_at}).to_string())
        .await;
    let mut response = answered
        .map_err(|error| failures.no_answer(PHASE, &format!("no answer to the token call: {error}")))?;
    let status = response.status().as_u16();
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = retry_after(wait, SystemTime::now());
    let (body, end) = read_body(&mut response).await;

    if status != OK || parse_error_body(status, &body).has_errors() {
        return Err(failures.refusal(PHASE, status, &body, wait));
    }
    match (token_of(&body), end) {
        (Some(token), _) => Ok(token),
        (None, BodyEnd::Broken) => Err(failures.no_answer(PHASE, "the answer to the token call broke off")),
        (None, BodyEnd::Cut) => Err(failures.violation(PHASE, "the answer to the token call is too large")),
        (None, BodyEnd::Whole) => {
            Err(failures.violation(PHASE, "the token call was answered with 200 and no token"))
        }
    }
}

/// The token under its current name or its older one.
fn token_of(body: &str) -> Option<SecretString> {
    let answer: Value = serde_json::from_str(body).ok()?;
    ["session_token", "sessionToken"]
        .into_iter()
        .filter_map(|name| answer.get(name)?.as_str())
        .find(|token| !token.is_empty())
        .map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_under_both_names_and_an_empty_one_is_none() {
        let token = |body| token_of(body).map(|token| token.expose_secret().to_owned());
        assert_eq!(token(r#"{"session_token": "a"}"#).as_deref(), Some("a"));
        assert_eq!(token(r#"{"session_token": "", "sessionToken": "b"}"#).as_deref(), Some("b"));
        assert_eq!(token(r#"{"session_token": ""}"#), None);
        assert_eq!(token("[]"), None);
        assert_eq!(token("nonsense"), None);
    }
}
