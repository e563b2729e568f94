//! The stable error codes: what an alert is written on.
//!
//! The names are a contract. They appear with exactly this spelling in JSON, in metric labels, in logs, in
//! the configuration and on the command line.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Action;

/// Who has to do something before sessions with this code can work again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// Nobody: Greenroom recovers by itself.
    Nobody,
    /// Whoever runs Greenroom and its network.
    Operator,
    /// Whoever pays for the account at the avatar service.
    Billing,
    /// Whoever wrote the code or the configuration that asks for the session.
    Developer,
}

impl Actor {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Operator => "operator",
            Self::Billing => "billing",
            Self::Developer => "developer",
        }
    }
}

/// What is fixed about a code, kept in one row so that no table beside it can go stale.
struct Facts {
    name: &'static str,
    meaning: &'static str,
    must_act: Actor,
    action: Action,
}

// By hand: the derive does not see the names through the macro.
impl utoipa::PartialSchema for ErrorCode {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .enum_values(Some(Self::ALL.map(Self::as_str)))
            .description(Some(
                "A stable error code; `GET /v1/codes` of the admin plane tells what each means.",
            ))
            .into()
    }
}

impl utoipa::ToSchema for ErrorCode {}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $actor:ident, $action:ident, $meaning:literal;)*) => {
        /// A stable error code: the 19 of the service's error table, and `concurrencyLimit`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the service's table.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            const fn facts(self) -> Facts {
                match self {
                    $(Self::$variant => Facts {
                        name: $name,
                        meaning: $meaning,
                        must_act: Actor::$actor,
                        action: Action::$action,
                    },)*
                }
            }
        }
    };
}

codes! {
    SessionTokenExpired = "sessionTokenExpired", Nobody, Renew,
        "The session token had expired when it was used, or the service ended a connection whose token ran out.";
    SessionTokenInvalid = "sessionTokenInvalid", Developer, Renew,
        "The service did not accept the session token, or refused the API key that asks for one.";
    AppIdUnrecognized = "appIDUnrecognized", Developer, Fail,
        "The service does not know the app id.";
    AppIdMismatch = "appIDMismatch", Developer, Fail,
        "The app id and the session token belong to different apps.";
    AvatarNotFound = "avatarNotFound", Developer, Fail,
        "The service has no avatar with this id for this app.";
    BillingRequired = "billingRequired", Billing, Park,
        "The service refuses the session until the account's billing is in order.";
    CreditsExhausted = "creditsExhausted", Billing, Park,
        "The account has no credits left.";
    SessionDurationExceeded = "sessionDurationExceeded", Billing, Park,
        "The session reached the longest duration that the account's plan allows.";
    ConcurrencyLimit = "concurrencyLimit", Billing, Park,
        "The account has as many sessions open at the service as its plan allows.";
    UnsupportedSampleRate = "unsupportedSampleRate", Developer, Fail,
        "The audio format of the session does not have this sample rate.";
    InvalidEgressConfig = "invalidEgressConfig", Developer, Fail,
        "The LiveKit or Agora settings of the session are incomplete, expired or refused.";
    EgressUnavailable = "egressUnavailable", Nobody, Restart,
        "The service could not connect its egress to the LiveKit room or Agora channel.";
    IdleTimeout = "idleTimeout", Nobody, Sleep,
        "The service ended the session because no audio came for a long time.";
    UpstreamError = "upstreamError", Nobody, Restart,
        "A part of the service that the session depends on is unavailable or failed.";
    InvalidRequest = "invalidRequest", Developer, Fail,
        "The service refused a request because of what it says, so the same request would be refused again.";
    ConnectionFailed = "connectionFailed", Operator, Restart,
        "No usable answer came before the session stood: name lookup, connect, TLS, reset or a deadline.";
    ConnectionClosed = "connectionClosed", Nobody, Restart,
        "The connection of a session ended without a reason that means anything else.";
    ProtocolError = "protocolError", Operator, Restart,
        "The service sent what its protocol does not allow at that point.";
    ServerError = "serverError", Nobody, Restart,
        "The service reported an internal error of its own.";
    Unknown = "unknown", Operator, Restart,
        "What happened matches no rule that Greenroom knows.";
}

