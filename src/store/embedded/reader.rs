//! The thread that reads, so that no thread of sessions waits for a disk.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use redb::Database;
use tokio::sync::oneshot;

use super::{MAX_WAITING_READS, Shared, table, unapplied::Unapplied};
use crate::store::{Entry, Key, Page, Range, StoreError};

/// What is to be read, and who waits for it.
pub(super) enum Read {
    Get(Key, oneshot::Sender<Result<Option<Entry>, StoreError>>),
    List(Range, oneshot::Sender<Result<Page, StoreError>>),
}

/// Starts the thread; it ends with the last sender.
pub(super) fn start(shared: Arc<Shared>, unapplied: Arc<Unapplied>) -> io::Result<SyncSender<Read>> {
    let (sender, receiver) = sync_channel(MAX_WAITING_READS);
    thread::Builder::new()
        .name("store-read".to_owned())
        .spawn(move || run(&shared, &unapplied, &receiver))?;
    Ok(sender)
}

fn run(shared: &Shared, unapplied: &Unapplied, receiver: &Receiver<Read>) {
    for read in receiver {
        // An answer that nobody waits for any more is dropped.
        match read {
            Read::Get(key, answer) => {
                let _ = answer.send(attempt(shared, |database| table::get(database, unapplied, &key)));
            }
            Read::List(range, answer) => {
                let _ = answer.send(attempt(shared, |database| table::list(database, unapplied, &range)));
            }
        }
    }
}

/// A file that was damaged while it was open may make its reader panic; that must not end this thread.
fn attempt<T>(
    shared: &Shared,
    read: impl FnOnce(&Database) -> Result<T, redb::Error>,
) -> Result<T, StoreError> {
    let unavailable = |reason: String| StoreError::Unavailable { reason };
    match catch_unwind(AssertUnwindSafe(|| shared.with(read))) {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(unavailable(error.to_string())),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(unavailable("reading the file panicked".to_owned())),
    }
}
