//! awc, taught three things: no delay for small messages, no redirects with a key, and refusals with a body.

use std::{
    fmt,
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};

use actix_http::h1::{ClientCodec, MessageType};
use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError as TcpConnectError, ConnectInfo, Connection, ConnectorService};
use awc::{
    BoxedSocket, Client, ConnectRequest, ConnectResponse, Connector,
    error::SendRequestError,
    http::{StatusCode, Uri, Version, header},
    middleware::Transform,
};
use futures_util::{future::LocalBoxFuture, stream};

use super::answer::read_body;

/// Makes an awc client for this thread.
pub(super) fn client(connect: Duration) -> Client {
    // awc's own bound of 100 connections for each client is off: connections live long, and the gate bounds them.
    let connector = Connector::new()
        .connector(NoDelay(actix_tls::connect::Connector::default().service()))
        .max_http_version(Version::HTTP_11)
        .limit(0)
        .timeout(connect)
        .handshake_timeout(connect);
    Client::builder()
        .connector(connector)
        // Every step has its own deadline, set by its caller.
        .disable_timeout()
        // A redirect would carry the API key to another host.
        .disable_redirects()
        .wrap(KeepRefusal)
        .finish()
}

/// Connects with `TCP_NODELAY`: without it a piece of audio waits for the acknowledgement of the one before.
#[derive(Clone)]
struct NoDelay(ConnectorService);

impl Service<ConnectInfo<Uri>> for NoDelay {
    type Response = Connection<Uri, TcpStream>;
    type Error = TcpConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, target: ConnectInfo<Uri>) -> Self::Future {
        let connecting = self.0.call(target);
        Box::pin(async move {
            let connection = connecting.await?;
            connection.io_ref().set_nodelay(true).map_err(TcpConnectError::Io)?;
            Ok(connection)
        })
    }
}

/// An upgrade that was not answered with 101.
#[derive(Debug)]
pub(super) struct RefusedUpgrade {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<String>,
    pub(super) body: String,
}

impl fmt::Display for RefusedUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upgrade refused with {}", self.status)
    }
}

impl std::error::Error for RefusedUpgrade {}

/// Reads the body of a refused upgrade before awc drops it: the body says which of several things a status
/// means.
struct KeepRefusal;

impl<S> Transform<S, ConnectRequest> for KeepRefusal
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError> + 'static,
{
    type Transform = RefusalKeeper<S>;

    fn new_transform(self, service: S) -> Self::Transform {
        RefusalKeeper(Rc::new(service))
    }
}

struct RefusalKeeper<S>(Rc<S>);

impl<S> Service<ConnectRequest> for RefusalKeeper<S>
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError> + 'static,
{
    type Response = ConnectResponse;
    type Error = SendRequestError;
    type Future = LocalBoxFuture<'static, Result<ConnectResponse, SendRequestError>>;

    fn poll_ready(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&self, request: ConnectRequest) -> Self::Future {
        let service = Rc::clone(&self.0);
        Box::pin(async move {
            match service.call(request).await? {
                ConnectResponse::Tunnel(head, framed) if head.status != StatusCode::SWITCHING_PROTOCOLS => {
                    let retry_after = head
                        .headers
                        .get(header::RETRY_AFTER)
                        .and_then(|value| value.to_str().ok())
                        .map(str::to_owned);
                    let body = refusal_body(framed).await;
                    let refused = RefusedUpgrade { status: head.status, retry_after, body };
                    Err(SendRequestError::Custom(Box::new(refused), Box::new("upgrade refused")))
                }
                answer @ (ConnectResponse::Tunnel(..) | ConnectResponse::Client(_)) => Ok(answer),
            }
        })
    }
}

async fn refusal_body(framed: actix_codec::Framed<BoxedSocket, ClientCodec>) -> String {
    match framed.codec_ref().message_type() {
        MessageType::None => String::new(),
        MessageType::Payload | MessageType::Stream => {
            let framed = framed.into_map_codec(ClientCodec::into_payload_codec);
            let pieces = stream::unfold(framed, |mut framed| async move {
                let item = std::future::poll_fn(|cx| Pin::new(&mut framed).next_item(cx)).await;
                match item {
                    Some(Ok(Some(piece))) => Some((Ok(piece), framed)),
                    Some(Ok(None)) | None => None,
                    Some(Err(error)) => Some((Err(error), framed)),
                }
            });
            read_body(pin!(pieces)).await.0
        }
    }
}
