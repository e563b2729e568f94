//! Whatever comes in whatever order.

use proptest::prelude::*;

use super::*;

/// What happens next. Generations are given by their distance from the latest, so that what comes is mostly
/// current and sometimes late.
#[derive(Clone, Debug)]
enum Step {
    Granted(u64),
    Suspended(u64),
    Upgraded(u64),
    Connected(u64),
    Broke { back: u64, code: ErrorCode, phase: Phase, close_code: Option<u16> },
    Closed(u64),
    Crashed,
    Command(Input),
    Wait(u64),
    Due,
}

fn step() -> impl Strategy<Value = Step> {
    let back = || prop_oneof![6 => Just(0u64), 1 => 1u64..4];
    let code = prop::sample::select(ErrorCode::ALL.to_vec());
    let phase = prop::sample::select(Phase::ALL.to_vec());
    let close_code = prop::sample::select(vec![None, Some(1000), Some(1006), Some(4503)]);
    let command = prop::sample::select(vec![
        Input::Start,
        Input::Volunteer,
        Input::Audio,
        Input::Probe,
        Input::Release,
        Input::Restart,
        Input::Park,
        Input::Unpark,
        Input::Respec,
        Input::Idle,
        Input::MinutesUsed,
    ]);
    prop_oneof![
        8 => back().prop_map(Step::Granted),
        1 => back().prop_map(Step::Suspended),
        4 => back().prop_map(Step::Upgraded),
        8 => back().prop_map(Step::Connected),
        6 => (back(), code, phase, close_code)
            .prop_map(|(back, code, phase, close_code)| Step::Broke { back, code, phase, close_code }),
        4 => back().prop_map(Step::Closed),
        1 => Just(Step::Crashed),
        6 => command.prop_map(Step::Command),
        1 => (0u64..100).prop_map(Step::Wait),
        1 => prop_oneof![19 => Just(Input::Tick), 1 => Just(Input::Delete)].prop_map(Step::Command),
        4 => Just(Step::Due),
    ]
}

/// The turn that a session has at the gate, as the fleet sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    None,
    Asked(Generation),
    Attempting(Generation),
}

/// What the world outside the machine knows.
struct World {
    rig: Rig,
    turn: Turn,
    /// The socket that exists.
    link: Option<Generation>,
    /// Whether it was told to close.
    closing: bool,
}

impl World {
    fn input(&self, step: Step) -> Option<Input> {
        let latest = self.rig.machine.generation.0;
        let back = |back: u64| Generation(latest.saturating_sub(back));
        Some(match step {
            Step::Granted(n) => Input::Granted(back(n)),
            Step::Suspended(n) => Input::Suspended(back(n), ErrorCode::BillingRequired),
            Step::Upgraded(n) => Input::Upgraded(back(n)),
            Step::Connected(n) => {
                Input::Connected { generation: back(n), connection_id: "c".into(), capabilities: vec![] }
            }
            Step::Broke { back: n, code, phase, close_code } => {
                let mut error = Arc::unwrap_or_clone(error(code, phase));
                error.close_code = close_code;
                Input::Broke { generation: back(n), error: Arc::new(error) }
            }
            // A connection says that it is closed only after it was told to close.
            Step::Closed(n) if self.link != Some(back(n)) || self.closing => Input::Closed(back(n)),
            Step::Closed(_) => return None,
            Step::Crashed => Input::Crashed(error(ErrorCode::Unknown, Phase::WebsocketRuntime)),
            Step::Command(input) => input,
            Step::Wait(_) | Step::Due => Input::Tick,
        })
    }

    /// What an input says of the world, before the machine hears of it.
    fn note(&mut self, input: &Input) {
        match input {
            Input::Broke { generation, .. } | Input::Closed(generation) => {
                if self.link == Some(*generation) {
                    self.link = None;
                }
            }
            Input::Crashed(_) => self.link = None,
            Input::Suspended(generation, _) => {
                if self.turn == Turn::Asked(*generation) {
                    self.turn = Turn::None;
                }
            }
            Input::Start
            | Input::StartSuspended(_)
            | Input::RequestFailed { .. }
            | Input::Volunteer
            | Input::Granted(_)
            | Input::Upgraded(_)
            | Input::Connected { .. }
            | Input::Audio
            | Input::Idle
            | Input::MinutesUsed
            | Input::Probe
            | Input::Release
            | Input::Restart
            | Input::Park
            | Input::Unpark
            | Input::Respec
            | Input::Delete
            | Input::Tick => {}
        }
    }

