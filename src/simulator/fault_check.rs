//! Which faults there can be: what JSON alone does not check.

use super::faults::{Close, Effect, Fault, Nonsense, Point};

/// Why a fault cannot be taken into the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The effect has no meaning where it is to happen.
    #[error("\"do\": {effect} cannot happen at {at}; see the reference of \"at\" for what can")]
    NotThere {
        /// The effect's name.
        effect: &'static str,
        /// The point's name.
        at: &'static str,
    },
    /// A number is outside its range.
    #[error("{field} is {value}, expected {expected}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The plan is full.
    #[error("the plan holds {0} faults already, clear it first")]
    Full(usize),
}

/// A year: longer than any run, and far from what a clock's arithmetic could not hold.
const MAX_AFTER_SECONDS: f64 = 31_536_000.0;

/// An outage that is to end by itself ends within a day.
const MAX_OUTAGE_MS: u64 = 24 * 3600 * 1000;

/// A control frame holds 125 bytes, two of them the code.
pub(super) const MAX_REASON_BYTES: usize = 123;

impl Fault {
    /// Checks what JSON alone does not.
    ///
    /// # Errors
    ///
    /// The effect has no meaning at the point, or a number is outside its range.
    pub fn check(&self) -> Result<(), FaultError> {
        if let Some(chance) = self.chance
            && !(0.0..=1.0).contains(&chance)
        {
            let value = chance.to_string();
            return Err(FaultError::Range { field: "chance", value, expected: "0 to 1" });
        }
        if let Point::AfterSeconds(seconds) = self.at
            && !(0.0..=MAX_AFTER_SECONDS).contains(&seconds)
        {
            let value = seconds.to_string();
            return Err(FaultError::Range { field: "after_seconds", value, expected: "0 to 31536000" });
        }
        self.effect.check(self.at)
    }
}

impl Point {
    /// The name in JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Upgrade => "upgrade",
            Self::Handshake => "handshake",
            Self::AfterChunks(_) => "after_chunks",
            Self::AfterSeconds(_) => "after_seconds",
            Self::AfterFrames(_) => "after_frames",
        }
    }
}

impl Effect {
    /// The name in JSON.
    const fn name(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::ServerError { .. } => "server_error",
            Self::Close(_) => "close",
            Self::Drop { .. } => "drop",
            Self::Silence {} => "silence",
            Self::Delay { .. } => "delay",
            Self::Stall { .. } => "stall",
            Self::Trickle { .. } => "trickle",
            Self::Refuse { .. } => "refuse",
            Self::Nonsense(_) => "nonsense",
        }
    }

    /// Whether it can happen there.
    const fn possible(&self, at: Point) -> bool {
        use Nonsense as N;
        let (token, upgrade, handshake) = match at {
            Point::Token => (true, false, false),
            Point::Upgrade => (false, true, false),
            Point::Handshake => (false, false, true),
            Point::AfterChunks(_) | Point::AfterSeconds(_) | Point::AfterFrames(_) => (false, false, false),
        };
        match self {
            Self::Http { .. } => token || upgrade,
            Self::ServerError { .. } | Self::Close(_) => !token && !upgrade,
            Self::Drop { .. } | Self::Silence {} | Self::Refuse { .. } => true,
            Self::Stall { .. } => !token && !upgrade,
            Self::Trickle { .. } => !token,
            Self::Delay { .. } => token || upgrade || handshake,
            Self::Nonsense(N::TokenWithoutToken | N::ErrorsIn200 | N::NotJson | N::HugeBody) => token,
            Self::Nonsense(N::HugeHeaders) => token || upgrade,
            Self::Nonsense(N::WrongAccept) => upgrade,
            Self::Nonsense(N::EmptyConnectionId | N::WrongFirstMessage) => handshake,
            Self::Nonsense(
                N::TextFrame | N::BadProtobuf | N::UnknownType | N::UnknownRequest | N::BadFrame,
            ) => !token && !upgrade,
        }
    }

    /// The close frame that it sends, if any.
    const fn close_frame(&self) -> Option<&Close> {
        match self {
            Self::Close(close) | Self::ServerError { then_close: Some(close), .. } => Some(close),
            Self::Http { .. }
            | Self::ServerError { then_close: None, .. }
            | Self::Drop { .. }
            | Self::Silence {}
            | Self::Delay { .. }
            | Self::Stall { .. }
            | Self::Trickle { .. }
            | Self::Refuse { .. }
            | Self::Nonsense(_) => None,
        }
    }

    /// Checks what JSON alone does not, for an effect at `at`.
    ///
    /// # Errors
    ///
    /// The effect has no meaning there, or a number is outside its range.
    pub fn check(&self, at: Point) -> Result<(), FaultError> {
        if !self.possible(at) {
            return Err(FaultError::NotThere { effect: self.name(), at: at.name() });
        }
        let range = |field, value: String, expected| Err(FaultError::Range { field, value, expected });
        if let Self::Http { status, .. } = self
            && !(200..600).contains(status)
        {
            return range("status", status.to_string(), "200 to 599");
        }
        if let Self::Trickle { bytes_per_s: 0 } = self {
            return range("bytes_per_s", "0".into(), "at least 1");
        }
        if let Self::Refuse { for_ms } = self
            && !(1..=MAX_OUTAGE_MS).contains(for_ms)
        {
            return range("for_ms", for_ms.to_string(), "1 to 86400000");
        }
        if let Some(close) = self.close_frame() {
            // RFC 6455 section 7.4: 1004 to 1006 and 1015 are never on the wire.
            if !matches!(close.code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return range("code", close.code.to_string(), "a close code that may be sent");
            }
            if close.reason.len() > MAX_REASON_BYTES {
                return range("reason", format!("{} bytes", close.reason.len()), "at most 123 bytes");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> Result<(), String> {
        let fault: Fault = serde_json::from_value(value).map_err(|error| error.to_string())?;
        fault.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_happen_is_refused_by_name() {
        for (at, effect, says) in [
            (json!("token"), json!({"close": {"code": 4001}}), "close cannot happen at token"),
            (json!("upgrade"), json!({"nonsense": "text_frame"}), "nonsense cannot happen at upgrade"),
            (
                json!({"after_chunks": 1}),
                json!({"http": {"status": 402}}),
                "http cannot happen at after_chunks",
            ),
            (json!("handshake"), json!({"close": {"code": 1006}}), "code is 1006"),
            (json!("upgrade"), json!({"http": {"status": 101}}), "status is 101"),
            (json!({"after_seconds": -1.0}), json!({"drop": {}}), "after_seconds is -1"),
            (json!("token"), json!({"stall": {"ms": 5}}), "stall cannot happen at token"),
            (json!("upgrade"), json!({"trickle": {"bytes_per_s": 0}}), "bytes_per_s is 0"),
            (json!("token"), json!({"refuse": {"for_ms": 0}}), "for_ms is 0"),
            (json!("token"), json!({"drop": {"rest": true}}), "unknown field `rest`"),
        ] {
            let error = parse(json!({"at": at, "do": effect})).unwrap_err();
            assert!(error.contains(says), "{error} should say {says}");
        }
    }
}
