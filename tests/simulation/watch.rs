//! The fleet's promises, kept account of by somebody else than the fleet.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use greenroom::{
    errors::ErrorCode,
    recovery::{
        Fleet, FleetConfig, FleetEffect, FleetInput, Moment, SessionId, TenantId,
        fleet::{AttemptOutcome, BreakerState, GateConfig, ParkCause},
        lifecycle::Pass,
    },
};

use crate::seat::{Seat, number};

/// A message takes at most this long, so that attempts may bunch by as much.
const MESSAGE: Duration = Duration::from_millis(30);

pub(crate) struct Watch {
    gate: GateConfig,
    grants: VecDeque<Moment>,
    attempts: VecDeque<Moment>,
    flying: BTreeSet<SessionId>,
    /// Attempts that wait for a client, and hold no slot.
    dawdling: BTreeSet<SessionId>,
    /// When the tenant was suspended, or had its latest attempt since.
    quiet_since: Vec<Moment>,
    park_probe: Option<Duration>,
    breaker: BreakerState,
    /// The probe of the breaker that is under way.
    probe: Option<SessionId>,
    suspended: Vec<bool>,
    /// The turns that were given to probes of parked sessions, by tenant.
    pub(crate) park_probes: Vec<Vec<Moment>>,
    pub(crate) grants_total: u64,
}

impl Watch {
    pub(crate) fn new(config: &FleetConfig, tenants: usize) -> Self {
        Self {
            gate: config.gate,
            grants: VecDeque::new(),
            attempts: VecDeque::new(),
            flying: BTreeSet::new(),
            dawdling: BTreeSet::new(),
            quiet_since: vec![Moment::ZERO; tenants],
            park_probe: config.park_probe,
            breaker: BreakerState::Closed,
            probe: None,
            suspended: vec![false; tenants],
            park_probes: vec![Vec::new(); tenants],
            grants_total: 0,
        }
    }

    fn lands(&mut self, session: &SessionId) {
        self.flying.remove(session);
        self.dawdling.remove(session);
        if self.probe.as_ref() == Some(session) {
            self.probe = None;
        }
    }

    /// What an input says, before the fleet has heard it.
    pub(crate) fn before(&mut self, input: &FleetInput, seats: &[Seat]) -> Result<(), String> {
        match input {
            FleetInput::Upgraded { session } => {
                if !self.flying.contains(session) {
                    return Err(format!("{session} upgrades an attempt that nobody granted"));
                }
                self.lands(session);
                self.dawdling.insert(session.clone());
            }
            FleetInput::Settled { session, outcome, .. } => {
                if !self.flying.contains(session) && !self.dawdling.contains(session) {
                    return Err(format!("{session} settles an attempt that nobody granted"));
                }
                self.lands(session);
                // The fleet learns of a refused key here; of a refused account when the session parks.
                if matches!(outcome, AttemptOutcome::Refused { key_refused: true, .. }) {
                    self.suspended[seats[number(session)].tenant] = true;
                }
            }
            FleetInput::Withdraw { session } => self.lands(session),
            FleetInput::Parked { session, tenant, cause } => {
                if self.flying.contains(session) {
                    return Err(format!("{session} parks while its attempt is not settled"));
                }
                if matches!(cause, ParkCause::Billing(_) | ParkCause::KeyRefused) {
                    self.suspended[tenant_number(tenant)] = true;
                }
            }
            FleetInput::Ask { .. }
            | FleetInput::Left { .. }
            | FleetInput::SlotFreed { .. }
            | FleetInput::Unsuspend { .. }
            | FleetInput::MinutesUsed { .. }
            | FleetInput::MinutesRenewed { .. }
            | FleetInput::TenantGone { .. }
            | FleetInput::OpenBreaker
            | FleetInput::CloseBreaker
            | FleetInput::Tick => {}
        }
        Ok(())
    }

