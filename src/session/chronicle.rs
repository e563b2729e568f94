//! What happens to sessions, told on the bus and kept for their timelines.
//!
//! An event is no promise: it is written a moment later, many at once, and nobody waits for that. Until then it is
//! read from here. What waits is bounded; where a store takes nothing for long, the oldest is given up and counted.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde_json::value::to_raw_value;
use tokio::sync::Notify;

use super::TenantRuntime;
use crate::{
    events::{Bus, Event, Kind, StateChange, TenantAction, TenantQuota, What},
    recovery::{Moment, SessionId, TenantId},
    store::{
        Batch, Key, Records, StoreError,
        records::{HISTORY_PER_CLASS, HistoryClass, HistoryPlace, HistoryRecord},
    },
    telemetry::Metrics,
};

/// How long an event waits for others: what a kill costs a timeline at most, and few commits a second.
const LINGER: Duration = Duration::from_millis(250);
/// Events that wait to be written: some ten seconds of a storm in which everybody restarts, in some megabytes.
const MAX_WAITING: usize = 20_000;
/// Events of one batch: half of what a batch takes, so that it never fails for its length.
const GROUP: usize = Batch::MAX_CHANGES / 2;
/// Bytes at which a batch is full: one more event of the longest fits.
const FULL: usize = Batch::MAX_BYTES / 2;
/// Events that are put in the order of their sessions before they are written: those of one session lie together in the
/// store, and in a storm a page is written once for all of them. So few that none is written much later than others.
const IN_ORDER: usize = 8 * GROUP;
/// Events of a session after which it is looked whether it has more than are kept.
const TRIM_EVERY: u16 = 32;
/// How long after a failure it is tried again: the store itself looks after its disk once a second.
const TRY_AGAIN: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Waiting {
    /// The oldest first, but for the first `in_order`, which are in the order of their sessions.
    events: VecDeque<(SessionId, Arc<Event>)>,
    in_order: usize,
    /// Those of the batch that is under way.
    writing: Vec<(SessionId, Arc<Event>)>,
    /// Events of each session since it was last looked whether it has too many.
    counts: BTreeMap<SessionId, u16>,
    untrimmed: BTreeSet<SessionId>,
    /// Sessions that nobody needs to know any more, with all of their history.
    forgotten: BTreeSet<SessionId>,
}

impl Waiting {
    fn pop(&mut self) -> Option<(SessionId, Arc<Event>)> {
        self.in_order = self.in_order.saturating_sub(1);
        self.events.pop_front()
    }

    /// Puts the oldest in order, once all that were are taken: nothing that comes later overtakes one for ever.
    fn put_in_order(&mut self) {
        if self.in_order == 0 {
            self.in_order = self.events.len().min(IN_ORDER);
            // Stable: what happened to a session stays in its order.
            self.events.make_contiguous()[..self.in_order].sort_by(|(one, _), (other, _)| one.cmp(other));
        }
    }
}

struct Inner {
    bus: Bus,
    records: Records,
    metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
    wake: Notify,
    written: Notify,
}

/// Tells everybody what happens, and keeps what is of a session. Cheap to clone.
#[derive(Clone)]
pub struct Chronicle(Arc<Inner>);

impl Chronicle {
    /// A chronicle into `records`; it writes while [`Chronicle::run`] runs.
    pub fn new(bus: Bus, records: Records, metrics: Arc<Metrics>) -> Self {
        let (waiting, wake, written) = (Mutex::default(), Notify::new(), Notify::new());
        Self(Arc::new(Inner { bus, records, metrics, waiting, wake, written }))
    }

    /// Where everybody hears of it.
    pub fn bus(&self) -> &Bus {
        &self.0.bus
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing here panics half-way through a change, so a poisoned lock holds a whole value.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what happened to a tenant, or to the process.
    pub fn tell(&self, now: Moment, tenant: Option<TenantId>, what: What) {
        self.0.bus.publish(now, tenant, None, what);
    }

    /// Tells that a quota of a tenant refuses, once in a minute at most.
    pub fn tell_quota(&self, now: Moment, runtime: &TenantRuntime, quota: TenantQuota) {
        if runtime.quota_is_news(quota, now) {
            let what = What::Tenant { action: TenantAction::QuotaReached, code: None, quota: Some(quota) };
            self.tell(now, Some(runtime.id.clone()), what);
        }
    }

    /// Tells what happened to a session, and keeps it.
    pub fn tell_of(&self, now: Moment, tenant: &TenantId, session: &SessionId, what: What) {
        let event = self.0.bus.publish(now, Some(tenant.clone()), Some(session.clone()), what);
        let mut waiting = self.waiting();
        if waiting.events.len() >= MAX_WAITING {
            waiting.pop();
            self.0.metrics.history_lost();
        }
        waiting.events.push_back((session.clone(), event));
        drop(waiting);
        self.0.wake.notify_one();
    }

    /// Forgets all that happened to a session.
    pub(super) fn forget(&self, session: &SessionId) {
        let mut waiting = self.waiting();
        waiting.counts.remove(session);
        waiting.untrimmed.remove(session);
        waiting.forgotten.insert(session.clone());
        drop(waiting);
        self.0.wake.notify_one();
    }

    /// A session's history, the newest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn history(&self, session: &SessionId) -> Result<Vec<HistoryRecord>, StoreError> {
        // In this order: what is written meanwhile is there twice, and not missing.
        let unwritten: Vec<Arc<Event>> = {
            let waiting = self.waiting();
            let all = waiting.writing.iter().chain(&waiting.events);
            all.filter(|(of, _)| of == session).map(|(_, event)| Arc::clone(event)).collect()
        };
        let mut history: BTreeMap<u64, HistoryRecord> = BTreeMap::new();
        for record in self.0.records.history(session).await? {
            history.insert(record.number, record);
        }
        for event in unwritten {
            history.extend(entry(&event).map(|record| (record.number, record)));
        }
        Ok(history.into_values().rev().collect())
    }

