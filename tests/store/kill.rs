//! A process that writes as fast as it can is killed at a random moment, again and again: every batch that it was
//! told is written is there as a whole, and of the one that it was not told of, all is there or nothing.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use greenroom::store::{Batch, Expect, Revision, Store};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{everything, key, open};

const PATH: &str = "GREENROOM_TEST_STORE";
const ROUNDS: usize = 50;
const WRITERS: usize = 16;
/// A writer's records are deleted when they are this many batches old.
const KEPT: u64 = 5;
/// One batch of so many is synced, a different one for each writer.
const SYNCED: u64 = 40;

/// The records of a batch: two that must be there together, with values that cannot be mixed up.
fn batch(writer: usize, number: u64, counter: Expect) -> Batch {
    let names =
        |number: u64| [key(&format!("a/{writer}/{number:08}")), key(&format!("b/{writer}/{number:08}"))];
    let [a, b] = names(number);
    let length = usize::try_from(number * 37 % 1500).unwrap();
    let counter_key = key(&format!("c/{writer}"));
    let batch = Batch::new()
        .only_if(counter_key.clone(), counter)
        .put(counter_key, number.to_string())
        .put(a, format!("{number} {}", "a".repeat(length)))
        .put(b, format!("{number} {}", "b".repeat(length)));
    let batch = match number.checked_sub(KEPT) {
        Some(old) => names(old).into_iter().fold(batch, Batch::delete),
        None => batch,
    };
    // All that is written is logged, but for one batch in so many, which is synced and takes the others along.
    let is_synced = number % SYNCED == writer as u64;
    if is_synced { batch } else { batch.logged() }
}

/// Where a writer stands: the batches that are there, and the revision of its counter.
async fn standing(store: &dyn Store, writer: usize) -> (u64, Expect) {
    match store.get(&key(&format!("c/{writer}"))).await.unwrap() {
        None => (0, Expect::Absent),
        Some(entry) => {
            let last: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
            (last + 1, Expect::At(entry.revision))
        }
    }
}

async fn write_for_ever(store: &dyn Store, writer: usize) {
    let (mut number, mut counter) = standing(store, writer).await;
    loop {
        let revision: Revision = store.commit(batch(writer, number, counter)).await.unwrap();
        // One write for each line, or a line could be cut in two by another writer's.
        std::io::stdout().write_all(format!("\n{writer} {number}\n").as_bytes()).unwrap();
        (number, counter) = (number + 1, Expect::At(revision));
    }
}

#[test]
#[ignore = "runs as the child that is killed"]
fn the_child_writes_until_it_is_killed() {
    let path = env::var_os(PATH).expect("run by the test beside it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&path)).unwrap();
        let writers = (0..WRITERS).map(|writer| Box::pin(write_for_ever(&store, writer)));
        futures_util::future::join_all(writers).await;
    });
}

/// Killed at the latest when the test ends.
struct Victim(Child);

impl Victim {
    fn kill(&mut self) {
        // Fails where it is dead already.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(path: &Path) -> (Victim, Receiver<(usize, u64)>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "kill::the_child_writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, receiver) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let told = line
                .split_once(' ')
                .and_then(|(writer, number)| Some((writer.parse().ok()?, number.parse().ok()?)));
            if let Some(told) = told {
                // The test may have failed and gone.
                let _ = sender.send(told);
            }
        }
    });
    (Victim(child), receiver)
}

#[tokio::test]
async fn a_process_that_is_killed_loses_nothing_that_it_was_told_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let seed = env::var("GREENROOM_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("GREENROOM_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    let (mut told, mut unfinished) = ([0_u64; WRITERS], 0);
    for round in 0..ROUNDS {
        let (mut child, receiver) = start(&path);
        // Some are killed while they open the file, most while they write.
        let moment = Duration::from_micros(random.random_range(0..60_000));
        if round % 10 != 0 {
            let (writer, number) = receiver.recv_timeout(Duration::from_secs(30)).unwrap();
            told[writer] = told[writer].max(number + 1);
        }
        thread::sleep(moment);
        child.kill();
        for (writer, number) in receiver {
            told[writer] = told[writer].max(number + 1);
        }
        let store = open(&path).unwrap();
        for (writer, told) in told.iter_mut().enumerate() {
            let (there, _) = standing(&store, writer).await;
            assert!(
                there == *told || there == *told + 1,
                "writer {writer} was told of {told}, there are {there}"
            );
            unfinished += usize::from(there > *told);
            *told = there;
            check(&store, writer, there).await;
        }
        store.close().await.unwrap();
    }
    let batches: u64 = told.iter().sum();
    println!("{batches} batches, {unfinished} written untold, {:?}", started.elapsed());
    assert!(batches > 2 * ROUNDS as u64, "only {batches} batches were written");
}

/// That exactly the latest records of a writer are there, as they were written.
async fn check(store: &dyn Store, writer: usize, there: u64) {
    for letter in ["a", "b"] {
        let entries = everything(store, &format!("{letter}/{writer}/")).await.entries;
        let found: Vec<(String, Vec<u8>)> =
            entries.iter().map(|entry| (entry.key.to_string(), entry.value.to_vec())).collect();
        let expected: Vec<(String, Vec<u8>)> = (there.saturating_sub(KEPT)..there)
            .map(|number| {
                let text = letter.repeat(usize::try_from(number * 37 % 1500).unwrap());
                (format!("{letter}/{writer}/{number:08}"), format!("{number} {text}").into_bytes())
            })
            .collect();
        assert!(found == expected, "writer {writer}: {found:?} instead of {expected:?}");
    }
}
