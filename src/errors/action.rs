//! What Greenroom does about an error.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The reaction of a session to an error, as the policy table names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Connect again after a backoff, within the restart budget.
    Restart,
    /// Connect again at once with a fresh token, once; then by the rule of the code.
    Renew,
    /// Hold the session without a connection until it is unparked or a probe succeeds.
    Park,
    /// Close the session until audio comes for it.
    Sleep,
    /// End the attempts: a person must mend something first.
    Fail,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 5] = [Self::Restart, Self::Renew, Self::Park, Self::Sleep, Self::Fail];

    /// The spelling in JSON and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Renew => "renew",
            Self::Park => "park",
            Self::Sleep => "sleep",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no action; use restart, renew, park, sleep or fail")]
pub struct UnknownAction(pub String);

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| UnknownAction(text.to_owned()))
    }
}
