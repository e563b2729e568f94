//! The admin listener's own paths: metrics, health, codes, tenants, upstreams, drain.

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::{App, Problem, auth::Scope};
use crate::{
    errors::{Actor, ErrorCode},
    manager::UPSTREAM,
    recovery::TenantId,
    session::Operation,
};

/// `GET /metrics`, in the Prometheus text format.
pub(super) async fn metrics(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(app.metrics.render())
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "ok"}))
}

/// `GET /readyz`: the process takes sessions, and can keep them.
pub(super) async fn readyz(app: web::Data<App>) -> HttpResponse {
    if app.lifecycle.is_draining() {
        HttpResponse::ServiceUnavailable().json(serde_json::json!({"status": "draining"}))
    } else if let Some(trouble) = app.records.store().trouble() {
        let body = serde_json::json!({"status": "storeUnavailable", "reason": trouble});
        HttpResponse::ServiceUnavailable().json(body)
    } else {
        HttpResponse::Ok().json(serde_json::json!({"status": "ready"}))
    }
}

#[derive(Debug, Serialize)]
struct CodeView {
    code: ErrorCode,
    meaning: &'static str,
    must_act: Actor,
    action: &'static str,
    docs_url: String,
    count: u64,
}

/// `GET /v1/codes`.
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
    HttpResponse::Ok().json(serde_json::json!({"codes": codes}))
}

async fn operate_tenant(app: &App, tenant: &str, operation: Operation) -> Result<HttpResponse, Problem> {
    let tenant = TenantId::from(tenant);
    if app.manager.tenant(tenant.as_str()).is_none() {
        return Err(Problem::not_found("tenant"));
    }
    let sessions = app.manager.operate_tenant(&tenant, operation).await?;
    Ok(HttpResponse::Accepted().json(serde_json::json!({"tenant": tenant, "sessions": sessions})))
}

/// `POST /v1/tenants/{id}/park`.
pub(super) async fn park_tenant(
    app: web::Data<App>,
    _scope: Scope,
    tenant: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    operate_tenant(&app, &tenant, Operation::Park).await
}

/// `POST /v1/tenants/{id}/unpark`: lifts the suspension, and lets every parked session try.
pub(super) async fn unpark_tenant(
    app: web::Data<App>,
    _scope: Scope,
    tenant: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    operate_tenant(&app, &tenant, Operation::Unpark).await
}

/// `POST /v1/tenants/{id}/restart`.
pub(super) async fn restart_tenant(
    app: web::Data<App>,
    _scope: Scope,
    tenant: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    operate_tenant(&app, &tenant, Operation::Restart).await
}

/// `GET /v1/upstreams`.
pub(super) async fn upstreams(app: web::Data<App>, _scope: Scope) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(serde_json::json!({"upstreams": app.manager.upstreams().await?})))
}

fn known_upstream(name: &str) -> Result<(), Problem> {
    if name == UPSTREAM { Ok(()) } else { Err(Problem::not_found("upstream")) }
}

/// `POST /v1/upstreams/{name}/open`: nobody knocks until it is closed by command.
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
pub(super) async fn close_upstream(
    app: web::Data<App>,
    _scope: Scope,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    known_upstream(&name)?;
    app.manager.close_breaker().await?;
    upstreams(app, Scope::Operator).await
}

/// `POST /v1/drain`: takes no new session, ends those that are here, then exits.
pub(super) async fn drain(app: web::Data<App>, _scope: Scope) -> HttpResponse {
    app.lifecycle.drain();
    HttpResponse::Accepted().json(serde_json::json!({"status": "draining"}))
}
