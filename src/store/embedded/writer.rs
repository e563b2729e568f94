//! The thread that writes: group commit, and opening the file again after a failure.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use redb::Database;
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{
    Ask, Condition, Request, Shared, Waiting,
    file::StoreFile,
    table::{self, Failure},
    unapplied::Unapplied,
};
use crate::store::{Batch, Bounds, CommitReport, Observer, Revision, StoreError, watch::Hub};

/// How long the writer waits between attempts to open the file again: each reads all of it.
pub(super) const RETRY: Duration = Duration::from_millis(250);

/// The thread's own.
pub(super) struct Writer {
    pub(super) file: StoreFile,
    pub(super) shared: Arc<Shared>,
    pub(super) unapplied: Arc<Unapplied>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) hub: Arc<Hub>,
    pub(super) bounds: Bounds,
    pub(super) observer: Observer,
}

type Closed = oneshot::Sender<Result<(), StoreError>>;

/// What the writer found in its queue.
#[derive(Default)]
struct Taken {
    group: Vec<Request>,
    close: Option<Closed>,
}

impl Writer {
    /// Starts the thread; it ends when it is told to close, or with the last sender.
    pub(super) fn start(self) -> io::Result<SyncSender<Ask>> {
        // One more than the queue, for the ask to close.
        let (sender, receiver) = sync_channel(self.bounds.queue + 1);
        thread::Builder::new().name("store-write".to_owned()).spawn(move || self.run(&receiver))?;
        Ok(sender)
    }

    fn run(mut self, receiver: &Receiver<Ask>) {
        let mut retry_at = None;
        while let Some(mut taken) = self.take(receiver, retry_at) {
            if retry_at.is_some_and(|at| Instant::now() >= at) {
                retry_at = self.reopen();
            }
            if !taken.group.is_empty() && !self.commit(std::mem::take(&mut taken.group)) {
                retry_at = Some(Instant::now() + RETRY);
            }
            let is_due = self.file.log.due().is_some_and(|due| due <= Instant::now());
            if retry_at.is_none() && is_due && !self.flush() {
                retry_at = Some(Instant::now() + RETRY);
            }
            if let Some(closed) = taken.close {
                self.end();
                // The lock on the file ends before whoever waits hears of it.
                drop(self);
                let _ = closed.send(Ok(()));
                return;
            }
        }
        self.end();
    }

    fn end(&mut self) {
        if self.file.log.due().is_some() {
            // Where it fails, the log stays, and is applied by whoever opens the file.
            self.flush();
        }
        self.shared.set(Condition::Closed);
        self.hub.end();
    }

    /// Waits for a request, or for the time of the next attempt or of the next sync, and takes what else waits; `None`
    /// when nobody can ask any more.
    fn take(&self, receiver: &Receiver<Ask>, retry_at: Option<Instant>) -> Option<Taken> {
        let first = match retry_at.or_else(|| self.file.log.due()) {
            None => receiver.recv().ok()?,
            Some(at) => match receiver.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(ask) => ask,
                Err(RecvTimeoutError::Timeout) => return Some(Taken::default()),
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        let (mut taken, mut next) = (Taken::default(), Some(first));
        while let Some(ask) = next {
            match ask {
                Ask::Commit(request) => taken.group.push(request),
                Ask::Close(closed) => {
                    taken.close = Some(closed);
                    break;
                }
            }
            let full = taken.group.len() >= self.bounds.group;
            next = if full { None } else { receiver.try_recv().ok() };
        }
        for request in &taken.group {
            self.waiting.leave(request.batch.bytes());
        }
        Some(taken)
    }

    /// Commits a group and answers it; `false` where the file failed just now, and has to be opened again.
    fn commit(&mut self, group: Vec<Request>) -> bool {
        let (mut batches, mut answers) = (Vec::new(), Vec::new());
        for Request { batch, queued, answer } in group {
            let waited = queued.elapsed();
            if waited >= self.bounds.deadline {
                let _ = answer.send(Err(StoreError::Late { waited }));
                continue;
            }
            batches.push(batch);
            answers.push(answer);
        }
        if batches.is_empty() {
            return true;
        }
        let started = Instant::now();
        let written = self.write(&batches);
        (self.observer)(CommitReport {
            took: started.elapsed(),
            batches: batches.len(),
            succeeded: written.is_ok(),
        });
        match written {
            Ok(outcomes) => {
                self.tell(batches, &outcomes);
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(outcome);
                }
                true
            }
            Err(Broken::Closed(error)) => {
                answer_all(answers, &error);
                true
            }
            Err(Broken::Now(error)) => {
                self.give_up(&error);
                answer_all(answers, &error);
                false
            }
        }
    }

