//! Who calls, and what the caller may see.

use std::{future::Ready, sync::Arc};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::Method, http::StatusCode, http::header, web};

use super::{App, Problem, Surface, cross_site};
use crate::{
    events::TenantQuota, manager::TenantRuntime, recovery::TenantId, session::SessionEntry, tenants::TooFast,
};

/// What a caller may see and change.
#[derive(Clone)]
pub(super) enum Scope {
    /// A tenant: its own sessions.
    Tenant(Arc<TenantRuntime>),
    /// An operator: all.
    Operator,
}

impl Scope {
    /// Whether the caller may know of `entry`.
    pub(super) fn covers(&self, entry: &SessionEntry) -> bool {
        match self {
            Self::Tenant(runtime) => runtime.id == entry.tenant,
            Self::Operator => true,
        }
    }

    /// The tenant that the caller is bound to.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Tenant(runtime) => Some(&runtime.id),
            Self::Operator => None,
        }
    }
}

/// The key of an `Authorization: Bearer KEY` header.
pub(super) fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

/// Counts a request towards the tenant's rate.
///
/// # Errors
///
/// It is one too many, which is told.
pub(super) fn count_request(app: &App, runtime: &TenantRuntime) -> Result<(), TooFast> {
    runtime.quotas.request().inspect_err(|_| {
        let (manager, quota) = (&app.manager, TenantQuota::RequestsPerSecond);
        manager.journal().chronicle().tell_quota(manager.clock().now(), runtime, quota);
    })
}

/// Who presents which key; also asked around the handlers, for the audit log.
pub(super) fn identify(request: &HttpRequest) -> Result<Scope, Problem> {
    let app = request.app_data::<web::Data<App>>().ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the listener has no state")
    })?;
    match app.surface {
        Surface::Data => {
            let key = bearer(request)
                .ok_or_else(|| unauthorized("send a tenant's key as `Authorization: Bearer KEY`"))?;
            let runtime =
                app.manager.authenticate(key).ok_or_else(|| unauthorized("the key belongs to no tenant"))?;
            count_request(app, &runtime).map_err(Problem::too_fast)?;
            Ok(Scope::Tenant(runtime))
        }
        Surface::Admin => cross_site::check(request).and_then(|()| operator(app, request)),
    }
}

fn operator(app: &App, request: &HttpRequest) -> Result<Scope, Problem> {
    match &app.admin_key {
        Some(admin_key) => match bearer(request) {
            Some(key) if admin_key.matches(key) => Ok(Scope::Operator),
            Some(_) => Err(unauthorized("this is not the admin key")),
            None => Err(unauthorized("send the admin key as `Authorization: Bearer KEY`")),
        },
        None => without_key(request),
    }
}

/// Whether the caller is on this machine, and no page of a site whose name was made to lead here.
pub(super) fn is_local(request: &HttpRequest) -> bool {
    request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
        && cross_site::is_asked_by_address(request)
}

/// Without an admin key the admin API only shows, and only to this machine.
fn without_key(request: &HttpRequest) -> Result<Scope, Problem> {
    let is_reading = request.method() == Method::GET || request.method() == Method::HEAD;
    if is_local(request) && is_reading {
        Ok(Scope::Operator)
    } else {
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "adminKeyNotSet",
            "no admin key is configured, so that the admin API answers only GET from this machine; set admin.key",
        ))
    }
}

impl FromRequest for Scope {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        std::future::ready(identify(request))
    }
}
