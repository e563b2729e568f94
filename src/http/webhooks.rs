//! Webhooks, as operators see them: how each endpoint is doing, a test message, and the way back after a 410.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, Problem, auth::Scope};
use crate::webhooks::{EndpointView, TestRefused, TestResult};

/// The endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Webhooks {
    webhooks: Vec<EndpointView>,
}

/// `GET /v1/webhooks`.
#[utoipa::path(
    get, path = "/v1/webhooks", operation_id = "listWebhooks", tag = "operators",
    summary = "Where webhooks are sent to",
    description = "The endpoints of operators and of tenants, by the configuration file, and how each is doing.",
    responses((status = 200, description = "All of them.", body = Webhooks)),
)]
pub(super) async fn list(app: web::Data<App>, _scope: Scope) -> HttpResponse {
    HttpResponse::Ok().json(Webhooks { webhooks: app.webhooks.list() })
}

/// `POST /v1/webhooks/{id}/test`.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/test", operation_id = "testWebhook", tag = "operators",
    summary = "Send a test message",
    description = "Sends one message of the type `webhook.test`, signed as all are, once and at once, and answers with \
                   what came of it. A disabled endpoint stays disabled.",
    responses((status = 200, description = "What came of it, whatever it was.", body = TestResult)),
    extensions(("x-problem-codes" = json!(["notFound", "unavailable"])))
)]
pub(super) async fn test(
    app: web::Data<App>,
    _scope: Scope,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    match app.webhooks.test(&id).await {
        Ok(result) => Ok(HttpResponse::Ok().json(result)),
        Err(TestRefused::Unknown) => Err(Problem::not_found("webhook")),
        Err(TestRefused::Busy) => {
            Err(Problem::unavailable("tests of this endpoint are under way; try again when they have ended"))
        }
    }
}

/// `POST /v1/webhooks/{id}/enable`.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/enable", operation_id = "enableWebhook", tag = "operators",
    summary = "Enable an endpoint that answered 410",
    description = "What happens from then on is told to it again; what happened meanwhile is not made up for.",
    responses((status = 200, description = "The endpoint.", body = EndpointView)),
    extensions(("x-problem-codes" = json!(["notFound"])))
)]
pub(super) async fn enable(
    app: web::Data<App>,
    _scope: Scope,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let endpoint = app.webhooks.enable(&id).ok_or_else(|| Problem::not_found("webhook"))?;
    Ok(HttpResponse::Ok().json(endpoint))
}
