//! `/v1/sessions/{id}/requests`: audio in, outcomes out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Problem,
    auth::Scope,
    body, idempotency,
    outcome::{self, RequestView},
    sending::{self, Sent, Target, Turn},
    sessions::find,
    upload::{Promised, Unfinished, Upload},
};
use crate::{
    outbox::Record,
    session::{AskRequest, SessionEntry, Watch, Which},
    wire,
};

/// How often it is looked whether a request that was sent before has its outcome.
const OUTCOME_PAUSE: Duration = Duration::from_millis(50);

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
                Some(record) if query.wait => outcome::replayed(&entry, &record),
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
        ahead: None,
        finished: None,
        watch,
        keyed,
        // What is answered with its outcome is written with that.
        promised: if target.begins && !query.wait && key.is_none() { Promised::Wanted } else { Promised::No },
    };
    let passed_on = upload.pass_on(payload, length, query.end).await;
    upload.answer(passed_on, query.wait, &request).await
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
