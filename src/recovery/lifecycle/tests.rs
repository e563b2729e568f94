//! The session machine, by table and by chance.

mod budget;
mod codes;
mod commands;
mod generations;
mod random;
mod remembered;

use std::{sync::Arc, time::Duration};

use super::{
    super::{BudgetConfig, Moment, Policy},
    Admission, BackingOff, Count, Effect, EndRequests, Generation, Hold, Input, Lifecycle, Pass,
    RecoveryConfig, StableAfter, Starting, State, StateName,
};
use crate::errors::{Action, Egress, ErrorCode, Evidence, Observed, Phase, SessionError};

/// The jitter of every rig: the waits are half of their ceilings.
const HALF: f64 = 0.5;

/// A machine with a clock, and the short cuts that the tests read better with.
struct Rig {
    machine: Lifecycle,
    now: Moment,
}

impl Rig {
    fn new(config: RecoveryConfig) -> Self {
        Self { machine: Lifecycle::new(Arc::new(config)), now: Moment::at(Duration::from_secs(1000)) }
    }

    /// A session that waits at the gate for its first turn.
    fn queued() -> Self {
        Self::new(RecoveryConfig::default()).started()
    }

    fn started(mut self) -> Self {
        self.give(Input::Start);
        self
    }

    /// A session whose attempt is under way.
    fn connecting() -> Self {
        Self::queued().granted()
    }

    fn granted(mut self) -> Self {
        let generation = self.machine.generation;
        self.give(Input::Granted(generation));
        self
    }

    /// A session with a confirmed connection.
    fn running() -> Self {
        Self::connecting().confirmed()
    }

    fn confirmed(mut self) -> Self {
        self.give(self.connected());
        self
    }

    fn connected(&self) -> Input {
        Input::Connected {
            generation: self.machine.generation,
            connection_id: "conn-1".into(),
            capabilities: vec!["playback_state".into()],
        }
    }

    fn give(&mut self, input: Input) -> Vec<Effect> {
        self.machine.handle(input, self.now, HALF);
        std::iter::from_fn(|| self.machine.next_effect()).collect()
    }

    /// The link that stands breaks with `error`.
    fn breaks(&mut self, error: &Arc<SessionError>) -> Vec<Effect> {
        let generation = self.machine.generation;
        self.give(Input::Broke { generation, error: Arc::clone(error) })
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Lets the backoff pass, gets a turn, and begins the attempt.
    fn attempts_again(&mut self) {
        if let Some(due) = self.machine.next_timeout() {
            self.now = self.now.max(due);
            self.give(Input::Tick);
        }
        let generation = self.machine.generation;
        assert!(self.give(Input::Granted(generation)).contains(&Effect::Connect(generation)));
    }

    fn name(&self) -> StateName {
        self.machine.state().name()
    }

    fn is_budget_untouched(&self) -> bool {
        self.machine.budget == super::super::Budget::default()
    }
}

fn error(code: ErrorCode, phase: Phase) -> Arc<SessionError> {
    let mut error =
        SessionError::classified(Evidence::new(phase, Observed::Answer, Egress::None), "told by a test");
    error.code = code;
    Arc::new(error)
}

/// An error of a connection that ended with a close frame, so that the service has forgotten it.
fn closed_with(code: ErrorCode, close_code: u16) -> Arc<SessionError> {
    let mut error = Arc::unwrap_or_clone(error(code, Phase::WebsocketRuntime));
    error.close_code = Some(close_code);
    Arc::new(error)
}

/// Effects as words, so that a table of them fits on a page.
fn words(effects: &[Effect]) -> String {
    effects.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Ask { generation, pass } => format!("ask{}:{}", generation.0, pass_word(*pass)),
        Effect::Withdraw => "withdraw".into(),
        Effect::Upgraded => "upgraded".into(),
        Effect::Settled(None) => "settled".into(),
        Effect::Settled(Some(error)) => format!("settled:{}", error.code),
        Effect::Connect(generation) => format!("connect{}", generation.0),
        Effect::Close(generation) => format!("close{}", generation.0),
        Effect::Parked(hold) => format!("parked:{}", hold_word(hold)),
        Effect::Unparked => "unparked".into(),
        Effect::SlotFreed => "slot".into(),
        Effect::EndRequests(EndRequests::Sent(code)) => format!("end-sent:{code}"),
        Effect::EndRequests(EndRequests::All(code)) => format!("end-all:{code}"),
        Effect::EndRequests(EndRequests::Interrupted) => "interrupt".into(),
        Effect::Count(Count::Error(error)) => format!("error:{}", error.code),
        Effect::Count(Count::Restart(code)) => format!("restart:{code}"),
        Effect::Count(Count::Park(code)) => format!("park:{code}"),
        Effect::Count(Count::Failure(code)) => format!("failure:{code}"),
        Effect::Count(Count::BudgetExhausted) => "exhausted".into(),
        Effect::Count(Count::Recovered(after)) => format!("recovered:{}ms", after.as_millis()),
    }
}

const fn pass_word(pass: Pass) -> &'static str {
    match pass {
        Pass::Normal => "normal",
        Pass::Unparked => "unparked",
        Pass::Probe => "probe",
        Pass::Volunteer => "volunteer",
    }
}

fn hold_word(hold: &Hold) -> String {
    match hold {
        Hold::Error(code) => code.to_string(),
        Hold::KeyRefused => "key".into(),
        Hold::Suspension(code) => format!("suspension:{code}"),
        Hold::Minutes => "minutes".into(),
        Hold::Operator => "operator".into(),
    }
}
