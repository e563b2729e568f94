//! A session of an earlier process.

use super::*;
use crate::recovery::lifecycle::{Remembered, Standing};

/// What the next process makes of the session, with what it does at once.
fn reborn(rig: &Rig) -> (Rig, Vec<Effect>) {
    let now = rig.now + Duration::from_secs(1);
    let mut machine = Lifecycle::restore(Arc::clone(&rig.machine.config), rig.machine.remembered(), now);
    let effects = std::iter::from_fn(|| machine.next_effect()).collect();
    (Rig { machine, now }, effects)
}

fn brought(inputs: impl IntoIterator<Item = Input>) -> Rig {
    let mut rig = Rig::running();
    for input in inputs {
        rig.give(input);
    }
    rig
}

fn broken_by(code: ErrorCode) -> Rig {
    let mut rig = Rig::running();
    rig.breaks(&closed_with(code, 4000));
    rig
}

#[test]
fn every_state_goes_on_as_it_should() {
    let suspended = {
        let mut rig = Rig::queued();
        let generation = rig.machine.generation;
        rig.give(Input::Suspended(generation, ErrorCode::CreditsExhausted));
        rig
    };
    for (name, rig, state, does) in [
        ("queued", Rig::queued(), StateName::Starting, "ask1:normal"),
        ("connecting", Rig::connecting(), StateName::Starting, "ask1:normal"),
        ("running", Rig::running(), StateName::Starting, "ask1:normal"),
        ("backing off", broken_by(ErrorCode::ConnectionClosed), StateName::Starting, "ask1:normal"),
        ("restarting", brought([Input::Restart]), StateName::Starting, "ask1:normal"),
        ("parked by billing", broken_by(ErrorCode::BillingRequired), StateName::Parked, ""),
        ("suspended", suspended, StateName::Parked, ""),
        ("parked by an operator", brought([Input::Park]), StateName::Parked, ""),
        ("dormant", broken_by(ErrorCode::IdleTimeout), StateName::Dormant, ""),
        ("failed", broken_by(ErrorCode::AvatarNotFound), StateName::Failed, ""),
        ("stopped", brought([Input::Delete]), StateName::Stopped, ""),
    ] {
        let (next, effects) = reborn(&rig);
        assert_eq!((next.name(), words(&effects).as_str()), (state, does), "{name}");
        if state != StateName::Starting {
            assert_eq!(next.machine.state(), rig.machine.state(), "{name}");
        }
        assert_eq!(next.machine.last_error(), rig.machine.last_error(), "{name}");
        assert_eq!(next.machine.restarts(), rig.machine.restarts(), "{name}");
        assert_eq!(next.machine.remembered(), rig.machine.remembered(), "{name}");
    }
}

#[test]
fn a_restart_of_the_process_gives_no_fresh_budget() {
    let budget = BudgetConfig { restarts: 3, window: Duration::from_secs(300) };
    let mut rig = Rig::new(RecoveryConfig { budget, ..RecoveryConfig::default() }).started().granted();
    for restarts in 1..=3 {
        rig = rig.confirmed();
        rig.breaks(&closed_with(ErrorCode::ConnectionClosed, 1001));
        assert_eq!((rig.name(), rig.machine.restarts()), (StateName::BackingOff, restarts));
        rig = reborn(&rig).0.granted();
    }
    rig = rig.confirmed();
    rig.breaks(&closed_with(ErrorCode::ConnectionClosed, 1001));
    assert_eq!(rig.name(), StateName::Failed);
}

#[test]
fn a_restart_that_lies_in_the_future_counts_as_one_of_now() {
    let budget = BudgetConfig { restarts: 1, window: Duration::from_secs(300) };
    let config = Arc::new(RecoveryConfig { budget, ..RecoveryConfig::default() });
    let now = Moment::at(Duration::from_secs(1000));
    let used = vec![now + Duration::from_secs(1_000_000)];
    let machine = Lifecycle::restore(config, Remembered { used, ..Remembered::new() }, now);
    let mut rig = Rig { machine, now }.granted().confirmed();
    rig.wait(budget.window);
    rig.breaks(&closed_with(ErrorCode::ConnectionClosed, 1001));
    assert_eq!(rig.name(), StateName::BackingOff);
}

#[test]
fn the_connection_of_the_dead_process_is_not_taken_for_another_ones() {
    let refused = error(ErrorCode::ConcurrencyLimit, Phase::WebsocketConnect);
    let (mut next, _) = reborn(&Rig::running());
    next = next.granted();
    next.breaks(&refused);
    assert_eq!(next.name(), StateName::BackingOff);
    // A session that had none has nothing to wait for.
    let mut rig = brought([Input::Park]);
    let generation = rig.machine.generation;
    rig.give(Input::Closed(generation));
    let (mut next, _) = reborn(&rig);
    next.give(Input::Unpark);
    next = next.granted();
    next.breaks(&refused);
    assert_eq!(next.name(), StateName::Parked);
}

#[test]
fn an_outage_writes_nothing_and_a_spent_restart_does() {
    let mut rig = Rig::running();
    let before = rig.machine.remembered();
    rig.breaks(&closed_with(ErrorCode::ConnectionClosed, 1001));
    let spent = rig.machine.remembered();
    assert!(before.is_outdated_by(&spent));
    for _ in 0..20 {
        rig.attempts_again();
        rig.breaks(&error(ErrorCode::UpstreamError, Phase::WebsocketConnect));
    }
    assert_eq!(rig.machine.restarts(), 21);
    assert!(!spent.is_outdated_by(&rig.machine.remembered()));
    rig.attempts_again();
    rig = rig.confirmed();
    assert!(!spent.is_outdated_by(&rig.machine.remembered()), "running again is no news");
    rig.give(Input::Park);
    let parked = rig.machine.remembered();
    assert!(spent.is_outdated_by(&parked));
    assert_eq!(parked.standing, Standing::Parked(Hold::Operator));
}
