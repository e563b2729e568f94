//! The policy table: which action answers which code.

use crate::errors::{Action, ErrorCode};

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
