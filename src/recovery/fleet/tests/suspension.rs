//! Suspended tenants, and the probe on behalf of all their sessions.

use super::*;

/// `a/1` is parked by billing, so that its tenant is suspended.
fn suspended_world() -> World {
    let mut world = World::with_defaults();
    assert_eq!(world.ask("a/1"), [grant("a/1")]);
    world.settle("a/1", refused(CREDITS));
    assert_eq!(world.park_for_billing("a/1"), [tenant_suspended("a")]);
    world.pass(ms(100));
    world
}

#[test]
fn a_session_parked_by_billing_suspends_its_tenant_once() {
    let mut world = suspended_world();
    let since = world.now.minus(ms(100));
    assert_eq!(world.fleet.suspension(&"a".into()), Some(&Suspension { code: CREDITS, since }));
    assert_eq!(world.park("a/2", ParkCause::Billing(ErrorCode::BillingRequired)), []);
    assert_eq!(world.fleet.suspension(&"a".into()), Some(&Suspension { code: CREDITS, since }));
    assert!(!world.is_suspended("b"));
}

#[test]
fn a_refused_key_suspends_its_tenant_even_if_the_session_is_not_parked() {
    let code = ErrorCode::SessionTokenInvalid;
    let by_park = {
        let mut world = World::with_defaults();
        world.park("a/1", ParkCause::KeyRefused)
    };
    let by_attempt = {
        let mut world = World::with_defaults();
        world.ask("a/1");
        world.settle("a/1", AttemptOutcome::Refused { code, key_refused: true, health: false })
    };
    let expected = [FleetEffect::TenantSuspended { tenant: "a".into(), code }];
    assert_eq!(by_park, expected);
    assert_eq!(by_attempt, expected);
}

#[test]
fn parks_that_concern_one_session_do_not_suspend() {
    for cause in [ParkCause::Concurrency, ParkCause::Duration, ParkCause::Operator] {
        let mut world = World::with_defaults();
        assert_eq!(world.park("a/1", cause), []);
        assert!(!world.is_suspended("a"), "{cause:?}");
    }
}

#[test]
fn sessions_that_wait_when_their_tenant_is_suspended_are_refused_and_others_are_not() {
    let mut world = World::with_defaults();
    for session in ["b/0", "a/1", "b/1", "a/2"] {
        world.ask(session);
    }
    world.ask_with("a/3", Pass::Unparked);
    let expected = [tenant_suspended("a"), suspended("a/1"), suspended("a/2")];
    assert_eq!(world.park_for_billing("a/0"), expected);
    assert_eq!(world.effects_of(secs(1)), [grant("a/3"), grant("b/1")]);
}

#[test]
fn a_new_session_of_a_suspended_tenant_is_refused_at_once() {
    let mut world = suspended_world();
    assert_eq!(world.ask("a/2"), [suspended("a/2")]);
    assert_eq!(world.ask("b/1"), [grant("b/1")]);
    assert_eq!(world.fleet.waiting(), 0);
}

#[test]
fn an_unparked_session_that_asks_again_without_the_right_is_refused() {
    let mut world = suspended_world();
    world.input(FleetInput::OpenBreaker);
    assert_eq!(world.ask_with("a/1", Pass::Unparked), []);
    assert_eq!(world.ask("a/1"), [suspended("a/1")]);
    assert_eq!(world.fleet.waiting(), 0);
}

#[test]
fn a_probe_that_nobody_called_is_refused_while_the_tenant_is_suspended() {
    let mut world = suspended_world();
    assert_eq!(world.ask_with("a/2", Pass::Probe), [suspended("a/2")]);
}

#[test]
fn the_success_of_an_unparked_session_releases_all_in_the_order_of_their_parking() {
    let mut world = suspended_world();
    world.ask("a/3");
    world.park("a/3", ParkCause::Suspension);
    world.ask("a/2");
    world.park_for_billing("a/3");
    world.left("a/1");
    assert_eq!(world.ask_with("a/1", Pass::Unparked), [grant("a/1")]);
    assert_eq!(
        world.settle("a/1", AttemptOutcome::Confirmed),
        [tenant_released("a"), release("a/3"), release("a/2")]
    );
    assert!(!world.is_suspended("a"));
    world.left("a/3");
    world.pass(ms(100));
    assert_eq!(world.ask("a/3"), [grant("a/3")]);
}

#[test]
fn the_success_of_an_attempt_from_before_the_suspension_ends_it() {
    let mut world = World::with_defaults();
    world.ask("a/1");
    world.park_for_billing("a/2");
    assert_eq!(world.settle("a/1", AttemptOutcome::Confirmed), [tenant_released("a"), release("a/2")]);
}

