//! The drop-in ingress: the service's own protocol, for clients that use an official SDK.

mod parting;
pub mod rendering;
