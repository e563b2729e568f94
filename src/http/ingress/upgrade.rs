//! `GET /v2/driveningress/websocket`: who may connect, and where to.
//!
//! A client's upgrade is answered when the service has answered its session's, so that a refusal reaches the SDK with
//! the service's status and body; what the session retries behind it the client never sees.

use std::{collections::VecDeque, sync::Arc};

use actix_http::ws::verify_handshake;
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::{
    Ingress,
    client::{self, Parts},
    parting::Refusal,
    seated::Seated,
};
use crate::{
    errors::ErrorCode,
    http::{App, console::unix_now},
    manager::{CreateRefused, IngressRefused, Unreachable},
    session::{
        Attach, AttachMode, AttachRefused, ClientId, ClientLine, ClientSeat, Departure, SessionEntry,
        ToClient, client_line,
    },
    tenants::{
        Tenant,
        tokens::{Reservation, TokenRefused},
    },
};

/// Characters of an avatar id at most, as for sessions over HTTP.
const MAX_AVATAR_ID: usize = 256;

/// Bytes that a client may send ahead of the answer to its upgrade; the rest waits in its socket.
const MAX_EARLY_BYTES: usize = 16 << 10;

/// What an upgrade request says. No `Debug`: it holds a token.
struct Asked {
    avatar_id: String,
    app_id: String,
    session_key: String,
}

impl Asked {
    /// Headers win over the query, each on its own.
    fn read(request: &HttpRequest) -> Self {
        let query = |wanted: &str| {
            url::form_urlencoded::parse(request.query_string().as_bytes())
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
        };
        let header = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Self {
            avatar_id: query("id").unwrap_or_default(),
            app_id: header("x-app-id").or_else(|| query("appId")).unwrap_or_default(),
            session_key: header("x-session-key").or_else(|| query("sessionKey")).unwrap_or_default(),
        }
    }
}

/// What an upgrade request says beside its token, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is the document's: headers may say the same")]
pub(in crate::http) struct Upgrade {
    /// The avatar, by the service's id.
    id: String,
    /// The tenant's app id; or the header `X-App-Id`.
    #[param(rename = "appId", required = false)]
    app_id: String,
    /// The token; or the header `X-Session-Key`.
    #[param(rename = "sessionKey", required = false)]
    session_key: String,
}

/// Where a client wants to.
enum Destination {
    /// A session of its own.
    New,
    /// A session that is there, by its id.
    Attach(String, AttachMode),
}

/// `GET /v2/driveningress/websocket`.
#[utoipa::path(
    get, path = "/v2/driveningress/websocket", operation_id = "connectIngress", tag = "drop-in",
    summary = "Connect an SDK to a session of its own",
    description = "An upgrade to a WebSocket, answered when the service has answered the session's. The session ends with the connection.",
    security(("sessionKey" = [])),
    params(Upgrade),
    responses((status = 101, description = "The connection speaks the service's protocol from here on.")),
    extensions(("x-upgrade-refusals" = json!(true)))
)]
pub(super) async fn drop_in(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    answer(&app, &request, payload, Destination::New).await
}

/// `GET /s/{id}/v2/driveningress/websocket`.
#[utoipa::path(
    get, path = "/s/{id}/v2/driveningress/websocket", operation_id = "attachToSession", tag = "drop-in",
    summary = "Connect an SDK to a session that is there",
    description = "As the drop-in ingress; the session outlives the connection. A second client is refused.",
    security(("sessionKey" = [])),
    params(Upgrade),
    responses((status = 101, description = "The connection speaks the service's protocol from here on.")),
    extensions(("x-upgrade-refusals" = json!(true)))
)]
pub(super) async fn attach(
    app: web::Data<App>,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    answer(&app, &request, payload, Destination::Attach(id.into_inner(), AttachMode::Join)).await
}

