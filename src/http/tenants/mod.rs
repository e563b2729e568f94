//! `/v1/tenants`: make, list, change and delete tenants, and their keys. Operators only.

mod body;
mod view;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    App, Problem,
    auth::Scope,
    body as bodies,
    idempotency::{self, Turn},
    request_id,
};
use crate::{
    manager::{
        KeyMade, KeyName, ReloadRefused, Reloaded, TenantMade, TenantPatch, TenantPromise, TenantRefused,
    },
    recovery::TenantId,
    store::records::{StoredAnswer, Ticket},
};
use body::Wanted;
use view::{KeyView, TenantView};

/// Tenants on a page when the caller does not say.
const DEFAULT_LIMIT: usize = 50;
/// Tenants on a page at most.
const MAX_LIMIT: usize = 500;

impl From<TenantRefused> for Problem {
    fn from(refused: TenantRefused) -> Self {
        let detail = refused.to_string();
        let conflict = |code: &str| Self::new(StatusCode::CONFLICT, code, detail.clone());
        match refused {
            TenantRefused::Unknown => Self::not_found("tenant"),
            TenantRefused::UnknownKey => Self::not_found("key"),
            TenantRefused::ManagedByFile => conflict("managedByFile"),
            TenantRefused::Exists => conflict("tenantExists"),
            TenantRefused::KeyExists => conflict("keyExists"),
            TenantRefused::TooManyKeys { .. } => conflict("tooManyKeys"),
            TenantRefused::TooMany { .. } => conflict("tooManyTenants"),
            TenantRefused::Invalid(mistakes) => {
                Self::unprocessable("invalidBody", detail).with_errors(mistakes)
            }
            TenantRefused::Unkept(error) => error.into(),
            TenantRefused::Unreachable(_) => Self::unavailable(detail),
        }
    }
}

/// A client that goes away takes its handler with it, and must not leave a change half carried out.
async fn to_its_end<F>(change: F) -> Result<HttpResponse, Problem>
where
    F: Future<Output = Result<HttpResponse, Problem>> + 'static,
{
    request_id::spawn(change).await.unwrap_or_else(|error| {
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()))
    })
}

/// A tenant as it is now.
fn shown(app: &App, id: &str) -> Result<TenantView, Problem> {
    let roster = app.manager.roster();
    let runtime = roster.get(id).ok_or_else(|| Problem::not_found("tenant"))?;
    Ok(TenantView::of(runtime, roster.keys_of(id), &app.manager))
}

/// A tenant as every operator may see it, for the audit log.
pub(super) fn described(app: &App, id: &str) -> Option<Value> {
    serde_json::to_value(shown(app, id).ok()?).ok()
}

/// The query of a listing.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Tenants on the page; 50 where it is left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(format = "tenant-cursor")]
    cursor: Option<String>,
}

/// A page of tenants.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantPage)]
pub(super) struct TenantPage {
    tenants: Vec<TenantView>,
    /// For the next page; null on the last one.
    next_cursor: Option<String>,
}

/// The keys of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantKeys)]
pub(super) struct TenantKeys {
    keys: Vec<KeyView>,
}

/// `GET /v1/tenants`, by id.
#[utoipa::path(
    get, path = "/v1/tenants", operation_id = "listTenants", tag = "tenants", summary = "List tenants",
    params(ListQuery), responses((status = 200, description = "A page of them, by id.", body = TenantPage)),
    extensions(("x-problem-codes" = json!(["invalidQuery"])))
)]
pub(super) async fn list(
    app: web::Data<App>,
    _scope: Scope,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query: ListQuery = bodies::query(&request)?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        let detail = format!("limit is {limit}; 1 to {MAX_LIMIT} are allowed");
        return Err(Problem::unprocessable("invalidQuery", detail));
    }
    let after = query.cursor.as_deref().map(decode_cursor).transpose()?;
    let roster = app.manager.roster();
    let mut rest = roster.iter().filter(|runtime| after.as_ref().is_none_or(|after| runtime.id > *after));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let next = if rest.next().is_some() { page.last() } else { None };
    let tenants: Vec<_> = page
        .iter()
        .map(|runtime| TenantView::of(runtime, roster.keys_of(runtime.id.as_str()), &app.manager))
        .collect();
    let next_cursor = next.map(|runtime| URL_SAFE_NO_PAD.encode(runtime.id.as_str()));
    Ok(HttpResponse::Ok().json(TenantPage { tenants, next_cursor }))
}

fn decode_cursor(cursor: &str) -> Result<TenantId, Problem> {
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|id| crate::config::Tenant::check_id(id).is_ok()).map(TenantId::from).ok_or_else(|| {
        Problem::unprocessable("invalidQuery", "cursor: use the next_cursor of the page before, as it is")
    })
}

/// `GET /v1/tenants/{id}`.
#[utoipa::path(
    get, path = "/v1/tenants/{id}", operation_id = "getTenant", tag = "tenants", summary = "One tenant",
    responses((status = 200, description = "The tenant as it is now.", body = TenantView)),
    extensions(("x-problem-codes" = json!(["notFound"])))
)]
pub(super) async fn get(
    app: web::Data<App>,
    _scope: Scope,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(shown(&app, &id)?))
}

