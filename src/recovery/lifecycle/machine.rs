//! The machine's state, and the inputs that are not errors.

use std::{collections::VecDeque, sync::Arc};

use super::{
    super::{Budget, Moment},
    Admission, BackingOff, Count, Effect, EndRequests, Generation, Hold, Input, Pass, RecoveryConfig,
    Starting, State,
};
use crate::errors::{ErrorCode, SessionError};

/// What is remembered of failed attempts until the session has run for `stable_after`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Streak {
    /// Failed attempts, for the backoff.
    pub(super) attempts: u32,
    /// Renewals of the token: the first is at once.
    pub(super) renewals: u32,
    /// `protocolError` and `unknown` in a row.
    pub(super) strikes: u32,
}

/// One session's lifecycle.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    pub(super) config: Arc<RecoveryConfig>,
    pub(super) state: State,
    /// The connection that was told to close and is not gone yet.
    pub(super) draining: Option<Generation>,
    /// The number of the latest ask.
    pub(super) generation: Generation,
    pub(super) streak: Streak,
    pub(super) budget: Budget,
    pub(super) last_error: Option<(Arc<SessionError>, Moment)>,
    pub(super) restarts: u64,
    /// When the connection was lost that the session is recovering from.
    pub(super) lost_at: Option<Moment>,
    /// Until when the service may still count a connection that ended without a close handshake.
    pub(super) ghost_until: Moment,
    pub(super) effects: VecDeque<Effect>,
}

impl Lifecycle {
    /// A session that was just made; it does nothing until [`Input::Start`].
    pub fn new(config: Arc<RecoveryConfig>) -> Self {
        Self {
            config,
            state: State::Dormant,
            draining: None,
            generation: Generation(0),
            streak: Streak::default(),
            budget: Budget::default(),
            last_error: None,
            restarts: 0,
            lost_at: None,
            ghost_until: Moment::ZERO,
            effects: VecDeque::new(),
        }
    }

    /// Takes one input. `random`, from 0 up to but not including 1, is used for the jitter of a backoff.
    /// The effects that follow are had from [`Lifecycle::next_effect`], and must be carried out in order.
    pub fn handle(&mut self, input: Input, now: Moment, random: f64) {
        match input {
            Input::Start => self.start(Pass::Normal),
            Input::Volunteer => self.start(Pass::Volunteer),
            Input::StartSuspended(code) => {
                self.emit(Effect::Count(Count::Park(code)));
                self.hold(Hold::Suspension(code));
            }
            Input::Granted(generation) => self.granted(generation),
            Input::Suspended(generation, code) => self.suspended(generation, code),
            Input::Upgraded(generation) => self.upgraded(generation),
            Input::Connected { generation, connection_id, capabilities } => {
                self.connected(generation, &connection_id, capabilities, now);
            }
            Input::Broke { generation, error } => self.broke(generation, &error, now, random),
            Input::Closed(generation) => self.closed(generation),
            Input::RequestFailed { generation, error } => {
                if self.serves(generation) {
                    self.note(&error, now);
                }
            }
            Input::Crashed(error) => self.crashed(&error, now, random),
            Input::Audio => self.audio(),
            Input::Idle => self.idle(),
            Input::MinutesUsed => self.minutes_used(),
            Input::Probe => self.unhold(Pass::Probe),
            Input::Release => self.unhold(Pass::Normal),
            Input::Unpark => {
                if matches!(self.state, State::Parked(_)) {
                    self.forgive();
                }
                self.unhold(Pass::Unparked);
            }
            Input::Restart => self.restart_by_command(),
            Input::Park => self.park_by_command(),
            Input::Respec => self.respec(),
            Input::Delete => self.delete(now),
            Input::Tick => self.tick(now),
        }
    }

    /// The next effect to carry out.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Tick`] is due.
    pub const fn next_timeout(&self) -> Option<Moment> {
        match &self.state {
            State::BackingOff(BackingOff::Until(at)) => Some(*at),
            State::BackingOff(BackingOff::Queued { .. })
            | State::Starting(_)
            | State::Running { .. }
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => None,
        }
    }

    /// The state.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The latest error and when it happened; kept while the session runs.
    pub fn last_error(&self) -> Option<(&Arc<SessionError>, Moment)> {
        self.last_error.as_ref().map(|(error, at)| (error, *at))
    }

    /// How often the session was restarted since it was made.
    pub const fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Failed attempts that are not forgotten yet.
    pub fn attempt(&self, now: Moment) -> u32 {
        if self.is_stable(now) { 0 } else { self.streak.attempts }
    }

