//! The composition root: from a configuration to a running Greenroom, and back to nothing.
//!
//! Starting binds both addresses before anything else, so that a port in use ends the start with nothing to
//! undo. Stopping goes in one order: no new session; every connection closed; the listeners; the threads.

use std::{io, net::SocketAddr, sync::Arc, thread::available_parallelism, time::Duration};

use tokio::sync::Notify;

use crate::{
    config::{Config, Recovery, Tls, UpstreamAuth},
    http::{self, ListenerTls, Listeners, ProcessLifecycle},
    manager::{self, Limits, ManagerHandle, Running, TenantRuntime},
    outbox::LedgerConfig,
    recovery::{FleetConfig, RecoveryConfig},
    telemetry::Metrics,
    tenants::{AdminKey, Directory},
    upstream::{Auth, Deadlines, UpstreamConfig},
};

/// What an attempt may hold its place at the gate beyond its deadlines, for its cleaning up.
const ATTEMPT_MARGIN: Duration = Duration::from_secs(5);
/// Files that are open beside the sessions' sockets: listeners, clients of the API, token calls under way.
const FILES_BESIDE_SESSIONS: u64 = 1000;
/// The longest `Retry-After` that is believed: a longer one is more likely a mistake than a plan.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// A running Greenroom.
pub struct Process {
    running: Running,
    listeners: Listeners,
    lifecycle: Arc<ProcessLifecycle>,
    metrics: Arc<Metrics>,
    reload: Arc<Notify>,
    shutdown: Duration,
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
    /// An address cannot be bound, a certificate cannot be used, or the metrics cannot be set up; the error says
    /// which.
    pub fn start(config: &Config) -> io::Result<Self> {
        let data = http::bind(config.server.listen, "server.listen")?;
        let admin = http::bind(config.admin.listen, "admin.listen")?;
        raise_file_limit(config.sessions.max);
        let metrics = Arc::new(Metrics::new(config.telemetry.max_tenant_labels as usize));
        let directory = Arc::new(Directory::new(config));
        let data_tls = listener_tls("server", config.server.tls.as_ref(), &metrics)?;
        let admin_tls = listener_tls("admin", config.admin.tls.as_ref(), &metrics)?;
        let reload = Arc::new(Notify::new());
        let certificates: Vec<_> = [&data_tls, &admin_tls].into_iter().flatten().cloned().collect();
        let running = manager::start(manager_setup(config, &directory, &metrics))?;
        let lifecycle = Arc::new(ProcessLifecycle::default());
        let listeners = http::serve(
            http::Setup {
                manager: running.handle.clone(),
                directory,
                admin_key: AdminKey::new(&config.admin).map(Arc::new),
                policy: Arc::new(config.recovery.policy.clone()),
                metrics: Arc::clone(&metrics),
                lifecycle: Arc::clone(&lifecycle),
                max_body_bytes: config.server.max_body_bytes,
                data_tls,
                admin_tls,
            },
            data,
            admin,
        )?;
        if !certificates.is_empty() {
            actix_rt::spawn(http::watch_certificates(certificates, Arc::clone(&reload)));
        }
        Ok(Self { running, listeners, lifecycle, metrics, reload, shutdown: config.server.shutdown })
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
        let in_time = self.running.stop(self.shutdown).await;
        self.listeners.stop().await;
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

fn manager_setup(config: &Config, directory: &Directory, metrics: &Arc<Metrics>) -> manager::Setup {
    let tenants = directory
        .iter()
        .map(|tenant| {
            let runtime = TenantRuntime {
                tenant: Arc::clone(tenant),
                recovery: Arc::new(recovery_config(config, tenant.policy.clone())),
                metrics: metrics.tenant(&tenant.id),
            };
            (tenant.id.clone(), Arc::new(runtime))
        })
        .collect();
    manager::Setup {
        upstream: Arc::new(upstream_config(config)),
        fleet: fleet_config(config),
        tenants,
        ledger: LedgerConfig {
            session_bytes: config.outbox.session_bytes,
            max_age: config.outbox.max_age,
            ..LedgerConfig::default()
        },
        limits: Limits {
            max_sessions: config.sessions.max as usize,
            retention: config.sessions.retention,
            shards: available_parallelism().map_or(1, usize::from),
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
