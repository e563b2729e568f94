//! Tells metrics and log of requests that got their outcome.

use super::{SessionContext, record::ended_request, state::Session};
use crate::{
    events::{RequestEnd, What},
    outbox::{Outcome, Record},
};

/// Outcomes after which it is looked whether a session has more requests than are kept: seldom enough to cost nothing
/// beside their writing.
const TRIM_EVERY: u64 = 64;

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
        tell(context, session, &record);
        keep(context, session, &record);
        if teller == Teller::Session {
            session.tell_outcome(&record);
        }
    }
    context.outbox.settle(&mut session.ledger);
}

/// Notes the outcome of a request that was promised, and at the first and at times that there are too many.
fn keep(context: &SessionContext, session: &mut Session, record: &Record) {
    if !session.kept.remove(&record.req_id) {
        return;
    }
    if let Some(ended) = ended_request(record) {
        context.journal.note_request(&context.entry.id, ended, session.outcomes.is_multiple_of(TRIM_EVERY));
        session.outcomes += 1;
    }
}

fn tell(context: &SessionContext, session: &Session, record: &Record) {
    let Some(outcome) = record.outcome else { return };
    context.tell(What::Request(RequestEnd {
        req_id: record.req_id.clone(),
        outcome: outcome.as_str(),
        code: outcome.code(),
        breaks: record.breaks,
        audio: session.ledger.lasting(record.audio_bytes),
        frames: record.frames,
        first_frame: record.first_frame_after(),
        duration: record.total().unwrap_or_default(),
    }));
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