    /// Closes the database, which is to be opened again.
    fn give_up(&self, error: &StoreError) {
        error!(reason = %error, "store failed and will be opened again");
        self.shared.set(Condition::Broken(error.to_string()));
    }

    fn write(&mut self, batches: &[Batch]) -> Result<Vec<Result<Revision, StoreError>>, Broken> {
        let StoreFile { file, log, .. } = &mut self.file;
        let unapplied = &self.unapplied;
        if log.takes(batches) {
            return attempt(&self.shared, |database| table::append(database, unapplied, batches, log, file));
        }
        let outcomes = attempt(&self.shared, |database| table::write(database, unapplied, batches))?;
        // Where every batch was refused, nothing was synced.
        if outcomes.iter().any(Result::is_ok) {
            log.cut();
        }
        Ok(outcomes)
    }

    /// Brings to the disk what is in the log only; `false` where the file failed just now.
    fn flush(&mut self) -> bool {
        let started = Instant::now();
        let flushed = attempt(&self.shared, |database| table::flush(database, &self.unapplied));
        (self.observer)(CommitReport { took: started.elapsed(), batches: 0, succeeded: flushed.is_ok() });
        match flushed {
            Ok(()) => self.file.log.cut(),
            Err(Broken::Closed(_)) => {}
            Err(Broken::Now(error)) => {
                self.give_up(&error);
                return false;
            }
        }
        true
    }

    fn tell(&self, batches: Vec<Batch>, outcomes: &[Result<Revision, StoreError>]) {
        for (batch, outcome) in batches.into_iter().zip(outcomes) {
            if let Ok(revision) = outcome {
                self.hub.tell(*revision, batch);
            }
        }
    }

    /// Opens the file again; gives when to try the next time, where that failed.
    fn reopen(&mut self) -> Option<Instant> {
        match self.file.reopen() {
            Ok((database, latest)) => {
                info!("store is open again");
                // All of the log is in the database now.
                self.unapplied.applied(latest);
                self.shared.set(Condition::Open(database));
                // The commit that failed may have been written.
                self.hub.gap();
                None
            }
            Err(error) => {
                self.shared.set(Condition::Broken(error.to_string()));
                Some(Instant::now() + RETRY)
            }
        }
    }
}

/// Why a group was not committed.
enum Broken {
    /// By what just happened.
    Now(StoreError),
    /// The database was not open.
    Closed(StoreError),
}

/// Does something with the database. A file that was damaged while it was open may make redb panic; that must not
/// end the thread.
fn attempt<T>(shared: &Shared, run: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, Broken> {
    match catch_unwind(AssertUnwindSafe(|| shared.with(run))) {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(Failure::Before(reason)))) => Err(Broken::Now(StoreError::Unavailable { reason })),
        Ok(Ok(Err(Failure::During(reason)))) => Err(Broken::Now(StoreError::Unsure { reason })),
        Ok(Err(error)) => Err(Broken::Closed(error)),
        Err(_) => Err(Broken::Now(StoreError::Unsure { reason: "writing the file panicked".to_owned() })),
    }
}

fn answer_all(answers: Vec<oneshot::Sender<Result<Revision, StoreError>>>, error: &StoreError) {
    for answer in answers {
        let _ = answer.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests;
