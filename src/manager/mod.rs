//! Supervision: makes sessions, spreads them over threads, and lets them pass the gate.
//!
//! The manager is one actor that holds the pure fleet machine. Sessions tell it what they want
//! ([`FleetNotice`](crate::session::FleetNotice)) and it answers; it knows no socket and no error's
//! meaning. Sessions live on *shards*, one thread each, and stay where they were made.
//!
//! Everybody else holds a [`ManagerHandle`]: it reads sessions from the [`Registry`] without asking an actor,
//! and sends commands to the session's own actor.

mod actor;
mod handle;
mod ids;
mod registry;
mod shard;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use actix::{Actor, Arbiter, AsyncContext, Context};
use serde::Serialize;

use actor::{Manager, Mode};
pub use handle::{ManagerHandle, Unreachable};
pub use registry::{Page, Registry};
use shard::Shard;

use crate::{
    outbox::LedgerConfig,
    recovery::{Fleet, FleetConfig, RecoveryConfig, TenantId},
    session::Clock,
    telemetry::{Metrics, TenantMetrics},
    tenants::Tenant,
    upstream::{self, UpstreamConfig},
};

/// The name of the one upstream that this version knows.
pub const UPSTREAM: &str = "primary";

/// Bounds of the manager.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sessions in all that are not stopped.
    pub max_sessions: usize,
    /// How long a stopped session is listed.
    pub retention: Duration,
    /// Threads of sessions.
    pub shards: usize,
}

/// A tenant, with what its sessions share.
pub struct TenantRuntime {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// What its sessions do about errors.
    pub recovery: Arc<RecoveryConfig>,
    /// Its metrics.
    pub metrics: Arc<TenantMetrics>,
}

/// What a manager is made from.
pub struct Setup {
    /// The service.
    pub upstream: Arc<UpstreamConfig>,
    /// Gate, breaker and probes.
    pub fleet: FleetConfig,
    /// The tenants, by id.
    pub tenants: BTreeMap<TenantId, Arc<TenantRuntime>>,
    /// Bounds of a session's requests.
    pub ledger: LedgerConfig,
    /// Bounds of the manager.
    pub limits: Limits,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
}

/// Why a session was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateRefused {
    /// No such tenant.
    #[error("no such tenant")]
    UnknownTenant,
    /// The tenant has as many sessions as it may have.
    #[error("the tenant has {max} sessions, which is its max_sessions; delete one first")]
    TenantFull {
        /// The bound.
        max: usize,
    },
    /// The process has as many sessions as it may have.
    #[error("this process has {max} sessions, which is sessions.max; raise it, or delete sessions first")]
    Full {
        /// The bound.
        max: usize,
    },
    /// The process is about to end.
    #[error("this process is draining and takes no new session")]
    Draining,
}

/// How one of the service's endpoints is judged, in JSON.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Upstream)]
pub struct UpstreamView {
    name: &'static str,
    breaker: &'static str,
    waiting: usize,
    in_flight: usize,
}

impl UpstreamView {
    fn of(fleet: &Fleet) -> Self {
        Self {
            name: UPSTREAM,
            breaker: actor::breaker_label(&fleet.breaker_state()).as_str(),
            waiting: fleet.waiting(),
            in_flight: fleet.in_flight(),
        }
    }
}

/// A running manager: the handle for everybody, and the threads for whoever ends it.
pub struct Running {
    /// What everybody else holds.
    pub handle: ManagerHandle,
    /// Ends when the manager's actor does, which is an error while the process runs.
    pub ended: tokio::task::JoinHandle<()>,
    arbiters: Vec<Arbiter>,
}

impl Running {
    /// Closes every connection with a close handshake, waits for them at most `deadline`, and ends the
    /// threads. Answers whether all sessions had ended in time.
    pub async fn stop(self, deadline: Duration) -> bool {
        let in_time = tokio::time::timeout(deadline, self.handle.drain()).await.is_ok();
        self.ended.abort();
        for arbiter in self.arbiters {
            arbiter.stop();
            if arbiter.join().is_err() {
                tracing::error!("a thread of sessions ended by a panic");
            }
        }
        in_time
    }
}

/// Starts a manager on the current thread's system, and its shards on threads of their own.
///
/// # Errors
///
/// The client of the service cannot be set up.
pub fn start(setup: Setup) -> io::Result<Running> {
    let Setup { upstream, fleet, tenants, ledger, limits, metrics } = setup;
    upstream::install_crypto();
    let clock = Clock::start();
    let registry = Arc::new(Registry::default());
    let tenants = Arc::new(tenants);
    let context = Context::<Manager>::new();
    let address = context.address();

    let mut arbiters = Vec::new();
    let mut shards = Vec::new();
    for _ in 0..limits.shards.max(1) {
        let arbiter = Arbiter::new();
        let (upstream, metrics) = (Arc::clone(&upstream), Arc::clone(&metrics));
        let fleet = address.clone().recipient();
        shards.push(Shard::start_in_arbiter(&arbiter.handle(), move |_ctx| Shard {
            client: upstream::Client::new(upstream),
            clock,
            metrics,
            fleet,
        }));
        arbiters.push(arbiter);
    }

    let manager = Manager {
        fleet: Fleet::new(fleet),
        asks: BTreeMap::new(),
        registry: Arc::clone(&registry),
        tenants: Arc::clone(&tenants),
        live: BTreeMap::new(),
        stopped: BTreeMap::new(),
        shards,
        next_shard: 0,
        clock,
        limits,
        ledger,
        upstream_metrics: metrics.upstream(UPSTREAM),
        metrics,
        timer: None,
        mode: Mode::Open,
    };
    let ended = actix_rt::spawn(context.into_future(manager));
    let handle = ManagerHandle::new(address, registry, tenants, clock);
    Ok(Running { handle, ended, arbiters })
}
