//! Tells metrics and log of requests that got their outcome.

use super::{OutcomeWrite, SessionContext, record::ended_request, state::Session};
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
    while let Some((record, watcher)) = session.next_settled() {
        // First, so that it is written while the rest is done.
        let written = keep(context, session, &record, watcher.is_some());
        report(context, &record);
        tell(context, session, &record);
        if teller == Teller::Session {
            session.tell_outcome(&record);
        }
        if let Some(watcher) = watcher {
            watcher.finish(record, written);
        }
    }
    context.outbox.settle(&mut session.ledger);
}

/// Keeps the outcome of a request that was promised, and at the first and at times looks that there are not too many.
fn keep(
    context: &SessionContext,
    session: &mut Session,
    record: &Record,
    is_awaited: bool,
) -> Option<OutcomeWrite> {
    if !session.kept.remove(&record.req_id) {
        return None;
    }
    let ended = ended_request(record)?;
    let (id, trim) = (&context.entry.id, session.outcomes.is_multiple_of(TRIM_EVERY));
    session.outcomes += 1;
    if is_awaited {
        return Some(context.journal.write_request(id, ended, trim));
    }
    context.journal.note_request(id, ended, trim);
    None
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
