//! What happens: the history of a session, and the stream of all events.

mod filter;
mod stream;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    App, Problem,
    auth::{self, Scope},
    body, sessions,
};
use crate::{
    events::{Event, EventId, Since},
    recovery::TenantId,
    telemetry::Counted,
};
use filter::Filter;
use stream::Listener;

/// Events on a page when the caller does not say.
const DEFAULT_LIMIT: usize = 50;
/// Events on a page at most.
const MAX_LIMIT: usize = 500;
/// Streams in all: each is a connection that stays. A few for each operator, and one for each backend.
const MAX_STREAMS: usize = 512;
/// Streams of a tenant: one for each of its backends, and one that is not known yet to be gone.
const MAX_STREAMS_OF_TENANT: usize = 32;

/// The streams that are open, by whose they are; operators' have no tenant.
#[derive(Debug, Default)]
pub(crate) struct OpenStreams(Mutex<BTreeMap<Option<TenantId>, usize>>);

/// A stream that counts as open until this is dropped.
struct Seat {
    streams: Arc<OpenStreams>,
    whose: Option<TenantId>,
    _counted: Counted,
}

impl OpenStreams {
    fn open(self: &Arc<Self>, whose: Option<&TenantId>, counted: Counted) -> Result<Seat, Problem> {
        // A poisoned lock still guards whole numbers.
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |max, of: &str| {
            let detail =
                format!("{max} streams of events are open, which is the most of {of}; close one first");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "tooManyStreams", detail)
        };
        if open.values().sum::<usize>() >= MAX_STREAMS {
            return Err(full(MAX_STREAMS, "this process"));
        }
        let whose = whose.cloned();
        let own = open.entry(whose.clone()).or_default();
        if whose.is_some() && *own >= MAX_STREAMS_OF_TENANT {
            return Err(full(MAX_STREAMS_OF_TENANT, "a tenant"));
        }
        *own += 1;
        Ok(Seat { streams: Arc::clone(self), whose, _counted: counted })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.whose) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.whose);
            }
        }
    }
}

/// The query of a page of a history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of a session's history, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    #[schema(value_type = Vec<Event>)]
    events: Vec<Box<RawValue>>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// `GET /v1/sessions/{id}/history`.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/history", operation_id = "getHistory", tag = "sessions",
    summary = "What happened to a session, newest first",
    description = "Changes of its state, errors, attempts, operators' actions and clients: the latest 100 and a few \
                   more; and the outcomes of its latest 100 requests. They survive the process, but for the last \
                   quarter of a second before it was killed.",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Events on a page; 50 without it."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.", format = "event-cursor"),
    ),
    responses((status = 200, description = "A page.", body = History)),
    extensions(("x-problem-codes" = json!(["notFound", "invalidQuery"])), ("x-stored" = json!(true)))
)]
pub(super) async fn history(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let entry = sessions::find(&app, &scope, &id)?;
    let PageQuery { limit, cursor } = body::query(&request)?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        let detail = format!("limit is {limit}; 1 to {MAX_LIMIT} are allowed");
        return Err(Problem::unprocessable("invalidQuery", detail));
    }
    let before = cursor.as_deref().map_or(Ok(u64::MAX), decode_cursor)?;
    let history = app.manager.journal().chronicle().history(&entry.id).await?;
    let mut older = history.into_iter().filter(|event| event.number < before).peekable();
    let page: Vec<_> = older.by_ref().take(limit).collect();
    let last = page.last().map(|event| event.number);
    let next_cursor = last
        .filter(|_| older.peek().is_some())
        .map(|number| URL_SAFE_NO_PAD.encode(format!("event_{number}")));
    let events = page.into_iter().map(|event| event.event).collect();
    Ok(HttpResponse::Ok().json(History { events, next_cursor }))
}

fn decode_cursor(cursor: &str) -> Result<u64, Problem> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix("event_")?.parse().ok())
        .ok_or_else(|| {
            Problem::unprocessable("invalidQuery", "cursor: use the next_cursor of the page before, as it is")
        })
}

/// After which event the caller wants to go on.
fn since(request: &HttpRequest) -> Result<Since, Problem> {
    let Some(last) = request.headers().get("last-event-id") else { return Ok(Since::Now) };
    let number = last.to_str().ok().and_then(|text| text.parse().ok());
    number.map(|number| Since::After(EventId(number))).ok_or_else(|| {
        Problem::unprocessable(
            "invalidQuery",
            "Last-Event-ID: use the id of an event of this stream, as it is",
        )
    })
}

/// `GET /v1/events`.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "followEvents", tag = "sessions", summary = "What happens, as it happens",
    description = "Server-sent events: `event` is the kind, `id` the event's number, `data` the event in JSON. Filters \
                   hold together; without them it is everything that the caller may see. With `Last-Event-ID` the \
                   stream goes on behind that event, as far back as the latest 4096 events of the process reach; where \
                   that is not far enough, or the reader is too slow, it says `event: gap` with `missed` (of all \
                   events, matching or not; null where it is not known), `from` and `to`. Something is said every \
                   15 s. It ends when the key does, and with the process.",
    params(
        filter::Query,
        ("Last-Event-ID" = Option<u64>, Header, description = "The id of the last event that was heard."),
    ),
    responses((status = 200, description = "The stream.", body = String, content_type = "text/event-stream")),
    extensions(("x-problem-codes" = json!(["invalidQuery", "notFound", "tooManyStreams"])))
)]
pub(super) async fn follow(
    app: web::Data<App>,
    scope: Scope,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let filter = Filter::of(&app, &scope, body::query(&request)?)?;
    let since = since(&request)?;
    let mut answer = HttpResponse::Ok();
    // A proxy must neither keep the stream nor collect it.
    answer
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"));
    if request.method() == Method::HEAD {
        return Ok(answer.finish());
    }
    let seat = app.streams.open(scope.tenant(), app.metrics.event_stream())?;
    let follower = app.manager.journal().chronicle().bus().follow(since);
    let key = auth::bearer(&request).map(SecretString::from);
    let listener =
        Listener::new(follower, filter, stream::Holder { manager: app.manager.clone(), scope, key }, seat);
    Ok(answer.streaming(listener.into_stream()))
}
