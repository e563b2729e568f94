//! What is written to a log and read from it, whole or not.

use super::*;
use crate::store::{Change, Key};

/// A log of three records, its bytes, and where each record ends.
fn written() -> (tempfile::TempDir, Log, Vec<u8>, Vec<usize>) {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.redb");
    let file = File::create(&store).unwrap();
    let mut log = Log::of(&store);
    let mut ends = vec![HEADER_BYTES];
    for number in 1..4 {
        let batches = batches(number);
        log.append(Revision(number), batches.iter(), &file).unwrap();
        ends.push(usize::try_from(log.length).unwrap());
    }
    let bytes = fs::read(&log.path).unwrap();
    assert_eq!(log.length, bytes.len() as u64);
    (directory, log, bytes, ends)
}

fn batches(number: u64) -> Vec<Batch> {
    let key = |text: &str| Key::new(format!("{text}/{number}"));
    vec![
        Batch::new().put(key("a"), "value").delete(key("b")),
        Batch::new().put(key("c"), "").put(key("d"), "value"),
    ]
}

fn expected(records: usize) -> Vec<Record> {
    let changes = |batch: Batch| batch.into_changes();
    (1..)
        .take(records)
        .map(|number| Record {
            first: Revision(number),
            batches: batches(number).into_iter().map(changes).collect::<Vec<Vec<(Key, Change)>>>(),
        })
        .collect()
}

#[test]
fn a_log_that_ends_anywhere_has_the_records_before_and_is_no_error() {
    let (_directory, mut log, bytes, ends) = written();
    for length in 0..=bytes.len() {
        fs::write(&log.path, &bytes[..length]).unwrap();
        let whole = ends.iter().skip(1).filter(|end| **end <= length).count();
        assert_eq!(log.read().unwrap(), expected(whole), "{length} bytes");
        // As the loss of power may leave it.
        let zeros = [&bytes[..length], &vec![0; bytes.len() - length]].concat();
        fs::write(&log.path, zeros).unwrap();
        if length == 0 || length >= HEADER_BYTES {
            assert_eq!(log.read().unwrap(), expected(whole), "{length} bytes and zeros");
        }
    }
}

#[test]
fn a_log_with_a_changed_byte_has_the_records_before_or_is_refused() {
    let (_directory, mut log, bytes, ends) = written();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        fs::write(&log.path, &changed).unwrap();
        match log.read() {
            Ok(records) => {
                assert!(at >= HEADER_BYTES, "byte {at} of the header");
                assert_eq!(
                    records,
                    expected(ends.iter().skip(1).filter(|end| **end <= at).count()),
                    "byte {at}"
                );
            }
            Err(error) => assert!(at < HEADER_BYTES, "byte {at}: {error}"),
        }
        assert!(fs::read(&log.path).unwrap() == changed, "byte {at}: the log was changed");
    }
}

#[test]
fn a_log_is_as_long_as_was_thought_before_it_was_written() {
    let (_directory, log, _, ends) = written();
    let one = HEADER_BYTES + 4 + SUM_BYTES + record::bytes_at_most(&batches(1));
    // A batch that deletes has no length of a value.
    assert_eq!(ends[1] + 4, one);
    assert!(!log.takes(&batches(1)), "it is to be synced");
    assert!(log.takes(&batches(1).into_iter().map(Batch::logged).collect::<Vec<_>>()));
    let mixed = [Batch::new().logged(), Batch::new()];
    assert!(!log.takes(&mixed));
}

#[test]
fn a_record_that_is_whole_and_makes_no_sense_is_damage() {
    let (_directory, mut log, mut bytes, _) = written();
    let body = [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9, 9];
    bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend(sum(&body));
    bytes.extend(body);
    fs::write(&log.path, &bytes).unwrap();
    let error = log.read().unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn a_log_of_another_format_or_schema_is_refused_by_name() {
    let (_directory, mut log, bytes, _) = written();
    for (at, number, reason) in [
        (16, 2, "use the newer Greenroom that wrote it"),
        (20, 2, "use the newer Greenroom that wrote it"),
        (16, 0, "end it with SIGTERM"),
        (20, 0, "end it with SIGTERM"),
        (0, b'x', "does not begin as one"),
    ] {
        let mut other = bytes.clone();
        other[at] = number;
        fs::write(&log.path, &other).unwrap();
        let error = log.read().unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("store.redb.log"), "{error}");
    }
}
