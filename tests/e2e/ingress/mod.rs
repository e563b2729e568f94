//! The drop-in console and ingress, over real sockets, with a client that is not our own.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails on whatever it does not wait for")]

mod abuse;
mod changing;
mod client;
mod codes;
mod conversation;
mod faults;
mod seats;
mod tokens;
