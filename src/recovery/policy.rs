//! The policy table: which action answers which code.

use crate::errors::{Action, ErrorCode, SessionError};

/// The action for each code: the defaults of the design, changed by `[recovery.policy]` and per tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    actions: [Action; ErrorCode::ALL.len()],
}

impl Default for Policy {
    fn default() -> Self {
        Self { actions: ErrorCode::ALL.map(ErrorCode::default_action) }
    }
}

impl Policy {
    /// The action that answers `code`.
    pub const fn action(&self, code: ErrorCode) -> Action {
        self.actions[code.index()]
    }

    /// The action that answers `error`: that of its code, but where the API key was refused no fresh token can be
    /// had, so that a renewal is a park.
    pub fn answer(&self, error: &SessionError) -> Action {
        match self.action(error.code) {
            Action::Renew if error.is_api_key_refused() => Action::Park,
            action @ (Action::Restart | Action::Renew | Action::Park | Action::Sleep | Action::Fail) => {
                action
            }
        }
    }

    /// The same table with another action for `code`.
    #[must_use]
    pub const fn with(mut self, code: ErrorCode, action: Action) -> Self {
        self.actions[code.index()] = action;
        self
    }

    /// Whether a runtime `ServerError` with `code` that names a request fails only that request and leaves
    /// the connection as it is.
    pub const fn spares_the_connection(&self, code: ErrorCode) -> bool {
        match self.action(code) {
            Action::Restart | Action::Renew => true,
            Action::Park | Action::Sleep | Action::Fail => false,
        }
    }
}
