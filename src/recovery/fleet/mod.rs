//! The fleet machine: who may knock at the avatar service, and when.
//!
//! Every attempt to connect passes here. A session asks, waits, is granted a turn and tells how the attempt
//! ended. Four ideas decide about the wait, each in a file of its own:
//!
//! - the *gate* spaces turns and shares them fairly between tenants, so that ten thousand sessions that lose
//!   their connection in one instant do not knock in one instant;
//! - the *slots* are the attempts under way: a limited number, and none for longer than an attempt can take;
//! - the *breaker* lets nobody knock at a service that does not answer, except for one probe at a time;
//! - the *parked sessions*: a tenant whose account or key is refused is suspended as a whole, and one of its
//!   sessions tries again at times, on behalf of all.
//!
//! Two rules for whoever holds the machine. Inputs about one session arrive in the order in which the session
//! machine emitted them, and so do the effects that go back. And the end of a session, however it ends, is
//! told as [`FleetInput::Left`] or [`FleetInput::Withdraw`]: what the machine remembers is bounded by the
//! sessions that it was not told the end of.

mod breaker;
mod gate;
mod machine;
mod minutes;
mod parked;
mod slots;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use breaker::{BreakerConfig, BreakerState, Turn};
pub use gate::GateConfig;
pub use machine::Fleet;
pub use parked::Suspension;

pub use super::lifecycle::Pass;
use super::{SessionId, TenantId, lifecycle::Hold};
use crate::errors::{ErrorCode, SessionError};

/// What the fleet goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// The storm gate of the upstream.
    pub gate: GateConfig,
    /// The breaker of the upstream.
    pub breaker: BreakerConfig,
    /// The time between two attempts of a tenant whose sessions are parked; `None` turns the probe off.
    pub park_probe: Option<Duration>,
    /// The longest that an attempt may hold its slot: the deadlines of token, connect and handshake, and a
    /// margin for their cleaning up.
    pub attempt_deadline: Duration,
    /// The longest `Retry-After` that is believed.
    pub retry_after_max: Duration,
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self {
            gate: GateConfig::default(),
            breaker: BreakerConfig::default(),
            park_probe: Some(Duration::from_secs(600)),
            attempt_deadline: Duration::from_secs(35),
            retry_after_max: Duration::from_secs(300),
        }
    }
}

/// What happens to the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetInput {
    /// A session wants to connect. Asking again while it waits keeps its place and replaces its pass; asking
    /// while its attempt is under way waits for the end of that attempt.
    Ask {
        /// The session.
        session: SessionId,
        /// Whose it is; a session's tenant never changes.
        tenant: TenantId,
        /// With which right it asks.
        pass: Pass,
    },
    /// A session does not want to connect any more, or has given up the attempt that it was granted.
    Withdraw {
        /// The session.
        session: SessionId,
    },
    /// The attempt that a session was granted waits for the session's client: it gives its slot back, and its end
    /// is told as that of any other.
    Upgraded {
        /// The session.
        session: SessionId,
    },
    /// The attempt that a session was granted has ended.
    Settled {
        /// The session.
        session: SessionId,
        /// How it ended.
        outcome: AttemptOutcome,
        /// How long the service asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// A session is parked.
    Parked {
        /// The session.
        session: SessionId,
        /// Whose it is.
        tenant: TenantId,
        /// Why.
        cause: ParkCause,
    },
    /// A session is parked no more, or has ended. It is forgotten, whether it was parked, waits or tries: one
    /// that leaves in order to connect asks afterwards.
    Left {
        /// The session.
        session: SessionId,
    },
    /// An established connection of a tenant has ended, so the service counts one fewer.
    SlotFreed {
        /// The tenant.
        tenant: TenantId,
    },
    /// A person unparks a tenant, or the tenant has a new key.
    Unsuspend {
        /// The tenant.
        tenant: TenantId,
    },
    /// The connections of a tenant have lasted for as long as they may in a day: nothing of it knocks. Its sessions
    /// that are connected are not known here, and have to be told by whoever gives this.
    MinutesUsed {
        /// The tenant.
        tenant: TenantId,
    },
    /// A tenant may be connected again.
    MinutesRenewed {
        /// The tenant.
        tenant: TenantId,
    },
    /// A tenant was removed, with all its sessions.
    TenantGone {
        /// The tenant.
        tenant: TenantId,
    },
    /// An operator holds the breaker open.
    OpenBreaker,
    /// An operator closes the breaker.
    CloseBreaker,
    /// Time has passed.
    Tick,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The service confirmed the session.
    Confirmed,
    /// It ended with an error.
    Refused {
        /// The error's code.
        code: ErrorCode,
        /// Whether the tenant's API key at the service was refused; this suspends the tenant.
        key_refused: bool,
        /// Whether the error speaks of the service's health: no answer, a 5xx, 4503.
        health: bool,
    },
    /// It was given up by our side, or our machine lacked what it takes: it says nothing.
    Abandoned,
}

