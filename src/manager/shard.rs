//! The sessions of one thread.

use std::{rc::Rc, sync::Arc};

use actix::Recipient;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::TenantRuntime;
use crate::{
    session::{
        self, Beginning, ClientBounds, Clock, Continuity, FleetNotice, Journal, OutboxBudget, OutboxShare,
        Place, SessionContext, SessionEntry, ThreadId, Threads,
    },
    telemetry::Metrics,
    upstream::{self, UpstreamConfig},
};

/// What the sessions of a thread share.
#[derive(Clone)]
pub(super) struct Shard {
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) fleet: Recipient<FleetNotice>,
    pub(super) journal: Journal,
    pub(super) outbox: Arc<OutboxBudget>,
    pub(super) bounds: ClientBounds,
    pub(super) continuity: Continuity,
}

/// A session that starts.
pub(super) struct StartSession {
    pub(super) entry: Arc<SessionEntry>,
    pub(super) beginning: Beginning,
    pub(super) tenant: Arc<TenantRuntime>,
}

/// The shards of all threads.
pub(super) struct Shards {
    threads: Threads,
    starts: Vec<(ThreadId, UnboundedSender<(StartSession, Place)>)>,
}

impl Shards {
    /// A shard on each of the threads.
    pub(super) fn start(threads: Threads, shard: &Shard, upstream: &Arc<UpstreamConfig>) -> Self {
        let starts = threads.ids().map(|id| {
            let (sender, starts) = unbounded_channel();
            let (shard, upstream) = (shard.clone(), Arc::clone(upstream));
            threads.run(id, move || {
                actix_rt::spawn(shard.run(upstream::Client::new(upstream), starts));
            });
            (id, sender)
        });
        let starts = starts.collect();
        Self { threads, starts }
    }

    /// Starts a session, `beside` what it has to do with where that is known.
    pub(super) fn start_session(&self, beside: Option<ThreadId>, start: StartSession) {
        let place = match beside {
            Some(thread) => self.threads.place_at(thread),
            None => self.threads.place(),
        };
        let Some((id, starts)) = self.starts.iter().find(|(id, _)| *id == place.thread) else { return };
        let _known = start.entry.thread.set(*id);
        // One for each session that was admitted, so the limits bound them. A thread ends with the process only.
        let _ended = starts.send((start, place));
    }
}

impl Shard {
    async fn run(self, client: upstream::Client, mut starts: UnboundedReceiver<(StartSession, Place)>) {
        while let Some((StartSession { entry, beginning, tenant }, place)) = starts.recv().await {
            let outbox = OutboxShare::new(
                Arc::clone(&tenant.outbox),
                Arc::clone(&self.outbox),
                Arc::clone(&self.metrics),
            );
            let context = SessionContext {
                entry,
                tenant,
                clock: self.clock,
                client: client.clone(),
                metrics: Arc::clone(&self.metrics),
                fleet: self.fleet.clone(),
                journal: self.journal.clone(),
                outbox,
                bounds: self.bounds,
                continuity: self.continuity,
                _place: place,
            };
            session::start(Rc::new(context), beginning);
        }
    }
}
