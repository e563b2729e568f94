//! One attempt: token, upgrade, handshake.

use std::{sync::Arc, time::SystemTime};

use actix_http::ws;
use awc::{
    BoxedSocket,
    error::{SendRequestError, WsClientError},
    http::header::HeaderValue,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};

use super::{
    Auth, Secrets, Target, Timings, UpstreamConfig,
    answer::retry_after,
    connector::{self, RefusedUpgrade},
    endpoint,
    failure::Failures,
    socket::Socket,
    token,
};
use crate::{
    errors::{Phase, SessionError},
    wire::{self, Data},
};

/// Names the cryptography that TLS uses, once for the process; further calls change nothing.
pub fn install_crypto() {
    // An error says that somebody named it before.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The client of the service. One for each thread; clones share its connections.
#[derive(Clone)]
pub struct Client {
    http: awc::Client,
    config: Arc<UpstreamConfig>,
}

/// A session that the service has confirmed.
pub struct Opened {
    /// The service's name for the connection; never empty.
    pub connection_id: String,
    /// What the service declared that it can do.
    pub capabilities: Vec<String>,
    /// The connection.
    pub socket: Socket,
}

impl Client {
    /// A client for this thread. [`install_crypto`] must have been called.
    pub fn new(config: &Arc<UpstreamConfig>) -> Self {
        let longest = config.deadlines.token.max(config.deadlines.connect);
        Self { http: connector::client(longest), config: Arc::clone(config) }
    }

    /// Makes one attempt, with a fresh token. Dropping the future drops the socket. `timings` has the steps
    /// that were ended, also where the last of them failed.
    ///
    /// # Errors
    ///
    /// The one error that ended the attempt.
    pub async fn open(&self, target: &Target, timings: &mut Timings) -> Result<Opened, SessionError> {
        let mut failures =
            Failures { egress: target.egress, secrets: Secrets::of(target, None), connection_id: None };
        let began = Instant::now();
        let token = self.token(target, &failures).await;
        timings.token = Some(began.elapsed());
        let token = token?;

        failures.secrets = Secrets::of(target, Some(&token));
        let began = Instant::now();
        let framed = self.connect(target, &token, &failures).await;
        timings.connect = Some(began.elapsed());
        let socket = Socket::new(framed?, &self.config, failures);

        let began = Instant::now();
        let opened = self.handshake(socket, target).await;
        timings.handshake = Some(began.elapsed());
        opened
    }

    async fn token(&self, target: &Target, failures: &Failures) -> Result<SecretString, SessionError> {
        let url = endpoint::token_url(&self.config.console_url);
        let deadline = self.config.deadlines.token;
        let call = token::request(&self.http, &url, &target.api_key, self.config.token_ttl, failures);
        timeout(deadline, call).await.unwrap_or_else(|_| {
            let what = format!("no answer to the token call within {} ms", deadline.as_millis());
            Err(failures.no_answer(Phase::SessionToken, &what))
        })
    }

    async fn connect(
        &self,
        target: &Target,
        token: &SecretString,
        failures: &Failures,
    ) -> Result<actix_codec::Framed<BoxedSocket, ws::Codec>, SessionError> {
        let phase = Phase::WebsocketConnect;
        let token = token.expose_secret();
        let query_auth = (self.config.auth == Auth::Query).then_some((target.app_id.as_str(), token));
        let url = endpoint::websocket_url(&self.config.ingress_url, &target.avatar_id, query_auth);
        let mut request = self.http.ws(url).max_frame_size(self.config.max_message_bytes);
        if self.config.auth == Auth::Header {
            let mut key = HeaderValue::from_str(token)
                .map_err(|_| failures.violation(phase, "the session token cannot stand in a header"))?;
            key.set_sensitive(true);
            request = request.header("X-App-ID", target.app_id.as_str()).header("X-Session-Key", key);
        }
        let deadline = self.config.deadlines.connect;
        match timeout(deadline, request.connect()).await {
            Ok(Ok((_response, framed))) => Ok(framed),
            Ok(Err(error)) => Err(upgrade_error(&error, failures)),
            Err(_) => {
                let what = format!("no answer to the upgrade within {} ms", deadline.as_millis());
                Err(failures.no_answer(phase, &what))
            }
        }
    }

    async fn handshake(&self, mut socket: Socket, target: &Target) -> Result<Opened, SessionError> {
        socket.send(wire::encode(Data::ClientConfigureSession(target.configure.clone())))?;
        let deadline = self.config.deadlines.handshake;
        let failures = socket.failures().clone();
        let confirm = match timeout(deadline, socket.first_message()).await {
            Ok(confirm) => confirm?,
            Err(_) => {
                let what = format!("the session was not confirmed within {} ms", deadline.as_millis());
                return Err(failures.no_answer(Phase::WebsocketHandshake, &what));
            }
        };
        if confirm.connection_id.is_empty() {
            let what = "the session was confirmed with an empty connection_id";
            return Err(failures.violation(Phase::WebsocketHandshake, what));
        }
        socket.confirmed(&confirm.connection_id);
        Ok(Opened { connection_id: confirm.connection_id, capabilities: confirm.capabilities, socket })
    }
}

fn upgrade_error(error: &WsClientError, failures: &Failures) -> SessionError {
    let phase = Phase::WebsocketConnect;
    if let WsClientError::SendRequest(SendRequestError::Custom(custom, _)) = error
        && let Some(refused) = custom.downcast_ref::<RefusedUpgrade>()
    {
        let wait = retry_after(refused.retry_after.as_deref(), SystemTime::now());
        return failures.refusal(phase, refused.status.as_u16(), &refused.body, wait);
    }
    failures.no_answer(phase, &format!("the WebSocket could not be opened: {error}"))
}
