//! Sessions that wait for their clients, and clients that come while their tenant is suspended.

use super::*;

fn small_gate() -> World {
    World::new(FleetConfig {
        gate: GateConfig { max_in_flight: 2, per_second: 1_000_000 },
        ..FleetConfig::default()
    })
}

fn ask_and_upgrade(world: &mut World, session: &str) {
    world.now = world.now + ms(1);
    assert_eq!(world.ask(session), [grant(session)]);
    assert_eq!(world.upgraded(session), []);
}

#[test]
fn clients_that_dawdle_keep_nobody_from_knocking() {
    let mut world = small_gate();
    for number in 0..100 {
        ask_and_upgrade(&mut world, &format!("a/{number}"));
    }
    assert_eq!(world.fleet.in_flight(), 0);
    world.now = world.now + ms(1);
    assert_eq!(world.ask("b/1"), [grant("b/1")]);
    assert_eq!(world.fleet.in_flight(), 1);
}

#[test]
fn whoever_waits_for_a_slot_gets_the_one_that_is_given_back() {
    let mut world = small_gate();
    world.ask("a/1");
    world.now = world.now + ms(1);
    world.ask("a/2");
    world.now = world.now + ms(1);
    assert_eq!(world.ask("a/3"), []);
    assert_eq!(world.upgraded("a/1"), [grant("a/3")]);
    assert_eq!(world.upgraded("a/1"), [], "it has no second slot to give");
    assert_eq!(world.upgraded("stranger/1"), []);
}

#[test]
fn a_slot_that_was_given_back_does_not_expire_and_the_end_of_its_attempt_is_heard() {
    let mut world = small_gate();
    for number in 0..20 {
        ask_and_upgrade(&mut world, &format!("a/{number}"));
    }
    assert_eq!(world.effects_of(secs(600)), []);
    for number in 0..20 {
        world.settle(&format!("a/{number}"), health_failure());
    }
    assert!(matches!(world.fleet.breaker_state(), BreakerState::Open { .. }), "the handshakes have failed");
    world.pass(secs(600));
    assert!(world.fleet.is_empty(), "{:?}", world.fleet);
}

#[test]
fn an_attempt_that_is_given_up_while_it_waits_for_its_client_is_forgotten() {
    let ends: [fn(&mut World) -> Vec<FleetEffect>; 3] = [
        |world| world.withdraw("a/1"),
        |world| world.left("a/1"),
        |world| world.settle("a/1", AttemptOutcome::Abandoned),
    ];
    for end in ends {
        let mut world = small_gate();
        ask_and_upgrade(&mut world, "a/1");
        assert_eq!(end(&mut world), []);
        assert!(world.fleet.is_empty(), "{:?}", world.fleet);
    }
}

/// A breaker that has just become half-open.
fn half_open() -> World {
    let mut world = small_gate();
    for _ in 0..20 {
        world.now = world.now + ms(1);
        assert_eq!(world.ask("a/0"), [grant("a/0")]);
        world.settle("a/0", health_failure());
    }
    world.pass(secs(5));
    assert!(matches!(world.fleet.breaker_state(), BreakerState::HalfOpen { .. }));
    world
}

#[test]
fn a_client_that_dawdles_does_not_hold_the_breakers_probe_and_what_it_finds_counts() {
    let mut world = half_open();
    for session in ["a/1", "a/2", "a/3"] {
        ask_and_upgrade(&mut world, session);
    }
    for session in ["a/2", "a/1"] {
        assert_eq!(world.settle(session, AttemptOutcome::Confirmed), []);
    }
    let closed = FleetEffect::BreakerChanged { state: BreakerState::Closed };
    assert_eq!(world.settle("a/3", AttemptOutcome::Confirmed), [closed]);

    let mut world = half_open();
    ask_and_upgrade(&mut world, "a/1");
    ask_and_upgrade(&mut world, "a/2");
    world.settle("a/1", health_failure());
    assert!(matches!(world.fleet.breaker_state(), BreakerState::Open { .. }));
}

#[test]
fn a_dawdling_probe_that_ends_does_not_end_the_one_under_way() {
    let mut world = half_open();
    ask_and_upgrade(&mut world, "a/1");
    world.now = world.now + ms(1);
    assert_eq!(world.ask("a/2"), [grant("a/2")]);
    assert_eq!(world.settle("a/1", AttemptOutcome::Confirmed), []);
    world.now = world.now + ms(1);
    assert_eq!(world.ask("a/3"), [], "one probe at a time");
}