    /// Writes what is told, for ever.
    pub async fn run(self) {
        loop {
            if self.is_idle() {
                self.0.written.notify_waiters();
                self.0.wake.notified().await;
            }
            if self.may_linger() {
                tokio::time::sleep(LINGER).await;
            }
            if let Err(error) = self.write_some().await {
                tracing::warn!(%error, "histories could not be written, it is tried again");
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }

    /// Returns when all that was told is written. It is no more tried than ever: give it a deadline.
    pub async fn flush(&self) {
        loop {
            let written = self.0.written.notified();
            if self.is_idle() {
                return;
            }
            written.await;
        }
    }

    fn is_idle(&self) -> bool {
        let waiting = self.waiting();
        waiting.events.is_empty()
            && waiting.writing.is_empty()
            && waiting.untrimmed.is_empty()
            && waiting.forgotten.is_empty()
    }

    /// Whether there is too little to write for a batch of its own: where events come one by one and without a pause, a
    /// write for each few would cost several times as much.
    fn may_linger(&self) -> bool {
        let waiting = self.waiting();
        waiting.events.len() < GROUP && waiting.untrimmed.is_empty() && waiting.forgotten.is_empty()
    }

    async fn write_some(&self) -> Result<(), StoreError> {
        let batch = self.take_batch();
        if !batch.is_empty()
            && let Err(error) = self.0.records.commit(batch.logged()).await
        {
            self.put_back();
            return Err(error);
        }
        self.note_written();
        // Behind all that was told of them before: what is told is passed over as long as it is known here that they
        // are forgotten.
        let forgotten = {
            let mut waiting = self.waiting();
            if waiting.events.is_empty() { waiting.forgotten.pop_first() } else { None }
        };
        if let Some(session) = forgotten
            && let Err(error) = self.0.records.trim_history(&session, 0).await
        {
            self.waiting().forgotten.insert(session);
            return Err(error);
        }
        let untrimmed = self.waiting().untrimmed.pop_first();
        if let Some(session) = untrimmed {
            // A failure is made good when the session has more.
            self.0.records.trim_history(&session, HISTORY_PER_CLASS).await?;
        }
        Ok(())
    }

    fn take_batch(&self) -> Batch {
        let mut waiting = self.waiting();
        let mut batch = Batch::new();
        waiting.put_in_order();
        // Of the session that the latest event was of: those of one stand together.
        let mut place: Option<(SessionId, HistoryPlace)> = None;
        while waiting.writing.len() < GROUP
            && batch.bytes() <= FULL
            && let Some((session, event)) = waiting.pop()
        {
            if waiting.forgotten.contains(&session) {
                continue;
            }
            let (_, place) = match place.take() {
                Some(known) if known.0 == session => place.insert(known),
                Some(_) | None => place.insert((session.clone(), HistoryPlace::of(&session))),
            };
            match stored(place, &event) {
                Ok(stored) => {
                    batch = stored.into_iter().fold(batch, |batch, (key, value)| batch.put(key, value))
                }
                Err(error) => {
                    tracing::error!(%session, %error, "an event cannot be kept");
                    continue;
                }
            }
            waiting.writing.push((session, event));
        }
        batch
    }

    fn put_back(&self) {
        let mut waiting = self.waiting();
        waiting.in_order = 0;
        while let Some((session, event)) = waiting.writing.pop() {
            if waiting.forgotten.contains(&session) {
                continue;
            }
            waiting.events.push_front((session, event));
        }
    }

    fn note_written(&self) {
        let mut waiting = self.waiting();
        for (session, event) in std::mem::take(&mut waiting.writing) {
            if waiting.forgotten.contains(&session) {
                continue;
            }
            // The first of this process follows on those of an earlier one, unless the session begins with it.
            let before = if begins(&event) { 0 } else { TRIM_EVERY - 1 };
            let count = waiting.counts.entry(session.clone()).or_insert(before);
            *count += 1;
            if *count >= TRIM_EVERY {
                *count = 0;
                waiting.untrimmed.insert(session);
            }
        }
    }
}

/// Whether a session was made with this event.
const fn begins(event: &Event) -> bool {
    matches!(event.what, What::State(StateChange { from: None, .. }))
}

/// An event as it is read from a history.
fn entry(event: &Event) -> Option<HistoryRecord> {
    // An event is always JSON, and is not read again to see that it is.
    let event_json = to_raw_value(event).ok()?;
    Some(HistoryRecord { number: event.id.0, event: event_json })
}

/// An event as it is stored, and where.
fn stored(place: &HistoryPlace, event: &Event) -> Result<Option<(Key, Bytes)>, StoreError> {
    let class = match event.what.kind() {
        Kind::Request => HistoryClass::Request,
        Kind::State
        | Kind::Error
        | Kind::Attempt
        | Kind::Operator
        | Kind::Client
        | Kind::Tenant
        | Kind::Upstream => HistoryClass::Change,
    };
    entry(event).map(|entry| entry.stored(place, class)).transpose()
}

#[cfg(test)]
mod tests;
