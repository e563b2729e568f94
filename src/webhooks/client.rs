//! One attempt: resolves, checks the addresses, connects to one of those that were checked, posts.

use std::{
    error::Error as _,
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_http::{Uri, header};
use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use arc_swap::ArcSwap;
use awc::error::SendRequestError;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::address::is_public;
use crate::{
    config::WebhookDelivery,
    telemetry::DeliveryOutcome,
    upstream::{install_crypto, retry_after, tls_config},
};

/// How long an idle connection is kept: the messages of one incident come within seconds, and servers close theirs
/// after 5 s at the shortest.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// The most that is read of an answer's body, which nobody looks at: behind it the connection can be used again.
const MAX_BODY_BYTES: usize = 8 * 1024;
/// How long is waited for that body; the answer's status is known before.
const BODY_PATIENCE: Duration = Duration::from_secs(1);
/// The longest that an attempt may take by the configuration, so that the connector is never the first to give up.
const LONGEST: Duration = Duration::from_secs(61);

/// What is posted.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) url: Url,
    pub(super) id: String,
    /// Seconds since 1970, of this attempt.
    pub(super) timestamp: i64,
    pub(super) signature: String,
    pub(super) body: Bytes,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) outcome: DeliveryOutcome,
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<Duration>,
    /// In words, without the address.
    pub(super) detail: String,
}

impl Ended {
    fn without_answer(outcome: DeliveryOutcome, detail: impl Into<String>) -> Self {
        Self { outcome, status: None, retry_after: None, detail: detail.into() }
    }

    /// An answer with this status.
    pub(super) fn answered(status: u16, retry_after: Option<Duration>) -> Self {
        let outcome = match status {
            200..=299 => DeliveryOutcome::Delivered,
            410 => DeliveryOutcome::Gone,
            _ => DeliveryOutcome::Refused,
        };
        let detail = if (300..=399).contains(&status) {
            format!(
                "answered with HTTP {status}; redirects are not followed: configure the address it leads to"
            )
        } else {
            format!("answered with HTTP {status}")
        };
        Self { outcome, status: Some(status), retry_after, detail }
    }
}

/// Makes attempts. Another one than the real one in tests of the worker.
pub(super) trait Post {
    /// Makes one attempt, within the deadline of the configuration.
    fn post(&self, request: Request) -> LocalBoxFuture<'static, Ended>;
}

/// The HTTP client of the thread that delivers.
pub(super) struct HttpPost {
    client: awc::Client,
    delivery: Arc<ArcSwap<WebhookDelivery>>,
}

impl HttpPost {
    pub(super) fn new(delivery: Arc<ArcSwap<WebhookDelivery>>) -> Self {
        Self::with(delivery, tls_config())
    }

    fn with(delivery: Arc<ArcSwap<WebhookDelivery>>, tls: Arc<rustls::ClientConfig>) -> Self {
        install_crypto();
        let connector = awc::Connector::new()
            .connector(Dialer { delivery: Arc::clone(&delivery) })
            .rustls_0_23(tls)
            // Each endpoint has a handful of attempts under way at most.
            .limit(0)
            .timeout(LONGEST)
            .handshake_timeout(LONGEST)
            .conn_keep_alive(IDLE_CONNECTION);
        let client = awc::Client::builder()
            .connector(connector)
            .disable_timeout()
            // A redirect would lead past the check of what the configuration says.
            .disable_redirects()
            .add_default_header((header::USER_AGENT, concat!("greenroom/", env!("CARGO_PKG_VERSION"))))
            .finish();
        Self { client, delivery }
    }
}

impl Post for HttpPost {
    fn post(&self, request: Request) -> LocalBoxFuture<'static, Ended> {
        let deadline = Instant::now() + self.delivery.load().timeout;
        let sent = self
            .client
            .post(request.url.as_str())
            .insert_header((standardwebhooks::HEADER_WEBHOOK_ID, request.id))
            .insert_header((standardwebhooks::HEADER_WEBHOOK_TIMESTAMP, request.timestamp))
            .insert_header((standardwebhooks::HEADER_WEBHOOK_SIGNATURE, request.signature))
            .content_type("application/json")
            .send_body(request.body);
        Box::pin(async move {
            let mut response = match timeout_at(deadline, sent).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return failed(&error),
                Err(_) => return Ended::without_answer(DeliveryOutcome::Timeout, "did not answer in time"),
            };
            let ended = Ended::answered(
                response.status().as_u16(),
                retry_after(response.headers(), SystemTime::now()),
            );
            // A body that is longer or slower is left: the connection is closed then.
            let _ = timeout(BODY_PATIENCE, response.body().limit(MAX_BODY_BYTES)).await;
            ended
        })
    }
}

fn failed(error: &SendRequestError) -> Ended {
    if let SendRequestError::Connect(awc::error::ConnectError::Io(error)) = error
        && let Some(refused) = error.get_ref().and_then(|inner| inner.downcast_ref::<NotPublic>())
    {
        return Ended::without_answer(DeliveryOutcome::Forbidden, refused.to_string());
    }
    // Some say the same again as their cause.
    let mut detail = error.to_string();
    if let Some(cause) = error.source().map(ToString::to_string)
        && !detail.contains(&cause)
    {
        detail = format!("{detail}: {cause}");
    }
    let outcome = if matches!(
        error,
        SendRequestError::Timeout | SendRequestError::Connect(awc::error::ConnectError::Timeout)
    ) {
        DeliveryOutcome::Timeout
    } else {
        DeliveryOutcome::Unreachable
    };
    Ended::without_answer(outcome, detail)
}

/// A name that leads to no address that may be asked.
#[derive(Debug)]
struct NotPublic;

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "its name leads to private addresses only, which are not asked unless webhook_delivery.allow_private is set",
        )
    }
}

impl std::error::Error for NotPublic {}

/// Resolves a name, checks what it leads to, and connects to what was checked: a name that leads elsewhere a moment
/// later changes nothing.
#[derive(Clone)]
struct Dialer {
    delivery: Arc<ArcSwap<WebhookDelivery>>,
}

impl Service<ConnectInfo<Uri>> for Dialer {
    type Response = Connection<Uri, TcpStream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, request: ConnectInfo<Uri>) -> Self::Future {
        let allow_private = self.delivery.load().allow_private;
        Box::pin(async move {
            let uri = request.request().clone();
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
            let found = tokio::net::lookup_host((host, port)).await.map_err(ConnectError::Io)?;
            let allowed = checked(found, allow_private)?;
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in allowed {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(Connection::new(uri, stream)),
                    Err(error) => last = error,
                }
            }
            Err(ConnectError::Io(last))
        })
    }
}

/// The addresses that may be asked.
fn checked(
    found: impl Iterator<Item = SocketAddr>,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let found: Vec<SocketAddr> = found.collect();
    let allowed: Vec<SocketAddr> =
        found.iter().copied().filter(|address| allow_private || is_public(address.ip())).collect();
    if allowed.is_empty() && !found.is_empty() {
        return Err(ConnectError::Io(io::Error::new(io::ErrorKind::PermissionDenied, NotPublic)));
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests;
