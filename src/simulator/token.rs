//! The console's token endpoint, under its three paths.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use std::rc::Rc;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde_json::{Value, json};

use super::{
    faults::{Effect, Nonsense, Point, Who},
    hub::Hub,
    socket::Switch,
    tokens::judge_expiry,
    upgrade::HUGE_HEADERS,
};

/// Larger than any token call.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// More than a client should take in for a token.
const HUGE_BODY: usize = 8 * 1024 * 1024;

/// The current path, the older one, and what older SDKs append where their base is another.
const PATHS: [&str; 3] = ["/v1/auth/session-token", "/v1/console/session-tokens", "/session-tokens"];

/// Registers the endpoint, below a region too.
pub(super) fn configure(app: &mut web::ServiceConfig) {
    app.app_data(web::PayloadConfig::new(MAX_BODY_BYTES));
    for path in PATHS {
        app.route(path, web::post().to(create));
        app.route(&format!("/{{region:.*}}{path}"), web::post().to(create));
    }
}

async fn create(hub: web::Data<Arc<Hub>>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let now = hub.now();
    hub.record(|recorder| recorder.token_calls.count(now));
    let api_key = request.headers().get("x-api-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let path = PATHS.iter().find(|path| request.path().ends_with(**path));
    let region = path.and_then(|path| Who::region_of(request.path(), path));
    let who = Who { api_key: Some(api_key.into()), region, ..Who::default() };
    match hub.strike(Point::Token, &who) {
        None => {}
        Some(Effect::Delay { ms }) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Some(effect) => return struck(&hub, &request, &who, effect).await,
    }
    if api_key.is_empty() {
        return refuse(&hub, &who, 401, "unauthorized", "missing API key");
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return refuse(&hub, &who, 400, "INVALID_ARGUMENT", "the body is no JSON");
    };
    let expire_at = body.get("expireAt").and_then(Value::as_i64).unwrap_or_default();
    match judge_expiry(expire_at, SystemTime::now()) {
        Err(detail) => refuse(&hub, &who, 400, "INVALID_ARGUMENT", detail),
        Ok(expires_at) => {
            let token = hub.issue_token(api_key, expires_at);
            HttpResponse::Ok().json(json!({"session_token": token, "sessionToken": token}))
        }
    }
}

fn errors(hub: &Hub, status: u16, code: &str, detail: &str) -> Value {
    let status_value =
        if hub.config.unknowns.token_status_text { json!(status.to_string()) } else { json!(status) };
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    json!({"errors": [{
        "id": code, "status": status_value, "code": code, "title": title.unwrap_or("Refused"), "detail": detail
    }]})
}

fn refuse(hub: &Hub, who: &Who, status: u16, code: &str, detail: &str) -> HttpResponse {
    hub.token_refused(who, status);
    HttpResponse::build(status_code(status)).json(errors(hub, status, code, detail))
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Carries out a fault of the token call.
async fn struck(hub: &Hub, request: &HttpRequest, who: &Who, effect: Effect) -> HttpResponse {
    match effect {
        Effect::Http { status, body, headers } => {
            hub.token_refused(who, status);
            let mut response = HttpResponse::build(status_code(status));
            for (name, value) in headers {
                response.insert_header((name, value));
            }
            match body {
                Some(Value::String(text)) => response.body(text),
                Some(json) => response.json(json),
                None => response.json(errors(hub, status, default_code(status), default_code(status))),
            }
        }
        Effect::Drop { reset } => {
            if let Some(switch) = request.conn_data::<Rc<Switch>>() {
                switch.cut(reset);
            }
            std::future::pending().await
        }
        Effect::Silence {} => std::future::pending().await,
        Effect::Nonsense(nonsense) => answer_nonsense(hub, nonsense),
        Effect::Refuse { for_ms } => {
            hub.refuse_for(Duration::from_millis(for_ms));
            std::future::pending().await
        }
        Effect::ServerError { .. }
        | Effect::Close(_)
        | Effect::Delay { .. }
        | Effect::Stall { .. }
        | Effect::Trickle { .. } => HttpResponse::InternalServerError().finish(),
    }
}

/// What the service's body says with a status.
const fn default_code(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "unauthorized",
        402 => "payment_required",
        403 => "forbidden",
        404 => "not_found",
        429 => "too_many_requests",
        _ => "unavailable",
    }
}

fn answer_nonsense(hub: &Hub, nonsense: Nonsense) -> HttpResponse {
    match nonsense {
        Nonsense::ErrorsIn200 => HttpResponse::Ok().json(errors(hub, 403, "forbidden", "app not allowed")),
        Nonsense::NotJson => HttpResponse::Ok().content_type("text/html").body("<html>It works!</html>"),
        Nonsense::HugeBody => HttpResponse::Ok().json(json!({"session_token": "x".repeat(HUGE_BODY)})),
        Nonsense::HugeHeaders => {
            let padding = ("X-Padding", "x".repeat(HUGE_HEADERS));
            HttpResponse::Ok().insert_header(padding).json(json!({"session_token": "x"}))
        }
        Nonsense::TokenWithoutToken
        | Nonsense::WrongAccept
        | Nonsense::TextFrame
        | Nonsense::BadProtobuf
        | Nonsense::UnknownType
        | Nonsense::UnknownRequest
        | Nonsense::EmptyConnectionId
        | Nonsense::WrongFirstMessage
        | Nonsense::BadFrame => HttpResponse::Ok().json(json!({})),
    }
}
