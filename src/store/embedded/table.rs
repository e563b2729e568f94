//! The tables of the file, and what is done with them in one transaction.
//!
//! A value is its revision in eight bytes, then what the caller gave.

use std::{collections::BTreeMap, fs::File};

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::{
    redo::{Log, Record},
    unapplied::{Changes, Unapplied},
};
use crate::store::{
    Batch, Change, Entry, Key, Page, Range, Revision, StoreError,
    fault::{self, point},
    page_of,
};

/// The schema that this Greenroom writes.
pub const SCHEMA: u64 = 1;

pub(super) const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("greenroom");
/// The entry of [`META`] that has the schema.
pub(super) const SCHEMA_ENTRY: &str = "schema";
/// The entry of [`META`] that has the latest revision.
pub(super) const REVISION_ENTRY: &str = "revision";

/// Why a group of batches is not known to be written.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was committed.
    Before(String),
    /// The commit was begun, and failed: all of it is durable, or nothing.
    During(String),
}

impl Failure {
    fn before(error: impl Into<redb::Error>) -> Self {
        Self::Before(error.into().to_string())
    }
}

type Outcome = Result<Revision, StoreError>;

/// What is to become of the batches of a group.
struct Decided<'a> {
    /// Those whose conditions hold, with their revisions.
    accepted: Vec<(Revision, &'a Batch)>,
    /// Of each batch, in their order.
    outcomes: Vec<Outcome>,
}

/// Decides on batches in their order: each where its conditions hold after those before it. Only the thread that writes
/// changes what is looked at here.
fn decide<'a>(
    database: &Database,
    unapplied: &Unapplied,
    batches: &'a [Batch],
) -> Result<Decided<'a>, Failure> {
    let mut revision = unapplied.latest();
    // By the batches of this group.
    let mut changed = BTreeMap::new();
    let mut snapshot = None;
    let mut decided = Decided { accepted: Vec::with_capacity(batches.len()), outcomes: Vec::new() };
    for batch in batches {
        let found = |key: &Key| match changed.get(key) {
            Some(found) => Ok(*found),
            None => current(database, unapplied, &mut snapshot, key),
        };
        if let Some(conflict) = batch.conflict(found).map_err(Failure::before)? {
            decided.outcomes.push(Err(conflict));
            continue;
        }
        revision = Revision(revision.0 + 1);
        decided.accepted.push((revision, batch));
        decided.outcomes.push(Ok(revision));
        for (key, change) in batch.changes() {
            changed.insert(key, matches!(change, Change::Put(_)).then_some(revision));
        }
    }
    Ok(decided)
}

/// Writes batches in their order to the log, and leaves it to the next transaction to apply them; each where its conditions
/// hold after those before it.
pub(super) fn append(
    database: &Database,
    unapplied: &Unapplied,
    batches: &[Batch],
    log: &mut Log,
    store: &File,
) -> Result<Vec<Outcome>, Failure> {
    let Decided { accepted, outcomes } = decide(database, unapplied, batches)?;
    if let Some((first, _)) = accepted.first() {
        let written = log.append(*first, accepted.iter().map(|(_, batch)| *batch), store);
        written.map_err(|error| Failure::During(redb::Error::from(error).to_string()))?;
        unapplied.add(accepted.into_iter());
    }
    Ok(outcomes)
}

/// The records of a snapshot.
type Snapshot = ReadOnlyTable<&'static str, &'static [u8]>;

/// The revision of a record as it is, unapplied or in the database, of which a snapshot is taken where one is needed.
fn current(
    database: &Database,
    unapplied: &Unapplied,
    snapshot: &mut Option<Snapshot>,
    key: &Key,
) -> Result<Option<Revision>, redb::Error> {
    if let Some((revision, change)) = unapplied.of(key) {
        return Ok(matches!(change, Change::Put(_)).then_some(revision));
    }
    let records = match snapshot {
        Some(records) => records,
        None => snapshot.insert(database.begin_read()?.open_table(RECORDS)?),
    };
    revision_of(records, key)
}

