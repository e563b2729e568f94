//! Opening the file: locked, looked through without changing it, then opened for writing.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, DatabaseError, ReadableDatabase, StorageBackend, StorageError, TableError};
use tracing::{info, warn};

use super::{
    device::{Device, Overlay, write_again},
    migrate::migrate,
    redo::Log,
    table::{self, META, RECORDS, REVISION_ENTRY, SCHEMA, SCHEMA_ENTRY},
};
use crate::store::{
    OpenError, Revision,
    fault::{self, point},
};

/// What every file of redb begins with (redb's `docs/design.md`, "Database header").
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";
/// The most memory for pages of the file: what is written now fits, the rest is read seldom and is in the system's
/// own cache, and redb's default of 1 GiB is more than the rest of the process.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// The locked file of a store, and the log beside it.
#[derive(Debug)]
pub(super) struct StoreFile {
    path: PathBuf,
    pub(super) file: Arc<File>,
    pub(super) log: Log,
}

impl Drop for StoreFile {
    /// Said to the system, and not left to the closing of the file: a process that is just being started has a copy
    /// of the handle, and would keep the lock for a moment.
    fn drop(&mut self) {
        // Where it fails, the lock ends with the file's last handle.
        let _ = self.file.unlock();
    }
}

impl StoreFile {
    /// Locks the file at `path`, which is made where there is none.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let refused = |attempt, error| OpenError::Refused { path: path.to_owned(), attempt, error };
        fault::at(point::OPEN).map_err(|error| refused("opened for reading and writing", error))?;
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                return Err(not_a_store(path, "it is no regular file"));
            }
            // Not taken for new: a file that lost its content must not pass for one that never had any.
            Ok(metadata) if metadata.len() == 0 => {
                return Err(not_a_store(path, "it is empty, and a store never is: delete it for a new one"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path),
            Err(error) => return Err(refused("looked at", error)),
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| refused("opened for reading and writing", error))?;
        let locked = Self::locked(path, file)?;
        let mut magic = [0; MAGIC.len()];
        match locked.file.read_exact_at(&mut magic, 0) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) => return Err(not_a_store(path, "it does not begin as one")),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(not_a_store(path, "it is too short to be one"));
            }
            Err(error) => return Err(refused("read", error)),
        }
        Ok(locked)
    }

    /// Makes a new store beside `path`, and gives it the name when it is complete: a process that is killed
    /// meanwhile leaves no half of a store behind.
    fn create(path: &Path) -> Result<Self, OpenError> {
        let refused = |attempt, error| OpenError::Refused { path: path.to_owned(), attempt, error };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| refused("made, since its directory cannot be", error))?;
        let mut beside = OsString::from(path.as_os_str());
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&beside)
            .map_err(|error| refused("made", error))?;
        let mut locked = Self::locked(path, file)?;
        let file = &locked.file;
        // Whoever made the store meanwhile had the lock of the same name before.
        if path.exists() {
            return Err(OpenError::Locked { path: path.to_owned() });
        }
        let log = Log::of(path);
        if fs::metadata(log.path()).is_ok_and(|metadata| metadata.len() > 0) {
            let log = log.path().display();
            let reason =
                format!("it is missing, and {log} has what follows on it: restore it, or delete that");
            return Err(not_a_store(path, &reason));
        }
        let made = || -> Result<(), redb::Error> {
            file.set_len(0)?;
            let database = Database::builder().create_with_backend(Device(Arc::clone(file)))?;
            let transaction = database.begin_write()?;
            {
                let mut meta = transaction.open_table(META)?;
                meta.insert(SCHEMA_ENTRY, SCHEMA)?;
                meta.insert(REVISION_ENTRY, 0)?;
                transaction.open_table(RECORDS)?;
            }
            transaction.commit()?;
            database.close()?;
            file.sync_all()?;
            Ok(())
        };
        made().map_err(|error| refused("made", io_error(error)))?;
        fs::rename(&beside, path).map_err(|error| refused("named", error))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| refused("made to last", error))?;
        locked.log = Log::of(path);
        Ok(locked)
    }

    fn locked(path: &Path, file: File) -> Result<Self, OpenError> {
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), file: Arc::new(file), log: Log::of(path) }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => {
                Err(OpenError::Refused { path: path.to_owned(), attempt: "locked", error })
            }
        }
    }

    /// Opens the database in the file, after a look that changes nothing, and brings it up to its log; with the revision that
    /// it has then.
    pub(super) fn open(&mut self) -> Result<(Database, Revision), OpenError> {
        let log = self.log.read()?;
        let overlay = Overlay::new(Arc::clone(&self.file)).map_err(|error| self.refused("read", error))?;
        drop(self.guarded(|| self.open_with(overlay, true))?);
        let database = self.guarded(|| self.open_with(Device(Arc::clone(&self.file)), false))?;
        let unapplied = |error| self.refused("brought up to its log", error);
        let replayed =
            self.guarded(|| table::replay(&database, &log).map_err(|error| unapplied(io_error(error))))?;
        if replayed.left_out > 0 {
            let log = self.log.path().display();
            warn!(%log, batches = replayed.left_out, "the store's log does not follow on the store, and is left out");
        }
        if replayed.applied > 0 {
            info!(batches = replayed.applied, "store was brought up to its log");
        }
        let cut = self.log.try_cut();
        cut.map_err(|error| self.refused("brought up to its log, which cannot be cut", error))?;
        Ok((database, replayed.latest))
    }

    /// Opens it again after the disk had failed.
    pub(super) fn reopen(&mut self) -> Result<(Database, Revision), OpenError> {
        fault::at(point::OPEN).map_err(|error| self.refused("opened again", error))?;
        write_again(&self.file).map_err(|error| self.refused("written again", error))?;
        self.open()
    }

    /// A damaged file must not end the process by a panic of whoever reads it.
    fn guarded<T>(&self, run: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err(self.corrupt("its reader gave up on it".to_owned())))
    }

    fn open_with(&self, backend: impl StorageBackend, check: bool) -> Result<Database, OpenError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(check)
            .create_with_backend(backend)
            .map_err(|error| self.not_opened(error))?;
        let found = self.schema(&database)?;
        if found > SCHEMA {
            return Err(OpenError::Newer { path: self.path.clone(), found, known: SCHEMA });
        }
        if found < SCHEMA {
            let migrated = || -> Result<(), String> {
                let transaction = database.begin_write().map_err(|error| error.to_string())?;
                migrate(&transaction, found)?;
                transaction.commit().map_err(|error| error.to_string())
            };
            migrated().map_err(|reason| OpenError::Migration { path: self.path.clone(), found, reason })?;
        }
        Ok(database)
    }

    fn schema(&self, database: &Database) -> Result<u64, OpenError> {
        let unreadable = |error: redb::Error| self.corrupt(error.to_string());
        let transaction = database.begin_read().map_err(|error| unreadable(error.into()))?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::Storage(error)) => return Err(unreadable(error.into())),
            // No table of that name and type.
            Err(_) => return Err(not_a_store(&self.path, "it is the database of another program")),
        };
        let schema =
            redb::ReadableTable::get(&meta, SCHEMA_ENTRY).map_err(|error| unreadable(error.into()))?;
        match schema {
            Some(schema) => Ok(schema.value()),
            None => Err(self.corrupt("it does not say which schema it has".to_owned())),
        }
    }

    fn not_opened(&self, error: DatabaseError) -> OpenError {
        if let DatabaseError::UpgradeRequired(version) = error {
            let reason = format!("it has version {version} of redb's format, which is too old");
            return not_a_store(&self.path, &reason);
        }
        if let DatabaseError::Storage(StorageError::Io(error)) = error {
            let is_content =
                matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
            return if is_content { self.corrupt(error.to_string()) } else { self.refused("opened", error) };
        }
        self.corrupt(error.to_string())
    }

    fn corrupt(&self, reason: String) -> OpenError {
        OpenError::Corrupt { path: self.path.clone(), reason }
    }

    fn refused(&self, attempt: &'static str, error: io::Error) -> OpenError {
        OpenError::Refused { path: self.path.clone(), attempt, error }
    }
}

fn not_a_store(path: &Path, reason: &str) -> OpenError {
    OpenError::NotAStore { path: path.to_owned(), reason: reason.to_owned() }
}

fn io_error(error: redb::Error) -> io::Error {
    if let redb::Error::Io(error) = error { error } else { io::Error::other(error.to_string()) }
}
