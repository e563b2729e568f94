//! The admin listener's own paths: metrics, health, codes, tenants, upstreams, drain.

use actix_web::{HttpResponse, http::header, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, Problem, auth::Scope, problem::RETRY_AFTER_S};
use crate::{
    errors::{Actor, ErrorCode},
    manager::{UPSTREAM, UpstreamView},
    recovery::TenantId,
    session::Operation,
};

/// `GET /metrics`, in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", tag = "monitoring", summary = "Metrics for Prometheus", security(()),
    responses((status = 200, description = "The Prometheus text format.", content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(app.metrics.render())
}

/// A state in one word.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// `ok`, `ready`, `draining` or `storeUnavailable`.
    status: &'static str,
    /// Why, where it is not said by the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// `GET /healthz`: the process answers.
#[utoipa::path(
    get, path = "/healthz", tag = "monitoring", summary = "Whether the process answers", security(()),
    responses((status = 200, description = "It does.", body = Status, example = json!({"status": "ok"})))
)]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Status { status: "ok", reason: None })
}

/// `GET /readyz`: the process takes sessions, and can keep them.
#[utoipa::path(
    get, path = "/readyz", tag = "monitoring", summary = "Whether the process takes sessions, and can keep them",
    security(()),
    responses(
        (status = 200, description = "It does.", body = Status, example = json!({"status": "ready"})),
        (status = 503, description = "It drains, or its store takes nothing.", body = Status,
         example = json!({"status": "draining"})),
    )
)]
pub(super) async fn readyz(app: web::Data<App>) -> HttpResponse {
    let not_ready = |status, reason| {
        HttpResponse::ServiceUnavailable()
            .insert_header((header::RETRY_AFTER, RETRY_AFTER_S))
            .json(Status { status, reason })
    };
    if app.lifecycle.is_draining() {
        not_ready("draining", None)
    } else if let Some(trouble) = app.records.store().trouble() {
        not_ready("storeUnavailable", Some(trouble))
    } else {
        HttpResponse::Ok().json(Status { status: "ready", reason: None })
    }
}

/// An error code and what is known of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Code)]
pub(super) struct CodeView {
    code: ErrorCode,
    /// What happened.
    meaning: &'static str,
    must_act: Actor,
    /// What the policy does about it.
    action: &'static str,
    /// Its runbook.
    docs_url: String,
    /// Errors since the start of the process.
    count: u64,
}

/// All codes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Codes {
    codes: Vec<CodeView>,
}

/// `GET /v1/codes`.
#[utoipa::path(
    get, path = "/v1/codes", operation_id = "listCodes", tag = "operators", summary = "Every error code",
    responses((status = 200, description = "What each means, who must act, what is done, and how often it came.",
               body = Codes))
)]
pub(super) async fn codes(app: web::Data<App>, _scope: Scope) -> HttpResponse {
    let policy = app.tenants.policy();
    let codes: Vec<CodeView> = ErrorCode::ALL
        .into_iter()
        .map(|code| CodeView {
            code,
            meaning: code.meaning(),
            must_act: code.must_act(),
            action: policy.action(code).as_str(),
            docs_url: code.docs_url(),
            count: app.metrics.error_count(code),
        })
        .collect();
    HttpResponse::Ok().json(Codes { codes })
}

/// An operation on all sessions of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantOperated {
    /// The tenant.
    #[schema(value_type = String)]
    tenant: TenantId,
    /// Sessions that took it.
    sessions: usize,
}

async fn operate_tenant(app: &App, tenant: &str, operation: Operation) -> Result<HttpResponse, Problem> {
    let tenant = TenantId::from(tenant);
    if app.manager.tenant(tenant.as_str()).is_none() {
        return Err(Problem::not_found("tenant"));
    }
    let sessions = app.manager.operate_tenant(&tenant, operation).await?;
    Ok(HttpResponse::Accepted().json(TenantOperated { tenant, sessions }))
}

/// `POST /v1/tenants/{id}/park`.
#[utoipa::path(
    post, path = "/v1/tenants/{id}/park", operation_id = "parkTenant", tag = "operators",
    summary = "Park a tenant",
    description = "Holds every session of the tenant without a connection until `unpark`.",
    responses((status = 202, description = "How many sessions took it.", body = TenantOperated,
               example = json!({"tenant": "acme", "sessions": 3}))),
    extensions(("x-problem-codes" = json!(["notFound", "unavailable", "sessionStopped"])), ("x-stored" = json!(true)))
)]
pub(super) async fn park_tenant(
    app: web::Data<App>,
    _scope: Scope,
    tenant: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    operate_tenant(&app, &tenant, Operation::Park).await
}

