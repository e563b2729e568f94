//! What holds whatever happens, in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;

const MAX_IN_FLIGHT: usize = 3;
const PER_SECOND: u32 = 20;
const PROBE_INTERVAL: Duration = secs(4);
const SESSIONS: [&str; 9] = ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3", "c/1", "c/2", "c/3"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(&'static str, Pass),
    Withdraw(&'static str),
    /// The attempt with this number, of those under way, waits for its client from now on.
    Upgrade(usize),
    /// The attempt with this number, of those under way or waiting for a client, settles.
    Settle(usize, AttemptOutcome, Option<Duration>),
    Park(&'static str, ParkCause),
    Left(&'static str),
    SlotFreed(&'static str),
    Unsuspend(&'static str),
    Gone(&'static str),
    OpenBreaker,
    CloseBreaker,
    Pass(Duration),
}

fn passes() -> impl Strategy<Value = Pass> {
    select(vec![Pass::Normal, Pass::Normal, Pass::Unparked, Pass::Probe, Pass::Volunteer])
}

fn outcomes() -> impl Strategy<Value = AttemptOutcome> {
    let key =
        AttemptOutcome::Refused { code: ErrorCode::SessionTokenInvalid, key_refused: true, health: false };
    select(vec![
        AttemptOutcome::Confirmed,
        AttemptOutcome::Confirmed,
        health_failure(),
        health_failure(),
        refused(CREDITS),
        AttemptOutcome::Abandoned,
        key,
    ])
}

fn causes() -> impl Strategy<Value = ParkCause> {
    select(vec![
        ParkCause::Billing(CREDITS),
        ParkCause::KeyRefused,
        ParkCause::Suspension,
        ParkCause::Concurrency,
        ParkCause::Concurrency,
        ParkCause::Duration,
        ParkCause::Operator,
    ])
}

fn sessions() -> impl Strategy<Value = &'static str> {
    select(SESSIONS.to_vec())
}

fn tenants() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (sessions(), passes()).prop_map(|(session, pass)| Step::Ask(session, pass)),
        1 => sessions().prop_map(Step::Withdraw),
        2 => (0..MAX_IN_FLIGHT).prop_map(Step::Upgrade),
        10 => (0..MAX_IN_FLIGHT + 3, outcomes(), option::weighted(0.1, (0_u64..3_000).prop_map(ms)))
            .prop_map(|(attempt, outcome, after)| Step::Settle(attempt, outcome, after)),
        2 => (sessions(), causes()).prop_map(|(session, cause)| Step::Park(session, cause)),
        1 => sessions().prop_map(Step::Left),
        1 => tenants().prop_map(Step::SlotFreed),
        1 => tenants().prop_map(Step::Unsuspend),
        1 => tenants().prop_map(Step::Gone),
        1 => Just(Step::OpenBreaker),
        2 => Just(Step::CloseBreaker),
        10 => (0_u64..400).prop_map(|millis| Step::Pass(ms(millis))),
        1 => (0_u64..9_000).prop_map(|millis| Step::Pass(ms(millis))),
    ]
}

/// A suspended tenant, as the effects tell it.
struct Suspended {
    /// When its interval began to count at the latest: the suspension, or the last call.
    last: Moment,
}

/// A fleet, and what an onlooker knows about it from its inputs and effects alone.
struct Onlooker {
    fleet: Fleet,
    now: Moment,
    late: Vec<Duration>,
    ticks: usize,
    passes: BTreeMap<SessionId, Pass>,
    under_way: BTreeSet<SessionId>,
    /// Attempts that have given their slot back.
    dawdling: BTreeSet<SessionId>,
    called: BTreeSet<SessionId>,
    /// Who asked to be a probe without a call.
    volunteers: BTreeSet<SessionId>,
    grants: Vec<Moment>,
    breaker: BreakerState,
    breaker_probe: Option<SessionId>,
    suspended: BTreeMap<TenantId, Suspended>,
}

impl Onlooker {
    fn new(late: Vec<Duration>) -> Self {
        let fleet = Fleet::new(FleetConfig {
            gate: GateConfig { max_in_flight: MAX_IN_FLIGHT, per_second: PER_SECOND },
            breaker: BreakerConfig { min_attempts: 4, ..BreakerConfig::default() },
            park_probe: Some(PROBE_INTERVAL),
            attempt_deadline: secs(6),
            ..FleetConfig::default()
        });
        Self {
            fleet,
            now: Moment::at(secs(1_000)),
            late,
            ticks: 0,
            passes: BTreeMap::new(),
            under_way: BTreeSet::new(),
            dawdling: BTreeSet::new(),
            called: BTreeSet::new(),
            volunteers: BTreeSet::new(),
            grants: Vec::new(),
            breaker: BreakerState::Closed,
            breaker_probe: None,
            suspended: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask(session, pass) => {
                self.passes.insert(session.into(), pass);
                self.volunteers.remove(&SessionId::from(session));
                if !self.called.contains(&SessionId::from(session)) && pass == Pass::Volunteer {
                    self.volunteers.insert(session.into());
                }
                self.input(FleetInput::Ask { session: session.into(), tenant: tenant_of(session), pass });
            }
            Step::Withdraw(session) => {
                self.ended(&session.into());
                self.input(FleetInput::Withdraw { session: session.into() });
            }
            Step::Upgrade(attempt) => {
                if let Some(session) = self.under_way.iter().nth(attempt).cloned() {
                    self.ended(&session);
                    self.dawdling.insert(session.clone());
                    self.input(FleetInput::Upgraded { session });
                }
            }
            Step::Settle(attempt, outcome, retry_after) => {
                let mut attempts = self.under_way.iter().chain(&self.dawdling);
                if let Some(session) = attempts.nth(attempt).cloned() {
                    self.ended(&session);
                    self.input(FleetInput::Settled { session, outcome, retry_after });
                }
            }
            Step::Park(session, cause) => {
                self.ended(&session.into());
                let tenant = tenant_of(session);
                self.input(FleetInput::Parked { session: session.into(), tenant, cause });
            }
            Step::Left(session) => {
                self.ended(&session.into());
                self.input(FleetInput::Left { session: session.into() });
            }
            Step::SlotFreed(tenant) => self.input(FleetInput::SlotFreed { tenant: tenant.into() }),
            Step::Unsuspend(tenant) => self.input(FleetInput::Unsuspend { tenant: tenant.into() }),
            Step::Gone(tenant) => self.gone(tenant),
            Step::OpenBreaker => self.input(FleetInput::OpenBreaker),
            Step::CloseBreaker => self.input(FleetInput::CloseBreaker),
            Step::Pass(span) => self.pass(span),
        }
    }

    fn gone(&mut self, tenant: &str) {
        for session in SESSIONS {
            if tenant_of(session) == TenantId::from(tenant) {
                self.ended(&session.into());
            }
        }
        self.suspended.remove(&TenantId::from(tenant));
        self.input(FleetInput::TenantGone { tenant: tenant.into() });
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(due) = self.fleet.next_timeout().filter(|due| *due <= end) {
            self.now = due + self.late[self.ticks % self.late.len()];
            self.ticks += 1;
            self.input(FleetInput::Tick);
        }
        self.now = self.now.max(end);
    }

    fn ended(&mut self, session: &SessionId) {
        self.under_way.remove(session);
        self.dawdling.remove(session);
        self.called.remove(session);
        if self.breaker_probe.as_ref() == Some(session) {
            self.breaker_probe = None;
        }
    }

    fn input(&mut self, input: FleetInput) {
        for effect in self.fleet.handle(input, self.now) {
            self.check(effect);
        }
        let due = self.fleet.next_timeout();
        assert!(due.is_none_or(|due| due > self.now), "due at {due:?}, and it is {:?}", self.now);
        assert!(self.fleet.in_flight() <= MAX_IN_FLIGHT);
        assert_eq!(self.fleet.in_flight(), self.under_way.len());
        for tenant in ["a", "b", "c"].map(TenantId::from) {
            assert_eq!(self.fleet.suspension(&tenant).is_some(), self.suspended.contains_key(&tenant));
        }
    }

    fn check(&mut self, effect: FleetEffect) {
        match effect {
            FleetEffect::Grant { session } => self.check_grant(session),
            FleetEffect::GrantExpired { session } => self.ended(&session),
            FleetEffect::BreakerChanged { state } => {
                self.breaker = state;
                self.breaker_probe = None;
            }
            FleetEffect::TenantSuspended { tenant, .. } => {
                let before = self.suspended.insert(tenant, Suspended { last: self.now });
                assert!(before.is_none(), "suspended twice");
            }
            FleetEffect::TenantReleased { tenant } => assert!(self.suspended.remove(&tenant).is_some()),
            FleetEffect::Probe { session } => {
                assert!(!self.under_way.contains(&session), "it tries already");
                self.called.insert(session.clone());
                if let Some(suspended) = self.suspended.get_mut(&tenant_of(session.as_str())) {
                    assert!(self.now.since(suspended.last) >= PROBE_INTERVAL, "two in one interval");
                    suspended.last = self.now;
                }
            }
            FleetEffect::Suspended { session, .. } => {
                assert!(self.suspended.contains_key(&tenant_of(session.as_str())));
                assert!(!self.fleet.is_waiting(&session));
                self.called.remove(&session);
            }
            FleetEffect::OutOfMinutes { session } => panic!("nobody counts minutes here: {session}"),
            FleetEffect::Release { session } => {
                assert!(!self.suspended.contains_key(&tenant_of(session.as_str())));
            }
        }
    }

    fn check_grant(&mut self, session: SessionId) {
        let tenant = tenant_of(session.as_str());
        assert!(self.under_way.insert(session.clone()), "{session} was granted twice");
        assert!(!self.dawdling.contains(&session), "{session} has an attempt already");
        self.called.remove(&session);
        if let Some(suspended) = self.suspended.get_mut(&tenant) {
            assert_ne!(self.passes.get(&session), Some(&Pass::Normal), "{session} is suspended");
            if self.volunteers.remove(&session) {
                assert!(self.now.since(suspended.last) >= PROBE_INTERVAL, "two in one interval");
                suspended.last = self.now;
            }
        }
        match self.breaker {
            BreakerState::Closed => {}
            BreakerState::HalfOpen { .. } => {
                assert_eq!(self.breaker_probe.replace(session), None, "one probe at a time");
            }
            BreakerState::Open { .. } | BreakerState::Forced => panic!("{session} passed an open breaker"),
        }
        self.grants.push(self.now);
        if let Some(first) = self.grants.len().checked_sub(PER_SECOND as usize + 1) {
            let span = self.now.since(self.grants[first]);
            assert!(span >= secs(1), "one too many in {span:?}");
        }
    }

    /// Every session ends: nothing may be left of them.
    fn end(mut self) {
        for session in SESSIONS {
            self.step(Step::Left(session));
            self.step(Step::Withdraw(session));
        }
        for tenant in ["a", "b", "c"] {
            self.step(Step::Unsuspend(tenant));
        }
        self.input(FleetInput::CloseBreaker);
        self.pass(secs(600));
        assert!(self.fleet.is_empty(), "{:?}", self.fleet);
        assert_eq!(self.fleet.next_timeout(), None);
    }
}

fn lateness() -> impl Strategy<Value = Vec<Duration>> {
    prop_oneof![Just(vec![Duration::ZERO]), vec((0_u64..=5_000).prop_map(Duration::from_micros), 1..20)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_breaks_a_limit(steps in vec(steps(), 1..200), late in lateness()) {
        let mut onlooker = Onlooker::new(late);
        for step in steps {
            onlooker.step(step);
        }
        onlooker.end();
    }

    #[test]
    fn a_crowd_never_exceeds_the_rate_however_late_the_ticks(
        per_second in 1_u32..1_000,
        late in vec((0_u64..=5_000).prop_map(Duration::from_micros), 1..20),
    ) {
        let gate = GateConfig { max_in_flight: 10_000, per_second };
        let mut fleet = Fleet::new(FleetConfig { gate, ..FleetConfig::default() });
        let mut now = Moment::at(secs(1_000));
        let mut grants = Vec::new();
        for number in 0..per_second * 5 / 2 {
            let session = SessionId::from(number.to_string());
            let ask = FleetInput::Ask { session, tenant: "a".into(), pass: Pass::Normal };
            grants.extend(fleet.handle(ask, now).iter().map(|_| now));
        }
        for late in late.iter().cycle() {
            // The deadlines of the attempts are timers too, so this ends with the crowd.
            if fleet.waiting() == 0 {
                break;
            }
            now = fleet.next_timeout().unwrap().max(now) + *late;
            grants.extend(fleet.handle(FleetInput::Tick, now).iter().map(|_| now));
        }
        for window in grants.windows(per_second as usize + 1) {
            prop_assert!(window[per_second as usize].since(window[0]) >= secs(1));
        }
    }

    #[test]
    fn no_tenant_gets_two_grants_while_another_waits(
        asks in vec((0_usize..5, 0_u64..20), 1..300),
    ) {
        let gate = GateConfig { max_in_flight: 10_000, per_second: 100 };
        let mut fleet = Fleet::new(FleetConfig { gate, ..FleetConfig::default() });
        let mut now = Moment::at(secs(1_000));
        let mut waiting = [0_u32; 5];
        // How many grants each tenant had since another one's last grant, or since that one began to wait.
        let mut ahead = [[0_u32; 5]; 5];
        let mut take = |waiting: &mut [u32; 5], effects: Vec<FleetEffect>| {
            for effect in effects {
                let FleetEffect::Grant { session } = effect else { panic!("{effect:?}") };
                let tenant: usize = tenant_of(session.as_str()).as_str().parse().unwrap();
                waiting[tenant] -= 1;
                ahead[tenant] = [0; 5];
                for other in 0..5 {
                    ahead[other][tenant] = if waiting[other] == 0 { 0 } else { ahead[other][tenant] + 1 };
                    assert!(other == tenant || ahead[other][tenant] <= 1, "{other} waits for {tenant}");
                }
                ahead[tenant][tenant] = 0;
            }
        };
        for (number, (tenant, pause)) in asks.into_iter().enumerate() {
            let session = SessionId::from(format!("{tenant}/{number}"));
            let ask =
                FleetInput::Ask { session, tenant: tenant.to_string().into(), pass: Pass::Normal };
            waiting[tenant] += 1;
            take(&mut waiting, fleet.handle(ask, now));
            now = now + ms(pause);
            take(&mut waiting, fleet.handle(FleetInput::Tick, now));
        }
    }

    #[test]
    fn every_waiting_session_is_granted_in_the_end_when_the_service_is_well(
        tenants in vec(0_usize..6, 1..80),
        latencies in vec(1_u64..9_000, 1..10),
        failures_first in 0_usize..40,
        max_in_flight in 1_usize..10,
    ) {
        let gate = GateConfig { max_in_flight, per_second: 50 };
        let mut fleet = Fleet::new(FleetConfig { gate, ..FleetConfig::default() });
        let mut now = Moment::at(secs(1_000));
        let mut ends = BTreeSet::new();
        let mut confirmed = BTreeSet::new();
        let mut attempts = 0;
        let mut inputs: Vec<_> = tenants.iter().enumerate().map(|(number, tenant)| {
            let session = SessionId::from(format!("{tenant}/{number}"));
            let tenant = tenant_of(session.as_str());
            FleetInput::Ask { session, tenant, pass: Pass::Normal }
        }).collect();
        loop {
            for input in std::mem::take(&mut inputs) {
                for effect in fleet.handle(input, now) {
                    if let FleetEffect::Grant { session } = effect {
                        ends.insert((now + ms(latencies[attempts % latencies.len()]), attempts, session));
                        attempts += 1;
                    }
                }
            }
            let ends_at = ends.first().map(|(at, _, _)| *at);
            let Some(next) = fleet.next_timeout().into_iter().chain(ends_at).min() else { break };
            now = next;
            inputs.push(FleetInput::Tick);
            if ends_at == Some(next)
                && let Some((_, attempt, session)) = ends.pop_first()
            {
                let well = attempt >= failures_first;
                let outcome = if well { AttemptOutcome::Confirmed } else { health_failure() };
                inputs.push(FleetInput::Settled { session: session.clone(), outcome, retry_after: None });
                if well {
                    confirmed.insert(session);
                } else {
                    let tenant = tenant_of(session.as_str());
                    inputs.push(FleetInput::Ask { session, tenant, pass: Pass::Normal });
                }
            }
        }
        prop_assert_eq!(confirmed.len(), tenants.len());
        prop_assert_eq!((fleet.waiting(), fleet.in_flight()), (0, 0));
    }
}
