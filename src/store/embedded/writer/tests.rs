//! Processes that die at any moment, as what they leave: the file and its log, each as it was before or after a step.

use std::{collections::BTreeMap, fs, path::Path, path::PathBuf, sync::RwLock};

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::{Durability, Entry, Expect, Key, Prefix, Range};

fn writer(path: &Path) -> Writer {
    let mut file = StoreFile::lock(path).unwrap();
    let (database, latest) = file.open().unwrap();
    let unapplied = Unapplied::default();
    unapplied.applied(latest);
    Writer {
        file,
        shared: Arc::new(Shared(RwLock::new(Condition::Open(database)))),
        unapplied: Arc::new(unapplied),
        waiting: Arc::default(),
        hub: Arc::new(Hub::new()),
        bounds: Bounds::default(),
        observer: Arc::new(|_| {}),
    }
}

/// Commits a group, as the thread would, and gives what each of its batches was answered.
fn commit(writer: &mut Writer, group: Vec<Batch>) -> Vec<Result<Revision, StoreError>> {
    let (requests, answers): (Vec<_>, Vec<_>) = group
        .into_iter()
        .map(|batch| {
            let (answer, answered) = oneshot::channel();
            (Request { batch, queued: Instant::now(), answer }, answered)
        })
        .unzip();
    assert!(writer.commit(requests), "the store failed");
    answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect()
}

/// All entries, which are the same however they are read: at once, one by one, and by their keys.
fn entries(writer: &Writer) -> Vec<Entry> {
    entries_at(writer, writer.unapplied.latest())
}

/// The same, of which all are as of `revision`.
fn entries_at(writer: &Writer, revision: Revision) -> Vec<Entry> {
    let mut all = Range::first(Prefix::new(""));
    let unapplied = &writer.unapplied;
    writer
        .shared
        .with(|database| {
            let page = table::list(database, unapplied, &all).unwrap();
            assert_eq!(page.revision, revision);
            all.limit = 1;
            for entry in &page.entries {
                assert_eq!(table::get(database, unapplied, &entry.key).unwrap().as_ref(), Some(entry));
                let next = table::list(database, unapplied, &all).unwrap().entries;
                assert_eq!(next.first(), Some(entry));
                all.after = Some(entry.key.clone());
            }
            assert_eq!(table::list(database, unapplied, &all).unwrap().entries, []);
            for key in (0..5).map(|number| Key::new(format!("k/{number}"))) {
                let is_listed = page.entries.iter().any(|entry| entry.key == key);
                assert_eq!(table::get(database, unapplied, &key).unwrap().is_some(), is_listed);
            }
            page.entries
        })
        .unwrap()
}

fn log_of(path: &Path) -> PathBuf {
    path.with_extension("redb.log")
}

/// The bytes of a file and of its log.
#[derive(Clone)]
struct Image {
    store: Vec<u8>,
    log: Vec<u8>,
}

impl Image {
    fn of(path: &Path) -> Self {
        Self { store: fs::read(path).unwrap(), log: fs::read(log_of(path)).unwrap_or_default() }
    }

    /// What a process finds that starts with this.
    fn start(&self) -> (TempDir, PathBuf, Writer) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        fs::write(&path, &self.store).unwrap();
        fs::write(log_of(&path), &self.log).unwrap();
        let writer = writer(&path);
        (directory, path, writer)
    }
}

#[derive(Clone, Copy, Debug)]
enum Guess {
    Anything,
    Absent,
    Current,
    Stale,
}

#[derive(Clone, Debug)]
struct Op {
    key: u8,
    /// None deletes.
    value: Option<u16>,
    guess: Guess,
    durability: Durability,
}

/// When the process dies that carries out a step.
#[derive(Clone, Copy, Debug)]
enum Death {
    None,
    /// After the answer.
    Answered,
    /// In the middle of the write to the log, after so many 256ths of it; or after the sync and before the cut.
    Unanswered(u8),
    /// After the write to the log, with nothing else of the step.
    Logged,
}

#[derive(Clone, Debug)]
enum Step {
    Group(Vec<Op>, Death),
    Flush(Death),
}

fn death() -> impl Strategy<Value = Death> {
    prop_oneof![
        3 => Just(Death::None),
        1 => Just(Death::Answered),
        2 => any::<u8>().prop_map(Death::Unanswered),
        1 => Just(Death::Logged),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let guess = prop_oneof![
        3 => Just(Guess::Anything),
        1 => Just(Guess::Absent),
        2 => Just(Guess::Current),
        1 => Just(Guess::Stale),
    ];
    let durability = prop_oneof![6 => Just(Durability::Logged), 1 => Just(Durability::Synced)];
    (0..5_u8, prop::option::weighted(0.8, 0..3000_u16), guess, durability)
        .prop_map(|(key, value, guess, durability)| Op { key, value, guess, durability })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::collection::vec(op(), 1..4), death()).prop_map(|(group, death)| Step::Group(group, death)),
        1 => death().prop_map(Step::Flush),
    ]
}

