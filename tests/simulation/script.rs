//! What happens to the world from outside: outages, empty accounts, operators.

use std::time::Duration;

use greenroom::{
    errors::ErrorCode,
    recovery::{
        Attendance, FleetInput, StateName,
        lifecycle::{Hold, Input, State},
    },
};

use crate::{
    seat::Link,
    service::{Fault, MISCONFIGURATIONS, Outage},
    world::{Event, World},
};

/// One act.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Script {
    OutageBegins(Outage, Duration),
    OutageEnds,
    /// All connections end in one instant.
    Storm,
    CreditsEnd(usize),
    ToppedUp(usize),
    KeyRevoked(usize),
    KeyMended(usize),
    LimitSet(usize, u32),
    LimitLifted(usize),
    SomebodyErrs,
    /// An operator does something to some session.
    Whim,
    /// An operator looks after what is failed or parked.
    Round,
    UnparkTenant(usize),
    UnparkOne(usize),
}

const DAY_S: u64 = 86_400;

impl World {
    /// Writes the script of one day.
    pub(crate) fn write_script(&mut self) {
        for _ in 0..6 {
            let kind = self.rng.pick(&[Outage::NoAnswer, Outage::Unavailable, Outage::ClosedInHandshake]);
            let lasts = Duration::from_secs(120 + self.rng.below(3500));
            self.some_time(Script::OutageBegins(kind, lasts));
        }
        for _ in 0..4 {
            self.some_time(Script::Storm);
        }
        for tenant in 0..self.options.tenants {
            for _ in 0..3 {
                self.some_time(Script::CreditsEnd(tenant));
            }
            if self.rng.chance(0.7) {
                self.some_time(Script::KeyRevoked(tenant));
            }
            if tenant % 3 == 0 {
                let limit = self.options.sessions_per_tenant.saturating_sub(5) as u32;
                self.some_time(Script::LimitSet(tenant, limit));
                self.some_time(Script::LimitSet(tenant, limit / 2));
            }
        }
        for _ in 0..200 {
            self.some_time(Script::SomebodyErrs);
        }
        for _ in 0..4000 {
            self.some_time(Script::Whim);
        }
        for quarter in 1..96 {
            self.after(Duration::from_secs(quarter * 900), Event::Script(Script::Round));
        }
    }

    fn some_time(&mut self, script: Script) {
        let at = self.rng.between(60_000, (DAY_S - 60) * 1000);
        self.after(at, Event::Script(script));
    }

    fn later(&mut self, low_s: u64, high_s: u64, script: Script) {
        let span = self.rng.between(low_s * 1000, high_s * 1000);
        self.after(span, Event::Script(script));
    }

    pub(crate) fn act(&mut self, script: Script) {
        if !self.mischief {
            return;
        }
        match script {
            Script::OutageBegins(kind, lasts) => self.begin_outage(kind, lasts),
            Script::OutageEnds => self.service.outage = None,
            Script::Storm => self.storm(),
            Script::CreditsEnd(tenant) => self.end_credits(tenant),
            Script::ToppedUp(tenant) => {
                self.service.accounts[tenant].refused = None;
                self.somebody_unparks(tenant);
            }
            Script::KeyRevoked(tenant) => {
                self.service.accounts[tenant].key_refused = true;
                self.later(300, 3600, Script::KeyMended(tenant));
            }
            Script::KeyMended(tenant) => {
                self.service.accounts[tenant].key_refused = false;
                self.somebody_unparks(tenant);
            }
            Script::LimitSet(tenant, limit) => {
                self.service.accounts[tenant].limit = Some(limit);
                self.later(1800, 10_000, Script::LimitLifted(tenant));
            }
            Script::LimitLifted(tenant) => self.service.accounts[tenant].limit = None,
            Script::SomebodyErrs => {
                let seat = self.rng.pick(&self.current);
                if self.rng.chance(0.2) {
                    self.seats[seat].flaky_until = self.now + Duration::from_secs(600);
                } else {
                    self.seats[seat].misconfigured = Some(self.rng.pick(&MISCONFIGURATIONS));
                }
                self.give(seat, Input::Respec);
            }
            Script::Whim => self.whim(),
            Script::Round => self.round(),
            Script::UnparkTenant(tenant) => {
                let tenant = self.tenant_id(tenant);
                self.after(Duration::from_millis(5), Event::ToFleet(FleetInput::Unsuspend { tenant }));
            }
            Script::UnparkOne(tenant) => {
                let parked = self.current.iter().copied().find(|&seat| {
                    self.seats[seat].tenant == tenant && self.seats[seat].state == StateName::Parked
                });
                if let Some(seat) = parked {
                    self.give(seat, Input::Unpark);
                }
            }
        }
    }

