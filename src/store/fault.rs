//! Faults that tests bring about; in any other build the functions do nothing.

use std::io;

/// The points at which a fault can be brought about.
pub(super) mod point {
    /// Opening the file, the first time and after a failure.
    pub(in crate::store) const OPEN: &str = "store::open";
    /// Beginning a transaction.
    pub(in crate::store) const BEGIN: &str = "store::begin";
    /// Applying a change within a transaction.
    pub(in crate::store) const APPLY: &str = "store::apply";
    /// Committing a transaction, before it is tried.
    pub(in crate::store) const COMMIT: &str = "store::commit";
    /// Writing to the file.
    pub(in crate::store) const DISK_WRITE: &str = "store::disk_write";
    /// Making the file longer.
    pub(in crate::store) const DISK_GROW: &str = "store::disk_grow";
    /// Bringing the file to the disk.
    pub(in crate::store) const DISK_SYNC: &str = "store::disk_sync";
    /// Writing to the log beside the file.
    pub(in crate::store) const LOG_WRITE: &str = "store::log_write";
    /// The same, after half of what is to be written.
    pub(in crate::store) const LOG_TEAR: &str = "store::log_tear";
    /// Cutting the log to nothing.
    pub(in crate::store) const LOG_CUT: &str = "store::log_cut";
    /// Reading from the store.
    pub(in crate::store) const READ: &str = "store::read";
    /// The same, between what is over the database and the look into that.
    pub(in crate::store) const READ_OVER: &str = "store::read_over";
}

/// The fault that a test has set for `point`: an error by its name, a wait, or a panic.
#[cfg(feature = "failpoints")]
pub(super) fn at(point: &str) -> io::Result<()> {
    fail::fail_point!(point, |name| Err(match name.as_deref() {
        Some("full") => io::Error::from(io::ErrorKind::StorageFull),
        Some("denied") => io::Error::from(io::ErrorKind::PermissionDenied),
        Some("read-only") => io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
        Some(_) | None => io::Error::other("input/output error (brought about by a test)"),
    }));
    Ok(())
}

/// Nothing: only test builds have faults.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "a test build has faults here")]
pub(super) fn at(_point: &str) -> io::Result<()> {
    Ok(())
}
