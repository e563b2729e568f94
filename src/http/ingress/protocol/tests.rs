//! What the conversation allows, as tables.

use super::*;
use crate::http::ingress::parting::Words;
use crate::wire::proto::{
    ClientConfigureSession, ClientInterrupt, ClientPause, ClientResume, ServerConfirmSession, ServerError,
    ServerPlaybackState, ServerResponseAnimation,
};

const MAX: usize = 1000;

fn configure() -> Bytes {
    wire::encode(Data::ClientConfigureSession(ClientConfigureSession {
        sample_rate: 16_000,
        ..ClientConfigureSession::default()
    }))
}

fn audio(req_id: &str, bytes: usize) -> Bytes {
    let audio = Bytes::from(vec![1; bytes]);
    wire::encode(Data::ClientAudioInput(ClientAudioInput { req_id: req_id.into(), end: true, audio }))
}

fn opening() -> Protocol {
    Protocol::new(MAX)
}

fn configured() -> Protocol {
    let mut protocol = opening();
    assert_eq!(protocol.receive(Frame::Binary(configure())), Step::Configure(configure()));
    protocol
}

/// The close code and the text of a refusal whose error and close say the same.
#[track_caller]
fn refusal(step: &Step) -> (u16, &str) {
    let Step::Refuse(Parting { error: Some(Words { code: 3, text }), close, reason, .. }) = step else {
        panic!("no refusal: {step:?}")
    };
    assert_eq!(text, reason);
    (*close, text)
}

#[test]
fn a_session_is_configured_first_and_with_the_bytes_as_they_came() {
    let mut message = configure().to_vec();
    // A field that this version does not know, number 200, of two bytes.
    message.extend_from_slice(&[0xc2, 0x0c, 2, 7, 7]);
    let message = Bytes::from(message);
    assert_eq!(opening().receive(Frame::Binary(message.clone())), Step::Configure(message));
}

#[test]
fn whatever_else_comes_first_is_refused_in_the_services_words() {
    for (message, close, says) in [
        (audio("r", 2), 1008, "expected ClientConfigureSession message"),
        (Bytes::from_static(&[0x08, 99]), 1008, "expected ClientConfigureSession message"),
        (Bytes::new(), 1008, "expected ClientConfigureSession message"),
        (Bytes::from_static(&[0x08, 1]), 1008, "ClientConfigureSession message is nil"),
        (Bytes::from_static(b"not protobuf"), 1008, "failed to unmarshal initial message"),
    ] {
        let mut protocol = opening();
        let step = protocol.receive(Frame::Binary(message));
        let (code, text) = refusal(&step);
        assert!(code == close && text.contains(says), "{code} {text}");
        assert_eq!(
            protocol.receive(Frame::Binary(configure())),
            Step::Ignore,
            "after a refusal nothing counts"
        );
    }
    assert_eq!(refusal(&opening().receive(Frame::Text)).0, 1003);
}

#[test]
fn audio_and_controls_follow() {
    let mut protocol = configured();
    let step = protocol.receive(Frame::Binary(audio("r-1", 3)));
    let expected = Step::Audio { req_id: "r-1".into(), audio: Bytes::from_static(&[1, 1, 1]), end: true };
    assert_eq!(step, expected);
    let req_id = || "r-1".to_owned();
    for (data, control) in [
        (Data::ClientInterrupt(ClientInterrupt { req_id: req_id() }), Control::Interrupt),
        (Data::ClientPause(ClientPause { req_id: req_id() }), Control::Pause),
        (Data::ClientResume(ClientResume { req_id: req_id() }), Control::Resume),
    ] {
        let step = protocol.receive(Frame::Binary(wire::encode(data)));
        assert_eq!(step, Step::Control { req_id: req_id(), control });
    }
}

#[test]
fn what_has_an_unknown_type_or_names_nothing_is_ignored_and_the_conversation_goes_on() {
    let mut protocol = configured();
    let nameless = wire::encode(Data::ClientInterrupt(ClientInterrupt::default()));
    assert_eq!(protocol.receive(Frame::Binary(nameless)), Step::Ignore);
    let unknown = Bytes::from_static(&[0x08, 99, 0x9a, 0x06, 3, 1, 2, 3]);
    assert_eq!(protocol.receive(Frame::Binary(unknown)), Step::Ignore);
    assert!(matches!(protocol.receive(Frame::Binary(audio("r", 1))), Step::Audio { .. }));
}

