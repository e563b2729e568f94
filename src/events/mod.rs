//! What happens, as whoever looks on is told: one event for each change, error, attempt, outcome and command.
//!
//! Sessions and the manager publish on one [`Bus`]. The timeline of a session, the stream of events, webhooks and
//! traces are all made of the same events, so that they never tell different stories.

mod bus;
mod event;

pub use bus::{Bus, Follower, Gap, Heard, Since};
pub use event::{
    Attempt, BreakerAction, ClientAction, Command, ErrorDetail, Event, EventId, Kind, RequestEnd,
    StateChange, TenantAction, TenantQuota, What,
};
