//! The HTTP listeners: the data plane, which tenants' backends reach, and the admin plane.
//!
//! Both serve the same session paths; what a caller sees depends on the key (see `auth`). Handlers ask the
//! [`ManagerHandle`] and nobody else.

mod admin;
mod audio;
mod audit;
mod auth;
mod body;
mod console;
mod cross_site;
mod ending;
mod events;
mod fed;
mod idempotency;
mod ingress;
mod openapi;
mod outcome;
mod page;
mod patching;
mod plane;
mod playing;
mod problem;
mod request_id;
mod requests;
mod sending;
mod sessions;
mod tenants;
mod tls;
mod upload;
mod webhooks;

use std::{
    any::Any,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::{
    App as WebApp, FromRequest, Handler, HttpResponse, HttpServer, Resource, Responder, ResponseError as _,
    Route,
    dev::{Server, ServerHandle},
    guard,
    http::{
        Method, StatusCode,
        header::{self, HeaderValue},
    },
    middleware::from_fn,
    web,
};
use audit::AuditLog;
use events::OpenStreams;
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Notify};

#[cfg(feature = "fuzzing")]
pub(crate) use audio::fuzz::{ogg as fuzz_ogg, wav as fuzz_wav};
use ingress::Ingress;
#[cfg(feature = "fuzzing")]
pub(crate) use ingress::fuzz::ingress_messages as fuzz_ingress_messages;
pub use ingress::rendering;
use plane::Plane;
pub use problem::Problem;
pub use tls::{ListenerTls, watch as watch_certificates};

use crate::{
    config,
    manager::{ManagerHandle, Reloader, TenantBook},
    session::Threads,
    store::Records,
    telemetry::Metrics,
    tenants::AdminKey,
    webhooks::Webhooks,
};

/// How long a client may take to send a request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Threads of the admin listener: handlers only pass messages on, and one thread answers tens of thousands a second.
const ADMIN_WORKERS: usize = 1;

/// What a client that takes nothing may have beyond `ingress.slow_client_ms` before its connection is cut: the
/// ingress tells a client first.
const UNTAKEN_MARGIN: Duration = Duration::from_secs(5);

/// Seconds that requests under way may take when a listener ends: sessions are gone by then.
const SHUTDOWN_S: u64 = 2;

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
    pub(crate) tenants: TenantBook,
    pub(crate) reloader: Reloader,
    pub(crate) webhooks: Webhooks,
    pub(crate) admin_key: Option<Arc<AdminKey>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lifecycle: Arc<ProcessLifecycle>,
    pub(crate) records: Records,
    /// A name of this process that no other had.
    pub(crate) process: Arc<str>,
    pub(crate) max_body_bytes: usize,
    pub(crate) ingress: Arc<Ingress>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) streams: Arc<OpenStreams>,
}

/// What a listener serves: its type is made of the layers' types, which have no names.
macro_rules! web_app {
    ($app:expr, $paths:expr $(, $inner_layer:expr)?) => {
        WebApp::new()
            .app_data(web::Data::new($app.clone()))
            .configure($paths)
            .default_service(web::to(path_not_found))
            $(.wrap(from_fn($inner_layer)))?
            .wrap(from_fn(request_id::layer))
    };
}

/// What the listeners are made from.
pub struct Setup {
    /// The manager.
    pub manager: ManagerHandle,
    /// Changes of the tenants.
    pub tenants: TenantBook,
    /// Reads the configuration file again.
    pub reloader: Reloader,
    /// Where what happens is told to.
    pub webhooks: Webhooks,
    /// The admin key; without one the admin API shows only, and only to this machine.
    pub admin_key: Option<Arc<AdminKey>>,
    /// The threads that serve the data plane: those of the sessions.
    pub threads: Threads,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the process goes on.
    pub lifecycle: Arc<ProcessLifecycle>,
    /// What survives the process.
    pub records: Records,
    /// Bytes of a request's audio at most.
    pub max_body_bytes: usize,
    /// The drop-in console and ingress.
    pub ingress: config::Ingress,
    /// The TLS of the data plane, if it has it.
    pub data_tls: Option<Arc<ListenerTls>>,
    /// The TLS of the admin plane, if it has it.
    pub admin_tls: Option<Arc<ListenerTls>>,
}

