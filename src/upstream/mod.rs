//! The client of the avatar service: token call and WebSocket.
