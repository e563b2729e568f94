//! From the upgrade to the service's confirmation.

use std::{fmt, future::poll_fn, sync::Arc, task::Poll};

use actix_http::ws::{CloseCode, Message};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{
    Opened, Socket, Timings, UpstreamConfig,
    client::timed,
    ending::{self, CLOSE_FRAME_WAIT, End, MAX_ID_BYTES, Reported},
    report::Reporter,
    transport::{Incoming, Transport},
};
use crate::{
    errors::{Phase, SessionError},
    wire::{self, Data, proto},
};

const PHASE: Phase = Phase::WebsocketHandshake;

/// The most capabilities that are kept, and the longest: the service knows two.
const MAX_CAPABILITIES: usize = 64;
const MAX_CAPABILITY_BYTES: usize = 128;

/// An upgraded connection that is not configured yet. Dropping it drops the TCP connection without a Close.
pub struct Upgraded {
    transport: Transport,
    config: Arc<UpstreamConfig>,
    reporter: Reporter,
    /// The `ServerError` that ends it, and how long its close frame is waited for.
    reported: Option<(Reported, Instant)>,
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("reported", &self.reported).finish_non_exhaustive()
    }
}

/// A confirmation, and the message that brought it.
struct Confirmed {
    content: proto::ServerConfirmSession,
    message: Bytes,
}

impl Upgraded {
    pub(super) const fn new(transport: Transport, config: Arc<UpstreamConfig>, reporter: Reporter) -> Self {
        Self { transport, config, reporter, reported: None }
    }

    /// Waits for the end of a connection that nobody configures. The service's pings are answered while this is
    /// polled, and only then. Safe to cancel.
    pub async fn ended(&mut self) -> SessionError {
        match self.confirmation(None).await {
            Err(error) => error,
            Ok(_) => {
                let end = End::Violation("it confirmed a session that was not configured".to_owned());
                self.end(end, Some(CloseCode::Protocol)).await
            }
        }
    }

    /// The second half of an attempt: sends the encoded `Message` that holds a `ClientConfigureSession`, and waits
    /// for its confirmation, within the handshake deadline.
    ///
    /// # Errors
    ///
    /// Whatever ended the attempt, as for [`Client::open`](super::Client::open).
    pub async fn configure(
        mut self,
        configure: Bytes,
        timings: &mut Timings,
    ) -> Result<Opened, SessionError> {
        self.reporter.learn_configuration(&configure).map_err(|error| *error)?;
        self.transport.queue(Message::Binary(configure));
        let deadline = Instant::now() + self.config.deadlines.handshake;
        let Confirmed { content, message } =
            timed(&mut timings.handshake, self.confirmation(Some(deadline))).await?;
        self.reporter.on_connection(content.connection_id.clone());
        Ok(Opened {
            connection_id: content.connection_id,
            capabilities: bounded(content.capabilities),
            // A copy: it is kept for as long as the session, and would hold the read buffer's memory.
            confirm: Bytes::copy_from_slice(&message),
            socket: Socket::new(self.transport, self.config, self.reporter),
        })
    }

    /// Closes: sends a Close with 1000 as far as the socket takes it at once, and drops the connection.
    pub async fn close(mut self) {
        leave(&mut self.transport, Some(CloseCode::Normal)).await;
    }

    async fn confirmation(&mut self, deadline: Option<Instant>) -> Result<Confirmed, SessionError> {
        loop {
            let until = self.reported.as_ref().map(|(_, until)| *until).or(deadline);
            let next = poll_fn(|cx| self.transport.poll_both(cx));
            let incoming = match until {
                Some(until) => timeout_at(until, next).await,
                None => Ok(next.await),
            };
            let (end, code) = match incoming {
                Err(_) if self.reported.is_some() => (End::Unfollowed, Some(CloseCode::Normal)),
                Err(_) => return Err(self.unanswered().await),
                Ok(Incoming::Message(_)) if self.reported.is_some() => continue,
                Ok(Incoming::Message(message)) => match first_message(message.clone()) {
                    First::Ignored => continue,
                    First::Confirmed(content) => return Ok(Confirmed { content, message }),
                    First::Refused(error) => {
                        self.reported = Some((error, Instant::now() + CLOSE_FRAME_WAIT));
                        continue;
                    }
                    First::Violation(what, code) => (End::Violation(what), Some(code)),
                },
                Ok(Incoming::Close(reason)) => {
                    let code = ending::echo(reason.as_ref());
                    (End::Closed(reason), code)
                }
                Ok(Incoming::Violation(what, code)) => (End::Violation(what), Some(code)),
                Ok(Incoming::Lost(how)) => (End::Lost(how), None),
            };
            return Err(self.end(end, code).await);
        }
    }

    async fn unanswered(&mut self) -> SessionError {
        leave(&mut self.transport, Some(CloseCode::Normal)).await;
        let limit = self.config.deadlines.handshake.as_millis();
        self.reporter.no_answer(PHASE, format!("no confirmation came within {limit} ms"))
    }

    async fn end(&mut self, end: End, code: Option<CloseCode>) -> SessionError {
        leave(&mut self.transport, code).await;
        let reported = self.reported.as_ref().map(|(reported, _)| reported);
        ending::error(end, reported, PHASE, &self.reporter)
    }
}

enum First {
    Confirmed(proto::ServerConfirmSession),
    Refused(Reported),
    /// A type that this version does not know.
    Ignored,
    Violation(String, CloseCode),
}

fn first_message(bytes: Bytes) -> First {
    let what = match wire::decode(bytes) {
        Ok(None) => return First::Ignored,
        Ok(Some(Data::ServerError(error))) => return First::Refused(Reported::from(error)),
        Ok(Some(Data::ServerConfirmSession(confirmed))) => match confirmed.connection_id.len() {
            1..=MAX_ID_BYTES => return First::Confirmed(confirmed),
            0 => "the confirmation has an empty connection_id".to_owned(),
            length => format!("the confirmation has a connection_id of {length} bytes"),
        },
        Ok(Some(
            Data::ClientConfigureSession(_)
            | Data::ClientAudioInput(_)
            | Data::ServerResponseAnimation(_)
            | Data::ClientInterrupt(_)
            | Data::ClientPause(_)
            | Data::ClientResume(_)
            | Data::ServerPlaybackState(_),
        )) => "the first message is neither a confirmation nor an error".to_owned(),
        Err(error) => return First::Violation(error.to_string(), CloseCode::Invalid),
    };
    First::Violation(what, CloseCode::Protocol)
}

fn bounded(capabilities: Vec<String>) -> Vec<String> {
    let known = |name: &String| (1..=MAX_CAPABILITY_BYTES).contains(&name.len());
    capabilities.into_iter().filter(known).take(MAX_CAPABILITIES).collect()
}

async fn leave(transport: &mut Transport, code: Option<CloseCode>) {
    poll_fn(|cx| {
        transport.part(code, cx);
        Poll::Ready(())
    })
    .await;
}
