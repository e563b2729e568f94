//! The console call for a session token.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_http::header::{self, HeaderMap, HeaderValue};
use awc::error::SendRequestError;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{
    UpstreamConfig,
    answer::{self, Body, BodyEnd, REFUSAL_BODY_PATIENCE},
    endpoint,
    report::Reporter,
    sources::Lack,
};
use crate::errors::{Phase, SessionError, parse_error_body};

const PHASE: Phase = Phase::SessionToken;

/// The most that is read of the answer's body: a token has less than 4 KiB.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Asks for a fresh token, which is also told to `reporter`: a token is good for one connection.
pub(super) async fn fetch(
    http: &awc::Client,
    config: &Arc<UpstreamConfig>,
    api_key: &SecretString,
    reporter: &mut Reporter,
) -> Result<SecretString, SessionError> {
    let limit = config.deadlines.token;
    let deadline = Instant::now() + limit;
    let late = || format!("the token call had no answer within {} ms", limit.as_millis());

    let Ok(mut key) = HeaderValue::from_str(api_key.expose_secret()) else {
        return Err(reporter.internal(PHASE, "the API key has characters that no header can carry"));
    };
    key.set_sensitive(true);
    let sending = http
        .post(endpoint::token_url(&config.console_url))
        .insert_header(("X-Api-Key", key))
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .send_body(request_body(SystemTime::now(), config.token_ttl));
    let response = match timeout_at(deadline, sending).await {
        Err(_) => return Err(reporter.no_answer(PHASE, late())),
        Ok(Err(SendRequestError::Connect(ref error))) if let Some(lack) = Lack::of(error) => {
            return Err(reporter.short(PHASE, lack));
        }
        Ok(Err(error)) => {
            return Err(reporter.no_answer(PHASE, format!("the token call failed: {error}")));
        }
        Ok(Ok(response)) => response,
    };

    let status = response.status().as_u16();
    let headers = response.headers().clone();
    if !response.status().is_success() {
        let body_deadline = deadline.min(Instant::now() + REFUSAL_BODY_PATIENCE);
        let body = answer::read_body(response, MAX_BODY_BYTES, body_deadline).await;
        return Err(refused(reporter, status, &headers, &body));
    }
    let body = answer::read_body(response, MAX_BODY_BYTES, deadline).await;
    match &body.end {
        BodyEnd::Complete => read_token(reporter, status, &headers, &body).map_err(|error| *error),
        BodyEnd::TooLong => Err(reporter
            .violation(PHASE, format!("the token answer is longer than {} KiB", MAX_BODY_BYTES / 1024))),
        BodyEnd::Late => Err(reporter.no_answer(PHASE, late())),
        BodyEnd::Broken(how) => Err(reporter.no_answer(PHASE, format!("the token answer broke off: {how}"))),
    }
}

fn request_body(now: SystemTime, ttl: Duration) -> String {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({ "expireAt": since_epoch.saturating_add(ttl).as_secs() }).to_string()
}

/// The token in an answer of success, or the errors that it carries instead.
fn read_token(
    reporter: &mut Reporter,
    status: u16,
    headers: &HeaderMap,
    body: &Body,
) -> Result<SecretString, Box<SessionError>> {
    let parsed = serde_json::from_slice::<Value>(&body.bytes).unwrap_or_default();
    let token = ["session_token", "sessionToken"]
        .iter()
        .find_map(|name| parsed.get(*name)?.as_str())
        .filter(|token| !token.is_empty());
    if let Some(token) = token {
        reporter.learn(SecretString::from(token));
    }
    if parse_error_body(status, &body.text()).has_errors() {
        return Err(Box::new(refused(reporter, status, headers, body)));
    }
    // No raw body is kept of these: a token under another name is still a token.
    let Some(token) = token else {
        return Err(Box::new(
            reporter.violation(PHASE, format!("the token answer (HTTP {status}) has no token")),
        ));
    };
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Box::new(
            reporter.violation(PHASE, "the session token has characters that no header can carry"),
        ));
    }
    Ok(SecretString::from(token))
}

fn refused(reporter: &Reporter, status: u16, headers: &HeaderMap, body: &Body) -> SessionError {
    let mut error = reporter.refusal(PHASE, status, body, "the token call was refused with");
    error.retry_after = answer::retry_after(headers, SystemTime::now());
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiry_is_in_whole_seconds_from_now() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_900);
        assert_eq!(request_body(now, Duration::from_secs(3600)), r#"{"expireAt":4600}"#);
    }
}
