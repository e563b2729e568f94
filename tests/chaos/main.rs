//! Everything goes wrong at once, by a seed, over real sockets and with real processes; then the invariants are held
//! against what the service has seen.
//!
//! `CHAOS_SECONDS` says for how long (40 if left out; `tests/run` asks for 120), `CHAOS_SEED` replays the schedule of a
//! run that failed. What happens is drawn from the seed; how the machine's threads take turns is not, so that a fault
//! which needs a certain moment may take several runs of its seed.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot run its subject has failed, and says what it saw"
)]

mod actors;
mod checks;
mod dropins;
mod ground;
#[path = "../blackbox/http.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod http;
#[path = "../machine/namespace.rs"]
mod namespace;
#[path = "../blackbox/process.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod process;
mod record;
mod schedule;
mod soak;
mod stage;

use std::{
    env,
    fmt::Display,
    str::FromStr,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use actors::{Clip, Shared};
use ground::Ground;
use record::Record;
use schedule::Scope;

const SESSIONS: usize = 32;
const SPEAKERS: usize = 12;
const DROPINS: usize = 8;
const EVERY: Duration = Duration::from_millis(900);

/// A number of the environment.
fn asked<T: FromStr<Err: Display>>(name: &str) -> Option<T> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[test]
fn the_invariants_hold_whatever_goes_wrong() {
    let seed = asked("CHAOS_SEED").unwrap_or_else(rand::random);
    let span = Duration::from_secs(asked("CHAOS_SECONDS").unwrap_or(40));
    if !namespace::enter("the_invariants_hold_whatever_goes_wrong") {
        return;
    }
    println!("CHAOS_SEED={seed} CHAOS_SECONDS={}", span.as_secs());
    let steps = schedule::draw(seed, span, EVERY, SESSIONS, Scope::All);
    steps.iter().for_each(|step| println!("{step}"));

    let mut ground = Ground::new(SESSIONS, Scope::All);
    let uptime = ground.stats()["uptime_s"].as_f64().unwrap();
    let zero = Instant::now() - Duration::from_secs_f64(uptime);
    let shared = Shared::new(SESSIONS);
    shared.create_all(&ground.admin);
    let mut record = Record::default();
    let (orders, operator) = actors::operator(&shared, &ground.admin);
    let mut threads: Vec<_> =
        (0..SPEAKERS).map(|first| actors::speaker(&shared, seed, first, SPEAKERS)).collect();
    threads.push(dropins::start(&shared, DROPINS));

    stage::play(&mut ground, &shared, &orders, &steps, span, |ground| record.read(ground));

    shared.end.store(true, Ordering::Relaxed);
    ground.calm();
    drop(orders);
    threads.push(operator);
    for thread in threads {
        thread.join().expect("what an actor asserts holds");
    }
    shared.create_all(&ground.admin);
    let running = checks::recovers(&ground, &shared);
    record.read(&ground);
    checks::invariants(&ground, &shared, &record, zero);

    let knocked = record.attempts_in(&shared.quiet.lock().unwrap(), zero);
    assert!(knocked.is_empty(), "{knocked:#?}");
    let (wrong, pieces) = record.audio_that_nobody_said(&shared.clips.lock().unwrap());
    assert!(wrong.is_empty(), "{wrong:#?}");
    let clips = shared.clips.lock().unwrap().len();
    let dropins = |clip: &&Clip| clip.avatar.starts_with("dropin") && clip.completed;
    let heard = shared.clips.lock().unwrap().iter().filter(dropins).count();
    assert!(heard > DROPINS, "drop-in clients had {heard} clips completed");
    println!(
        "{} steps, {pieces} pieces of audio, {clips} clips, {} connections",
        steps.len(),
        record.confirmed
    );
    assert!(pieces > 100 && record.confirmed > SESSIONS as u64, "hardly anything happened");
    checks::counts_exactly(&ground, &running);
    println!("{} starts failed while the disk was full", ground.failed_starts);
}
