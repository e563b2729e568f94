//! What everybody else holds of the manager.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{Addr, Handler, MailboxError, Message, dev::ToEnvelope};
use futures_util::future::join_all;

use super::{
    CreateRefused, Registry, TenantRuntime, UpstreamView,
    actor::{AskUpstreams, Create, Drain, Manager, SetBreaker, Unsuspend},
};
use crate::{
    errors::ErrorCode,
    recovery::{
        Policy, StateName, TenantId,
        lifecycle::{Hold, State},
    },
    session::{Clock, Operate, Operation, SessionActor, SessionEntry, SessionSpec, SessionView},
};

/// How long an actor may take to answer. A turn takes microseconds; a second and more means that its thread
/// is starved, and then an answer is better than a wait.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// How often a session whose actor is being rebuilt is asked again.
const REBUILD_PAUSE: Duration = Duration::from_millis(20);

/// The actor did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It is ended for good.
    #[error("the session has ended")]
    Ended,
    /// It did not answer in time.
    #[error("no answer within {} s", ANSWER_DEADLINE.as_secs())]
    Late,
}

/// Commands and readings, from every thread.
#[derive(Clone)]
pub struct ManagerHandle {
    manager: Addr<Manager>,
    registry: Arc<Registry>,
    tenants: Arc<BTreeMap<TenantId, Arc<TenantRuntime>>>,
    clock: Clock,
}

impl ManagerHandle {
    pub(super) const fn new(
        manager: Addr<Manager>,
        registry: Arc<Registry>,
        tenants: Arc<BTreeMap<TenantId, Arc<TenantRuntime>>>,
        clock: Clock,
    ) -> Self {
        Self { manager, registry, tenants, clock }
    }

    /// The sessions.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The tenants.
    pub fn tenants(&self) -> &BTreeMap<TenantId, Arc<TenantRuntime>> {
        &self.tenants
    }

    /// The clock of the process.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// A session in JSON.
    pub fn view(&self, entry: &SessionEntry) -> SessionView {
        let default = Policy::default();
        let policy = self.tenants.get(&entry.tenant).map_or(&default, |runtime| &runtime.recovery.policy);
        entry.view(&self.clock, policy)
    }

    /// Makes a session.
    ///
    /// # Errors
    ///
    /// The manager did not answer, or it refused.
    pub async fn create(
        &self,
        tenant: &TenantId,
        spec: SessionSpec,
    ) -> Result<Result<Arc<SessionEntry>, CreateRefused>, Unreachable> {
        self.ask_manager(Create { tenant: tenant.clone(), spec, asked_in: tracing::Span::current() }).await
    }

    /// Carries an operation out on all sessions of a tenant that are not stopped; gives the number of those that
    /// took it. Sessions whose actor is just being made or rebuilt are waited for.
    ///
    /// # Errors
    ///
    /// The manager or a session did not answer in time; the others have taken it.
    pub async fn operate_tenant(
        &self,
        tenant: &TenantId,
        operation: Operation,
    ) -> Result<usize, Unreachable> {
        if operation == Operation::Unpark {
            self.ask_manager(Unsuspend(tenant.clone())).await?;
        }
        let sessions = self.registry.of_tenant(tenant);
        let meant = sessions.iter().filter(|entry| is_meant(operation, entry));
        let answers = join_all(meant.map(|entry| self.ask(entry, || Operate(operation)))).await;
        let mut took = 0;
        for answer in answers {
            match answer {
                Ok(_) => took += 1,
                Err(Unreachable::Ended) => {}
                Err(late @ Unreachable::Late) => return Err(late),
            }
        }
        Ok(took)
    }

    /// How the service's endpoints are judged.
    ///
    /// # Errors
    ///
    /// The manager did not answer.
    pub async fn upstreams(&self) -> Result<Vec<UpstreamView>, Unreachable> {
        self.ask_manager(AskUpstreams).await
    }

    /// Opens the breaker by command, until [`ManagerHandle::close_breaker`].
    ///
    /// # Errors
    ///
    /// The manager did not answer.
    pub async fn open_breaker(&self) -> Result<(), Unreachable> {
        self.ask_manager(SetBreaker::Open).await
    }

    /// Closes the breaker by command.
    ///
    /// # Errors
    ///
    /// The manager did not answer.
    pub async fn close_breaker(&self) -> Result<(), Unreachable> {
        self.ask_manager(SetBreaker::Close).await
    }

    /// Takes no new session, ends all, and returns when the last one is gone. The caller sets the deadline.
    pub async fn drain(&self) {
        // A manager that is gone has no sessions.
        let _gone = self.manager.send(Drain).await;
    }

    /// Asks a session's actor.
    ///
    /// # Errors
    ///
    /// It is stopped, or it did not answer in time.
    pub async fn ask<M>(
        &self,
        entry: &SessionEntry,
        message: impl Fn() -> M,
    ) -> Result<M::Result, Unreachable>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        SessionActor: Handler<M>,
        actix::Context<SessionActor>: ToEnvelope<SessionActor, M>,
    {
        let answer = async {
            loop {
                if entry.snapshot.load().state_name() == StateName::Stopped {
                    return Err(Unreachable::Ended);
                }
                if let Some(address) = entry.address.load_full() {
                    match address.send(message()).await {
                        Ok(answer) => return Ok(answer),
                        // The session was just made, crashed, or ended: the registry knows soon.
                        Err(MailboxError::Closed) => {}
                        Err(MailboxError::Timeout) => return Err(Unreachable::Late),
                    }
                }
                tokio::time::sleep(REBUILD_PAUSE).await;
            }
        };
        tokio::time::timeout(ANSWER_DEADLINE, answer).await.unwrap_or(Err(Unreachable::Late))
    }

    async fn ask_manager<M>(&self, message: M) -> Result<M::Result, Unreachable>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Manager: Handler<M>,
        actix::Context<Manager>: ToEnvelope<Manager, M>,
    {
        match tokio::time::timeout(ANSWER_DEADLINE, self.manager.send(message)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(MailboxError::Closed)) => Err(Unreachable::Ended),
            Ok(Err(MailboxError::Timeout)) | Err(_) => Err(Unreachable::Late),
        }
    }
}

/// Whether an operation on a tenant goes to this session of it. Sessions that wait for a free slot are called
/// one after another by the fleet: all at once they would only be refused again.
fn is_meant(operation: Operation, entry: &SessionEntry) -> bool {
    operation != Operation::Unpark
        || entry.snapshot.load().state != State::Parked(Hold::Error(ErrorCode::ConcurrencyLimit))
}