/// Both listeners, bound and serving.
pub struct Listeners {
    data: Plane,
    admin: ServerHandle,
    /// Where the data plane listens.
    pub data_address: SocketAddr,
    /// Where the admin plane listens.
    pub admin_address: SocketAddr,
}

impl Listeners {
    /// Ends both; requests under way are finished first.
    pub async fn stop(self) {
        self.data.stop().await;
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
pub fn serve(setup: Setup, data: TcpListener, admin_listener: TcpListener) -> io::Result<Listeners> {
    let (data_address, admin_address) = (data.local_addr()?, admin_listener.local_addr()?);
    let untaken = setup.ingress.slow_client + UNTAKEN_MARGIN;
    let app = App {
        surface: Surface::Data,
        manager: setup.manager,
        tenants: setup.tenants,
        reloader: setup.reloader,
        webhooks: setup.webhooks,
        admin_key: setup.admin_key,
        metrics: setup.metrics,
        lifecycle: setup.lifecycle,
        records: setup.records,
        process: format!("{:032x}", rand::random::<u128>()).into(),
        max_body_bytes: setup.max_body_bytes,
        ingress: Arc::new(Ingress::new(setup.ingress)),
        audit: Arc::default(),
        streams: Arc::default(),
    };
    let data = plane::Setup {
        listener: data,
        threads: setup.threads,
        manager: app.manager.clone(),
        untaken,
        tls: setup.data_tls,
    };
    let data = {
        let app = app.clone();
        plane::serve(data, move || {
            web_app!(app, |routes: &mut web::ServiceConfig| {
                routes.configure(session_paths).configure(ingress::paths);
            })
        })?
    };
    let app = App { surface: Surface::Admin, ..app };
    let admin = admin_server(app, admin_listener, untaken, setup.admin_tls)?;
    let handle = admin.handle();
    actix_rt::spawn(admin);
    Ok(Listeners { data, admin: handle, data_address, admin_address })
}

fn admin_server(
    app: App,
    listener: TcpListener,
    untaken: Duration,
    tls: Option<Arc<ListenerTls>>,
) -> io::Result<Server> {
    let make = move || {
        let paths = |routes: &mut web::ServiceConfig| {
            routes.configure(session_paths).configure(admin_paths).configure(page::paths);
        };
        web_app!(app, paths, audit::layer)
    };
    if let Some(tls) = tls {
        return tls::server(tls, listener, ADMIN_WORKERS, untaken, make);
    }
    let server = HttpServer::new(make)
        .workers(ADMIN_WORKERS)
        // Answers are small and must not wait for one another.
        .tcp_nodelay(true)
        .on_connect(move |socket, _| bound_untaken(socket, untaken))
        .client_request_timeout(HEAD_DEADLINE)
        // Signals are the command line's: it drains first.
        .disable_signals()
        .shutdown_timeout(SHUTDOWN_S)
        .listen(listener)?;
    Ok(server.run())
}

/// Ends a connection whose peer takes nothing of what waits for it, and one whose peer vanished without a word while
/// something was on its way: the server itself waits for either without end.
fn bound_untaken(socket: &dyn Any, bound: Duration) {
    #[cfg(target_os = "linux")]
    if let Some(socket) = socket.downcast_ref::<TcpStream>()
        && let Err(error) = SockRef::from(socket).set_tcp_user_timeout(Some(bound))
    {
        tracing::debug!(%error, "the time for untaken data could not be set on a socket");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, bound);
}

#[cfg(test)]
thread_local! {
    /// Methods and paths of the routes that this thread has made, for the test that finds each in the document.
    static NOTED: std::cell::RefCell<Vec<(String, String)>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(test)]
fn routes_noted() -> Vec<(String, String)> {
    NOTED.with_borrow(Clone::clone)
}

/// A path with a handler for each of its methods; the others are told which these are.
fn resource<const N: usize>(path: &str, methods: [(Method, Route); N]) -> Resource {
    let mut allowed = Vec::new();
    let mut resource = web::resource(path);
    for (method, route) in methods {
        allowed.push(method.to_string());
        let mut accepted = guard::Any(guard::Method(method.clone()));
        // RFC 9110, 9.1: what answers GET answers HEAD; the server leaves the body out.
        if method == Method::GET {
            allowed.push(Method::HEAD.to_string());
            accepted = accepted.or(guard::Head());
        }
        resource = resource.route(route.guard(accepted));
    }
    #[cfg(test)]
    NOTED.with_borrow_mut(|noted| {
        noted.extend(allowed.iter().map(|method| (method.clone(), path.to_owned())))
    });
    let allowed = allowed.join(", ");
    resource.default_service(web::to(move || std::future::ready(method_not_allowed(&allowed))))
}

fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    resource(path, [(Method::GET, web::to(handler))])
}

fn post<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    resource(path, [(Method::POST, web::to(handler))])
}

