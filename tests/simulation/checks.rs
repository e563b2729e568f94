//! The promises of a session, checked after every step that touched it.

use std::{sync::Arc, time::Duration};

use greenroom::{
    errors::{ErrorCode, SessionError},
    outbox::LedgerConfig,
    recovery::{
        Generation, StateName,
        lifecycle::{BackingOff, Count, Effect, Hold, Input, Starting, State},
    },
};

use crate::{
    seat::{Link, ledger_config},
    service::OUTAGE,
    world::World,
};

/// Between our close and the end of the old socket.
const CLOSING: Duration = Duration::from_secs(1);

/// Messages between a session and the fleet have arrived, and were answered, after this.
const SETTLED: Duration = Duration::from_secs(1);

impl World {
    /// What a person did clears the session's account.
    pub(crate) fn note_pardon(&mut self, seat: usize, before: StateName, input: &Input) {
        let pardons = match input {
            Input::Restart => before != StateName::Stopped,
            Input::Unpark => before == StateName::Parked,
            Input::Respec => matches!(
                before,
                StateName::Starting | StateName::Running | StateName::BackingOff | StateName::Failed
            ),
            Input::Start
            | Input::StartSuspended(_)
            | Input::RequestFailed { .. }
            | Input::Volunteer
            | Input::Granted(_)
            | Input::Upgraded(_)
            | Input::Suspended(..)
            | Input::Connected { .. }
            | Input::Broke { .. }
            | Input::Closed(_)
            | Input::Crashed(_)
            | Input::Audio
            | Input::Idle
            | Input::MinutesUsed
            | Input::Probe
            | Input::Release
            | Input::Park
            | Input::Delete
            | Input::Tick => false,
        };
        if pardons {
            self.seats[seat].charged.clear();
        }
    }

    /// Effects that must not follow from this input in this state. `error` is the error that it told of.
    pub(crate) fn check_effect(
        &mut self,
        seat: usize,
        state: &State,
        input: &Input,
        effect: &Effect,
        error: &mut Option<Arc<SessionError>>,
    ) {
        let before = state.name();
        let resting =
            matches!(before, StateName::Parked | StateName::Failed | StateName::Dormant | StateName::Stopped);
        match effect {
            Effect::Connect(generation) => {
                let granted = matches!(input, Input::Granted(granted) if granted == generation);
                if resting || !granted {
                    self.breach_at(seat, &format!("{before:?} connects by {input:?}"));
                }
            }
            Effect::Ask { .. } => {
                let woken = matches!(
                    input,
                    Input::Start
                        | Input::Volunteer
                        | Input::Audio
                        | Input::Probe
                        | Input::Release
                        | Input::Restart
                        | Input::Unpark
                        | Input::Respec
                );
                let held = *state == State::Parked(Hold::Operator)
                    && !matches!(input, Input::Restart | Input::Unpark);
                let deserted = resting && !self.seats[seat].attendance.may_revive();
                if held || deserted || (resting && !woken) {
                    self.breach_at(seat, &format!("{before:?} asks by {input:?}"));
                }
            }
            Effect::Count(Count::Error(told)) => *error = Some(Arc::clone(told)),
            Effect::Count(Count::Restart(code)) => self.charge(seat, *code, before),
            Effect::Count(Count::BudgetExhausted) => {
                let used = self.charged(seat);
                if used != self.recovery.budget.restarts as usize {
                    self.breach_at(seat, &format!("its budget is exhausted after {used} restarts"));
                }
            }
            Effect::Count(Count::Failure(_)) => {
                let by_outage = error.as_ref().is_some_and(|error| error.message == OUTAGE);
                if by_outage {
                    self.breach_at(seat, "an outage fails it");
                }
            }
            Effect::Count(Count::Park(_) | Count::Recovered(_))
            | Effect::Upgraded
            | Effect::Withdraw
            | Effect::Settled(_)
            | Effect::Close(_)
            | Effect::Parked(_)
            | Effect::Unparked
            | Effect::SlotFreed
            | Effect::EndRequests(_) => {}
        }
    }

    fn charge(&mut self, seat: usize, code: ErrorCode, before: StateName) {
        let by_the_service = matches!(
            code,
            ErrorCode::UpstreamError
                | ErrorCode::ConnectionFailed
                | ErrorCode::EgressUnavailable
                | ErrorCode::ServerError
                // Before the session ran: dropped before its confirmation.
                | ErrorCode::ConnectionClosed
        );
        // A limit is answered by a restart only where it is a ghost, which is nobody's fault.
        let free = code == ErrorCode::ConcurrencyLimit || (by_the_service && before != StateName::Running);
        if free {
            return;
        }
        let now = self.now;
        self.seats[seat].charged.push_back(now);
        let used = self.charged(seat);
        if used > self.recovery.budget.restarts as usize {
            self.breach_at(seat, &format!("{used} restarts in one window"));
        }
    }

