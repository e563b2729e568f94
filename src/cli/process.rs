//! The composition root: from a configuration to a running Greenroom, and back to nothing.
//!
//! Starting binds both addresses before anything else, so that a port in use ends the start with nothing to
//! undo. Stopping goes in one order: no new session; every connection closed; the threads; the listeners; the store.

use std::{io, net::SocketAddr, sync::Arc, thread::available_parallelism, time::Duration};

use tokio::task::JoinHandle;

use super::keeping;
pub use super::keeping::StoreUnusable;
use crate::{
    config::{Config, Recovery, UpstreamAuth},
    http::{self, Listeners, ProcessLifecycle},
    manager::{self, Limits, ManagerHandle, Running, TenantRuntime, Undone},
    outbox::LedgerConfig,
    recovery::{FleetConfig, RecoveryConfig},
    session::OutboxBudget,
    store::Records,
    telemetry::Metrics,
    tenants::{AdminKey, Directory},
    upstream::{Auth, Deadlines, Sources, UpstreamConfig},
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
    listeners: Listeners,
    lifecycle: Arc<ProcessLifecycle>,
    metrics: Arc<Metrics>,
    records: Records,
    upkeep: JoinHandle<()>,
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
    /// The sessions of an earlier process cannot be had.
    #[error("the sessions of an earlier process cannot be restored: {0}")]
    Sessions(Undone),
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
    /// An address cannot be bound, or the store cannot be used; the error says which.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let data = http::bind(config.server.listen, "server.listen")?;
        let admin = http::bind(config.admin.listen, "admin.listen")?;
        let metrics = Arc::new(Metrics::new(config.telemetry.max_tenant_labels as usize));
        let records = keeping::open(&config.store, &metrics).await?;
        raise_file_limit(config.sessions.max);
        let directory = Arc::new(Directory::new(config));
        let running = manager::start(manager_setup(config, &directory, &metrics, &records))?;
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
                directory,
                admin_key: AdminKey::new(&config.admin).map(Arc::new),
                policy: Arc::new(config.recovery.policy.clone()),
                metrics: Arc::clone(&metrics),
                lifecycle: Arc::clone(&lifecycle),
                records: records.clone(),
                max_body_bytes: config.server.max_body_bytes,
                ingress: config.ingress.clone(),
            },
            data,
            admin,
        )?;
        let upkeep = keeping::look_after(records.clone(), config.store.encryption_key_previous.is_some());
        let shutdown = config.server.shutdown;
        Ok(Self { running, listeners, lifecycle, metrics, records, upkeep, shutdown })
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

    /// The metrics.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
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
        let in_time = self.running.stop(self.shutdown).await;
        self.listeners.stop().await;
        self.upkeep.abort();
        if let Err(error) = self.records.store().close().await {
            tracing::error!(%error, "the store could not be closed in order");
        }
        in_time
    }
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
    directory: &Directory,
    metrics: &Arc<Metrics>,
    records: &Records,
) -> manager::Setup {
    let tenants = directory
        .iter()
        .map(|tenant| {
            let runtime = TenantRuntime {
                tenant: Arc::clone(tenant),
                recovery: Arc::new(recovery_config(config, tenant.policy.clone())),
                metrics: metrics.tenant(&tenant.id),
                outbox: Arc::new(OutboxBudget::new(config.outbox.tenant_bytes)),
            };
            (tenant.id.clone(), Arc::new(runtime))
        })
        .collect();
    manager::Setup {
        upstream: Arc::new(upstream_config(config)),
        fleet: fleet_config(config),
        tenants,
        ledger: LedgerConfig {
            continuity: config.defaults.continuity,
            session_bytes: config.outbox.session_bytes,
            max_age: config.outbox.max_age,
            ..LedgerConfig::default()
        },
        outbox: Arc::new(OutboxBudget::new(config.outbox.total_bytes)),
        records: records.clone(),
        limits: Limits {
            max_sessions: config.sessions.max as usize,
            retention: config.sessions.retention,
            shards: available_parallelism().map_or(1, usize::from),
            linger: config.ingress.linger,
            configure_within: CONFIGURE_WITHIN,
        },
        metrics: Arc::clone(metrics),
    }
}

fn recovery_config(config: &Config, policy: crate::recovery::Policy) -> RecoveryConfig {
    let Recovery { backoff, budget, stable_after, .. } = &config.recovery;
    RecoveryConfig { policy, backoff: *backoff, budget: *budget, stable_after: *stable_after }
}

fn upstream_config(config: &Config) -> UpstreamConfig {
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
        sources: Arc::new(Sources::new(upstream.bind_addresses.clone())),
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