fn method_not_allowed(allowed: &str) -> HttpResponse {
    let detail = format!("this path has {allowed} only");
    let mut response =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "methodNotAllowed", detail).error_response();
    // RFC 9110, 15.5.6: a 405 must name the methods.
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

async fn path_not_found() -> HttpResponse {
    Problem::not_found("path").error_response()
}

/// The paths that both planes have.
fn session_paths(routes: &mut web::ServiceConfig) {
    routes
        .service(resource(
            "/v1/sessions",
            [(Method::GET, web::to(sessions::list)), (Method::POST, web::to(sessions::create))],
        ))
        .service(resource(
            "/v1/sessions/{id}",
            [
                (Method::GET, web::to(sessions::get)),
                (Method::PATCH, web::to(patching::patch)),
                (Method::DELETE, web::to(sessions::delete)),
            ],
        ))
        .service(get("/v1/sessions/{id}/history", events::history))
        .service(get("/v1/events", events::follow))
        .service(post("/v1/sessions/{id}/requests", requests::send))
        .service(get("/v1/sessions/{id}/requests/{req_id}", requests::get))
        .service(post("/v1/sessions/{id}/interrupt", playing::interrupt))
        .service(post("/v1/sessions/{id}/pause", playing::pause))
        .service(post("/v1/sessions/{id}/resume", playing::resume))
        .service(get("/openapi.json", openapi::document))
        .service(get("/docs", openapi::reference))
        .service(get("/docs.css", openapi::style));
}

/// The paths that only the admin plane has.
fn admin_paths(routes: &mut web::ServiceConfig) {
    routes
        .service(get("/metrics", admin::metrics))
        .service(get("/healthz", admin::healthz))
        .service(get("/readyz", admin::readyz))
        .service(get("/v1/codes", admin::codes))
        .service(post("/v1/sessions/{id}/restart", sessions::restart))
        .service(post("/v1/sessions/{id}/park", sessions::park))
        .service(post("/v1/sessions/{id}/unpark", sessions::unpark))
        .service(resource(
            "/v1/tenants",
            [(Method::GET, web::to(tenants::list)), (Method::POST, web::to(tenants::create))],
        ))
        .service(resource(
            "/v1/tenants/{id}",
            [
                (Method::GET, web::to(tenants::get)),
                (Method::PATCH, web::to(tenants::change)),
                (Method::DELETE, web::to(tenants::delete)),
            ],
        ))
        .service(resource(
            "/v1/tenants/{id}/keys",
            [(Method::GET, web::to(tenants::keys)), (Method::POST, web::to(tenants::add_key))],
        ))
        .service(resource("/v1/tenants/{id}/keys/{name}", [(Method::DELETE, web::to(tenants::remove_key))]))
        .service(post("/v1/tenants/{id}/park", admin::park_tenant))
        .service(post("/v1/tenants/{id}/unpark", admin::unpark_tenant))
        .service(post("/v1/tenants/{id}/restart", admin::restart_tenant))
        .service(post("/v1/config/reload", tenants::reload))
        .service(get("/v1/webhooks", webhooks::list))
        .service(post("/v1/webhooks/{id}/test", webhooks::test))
        .service(post("/v1/webhooks/{id}/enable", webhooks::enable))
        .service(get("/v1/upstreams", admin::upstreams))
        .service(post("/v1/upstreams/{name}/open", admin::open_upstream))
        .service(post("/v1/upstreams/{name}/close", admin::close_upstream))
        .service(post("/v1/drain", admin::drain))
        .service(get("/v1/audit", audit::list));
}
