//! The machine itself: which input goes to which of its parts, and who is granted a turn.

use std::{mem, time::Duration};

use super::{
    AttemptOutcome, BreakerState, FleetConfig, FleetEffect, FleetInput, ParkCause, Pass, Suspension,
    breaker::{Breaker, Finding},
    gate::{Gate, Ticket},
    minutes::Minutes,
    parked::{Arrival, ParkedSessions, Queue, Role},
    slots::{Attempt, Hold, Slots},
};
use crate::{
    errors::ErrorCode,
    recovery::{Moment, SessionId, TenantId},
};

/// An attempt that may hold its slot for no time would lose it before it began.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(1);

/// Who may connect to one upstream, and when.
#[derive(Clone, Debug)]
pub struct Fleet {
    max_in_flight: usize,
    attempt_deadline: Duration,
    retry_after_max: Duration,
    gate: Gate,
    slots: Slots,
    breaker: Breaker,
    parked: ParkedSessions,
    minutes: Minutes,
    effects: Vec<FleetEffect>,
}

impl Fleet {
    /// A fleet without sessions. Limits of zero count as their least value: one attempt under way, one a
    /// second; a probe interval of zero turns the probe off.
    pub fn new(config: FleetConfig) -> Self {
        let attempt_deadline = config.attempt_deadline.max(SHORTEST_ATTEMPT);
        let park_probe = config.park_probe.filter(|interval| !interval.is_zero());
        Self {
            max_in_flight: config.gate.max_in_flight.max(1),
            attempt_deadline,
            retry_after_max: config.retry_after_max,
            gate: Gate::new(config.gate),
            slots: Slots::default(),
            breaker: Breaker::new(config.breaker),
            parked: ParkedSessions::new(park_probe, attempt_deadline),
            minutes: Minutes::default(),
            effects: Vec::new(),
        }
    }

    /// Takes one input, and does whatever is due at `now`. The effects must be carried out in order.
    #[must_use]
    pub fn handle(&mut self, input: FleetInput, now: Moment) -> Vec<FleetEffect> {
        match input {
            FleetInput::Ask { session, tenant, pass } => self.ask(session, tenant, pass, now),
            FleetInput::Withdraw { session } | FleetInput::Left { session } => self.withdraw(&session, now),
            FleetInput::Upgraded { session } => {
                if let Some(turn) = self.slots.give_back(&session) {
                    self.breaker.release(turn);
                }
            }
            FleetInput::Settled { session, outcome, retry_after } => {
                self.settled(session, outcome, retry_after, now);
            }
            FleetInput::Parked { session, tenant, cause } => self.park(session, &tenant, cause, now),
            FleetInput::SlotFreed { tenant } => self.parked.offer_slot(&tenant, now, &mut self.effects),
            FleetInput::Unsuspend { tenant } => {
                self.parked.release(&tenant, now, &mut self.effects);
                // Whatever the person has changed, it may have made room for those who lack a connection.
                self.parked.offer_slot(&tenant, now, &mut self.effects);
            }
            FleetInput::MinutesUsed { tenant } => self.minutes.use_up(tenant),
            FleetInput::MinutesRenewed { tenant } => {
                let waiting = self.minutes.renew(&tenant).into_iter();
                self.effects.extend(waiting.map(|session| FleetEffect::Release { session }));
            }
            FleetInput::TenantGone { tenant } => self.tenant_gone(&tenant, now),
            FleetInput::OpenBreaker => {
                let change = self.breaker.force();
                self.tell(change);
            }
            FleetInput::CloseBreaker => {
                let change = self.breaker.close();
                self.tell(change);
            }
            FleetInput::Tick => {}
        }
        self.do_what_is_due(now);
        mem::take(&mut self.effects)
    }

