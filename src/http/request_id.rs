//! Request ids: each request has one, in its answer, in its problem and in every line that is logged of it.
//!
//! A client that sends `X-Request-Id` finds its own again, so that its log and this one can be laid side by side.

use std::{fmt, sync::Arc, time::Instant};

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
};
use tokio::task::JoinHandle;
use tracing::{Instrument as _, Span};

/// The header, in requests and answers.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of a client's id at most: room for a UUID, a trace context or two of either, and not for a text.
const MAX_LENGTH: usize = 128;

/// Characters of a path that are logged: no path of ours is longer, and a line of the log stays a line.
const MAX_LOGGED_PATH: usize = 256;

tokio::task_local! {
    /// The id of the request that the current task answers.
    static CURRENT: RequestId;
}

/// What a request is called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestId(Arc<str>);

impl RequestId {
    /// 128 random bits in hexadecimal.
    fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()).into())
    }

    /// The client's own, where it sent exactly one that is sane.
    fn sent(headers: &HeaderMap) -> Option<Self> {
        let mut sent = headers.get_all(HEADER);
        let (Some(value), None) = (sent.next(), sent.next()) else { return None };
        value.to_str().ok().filter(|text| is_sane(text)).map(|text| Self(text.into()))
    }

    /// The id of the request that the current task answers; `None` outside of a request.
    pub(super) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs what must go on when the client leaves, under the id and the span of the request that asks for it.
pub(super) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let span = Span::current();
    match RequestId::current() {
        Some(id) => actix_rt::spawn(CURRENT.scope(id, work).instrument(span)),
        None => actix_rt::spawn(work.instrument(span)),
    }
}

/// Nothing that could end a line of a log, a quoted text or a header.
fn is_sane(text: &str) -> bool {
    (1..=MAX_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:=+/".contains(&byte))
}

/// Gives each request its id and its span, and logs its answer: the path without the query, which may have
/// credentials in it.
pub(super) async fn layer(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let id = RequestId::sent(request.headers()).unwrap_or_else(RequestId::random);
    let path: String = request.path().chars().take(MAX_LOGGED_PATH).collect();
    // At the level of errors, so that a log of errors alone has the id too.
    let span = tracing::error_span!("request", request_id = %id, method = %request.method(), path);
    let answered = CURRENT.scope(id.clone(), answer(request, next)).instrument(span).await;
    answered.map(|mut response| {
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            response.headers_mut().insert(HEADER, value);
        }
        response
    })
}

async fn answer<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let began = Instant::now();
    let response = next.call(request).await?;
    let (status, took) = (response.status(), began.elapsed());
    if status.is_server_error() {
        tracing::info!(status = status.as_u16(), ?took, "request answered");
    } else {
        tracing::debug!(status = status.as_u16(), ?took, "request answered");
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_break_a_log_or_a_header_is_not_taken() {
        let long = "a".repeat(MAX_LENGTH);
        for sane in ["a", "0f3c-11", "Root=1-67891233-abcdef", "trace:span/1+2.3_4", &long] {
            assert!(is_sane(sane), "{sane}");
        }
        let longer = "a".repeat(MAX_LENGTH + 1);
        for insane in ["", " ", "a b", "a\"b", "a\\b", "a\nb", "{a}", "ä", "a;b", "<a>", "a%0a", &longer] {
            assert!(!is_sane(insane), "{insane}");
        }
    }

    #[test]
    fn of_two_ids_none_is_taken() {
        let mut headers = HeaderMap::new();
        assert_eq!(RequestId::sent(&headers), None);
        headers.append(HEADER, HeaderValue::from_static("one"));
        assert_eq!(RequestId::sent(&headers).map(|id| id.to_string()).as_deref(), Some("one"));
        headers.append(HEADER, HeaderValue::from_static("two"));
        assert_eq!(RequestId::sent(&headers), None);
    }
}
