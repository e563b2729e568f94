//! A journal over a disk that fails at command.

use std::sync::OnceLock;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::*;
use crate::{
    events::Bus,
    recovery::{
        Lifecycle, Moment,
        lifecycle::{Hold, Standing},
    },
    session::{Origin, SessionSpec, Snapshot},
    store::{
        disk::{Disk, Health},
        records::{Desired, UnixMillis},
    },
    telemetry::Metrics,
};

struct Desk {
    disk: Arc<Disk>,
    journal: Journal,
}

impl Desk {
    fn new() -> Self {
        let (disk, records) = Disk::with_records();
        let chronicle = Chronicle::new(Bus::default(), records.clone(), Arc::new(Metrics::new(1)));
        let journal = Journal::new(records, chronicle);
        tokio::spawn(journal.clone().run());
        Self { disk, journal }
    }

    fn note(&self, entry: &Arc<SessionEntry>, standing: Standing) {
        self.journal.note(entry, Remembered { standing, ..Remembered::new() });
    }

    async fn kept(&self, entry: &SessionEntry) -> Option<Desired> {
        self.journal.records().session(&entry.id).await.unwrap().map(|kept| kept.record.desired)
    }

    fn commits(&self) -> usize {
        self.disk.commits()
    }
}

fn entry(id: &str) -> Arc<SessionEntry> {
    Arc::new(SessionEntry {
        id: id.into(),
        tenant: "acme".into(),
        origin: ArcSwap::from_pointee(Origin::Api),
        is_pooled: false,
        created_at: Moment::ZERO,
        spec: ArcSwap::from_pointee(SessionSpec::for_avatar("a")),
        address: ArcSwapOption::empty(),
        thread: OnceLock::new(),
        snapshot: ArcSwap::from_pointee(Snapshot::of(&Lifecycle::new(Arc::default()), Moment::ZERO)),
    })
}

#[tokio::test]
async fn what_is_settled_is_what_was_noted_last() {
    let desk = Desk::new();
    let session = entry("ses_1");
    desk.journal.settled(&session.id).await.unwrap();
    assert_eq!(desk.commits(), 0, "nothing was to be written");
    desk.note(&session, Standing::Parked(Hold::Operator));
    desk.note(&session, Standing::Failed);
    // While this is being written the next one comes.
    let first = desk.journal.settled(&session.id);
    tokio::pin!(first);
    tokio::select! {
        _ = &mut first => panic!("settled before it is written"),
        () = tokio::time::sleep(Duration::from_millis(1)) => {}
    }
    desk.note(&session, Standing::Dormant);
    first.await.unwrap();
    assert_eq!(desk.kept(&session).await, Some(Desired::Dormant));
    assert_eq!(desk.commits(), 2);
    desk.journal.remove(&session.id, None);
    desk.journal.settled(&session.id).await.unwrap();
    assert_eq!(desk.kept(&session).await, None);
}

