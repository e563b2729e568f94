//! What is in the log beside the file only: a disk that fails, and a process that dies, at each step of its way.

use std::{cell::Cell, collections::BTreeMap, path::Path};

use futures_util::future::join;
use greenroom::store::{Batch, Embedded, Expect, Key, Prefix, Range, Revision, Store, StoreError};
use tempfile::TempDir;

use super::{
    World, fault, key,
    killed::{killed, log_length},
    mended, names, open, until,
};

/// Writes a logged batch.
async fn log(store: &dyn Store, name: &str) -> Result<(), StoreError> {
    store.commit(Batch::new().put(key(name), "1").logged()).await.map(drop)
}

/// As [`log`], where there is no such record.
async fn log_new(store: &dyn Store, name: &str) -> Result<(), StoreError> {
    let batch = Batch::new().only_if(key(name), Expect::Absent).put(key(name), "1");
    store.commit(batch.logged()).await.map(drop)
}

/// What whoever starts after a kill finds.
fn restarted(path: &Path) -> (TempDir, Embedded) {
    let (directory, to) = killed(path);
    let store = open(&to).unwrap();
    (directory, store)
}

#[tokio::test]
async fn a_log_that_cannot_be_written_costs_its_own_group_and_nothing_that_was_answered() {
    let (world, store) = World::with_store();
    let mut answered = Vec::new();
    for (number, (point, action, is_conditional)) in [
        ("store::log_write", "1*return(full)", false),
        ("store::log_write", "1*return(full)", true),
        ("store::log_tear", "1*return(full)", false),
        ("store::log_tear", "1*return(full)", true),
        ("store::log_tear", "1*return(broken)", false),
        ("store::log_write", "1*panic", false),
        ("store::log_write", "1*panic", true),
    ]
    .into_iter()
    .enumerate()
    {
        for part in 0..3 {
            let before = format!("{number}-before-{part}");
            log(&store, &before).await.unwrap();
            answered.push(before);
        }
        fault(point, action);
        let failed = format!("{number}-failed");
        let written =
            if is_conditional { log_new(&store, &failed).await } else { log(&store, &failed).await };
        let error = written.unwrap_err();
        assert!(error.is_transient(), "{point} {action}: {error}");
        assert!(error.may_be_written(), "{point} {action}: {error}");
        fail::remove(point);
        mended(&store).await;
        assert_eq!(names(&store).await, answered, "{point} {action}");
        let after = format!("{number}-then");
        log(&store, &after).await.unwrap();
        answered.push(after);
        assert_eq!(names(&restarted(&world.path).1).await, answered, "{point} {action}: after a kill");
    }
}

#[tokio::test]
async fn what_was_answered_from_the_log_outlives_a_sync_that_fails_and_the_process_with_it() {
    let (world, store) = World::with_store();
    store.put(key("a"), "1".into()).await.unwrap();
    fault("store::disk_sync", "return(broken)");
    log(&store, "b").await.unwrap();
    log(&store, "c").await.unwrap();
    until(|| store.trouble().map(drop).ok_or_else(|| "nothing was synced".to_owned())).await;
    // As long as the disk fails, the log stays; and a process that begins with it has everything.
    assert!(log_length(&world.path) > 0);
    assert!(log(&store, "d").await.is_err());
    store.close().await.unwrap();
    assert!(log_length(&world.path) > 0);
    fail::remove("store::disk_sync");
    assert_eq!(names(&open(&world.path).unwrap()).await, ["a", "b", "c"]);
    assert_eq!(log_length(&world.path), 0);
}

#[tokio::test]
async fn what_was_answered_from_the_log_outlives_a_database_that_does_not_take_it() {
    let (world, store) = World::with_store();
    let mut answered = Vec::new();
    // The first of three is taken when the second fails; none may be seen to be missing meanwhile, or twice afterwards.
    for (number, action) in ["1*off->1*return(broken)", "1*off->1*panic"].into_iter().enumerate() {
        for part in 0..3 {
            let name = format!("{number}-{part}");
            log(&store, &name).await.unwrap();
            answered.push(name);
        }
        fault("store::apply", action);
        assert_eq!(names(&store).await, answered, "{action}");
        until(|| store.trouble().map(drop).ok_or_else(|| "it was never applied".to_owned())).await;
        assert_eq!(names(&restarted(&world.path).1).await, answered, "{action}: after a kill");
        fail::remove("store::apply");
        mended(&store).await;
        assert_eq!(names(&store).await, answered, "{action}");
    }
    assert_eq!(names(&restarted(&world.path).1).await, answered);
}

#[tokio::test]
async fn a_sync_that_fails_under_a_running_store_costs_nothing_that_was_answered() {
    let (world, store) = World::with_store();
    log(&store, "a").await.unwrap();
    fault("store::disk_sync", "3*return(broken)");
    let error = store.put(key("b"), "1".into()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unsure { .. }), "{error}");
    mended(&store).await;
    let there = names(&store).await;
    assert!(there == ["a"] || there == ["a", "b"], "{there:?}");
    log(&store, "c").await.unwrap();
    assert_eq!(names(&restarted(&world.path).1).await.last().unwrap(), "c");
}

