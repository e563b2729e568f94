//! A fault plan in a file: TOML or JSON.

use std::path::Path;

use serde::Deserialize;

use super::{faults::Fault, parse_faults};

/// A fault plan as a file holds it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultFile {
    /// Makes `chance` fall the same in every run, see [`super::SimulatorConfig::seed`].
    #[serde(default)]
    pub seed: Option<u64>,
    /// The faults, in order.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

impl FaultFile {
    /// Reads a file: TOML where its name ends in `.toml`, JSON otherwise.
    ///
    /// # Errors
    ///
    /// Names the file, and says what is wrong and where.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        let file = if is_toml { Self::from_toml(&text) } else { Self::from_json(&text) };
        file.map_err(|error| format!("{name}: {error}"))
    }

    /// Reads TOML: `seed`, and a `[[faults]]` table for each fault.
    ///
    /// # Errors
    ///
    /// Says what is wrong and where.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        file.checked()
    }

    /// Reads JSON: what `POST /_sim/faults` takes, or `{"seed": 7, "faults": [...]}`.
    ///
    /// # Errors
    ///
    /// Says what is wrong and where.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let whole = serde_json::from_str::<serde_json::Value>(text).map_err(|error| error.to_string())?;
        if whole.get("faults").is_none() && whole.get("seed").is_none() {
            return Ok(Self { seed: None, faults: parse_faults(text.as_bytes())? });
        }
        let file: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        file.checked()
    }

    fn checked(self) -> Result<Self, String> {
        for (number, fault) in self.faults.iter().enumerate() {
            fault.check().map_err(|error| format!("fault {}: {error}", number + 1))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::{Close, Effect, Filter, Nonsense, Point};

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = r#"
            seed = 7
            [[faults]]
            match = { avatar_id = "clip-*" }
            at = { after_chunks = 3 }
            do = { server_error = { code = 14, message = "m", then_close = { code = 4503 } } }
            times = 2
            chance = 0.5
            [[faults]]
            at = "token"
            do = { http = { status = 402, body = { message = "no" }, headers = { Retry-After = "7" } } }
            [[faults]]
            at = { after_seconds = 2 }
            do = { silence = {} }
            [[faults]]
            at = "handshake"
            do = { nonsense = "text_frame" }
        "#;
        let json = r#"{"seed": 7, "faults": [
            {"match": {"avatar_id": "clip-*"}, "at": {"after_chunks": 3}, "times": 2, "chance": 0.5,
             "do": {"server_error": {"code": 14, "message": "m", "then_close": {"code": 4503}}}},
            {"at": "token",
             "do": {"http": {"status": 402, "body": {"message": "no"}, "headers": {"Retry-After": "7"}}}},
            {"at": {"after_seconds": 2}, "do": {"silence": {}}},
            {"at": "handshake", "do": {"nonsense": "text_frame"}}
        ]}"#;
        let file = FaultFile::from_toml(toml).unwrap();
        assert_eq!(Ok(&file), FaultFile::from_json(json).as_ref());
        assert_eq!(file.seed, Some(7));
        let close = Close { code: 4503, reason: String::new(), after_ms: 0 };
        let error =
            Effect::ServerError { code: 14, message: "m".into(), req_id: false, then_close: Some(close) };
        let first = Fault::new(Point::AfterChunks(3), error).only(Filter::avatar("clip-*")).times(2);
        assert_eq!(file.faults[0], Fault { chance: Some(0.5), ..first });
        assert_eq!(file.faults[3], Fault::new(Point::Handshake, Effect::Nonsense(Nonsense::TextFrame)));
    }

    #[test]
    fn json_may_be_a_list_or_one_fault() {
        let one = r#"{"at": "token", "do": {"drop": {}}}"#;
        assert_eq!(FaultFile::from_json(one), FaultFile::from_json(&format!("[{one}]")));
        assert_eq!(FaultFile::from_json(one).unwrap().faults.len(), 1);
    }

    #[test]
    fn a_mistake_is_named() {
        for (toml, says) in [
            ("sed = 7", "unknown field `sed`"),
            ("[[faults]]\nat = \"token\"\ndo = { close = { code = 4001 } }", "fault 1: \"do\": close cannot"),
            ("[[faults]]\nat = \"tokn\"\ndo = { drop = {} }", "tokn"),
        ] {
            let error = FaultFile::from_toml(toml).unwrap_err();
            assert!(error.contains(says), "{error} should say {says}");
        }
    }
}
