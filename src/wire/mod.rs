//! The service's protocol: protobuf messages, envelope helpers, request ids.
//!
//! Product and simulator share this module and nothing else.

mod animation;
mod envelope;
mod fields;
mod req_id;
mod splice;

/// Messages of the ingress WebSocket, generated from `proto/driveningress.proto`.
pub mod proto {
    #![allow(missing_docs, clippy::all, reason = "generated: the facts are documented in the .proto file")]
    include!(concat!(env!("OUT_DIR"), "/driveningress.v2.rs"));
}

pub use animation::{Animation, animation};
pub use envelope::{DecodeError, decode, encode, encode_audio};
pub use fields::Malformed;
pub use proto::message::Data;
pub use req_id::request_id;
pub use splice::{Peek, Rewrite, SpliceError, peek, rewrite};
