//! Replays what the fuzzers found, and what they began with, on a stable compiler. Needs `--features fuzzing`.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its subject has failed")]

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use greenroom::fuzz::TARGETS;

/// An input takes microseconds; this is for a machine that does everything else too.
const DEADLINE: Duration = Duration::from_secs(10);
/// A corpus that grows without bound is nobody's to read.
const MOST: usize = 200;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&corpus()), targets);
    let harnesses = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let harnesses: BTreeSet<String> =
        names(&harnesses).iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(harnesses, targets);
}

#[test]
fn nothing_of_the_corpus_panics_or_hangs() {
    for &(target, body) in TARGETS {
        let inputs = names(&corpus().join(target));
        assert!((3..=MOST).contains(&inputs.len()), "{target} has {} inputs", inputs.len());
        for name in inputs {
            let input = fs::read(corpus().join(target).join(&name)).unwrap();
            let (done, finished) = mpsc::channel();
            thread::spawn(move || done.send(catch_unwind(|| body(&input)).is_ok()));
            match finished.recv_timeout(DEADLINE) {
                Ok(true) => {}
                Ok(false) => panic!("{target}/{name} panics"),
                Err(_) => panic!("{target}/{name} hangs"),
            }
        }
    }
}
