//! One connection of a session: from the token call to the end of the socket.
//!
//! It is a future on the session's own thread. It takes audio straight from the session's ledger when the
//! socket has room, and notes frames there, so that neither passes a queue; only what changes the
//! session's state goes to the actor as a message.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use actix::Recipient;
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::{SessionContext, messages::LinkNews, report::report_settled, state::Session};
use crate::{
    errors::{Evidence, Observed, Phase, SessionError},
    outbox::{FrameFate, Playback},
    recovery::Generation,
    telemetry::{Direction, OpenConnection},
    upstream::{Opened, SendRefused, Socket, SocketEvent, Timings},
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
    pub(super) wake: Rc<Notify>,
    pub(super) actor: Recipient<LinkNews>,
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
        let opened = tokio::select! {
            biased;
            _ = &mut stop => return Ending::Closed,
            opened = self.context.client.open(&self.context.target, &mut timings) => opened,
        };
        self.observe(&timings, opened.as_ref().err());
        match opened {
            Err(error) => Ending::Broke(Box::new(error)),
            Ok(Opened { connection_id, capabilities, socket }) => {
                let connected = self.context.tenant_metrics.connection();
                self.tell(LinkNews::Connected { generation: self.generation, connection_id, capabilities });
                self.serve(socket, connected, stop).await
            }
        }
    }

    async fn serve(
        &self,
        mut socket: Socket,
        mut connected: OpenConnection,
        mut stop: oneshot::Receiver<()>,
    ) -> Ending {
        let mut bill = tokio::time::interval(BILL_EVERY);
        loop {
            if let Err(error) = self.pump(&mut socket) {
                return Ending::Broke(Box::new(error));
            }
            tokio::select! {
                biased;
                _ = &mut stop => {
                    socket.close().await;
                    return Ending::Closed;
                }
                () = self.wake.notified() => {}
                _ = bill.tick() => connected.count_time(),
                event = socket.next(&self.context.recovery.policy) => match event {
                    SocketEvent::Frame { data, bytes } => self.frame(data, &bytes),
                    SocketEvent::Room => {}
                    SocketEvent::RequestFailed(error) => self.request_failed(error),
                    SocketEvent::Ended(error) => return Ending::Broke(Box::new(error)),
                },
            }
        }
    }

    /// Sends what waits, as far as the socket takes it.
    fn pump(&self, socket: &mut Socket) -> Result<(), SessionError> {
        while socket.has_room() {
            let Some(message) = self.session.borrow_mut().next_message(self.generation) else { break };
            let bytes = message.len();
            socket.send(message).map_err(|refused| self.unsendable(&refused))?;
            self.context.metrics.traffic(Direction::Up).message(bytes);
        }
        Ok(())
    }

    /// A socket that has room takes every message of ours: pieces of audio are far below its bound. Should it
    /// not, the connection is given up, and the requests on it fail by name.
    fn unsendable(&self, refused: &SendRefused) -> SessionError {
        let egress = self.context.target.egress;
        let evidence = Evidence::new(Phase::WebsocketSend, Observed::SocketEnded, egress);
        SessionError::classified(evidence, format!("a message could not be sent: {refused}"))
    }

    fn frame(&self, data: Data, message: &Bytes) {
        self.context.metrics.traffic(Direction::Down).message(message.len());
        let now = self.context.clock.now();
        let mut session = self.session.borrow_mut();
        match data {
            Data::ServerResponseAnimation(frame) => {
                if session.frame(&frame.req_id, frame.end, message, now) == FrameFate::Late {
                    tracing::debug!(session = %self.context.entry.id, req_id = frame.req_id, "late frame dropped");
                }
            }
            Data::ServerPlaybackState(playback) => {
                let due = session.ledger.next_timeout();
                if let Some(news) = news(&playback)
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
            }
            // Nothing else is due from the service on a confirmed connection, and what is not due is ignored:
            // a service may add lifecycle messages. ServerErrors never come here.
            Data::ClientConfigureSession(_)
            | Data::ServerConfirmSession(_)
            | Data::ClientAudioInput(_)
            | Data::ServerError(_)
            | Data::ClientInterrupt(_)
            | Data::ClientPause(_)
            | Data::ClientResume(_) => {}
        }
        report_settled(&self.context, &mut session);
    }

    fn request_failed(&self, mut error: SessionError) {
        let Some(req_id) = &error.req_id else { return };
        let mut session = self.session.borrow_mut();
        let now = self.context.clock.now();
        let failed = session.ledger.fail_upstream(req_id, error.code, &error.message, now);
        report_settled(&self.context, &mut session);
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
