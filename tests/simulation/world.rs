//! The world: a queue of events in virtual time, and the product's machines in the middle of it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use greenroom::recovery::{
    Departure, Fleet, FleetConfig, FleetEffect, FleetInput, Generation, Moment, RecoveryConfig, TenantId,
    fleet::{AttemptOutcome, ParkCause},
    lifecycle::{Effect, Input, Pass},
};

use crate::{
    rng::Rng,
    script::Script,
    seat::{Seat, number},
    service::{Fault, Service},
    tally::Tally,
    watch::Watch,
};

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    ToFleet(FleetInput),
    /// An ask has a number that the fleet does not know; whoever holds the fleet remembers the latest.
    Ask(usize, Generation, Pass),
    ToSession(usize, Input),
    SessionDue(usize),
    LedgerDue(usize),
    FleetDue,
    AttemptEnds(usize, Generation),
    Breaks(usize, Generation, Fault),
    Gone(usize, Generation),
    GhostGone(usize),
    Idle(usize, Generation),
    Speak(usize),
    ClientComes(usize),
    ClientLeaves(usize, Departure),
    ClientReturns(usize),
    Deserted(usize),
    Configures(usize, Generation, Duration),
    Chunk {
        seat: usize,
        req_id: String,
        left: u32,
        end: bool,
    },
    Interrupt(usize, String),
    Frame {
        seat: usize,
        generation: Generation,
        req_id: String,
        end: bool,
    },
    Plays {
        seat: usize,
        generation: Generation,
        req_id: String,
    },
    RequestFails {
        seat: usize,
        generation: Generation,
        req_id: String,
    },
    Script(Script),
}

struct Due {
    at: Moment,
    sequence: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// What kind of world it is.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) tenants: usize,
    pub(crate) sessions_per_tenant: usize,
    /// Drop-in clients at a time.
    pub(crate) clients_per_tenant: usize,
    pub(crate) park_probe: Option<Duration>,
    /// Faults, clients and operators; without them nothing happens that the test does not do.
    pub(crate) lively: bool,
}

impl Options {
    /// A world in which only the test acts.
    pub(crate) const fn quiet(tenants: usize, sessions_per_tenant: usize) -> Self {
        let park_probe = Some(Duration::from_secs(600));
        Self { seed: 7, tenants, sessions_per_tenant, clients_per_tenant: 0, park_probe, lively: false }
    }
}

/// The whole world.
pub(crate) struct World {
    pub(crate) now: Moment,
    pub(crate) options: Options,
    pub(crate) rng: Rng,
    pub(crate) recovery: Arc<RecoveryConfig>,
    pub(crate) fleet: Fleet,
    pub(crate) seats: Vec<Seat>,
    /// The sessions that were not deleted.
    pub(crate) current: Vec<usize>,
    pub(crate) service: Service,
    pub(crate) watch: Watch,
    pub(crate) tally: Tally,
    pub(crate) mischief: bool,
    /// Nothing ends any more by itself.
    pub(crate) healed: bool,
    /// No client ever configures its session.
    pub(crate) dawdle: bool,
    pub(crate) next_request: u64,
    pub(crate) fresh_id: u64,
    queue: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    fleet_tick_at: Option<Moment>,
    traced: Option<usize>,
}

