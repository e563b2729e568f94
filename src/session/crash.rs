//! What a panic of a session's own code is called.

use crate::errors::{Egress, ErrorCode, Evidence, Observed, Phase, SessionError};

/// The error for a panic of a session's own code.
pub(super) fn panic_error(payload: &(dyn std::any::Any + Send), egress: Egress) -> SessionError {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    let evidence = Evidence::new(Phase::WebsocketRuntime, Observed::Internal, egress);
    let error = SessionError::classified(evidence, format!("the session's handler panicked: {text}"));
    debug_assert_eq!(error.code, ErrorCode::Unknown);
    error
}
