//! The outcome of a request that somebody waits for.
//!
//! It is handed to the store where it is known, and its writing to whoever waits: the journal's thread would be a detour
//! between a request's last frame and its answer. One that is dropped, as its client is gone, or that fails is left to
//! the journal.

use std::fmt;

use super::{Change, Journal, Name};
use crate::{
    recovery::SessionId,
    store::{Answer, Batch, Revision, StoreError, records::RequestRecord},
};

/// Outcomes that are written apart at a time. More at once are a storm, in which the journal writes them together, and the
/// store's queue keeps its room for others.
const MOST: usize = 256;

/// An outcome that is being written.
pub struct OutcomeWrite {
    journal: Journal,
    name: Name,
    /// What is left to the journal when this is dropped.
    ended: Option<RequestRecord>,
    commit: Option<Answer<Revision>>,
}

impl fmt::Debug for OutcomeWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutcomeWrite").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Journal {
    /// Begins to write the outcome of a request; `trim` as for [`Journal::note_request`].
    pub(in crate::session) fn write_request(
        &self,
        session: &SessionId,
        ended: RequestRecord,
        trim: bool,
    ) -> OutcomeWrite {
        let name = (session.clone(), Some(ended.req_id.clone()));
        let of_session = (session.clone(), None);
        let mut waiting = self.waiting();
        if trim {
            waiting.untrimmed.insert(session.clone());
        }
        let is_going = matches!(waiting.changes.get(&of_session), Some(Change::Remove(_)));
        let is_storm = waiting.apart.len() >= MOST;
        if is_storm || is_going || waiting.writing.contains(&of_session) {
            // In its place among the changes of its session, where it has some.
            drop(waiting);
            self.note_request(session, ended, false);
            return OutcomeWrite { journal: self.clone(), name, ended: None, commit: None };
        }
        waiting.apart.insert(name.clone());
        drop(waiting);
        let records = &self.0.records;
        let commit = match records.stage_request(Batch::new(), session, &ended) {
            Ok(batch) => records.store().commit(batch.logged()),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        };
        OutcomeWrite { journal: self.clone(), name, ended: Some(ended), commit: Some(commit) }
    }
}

impl OutcomeWrite {
    /// Returns when the outcome outlives the process.
    ///
    /// # Errors
    ///
    /// It could not be written; it is tried again.
    pub async fn done(mut self) -> Result<(), StoreError> {
        let Some(commit) = self.commit.take() else {
            return self.journal.written(self.name.clone()).await;
        };
        let result = commit.await.map(drop);
        if result.is_ok() {
            self.ended = None;
        }
        // Others may wait for the same.
        self.journal.waiting().answer(&self.name, &result);
        result
    }
}

impl Drop for OutcomeWrite {
    fn drop(&mut self) {
        let mut waiting = self.journal.waiting();
        waiting.apart.remove(&self.name);
        let is_left = self.ended.is_some();
        if let Some(ended) = self.ended.take() {
            waiting.put_back(self.name.clone(), Change::Outcome(ended));
        }
        let is_awaited = is_left
            || !waiting.untrimmed.is_empty()
            || waiting.changes.contains_key(&(self.name.0.clone(), None));
        drop(waiting);
        if is_awaited {
            self.journal.0.wake.notify_one();
        }
    }
}
