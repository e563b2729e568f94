//! The HTTP client beneath: TLS, sockets from the configured sources, and refused upgrades that keep their bodies.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use actix_codec::Framed;
use actix_http::{
    ResponseHead, StatusCode, Uri,
    h1::{ClientCodec, MessageType},
    header,
};
use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection, Resolver, ResolverService};
use awc::{BoxedSocket, ConnectRequest, ConnectResponse, error::SendRequestError, middleware::Transform};
use bytes::{Bytes, BytesMut};
use futures_util::{
    StreamExt as _,
    future::{self, LocalBoxFuture},
    stream,
};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use super::{
    UpstreamConfig,
    answer::{self, Body, REFUSAL_BODY_PATIENCE},
    sources::{self, Sources},
};

/// The most that is read of the body of a refused upgrade: known bodies have less than 200 bytes.
const MAX_REFUSAL_BYTES: usize = 8 * 1024;

/// How long an idle connection to the console is kept. The shortest keep-alive in common use on servers is
/// 5 s (Node, actix-web): reuse must end before, or a call is lost to a connection that closes meanwhile.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// Names the crypto provider of this process, once; later calls change nothing. Must come before the first TLS
/// configuration is made, since awc's TLS features bring no provider and panic without one.
pub fn install_crypto() {
    // An error says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The TLS settings that every client shares: public roots, HTTP/1.1 only (an HTTP/2 connection cannot be
/// upgraded). Made once, since the roots cost memory and the session cache is worth sharing.
pub fn tls_config() -> Arc<rustls::ClientConfig> {
    static SHARED: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    Arc::clone(SHARED.get_or_init(|| tls_config_trusting(&[])))
}

/// As [`tls_config`], trusting these authorities beside the public ones. To be shared by all clients of a process.
pub fn tls_config_trusting(authorities: &[CertificateDer<'static>]) -> Arc<rustls::ClientConfig> {
    install_crypto();
    let mut roots = actix_tls::connect::rustls_0_23::webpki_roots_cert_store();
    // Whoever read them has seen that they are authorities'.
    roots.add_parsable_certificates(authorities.iter().cloned());
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The HTTP client of one thread.
pub(super) fn http_client(config: &UpstreamConfig) -> awc::Client {
    install_crypto();
    // The steps have deadlines of their own, around all that they do; these only must not be shorter.
    let longest = config.deadlines.token.max(config.deadlines.connect);
    let connector = awc::Connector::new()
        .connector(Dialer::new(Arc::clone(&config.sources)))
        .rustls_0_23(Arc::clone(&config.tls))
        // A permit is held for a socket's whole life; the storm gate bounds how many there are.
        .limit(0)
        .timeout(longest)
        .handshake_timeout(longest)
        .conn_keep_alive(IDLE_CONNECTION);
    awc::Client::builder()
        .connector(connector)
        .disable_timeout()
        // A redirect would carry the API key to wherever it points.
        .disable_redirects()
        .add_default_header((header::USER_AGENT, concat!("greenroom/", env!("CARGO_PKG_VERSION"))))
        .wrap(KeepRefusals { deadline: config.deadlines.connect })
        .finish()
}

/// Resolves and connects, from one of the sources.
#[derive(Clone)]
struct Dialer {
    resolver: ResolverService,
    sources: Arc<Sources>,
}

impl Dialer {
    fn new(sources: Arc<Sources>) -> Self {
        Self { resolver: Resolver::default().service(), sources }
    }
}

impl Service<ConnectInfo<Uri>> for Dialer {
    type Response = Connection<Uri, TcpStream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, request: ConnectInfo<Uri>) -> Self::Future {
        let resolving = self.resolver.call(request);
        let sources = Arc::clone(&self.sources);
        Box::pin(async move {
            let mut resolved = match resolving.await {
                Ok(resolved) => resolved,
                Err(error) => return Err(sources::unless_short(error)),
            };
            let targets: Vec<_> = resolved.take_addrs().collect();
            let stream = sources.connect(&targets).await.map_err(ConnectError::Io)?;
            // Nagle's delay would hold back each 20 ms chunk until the one before is acknowledged.
            stream.set_nodelay(true).map_err(ConnectError::Io)?;
            Ok(Connection::new(resolved.request().clone(), stream))
        })
    }
}

/// The answer to an upgrade that was refused.
pub(super) struct RefusedUpgrade {
    /// HTTP status.
    pub(super) status: u16,
    /// `Retry-After`.
    pub(super) retry_after: Option<Duration>,
    /// The body as far as it was read.
    pub(super) body: Body,
}

impl fmt::Debug for RefusedUpgrade {
    // The body is left out: it may quote a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedUpgrade").field("status", &self.status).finish_non_exhaustive()
    }
}

impl fmt::Display for RefusedUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upgrade was answered with HTTP {}", self.status)
    }
}

