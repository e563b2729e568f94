//! The promises of the fleet machine, in virtual time.

mod breaker;
mod clients;
mod concurrency;
mod gate;
mod minutes;
mod outage;
mod properties;
mod suspension;

use std::time::Duration;

use super::*;
use crate::recovery::Moment;

const CREDITS: ErrorCode = ErrorCode::CreditsExhausted;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn health_failure() -> AttemptOutcome {
    AttemptOutcome::Refused { code: ErrorCode::UpstreamError, key_refused: false, health: true }
}

fn refused(code: ErrorCode) -> AttemptOutcome {
    AttemptOutcome::Refused { code, key_refused: false, health: false }
}

fn grant(session: &str) -> FleetEffect {
    FleetEffect::Grant { session: session.into() }
}

fn probe(session: &str) -> FleetEffect {
    FleetEffect::Probe { session: session.into() }
}

fn release(session: &str) -> FleetEffect {
    FleetEffect::Release { session: session.into() }
}

fn suspended(session: &str) -> FleetEffect {
    FleetEffect::Suspended { session: session.into(), code: CREDITS }
}

fn tenant_suspended(tenant: &str) -> FleetEffect {
    FleetEffect::TenantSuspended { tenant: tenant.into(), code: CREDITS }
}

fn tenant_released(tenant: &str) -> FleetEffect {
    FleetEffect::TenantReleased { tenant: tenant.into() }
}

/// A fleet and its clock. A session is written `tenant/name`.
struct World {
    fleet: Fleet,
    now: Moment,
}

impl World {
    fn new(config: FleetConfig) -> Self {
        // Not at the clock's start, so that nothing passes by saturating there.
        Self { fleet: Fleet::new(config), now: Moment::at(secs(1_000)) }
    }

    fn with_defaults() -> Self {
        Self::new(FleetConfig::default())
    }

    fn input(&mut self, input: FleetInput) -> Vec<FleetEffect> {
        let effects = self.fleet.handle(input, self.now);
        assert!(self.fleet.next_timeout().is_none_or(|due| due > self.now), "something is left to do");
        effects
    }

    fn ask(&mut self, session: &str) -> Vec<FleetEffect> {
        self.ask_with(session, Pass::Normal)
    }

    fn ask_with(&mut self, session: &str, pass: Pass) -> Vec<FleetEffect> {
        self.input(FleetInput::Ask { session: session.into(), tenant: tenant_of(session), pass })
    }

    fn upgraded(&mut self, session: &str) -> Vec<FleetEffect> {
        self.input(FleetInput::Upgraded { session: session.into() })
    }

    fn settle(&mut self, session: &str, outcome: AttemptOutcome) -> Vec<FleetEffect> {
        self.input(FleetInput::Settled { session: session.into(), outcome, retry_after: None })
    }

    fn settle_with(&mut self, session: &str, outcome: AttemptOutcome, after: Duration) -> Vec<FleetEffect> {
        self.input(FleetInput::Settled { session: session.into(), outcome, retry_after: Some(after) })
    }

    fn park(&mut self, session: &str, cause: ParkCause) -> Vec<FleetEffect> {
        self.input(FleetInput::Parked { session: session.into(), tenant: tenant_of(session), cause })
    }

    fn park_for_billing(&mut self, session: &str) -> Vec<FleetEffect> {
        self.park(session, ParkCause::Billing(CREDITS))
    }

    fn withdraw(&mut self, session: &str) -> Vec<FleetEffect> {
        self.input(FleetInput::Withdraw { session: session.into() })
    }

    fn left(&mut self, session: &str) -> Vec<FleetEffect> {
        self.input(FleetInput::Left { session: session.into() })
    }

    fn slot_freed(&mut self, tenant: &str) -> Vec<FleetEffect> {
        self.input(FleetInput::SlotFreed { tenant: tenant.into() })
    }

    /// Lets `span` pass, with a tick whenever the fleet wants one.
    fn pass(&mut self, span: Duration) -> Vec<(Duration, FleetEffect)> {
        let (start, end) = (self.now, self.now + span);
        let mut seen = Vec::new();
        while let Some(due) = self.fleet.next_timeout().filter(|due| *due <= end) {
            self.now = due;
            let effects = self.input(FleetInput::Tick);
            seen.extend(effects.into_iter().map(|effect| (due - start, effect)));
        }
        self.now = end;
        seen
    }

    /// What happens in the next `span`, without its times.
    fn effects_of(&mut self, span: Duration) -> Vec<FleetEffect> {
        self.pass(span).into_iter().map(|(_, effect)| effect).collect()
    }

    fn is_suspended(&self, tenant: &str) -> bool {
        self.fleet.suspension(&tenant.into()).is_some()
    }
}

fn tenant_of(session: &str) -> TenantId {
    session.split_once('/').expect("a session of the tests names its tenant").0.into()
}
