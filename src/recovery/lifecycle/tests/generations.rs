//! One link at a time, and what comes late.

use super::*;

fn late_inputs(generation: Generation) -> Vec<Input> {
    vec![
        Input::Granted(generation),
        Input::Suspended(generation, ErrorCode::BillingRequired),
        Input::Connected { generation, connection_id: "late".into(), capabilities: vec![] },
        Input::Broke { generation, error: error(ErrorCode::AvatarNotFound, Phase::WebsocketRuntime) },
        Input::Closed(generation),
    ]
}

#[test]
fn what_comes_with_an_old_generation_changes_nothing() {
    let third = |mut rig: Rig| {
        for _ in 0..2 {
            rig.give(Input::Park);
            let link = rig.machine.generation;
            rig.give(Input::Closed(link));
            rig.give(Input::Unpark);
        }
        rig
    };
    let rigs: [fn(Rig) -> Rig; 4] = [
        |rig| rig,
        Rig::granted,
        |rig| rig.granted().confirmed(),
        |rig| {
            let mut rig = rig.granted().confirmed();
            rig.give(Input::Restart);
            rig
        },
    ];
    for (position, prepare) in rigs.into_iter().enumerate() {
        for old in [Generation(1), Generation(2), Generation(4)] {
            for input in late_inputs(old) {
                let mut rig = prepare(third(Rig::running()));
                assert_eq!(rig.machine.generation, Generation(3));
                let (state, link) = (rig.machine.state().clone(), rig.machine.link());
                assert_eq!(rig.give(input.clone()), [], "{input:?} in rig {position}");
                assert_eq!((rig.machine.state(), rig.machine.link()), (&state, link), "{input:?}");
            }
        }
    }
}

#[test]
fn a_closing_connection_is_waited_for_before_the_next_one_is_asked_for() {
    let mut rig = Rig::running();
    assert_eq!(words(&rig.give(Input::Restart)), "close1 interrupt");
    assert_eq!(rig.machine.link(), Some(Generation(1)));
    assert_eq!(words(&rig.give(Input::Closed(Generation(1)))), "slot ask2:normal");
    assert_eq!(rig.machine.link(), None);
}

#[test]
fn a_closing_connection_that_breaks_instead_is_gone_as_well() {
    let mut rig = Rig::running();
    rig.give(Input::Restart);
    let error = error(ErrorCode::AvatarNotFound, Phase::WebsocketRuntime);
    let effects = rig.give(Input::Broke { generation: Generation(1), error });
    assert_eq!(words(&effects), "slot ask2:normal");
    assert_eq!(rig.machine.last_error(), None, "an error of a connection that nobody wants is none");
}

#[test]
fn who_is_unparked_while_closing_keeps_the_right_to_one_attempt() {
    let mut rig = Rig::running();
    rig.give(Input::Park);
    assert_eq!(words(&rig.give(Input::Unpark)), "unparked");
    assert_eq!(words(&rig.give(Input::Closed(Generation(1)))), "slot ask2:unparked");
}

#[test]
fn a_turn_that_crosses_a_park_is_not_used() {
    let mut rig = Rig::queued();
    assert_eq!(words(&rig.give(Input::Park)), "withdraw interrupt parked:operator");
    assert_eq!(rig.give(Input::Granted(Generation(1))), []);
    assert_eq!(rig.name(), StateName::Parked);
}

#[test]
fn a_confirmation_that_crosses_a_park_is_not_taken() {
    let mut rig = Rig::connecting();
    rig.give(Input::Park);
    let connected = rig.connected();
    assert_eq!(rig.give(connected), []);
    assert_eq!((rig.name(), rig.machine.link()), (StateName::Parked, Some(Generation(1))));
}

#[test]
fn a_refusal_that_crosses_a_restart_is_not_meant_for_the_new_ask() {
    let mut rig = Rig::queued();
    rig.give(Input::Restart);
    assert_eq!(rig.give(Input::Suspended(Generation(1), ErrorCode::BillingRequired)), []);
    assert_eq!(rig.name(), StateName::Starting);
}

#[test]
fn a_release_that_crosses_an_operators_park_does_not_free_the_session() {
    let mut rig = Rig::running();
    rig.breaks(&error(ErrorCode::CreditsExhausted, Phase::WebsocketRuntime));
    rig.give(Input::Park);
    assert_eq!(rig.give(Input::Release), []);
    assert_eq!(rig.machine.state(), &State::Parked(Hold::Operator));
}

#[test]
fn a_start_that_comes_after_the_deletion_starts_nothing() {
    let mut rig = Rig::new(RecoveryConfig::default());
    rig.give(Input::Delete);
    assert_eq!(rig.give(Input::Start), []);
    assert_eq!(rig.name(), StateName::Stopped);
}

#[test]
fn a_confirmed_session_says_by_which_connection() {
    let rig = Rig::running();
    let State::Running { generation, since, connection_id, capabilities } = rig.machine.state() else {
        panic!("not running: {:?}", rig.machine.state());
    };
    assert_eq!((*generation, *since, &**connection_id), (Generation(1), rig.now, "conn-1"));
    assert_eq!(&**capabilities, ["playback_state"]);
}
