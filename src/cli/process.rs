//! The composition root: from a configuration to a running Greenroom, and back to nothing.
//!
//! Starting binds both addresses before anything else, so that a port in use ends the start with nothing to
//! undo. Stopping goes in one order: no new session; every connection closed; the listeners; the traces; the threads;
//! the store.

use std::{io, net::SocketAddr, sync::Arc, thread::available_parallelism, time::Duration};

use tokio::{sync::Notify, task::JoinHandle};
use url::Url;

use super::keeping;
pub use super::keeping::StoreUnusable;
use crate::{
    config::{Config, ConfigFile, Tls, UpstreamAuth},
    events::Bus,
    http::{self, ListenerTls, Listeners, ProcessLifecycle},
    manager::{self, Limits, ManagerHandle, Opened, Reloader, Roster, Running, TenantsUnusable, Undone},
    outbox::LedgerConfig,
    recovery::FleetConfig,
    session::OutboxBudget,
    store::Records,
    telemetry::Metrics,
    tenants::AdminKey,
    traces::{Peer, Peers, Traces, TracesUnusable},
    upstream::{Auth, Deadlines, Pace, Sources, UpstreamConfig, tls_config, tls_config_trusting},
    webhooks,
};

/// What an attempt may hold its place at the gate beyond its deadlines, for its cleaning up.
const ATTEMPT_MARGIN: Duration = Duration::from_secs(5);
/// Files that are open beside the sessions' sockets: listeners, clients of the API, token calls under way.
const FILES_BESIDE_SESSIONS: u64 = 1000;
/// The longest `Retry-After` that is believed: a longer one is more likely a mistake than a plan.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How long a client may take from its upgrade to its `ClientConfigureSession`, which every SDK sends at once.
const CONFIGURE_WITHIN: Duration = Duration::from_secs(10);

/// A running Greenroom.
pub struct Process {
    running: Running,
    reloader: Reloader,
    listeners: Listeners,
    lifecycle: Arc<ProcessLifecycle>,
    metrics: Arc<Metrics>,
    events: Bus,
    traces: Option<Traces>,
    hooks: webhooks::Running,
    records: Records,
    upkeep: JoinHandle<()>,
    reload: Arc<Notify>,
    shutdown: Duration,
}

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound, or a client cannot be set up.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreUnusable),
    /// The tenants cannot be had.
    #[error("the tenants cannot be had: {0}")]
    Tenants(#[from] TenantsUnusable),
    /// The sessions of an earlier process cannot be had.
    #[error("the sessions of an earlier process cannot be restored: {0}")]
    Sessions(Undone),
    /// Traces are asked for and cannot be had.
    #[error(transparent)]
    Traces(#[from] TracesUnusable),
}

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Somebody asked for it.
    Asked,
    /// The manager's actor is gone, which it never is while all is well.
    ManagerLost,
}

impl Process {
    /// Starts everything that `config` says, on the current thread's system.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, a certificate cannot be used, or the store cannot be used; the error says which.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_from(config, None).await
    }

    /// As [`Process::start`], with the file that `config` came from, so that it can be read again.
    ///
    /// # Errors
    ///
    /// Those of [`Process::start`].
    pub async fn start_from(config: &Config, file: Option<ConfigFile>) -> Result<Self, StartError> {
        let data = http::bind(config.server.listen, "server.listen")?;
        let admin = http::bind(config.admin.listen, "admin.listen")?;
        let metrics = Arc::new(Metrics::new(config.telemetry.max_tenant_labels as usize));
        let (records, pepper) = keeping::open(&config.store, &metrics).await?;
        raise_file_limit(config.sessions.max);
        let data_tls = listener_tls("server", config.server.tls.as_ref(), &metrics)?;
        let admin_tls = listener_tls("admin", config.admin.tls.as_ref(), &metrics)?;
        let reload = Arc::new(Notify::new());
        let certificates: Vec<_> = [&data_tls, &admin_tls].into_iter().flatten().cloned().collect();
        let opened = Opened::read(config, &records, pepper, &metrics).await?;
        let events = Bus::default();
        let traces = Traces::start(&config.telemetry.otlp, peers(config), &events, &metrics)?;
        // Before anything can happen.
        let hooks = webhooks::start(&events, config, &metrics);
        let setup = manager_setup(config, opened.roster(), &metrics, &records, &events);
        let running = manager::start(setup)?;
        let tenants = opened.with(running.handle.clone());
        let reloader = Reloader::new(tenants.clone(), hooks.webhooks.clone(), config, file);
        let restored = running.handle.restore().await.map_err(StartError::Sessions)?;
        tracing::info!(
            started = restored.started,
            held = restored.held,
            stopped = restored.stopped,
            unreadable = restored.unreadable,
            "sessions of an earlier process"
        );
        let lifecycle = Arc::new(ProcessLifecycle::default());
        let listeners = http::serve(
            http::Setup {
                manager: running.handle.clone(),
                tenants,
                reloader: reloader.clone(),
                webhooks: hooks.webhooks.clone(),
                admin_key: AdminKey::new(&config.admin).map(Arc::new),
                threads: running.threads.clone(),
                metrics: Arc::clone(&metrics),
                lifecycle: Arc::clone(&lifecycle),
                records: records.clone(),
                max_body_bytes: config.server.max_body_bytes,
                ingress: config.ingress.clone(),
                data_tls,
                admin_tls,
            },
            data,
            admin,
        )?;
        if !certificates.is_empty() {
            actix_rt::spawn(http::watch_certificates(certificates, Arc::clone(&reload)));
        }
        let upkeep = keeping::look_after(records.clone(), config.store.encryption_key_previous.is_some());
        let shutdown = config.server.shutdown;
        Ok(Self {
            running,
            reloader,
            listeners,
            lifecycle,
            metrics,
            events,
            traces,
            hooks,
            records,
            upkeep,
            reload,
            shutdown,
        })
    }

    /// Where the data plane listens.
    pub const fn data_address(&self) -> SocketAddr {
        self.listeners.data_address
    }

    /// Where the admin plane listens.
    pub const fn admin_address(&self) -> SocketAddr {
        self.listeners.admin_address
    }

    /// The manager's handle.
    pub const fn manager(&self) -> &ManagerHandle {
        &self.running.handle
    }

    /// Reads the configuration file again.
    pub const fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// The metrics.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Notified, it has the listeners' certificates looked at.
    pub const fn reload(&self) -> &Arc<Notify> {
        &self.reload
    }

    /// Waits until the end is asked for, over HTTP or by whatever `signal` waits for.
    pub async fn until_end(&mut self, signal: impl Future<Output = ()>) -> End {
        tokio::select! {
            () = signal => End::Asked,
            () = self.lifecycle.drain_wanted() => End::Asked,
            ended = &mut self.running.ended => {
                tracing::error!(error = ?ended.err().map(|error| error.to_string()), "the manager is gone");
                End::ManagerLost
            }
        }
    }

    /// Ends everything. Answers whether all sessions were closed before the deadline.
    pub async fn stop(self) -> bool {
        self.lifecycle.drain();
        let in_time = self.running.drain(self.shutdown).await;
        // Streams end with it, which would hold the listeners up.
        self.events.close();
        tokio::join!(self.hooks.stop(), self.listeners.stop());
        if let Some(traces) = self.traces {
            traces.flushed().await;
        }
        self.running.end().await;
        self.upkeep.abort();
        if let Err(error) = self.records.store().close().await {
            tracing::error!(%error, "the store could not be closed in order");
        }
        in_time
    }
}

