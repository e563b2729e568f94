//! What the store costs: printed, and held to bounds far above what was seen.

use std::{env, path::Path, process::Command, sync::Arc, time::Instant};

use bytes::Bytes;
use greenroom::store::{Batch, Prefix, Range, Store};

use super::{key, open};

const PATH: &str = "GREENROOM_TEST_STORE";

/// Resident memory of this process in MiB.
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

async fn commits_per_second(writers: usize, total: usize) -> f64 {
    // Beside the build and not in /tmp, which may be memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store: Arc<dyn Store> = Arc::new(open(&directory.path().join("store.redb")).unwrap());
    let started = Instant::now();
    let writers = (0..writers).map(|writer| {
        let store = Arc::clone(&store);
        let each = total / writers;
        async move {
            for number in 0..each {
                let name = key(&format!("s/{:03x}/ses_{writer}_{number}", number % 1024));
                store.put(name, Bytes::from(vec![b'x'; 600])).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let taken = started.elapsed();
    store.close().await.unwrap();
    total as f64 / taken.as_secs_f64()
}

#[tokio::test]
#[ignore = "measures; for a release build on a quiet machine"]
async fn commits_a_second_are_measured_with_1_16_and_256_writers() {
    let mut rates = Vec::new();
    for (writers, total) in [(1, 500), (16, 4096), (256, 16_384)] {
        let rate = commits_per_second(writers, total).await;
        println!("{writers:>4} writers: {rate:.0} commits a second");
        rates.push(rate);
    }
    assert!(rates[2] > 2.0 * rates[0], "a sync is not shared: {rates:?}");
}

#[tokio::test]
#[ignore = "measures; for a release build on a quiet machine"]
async fn opening_and_reading_10_000_sessions_is_measured() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("store.redb");
    let store = open(&path).unwrap();
    for chunk in 0..100 {
        let batch = (0..100).fold(Batch::new(), |batch, at| {
            let number = chunk * 100 + at;
            batch.put(key(&format!("s/{:03x}/ses_{number:026}", number % 1024)), vec![b'x'; 1000])
        });
        store.commit(batch).await.unwrap();
    }
    store.close().await.unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "figures::the_child_opens_and_reads", "--ignored", "--nocapture"])
        .env(PATH, &path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    println!("{}", told.lines().find(|line| line.contains("sessions")).unwrap());
}

#[tokio::test]
#[ignore = "runs as a process of its own, whose memory is nobody else's"]
async fn the_child_opens_and_reads() {
    let path = env::var_os(PATH).expect("run by the test beside it");
    let path = Path::new(&path);
    let before = resident_mib();
    let started = Instant::now();
    let store = open(path).unwrap();
    let opened = started.elapsed();
    let (mut range, mut read) = (Range::first(Prefix::new("s/")), 0);
    loop {
        let page = store.list(&range).await.unwrap();
        read += page.entries.len();
        match page.next {
            Some(next) => range.after = Some(next),
            None => break,
        }
    }
    let (taken, after) = (started.elapsed(), resident_mib());
    let size = std::fs::metadata(path).unwrap().len() / 1024;
    println!("{read} sessions, {size} KiB: open {opened:?}, with reading {taken:?}, {before} to {after} MiB");
    assert_eq!(read, 10_000);
    assert!(taken.as_secs() < 5 && after < 200);
}
