//! Why a command was not carried out, what to do about it, and the exit code that scripts read.

use std::{fmt, process::ExitCode};

use serde_json::Value;

/// Greenroom refused; its problem says why.
pub(super) const EXIT_REFUSED: u8 = 1;
/// The command makes no sense as it was typed; clap's code too.
pub(super) const EXIT_USAGE: u8 = 2;
/// A confirmation was needed and not given.
pub(super) const EXIT_UNCONFIRMED: u8 = 3;
/// A file that was named cannot be read (`EX_NOINPUT` of sysexits.h).
pub(super) const EXIT_FILE: u8 = 66;
/// Nobody answers (`EX_UNAVAILABLE`).
pub(super) const EXIT_UNREACHABLE: u8 = 69;
/// Greenroom cannot do it now (`EX_TEMPFAIL`).
pub(super) const EXIT_LATER: u8 = 75;
/// What answers is no Greenroom (`EX_PROTOCOL`).
pub(super) const EXIT_PROTOCOL: u8 = 76;
/// The key is missing or refused (`EX_NOPERM`).
pub(super) const EXIT_KEY: u8 = 77;

/// Why a command was not carried out.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command makes no sense as it was typed.
    Usage(String),
    /// A confirmation was needed and not given.
    Unconfirmed(String),
    /// A file cannot be read.
    File(String),
    /// No answer: the address, and why.
    Unreachable { url: String, why: String },
    /// An answer that is none of Greenroom's.
    Protocol { url: String, why: String },
    /// A problem that Greenroom told.
    Refused(Box<Refused>),
    /// Whoever read the output has gone away, which is no failure of ours.
    NobodyReads,
}

/// A problem of RFC 9457.
#[derive(Debug)]
pub(super) struct Refused {
    /// HTTP status.
    pub(super) status: u16,
    /// The stable code; empty where the answer had none.
    pub(super) code: String,
    /// What was wrong.
    pub(super) detail: String,
    /// Everything that is wrong, where that is more than one thing.
    pub(super) errors: Vec<String>,
    /// Seconds to wait before the next try.
    pub(super) retry_after_s: Option<u64>,
}

impl Refused {
    /// Reads a problem; `None` where the body is none.
    pub(super) fn of(status: u16, retry_after_s: Option<u64>, body: &Value) -> Option<Self> {
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let errors = body["errors"].as_array().into_iter().flatten();
        Some(Self {
            status,
            code: text("code")?,
            detail: text("detail").or_else(|| text("title")).unwrap_or_default(),
            errors: errors.filter_map(|error| error.as_str().map(str::to_owned)).collect(),
            retry_after_s,
        })
    }

    /// What whoever typed the command can do, where the detail does not say it.
    fn advice(&self) -> Option<String> {
        if let Some(seconds) = self.retry_after_s {
            return Some(format!("try again in {seconds} s"));
        }
        match (self.status, self.code.as_str()) {
            (401, _) => Some(
                "set GREENROOM_KEY, or name a file with the key by --key-file; on the admin address it is the admin \
                 key, on the tenants' address a tenant's"
                    .to_owned(),
            ),
            (403, _) => Some(
                "without an admin.key in its configuration Greenroom only shows, and only to its own machine".to_owned(),
            ),
            (404, "notFound") => Some(
                "what is another tenant's looks the same; the tenants' address has no commands of operators"
                    .to_owned(),
            ),
            (405, _) => Some("this Greenroom may be older than this command".to_owned()),
            (412, _) => Some("somebody else changed it meanwhile; look again, then repeat".to_owned()),
            _ => None,
        }
    }
}

impl Failure {
    /// The exit code.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Unconfirmed(_) => EXIT_UNCONFIRMED,
            Self::File(_) => EXIT_FILE,
            Self::Unreachable { .. } => EXIT_UNREACHABLE,
            Self::Protocol { .. } => EXIT_PROTOCOL,
            Self::Refused(refused) => match refused.status {
                401 | 403 => EXIT_KEY,
                429 | 503 => EXIT_LATER,
                _ => EXIT_REFUSED,
            },
            Self::NobodyReads => 0,
        }
    }

    /// The code for the process's end.
    pub(super) fn exit(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// Whether another try may succeed without anybody's doing.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.code(), EXIT_UNREACHABLE | EXIT_LATER)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Unconfirmed(text) | Self::File(text) => f.write_str(text),
            Self::Unreachable { url, why } => write!(
                f,
                "{url} does not answer: {why}\n  GREENROOM_URL or --url says where Greenroom's admin address is"
            ),
            Self::Protocol { url, why } => {
                write!(f, "what answers at {url} is no Greenroom: {why}\n  is it the right port?")
            }
            Self::Refused(refused) => {
                write!(f, "refused ({} {}): {}", refused.status, refused.code, refused.detail)?;
                for error in refused.errors.iter().filter(|error| !refused.detail.contains(error.as_str())) {
                    write!(f, "\n  {error}")?;
                }
                refused.advice().map_or(Ok(()), |advice| write!(f, "\n  {advice}"))
            }
            Self::NobodyReads => f.write_str("the output is not read any more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(status: u16, body: &Value) -> Failure {
        Failure::Refused(Box::new(Refused::of(status, None, body).unwrap()))
    }

    #[test]
    fn each_kind_of_failure_has_an_exit_code_of_its_own() {
        let problem = json!({"code": "c", "detail": "d"});
        let codes = [400, 404, 409, 422, 500].map(|status| refused(status, &problem).code());
        assert_eq!(codes, [EXIT_REFUSED; 5]);
        assert_eq!([401, 403].map(|status| refused(status, &problem).code()), [EXIT_KEY; 2]);
        assert_eq!([429, 503].map(|status| refused(status, &problem).code()), [EXIT_LATER; 2]);
        let gone = Failure::Unreachable { url: String::new(), why: String::new() };
        assert_eq!((gone.code(), gone.is_passing()), (EXIT_UNREACHABLE, true));
        assert!(!refused(401, &problem).is_passing() && refused(503, &problem).is_passing());
    }

    #[test]
    fn a_refusal_says_its_code_every_error_and_what_to_do() {
        let text =
            refused(422, &json!({"code": "invalidBody", "detail": "two", "errors": ["one is", "two"]}))
                .to_string();
        assert_eq!(text, "refused (422 invalidBody): two\n  one is");
        assert!(refused(401, &json!({"code": "unauthorized"})).to_string().contains("GREENROOM_KEY"));
        assert!(Refused::of(404, None, &json!({"error": "x"})).is_none());
    }
}
