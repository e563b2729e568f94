//! What was tried and what came of it, for people or for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::output,
    party::{Party, advice},
};
use crate::{errors::SessionError, recovery::Policy};

/// Columns of the names of steps.
const NAME_WIDTH: usize = 16;

/// What came of a step.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It worked; what was found.
    Passed { took: Duration, found: String },
    /// It failed.
    Failed { took: Duration, error: Box<SessionError> },
    /// It was not tried, and why.
    Skipped { why: String },
}

/// Where the results go, and the worst of them.
pub(super) struct Report {
    json: bool,
    policy: Policy,
    subject: Option<(&'static str, String)>,
    worst: Option<Party>,
    skipped: bool,
    /// Whether anybody reads.
    is_read: bool,
}

/// The exit code where nothing failed and something could not be tried.
const EXIT_INCOMPLETE: u8 = 3;

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e4).round() / 10.0
}

impl Report {
    pub(super) const fn new(json: bool, policy: Policy) -> Self {
        Self { json, policy, subject: None, worst: None, skipped: false, is_read: true }
    }

    fn say(&mut self, line: &str) {
        self.is_read = self.is_read && output::say(line);
    }

    /// Begins with an upstream or a tenant, whose policy says what would be done.
    pub(super) fn begin(&mut self, kind: &'static str, name: &str, what: &str, policy: Policy) {
        self.policy = policy;
        self.subject = Some((kind, name.to_owned()));
        if !self.json {
            self.say(&format!("{kind} {name}: {what}"));
        }
    }

    /// Notes a step.
    pub(super) fn step(&mut self, name: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Passed { .. } => {}
            Outcome::Failed { error, .. } => self.worst = self.worst.max(Some(Party::of(error))),
            Outcome::Skipped { .. } => self.skipped = true,
        }
        if self.json { self.step_json(name, outcome) } else { self.step_text(name, outcome) }
    }

    fn step_json(&mut self, name: &str, outcome: &Outcome) {
        let mut line = json!({"step": name});
        if let Some((kind, name)) = &self.subject {
            line[*kind] = Value::from(name.as_str());
        }
        match outcome {
            Outcome::Passed { took, found } => {
                line["outcome"] = "passed".into();
                line["ms"] = millis(*took).into();
                line["found"] = found.as_str().into();
            }
            Outcome::Failed { took, error } => {
                line["outcome"] = "failed".into();
                line["ms"] = millis(*took).into();
                line["who"] = json!(Party::of(error));
                line["meaning"] = error.code.meaning().into();
                line["action"] = self.policy.answer(error).as_str().into();
                line["advice"] = advice(error).into();
                line["runbook"] = error.code.docs_url().into();
                line["rule"] = error.rule.into();
                line["error"] = json!(**error);
            }
            Outcome::Skipped { why } => {
                line["outcome"] = "skipped".into();
                line["why"] = why.as_str().into();
            }
        }
        self.say(&line.to_string());
    }

    fn step_text(&mut self, name: &str, outcome: &Outcome) {
        let line = |mark: &str, time: &str, rest: &str| {
            format!("  {mark:<4}  {name:<NAME_WIDTH$} {time:>9}  {rest}")
        };
        match outcome {
            Outcome::Passed { took, found } => {
                self.say(&line("ok", &format!("{:.1} ms", millis(*took)), &clean(found)));
            }
            Outcome::Skipped { why } => self.say(&line("--", "", &format!("not tried: {}", clean(why)))),
            Outcome::Failed { took, error } => {
                self.say(&line("FAIL", &format!("{:.1} ms", millis(*took)), error.code.as_str()));
                let action = self.policy.answer(error).as_str();
                let mut tell =
                    |name: &str, text: &str| self.say(&format!("        {name:<9} {}", clean(text)));
                tell("happened", &error.message);
                for (name, text) in [
                    ("title", error.server_title.as_deref()),
                    ("detail", error.server_detail.as_deref()),
                    ("closed", error.close_reason.as_deref()),
                ] {
                    if let Some(text) = text.filter(|text| !error.message.contains(*text)) {
                        tell(name, text);
                    }
                }
                tell("means", error.code.meaning());
                tell("must act", Party::of(error).words());
                tell("to do", advice(error));
                tell("action", &format!("{action} (what becomes of a session with this error)"));
                tell("runbook", &error.code.docs_url());
            }
        }
    }

    /// The last word, and the exit code.
    pub(super) fn finish(mut self) -> u8 {
        let code = match (self.worst, self.skipped) {
            (Some(party), _) => party.exit_code(),
            (None, true) => EXIT_INCOMPLETE,
            (None, false) => 0,
        };
        let line = match (self.json, self.worst, self.skipped) {
            (true, worst, skipped) => {
                json!({"step": "verdict", "worst": worst, "complete": !skipped, "exit": code}).to_string()
            }
            (false, Some(party), _) => format!("verdict: {} must act", party.words()),
            (false, None, true) => "verdict: nothing failed, but not everything could be tried".to_owned(),
            (false, None, false) => "verdict: everything works".to_owned(),
        };
        self.say(&line);
        code
    }
}

/// A text of the service's without what a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
