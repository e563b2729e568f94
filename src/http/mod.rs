//! The HTTP listeners: the data plane, which tenants' backends reach, and the admin plane.
//!
//! Both serve the same session paths; what a caller sees depends on the key (see `auth`). Handlers ask the
//! [`ManagerHandle`] and nobody else.

mod admin;
mod audio;
mod auth;
mod body;
mod problem;
mod requests;
mod sessions;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::{
    App as WebApp, HttpResponse, HttpServer, ResponseError as _,
    dev::{Server, ServerHandle},
    http::StatusCode,
    web,
};
use tokio::sync::Notify;

pub use problem::Problem;

use crate::{
    manager::ManagerHandle,
    recovery::Policy,
    telemetry::Metrics,
    tenants::{AdminKey, Directory},
};

/// How long a client may take to send a request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Threads of each listener: handlers only pass messages on, and one thread answers tens of thousands a second.
const WORKERS: usize = 1;

/// Which listener a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    Data,
    Admin,
}

/// Whether the process goes on, as both listeners and whoever runs them see it.
#[derive(Debug, Default)]
pub struct ProcessLifecycle {
    draining: AtomicBool,
    wanted: Notify,
}

impl ProcessLifecycle {
    /// Asks for the end of the process: no new session, then exit.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.wanted.notify_one();
    }

    /// Whether the end was asked for.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Returns when the end is asked for.
    pub async fn drain_wanted(&self) {
        self.wanted.notified().await;
    }
}

/// What the handlers hold.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) surface: Surface,
    pub(crate) manager: ManagerHandle,
    pub(crate) directory: Arc<Directory>,
    pub(crate) admin_key: Option<Arc<AdminKey>>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lifecycle: Arc<ProcessLifecycle>,
    pub(crate) max_body_bytes: usize,
}

/// What the listeners are made from.
pub struct Setup {
    /// The manager.
    pub manager: ManagerHandle,
    /// The tenants and their keys.
    pub directory: Arc<Directory>,
    /// The admin key; without one the admin API shows only, and only to this machine.
    pub admin_key: Option<Arc<AdminKey>>,
    /// The policy for every tenant that has none of its own.
    pub policy: Arc<Policy>,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the process goes on.
    pub lifecycle: Arc<ProcessLifecycle>,
    /// Bytes of a request's audio at most.
    pub max_body_bytes: usize,
}

/// Both listeners, bound and serving.
pub struct Listeners {
    data: ServerHandle,
    admin: ServerHandle,
    /// Where the data plane listens.
    pub data_address: SocketAddr,
    /// Where the admin plane listens.
    pub admin_address: SocketAddr,
}

impl Listeners {
    /// Ends both; requests under way are finished first.
    pub async fn stop(self) {
        self.data.stop(true).await;
        self.admin.stop(true).await;
    }
}

/// Binds one address.
///
/// # Errors
///
/// The address cannot be bound; the error names it and what it is for.
pub fn bind(address: SocketAddr, what: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address} ({what}): {error}"))
    })
}

/// Serves both planes on listeners that are bound already.
///
/// # Errors
///
/// A listener cannot be used.
pub fn serve(setup: Setup, data: TcpListener, admin: TcpListener) -> io::Result<Listeners> {
    let (data_address, admin_address) = (data.local_addr()?, admin.local_addr()?);
    let app = App {
        surface: Surface::Data,
        manager: setup.manager,
        directory: setup.directory,
        admin_key: setup.admin_key,
        policy: setup.policy,
        metrics: setup.metrics,
        lifecycle: setup.lifecycle,
        max_body_bytes: setup.max_body_bytes,
    };
    let data = server(app.clone(), data, |routes| {
        routes.configure(session_paths);
    })?;
    let admin = server(App { surface: Surface::Admin, ..app }, admin, |routes| {
        routes.configure(session_paths).configure(admin_paths);
    })?;
    let handles = (data.handle(), admin.handle());
    actix_rt::spawn(data);
    actix_rt::spawn(admin);
    Ok(Listeners { data: handles.0, admin: handles.1, data_address, admin_address })
}

fn server(app: App, listener: TcpListener, paths: fn(&mut web::ServiceConfig)) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        WebApp::new()
            .app_data(web::Data::new(app.clone()))
            .configure(paths)
            .default_service(web::to(path_not_found))
    })
    .workers(WORKERS)
    .client_request_timeout(HEAD_DEADLINE)
    // Signals are the command line's: it drains first.
    .disable_signals()
    .shutdown_timeout(2)
    .listen(listener)?;
    Ok(server.run())
}

/// A path of which one method is served; the others are told so.
fn only(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path).route(route).default_service(web::to(method_not_allowed))
}

async fn method_not_allowed() -> HttpResponse {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "methodNotAllowed",
        "the path has other methods than this one",
    )
    .error_response()
}

async fn path_not_found() -> HttpResponse {
    Problem::not_found("path").error_response()
}

/// The paths that both planes have.
fn session_paths(routes: &mut web::ServiceConfig) {
    routes
        .service(
            web::resource("/v1/sessions")
                .route(web::post().to(sessions::create))
                .route(web::get().to(sessions::list))
                .default_service(web::to(method_not_allowed)),
        )
        .service(
            web::resource("/v1/sessions/{id}")
                .route(web::get().to(sessions::get))
                .route(web::delete().to(sessions::delete))
                .default_service(web::to(method_not_allowed)),
        )
        .service(only("/v1/sessions/{id}/requests", web::post().to(requests::send)))
        .service(only("/v1/sessions/{id}/requests/{req_id}", web::get().to(requests::get)))
        .service(only("/v1/sessions/{id}/interrupt", web::post().to(requests::interrupt)));
}

/// The paths that only the admin plane has.
fn admin_paths(routes: &mut web::ServiceConfig) {
    routes
        .service(only("/metrics", web::get().to(admin::metrics)))
        .service(only("/healthz", web::get().to(admin::healthz)))
        .service(only("/readyz", web::get().to(admin::readyz)))
        .service(only("/v1/codes", web::get().to(admin::codes)))
        .service(only("/v1/sessions/{id}/restart", web::post().to(sessions::restart)))
        .service(only("/v1/sessions/{id}/park", web::post().to(sessions::park)))
        .service(only("/v1/sessions/{id}/unpark", web::post().to(sessions::unpark)))
        .service(only("/v1/tenants/{id}/park", web::post().to(admin::park_tenant)))
        .service(only("/v1/tenants/{id}/unpark", web::post().to(admin::unpark_tenant)))
        .service(only("/v1/tenants/{id}/restart", web::post().to(admin::restart_tenant)))
        .service(only("/v1/upstreams", web::get().to(admin::upstreams)))
        .service(only("/v1/upstreams/{name}/open", web::post().to(admin::open_upstream)))
        .service(only("/v1/upstreams/{name}/close", web::post().to(admin::close_upstream)))
        .service(only("/v1/drain", web::post().to(admin::drain)));
}
