//! One virtual day of a thousand sessions, from a seed.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use greenroom::recovery::{
    FleetInput,
    lifecycle::{Input, State},
};

use crate::world::{Event, Options, World};

const DAY: Duration = Duration::from_secs(86_400);

/// After the world is healed and everybody unparked, all run within this: the longest backoff, the longest
/// that a breaker stays open, and the gate.
const LIVENESS: Duration = Duration::from_secs(180);

fn seeds() -> Vec<u64> {
    if let Ok(text) = std::env::var("SIM_SEED") {
        return vec![text.parse().unwrap()];
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    vec![1, 2, clock]
}

#[test]
fn a_thousand_sessions_keep_every_promise_through_a_day_of_every_fault() {
    let days: Vec<_> = seeds().into_iter().map(|seed| (seed, thread::spawn(move || day(seed)))).collect();
    for (seed, day) in days {
        let replay = format!("again with: SIM_SEED={seed} cargo test --test simulation");
        assert!(day.join().is_ok(), "the day of seed {seed} went wrong; {replay}");
    }
}

#[test]
fn the_same_seed_gives_the_same_day() {
    let hour = |seed| {
        let mut world =
            World::new(Options { seed, lively: true, clients_per_tenant: 3, ..Options::quiet(4, 10) });
        world.run_for(Duration::from_secs(7200));
        format!("{:?} {:?}", world.tally, world.states())
    };
    assert_eq!(hour(5), hour(5));
    assert_ne!(hour(5), hour(6));
}

fn day(seed: u64) {
    let begun = Instant::now();
    let mut world =
        World::new(Options { seed, lively: true, clients_per_tenant: 5, ..Options::quiet(20, 50) });
    world.run_for(DAY);
    let states = world.states();
    heal(&mut world);
    world.run_for(LIVENESS);
    for &seat in &world.current {
        let it = &world.seats[seat];
        if it.attendance.may_revive() && !matches!(it.machine.state(), State::Running { .. }) {
            world.breach_at(seat, "the world is healed, and it does not run");
        }
    }
    print(&world, &states, begun.elapsed());
    assert_eq!(world.tally.unseen(), [], "every code happens on a day");
    assert!(world.tally.resent > world.tally.resumed && world.tally.resumed > 0, "a day has replays");
    assert!(world.tally.turned_away > 0 && world.tally.returned > 0 && world.tally.dawdled > 0);
    assert!(world.tally.exhausted > 0 && world.tally.suspensions > 0 && world.tally.breaker_changes > 0);
}

/// No more faults; everybody is unparked, mended and spoken to.
fn heal(world: &mut World) {
    world.mischief = false;
    world.healed = true;
    world.service.faulty = false;
    world.service.outage = None;
    for account in &mut world.service.accounts {
        (account.refused, account.key_refused, account.limit) = (None, false, None);
    }
    world.run_for(Duration::from_secs(5));
    for tenant in 0..world.options.tenants {
        let tenant = world.tenant_id(tenant);
        world.after(Duration::ZERO, Event::ToFleet(FleetInput::Unsuspend { tenant }));
    }
    for seat in world.current.clone() {
        world.seats[seat].misconfigured = None;
        match world.seats[seat].machine.state() {
            State::Failed => world.give(seat, Input::Restart),
            State::Parked(_) => world.give(seat, Input::Unpark),
            State::Dormant => world.speak(seat),
            State::Starting(_) | State::Running { .. } | State::BackingOff(_) | State::Stopped { .. } => {}
        }
    }
}

fn print(world: &World, states: &std::collections::BTreeMap<&'static str, usize>, took: Duration) {
    let tally = &world.tally;
    println!(
        "seed {}: {} events in {:.1} s ({:.0} a second); {} attempts, {} breaks, {} outages, {} suspensions, \
         {} changes of the breaker, {} recovered, {} budgets exhausted",
        world.options.seed,
        tally.events,
        took.as_secs_f64(),
        tally.events as f64 / took.as_secs_f64(),
        tally.attempts,
        tally.breaks,
        tally.outages,
        tally.suspensions,
        tally.breaker_changes,
        tally.recovered,
        tally.exhausted,
    );
    println!(
        "  requests: {} accepted, {} refused, {:?}, {} pieces sent, {} sent again, {} of them from where playing stopped, {} late frames",
        tally.accepted,
        tally.refused,
        tally.outcomes,
        tally.pieces,
        tally.resent,
        tally.resumed,
        tally.late_frames
    );
    println!(
        "  drop-in clients: {} came, {} were turned away, {} came back, the service waited for {}",
        tally.clients, tally.turned_away, tally.returned, tally.dawdled
    );
    println!("  errors {:?}\n  failures {:?}\n  states at midnight {states:?}", tally.errors, tally.failures);
}