    pub(crate) fn begin_outage(&mut self, kind: Outage, lasts: Duration) {
        self.service.outage = Some(kind);
        self.tally.outages += 1;
        self.after(lasts, Event::Script(Script::OutageEnds));
        for (seat, link) in self.established() {
            if self.rng.chance(0.7) {
                let fault = match kind {
                    Outage::NoAnswer => Fault::HalfOpen,
                    Outage::Unavailable | Outage::ClosedInHandshake => {
                        Fault::Told(ErrorCode::UpstreamError, Some(4503))
                    }
                };
                let span = self.rng.between(0, 3000);
                self.after(span, Event::Breaks(seat, link.generation, fault));
            }
        }
    }

    pub(crate) fn established(&self) -> Vec<(usize, Link)> {
        let links = self.seats.iter().enumerate().filter_map(|(seat, it)| Some((seat, it.link?)));
        links.filter(|(_, link)| link.established).collect()
    }

    /// Every connection ends in this instant.
    pub(crate) fn storm(&mut self) {
        for (seat, link) in self.established() {
            let fault = Fault::Told(ErrorCode::ConnectionClosed, Some(1001));
            self.after(Duration::ZERO, Event::Breaks(seat, link.generation, fault));
        }
    }

    /// A tenant's credits run out: its connections end one after the other.
    pub(crate) fn end_credits(&mut self, tenant: usize) {
        let code = self.rng.pick(&[ErrorCode::CreditsExhausted, ErrorCode::BillingRequired]);
        self.service.accounts[tenant].refused = Some(code);
        for (seat, link) in self.established() {
            if self.seats[seat].tenant == tenant {
                let fault = Fault::Told(ErrorCode::CreditsExhausted, Some(4002));
                let span = self.rng.between(0, 3000);
                self.after(span, Event::Breaks(seat, link.generation, fault));
            }
        }
        if self.mischief {
            self.later(300, 5400, Script::ToppedUp(tenant));
        }
    }

    /// A person unparks the tenant, or one session of it, or leaves it to the probe.
    fn somebody_unparks(&mut self, tenant: usize) {
        match self.rng.below(3) {
            0 => self.later(0, 60, Script::UnparkTenant(tenant)),
            1 => self.later(0, 60, Script::UnparkOne(tenant)),
            _ => {}
        }
    }

    fn whim(&mut self) {
        let place = self.rng.below(self.current.len() as u64) as usize;
        let seat = self.current[place];
        match self.rng.below(6) {
            0 | 1 => self.give(seat, Input::Restart),
            2 => self.give(seat, Input::Park),
            3 => self.give(seat, Input::Unpark),
            4 => self.give(seat, Input::Respec),
            _ => {
                self.current.swap_remove(place);
                self.give(seat, Input::Delete);
                let tenant = self.seats[seat].tenant;
                // Instead of a client another one comes.
                if self.seats[seat].attendance == Attendance::Owned {
                    self.create(tenant);
                } else {
                    self.next_client(tenant);
                }
            }
        }
        // A second thought before the first has taken effect.
        if self.rng.chance(0.5) {
            let second = self.rng.pick(&[0_u8, 1, 2, 3]);
            let input = match second {
                0 => Input::Park,
                1 => Input::Unpark,
                2 => Input::Restart,
                _ => Input::Respec,
            };
            let span = self.rng.between(0, 60);
            self.after(span, Event::ToSession(seat, input));
        }
    }

    fn round(&mut self) {
        for seat in self.current.clone() {
            let state = self.seats[seat].machine.state().clone();
            match state {
                State::Failed if self.rng.chance(0.8) => {
                    self.seats[seat].misconfigured = None;
                    let input = if self.rng.chance(0.5) { Input::Restart } else { Input::Respec };
                    self.give(seat, input);
                }
                State::Parked(Hold::Operator) if self.rng.chance(0.5) => self.give(seat, Input::Unpark),
                State::Parked(Hold::Error(ErrorCode::SessionDurationExceeded)) => {
                    self.give(seat, Input::Unpark);
                }
                State::Failed
                | State::Parked(_)
                | State::Starting(_)
                | State::Running { .. }
                | State::BackingOff(_)
                | State::Dormant
                | State::Stopped { .. } => {}
            }
        }
    }
}
