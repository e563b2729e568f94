//! Reading bodies, within bounds, and queries.

use std::{pin::Pin, time::Duration};

use actix_web::{HttpRequest, error::PayloadError, http::StatusCode, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::{Instant, Sleep, sleep};

use super::{Problem, fed::Fed};

/// Bytes of a JSON body at most: a session's spec with all its labels and egress settings has a few thousand.
const MAX_JSON: usize = 64 << 10;

/// Bytes of a value that a message about it quotes at most: a mistyped word of the API is told by it, and keys are longer.
const MAX_QUOTED: usize = 16;

/// How long the next piece of a body may take: a client that stalls longer is gone, or holds on to memory.
const PIECE_DEADLINE: Duration = Duration::from_secs(30);

/// A body, piece by piece. Its one timer is set when it comes, and not for every piece.
pub(super) struct Pieces {
    payload: Fed,
    patience: Pin<Box<Sleep>>,
}

impl Pieces {
    pub(super) fn new(payload: web::Payload) -> Self {
        Self { payload: Fed::new(payload), patience: Box::pin(sleep(PIECE_DEADLINE)) }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let due = Instant::now() + PIECE_DEADLINE;
        loop {
            tokio::select! {
                biased;
                piece = self.payload.next() => return piece.transpose().map_err(|error| broken_body(&error)),
                () = &mut self.patience => {
                    if Instant::now() >= due {
                        return Err(too_slow());
                    }
                    self.patience.as_mut().reset(due);
                }
            }
        }
    }
}

fn too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "bodyTimeout",
        format!("nothing of the body came for {} s", PIECE_DEADLINE.as_secs()),
    )
}

/// The next piece of a body; `None` at its end.
pub(super) async fn next_piece(payload: &mut web::Payload) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(PIECE_DEADLINE, payload.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => Err(broken_body(&error)),
        Err(_) => Err(too_slow()),
    }
}

fn broken_body(error: &PayloadError) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "brokenBody", format!("the body could not be read: {error}"))
}

/// Reads the body of a JSON request, as it came.
pub(super) async fn json_text(mut payload: web::Payload) -> Result<BytesMut, Problem> {
    let mut body = BytesMut::new();
    while let Some(piece) = next_piece(&mut payload).await? {
        if body.len() + piece.len() > MAX_JSON {
            return Err(Problem::too_large(MAX_JSON));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// A body that is one JSON object; an empty body is an empty object.
pub(super) fn json_object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    // Read as any value first: what is cut off is malformed, whatever it begins with.
    match serde_json::from_slice(body) {
        Ok(Value::Object(mut object)) => {
            object.values_mut().for_each(make_whole);
            Ok(object)
        }
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(Problem::unprocessable("invalidBody", "the body must be a JSON object: {...}"))
        }
        Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, "malformedJson", error.to_string())),
    }
}

/// Makes `16000.0` the whole number that it is: to JSON they are one, and some languages write all numbers so.
fn make_whole(value: &mut Value) {
    /// Up to here every whole number has a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0);
            if let Some(float) = float.filter(|float| float.abs() < EXACT) {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(members) => members.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Reads a typed value from an object; what it does not know or cannot take is named.
pub(super) fn read<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Value::Object(object))
        .map_err(|error| Problem::unprocessable("invalidBody", named(&error)))
}

/// Reads the query of a request; what it does not know or cannot take is named.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    let pairs = url::form_urlencoded::parse(request.query_string().as_bytes());
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs))
        .map_err(|error| Problem::unprocessable("invalidQuery", named(&error)))
}

/// The field and what is wrong with it. A field that is missing or unknown has no path, and is named by the
/// error itself.
fn named<E: std::error::Error>(error: &serde_path_to_error::Error<E>) -> String {
    let (path, text) = (error.path().to_string(), error.inner().to_string());
    let text = without_value(&text);
    if path == "." { text } else { format!("{path}: {text}") }
}

/// A parser's message without the value that it quotes, where that is longer than a mistyped word: it may be a secret
/// in the wrong place, and answers lie in clients' logs.
fn without_value(text: &str) -> String {
    let quoted = text.find(['`', '"']).and_then(|at| {
        let quote = &text[at..=at];
        let ends = [format!("{quote}, expected"), format!("{quote}, there are")];
        let end = ends.iter().find_map(|end| text.rfind(end)).filter(|end| *end > at)?;
        Some(at + 1..end)
    });
    match quoted {
        Some(value) if value.len() > MAX_QUOTED => {
            format!("{}({} bytes){}", &text[..value.start], value.len(), &text[value.end..])
        }
        Some(_) | None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_is_quoted_and_what_may_be_a_secret_is_not() {
        for (given, told) in [
            ("unknown variant `livkit`, expected `livekit` or `agora`", None),
            ("missing field `avatar_id`", None),
            (
                "unknown variant `a-token-in-the-wrong-place`, expected `livekit` or `agora`",
                Some("unknown variant `(26 bytes)`, expected `livekit` or `agora`"),
            ),
            (
                "invalid type: string \"a-token`, expected \\\" of two kinds\", expected u32",
                Some("invalid type: string \"(34 bytes)\", expected u32"),
            ),
            (
                "unknown field `a-token`in-the-wrong-place`, there are no fields",
                Some("unknown field `(26 bytes)`, there are no fields"),
            ),
        ] {
            assert_eq!(without_value(given), told.unwrap_or(given));
        }
    }
}
