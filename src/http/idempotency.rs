//! `Idempotency-Key`: a request that a client may send twice, and that is carried out once.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};

use super::{App, Problem};
use crate::{
    recovery::TenantId,
    store::records::{Asked, Begun, StoredAnswer, Ticket, UnixMillis},
};

/// The header by which a client names its request.
const HEADER: &str = "Idempotency-Key";
/// Set on an answer that was given before.
pub(super) const REPLAYED: &str = "Idempotent-Replayed";
/// Characters of a key at most: a UUID has 36, and nobody needs a text.
const MAX_KEY: usize = 255;

/// What is to be done about a request.
pub(super) enum Turn {
    /// Carry it out; with a ticket, its answer is kept.
    CarryOut(Option<Ticket>),
    /// It was answered.
    Answer(HttpResponse),
}

/// The name that the client gave its request.
pub(super) fn key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let Some(value) = request.headers().get(HEADER) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len()));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        let detail = format!("{HEADER}: 1 to {MAX_KEY} visible characters are allowed");
        Problem::new(StatusCode::BAD_REQUEST, "invalidIdempotencyKey", detail)
    })
}

/// Begins a request, or says what became of the one that had the same key. Keys of operators and of tenants are
/// apart by their `route`.
pub(super) async fn begin(
    app: &App,
    tenant: &TenantId,
    route: &str,
    key: Option<&str>,
    body: &[u8],
) -> Result<Turn, Problem> {
    let Some(key) = key else { return Ok(Turn::CarryOut(None)) };
    let now =
        UnixMillis(u64::try_from(app.manager.clock().now().since_start().as_millis()).unwrap_or(u64::MAX));
    let asked = Asked { tenant, route, key, body, process: &app.process, now };
    match app.records.begin(asked).await? {
        Begun::New(ticket) => Ok(Turn::CarryOut(Some(ticket))),
        Begun::Answered(answer) => Ok(Turn::Answer(response(&answer, true))),
        Begun::InFlight => Err(in_use()),
        Begun::OtherBody => Err(reused()),
    }
}

/// The first request with the key is not answered yet.
pub(super) fn in_use() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "idempotencyKeyInUse",
        "a request with this Idempotency-Key is being carried out; ask again in a moment",
    )
}

/// The key is that of another request.
pub(super) fn reused() -> Problem {
    Problem::unprocessable(
        "idempotencyKeyReused",
        "this Idempotency-Key was used for a request with another body; use a new key for a new request",
    )
}

/// Gives a request up that made nothing, so that the same can be sent again.
pub(super) async fn abandon(app: &App, ticket: &Ticket) {
    if let Err(error) = app.records.abandon(ticket).await {
        // It expires after a day; until then whoever sends it again is told that it is in use.
        tracing::warn!(%error, "an idempotency key could not be given up");
    }
}

/// The answer as HTTP.
pub(super) fn response(answer: &StoredAnswer, is_replayed: bool) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for (name, value) in &answer.headers {
        response.insert_header((name.as_str(), value.as_str()));
    }
    if is_replayed {
        response.insert_header((REPLAYED, "true"));
    }
    response.body(answer.body.clone())
}