/// Why a session is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkCause {
    /// The account is refused, with this code; this suspends the tenant.
    Billing(ErrorCode),
    /// The tenant's API key at the service is refused; this suspends the tenant.
    KeyRefused,
    /// Its ask was answered with [`FleetEffect::Suspended`], or was when the session was last heard of. Where
    /// the tenant is not suspended any more the session is released at once.
    Suspension,
    /// The account has as many sessions open as it may.
    Concurrency,
    /// The session has reached the longest duration; neither probed nor released.
    Duration,
    /// The tenant's minutes of the day are used. Where there are some again the session is released at once.
    Minutes,
    /// An operator holds it; neither probed nor released.
    Operator,
}

impl ParkCause {
    /// What the fleet makes of a session's reason to be parked.
    pub const fn of(hold: &Hold) -> Self {
        match hold {
            Hold::Error(code @ (ErrorCode::BillingRequired | ErrorCode::CreditsExhausted)) => {
                Self::Billing(*code)
            }
            Hold::Error(ErrorCode::ConcurrencyLimit) => Self::Concurrency,
            // Every other code parks its own session only, by the default policy or by a configured one.
            Hold::Error(_) => Self::Duration,
            Hold::KeyRefused => Self::KeyRefused,
            Hold::Suspension(_) => Self::Suspension,
            Hold::Minutes => Self::Minutes,
            Hold::Operator => Self::Operator,
        }
    }

    /// As [`ParkCause::of`], for a session that another process had: the suspension that it is held by ended with
    /// that process's fleet, and the session that began it may be gone.
    pub const fn of_restored(hold: &Hold) -> Self {
        match hold {
            Hold::Suspension(code) => Self::Billing(*code),
            Hold::Error(_) | Hold::KeyRefused | Hold::Minutes | Hold::Operator => Self::of(hold),
        }
    }
}

impl AttemptOutcome {
    /// What the fleet makes of an attempt that was confirmed, or ended with `error`.
    pub fn of(error: Option<&SessionError>) -> Self {
        match error {
            None => Self::Confirmed,
            // The service was not asked: that is neither an answer nor the lack of one.
            Some(error) if error.shortage.is_some() => Self::Abandoned,
            Some(error) => Self::Refused {
                code: error.code,
                key_refused: error.is_api_key_refused(),
                health: error.speaks_of_health(),
            },
        }
    }
}

/// What whoever holds the machine has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetEffect {
    /// The session's attempt may begin.
    Grant {
        /// The session.
        session: SessionId,
    },
    /// The session's ask is refused, since its tenant is suspended: the session parks.
    Suspended {
        /// The session.
        session: SessionId,
        /// Why the tenant is suspended.
        code: ErrorCode,
    },
    /// The session's ask is refused, since the minutes of its tenant are used: the session parks.
    OutOfMinutes {
        /// The session.
        session: SessionId,
    },
    /// The parked session is to make one attempt now: it asks with [`Pass::Probe`].
    Probe {
        /// The session.
        session: SessionId,
    },
    /// The parked session may start again: it asks with [`Pass::Normal`].
    Release {
        /// The session.
        session: SessionId,
    },
    /// The tenant is suspended from now on.
    TenantSuspended {
        /// The tenant.
        tenant: TenantId,
        /// Why.
        code: ErrorCode,
    },
    /// The tenant is suspended no more.
    TenantReleased {
        /// The tenant.
        tenant: TenantId,
    },
    /// The breaker has entered this state.
    BreakerChanged {
        /// The state.
        state: BreakerState,
    },
    /// An attempt held its slot for longer than any attempt can take, and lost it: a breach to be counted.
    GrantExpired {
        /// The session.
        session: SessionId,
    },
}

#[cfg(test)]
mod outcome_tests {
    use super::*;
    use crate::errors::{Egress, Evidence, Observed, Phase, Shortage};

    #[test]
    fn what_our_own_machine_lacks_says_nothing_of_the_service() {
        let evidence = Evidence::new(Phase::WebsocketConnect, Observed::NoAnswer, Egress::None);
        let mut error = SessionError::classified(evidence, "no port");
        assert!(error.speaks_of_health());
        for shortage in Shortage::ALL {
            error.shortage = Some(shortage);
            assert!(!error.speaks_of_health());
            assert_eq!(AttemptOutcome::of(Some(&error)), AttemptOutcome::Abandoned);
        }
    }
}