/// Writes batches in their order, in one transaction, after what is unapplied, and brings them to the disk; each is written
/// where its conditions hold after those before it, and left out as a whole where they do not.
pub(super) fn write(
    database: &Database,
    unapplied: &Unapplied,
    batches: &[Batch],
) -> Result<Vec<Outcome>, Failure> {
    let Decided { accepted, outcomes } = decide(database, unapplied, batches)?;
    let Some((latest, _)) = accepted.last() else {
        // Nothing changes: no transaction, and no wait for the disk.
        return Ok(outcomes);
    };
    fault::at(point::BEGIN).map_err(Failure::before)?;
    let transaction = begin(database, unapplied, &accepted, *latest).map_err(Failure::before)?;
    fault::at(point::COMMIT).map_err(Failure::before)?;
    transaction.commit().map_err(|error| Failure::During(redb::Error::from(error).to_string()))?;
    unapplied.applied(*latest);
    Ok(outcomes)
}

/// A transaction with what is unapplied and with what is accepted on top of it, which make up `latest`.
fn begin(
    database: &Database,
    unapplied: &Unapplied,
    accepted: &[(Revision, &Batch)],
    latest: Revision,
) -> Result<WriteTransaction, redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut records = transaction.open_table(RECORDS)?;
        apply(&mut records, of_all(&unapplied.all()))?;
        for (revision, batch) in accepted {
            apply(&mut records, of_batch(batch.changes(), *revision))?;
        }
        // Whatever there was to apply: what follows in the log must not begin behind a gap.
        meta.insert(REVISION_ENTRY, latest.0)?;
    }
    Ok(transaction)
}

fn apply<'a>(
    records: &mut Table<'_, &'static str, &'static [u8]>,
    changes: impl Iterator<Item = (&'a Key, &'a Change, Revision)>,
) -> Result<(), redb::Error> {
    for (key, change, revision) in changes {
        fault::at(point::APPLY)?;
        match change {
            Change::Put(value) => {
                let stored = stored(revision, value);
                records.insert(key.as_str(), stored.as_slice())?;
            }
            Change::Delete => {
                records.remove(key.as_str())?;
            }
        }
    }
    Ok(())
}

/// The changes of one batch.
fn of_batch(
    changes: &[(Key, Change)],
    revision: Revision,
) -> impl Iterator<Item = (&Key, &Change, Revision)> {
    changes.iter().map(move |(key, change)| (key, change, revision))
}

fn of_all(changes: &Changes) -> impl Iterator<Item = (&Key, &Change, Revision)> {
    changes.iter().map(|(key, (revision, change))| (key, change, *revision))
}

/// Applies what is unapplied, and brings all that was committed to the disk.
pub(super) fn flush(database: &Database, unapplied: &Unapplied) -> Result<(), Failure> {
    let latest = unapplied.latest();
    let transaction = begin(database, unapplied, &[], latest).map_err(Failure::before)?;
    transaction.commit().map_err(Failure::before)?;
    unapplied.applied(latest);
    Ok(())
}

/// What became of the batches of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    /// Those that the file did not have, and has on the disk now.
    pub(super) applied: usize,
    /// Those that follow on something that is in neither.
    pub(super) left_out: usize,
    /// The revision of the latest batch that the file has now.
    pub(super) latest: Revision,
}

/// Applies the batches of a log that are later than all that the file has.
pub(super) fn replay(database: &Database, log: &[Record]) -> Result<Replayed, redb::Error> {
    let mut replayed = Replayed::default();
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut records = transaction.open_table(RECORDS)?;
        let mut latest = latest_revision(&meta)?;
        let numbered = log.iter().flat_map(|record| (record.first.0..).zip(&record.batches));
        let on_disk = latest.0;
        for (revision, changes) in numbered.skip_while(|(revision, _)| *revision <= on_disk) {
            // Revisions have no gaps: behind one, the rest belongs to another state of the file.
            if revision != latest.0 + 1 {
                replayed.left_out += 1;
                continue;
            }
            latest = Revision(revision);
            apply(&mut records, of_batch(changes, latest))?;
            replayed.applied += 1;
        }
        if replayed.applied > 0 {
            meta.insert(REVISION_ENTRY, latest.0)?;
        }
        replayed.latest = latest;
    }
    if replayed.applied > 0 {
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    Ok(replayed)
}