    /// When the failed attempts are forgotten, if the session runs on; `None` where there are none.
    pub fn stable_at(&self) -> Option<Moment> {
        match &self.state {
            State::Running { since, .. } if self.streak != Streak::default() => {
                Some(*since + self.config.stable_after.0)
            }
            State::Running { .. }
            | State::Starting(_)
            | State::BackingOff(_)
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => None,
        }
    }

    /// When the next attempt is due: ahead while it backs off, past while it waits at the gate.
    pub const fn next_attempt_at(&self) -> Option<Moment> {
        match &self.state {
            State::BackingOff(BackingOff::Until(at) | BackingOff::Queued { due: at, .. }) => Some(*at),
            State::Starting(_)
            | State::Running { .. }
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => None,
        }
    }

    /// Whether the connection or attempt of `generation` is the one that the session goes by.
    pub fn serves(&self, generation: Generation) -> bool {
        match &self.state {
            State::Starting(Starting::Connecting(current) | Starting::Upgraded(current))
            | State::Running { generation: current, .. } => *current == generation,
            State::Starting(Starting::Draining(_) | Starting::Queued(_))
            | State::BackingOff(_)
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => false,
        }
    }

    /// The connection or attempt that exists now, also while it closes.
    pub const fn link(&self) -> Option<Generation> {
        match &self.state {
            State::Starting(Starting::Connecting(generation) | Starting::Upgraded(generation))
            | State::Running { generation, .. } => Some(*generation),
            State::Starting(Starting::Draining(_) | Starting::Queued(_))
            | State::BackingOff(_)
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => self.draining,
        }
    }

    /// What becomes of audio that comes now.
    pub const fn admission(&self) -> Admission {
        match &self.state {
            State::Running { .. } => Admission::Flows,
            State::Starting(_) | State::BackingOff(_) => Admission::Waits,
            State::Dormant => Admission::Wakes,
            State::Parked(_) | State::Failed | State::Stopped { .. } => Admission::Refused,
        }
    }

    /// Replaces the policy and its figures; what was decided before stands.
    pub fn reconfigure(&mut self, config: Arc<RecoveryConfig>) {
        self.config = config;
    }

