//! The same faults, but for those that end the process, for as long as wanted: what grows?

use std::{
    fs,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    actors::{self, Shared},
    asked, checks, dropins,
    ground::Ground,
    namespace,
    record::Record,
    schedule::{self, Scope},
    stage,
};

const SESSIONS: usize = 1000;
const SPEAKERS: usize = 24;
const DROPINS: usize = 24;
/// A fault, on average: the storm after each lasts as long.
const EVERY: Duration = Duration::from_secs(5);
const SAMPLE: Duration = Duration::from_secs(5);
/// Of the run's time: until then caches and the allocator fill.
const WARM: f64 = 0.25;

/// What the process has, at one time.
struct Sample {
    hours: f64,
    values: [f64; NAMES.len()],
}

/// Threads are the arbiters and listeners. No process tells its tasks: there is one for each session, one for each
/// connection and one for each client, which are counted, and a task that outlives them would show in the memory.
const NAMES: [&str; 7] = [
    "resident KiB",
    "descriptors",
    "threads",
    "sessions known",
    "upstream connections",
    "clients",
    "outbox bytes",
];

fn sample(ground: &Ground, began: Instant) -> Option<Sample> {
    // While the process is frozen or overwhelmed it says nothing; the kernel does.
    let text = ground.admin.without_key().try_call("GET", "/metrics", None).ok()?.body;
    let of = |name: &str| super::ground::sum(&text, name, &[]);
    let values = [
        ground.status("VmRSS") as f64,
        ground.descriptors() as f64,
        ground.status("Threads") as f64,
        of("greenroom_sessions"),
        of("greenroom_upstream_connections"),
        of("greenroom_clients"),
        of("greenroom_outbox_bytes"),
    ];
    Some(Sample { hours: began.elapsed().as_secs_f64() / 3600.0, values })
}

/// The slope of a line through the points (least squares), an hour.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    above / below
}

#[test]
fn a_slope_is_that_of_the_line() {
    let line: Vec<_> = (0..50).map(|x| (f64::from(x), 7.0 - 3.0 * f64::from(x))).collect();
    assert!((slope(&line) + 3.0).abs() < 1e-9);
}

fn report(samples: &[Sample], span: Duration, seed: u64, faults: usize) -> String {
    let mut text = format!(
        "{} minutes, {SESSIONS} sessions over HTTP and {DROPINS} drop-in clients, {faults} faults (seed {seed}), \
         a sample each {} s.\nThe first quarter is left out of the slopes.\n\n{:<22}{:>12}{:>12}{:>12}{:>12}{:>16}\n",
        span.as_secs() / 60,
        SAMPLE.as_secs(),
        "",
        "first",
        "least",
        "most",
        "last",
        "slope an hour",
    );
    let warm = &samples[(samples.len() as f64 * WARM) as usize..];
    for (index, name) in NAMES.iter().enumerate() {
        let of = |sample: &Sample| sample.values[index];
        let values = warm.iter().map(of);
        let (least, most) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
        let points: Vec<_> = warm.iter().map(|sample| (sample.hours, of(sample))).collect();
        let (first, last) = (of(&warm[0]), of(&warm[warm.len() - 1]));
        text.push_str(&format!(
            "{name:<22}{first:>12.0}{least:>12.0}{most:>12.0}{last:>12.0}{:>16.1}\n",
            slope(&points)
        ));
    }
    text
}

#[test]
#[ignore = "for as long as SOAK_MINUTES says; tests/soak runs it"]
fn nothing_grows_under_faults() {
    if !namespace::enter("soak::nothing_grows_under_faults") {
        return;
    }
    let span = Duration::from_secs(60 * asked::<u64>("SOAK_MINUTES").unwrap_or(60));
    let seed = asked("CHAOS_SEED").unwrap_or_else(rand::random);
    println!("CHAOS_SEED={seed} SOAK_MINUTES={}", span.as_secs() / 60);
    let steps = schedule::draw(seed, span, EVERY, SESSIONS, Scope::OneProcess);
    steps.iter().for_each(|step| println!("{step}"));
    let mut ground = Ground::new(SESSIONS, Scope::OneProcess);
    let uptime = ground.stats()["uptime_s"].as_f64().unwrap();
    let zero = Instant::now() - Duration::from_secs_f64(uptime);
    let shared = Shared::new(SESSIONS);
    shared.create_all(&ground.admin);
    let (orders, operator) = actors::operator(&shared, &ground.admin);
    let mut threads: Vec<_> =
        (0..SPEAKERS).map(|first| actors::speaker(&shared, seed, first, SPEAKERS)).collect();
    threads.push(dropins::start(&shared, DROPINS));

    let began = Instant::now();
    let (mut record, mut samples, mut due) = (Record::default(), Vec::new(), Instant::now());
    stage::play(&mut ground, &shared, &orders, &steps, span, |ground| {
        record.read(ground);
        if Instant::now() >= due && !ground.is_frozen() {
            due += SAMPLE;
            samples.extend(sample(ground, began));
        }
    });

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
    let report = report(&samples, span, seed, steps.len());
    println!("{report}");
    if let Some(path) = asked::<String>("SOAK_REPORT") {
        fs::write(path, &report).unwrap();
    }
    checks::invariants(&ground, &shared, &record, zero);
    let knocked = record.attempts_in(&shared.quiet.lock().unwrap(), zero);
    assert!(knocked.is_empty(), "{knocked:#?}");
    let (wrong, pieces) = record.audio_that_nobody_said(&shared.clips.lock().unwrap());
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{pieces} pieces of audio, {} connections; lost events: {}", record.confirmed, record.has_gaps);
    checks::counts_exactly(&ground, &running);
}
