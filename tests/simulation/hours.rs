//! Small worlds in which one thing happens.

use std::time::Duration;

use greenroom::{
    errors::ErrorCode,
    recovery::{FleetInput, StateName, lifecycle::Input},
};

use crate::{
    service::Outage,
    world::{Event, Options, World},
};

const HOUR: Duration = Duration::from_secs(3600);

fn all_running(options: Options) -> World {
    let mut world = World::new(options);
    world.run_for(Duration::from_secs(60));
    assert_all(&world, StateName::Running);
    world
}

fn assert_all(world: &World, state: StateName) {
    let expected = [(state.as_str(), world.current.len())].into();
    assert_eq!(world.states(), expected);
}

#[test]
fn a_service_that_is_down_for_an_hour_fails_nobody_and_meanwhile_only_the_probe_knocks() {
    for kind in [Outage::NoAnswer, Outage::Unavailable, Outage::ClosedInHandshake] {
        let mut world = all_running(Options::quiet(10, 30));
        world.begin_outage(kind, HOUR);
        world.storm();
        // The breaker needs to see the first failures, and a session that knocks in vain waits up to 10 s.
        world.run_for(Duration::from_secs(30));
        let before = world.tally.attempts;
        world.run_for(HOUR - Duration::from_secs(31));
        let knocks = world.tally.attempts - before;
        assert!((40..=80).contains(&knocks), "{kind:?}: {knocks} attempts in an hour");
        assert_all(&world, StateName::BackingOff);
        world.service.outage = None;
        world.run_for(Duration::from_secs(120));
        assert_all(&world, StateName::Running);
        assert_eq!((world.tally.exhausted, world.tally.failures.len()), (0, 0));
    }
}

#[test]
fn a_billing_parked_tenant_stays_parked_for_an_hour_with_the_probe_off_and_starts_at_once_on_unpark() {
    let mut world = all_running(Options { park_probe: None, ..Options::quiet(3, 40) });
    world.end_credits(1);
    world.run_for(Duration::from_secs(10));
    let before = world.tally.attempts;
    let late = world.create(1);
    world.run_for(HOUR);
    assert_eq!(world.tally.attempts, before, "nobody knocks");
    assert_eq!(world.states(), [("parked", 41), ("running", 80)].into());
    assert_eq!(world.seats[late].attempts, 0, "who was created meanwhile is parked without an attempt");

    world.service.accounts[1].refused = None;
    let tenant = world.tenant_id(1);
    world.after(Duration::ZERO, Event::ToFleet(FleetInput::Unsuspend { tenant }));
    world.run_for(Duration::from_secs(3));
    assert_all(&world, StateName::Running);
}

#[test]
fn one_unparked_session_whose_attempt_succeeds_lifts_the_suspension_and_one_that_fails_does_not() {
    let mut world = all_running(Options { park_probe: None, ..Options::quiet(2, 40) });
    world.end_credits(1);
    world.run_for(Duration::from_secs(10));
    let before = world.tally.attempts;
    world.give(60, Input::Unpark);
    world.run_for(HOUR);
    assert_eq!(world.tally.attempts, before + 1);
    assert_eq!(world.states(), [("parked", 40), ("running", 40)].into());

    world.service.accounts[1].refused = None;
    world.give(70, Input::Unpark);
    world.run_for(Duration::from_secs(5));
    assert_all(&world, StateName::Running);
}

#[test]
fn with_the_probe_on_there_is_one_attempt_for_each_interval_and_tenant_whatever_the_number_of_sessions() {
    for sessions in [1, 10, 200] {
        let interval = Duration::from_secs(600);
        let mut world = all_running(Options { park_probe: Some(interval), ..Options::quiet(2, sessions) });
        world.end_credits(0);
        world.end_credits(1);
        world.run_for(Duration::from_secs(10));
        let before = world.tally.attempts;
        // Seventeen intervals, each with its attempt, and half of the next.
        world.run_for(interval.mul_f64(17.5));
        let probes = &world.watch.park_probes;
        assert_eq!(world.tally.attempts - before, 2 * 17, "of {sessions}: {probes:?}");
        for tenant in probes {
            assert_eq!(tenant.len(), 17, "{tenant:?}");
            assert!(tenant.windows(2).all(|pair| pair[1].since(pair[0]) >= interval), "{tenant:?}");
        }
        assert_all(&world, StateName::Parked);

        for account in &mut world.service.accounts {
            account.refused = None;
        }
        world.run_for(interval + Duration::from_secs(15));
        assert_all(&world, StateName::Running);
    }
}

