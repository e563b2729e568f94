//! The whole manager against the simulator: real sockets, the real HTTP API, the real metrics.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says by a panic that its world is broken"
)]
#![allow(clippy::print_stdout, reason = "what was measured is for whoever runs the test")]

mod client;
mod codes;
mod continuity;
#[cfg(feature = "failpoints")]
mod disk;
mod durable;
mod expiry;
mod failures;
mod far;
mod gauges;
mod idempotency;
mod idle;
mod ingress;
mod lingering;
mod operator;
mod outage;
mod panics;
mod quotas;
mod reload;
mod requests;
mod seat;
mod storm;
mod suspension;
mod table;
mod tenants;
mod uploads;
mod webhooks;
mod world;
