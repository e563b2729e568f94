//! The WebSocket upgrade.

use std::sync::Arc;

use actix_http::header::HeaderValue;
use awc::error::{SendRequestError, WsClientError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

use super::{
    Auth, Target, UpstreamConfig, connector::RefusedUpgrade, endpoint, report::Reporter, sources::Lack,
    transport::Transport,
};
use crate::errors::{Phase, SessionError};

const PHASE: Phase = Phase::WebsocketConnect;

/// Connects and upgrades, within the connect deadline.
pub(super) async fn connect(
    http: &awc::Client,
    config: &Arc<UpstreamConfig>,
    target: &Target,
    token: &SecretString,
    reporter: &Reporter,
) -> Result<Transport, SessionError> {
    let credentials = match config.auth {
        Auth::Header => None,
        Auth::Query => Some((target.app_id.as_str(), token.expose_secret())),
    };
    let url = endpoint::websocket_url(&config.ingress_url, &target.avatar_id, credentials);
    let mut request = http.ws(url).max_frame_size(config.max_message_bytes);
    if config.auth == Auth::Header {
        let Ok(app_id) = HeaderValue::from_str(&target.app_id) else {
            return Err(reporter.internal(PHASE, "the app id has characters that no header can carry"));
        };
        let Ok(mut session_key) = HeaderValue::from_str(token.expose_secret()) else {
            return Err(reporter.internal(PHASE, "the session token has characters that no header can carry"));
        };
        session_key.set_sensitive(true);
        request = request.header("X-App-ID", app_id).header("X-Session-Key", session_key);
    }
    match timeout(config.deadlines.connect, request.connect()).await {
        Ok(Ok((_, framed))) => Ok(Transport::new(framed, config.max_message_bytes)),
        Ok(Err(error)) => Err(failed(error, reporter)),
        Err(_) => {
            let limit = config.deadlines.connect.as_millis();
            Err(reporter.no_answer(PHASE, format!("the upgrade had no answer within {limit} ms")))
        }
    }
}

fn failed(error: WsClientError, reporter: &Reporter) -> SessionError {
    let cause = match error {
        WsClientError::SendRequest(SendRequestError::Connect(error)) => {
            if let Some(lack) = Lack::of(&error) {
                return reporter.short(PHASE, lack);
            }
            error.to_string()
        }
        WsClientError::SendRequest(SendRequestError::Custom(cause, what)) => {
            match cause.downcast::<RefusedUpgrade>() {
                Ok(refusal) => return refused(&refusal, reporter),
                Err(cause) => format!("{what:?}: {cause}"),
            }
        }
        other @ (WsClientError::InvalidResponseStatus(_)
        | WsClientError::InvalidUpgradeHeader
        | WsClientError::InvalidConnectionHeader(_)
        | WsClientError::MissingConnectionHeader
        | WsClientError::MissingWebSocketAcceptHeader
        | WsClientError::InvalidChallengeResponse(..)
        | WsClientError::Protocol(_)
        | WsClientError::SendRequest(_)) => other.to_string(),
    };
    reporter.no_answer(PHASE, format!("the upgrade failed: {cause}"))
}

fn refused(refusal: &RefusedUpgrade, reporter: &Reporter) -> SessionError {
    let mut error = reporter.refusal(PHASE, refusal.status, &refusal.body, "the upgrade was answered with");
    error.retry_after = refusal.retry_after;
    error
}
