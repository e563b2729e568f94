//! The upstream client against a scripted service, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test fails by panicking, and its helpers are reached by its own modules only"
)]

mod connect;
mod handshake;
mod liveness;
mod messages;
mod runtime;
mod server;
mod token;
