//! Recovery: what a session and the fleet of sessions do about errors.
//!
//! Pure: a machine takes an input, a reading of the clock and, where chance is needed, a random number; it
//! changes its state and returns effects. Whoever holds the machine carries the effects out.

mod fleet;
mod ids;
mod moment;
mod policy;

pub use ids::{SessionId, TenantId};
pub use moment::Moment;
pub use policy::Policy;
