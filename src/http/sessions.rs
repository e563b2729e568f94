//! `/v1/sessions`: create, list, get, delete, and an operator's commands.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Problem,
    auth::Scope,
    body,
    idempotency::{self, Turn},
    patching, request_id,
};
use crate::{
    errors::ErrorCode,
    manager::{Answered, ManagerHandle, Promise},
    recovery::{SessionId, StateName, TenantId, lifecycle},
    session::{Operation, SessionEntry, SessionSpec, SessionView},
    store::records::StoredAnswer,
};

/// Sessions on a page when the caller does not say.
const DEFAULT_LIMIT: usize = 50;
/// Sessions on a page at most.
const MAX_LIMIT: usize = 500;

/// Finds a session that the caller may know of.
pub(super) fn find(app: &App, scope: &Scope, id: &str) -> Result<Arc<SessionEntry>, Problem> {
    app.manager
        .registry()
        .get(id)
        .filter(|entry| scope.covers(entry))
        .ok_or_else(|| Problem::not_found("session"))
}

/// Whose session a request makes, and from what.
fn wanted(scope: &Scope, text: &[u8]) -> Result<(TenantId, SessionSpec), Problem> {
    let mut object = body::json_object(text)?;
    let tenant = match scope {
        Scope::Tenant(runtime) => runtime.id.clone(),
        Scope::Operator => match object.remove("tenant") {
            Some(serde_json::Value::String(tenant)) => TenantId::from(tenant),
            Some(_) => return Err(Problem::unprocessable("invalidBody", "tenant: a string is expected")),
            None => {
                return Err(Problem::unprocessable(
                    "invalidBody",
                    "tenant: the admin API needs to know whose session it is",
                ));
            }
        },
    };
    let spec: SessionSpec = body::read(object)?;
    let mistakes = spec.mistakes();
    if !mistakes.is_empty() {
        return Err(Problem::unprocessable("invalidBody", mistakes.join("; ")).with_errors(mistakes));
    }
    Ok((tenant, spec))
}

/// The answer to whoever made a session.
fn created(manager: &ManagerHandle, entry: &SessionEntry) -> StoredAnswer {
    let session = manager.view(entry);
    StoredAnswer {
        status: StatusCode::CREATED.as_u16(),
        headers: vec![
            (header::CONTENT_TYPE.to_string(), "application/json".to_owned()),
            (header::LOCATION.to_string(), format!("/v1/sessions/{}", entry.id)),
            (header::ETAG.to_string(), session.revision().to_string()),
        ],
        body: serde_json::to_string(&session).unwrap_or_default(),
    }
}

/// `POST /v1/sessions`.
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "createSession", tag = "sessions", summary = "Create a session",
    description = "Answers at once; the session is `starting`, or `parked` where its tenant is suspended.",
    request_body = SessionSpec,
    responses((status = 201, description = "The session.", body = SessionView,
               headers(("Location" = String, description = "The session's path.")))),
    extensions(
        ("x-problem-codes" = json!([
            "unknownTenant", "tenantQuotaReached", "tenantStartsLimited", "processFull", "draining", "unavailable", "sessionStopped",
            "noEncryptionKey"
        ])),
        ("x-idempotent" = json!(true)), ("x-stored" = json!(true)),
    )
)]
pub(super) async fn create(
    app: web::Data<App>,
    scope: Scope,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let text = body::json_text(payload).await?;
    let (tenant, spec) = wanted(&scope, &text)?;
    let route = match &scope {
        Scope::Tenant(_) => "POST /v1/sessions",
        Scope::Operator => "POST /v1/sessions of an operator",
    };
    let key = idempotency::key(&request)?;
    // A client that goes away takes its handler with it, and must not leave a request half carried out.
    let carried_out =
        request_id::spawn(async move { create_once(&app, &tenant, spec, route, key, &text).await });
    carried_out.await.unwrap_or_else(|error| {
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()))
    })
}

async fn create_once(
    app: &App,
    tenant: &TenantId,
    spec: SessionSpec,
    route: &str,
    key: Option<String>,
    text: &[u8],
) -> Result<HttpResponse, Problem> {
    let ticket = match idempotency::begin(app, tenant, route, key.as_deref(), text).await? {
        Turn::CarryOut(ticket) => ticket,
        Turn::Answer(answer) => return Ok(answer),
    };
    let promise = ticket.clone().map(|ticket| {
        let manager = app.manager.clone();
        Promise { ticket, answer: Box::new(move |entry| created(&manager, entry)) }
    });
    match app.manager.create_answered(tenant, spec, promise).await? {
        Ok(Answered { entry, answer }) => {
            let answer = answer.unwrap_or_else(|| created(&app.manager, &entry));
            Ok(idempotency::response(&answer, false))
        }
        Err(refused) => {
            if let Some(ticket) = &ticket {
                idempotency::abandon(app, ticket).await;
            }
            Err(refused.into())
        }
    }
}

