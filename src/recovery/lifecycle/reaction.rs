//! What a session does about an error.

use std::{sync::Arc, time::Duration};

use super::{
    super::Moment, BackingOff, Count, Effect, EndRequests, Generation, Hold, Lifecycle, Pass, Starting,
    State, machine::Streak,
};
use crate::errors::{Action, ErrorCode, SessionError};

/// How many restarts in a row answer an error that nobody understands, before a person must look.
const STRIKES: u32 = 3;

/// How long the service may go on counting a connection that ended without a close handshake: it has to
/// notice the loss first, and keep-alives of 30 to 60 s are usual.
pub(super) const GHOST: Duration = Duration::from_secs(90);

/// The longest `Retry-After` that a session believes: a mistaken one of days must not keep it away for days.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What follows from an error, once policy and history were asked.
enum Reaction {
    /// Wait, then try again.
    Restart(Charge),
    /// Try again at once.
    Renew(Charge),
    Park(Hold),
    Sleep,
    Fail,
}

/// Whether a restart uses the session's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charge {
    Budget,
    Free,
}

impl Lifecycle {
    pub(super) fn broke(
        &mut self,
        generation: Generation,
        error: &Arc<SessionError>,
        now: Moment,
        random: f64,
    ) {
        let was_running = match &self.state {
            State::Starting(Starting::Connecting(current) | Starting::Upgraded(current))
                if *current == generation =>
            {
                false
            }
            State::Running { generation: current, .. } if *current == generation => true,
            State::Starting(_)
            | State::Running { .. }
            | State::BackingOff(_)
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => {
                // A connection that was told to close may break instead: gone is gone, for us.
                if self.draining == Some(generation) {
                    self.note_ghost(error, now);
                }
                self.handle(super::Input::Closed(generation), now, random);
                return;
            }
        };
        self.react(error, was_running, now, random);
    }

    pub(super) fn crashed(&mut self, error: &Arc<SessionError>, now: Moment, random: f64) {
        match self.link() {
            Some(generation) => match self.state {
                State::Starting(Starting::Connecting(_) | Starting::Upgraded(_)) | State::Running { .. } => {
                    self.broke(generation, error, now, random);
                }
                State::Starting(Starting::Draining(_) | Starting::Queued(_))
                | State::BackingOff(_)
                | State::Parked(_)
                | State::Dormant
                | State::Failed
                | State::Stopped { .. } => {
                    self.note(error, now);
                    self.note_ghost(error, now);
                    self.handle(super::Input::Closed(generation), now, random);
                }
            },
            None => {
                self.note(error, now);
                self.repeat();
            }
        }
    }

    /// Says again what the fleet was told: its answer may have died with the crashed turn.
    fn repeat(&mut self) {
        match self.state.clone() {
            State::Starting(Starting::Queued(_)) => {
                self.emit(Effect::Withdraw);
                self.connect(Pass::Normal);
            }
            State::BackingOff(BackingOff::Queued { due, .. }) => {
                self.emit(Effect::Withdraw);
                self.state = State::BackingOff(BackingOff::Until(due));
            }
            State::Parked(hold) => {
                self.emit(Effect::Unparked);
                self.hold(hold);
            }
            State::Starting(Starting::Draining(_) | Starting::Connecting(_) | Starting::Upgraded(_))
            | State::BackingOff(BackingOff::Until(_))
            | State::Running { .. }
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => {}
        }
    }

    pub(super) fn note(&mut self, error: &Arc<SessionError>, now: Moment) {
        self.last_error = Some((Arc::clone(error), now));
        self.emit(Effect::Count(Count::Error(Arc::clone(error))));
    }

    fn react(&mut self, error: &Arc<SessionError>, was_running: bool, now: Moment, random: f64) {
        if self.is_stable(now) {
            self.streak = Streak::default();
        }
        self.note(error, now);
        if was_running {
            self.lost_at = Some(now);
            self.emit(Effect::SlotFreed);
        } else {
            self.emit(Effect::Settled(Some(Arc::clone(error))));
        }
        let reaction = self.reaction(error, was_running, now);
        if was_running {
            self.note_ghost(error, now);
        }
        match reaction {
            Reaction::Restart(charge) => self.restart(error, charge, now, random),
            Reaction::Renew(charge) => self.renew(error, charge, now),
            Reaction::Park(hold) => {
                self.emit(Effect::EndRequests(EndRequests::All(error.code)));
                self.emit(Effect::Count(Count::Park(error.code)));
                self.hold(hold);
            }
            Reaction::Sleep => {
                // What waits was said after the silence that ended a running session, and wakes it again. An attempt
                // that is answered so would be made again at once, and again.
                let which = if was_running { EndRequests::Sent } else { EndRequests::All };
                self.emit(Effect::EndRequests(which(error.code)));
                self.state = State::Dormant;
                self.lost_at = None;
            }
            Reaction::Fail => self.fail(error),
        }
    }