/// What there is, as it was answered.
#[derive(Clone, Debug, Default)]
struct Model {
    records: BTreeMap<Key, Entry>,
    revision: Revision,
}

impl Model {
    fn batch(&self, op: &Op) -> Batch {
        let key = Key::new(format!("k/{}", op.key));
        let current = self.records.get(&key).map(|entry| entry.revision);
        let batch = match op.guess {
            Guess::Anything => Batch::new(),
            Guess::Absent => Batch::new().only_if(key.clone(), Expect::Absent),
            Guess::Current => Batch::new().only_if(key.clone(), current.map_or(Expect::Absent, Expect::At)),
            Guess::Stale => Batch::new().only_if(key.clone(), Expect::At(Revision(self.revision.0 + 9))),
        };
        let batch = match op.value {
            Some(length) => batch.put(key, vec![op.key; usize::from(length)]),
            None => batch.delete(key),
        };
        if op.durability == Durability::Logged { batch.logged() } else { batch }
    }

    fn commit(&mut self, batch: &Batch) -> Result<Revision, StoreError> {
        let found = |key: &Key| Ok::<_, StoreError>(self.records.get(key).map(|entry| entry.revision));
        if let Some(conflict) = batch.conflict(found)? {
            return Err(conflict);
        }
        self.revision = Revision(self.revision.0 + 1);
        for (key, change) in batch.changes() {
            match change {
                crate::store::Change::Put(value) => {
                    let entry = Entry { key: key.clone(), revision: self.revision, value: value.clone() };
                    self.records.insert(key.clone(), entry);
                }
                crate::store::Change::Delete => {
                    self.records.remove(key);
                }
            }
        }
        Ok(self.revision)
    }

    fn entries(&self) -> Vec<Entry> {
        self.records.values().cloned().collect()
    }
}