fn listener_tls(
    section: &'static str,
    files: Option<&Tls>,
    metrics: &Metrics,
) -> io::Result<Option<Arc<ListenerTls>>> {
    files
        .map(|files| ListenerTls::new(section, files.clone(), metrics.tls(section)).map(Arc::new))
        .transpose()
}

/// The hosts that traces name.
fn peers(config: &Config) -> Peers {
    let peer = |url: &Url| Peer {
        host: url.host_str().unwrap_or_default().to_owned(),
        port: url.port_or_known_default().unwrap_or_default(),
    };
    Peers { console: peer(&config.upstream.console_url), ingress: peer(&config.upstream.ingress_url) }
}

/// A session has a socket, and the usual soft limit of 1024 files would look like an outage of the service.
fn raise_file_limit(max_sessions: u32) {
    let wanted = u64::from(max_sessions) + FILES_BESIDE_SESSIONS;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => tracing::warn!(
            limit,
            wanted,
            "this process may open fewer files than sessions.max needs; raise its limit (ulimit -n), or lower sessions.max"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

fn manager_setup(
    config: &Config,
    roster: Roster,
    metrics: &Arc<Metrics>,
    records: &Records,
    events: &Bus,
) -> manager::Setup {
    manager::Setup {
        upstream: Arc::new(upstream_config(config)),
        fleet: fleet_config(config),
        roster,
        ledger: LedgerConfig {
            continuity: config.defaults.continuity,
            session_bytes: config.outbox.session_bytes,
            max_age: config.outbox.max_age,
            ..LedgerConfig::default()
        },
        outbox: Arc::new(OutboxBudget::new(config.outbox.total_bytes)),
        events: events.clone(),
        records: records.clone(),
        limits: Limits {
            max_sessions: config.sessions.max as usize,
            retention: config.sessions.retention,
            threads: available_parallelism().map_or(1, usize::from),
            linger: config.ingress.linger,
            configure_within: CONFIGURE_WITHIN,
        },
        metrics: Arc::clone(metrics),
    }
}

pub(super) fn upstream_config(config: &Config) -> UpstreamConfig {
    let upstream = &config.upstream;
    UpstreamConfig {
        auth: match upstream.auth {
            UpstreamAuth::Header => Auth::Header,
            UpstreamAuth::Query => Auth::Query,
        },
        token_ttl: upstream.token_ttl,
        deadlines: Deadlines {
            token: upstream.deadlines.token,
            connect: upstream.deadlines.connect,
            handshake: upstream.deadlines.handshake,
        },
        max_message_bytes: upstream.max_message_bytes,
        ping_every: upstream.ping,
        half_open_after: upstream.half_open,
        pace: Arc::new(Pace::new(upstream.gate.per_second)),
        sources: Arc::new(Sources::new(upstream.bind_addresses.clone())),
        tls: match &upstream.ca {
            None => tls_config(),
            Some(authorities) => tls_config_trusting(&authorities.certificates),
        },
        ..UpstreamConfig::new(upstream.console_url.clone(), upstream.ingress_url.clone())
    }
}

fn fleet_config(config: &Config) -> FleetConfig {
    let deadlines = &config.upstream.deadlines;
    FleetConfig {
        gate: config.upstream.gate,
        breaker: config.upstream.breaker.clone(),
        park_probe: config.recovery.park_probe,
        attempt_deadline: deadlines.token + deadlines.connect + deadlines.handshake + ATTEMPT_MARGIN,
        retry_after_max: RETRY_AFTER_MAX,
    }
}
