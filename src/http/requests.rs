//! `/v1/sessions/{id}/requests`: audio in, outcomes out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use prost::encoding::encode_varint;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Problem,
    auth::Scope,
    body, idempotency,
    sending::{self, Target, Turn},
    sessions::find,
    upload::{Promised, Unfinished, Upload},
};
use crate::{
    outbox::{Outcome, Record},
    session::{AskRequest, Finished, SessionEntry, Watch, Which},
    wire,
};

/// How often it is looked whether a request that was sent before has its outcome.
const OUTCOME_PAUSE: Duration = Duration::from_millis(50);

/// The media type of frames as length-delimited protobuf.
const PROTOBUF: &str = "application/x-protobuf";

/// The query of `POST .../requests`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SendQuery {
    /// Whether the body ends the request; a request that is left open is continued by its `req_id`.
    #[serde(default = "yes")]
    end: bool,
    /// The open request that the body continues.
    #[param(format = "request-id")]
    req_id: Option<String>,
    /// Whether to answer when the request has its outcome.
    #[serde(default)]
    pub(super) wait: bool,
    /// Whether that answer has the frames; needs `wait=true`.
    #[serde(default)]
    frames: bool,
}

const fn yes() -> bool {
    true
}

impl SendQuery {
    fn target(&self) -> Target {
        let fresh = || wire::request_id(SystemTime::now(), rand::random());
        Target {
            req_id: self.req_id.clone().unwrap_or_else(fresh),
            begins: self.req_id.is_none(),
            ends: self.end,
        }
    }

    fn watch(&self) -> Result<Option<Watch>, Problem> {
        match (self.wait, self.frames) {
            (true, true) => Ok(Some(Watch::Frames)),
            (true, false) => Ok(Some(Watch::Outcome)),
            (false, false) => Ok(None),
            (false, true) => Err(Problem::unprocessable(
                "invalidQuery",
                "frames=true needs wait=true, which it answers with",
            )),
        }
    }
}

/// A request in JSON.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Request, example = json!({
    "req_id": "20260102030405_1k9ff0", "outcome": "completed", "code": null, "reason": null,
    "audio_bytes": 64000, "audio_ms": 2000, "frame_count": 50, "breaks": 0, "first_frame_ms": 120, "total_ms": 2105
}))]
pub(super) struct RequestView {
    /// Its id.
    req_id: String,
    /// `completed`, `interrupted` or `failed`; null while it is open.
    outcome: Option<&'static str>,
    /// The code of a failure.
    code: Option<&'static str>,
    /// Why it failed, in words.
    reason: Option<String>,
    /// Bytes of its audio that were accepted.
    audio_bytes: u64,
    /// The length of the audio, where the format tells.
    audio_ms: Option<u64>,
    /// Frames that came.
    frame_count: u64,
    /// Connections that ended while it was answered on them.
    breaks: u32,
    /// From its first accepted audio until its first frame.
    first_frame_ms: Option<u64>,
    /// From its first accepted audio until its outcome.
    total_ms: Option<u64>,
    /// Its frames in base64, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<Vec<String>>,
    /// Frames beyond what is kept for an answer.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    frames_left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl RequestView {
    fn of(entry: &SessionEntry, record: &Record) -> Self {
        Self {
            req_id: record.req_id.clone(),
            outcome: record.outcome.map(Outcome::as_str),
            code: record.outcome.and_then(Outcome::code).map(crate::errors::ErrorCode::as_str),
            reason: record.reason.clone(),
            audio_bytes: record.audio_bytes,
            audio_ms: entry
                .spec
                .load()
                .bytes_per_second()
                .map(|rate| record.audio_bytes.saturating_mul(1000) / u64::from(rate.max(1))),
            frame_count: record.frames,
            breaks: record.breaks,
            first_frame_ms: record.first_frame_after().map(millis),
            total_ms: record.total().map(millis),
            frames: None,
            frames_left_out: 0,
        }
    }
}

/// `POST /v1/sessions/{id}/requests`: the body is audio in the session's format (for PCM, a WAV file
/// too), and is passed on as it comes.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/requests", operation_id = "sendAudio", tag = "requests", summary = "Send audio",
    description = "The body is passed on as it comes: samples in the session's format, a WAV file of such samples, or \
                   for `ogg_opus` one Ogg Opus stream.",
    params(SendQuery),
    request_body(content = String, content_type = "application/octet-stream", description = "Audio."),
    responses(
        (status = 202, description = "The audio is accepted.", body = Sent,
         example = json!({"req_id": "20260102030405_1k9ff0", "audio_bytes": 64000})),
        (status = 200, description = "With `wait=true`: the request's outcome, with `frames=true` its frames too.",
         content((RequestView = "application/json"), (String = "application/x-protobuf"))),
    ),
    extensions(("x-problem-codes" = json!([
        "notFound", "invalidQuery", "brokenBody", "bodyTimeout", "bodyTooLarge", "emptyAudio", "oddAudio",
        "wrongAudioFormat", "badWav", "badOggOpus", "sessionParked", "sessionFailed", "sessionStopped", "errorCode",
        "requestEnded", "notWatched", "tooManyOpenRequests", "outboxFull", "tenantMinutesUsed", "unavailable"
    ])), ("x-stored" = json!(true)), ("x-idempotent" = json!(true)))
)]
pub(super) async fn send(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let entry = find(&app, &scope, &id)?;
    let query: SendQuery = body::query(&request)?;
    let watch = query.watch()?;
    let length = content_length(&request);
    check_length(length, app.max_body_bytes)?;

    let target = query.target();
    let key = idempotency::key(&request)?;
    let keyed = match sending::begin(&app, &entry, &target, key.as_deref()).await? {
        Turn::Take(keyed) => keyed,
        Turn::Before { req_id, body, answer } => {
            sending::is_the_same(&app, &target, payload, body.as_deref()).await?;
            let record = outcome_before(&app, &entry, &req_id, query.wait).await?;
            return Ok(match record {
                Some(record) if query.wait => replayed(&entry, &record),
                record => sending::again(&req_id, answer, record.as_ref()),
            });
        }
    };
    let mut upload = Upload {
        app: &app,
        entry: &entry,
        unfinished: Unfinished {
            entry: Arc::clone(&entry),
            req_id: target.begins.then(|| target.req_id.clone()),
        },
        request: if target.begins {
            Which::New(target.req_id.clone())
        } else {
            Which::Open(target.req_id.clone())
        },
        sent: 0,
        finished: None,
        watch,
        keyed,
        // What is answered with its outcome is written with that.
        promised: if target.begins && !query.wait && key.is_none() { Promised::Wanted } else { Promised::No },
    };
    let passed_on = upload.pass_on(payload, length, query.end).await;
    upload.answer(passed_on, &query, &request).await
}