impl ErrorCode {
    /// The name in JSON, metrics, logs and configuration.
    pub const fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// What the code means, in one sentence.
    pub const fn meaning(self) -> &'static str {
        self.facts().meaning
    }

    /// Who must act before sessions with this code can work again.
    pub const fn must_act(self) -> Actor {
        self.facts().must_act
    }

    /// What Greenroom does when the configuration says nothing else.
    pub const fn default_action(self) -> Action {
        self.facts().action
    }

    /// The code's section in the runbook, relative to the repository's root.
    pub fn docs_url(self) -> String {
        format!("dashboards/runbooks.md#{}", self.as_str())
    }

    /// The position in [`ErrorCode::ALL`], for tables with one entry a code.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no error code; `greenroom classify --codes` lists them")]
pub struct UnknownCode(pub String);

impl FromStr for ErrorCode {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|code| code.as_str() == text).ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twenty_codes_and_each_reads_back_from_its_name() {
        assert_eq!(ErrorCode::ALL.len(), 20);
        for (position, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(code.as_str().parse::<ErrorCode>(), Ok(code));
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
            assert_eq!(code.index(), position);
        }
    }

    #[test]
    fn names_are_case_sensitive_and_a_stranger_is_named() {
        let error = "SessionTokenExpired".parse::<ErrorCode>().unwrap_err();
        assert!(error.to_string().contains("SessionTokenExpired"), "{error}");
    }

    #[test]
    fn default_actions_are_those_of_the_design() {
        use Action::{Fail, Park, Renew, Restart, Sleep};
        let expected = [
            ("sessionTokenExpired", Renew),
            ("sessionTokenInvalid", Renew),
            ("appIDUnrecognized", Fail),
            ("appIDMismatch", Fail),
            ("avatarNotFound", Fail),
            ("billingRequired", Park),
            ("creditsExhausted", Park),
            ("sessionDurationExceeded", Park),
            ("concurrencyLimit", Park),
            ("unsupportedSampleRate", Fail),
            ("invalidEgressConfig", Fail),
            ("egressUnavailable", Restart),
            ("idleTimeout", Sleep),
            ("upstreamError", Restart),
            ("invalidRequest", Fail),
            ("connectionFailed", Restart),
            ("connectionClosed", Restart),
            ("protocolError", Restart),
            ("serverError", Restart),
            ("unknown", Restart),
        ];
        assert_eq!(
            expected.to_vec(),
            ErrorCode::ALL.map(|code| (code.as_str(), code.default_action())).to_vec()
        );
    }

    #[test]
    fn each_code_has_its_runbook_and_it_says_who_must_act_and_what_is_done() {
        let runbooks = include_str!("../../dashboards/runbooks.md");
        assert_eq!(runbooks.matches("\n## ").count(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            let opening = format!("<a id=\"{code}\"></a>\n## {code}\n");
            let (_, rest) = runbooks.split_once(&opening).unwrap_or_else(|| panic!("no section {opening}"));
            let section = rest.split("<a id=").next().unwrap();
            let acts = format!(
                "**Must act:** {}. **Default action:** `{}`.",
                code.must_act().as_str(),
                code.default_action()
            );
            for part in ["**Means:**", &acts, "**Look at:**", "**Do:**", "**Over when:**"] {
                assert!(section.contains(part), "{code}: {part}");
            }
            assert!(section.contains(&format!("/v1/sessions?code={code}\"")), "{code}");
            assert!(section.contains(&format!("{{code=\"{code}\"}}")), "{code}: no metric query");
            assert!(code.docs_url().ends_with(&format!("#{code}")));
        }
    }
}
