//! Spacing, fairness and the bound on attempts under way.

use super::*;

fn gate(max_in_flight: usize, per_second: u32) -> World {
    World::new(FleetConfig { gate: GateConfig { max_in_flight, per_second }, ..FleetConfig::default() })
}

fn granted(effects: &[(Duration, FleetEffect)]) -> Vec<(Duration, String)> {
    let grants = effects.iter().filter_map(|(at, effect)| match effect {
        FleetEffect::Grant { session } => Some((*at, session.to_string())),
        FleetEffect::Suspended { .. }
        | FleetEffect::OutOfMinutes { .. }
        | FleetEffect::Probe { .. }
        | FleetEffect::Release { .. }
        | FleetEffect::TenantSuspended { .. }
        | FleetEffect::TenantReleased { .. }
        | FleetEffect::BreakerChanged { .. }
        | FleetEffect::GrantExpired { .. } => None,
    });
    grants.collect()
}

#[test]
fn an_idle_gate_grants_at_once() {
    let mut world = gate(100, 10);
    assert_eq!(world.ask("a/1"), [grant("a/1")]);
    assert_eq!((world.fleet.waiting(), world.fleet.in_flight()), (0, 1));
    world.pass(secs(5));
    assert_eq!(world.ask("a/2"), [grant("a/2")]);
}

#[test]
fn an_idle_time_gives_no_right_to_a_burst() {
    let mut world = gate(1_000, 1_000);
    world.ask("a/0");
    world.pass(secs(5));
    assert_eq!(world.ask("a/1"), [grant("a/1")]);
    assert_eq!(world.ask("a/2"), []);
}

#[test]
fn grants_lie_on_a_grid_five_percent_wider_than_the_rate() {
    let mut world = gate(100, 10);
    for session in ["a/0", "a/1", "a/2", "a/3"] {
        world.ask(session);
    }
    let times: Vec<_> = world.pass(secs(1)).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [ms(105), ms(210), ms(315)]);
}

#[test]
fn a_late_tick_keeps_the_grid_if_it_is_late_by_no_more_than_two_milliseconds() {
    for (late, next) in [(ms(0), ms(210)), (ms(2), ms(210)), (ms(7), ms(215))] {
        let mut world = gate(100, 10);
        for session in ["a/0", "a/1", "a/2"] {
            world.ask(session);
        }
        let start = world.now;
        world.now = start + ms(105) + late;
        assert_eq!(world.input(FleetInput::Tick), [grant("a/1")]);
        assert_eq!(world.fleet.next_timeout(), Some(start + next), "late by {late:?}");
    }
}

#[test]
fn there_are_never_more_attempts_under_way_than_allowed() {
    let mut world = gate(2, 1_000);
    for session in ["a/1", "a/2", "a/3", "a/4"] {
        world.ask(session);
    }
    assert_eq!(world.effects_of(secs(5)), [grant("a/2")]);
    assert_eq!((world.fleet.waiting(), world.fleet.in_flight()), (2, 2));
    assert_eq!(world.settle("a/1", AttemptOutcome::Confirmed), [grant("a/3")]);
    assert_eq!(world.withdraw("a/2"), [grant("a/4")]);
    assert_eq!(world.fleet.next_timeout().map(|due| due > world.now + secs(29)), Some(true));
}

#[test]
fn tenants_take_turns_and_inside_a_tenant_the_first_comes_first() {
    let mut world = gate(100, 100);
    for session in ["a/1", "a/2", "a/3", "b/1", "b/2", "c/1"] {
        world.ask(session);
    }
    let order: Vec<_> = granted(&world.pass(secs(1))).into_iter().map(|(_, session)| session).collect();
    assert_eq!(order, ["a/2", "b/1", "c/1", "a/3", "b/2"]);
}

#[test]
fn asking_twice_keeps_the_place_and_gives_one_turn() {
    let mut world = gate(100, 100);
    for session in ["a/0", "a/1", "a/2", "a/1"] {
        world.ask(session);
    }
    assert_eq!(world.fleet.waiting(), 2);
    assert_eq!(world.effects_of(secs(1)), [grant("a/1"), grant("a/2")]);
}

#[test]
fn a_session_that_withdraws_is_not_granted() {
    let mut world = gate(100, 100);
    for session in ["a/0", "a/1", "b/1", "b/2"] {
        world.ask(session);
    }
    assert!(world.fleet.is_waiting(&"b/1".into()));
    assert_eq!(world.withdraw("b/1"), []);
    assert_eq!(world.withdraw("a/1"), []);
    assert!(!world.fleet.is_waiting(&"b/1".into()));
    assert_eq!(world.effects_of(secs(1)), [grant("b/2")]);
}

