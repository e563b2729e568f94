//! The store in one file of redb, with a thread that writes and one that reads.
//!
//! The writer takes what waits, puts it into one transaction and syncs once: the commit that the first request
//! waits for is shared by all that came meanwhile. Every wait is bounded, in requests, in bytes and in time.
//!
//! A group in which nothing has to outlive the loss of power is not synced: it is written to a log beside the file,
//! which is applied with the next sync, or when the file is opened after a process that was killed. Until then readers see
//! it over the database (`unapplied`).
//!
//! When the disk fails, the database is closed, and opened again with the next request, at most once in
//! [`RETRY`](writer::RETRY): a disk that has room again serves again, without a restart of the process.

mod device;
mod file;
mod migrate;
mod reader;
mod redo;
mod table;
mod unapplied;
mod writer;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use redb::Database;
use tokio::sync::oneshot;

pub use table::SCHEMA;

use super::{
    Answer, Batch, Bounds, Entry, Key, Observer, OpenError, Page, Prefix, Range, Revision, Store, StoreError,
    Watch, watch::Hub,
};
use file::StoreFile;
use unapplied::Unapplied;

/// The most bytes of batches that wait: their memory is bounded whatever their sizes.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// The most reads that wait. Reads are quick, and start-up and idempotency keys ask one at a time.
const MAX_WAITING_READS: usize = 1024;

/// The database, or why there is none at present.
#[derive(Debug)]
enum Condition {
    Open(Database),
    Broken(String),
    Closed,
}

/// The condition, shared by the threads. Whoever uses the database holds the guard, so that it is closed, and
/// opened again, by nobody's back.
#[derive(Debug)]
struct Shared(RwLock<Condition>);

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Condition> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the condition; what was open is closed then.
    fn set(&self, condition: Condition) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = condition;
    }

    fn with<T>(&self, run: impl FnOnce(&Database) -> T) -> Result<T, StoreError> {
        match &*self.read() {
            Condition::Open(database) => Ok(run(database)),
            Condition::Broken(reason) => Err(StoreError::Unavailable { reason: reason.clone() }),
            Condition::Closed => Err(StoreError::Closed),
        }
    }
}

/// A batch that waits for its commit.
#[derive(Debug)]
struct Request {
    batch: Batch,
    queued: Instant,
    answer: oneshot::Sender<Result<Revision, StoreError>>,
}

/// What the writer is asked.
#[derive(Debug)]
enum Ask {
    Commit(Request),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// What waits for the writer.
#[derive(Debug, Default)]
struct Waiting {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// Makes room for a request; `false` where there is none.
    fn enter(&self, bytes: usize, most: usize) -> bool {
        let requests = self.requests.fetch_add(1, Ordering::AcqRel) + 1;
        let bytes_now = self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let fits = requests <= most && bytes_now <= MAX_WAITING_BYTES;
        if !fits {
            self.leave(bytes);
        }
        fits
    }

