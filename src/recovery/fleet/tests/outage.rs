//! Whole fleets against a service that is away, and that comes back.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// How long an attempt takes, whichever way it ends.
const ATTEMPT: Duration = secs(1);

enum Event {
    Asks(SessionId),
    Ends(SessionId),
}

/// Sessions that ask again after a backoff whenever they have failed.
struct Crowd {
    fleet: Fleet,
    now: Moment,
    events: BTreeMap<(Moment, u64), Event>,
    sequence: u64,
    failures: BTreeMap<SessionId, u32>,
    confirmed: BTreeSet<SessionId>,
    grants: Vec<Moment>,
    /// Attempts fail before this moment.
    healthy_from: Moment,
}

impl Crowd {
    fn knocking_at_once(sessions: u32, tenants: u32, healthy_after: Duration) -> Self {
        let now = Moment::at(secs(1_000));
        let mut crowd = Self {
            fleet: Fleet::new(FleetConfig::default()),
            now,
            events: BTreeMap::new(),
            sequence: 0,
            failures: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            grants: Vec::new(),
            healthy_from: now + healthy_after,
        };
        for number in 0..sessions {
            let session = format!("t{}/{number}", number % tenants);
            crowd.schedule(now, Event::Asks(session.as_str().into()));
        }
        crowd
    }

    fn schedule(&mut self, at: Moment, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    fn run_until(&mut self, end: Moment) {
        loop {
            let event_at = self.events.keys().next().map(|(at, _)| *at);
            let timer_at = self.fleet.next_timeout();
            let Some(next) = event_at.into_iter().chain(timer_at).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next;
            if event_at == Some(next)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event);
            } else {
                self.input(FleetInput::Tick);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Asks(session) => {
                let tenant = tenant_of(session.as_str());
                self.input(FleetInput::Ask { session, tenant, pass: Pass::Normal });
            }
            Event::Ends(session) if self.now >= self.healthy_from => {
                self.confirmed.insert(session.clone());
                let outcome = AttemptOutcome::Confirmed;
                self.input(FleetInput::Settled { session, outcome, retry_after: None });
            }
            Event::Ends(session) => {
                let failures = self.failures.entry(session.clone()).or_default();
                let backoff = (ms(500) * 2_u32.pow((*failures).min(6))).min(secs(30));
                *failures += 1;
                self.schedule(self.now + backoff, Event::Asks(session.clone()));
                let outcome = health_failure();
                self.input(FleetInput::Settled { session, outcome, retry_after: None });
            }
        }
    }

    fn input(&mut self, input: FleetInput) {
        for effect in self.fleet.handle(input, self.now) {
            match effect {
                FleetEffect::Grant { session } => {
                    self.grants.push(self.now);
                    self.schedule(self.now + ATTEMPT, Event::Ends(session));
                }
                FleetEffect::BreakerChanged { .. } => {}
                FleetEffect::Suspended { .. }
                | FleetEffect::OutOfMinutes { .. }
                | FleetEffect::Probe { .. }
                | FleetEffect::Release { .. }
                | FleetEffect::TenantSuspended { .. }
                | FleetEffect::TenantReleased { .. }
                | FleetEffect::GrantExpired { .. } => panic!("an outage parks nobody: {effect:?}"),
            }
        }
    }
}

#[test]
fn in_an_hour_of_outage_only_the_probe_knocks_and_afterwards_all_come_back() {
    let hour = secs(3_600);
    let mut crowd = Crowd::knocking_at_once(1_000, 20, hour);
    let start = crowd.now;
    crowd.run_until(start + hour);
    let config = FleetConfig::default();
    // 5, 10, 20 and 40 s, before the wait between two probes is the longest.
    let doublings = 4;
    let probes = 3_600 / config.breaker.open_max.as_secs() as usize * 12 / 10;
    let most = config.breaker.min_attempts as usize + config.gate.max_in_flight + probes + doublings;
    let attempts = crowd.grants.len();
    assert!(attempts <= most, "{attempts} attempts, at most {most} were to be expected");
    assert!(attempts > 100 + 50, "the probes must go on: {attempts} attempts");
    assert!(crowd.confirmed.is_empty());

    // One wait for the probe, three probes, and the time that a thousand take at the gate.
    crowd.run_until(start + hour + secs(60 + 3 + 1_000 / 198 + 5));
    assert_eq!(crowd.confirmed.len(), 1_000);
}

#[test]
fn ten_thousand_sessions_that_lose_their_connection_at_once_come_back_at_the_rate_of_the_gate() {
    let mut crowd = Crowd::knocking_at_once(10_000, 100, Duration::ZERO);
    let start = crowd.now;
    let slots_turned_over = secs(10_000 / 100);
    crowd.run_until(start + slots_turned_over + secs(5));
    assert_eq!(crowd.confirmed.len(), 10_000);
    assert_eq!(crowd.fleet.next_timeout(), None);
}