/// What there is, by the revisions of the records.
type State = BTreeMap<Key, Revision>;

/// Writes `batches` batches, of which each fourth is synced, so that it applies those before it; gives what there was after
/// each. `answered` is the latest that was answered.
async fn write_many(store: &dyn Store, batches: u64, answered: &Cell<u64>) -> Vec<State> {
    let mut states = vec![State::new()];
    for number in 1..=batches {
        let name = key(&format!("k/{}", number % 7));
        let mut state = states.last().cloned().unwrap();
        let batch = if number % 5 == 0 {
            state.remove(&name);
            Batch::new().delete(name)
        } else {
            state.insert(name.clone(), Revision(number));
            Batch::new().put(name, number.to_string())
        };
        let batch = if number % 4 == 0 { batch } else { batch.logged() };
        assert_eq!(store.commit(batch).await, Ok(Revision(number)));
        states.push(state);
        answered.set(number);
    }
    states
}

#[tokio::test]
async fn whoever_reads_while_what_is_in_the_log_is_applied_sees_all_as_it_was_at_one_moment() {
    const BATCHES: u64 = 1000;
    let (_world, store) = World::with_store();
    // Long enough for several batches to be written, and applied, in the middle of each look.
    fault("store::read_over", "sleep(4)");
    let answered = Cell::new(0);
    let (mut pages, mut records) = (Vec::new(), Vec::new());
    let reads = async {
        while answered.get() < BATCHES {
            let floor = answered.get();
            let page = store.list(&Range::first(Prefix::new("k/"))).await.unwrap();
            assert!(page.revision >= Revision(floor), "{floor} was answered, {} is read", page.revision);
            pages.push(page);
            let (name, floor) = (key(&format!("k/{}", floor % 7)), answered.get());
            let record = store.get(&name).await.unwrap();
            records.push((name, floor, record.map(|entry| entry.revision), answered.get()));
        }
    };
    let (states, ()) = join(write_many(&store, BATCHES, &answered), reads).await;
    let state = |revision: u64| &states[usize::try_from(revision).unwrap()];
    assert!(pages.len() > 10, "{} are few beside {BATCHES} batches", pages.len());
    for page in pages {
        let found: State = page.entries.into_iter().map(|entry| (entry.key, entry.revision)).collect();
        assert_eq!(&found, state(page.revision.0), "at {}", page.revision);
    }
    for (name, floor, found, ceiling) in records {
        // One more may have been written, and its answer not read.
        let might =
            (floor..=(ceiling + 1).min(BATCHES)).any(|revision| state(revision).get(&name).copied() == found);
        assert!(might, "{name} was {found:?} between {floor} and {ceiling}");
    }
    fail::remove("store::read_over");
}

#[tokio::test]
async fn what_is_refused_is_refused_whatever_the_disk_does() {
    let (_world, store) = World::with_store();
    log(&store, "a").await.unwrap();
    fault("store::begin", "return(full)");
    let again = Batch::new().only_if(key("a"), Expect::Absent).put(key("a"), "2");
    let error = store.commit(again).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    assert_eq!(store.trouble(), None);
    fail::remove("store::begin");
    store.put(key("b"), "1".into()).await.unwrap();
    assert_eq!(names(&store).await, ["a", "b"]);
}

#[tokio::test]
async fn a_log_that_is_not_cut_after_a_sync_is_passed_over() {
    let (world, store) = World::with_store();
    let lengths = async |name: &str| {
        let before = log_length(&world.path);
        log(&store, name).await.unwrap();
        (before, log_length(&world.path))
    };
    fault("store::log_cut", "return(broken)");
    assert_eq!(lengths("a").await.0, 0);
    store.put(key("b"), "1".into()).await.unwrap();
    // Cut by nobody, and written on behind what it has: both a kill now and one later find everything once.
    let (before, after) = lengths("c").await;
    assert!(before > 0 && after > before, "{before} {after}");
    assert!(store.trouble().is_none());
    let revision = store.get(&key("a")).await.unwrap().unwrap().revision;
    store.commit(Batch::new().delete(key("b"))).await.unwrap();
    fail::remove("store::log_cut");
    let (_left, again) = restarted(&world.path);
    assert_eq!(names(&again).await, ["a", "c"]);
    assert_eq!(again.get(&key("a")).await.unwrap().unwrap().revision, revision);
    store.put(key("d"), "1".into()).await.unwrap();
    assert_eq!(log_length(&world.path), 0);
}

#[tokio::test]
async fn a_log_that_cannot_be_cut_keeps_a_store_from_opening_and_its_content() {
    let (world, store) = World::with_store();
    log(&store, "a").await.unwrap();
    fault("store::disk_sync", "return(broken)");
    store.close().await.unwrap();
    fail::remove("store::disk_sync");
    fault("store::log_cut", "return(denied)");
    let error = open(&world.path).map(drop).unwrap_err();
    assert!(error.to_string().contains("cannot be cut"), "{error}");
    fail::remove("store::log_cut");
    assert_eq!(names(&open(&world.path).unwrap()).await, ["a"]);
}