/// `GET /s/{id}/takeover/v2/driveningress/websocket`.
#[utoipa::path(
    get, path = "/s/{id}/takeover/v2/driveningress/websocket", operation_id = "takeSessionOver", tag = "drop-in",
    summary = "Take a session's client's place",
    description = "As attaching; a client that is there is put out.",
    security(("sessionKey" = [])),
    params(Upgrade),
    responses((status = 101, description = "The connection speaks the service's protocol from here on.")),
    extensions(("x-upgrade-refusals" = json!(true)))
)]
pub(super) async fn take_over(
    app: web::Data<App>,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    answer(&app, &request, payload, Destination::Attach(id.into_inner(), AttachMode::Takeover)).await
}

async fn answer(
    app: &App,
    request: &HttpRequest,
    payload: web::Payload,
    destination: Destination,
) -> HttpResponse {
    match admit(app, request, payload, destination).await {
        Ok(response) => response,
        Err(refusal) => {
            // Neither the query nor a header is logged: they hold the token.
            tracing::info!(
                status = refusal.status,
                path = request.path(),
                body = refusal.body.trim_end(),
                "client refused"
            );
            refused(refusal)
        }
    }
}

fn refused(refusal: Refusal) -> HttpResponse {
    let Refusal { status, body, retry_after } = refusal;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if let Some(wait) = retry_after {
        response.insert_header((header::RETRY_AFTER, wait.as_secs().max(1)));
    }
    if body.starts_with('{') {
        response.content_type("application/json");
    } else {
        response.content_type("text/plain; charset=utf-8");
    }
    response.body(body)
}

/// A token that is held while an upgrade waits; released unless it is consumed.
struct Held<'a> {
    ingress: &'a Ingress,
    reservation: Option<Reservation>,
}

impl Held<'_> {
    fn consume(mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.ingress.tokens().consume(reservation);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.ingress.tokens().release(reservation);
        }
    }
}

async fn admit(
    app: &App,
    request: &HttpRequest,
    mut payload: web::Payload,
    destination: Destination,
) -> Result<HttpResponse, Refusal> {
    verify_handshake(request.head())
        .map_err(|error| Refusal::new(400, &format!("expected a WebSocket upgrade: {error}")))?;
    if app.lifecycle.is_draining() {
        return Err(Refusal::of_create(&CreateRefused::Draining));
    }
    let asked = Asked::read(request);
    let (held, tenant) = reserve(app, &asked)?;
    check(&asked, &tenant)?;

    let deadline = Instant::now() + app.ingress.settings.upgrade;
    let (seat, mut line) = client_line(app.ingress.settings.client_bytes);
    let mut early = VecDeque::new();
    let ready =
        timeout_at(deadline, seat_client(app, &tenant, &asked.avatar_id, destination, seat, &mut line));
    let seated = tokio::select! {
        seated = ready => seated.unwrap_or_else(|_late| Err(late(app)))?,
        // Dropping what is waited for gives the seat up.
        () = leaves(&mut payload, &mut early) => return Err(Refusal::new(408, "the client has left")),
    };
    let settings = app.ingress.settings.clone();
    let parts = Parts { seated, line, settings, avatar_id: asked.avatar_id, early };
    let response = client::accept(request, payload, parts)
        .map_err(|error| Refusal::new(400, &format!("expected a WebSocket upgrade: {error}")))?;
    held.consume();
    Ok(response)
}

fn late(app: &App) -> Refusal {
    let waited = app.ingress.settings.upgrade.as_millis();
    Refusal::new(503, &format!("the avatar service did not answer within {waited} ms"))
}

fn reserve<'a>(app: &'a App, asked: &Asked) -> Result<(Held<'a>, Arc<Tenant>), Refusal> {
    let reserved = app.ingress.tokens().reserve(&asked.session_key, unix_now());
    let reservation = reserved.map_err(|refused| {
        let status = match refused {
            TokenRefused::Invalid => 400,
            TokenRefused::Expired => 401,
        };
        Refusal::new(status, &refused.to_string())
    })?;
    let tenant = app.manager.tenant(reservation.tenant.as_str()).map(|runtime| runtime.tenant());
    let held = Held { ingress: &app.ingress, reservation: Some(reservation) };
    match tenant {
        Some(tenant) => Ok((held, tenant)),
        None => Err(Refusal::new(400, &TokenRefused::Invalid.to_string())),
    }
}

