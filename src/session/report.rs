//! Tells metrics and log of requests that got their outcome.

use super::{SessionContext, state::Session};
use crate::outbox::{Outcome, Record};

/// Who tells the client of the outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    /// The service has, or will: what it says is relayed.
    Service,
    /// The session has to.
    Session,
}

/// Tells metrics and log of the requests that got their outcome, and whoever watches them.
pub(super) fn report_settled(context: &SessionContext, session: &mut Session, teller: Teller) {
    while let Some(record) = session.next_settled() {
        report(context, &record);
        if teller == Teller::Session {
            session.tell_outcome(&record);
        }
    }
    context.outbox.settle(&mut session.ledger);
}

fn report(context: &SessionContext, record: &Record) {
    let Some(outcome) = record.outcome else { return };
    context.tenant.metrics.request(outcome.into());
    if let Some(first_frame) = record.first_frame_after() {
        context.metrics.first_frame(first_frame);
    }
    match outcome {
        Outcome::Completed | Outcome::Interrupted => tracing::debug!(
            session = %context.entry.id, tenant = %context.entry.tenant, req_id = record.req_id,
            outcome = outcome.as_str(), frames = record.frames, "request ended"
        ),
        Outcome::Failed(code) => tracing::warn!(
            session = %context.entry.id, tenant = %context.entry.tenant, req_id = record.req_id,
            code = code.as_str(), frames = record.frames,
            reason = record.reason.as_deref().unwrap_or_default(), "request failed"
        ),
    }
}
