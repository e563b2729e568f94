//! The documents of the drop-in console and ingress, which answer in the service's form and not with problems.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::problems;
use crate::http::{console, ingress};

#[derive(OpenApi)]
#[openapi(
    paths(console::create, ingress::upgrade::drop_in, ingress::upgrade::attach, ingress::upgrade::take_over),
    tags((name = "drop-in", description = "For clients that use an official SDK: the service's own paths and errors."))
)]
pub(super) struct DropIn;

/// Where a token is got, and the paths that older SDKs call.
const TOKENS: &str = "/v1/auth/session-token";
const OLDER_TOKENS: [(&str, &str); 2] = [
    ("/v1/console/session-tokens", "createSessionTokenAtTheConsole"),
    ("/session-tokens", "createSessionTokenAtTheRoot"),
];

/// Statuses of a refused upgrade that no code has.
const UPGRADE_STATUSES: [u16; 7] = [400, 401, 404, 408, 409, 422, 503];

/// Adds the older paths, and the keys of SDKs.
pub(super) fn mend(document: &mut Value) {
    for (path, id) in OLDER_TOKENS {
        document["paths"][path] = document["paths"][TOKENS].clone();
        document["paths"][path]["post"]["operationId"] = json!(id);
    }
    let schemes = &mut document["components"]["securitySchemes"];
    schemes["apiKey"] = json!({
        "type": "apiKey", "in": "header", "name": "X-Api-Key",
        "description": "A key of a tenant, where an SDK sends its key of the service.",
    });
    schemes["sessionKey"] = json!({
        "type": "apiKey", "in": "header", "name": "X-Session-Key",
        "description": "A session token; or the parameter `sessionKey`.",
    });
}

/// The errors of an operation that has others than problems, by status.
pub(super) fn errors(operation: &Value) -> Map<String, Value> {
    if operation["x-upgrade-refusals"] == json!(true) {
        let codes = ingress::rendering::ROWS.iter().map(|row| row.status);
        let mut statuses: Vec<u16> = codes.chain(UPGRADE_STATUSES).collect();
        statuses.sort_unstable();
        statuses.dedup();
        return statuses.into_iter().map(|status| (status.to_string(), refusal(status))).collect();
    }
    let statuses = operation["x-service-errors"].as_array().into_iter().flatten();
    let statuses = statuses.filter_map(|status| u16::try_from(status.as_u64()?).ok());
    statuses.map(|status| (status.to_string(), service_error(status))).collect()
}

fn headers(status: u16) -> Value {
    let mut headers = json!({"X-Request-Id": problems::request_id_header()});
    if matches!(status, 429 | 503) {
        headers["Retry-After"] = problems::retry_after_header();
    }
    headers
}

fn refusal(status: u16) -> Value {
    let text = json!({"schema": {"type": "string"}});
    json!({
        "description": "Refused, in the service's words; `docs/ingress.md` has each.",
        "headers": headers(status),
        "content": {"application/json": {"schema": {"type": "object"}}, "text/plain": text},
    })
}

fn service_error(status: u16) -> Value {
    let error = json!({
        "type": "object",
        "required": ["id", "status", "code", "title", "detail"],
        "properties": {
            "id": {"type": "string"}, "status": {"type": "integer"}, "code": {"type": "string"},
            "title": {"type": "string"}, "detail": {"type": "string"},
        },
    });
    let errors = json!({"type": "array", "minItems": 1, "items": error});
    let schema = json!({"type": "object", "required": ["errors"], "properties": {"errors": errors}});
    json!({
        "description": "Refused, in the service's form.",
        "headers": headers(status),
        "content": {"application/json": {"schema": schema}},
    })
}
