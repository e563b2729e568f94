//! What sessions have to write, written behind their backs.
//!
//! A session notes what a later process must know and goes on; whoever promised something waits for it with
//! [`Journal::settled`]. Of one session only the latest waits, and one batch is under way at a time: a storm in which
//! every session changes writes as much as the disk takes, and the rest is overtaken by what comes after. A batch of
//! nothing but outcomes of requests does not wait for the disk, and an outcome that somebody waits for does not come by
//! here ([`outcome`]).

mod outcome;

pub use outcome::OutcomeWrite;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{
    Chronicle, SessionEntry, SessionSpec,
    record::{record, record_with},
};
use crate::{
    recovery::{SessionId, lifecycle::Remembered},
    store::{
        self, Batch, Records, StoreError,
        records::{REQUESTS_PER_SESSION, RequestRecord, Ticket},
    },
};

/// The most sessions that one batch writes: half of what a batch may have, since a removal has more than one change.
const GROUP: usize = Batch::MAX_CHANGES / 4;
/// Bytes at which a batch is full: a session has a few thousand, and one more of the largest fits.
const FULL: usize = Batch::MAX_BYTES / 2;
/// How long after a failure what it left is tried again: the store itself looks after its disk once a second.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// How long the outcome of a request for which nobody waits, waits for others: what a kill may cost of it.
const LINGER: Duration = Duration::from_millis(20);
/// How long a promise is waited for: longer than the store's own deadline, whatever that is.
const PROMISE: Duration = Duration::from_secs(65);

/// What something is written of: a session, or a request of it.
type Name = (SessionId, Option<String>);

/// What waits to be written of a session or a request.
enum Change {
    Write(Arc<SessionEntry>, Remembered),
    /// A request has its outcome.
    Outcome(RequestRecord),
    /// It is removed with its requests, and with what was promised to repeat the answer that it was made by.
    Remove(Option<Ticket>),
}

/// When something is to be written.
enum Urgency {
    Now,
    /// After [`LINGER`]: nothing but outcomes.
    Lingers,
    Nothing,
}

type Promise = oneshot::Sender<Result<(), StoreError>>;

#[derive(Default)]
struct Waiting {
    changes: BTreeMap<Name, Change>,
    /// Those of the batch that is under way.
    writing: BTreeSet<Name>,
    /// Outcomes that are being written for whoever waits for them.
    apart: BTreeSet<Name>,
    promises: BTreeMap<Name, Vec<Promise>>,
    /// Sessions that may have more requests than are kept.
    untrimmed: BTreeSet<SessionId>,
}

struct Inner {
    chronicle: Chronicle,
    records: Records,
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Wakes for what may linger.
    outcomes: Notify,
}

/// The one writer of sessions that exist.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

impl Journal {
    /// A journal into `records`; it writes while [`Journal::run`] runs.
    pub fn new(records: Records, chronicle: Chronicle) -> Self {
        let (waiting, wake, outcomes) = (Mutex::default(), Notify::new(), Notify::new());
        Self(Arc::new(Inner { chronicle, records, waiting, wake, outcomes }))
    }

    /// What happens to sessions.
    pub fn chronicle(&self) -> &Chronicle {
        &self.0.chronicle
    }

    /// Where it writes.
    pub fn records(&self) -> &Records {
        &self.0.records
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing here panics half-way through a change, so a poisoned lock holds a whole value.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a later process must know of a session.
    pub(crate) fn note(&self, entry: &Arc<SessionEntry>, remembered: Remembered) {
        let change = Change::Write(Arc::clone(entry), remembered);
        self.waiting().changes.insert((entry.id.clone(), None), change);
        self.0.wake.notify_one();
    }

    /// Notes the outcome of a request for which nobody waits; with `trim`, the session may have too many now.
    pub(super) fn note_request(&self, session: &SessionId, ended: RequestRecord, trim: bool) {
        let mut waiting = self.waiting();
        if trim {
            waiting.untrimmed.insert(session.clone());
        }
        let name = (session.clone(), Some(ended.req_id.clone()));
        waiting.changes.insert(name, Change::Outcome(ended));
        drop(waiting);
        self.0.outcomes.notify_one();
    }

    /// Whether a session could be written with this spec, as far as that can be known without writing it.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn check(
        &self,
        entry: &SessionEntry,
        spec: &SessionSpec,
        remembered: &Remembered,
    ) -> Result<(), StoreError> {
        let record = record_with(entry, spec, remembered);
        self.0.records.stage_session_over(Batch::new(), &record).map(drop)
    }

