//! The drop-in console and ingress, over real sockets, with a client that is not our own.

mod abuse;
mod client;
mod codes;
mod conversation;
mod faults;
mod seats;
mod tokens;