#[test]
fn five_hundred_sessions_that_lose_their_connections_in_one_instant_all_run_again_within_the_gates_rate() {
    let mut world = all_running(Options::quiet(10, 50));
    let before = world.tally.attempts;
    world.storm();
    // The rate itself is watched at every attempt.
    world.run_for(Duration::from_secs(8));
    assert_all(&world, StateName::Running);
    assert_eq!(world.tally.attempts - before, 500, "one attempt each");
    assert_eq!(world.tally.errors, [("connectionClosed", 500)].into());
}

#[test]
fn ghosts_of_a_tenant_at_its_limit_fail_and_park_nobody() {
    let mut world = all_running(Options::quiet(2, 20));
    world.service.accounts[0].limit = Some(20);
    for (seat, link) in world.established() {
        world.link_breaks(seat, link.generation, crate::service::Fault::Crash);
    }
    world.run_for(Duration::from_secs(150));
    assert_all(&world, StateName::Running);
    assert!(
        world.tally.errors.contains_key(ErrorCode::ConcurrencyLimit.as_str()),
        "{:?}",
        world.tally.errors
    );
}

#[test]
fn who_is_parked_for_a_limit_runs_within_one_interval_after_it_is_lifted() {
    let mut world = World::new(Options::quiet(2, 20));
    world.service.accounts[0].limit = Some(8);
    world.run_for(Duration::from_secs(1900));
    assert_eq!(world.states(), [("parked", 12), ("running", 28)].into());
    // One attempt for each session at the start, and one for each interval since.
    assert_eq!(world.tally.attempts, 40 + 3);
    world.service.accounts[0].limit = None;
    world.run_for(Duration::from_secs(630));
    assert_all(&world, StateName::Running);
}

#[test]
fn a_connection_that_ends_gives_its_place_to_who_is_parked_for_a_limit() {
    let mut world = World::new(Options::quiet(1, 10));
    world.service.accounts[0].limit = Some(5);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.states(), [("parked", 5), ("running", 5)].into());
    for (seat, _) in world.established() {
        world.give(seat, Input::Park);
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.established().len(), 5, "{:?}", world.states());
}

#[test]
fn a_tenant_with_drop_in_clients_only_comes_back_within_a_probe_of_its_account_being_paid() {
    let mut world = World::new(Options { clients_per_tenant: 20, ..Options::quiet(1, 0) });
    world.run_for(HOUR);
    assert_eq!(world.states(), [("running", 20)].into(), "all have come, and nobody leaves by itself");
    world.end_credits(0);
    world.run_for(HOUR);
    assert_eq!(world.states(), [].into(), "they were told so");
    assert!(world.tally.turned_away > 0);
    // One attempt for each ten minutes, whoever comes.
    let probes = world.watch.park_probes[0].len();
    assert!((3..=6).contains(&probes), "{probes} probes in an hour");
    world.service.accounts[0].refused = None;
    world.run_for(Duration::from_secs(1200));
    assert!(world.fleet.suspension(&world.tenant_id(0)).is_none());
    world.run_for(Duration::from_secs(1200));
    assert_eq!(world.states(), [("running", 20)].into());
}

#[test]
fn clients_that_never_configure_keep_no_slot_and_end_by_themselves() {
    let mut world = World::new(Options::quiet(2, 50));
    world.dawdle = true;
    world.expect_drop_ins(0, 500);
    world.run_for(HOUR);
    assert!(world.tally.dawdled > 1000, "{} dawdled", world.tally.dawdled);
    assert_eq!(world.states().get("running"), Some(&100));
    assert_eq!(world.tally.failures.get("invalidRequest"), Some(&world.tally.failures.values().sum()));
}
