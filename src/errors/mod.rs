//! The error taxonomy: stable codes, phases, and how what the service says becomes one of them.
//!
//! Pure: no clock, no randomness, no IO. The shell collects [`Evidence`]; [`classify`] turns it into a
//! [`Verdict`]; a [`SessionError`] keeps both for people, logs and metrics.

mod action;
mod classify;
mod code;
mod evidence;
mod phase;
mod session_error;

pub use action::{Action, UnknownAction};
pub use classify::{Verdict, classify};
pub use code::{Actor, ErrorCode, UnknownCode};
pub use evidence::{Egress, Evidence, Observed};
pub use phase::{Phase, UnknownPhase};
pub use session_error::SessionError;
