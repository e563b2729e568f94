//! Reading bodies, within bounds.

use std::time::Duration;

use actix_web::{error::PayloadError, http::StatusCode, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, error::Category};

use super::Problem;

/// Bytes of a JSON body at most: a session's spec with all its labels and egress settings has a few thousand.
const MAX_JSON: usize = 64 << 10;

/// How long the next piece of a body may take: a client that stalls longer is gone, or holds on to memory.
const PIECE_DEADLINE: Duration = Duration::from_secs(30);

/// The next piece of a body; `None` at its end.
pub(super) async fn next_piece(payload: &mut web::Payload) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(PIECE_DEADLINE, payload.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => Err(broken_body(&error)),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "bodyTimeout",
            format!("nothing of the body came for {} s", PIECE_DEADLINE.as_secs()),
        )),
    }
}

fn broken_body(error: &PayloadError) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "brokenBody", format!("the body could not be read: {error}"))
}

/// Reads a body that is one JSON object; an empty body is an empty object.
pub(super) async fn json_object(mut payload: web::Payload) -> Result<Map<String, Value>, Problem> {
    let mut body = BytesMut::new();
    while let Some(piece) = next_piece(&mut payload).await? {
        if body.len() + piece.len() > MAX_JSON {
            return Err(Problem::too_large(MAX_JSON));
        }
        body.extend_from_slice(&piece);
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(&body).map_err(|error| json_problem(&error))
}

/// Reads a typed value from an object; what it does not know or cannot take is named.
pub(super) fn read<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(object)).map_err(|error| json_problem(&error))
}

fn json_problem(error: &serde_json::Error) -> Problem {
    match error.classify() {
        Category::Data => Problem::unprocessable("invalidBody", error.to_string()),
        Category::Io | Category::Syntax | Category::Eof => {
            Problem::new(StatusCode::BAD_REQUEST, "malformedJson", error.to_string())
        }
    }
}
