//! The drop-in ingress: the service's own protocol, for clients that use an official SDK.
//!
//! ```text
//! upgrade    who may connect, and where to; waits until the service has answered
//! client     the connection after it: the one file that knows the WebSocket actor's crate
//! protocol   what a client may say, and when (pure)          scanner    frames that announce too much (pure)
//! flow       what flows, and what stops it                   seated     the client's seat in its session
//! rendering  each code as a client sees it (a table)         parting    the last word
//! ```

mod client;
mod flow;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzz;
mod parting;
mod protocol;
pub mod rendering;
mod scanner;
mod seated;
pub(super) mod upgrade;

use std::sync::{Mutex, MutexGuard, PoisonError};

use actix_web::web;

use super::{console, get, post};
use crate::{
    config,
    tenants::tokens::{TokenTable, TokenUse},
};

/// What the drop-in console and ingress share.
pub(crate) struct Ingress {
    settings: config::Ingress,
    tokens: Mutex<TokenTable>,
}

impl Ingress {
    pub(super) fn new(settings: config::Ingress) -> Self {
        let usable = if settings.token_single_use { TokenUse::Once } else { TokenUse::Often };
        Self { settings, tokens: Mutex::new(TokenTable::new(usable)) }
    }

    /// The tokens. Held for a look-up at a time, and never across a wait.
    pub(super) fn tokens(&self) -> MutexGuard<'_, TokenTable> {
        // A table that a panic left is whole: each of its changes is one step.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The paths of the drop-in console and ingress.
pub(super) fn paths(routes: &mut web::ServiceConfig) {
    routes
        .service(post("/v1/auth/session-token", console::create))
        .service(post("/v1/console/session-tokens", console::create))
        .service(post("/session-tokens", console::create))
        .service(get("/v2/driveningress/websocket", upgrade::drop_in))
        .service(get("/s/{id}/v2/driveningress/websocket", upgrade::attach))
        .service(get("/s/{id}/takeover/v2/driveningress/websocket", upgrade::take_over));
}
