//! One session: the actor, its connection to the service, and what survives both.
//!
//! A session lives on one thread. Its [`SessionActor`] takes messages (from the manager, from HTTP, from its
//! connection), asks the pure machines, and carries their effects out. [`supervise`](self) owns the actor's
//! future: when the actor's code panics, the session's machines live on in a new actor, and the crash is an
//! error like any other. The connection is a future beside the actor, on the same thread.
//!
//! The outside reads a session from its [`SessionEntry`], without asking the actor.

mod actor;
mod clock;
mod connection;
mod crash;
mod messages;
mod report;
mod spec;
mod state;
mod supervise;
mod view;

use std::{cell::Cell, sync::Arc};

use actix::{Addr, Recipient};

pub use actor::SessionActor;
pub use clock::Clock;
pub use messages::{
    Accepted, AskRequest, AudioRefused, Finished, FleetAnswer, FleetNews, FleetNotice, InjectPanic,
    Interrupt, Operate, Operation, Pause, Resume, SendAudio, Watch,
};
pub use spec::{AudioFormat, EgressSpec, SessionSpec};
pub(crate) use supervise::start;
pub use view::{ErrorView, Origin, SessionEntry, SessionView, Snapshot};

pub use crate::outbox::Continuity;
use crate::{
    recovery::RecoveryConfig,
    telemetry::{Metrics, TenantMetrics},
    upstream,
};

/// Where a session's actor is reached.
pub type SessionAddress = Addr<SessionActor>;

/// What a session goes by for the whole of its life.
pub(crate) struct SessionContext {
    pub(crate) entry: Arc<SessionEntry>,
    pub(crate) target: upstream::Target,
    pub(crate) recovery: Arc<RecoveryConfig>,
    pub(crate) clock: Clock,
    pub(crate) client: upstream::Client,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tenant_metrics: Arc<TenantMetrics>,
    pub(crate) fleet: Recipient<FleetNotice>,
    pub(crate) outbox: OutboxGauge,
}

/// This session's part of the gauge of bytes that wait to be sent.
#[derive(Default)]
pub(crate) struct OutboxGauge(Cell<usize>);

impl OutboxGauge {
    fn set(&self, context: &SessionContext, bytes: usize) {
        let before = self.0.replace(bytes);
        if bytes > before {
            context.metrics.outbox_bytes().increment((bytes - before) as f64);
        } else if bytes < before {
            context.metrics.outbox_bytes().decrement((before - bytes) as f64);
        }
    }
}
