//! One session of the simulation: the product's two machines, and what the simulation knows of it besides.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use greenroom::{
    errors::ErrorCode,
    outbox::{Ledger, LedgerConfig},
    recovery::{
        Generation, Lifecycle, Moment, RecoveryConfig, SessionId, StateName, TenantId, lifecycle::Pass,
    },
};

/// A connection or attempt, as the model service has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) generation: Generation,
    pub(crate) established: bool,
    /// When the session was told to close it.
    pub(crate) closing: Option<Moment>,
    /// The last audio on it.
    pub(crate) heard_at: Moment,
}

/// A request, as its client knows it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) accepted: Vec<(Bytes, bool)>,
    pub(crate) sent: usize,
    pub(crate) accepted_at: Moment,
    pub(crate) last_chunk_at: Moment,
    pub(crate) bytes: usize,
}

impl Request {
    /// The latest moment of its outcome, from the design's words and not from the ledger's code.
    pub(crate) fn deadline(&self, config: &LedgerConfig) -> Moment {
        if self.sent == 0 {
            return self.accepted_at + config.max_age;
        }
        let rate = f64::from(config.bytes_per_second.unwrap());
        self.last_chunk_at + Duration::from_secs_f64(self.bytes as f64 / rate) + config.grace
    }
}

/// One session.
pub(crate) struct Seat {
    pub(crate) id: SessionId,
    pub(crate) tenant: usize,
    pub(crate) tenant_id: TenantId,
    pub(crate) machine: Lifecycle,
    pub(crate) ledger: Ledger,
    pub(crate) link: Option<Link>,
    pub(crate) requests: BTreeMap<String, Request>,
    pub(crate) misconfigured: Option<ErrorCode>,
    /// Connections break within seconds until then.
    pub(crate) flaky_until: Moment,
    /// Its last ask that the fleet has heard of.
    pub(crate) asked: (Generation, Pass),
    /// The restarts that used budget, counted a second time.
    pub(crate) charged: VecDeque<Moment>,
    pub(crate) state: StateName,
    pub(crate) state_since: Moment,
    /// Messages keep their order on each way.
    pub(crate) to_fleet_at: Moment,
    pub(crate) from_fleet_at: Moment,
    pub(crate) tick_at: Option<Moment>,
    pub(crate) ledger_tick_at: Option<Moment>,
    pub(crate) attempts: u64,
}

pub(crate) fn ledger_config() -> LedgerConfig {
    LedgerConfig { session_bytes: 256 << 10, max_open: 4, keep_ended: 8, ..LedgerConfig::default() }
}

impl Seat {
    pub(crate) fn new(number: usize, tenant: usize, config: &Arc<RecoveryConfig>, now: Moment) -> Self {
        Self {
            id: SessionId::from(format!("ses_{number}")),
            tenant,
            tenant_id: TenantId::from(format!("tenant_{tenant}")),
            machine: Lifecycle::new(Arc::clone(config)),
            ledger: Ledger::new(ledger_config()),
            link: None,
            requests: BTreeMap::new(),
            misconfigured: None,
            flaky_until: Moment::ZERO,
            asked: (Generation(0), Pass::Normal),
            charged: VecDeque::new(),
            state: StateName::Dormant,
            state_since: now,
            to_fleet_at: Moment::ZERO,
            from_fleet_at: Moment::ZERO,
            tick_at: None,
            ledger_tick_at: None,
            attempts: 0,
        }
    }
}

/// The number in a session's id.
pub(crate) fn number(id: &SessionId) -> usize {
    id.as_str()[4..].parse().unwrap()
}
