//! TLS on a listener: what it presents now, and the server that does the handshakes.

mod reload;

use std::{
    fmt, io,
    net::TcpListener,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_http::{HttpService, KeepAlive, Request, Response};
use actix_rt::net::TcpStream;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    body::MessageBody,
    dev::{AppConfig, Server},
};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use reload::watch;

use super::{HEAD_DEADLINE, SHUTDOWN_S, bound_untaken};
use crate::{
    config::{LoadedTls, Tls},
    telemetry::TlsMetrics,
};

/// How long a client may take for its handshake: two round trips and a slow phone's arithmetic.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long an idle connection is kept for the client's next request, as without TLS.
pub(super) const KEEP_ALIVE: KeepAlive = KeepAlive::Timeout(Duration::from_secs(5));
/// How long the end of a connection may take, as without TLS.
pub(super) const DISCONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// The TLS of one listener, replaced as a whole when its files change.
pub struct ListenerTls {
    /// The listener's section, for logs: `server` or `admin`.
    section: &'static str,
    files: Tls,
    /// The fingerprint of the files that were served first.
    first_loaded: u64,
    current: ArcSwap<ServerConfig>,
    metrics: TlsMetrics,
}

impl fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ListenerTls {
    /// The TLS of `files` for the listener of the configuration's `section`.
    ///
    /// # Errors
    ///
    /// The files cannot be used (any more: the configuration has checked them); the error names one.
    pub fn new(section: &'static str, files: Tls, metrics: TlsMetrics) -> io::Result<Self> {
        let loaded = files.read().and_then(|read| {
            let loaded = files.load(&read, SystemTime::now())?;
            Ok((read.fingerprint(), loaded))
        });
        let (first_loaded, LoadedTls { server, expires }) = loaded.map_err(|mistake| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{section}.tls.{mistake}"))
        })?;
        metrics.loaded(expires);
        Ok(Self { section, files, first_loaded, current: ArcSwap::new(server), metrics })
    }

    /// The handshake; what went wrong is logged.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, ()> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(listener = self.section, %error, "a tls handshake failed");
                Err(())
            }
            Err(_) => {
                tracing::debug!(listener = self.section, "a tls handshake took too long");
                Err(())
            }
        }
    }
}

/// Serves what `make` makes, behind TLS. actix's own way offers HTTP/2, over which there is no upgrade to a
/// WebSocket, and keeps the certificate that it began with.
pub(super) fn server<F, I, S, B>(
    tls: Arc<ListenerTls>,
    listener: TcpListener,
    workers: usize,
    untaken: Duration,
    make: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let address = listener.local_addr()?;
    let builder = Server::build().workers(workers).disable_signals().shutdown_timeout(SHUTDOWN_S);
    let ending = builder.graceful_shutdown_signal();
    let builder = builder.listen("tls", listener, move || {
        let ending = ending.clone();
        let app = make().into_factory().map_err(|error| error.into().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let ending = ending.clone();
                async move { ending.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD_DEADLINE)
            .client_disconnect_timeout(DISCONNECT_DEADLINE)
            .h1_allow_half_closed(true)
            .local_addr(address)
            .secure()
            // Of a server's own configuration only links to itself are made, and there are none.
            .h1(map_config(app, |()| AppConfig::default()));
        let tls = Arc::clone(&tls);
        fn_service(move |stream: TcpStream| {
            let tls = Arc::clone(&tls);
            async move {
                let peer = stream.peer_addr().ok();
                bound_untaken(&stream, untaken);
                // As without TLS: frames are small and must not wait for one another.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set on a socket");
                }
                tls.accept(stream).await.map(|stream| (stream, peer))
            }
        })
        .and_then(http.map_err(|error| tracing::debug!(%error, "a connection ended by an error")))
    })?;
    Ok(builder.run())
}
