//! The drop-in console and ingress, over real sockets, with a client that is not our own.

mod client;
mod conversation;
mod tokens;
