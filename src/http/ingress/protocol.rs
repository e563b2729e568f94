//! What a client may say, and when: the server's side of the service's protocol. Pure.
//!
//! First comes one `ClientConfigureSession`, then audio and controls. Whoever breaks that order, or sends what is no
//! message, is answered as the service answers it: a `ServerError`, then a close. Messages of a type that this
//! version does not know are ignored once the session is configured, since both sides may learn new ones.

use bytes::{Bytes, BytesMut};

use super::parting::Parting;
use crate::{
    session::Control,
    wire::{
        self, Data, DecodeError,
        proto::{ClientAudioInput, MessageType},
    },
};

/// gRPC's INVALID_ARGUMENT, with which the service answers what breaks its protocol.
const INVALID_ARGUMENT: i32 = 3;

/// Close codes of RFC 6455, 7.4.1.
const UNSUPPORTED_DATA: u16 = 1003;
const INVALID_PAYLOAD: u16 = 1007;
const POLICY_VIOLATION: u16 = 1008;
const TOO_BIG: u16 = 1009;

/// Bytes of a request's id at most: SDKs make 27, and ids are kept as long as the request is.
const MAX_REQ_ID_BYTES: usize = 256;

/// Room that is made for a fragmented message at first; a longer one grows it.
const FRAGMENT_ROOM: usize = 4096;

/// A data frame of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A text message, or the first fragment of one.
    Text,
    /// A whole binary message.
    Binary(Bytes),
    /// The first fragment of a binary message.
    First(Bytes),
    /// A further fragment.
    Continue(Bytes),
    /// The last fragment.
    Last(Bytes),
}

/// What follows from a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: a fragment, or a message that is ignored.
    Ignore,
    /// The client's configuration, as it came.
    Configure(Bytes),
    /// Audio of a request.
    Audio {
        /// The request, by the client's id.
        req_id: String,
        audio: Bytes,
        /// Whether it is the request's last.
        end: bool,
    },
    /// An interrupt, pause or resume.
    Control {
        /// The request, by the client's id.
        req_id: String,
        control: Control,
    },
    /// The client broke the protocol.
    Refuse(Parting),
}

/// How far the conversation has come.
#[derive(Debug)]
enum Stage {
    /// Nothing was said yet.
    Opening,
    /// The client has configured its session.
    Configured,
    /// The client was refused: nothing that it says counts.
    Over,
}

/// One client's side of the conversation.
#[derive(Debug)]
pub(super) struct Protocol {
    stage: Stage,
    /// The message whose fragments are coming.
    fragments: Option<BytesMut>,
    max_message_bytes: usize,
}

impl Protocol {
    pub(super) const fn new(max_message_bytes: usize) -> Self {
        Self { stage: Stage::Opening, fragments: None, max_message_bytes }
    }

    /// Takes a frame.
    pub(super) fn receive(&mut self, frame: Frame) -> Step {
        if matches!(self.stage, Stage::Over) {
            return Step::Ignore;
        }
        match self.assemble(frame) {
            Ok(None) => Step::Ignore,
            Ok(Some(message)) => self.message(message).unwrap_or_else(|parting| self.refuse(parting)),
            Err(parting) => self.refuse(parting),
        }
    }

    /// The end for a client whose message is longer than is allowed.
    pub(super) fn too_long(&mut self) -> Step {
        let parting = too_long(self.max_message_bytes);
        self.refuse(parting)
    }

    fn refuse(&mut self, parting: Parting) -> Step {
        self.stage = Stage::Over;
        self.fragments = None;
        Step::Refuse(parting)
    }