    pub(crate) fn effect(
        &mut self,
        effect: &FleetEffect,
        asked: Option<Pass>,
        seats: &[Seat],
        now: Moment,
    ) -> Result<(), String> {
        match effect {
            FleetEffect::Grant { session } => {
                let tenant = seats[number(session)].tenant;
                self.grant(session, asked, tenant, now)
            }
            FleetEffect::GrantExpired { session } => Err(format!("{session} kept its slot for too long")),
            FleetEffect::BreakerChanged { state } => {
                self.breaker = *state;
                self.probe = None;
                Ok(())
            }
            FleetEffect::TenantSuspended { tenant, .. } => {
                self.quiet_since[tenant_number(tenant)] = now;
                Ok(())
            }
            FleetEffect::TenantReleased { tenant } => {
                self.suspended[tenant_number(tenant)] = false;
                Ok(())
            }
            FleetEffect::Suspended { session, code } => {
                let suspends = matches!(
                    code,
                    ErrorCode::BillingRequired | ErrorCode::CreditsExhausted | ErrorCode::SessionTokenInvalid
                );
                if suspends { Ok(()) } else { Err(format!("{session} is suspended for {code}")) }
            }
            FleetEffect::OutOfMinutes { .. } | FleetEffect::Probe { .. } | FleetEffect::Release { .. } => {
                Ok(())
            }
        }
    }

    fn grant(
        &mut self,
        session: &SessionId,
        asked: Option<Pass>,
        tenant: usize,
        now: Moment,
    ) -> Result<(), String> {
        self.grants_total += 1;
        if self.dawdling.contains(session) || !self.flying.insert(session.clone()) {
            return Err(format!("{session} has two turns"));
        }
        if self.flying.len() > self.gate.max_in_flight {
            return Err(format!("{} attempts under way", self.flying.len()));
        }
        let in_a_second = crowd(&mut self.grants, now);
        if in_a_second > self.gate.per_second as usize {
            return Err(format!("{in_a_second} turns in one second"));
        }
        match self.breaker {
            BreakerState::Closed => {}
            BreakerState::HalfOpen { .. } => {
                if let Some(earlier) = self.probe.replace(session.clone()) {
                    return Err(format!("{session} probes the service while {earlier} does"));
                }
            }
            BreakerState::Open { .. } | BreakerState::Forced => {
                return Err(format!("{session} has a turn while the breaker is {:?}", self.breaker));
            }
        }
        match asked {
            Some(Pass::Normal) if self.suspended[tenant] => {
                Err(format!("{session} has a turn while its tenant is suspended"))
            }
            Some(Pass::Volunteer) if self.suspended[tenant] => {
                let quiet = now.since(self.quiet_since[tenant]);
                self.quiet_since[tenant] = now;
                self.park_probes[tenant].push(now);
                match self.park_probe {
                    Some(interval) if quiet >= interval => Ok(()),
                    Some(_) | None => Err(format!("{session} volunteers after {quiet:?}")),
                }
            }
            Some(Pass::Probe) => {
                self.park_probes[tenant].push(now);
                self.quiet_since[tenant] = now;
                Ok(())
            }
            Some(Pass::Normal | Pass::Unparked | Pass::Volunteer) | None => Ok(()),
        }
    }

    pub(crate) fn after(&self, fleet: &Fleet, now: Moment) -> Result<(), String> {
        if fleet.in_flight() != self.flying.len() {
            return Err(format!("{} slots for {} attempts", fleet.in_flight(), self.flying.len()));
        }
        if fleet.next_timeout().is_some_and(|at| at <= now) {
            return Err(format!("the fleet is due again at once: {:?}", fleet.next_timeout()));
        }
        Ok(())
    }

    /// The oracle's opinion and the fleet's agree on who is suspended.
    pub(crate) fn check_suspensions(&self, fleet: &Fleet) -> Result<(), String> {
        for (tenant, &suspended) in self.suspended.iter().enumerate() {
            let id = TenantId::from(format!("tenant_{tenant}"));
            if suspended != fleet.suspension(&id).is_some() {
                return Err(format!("{id} suspended: {suspended}, the fleet: {:?}", fleet.suspension(&id)));
            }
        }
        Ok(())
    }

    /// An attempt reaches the service.
    pub(crate) fn attempt(&mut self, now: Moment) -> Result<(), String> {
        let in_a_second = crowd(&mut self.attempts, now);
        let bound = f64::from(self.gate.per_second) * (1.0 + MESSAGE.as_secs_f64()) + 1.0;
        if in_a_second as f64 > bound {
            return Err(format!("{in_a_second} attempts in one second"));
        }
        Ok(())
    }
}

/// Notes one more, and says how many there were within the last second.
fn crowd(times: &mut VecDeque<Moment>, now: Moment) -> usize {
    while times.front().is_some_and(|&at| now.since(at) >= Duration::from_secs(1)) {
        times.pop_front();
    }
    times.push_back(now);
    times.len()
}

fn tenant_number(tenant: &TenantId) -> usize {
    tenant.as_str()["tenant_".len()..].parse().unwrap()
}