    fn leave(&self, bytes: usize) {
        self.requests.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// The store in one file. Its threads know nothing of a runtime's paused time: under that, every answer is
/// [`StoreError::NoAnswer`].
///
/// Closed by [`Store::close`], or when it is dropped, as soon as what waits is written.
pub struct Embedded {
    writes: SyncSender<Ask>,
    reads: SyncSender<reader::Read>,
    shared: Arc<Shared>,
    waiting: Arc<Waiting>,
    hub: Arc<Hub>,
    bounds: Bounds,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the file at `path`, or makes it, and starts the threads. `observer` hears of every commit.
    ///
    /// Reads the whole file once to see that it is sound: about a second for a gigabyte that is in memory.
    ///
    /// # Errors
    ///
    /// [`OpenError`], with the file as it was.
    pub fn open(path: &Path, bounds: Bounds, observer: Observer) -> Result<Self, OpenError> {
        let mut file = StoreFile::lock(path)?;
        let (database, latest) = file.open()?;
        let unapplied = Arc::new(Unapplied::default());
        unapplied.applied(latest);
        let shared = Arc::new(Shared(RwLock::new(Condition::Open(database))));
        let (waiting, hub) = (Arc::new(Waiting::default()), Arc::new(Hub::new()));
        let not_started = |error| OpenError::Refused {
            path: path.to_owned(),
            attempt: "served, since no thread can be started",
            error,
        };
        let writer = writer::Writer {
            file,
            shared: Arc::clone(&shared),
            unapplied: Arc::clone(&unapplied),
            waiting: Arc::clone(&waiting),
            hub: Arc::clone(&hub),
            bounds,
            observer,
        };
        let writes = writer.start().map_err(not_started)?;
        let reads = reader::start(Arc::clone(&shared), unapplied).map_err(not_started)?;
        Ok(Self { writes, reads, shared, waiting, hub, bounds })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> reader::Read,
    ) -> Answer<T> {
        let (answer, answered) = oneshot::channel();
        match self.reads.try_send(read(answer)) {
            Ok(()) => wait(answered, self.bounds.deadline),
            Err(TrySendError::Full(_)) => refused(StoreError::Busy { waiting: MAX_WAITING_READS }),
            Err(TrySendError::Disconnected(_)) => refused(StoreError::Closed),
        }
    }
}

fn refused<T: Send + 'static>(error: StoreError) -> Answer<T> {
    Box::pin(std::future::ready(Err(error)))
}

fn wait<T: Send + 'static>(
    answered: oneshot::Receiver<Result<T, StoreError>>,
    deadline: Duration,
) -> Answer<T> {
    Box::pin(async move {
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(StoreError::NoAnswer { after: deadline }),
        }
    })
}

impl Store for Embedded {
    fn get(&self, key: &Key) -> Answer<Option<Entry>> {
        self.read(|answer| reader::Read::Get(key.clone(), answer))
    }

    fn list(&self, range: &Range) -> Answer<Page> {
        self.read(|answer| reader::Read::List(range.clone(), answer))
    }

    fn commit(&self, batch: Batch) -> Answer<Revision> {
        if let Err(error) = batch.check() {
            return refused(error);
        }
        let bytes = batch.bytes();
        if !self.waiting.enter(bytes, self.bounds.queue) {
            return refused(StoreError::Busy { waiting: self.waiting.requests.load(Ordering::Acquire) });
        }
        let (answer, answered) = oneshot::channel();
        let request = Request { batch, queued: Instant::now(), answer };
        match self.writes.try_send(Ask::Commit(request)) {
            Ok(()) => wait(answered, self.bounds.deadline),
            Err(TrySendError::Full(_)) => {
                self.waiting.leave(bytes);
                refused(StoreError::Busy { waiting: self.bounds.queue })
            }
            Err(TrySendError::Disconnected(_)) => {
                self.waiting.leave(bytes);
                refused(StoreError::Closed)
            }
        }
    }

    fn watch(&self, prefix: &Prefix) -> Watch {
        self.hub.watch(prefix)
    }

    fn trouble(&self) -> Option<String> {
        match &*self.shared.read() {
            Condition::Open(_) => None,
            Condition::Broken(reason) => Some(reason.clone()),
            Condition::Closed => Some(StoreError::Closed.to_string()),
        }
    }

    fn close(&self) -> Answer<()> {
        let (answer, answered) = oneshot::channel();
        match self.writes.try_send(Ask::Close(answer)) {
            Ok(()) => {
                let closed = wait(answered, self.bounds.deadline);
                Box::pin(async move {
                    match closed.await {
                        // Somebody else's close came first.
                        Err(StoreError::Closed) => Ok(()),
                        other => other,
                    }
                })
            }
            Err(TrySendError::Full(_)) => refused(StoreError::Busy { waiting: self.bounds.queue }),
            Err(TrySendError::Disconnected(_)) => Box::pin(std::future::ready(Ok(()))),
        }
    }
}