impl std::error::Error for RefusedUpgrade {}

/// Reads the body of a refused upgrade, which awc's own WebSocket request drops, and hands the refusal on as
/// the cause of a [`SendRequestError::Custom`].
struct KeepRefusals {
    deadline: Duration,
}

impl<S> Transform<S, ConnectRequest> for KeepRefusals
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Transform = RefusalKeeper<S>;

    fn new_transform(self, service: S) -> Self::Transform {
        RefusalKeeper { service, deadline: self.deadline }
    }
}

struct RefusalKeeper<S> {
    service: S,
    deadline: Duration,
}

impl<S> Service<ConnectRequest> for RefusalKeeper<S>
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Response = ConnectResponse;
    type Error = SendRequestError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::forward_ready!(service);

    fn call(&self, request: ConnectRequest) -> Self::Future {
        // A little before the step's own deadline, which would throw the status away with the body.
        let latest = Instant::now() + self.deadline.mul_f64(0.9);
        let answering = self.service.call(request);
        Box::pin(async move {
            match answering.await? {
                ConnectResponse::Tunnel(head, framed) if head.status != StatusCode::SWITCHING_PROTOCOLS => {
                    let refusal = read_refusal(&head, framed, latest).await;
                    Err(SendRequestError::Custom(Box::new(refusal), Box::new("upgrade refused")))
                }
                answer @ (ConnectResponse::Tunnel(..) | ConnectResponse::Client(_)) => Ok(answer),
            }
        })
    }
}

async fn read_refusal(
    head: &ResponseHead,
    framed: Framed<BoxedSocket, ClientCodec>,
    latest: Instant,
) -> RefusedUpgrade {
    let deadline = latest.min(Instant::now() + REFUSAL_BODY_PATIENCE);
    let body = match framed.codec_ref().message_type() {
        MessageType::Payload | MessageType::Stream => {
            let chunks = framed.into_map_codec(ClientCodec::into_payload_codec);
            // The codec's `None` is the end of the body.
            let chunks = chunks.scan((), |(), chunk| future::ready(chunk.transpose()));
            answer::read_body(chunks, MAX_REFUSAL_BYTES, deadline).await
        }
        // The codec sees no body where the answer names an `Upgrade`, or has neither length nor encoding.
        MessageType::None => answer::read_body(unframed(head, framed), MAX_REFUSAL_BYTES, deadline).await,
    };
    RefusedUpgrade {
        status: head.status.as_u16(),
        retry_after: answer::retry_after(&head.headers, SystemTime::now()),
        body,
    }
}

/// What follows the head as it comes: `Content-Length` bytes, or up to the end of the connection.
fn unframed(
    head: &ResponseHead,
    framed: Framed<BoxedSocket, ClientCodec>,
) -> impl stream::Stream<Item = Result<Bytes, std::io::Error>> + use<> {
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let left = match head.status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => 0,
        _ => length.and_then(|value| value.trim().parse().ok()).unwrap_or(usize::MAX),
    };
    let parts = framed.into_parts();
    stream::unfold((parts.io, parts.read_buf, left), |(mut io, mut buffer, left)| async move {
        if left == 0 {
            return None;
        }
        if buffer.is_empty() {
            buffer.reserve(MAX_REFUSAL_BYTES);
            match std::future::poll_fn(|cx| {
                actix_codec::poll_read_buf(std::pin::Pin::new(&mut io), cx, &mut buffer)
            })
            .await
            {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some((Err(error), (io, BytesMut::new(), 0))),
            }
        }
        let chunk = buffer.split_to(buffer.len().min(left)).freeze();
        let left = left - chunk.len();
        Some((Ok(chunk), (io, buffer, left)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_connection_has_no_nagle_delay() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let dialer = Dialer::new(Arc::default());
        let connection = dialer.call(ConnectInfo::new(uri)).await.unwrap();
        assert!(connection.io_ref().nodelay().unwrap());
    }

    #[test]
    fn installing_the_provider_twice_changes_nothing() {
        install_crypto();
        install_crypto();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }

    #[test]
    fn tls_settings_are_shared_and_speak_http_1_1_only() {
        let config = tls_config();
        assert!(Arc::ptr_eq(&config, &tls_config()));
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
    }
}
