//! Audio for a session of this very thread, taken without a message to its actor.
//!
//! A message to an actor costs a box, a channel for its answer, a deadline, and two more turns of the thread: for a piece of
//! audio more than all the rest of its way. Where a session and whoever has audio for it are on one thread, the session's
//! machines are there to be asked. Only what is the actor's own business is still told to it.

use std::{
    any::Any,
    cell::RefCell,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
};

use actix::Addr;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    AudioRefused, ClientAudioRefused, ClientId, Finished, NotSeated, SessionActor, SessionContext,
    SessionEntry, Watch, Which,
    intake::{accept, begin_or_continue},
    messages::{Crash, LinkNews},
    state::Session,
};
use crate::recovery::lifecycle::Admission;

thread_local! {
    /// The sessions of this thread whose actors stand, by the place of their entries in memory.
    static NEAR: RefCell<HashMap<usize, Rc<Near>>> = RefCell::default();
}

struct Near {
    context: Rc<SessionContext>,
    session: Rc<RefCell<Session>>,
    actor: Addr<SessionActor>,
}

/// That a session can be asked directly, until this is dropped.
pub(super) struct Listed(usize);

impl Drop for Listed {
    fn drop(&mut self) {
        // Taken out first: what is dropped with it must not find the table borrowed.
        let listed = NEAR.with_borrow_mut(|near| near.remove(&self.0));
        drop(listed);
    }
}

fn key(entry: &SessionEntry) -> usize {
    std::ptr::from_ref(entry).addr()
}

/// Lists a session whose actor stands.
pub(super) fn list(
    context: &Rc<SessionContext>,
    session: &Rc<RefCell<Session>>,
    actor: Addr<SessionActor>,
) -> Listed {
    let near = Rc::new(Near { context: Rc::clone(context), session: Rc::clone(session), actor });
    // The entry lives as long as the context that is listed with it, so that its place is nobody else's.
    let key = key(Arc::as_ref(&context.entry));
    NEAR.with_borrow_mut(|listed| listed.insert(key, near));
    Listed(key)
}

/// As [`SendAudio`](super::SendAudio). `None` where the session's actor has to be asked; then nothing was taken.
pub fn send_audio(
    entry: &SessionEntry,
    request: &Which,
    audio: &Bytes,
    end: bool,
    watch: Option<Watch>,
) -> Option<Result<Option<oneshot::Receiver<Finished>>, AudioRefused>> {
    take(entry, |context, session| {
        begin_or_continue(context, session, request, audio.clone(), end, watch).map(|(_, finished)| finished)
    })
}

/// As [`ClientAudio`](super::ClientAudio). `None` where the session's actor has to be asked; then nothing was taken.
pub fn client_audio(
    entry: &SessionEntry,
    client: ClientId,
    req_id: &str,
    audio: &Bytes,
    end: bool,
) -> Option<Result<(), ClientAudioRefused>> {
    take(entry, |context, session| {
        if session.borrow_mut().seated(client).is_none() {
            return Err(NotSeated.into());
        }
        accept(context, session, req_id, audio.clone(), end)?;
        Ok(())
    })
}

fn take<T>(entry: &SessionEntry, work: impl FnOnce(&SessionContext, &RefCell<Session>) -> T) -> Option<T> {
    let near = NEAR.with_borrow(|near| near.get(&key(entry)).map(Rc::clone))?;
    let Near { context, session, actor } = &*near;
    match session.borrow().lifecycle.admission() {
        Admission::Flows | Admission::Waits => {}
        // The lifecycle is the actor's.
        Admission::Wakes | Admission::Refused => return None,
    }
    match catch_unwind(AssertUnwindSafe(|| work(context, session))) {
        Ok(done) => {
            // What was taken sets deadlines, of which the actor's timer has not heard. It is told of the first of a
            // request at most, since the others are later, and requests are bounded.
            if session.borrow_mut().is_due_before_armed(context.clock.now()) {
                actor.do_send(LinkNews::DueEarlier);
            }
            Some(done)
        }
        // It is the session's, and not the one's who has audio for it.
        Err(payload) => {
            crash(actor, payload);
            None
        }
    }
}

fn crash(actor: &Addr<SessionActor>, payload: Box<dyn Any + Send>) {
    // One, after which the session is not listed any more.
    actor.do_send(Crash(payload));
}
