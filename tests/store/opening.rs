//! Files that are opened, and files that are refused and left as they are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use greenroom::{
    recovery::SessionId,
    store::{Batch, Embedded, Entry, Key, OpenError, Revision, SCHEMA, Store},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use redb::{Database, ReadableDatabase, TableDefinition};

use super::{everything, key, open};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("greenroom");
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    (directory, path)
}

/// That opening `path` is refused, and the file and its directory are as they were. Gives the refusal.
#[track_caller]
fn refused(path: &Path) -> OpenError {
    let listing = |path: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (before, names) = (fs::read(path).unwrap(), listing(path));
    let error = open(path).map(drop).unwrap_err();
    assert!(fs::read(path).unwrap() == before, "{error}: the file was changed");
    assert_eq!(listing(path), names);
    assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    error
}

/// The records of a store, which is closed again.
async fn contents(path: &Path) -> Vec<Entry> {
    let store = open(path).unwrap();
    let entries = everything(&store, "").await.entries;
    store.close().await.unwrap();
    entries
}

async fn filled(path: &Path, records: usize) {
    let store = open(path).unwrap();
    for chunk in 0..records.div_ceil(50) {
        let batch = (0..50).fold(Batch::new(), |batch, at| {
            batch.put(key(&format!("k/{chunk:03}/{at:02}")), vec![u8::try_from(at).unwrap(); 700])
        });
        store.commit(batch).await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_is_made_with_its_directory_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not/yet/there/store.redb");
    let store = open(&path).unwrap();
    let revision = store.put(key("a"), Bytes::from_static(b"1")).await.unwrap();
    store.close().await.unwrap();
    let store = open(&path).unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().revision, revision);
    assert!(store.put(key("b"), Bytes::new()).await.unwrap() > revision);
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[cfg(unix)]
#[test]
fn nobody_but_the_owner_may_read_a_store() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = place();
    open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_a_killed_start_left_is_no_obstacle() {
    let (_directory, path) = place();
    fs::write(path.with_extension("redb.new"), b"half of a store").unwrap();
    let store = open(&path).unwrap();
    store.put(key("a"), Bytes::new()).await.unwrap();
    assert!(!path.with_extension("redb.new").exists());
}

#[tokio::test]
async fn a_store_that_is_open_is_locked_until_it_is_closed() {
    let (_directory, path) = place();
    let store = open(&path).unwrap();
    let error = open(&path).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    store.put(key("a"), Bytes::new()).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(everything(&open(&path).unwrap(), "").await.entries.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_dropped_keeps_what_waited_and_lets_go_of_its_file() {
    let (_directory, path) = place();
    let store = open(&path).unwrap();
    let writes: Vec<_> = (0..100).map(|number| store.put(key(&number.to_string()), Bytes::new())).collect();
    drop(store);
    for write in writes {
        write.await.unwrap();
    }
    let reopened = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            match open(&path) {
                Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
                other => return other.unwrap(),
            }
        }
    });
    assert_eq!(everything(&reopened.await.unwrap(), "").await.entries.len(), 100);
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let (directory, path) = place();
    for (content, reason) in [
        (&b""[..], "it is empty"),
        (b"redb", "too short"),
        (b"# A page of text, and no database at all.\n", "does not begin as one"),
        (&[0; 100_000], "does not begin as one"),
    ] {
        fs::write(&path, content).unwrap();
        let error = refused(&path);
        assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let error = open(directory.path()).map(drop).unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
    let below = path.join("store.redb");
    let error = open(&below).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let (_directory, path) = place();
    let other = |define: &dyn Fn(&redb::WriteTransaction)| {
        let _ = fs::remove_file(&path);
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        define(&transaction);
        transaction.commit().unwrap();
    };
    other(&|_| {});
    assert!(matches!(refused(&path), OpenError::NotAStore { .. }));
    other(&|transaction| {
        let table: TableDefinition<'_, u8, u8> = TableDefinition::new("greenroom");
        transaction.open_table(table).unwrap().insert(1, 2).unwrap();
    });
    assert!(matches!(refused(&path), OpenError::NotAStore { .. }));
    other(&|transaction| {
        transaction.open_table(META).unwrap().insert("revision", 2).unwrap();
    });
    assert!(refused(&path).to_string().contains("which schema"), "no schema");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let (_directory, path) = place();
    filled(&path, 50).await;
    {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("schema", SCHEMA + 1).unwrap();
        transaction.commit().unwrap();
    }
    let error = refused(&path);
    assert!(matches!(error, OpenError::Newer { found, known: SCHEMA, .. } if found == SCHEMA + 1), "{error}");
    assert!(error.to_string().contains("use the newer Greenroom"), "{error}");
}

/// A copy of an open database is what a killed process leaves: redb has to repair it before it can be read.
#[tokio::test]
async fn a_newer_or_foreign_file_of_a_killed_process_is_left_alone_too() {
    let (directory, path) = place();
    filled(&path, 50).await;
    let live = directory.path().join("live.redb");
    fs::rename(&path, &live).unwrap();
    let database = Database::open(&live).unwrap();
    for change in ["newer", "foreign"] {
        let transaction = database.begin_write().unwrap();
        if change == "newer" {
            transaction.open_table(META).unwrap().insert("schema", SCHEMA + 1).unwrap();
        } else {
            transaction.delete_table(META).unwrap();
        }
        transaction.commit().unwrap();
        fs::copy(&live, &path).unwrap();
        match (change, refused(&path)) {
            ("newer", OpenError::Newer { .. }) | ("foreign", OpenError::NotAStore { .. }) => {}
            (change, error) => panic!("{change}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_copy_of_an_open_store_is_repaired_and_has_everything() {
    let (directory, path) = place();
    filled(&path, 500).await;
    let store = open(&path).unwrap();
    store.put(key("a"), Bytes::new()).await.unwrap();
    let copy = directory.path().join("copy.redb");
    fs::copy(&path, &copy).unwrap();
    assert_eq!(contents(&copy).await, everything(&store, "").await.entries);
    // And once more, now that it was closed.
    assert_eq!(contents(&copy).await.len(), 501);
}

fn version_0(path: &Path, sessions: &[(&str, &[u8])]) {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema", 0).unwrap();
    for (id, value) in sessions {
        transaction.open_table(SESSIONS).unwrap().insert(*id, *value).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn an_older_schema_is_migrated_once() {
    let (_directory, path) = place();
    version_0(&path, &[("ses_1", b"{\"tenant\":\"acme\"}"), ("ses_2", b"{}")]);
    let store = open(&path).unwrap();
    let entry = store.get(&Key::session(&SessionId::from("ses_1"))).await.unwrap().unwrap();
    assert_eq!((entry.revision, &entry.value[..]), (Revision(1), &b"{\"tenant\":\"acme\",\"v\":1}"[..]));
    assert_eq!(everything(&store, "").await.entries.len(), 2);
    assert_eq!(store.put(key("a"), Bytes::new()).await, Ok(Revision(2)));
    store.close().await.unwrap();
    assert_eq!(contents(&path).await.len(), 3);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_read().unwrap();
    assert_eq!(transaction.open_table(META).unwrap().get("schema").unwrap().unwrap().value(), SCHEMA);
    assert!(transaction.open_table(SESSIONS).is_err(), "the old table is still there");
}

#[test]
fn an_older_file_that_cannot_be_migrated_is_left_alone() {
    let (_directory, path) = place();
    version_0(&path, &[("ses_1", b"{\"tenant\":\"acme\"}"), ("ses_2", b"hush")]);
    let error = refused(&path);
    assert!(matches!(error, OpenError::Migration { found: 0, .. }), "{error}");
    assert!(error.to_string().contains("session ses_2 is no JSON object"), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
    version_0_without_sessions();
}

fn version_0_without_sessions() {
    let (_directory, path) = place();
    version_0(&path, &[]);
    open(&path).unwrap();
}

#[tokio::test]
async fn a_file_cut_off_anywhere_is_refused_and_left_alone() {
    let (_directory, path) = place();
    filled(&path, 500).await;
    let whole = fs::read(&path).unwrap();
    for part in 1..8 {
        fs::write(&path, &whole[..whole.len() * part / 8]).unwrap();
        let error = refused(&path);
        assert!(matches!(error, OpenError::Corrupt { .. }), "{part}/8: {error}");
        assert!(error.to_string().contains("restore it from a backup"), "{error}");
    }
}

/// Where a changed byte is in no page that is in use, nothing is lost and nothing is said.
#[tokio::test]
async fn a_file_with_a_changed_byte_is_refused_and_left_alone_or_has_lost_nothing() {
    let (_directory, path) = place();
    filled(&path, 500).await;
    let whole = fs::read(&path).unwrap();
    let records = contents(&path).await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut found = 0;
    for round in 0..60 {
        let mut changed = whole.clone();
        // The header, which is small and has everything hanging from it, gets its share.
        let at =
            if round % 4 == 0 { random.random_range(0..320) } else { random.random_range(0..whole.len()) };
        changed[at] ^= random.random_range(1..=255);
        fs::write(&path, &changed).unwrap();
        match open(&path) {
            Ok(store) => {
                assert!(everything(&store, "").await.entries == records, "byte {at}: lost without a word");
                store.close().await.unwrap();
            }
            Err(error) => {
                found += 1;
                assert!(fs::read(&path).unwrap() == changed, "byte {at}: {error}: the file was changed");
            }
        }
    }
    assert!(found >= 10, "only {found} of 60 changed bytes were found");
}

#[tokio::test]
async fn a_records_table_without_revisions_is_told_of_and_not_taken_for_data() {
    let (_directory, path) = place();
    filled(&path, 50).await;
    {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(RECORDS).unwrap().insert("k/short", &b"1234567"[..]).unwrap();
        transaction.commit().unwrap();
    }
    let store: Embedded = open(&path).unwrap();
    let error = store.get(&key("k/short")).await.unwrap_err();
    assert!(error.to_string().contains("shorter than its revision"), "{error}");
}