    fn charged(&mut self, seat: usize) -> usize {
        let (now, window) = (self.now, self.recovery.budget.window);
        let charged = &mut self.seats[seat].charged;
        while charged.front().is_some_and(|&at| now.since(at) >= window) {
            charged.pop_front();
        }
        charged.len()
    }

    /// The link that a session has is the one that its state says, and its ledger is within its bounds.
    pub(crate) fn check_seat(&self, seat: usize) {
        let it = &self.seats[seat];
        let fits = match it.machine.state() {
            State::Running { generation, .. } => is_open(it.link, *generation, true),
            State::Starting(Starting::Connecting(generation) | Starting::Upgraded(generation)) => {
                is_open(it.link, *generation, false)
            }
            State::Starting(Starting::Draining(_)) => it.link.is_some_and(|link| link.closing.is_some()),
            State::Starting(Starting::Queued(_)) | State::BackingOff(_) => it.link.is_none(),
            State::Parked(_) | State::Dormant | State::Failed | State::Stopped { .. } => {
                it.link.is_none_or(|link| link.closing.is_some_and(|at| self.now.since(at) <= CLOSING))
            }
        };
        if !fits {
            self.breach_at(seat, "the state does not fit the connection");
        }
        if it.machine.link() != it.link.map(|link| link.generation) {
            self.breach_at(seat, "the session does not know its connection");
        }
        if it.machine.next_timeout().is_some_and(|at| at < self.now && it.tick_at.is_none()) {
            self.breach_at(seat, "a backoff has no timer");
        }
        self.check_attendance(seat);
        let LedgerConfig { session_bytes, max_open, .. } = ledger_config();
        if it.ledger.kept_bytes() > session_bytes || it.ledger.open_count() > max_open {
            let (bytes, open) = (it.ledger.kept_bytes(), it.ledger.open_count());
            self.breach_at(seat, &format!("its ledger holds {bytes} bytes of {open} requests"));
        }
        if it.ledger.open_count() != it.requests.len() {
            let (open, told) = (it.ledger.open_count(), it.requests.len());
            self.breach_at(seat, &format!("{open} requests are open and {told} clients wait"));
        }
        let running = it.state == StateName::Running;
        if !running && it.requests.values().any(|request| request.attempt.is_some()) {
            self.breach_at(seat, "a request waits for an answer on a connection that has ended");
        }
        let refuses = matches!(it.state, StateName::Parked | StateName::Failed | StateName::Stopped);
        if refuses && it.ledger.open_count() > 0 {
            self.breach_at(seat, "a request waits for a session that does not go on by itself");
        }
    }

    /// Everything of everybody, and whether somebody is forgotten.
    pub(crate) fn check_everything(&self) {
        for seat in 0..self.seats.len() {
            self.check_seat(seat);
            self.check_requests(seat);
            self.check_nobody_is_forgotten(seat);
        }
        let counted: u32 = self.service.accounts.iter().map(|account| account.counted).sum();
        if (counted as usize) < self.established().len() {
            self.breach("the model service has lost count of its connections");
        }
        if let Err(what) = self.watch.check_suspensions(&self.fleet) {
            self.breach(&what);
        }
    }

    fn check_requests(&self, seat: usize) {
        for (req_id, request) in &self.seats[seat].requests {
            let deadline = request.deadline(&ledger_config());
            if deadline < self.now {
                self.breach_at(seat, &format!("{req_id} has no outcome at its deadline {deadline:?}"));
            }
        }
    }

    /// Who waits for the fleet is known to the fleet.
    fn check_nobody_is_forgotten(&self, seat: usize) {
        let it = &self.seats[seat];
        if matches!(it.machine.state(), State::Parked(_)) && !it.attendance.waits_parked() {
            return;
        }
        let waits_since = match it.machine.state() {
            State::Starting(Starting::Queued(_)) | State::BackingOff(BackingOff::Queued { .. }) => {
                it.to_fleet_at.max(it.from_fleet_at).max(it.state_since)
            }
            State::Parked(Hold::Suspension(_) | Hold::KeyRefused) => {
                it.to_fleet_at.max(it.from_fleet_at).max(it.state_since)
            }
            State::Parked(Hold::Error(ErrorCode::BillingRequired | ErrorCode::CreditsExhausted)) => {
                it.to_fleet_at.max(it.from_fleet_at).max(it.state_since)
            }
            State::Starting(_)
            | State::BackingOff(_)
            | State::Running { .. }
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => return,
        };
        if self.now.since(waits_since) < SETTLED {
            return;
        }
        if matches!(it.state, StateName::Parked) {
            if self.fleet.suspension(&it.tenant_id).is_none() {
                self.breach_at(seat, "it is parked for a suspension that has ended");
            }
        } else if !self.fleet.is_waiting(&it.id) {
            self.breach_at(seat, "it waits for a turn, and the fleet does not know");
        }
    }
}

fn is_open(link: Option<Link>, generation: Generation, established: bool) -> bool {
    link == link.filter(|link| {
        link.generation == generation && link.established == established && link.closing.is_none()
    }) && link.is_some()
}
