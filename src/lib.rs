//! Greenroom: a supervised session manager for realtime avatar sessions.

// The core: pure, without clock, randomness, actors or IO.
pub mod errors;
pub mod outbox;
pub mod recovery;

// The shell.
pub mod cli;
pub mod config;
pub mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
pub mod http;
pub mod manager;
pub mod session;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod tenants;
pub mod traces;
pub mod upstream;
pub mod webhooks;
pub mod wire;
