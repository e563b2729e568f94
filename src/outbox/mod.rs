//! Accepted requests, and the one outcome that each gets.
//!
//! Pure: whoever holds the [`Ledger`] tells it what came and what time it is, sends what
//! [`Ledger::next_to_send`] gives, and tells whoever waits what [`Ledger::next_settled`] gives.

mod ledger;
mod record;
#[cfg(test)]
mod tests;

pub use ledger::{Ledger, LedgerConfig, Outgoing};
pub use record::{FrameFate, InterruptFate, Outcome, Record, Refusal};
