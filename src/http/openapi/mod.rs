//! The OpenAPI 3.1 document of each listener, from the handlers, and the reference page that is made of it.
//!
//! A handler says what is its own; what many have (the key, path parameters, problems) is added here, by the
//! operation's path and by the codes in its `x-problem-codes`.

mod drop_in;
mod page;
mod problems;

use std::sync::LazyLock;

use actix_web::{HttpResponse, http::header, web};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{App, Surface, admin, audit, events, patching, playing, requests, sessions, tenants, webhooks};
use crate::errors::{Action, ErrorCode};

#[derive(OpenApi)]
#[openapi(
    paths(
        sessions::list, sessions::create, sessions::get, patching::patch, sessions::delete,
        events::history, events::follow,
        requests::send, requests::get, playing::interrupt, playing::pause, playing::resume,
        document, reference, style,
    ),
    components(schemas(super::problem::Problem)),
    tags(
        (name = "sessions", description = "Avatar sessions: made, looked at, ended."),
        (name = "requests", description = "Audio in, outcomes and frames out."),
        (name = "reference", description = "This document. No key is needed."),
    )
)]
struct Shared;

#[derive(OpenApi)]
#[openapi(
    paths(
        sessions::restart, sessions::park, sessions::unpark,
        admin::park_tenant, admin::unpark_tenant, admin::restart_tenant,
        admin::metrics, admin::healthz, admin::readyz, admin::codes,
        admin::upstreams, admin::open_upstream, admin::close_upstream, admin::drain,
        audit::list, webhooks::list, webhooks::test, webhooks::enable,
        tenants::list, tenants::create, tenants::get, tenants::change, tenants::delete,
        tenants::keys, tenants::add_key, tenants::remove_key, tenants::reload,
    ),
    tags(
        (name = "operators", description = "What only operators may do: restart, park, unpark, drain."),
        (name = "tenants", description = "Who may hold sessions, and how many. Those of the configuration file are changed there."),
        (name = "monitoring", description = "For Prometheus and for health checks. No key is needed."),
    )
)]
struct Admin;

/// What a parameter of a path is, by its name and the thing before it.
const PATH_PARAMETERS: [(&str, &str, &str, &str); 7] = [
    ("s", "id", "session-id", "The session's id."),
    ("sessions", "id", "session-id", "The session's id."),
    ("requests", "req_id", "request-id", "The request's id, as its POST answered."),
    ("tenants", "id", "tenant-id", "The tenant's id."),
    ("keys", "name", "key-name", "The key's name."),
    ("webhooks", "id", "webhook-id", "The endpoint's id, from `GET /v1/webhooks`."),
    ("upstreams", "name", "upstream-name", "The upstream's name, from `GET /v1/upstreams`."),
];

static DATA: LazyLock<Rendered> = LazyLock::new(|| Rendered::of(Surface::Data));
static ADMIN: LazyLock<Rendered> = LazyLock::new(|| Rendered::of(Surface::Admin));

/// What is served: made once, and the same for everybody.
struct Rendered {
    document: String,
    page: String,
}

impl Rendered {
    fn of(surface: Surface) -> Self {
        let document = build(surface);
        Self { document: document.to_string(), page: page::render(&document) }
    }

    fn for_app(app: &App) -> &'static Self {
        match app.surface {
            Surface::Data => &DATA,
            Surface::Admin => &ADMIN,
        }
    }
}

/// The document of a listener.
pub(super) fn build(surface: Surface) -> Value {
    let mut openapi = Shared::openapi();
    openapi.merge(match surface {
        Surface::Data => drop_in::DropIn::openapi(),
        Surface::Admin => Admin::openapi(),
    });
    let mut document = serde_json::to_value(openapi).unwrap_or_default();
    document["info"] = info(surface);
    document["servers"] = json!([{"url": "/"}]);
    document["components"]["securitySchemes"] = json!({"bearer": {
        "type": "http", "scheme": "bearer",
        "description": match surface {
            Surface::Data => "A key of a tenant (`keys` of `[[tenants]]`).",
            Surface::Admin => "The admin key (`admin.key`). Where none is configured, GET needs none from this machine.",
        },
    }});
    if surface == Surface::Admin {
        add_tenant(&mut document["components"]["schemas"]["SessionSpec"]);
    }
    mend(&mut document);
    if surface == Surface::Data {
        drop_in::mend(&mut document);
    }
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, operations) in paths {
            for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
                complete(path, operation, surface);
            }
        }
    }
    document
}

