//! Tenants whose connections have lasted for as long as they may in a day.

use super::*;

fn out_of_minutes(session: &str) -> FleetEffect {
    FleetEffect::OutOfMinutes { session: session.into() }
}

impl World {
    fn minutes_used(&mut self, tenant: &str) {
        assert_eq!(self.input(FleetInput::MinutesUsed { tenant: tenant.into() }), []);
    }

    fn minutes_renewed(&mut self, tenant: &str) -> Vec<FleetEffect> {
        self.input(FleetInput::MinutesRenewed { tenant: tenant.into() })
    }
}

#[test]
fn nothing_of_the_tenant_knocks_with_whatever_right_and_others_do() {
    let mut world = World::with_defaults();
    world.minutes_used("a");
    for pass in [Pass::Normal, Pass::Unparked, Pass::Probe, Pass::Volunteer] {
        assert_eq!(world.ask_with("a/1", pass), [out_of_minutes("a/1")], "{pass:?}");
    }
    assert_eq!(world.ask("b/1"), [grant("b/1")]);
    assert_eq!(world.fleet.waiting(), 0);
}

#[test]
fn whoever_waits_is_released_through_the_gate_when_there_are_minutes_again() {
    let mut world = World::with_defaults();
    world.minutes_used("a");
    world.ask("a/1");
    // Its connection was closed for it.
    assert_eq!(world.park("a/2", ParkCause::Minutes), []);
    world.ask("a/3");
    world.left("a/3");
    assert_eq!(world.minutes_renewed("a"), [release("a/1"), release("a/2")]);
    for session in ["a/1", "a/2"] {
        world.left(session);
    }
    assert_eq!(world.ask("a/1"), [grant("a/1")]);
    assert_eq!(world.ask("a/2"), [], "the gate spaces them");
    assert_eq!(world.minutes_renewed("a"), []);
    world.left("a/1");
    world.left("a/2");
    assert!(world.fleet.is_empty());
}

#[test]
fn a_park_that_is_told_when_there_are_minutes_again_ends_at_once() {
    let mut world = World::with_defaults();
    world.minutes_used("a");
    world.minutes_renewed("a");
    assert_eq!(world.park("a/1", ParkCause::Minutes), [release("a/1")]);
    assert!(world.fleet.is_empty());
}

#[test]
fn an_operators_park_outlasts_new_minutes() {
    let mut world = World::with_defaults();
    world.minutes_used("a");
    world.ask("a/1");
    world.park("a/1", ParkCause::Operator);
    assert_eq!(world.minutes_renewed("a"), []);
}

#[test]
fn a_suspension_is_found_again_after_the_minutes_came_back() {
    let mut world = World::with_defaults();
    world.park_for_billing("a/0");
    world.minutes_used("a");
    assert_eq!(world.ask("a/1"), [out_of_minutes("a/1")]);
    assert_eq!(world.minutes_renewed("a"), [release("a/1")]);
    assert_eq!(world.ask("a/1"), [suspended("a/1")]);
}

#[test]
fn an_attempt_that_is_under_way_may_end_and_its_next_ask_is_refused() {
    let mut world = World::with_defaults();
    assert_eq!(world.ask("a/1"), [grant("a/1")]);
    world.minutes_used("a");
    assert_eq!(world.ask("a/1"), []);
    assert_eq!(world.settle("a/1", health_failure()), [out_of_minutes("a/1")]);
}

#[test]
fn a_tenant_that_is_gone_leaves_nothing() {
    let mut world = World::with_defaults();
    world.minutes_used("a");
    world.ask("a/1");
    world.input(FleetInput::TenantGone { tenant: "a".into() });
    assert!(world.fleet.is_empty());
}