/// A full check of all sessions after this many events; the session that an event touched is checked always.
const FULL_CHECK_EVERY: u64 = 20_000;

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let fleet = FleetConfig { park_probe: options.park_probe, ..FleetConfig::default() };
        let mut world = Self {
            now: Moment::at(Duration::from_secs(1)),
            rng: Rng::new(options.seed),
            recovery: Arc::new(RecoveryConfig::default()),
            watch: Watch::new(&fleet, options.tenants),
            fleet: Fleet::new(fleet),
            seats: Vec::new(),
            current: Vec::new(),
            service: Service::new(options.tenants, options.lively),
            tally: Tally::default(),
            mischief: options.lively,
            healed: false,
            dawdle: false,
            next_request: 0,
            fresh_id: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            fleet_tick_at: None,
            traced: std::env::var("SIM_TRACE").ok().and_then(|text| text.parse().ok()),
            options,
        };
        for tenant in 0..world.options.tenants {
            for _ in 0..world.options.sessions_per_tenant {
                world.create(tenant);
            }
            world.expect_drop_ins(tenant, world.options.clients_per_tenant);
        }
        if world.options.lively {
            world.write_script();
        }
        world
    }

    /// A new session of a tenant, which starts at once.
    pub(crate) fn create(&mut self, tenant: usize) -> usize {
        let seat = self.seats.len();
        self.seats.push(Seat::new(seat, tenant, &self.recovery, self.now));
        self.current.push(seat);
        self.after(Duration::ZERO, Event::ToSession(seat, Input::Start));
        if self.options.lively {
            let pause = self.rng.after_mean(crate::clients::PAUSE);
            self.after(pause, Event::Speak(seat));
        }
        seat
    }

    pub(crate) fn after(&mut self, span: Duration, event: Event) {
        self.at(self.now + span, event);
    }

    fn at(&mut self, at: Moment, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Due { at, sequence: self.sequence, event }));
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.queue.peek().is_some_and(|Reverse(due)| due.at <= end) {
            let Some(Reverse(due)) = self.queue.pop() else { break };
            self.now = due.at;
            self.tally.events += 1;
            if self.traced.is_some() {
                self.trace(&due.event);
            }
            self.step(due.event);
            if self.tally.events.is_multiple_of(FULL_CHECK_EVERY) {
                self.check_everything();
            }
        }
        self.now = end;
        self.check_everything();
    }

    fn trace(&self, event: &Event) {
        let text = format!("{event:?}");
        let seat = self.traced.unwrap();
        if [format!("ses_{seat}\""), format!("({seat})"), format!("({seat},"), format!("seat: {seat},")]
            .iter()
            .any(|mark| text.contains(mark))
        {
            println!("{:?} {text}\n    {:?}", self.now.since_start(), self.seats[seat].machine.state());
        }
    }

    /// Says what is wrong, and how to see it again.
    pub(crate) fn breach(&self, what: &str) -> ! {
        let seed = self.options.seed;
        panic!(
            "{what}\n  at {:?}, event {}; again with: SIM_SEED={seed} cargo test --test simulation\n  \
             (SIM_TRACE=N prints what happens to session N)",
            self.now.since_start(),
            self.tally.events
        );
    }

    pub(crate) fn breach_at(&self, seat: usize, what: &str) -> ! {
        let it = &self.seats[seat];
        let (state, link) = (it.machine.state(), it.link);
        self.breach(&format!("{} (session {seat}): {what}\n  state {state:?}\n  link {link:?}", it.id))
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::ToFleet(input) => self.tell_fleet(input),
            Event::Ask(seat, generation, pass) => {
                self.seats[seat].asked = (generation, pass);
                let (session, tenant) = (self.seats[seat].id.clone(), self.seats[seat].tenant_id.clone());
                self.tell_fleet(FleetInput::Ask { session, tenant, pass });
            }
            Event::ToSession(seat, input) => self.give(seat, input),
            // A timer that was set anew for an earlier time goes off for nothing at its old one.
            Event::SessionDue(seat) if self.seats[seat].tick_at == Some(self.now) => {
                self.seats[seat].tick_at = None;
                self.give(seat, Input::Tick);
            }
            Event::LedgerDue(seat) if self.seats[seat].ledger_tick_at == Some(self.now) => {
                self.tick_ledger(seat);
            }
            Event::FleetDue if self.fleet_tick_at == Some(self.now) => {
                self.fleet_tick_at = None;
                self.tell_fleet(FleetInput::Tick);
            }
            Event::SessionDue(_) | Event::LedgerDue(_) | Event::FleetDue => {}
            Event::AttemptEnds(seat, generation) => self.attempt_ends(seat, generation),
            Event::Breaks(..) | Event::Idle(..) if self.healed => {}
            Event::Breaks(seat, generation, fault) => self.link_breaks(seat, generation, fault),
            Event::Gone(seat, generation) => self.link_gone(seat, generation),
            Event::GhostGone(tenant) => self.service.accounts[tenant].counted -= 1,
            Event::Idle(seat, generation) => self.idle(seat, generation),
            Event::Speak(seat) => self.speak(seat),
            Event::ClientComes(tenant) => self.client_comes(tenant),
            Event::ClientLeaves(seat, how) => self.client_leaves(seat, how),
            Event::ClientReturns(seat) => self.client_returns(seat),
            Event::Deserted(seat) => self.end_deserted(seat),
            Event::Configures(seat, generation, after) => self.configures(seat, generation, after),
            Event::Chunk { seat, req_id, left, end } => self.chunk(seat, req_id, left, end),
            Event::Interrupt(seat, req_id) => self.interrupt(seat, &req_id),
            Event::Frame { seat, generation, req_id, end } => self.frame(seat, generation, &req_id, end),
            Event::Plays { seat, generation, req_id } => self.plays(seat, generation, &req_id),
            Event::RequestFails { seat, generation, req_id } => {
                self.request_fails(seat, generation, &req_id);
            }
            Event::Script(script) => self.act(script),
        }
    }

    fn tell_fleet(&mut self, input: FleetInput) {
        if let Err(what) = self.watch.before(&input, &self.seats) {
            self.breach(&what);
        }
        let effects = self.fleet.handle(input, self.now);
        for effect in effects {
            let asked = if let FleetEffect::Grant { session } = &effect {
                Some(self.seats[number(session)].asked.1)
            } else {
                None
            };
            if let Err(what) = self.watch.effect(&effect, asked, &self.seats, self.now) {
                self.breach(&what);
            }
            self.carry_out(effect);
        }
        if let Err(what) = self.watch.after(&self.fleet, self.now) {
            self.breach(&what);
        }
        if let Some(at) = self.fleet.next_timeout()
            && self.fleet_tick_at.is_none_or(|earlier| at < earlier)
        {
            self.fleet_tick_at = Some(at);
            self.at(at, Event::FleetDue);
        }
    }

    fn carry_out(&mut self, effect: FleetEffect) {
        let (session, input) = match effect {
            FleetEffect::Grant { session } => {
                let generation = self.seats[number(&session)].asked.0;
                (session, Input::Granted(generation))
            }
            FleetEffect::Suspended { session, code } => {
                let generation = self.seats[number(&session)].asked.0;
                (session, Input::Suspended(generation, code))
            }
            FleetEffect::OutOfMinutes { session } => (session, Input::MinutesUsed),
            FleetEffect::Probe { session } => (session, Input::Probe),
            FleetEffect::Release { session } => (session, Input::Release),
            FleetEffect::BreakerChanged { .. } => {
                self.tally.breaker_changes += 1;
                return;
            }
            FleetEffect::TenantSuspended { .. } => {
                self.tally.suspensions += 1;
                return;
            }
            FleetEffect::TenantReleased { .. } | FleetEffect::GrantExpired { .. } => return,
        };
        let seat = number(&session);
        let at = (self.now + self.rng.between(0, 30)).max(self.seats[seat].from_fleet_at);
        self.seats[seat].from_fleet_at = at;
        self.at(at, Event::ToSession(seat, input));
    }

    fn send(&mut self, seat: usize, event: Event) {
        let at = (self.now + self.rng.between(0, 30)).max(self.seats[seat].to_fleet_at);
        self.seats[seat].to_fleet_at = at;
        self.at(at, event);
    }

    /// Gives a session an input, carries its effects out, and checks it.
    pub(crate) fn give(&mut self, seat: usize, input: Input) {
        if !self.hears(seat, &input) {
            return;
        }
        let random = self.rng.unit();
        let before = self.seats[seat].machine.state().clone();
        let told = input.clone();
        self.seats[seat].machine.handle(input, self.now, random);
        self.note_pardon(seat, before.name(), &told);
        let mut error = None;
        while let Some(effect) = self.seats[seat].machine.next_effect() {
            self.check_effect(seat, &before, &told, &effect, &mut error);
            self.tally.effect(&effect);
            self.effect(seat, effect);
        }
        self.dismiss(seat);
        self.settle_down(seat);
    }

    /// What follows every step of a session: audio flows, timers are set, everything is checked.
    pub(crate) fn settle_down(&mut self, seat: usize) {
        self.pump(seat);
        self.collect_outcomes(seat);
        let it = &mut self.seats[seat];
        let name = it.machine.state().name();
        if name != it.state {
            (it.state, it.state_since) = (name, self.now);
        }
        let due = it.machine.next_timeout().filter(|at| it.tick_at.is_none_or(|earlier| *at < earlier));
        if let Some(at) = due {
            let at = at.max(self.now);
            it.tick_at = Some(at);
            self.at(at, Event::SessionDue(seat));
        }
        let it = &mut self.seats[seat];
        let due = it.ledger.next_timeout().filter(|at| it.ledger_tick_at.is_none_or(|earlier| *at < earlier));
        if let Some(at) = due {
            let at = at.max(self.now);
            it.ledger_tick_at = Some(at);
            self.at(at, Event::LedgerDue(seat));
        }
        self.check_seat(seat);
    }

    fn effect(&mut self, seat: usize, effect: Effect) {
        let (session, tenant) = (self.seats[seat].id.clone(), self.seats[seat].tenant_id.clone());
        match effect {
            Effect::Ask { generation, pass } => self.send(seat, Event::Ask(seat, generation, pass)),
            Effect::Withdraw => self.send(seat, Event::ToFleet(FleetInput::Withdraw { session })),
            Effect::Upgraded => self.send(seat, Event::ToFleet(FleetInput::Upgraded { session })),
            Effect::Settled(error) => {
                let retry_after = error.as_ref().and_then(|error| error.retry_after);
                let outcome = AttemptOutcome::of(error.as_deref());
                self.send(seat, Event::ToFleet(FleetInput::Settled { session, outcome, retry_after }));
            }
            Effect::Connect(generation) => self.connect(seat, generation),
            Effect::Close(generation) => self.close(seat, generation),
            Effect::Parked(hold) => {
                let cause = ParkCause::of(&hold);
                let parked = FleetInput::Parked { session: session.clone(), tenant, cause };
                self.send(seat, Event::ToFleet(parked));
                if !self.seats[seat].attendance.waits_parked() {
                    self.send(seat, Event::ToFleet(FleetInput::Left { session }));
                }
            }
            Effect::Unparked => self.send(seat, Event::ToFleet(FleetInput::Left { session })),
            Effect::SlotFreed => self.send(seat, Event::ToFleet(FleetInput::SlotFreed { tenant })),
            Effect::EndRequests(which) => self.end_requests(seat, which),
            Effect::Count(_) => {}
        }
    }

    pub(crate) fn tenant_id(&self, tenant: usize) -> TenantId {
        TenantId::from(format!("tenant_{tenant}"))
    }

    /// How many sessions are in each state.
    pub(crate) fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for &seat in &self.current {
            *states.entry(self.seats[seat].machine.state().name().as_str()).or_default() += 1;
        }
        states
    }
}
