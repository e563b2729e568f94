//! The gate: whoever wants to connect waits here for a turn.
//!
//! Turns lie on a grid in time, one grid point apart. They go round between the tenants that have somebody
//! waiting, and inside a tenant to whoever has waited longest.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Pass;
use crate::recovery::{Moment, SessionId, TenantId};

/// How much later than its grid point a turn may be taken without moving the grid: the timers of the usual
/// runtimes count in milliseconds, and a timer that is one tick late must not cost a turn.
const CATCH_UP: Duration = Duration::from_millis(2);

/// The grid is wider than one second through `per_second` by this factor, so that neither turns that were late by
/// up to `CATCH_UP` nor attempts that took some milliseconds longer from their turn to the service than later ones
/// put one too many into a second as the service counts it: of 500 sessions that came back together a margin of
/// 10 ms a second let it see 201 where 200 are allowed. What is held up for longer, by a stalled thread or on the
/// network, can still arrive together with what is behind it.
const GRID_MARGIN: f64 = 1.05;

/// How many may knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateConfig {
    /// The most attempts under way at any time, at least 1.
    pub max_in_flight: usize,
    /// The most attempts that begin in any second, at least 1.
    pub per_second: u32,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self { max_in_flight: 100, per_second: 200 }
    }
}

/// A session that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) session: SessionId,
    pub(super) tenant: TenantId,
    pub(super) pass: Pass,
}

#[derive(Clone, Debug)]
struct Waiting {
    tenant: TenantId,
    pass: Pass,
    place: u64,
}

/// The sessions of one tenant that wait. A tenant without any has a line only while it is held.
#[derive(Clone, Debug)]
struct Line {
    sessions: BTreeMap<u64, SessionId>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// Its place in the round.
    InRound(u64),
    /// Not before this moment: the service asked for it.
    Held(Moment),
}

/// The waiting sessions of one upstream, and the pace at which they go.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    spacing: Duration,
    /// The next grid point.
    next_at: Moment,
    /// Nobody goes before, whatever the grid says.
    shut_until: Moment,
    waiting: BTreeMap<SessionId, Waiting>,
    lines: BTreeMap<TenantId, Line>,
    /// The tenants that have somebody waiting and are not held; the first is next.
    round: BTreeMap<u64, TenantId>,
    holds: BTreeSet<(Moment, TenantId)>,
    /// The next place, in a line or in the round.
    next_place: u64,
}

impl Gate {
    pub(super) fn new(config: GateConfig) -> Self {
        Self {
            spacing: Duration::from_secs_f64(GRID_MARGIN / f64::from(config.per_second.max(1))),
            next_at: Moment::ZERO,
            shut_until: Moment::ZERO,
            waiting: BTreeMap::new(),
            lines: BTreeMap::new(),
            round: BTreeMap::new(),
            holds: BTreeSet::new(),
            next_place: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn contains(&self, session: &SessionId) -> bool {
        self.waiting.contains_key(session)
    }

    /// Whether nothing is remembered of anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.lines.is_empty() && self.round.is_empty() && self.holds.is_empty()
    }

    /// Lets a session wait; one that waits already keeps its place.
    pub(super) fn ask(&mut self, ticket: Ticket, now: Moment) {
        let Ticket { session, tenant, pass } = ticket;
        if let Some(waiting) = self.waiting.get_mut(&session) {
            waiting.pass = pass;
            return;
        }
        if self.round.is_empty() {
            // Grid points that passed while nobody waited are gone.
            self.next_at = self.next_at.max(now);
        }
        let place = self.new_place();
        match self.lines.get_mut(&tenant) {
            Some(line) => {
                line.sessions.insert(place, session.clone());
            }
            None => {
                let standing = self.join_round(&tenant);
                let sessions = BTreeMap::from([(place, session.clone())]);
                self.lines.insert(tenant.clone(), Line { sessions, standing });
            }
        }
        self.waiting.insert(session, Waiting { tenant, pass, place });
    }

    /// Takes a session out; returns whether it waited.
    pub(super) fn withdraw(&mut self, session: &SessionId) -> bool {
        let Some(Waiting { tenant, place, .. }) = self.waiting.remove(session) else {
            return false;
        };
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.sessions.remove(&place);
            if line.sessions.is_empty()
                && let Standing::InRound(turn) = line.standing
            {
                self.round.remove(&turn);
                self.lines.remove(&tenant);
            }
        }
        true
    }

