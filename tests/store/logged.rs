//! What is answered before the disk has it: read at once, kept through the death of the process, and in a log beside
//! the file that belongs to it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use greenroom::store::{Batch, Expect, OpenError, Revision, Store};

use super::{
    everything, key,
    killed::{killed, log_length, log_of},
    open,
};

fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let log = log_of(&path);
    (directory, path, log)
}

fn logged(name: &str) -> Batch {
    Batch::new().put(key(name), "1").logged()
}

#[tokio::test]
async fn a_logged_batch_is_read_at_once_under_its_revision_and_decides_conditions() {
    let (_directory, path, _) = place();
    let store = open(&path).unwrap();
    for number in 1..100 {
        let name = format!("k/{number:03}");
        assert_eq!(store.commit(logged(&name)).await, Ok(Revision(number)));
        assert_eq!(store.get(&key(&name)).await.unwrap().unwrap().revision, Revision(number));
        assert_eq!(everything(&store, "k/").await.entries.len(), usize::try_from(number).unwrap());
        let again = logged(&name).only_if(key(&name), Expect::Absent);
        assert!(store.commit(again).await.is_err(), "{number} was written twice");
    }
}

#[tokio::test]
async fn what_is_in_the_log_is_applied_once_by_whoever_opens_the_file_after_a_kill() {
    let (_directory, path, _) = place();
    let store = open(&path).unwrap();
    store.put(key("synced"), "1".into()).await.unwrap();
    let started = Instant::now();
    // The log may just have been cut where the machine is slow: until it is there.
    let killed = loop {
        store.commit(logged("logged")).await.unwrap();
        if log_length(&path) > 0 {
            let killed = killed(&path);
            if log_length(&path) > 0 {
                break killed;
            }
        }
        assert!(started.elapsed() < Duration::from_secs(30), "nothing is in the log");
    };
    let (_left, path) = killed;
    assert!(log_length(&path) > 0, "nothing is in the log");
    let revision = everything(&store, "").await.revision;
    for _ in 0..2 {
        let again = open(&path).unwrap();
        let page = everything(&again, "").await;
        assert_eq!((page.revision, page.entries), (revision, everything(&store, "").await.entries));
        assert_eq!(log_length(&path), 0);
        again.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_in_the_log_is_on_the_disk_soon_and_at_the_end_at_once() {
    let (_directory, path, log) = place();
    let store = open(&path).unwrap();
    assert!(!log.exists(), "a store that needs none has a log");
    store.commit(logged("a")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&log), mode(&path)), (0o600, 0o600));
    let started = Instant::now();
    while log_length(&path) > 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "still in the log only");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.commit(logged("b")).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(log_length(&path), 0);
    fs::remove_file(&log).unwrap();
    assert_eq!(everything(&open(&path).unwrap(), "").await.entries.len(), 2);
}

#[tokio::test]
async fn a_store_has_the_same_log_by_whatever_name_it_is_opened() {
    let (directory, path, log) = place();
    open(&path).unwrap().close().await.unwrap();
    let link = directory.path().join("link.redb");
    symlink(&path, &link).unwrap();
    let store = open(&link).unwrap();
    store.commit(logged("a")).await.unwrap();
    assert!(log.exists());
    assert!(!directory.path().join("link.redb.log").exists());
}

#[tokio::test]
async fn a_log_that_is_none_or_a_newer_ones_is_refused_and_both_files_are_left_alone() {
    let (_directory, path, log) = place();
    let store = open(&path).unwrap();
    store.put(key("a"), "1".into()).await.unwrap();
    store.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    let newer = [&b"greenroom redo\x1A\x0A"[..], &2_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
    for (content, is_newer) in [(&b"A page of text, and no log at all."[..], false), (&newer, true)] {
        fs::write(&log, content).unwrap();
        let error = open(&path).map(drop).unwrap_err();
        assert!(error.to_string().contains("store.redb.log"), "{error}");
        let is_foreign = matches!(error, OpenError::NotAStore { .. });
        let is_told_newer = matches!(error, OpenError::Newer { found: 2, known: 1, .. });
        assert_eq!((is_foreign, is_told_newer), (!is_newer, is_newer), "{error}");
        assert!(fs::read(&path).unwrap() == before && fs::read(&log).unwrap() == content);
    }
    fs::remove_file(&log).unwrap();
    assert_eq!(everything(&open(&path).unwrap(), "").await.entries.len(), 1);
}

#[test]
fn a_log_whose_store_is_missing_is_not_thrown_away_with_a_new_store() {
    let (_directory, path, log) = place();
    fs::write(&log, "what follows on the store").unwrap();
    let error = open(&path).map(drop).unwrap_err();
    assert!(error.to_string().contains("it is missing"), "{error}");
    assert!(!path.exists() && log_length(&path) > 0);
    fs::remove_file(&log).unwrap();
    open(&path).unwrap();
}