fn check(asked: &Asked, tenant: &Tenant) -> Result<(), Refusal> {
    let length = asked.avatar_id.chars().count();
    if asked.app_id.is_empty() {
        Err(Refusal::new(400, "missing app id"))
    } else if asked.app_id != tenant.app_id {
        Err(Refusal::of_code(ErrorCode::AppIdMismatch, &asked.avatar_id))
    } else if length == 0 {
        Err(Refusal::new(400, "missing avatar id"))
    } else if length > MAX_AVATAR_ID {
        let text = format!("the avatar id has {length} characters; 1 to {MAX_AVATAR_ID} are allowed");
        Err(Refusal::new(422, &text))
    } else {
        Ok(())
    }
}

/// Ends when the client's connection does. The HTTP server says so through the payload and not otherwise: the
/// handler of a client that has left would wait on.
async fn leaves(payload: &mut web::Payload, early: &mut VecDeque<Bytes>) {
    let mut bytes = 0;
    while bytes < MAX_EARLY_BYTES {
        match payload.next().await {
            Some(Ok(piece)) => {
                bytes += piece.len();
                early.push_back(piece);
            }
            Some(Err(_)) | None => return,
        }
    }
    std::future::pending().await
}

/// Seats the client, and waits until its upgrade may be answered.
async fn seat_client(
    app: &App,
    tenant: &Tenant,
    avatar_id: &str,
    destination: Destination,
    seat: ClientSeat,
    line: &mut ClientLine,
) -> Result<Seated, Refusal> {
    let client = seat.id();
    let seated = match destination {
        Destination::New => {
            let created = app.manager.create_ingress(&tenant.id, avatar_id, seat).await;
            let entry = created.map_err(|_| unreachable())?.map_err(|refused| match refused {
                IngressRefused::Create(refused) => Refusal::of_create(&refused),
                IngressRefused::Farewell(farewell) => Refusal::of(&farewell, avatar_id),
            })?;
            Seated::new(app.manager.clone(), entry, client)
        }
        Destination::Attach(id, mode) => attach_to(app, tenant, avatar_id, &id, mode, seat, client).await?,
    };
    match line.next().await {
        Some(ToClient::Ready) => Ok(seated),
        Some(ToClient::Ended(farewell)) => {
            seated.leave(Departure::Closed);
            Err(Refusal::of(&farewell, avatar_id))
        }
        // Nothing else is said first.
        Some(ToClient::Message(_) | ToClient::RequestFailed { .. } | ToClient::RequestInterrupted { .. })
        | None => Err(unreachable()),
    }
}

async fn attach_to(
    app: &App,
    tenant: &Tenant,
    avatar_id: &str,
    id: &str,
    mode: AttachMode,
    seat: ClientSeat,
    client: ClientId,
) -> Result<Seated, Refusal> {
    let found: Option<Arc<SessionEntry>> =
        app.manager.registry().get(id).filter(|entry| entry.tenant == tenant.id);
    // What is another tenant's looks as what is absent.
    let entry = found.ok_or_else(|| Refusal::new(404, "there is no such session"))?;
    let own = &entry.spec.load().avatar_id;
    if own != avatar_id {
        return Err(Refusal::new(409, &format!("the session is one of avatar {own}; connect with that id")));
    }
    let attached = app.manager.ask(&entry, || Attach { seat: seat.clone(), mode }).await;
    match attached {
        Ok(Ok(())) => Ok(Seated::new(app.manager.clone(), entry, client)),
        Ok(Err(refused @ (AttachRefused::Occupied | AttachRefused::Ended))) => {
            Err(Refusal::new(409, &refused.to_string()))
        }
        Err(Unreachable::Ended) => Err(Refusal::new(409, &AttachRefused::Ended.to_string())),
        Err(Unreachable::Late) => Err(unreachable()),
    }
}

fn unreachable() -> Refusal {
    Refusal::new(503, "this process is overloaded, try again")
}