#[test]
fn a_refused_attempt_leaves_the_suspension() {
    let mut world = suspended_world();
    for outcome in [refused(CREDITS), health_failure(), AttemptOutcome::Abandoned] {
        world.left("a/1");
        world.pass(ms(100));
        assert_eq!(world.ask_with("a/1", Pass::Unparked), [grant("a/1")]);
        assert_eq!(world.settle("a/1", outcome), []);
        assert!(world.is_suspended("a"));
    }
}

#[test]
fn a_tenants_unpark_releases_its_sessions_and_leaves_no_timer() {
    let mut world = suspended_world();
    world.ask("a/2");
    let unsuspend = FleetInput::Unsuspend { tenant: "a".into() };
    let expected = [tenant_released("a"), release("a/1"), release("a/2")];
    assert_eq!(world.input(unsuspend.clone()), expected);
    assert_eq!(world.input(unsuspend), []);
    assert!(world.fleet.is_empty(), "{:?}", world.fleet);
}

#[test]
fn sessions_held_by_an_operator_or_their_duration_are_neither_released_nor_probed() {
    for cause in [ParkCause::Operator, ParkCause::Duration] {
        let mut world = suspended_world();
        world.ask("a/2");
        world.park("a/2", cause);
        world.left("a/1");
        assert_eq!(world.effects_of(secs(3_600)), [], "{cause:?}");
        let effects = world.input(FleetInput::Unsuspend { tenant: "a".into() });
        assert_eq!(effects, [tenant_released("a")], "{cause:?}");
    }
}

#[test]
fn a_session_that_left_is_not_released() {
    let mut world = suspended_world();
    world.ask("a/2");
    world.left("a/1");
    world.withdraw("a/2");
    let effects = world.input(FleetInput::Unsuspend { tenant: "a".into() });
    assert_eq!(effects, [tenant_released("a")]);
}

#[test]
fn a_session_that_ends_is_forgotten_wherever_it_was() {
    let mut world = suspended_world();
    for session in ["b/1", "b/2", "a/2"] {
        world.ask(session);
    }
    for session in ["a/1", "a/2", "b/1", "b/2"] {
        world.left(session);
    }
    assert_eq!(world.input(FleetInput::Unsuspend { tenant: "a".into() }), [tenant_released("a")]);
    assert!(world.fleet.is_empty(), "{:?}", world.fleet);
}

#[test]
fn a_session_that_says_again_why_it_is_parked_is_released_with_the_rest() {
    let mut world = suspended_world();
    world.ask("a/2");
    assert_eq!(world.left("a/2"), []);
    assert_eq!(world.park("a/2", ParkCause::Suspension), []);
    let effects = world.input(FleetInput::Unsuspend { tenant: "a".into() });
    assert_eq!(effects, [tenant_released("a"), release("a/1"), release("a/2")]);
}

#[test]
fn a_session_that_parks_for_a_suspension_that_is_over_is_released() {
    let mut world = World::with_defaults();
    assert_eq!(world.park("a/1", ParkCause::Suspension), [release("a/1")]);
    assert!(!world.is_suspended("a"));
}

#[test]
fn one_session_of_a_suspended_tenant_tries_each_interval_by_turns() {
    let mut world = suspended_world();
    for session in ["a/2", "a/3"] {
        world.ask(session);
    }
    assert_eq!(world.pass(secs(600)), [(secs(600) - ms(100), probe("a/1"))]);
    for (session, next) in [("a/1", "a/2"), ("a/2", "a/3"), ("a/3", "a/1")] {
        assert_eq!(world.ask_with(session, Pass::Probe), [grant(session)]);
        world.pass(secs(3));
        assert_eq!(world.settle(session, refused(CREDITS)), []);
        assert_eq!(world.park_for_billing(session), []);
        assert_eq!(world.pass(secs(600)), [(secs(600), probe(next))]);
    }
}

#[test]
fn a_successful_probe_releases_the_rest() {
    let mut world = suspended_world();
    world.ask("a/2");
    world.pass(secs(600));
    world.ask_with("a/1", Pass::Probe);
    assert_eq!(world.settle("a/1", AttemptOutcome::Confirmed), [tenant_released("a"), release("a/2")]);
    assert_eq!(world.fleet.next_timeout(), None);
}

#[test]
fn a_probe_waits_for_the_breaker_like_everybody() {
    let mut world = suspended_world();
    world.input(FleetInput::OpenBreaker);
    assert_eq!(world.effects_of(secs(600)), [probe("a/1")]);
    assert_eq!(world.ask_with("a/1", Pass::Probe), []);
    assert_eq!(world.effects_of(secs(7_200)), [], "and nobody else is called meanwhile");
    assert!(world.input(FleetInput::CloseBreaker).contains(&grant("a/1")));
}

#[test]
fn a_probe_that_met_a_transient_error_ends_and_its_session_parks_again() {
    let mut world = suspended_world();
    world.pass(secs(600));
    world.ask_with("a/1", Pass::Probe);
    assert_eq!(world.settle("a/1", health_failure()), []);
    assert_eq!(world.pass(secs(2)), []);
    assert_eq!(world.ask("a/1"), [suspended("a/1")]);
    assert_eq!(world.pass(secs(600)), [(secs(598), probe("a/1"))]);
}

