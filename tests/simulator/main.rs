//! The simulator as a client sees it, with a client of the tests' own.
#![allow(missing_docs, reason = "a test's name is its documentation")]

mod client;
mod control;
mod faults;
mod handshake;
mod playing;
mod refusals;