    fn check(&mut self, effect: &Effect, input: &Input) -> Result<(), TestCaseError> {
        match effect {
            Effect::Ask { generation, .. } => {
                prop_assert_eq!(self.turn, Turn::None, "one ask at a time");
                prop_assert_eq!(self.link, None, "no ask while a link is left");
                self.turn = Turn::Asked(*generation);
            }
            Effect::Connect(generation) => {
                prop_assert_eq!(self.link, None, "close, then connect");
                prop_assert!(matches!(input, Input::Granted(granted) if granted == generation));
                prop_assert_eq!(self.turn, Turn::Asked(*generation));
                self.turn = Turn::Attempting(*generation);
                self.link = Some(*generation);
                self.closing = false;
            }
            Effect::Upgraded => {
                prop_assert!(matches!(self.turn, Turn::Attempting(_)), "upgraded without an attempt");
                prop_assert!(matches!(input, Input::Upgraded(_)));
            }
            Effect::Settled(_) => {
                prop_assert!(matches!(self.turn, Turn::Attempting(_)), "settled without an attempt");
                self.turn = Turn::None;
            }
            Effect::Withdraw => {
                prop_assert_ne!(self.turn, Turn::None, "withdrawn without an ask");
                self.turn = Turn::None;
            }
            Effect::Close(generation) => {
                prop_assert_eq!(self.link, Some(*generation));
                prop_assert!(!self.closing, "closed twice");
                self.closing = true;
            }
            Effect::Parked(_)
            | Effect::Unparked
            | Effect::SlotFreed
            | Effect::EndRequests(_)
            | Effect::Count(_) => {}
        }
        Ok(())
    }
}

/// Whether a resting session may begin anew by `input`.
const fn may_wake(before: StateName, input: &Input) -> bool {
    match before {
        StateName::Stopped => false,
        StateName::Parked => {
            matches!(input, Input::Probe | Input::Release | Input::Unpark | Input::Restart)
        }
        StateName::Dormant => {
            matches!(input, Input::Start | Input::Volunteer | Input::Audio | Input::Restart)
        }
        StateName::Failed => matches!(input, Input::Restart | Input::Respec),
        StateName::Starting | StateName::Running | StateName::BackingOff => true,
    }
}

proptest! {
    #[test]
    fn there_is_one_link_and_one_turn_and_nobody_wakes_by_itself(
        steps in prop::collection::vec((step(), 0.0f64..1.0), 1..150)
    ) {
        let rig = Rig::new(RecoveryConfig::default());
        let mut world = World { rig, turn: Turn::None, link: None, closing: false };
        world.rig.give(Input::Start);
        world.turn = Turn::Asked(Generation(1));
        let mut restarts = 0;
        for (step, random) in steps {
            match step {
                Step::Wait(seconds) => world.rig.wait(Duration::from_secs(seconds)),
                Step::Due => {
                    let due = world.rig.machine.next_timeout();
                    world.rig.now = world.rig.now.max(due.unwrap_or_default());
                }
                Step::Granted(_) | Step::Suspended(_) | Step::Upgraded(_) | Step::Connected(_) | Step::Broke { .. }
                | Step::Closed(_) | Step::Crashed | Step::Command(_) => {}
            }
            let Some(input) = world.input(step) else { continue };
            world.note(&input);
            let before = world.rig.name();
            world.rig.machine.handle(input.clone(), world.rig.now, random);
            let effects: Vec<Effect> = std::iter::from_fn(|| world.rig.machine.next_effect()).collect();
            for effect in &effects {
                world.check(effect, &input)?;
                if matches!(effect, Effect::Ask { .. } | Effect::Connect(_)) {
                    prop_assert!(may_wake(before, &input), "{effect:?} by {input:?} from {before:?}");
                }
                restarts += u64::from(matches!(effect, Effect::Count(Count::Restart(_))));
            }
            prop_assert_eq!(world.rig.machine.link(), world.link);
            prop_assert_eq!(world.rig.machine.restarts(), restarts);
            let after = world.rig.name();
            if before == StateName::Stopped {
                prop_assert_eq!(after, StateName::Stopped, "stopped is final");
            }
            match after {
                StateName::Parked | StateName::Dormant | StateName::Failed | StateName::Stopped => {
                    prop_assert_eq!(world.turn, Turn::None, "{:?} wants no turn", after);
                    prop_assert!(world.link.is_none() || world.closing);
                }
                StateName::Starting | StateName::Running | StateName::BackingOff => {}
            }
            if matches!(input, Input::Tick) {
                let next = world.rig.machine.next_timeout();
                prop_assert!(next.is_none_or(|at| at > world.rig.now), "due again at once");
            }
        }
    }
}