#[test]
fn when_the_probing_session_leaves_another_one_tries_at_the_next_interval() {
    let ways: [fn(&mut World) -> Vec<FleetEffect>; 4] = [
        |world| world.left("a/1"),
        |world| world.withdraw("a/1"),
        |world| world.park("a/1", ParkCause::Operator),
        |world| {
            world.ask_with("a/1", Pass::Probe);
            world.withdraw("a/1")
        },
    ];
    for leave in ways {
        let mut world = suspended_world();
        world.ask("a/2");
        assert_eq!(world.effects_of(secs(600)), [probe("a/1")]);
        assert_eq!(leave(&mut world), []);
        assert_eq!(world.fleet.in_flight(), 0);
        assert_eq!(world.pass(secs(600)), [(secs(600), probe("a/2"))]);
    }
}

#[test]
fn a_called_session_that_does_not_ask_makes_room_for_another() {
    let mut world = suspended_world();
    world.ask("a/2");
    world.pass(secs(600));
    assert_eq!(world.effects_of(secs(635)), [probe("a/2")]);
}

#[test]
fn a_probe_that_is_never_heard_of_again_ends_with_its_slot() {
    let mut world = suspended_world();
    world.ask("a/2");
    world.pass(secs(600));
    assert_eq!(world.ask_with("a/1", Pass::Probe), [grant("a/1")]);
    let expired = FleetEffect::GrantExpired { session: "a/1".into() };
    assert_eq!(world.pass(secs(700)), [(secs(35), expired), (secs(635), probe("a/2"))]);
}

#[test]
fn a_suspension_ended_by_a_person_releases_the_called_session_too() {
    let mut world = suspended_world();
    world.pass(secs(600));
    let unsuspend = FleetInput::Unsuspend { tenant: "a".into() };
    assert_eq!(world.input(unsuspend.clone()), [tenant_released("a"), release("a/1")]);

    let mut world = suspended_world();
    world.pass(secs(600));
    world.input(FleetInput::OpenBreaker);
    world.ask_with("a/1", Pass::Probe);
    assert_eq!(world.input(unsuspend), [tenant_released("a")], "it is no more parked");
    assert!(world.input(FleetInput::CloseBreaker).contains(&grant("a/1")));
}

#[test]
fn without_the_probe_only_people_end_a_suspension() {
    for park_probe in [None, Some(Duration::ZERO)] {
        let mut world = World::new(FleetConfig { park_probe, ..FleetConfig::default() });
        world.park_for_billing("a/1");
        world.ask("a/2");
        assert_eq!(world.fleet.next_timeout(), None);
        let effects = world.input(FleetInput::Unsuspend { tenant: "a".into() });
        assert_eq!(effects, [tenant_released("a"), release("a/1"), release("a/2")]);
    }
}

#[test]
fn a_suspended_tenant_without_parked_sessions_stays_suspended_without_timers() {
    let mut world = suspended_world();
    world.left("a/1");
    assert_eq!(world.fleet.next_timeout(), None);
    world.pass(secs(3_600));
    assert!(world.is_suspended("a"));
    assert_eq!(world.ask("a/2"), [suspended("a/2"), probe("a/2")], "its interval has long passed");
}

#[test]
fn a_session_that_was_just_refused_does_not_probe_before_an_interval_has_passed() {
    let mut world = suspended_world();
    world.left("a/1");
    world.pass(secs(3_600));
    assert_eq!(world.park_for_billing("a/2"), []);
    assert_eq!(world.pass(secs(600)), [(secs(600), probe("a/2"))]);
}

#[test]
fn a_tenant_that_is_gone_is_not_suspended_and_calls_nobody() {
    let mut world = suspended_world();
    world.ask("a/2");
    world.pass(secs(600));
    world.input(FleetInput::TenantGone { tenant: "a".into() });
    assert!(world.fleet.is_empty(), "{:?}", world.fleet);
}

#[test]
fn a_session_of_an_earlier_process_brings_the_suspension_back() {
    use crate::recovery::lifecycle::Hold;
    for hold in [Hold::Error(CREDITS), Hold::Suspension(CREDITS)] {
        let mut world = World::with_defaults();
        assert_eq!(world.park("a/1", ParkCause::of_restored(&hold)), [tenant_suspended("a")], "{hold:?}");
        assert_eq!(world.ask("a/2"), [suspended("a/2")], "{hold:?}");
    }
    for hold in [Hold::Operator, Hold::Error(ErrorCode::ConcurrencyLimit)] {
        let mut world = World::with_defaults();
        assert_eq!(world.park("a/1", ParkCause::of_restored(&hold)), [], "{hold:?}");
    }
}