/// What the derived schemas do not tell.
fn mend(document: &mut Value) {
    strip_widths(document);
    let egress = &mut document["components"]["schemas"]["EgressSpec"]["oneOf"];
    for kind in egress.as_array_mut().into_iter().flatten() {
        kind["additionalProperties"] = json!(false);
    }
    let schemas = &mut document["components"]["schemas"];
    // The same bounds as when it is made; with null, a label goes.
    let mut labels = schemas["SessionSpec"]["properties"]["labels"].clone();
    labels["type"] = json!(["object", "null"]);
    labels["additionalProperties"]["type"] = json!(["string", "null"]);
    labels["description"] = json!("Labels to set, and with null to take away.");
    let patch = &mut schemas["SessionPatch"];
    patch["properties"]["labels"] = labels;
    patch["additionalProperties"] = json!(false);
    new_tenant(schemas);
    // An empty body is an empty object.
    document["paths"]["/v1/sessions/{id}"]["patch"]["requestBody"]["required"] = json!(false);
    for word in ["interrupt", "pause", "resume"] {
        let path = format!("/v1/sessions/{{id}}/{word}");
        document["paths"][path]["post"]["requestBody"]["required"] = json!(false);
    }
}

/// A new tenant has the settings of every tenant beside its name, and must have two of them.
fn new_tenant(schemas: &mut Value) {
    let Some(settings) = schemas.get_mut("TenantSettings") else { return };
    settings["additionalProperties"] = json!(false);
    let mut actions: Vec<Value> = Action::ALL.into_iter().map(|action| json!(action.as_str())).collect();
    actions.push(Value::Null);
    let policy = &mut settings["properties"]["policy"];
    policy["propertyNames"] = json!({"enum": ErrorCode::ALL.map(ErrorCode::as_str)});
    policy["additionalProperties"] = json!({"enum": actions});
    let Some(settings) = settings["properties"].as_object().cloned() else { return };
    let new = &mut schemas["NewTenant"];
    if let Some(properties) = new["properties"].as_object_mut() {
        properties.extend(settings);
        for name in ["app_id", "upstream_api_key"] {
            // These have no default that null could stand for.
            properties[name]["type"] = json!("string");
        }
    }
    new["required"] = json!(["id", "app_id", "upstream_api_key"]);
    new["additionalProperties"] = json!(false);
}

/// Takes out `int32` and `int64`: ours are unsigned, and have their bounds beside them.
fn strip_widths(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if matches!(members.get("format").and_then(Value::as_str), Some("int32" | "int64")) {
                members.remove("format");
            }
            members.values_mut().for_each(strip_widths);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_widths),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn info(surface: Surface) -> Value {
    let (title, description) = match surface {
        Surface::Data => {
            ("Greenroom: data plane", "What a tenant's backend reaches, with a key of the tenant.")
        }
        Surface::Admin => ("Greenroom: admin plane", "What operators and Prometheus reach: all tenants."),
    };
    json!({
        "title": title,
        "version": env!("CARGO_PKG_VERSION"),
        "description": format!(
            "{description} Errors are RFC 9457 problem details with a stable `code`; what is not yours is 404. \
             Every answer has an `X-Request-Id`, and every 429 and 503 a `Retry-After`. Times are RFC 3339, UTC."
        ),
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    })
}

/// Operators say whose session it is.
fn add_tenant(spec: &mut Value) {
    spec["properties"]["tenant"] =
        json!({"type": "string", "format": "tenant-id", "description": "Whose session it is."});
    spec["example"]["tenant"] = json!("acme");
    if let Some(required) = spec["required"].as_array_mut() {
        required.push(json!("tenant"));
    }
}

/// Adds what an operation that keeps a promise beyond the process can answer (`x-stored`), and what one that can be
/// asked for twice can (`x-idempotent`).
fn keeping(operation: &mut Value, codes: &mut Vec<String>) {
    if operation["x-stored"] == json!(true) {
        codes.extend(["storeUnavailable", "storeError"].map(str::to_owned));
    }
    if operation["x-idempotent"] == json!(true) {
        let named = ["invalidIdempotencyKey", "idempotencyKeyInUse", "idempotencyKeyReused", "internal"];
        codes.extend(named.map(str::to_owned));
        let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The request's name: sent again within 24 hours, it is answered and not carried out again.",
            "schema": {"type": "string", "format": "idempotency-key", "minLength": 1, "maxLength": 255},
        }));
        operation["parameters"] = json!(parameters);
    }
}