#[tokio::test]
async fn a_failure_is_told_to_whoever_waits_and_made_good_when_the_disk_is_back() {
    let desk = Desk::new();
    let session = entry("ses_1");
    desk.disk.becomes(Health::Full);
    desk.note(&session, Standing::Failed);
    let error = desk.journal.settled(&session.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert_eq!(desk.journal.flush().await, 1);
    // It is tried again, but not in a loop.
    let began = std::time::Instant::now();
    while desk.commits() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(began.elapsed() > TRY_AGAIN, "{:?}", began.elapsed());
    desk.disk.becomes(Health::Well);
    // What is under way may still fail; the next does not.
    let failures = [desk.journal.flush().await, desk.journal.flush().await];
    assert_eq!(failures[1], 0, "{failures:?}");
    assert_eq!(desk.kept(&session).await, Some(Desired::Failed));
}

#[tokio::test]
async fn a_storm_of_changes_is_a_few_commits() {
    let desk = Desk::new();
    let sessions: Vec<_> = (0..500).map(|number| entry(&format!("ses_{number}"))).collect();
    for session in &sessions {
        desk.note(session, Standing::Run);
    }
    for _ in 0..50 {
        for session in &sessions {
            desk.note(session, Standing::Failed);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(desk.journal.flush().await, 0);
    assert!(desk.commits() < 100, "{} commits for 25,000 changes", desk.commits());
    for session in &sessions {
        assert_eq!(desk.kept(session).await, Some(Desired::Failed));
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_kept_holds_no_other_up() {
    let desk = Desk::new();
    let (secret, plain) = (entry("ses_1"), entry("ses_2"));
    let spec = serde_json::from_str(
        r#"{"avatar_id": "a", "egress": {"type": "agora", "channel_name": "c", "token": "hush"}}"#,
    );
    secret.spec.store(Arc::new(spec.unwrap()));
    desk.note(&secret, Standing::Failed);
    desk.note(&plain, Standing::Failed);
    let error = desk.journal.settled(&secret.id).await.unwrap_err();
    assert!(matches!(error, StoreError::NoEncryptionKey { .. }), "{error}");
    desk.journal.settled(&plain.id).await.unwrap();
    assert_eq!(desk.kept(&plain).await, Some(Desired::Failed));
    assert_eq!(desk.journal.flush().await, 0);
}

#[tokio::test]
async fn only_a_batch_of_nothing_but_outcomes_does_not_wait_for_the_disk() {
    let desk = Desk::new();
    let session = entry("ses_1");
    let outcome = |req_id: &str| {
        let ended =
            RequestRecord { req_id: req_id.to_owned(), accepted_at: UnixMillis(0), process: None, end: None };
        desk.journal.note_request(&session.id, ended, true);
    };
    outcome("req_1");
    outcome("req_2");
    desk.journal.settled_request(&session.id, "req_2").await.unwrap();
    assert_eq!((desk.commits(), desk.disk.synced()), (1, 0));
    // Both are noted before the journal comes to write either.
    outcome("req_3");
    desk.note(&session, Standing::Failed);
    desk.journal.settled(&session.id).await.unwrap();
    desk.journal.settled_request(&session.id, "req_3").await.unwrap();
    assert_eq!((desk.commits(), desk.disk.synced()), (2, 1));
    desk.journal.remove(&session.id, None);
    desk.journal.settled(&session.id).await.unwrap();
    assert_eq!(desk.disk.synced(), 2, "the session is gone for good");
}

fn ended(req_id: &str) -> RequestRecord {
    RequestRecord { req_id: req_id.to_owned(), accepted_at: UnixMillis(0), process: None, end: None }
}

impl Desk {
    /// A journal whose own writer does not run.
    fn without_writer() -> Self {
        let (disk, records) = Disk::with_records();
        let chronicle = Chronicle::new(Bus::default(), records.clone(), Arc::new(Metrics::new(1)));
        Self { disk, journal: Journal::new(records, chronicle) }
    }

    async fn has(&self, session: &SessionEntry, req_id: &str) -> bool {
        self.journal.records().request(&session.id, req_id).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn an_outcome_that_somebody_waits_for_does_not_come_by_the_journal() {
    let desk = Desk::without_writer();
    let session = entry("ses_1");
    let written = desk.journal.write_request(&session.id, ended("req_1"), false);
    assert_eq!(desk.commits(), 1, "it is begun before anybody waits");
    written.done().await.unwrap();
    assert!(desk.has(&session, "req_1").await);
    desk.journal.settled_request(&session.id, "req_1").await.unwrap();
    assert_eq!((desk.commits(), desk.disk.synced()), (1, 0));
}

#[tokio::test]
async fn whoever_asks_for_an_outcome_that_is_being_written_hears_what_became_of_it() {
    let desk = Desk::without_writer();
    let session = entry("ses_1");
    for (health, is_written) in [(Health::Full, false), (Health::Well, true)] {
        desk.disk.becomes(health);
        let written = desk.journal.write_request(&session.id, ended("req_1"), false);
        let (first, second) =
            tokio::join!(desk.journal.settled_request(&session.id, "req_1"), written.done());
        assert_eq!((first.is_ok(), second.is_ok()), (is_written, is_written));
    }
    assert_eq!(desk.commits(), 2);
}

#[tokio::test]
async fn what_its_waiter_could_not_or_did_not_write_is_left_to_the_journal() {
    let desk = Desk::new();
    let session = entry("ses_1");
    desk.disk.becomes(Health::Full);
    let error = desk.journal.write_request(&session.id, ended("req_1"), false).done().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    // Begun on a disk that takes nothing, and given up before that is known.
    drop(desk.journal.write_request(&session.id, ended("req_2"), false));
    desk.disk.becomes(Health::Well);
    let failures = [desk.journal.flush().await, desk.journal.flush().await];
    assert_eq!(failures[1], 0, "{failures:?}");
    assert!(desk.has(&session, "req_1").await && desk.has(&session, "req_2").await);
}

#[tokio::test]
async fn an_outcome_that_is_being_written_is_not_left_behind_by_the_removal_of_its_session() {
    let desk = Desk::new();
    let session = entry("ses_1");
    desk.note(&session, Standing::Run);
    desk.journal.settled(&session.id).await.unwrap();
    let written = desk.journal.write_request(&session.id, ended("req_1"), false);
    desk.journal.remove(&session.id, None);
    let (written, removed) = tokio::join!(written.done(), desk.journal.settled(&session.id));
    written.unwrap();
    removed.unwrap();
    assert_eq!(desk.kept(&session).await, None);
    assert!(!desk.has(&session, "req_1").await, "its request is still there");
}

#[tokio::test]
async fn a_storm_of_awaited_outcomes_does_not_fill_the_queue_of_the_store() {
    let desk = Desk::new();
    let session = entry("ses_1");
    let writes: Vec<_> = (0..5000)
        .map(|number| desk.journal.write_request(&session.id, ended(&format!("req_{number}")), false))
        .collect();
    for written in futures_util::future::join_all(writes.into_iter().map(OutcomeWrite::done)).await {
        written.unwrap();
    }
    assert!((1..500).contains(&desk.commits()), "{} commits for 5000 outcomes", desk.commits());
    for number in [0, 255, 256, 4999] {
        assert!(desk.has(&session, &format!("req_{number}")).await, "{number}");
    }
}

#[tokio::test]
async fn an_outcome_for_which_nobody_waits_lingers_and_is_written() {
    let desk = Desk::new();
    let session = entry("ses_1");
    for number in 0..10 {
        desk.journal.note_request(&session.id, ended(&format!("req_{number}")), false);
        tokio::task::yield_now().await;
    }
    assert_eq!(desk.commits(), 0, "it waits for others");
    assert_eq!(desk.journal.flush().await, 0);
    assert_eq!(desk.commits(), 1);
    for number in 0..10 {
        assert!(desk.has(&session, &format!("req_{number}")).await);
    }
    // And without anybody who asks.
    desk.journal.note_request(&session.id, ended("req_10"), false);
    while !desk.has(&session, "req_10").await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