/// `POST /v1/tenants`: makes a tenant, and its first key, which is shown in this answer and never again.
#[utoipa::path(
    post, path = "/v1/tenants", operation_id = "createTenant", tag = "tenants", summary = "Create a tenant",
    description = "The answer has its first key, which is shown there and never again.",
    request_body = body::New,
    responses((status = 201, description = "The tenant, with its `key`.", body = TenantView)),
    extensions(
        ("x-problem-codes" = json!(["tenantExists", "tooManyTenants", "noEncryptionKey", "unavailable"])),
        ("x-stored" = json!(true)), ("x-idempotent" = json!(true)),
    )
)]
pub(super) async fn create(
    app: web::Data<App>,
    _scope: Scope,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let text = bodies::json_text(payload).await?;
    let Wanted { id, patch, key } = Wanted::read(&text)?;
    let name = idempotency::key(&request)?;
    to_its_end(async move {
        let tenant = TenantId::from(id.as_str());
        let turn = idempotency::begin(&app, &tenant, "POST /v1/tenants", name.as_deref(), &text).await?;
        let ticket = match turn {
            Turn::CarryOut(ticket) => ticket,
            Turn::Answer(answer) => return Ok(answer),
        };
        let promise = ticket.clone().map(|ticket| {
            let app = app.clone();
            TenantPromise { ticket, answer: Box::new(move |made| created(&app, made)) }
        });
        match app.tenants.create(&id, &patch, key, promise).await {
            Ok((made, answer)) => {
                Ok(idempotency::response(&answer.unwrap_or_else(|| created(&app, &made)), false))
            }
            Err(refused) => Err(give_up(&app, ticket.as_ref(), refused).await),
        }
    })
    .await
}

async fn give_up(app: &App, ticket: Option<&Ticket>, refused: TenantRefused) -> Problem {
    if let Some(ticket) = ticket {
        idempotency::abandon(app, ticket).await;
    }
    refused.into()
}

fn answer(location: &str, body: &impl serde::Serialize) -> StoredAnswer {
    StoredAnswer {
        status: StatusCode::CREATED.as_u16(),
        headers: vec![
            (header::CONTENT_TYPE.to_string(), "application/json".to_owned()),
            (header::LOCATION.to_string(), location.to_owned()),
            // It has a key in it.
            (header::CACHE_CONTROL.to_string(), "no-store".to_owned()),
        ],
        body: serde_json::to_string(body).unwrap_or_default(),
    }
}

fn created(app: &App, made: &TenantMade) -> StoredAnswer {
    let TenantMade { runtime, key } = made;
    let view = TenantView::of(runtime, &[key.name.info()], &app.manager);
    answer(&format!("/v1/tenants/{}", runtime.id), &view.with_key(key.key.expose_secret()))
}

/// `PATCH /v1/tenants/{id}`: what the body names is another from now on; null is the default.
#[utoipa::path(
    patch, path = "/v1/tenants/{id}", operation_id = "changeTenant", tag = "tenants", summary = "Change a tenant",
    description = "What is named changes, and what is null takes its default. A new upstream key ends a suspension.",
    request_body = body::Settings,
    responses((status = 200, description = "The tenant as it is then.", body = TenantView)),
    extensions(
        ("x-problem-codes" = json!(["notFound", "managedByFile", "noEncryptionKey", "internal", "unavailable"])),
        ("x-stored" = json!(true)),
    )
)]
pub(super) async fn change(
    app: web::Data<App>,
    _scope: Scope,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let text = bodies::json_text(payload).await?;
    let patch: TenantPatch = body::patch(bodies::json_object(&text)?)?;
    to_its_end(async move {
        app.tenants.change(&id, &patch).await?;
        Ok(HttpResponse::Ok().json(shown(&app, &id)?))
    })
    .await
}

/// `DELETE /v1/tenants/{id}`: ends its keys, its sessions and their connections.
#[utoipa::path(
    delete, path = "/v1/tenants/{id}", operation_id = "deleteTenant", tag = "tenants", summary = "Delete a tenant",
    description = "Ends its keys, its sessions and their connections.",
    responses((status = 204, description = "It is gone.")),
    extensions(
        ("x-problem-codes" = json!(["notFound", "managedByFile", "internal", "unavailable"])),
        ("x-stored" = json!(true)),
    )
)]
pub(super) async fn delete(
    app: web::Data<App>,
    _scope: Scope,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    to_its_end(async move {
        app.tenants.delete(&id).await?;
        app.ingress.tokens().forget_tenant(&TenantId::from(id.as_str()));
        Ok(HttpResponse::NoContent().finish())
    })
    .await
}

