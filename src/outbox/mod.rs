//! Accepted requests, and the one outcome that each gets.
//!
//! Pure: whoever holds the [`Ledger`] tells it what came and what time it is, sends what
//! [`Ledger::next_to_send`] gives, and tells whoever waits what [`Ledger::next_settled`] gives.
//!
//! A request has two names. Its client's never changes, and is the one in its [`Record`]. The one by which the
//! service knows it is the same on the first connection; a request that is sent again gets a fresh one there,
//! since the service takes no id twice. What comes from the service is told to the ledger by the service's name
//! ([`Ledger::frame`], [`Ledger::playback`], [`Ledger::fail_upstream`]), all else by the client's.
//!
//! # What a broken connection means
//!
//! | [`Continuity`] | nothing was answered yet | the answer had begun |
//! | --- | --- | --- |
//! | `Off` | fails | fails |
//! | `Unanswered` | sent again, whole | fails |
//! | `Resume` | sent again, whole | PCM whose played position the service told: the rest is sent; else fails |
//!
//! An answer begins with the first frame, or with the word that playing began. What is sent again keeps its place
//! before all that was accepted later. It fails instead if it broke two connections, or if its copy was dropped.
//!
//! # What is counted as memory
//!
//! Audio that waits, and audio that was sent and is kept as a copy for a replay, each by its own length. Neither
//! is copied: a piece is a slice of the buffer that it was read into, and keeps the whole buffer alive. A sender
//! that cuts small pieces from large buffers and lets only some of them be accepted costs more than is counted.
//! Beside its audio each piece costs some hundred bytes, which a constant bounds.

mod answers;
mod config;
mod continuity;
mod control;
mod index;
mod ledger;
mod names;
mod record;
mod request;
#[cfg(test)]
mod tests;

pub use config::{Continuity, LedgerConfig};
pub use control::{Control, HoldFate, InterruptFate};
pub use ledger::{Ledger, Outgoing};
pub use record::{FrameFate, Outcome, Playback, Record, Refusal};
