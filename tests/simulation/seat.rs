//! One session of the simulation: the product's two machines, and what the simulation knows of it besides.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use greenroom::{
    errors::ErrorCode,
    outbox::{Continuity, Ledger, LedgerConfig},
    recovery::{
        Attendance, Generation, Lifecycle, Moment, RecoveryConfig, SessionId, StateName, TenantId,
        lifecycle::Pass,
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

/// A request on one connection, as the model service knows it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) upstream_id: String,
    /// The first byte of the request's audio that was sent on the connection, and the next.
    pub(crate) base: usize,
    pub(crate) next: usize,
    pub(crate) answered: bool,
    /// When the service said that it began to play.
    pub(crate) plays_since: Option<Moment>,
}

/// A request, as its client knows it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) accepted: Vec<(Bytes, bool)>,
    pub(crate) attempt: Option<Attempt>,
    /// Where the next attempt begins.
    pub(crate) from: usize,
    pub(crate) breaks: u32,
    pub(crate) waits_since: Moment,
    pub(crate) last_chunk_at: Moment,
    pub(crate) bytes: usize,
}

/// What the model expects of a request whose connection broke.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It is sent again from this byte on, unless its copy was dropped.
    Again(usize),
    Fails,
}

impl Request {
    /// The latest moment of its outcome, from the design's words and not from the ledger's code.
    pub(crate) fn deadline(&self, config: &LedgerConfig) -> Moment {
        let rate = f64::from(config.bytes_per_second.unwrap());
        let answer = self.last_chunk_at + Duration::from_secs_f64(self.bytes as f64 / rate) + config.grace;
        match self.attempt {
            None => answer.min(self.waits_since + config.max_age),
            Some(_) => answer,
        }
    }

    /// What is to become of it when the connection breaks now, from the design's words.
    pub(crate) fn fate(&self, continuity: Continuity, now: Moment) -> Fate {
        let Some(attempt) = &self.attempt else { return Fate::Again(0) };
        let begun = attempt.answered || attempt.plays_since.is_some();
        match (continuity, attempt.plays_since) {
            (Continuity::Off, _) => Fate::Fails,
            _ if self.breaks == 1 => Fate::Fails,
            (Continuity::Unanswered, _) if begun => Fate::Fails,
            (Continuity::Resume, Some(since)) => {
                let played = (now.since(since).as_micros() * 32_000 / 1_000_000) as usize;
                let from = (attempt.base + played).min(attempt.next) & !1;
                let ended = self.accepted.last().is_some_and(|(_, end)| *end);
                if ended && from >= self.bytes & !1 { Fate::Fails } else { Fate::Again(from) }
            }
            (Continuity::Resume, None) if begun => Fate::Fails,
            (Continuity::Unanswered | Continuity::Resume, _) => Fate::Again(attempt.base),
        }
    }

    /// The audio and the end that are to follow the byte `at`, which is that of one piece.
    pub(crate) fn piece_at(&self, at: usize) -> Option<(&[u8], bool)> {
        let mut start = 0;
        for (audio, end) in &self.accepted {
            if at < start + audio.len() {
                return Some((&audio[at - start..], *end));
            }
            start += audio.len();
        }
        None
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
    /// Whether anybody is there for it, and whether it is known how it is configured.
    pub(crate) attendance: Attendance,
    pub(crate) is_configured: bool,
    pub(crate) has_stood: bool,
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

/// A third of the sessions has each.
const fn continuity(number: usize) -> Continuity {
    match number % 3 {
        0 => Continuity::Unanswered,
        1 => Continuity::Resume,
        _ => Continuity::Off,
    }
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
            ledger: Ledger::new(LedgerConfig { continuity: continuity(number), ..ledger_config() }),
            link: None,
            requests: BTreeMap::new(),
            attendance: Attendance::Owned,
            is_configured: true,
            has_stood: false,
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
