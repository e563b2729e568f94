//! When the breaker opens, whom it lets pass, and when it closes.

use super::*;

/// As many attempts as it takes by default.
const ENOUGH: u32 = 20;

/// Grants nothing twice and spaces nothing noticeably, so that only the breaker decides.
fn wide_open() -> World {
    World::new(FleetConfig {
        gate: GateConfig { max_in_flight: 1_000, per_second: 1_000_000 },
        ..FleetConfig::default()
    })
}

fn changed(state: BreakerState) -> FleetEffect {
    FleetEffect::BreakerChanged { state }
}

fn attempt(world: &mut World, outcome: AttemptOutcome) -> Vec<FleetEffect> {
    world.now = world.now + ms(1);
    assert_eq!(world.ask("a/1"), [grant("a/1")]);
    world.settle("a/1", outcome)
}

fn open(world: &mut World) -> BreakerState {
    for _ in 1..ENOUGH {
        assert_eq!(attempt(world, health_failure()), []);
    }
    let opened = BreakerState::Open { until: world.now + ms(1) + secs(5), lasts: secs(5) };
    assert_eq!(attempt(world, health_failure()), [changed(opened)]);
    opened
}

const fn half_open(lasts: Duration) -> BreakerState {
    BreakerState::HalfOpen { lasts, successes: 0, probe: None }
}

fn until_half_open(world: &mut World, lasts: Duration) {
    assert_eq!(world.pass(lasts), [(lasts, changed(half_open(lasts)))]);
}

#[test]
fn it_opens_when_half_of_enough_attempts_failed() {
    let mut world = wide_open();
    for _ in 0..10 {
        attempt(&mut world, AttemptOutcome::Confirmed);
    }
    for _ in 0..9 {
        assert_eq!(attempt(&mut world, health_failure()), []);
    }
    assert_eq!(world.fleet.breaker_state(), BreakerState::Closed);
    attempt(&mut world, health_failure());
    let lasts = secs(5);
    assert_eq!(world.fleet.breaker_state(), BreakerState::Open { until: world.now + lasts, lasts });
}

#[test]
fn it_opens_at_a_run_of_failures_however_many_successes_went_before() {
    let mut world = wide_open();
    for _ in 0..1_000 {
        attempt(&mut world, AttemptOutcome::Confirmed);
    }
    for _ in 1..ENOUGH {
        assert_eq!(attempt(&mut world, health_failure()), []);
    }
    // One that succeeds begins the run anew.
    attempt(&mut world, AttemptOutcome::Confirmed);
    open(&mut world);
}

#[test]
fn a_run_of_failures_is_as_long_as_the_window() {
    let mut world = wide_open();
    for _ in 0..1_000 {
        attempt(&mut world, AttemptOutcome::Confirmed);
    }
    // Half of the failures are forgotten with the successes of their time; what is left is below the least number.
    for _ in 1..ENOUGH {
        assert_eq!(attempt(&mut world, health_failure()), []);
    }
    world.pass(secs(10));
    attempt(&mut world, health_failure());
    assert_eq!(world.fleet.breaker_state(), BreakerState::Closed);
}

#[test]
fn it_stays_closed_below_the_least_number_of_attempts() {
    let mut world = wide_open();
    for _ in 1..ENOUGH {
        attempt(&mut world, health_failure());
    }
    assert_eq!(world.fleet.breaker_state(), BreakerState::Closed);
}

#[test]
fn it_stays_closed_when_fewer_than_half_failed() {
    let mut world = wide_open();
    for _ in 0..50 {
        attempt(&mut world, AttemptOutcome::Confirmed);
        attempt(&mut world, AttemptOutcome::Confirmed);
        attempt(&mut world, health_failure());
    }
    assert_eq!(world.fleet.breaker_state(), BreakerState::Closed);
}

#[test]
fn a_refusal_that_does_not_speak_of_health_is_a_success() {
    let mut world = wide_open();
    for _ in 0..200 {
        attempt(&mut world, refused(ErrorCode::AvatarNotFound));
    }
    assert_eq!(world.fleet.breaker_state(), BreakerState::Closed);
}

#[test]
fn an_abandoned_attempt_counts_nothing() {
    let mut world = wide_open();
    for _ in 1..ENOUGH {
        attempt(&mut world, health_failure());
        attempt(&mut world, AttemptOutcome::Abandoned);
    }
    assert_eq!(world.fleet.breaker_state(), BreakerState::Closed);
}

#[test]
fn failures_that_have_left_the_window_are_forgotten() {
    let mut world = wide_open();
    for _ in 0..100 {
        attempt(&mut world, health_failure());
        world.pass(ms(600));
    }
    assert_eq!(world.fleet.breaker_state(), BreakerState::Closed);
}

#[test]
fn while_it_is_open_nobody_is_granted() {
    let mut world = wide_open();
    open(&mut world);
    assert_eq!(world.ask("a/1"), []);
    assert_eq!(world.ask("b/1"), []);
    assert_eq!(world.effects_of(ms(4_999)), []);
}

#[test]
fn after_its_time_it_is_half_open_even_if_nobody_waits() {
    let mut world = wide_open();
    open(&mut world);
    until_half_open(&mut world, secs(5));
}

