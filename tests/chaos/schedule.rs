//! What goes wrong when, and for how long: drawn from a seed, and nothing else.

use std::{fmt, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

/// What goes wrong, or what an operator does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// Connections end without a close frame, with a reset or in order.
    Drop { share: f64, reset: bool },
    /// The service closes connections with a code of its own.
    Close { share: f64, code: u16 },
    /// The service neither reads nor writes any more.
    Silence { share: f64 },
    /// The service does not read for as long as the step lasts.
    Stall { share: f64 },
    /// The service writes a few bytes a second.
    Trickle { share: f64 },
    /// The service says what its protocol does not allow.
    Garbage { share: f64, what: &'static str },
    /// The service refuses every connection.
    Down,
    /// The token call answers 500.
    TokensFail,
    /// The API key of one tenant is refused.
    KeyRefused { tenant: usize },
    /// The credits of one tenant run out; they come back, and it is unparked.
    CreditsOut { tenant: usize },
    /// The network carries a few megabits a second.
    SlowLink,
    /// What goes between one of Greenroom's addresses and the service is lost, and the service has forgotten it.
    Hole,
    /// An operator does something with one session.
    Operator { what: Order, slot: usize },
    /// Greenroom is killed, and started again at the step's end.
    Kill,
    /// Greenroom is stopped, and goes on at the step's end.
    Freeze,
    /// The disk of the store is full.
    DiskFull,
    /// No file can be opened.
    NoDescriptors,
    /// The wall clock is set.
    ClockStep { seconds: i64 },
}

/// What an operator does with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Restart,
    Park,
    Unpark,
    /// Deletes it, and makes another in its place.
    Replace,
}

/// One act.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// From the begin of the run.
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) act: Act,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.2} s, for {:5.2} s: {:?}", self.at.as_secs_f64(), self.lasts.as_secs_f64(), self.act)
    }
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    All,
    /// Nothing that ends the process or bends its clock: it is watched over time.
    OneProcess,
}

/// The most that Greenroom is stopped for: as long as a machine that is moved to another.
const LONGEST_FREEZE_S: f64 = 30.0;

/// The steps of a run of `span`, `every` so often on average; nothing begins in its last tenth.
pub(crate) fn draw(seed: u64, span: Duration, every: Duration, slots: usize, scope: Scope) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut steps, mut at, mut deck) = (Vec::new(), Duration::ZERO, Vec::new());
    loop {
        at += every.mul_f64(random.random_range(0.2..1.8));
        if at > span.mul_f64(0.9) {
            return steps;
        }
        if deck.is_empty() {
            // Dealt as cards: also in a short run each kind comes.
            deck = (0..KINDS).collect();
            deck.shuffle(&mut random);
        }
        let Some(kind) = deck.pop() else { return steps };
        let (act, lasts) = step(kind, span, slots, &mut random);
        let ends_the_process = matches!(act, Act::Kill | Act::ClockStep { .. });
        if scope == Scope::All || !ends_the_process {
            steps.push(Step { at, lasts: lasts.min(span.saturating_sub(at)), act });
        }
    }
}

const KINDS: usize = 26;

fn step(kind: usize, span: Duration, slots: usize, random: &mut StdRng) -> (Act, Duration) {
    // A short run has no time for what takes long.
    let long = (span.as_secs_f64() / 20.0).clamp(1.0, LONGEST_FREEZE_S);
    let share = random.random_range(0.05..0.6);
    let tenant = random.random_range(0..2);
    let slot = random.random_range(0..slots);
    let mut seconds = |from: f64, to: f64| Duration::from_secs_f64(random.random_range(from..to));
    match kind {
        0 => (Act::Drop { share, reset: true }, Duration::ZERO),
        1 => (Act::Drop { share, reset: false }, Duration::ZERO),
        2 => (Act::Close { share, code: 4503 }, Duration::ZERO),
        3 => (Act::Close { share, code: 1011 }, Duration::ZERO),
        4 => (Act::Silence { share: share / 2.0 }, Duration::ZERO),
        5 => (Act::Stall { share }, seconds(0.5, 4.0)),
        6 => (Act::Trickle { share: share / 3.0 }, Duration::ZERO),
        7 => (Act::Garbage { share: share / 4.0, what: "bad_frame" }, Duration::ZERO),
        8 => (Act::Garbage { share: share / 4.0, what: "text_frame" }, Duration::ZERO),
        9 => (Act::Garbage { share, what: "unknown_type" }, Duration::ZERO),
        10 => (Act::Garbage { share, what: "unknown_request" }, Duration::ZERO),
        11 => (Act::Down, seconds(0.5, long)),
        12 => (Act::TokensFail, seconds(0.5, long / 2.0 + 0.6)),
        13 => (Act::KeyRefused { tenant }, seconds(0.5, 3.0)),
        14 => (Act::CreditsOut { tenant }, seconds(0.5, 3.0)),
        15 => (Act::SlowLink, seconds(1.0, 4.0)),
        16 => (Act::Hole, seconds(1.0, 6.0)),
        17 => (Act::Operator { what: Order::Restart, slot }, Duration::ZERO),
        18 => (Act::Operator { what: Order::Park, slot }, Duration::ZERO),
        19 => (Act::Operator { what: Order::Unpark, slot }, Duration::ZERO),
        20 => (Act::Operator { what: Order::Replace, slot }, Duration::ZERO),
        21 => (Act::Kill, seconds(0.1, 2.0)),
        22 => (Act::Freeze, seconds(0.5, long)),
        23 => (Act::DiskFull, seconds(0.5, 3.0)),
        24 => (Act::NoDescriptors, seconds(0.5, 3.0)),
        _ => (Act::ClockStep { seconds: ((share - 0.3) * 2000.0) as i64 }, seconds(1.0, 4.0)),
    }
}

#[test]
fn a_seed_gives_the_same_steps_again_and_every_kind_of_them() {
    let of = |seed| draw(seed, Duration::from_secs(600), Duration::from_secs(1), 24, Scope::All);
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
    let kinds: std::collections::BTreeSet<String> = of(7)
        .iter()
        .map(|step| format!("{:?}", step.act).split(|c: char| !c.is_alphabetic()).next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.len(), 18, "{kinds:?}");
    assert!(of(7).iter().all(|step| step.at + step.lasts <= Duration::from_secs(600)));
    let one = draw(7, Duration::from_secs(600), Duration::from_secs(1), 24, Scope::OneProcess);
    assert!(!one.iter().any(|step| matches!(step.act, Act::Kill | Act::ClockStep { .. })), "{one:?}");
}