/// `POST /v1/tenants/{id}/unpark`: lifts the suspension, and lets every parked session try.
#[utoipa::path(
    post, path = "/v1/tenants/{id}/unpark", operation_id = "unparkTenant", tag = "operators",
    summary = "Unpark a tenant",
    description = "Lifts the tenant's suspension, and lets every parked session try.",
    responses((status = 202, description = "How many sessions took it.", body = TenantOperated,
               example = json!({"tenant": "acme", "sessions": 3}))),
    extensions(("x-problem-codes" = json!(["notFound", "unavailable", "sessionStopped"])), ("x-stored" = json!(true)))
)]
pub(super) async fn unpark_tenant(
    app: web::Data<App>,
    _scope: Scope,
    tenant: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    operate_tenant(&app, &tenant, Operation::Unpark).await
}

/// `POST /v1/tenants/{id}/restart`.
#[utoipa::path(
    post, path = "/v1/tenants/{id}/restart", operation_id = "restartTenant", tag = "operators",
    summary = "Restart a tenant",
    description = "Restarts every session of the tenant that is not stopped.",
    responses((status = 202, description = "How many sessions took it.", body = TenantOperated,
               example = json!({"tenant": "acme", "sessions": 3}))),
    extensions(("x-problem-codes" = json!(["notFound", "unavailable", "sessionStopped"])), ("x-stored" = json!(true)))
)]
pub(super) async fn restart_tenant(
    app: web::Data<App>,
    _scope: Scope,
    tenant: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    operate_tenant(&app, &tenant, Operation::Restart).await
}

/// The service's endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Upstreams {
    upstreams: Vec<UpstreamView>,
}

/// `GET /v1/upstreams`.
#[utoipa::path(
    get, path = "/v1/upstreams", operation_id = "listUpstreams", tag = "operators", summary = "The service's endpoints",
    responses((status = 200, description = "How each is judged, and who waits at its gate.", body = Upstreams,
               example = json!({"upstreams": [{"name": "primary", "breaker": "closed", "waiting": 0, "in_flight": 0}]}))),
    extensions(("x-problem-codes" = json!(["unavailable", "sessionStopped"])))
)]
pub(super) async fn upstreams(app: web::Data<App>, _scope: Scope) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(Upstreams { upstreams: app.manager.upstreams().await? }))
}

fn known_upstream(name: &str) -> Result<(), Problem> {
    if name == UPSTREAM { Ok(()) } else { Err(Problem::not_found("upstream")) }
}

/// `POST /v1/upstreams/{name}/open`: nobody knocks until it is closed by command.
#[utoipa::path(
    post, path = "/v1/upstreams/{name}/open", operation_id = "openUpstream", tag = "operators", summary = "Open a breaker",
    description = "Nobody knocks at this endpoint until it is closed by command.",
    responses((status = 200, description = "How each is judged, and who waits at its gate.", body = Upstreams,
               example = json!({"upstreams": [{"name": "primary", "breaker": "closed", "waiting": 0, "in_flight": 0}]}))),
    extensions(("x-problem-codes" = json!(["notFound", "unavailable", "sessionStopped"])))
)]
pub(super) async fn open_upstream(
    app: web::Data<App>,
    _scope: Scope,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    known_upstream(&name)?;
    app.manager.open_breaker().await?;
    upstreams(app, Scope::Operator).await
}

/// `POST /v1/upstreams/{name}/close`.
#[utoipa::path(
    post, path = "/v1/upstreams/{name}/close", operation_id = "closeUpstream", tag = "operators", summary = "Close a breaker",
    description = "Attempts are made again.",
    responses((status = 200, description = "How each is judged, and who waits at its gate.", body = Upstreams,
               example = json!({"upstreams": [{"name": "primary", "breaker": "closed", "waiting": 0, "in_flight": 0}]}))),
    extensions(("x-problem-codes" = json!(["notFound", "unavailable", "sessionStopped"])))
)]
pub(super) async fn close_upstream(
    app: web::Data<App>,
    _scope: Scope,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    known_upstream(&name)?;
    app.manager.close_breaker().await?;
    upstreams(app, Scope::Operator).await
}

/// `POST /v1/drain`: takes no new session, closes every connection, then exits.
#[utoipa::path(
    post, path = "/v1/drain", operation_id = "drain", tag = "operators", summary = "End the process in order",
    description = "Takes no new session, closes every connection, then exits; the next process goes on with the sessions.",
    responses((status = 202, description = "It drains.", body = Status, example = json!({"status": "draining"})))
)]
pub(super) async fn drain(app: web::Data<App>, _scope: Scope) -> HttpResponse {
    app.lifecycle.drain();
    HttpResponse::Accepted().json(Status { status: "draining", reason: None })
}
