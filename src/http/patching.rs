//! `PATCH /v1/sessions/{id}`, and the conditions under which a session is changed or ended.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web,
};
use serde_json::Value;
use utoipa::ToSchema;

use super::{App, Problem, auth::Scope, body, request_id, sessions::find};
use crate::{
    session::{AudioFormat, Continuity, Expected, NotChanged, SessionEntry, SessionView},
    store::StoreError,
};

/// What is changed of a session: a JSON merge patch. What is not named stays, and what is null takes its default.
#[derive(ToSchema)]
#[schema(example = json!({"labels": {"team": "blue", "tier": null}, "egress": {"api_token": "a-new-token"}}))]
#[expect(dead_code, reason = "it is the document's: the patch is read as it comes")]
pub(super) struct SessionPatch {
    /// The avatar, by the service's id.
    #[schema(min_length = 1, max_length = 256, required = false)]
    avatar_id: String,
    /// Samples a second.
    #[schema(minimum = 1, maximum = 384_000)]
    sample_rate: Option<u32>,
    /// Bits a second of encoded audio; 0 is the service's default.
    #[schema(maximum = 2_147_483_647)]
    bitrate: Option<u32>,
    /// The encoding of the audio.
    audio_format: Option<AudioFormat>,
    /// What is changed of the egress; with another `type`, a whole one.
    #[schema(value_type = Option<Object>)]
    egress: Option<Value>,
    /// Its schema is that of a new session's labels, see the document's making.
    #[schema(value_type = Option<Object>)]
    labels: Option<Value>,
    /// What happens to requests that are open when a connection breaks.
    continuity: Option<Continuity>,
}

/// The answer that is a session, with its `ETag`.
pub(super) fn answer(mut response: HttpResponseBuilder, session: &SessionView) -> HttpResponse {
    response.insert_header((header::ETAG, session.revision().to_string())).json(session)
}

/// On which revisions a request is to be carried out; without `If-Match`, on any.
pub(super) fn expected(request: &HttpRequest) -> Expected {
    let values = request.headers().get_all(header::IF_MATCH);
    // What is no text is a tag that was never given.
    let values: Vec<&str> = values.map(|value| value.to_str().unwrap_or_default()).collect();
    Expected::read((!values.is_empty()).then(|| values.join(",")).as_deref())
}

/// Why a session is as it was, and what it is.
pub(super) fn refused(app: &App, entry: &SessionEntry, not_changed: NotChanged) -> Problem {
    let detail = not_changed.to_string();
    match not_changed {
        NotChanged::OtherRevision => {
            let detail = format!("{detail}; look at what is there now, and send its ETag as If-Match");
            Problem::new(StatusCode::PRECONDITION_FAILED, "preconditionFailed", detail)
                .with_current(app.manager.view(entry))
        }
        NotChanged::Mistakes(mistakes) => Problem::unprocessable("invalidBody", detail).with_errors(mistakes),
        NotChanged::ClientsOwn => Problem::new(StatusCode::CONFLICT, "configuredByClient", detail),
        NotChanged::Unkept(error) => StoreError::into(error),
    }
}

/// `PATCH /v1/sessions/{id}`.
#[utoipa::path(
    patch, path = "/v1/sessions/{id}", operation_id = "changeSession", tag = "sessions",
    summary = "Change a session",
    description = "A JSON merge patch (RFC 7396): what is named changes, what is null takes its default. A changed \
                   avatar, format or egress is applied by a restart, in which open requests are interrupted; it brings \
                   a `failed` session back to `starting`, and waits where the session is `parked` or `dormant`. Labels \
                   and continuity change without one. With `If-Match`, it is only carried out on the revision that the \
                   `ETag` names.",
    request_body(content((SessionPatch = "application/merge-patch+json"), (SessionPatch = "application/json"))),
    responses((status = 200, description = "The session as it is then.", body = SessionView)),
    extensions(
        ("x-problem-codes" = json!(["notFound", "sessionStopped", "configuredByClient", "noEncryptionKey", "unavailable"])),
        ("x-stored" = json!(true)), ("x-conditional" = json!(true)),
    )
)]
pub(super) async fn patch(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let entry = find(&app, &scope, &id)?;
    let patch = body::json_object(&body::json_text(payload).await?)?;
    let expected = expected(&request);
    // A client that goes away takes its handler with it, and must not leave a change that nobody waits to see kept.
    let carried_out = request_id::spawn(async move {
        match app.manager.change(&entry, &patch, &expected).await? {
            Ok(()) => Ok(answer(HttpResponse::Ok(), &app.manager.view(&entry))),
            Err(not_changed) => Err(refused(&app, &entry, not_changed)),
        }
    });
    carried_out.await.unwrap_or_else(|error| {
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()))
    })
}