/// `GET /v1/tenants/{id}/keys`: their names, never the keys.
#[utoipa::path(
    get, path = "/v1/tenants/{id}/keys", operation_id = "listTenantKeys", tag = "tenants",
    summary = "The keys of a tenant",
    responses((status = 200, description = "Their names, never the keys.", body = TenantKeys)),
    extensions(("x-problem-codes" = json!(["notFound"])))
)]
pub(super) async fn keys(
    app: web::Data<App>,
    _scope: Scope,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let roster = app.manager.roster();
    if roster.get(&id).is_none() {
        return Err(Problem::not_found("tenant"));
    }
    let keys: Vec<_> = roster.keys_of(&id).iter().map(KeyView::of).collect();
    Ok(HttpResponse::Ok().json(TenantKeys { keys }))
}

/// `POST /v1/tenants/{id}/keys`: one more key, which is shown in this answer and never again.
#[utoipa::path(
    post, path = "/v1/tenants/{id}/keys", operation_id = "createTenantKey", tag = "tenants",
    summary = "Create a key of a tenant",
    description = "Several are good at a time, so that a key is replaced without an interruption. It is shown in this \
                   answer and never again.",
    request_body = body::Key,
    responses((status = 201, description = "The key.", body = KeyView)),
    extensions(
        ("x-problem-codes" = json!(["notFound", "managedByFile", "keyExists", "tooManyKeys", "unavailable"])),
        ("x-stored" = json!(true)), ("x-idempotent" = json!(true)),
    )
)]
pub(super) async fn add_key(
    app: web::Data<App>,
    _scope: Scope,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let text = bodies::json_text(payload).await?;
    let name: KeyName = body::key(bodies::json_object(&text)?)?;
    let request = idempotency::key(&request)?;
    to_its_end(async move {
        let id = id.into_inner();
        let tenant = TenantId::from(id.as_str());
        let route = "POST /v1/tenants/{id}/keys";
        let ticket = match idempotency::begin(&app, &tenant, route, request.as_deref(), &text).await? {
            Turn::CarryOut(ticket) => ticket,
            Turn::Answer(answer) => return Ok(answer),
        };
        let promise = ticket.clone().map(|ticket| {
            let id = id.clone();
            TenantPromise { ticket, answer: Box::new(move |made| key_made(&id, made)) }
        });
        match app.tenants.add_key(&id, name, promise).await {
            Ok((made, answer)) => {
                Ok(idempotency::response(&answer.unwrap_or_else(|| key_made(&id, &made)), false))
            }
            Err(refused) => Err(give_up(&app, ticket.as_ref(), refused).await),
        }
    })
    .await
}

fn key_made(tenant: &str, made: &KeyMade) -> StoredAnswer {
    let view = KeyView::of(&made.name.info()).with_key(made.key.expose_secret());
    answer(&format!("/v1/tenants/{tenant}/keys/{}", made.name.name), &view)
}

/// `POST /v1/config/reload`: reads the configuration file again, and makes all of what it says of tenants hold, or
/// nothing.
#[utoipa::path(
    post, path = "/v1/config/reload", operation_id = "reloadConfig", tag = "operators",
    summary = "Read the configuration file again",
    description = "All of what it says of tenants holds from then on, or nothing of it.",
    responses((status = 200, description = "What has changed, and what needs a restart.", body = Reloaded)),
    extensions(("x-problem-codes" = json!(["noConfigFile", "configRefused", "internal", "unavailable"])),
               ("x-stored" = json!(true)))
)]
pub(super) async fn reload(app: web::Data<App>, _scope: Scope) -> Result<HttpResponse, Problem> {
    to_its_end(async move {
        let refused = match app.reloader.reload().await {
            Ok(reloaded) => return Ok(HttpResponse::Ok().json(reloaded)),
            Err(refused) => refused,
        };
        let (reasons, detail) = (refused.reasons(), refused.to_string());
        Err(match refused {
            ReloadRefused::NoFile => Problem::new(StatusCode::CONFLICT, "noConfigFile", detail),
            ReloadRefused::Config(_) => {
                let detail =
                    "the configuration file is refused, and nothing has changed; mend what errors names";
                Problem::unprocessable("configRefused", detail).with_errors(reasons)
            }
            ReloadRefused::Store(error) => error.into(),
            ReloadRefused::Unreachable(_) => Problem::unavailable(detail),
        })
    })
    .await
}

/// `DELETE /v1/tenants/{id}/keys/{name}`: whoever presents it from now on is nobody.
#[utoipa::path(
    delete, path = "/v1/tenants/{id}/keys/{name}", operation_id = "deleteTenantKey", tag = "tenants",
    summary = "Delete a key of a tenant",
    responses((status = 204, description = "Whoever presents it from now on is nobody.")),
    extensions(
        ("x-problem-codes" = json!(["notFound", "managedByFile", "internal", "unavailable"])),
        ("x-stored" = json!(true)),
    )
)]
pub(super) async fn remove_key(
    app: web::Data<App>,
    _scope: Scope,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, name) = path.into_inner();
    to_its_end(async move {
        app.tenants.remove_key(&id, &name).await?;
        Ok(HttpResponse::NoContent().finish())
    })
    .await
}
