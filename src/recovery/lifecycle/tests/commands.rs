//! Every input that is no error, in every state.

use super::*;

/// A state, and what audio, `restart`, `park`, `unpark`, `delete` and a new spec do in it: the effects, and
/// the state after them.
type Row = (&'static str, [(&'static str, &'static str); 6]);

const COMMANDS: [Input; 6] =
    [Input::Audio, Input::Restart, Input::Park, Input::Unpark, Input::Delete, Input::Respec];

const TABLE: [Row; 16] = [
    (
        "starting:draining",
        [
            ("", "starting:draining"),
            ("interrupt", "starting:draining"),
            ("interrupt parked:operator", "parked:operator"),
            ("", "starting:draining"),
            ("interrupt", "stopped"),
            ("interrupt", "starting:draining"),
        ],
    ),
    (
        "starting:queued",
        [
            ("", "starting:queued"),
            ("withdraw interrupt ask2:normal", "starting:queued"),
            ("withdraw interrupt parked:operator", "parked:operator"),
            ("", "starting:queued"),
            ("withdraw interrupt", "stopped"),
            ("withdraw interrupt ask2:normal", "starting:queued"),
        ],
    ),
    (
        "starting:connecting",
        [
            ("", "starting:connecting"),
            ("withdraw close1 interrupt", "starting:draining"),
            ("withdraw close1 interrupt parked:operator", "parked:operator"),
            ("", "starting:connecting"),
            ("withdraw close1 interrupt", "stopped"),
            ("withdraw close1 interrupt", "starting:draining"),
        ],
    ),
    (
        "starting:upgraded",
        [
            ("", "starting:upgraded"),
            ("withdraw close1 interrupt", "starting:draining"),
            ("withdraw close1 interrupt parked:operator", "parked:operator"),
            ("", "starting:upgraded"),
            ("withdraw close1 interrupt", "stopped"),
            ("withdraw close1 interrupt", "starting:draining"),
        ],
    ),
    (
        "running",
        [
            ("", "running"),
            ("close1 interrupt", "starting:draining"),
            ("close1 interrupt parked:operator", "parked:operator"),
            ("", "running"),
            ("close1 interrupt", "stopped"),
            ("close1 interrupt", "starting:draining"),
        ],
    ),
    (
        "backing_off:until",
        [
            ("", "backing_off:until"),
            ("interrupt ask2:normal", "starting:queued"),
            ("interrupt parked:operator", "parked:operator"),
            ("", "backing_off:until"),
            ("interrupt", "stopped"),
            ("interrupt ask2:normal", "starting:queued"),
        ],
    ),
    (
        "backing_off:queued",
        [
            ("", "backing_off:queued"),
            ("withdraw interrupt ask3:normal", "starting:queued"),
            ("withdraw interrupt parked:operator", "parked:operator"),
            ("", "backing_off:queued"),
            ("withdraw interrupt", "stopped"),
            ("withdraw interrupt ask3:normal", "starting:queued"),
        ],
    ),
    (
        "parked:creditsExhausted",
        [
            ("", "parked:creditsExhausted"),
            ("unparked interrupt ask2:normal", "starting:queued"),
            ("unparked interrupt parked:operator", "parked:operator"),
            ("unparked ask2:unparked", "starting:queued"),
            ("unparked interrupt", "stopped"),
            ("", "parked:creditsExhausted"),
        ],
    ),
    (
        "parked:key",
        [
            ("", "parked:key"),
            ("unparked interrupt ask2:normal", "starting:queued"),
            ("unparked interrupt parked:operator", "parked:operator"),
            ("unparked ask2:unparked", "starting:queued"),
            ("unparked interrupt", "stopped"),
            ("", "parked:key"),
        ],
    ),
    (
        "parked:suspension:billingRequired",
        [
            ("", "parked:suspension:billingRequired"),
            ("unparked interrupt ask2:normal", "starting:queued"),
            ("unparked interrupt parked:operator", "parked:operator"),
            ("unparked ask2:unparked", "starting:queued"),
            ("unparked interrupt", "stopped"),
            ("", "parked:suspension:billingRequired"),
        ],
    ),
    (
        "parked:operator",
        [
            ("", "parked:operator"),
            ("unparked interrupt ask2:normal", "starting:queued"),
            ("", "parked:operator"),
            ("unparked ask2:unparked", "starting:queued"),
            ("unparked interrupt", "stopped"),
            ("", "parked:operator"),
        ],
    ),
    (
        "parked:operator, still closing",
        [
            ("", "parked:operator"),
            ("unparked interrupt", "starting:draining"),
            ("", "parked:operator"),
            ("unparked", "starting:draining"),
            ("unparked interrupt", "stopped"),
            ("", "parked:operator"),
        ],
    ),
    (
        "dormant",
        [
            ("ask2:normal", "starting:queued"),
            ("interrupt ask2:normal", "starting:queued"),
            ("interrupt parked:operator", "parked:operator"),
            ("", "dormant"),
            ("interrupt", "stopped"),
            ("", "dormant"),
        ],
    ),
    (
        "failed",
        [
            ("", "failed"),
            ("interrupt ask2:normal", "starting:queued"),
            ("interrupt parked:operator", "parked:operator"),
            ("", "failed"),
            ("interrupt", "stopped"),
            ("interrupt ask2:normal", "starting:queued"),
        ],
    ),
    ("stopped", [("", "stopped"); 6]),
    ("stopped, still closing", [("", "stopped"); 6]),
];

/// A session in the state of a row.
fn in_state(row: &str) -> Rig {
    match row {
        "starting:draining" => after(Rig::running(), Input::Restart),
        "starting:queued" => Rig::queued(),
        "starting:connecting" => Rig::connecting(),
        "starting:upgraded" => after(Rig::connecting(), Input::Upgraded(Generation(1))),
        "running" => Rig::running(),
        "backing_off:until" => broken(ErrorCode::ConnectionClosed),
        "backing_off:queued" => {
            let mut rig = broken(ErrorCode::ConnectionClosed);
            rig.now = rig.machine.next_timeout().unwrap();
            after(rig, Input::Tick)
        }
        "parked:creditsExhausted" => broken(ErrorCode::CreditsExhausted),
        "parked:key" => {
            let mut rig = Rig::connecting();
            rig.breaks(&error(ErrorCode::SessionTokenInvalid, Phase::SessionToken));
            rig
        }
        "parked:suspension:billingRequired" => {
            after(Rig::queued(), Input::Suspended(Generation(1), ErrorCode::BillingRequired))
        }
        "parked:operator" => after(after(Rig::running(), Input::Park), Input::Closed(Generation(1))),
        "parked:operator, still closing" => after(Rig::running(), Input::Park),
        "dormant" => broken(ErrorCode::IdleTimeout),
        "failed" => broken(ErrorCode::AvatarNotFound),
        "stopped" => after(after(Rig::running(), Input::Delete), Input::Closed(Generation(1))),
        "stopped, still closing" => after(Rig::running(), Input::Delete),
        other => panic!("no such row: {other}"),
    }
}

fn after(mut rig: Rig, input: Input) -> Rig {
    rig.give(input);
    rig
}

fn broken(code: ErrorCode) -> Rig {
    let mut rig = Rig::running();
    rig.breaks(&error(code, Phase::WebsocketRuntime));
    rig
}

fn state_word(state: &State) -> String {
    match state {
        State::Starting(Starting::Draining(_)) => "starting:draining".into(),
        State::Starting(Starting::Queued(_)) => "starting:queued".into(),
        State::Starting(Starting::Connecting(_)) => "starting:connecting".into(),
        State::Starting(Starting::Upgraded(_)) => "starting:upgraded".into(),
        State::BackingOff(BackingOff::Until(_)) => "backing_off:until".into(),
        State::BackingOff(BackingOff::Queued { .. }) => "backing_off:queued".into(),
        State::Parked(hold) => format!("parked:{}", hold_word(hold)),
        State::Running { .. } | State::Dormant | State::Failed | State::Stopped { .. } => {
            state.name().as_str().into()
        }
    }
}

#[test]
fn every_command_does_in_every_state_what_the_table_of_the_module_says() {
    for (row, cells) in TABLE {
        assert!(row.starts_with(&state_word(in_state(row).machine.state())), "the rig for {row}");
        for (command, (effects, state)) in COMMANDS.into_iter().zip(cells) {
            let mut rig = in_state(row);
            let done = rig.give(command.clone());
            let found = (words(&done), state_word(rig.machine.state()));
            assert_eq!(found, (effects.to_owned(), state.to_owned()), "{command:?} in {row}");
        }
    }
}

/// What idleness and the end of the tenant's minutes do in each state: the effects, and the state after them.
const RESTS: [(&str, [(&str, &str); 2]); 16] = [
    ("starting:draining", [("interrupt", "dormant"), ("interrupt parked:minutes", "parked:minutes")]),
    (
        "starting:queued",
        [("withdraw interrupt", "dormant"), ("withdraw interrupt parked:minutes", "parked:minutes")],
    ),
    (
        "starting:connecting",
        [
            ("withdraw close1 interrupt", "dormant"),
            ("withdraw close1 interrupt parked:minutes", "parked:minutes"),
        ],
    ),
    (
        "starting:upgraded",
        [
            ("withdraw close1 interrupt", "dormant"),
            ("withdraw close1 interrupt parked:minutes", "parked:minutes"),
        ],
    ),
    ("running", [("close1 interrupt", "dormant"), ("close1 interrupt parked:minutes", "parked:minutes")]),
    ("backing_off:until", [("interrupt", "dormant"), ("interrupt parked:minutes", "parked:minutes")]),
    (
        "backing_off:queued",
        [("withdraw interrupt", "dormant"), ("withdraw interrupt parked:minutes", "parked:minutes")],
    ),
    ("parked:creditsExhausted", [("", "parked:creditsExhausted"), ("", "parked:creditsExhausted")]),
    ("parked:key", [("", "parked:key"), ("", "parked:key")]),
    (
        "parked:suspension:billingRequired",
        [("", "parked:suspension:billingRequired"), ("", "parked:suspension:billingRequired")],
    ),
    ("parked:operator", [("", "parked:operator"), ("", "parked:operator")]),
    ("parked:operator, still closing", [("", "parked:operator"), ("", "parked:operator")]),
    ("dormant", [("", "dormant"), ("", "dormant")]),
    ("failed", [("", "failed"), ("", "failed")]),
    ("stopped", [("", "stopped"), ("", "stopped")]),
    ("stopped, still closing", [("", "stopped"), ("", "stopped")]),
];

#[test]
fn idleness_and_used_minutes_end_what_connects_and_leave_what_rests() {
    for ((row, cells), (known, _)) in RESTS.into_iter().zip(TABLE) {
        assert_eq!(row, known);
        for (input, (effects, state)) in [Input::Idle, Input::MinutesUsed].into_iter().zip(cells) {
            let mut rig = in_state(row);
            let done = rig.give(input.clone());
            let found = (words(&done), state_word(rig.machine.state()));
            assert_eq!(found, (effects.to_owned(), state.to_owned()), "{input:?} in {row}");
        }
    }
}

#[test]
fn audio_wakes_what_was_idle_once_its_connection_is_gone() {
    let mut rig = after(Rig::running(), Input::Idle);
    assert_eq!(words(&rig.give(Input::Audio)), "");
    assert_eq!(words(&rig.give(Input::Closed(Generation(1)))), "slot ask2:normal");
}

#[test]
fn minutes_that_are_there_again_start_the_session_anew() {
    let mut rig = after(after(Rig::running(), Input::MinutesUsed), Input::Closed(Generation(1)));
    assert_eq!(words(&rig.give(Input::Audio)), "");
    assert_eq!(words(&rig.give(Input::Release)), "unparked ask2:normal");
}

#[test]
fn audio_flows_waits_wakes_or_is_refused_by_state() {
    for (row, _) in TABLE {
        let admission = in_state(row).machine.admission();
        let expected = match row.split([':', ',']).next().unwrap() {
            "running" => Admission::Flows,
            "starting" | "backing_off" => Admission::Waits,
            "dormant" => Admission::Wakes,
            "parked" | "failed" | "stopped" => Admission::Refused,
            other => panic!("no such state: {other}"),
        };
        assert_eq!(admission, expected, "{row}");
    }
}

#[test]
fn time_ends_nothing_but_a_backoff() {
    for (row, _) in TABLE {
        let mut rig = in_state(row);
        rig.wait(Duration::from_secs(86_400));
        let expected = if row == "backing_off:until" { "ask2:normal" } else { "" };
        assert_eq!(words(&rig.give(Input::Tick)), expected, "{row}");
        assert_eq!(rig.machine.next_timeout(), None, "{row}");
    }
}

#[test]
fn a_session_starts_once() {
    for (row, _) in TABLE {
        let mut rig = in_state(row);
        let state = rig.machine.state().clone();
        if row == "dormant" {
            continue;
        }
        assert_eq!((rig.give(Input::Start), rig.machine.state()), (vec![], &state), "{row}");
        assert_eq!((rig.give(Input::Volunteer), rig.machine.state()), (vec![], &state), "{row}");
    }
}

#[test]
fn the_fleet_frees_whom_it_parked_and_nobody_else() {
    for (row, _) in TABLE {
        for (input, effects) in [(Input::Probe, "ask2:probe"), (Input::Release, "unparked ask2:normal")] {
            let mut rig = in_state(row);
            let by_the_fleet = row.starts_with("parked:") && !row.starts_with("parked:operator");
            let expected = if by_the_fleet { effects } else { "" };
            assert_eq!(words(&rig.give(input.clone())), expected, "{input:?} in {row}");
        }
    }
}

#[test]
fn a_crash_of_a_session_without_a_link_is_noted_and_says_again_what_the_fleet_was_told() {
    let panic = error(ErrorCode::Unknown, Phase::WebsocketRuntime);
    for (row, _) in TABLE {
        let mut rig = in_state(row);
        if rig.machine.link().is_some() {
            continue;
        }
        let name = rig.machine.state().name();
        let said = words(&rig.give(Input::Crashed(Arc::clone(&panic))));
        let again = match name {
            StateName::Starting => " withdraw ask",
            StateName::BackingOff if row.ends_with("queued") => " withdraw",
            StateName::Parked => " unparked parked:",
            StateName::Running
            | StateName::BackingOff
            | StateName::Dormant
            | StateName::Failed
            | StateName::Stopped => "",
        };
        assert!(said.starts_with(&format!("error:unknown{again}")), "{row}: {said}");
        assert_eq!(said == "error:unknown", again.is_empty(), "{row}: {said}");
        assert_eq!(rig.machine.state().name(), name, "{row}");
        assert_eq!(rig.machine.last_error().unwrap().0, &panic);
    }
}

#[test]
fn a_crash_ends_the_link_that_there_was() {
    let panic = error(ErrorCode::Unknown, Phase::WebsocketRuntime);
    for (row, effects, state) in [
        ("running", "error:unknown slot restart:unknown end-sent:unknown", "backing_off:until"),
        (
            "starting:connecting",
            "error:unknown settled:unknown restart:unknown end-sent:unknown",
            "backing_off:until",
        ),
        (
            "starting:upgraded",
            "error:unknown settled:unknown restart:unknown end-sent:unknown",
            "backing_off:until",
        ),
        ("starting:draining", "error:unknown slot ask2:normal", "starting:queued"),
        ("parked:operator, still closing", "error:unknown slot", "parked:operator"),
        ("stopped, still closing", "error:unknown slot", "stopped"),
    ] {
        let mut rig = in_state(row);
        assert_eq!(words(&rig.give(Input::Crashed(Arc::clone(&panic)))), effects, "{row}");
        assert_eq!((state_word(rig.machine.state()), rig.machine.link()), (state.to_owned(), None), "{row}");
    }
}

#[test]
fn a_suspended_tenant_refuses_the_ask_and_parks_the_session() {
    for row in ["starting:queued", "backing_off:queued"] {
        let mut rig = in_state(row);
        let generation = rig.machine.generation;
        let effects = rig.give(Input::Suspended(generation, ErrorCode::CreditsExhausted));
        assert_eq!(
            words(&effects),
            "parked:suspension:creditsExhausted park:creditsExhausted end-all:creditsExhausted",
            "{row}"
        );
        assert_eq!(rig.machine.state(), &State::Parked(Hold::Suspension(ErrorCode::CreditsExhausted)));
    }
}

#[test]
fn deletion_tells_when() {
    let mut rig = Rig::running();
    rig.wait(Duration::from_secs(5));
    rig.give(Input::Delete);
    assert_eq!(rig.machine.state(), &State::Stopped { at: rig.now });
}

#[test]
fn an_attempt_that_waits_for_its_client_says_so_once_and_goes_on_like_any_other() {
    let mut rig = Rig::connecting();
    assert_eq!(words(&rig.give(Input::Upgraded(Generation(1)))), "upgraded");
    assert_eq!(words(&rig.give(Input::Upgraded(Generation(1)))), "");
    assert_eq!(rig.machine.admission(), Admission::Waits);
    assert!(rig.machine.serves(Generation(1)));
    assert_eq!(words(&rig.give(rig.connected())), "settled");
    assert_eq!(rig.name(), StateName::Running);

    let mut rig = after(Rig::connecting(), Input::Upgraded(Generation(1)));
    let effects = words(&rig.breaks(&error(ErrorCode::UpstreamError, Phase::WebsocketHandshake)));
    assert_eq!(
        effects,
        "error:upstreamError settled:upstreamError restart:upstreamError end-sent:upstreamError"
    );
    assert!(rig.is_budget_untouched(), "it had never run");
}

#[test]
fn an_upgrade_of_an_attempt_that_is_not_the_current_one_is_late() {
    for (row, _) in TABLE {
        let mut rig = in_state(row);
        let state = rig.machine.state().clone();
        for late in [0, 7] {
            assert_eq!(rig.give(Input::Upgraded(Generation(late))), vec![], "{row}");
        }
        assert_eq!(rig.machine.state(), &state, "{row}");
    }
}

#[test]
fn a_session_whose_client_asks_for_a_suspended_tenant_volunteers_once() {
    let mut rig = Rig::new(RecoveryConfig::default());
    assert_eq!(words(&rig.give(Input::Volunteer)), "ask1:volunteer");
    let rig = rig.granted();
    let mut rig = after(rig, Input::Upgraded(Generation(1)));
    rig.breaks(&error(ErrorCode::ConnectionClosed, Phase::WebsocketHandshake));
    rig.now = rig.machine.next_timeout().unwrap();
    assert_eq!(words(&rig.give(Input::Tick)), "ask2:normal");
}