/// A value as the file has it.
pub(super) fn stored(revision: Revision, value: &[u8]) -> Vec<u8> {
    [&revision.0.to_le_bytes(), value].concat()
}

fn latest_revision(meta: &impl ReadableTable<&'static str, u64>) -> Result<Revision, redb::Error> {
    Ok(Revision(meta.get(REVISION_ENTRY)?.map_or(0, |entry| entry.value())))
}

fn revision_of(
    records: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &Key,
) -> Result<Option<Revision>, redb::Error> {
    let Some(stored) = records.get(key.as_str())? else { return Ok(None) };
    Ok(Some(split(stored.value())?.0))
}

fn split(stored: &[u8]) -> Result<(Revision, &[u8]), redb::Error> {
    match stored.split_first_chunk() {
        Some((revision, value)) => Ok((Revision(u64::from_le_bytes(*revision)), value)),
        None => Err(redb::Error::Corrupted("a record is shorter than its revision".to_owned())),
    }
}

fn entry(key: &Key, stored: &[u8]) -> Result<Entry, redb::Error> {
    let (revision, value) = split(stored)?;
    Ok(Entry { key: key.clone(), revision, value: Bytes::copy_from_slice(value) })
}

/// The record of `key`.
pub(super) fn get(
    database: &Database,
    unapplied: &Unapplied,
    key: &Key,
) -> Result<Option<Entry>, redb::Error> {
    fault::at(point::READ)?;
    let over = unapplied.of(key);
    fault::at(point::READ_OVER)?;
    let transaction = database.begin_read()?;
    if let Some((revision, change)) = over
        && revision > latest_revision(&transaction.open_table(META)?)?
    {
        return Ok(entry_of(key.clone(), revision, change));
    }
    let records = transaction.open_table(RECORDS)?;
    records.get(key.as_str())?.map(|stored| entry(key, stored.value())).transpose()
}

fn entry_of(key: Key, revision: Revision, change: Change) -> Option<Entry> {
    match change {
        Change::Put(value) => Some(Entry { key, revision, value }),
        Change::Delete => None,
    }
}

/// A page of the range, as all was at one moment: that of a snapshot, or that of what is over it.
pub(super) fn list(database: &Database, unapplied: &Unapplied, range: &Range) -> Result<Page, redb::Error> {
    fault::at(point::READ)?;
    // The least text after `after` is `after` and a zero.
    let start = match &range.after {
        Some(after) => format!("{after}\0"),
        None => range.prefix.as_str().to_owned(),
    };
    let (latest, mut over) = unapplied.under(&range.prefix, &start);
    fault::at(point::READ_OVER)?;
    let transaction = database.begin_read()?;
    let applied = latest_revision(&transaction.open_table(META)?)?;
    // What was applied meanwhile is in the snapshot, and may have been overwritten there.
    over.retain(|_, (revision, _)| *revision > applied);
    let records = transaction.open_table(RECORDS)?;
    let stored = records.range(start.as_str()..)?.map(|found| {
        let (key, stored) = found?;
        entry(&Key::new(key.value()), stored.value())
    });
    page_of(range, latest.max(applied), merged(stored, over))
}

/// The entries of the database, in their order, under the changes that are over them.
fn merged(
    stored: impl Iterator<Item = Result<Entry, redb::Error>>,
    over: Changes,
) -> impl Iterator<Item = Result<Entry, redb::Error>> {
    let (mut stored, mut over) = (stored.peekable(), over.into_iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let next = over.peek().map(|(key, _)| key);
            let is_stored_first = match (stored.peek(), next) {
                (Some(Ok(entry)), Some(key)) => entry.key < *key,
                (_, None) | (Some(Err(_)), Some(_)) => true,
                (None, Some(_)) => false,
            };
            if is_stored_first {
                return stored.next();
            }
            let (key, (revision, change)) = over.next()?;
            // What it is over is not seen.
            drop(stored.next_if(|entry| entry.as_ref().is_ok_and(|entry| entry.key == key)));
            if let Some(entry) = entry_of(key, revision, change) {
                return Some(Ok(entry));
            }
        }
    })
}
