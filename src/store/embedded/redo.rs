//! The log beside the file: what was answered and is not on the disk yet.
//!
//! The death of a process loses nothing that it has handed to the system, so that a batch which may be lost with the
//! power needs a write and no sync. What redb holds in memory only is in here until its next sync, and is applied
//! again by whoever opens the file after a process that was killed.
//!
//! | bytes | of the log, which begins with its first record and is empty without one |
//! | --- | --- |
//! | 16 | what every log begins with |
//! | 4 | the format of the log |
//! | 4 | the schema of the values in it |
//! | and then for each record: 4 | the length of its body |
//! | 16 | the beginning of its body's SHA-256 |
//! | the length | the body (`record`) |

mod record;

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ring::digest::{SHA256, digest};
use tracing::{info, warn};

use super::table::SCHEMA;
use crate::store::{
    Batch, OpenError, Revision,
    batch::Durability,
    fault::{self, point},
};

pub(super) use record::Record;

/// How long something is in the log only: what the loss of power may cost.
const LINGER: Duration = Duration::from_secs(1);
/// The most bytes of a log: it is read into memory, and redb's cache holds no more pages without a sync.
const MAX_BYTES: usize = 4 * 1024 * 1024;

const MAGIC: [u8; 16] = *b"greenroom redo\x1A\x0A";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 8;
const SUM_BYTES: usize = 16;

/// The log of a store, which is guarded by the store's lock.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// None until there is something to write, so that a store which writes nothing of this kind has one file.
    file: Option<File>,
    length: u64,
    /// When the first of what is nowhere else was written.
    since: Option<Instant>,
}

impl Log {
    /// The log of the store at `store`, by whatever name that was opened: a link to it has the same log.
    pub(super) fn of(store: &Path) -> Self {
        let store = fs::canonicalize(store).unwrap_or_else(|_| store.to_owned());
        Self { path: path_beside(&store), file: None, length: 0, since: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what the last process left, and changes nothing. What it had not written to its end was answered to
    /// nobody.
    pub(super) fn read(&mut self) -> Result<Vec<Record>, OpenError> {
        let refused = |error| OpenError::Refused { path: self.path.clone(), attempt: "read", error };
        (self.file, self.length, self.since) = (None, 0, None);
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(self.foreign("it is no regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(refused(error)),
        }
        let file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(refused)?;
        self.length = file.metadata().map_err(refused)?.len();
        let mut bytes = Vec::new();
        (&file).take(MAX_BYTES as u64).read_to_end(&mut bytes).map_err(refused)?;
        self.file = Some(file);
        let Some(body) = self.behind_header(&bytes)? else { return Ok(Vec::new()) };
        let (mut records, mut rest) = (Vec::new(), body);
        while let Some((body, behind)) = split(rest) {
            let damaged = || {
                let reason = "a record of the log is whole and cannot be understood".to_owned();
                OpenError::Corrupt { path: self.path.clone(), reason }
            };
            records.push(record::decode(body).ok_or_else(damaged)?);
            rest = behind;
        }
        if !rest.is_empty() {
            info!(
                bytes = rest.len(),
                "the end of the store's log was never written to its end, and is left out"
            );
        }
        Ok(records)
    }

    /// What follows on the header; `None` where that was never written to its end.
    fn behind_header<'a>(&self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, OpenError> {
        let header = header();
        let is_no_log = || self.foreign("it is where the log of a store belongs, and does not begin as one");
        let Some((found, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return if header.starts_with(bytes) || is_zero(bytes) { Ok(None) } else { Err(is_no_log()) };
        };
        if *found == header {
            return Ok(Some(body));
        }
        // The loss of power may leave the length of a file without its content.
        if is_zero(found) {
            return Ok(None);
        }
        let ([magic @ .., a, b, c, d, e, f, g, h], path) = (*found, self.path.clone());
        if magic != MAGIC {
            return Err(is_no_log());
        }
        let (format, schema) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let (found, known) = match format {
            FORMAT => (u64::from(schema), SCHEMA),
            _ => (u64::from(format), u64::from(FORMAT)),
        };
        if found > known {
            return Err(OpenError::Newer { path, found, known });
        }
        let reason = "only the Greenroom that wrote it can apply it: start that one, and end it with SIGTERM";
        Err(OpenError::Migration { path, found, reason: reason.to_owned() })
    }

    fn foreign(&self, reason: &str) -> OpenError {
        OpenError::NotAStore { path: self.path.clone(), reason: reason.to_owned() }
    }

    /// Whether a group may be written here, and need not wait for the disk.
    pub(super) fn takes(&self, batches: &[Batch]) -> bool {
        let all_may = batches.iter().all(|batch| batch.durability() == Durability::Logged);
        let bytes = HEADER_BYTES + 4 + SUM_BYTES + record::bytes_at_most(batches);
        all_may && self.length.saturating_add(bytes as u64) <= MAX_BYTES as u64
    }

    /// Until when the file has to be synced; `None` where nothing is in the log only.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + LINGER)
    }

    /// Writes the batches of a group, the first of which has the revision `first`, so that they outlive the process.
    /// `store` is the file whose permissions the log has.
    pub(super) fn append<'a>(
        &mut self,
        first: Revision,
        batches: impl Iterator<Item = &'a Batch>,
        store: &File,
    ) -> io::Result<()> {
        let body = record::encode(first, batches);
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut bytes = if self.length == 0 { header().to_vec() } else { Vec::new() };
        bytes.extend(length.to_le_bytes());
        bytes.extend(sum(&body));
        bytes.extend(body);
        let at = self.length;
        let file = self.file(store)?;
        fault::at(point::LOG_WRITE)?;
        if let Err(error) = fault::at(point::LOG_TEAR) {
            file.write_all_at(bytes.split_at(bytes.len() / 2).0, at)?;
            return Err(error);
        }
        file.write_all_at(&bytes, at)?;
        self.length = at + bytes.len() as u64;
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn file(&mut self, store: &File) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let permissions = store.metadata()?.permissions();
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(permissions.mode() & 0o600)
                    .open(&self.path)?;
                file.set_permissions(permissions)?;
                file
            }
        };
        Ok(self.file.insert(file))
    }

    /// Cuts the log to nothing, now that the disk has what was in it.
    ///
    /// Where that fails the log goes on behind what it has, which is passed over when it is read.
    pub(super) fn cut(&mut self) {
        self.since = None;
        if let Err(error) = self.try_cut() {
            warn!(%error, "the store's log could not be cut, it is tried again");
        }
    }

    /// As [`Log::cut`], where the log may have an end that nothing can be written behind.
    pub(super) fn try_cut(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.length > 0) else { return Ok(()) };
        fault::at(point::LOG_CUT)?;
        file.set_len(0)?;
        self.length = 0;
        Ok(())
    }
}

/// The path of the log of the store at `store`.
fn path_beside(store: &Path) -> PathBuf {
    let mut path = OsString::from(store.as_os_str());
    path.push(".log");
    PathBuf::from(path)
}

fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let schema = u32::try_from(SCHEMA).unwrap_or(u32::MAX);
    let bytes = MAGIC.into_iter().chain(FORMAT.to_le_bytes()).chain(schema.to_le_bytes());
    header.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    header
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn sum(body: &[u8]) -> [u8; SUM_BYTES] {
    let digest = digest(&SHA256, body);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// The body of the first record, and what follows on it; `None` where there is no whole one.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (expected, rest) = rest.split_first_chunk::<SUM_BYTES>()?;
    let (body, behind) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (sum(body) == *expected).then_some((body, behind))
}

#[cfg(test)]
mod tests;
