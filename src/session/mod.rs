//! One session: the actor, its connection to the service, and what survives both.
//!
//! A session lives on one thread. Its [`SessionActor`] takes messages (from the manager, from HTTP, from its
//! connection), asks the pure machines, and carries their effects out. [`supervise`](self) owns the actor's
//! future: when the actor's code panics, the session's machines live on in a new actor, and the crash is an
//! error like any other. The connection is a future beside the actor, on the same thread.
//!
//! The outside reads a session from its [`SessionEntry`], without asking the actor.

mod actor;
mod attach;
mod budget;
mod chronicle;
mod client;
mod client_messages;
mod clock;
mod configuration;
mod connection;
mod crash;
mod expiry;
mod frames;
mod intake;
mod journal;
mod messages;
mod near;
mod outlet;
mod patch;
mod record;
mod report;
mod respec;
mod seat;
mod spec;
mod state;
mod sums;
mod supervise;
mod tenant;
mod threads;
mod view;

use std::{
    sync::{Arc, atomic},
    time::Duration,
};

use actix::{Addr, Recipient};

pub use crate::recovery::Departure;
pub use actor::SessionActor;
pub use budget::OutboxBudget;
pub(crate) use budget::OutboxShare;
pub use chronicle::Chronicle;
pub use client::{ClientId, ClientLine, ClientSeat, Farewell, LineTaker, ToClient, client_line};
pub(crate) use client_messages::{Adopt, Offer};
pub use client_messages::{
    Attach, AttachMode, AttachRefused, ClientAudio, ClientAudioRefused, ClientConfigure, ClientControl,
    ConfigureRefused, Detach, FailRequest, NotSeated,
};
pub use clock::Clock;
pub(crate) use configuration::Configuration;
pub use frames::Frames;
pub use journal::{Journal, OutcomeWrite};
pub use messages::{
    Accepted, AskRequest, AudioRefused, Finished, FleetAnswer, FleetNews, FleetNotice, InjectPanic,
    Interrupt, Operate, Operation, Pause, Reconfigure, Resume, SendAudio, ShedCopies, Watch, Which,
};
pub use near::{client_audio, send_audio};
pub use patch::{Expected, Revision};
pub(crate) use record::{
    moment, open_request, record, remembered, request as request_of_record, spec as spec_of_record,
};
pub use respec::{DeleteIf, NotChanged, Respec};
pub use spec::{AudioFormat, EgressSpec, SessionSpec};
pub(crate) use supervise::{Beginning, start};
pub use tenant::{TenantRuntime, TenantTerms};
pub use threads::{Place, ThreadId, Threads, ThreadsEnd, here};
pub use view::{Origin, SessionEntry, SessionView, Snapshot};

pub use crate::outbox::{Continuity, Control};
use crate::{events::What, telemetry::Metrics, upstream};

/// Where a session's actor is reached.
pub type SessionAddress = Addr<SessionActor>;

/// What a session goes by for the whole of its life.
pub(crate) struct SessionContext {
    pub(crate) entry: Arc<SessionEntry>,
    pub(crate) tenant: Arc<TenantRuntime>,
    pub(crate) clock: Clock,
    pub(crate) client: upstream::Client,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fleet: Recipient<FleetNotice>,
    pub(crate) journal: Journal,
    pub(crate) outbox: OutboxShare,
    pub(crate) bounds: ClientBounds,
    /// What is configured for sessions that do not say.
    pub(crate) continuity: Continuity,
    /// Its place on its thread, given back with it.
    pub(crate) _place: Place,
}

impl SessionContext {
    /// Tells everybody what happened to the session, and keeps it.
    pub(crate) fn tell(&self, what: What) {
        let (tenant, session) = (&self.entry.tenant, &self.entry.id);
        self.journal.chronicle().tell_of(self.clock.now(), tenant, session, what);
    }
}

/// How long a session waits for its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientBounds {
    /// How long a drop-in client's session waits for it to come back when it has vanished.
    pub(crate) linger: Duration,
    /// How long a connection to the service waits for its client's configuration.
    pub(crate) configure_within: Duration,
}