    pub(super) fn is_stable(&self, now: Moment) -> bool {
        match &self.state {
            State::Running { since, .. } => now.since(*since) >= self.config.stable_after.0,
            State::Starting(_)
            | State::BackingOff(_)
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => false,
        }
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// A person has acted: what failed before does not count against the session.
    fn forgive(&mut self) {
        self.streak = Streak::default();
        self.budget.reset();
    }

    /// A command may overtake the start, and holds then.
    fn start(&mut self, pass: Pass) {
        if self.state == State::Dormant {
            self.connect(pass);
        }
    }

    /// Wants a connection: waits for the old one to be gone, then asks.
    pub(super) fn connect(&mut self, pass: Pass) {
        self.state = State::Starting(if self.draining.is_some() {
            Starting::Draining(pass)
        } else {
            Starting::Queued(self.ask(pass))
        });
    }

    fn ask(&mut self, pass: Pass) -> Generation {
        self.generation = Generation(self.generation.0 + 1);
        self.emit(Effect::Ask { generation: self.generation, pass });
        self.generation
    }

    /// Whether the session waits for the answer to this very ask.
    fn waits_for(&self, asked: Generation) -> bool {
        match &self.state {
            State::Starting(Starting::Queued(generation))
            | State::BackingOff(BackingOff::Queued { generation, .. }) => *generation == asked,
            State::Starting(Starting::Draining(_) | Starting::Connecting(_) | Starting::Upgraded(_))
            | State::BackingOff(BackingOff::Until(_))
            | State::Running { .. }
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => false,
        }
    }

    fn granted(&mut self, granted: Generation) {
        // A turn that is not wanted any more was withdrawn when that was decided.
        if self.waits_for(granted) {
            self.state = State::Starting(Starting::Connecting(granted));
            self.emit(Effect::Connect(granted));
        }
    }

    fn suspended(&mut self, refused: Generation, code: ErrorCode) {
        if self.waits_for(refused) {
            self.hold(Hold::Suspension(code));
            self.emit(Effect::Count(Count::Park(code)));
            self.emit(Effect::EndRequests(EndRequests::All(code)));
        }
    }

    fn upgraded(&mut self, upgraded: Generation) {
        if self.state == State::Starting(Starting::Connecting(upgraded)) {
            self.state = State::Starting(Starting::Upgraded(upgraded));
            self.emit(Effect::Upgraded);
        }
    }

    fn connected(
        &mut self,
        confirmed: Generation,
        connection_id: &str,
        capabilities: Vec<String>,
        now: Moment,
    ) {
        let awaits = [Starting::Connecting(confirmed), Starting::Upgraded(confirmed)].map(State::Starting);
        if !awaits.contains(&self.state) {
            return;
        }
        self.state = State::Running {
            generation: confirmed,
            since: now,
            connection_id: connection_id.into(),
            capabilities: capabilities.into(),
        };
        self.emit(Effect::Settled(None));
        if let Some(lost_at) = self.lost_at.take() {
            self.emit(Effect::Count(Count::Recovered(now.since(lost_at))));
        }
    }

    fn closed(&mut self, generation: Generation) {
        if self.draining != Some(generation) {
            return;
        }
        self.draining = None;
        self.emit(Effect::SlotFreed);
        if let State::Starting(Starting::Draining(pass)) = self.state {
            self.state = State::Starting(Starting::Queued(self.ask(pass)));
        }
    }

    fn audio(&mut self) {
        if self.state == State::Dormant {
            self.connect(Pass::Normal);
        }
    }

    /// Whether it has, wants or will want a connection.
    const fn is_to_run(&self) -> bool {
        match &self.state {
            State::Starting(_) | State::Running { .. } | State::BackingOff(_) => true,
            State::Parked(_) | State::Dormant | State::Failed | State::Stopped { .. } => false,
        }
    }

    fn idle(&mut self) {
        if self.is_to_run() {
            self.let_go();
            // There is none, or it would not be idle; should there be one it must not wait for ever.
            self.emit(Effect::EndRequests(EndRequests::Interrupted));
            self.state = State::Dormant;
        }
    }

    fn minutes_used(&mut self) {
        if self.is_to_run() {
            self.let_go();
            self.emit(Effect::EndRequests(EndRequests::Interrupted));
            self.hold(Hold::Minutes);
        }
    }

    fn unhold(&mut self, pass: Pass) {
        match &self.state {
            // What the fleet sent before it heard of the operator's park must not end it.
            State::Parked(Hold::Operator) if pass != Pass::Unparked => return,
            State::Parked(_) => {}
            State::Starting(_)
            | State::Running { .. }
            | State::BackingOff(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => return,
        }
        // A probe stays in the fleet's memory of parked sessions until it has succeeded.
        if pass != Pass::Probe {
            self.emit(Effect::Unparked);
        }
        self.connect(pass);
    }

    fn restart_by_command(&mut self) {
        if matches!(self.state, State::Stopped { .. }) {
            return;
        }
        self.forgive();
        self.let_go();
        self.emit(Effect::EndRequests(EndRequests::Interrupted));
        self.connect(Pass::Normal);
    }

    fn park_by_command(&mut self) {
        if matches!(self.state, State::Stopped { .. } | State::Parked(Hold::Operator)) {
            return;
        }
        self.let_go();
        self.emit(Effect::EndRequests(EndRequests::Interrupted));
        self.hold(Hold::Operator);
    }

    fn respec(&mut self) {
        match self.state {
            State::Starting(_) | State::Running { .. } | State::BackingOff(_) | State::Failed => {
                self.restart_by_command();
            }
            State::Parked(_) | State::Dormant | State::Stopped { .. } => {}
        }
    }

    fn delete(&mut self, now: Moment) {
        if matches!(self.state, State::Stopped { .. }) {
            return;
        }
        self.let_go();
        self.emit(Effect::EndRequests(EndRequests::Interrupted));
        self.state = State::Stopped { at: now };
        self.lost_at = None;
    }

    fn tick(&mut self, now: Moment) {
        if let State::BackingOff(BackingOff::Until(due)) = self.state
            && now >= due
        {
            // Nothing drains here: a session backs off after an error, and then its socket is gone.
            let generation = self.ask(Pass::Normal);
            self.state = State::BackingOff(BackingOff::Queued { generation, due });
        }
    }

    /// Gives up whatever the state holds outside the session: a turn, a connection, a place among the parked.
    fn let_go(&mut self) {
        self.lost_at = None;
        match &self.state {
            State::Starting(Starting::Queued(_)) | State::BackingOff(BackingOff::Queued { .. }) => {
                self.emit(Effect::Withdraw);
            }
            State::Starting(Starting::Connecting(generation) | Starting::Upgraded(generation)) => {
                let generation = *generation;
                self.draining = Some(generation);
                self.emit(Effect::Withdraw);
                self.emit(Effect::Close(generation));
            }
            State::Running { generation, .. } => {
                let generation = *generation;
                self.draining = Some(generation);
                self.emit(Effect::Close(generation));
            }
            State::Parked(_) => self.emit(Effect::Unparked),
            State::Starting(Starting::Draining(_))
            | State::BackingOff(BackingOff::Until(_))
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => {}
        }
    }

    pub(super) fn hold(&mut self, hold: Hold) {
        self.emit(Effect::Parked(hold.clone()));
        self.state = State::Parked(hold);
        self.lost_at = None;
    }
}
