//! `/v1/sessions/{id}/interrupt`, `/pause` and `/resume`: words about a request that is being played.

use actix_web::{HttpResponse, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, Problem, auth::Scope, body, sessions::find};
use crate::{
    outbox::{HoldFate, InterruptFate, Outcome},
    recovery::lifecycle::State,
    session::{Interrupt, Pause, Resume, SessionEntry},
};

/// By this capability the service says that it carries pauses out.
const PLAYBACK_CONTROL: &str = "playback_control";

/// The body of each: without a `req_id`, the request that began last is meant.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// The request that is meant.
    #[serde(default)]
    #[schema(format = "request-id")]
    req_id: Option<String>,
}

/// An interrupted request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Interrupted {
    /// The request; null where the latest was meant and has no id any more.
    req_id: Option<String>,
    /// `interrupted`, or the outcome that it had already.
    outcome: &'static str,
}

/// A request that is paused, or goes on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Held {
    /// The request; null where the latest was meant and has no id any more.
    req_id: Option<String>,
    /// Whether it is paused.
    paused: bool,
}

/// `POST /v1/sessions/{id}/interrupt`.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/interrupt", operation_id = "interruptRequest", tag = "requests",
    summary = "End a request early",
    description = "Without a `req_id`, the request whose audio came last.",
    request_body = Which,
    responses((status = 200, description = "The request and its outcome.", body = Interrupted,
               example = json!({"req_id": "20260102030405_1k9ff0", "outcome": "interrupted"}))),
    extensions(("x-problem-codes" = json!(["notFound", "sessionStopped", "unavailable"])))
)]
pub(super) async fn interrupt(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let entry = find(&app, &scope, &id)?;
    let Which { req_id } = body::read(body::json_object(&body::json_text(payload).await?)?)?;
    let (req_id, fate) = app.manager.ask(&entry, || Interrupt(req_id.clone())).await?;
    let outcome = match fate {
        InterruptFate::Told | InterruptFate::Dropped => Outcome::Interrupted,
        InterruptFate::AlreadyEnded(outcome) => outcome,
        InterruptFate::Unknown => return Err(Problem::not_found("request")),
    };
    Ok(HttpResponse::Ok().json(Interrupted { req_id, outcome: outcome.as_str() }))
}

/// `POST /v1/sessions/{id}/pause`.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/pause", operation_id = "pauseRequest", tag = "requests",
    summary = "Pause a request",
    description = "Of a session with egress: the service stops playing it until `resume`, across restarts. Without a \
                   `req_id`, the request whose audio came last.",
    request_body = Which,
    responses((status = 200, description = "The request.", body = Held,
               example = json!({"req_id": "20260102030405_1k9ff0", "paused": true}))),
    extensions(("x-problem-codes" = json!([
        "notFound", "pauseUnsupported", "requestEnded", "sessionStopped", "unavailable"
    ])))
)]
pub(super) async fn pause(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let entry = find(&app, &scope, &id)?;
    let Which { req_id } = body::read(body::json_object(&body::json_text(payload).await?)?)?;
    check_control(&entry)?;
    let (req_id, fate) = app.manager.ask(&entry, || Pause(req_id.clone())).await?;
    held(req_id, fate, true)
}

/// `POST /v1/sessions/{id}/resume`.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/resume", operation_id = "resumeRequest", tag = "requests",
    summary = "Go on with a paused request",
    description = "Without a `req_id`, the request whose audio came last.",
    request_body = Which,
    responses((status = 200, description = "The request.", body = Held,
               example = json!({"req_id": "20260102030405_1k9ff0", "paused": false}))),
    extensions(("x-problem-codes" = json!([
        "notFound", "pauseUnsupported", "requestEnded", "sessionStopped", "unavailable"
    ])))
)]
pub(super) async fn resume(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let entry = find(&app, &scope, &id)?;
    let Which { req_id } = body::read(body::json_object(&body::json_text(payload).await?)?)?;
    check_control(&entry)?;
    let (req_id, fate) = app.manager.ask(&entry, || Resume(req_id.clone())).await?;
    held(req_id, fate, false)
}

/// Refuses what the service would not carry out: it pauses only what it publishes itself, and where it says so. What
/// it will say on a connection that does not stand yet is not known.
fn check_control(entry: &SessionEntry) -> Result<(), Problem> {
    let refusal = |detail| Err(Problem::new(StatusCode::CONFLICT, "pauseUnsupported", detail));
    match &entry.snapshot.load().state {
        // Asking it says so, for any command.
        State::Stopped { .. } => Ok(()),
        _ if entry.spec.load().egress.is_none() => {
            refusal("the session has no egress: whoever plays its frames pauses them")
        }
        State::Running { capabilities, .. } if !capabilities.iter().any(|it| it == PLAYBACK_CONTROL) => {
            refusal("the service does not offer playback_control on this session's connection")
        }
        State::Running { .. }
        | State::Starting(_)
        | State::BackingOff(_)
        | State::Parked(_)
        | State::Dormant
        | State::Failed => Ok(()),
    }
}

fn held(req_id: Option<String>, fate: HoldFate, paused: bool) -> Result<HttpResponse, Problem> {
    match fate {
        HoldFate::Told | HoldFate::Noted => Ok(HttpResponse::Ok().json(Held { req_id, paused })),
        HoldFate::AlreadyEnded(outcome) => Err(Problem::request_ended(outcome)),
        HoldFate::Unknown => Err(Problem::not_found("request")),
    }
}