#[test]
fn an_attempt_from_before_the_breaker_opened_says_nothing_when_it_is_half_open() {
    let mut world = small_gate();
    ask_and_upgrade(&mut world, "b/1");
    let mut half_open = half_open();
    for _ in 0..20 {
        world.now = world.now + ms(1);
        world.ask("a/0");
        world.settle("a/0", health_failure());
    }
    world.pass(secs(5));
    assert!(matches!(world.fleet.breaker_state(), BreakerState::HalfOpen { .. }));
    world.settle("b/1", health_failure());
    assert!(matches!(world.fleet.breaker_state(), BreakerState::HalfOpen { successes: 0, .. }));
    ask_and_upgrade(&mut half_open, "b/2");
}

/// Tenant `a` is suspended, and its only session has left with its client.
fn deserted() -> World {
    let mut world = World::with_defaults();
    world.ask("a/1");
    world.settle("a/1", refused(CREDITS));
    world.park_for_billing("a/1");
    world.left("a/1");
    world
}

#[test]
fn a_tenant_with_drop_in_clients_only_is_probed_by_the_client_that_comes_when_it_is_due() {
    let mut world = deserted();
    assert!(!world.fleet.wants_volunteer(&"a".into(), world.now));
    assert_eq!(world.ask_with("a/2", Pass::Volunteer), [suspended("a/2")], "it is too early");
    world.left("a/2");
    world.pass(secs(600));
    assert!(world.fleet.wants_volunteer(&"a".into(), world.now));
    assert_eq!(world.ask_with("a/3", Pass::Volunteer), [grant("a/3")]);
    assert!(!world.fleet.wants_volunteer(&"a".into(), world.now));
    assert_eq!(world.ask_with("a/4", Pass::Volunteer), [suspended("a/4")], "one attempt an interval");
    world.left("a/4");

    world.settle("a/3", refused(CREDITS));
    world.park_for_billing("a/3");
    world.left("a/3");
    world.pass(secs(599));
    assert!(!world.fleet.wants_volunteer(&"a".into(), world.now), "the interval counts from the attempt");
    world.pass(secs(1));
    assert_eq!(world.ask_with("a/5", Pass::Volunteer), [grant("a/5")]);
    world.upgraded("a/5");
    assert_eq!(world.settle("a/5", AttemptOutcome::Confirmed), [tenant_released("a")]);
    world.pass(ms(100));
    assert_eq!(world.ask("a/6"), [grant("a/6")]);
}

#[test]
fn a_volunteer_that_leaves_before_its_turn_leaves_the_attempt_to_the_next() {
    let mut world = deserted();
    world.pass(secs(600));
    world.input(FleetInput::OpenBreaker);
    for session in ["a/2", "a/3"] {
        assert_eq!(world.ask_with(session, Pass::Volunteer), []);
        assert_eq!(world.fleet.waiting(), 1);
        world.withdraw(session);
    }
    assert!(world.fleet.wants_volunteer(&"a".into(), world.now));
    // One that has knocked has used it.
    world.input(FleetInput::CloseBreaker);
    assert_eq!(world.ask_with("a/4", Pass::Volunteer), [grant("a/4")]);
    world.withdraw("a/4");
    assert!(!world.fleet.wants_volunteer(&"a".into(), world.now));
}

#[test]
fn nobody_volunteers_where_a_parked_session_can_be_called_or_the_probe_is_off() {
    let mut world = deserted();
    world.ask("a/2");
    world.pass(secs(599));
    assert!(!world.fleet.wants_volunteer(&"a".into(), world.now));
    assert_eq!(world.effects_of(secs(1)), [probe("a/2")]);
    assert_eq!(world.ask_with("a/3", Pass::Volunteer), [suspended("a/3")]);

    let mut world = World::new(FleetConfig { park_probe: None, ..FleetConfig::default() });
    world.park_for_billing("a/1");
    world.left("a/1");
    world.pass(secs(86_400));
    assert!(!world.fleet.wants_volunteer(&"a".into(), world.now));
    assert_eq!(world.ask_with("a/2", Pass::Volunteer), [suspended("a/2")]);
}

#[test]
fn a_volunteer_of_a_tenant_that_is_not_suspended_goes_like_anybody() {
    let mut world = World::with_defaults();
    assert_eq!(world.ask_with("a/1", Pass::Volunteer), [grant("a/1")]);
    world.settle("a/1", AttemptOutcome::Confirmed);
    assert!(world.fleet.is_empty(), "{:?}", world.fleet);
}

#[test]
fn a_volunteer_that_waits_while_a_person_unparks_and_credits_end_again_is_refused() {
    let mut world = deserted();
    world.pass(secs(600));
    world.input(FleetInput::OpenBreaker);
    world.ask_with("a/2", Pass::Volunteer);
    assert_eq!(world.input(FleetInput::Unsuspend { tenant: "a".into() }), [tenant_released("a")]);
    assert_eq!(world.park_for_billing("a/3"), [tenant_suspended("a"), suspended("a/2")]);
    assert_eq!(world.fleet.waiting(), 0);
}
