//! The drop-in console: session tokens for clients that use an official SDK, in the service's form.
//!
//! A tenant's Greenroom key stands where its key at the service would. Errors are the service's `errors` list, and no
//! text has the word that the older SDKs take for refused egress credentials.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use rand::Rng as _;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{App, auth::count_request, body, problem::Problem};
use crate::tenants::{Tenant, tokens::NotIssued};

/// Where a key stands.
const API_KEY: &str = "x-api-key";

/// Unused tokens that a tenant may hold for each session that it may have: a backend that gets its tokens ahead of
/// time, and again after a failure, stays far below it.
const TOKENS_PER_SESSION: usize = 10;
/// Unused tokens that every tenant may hold.
const LEAST_TOKENS: usize = 100;

/// How long a client is asked to wait while this process ends, in seconds.
const DRAINING_RETRY_AFTER_S: u64 = 2;

/// An error in the service's form.
struct Refused {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_s: None }
    }

    fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", detail)
    }

    fn answer(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        response.json(json!({"errors": [{
            "id": self.code,
            "status": self.status.as_u16(),
            "code": self.code,
            "title": title(self.status),
            "detail": self.detail,
        }]}))
    }
}

/// The status in words; for 401 others than the registered ones, which the older SDKs misread.
fn title(status: StatusCode) -> &'static str {
    if status == StatusCode::UNAUTHORIZED {
        "Invalid API key"
    } else {
        status.canonical_reason().unwrap_or("Refused")
    }
}

/// The time in Unix seconds.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What a token is asked for with. It is read leniently: SDKs send more.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"expireAt": 1_767_326_645}))]
#[expect(dead_code, reason = "it is the document's: the body's other fields are the SDKs' own")]
pub(super) struct TokenWanted {
    /// When the token ends, in Unix seconds: in the future, 24 hours ahead at most.
    expire_at: f64,
}

/// `POST /v1/auth/session-token` and its older paths.
#[utoipa::path(
    post, path = "/v1/auth/session-token", operation_id = "createSessionToken", tag = "drop-in",
    summary = "A session token for an SDK",
    description = "In the service's form, also on the paths that older SDKs call.",
    security(("apiKey" = [])),
    request_body = TokenWanted,
    responses(
        (status = 200, description = "The token, under both names that SDKs read.", body = Object,
         example = json!({"session_token": "AAAA", "sessionToken": "AAAA"})),
    ),
    extensions(("x-service-errors" = json!([400, 401, 429, 503])))
)]
pub(super) async fn create(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    match issue(&app, &request, payload).await {
        // Both names: the SDKs' generations read one each.
        Ok(token) => HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(json!({"session_token": token, "sessionToken": token})),
        Err(refused) => refused.answer(),
    }
}

async fn issue(app: &App, request: &HttpRequest, payload: web::Payload) -> Result<String, Refused> {
    let tenant = authenticate(app, request)?;
    if app.lifecycle.is_draining() {
        let mut refused =
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "this process is draining");
        refused.retry_after_s = Some(DRAINING_RETRY_AFTER_S);
        return Err(refused);
    }
    let invalid = |problem: Problem| Refused::invalid(problem.to_string());
    let text = body::json_text(payload).await.map_err(invalid)?;
    let body = body::json_object(&text).map_err(invalid)?;
    let expires_at = match body.get("expireAt") {
        None => {
            return Err(Refused::invalid("expireAt is missing; give Unix seconds, at most 24 hours ahead"));
        }
        Some(value) => {
            // Some clients' numbers have a fraction; what lies before the epoch lies in the past.
            let seconds = value.as_f64().ok_or_else(|| Refused::invalid("expireAt must be a number"))?;
            seconds.max(0.0) as u64
        }
    };
    let most = (tenant.max_sessions as usize).saturating_mul(TOKENS_PER_SESSION).max(LEAST_TOKENS);
    app.ingress
        .tokens()
        .issue(&tenant.id, expires_at, most, rand::rng().random(), unix_now())
        .map_err(|not_issued| refuse(&not_issued))
}

fn refuse(not_issued: &NotIssued) -> Refused {
    let detail = not_issued.to_string();
    match not_issued {
        NotIssued::NotInFuture | NotIssued::TooFar => Refused::invalid(detail),
        NotIssued::TooMany { retry_after_s, .. } => Refused {
            retry_after_s: Some(*retry_after_s),
            ..Refused::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
        },
    }
}

fn authenticate(app: &App, request: &HttpRequest) -> Result<Arc<Tenant>, Refused> {
    let refused = |detail: &str| Refused::new(StatusCode::UNAUTHORIZED, "invalid_api_key", detail);
    let key = request.headers().get(API_KEY).and_then(|key| key.to_str().ok());
    let key = key.ok_or_else(|| refused("send a tenant's Greenroom key as X-Api-Key"))?;
    let runtime = app.manager.authenticate(key).ok_or_else(|| refused("the API key belongs to no tenant"))?;
    count_request(app, &runtime).map_err(|too_fast| Refused {
        retry_after_s: Some(too_fast.retry_after.as_secs() + 1),
        ..Refused::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            format!("the tenant may send {} requests in a second", too_fast.bound),
        )
    })?;
    Ok(runtime.tenant())
}
