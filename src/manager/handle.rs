//! What everybody else holds of the manager.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix::{Addr, Handler, MailboxError, Message, dev::ToEnvelope};
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use serde_json::{Map, Value};

use super::{
    CreateRefused, IngressRefused, Registry, Roster, TenantRuntime, UpstreamView,
    actor::{AskUpstreams, Drain, Manager, SetBreaker, Unsuspend},
    create::{Answered, Create, CreateIngress, Promise},
    restore::{Restore, Restored},
};
use crate::{
    errors::ErrorCode,
    recovery::{
        Policy, StateName, TenantId,
        lifecycle::{Hold, State},
    },
    session::{
        ClientSeat, Clock, DeleteIf, Expected, Journal, NotChanged, Operate, Operation, Respec, SessionActor,
        SessionEntry, SessionSpec, SessionView,
    },
    store::{Range, StoreError},
};

/// How long an actor may take to answer. A turn takes microseconds; a second and more means that its thread
/// is starved, and then an answer is better than a wait.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// How long a session may take to be made: longer than the longest `store.commit_deadline_ms`, so that whoever asks
/// hears of what was made.
const CREATE_DEADLINE: Duration = Duration::from_secs(65);

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

/// A command was not carried out, or it was and may not survive the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// The actor did not answer.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// It is carried out and cannot be written yet; that is tried again.
    #[error("the command is carried out, but could not be written: {0}")]
    Unkept(#[from] StoreError),
}

/// Commands and readings, from every thread.
#[derive(Clone)]
pub struct ManagerHandle {
    manager: Addr<Manager>,
    registry: Arc<Registry>,
    tenants: Arc<ArcSwap<Roster>>,
    clock: Clock,
    journal: Journal,
}

impl ManagerHandle {
    pub(super) const fn new(
        manager: Addr<Manager>,
        registry: Arc<Registry>,
        tenants: Arc<ArcSwap<Roster>>,
        clock: Clock,
        journal: Journal,
    ) -> Self {
        Self { manager, registry, tenants, clock, journal }
    }

    /// The sessions.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The tenants as they are now.
    pub fn roster(&self) -> Arc<Roster> {
        self.tenants.load_full()
    }

    /// The tenant with this id.
    pub fn tenant(&self, id: &str) -> Option<Arc<TenantRuntime>> {
        self.tenants.load().get(id).cloned()
    }

    /// The tenant that `presented` is a key of.
    pub fn authenticate(&self, presented: &str) -> Option<Arc<TenantRuntime>> {
        self.tenants.load().authenticate(presented, SystemTime::now()).cloned()
    }

    /// The clock of the process.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// What is written of sessions behind their backs.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A session in JSON.
    pub fn view(&self, entry: &SessionEntry) -> SessionView {
        match self.tenant(entry.tenant.as_str()) {
            Some(runtime) => entry.view(&self.clock, &runtime.recovery().policy),
            None => entry.view(&self.clock, &Policy::default()),
        }
    }

    /// Makes a session, which is durable when this answers.
    ///
    /// # Errors
    ///
    /// The manager did not answer, or it refused.
    pub async fn create(
        &self,
        tenant: &TenantId,
        spec: SessionSpec,
    ) -> Result<Result<Arc<SessionEntry>, CreateRefused>, Unreachable> {
        Ok(self.create_answered(tenant, spec, None).await?.map(|answered| answered.entry))
    }

    /// As [`ManagerHandle::create`]; an answer that is promised is written with the session.
    ///
    /// # Errors
    ///
    /// The manager did not answer, or it refused. In the second case there is no session, and no answer.
    pub async fn create_answered(
        &self,
        tenant: &TenantId,
        spec: SessionSpec,
        promise: Option<Promise>,
    ) -> Result<Result<Answered, CreateRefused>, Unreachable> {
        let asked_in = tracing::Span::current();
        let create = Create { tenant: tenant.clone(), spec, promise, asked_in };
        self.ask_manager_within(CREATE_DEADLINE, create).await
    }

    /// Takes the sessions of an earlier process over. To be called once, before anything is served.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or the manager did not answer.
    pub async fn restore(&self) -> Result<Restored, Undone> {
        let restored = self.restore_those(|_tenant| true).await?;
        for (tenant, sessions) in &restored.without_tenant {
            tracing::error!(
                %tenant, sessions,
                "sessions of a tenant that the configuration does not name are kept and not started"
            );
        }
        Ok(restored)
    }

    /// Takes the sessions of tenants over that are back, and of which nothing is here.
    pub(super) async fn restore_of(&self, tenants: &[TenantId]) -> Result<Restored, Undone> {
        // What was noted of them when they left must be in the store.
        self.flush().await;
        self.restore_those(|tenant| tenants.contains(tenant)).await
    }

