//! The session machine: what one session does about every input, in every state.
//!
//! | input | starting | running | backing_off | parked | dormant | failed | stopped |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | audio | waits | flows | waits | refused | wakes it | refused | refused |
//! | `restart` | closes, then connects | closes, then connects | connects | connects | connects | connects | nothing |
//! | `park` | closes, parked | closes, parked | parked | held by the operator | parked | parked | nothing |
//! | `unpark` | nothing | nothing | nothing | one attempt | nothing | nothing | nothing |
//! | idle for too long | closes, dormant | closes, dormant | dormant | nothing | nothing | nothing | nothing |
//! | minutes used | closes, parked | closes, parked | parked | nothing | nothing | nothing | nothing |
//! | `delete` | cancels, stopped | closes, stopped | stopped | stopped | stopped | stopped | nothing |
//! | new spec | closes, then connects | closes, then connects | connects | kept for later | kept for later | connects | nothing |
//! | error | by policy | by policy | - | - | - | - | - |
//!
//! "Connects" always means: asks the gate for a turn first. A connection that is closing is waited for before
//! the next one is asked for, so that a session never has two.
//!
//! Every ask has a *generation*. The connection that comes of it carries the same number, and whatever
//! arrives with an older one is late and is dropped.

mod machine;
mod reaction;
mod remembered;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use machine::Lifecycle;
use reaction::GHOST;
pub use remembered::{Remembered, Standing};

use super::{Backoff, BudgetConfig, Moment, Policy};
use crate::errors::{ErrorCode, SessionError};

/// The number of an ask for a turn, and of the connection that comes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// What the machine goes by; shared by all sessions of a tenant.
#[derive(Clone, Debug, Default)]
pub struct RecoveryConfig {
    /// The action for each code.
    pub policy: Policy,
    /// The waits between attempts.
    pub backoff: Backoff,
    /// The restarts that a session may use.
    pub budget: BudgetConfig,
    /// A session that ran for this long has its failed attempts forgotten.
    pub stable_after: StableAfter,
}

/// How long a session must run before its failed attempts are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StableAfter(pub Duration);

impl Default for StableAfter {
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

/// A session's state, with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Token, connect and handshake are ahead or under way.
    Starting(Starting),
    /// Confirmed: audio flows.
    Running {
        /// The connection's generation.
        generation: Generation,
        /// When it was confirmed.
        since: Moment,
        /// The service's name for the connection.
        connection_id: Arc<str>,
        /// What the service declared that it can do.
        capabilities: Arc<[String]>,
    },
    /// A restart is due.
    BackingOff(BackingOff),
    /// Held without a connection.
    Parked(Hold),
    /// Closed for lack of input; the next audio wakes it.
    Dormant,
    /// A person must mend something first.
    Failed,
    /// Ended by its owner; final.
    Stopped {
        /// When it was ended.
        at: Moment,
    },
}

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starting {
    /// The old connection is still closing.
    Draining(Pass),
    /// Waits for its turn at the gate.
    Queued(Generation),
    /// The attempt is under way.
    Connecting(Generation),
    /// The service has upgraded, and the session's client has not said yet how it is configured.
    Upgraded(Generation),
}

/// How far a restart has come before its attempt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingOff {
    /// Waits for its time.
    Until(Moment),
    /// Its time has come, and it waits for its turn at the gate or for the breaker.
    Queued {
        /// The number of the ask.
        generation: Generation,
        /// When its time had come.
        due: Moment,
    },
}

/// Why a session is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// An error of its own, whose code's action is to park.
    Error(ErrorCode),
    /// The token call was refused: the tenant's API key at the service is at fault.
    KeyRefused,
    /// Its tenant is suspended, for this code of another session.
    Suspension(ErrorCode),
    /// The minutes are used that its tenant's connections may last in a day.
    Minutes,
    /// An operator parked it; only `unpark` or `restart` ends that.
    Operator,
}

/// With which right a session asks for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Refused while the tenant is suspended.
    Normal,
    /// The session was unparked by a person: one attempt, though the tenant is suspended.
    Unparked,
    /// The fleet's own probe.
    Probe,
    /// A client waits for a session whose tenant is suspended: it knocks as the tenant's probe, where that is due
    /// and nobody is parked that could be called for it.
    Volunteer,
}

/// The name of a state, as JSON and metrics have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// Token, connect and handshake are ahead or under way.
    Starting,
    /// Confirmed.
    Running,
    /// A restart is due.
    BackingOff,
    /// Held without a connection.
    Parked,
    /// Closed for lack of input.
    Dormant,
    /// A person must act.
    Failed,
    /// Ended by its owner.
    Stopped,
}