#[test]
fn half_open_one_waiting_session_at_a_time_probes_in_the_order_of_the_gate() {
    let mut world = wide_open();
    open(&mut world);
    for session in ["a/1", "a/2", "b/1"] {
        world.ask(session);
    }
    assert_eq!(world.effects_of(secs(5)), [changed(half_open(secs(5))), grant("a/1")]);
    assert_eq!(world.effects_of(secs(20)), []);
    assert_eq!(world.settle("a/1", AttemptOutcome::Confirmed), [grant("b/1")]);
    assert_eq!(world.settle("b/1", AttemptOutcome::Confirmed), [grant("a/2")]);
}

#[test]
fn it_closes_after_three_probes_in_a_row_one_after_another() {
    let mut world = wide_open();
    open(&mut world);
    until_half_open(&mut world, secs(5));
    attempt(&mut world, AttemptOutcome::Confirmed);
    attempt(&mut world, refused(ErrorCode::AvatarNotFound));
    assert_eq!(attempt(&mut world, AttemptOutcome::Confirmed), [changed(BreakerState::Closed)]);
}

#[test]
fn each_failing_probe_opens_it_for_twice_the_time_up_to_the_limit() {
    let mut world = wide_open();
    open(&mut world);
    let mut lasted = secs(5);
    for next in [10, 20, 40, 60, 60].map(secs) {
        until_half_open(&mut world, lasted);
        let until = world.now + ms(1) + next;
        assert_eq!(
            attempt(&mut world, health_failure()),
            [changed(BreakerState::Open { until, lasts: next })]
        );
        lasted = next;
    }
}

#[test]
fn successes_before_a_failing_probe_do_not_count_afterwards() {
    let mut world = wide_open();
    open(&mut world);
    until_half_open(&mut world, secs(5));
    attempt(&mut world, AttemptOutcome::Confirmed);
    attempt(&mut world, AttemptOutcome::Confirmed);
    attempt(&mut world, health_failure());
    until_half_open(&mut world, secs(10));
    assert_eq!(attempt(&mut world, AttemptOutcome::Confirmed), []);
}

#[test]
fn once_closed_by_probes_it_opens_for_the_first_time_again_and_with_an_empty_window() {
    let mut world = wide_open();
    open(&mut world);
    until_half_open(&mut world, secs(5));
    attempt(&mut world, health_failure());
    until_half_open(&mut world, secs(10));
    for _ in 0..3 {
        attempt(&mut world, AttemptOutcome::Confirmed);
    }
    open(&mut world);
}

#[test]
fn an_abandoned_probe_makes_room_for_the_next_one() {
    let mut world = wide_open();
    open(&mut world);
    world.ask("a/1");
    world.ask("a/2");
    world.pass(secs(5));
    assert_eq!(world.withdraw("a/1"), [grant("a/2")]);
    assert_eq!(world.settle("a/2", AttemptOutcome::Abandoned), []);
    assert_eq!(world.fleet.breaker_state(), half_open(secs(5)));
}

#[test]
fn a_probe_that_is_never_heard_of_again_makes_room_for_the_next_one() {
    let mut world = wide_open();
    open(&mut world);
    world.ask("a/1");
    world.ask("a/2");
    world.pass(secs(5));
    let expired = FleetEffect::GrantExpired { session: "a/1".into() };
    assert_eq!(world.effects_of(secs(35)), [expired, grant("a/2")]);
}

#[test]
fn results_of_attempts_from_before_the_opening_are_old_news() {
    let mut world = wide_open();
    for session in ["b/1", "b/2", "b/3", "b/4"] {
        world.now = world.now + ms(1);
        assert_eq!(world.ask(session), [grant(session)]);
    }
    open(&mut world);
    assert_eq!(world.settle("b/1", AttemptOutcome::Confirmed), []);
    until_half_open(&mut world, secs(5));
    assert_eq!(world.settle("b/2", health_failure()), []);
    assert_eq!(world.settle("b/3", AttemptOutcome::Confirmed), []);
    assert_eq!(world.fleet.breaker_state(), half_open(secs(5)));
}

#[test]
fn results_of_attempts_from_before_the_opening_do_not_count_after_it_has_closed() {
    let mut world = wide_open();
    for number in 0..ENOUGH {
        world.now = world.now + ms(1);
        world.ask(&format!("b/{number}"));
    }
    open(&mut world);
    until_half_open(&mut world, secs(5));
    for _ in 0..3 {
        attempt(&mut world, AttemptOutcome::Confirmed);
    }
    for number in 0..ENOUGH {
        assert_eq!(world.settle(&format!("b/{number}"), health_failure()), []);
    }
    assert_eq!(world.fleet.breaker_state(), BreakerState::Closed);
}

#[test]
fn an_operator_holds_it_open_until_an_operator_closes_it() {
    let mut world = wide_open();
    assert_eq!(world.input(FleetInput::OpenBreaker), [changed(BreakerState::Forced)]);
    assert_eq!(world.input(FleetInput::OpenBreaker), []);
    assert_eq!(world.ask("a/1"), []);
    assert_eq!(world.effects_of(secs(86_400)), []);
    assert_eq!(world.input(FleetInput::CloseBreaker), [changed(BreakerState::Closed), grant("a/1")]);
    assert_eq!(world.input(FleetInput::CloseBreaker), []);
}

#[test]
fn an_operator_closes_a_breaker_that_has_opened_by_itself() {
    let mut world = wide_open();
    open(&mut world);
    assert_eq!(world.input(FleetInput::CloseBreaker), [changed(BreakerState::Closed)]);
    open(&mut world);
}
