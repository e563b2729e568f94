//! Recovery: what a session and the fleet of sessions do about errors.
//!
//! Pure: a machine takes an input, a reading of the clock and, where chance is needed, a random number; it
//! changes its state and returns effects. Whoever holds the machine carries the effects out.

mod attendance;
mod backoff;
pub mod fleet;
mod idleness;
mod ids;
pub mod lifecycle;
mod moment;
mod policy;

pub use attendance::{Attendance, Departure};
pub use backoff::{Backoff, Budget, BudgetConfig};
pub use fleet::{AttemptOutcome, BreakerState, Fleet, FleetConfig, FleetEffect, FleetInput, ParkCause};
pub use idleness::Idleness;
pub use ids::{SessionId, TenantId};
pub use lifecycle::{Generation, Lifecycle, RecoveryConfig, StateName};
pub use moment::Moment;
pub use policy::Policy;
