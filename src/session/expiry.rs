//! Egress tokens that run out. Pure: the time is an argument.
//!
//! A LiveKit access token is a JWT, and its `exp` (RFC 7519, 4.1.4) is read without its signature being checked,
//! which is LiveKit's to do. A connection that stands is not harmed when its token expires; the next one is refused.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::EgressSpec;
use crate::{
    errors::{Egress, ErrorCode, Evidence, Observed, Phase, SessionError},
    recovery::Moment,
};

/// How long before a token expires it is warned of: time for a person or a backend to bring another.
const WARN_BEFORE: Duration = Duration::from_secs(600);
/// How far the clock of this machine may be ahead of the service's: until then the service is asked.
const LEEWAY: Duration = Duration::from_secs(60);
/// Bytes of a token that are looked at: far above any, and no megabyte is decoded each time a session is shown.
const MAX_TOKEN: usize = 16 << 10;

/// How an egress token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does not say when it expires, or that is far.
    Fresh,
    /// It expires then, which is soon.
    Expiring(Moment),
    /// It expired then: a new connection is likely to be refused.
    Expired(Moment),
    /// It expired then, and longer ago than clocks differ: a new connection is refused.
    Stale(Moment),
}

#[derive(Deserialize)]
struct Claims {
    /// Seconds since 1970, maybe with a fraction.
    exp: f64,
}

/// When a token expires, where it is a JWT that says so.
fn expiry(token: &str) -> Option<Moment> {
    let mut parts = token.split('.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if token.len() > MAX_TOKEN || parts.next().is_some() {
        return None;
    }
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    // What is before 1970 or beyond all time is no time.
    Duration::try_from_secs_f64(exp).ok().map(Moment::at)
}

/// How the egress's token stands at `now`.
pub(super) fn standing(egress: Option<&EgressSpec>, now: Moment) -> Standing {
    let token = match egress {
        Some(EgressSpec::Livekit { api_token, .. }) => api_token.expose_secret(),
        // An Agora token says nothing that could be read without Agora's key.
        Some(EgressSpec::Agora { .. }) | None => return Standing::Fresh,
    };
    match expiry(token) {
        None => Standing::Fresh,
        Some(expires) if now >= expires + LEEWAY => Standing::Stale(expires),
        Some(expires) if now >= expires => Standing::Expired(expires),
        Some(expires) if now + WARN_BEFORE >= expires => Standing::Expiring(expires),
        Some(_) => Standing::Fresh,
    }
}

impl Standing {
    /// What is said of it, to whoever can mend it.
    pub(super) fn warning(self) -> Option<String> {
        let at = |expires: Moment| {
            humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + expires.since_start())
        };
        match self {
            Self::Fresh => None,
            Self::Expiring(expires) => Some(format!(
                "egress.api_token expires at {}: a connection after that fails with {}; give the session a fresh one before",
                at(expires),
                ErrorCode::InvalidEgressConfig
            )),
            Self::Expired(expires) | Self::Stale(expires) => Some(format!(
                "egress.api_token expired at {}: no new connection can be made with it; give the session a fresh one",
                at(expires)
            )),
        }
    }

    /// Why no connection is worth an attempt: the service would bill it and refuse the token.
    pub(super) fn refusal(self) -> Option<SessionError> {
        match self {
            Self::Fresh | Self::Expiring(_) | Self::Expired(_) => None,
            Self::Stale(_) => {
                let evidence = Evidence::new(Phase::WebsocketHandshake, Observed::Internal, Egress::Livekit);
                let mut error = SessionError::classified(evidence, self.warning().unwrap_or_default());
                // The rules are about what the service says, and it was not asked.
                error.code = ErrorCode::InvalidEgressConfig;
                Some(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(claims), part("signature"))
    }

    fn livekit(token: &str) -> EgressSpec {
        serde_json::from_value(serde_json::json!({"type": "livekit", "api_token": token})).unwrap()
    }

    const fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_is_judged_by_its_exp_and_the_time() {
        let exp = 1_800_000_000;
        let token = jwt(r#"{"exp": 1800000000, "video": {"room": "r"}}"#);
        for (now, expected) in [
            (exp - 86_400, Standing::Fresh),
            (exp - 601, Standing::Fresh),
            (exp - 600, Standing::Expiring(at(exp))),
            (exp - 1, Standing::Expiring(at(exp))),
            (exp, Standing::Expired(at(exp))),
            (exp + 59, Standing::Expired(at(exp))),
            (exp + 60, Standing::Stale(at(exp))),
            (exp + 86_400, Standing::Stale(at(exp))),
        ] {
            let stands = standing(Some(&livekit(&token)), at(now));
            assert_eq!(stands, expected, "{now}");
            let (warns, refuses) = (stands != Standing::Fresh, matches!(stands, Standing::Stale(_)));
            assert_eq!((stands.warning().is_some(), stands.refusal().is_some()), (warns, refuses), "{now}");
        }
    }

    #[test]
    fn what_does_not_say_when_it_expires_is_left_to_the_service() {
        let long = jwt(&format!(r#"{{"exp": 1, "name": "{}"}}"#, "x".repeat(MAX_TOKEN)));
        let tokens = [
            String::new(),
            "lk-secret".to_owned(),
            "a.b.c".to_owned(),
            jwt("{}"),
            jwt(r#"{"exp": null}"#),
            jwt(r#"{"exp": "1"}"#),
            jwt(r#"{"exp": -1}"#),
            jwt(r#"{"exp": 1e300}"#),
            jwt("[1]"),
            format!("{}.more", jwt(r#"{"exp": 1}"#)),
            long,
        ];
        for token in tokens {
            assert_eq!(standing(Some(&livekit(&token)), at(1_800_000_000)), Standing::Fresh, "{token}");
        }
        assert_eq!(standing(None, at(1_800_000_000)), Standing::Fresh);
        let agora = serde_json::from_str(r#"{"type": "agora", "token": "t"}"#).unwrap();
        assert_eq!(standing(Some(&agora), at(1_800_000_000)), Standing::Fresh);
    }

    #[test]
    fn a_fraction_and_padding_are_read_and_the_text_names_the_time_and_no_token() {
        let token = jwt(r#"{"exp": 1800000000.5}"#);
        let stands = standing(Some(&livekit(&token)), at(1_800_000_100));
        let error = stands.refusal().unwrap();
        assert_eq!(error.code, ErrorCode::InvalidEgressConfig);
        assert!(error.message.contains("expired at 2027-01-15T08:00:00Z"), "{}", error.message);
        assert!(!error.message.contains(&token));
        let padded = format!("{}.{}=.x", "e30", BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp":1}"#));
        assert!(matches!(standing(Some(&livekit(&padded)), at(100)), Standing::Stale(_)));
    }
}