    /// The whole message that `frame` ends, if it ends one. That fragments come in order is the codec's to see to.
    fn assemble(&mut self, frame: Frame) -> Result<Option<Bytes>, Parting> {
        let max = self.max_message_bytes;
        match frame {
            Frame::Text => {
                Err(broken(UNSUPPORTED_DATA, "expected a binary message, got a text frame".to_owned()))
            }
            Frame::Binary(message) if message.len() > max => Err(too_long(max)),
            Frame::Binary(message) => Ok(Some(message)),
            Frame::First(piece) => {
                self.fragments = Some(BytesMut::with_capacity(piece.len().max(FRAGMENT_ROOM)));
                self.append(&piece)?;
                Ok(None)
            }
            Frame::Continue(piece) => {
                self.append(&piece)?;
                Ok(None)
            }
            Frame::Last(piece) => {
                self.append(&piece)?;
                Ok(self.fragments.take().map(BytesMut::freeze))
            }
        }
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), Parting> {
        let Some(fragments) = &mut self.fragments else { return Ok(()) };
        if fragments.len().saturating_add(piece.len()) > self.max_message_bytes {
            return Err(too_long(self.max_message_bytes));
        }
        fragments.extend_from_slice(piece);
        Ok(())
    }

    fn message(&mut self, message: Bytes) -> Result<Step, Parting> {
        if matches!(self.stage, Stage::Opening) {
            self.judge_first(message.clone())?;
            self.stage = Stage::Configured;
            return Ok(Step::Configure(message));
        }
        let data = wire::decode(message).map_err(|error| broken(INVALID_PAYLOAD, error.to_string()))?;
        match data {
            None => Ok(Step::Ignore),
            Some(Data::ClientAudioInput(ClientAudioInput { req_id, end, audio })) => {
                check_req_id(&req_id)?;
                Ok(Step::Audio { req_id, audio, end })
            }
            Some(Data::ClientInterrupt(interrupt)) => control(interrupt.req_id, Control::Interrupt),
            Some(Data::ClientPause(pause)) => control(pause.req_id, Control::Pause),
            Some(Data::ClientResume(resume)) => control(resume.req_id, Control::Resume),
            Some(Data::ClientConfigureSession(_)) => Err(unexpected("a second ClientConfigureSession")),
            Some(
                Data::ServerConfirmSession(_)
                | Data::ServerError(_)
                | Data::ServerResponseAnimation(_)
                | Data::ServerPlaybackState(_),
            ) => Err(unexpected("one that only the server sends")),
        }
    }

    /// The first message is a configuration, whatever else is in it: what it asks for is the service's to judge.
    fn judge_first(&self, message: Bytes) -> Result<(), Parting> {
        let nil = DecodeError::Mismatch { kind: MessageType::MessageClientConfigureSession as i32 };
        let said = match wire::decode(message) {
            Ok(Some(Data::ClientConfigureSession(_))) => return Ok(()),
            Ok(_) => "expected ClientConfigureSession message".to_owned(),
            Err(error) if error == nil => "ClientConfigureSession message is nil".to_owned(),
            Err(DecodeError::Mismatch { .. }) => "expected ClientConfigureSession message".to_owned(),
            Err(error @ DecodeError::Protobuf(_)) => format!("failed to unmarshal initial message: {error}"),
        };
        Err(broken(POLICY_VIOLATION, said))
    }
}

/// A control that names no request concerns none, as one for a request that has ended.
fn control(req_id: String, control: Control) -> Result<Step, Parting> {
    if req_id.is_empty() {
        return Ok(Step::Ignore);
    }
    check_req_id(&req_id)?;
    Ok(Step::Control { req_id, control })
}

fn check_req_id(req_id: &str) -> Result<(), Parting> {
    match req_id.len() {
        0 => Err(broken(POLICY_VIOLATION, "audio without a req_id".to_owned())),
        length if length > MAX_REQ_ID_BYTES => {
            let text = format!("the req_id has {length} bytes; at most {MAX_REQ_ID_BYTES} are allowed");
            Err(broken(POLICY_VIOLATION, text))
        }
        _ => Ok(()),
    }
}

fn unexpected(what: &str) -> Parting {
    broken(POLICY_VIOLATION, format!("unexpected message type: {what}"))
}

fn too_long(max: usize) -> Parting {
    broken(TOO_BIG, format!("the message is longer than the {max} bytes that are allowed"))
}

fn broken(close: u16, text: String) -> Parting {
    Parting::told(INVALID_ARGUMENT, close, text)
}

#[cfg(test)]
mod tests;
