//! Sessions that wait for a free slot of their tenant.

use super::*;

const LIMIT: ErrorCode = ErrorCode::ConcurrencyLimit;

/// `a/1`, `a/2` and `a/3` are parked for lack of a connection, in this order.
fn crowded() -> World {
    crowded_with(FleetConfig::default())
}

fn crowded_with(config: FleetConfig) -> World {
    let mut world = World::new(config);
    for session in ["a/1", "a/2", "a/3"] {
        assert_eq!(world.ask(session), [grant(session)]);
        refuse_again(&mut world, session);
    }
    world
}

fn refuse_again(world: &mut World, session: &str) {
    world.settle(session, refused(LIMIT));
    assert_eq!(world.park(session, ParkCause::Concurrency), []);
    world.pass(ms(100));
}

fn try_it(world: &mut World, session: &str, outcome: AttemptOutcome) -> Vec<FleetEffect> {
    assert_eq!(world.ask_with(session, Pass::Probe), [grant(session)]);
    world.pass(ms(100));
    world.settle(session, outcome)
}

#[test]
fn a_freed_slot_lets_the_first_in_the_queue_try() {
    let mut world = crowded();
    assert_eq!(world.slot_freed("b"), []);
    assert_eq!(world.slot_freed("a"), [probe("a/1")]);
    assert_eq!(world.slot_freed("a"), [probe("a/2")]);
}

#[test]
fn a_success_lets_the_next_try_until_one_is_refused() {
    let mut world = crowded();
    world.slot_freed("a");
    assert_eq!(try_it(&mut world, "a/1", AttemptOutcome::Confirmed), [probe("a/2")]);
    assert_eq!(try_it(&mut world, "a/2", refused(LIMIT)), []);
    assert_eq!(world.park("a/2", ParkCause::Concurrency), []);
    assert_eq!(world.slot_freed("a"), [probe("a/3")], "the refused one is at the end");
}

#[test]
fn the_success_of_a_session_that_did_not_wait_for_a_slot_calls_nobody() {
    let mut world = crowded();
    assert_eq!(world.ask("a/4"), [grant("a/4")]);
    assert_eq!(world.settle("a/4", AttemptOutcome::Confirmed), []);
}

#[test]
fn a_slot_is_offered_to_the_next_when_the_called_one_leaves_before_it_has_tried() {
    let mut world = crowded();
    world.slot_freed("a");
    assert_eq!(world.left("a/1"), [probe("a/2")]);
    assert_eq!(world.ask_with("a/2", Pass::Unparked), [probe("a/3"), grant("a/2")]);
}

#[test]
fn an_attempt_that_is_given_up_offers_its_slot_when_its_connection_is_gone() {
    let mut world = crowded();
    world.slot_freed("a");
    world.ask_with("a/1", Pass::Probe);
    assert_eq!(world.withdraw("a/1"), []);
    assert_eq!(world.slot_freed("a"), [probe("a/2")]);
}

#[test]
fn parking_twice_keeps_the_place() {
    let mut world = crowded();
    world.park("a/1", ParkCause::Concurrency);
    assert_eq!(world.slot_freed("a"), [probe("a/1")]);
}

#[test]
fn without_a_freed_slot_one_tries_each_interval_by_turns() {
    let mut world = crowded();
    assert_eq!(world.effects_of(secs(600)), [probe("a/1")]);
    assert_eq!(world.effects_of(secs(30)), []);
    assert_eq!(try_it(&mut world, "a/1", refused(LIMIT)), []);
    world.park("a/1", ParkCause::Concurrency);
    assert_eq!(world.pass(secs(600)), [(secs(600), probe("a/2"))]);
    assert_eq!(try_it(&mut world, "a/2", AttemptOutcome::Confirmed), [probe("a/3")]);
}

#[test]
fn without_the_probe_only_a_freed_slot_lets_one_try() {
    let mut world = crowded_with(FleetConfig { park_probe: None, ..FleetConfig::default() });
    assert_eq!(world.fleet.next_timeout(), None);
    assert_eq!(world.slot_freed("a"), [probe("a/1")]);
}

#[test]
fn a_freed_slot_is_no_use_to_a_suspended_tenant() {
    let mut world = crowded();
    world.park_for_billing("a/9");
    assert_eq!(world.slot_freed("a"), []);
}

#[test]
fn a_suspended_tenant_has_one_attempt_an_interval_and_the_suspended_come_first() {
    let mut world = crowded();
    world.park_for_billing("a/9");
    assert_eq!(world.pass(secs(600)), [(secs(600), probe("a/9"))]);
    assert_eq!(try_it(&mut world, "a/9", refused(CREDITS)), []);
    world.left("a/9");
    assert_eq!(world.pass(secs(600)), [(secs(600), probe("a/1"))], "it can tell as well");
    assert_eq!(try_it(&mut world, "a/1", AttemptOutcome::Confirmed), [tenant_released("a"), probe("a/2")]);
}

#[test]
fn a_suspension_takes_back_the_calls_for_freed_slots() {
    let mut world = crowded();
    world.input(FleetInput::OpenBreaker);
    world.slot_freed("a");
    world.slot_freed("a");
    world.ask_with("a/1", Pass::Probe);
    assert_eq!(world.park_for_billing("a/9"), [tenant_suspended("a"), suspended("a/1")]);
    assert_eq!(world.ask_with("a/2", Pass::Probe), [suspended("a/2")]);
}

#[test]
fn the_end_of_a_suspension_leaves_those_without_a_connection_parked() {
    let mut world = crowded();
    world.park_for_billing("a/9");
    world.left("a/9");
    world.ask_with("a/9", Pass::Unparked);
    assert_eq!(world.settle("a/9", AttemptOutcome::Confirmed), [tenant_released("a")]);
    assert_eq!(world.pass(secs(600)), [(secs(600), probe("a/1"))]);
}

#[test]
fn a_tenants_unpark_lets_one_try_and_the_rest_follow_its_success() {
    let mut world = crowded();
    assert_eq!(world.input(FleetInput::Unsuspend { tenant: "a".into() }), [probe("a/1")]);
    assert_eq!(try_it(&mut world, "a/1", AttemptOutcome::Confirmed), [probe("a/2")]);
}

#[test]
fn a_queue_that_empties_leaves_nothing_behind() {
    let mut world = crowded();
    world.slot_freed("a");
    for session in ["a/2", "a/3", "a/1"] {
        world.left(session);
    }
    assert!(world.fleet.is_empty(), "{:?}", world.fleet);
}

#[test]
fn a_slot_that_was_freed_during_a_suspension_is_offered_when_that_ends_with_the_probe_off() {
    let mut world = crowded_with(FleetConfig { park_probe: None, ..FleetConfig::default() });
    world.park_for_billing("a/9");
    assert_eq!(world.slot_freed("a"), [], "nothing new of a suspended tenant knocks");
    world.left("a/9");
    assert_eq!(world.ask_with("a/9", Pass::Unparked), [grant("a/9")]);
    world.pass(ms(100));
    assert_eq!(world.settle("a/9", AttemptOutcome::Confirmed), [tenant_released("a"), probe("a/1")]);
    // Whoever had room says that there may be more.
    assert_eq!(try_it(&mut world, "a/1", AttemptOutcome::Confirmed), [probe("a/2")]);
}
