//! Supervision: makes sessions, spreads them over threads, and lets them pass the gate.
//!
//! The manager is one actor that holds the pure fleet machine. Sessions tell it what they want
//! ([`FleetNotice`](crate::session::FleetNotice)) and it answers; it knows no socket and no error's
//! meaning. Sessions live on threads ([`Threads`]), and stay where they were made.
//!
//! Everybody else holds a [`ManagerHandle`]: it reads sessions from the [`Registry`] without asking an actor,
//! and sends commands to the session's own actor.

mod actor;
mod create;
mod handle;
mod ids;
mod pool;
mod registry;
mod restore;
mod shard;
mod tenants;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use actix::{AsyncContext, Context};
use arc_swap::ArcSwap;
use serde::Serialize;

pub use crate::session::{TenantRuntime, TenantTerms};
use actor::{Manager, Mode};
pub use create::{Answered, Promise};
pub use handle::{ANSWER_DEADLINE, ManagerHandle, Undone, Unreachable};
use pool::Pool;
pub use registry::{Page, Registry};
pub use restore::Restored;
use shard::{Shard, Shards};
pub use tenants::{
    KeyInfo, KeyMade, KeyName, Opened, Own, ReloadRefused, Reloaded, Reloader, Roster, TenantBook,
    TenantDefaults, TenantMade, TenantPatch, TenantPromise, TenantRefused, TenantsUnusable,
};
use tenants::{Leaving, MinutesNoted};

use crate::{
    events::Bus,
    outbox::LedgerConfig,
    recovery::{Fleet, FleetConfig},
    session::{Chronicle, ClientBounds, Clock, Farewell, Journal, OutboxBudget, Threads, ThreadsEnd},
    store::{Records, StoreError},
    telemetry::Metrics,
    upstream::{self, UpstreamConfig},
};

/// The name of the one upstream that this version knows.
pub const UPSTREAM: &str = "primary";

/// How long the end of the process waits for what is still to be written.
const FLUSH: Duration = Duration::from_secs(5);

/// Bounds of the manager.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sessions in all that are not stopped.
    pub max_sessions: usize,
    /// How long a stopped session is listed.
    pub retention: Duration,
    /// Threads that sessions live on and that serve their clients.
    pub threads: usize,
    /// How long a drop-in client's session waits for it to come back when it has vanished; zero ends it at once.
    pub linger: Duration,
    /// How long a connection to the service waits for its client's `ClientConfigureSession`.
    pub configure_within: Duration,
}

/// What a manager is made from.
pub struct Setup {
    /// The service.
    pub upstream: Arc<UpstreamConfig>,
    /// Gate, breaker and probes.
    pub fleet: FleetConfig,
    /// The tenants.
    pub roster: Roster,
    /// Bounds of a session's requests.
    pub ledger: LedgerConfig,
    /// What the outboxes of all sessions may hold together.
    pub outbox: Arc<OutboxBudget>,
    /// Where everybody is told what happens.
    pub events: Bus,
    /// Where sessions are kept.
    pub records: Records,
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
    /// As many sessions of the tenant were made in the last minute as may be.
    #[error(
        "the tenant may make {max} sessions in a minute, which is its max_starts_per_minute; try again later"
    )]
    TooManyStarts {
        /// The bound.
        max: u32,
        /// After how long one more may be made.
        retry_after: Duration,
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
    /// The session could not be kept.
    #[error(transparent)]
    Unkept(#[from] StoreError),
}

/// Why a drop-in client got no session.
#[derive(Clone, Debug)]
pub enum IngressRefused {
    /// As for a session over HTTP.
    Create(CreateRefused),
    /// What its client is to be told in place of [`ToClient::Ready`](crate::session::ToClient::Ready): its tenant is
    /// suspended.
    Farewell(Farewell),
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
    /// The threads that sessions live on, for whoever serves their clients there.
    pub threads: Threads,
    threads_end: ThreadsEnd,
    journal: Journal,
    writing: [tokio::task::JoinHandle<()>; 2],
}

impl Running {
    /// Closes every connection with a close handshake, and waits for them at most `deadline`. Answers whether all
    /// sessions had ended in time.
    pub async fn drain(&self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, self.handle.drain()).await.is_ok()
    }

    /// Ends the threads, with what is served on them, and writes what is still to be written.
    pub async fn end(self) {
        self.ended.abort();
        self.threads_end.end();
        let roster = self.handle.roster();
        let kept = tenants::keep_minutes(&roster, self.journal.records());
        if tokio::time::timeout(FLUSH, kept).await.is_err() {
            tracing::error!("tenants' connected minutes could not be written before the end");
        }
        if tokio::time::timeout(FLUSH, self.journal.flush()).await.is_err() {
            tracing::error!("what became of some sessions could not be written before the end");
        }
        if tokio::time::timeout(FLUSH, self.journal.chronicle().flush()).await.is_err() {
            tracing::error!("the last events of some sessions could not be written before the end");
        }
        for writing in self.writing {
            writing.abort();
        }
    }
}

/// Starts a manager on the current thread's system, and the threads of its sessions.
///
/// # Errors
///
/// The system has no more threads, or no more files.
pub fn start(setup: Setup) -> io::Result<Running> {
    let Setup { upstream, fleet, roster, ledger, outbox, events, records, limits, metrics } = setup;
    upstream::install_crypto();
    let clock = Clock::start();
    let registry = Arc::new(Registry::default());
    let tenants = Arc::new(ArcSwap::from_pointee(roster));
    let chronicle = Chronicle::new(events, records.clone(), Arc::clone(&metrics));
    let journal = Journal::new(records, chronicle.clone());
    let writing = [actix_rt::spawn(journal.clone().run()), actix_rt::spawn(chronicle.run())];
    let context = Context::<Manager>::new();
    let address = context.address();

    let (threads, threads_end) = Threads::start(limits.threads)?;
    let shard = Shard {
        clock,
        metrics: Arc::clone(&metrics),
        fleet: address.clone().recipient(),
        journal: journal.clone(),
        outbox: Arc::clone(&outbox),
        bounds: ClientBounds { linger: limits.linger, configure_within: limits.configure_within },
        continuity: ledger.continuity,
    };
    let shards = Shards::start(threads.clone(), &shard, &upstream);

    let manager = Manager {
        fleet: Fleet::new(fleet),
        asks: BTreeMap::new(),
        registry: Arc::clone(&registry),
        tenants: Arc::clone(&tenants),
        leaving: BTreeMap::new(),
        live: BTreeMap::new(),
        stopped: BTreeMap::new(),
        shards,
        clock,
        limits,
        ledger,
        outbox,
        journal: journal.clone(),
        upstream_metrics: metrics.upstream(UPSTREAM),
        metrics,
        timer: None,
        pool: Pool::default(),
        minutes: MinutesNoted::default(),
        mode: Mode::Open,
    };
    let ended = actix_rt::spawn(context.into_future(manager));
    let handle = ManagerHandle::new(address, registry, tenants, clock, journal.clone());
    Ok(Running { handle, ended, threads, threads_end, journal, writing })
}