/// What became of a request that was sent before; with `wait`, when it has its outcome.
async fn outcome_before(
    app: &App,
    entry: &SessionEntry,
    req_id: &str,
    wait: bool,
) -> Result<Option<Record>, Problem> {
    // The ledger gives every request its outcome by a deadline, so this loop has the same.
    while wait
        && let Ok(Some(record)) = app.manager.ask(entry, || AskRequest(req_id.to_owned())).await
        && record.outcome.is_none()
    {
        tokio::time::sleep(OUTCOME_PAUSE).await;
    }
    sending::account(app, entry, req_id).await
}

/// The outcome of a request that was sent before. Its frames went to whoever waited for them then.
fn replayed(entry: &SessionEntry, record: &Record) -> HttpResponse {
    HttpResponse::Ok().insert_header((idempotency::REPLAYED, "true")).json(RequestView::of(entry, record))
}

/// Audio that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sent {
    /// The request that it belongs to.
    req_id: String,
    /// Bytes of audio in this body.
    audio_bytes: u64,
}

impl Sent {
    pub(super) fn new(req_id: &str, audio_bytes: u64) -> Self {
        Self { req_id: req_id.to_owned(), audio_bytes }
    }
}

fn content_length(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses what the announced length tells already, before any of it is sent.
fn check_length(length: Option<usize>, bound: usize) -> Result<(), Problem> {
    match length {
        Some(length) if length > bound => Err(Problem::too_large(bound)),
        Some(_) | None => Ok(()),
    }
}

pub(super) async fn answer_when_finished(
    entry: &SessionEntry,
    finished: oneshot::Receiver<Finished>,
    request: &HttpRequest,
) -> Result<HttpResponse, Problem> {
    // The ledger gives every request its outcome by a deadline, so this wait has the same.
    let finished = finished.await.map_err(|_| {
        Problem::new(
            StatusCode::CONFLICT,
            "notWatched",
            "somebody else waits for this request; ask for its outcome by its id",
        )
    })?;
    let accept =
        request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains(PROTOBUF) {
        return Ok(delimited(&finished));
    }
    let mut view = RequestView::of(entry, &finished.record);
    if !finished.frames.is_empty() {
        view.frames = Some(finished.frames.iter().map(|frame| STANDARD.encode(frame)).collect());
    }
    view.frames_left_out = finished.frames_left_out;
    Ok(HttpResponse::Ok().json(view))
}

/// Frames as the service sent them, each behind its length as a varint.
fn delimited(finished: &Finished) -> HttpResponse {
    let mut body = BytesMut::with_capacity(finished.frames.iter().map(|frame| frame.len() + 5).sum());
    for frame in &finished.frames {
        encode_varint(frame.len() as u64, &mut body);
        body.extend_from_slice(frame);
    }
    let record = &finished.record;
    let mut response = HttpResponse::Ok();
    response
        .content_type(PROTOBUF)
        .insert_header(("Greenroom-Req-Id", record.req_id.as_str()))
        .insert_header(("Greenroom-Outcome", record.outcome.map_or("open", Outcome::as_str)));
    if let Some(code) = record.outcome.and_then(Outcome::code) {
        response.insert_header(("Greenroom-Code", code.as_str()));
    }
    if finished.frames_left_out > 0 {
        response.insert_header(("Greenroom-Frames-Left-Out", finished.frames_left_out));
    }
    response.body(body.freeze())
}

/// `GET /v1/sessions/{id}/requests/{req_id}`.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/requests/{req_id}", operation_id = "getRequest", tag = "requests",
    summary = "A request's outcome",
    responses((status = 200, description = "The request.", body = RequestView)),
    extensions(("x-problem-codes" = json!(["notFound", "sessionStopped", "unavailable"])))
)]
pub(super) async fn get(
    app: web::Data<App>,
    scope: Scope,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, req_id) = path.into_inner();
    let entry = find(&app, &scope, &id)?;
    let record = sending::account(&app, &entry, &req_id).await?;
    let record = record.ok_or_else(|| Problem::not_found("request"))?;
    Ok(HttpResponse::Ok().json(RequestView::of(&entry, &record)))
}