    /// When [`FleetInput::Tick`] is due; always later than the `now` of the last input.
    pub fn next_timeout(&self) -> Option<Moment> {
        let turn = if self.has_room() { self.gate.next_turn_at() } else { None };
        [
            turn,
            self.gate.next_hold_ends(),
            self.slots.next_timeout(),
            self.breaker.next_timeout(),
            self.parked.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// How many sessions wait for a turn.
    pub fn waiting(&self) -> usize {
        self.gate.len()
    }

    /// How many attempts are under way, those not counted that wait for their client.
    pub fn in_flight(&self) -> usize {
        self.slots.taken()
    }

    /// The breaker's state.
    pub const fn breaker_state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Why a tenant is suspended, if it is.
    pub fn suspension(&self, tenant: &TenantId) -> Option<&Suspension> {
        self.parked.suspension(tenant)
    }

    /// Whether a tenant's connections have lasted for as long as they may.
    pub fn minutes_are_used(&self, tenant: &TenantId) -> bool {
        self.minutes.are_used(tenant)
    }

    /// Whether a session waits for a turn.
    pub fn is_waiting(&self, session: &SessionId) -> bool {
        self.gate.contains(session) || self.slots.get(session).is_some_and(|attempt| attempt.again.is_some())
    }

    /// Whether nothing is remembered of anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.gate.is_empty() && self.slots.is_empty() && self.parked.is_empty() && self.minutes.is_empty()
    }

    fn ask(&mut self, session: SessionId, tenant: TenantId, pass: Pass, now: Moment) {
        if let Some(attempt) = self.slots.get_mut(&session) {
            attempt.again = Some(pass);
            return;
        }
        if self.minutes.park(&session, &tenant) {
            self.gate.withdraw(&session);
            self.parked.forget(&session, now);
            self.effects.push(FleetEffect::OutOfMinutes { session });
            return;
        }
        let is_the_probe = match pass {
            Pass::Probe => self.parked.answer(&session),
            Pass::Volunteer => self.parked.volunteer(&session, &tenant, now),
            Pass::Normal | Pass::Unparked => false,
        };
        if !is_the_probe {
            self.forget_parked(&session, now);
        }
        match self.parked.refusal(&session, &tenant, pass) {
            Some(code) => self.refuse(session, &tenant, code, now),
            None => self.gate.ask(Ticket { session, tenant, pass }, now),
        }
    }

    fn refuse(&mut self, session: SessionId, tenant: &TenantId, code: ErrorCode, now: Moment) {
        self.gate.withdraw(&session);
        self.parked.park(session.clone(), tenant, Queue::Blocked, Arrival::Unheard, now);
        self.effects.push(FleetEffect::Suspended { session, code });
    }

    fn withdraw(&mut self, session: &SessionId, now: Moment) {
        self.gate.withdraw(session);
        self.minutes.forget(session);
        match self.slots.remove(session) {
            Some(attempt) => {
                self.find(&attempt, Finding::Silent, now);
                // Its connection is still to be closed, and its end is told as a freed slot.
                self.parked.forget(session, now);
            }
            None => self.forget_parked(session, now),
        }
    }

    /// Whether a session that is made now may knock though its tenant is suspended: the probe is due, and nobody is
    /// parked that could be called for it. It asks with [`Pass::Volunteer`].
    pub fn wants_volunteer(&self, tenant: &TenantId, now: Moment) -> bool {
        self.parked.wants_volunteer(tenant, now)
    }

    /// Forgets a session that has not tried; a free connection that it was called for is offered to the next.
    fn forget_parked(&mut self, session: &SessionId, now: Moment) {
        match self.parked.forget(session, now) {
            Some((tenant, Role::SlotProbe)) => self.parked.offer_slot(&tenant, now, &mut self.effects),
            // The tenant's attempt of this interval was not made: the next client makes it.
            Some((tenant, Role::Volunteer)) => self.parked.make_due(&tenant, now),
            Some((_, Role::Waiting | Role::IntervalProbe(_))) | None => {}
        }
    }

    fn settled(
        &mut self,
        session: SessionId,
        outcome: AttemptOutcome,
        retry_after: Option<Duration>,
        now: Moment,
    ) {
        // Without an attempt it comes too late: its slot was taken back.
        let Some(attempt) = self.slots.remove(&session) else { return };
        let role = self.parked.forget(&session, now).map(|(_, role)| role);
        let quiet_until = retry_after.map(|span| now + span.min(self.retry_after_max));
        match outcome {
            AttemptOutcome::Confirmed => {
                self.find(&attempt, Finding::Well, now);
                self.confirmed(&attempt.tenant, role, now);
            }
            AttemptOutcome::Refused { code, key_refused, health } => {
                self.find(&attempt, if health { Finding::Unwell } else { Finding::Well }, now);
                match quiet_until {
                    Some(until) if health => self.gate.shut(until),
                    Some(until) => self.gate.hold(&attempt.tenant, until),
                    None => {}
                }
                if key_refused {
                    self.suspend(&attempt.tenant, code, now);
                }
            }
            AttemptOutcome::Abandoned => self.find(&attempt, Finding::Silent, now),
        }
        self.ask_again(session, attempt, now);
    }

    fn confirmed(&mut self, tenant: &TenantId, role: Option<Role>, now: Moment) {
        self.parked.release(tenant, now, &mut self.effects);
        match role {
            // Where there was room for one there may be room for the next.
            Some(Role::SlotProbe | Role::IntervalProbe(Queue::Concurrency)) => {
                self.parked.offer_slot(tenant, now, &mut self.effects);
            }
            Some(Role::Waiting | Role::Volunteer | Role::IntervalProbe(Queue::Blocked)) | None => {}
        }
    }

    fn ask_again(&mut self, session: SessionId, attempt: Attempt, now: Moment) {
        if let Some(pass) = attempt.again {
            self.ask(session, attempt.tenant, pass, now);
        }
    }

    fn park(&mut self, session: SessionId, tenant: &TenantId, cause: ParkCause, now: Moment) {
        self.gate.withdraw(&session);
        self.minutes.forget(&session);
        if let Some(attempt) = self.slots.remove(&session) {
            self.find(&attempt, Finding::Silent, now);
            // It has knocked: what it was called for is done.
            self.parked.forget(&session, now);
        }
        match cause {
            ParkCause::Billing(code) => self.block(session, tenant, code, now),
            ParkCause::KeyRefused => self.block(session, tenant, ErrorCode::SessionTokenInvalid, now),
            ParkCause::Suspension if self.parked.suspension(tenant).is_some() => {
                self.parked.park(session, tenant, Queue::Blocked, Arrival::Unheard, now);
            }
            ParkCause::Suspension => {
                self.forget_parked(&session, now);
                self.effects.push(FleetEffect::Release { session });
            }
            ParkCause::Minutes => {
                self.forget_parked(&session, now);
                if !self.minutes.park(&session, tenant) {
                    self.effects.push(FleetEffect::Release { session });
                }
            }
            ParkCause::Concurrency => {
                self.parked.park(session, tenant, Queue::Concurrency, Arrival::Refused, now);
            }
            ParkCause::Duration | ParkCause::Operator => self.forget_parked(&session, now),
        }
    }

    fn block(&mut self, session: SessionId, tenant: &TenantId, code: ErrorCode, now: Moment) {
        // First in the queue: of those that the suspension parks, this one has been parked longest.
        self.parked.park(session, tenant, Queue::Blocked, Arrival::Refused, now);
        self.suspend(tenant, code, now);
    }

    fn suspend(&mut self, tenant: &TenantId, code: ErrorCode, now: Moment) {
        if !self.parked.suspend(tenant, code, now) {
            return;
        }
        self.effects.push(FleetEffect::TenantSuspended { tenant: tenant.clone(), code });
        for (session, pass) in self.gate.waiting_of(tenant) {
            if let Some(code) = self.parked.refusal(&session, tenant, pass) {
                self.refuse(session, tenant, code, now);
            }
        }
    }

    fn tenant_gone(&mut self, tenant: &TenantId, now: Moment) {
        self.gate.remove_tenant(tenant);
        self.minutes.renew(tenant);
        self.parked.remove_tenant(tenant);
        for session in self.slots.of_tenant(tenant) {
            if let Some(attempt) = self.slots.remove(&session) {
                self.find(&attempt, Finding::Silent, now);
            }
        }
    }

    fn find(&mut self, attempt: &Attempt, finding: Finding, now: Moment) {
        let change = self.breaker.settle(attempt.turn, finding, now);
        self.tell(change);
    }

    fn tell(&mut self, change: Option<BreakerState>) {
        self.effects.extend(change.map(|state| FleetEffect::BreakerChanged { state }));
    }

    fn do_what_is_due(&mut self, now: Moment) {
        self.take_back_slots(now);
        let change = self.breaker.tick(now);
        self.tell(change);
        self.gate.tick(now);
        self.parked.tick(now, &mut self.effects);
        self.grant(now);
    }

    fn take_back_slots(&mut self, now: Moment) {
        while let Some(session) = self.slots.expired(now) {
            let Some(attempt) = self.slots.remove(&session) else { return };
            self.find(&attempt, Finding::Silent, now);
            self.parked.forget(&session, now);
            self.effects.push(FleetEffect::GrantExpired { session: session.clone() });
            self.ask_again(session, attempt, now);
        }
    }

    fn has_room(&self) -> bool {
        self.slots.taken() < self.max_in_flight && self.breaker.admits()
    }

    fn grant(&mut self, now: Moment) {
        while self.has_room() {
            let Some(Ticket { session, tenant, pass: _ }) = self.gate.take(now) else { return };
            let attempt = Attempt {
                tenant,
                turn: self.breaker.admit(),
                hold: Hold::Until(now + self.attempt_deadline),
                again: None,
            };
            self.slots.insert(session.clone(), attempt);
            self.effects.push(FleetEffect::Grant { session });
        }
    }
}
