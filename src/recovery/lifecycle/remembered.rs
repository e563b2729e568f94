//! What outlives the process that had a session, and a session from what was remembered of it.

use std::sync::Arc;

use super::{GHOST, Hold, Lifecycle, Pass, RecoveryConfig, State, machine::Streak};
use crate::{
    errors::SessionError,
    recovery::{Budget, Moment},
};

/// Where a session stands, apart from what is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It should run: it starts, runs, or backs off.
    Run,
    /// It is held without a connection.
    Parked(Hold),
    /// It sleeps until audio comes.
    Dormant,
    /// A person must mend something first.
    Failed,
    /// It was ended by its owner.
    Stopped {
        /// When.
        at: Moment,
    },
}

/// What a later process must know of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// Where it stands.
    pub standing: Standing,
    /// Restarts since it was made.
    pub restarts: u64,
    /// When it used its restarts, the oldest first.
    pub used: Vec<Moment>,
    /// Failed attempts that are not forgotten.
    pub attempts: u32,
    /// Renewals of the token that are not forgotten.
    pub renewals: u32,
    /// `protocolError` and `unknown` in a row.
    pub strikes: u32,
    /// The latest error, and when it happened.
    pub last_error: Option<(Arc<SessionError>, Moment)>,
}

impl Remembered {
    /// Of a session that was just made.
    pub const fn new() -> Self {
        Self {
            standing: Standing::Run,
            restarts: 0,
            used: Vec::new(),
            attempts: 0,
            renewals: 0,
            strikes: 0,
            last_error: None,
        }
    }

    /// Whether a later process would act otherwise by `newer`. Attempts that cost nothing are not written: an outage
    /// of the service, in which every session tries for hours, writes nothing.
    pub fn is_outdated_by(&self, newer: &Self) -> bool {
        self.standing != newer.standing
            || self.used != newer.used
            || self.renewals != newer.renewals
            || self.strikes != newer.strikes
    }
}

impl Default for Remembered {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// What a later process must know.
    pub fn remembered(&self) -> Remembered {
        let standing = match &self.state {
            State::Starting(_) | State::Running { .. } | State::BackingOff(_) => Standing::Run,
            State::Parked(hold) => Standing::Parked(hold.clone()),
            State::Dormant => Standing::Dormant,
            State::Failed => Standing::Failed,
            State::Stopped { at } => Standing::Stopped { at: *at },
        };
        let Streak { attempts, renewals, strikes } = self.streak;
        Remembered {
            standing,
            restarts: self.restarts,
            used: self.budget.used().collect(),
            attempts,
            renewals,
            strikes,
            last_error: self.last_error.clone(),
        }
    }

    /// The session that another process had. One that should run asks the gate; nothing else has an effect: whoever
    /// restores tells the fleet of those that are parked, all of them before the first one asks.
    pub fn restore(config: Arc<RecoveryConfig>, remembered: Remembered, now: Moment) -> Self {
        let Remembered { standing, restarts, used, attempts, renewals, strikes, last_error } = remembered;
        let mut lifecycle = Self::new(config);
        lifecycle.streak = Streak { attempts, renewals, strikes };
        // A calendar that was set back must not make a restart count for longer than the window.
        lifecycle.budget = Budget::from_used(used.into_iter().map(|at| at.min(now)));
        lifecycle.restarts = restarts;
        lifecycle.last_error = last_error;
        match standing {
            Standing::Run => {
                // Its connection ended with the process, without a close handshake.
                lifecycle.ghost_until = now + GHOST;
                lifecycle.connect(Pass::Normal);
            }
            Standing::Parked(hold) => lifecycle.state = State::Parked(hold),
            Standing::Dormant => lifecycle.state = State::Dormant,
            Standing::Failed => lifecycle.state = State::Failed,
            Standing::Stopped { at } => lifecycle.state = State::Stopped { at },
        }
        lifecycle
    }
}