impl StateName {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::BackingOff,
        Self::Parked,
        Self::Dormant,
        Self::Failed,
        Self::Stopped,
    ];

    /// The spelling in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing_off",
            Self::Parked => "parked",
            Self::Dormant => "dormant",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// The position in [`StateName::ALL`], for tables with one entry a state.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl State {
    /// The name of the state.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Starting(_) => StateName::Starting,
            Self::Running { .. } => StateName::Running,
            Self::BackingOff(_) => StateName::BackingOff,
            Self::Parked(_) => StateName::Parked,
            Self::Dormant => StateName::Dormant,
            Self::Failed => StateName::Failed,
            Self::Stopped { .. } => StateName::Stopped,
        }
    }
}

/// What happens to a session.
#[derive(Clone, Debug)]
pub enum Input {
    /// It was created.
    Start,
    /// It was created while its tenant is suspended for this code.
    StartSuspended(ErrorCode),
    /// It was created for a client, while its tenant is suspended and the probe is due.
    Volunteer,
    /// The gate gives it its turn.
    Granted(Generation),
    /// The gate refuses the ask, since the tenant is suspended for this code.
    Suspended(Generation, ErrorCode),
    /// The service has upgraded, and waits for a configuration that only the session's client knows.
    Upgraded(Generation),
    /// The service confirmed the session.
    Connected {
        /// The connection's generation.
        generation: Generation,
        /// The service's name for the connection.
        connection_id: String,
        /// What the service declared that it can do.
        capabilities: Vec<String>,
    },
    /// The attempt or the connection ended with an error; its socket is gone.
    Broke {
        /// The connection's generation.
        generation: Generation,
        /// What went wrong.
        error: Arc<SessionError>,
    },
    /// The connection that was asked to close is gone.
    Closed(Generation),
    /// A request failed by a `ServerError` that left the connection as it is.
    RequestFailed {
        /// The connection's generation.
        generation: Generation,
        /// What the service said.
        error: Arc<SessionError>,
    },
    /// The session's own code panicked; its connection, where it had one, is gone.
    Crashed(Arc<SessionError>),
    /// Audio came for it.
    Audio,
    /// Nobody has wanted anything of it for as long as may be.
    Idle,
    /// The minutes are used that its tenant's connections may last in a day.
    MinutesUsed,
    /// The fleet lets this parked session try.
    Probe,
    /// The fleet lets this parked session start again.
    Release,
    /// An operator wants it connected anew.
    Restart,
    /// An operator holds it.
    Park,
    /// A person lets it try again.
    Unpark,
    /// Its spec has changed.
    Respec,
    /// Its owner ends it.
    Delete,
    /// Time has passed.
    Tick,
}

/// What whoever holds the machine has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the gate for a turn.
    Ask {
        /// The number of the ask.
        generation: Generation,
        /// With which right.
        pass: Pass,
    },
    /// Tell the gate that the ask or the turn is not wanted any more.
    Withdraw,
    /// Tell the gate that the attempt waits for the session's client from now on.
    Upgraded,
    /// Tell the gate how the attempt ended.
    Settled(Option<Arc<SessionError>>),
    /// Begin the attempt.
    Connect(Generation),
    /// Close the connection, or cancel the attempt.
    Close(Generation),
    /// Tell the fleet that the session is parked.
    Parked(Hold),
    /// Tell the fleet that it is parked no more.
    Unparked,
    /// Tell the fleet that an established connection of the tenant has ended.
    SlotFreed,
    /// Open requests cannot be answered any more.
    EndRequests(EndRequests),
    /// Something to count.
    Count(Count),
}

/// Which open requests end, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndRequests {
    /// Those that were sent on the connection that broke fail with this code.
    Sent(ErrorCode),
    /// All fail with this code, since the session does not go on by itself.
    All(ErrorCode),
    /// All are interrupted, by command of a person.
    Interrupted,
}

/// What the metrics count.
#[derive(Clone, Debug, PartialEq)]
pub enum Count {
    /// An error, by code and phase.
    Error(Arc<SessionError>),
    /// A restart, by the code that caused it.
    Restart(ErrorCode),
    /// A session was parked, by code; an operator's park has none.
    Park(ErrorCode),
    /// A session failed, by code.
    Failure(ErrorCode),
    /// The restart budget was used up.
    BudgetExhausted,
    /// A session that had been lost runs again.
    Recovered(Duration),
}

/// What becomes of audio for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The connection takes it.
    Flows,
    /// It waits in the outbox for the connection.
    Waits,
    /// It waits, and the session must be woken.
    Wakes,
    /// Refused: the session does not connect by itself.
    Refused,
}
