//! HTTP answers: bodies within bounds, and `Retry-After`.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

/// Bytes of an answer's body at most: a token and every error body that was seen have a few hundred.
const MAX_BODY: usize = 64 << 10;

/// A body, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// To its end.
    Whole,
    /// There was more than anybody needs.
    Cut,
    /// The connection ended first.
    Broken,
}

/// Reads a body up to its bound. Whatever error ends it, what came before is kept.
pub(super) async fn read_body<E>(
    mut pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> (String, BodyEnd) {
    let mut body = BytesMut::new();
    let end = loop {
        match pieces.next().await {
            None => break BodyEnd::Whole,
            Some(Err(_)) => break BodyEnd::Broken,
            Some(Ok(piece)) => {
                let room = MAX_BODY - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
                if piece.len() > room {
                    break BodyEnd::Cut;
                }
            }
        }
    };
    (String::from_utf8_lossy(&body).into_owned(), end)
}

/// The wait that a `Retry-After` header asks for: seconds, or a date.
pub(super) fn retry_after(header: Option<&str>, now: SystemTime) -> Option<Duration> {
    let text = header?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    type Piece = Result<Bytes, ()>;

    fn bytes(count: usize) -> Piece {
        Ok(Bytes::from(vec![b'x'; count]))
    }

    #[actix_rt::test]
    async fn a_body_is_cut_at_its_bound_and_never_read_on() {
        let endless = stream::iter(std::iter::repeat_with(|| bytes(1 << 20)));
        let (body, end) = read_body(endless).await;
        assert_eq!((body.len(), end), (MAX_BODY, BodyEnd::Cut));
        let (body, end) = read_body(stream::iter([bytes(3), Err(())])).await;
        assert_eq!((body.as_str(), end), ("xxx", BodyEnd::Broken));
        assert_eq!(read_body(stream::iter([bytes(MAX_BODY)])).await.1, BodyEnd::Whole);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(Some("7"), now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(Some("Sun, 06 Nov 1994 08:49:47 GMT"), now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after(Some("Sun, 06 Nov 1994 08:00:00 GMT"), now), Some(Duration::ZERO));
        assert_eq!(retry_after(Some("soon"), now), None);
        assert_eq!(retry_after(None, now), None);
    }
}
