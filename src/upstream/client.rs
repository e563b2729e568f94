//! One attempt to open a connection, step by step.

use std::{
    future::Future,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Opened, Target, Timings, Upgraded, UpstreamConfig, connector, report::Reporter, token, upgrade};
use crate::errors::{Phase, SessionError};

/// The client of one upstream, for one thread. Cheap to clone: clones share the connector.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

struct Inner {
    config: Arc<UpstreamConfig>,
    http: awc::Client,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.0.config).finish()
    }
}

impl Client {
    /// A client for `config`. Make one for each thread and upstream, not one for each session.
    pub fn new(config: Arc<UpstreamConfig>) -> Self {
        let http = connector::http_client(&config);
        Self(Rc::new(Inner { config, http }))
    }

    /// Makes one attempt: a fresh token, the upgrade, the handshake. `timings` is filled as far as it gets.
    ///
    /// Dropping the future ends the attempt and drops its socket.
    ///
    /// # Errors
    ///
    /// Whatever ended the attempt, classified, with the session's secrets removed from every text; or the target has
    /// no configuration.
    pub async fn open(&self, target: &Target, timings: &mut Timings) -> Result<Opened, SessionError> {
        let Some(configure) = target.configure.clone() else {
            let reporter = Reporter::new(target).map_err(|error| *error)?;
            return Err(reporter.internal(Phase::SessionToken, "the session has no configuration yet"));
        };
        self.connect(target, timings).await?.configure(configure, timings).await
    }

    /// The first half of an attempt: a fresh token and the upgrade. The configuration need not be known yet.
    ///
    /// Dropping the future ends the attempt and drops its socket.
    ///
    /// # Errors
    ///
    /// As [`Client::open`].
    pub async fn connect(&self, target: &Target, timings: &mut Timings) -> Result<Upgraded, SessionError> {
        let Inner { config, http } = &*self.0;
        let mut reporter = Reporter::new(target).map_err(|error| *error)?;
        let token =
            timed(&mut timings.token, token::fetch(http, config, &target.api_key, &mut reporter)).await?;
        config.pace.turn().await;
        let transport =
            timed(&mut timings.connect, upgrade::connect(http, config, target, &token, &reporter)).await?;
        Ok(Upgraded::new(transport, Arc::clone(config), reporter))
    }
}

pub(super) async fn timed<T>(slot: &mut Option<Duration>, step: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = step.await;
    *slot = Some(started.elapsed());
    result
}
