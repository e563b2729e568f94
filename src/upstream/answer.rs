//! HTTP answers: bodies with a bound and a deadline, `Retry-After`.

use std::time::{Duration, SystemTime};

use actix_http::header::{self, HeaderMap, HttpDate};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, timeout_at};

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
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderValue;

    use super::*;

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
