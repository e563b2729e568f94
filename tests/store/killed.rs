//! What a process that is killed leaves: its file, and the log beside it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// The log of the store at `path`.
pub(crate) fn log_of(path: &Path) -> PathBuf {
    path.with_extension("redb.log")
}

/// The bytes in the log of the store at `path`.
pub(crate) fn log_length(path: &Path) -> u64 {
    fs::metadata(log_of(path)).map_or(0, |metadata| metadata.len())
}

/// What a process that is killed now leaves of the store at `path`, in a directory of its own.
pub(crate) fn killed(path: &Path) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("store.redb");
    // The log before the file: what is synced meanwhile is then in both.
    fs::copy(log_of(path), log_of(&to)).unwrap();
    fs::copy(path, &to).unwrap();
    (directory, to)
}
