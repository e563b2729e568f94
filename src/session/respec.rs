//! A session that is changed by its owner, or ended on a condition.

use std::fmt;

use actix::{Context, Handler, Message};
use serde_json::{Map, Value};

use super::{Configuration, Expected, Operate, Operation, Origin, SessionActor, SessionSpec};
use crate::{recovery::lifecycle::Input, store::StoreError};

/// Changes what the session is made from. What the service has to be told of, it is told on a new connection.
#[derive(Message)]
#[rtype(result = "Result<(), NotChanged>")]
pub struct Respec {
    /// A JSON merge patch.
    pub patch: Map<String, Value>,
    /// On which revisions.
    pub expected: Expected,
}

impl fmt::Debug for Respec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The patch may hold tokens.
        f.debug_struct("Respec").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// Ends the session for good, where it is as whoever asks has seen it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotChanged>")]
pub struct DeleteIf(pub Expected);

/// Why a session is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotChanged {
    /// It is of another revision than was expected.
    #[error("the session was changed meanwhile")]
    OtherRevision,
    /// The change makes no sense; each mistake is a sentence.
    #[error("{}", .0.join("; "))]
    Mistakes(Vec<String>),
    /// Its drop-in client says how it is configured.
    #[error(
        "the session is its client's, which says how it is configured; labels and continuity can be changed"
    )]
    ClientsOwn,
    /// What it would be cannot be kept.
    #[error(transparent)]
    Unkept(#[from] StoreError),
}

impl Handler<Respec> for SessionActor {
    type Result = Result<(), NotChanged>;

    fn handle(&mut self, message: Respec, ctx: &mut Self::Context) -> Self::Result {
        let Respec { patch, expected } = message;
        let before = self.context.entry.spec.load_full();
        let mut after = before.patched(&patch).map_err(NotChanged::Mistakes)?;
        after.continuity.get_or_insert(self.context.continuity);
        if !expected.allows(before.revision) {
            return Err(NotChanged::OtherRevision);
        }
        if after.says_the_same(&before) {
            return Ok(());
        }
        let restarts = after.needs_restart(&before);
        if restarts && **self.context.entry.origin.load() == Origin::Ingress {
            return Err(NotChanged::ClientsOwn);
        }
        after.revision = before.revision.next();
        let remembered = self.session.borrow().lifecycle.remembered();
        // Nothing is changed that could never be written.
        self.context.journal.check(&self.context.entry, &after, &remembered)?;
        self.respec(after, restarts, ctx);
        Ok(())
    }
}

impl SessionActor {
    fn respec(&mut self, spec: SessionSpec, restarts: bool, ctx: &mut Context<Self>) {
        let entry = &self.context.entry;
        tracing::info!(
            session = %entry.id, tenant = %entry.tenant, revision = spec.revision.0, restarts, "session changed"
        );
        {
            let mut session = self.session.borrow_mut();
            if let Some(continuity) = spec.continuity {
                session.ledger.set_continuity(continuity);
            }
            if restarts {
                session.ledger.set_format(spec.bytes_per_second());
                session.configuration = Configuration::of(&spec);
                session.confirmation = None;
            }
        }
        entry.spec.store(spec.into());
        if restarts {
            self.handle_input(Input::Respec, ctx);
        }
        // Also where its state is as it was.
        let remembered = {
            let mut session = self.session.borrow_mut();
            session.noted = session.lifecycle.remembered();
            session.noted.clone()
        };
        self.context.journal.note(&self.context.entry, remembered);
    }
}

impl Handler<DeleteIf> for SessionActor {
    type Result = Result<(), NotChanged>;

    fn handle(&mut self, DeleteIf(expected): DeleteIf, ctx: &mut Self::Context) -> Self::Result {
        if !expected.allows(self.context.entry.spec.load().revision) {
            return Err(NotChanged::OtherRevision);
        }
        self.handle(Operate(Operation::Delete), ctx);
        Ok(())
    }
}
