//! The model of the avatar service: accounts, outages, and what it answers.

use std::{sync::Arc, time::Duration};

use greenroom::errors::{Egress, ErrorCode, Evidence, Observed, Phase, SessionError};

use crate::rng::Rng;

/// What an outage looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    /// Packets go nowhere: each attempt ends by its deadline.
    NoAnswer,
    /// 503, sometimes with a `Retry-After`.
    Unavailable,
    /// The upgrade succeeds, and the handshake ends with 4503.
    ClosedInHandshake,
}

/// One tenant's account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// The code that the account is refused with.
    pub(crate) refused: Option<ErrorCode>,
    pub(crate) key_refused: bool,
    /// The most connections at a time.
    pub(crate) limit: Option<u32>,
    /// Connections that the service counts, those included that it has not noticed the end of.
    pub(crate) counted: u32,
}

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) accounts: Vec<Account>,
    pub(crate) outage: Option<Outage>,
    /// Whether it makes mistakes.
    pub(crate) faulty: bool,
}

/// A deadline of ours: token, connect, handshake.
const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) fn error(code: ErrorCode, phase: Phase, why: &str) -> SessionError {
    let evidence = Evidence::new(phase, Observed::Answer, Egress::None);
    let mut error = SessionError::classified(evidence, why);
    error.code = code;
    error
}

/// An error that is known by its message to come from an outage.
pub(crate) const OUTAGE: &str = "outage";

impl Service {
    pub(crate) fn new(tenants: usize, faulty: bool) -> Self {
        Self { accounts: vec![Account::default(); tenants], outage: None, faulty }
    }

    /// How long an attempt takes that begins now.
    pub(crate) fn latency(&self, rng: &mut Rng) -> Duration {
        match self.outage {
            Some(Outage::NoAnswer) => DEADLINE,
            Some(Outage::Unavailable | Outage::ClosedInHandshake) => rng.between(20, 200),
            None => rng.between(80, 900),
        }
    }

    /// How an attempt ends for a session that is configured wrongly in the way `misconfigured` says.
    pub(crate) fn answer(
        &self,
        tenant: usize,
        misconfigured: Option<ErrorCode>,
        rng: &mut Rng,
    ) -> Result<(), Arc<SessionError>> {
        let account = &self.accounts[tenant];
        let at_limit = account.limit.is_some_and(|limit| account.counted >= limit);
        let error = if let Some(outage) = self.outage {
            outage_error(outage, rng)
        } else if account.key_refused {
            error(ErrorCode::SessionTokenInvalid, Phase::SessionToken, "the key is refused")
        } else if let Some(code) = account.refused {
            error(code, Phase::WebsocketConnect, "the account is refused")
        } else if let Some(code) = misconfigured {
            error(code, Phase::WebsocketHandshake, "the session is configured wrongly")
        } else if at_limit {
            error(ErrorCode::ConcurrencyLimit, Phase::WebsocketConnect, "too many connections")
        } else if self.faulty && rng.chance(0.04) {
            mishap(rng)
        } else {
            return Ok(());
        };
        Err(Arc::new(error))
    }
}

fn outage_error(outage: Outage, rng: &mut Rng) -> SessionError {
    match outage {
        Outage::NoAnswer => error(ErrorCode::ConnectionFailed, Phase::WebsocketConnect, OUTAGE),
        Outage::Unavailable => {
            let mut error = error(ErrorCode::UpstreamError, Phase::SessionToken, OUTAGE);
            error.http_status = Some(503);
            error.retry_after = rng.chance(0.3).then(|| rng.between(1000, 8000));
            error
        }
        Outage::ClosedInHandshake => {
            let mut error = error(ErrorCode::UpstreamError, Phase::WebsocketHandshake, OUTAGE);
            error.close_code = Some(4503);
            error
        }
    }
}

/// What goes wrong with one attempt now and then.
fn mishap(rng: &mut Rng) -> SessionError {
    let (code, phase) = rng.weighted(&[
        (30, (ErrorCode::ConnectionFailed, Phase::WebsocketConnect)),
        (15, (ErrorCode::UpstreamError, Phase::WebsocketHandshake)),
        (10, (ErrorCode::ServerError, Phase::SessionToken)),
        (10, (ErrorCode::EgressUnavailable, Phase::WebsocketHandshake)),
        (10, (ErrorCode::ConnectionClosed, Phase::WebsocketHandshake)),
        (8, (ErrorCode::SessionTokenExpired, Phase::WebsocketConnect)),
        (6, (ErrorCode::SessionTokenInvalid, Phase::WebsocketConnect)),
        (6, (ErrorCode::ProtocolError, Phase::WebsocketHandshake)),
        (5, (ErrorCode::Unknown, Phase::WebsocketConnect)),
    ]);
    let mut error = error(code, phase, "one attempt's mishap");
    if code == ErrorCode::ServerError {
        error.http_status = Some(500);
    }
    error
}

/// What ends a connection that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The service says so, with this code and close code.
    Told(ErrorCode, Option<u16>),
    /// The socket ends without a close frame, and the service may go on counting the connection.
    HalfOpen,
    /// The session's own code panics.
    Crash,
}

pub(crate) fn fault(rng: &mut Rng) -> Fault {
    rng.weighted(&[
        (25, Fault::HalfOpen),
        (20, Fault::Told(ErrorCode::ConnectionClosed, Some(1001))),
        (12, Fault::Told(ErrorCode::UpstreamError, Some(4503))),
        (12, Fault::Told(ErrorCode::SessionTokenExpired, Some(4001))),
        (6, Fault::Told(ErrorCode::ServerError, Some(1011))),
        (5, Fault::Told(ErrorCode::EgressUnavailable, Some(4504))),
        (5, Fault::Told(ErrorCode::ProtocolError, None)),
        (5, Fault::Told(ErrorCode::Unknown, Some(4999))),
        (4, Fault::Told(ErrorCode::SessionDurationExceeded, Some(4005))),
        (4, Fault::Told(ErrorCode::SessionTokenInvalid, Some(4001))),
        (6, Fault::Crash),
    ])
}

/// The codes of a session that is configured wrongly.
pub(crate) const MISCONFIGURATIONS: [ErrorCode; 6] = [
    ErrorCode::AppIdUnrecognized,
    ErrorCode::AppIdMismatch,
    ErrorCode::AvatarNotFound,
    ErrorCode::UnsupportedSampleRate,
    ErrorCode::InvalidEgressConfig,
    ErrorCode::InvalidRequest,
];