#[test]
fn what_breaks_the_protocol_later_is_refused_by_its_kind() {
    let server = |data| Frame::Binary(wire::encode(data));
    for (frame, close, says) in [
        (Frame::Text, 1003, "text frame"),
        (Frame::Binary(configure()), 1008, "unexpected message type: a second ClientConfigureSession"),
        (Frame::Binary(Bytes::from_static(b"not protobuf")), 1007, "undecodable protobuf"),
        (Frame::Binary(Bytes::from_static(&[0x08, 3])), 1007, "without its content"),
        (Frame::Binary(audio("", 1)), 1008, "audio without a req_id"),
        (Frame::Binary(audio(&"r".repeat(257), 1)), 1008, "257 bytes"),
        (server(Data::ClientPause(ClientPause { req_id: "r".repeat(300) })), 1008, "300 bytes"),
        (
            server(Data::ServerConfirmSession(ServerConfirmSession::default())),
            1008,
            "unexpected message type",
        ),
        (server(Data::ServerError(ServerError::default())), 1008, "unexpected message type"),
        (server(Data::ServerPlaybackState(ServerPlaybackState::default())), 1008, "unexpected message type"),
        (
            server(Data::ServerResponseAnimation(ServerResponseAnimation::default())),
            1008,
            "unexpected message type",
        ),
        (Frame::Binary(audio("r", MAX)), 1009, "longer than the 1000 bytes"),
        (Frame::First(audio("r", MAX)), 1009, "longer than the 1000 bytes"),
    ] {
        let mut protocol = configured();
        let step = protocol.receive(frame);
        let (code, text) = refusal(&step);
        assert!(code == close && text.contains(says), "{code} {text}");
        assert_eq!(protocol.receive(Frame::Binary(audio("r", 1))), Step::Ignore);
    }
    assert_eq!(refusal(&configured().too_long()).0, 1009);
}

#[test]
fn fragments_are_one_message_within_its_bound() {
    let message = audio("r", MAX - 20);
    assert!(message.len() <= MAX && message.len() > MAX - 20);
    let mut protocol = configured();
    for round in 0..2 {
        let (first, rest) = (message.slice(..1), message.slice(1..));
        assert_eq!(protocol.receive(Frame::First(first)), Step::Ignore, "{round}");
        assert_eq!(protocol.receive(Frame::Continue(rest.slice(..400))), Step::Ignore);
        let step = protocol.receive(Frame::Last(rest.slice(400..)));
        assert!(matches!(step, Step::Audio { audio, .. } if audio.len() == MAX - 20), "{round}");
    }
    let piece = Bytes::from(vec![0; 600]);
    assert_eq!(protocol.receive(Frame::First(piece.clone())), Step::Ignore);
    assert_eq!(refusal(&protocol.receive(Frame::Continue(piece))).0, 1009);
}

#[test]
fn our_own_classifier_knows_what_a_client_did_wrong() {
    use crate::errors::{Egress, ErrorCode, Evidence, Observed, Phase, classify};
    let read = |step: Step, phase| {
        let Step::Refuse(Parting { error: Some(words), close, reason, .. }) = step else {
            panic!("{step:?}")
        };
        let evidence = Evidence {
            server_code: Some(words.code.to_string()),
            server_detail: Some(words.text),
            close_code: Some(close),
            close_reason: Some(reason),
            ..Evidence::new(phase, Observed::ServerError, Egress::None)
        };
        classify(&evidence).code
    };
    let first = opening().receive(Frame::Binary(audio("r", 1)));
    assert_eq!(read(first, Phase::WebsocketHandshake), ErrorCode::ProtocolError);
    let second = configured().receive(Frame::Binary(configure()));
    assert_eq!(read(second, Phase::WebsocketRuntime), ErrorCode::ProtocolError);
    assert_eq!(read(configured().too_long(), Phase::WebsocketRuntime), ErrorCode::InvalidRequest);
}
