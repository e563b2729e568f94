//! The core in a whole world, in virtual time: sessions, the fleet, a model of the avatar service with every
//! fault that it has, clients and operators. After every step the promises of the core are checked.
//!
//! A day is replayed with `SIM_SEED=N cargo test --test simulation`; `SIM_TRACE=M` prints what happens to
//! session M.
#![allow(clippy::unwrap_used, reason = "a test says by a panic that its world is broken")]
#![allow(clippy::print_stdout, reason = "the counts of a day are for whoever runs the test")]

mod checks;
mod clients;
mod days;
mod drop_ins;
mod hours;
mod links;
mod rng;
mod script;
mod seat;
mod service;
mod tally;
mod watch;
mod world;