/// The query of a listing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Sessions in this state.
    #[param(inline, value_type = Option<State>)]
    state: Option<String>,
    /// Sessions held by this code, or whose latest error it was.
    #[param(value_type = Option<ErrorCode>)]
    code: Option<String>,
    /// Sessions of this avatar.
    avatar_id: Option<String>,
    /// `name:value`, or `name` for any value.
    label: Option<String>,
    /// A part of an id, an avatar id, a connection id or a label's name or value, in any case.
    q: Option<String>,
    /// Sessions of this tenant.
    tenant: Option<String>,
    /// Sessions on a page; 50 without it.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(format = "session-cursor")]
    cursor: Option<String>,
}

/// A session's state.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the document's: the core's own type is no text of the API")]
pub(super) enum State {
    Starting,
    Running,
    BackingOff,
    Parked,
    Dormant,
    Failed,
    Stopped,
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionList)]
pub(super) struct List {
    /// In the order of their ids.
    sessions: Vec<SessionView>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

struct Filter {
    state: Option<StateName>,
    code: Option<ErrorCode>,
    avatar_id: Option<String>,
    label: Option<(String, Option<String>)>,
    text: Option<String>,
}

/// Whether `text` has `part` in it, in any case of ASCII letters.
fn has_part(text: &str, part: &str) -> bool {
    part.is_empty()
        || text.as_bytes().windows(part.len()).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

/// Whether a search finds a session.
fn mentions(entry: &SessionEntry, part: &str) -> bool {
    let spec = entry.spec.load();
    let snapshot = entry.snapshot.load();
    let connection = match &snapshot.state {
        lifecycle::State::Running { connection_id, .. } => Some(connection_id),
        lifecycle::State::Starting(_)
        | lifecycle::State::BackingOff(_)
        | lifecycle::State::Parked(_)
        | lifecycle::State::Dormant
        | lifecycle::State::Failed
        | lifecycle::State::Stopped { .. } => None,
    };
    has_part(entry.id.as_str(), part)
        || has_part(&spec.avatar_id, part)
        || connection.is_some_and(|id| has_part(id, part))
        || spec.labels.iter().any(|(name, value)| has_part(name, part) || has_part(value, part))
}

impl Filter {
    fn of(query: &ListQuery) -> Result<Self, Problem> {
        let state = query
            .state
            .as_deref()
            .map(|text| {
                StateName::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
                    let known = StateName::ALL.map(StateName::as_str).join(", ");
                    Problem::unprocessable("invalidQuery", format!("state: {text:?} is none of {known}"))
                })
            })
            .transpose()?;
        let code = query
            .code
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| Problem::unprocessable("invalidQuery", format!("code: {error}")))?;
        let label = query.label.as_deref().map(|text| match text.split_once(':') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        });
        Ok(Self { state, code, avatar_id: query.avatar_id.clone(), label, text: query.q.clone() })
    }

    fn holds(&self, entry: &SessionEntry) -> bool {
        let snapshot = entry.snapshot.load();
        self.state.is_none_or(|state| snapshot.state_name() == state)
            && self.code.is_none_or(|code| snapshot.code() == Some(code))
            && self.text.as_ref().is_none_or(|part| mentions(entry, part))
            && self.avatar_id.as_ref().is_none_or(|avatar| *avatar == entry.spec.load().avatar_id)
            && self.label.as_ref().is_none_or(|(name, value)| {
                entry
                    .spec
                    .load()
                    .labels
                    .get(name)
                    .is_some_and(|have| value.as_ref().is_none_or(|want| want == have))
            })
    }
}

