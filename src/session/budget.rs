//! The bytes that the outboxes of many sessions hold together.
//!
//! Each session has a [`OutboxShare`] of its tenant's budget and of the process's. Sessions live on several threads, so
//! that the sums are atomics: a session may see a sum that is a moment old, and the bounds hold up to what was
//! accepted in that moment.
//!
//! Only bytes that wait to be sent push back. What was sent is a copy for a replay: over the bound each session drops
//! its own copies at its next turn, and those that have no turn are called for it.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::sums::Sum;
use crate::{outbox::Ledger, telemetry::Metrics};

/// The bytes that some sessions may hold together, and hold.
#[derive(Debug)]
pub struct OutboxBudget {
    bound: AtomicUsize,
    waiting: Sum,
    kept: Sum,
}

impl OutboxBudget {
    /// A budget of `bound` bytes, of which nothing is used.
    pub fn new(bound: usize) -> Self {
        Self { bound: AtomicUsize::new(bound), waiting: Sum::new(), kept: Sum::new() }
    }

    /// The bound is another from now on. What is held beyond it is not taken away: it pushes back, and copies go.
    pub(crate) fn set_bound(&self, bound: usize) {
        self.bound.store(bound, Ordering::Relaxed);
    }

    fn bound(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    /// Bytes that wait to be sent and copies together.
    pub fn kept(&self) -> usize {
        self.kept.get()
    }

    /// Bytes beyond the bound.
    pub fn excess(&self) -> usize {
        self.kept().saturating_sub(self.bound())
    }

    fn room(&self) -> usize {
        self.bound().saturating_sub(self.waiting.get())
    }

    fn change(&self, from: Held, to: Held) {
        self.waiting.change(from.waiting, to.waiting);
        self.kept.change(from.kept, to.kept);
    }
}

/// What one session holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    waiting: usize,
    kept: usize,
}

/// One session's part of the bytes that are held, given back when it is dropped.
pub(crate) struct OutboxShare {
    tenant: Arc<OutboxBudget>,
    process: Arc<OutboxBudget>,
    metrics: Arc<Metrics>,
    held: Cell<Held>,
}

impl OutboxShare {
    pub(crate) fn new(tenant: Arc<OutboxBudget>, process: Arc<OutboxBudget>, metrics: Arc<Metrics>) -> Self {
        Self { tenant, process, metrics, held: Cell::default() }
    }

    /// Bytes that may come now, beside those that wait already.
    pub(super) fn room(&self) -> usize {
        self.tenant.room().min(self.process.room())
    }

    /// Notes what the session holds, and drops copies of it where all together hold too much.
    pub(super) fn settle(&self, ledger: &mut Ledger) {
        self.note(ledger);
        let excess = self.tenant.excess().max(self.process.excess());
        if excess > 0 && ledger.drop_copies(excess) > 0 {
            self.note(ledger);
        }
    }

    fn note(&self, ledger: &Ledger) {
        self.set(Held { waiting: ledger.queued_bytes(), kept: ledger.kept_bytes() });
    }

    fn set(&self, held: Held) {
        let before = self.held.replace(held);
        if before == held {
            return;
        }
        self.tenant.change(before, held);
        self.process.change(before, held);
        let gauge = self.metrics.outbox_bytes();
        if held.waiting > before.waiting {
            gauge.increment((held.waiting - before.waiting) as f64);
        } else if held.waiting < before.waiting {
            gauge.decrement((before.waiting - held.waiting) as f64);
        }
    }
}

impl Drop for OutboxShare {
    fn drop(&mut self) {
        self.set(Held::default());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{outbox::LedgerConfig, recovery::Moment};

    const NOW: Moment = Moment::ZERO;

    fn share(tenant: &Arc<OutboxBudget>, process: &Arc<OutboxBudget>) -> (OutboxShare, Ledger) {
        let metrics = Arc::new(Metrics::new(1));
        let share = OutboxShare::new(Arc::clone(tenant), Arc::clone(process), metrics);
        (share, Ledger::new(LedgerConfig::default()))
    }

    fn accept(share: &OutboxShare, ledger: &mut Ledger, req_id: &str, bytes: usize) -> bool {
        let taken = ledger.accept(req_id, Bytes::from(vec![0; bytes]), true, share.room(), NOW).is_ok();
        share.settle(ledger);
        taken
    }

    fn send(share: &OutboxShare, ledger: &mut Ledger) {
        while ledger.next_to_send(String::new).is_some() {}
        share.settle(ledger);
    }

    #[test]
    fn what_waits_pushes_back_on_the_tenant_and_on_all() {
        let process = Arc::new(OutboxBudget::new(1500));
        let (acme, globex) = (Arc::new(OutboxBudget::new(1000)), Arc::new(OutboxBudget::new(1000)));
        let (first, mut first_ledger) = share(&acme, &process);
        let (second, mut second_ledger) = share(&acme, &process);
        let (other, mut other_ledger) = share(&globex, &process);
        assert!(accept(&first, &mut first_ledger, "a", 800));
        assert!(!accept(&second, &mut second_ledger, "b", 300), "the tenant has 200 left");
        assert!(accept(&other, &mut other_ledger, "c", 700));
        assert!(!accept(&other, &mut other_ledger, "d", 100), "the process has none left");
        drop(first);
        assert!(accept(&second, &mut second_ledger, "b", 300), "a session that is gone gives its part back");
        assert_eq!((process.kept(), acme.kept(), globex.kept()), (1000, 300, 700));
    }

    #[test]
    fn copies_never_push_back_and_are_dropped_where_all_hold_too_much() {
        let process = Arc::new(OutboxBudget::new(1000));
        let tenant = Arc::new(OutboxBudget::new(1000));
        let (first, mut first_ledger) = share(&tenant, &process);
        let (second, mut second_ledger) = share(&tenant, &process);
        assert!(accept(&first, &mut first_ledger, "a", 900));
        send(&first, &mut first_ledger);
        assert_eq!((first_ledger.copies_bytes(), process.kept()), (900, 900));

        assert!(accept(&second, &mut second_ledger, "b", 1000), "copies of another session do not push back");
        assert_eq!(process.excess(), 900);
        first.settle(&mut first_ledger);
        assert_eq!((first_ledger.copies_bytes(), process.kept(), process.excess()), (0, 1000, 0));
        // What was just sent is a copy now, and fits.
        send(&second, &mut second_ledger);
        assert_eq!((second_ledger.copies_bytes(), process.excess()), (1000, 0));
    }
}
