//! The bounds of what waits, and that a commit is shared.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use greenroom::store::{Bounds, CommitReport, Embedded, Observer, Store, StoreError};

use super::key;

/// Holds up the store's thread at the end of a commit, until it is let go.
#[derive(Default)]
struct Brake {
    held: Mutex<bool>,
    changed: Condvar,
    commits: Mutex<Vec<CommitReport>>,
    arrived: AtomicUsize,
}

impl Brake {
    fn observer(self: &Arc<Self>) -> Observer {
        let brake = Arc::clone(self);
        Arc::new(move |report| {
            brake.commits.lock().unwrap().push(report);
            brake.arrived.fetch_add(1, Ordering::SeqCst);
            let mut held = brake.held.lock().unwrap();
            while *held {
                held = brake.changed.wait(held).unwrap();
            }
        })
    }

    fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.changed.notify_all();
    }

    /// Waits until the thread is held up.
    async fn arrival(&self, commits: usize) {
        let arrived = async {
            while self.arrived.load(Ordering::SeqCst) < commits {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), arrived).await.unwrap();
    }
}

fn store(bounds: Bounds) -> (tempfile::TempDir, Embedded, Arc<Brake>) {
    let (directory, brake) = (tempfile::tempdir().unwrap(), Arc::new(Brake::default()));
    let store = Embedded::open(&directory.path().join("store.redb"), bounds, brake.observer()).unwrap();
    (directory, store, brake)
}

/// Enough for a machine under load to begin a commit, and not too long to wait for.
const LATE: Duration = Duration::from_secs(1);
const PATIENT: Bounds = Bounds { queue: 8, group: 5, deadline: Duration::from_secs(60) };

#[tokio::test]
async fn what_comes_during_a_commit_shares_the_next_one_up_to_its_bound() {
    let (_directory, store, brake) = store(PATIENT);
    brake.hold(true);
    let first = store.put(key("first"), Bytes::new());
    brake.arrival(1).await;
    let rest: Vec<_> = (0..8).map(|number| store.put(key(&number.to_string()), Bytes::new())).collect();
    brake.hold(false);
    first.await.unwrap();
    for write in rest {
        write.await.unwrap();
    }
    let commits = brake.commits.lock().unwrap();
    let sizes: Vec<usize> = commits.iter().map(|report| report.batches).collect();
    assert_eq!(sizes, [1, 5, 3]);
    assert!(commits.iter().all(|report| report.succeeded && report.took > Duration::ZERO), "{commits:?}");
}

#[tokio::test]
async fn when_the_queue_is_full_a_request_is_refused_at_once_and_later_ones_are_taken_again() {
    let (_directory, store, brake) = store(PATIENT);
    brake.hold(true);
    let first = store.put(key("first"), Bytes::new());
    brake.arrival(1).await;
    let waiting: Vec<_> = (0..8).map(|number| store.put(key(&number.to_string()), Bytes::new())).collect();
    let refused = store.put(key("refused"), Bytes::new()).await.unwrap_err();
    assert_eq!(refused, StoreError::Busy { waiting: 8 });
    assert!(refused.is_transient() && !refused.may_be_written());
    brake.hold(false);
    first.await.unwrap();
    for write in waiting {
        write.await.unwrap();
    }
    store.put(key("later"), Bytes::new()).await.unwrap();
    assert_eq!(store.get(&key("refused")).await, Ok(None));
}

#[tokio::test]
async fn the_bytes_that_wait_are_bounded_too() {
    let (_directory, store, brake) = store(Bounds { queue: 1000, ..PATIENT });
    brake.hold(true);
    let first = store.put(key("first"), Bytes::new());
    brake.arrival(1).await;
    // The same bytes for all: the test needs no memory for what the store counts.
    let large = Bytes::from(vec![0; 500 * 1024]);
    let mut waiting = Vec::new();
    let refused = loop {
        assert!(waiting.len() < 200, "64 MiB are not the bound");
        waiting.push(store.put(key("large"), large.clone()));
        let last = waiting.last_mut().unwrap();
        if let Ok(answer) = tokio::time::timeout(Duration::ZERO, last).await {
            break answer.unwrap_err();
        }
    };
    assert!(matches!(refused, StoreError::Busy { .. }), "{refused}");
    assert_eq!(waiting.len(), 132);
    waiting.pop();
    brake.hold(false);
    first.await.unwrap();
    for write in waiting {
        write.await.unwrap();
    }
    store.put(key("large"), large).await.unwrap();
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_not_written() {
    let (directory, store, brake) = store(Bounds { deadline: LATE, ..PATIENT });
    brake.hold(true);
    let first = store.put(key("first"), Bytes::new());
    brake.arrival(1).await;
    let late = store.put(key("late"), Bytes::new());
    let error = late.await.unwrap_err();
    assert_eq!(error, StoreError::NoAnswer { after: LATE });
    assert!(error.is_transient() && error.may_be_written());
    drop(first);
    brake.hold(false);
    // Read by a store without haste, after all that waited was carried out.
    store.close().await.ok();
    drop(store);
    let path = directory.path().join("store.redb");
    let reopened = loop {
        match super::open(&path) {
            Err(greenroom::store::OpenError::Locked { .. }) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    assert_eq!(reopened.get(&key("late")).await, Ok(None));
    assert!(reopened.get(&key("first")).await.unwrap().is_some());
}