    async fn restore_those(&self, is_meant: impl Fn(&TenantId) -> bool) -> Result<Restored, Undone> {
        let records = self.journal.records();
        let (mut sessions, mut unreadable, mut after) = (Vec::new(), 0, None);
        loop {
            let page = records.sessions(None, after, Range::MAX_LIMIT).await?;
            for error in &page.unreadable {
                tracing::error!(%error, "a session is kept, but cannot be read");
            }
            unreadable += page.unreadable.len();
            let records = page.records.into_iter().map(|kept| kept.record);
            sessions.extend(records.filter(|record| is_meant(&record.tenant)));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let mut restored: Restored = self.ask_manager_within(CREATE_DEADLINE, Restore(sessions)).await?;
        restored.unreadable += unreadable;
        Ok(restored)
    }

    /// Carries an operation out on a session; it is durable when this answers. Nothing is done where it was ended
    /// before.
    ///
    /// # Errors
    ///
    /// The session did not answer in time, has ended, or could not be written.
    pub async fn operate(&self, entry: &SessionEntry, operation: Operation) -> Result<(), Undone> {
        let answer = self.ask(entry, || Operate(operation)).await;
        // Also what somebody else has done before must be durable before it is told.
        self.journal.settled(&entry.id).await?;
        answer?;
        Ok(())
    }

    /// Changes a session; the change is durable when this answers.
    ///
    /// # Errors
    ///
    /// As [`ManagerHandle::operate`]; in the second case it is as it was.
    pub async fn change(
        &self,
        entry: &SessionEntry,
        patch: &Map<String, Value>,
        expected: &Expected,
    ) -> Result<Result<(), NotChanged>, Undone> {
        let message = || Respec { patch: patch.clone(), expected: expected.clone() };
        let changed = self.ask(entry, message).await;
        // Also the change of somebody else, which whoever is refused is shown.
        self.journal.settled(&entry.id).await?;
        Ok(changed?)
    }

    /// Ends a session that is as the caller has seen it. A second time changes nothing.
    ///
    /// # Errors
    ///
    /// As [`ManagerHandle::change`].
    pub async fn delete(
        &self,
        entry: &SessionEntry,
        expected: &Expected,
    ) -> Result<Result<(), NotChanged>, Undone> {
        let deleted = self.ask(entry, || DeleteIf(expected.clone())).await;
        self.journal.settled(&entry.id).await?;
        match deleted {
            // Again, or somebody else was faster.
            Err(Unreachable::Ended) if expected.allows(entry.spec.load().revision) => Ok(Ok(())),
            Err(Unreachable::Ended) => Ok(Err(NotChanged::OtherRevision)),
            Err(Unreachable::Late) => Err(Unreachable::Late.into()),
            Ok(deleted) => Ok(deleted),
        }
    }

    /// Makes a session for a drop-in client, which is seated in it; or takes one of the tenant's pool for it.
    ///
    /// The client hears [`ToClient::Ready`](crate::session::ToClient::Ready) when the service has upgraded, or
    /// [`ToClient::Ended`](crate::session::ToClient::Ended). It has to say
    /// [`Detach`](crate::session::Detach) when it leaves, or to drop its line.
    ///
    /// # Errors
    ///
    /// The manager did not answer, or it refused. In the second case there is no session.
    pub async fn create_ingress(
        &self,
        tenant: &TenantId,
        avatar_id: &str,
        seat: ClientSeat,
    ) -> Result<Result<Arc<SessionEntry>, IngressRefused>, Unreachable> {
        self.ask_manager(CreateIngress { tenant: tenant.clone(), avatar_id: avatar_id.to_owned(), seat })
            .await
    }

    /// Carries an operation out on all sessions of a tenant that are not stopped; gives the number of those that
    /// took it. Sessions whose actor is just being made or rebuilt are waited for.
    ///
    /// # Errors
    ///
    /// The manager or a session did not answer in time, or could not be written; the others have taken it.
    pub async fn operate_tenant(&self, tenant: &TenantId, operation: Operation) -> Result<usize, Undone> {
        if operation == Operation::Unpark {
            self.ask_manager(Unsuspend(tenant.clone())).await?;
        }
        let sessions = self.registry.of_tenant(tenant);
        let meant = sessions.iter().filter(|entry| is_meant(operation, entry));
        let answers = join_all(meant.map(|entry| self.operate(entry, operation))).await;
        let mut took = 0;
        for answer in answers {
            match answer {
                Ok(()) => took += 1,
                Err(Undone::Unreachable(Unreachable::Ended)) => {}
                Err(undone) => return Err(undone),
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

    /// Returns when everything that was noted of sessions is durable, or could not be written.
    pub(super) async fn flush(&self) {
        self.journal.flush().await;
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

    pub(super) async fn ask_manager<M>(&self, message: M) -> Result<M::Result, Unreachable>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Manager: Handler<M>,
        actix::Context<Manager>: ToEnvelope<Manager, M>,
    {
        self.ask_manager_within(ANSWER_DEADLINE, message).await
    }

    pub(super) async fn ask_manager_within<M>(
        &self,
        deadline: Duration,
        message: M,
    ) -> Result<M::Result, Unreachable>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Manager: Handler<M>,
        actix::Context<Manager>: ToEnvelope<Manager, M>,
    {
        match tokio::time::timeout(deadline, self.manager.send(message)).await {
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
