//! The error taxonomy: stable codes, phases, and how what the service says becomes one of them.
//!
//! Pure: no clock, no randomness, no IO. The shell collects [`Evidence`]; [`classify`] turns it into a
//! [`Verdict`]; a [`SessionError`] keeps both for people, logs and metrics. On the way, [`parse_error_body`] reads
//! what an HTTP answer says, and [`redact()`] takes secrets out of it.

mod action;
mod body;
mod classify;
mod code;
mod evidence;
mod facts;
mod phase;
mod redact;
mod session_error;
mod shortage;

pub use action::{Action, UnknownAction};
pub use body::{BodyFacts, MAX_FIELD_BYTES, MAX_RAW_BODY_BYTES, clip, evidence_from_body, parse_error_body};
pub use classify::{Verdict, classify};
pub use code::{Actor, ErrorCode, UnknownCode};
pub use evidence::{Egress, Evidence, Observed};
pub use phase::{Phase, UnknownPhase};
pub use redact::{REDACTED, redact};
pub use session_error::SessionError;
pub use shortage::Shortage;