/// What a process left that died at this moment of a step, and whether the step is in it; `None` where the step has
/// no such moment.
fn left(death: Death, before: &Image, after: &Image) -> Option<(Image, bool)> {
    let is_logged = after.log.len() > before.log.len();
    let image = |store: &Image, log: &[u8]| Image { store: store.store.clone(), log: log.to_vec() };
    match death {
        Death::None => None,
        Death::Answered => Some((after.clone(), true)),
        Death::Unanswered(part) if is_logged => {
            let torn = (after.log.len() - before.log.len()) * usize::from(part) / 256;
            Some((image(after, after.log.split_at(before.log.len() + torn).0), false))
        }
        Death::Unanswered(_) => Some((image(after, &before.log), true)),
        Death::Logged => is_logged.then(|| (image(before, &after.log), true)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_process_that_dies_at_any_moment_leaves_what_it_answered_and_nothing_that_it_refused(
        steps in prop::collection::vec(step(), 1..16),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let mut world = (directory, path.clone(), writer(&path));
        let mut model = Model::default();
        for step in steps {
            let (before, earlier) = (Image::of(&world.1), model.clone());
            let death = match step {
                Step::Group(ops, death) => {
                    // Each of a group expects what was there before the group.
                    let batches: Vec<Batch> = ops.iter().map(|op| model.batch(op)).collect();
                    let expected: Vec<_> = batches.iter().map(|batch| model.commit(batch)).collect();
                    prop_assert_eq!(commit(&mut world.2, batches), expected);
                    death
                }
                Step::Flush(death) => {
                    prop_assert!(world.2.flush());
                    prop_assert!(world.2.unapplied.all().is_empty(), "what was applied is still held");
                    prop_assert!(Image::of(&world.1).log.is_empty());
                    death
                }
            };
            prop_assert_eq!(entries_at(&world.2, model.revision), model.entries());
            if let Some((image, is_in_it)) = left(death, &before, &Image::of(&world.1)) {
                if !is_in_it {
                    model = earlier;
                }
                world = image.start();
                prop_assert_eq!(entries_at(&world.2, model.revision), model.entries());
                prop_assert!(Image::of(&world.1).log.is_empty(), "the log was not cut");
            }
        }
    }
}

fn logged(key: &str, value: &'static str) -> Batch {
    Batch::new().put(Key::new(key), Bytes::from_static(value.as_bytes())).logged()
}

fn fresh() -> (TempDir, PathBuf, Writer) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let writer = writer(&path);
    (directory, path, writer)
}

#[test]
fn a_logged_batch_leaves_the_file_alone_and_whatever_is_synced_takes_it_along() {
    let (_directory, path, mut writer) = fresh();
    let before = fs::read(&path).unwrap();
    assert_eq!(
        commit(&mut writer, vec![logged("a", "1"), logged("b", "1")]),
        [Ok(Revision(1)), Ok(Revision(2))]
    );
    assert!(fs::read(&path).unwrap() == before, "the file was written to");
    assert!(!Image::of(&path).log.is_empty() && writer.file.log.due().is_some());
    // Refused, so that nothing is synced, and the log is still needed.
    let refused = Batch::new().only_if(Key::new("a"), Expect::Absent).delete(Key::new("a"));
    assert!(matches!(commit(&mut writer, vec![refused])[..], [Err(StoreError::Conflict { .. })]));
    assert_eq!(entries(&Image::of(&path).start().2).len(), 2);
    commit(&mut writer, vec![Batch::new().put(Key::new("c"), "1"), logged("d", "1")]);
    let image = Image::of(&path);
    assert!(image.log.is_empty() && writer.file.log.due().is_none());
    assert_eq!(entries(&image.start().2).len(), 4);
}

#[test]
fn what_was_applied_while_it_is_read_is_not_seen_over_what_came_after_it() {
    let (_directory, _path, mut writer) = fresh();
    let old = [logged("a", "old"), logged("b", "old")];
    commit(&mut writer, old.to_vec());
    assert_eq!(entries(&writer).len(), 2);
    let gone = Batch::new().delete(Key::new("a")).put(Key::new("b"), "new");
    assert_eq!(commit(&mut writer, vec![gone]), [Ok(Revision(3))]);
    // As a reader finds it between the commit and the moment in which what was applied is forgotten.
    writer.unapplied.add((1..).map(Revision).zip(&old));
    let all = Range::first(Prefix::new(""));
    let (page, a, b) = writer
        .shared
        .with(|database| {
            let get = |name| table::get(database, &writer.unapplied, &Key::new(name)).unwrap();
            (table::list(database, &writer.unapplied, &all).unwrap(), get("a"), get("b"))
        })
        .unwrap();
    let new = Entry { key: Key::new("b"), revision: Revision(3), value: Bytes::from_static(b"new") };
    assert_eq!((page.entries, page.revision), (vec![new.clone()], Revision(3)));
    assert_eq!((a, b), (None, Some(new)));
}

#[test]
fn a_batch_without_changes_leaves_no_gap_before_what_follows_it() {
    let (_directory, path, mut writer) = fresh();
    assert_eq!(commit(&mut writer, vec![Batch::new().logged()]), [Ok(Revision(1))]);
    assert!(writer.flush());
    assert_eq!(commit(&mut writer, vec![logged("a", "1")]), [Ok(Revision(2))]);
    assert_eq!(entries(&Image::of(&path).start().2).len(), 1);
}

#[test]
fn a_prefix_has_what_is_over_it_and_nothing_of_its_neighbours() {
    let (_directory, _path, mut writer) = fresh();
    let stored = ["a/1", "b/1", "b/3", "c/1"].map(|name| Batch::new().put(Key::new(name), "1"));
    commit(&mut writer, stored.to_vec());
    commit(&mut writer, ["a/2", "b/2", "b/4", "c/0"].map(|name| logged(name, "2")).to_vec());
    commit(&mut writer, vec![Batch::new().delete(Key::new("b/3")).logged()]);
    let names = |prefix, after: Option<&str>| {
        let mut range = Range::first(Prefix::new(prefix));
        range.after = after.map(Key::new);
        let list = |database: &Database| table::list(database, &writer.unapplied, &range).unwrap();
        let entries = writer.shared.with(list).unwrap().entries;
        entries.iter().map(|entry| entry.key.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("b/", None), ["b/1", "b/2", "b/4"]);
    assert_eq!(names("b/", Some("b/1")), ["b/2", "b/4"]);
    assert_eq!(names("b/", Some("b/4")), [""; 0]);
    assert_eq!(names("d/", None), [""; 0]);
    assert_eq!(names("", Some("b/4")), ["c/0", "c/1"]);
}

#[test]
fn a_log_that_has_as_much_as_it_may_is_followed_by_a_sync() {
    let (_directory, path, mut writer) = fresh();
    let value = Bytes::from(vec![7; Batch::MAX_VALUE_BYTES]);
    let mut lengths = Vec::new();
    for _ in 0..9 {
        commit(&mut writer, vec![Batch::new().put(Key::new("large"), value.clone()).logged()]);
        lengths.push(Image::of(&path).log.len());
    }
    assert!(lengths.iter().all(|length| *length <= 4 * 1024 * 1024), "{lengths:?}");
    assert_eq!(lengths.iter().filter(|length| **length == 0).count(), 1, "{lengths:?}");
}

#[test]
fn a_log_behind_a_gap_belongs_to_another_state_of_the_file_and_is_left_out() {
    let (_directory, path, mut writer) = fresh();
    let old = Image::of(&path);
    commit(&mut writer, vec![Batch::new().put(Key::new("a"), "1")]);
    commit(&mut writer, vec![logged("b", "1")]);
    let image = Image { store: old.store, log: Image::of(&path).log };
    let (_restored, path, mut writer) = image.start();
    assert_eq!(entries(&writer), []);
    assert!(Image::of(&path).log.is_empty());
    assert_eq!(commit(&mut writer, vec![logged("b", "2")]), [Ok(Revision(1))]);
    assert_eq!(entries(&Image::of(&path).start().2).len(), 1);
}