#[test]
fn a_session_that_asks_while_its_attempt_is_under_way_waits_for_its_end() {
    let mut world = gate(100, 100);
    world.ask("a/1");
    assert_eq!(world.ask("a/1"), []);
    assert!(world.fleet.is_waiting(&"a/1".into()));
    assert_eq!(world.effects_of(secs(1)), []);
    assert_eq!(world.settle("a/1", AttemptOutcome::Abandoned), [grant("a/1")]);
    assert!(!world.fleet.is_waiting(&"a/1".into()));
}

#[test]
fn a_slot_that_is_held_past_the_deadline_is_taken_back_and_told() {
    let mut world = gate(1, 100);
    world.ask("a/1");
    world.ask("a/2");
    let expired = FleetEffect::GrantExpired { session: "a/1".into() };
    assert_eq!(world.pass(secs(40)), [(secs(35), expired), (secs(35), grant("a/2"))]);
    assert_eq!(world.settle("a/1", AttemptOutcome::Confirmed), [], "too late");
    assert_eq!(world.fleet.in_flight(), 1);
}

#[test]
fn a_retry_after_of_the_service_holds_everybody() {
    let mut world = gate(100, 100);
    world.ask("a/1");
    world.settle_with("a/1", health_failure(), secs(20));
    world.ask("a/2");
    world.ask("b/1");
    let seen = granted(&world.pass(secs(60)));
    assert_eq!(seen[0], (secs(20), "a/2".to_owned()));
    assert_eq!(seen[1].1, "b/1");
}

#[test]
fn a_retry_after_that_does_not_speak_of_health_holds_its_tenant_only() {
    let mut world = gate(100, 100);
    world.ask("a/1");
    world.settle_with("a/1", refused(ErrorCode::ConcurrencyLimit), secs(20));
    world.pass(secs(1));
    assert_eq!(world.ask("a/2"), []);
    assert_eq!(world.ask("b/1"), [grant("b/1")]);
    assert_eq!(granted(&world.pass(secs(60))), [(secs(19), "a/2".to_owned())]);
}

#[test]
fn of_two_retry_afters_of_a_tenant_the_later_end_counts() {
    let mut world = gate(100, 1_000);
    for session in ["a/1", "a/2", "a/3"] {
        world.ask(session);
    }
    world.pass(ms(10));
    world.settle_with("a/1", refused(ErrorCode::InvalidRequest), secs(20));
    world.settle_with("a/2", refused(ErrorCode::InvalidRequest), secs(30));
    world.settle_with("a/3", refused(ErrorCode::InvalidRequest), secs(5));
    world.ask("a/4");
    assert_eq!(granted(&world.pass(secs(60))), [(secs(30), "a/4".to_owned())]);
}

#[test]
fn a_retry_after_is_believed_up_to_its_limit() {
    for outcome in [health_failure(), refused(ErrorCode::InvalidRequest)] {
        let mut world = gate(100, 100);
        world.ask("a/1");
        world.settle_with("a/1", outcome, secs(86_400));
        world.ask("a/1");
        assert_eq!(granted(&world.pass(secs(3_600))), [(secs(300), "a/1".to_owned())]);
    }
}

#[test]
fn a_retry_after_leaves_nothing_behind_when_nobody_waits() {
    let mut world = gate(100, 100);
    world.ask("a/1");
    world.settle_with("a/1", refused(ErrorCode::InvalidRequest), secs(20));
    world.pass(secs(60));
    assert_eq!(world.fleet.next_timeout(), None);
    assert_eq!(world.ask("a/1"), [grant("a/1")]);
}

#[test]
fn a_tenant_that_is_gone_leaves_neither_tickets_nor_slots_nor_timers() {
    let mut world = gate(1, 100);
    for session in ["a/1", "a/2", "b/1"] {
        world.ask(session);
    }
    assert_eq!(world.input(FleetInput::TenantGone { tenant: "a".into() }), []);
    assert_eq!(world.effects_of(secs(1)), [grant("b/1")]);
    assert_eq!(world.settle("a/1", AttemptOutcome::Confirmed), []);
    world.settle("b/1", AttemptOutcome::Confirmed);
    assert_eq!((world.fleet.waiting(), world.fleet.in_flight()), (0, 0));
    assert_eq!(world.fleet.next_timeout(), None);
}

#[test]
fn limits_of_zero_count_as_one() {
    let mut world = gate(0, 0);
    world.ask("a/1");
    world.ask("a/2");
    world.settle("a/1", AttemptOutcome::Confirmed);
    assert_eq!(granted(&world.pass(secs(2))), [(ms(1_050), "a/2".to_owned())]);
}