    /// Removes a session that nobody needs to know any more; with `ticket`, of one whose creation may have been
    /// written though it was refused.
    pub(crate) fn remove(&self, id: &SessionId, ticket: Option<Ticket>) {
        let mut waiting = self.waiting();
        // What was to be written of its requests would be left behind.
        let of_session = waiting.changes.range((id.clone(), None)..).map(|(name, _)| name.clone());
        for name in of_session.take_while(|(session, _)| session == id).collect::<Vec<_>>() {
            waiting.changes.remove(&name);
            if name.1.is_some() {
                waiting.answer(&name, &Ok(()));
            }
        }
        waiting.changes.insert((id.clone(), None), Change::Remove(ticket));
        drop(waiting);
        self.0.wake.notify_one();
    }

    /// Returns when everything that was noted of the session is durable.
    ///
    /// # Errors
    ///
    /// It could not be written; it is tried again all the same.
    pub async fn settled(&self, id: &SessionId) -> Result<(), StoreError> {
        self.written((id.clone(), None)).await
    }

    /// Returns when the outcome of a request outlives the process, if it was noted.
    ///
    /// # Errors
    ///
    /// As for [`Journal::settled`].
    pub async fn settled_request(&self, id: &SessionId, req_id: &str) -> Result<(), StoreError> {
        self.written((id.clone(), Some(req_id.to_owned()))).await
    }