    /// Who of a tenant waits, in the order of their places.
    pub(super) fn waiting_of(&self, tenant: &TenantId) -> Vec<(SessionId, Pass)> {
        let Some(line) = self.lines.get(tenant) else {
            return Vec::new();
        };
        let pass_of = |session: &SessionId| self.waiting.get(session).map(|waiting| waiting.pass);
        line.sessions.values().filter_map(|session| Some((session.clone(), pass_of(session)?))).collect()
    }

    /// Nobody goes before `until`.
    pub(super) fn shut(&mut self, until: Moment) {
        self.shut_until = self.shut_until.max(until);
    }

    /// Nobody of this tenant goes before `until`.
    pub(super) fn hold(&mut self, tenant: &TenantId, until: Moment) {
        let held = Standing::Held(until);
        match self.lines.get_mut(tenant) {
            None => {
                let line = Line { sessions: BTreeMap::new(), standing: held };
                self.lines.insert(tenant.clone(), line);
            }
            Some(line) => {
                match line.standing {
                    Standing::Held(earlier) if earlier >= until => return,
                    Standing::Held(earlier) => {
                        self.holds.remove(&(earlier, tenant.clone()));
                    }
                    Standing::InRound(turn) => {
                        self.round.remove(&turn);
                    }
                }
                line.standing = held;
            }
        }
        self.holds.insert((until, tenant.clone()));
    }

    /// Ends the holds whose time has come.
    pub(super) fn tick(&mut self, now: Moment) {
        while self.holds.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, tenant)) = self.holds.pop_first() else { return };
            let Some(mut line) = self.lines.remove(&tenant) else { continue };
            if !line.sessions.is_empty() {
                line.standing = self.join_round(&tenant);
                self.lines.insert(tenant, line);
            }
        }
    }

    /// The next session, where a turn is due.
    pub(super) fn take(&mut self, now: Moment) -> Option<Ticket> {
        if self.next_turn_at()? > now {
            return None;
        }
        let (_, tenant) = self.round.pop_first()?;
        let mut line = self.lines.remove(&tenant)?;
        let (_, session) = line.sessions.pop_first()?;
        let pass = self.waiting.remove(&session)?.pass;
        if !line.sessions.is_empty() {
            line.standing = self.join_round(&tenant);
            self.lines.insert(tenant.clone(), line);
        }
        self.next_at = self.next_at.max(now.minus(CATCH_UP)) + self.spacing;
        Some(Ticket { session, tenant, pass })
    }

    /// When the next turn is due; `None` while nobody can take it.
    pub(super) fn next_turn_at(&self) -> Option<Moment> {
        (!self.round.is_empty()).then(|| self.next_at.max(self.shut_until))
    }

    /// When the next hold ends.
    pub(super) fn next_hold_ends(&self) -> Option<Moment> {
        self.holds.first().map(|(until, _)| *until)
    }

    /// Forgets a tenant and whoever of it waits.
    pub(super) fn remove_tenant(&mut self, tenant: &TenantId) {
        let Some(line) = self.lines.remove(tenant) else { return };
        for session in line.sessions.values() {
            self.waiting.remove(session);
        }
        match line.standing {
            Standing::InRound(turn) => {
                self.round.remove(&turn);
            }
            Standing::Held(until) => {
                self.holds.remove(&(until, tenant.clone()));
            }
        }
    }

    fn join_round(&mut self, tenant: &TenantId) -> Standing {
        let turn = self.new_place();
        self.round.insert(turn, tenant.clone());
        Standing::InRound(turn)
    }

    const fn new_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }
}