/// `GET /v1/sessions`.
#[utoipa::path(
    get, path = "/v1/sessions", operation_id = "listSessions", tag = "sessions", summary = "List sessions",
    description = "By id, which is by the time of their making. Filters hold together.",
    params(ListQuery),
    responses((status = 200, description = "A page.", body = List)),
    extensions(("x-problem-codes" = json!(["invalidQuery"])))
)]
pub(super) async fn list(
    app: web::Data<App>,
    scope: Scope,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query: ListQuery = body::query(&request)?;
    let filter = Filter::of(&query)?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        let detail = format!("limit is {limit}; 1 to {MAX_LIMIT} are allowed");
        return Err(Problem::unprocessable("invalidQuery", detail));
    }
    let after = query.cursor.as_deref().map(decode_cursor).transpose()?;
    let asked = query.tenant.map(TenantId::from);
    if let (Some(own), Some(asked)) = (scope.tenant(), &asked)
        && own != asked
    {
        return Ok(HttpResponse::Ok().json(List { sessions: Vec::new(), next_cursor: None }));
    }
    let tenant = scope.tenant().or(asked.as_ref());
    let page = app.manager.registry().page(tenant, after.as_ref(), limit, |entry| filter.holds(entry));
    Ok(HttpResponse::Ok().json(List {
        sessions: page.entries.iter().map(|entry| app.manager.view(entry)).collect(),
        next_cursor: page.next.map(|id| URL_SAFE_NO_PAD.encode(id.as_str())),
    }))
}

fn decode_cursor(cursor: &str) -> Result<SessionId, Problem> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        // Any text could stand for a place in the list; one that is no id would silently be the wrong place.
        .filter(|id| id.starts_with("ses_"))
        .map(SessionId::from)
        .ok_or_else(|| {
            Problem::unprocessable("invalidQuery", "cursor: use the next_cursor of the page before, as it is")
        })
}

/// `GET /v1/sessions/{id}`.
#[utoipa::path(
    get, path = "/v1/sessions/{id}", operation_id = "getSession", tag = "sessions", summary = "One session",
    responses((status = 200, description = "The session.", body = SessionView)),
    extensions(("x-problem-codes" = json!(["notFound"])))
)]
pub(super) async fn get(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let entry = find(&app, &scope, &id)?;
    Ok(patching::answer(HttpResponse::Ok(), &app.manager.view(&entry)))
}

/// `DELETE /v1/sessions/{id}`: ends it; a second time changes nothing.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", operation_id = "deleteSession", tag = "sessions", summary = "End a session",
    description = "Closes its connection; final. A second time changes nothing. With `If-Match`, only on the revision that the `ETag` names.",
    responses((status = 200, description = "The session as it is then.", body = SessionView)),
    extensions(("x-problem-codes" = json!(["notFound", "unavailable"])), ("x-stored" = json!(true)), ("x-conditional" = json!(true)))
)]
pub(super) async fn delete(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let entry = find(&app, &scope, &id)?;
    if let Err(not_changed) = app.manager.delete(&entry, &patching::expected(&request)).await? {
        return Err(patching::refused(&app, &entry, not_changed));
    }
    Ok(patching::answer(HttpResponse::Ok(), &app.manager.view(&entry)))
}

async fn operate(app: &App, scope: &Scope, id: &str, operation: Operation) -> Result<HttpResponse, Problem> {
    let entry = find(app, scope, id)?;
    app.manager.operate(&entry, operation).await?;
    Ok(patching::answer(HttpResponse::Ok(), &app.manager.view(&entry)))
}

/// `POST /v1/sessions/{id}/restart`.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/restart", operation_id = "restartSession", tag = "operators", summary = "Restart a session",
    description = "Closes the connection, then connects; from any state but `stopped`.",
    responses((status = 200, description = "The session as it is then.", body = SessionView)),
    extensions(("x-problem-codes" = json!(["notFound", "sessionStopped", "unavailable"])), ("x-stored" = json!(true)))
)]
pub(super) async fn restart(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    operate(&app, &scope, &id, Operation::Restart).await
}

/// `POST /v1/sessions/{id}/park`.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/park", operation_id = "parkSession", tag = "operators", summary = "Park a session",
    description = "Closes the connection and holds the session until `unpark`.",
    responses((status = 200, description = "The session as it is then.", body = SessionView)),
    extensions(("x-problem-codes" = json!(["notFound", "sessionStopped", "unavailable"])), ("x-stored" = json!(true)))
)]
pub(super) async fn park(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    operate(&app, &scope, &id, Operation::Park).await
}

/// `POST /v1/sessions/{id}/unpark`.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/unpark", operation_id = "unparkSession", tag = "operators", summary = "Unpark a session",
    description = "Makes an attempt, also while its tenant is suspended; success lifts the suspension.",
    responses((status = 200, description = "The session as it is then.", body = SessionView)),
    extensions(("x-problem-codes" = json!(["notFound", "sessionStopped", "unavailable"])), ("x-stored" = json!(true)))
)]
pub(super) async fn unpark(
    app: web::Data<App>,
    scope: Scope,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    operate(&app, &scope, &id, Operation::Unpark).await
}