    async fn written(&self, name: Name) -> Result<(), StoreError> {
        let written = {
            let mut waiting = self.waiting();
            if waiting.changes.contains_key(&name) {
                // It lingers no more.
                self.0.wake.notify_one();
            } else if !waiting.writing.contains(&name) && !waiting.apart.contains(&name) {
                return Ok(());
            }
            let (promise, written) = oneshot::channel();
            waiting.promises.entry(name).or_default().push(promise);
            written
        };
        match tokio::time::timeout(PROMISE, written).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(StoreError::NoAnswer { after: PROMISE }),
        }
    }

    /// Returns when everything that was noted is durable or could not be written, and gives how many notes
    /// could not.
    pub async fn flush(&self) -> usize {
        let names: BTreeSet<Name> = {
            let waiting = self.waiting();
            waiting.changes.keys().chain(&waiting.writing).chain(&waiting.apart).cloned().collect()
        };
        let mut unwritten = 0;
        for name in names {
            unwritten += usize::from(self.written(name).await.is_err());
        }
        unwritten
    }

    /// Writes what is noted, for ever.
    pub async fn run(self) {
        loop {
            let urgency = self.waiting().urgency();
            match urgency {
                Urgency::Now => {}
                // Or less, where something comes that does not.
                Urgency::Lingers => drop(tokio::time::timeout(LINGER, self.0.wake.notified()).await),
                Urgency::Nothing => {
                    if !self.trim().await {
                        tokio::select! {
                            () = self.0.wake.notified() => {}
                            () = self.0.outcomes.notified() => {}
                        }
                    }
                    continue;
                }
            }
            let changes = self.take();
            if let Err(error) = self.write(changes).await {
                tracing::warn!(%error, "sessions could not be written, it is tried again");
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }

    /// Drops the oldest requests of a session that may have too many, where nothing else is to be done; gives whether
    /// there was one. A failure is made good when the session has more of them.
    async fn trim(&self) -> bool {
        let Some(session) = self.waiting().untrimmed.pop_first() else { return false };
        if let Err(error) = self.0.records.trim_requests(&session, REQUESTS_PER_SESSION).await {
            tracing::debug!(%session, %error, "old requests could not be dropped");
        }
        true
    }

    fn take(&self) -> BTreeMap<Name, Change> {
        let mut waiting = self.waiting();
        let (mut taken, mut held) = (BTreeMap::new(), Vec::new());
        while taken.len() < GROUP
            && let Some((name, change)) = waiting.changes.pop_first()
        {
            if waiting.is_held(&name, &change) {
                held.push((name, change));
            } else {
                taken.insert(name, change);
            }
        }
        waiting.changes.extend(held);
        waiting.writing = taken.keys().cloned().collect();
        taken
    }

    /// Writes one batch. What does not fit, and all of it where it fails, waits again.
    async fn write(&self, changes: BTreeMap<Name, Change>) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let (mut written, mut later) = (BTreeMap::new(), BTreeMap::new());
        let mut refused = BTreeMap::new();
        for (id, change) in changes {
            if batch.bytes() > FULL {
                later.insert(id, change);
                continue;
            }
            match self.stage(&id, &change).await {
                Ok(staged) => {
                    batch =
                        staged.into_changes().into_iter().fold(batch, |batch, (key, change)| match change {
                            store::Change::Put(value) => batch.put(key, value),
                            store::Change::Delete => batch.delete(key),
                        });
                    written.insert(id, change);
                }
                Err(error) if error.is_transient() => {
                    later.insert(id, change);
                }
                Err(error) => {
                    tracing::error!(session = %id.0, %error, "what became of a session cannot be kept");
                    refused.insert(id, error);
                }
            }
        }
        // The loss of power may cost the outcome of a request, and nothing that a session is or was told to be.
        let only_outcomes = written.values().all(|change| matches!(change, Change::Outcome(_)));
        let batch = if only_outcomes { batch.logged() } else { batch };
        let result = if batch.is_empty() { Ok(()) } else { self.0.records.commit(batch).await.map(drop) };
        self.note_written(written, later, refused, &result);
        result
    }

    async fn stage(&self, (id, _): &Name, change: &Change) -> Result<Batch, StoreError> {
        let records = &self.0.records;
        match change {
            Change::Write(entry, remembered) => {
                records.stage_session_over(Batch::new(), &record(entry, remembered))
            }
            Change::Outcome(ended) => records.stage_request(Batch::new(), id, ended),
            Change::Remove(ticket) => {
                // Before the session: a process that dies between them finds the session, and removes it again.
                records.trim_requests(id, 0).await?;
                records.trim_history(id, 0).await?;
                self.0.chronicle.forget(id);
                let batch = records.stage_session_drop(Batch::new(), id);
                Ok(ticket.iter().fold(batch, |batch, ticket| records.stage_withdrawal(batch, ticket)))
            }
        }
    }

    fn note_written(
        &self,
        written: BTreeMap<Name, Change>,
        later: BTreeMap<Name, Change>,
        refused: BTreeMap<Name, StoreError>,
        result: &Result<(), StoreError>,
    ) {
        let mut waiting = self.waiting();
        waiting.writing.clear();
        for (id, change) in later {
            waiting.put_back(id, change);
        }
        for (id, error) in refused {
            waiting.answer(&id, &Err(error));
        }
        for (id, change) in written {
            match result {
                // Whoever waits for what was noted meanwhile goes on waiting.
                Ok(()) if waiting.changes.contains_key(&id) => {}
                Ok(()) => waiting.answer(&id, &Ok(())),
                Err(error) => {
                    waiting.answer(&id, &Err(error.clone()));
                    waiting.put_back(id, change);
                }
            }
        }
    }
}

impl Waiting {
    /// Whether a change must wait: what is being written of a session would be left behind by its removal. The end of
    /// that wakes the journal.
    fn is_held(&self, name: &Name, change: &Change) -> bool {
        matches!(change, Change::Remove(_)) && self.apart.iter().any(|(session, _)| *session == name.0)
    }

    fn urgency(&self) -> Urgency {
        let mut urgency = Urgency::Nothing;
        for (name, change) in &self.changes {
            match change {
                Change::Outcome(_) => urgency = Urgency::Lingers,
                Change::Write(..) => return Urgency::Now,
                Change::Remove(_) if self.is_held(name, change) => {}
                Change::Remove(_) => return Urgency::Now,
            }
        }
        urgency
    }

    /// Lets a change wait again, unless something newer does or its session is being removed.
    fn put_back(&mut self, name: Name, change: Change) {
        let session = (name.0.clone(), None);
        if name.1.is_none() || !matches!(self.changes.get(&session), Some(Change::Remove(_))) {
            self.changes.entry(name).or_insert(change);
        }
    }

    fn answer(&mut self, id: &Name, result: &Result<(), StoreError>) {
        for promise in self.promises.remove(id).into_iter().flatten() {
            // Whoever waited may have gone.
            drop(promise.send(result.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
