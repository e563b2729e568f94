//! Keeps a session's actor alive: a panic ends the actor, and a new one takes the session over.
//!
//! `actix::Supervisor` is not used: it keeps the same actor value, knows neither delay nor limit, and does
//! not survive a panic. Here the context's future is owned and joined, so that a panic is seen for what it is.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use actix::{Addr, AsyncContext, Context};

use super::{
    ClientSeat, Configuration, SessionContext, actor::SessionActor, crash::panic_error, near, seat::Seated,
    state::Session,
};
use crate::{
    events::{ClientAction, What},
    outbox::{Ledger, LedgerConfig},
    recovery::{
        Attendance, Lifecycle,
        lifecycle::{Input, Remembered},
    },
};

/// The wait before a crashed actor is built anew: it starts small, so that a single crash is hardly noticed,
/// and doubles, so that a session that crashes at every turn does not starve its neighbours' thread.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest such wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Crashes further apart than this are not counted together.
const CALM: Duration = Duration::from_secs(60);
/// How long an aborted connection may take to be gone: it is dropped at the next turn of the thread.
const ABORT_DEADLINE: Duration = Duration::from_secs(1);

/// What a session begins with.
pub(crate) struct Beginning {
    /// With the effects that are still to be carried out.
    pub(crate) lifecycle: Lifecycle,
    /// What is written of it, or noted to be.
    pub(crate) noted: Remembered,
    pub(crate) ledger: LedgerConfig,
    pub(crate) configuration: Configuration,
    /// The client that it is made for.
    pub(crate) client: Option<ClientSeat>,
}

/// Starts the session on this thread.
pub(crate) fn start(context: Rc<SessionContext>, beginning: Beginning) {
    let Beginning { lifecycle, noted, ledger, configuration, client } = beginning;
    let attendance = if client.is_some() { Attendance::Attended } else { Attendance::Owned };
    let mut session = Session::new(lifecycle, noted, Ledger::new(ledger), configuration, attendance);
    session.client = client.map(|seat| Seated::new(seat, context.metrics.client()));
    if session.client.is_some() {
        context.tell(What::Client { action: ClientAction::Attached });
    }
    actix_rt::spawn(supervise(context, Rc::new(RefCell::new(session))));
}

async fn supervise(context: Rc<SessionContext>, session: Rc<RefCell<Session>>) {
    let mut first = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let began = context.clock.now();
        let actor = SessionActor::new(Rc::clone(&context), Rc::clone(&session), first.take());
        let actor_context = Context::new();
        let address: Addr<SessionActor> = actor_context.address();
        session.borrow_mut().armed = None;
        context.entry.address.store(Some(Arc::new(address.clone())));
        let listed = near::list(&context, &session, address);
        let ended = actix_rt::spawn(actor_context.into_future(actor)).await;
        drop(listed);
        let Err(crash) = ended else { break };
        let Ok(payload) = crash.try_into_panic() else { break };

        end_connection(&session).await;
        let error = panic_error(payload.as_ref(), session.borrow().configuration.egress());
        first = Some(Input::Crashed(Arc::new(error)));
        if context.clock.now().since(began) > CALM {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    context.entry.address.store(None);
}

/// The connection of a crashed turn ends with it: what it would say has no listener any more.
async fn end_connection(session: &Rc<RefCell<Session>>) {
    let link = session.borrow_mut().link.take();
    if let Some(link) = link {
        link.abort.abort();
        if tokio::time::timeout(ABORT_DEADLINE, link.gone).await.is_err() {
            tracing::error!("an aborted connection did not end in time");
        }
    }
}
