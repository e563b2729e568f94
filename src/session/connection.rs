//! One connection of a session: from the token call to the end of the socket.
//!
//! It is a future on the session's own thread. It takes audio straight from the session's ledger when the
//! socket has room, and notes frames there, so that neither passes a queue; only what changes the
//! session's state goes to the actor as a message.

use std::{
    cell::{RefCell, RefMut},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::Recipient;
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::{
    Origin, SessionContext,
    expiry::{self, standing},
    messages::LinkNews,
    outlet::Outlet,
    report::{Teller, report_settled},
    seat::Ids,
    state::Session,
};
use crate::{
    errors::{Egress, ErrorCode, Evidence, Observed, Phase, SessionError},
    events::{Attempt, What},
    outbox::{FrameFate, Playback},
    recovery::Generation,
    telemetry::{Direction, OpenConnection},
    upstream::{Opened, SendRefused, Socket, SocketEvent, Target, Timings, Upgraded},
    wire::{
        Data,
        proto::{ServerPlaybackState, server_playback_state::State},
    },
};

/// How often the time that a connection stands is counted: it is what the service bills, and a connection may
/// stand for days.
const BILL_EVERY: Duration = Duration::from_secs(10);

/// What a connection needs of its session.
pub(super) struct Connection {
    pub(super) context: Rc<SessionContext>,
    pub(super) session: Rc<RefCell<Session>>,
    pub(super) generation: Generation,
    pub(super) granted: Granted,
    pub(super) wake: Rc<Notify>,
    pub(super) actor: Recipient<LinkNews>,
}

/// What came before an attempt.
#[derive(Clone, Copy)]
pub(super) struct Granted {
    /// How long its turn was waited for.
    pub(super) waited: Duration,
    /// Which attempt in a row it is, from 1.
    pub(super) attempt: u32,
}

/// How a connection ended.
pub(super) enum Ending {
    /// By command, with a close handshake where it had been confirmed.
    Closed,
    /// With an error.
    Broke(Box<SessionError>),
}

impl Connection {
    /// Opens the connection and serves it until it ends, or until `stop` is dropped or sent to.
    pub(super) async fn run(self, mut stop: oneshot::Receiver<()>) -> Ending {
        let mut timings = Timings::default();
        if let Some(stale) = self.stale_egress() {
            return Ending::Broke(Box::new(stale));
        }
        let target = self.target();
        let upgraded = tokio::select! {
            biased;
            _ = &mut stop => return Ending::Closed,
            upgraded = self.context.client.connect(&target, &mut timings) => upgraded,
        };
        let mut upgraded = match upgraded {
            Err(error) => return self.failed(&timings, error),
            Ok(upgraded) => upgraded,
        };
        // From the upgrade on the service has a connection of ours, which may be billed.
        let connected = self.context.tenant.metrics.connection(&self.context.tenant.usage);
        let configured = tokio::select! {
            biased;
            _ = &mut stop => None,
            configured = self.configuration(&mut upgraded) => Some(configured),
        };
        let configure = match configured {
            None => {
                upgraded.close().await;
                return Ending::Closed;
            }
            Some(Err(error)) => return self.failed(&timings, error),
            Some(Ok(configure)) => configure,
        };
        let opened = tokio::select! {
            biased;
            _ = &mut stop => return Ending::Closed,
            opened = upgraded.configure(configure, &mut timings) => opened,
        };
        match opened {
            Err(error) => self.failed(&timings, error),
            Ok(Opened { connection_id, capabilities, confirm, socket }) => {
                self.observe(&timings, None);
                self.tell_attempt(&timings, None, Some(connection_id.clone()));
                let generation = self.generation;
                let id = connection_id.clone();
                self.tell(LinkNews::Connected { generation, connection_id, capabilities, confirm });
                self.serve(socket, &id, connected, stop).await
            }
        }
    }

    fn egress_token(&self) -> expiry::Standing {
        standing(self.context.entry.spec.load().egress.as_ref(), self.context.clock.now())
    }

    /// Why the session's own egress token is worth no attempt. A drop-in client's is the service's to judge, in whose
    /// words that client is told.
    fn stale_egress(&self) -> Option<SessionError> {
        let is_ours = matches!(**self.context.entry.origin.load(), Origin::Api);
        if is_ours { self.egress_token().refusal() } else { None }
    }

    /// Warns once that the next connection will lack a token.
    fn watch_egress(&self, warned: &mut bool) {
        if !*warned && let Some(warning) = self.egress_token().warning() {
            *warned = true;
            tracing::warn!(
                session = %self.context.entry.id, tenant = %self.context.entry.tenant, warning,
                "egress token runs out"
            );
        }
    }

    fn target(&self) -> Target {
        let session = self.session.borrow();
        // As the tenant is at this attempt: its key may have changed since the last.
        let tenant = self.context.tenant.tenant();
        Target {
            app_id: tenant.app_id.clone(),
            api_key: tenant.upstream_api_key.clone(),
            avatar_id: self.context.entry.spec.load().avatar_id.clone(),
            configure: session.configuration.message().cloned(),
            egress: session.configuration.egress(),
        }
    }

    /// The configuration for the service: at once where it is known, else when the session's client has told it.
    async fn configuration(&self, upgraded: &mut Upgraded) -> Result<Bytes, SessionError> {
        let generation = self.generation;
        if let Some(message) = self.known_configuration() {
            self.tell(LinkNews::Upgraded { generation });
            return Ok(message);
        }
        self.tell(LinkNews::AwaitsClient { generation });
        let within = self.context.bounds.configure_within;
        let deadline = tokio::time::sleep(within);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                () = self.wake.notified() => {
                    if let Some(message) = self.known_configuration() {
                        return Ok(message);
                    }
                }
                error = upgraded.ended() => return Err(error),
                () = &mut deadline => return Err(unconfigured(within)),
            }
        }
    }

    fn known_configuration(&self) -> Option<Bytes> {
        self.session.borrow().configuration.message().cloned()
    }

    fn failed(&self, timings: &Timings, mut error: SessionError) -> Ending {
        if error.code == ErrorCode::InvalidEgressConfig
            && let Some(warning) = self.egress_token().warning()
        {
            error.message = format!("{}; {warning}", error.message);
        }
        self.observe(timings, Some(&error));
        self.tell_attempt(timings, Some(error.code), error.connection_id.clone());
        Ending::Broke(Box::new(error))
    }

    async fn serve(
        &self,
        socket: Socket,
        connection_id: &str,
        mut connected: OpenConnection,
        mut stop: oneshot::Receiver<()>,
    ) -> Ending {
        let mut bill = tokio::time::interval(BILL_EVERY);
        let mut warned = false;
        let outlet = Rc::new(Outlet::new(self.generation, socket));
        self.session.borrow_mut().opened(self.generation, &outlet);
        let woken = self.wake.notified();
        tokio::pin!(woken);
        // Whether something may wait to be sent. The frames within an answer bring nothing about.
        let mut may_send = true;
        loop {
            if std::mem::replace(&mut may_send, true)
                && let Err(refused) = outlet.pump(&mut self.session.borrow_mut(), &self.context)
            {
                return Ending::Broke(Box::new(self.unsendable(&refused)));
            }
            let recovery = self.context.tenant.recovery();
            tokio::select! {
                biased;
                _ = &mut stop => {
                    // Nobody else has it but for the moment of a push.
                    if let Some(outlet) = Rc::into_inner(outlet) {
                        outlet.into_socket().close().await;
                    }
                    return Ending::Closed;
                }
                () = &mut woken => woken.set(self.wake.notified()),
                _ = bill.tick() => {
                    connected.count_time();
                    self.watch_egress(&mut warned);
                }
                event = outlet.next(&recovery.policy) => match event {
                    SocketEvent::Animation { animation, bytes } => {
                        self.animation(animation.req_id(&bytes), animation.end, &bytes, connection_id);
                        may_send = animation.end;
                    }
                    SocketEvent::Frame { data, bytes } => self.frame(*data, &bytes, connection_id),
                    SocketEvent::Room => {}
                    SocketEvent::RequestFailed { error, bytes } => {
                        self.request_failed(*error, &bytes, connection_id);
                    }
                    SocketEvent::Ended(error) => return Ending::Broke(error),
                },
            }
        }
    }

    /// A socket that has room takes every message of ours: pieces of audio are far below its bound. Should it
    /// not, the connection is given up, and the requests on it fail by name.
    fn unsendable(&self, refused: &SendRefused) -> SessionError {
        let egress = self.session.borrow().configuration.egress();
        let evidence = Evidence::new(Phase::WebsocketSend, Observed::SocketEnded, egress);
        SessionError::classified(evidence, format!("a message could not be sent: {refused}"))
    }

    fn frame(&self, data: Data, message: &Bytes, connection_id: &str) {
        match data {
            Data::ServerResponseAnimation(frame) => {
                self.animation(&frame.req_id, frame.end, message, connection_id);
            }
            Data::ServerPlaybackState(playback) => self.playback(&playback, message, connection_id),
            // Nothing else is due from the service on a confirmed connection, and what is not due is ignored:
            // a service may add lifecycle messages. ServerErrors never come here.
            Data::ClientConfigureSession(_)
            | Data::ServerConfirmSession(_)
            | Data::ClientAudioInput(_)
            | Data::ServerError(_)
            | Data::ClientInterrupt(_)
            | Data::ClientPause(_)
            | Data::ClientResume(_) => {
                self.context.metrics.traffic(Direction::Down).message(message.len());
            }
        }
    }

    fn animation(&self, req_id: &str, end: bool, message: &Bytes, connection_id: &str) {
        self.context.metrics.traffic(Direction::Down).message(message.len());
        let now = self.context.clock.now();
        let mut session = self.session.borrow_mut();
        let is_busy = session.ledger.open_count() > 0;
        if session.take_frame(message, Ids { connection_id, req_id }, end, now) == FrameFate::Late {
            tracing::debug!(session = %self.context.entry.id, req_id, "late frame dropped");
        }
        // Only the last frame of a request gives it its outcome.
        if end {
            self.settle(session, is_busy);
        }
    }

    fn playback(&self, playback: &ServerPlaybackState, message: &Bytes, connection_id: &str) {
        self.context.metrics.traffic(Direction::Down).message(message.len());
        let now = self.context.clock.now();
        let mut session = self.session.borrow_mut();
        let is_busy = session.ledger.open_count() > 0;
        session.relay_playback(message, Ids { connection_id, req_id: &playback.req_id });
        let due = session.ledger.next_timeout();
        if let Some(news) = news(playback)
            && session.ledger.playback(&playback.req_id, news, now)
        {
            tracing::info!(
                session = %self.context.entry.id, req_id = playback.req_id,
                reason = playback.reason, "request interrupted by the service"
            );
        }
        if session.ledger.next_timeout() < due {
            self.tell(LinkNews::DueEarlier);
        }
        self.settle(session, is_busy);
    }

    /// Tells of the requests that a message of the service gave their outcome.
    fn settle(&self, mut session: RefMut<'_, Session>, was_busy: bool) {
        report_settled(&self.context, &mut session, Teller::Service);
        // From here on it may be idle, of which the actor's timer has not heard.
        if was_busy && session.is_idle() {
            self.tell(LinkNews::DueEarlier);
        }
    }

    fn request_failed(&self, mut error: SessionError, message: &Bytes, connection_id: &str) {
        let Some(req_id) = &error.req_id else { return };
        let mut session = self.session.borrow_mut();
        let now = self.context.clock.now();
        let failed = session.ledger.fail_upstream(req_id, error.code, &error.message, now);
        if let Some(client_id) = &failed {
            session.relay(message, Ids { connection_id, req_id }, client_id);
        }
        report_settled(&self.context, &mut session, Teller::Service);
        drop(session);
        // What the service says of requests that nobody waits for is no failure of the session's, and a flood of it
        // must not fill the mailbox.
        let Some(client_id) = failed else {
            tracing::debug!(session = %self.context.entry.id, req_id, error = error.message, "error for no open request");
            return;
        };
        error.req_id = Some(client_id);
        self.tell(LinkNews::RequestFailed { generation: self.generation, error: Arc::new(error) });
    }

    /// The mailbox bound is passed by: a connection has two state changes to tell, failures of single requests are
    /// bounded by the requests that may be open, and a deadline comes nearer where a pause of one of them ends.
    fn tell(&self, news: LinkNews) {
        self.actor.do_send(news);
    }

    fn tell_attempt(&self, timings: &Timings, outcome: Option<ErrorCode>, connection_id: Option<String>) {
        self.context.tell(What::Attempt(Attempt {
            attempt: self.granted.attempt,
            generation: self.generation.0,
            gate: self.granted.waited,
            token: timings.token,
            connect: timings.connect,
            handshake: timings.handshake,
            outcome,
            connection_id,
        }));
    }

    fn observe(&self, timings: &Timings, error: Option<&SessionError>) {
        let metrics = &self.context.metrics;
        let (token, later) = match error {
            None => (Ok(()), Ok(())),
            Some(error) if error.phase == Phase::SessionToken => (Err(error.code), Ok(())),
            Some(error) => (Ok(()), Err(error.code)),
        };
        if let Some(took) = timings.token {
            metrics.token_request(token, took);
        }
        if let Some(connect) = timings.connect {
            metrics.handshake(later, connect + timings.handshake.unwrap_or_default());
        }
    }
}

/// The client has opened a connection and said nothing on it.
fn unconfigured(within: Duration) -> SessionError {
    let evidence = Evidence::new(Phase::WebsocketHandshake, Observed::Internal, Egress::Unknown);
    let message = format!("no ClientConfigureSession came from the client within {} ms", within.as_millis());
    let mut error = SessionError::classified(evidence, message);
    // The rules are about what the service says, and it has said nothing.
    error.code = ErrorCode::InvalidRequest;
    error
}

/// What a playback state tells the ledger.
fn news(playback: &ServerPlaybackState) -> Option<Playback> {
    // A position before the beginning is none.
    let played = || Duration::from_millis(playback.played_ms.try_into().unwrap_or_default());
    match playback.state() {
        State::Unspecified => None,
        State::Playing => Some(Playback::Playing(played())),
        State::Paused => Some(Playback::Paused(played())),
        State::Ended => Some(Playback::Ended),
        State::Interrupted => Some(Playback::Interrupted),
    }
}