/// Adds what an operation with a condition can be asked and answer (`x-conditional`).
fn condition(operation: &mut Value, codes: &mut Vec<String>) {
    if operation["x-conditional"] != json!(true) {
        return;
    }
    codes.push("preconditionFailed".to_owned());
    let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    parameters.push(json!({
        "name": "If-Match", "in": "header", "required": false,
        "description": "The `ETag` of the session as it was seen, or several, or `*`; otherwise it stays as it is.",
        "schema": {"type": "string", "format": "etag"},
    }));
    operation["parameters"] = json!(parameters);
}

/// Whether an answer is a session, which has an `ETag`.
fn is_a_session(response: &Value) -> bool {
    response["content"]["application/json"]["schema"]["$ref"] == json!("#/components/schemas/Session")
}

/// Adds to an operation what its path and its codes tell.
fn complete(path: &str, operation: &mut Value, surface: Surface) {
    let mut codes: Vec<String> = operation["x-problem-codes"]
        .as_array()
        .map(|codes| codes.iter().filter_map(|code| code.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    keeping(operation, &mut codes);
    condition(operation, &mut codes);
    if operation["security"].is_null() {
        operation["security"] = json!([{"bearer": []}]);
        codes.push("unauthorized".to_owned());
        if surface == Surface::Admin {
            codes.push("adminKeyNotSet".to_owned());
        } else {
            codes.push("requestRateLimited".to_owned());
        }
    }
    let mut parameters: Vec<Value> = path_parameters(path);
    parameters.extend(operation["parameters"].as_array().cloned().unwrap_or_default());
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    let own_errors = drop_in::errors(operation);
    if own_errors.is_empty() && operation["requestBody"]["content"]["application/json"].is_object() {
        codes.extend(
            ["malformedJson", "brokenBody", "bodyTimeout", "bodyTooLarge", "invalidBody"].map(str::to_owned),
        );
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        for response in responses.values_mut() {
            response["headers"]["X-Request-Id"] = problems::request_id_header();
            if is_a_session(response) {
                response["headers"]["ETag"] = problems::etag_header();
            }
        }
        for (status, response) in problems::responses(codes.iter().map(String::as_str)) {
            responses.insert(status, response);
        }
        responses.extend(own_errors);
    }
    if let Some(operation) = operation.as_object_mut() {
        operation.retain(|name, _| !name.starts_with("x-"));
    }
}

fn path_parameters(path: &str) -> Vec<Value> {
    let segments: Vec<&str> = path.split('/').collect();
    segments
        .windows(2)
        .filter_map(|pair| {
            let name = pair[1].strip_prefix('{')?.strip_suffix('}')?;
            let known = PATH_PARAMETERS.iter().find(|(thing, own, ..)| *thing == pair[0] && *own == name);
            let (format, description) =
                known.map_or(("", "A name."), |(_, _, format, description)| (format, description));
            Some(json!({
                "name": name, "in": "path", "required": true, "description": description,
                "schema": {"type": "string", "format": format, "minLength": 1},
            }))
        })
        .collect()
}

/// `GET /openapi.json`.
#[utoipa::path(
    get, path = "/openapi.json", tag = "reference", summary = "This document", security(()),
    responses((status = 200, description = "The OpenAPI 3.1 document of this listener.", body = Object))
)]
pub(super) async fn document(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(Rendered::for_app(&app).document.as_str())
}

/// `GET /docs`: the document for people. There is no script in it, and nothing that is fetched from elsewhere.
#[utoipa::path(
    get, path = "/docs", tag = "reference", summary = "The reference page", security(()),
    responses((status = 200, description = "This document as a page; it loads nothing from elsewhere.",
               content_type = "text/html", body = String))
)]
pub(super) async fn reference(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(Rendered::for_app(&app).page.as_str())
}

/// `GET /docs.css`.
#[utoipa::path(
    get, path = "/docs.css", tag = "reference", summary = "The reference page's style", security(()),
    responses((status = 200, description = "CSS.", content_type = "text/css", body = String))
)]
pub(super) async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(page::STYLE)
}

#[cfg(test)]
mod tests;
