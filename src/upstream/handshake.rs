//! From the upgrade to the service's confirmation.

use std::{future::poll_fn, sync::Arc, task::Poll};

use actix_http::ws::{CloseCode, Message};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{
    Opened, Socket, UpstreamConfig,
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

/// Sends the configuration and waits for its confirmation, within the handshake deadline.
pub(super) async fn confirm(
    mut transport: Transport,
    config: &Arc<UpstreamConfig>,
    configure: Bytes,
    mut reporter: Reporter,
) -> Result<Opened, SessionError> {
    transport.queue(Message::Binary(configure));
    let mut deadline = Instant::now() + config.deadlines.handshake;
    let mut reported: Option<Reported> = None;
    let (end, code) = loop {
        let incoming = match timeout_at(deadline, poll_fn(|cx| transport.poll_both(cx))).await {
            Ok(incoming) => incoming,
            Err(_) if reported.is_some() => break (End::Unfollowed, Some(CloseCode::Normal)),
            Err(_) => {
                leave(&mut transport, Some(CloseCode::Normal)).await;
                let limit = config.deadlines.handshake.as_millis();
                return Err(reporter.no_answer(PHASE, format!("no confirmation came within {limit} ms")));
            }
        };
        match incoming {
            Incoming::Message(_) if reported.is_some() => {}
            Incoming::Message(bytes) => match first_message(bytes) {
                First::Ignored => {}
                First::Confirmed(confirmed) => {
                    reporter.on_connection(confirmed.connection_id.clone());
                    return Ok(Opened {
                        connection_id: confirmed.connection_id,
                        capabilities: bounded(confirmed.capabilities),
                        socket: Socket::new(transport, Arc::clone(config), reporter),
                    });
                }
                First::Refused(error) => {
                    reported = Some(error);
                    deadline = Instant::now() + CLOSE_FRAME_WAIT;
                }
                First::Violation(what, code) => break (End::Violation(what), Some(code)),
            },
            Incoming::Close(reason) => {
                let code = ending::echo(reason.as_ref());
                break (End::Closed(reason), code);
            }
            Incoming::Violation(what, code) => break (End::Violation(what), Some(code)),
            Incoming::Lost(how) => break (End::Lost(how), None),
        }
    };
    leave(&mut transport, code).await;
    Err(ending::error(end, reported.as_ref(), PHASE, &reporter))
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