    fn note_ghost(&mut self, error: &SessionError, now: Moment) {
        if matches!(error.close_code, None | Some(1006)) {
            self.ghost_until = now + GHOST;
        }
    }

    fn reaction(&mut self, error: &SessionError, was_running: bool, now: Moment) -> Reaction {
        let code = error.code;
        if !is_puzzling(code) {
            self.streak.strikes = 0;
        }
        match self.config.policy.action(code) {
            // No session of this tenant can get a token until somebody mends the key.
            Action::Renew if error.is_api_key_refused() => Reaction::Park(Hold::KeyRefused),
            Action::Renew if self.streak.renewals == 0 => Reaction::Renew(charge(error, was_running)),
            Action::Renew if code == ErrorCode::SessionTokenInvalid => Reaction::Fail,
            Action::Renew | Action::Restart => self.restart_or_fail(error, was_running),
            // The slot that is missing is probably our own lost connection, which the service still counts.
            // How often that is asked within the ghost's time is chance, so it must not decide on failure.
            Action::Park if code == ErrorCode::ConcurrencyLimit && now < self.ghost_until => {
                Reaction::Restart(Charge::Free)
            }
            Action::Park => Reaction::Park(Hold::Error(code)),
            Action::Sleep => Reaction::Sleep,
            Action::Fail => Reaction::Fail,
        }
    }

    fn restart_or_fail(&mut self, error: &SessionError, was_running: bool) -> Reaction {
        if is_puzzling(error.code) {
            self.streak.strikes += 1;
            if self.streak.strikes > STRIKES {
                return Reaction::Fail;
            }
        }
        Reaction::Restart(charge(error, was_running))
    }

    fn restart(&mut self, error: &SessionError, charge: Charge, now: Moment, random: f64) {
        if !self.pay(charge, now) {
            self.exhaust(error);
            return;
        }
        let backoff = self.config.backoff.delay(self.streak.attempts, random);
        let delay = backoff.max(error.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        self.streak.attempts = self.streak.attempts.saturating_add(1);
        self.count_restart(error);
        self.state = State::BackingOff(BackingOff::Until(now + delay));
    }

    fn renew(&mut self, error: &SessionError, charge: Charge, now: Moment) {
        if !self.pay(charge, now) {
            self.exhaust(error);
            return;
        }
        self.streak.renewals += 1;
        self.count_restart(error);
        self.connect(Pass::Normal);
    }

    fn pay(&mut self, charge: Charge, now: Moment) -> bool {
        match charge {
            Charge::Free => true,
            Charge::Budget => self.budget.take(&self.config.budget, now),
        }
    }

    fn exhaust(&mut self, error: &SessionError) {
        self.emit(Effect::Count(Count::BudgetExhausted));
        self.fail(error);
    }

    fn count_restart(&mut self, error: &SessionError) {
        self.restarts += 1;
        self.emit(Effect::Count(Count::Restart(error.code)));
        self.emit(Effect::EndRequests(EndRequests::Sent(error.code)));
    }

    fn fail(&mut self, error: &SessionError) {
        self.emit(Effect::Count(Count::Failure(error.code)));
        self.emit(Effect::EndRequests(EndRequests::All(error.code)));
        self.state = State::Failed;
        self.lost_at = None;
    }
}

/// Whether `code` says that nobody understands what happened, so that repeating it may not help.
const fn is_puzzling(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::ProtocolError | ErrorCode::Unknown)
}

/// What a restart after `error` costs: an attempt that ended before the session ran, for a reason that lies with
/// the service, is free, so that an outage fails nobody. A service that drops a socket before its confirmation
/// is such a reason too, though the code is then `connectionClosed`.
fn charge(error: &SessionError, was_running: bool) -> Charge {
    let service_at_fault = error.speaks_of_health()
        || matches!(
            error.code,
            ErrorCode::UpstreamError
                | ErrorCode::ConnectionFailed
                | ErrorCode::EgressUnavailable
                | ErrorCode::ServerError
        );
    if service_at_fault && !was_running { Charge::Free } else { Charge::Budget }
}
